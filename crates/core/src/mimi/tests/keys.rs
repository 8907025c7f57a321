//! Whose requests for key packages the hub passes on (MIMI #bob-adds-cathy-to-the-room).

use nabe_auth::mimi::Rejection;
use nabe_wire::mls::CredentialType;
use nabe_wire::policy::{Capability, Claim, ClaimId, PreAuthRoleEntry};

use super::*;

/// Of a user's client, that is nobody among the external senders.
fn client_of(user: &str) -> ExternalSender {
    let client = user.replacen("/u/", "/d/", 1) + "/phone";
    TestHub::new(&client).sender().clone()
}

fn asked(hub: &Hub, requester: &str, target: &str, asking: &ExternalSender) -> Result<(), Rejection> {
    let uri = |text| MimiUri::parse(text).unwrap();
    hub.room.fetch_key_packages(&uri(requester), &uri(target), asking)
}

fn fetches(hub: &Hub, requester: &str, target: &str) -> Result<(), Rejection> {
    asked(hub, requester, target, &client_of(requester))
}

#[test]
fn whoever_may_add_somebody_may_fetch_their_key_packages_and_nobody_else() {
    let mut hub = Hub::of_three();
    assert_eq!(fetches(&hub, BOB, DAVE), Ok(()));
    assert_eq!(fetches(&hub, BOB, BOB), Ok(()));
    for target in [BOB, DAVE] {
        assert_eq!(fetches(&hub, DAVE, target), Err(Rejection::NotParticipant));
    }
    // What is accepted counts, though it is not committed yet.
    let clients = hub.member("alice").propose_remove(1);
    let leaving = hub
        .member("alice")
        .propose_component(&change_participants(&[], &[1], &[]));
    let arrival = hub
        .member("cathy")
        .propose_component(&add_participants(&[(DAVE, templates::ORDINARY_USER)]));
    hub.update("a", &proposals(&[clients, leaving]));
    hub.update("c", &proposals(&[arrival]));
    assert_eq!(fetches(&hub, BOB, CATHY), Err(Rejection::NotParticipant));
    assert_eq!(fetches(&hub, DAVE, BOB), Ok(()));
}

#[test]
fn a_role_that_adds_nobody_fetches_its_own_users_key_packages_alone() {
    let mut template = templates::cooperative("a.example");
    let roles = &mut template.roles.roles;
    let ordinary = roles
        .iter_mut()
        .find(|role| role.role_index == templates::ORDINARY_USER);
    let capabilities = &mut ordinary.unwrap().role_capabilities;
    capabilities.retain(|capability| *capability != Capability::CAN_ADD_PARTICIPANT);
    let mut hub = Hub::with(|draft| draft.set(ComponentId::ROLES_LIST, template.roles.to_bytes()));
    hub.add(
        "alice",
        "bob",
        "mimi://b.example/d/bob/B",
        &[(BOB, templates::ORDINARY_USER)],
    );
    assert_eq!(fetches(&hub, BOB, CATHY), Err(Rejection::CannotAddParticipant));
    assert_eq!(fetches(&hub, BOB, BOB), Ok(()));
    assert_eq!(fetches(&hub, ALICE, CATHY), Ok(()));
}

#[test]
fn an_external_sender_whose_role_adds_people_fetches_key_packages_though_it_is_on_no_list() {
    const BOT: &str = "mimi://b.example/u/bot";
    let bot = TestHub::new(BOT);
    let with_role = |preauthorized: bool| {
        let mut template = templates::cooperative("a.example");
        let ordinary = template.roles.roles.iter();
        let target_role = ordinary
            .clone()
            .find(|role| role.role_index == templates::ORDINARY_USER)
            .cloned();
        if preauthorized {
            template.preauth.preauthorized_entries.push(PreAuthRoleEntry {
                claimset: vec![Claim {
                    claim_id: ClaimId {
                        credential_type: CredentialType::BASIC,
                        id: b"user".as_slice().into(),
                    },
                    claim_value: BOT.as_bytes().into(),
                }],
                target_role: target_role.unwrap(),
            });
        }
        Hub::with(|draft| {
            draft.senders.push(bot.to_openmls());
            draft.set(ComponentId::PREAUTH_LIST, template.preauth.to_bytes());
        })
    };
    assert_eq!(asked(&with_role(true), BOT, CATHY, bot.sender()), Ok(()));
    let refused = asked(&with_role(false), BOT, CATHY, bot.sender());
    assert_eq!(refused, Err(Rejection::SenderWithoutRole));
    // By the same name, with another key.
    let another = TestHub::new(BOT);
    let refused = asked(&with_role(true), BOT, CATHY, another.sender());
    assert_eq!(refused, Err(Rejection::NotParticipant));
}
