//! Rooms whose clients have pseudonymous credentials (MIMI #credential-encryption).

use nabe_wire::Encode as _;
use nabe_wire::mls::CredentialType;

use super::*;

/// The user 3c of `a.example`, whoever that is.
const SOMEBODY: &str = "mimi://a.example/u/3c";

fn pseudonymous(client: &str, user: &str) -> MimiDevice {
    MimiDevice::new("mimi://a.example/d/alice/A").under_pseudonyms(client, user)
}

/// A room that was made by such a client; and that.
fn without_names() -> (TestHub, MimiGroup, MimiMember, MimiDevice) {
    let hub = TestHub::new("mimi://a.example");
    let client = "mimi://a.example/d/3c/1";
    let device = pseudonymous(client, SOMEBODY);
    let member = device.create_room_with(&RoomDraft::new(&MimiDevice::new(client), &hub));
    let group = found(&hub, &member);
    (hub, group, member, device)
}

/// What the hub says about this commit.
fn refused(group: &MimiGroup, bundle: &TestBundle) -> Option<MimiRefusal> {
    group.stage(&bundle.commit, &bundle.parts, wall_clock()).err()
}

fn adding(member: &mut MimiMember, device: &MimiDevice) -> TestBundle {
    let bundle = member.commit(Change {
        add: vec![device.key_package()],
        ..Change::default()
    });
    member.clear();
    bundle
}

#[test]
fn among_pseudonyms_nobody_comes_with_a_name() {
    let (_hub, group, mut member, _) = without_names();
    let second = pseudonymous("mimi://a.example/d/3c/2", SOMEBODY);
    assert_eq!(refused(&group, &adding(&mut member, &second)), None);
    // It says that it is of the same user, and knows of pseudonyms; but it has a name.
    let named = second.posing_as("mimi://a.example/d/3c/named");
    let name = Some(MimiRefusal::NameAmongPseudonyms);
    assert_eq!(refused(&group, &adding(&mut member, &named)), name);
    let (_, bundle) = named.join_externally(&group, &[]);
    assert_eq!(refused(&group, &bundle), name);
    let proposal = member.propose_add(&named.key_package());
    let proposed = group.propose(&proposal, &[], wall_clock());
    assert_eq!(proposed.err().map(|refused| refused.reason), name);
}

#[test]
fn a_client_exchanges_its_pseudonym_for_no_name_and_for_no_other_users() {
    let (_hub, group, mut member, device) = without_names();
    let mut renewed_with = |device: &MimiDevice| {
        let bundle = member.commit(Change {
            credential: Some(device.credential().clone()),
            ..Change::default()
        });
        member.clear();
        refused(&group, &bundle)
    };
    assert_eq!(renewed_with(&device), None);
    // The same client of the same user, as far as their URIs tell.
    let named = device.posing_as("mimi://a.example/d/3c/1");
    assert_eq!(renewed_with(&named), Some(MimiRefusal::NameAmongPseudonyms));
    let other = device.under_pseudonyms("mimi://a.example/d/3c/1", "mimi://a.example/u/4d");
    assert_eq!(renewed_with(&other), Some(MimiRefusal::IdentityChanged));
}

#[test]
fn among_names_a_pseudonym_is_for_the_policy_to_allow() {
    let hub = TestHub::new("mimi://a.example");
    let named = pseudonymous("mimi://a.example/d/3c/1", SOMEBODY).posing_as("mimi://a.example/d/alice/A");
    let mut member = named.create_room(&hub);
    let group = found(&hub, &member);
    let second = pseudonymous("mimi://a.example/d/3c/1", SOMEBODY);
    assert_eq!(refused(&group, &adding(&mut member, &second)), None);
}

/// Which of their credentials would name the user? So none is taken, and nobody has to find out what they need (D-client-identity).
#[test]
fn nobody_comes_with_several_credentials_though_all_know_of_them() {
    for credential_type in [CredentialType::MULTI, CredentialType::WEAK_MULTI] {
        let hub = TestHub::new("mimi://a.example");
        let knowing = |client: &str| {
            let device = MimiDevice::new(client);
            let none = Vec::<nabe_wire::mls::CredentialBinding>::new().to_bytes();
            (device.with_credential_type(credential_type, none), client.to_owned())
        };
        let (several, client) = knowing("mimi://a.example/d/alice/A");
        let mut member = several.posing_as(&client).create_room(&hub);
        let group = found(&hub, &member);
        let (several, _) = knowing("mimi://a.example/d/alice/A2");
        let found = credential_type;
        let refusal = Some(MimiRefusal::Identity(IdentityError::CredentialType { found }));
        assert_eq!(refused(&group, &adding(&mut member, &several)), refusal);
        let (_, bundle) = several.join_externally(&group, &[]);
        assert_eq!(refused(&group, &bundle), refusal);
    }
}
