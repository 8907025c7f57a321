//! What is refused, with which answer, and that nothing has changed then.

use nabe_auth::mimi::Rejection;
use nabe_mls::mimi::MimiRefusal;
use nabe_wire::app_data::{AppAck, MessageRange};
use nabe_wire::mls::{AppEphemeral, Proposal, Welcome};
use nabe_wire::notify::FanoutBatch;
use nabe_wire::submit_message::SubmitVerdict;
use nabe_wire::update::{UpdateResponseCode, UpdateVerdict};

use super::*;

/// The answer to a bundle, which must not be success.
fn refused(hub: &Hub, from: &str, bundle: &HandshakeBundle) -> UpdateRefusal {
    let refusal = hub.try_update(from, bundle).unwrap_err();
    assert_ne!(
        refusal.response(hub.room.group().epoch()).unwrap().code(),
        UpdateResponseCode::SUCCESS
    );
    hub.is_the_same_when_restored();
    refusal
}

#[test]
fn the_second_commit_of_an_epoch_is_told_the_epoch_to_be_in() {
    let mut hub = Hub::of_three();
    let (first, second) = (hub.member("alice").update(), hub.member("cathy").update());
    hub.member("cathy").clear();
    let epoch = hub.room.group().epoch();
    hub.commit("a", "alice", &first);
    let refusal = refused(&hub, "c", &bundle_of(&second));
    let response = refusal.response(hub.room.group().epoch()).unwrap();
    assert_eq!(
        response.verdict,
        UpdateVerdict::WrongEpoch {
            current_epoch: epoch + 1
        }
    );
}

/// What the hub puts with a Welcome is not in the request: the tree, if the committer leaves that to the hub.
#[test]
fn what_followers_could_not_read_is_refused_before_it_stands_in_their_way() {
    let mut hub = Hub::of_three();
    let device = MimiDevice::new("mimi://d.example/d/dave/D");
    let package = device.key_package();
    hub.fetched(&package, "mimi://d.example/d/dave/D");
    let mut bundle = hub.member("alice").commit(Change {
        add: vec![package],
        updates: vec![add_participants(&[(DAVE, templates::ORDINARY_USER)])],
        ..Change::default()
    });
    let welcome = bundle.parts.welcome.take().unwrap().into_value();
    let mut padded = |length: usize| {
        let encrypted_group_info = vec![7; length].into();
        bundle.parts.welcome = Some(Kept::new(Welcome {
            encrypted_group_info,
            ..welcome.clone()
        }));
        bundle_of(&bundle)
    };
    let entry = |outcome: &MimiOutcome| outcome.append.iter().map(|entry| entry.body.len()).max().unwrap();
    let max = FanoutBatch::MAX_LEN;
    let length = max - 100_000;
    let around = entry(&hub.try_update("a", &padded(length)).unwrap()) - length;
    let fits = hub.try_update("a", &padded(max - around)).unwrap();
    assert_eq!(entry(&fits), max);
    let refusal = refused(&hub, "a", &padded(max - around + 1));
    assert_eq!(refusal, UpdateRefusal::TooLong { bytes: max + 1, max });
    let answer = refusal.response(hub.room.group().epoch()).unwrap();
    assert_eq!(answer.code(), UpdateResponseCode::NOT_ALLOWED);
    // A follower reads what fits.
    let welcome = fits.append.iter().find(|entry| entry.kind == MimiEntryKind::Welcome);
    let read = FanoutBatch::from_bytes(&welcome.unwrap().body).unwrap();
    assert_eq!(read.messages().len(), 1);
}

#[test]
fn a_provider_speaks_for_nobody_but_its_own_users() {
    let mut hub = Hub::of_three();
    let proposal = hub.member("alice").propose_remove(1);
    assert_eq!(
        refused(&hub, "c", &proposals(&[proposal])),
        UpdateRefusal::OtherProvider
    );
    hub.member("alice").clear_proposals();
    let commit = hub.member("alice").update();
    assert_eq!(refused(&hub, "b", &bundle_of(&commit)), UpdateRefusal::OtherProvider);
    let message = hub.member("bob").encrypt(b"hello", None);
    let submitted = hub.room.submit(&server("c"), &submission(message, BOB), &hub.ctx());
    assert_eq!(submitted.unwrap_err(), SubmitRefusal::OtherProvider);
}

#[test]
fn proposals_of_two_proposers_do_not_come_together() {
    let mut hub = Hub::of_three();
    let (bob, cathy) = (hub.member("bob").leave(), hub.member("cathy").leave());
    assert_eq!(
        refused(&hub, "b", &proposals(&[bob, cathy])),
        UpdateRefusal::SeveralProposers
    );
}

#[test]
fn proposals_of_which_one_gives_way_to_another_do_not_come_together() {
    let mut hub = Hub::of_three();
    let update = hub.member("bob").propose_update();
    let leave = hub.member("bob").leave();
    let bundle = proposals(&[update, leave]);
    assert_eq!(refused(&hub, "b", &bundle), UpdateRefusal::NotTogether);
    let commit = hub.member("alice").update();
    assert!(hub.try_update("a", &bundle_of(&commit)).is_ok());
}

#[test]
fn proposals_are_counted_before_anything_else_is_looked_at() {
    let mut hub = Hub::of_three();
    let leave = hub.member("bob").leave();
    let rejection = Rejection::PendingFull;
    let bundle = proposals(&vec![leave.clone(); 257]);
    assert_eq!(refused(&hub, "b", &bundle), UpdateRefusal::Policy { rejection });
    let bundle = proposals(&vec![leave; 256]);
    assert!(matches!(refused(&hub, "b", &bundle), UpdateRefusal::Group { .. }));
}

#[test]
fn no_more_bytes_wait_for_a_commit_than_it_and_a_group_info_can_carry() {
    // Each takes up 0.9 MiB.
    let acknowledge = |hub: &mut Hub, name: &str, sender: u32| {
        let range = MessageRange {
            sender,
            first_generation: 0,
            last_generation: 0,
        };
        let received_ranges = vec![range; (9 << 20) / 10 / 12];
        let proposal = Proposal::AppEphemeral(AppEphemeral {
            component_id: ComponentId::APP_ACK,
            data: AppAck { received_ranges }.to_bytes().into(),
        });
        hub.member(name).forge_proposal(proposal)
    };
    let full = UpdateRefusal::Policy {
        rejection: Rejection::PendingFull,
    };
    let mut hub = Hub::of_three();
    for (provider, name) in [("b", "bob"), ("c", "cathy")] {
        for number in 0..4 {
            let message = acknowledge(&mut hub, name, number);
            hub.update(provider, &proposals(&[message]));
        }
    }
    for (provider, name) in [("b", "bob"), ("c", "cathy"), ("a", "alice")] {
        let one_more = acknowledge(&mut hub, name, 4);
        assert_eq!(refused(&hub, provider, &proposals(&[one_more])), full);
    }
}

#[test]
fn what_the_policy_forbids_is_not_allowed() {
    let mut hub = Hub::of_three();
    let promotion = hub
        .member("bob")
        .propose_component(&change_participants(&[(1, templates::SUPER_ADMIN)], &[], &[]));
    let refusal = refused(&hub, "b", &proposals(&[promotion]));
    let rejection = Rejection::CannotChangeOwnRole;
    assert_eq!(refusal, UpdateRefusal::Policy { rejection });
    let response = refusal.response(0).unwrap();
    assert_eq!(response.verdict, UpdateVerdict::NotAllowed);
    assert!(response.error_description.contains("can-change-own-role"));
}

#[test]
fn a_client_whose_key_package_was_not_fetched_here_cannot_be_added() {
    let mut hub = Hub::new();
    let device = MimiDevice::new("mimi://b.example/d/bob/B");
    let package = device.key_package();
    let change = || Change {
        add: vec![package.clone()],
        updates: vec![add_participants(&[(BOB, 2)])],
        ..Change::default()
    };
    let bundle = hub.member("alice").commit(change());
    assert_eq!(
        refused(&hub, "a", &bundle_of(&bundle)),
        UpdateRefusal::KeyPackageNotFetched
    );
    // It was given out as one of somebody else's.
    hub.fetched(&package, "mimi://b.example/d/barbara/B");
    assert_eq!(
        refused(&hub, "a", &bundle_of(&bundle)),
        UpdateRefusal::KeyPackageOfAnother
    );
    hub.fetched(&package, "mimi://b.example/d/bob/B");
    assert!(hub.try_update("a", &bundle_of(&bundle)).is_ok());
}

/// An Add that no commit could contain would keep everybody from committing, since the next commit has to contain it.
#[test]
fn a_client_whose_key_package_was_not_fetched_here_cannot_be_proposed_either() {
    let mut hub = Hub::of_three();
    let client = "mimi://b.example/d/bob/B2";
    let package = MimiDevice::new(client).key_package();
    let add = hub.member("bob").propose_add(&package);
    let bundle = proposals(std::slice::from_ref(&add));
    let refusal = refused(&hub, "b", &bundle);
    assert_eq!(refusal, UpdateRefusal::KeyPackageNotFetched);
    assert_eq!(refusal.response(0).unwrap().code(), UpdateResponseCode::NOT_ALLOWED);
    hub.fetched(&package, "mimi://b.example/d/barbara/B2");
    assert_eq!(refused(&hub, "b", &bundle), UpdateRefusal::KeyPackageOfAnother);
    hub.fetched(&package, client);
    let outcome = hub.try_update("b", &bundle).unwrap();
    assert_eq!(outcome.to_add, [Bytes::from(key_package_ref(&package))]);
    hub.accept(outcome);
    // And whoever commits next can.
    hub.member("alice").process(&add);
    let commit = hub.member("alice").commit(Change::default());
    let outcome = hub.try_update("a", &bundle_of(&commit)).unwrap();
    assert_eq!(kinds(&outcome.append), [MimiEntryKind::Commit, MimiEntryKind::Welcome]);
}

#[test]
fn a_message_of_an_epoch_that_is_over_is_answered_with_the_epoch() {
    let mut hub = Hub::of_three();
    let message = hub.member("bob").encrypt(b"late", None);
    let commit = hub.member("alice").update();
    hub.commit("a", "alice", &commit);
    let refusal = hub
        .room
        .submit(&server("b"), &submission(message, BOB), &hub.ctx())
        .unwrap_err();
    let epoch = hub.room.group().epoch();
    assert_eq!(
        refusal.verdict(epoch),
        SubmitVerdict::EpochTooOld { current_epoch: epoch }
    );
}

#[test]
fn a_stranger_and_somebody_banned_hear_of_no_epoch() {
    let mut hub = Hub::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let message = hub.member("bob").encrypt(b"late", None);
    let (_, join) = dave.join_externally(&hub.room.group, &[]);
    let old = hub.member("bob").update();
    hub.member("bob").clear();
    let proposal = hub.member("bob").propose_update();
    let commit = hub.member("alice").update();
    hub.commit("a", "alice", &commit);
    // Whoever can be seen to be in the room, though with a message of another epoch.
    let refusal = refused(&hub, "b", &bundle_of(&old));
    let answer = refusal.response(hub.room.group().epoch()).unwrap();
    assert_eq!(answer.code(), UpdateResponseCode::WRONG_EPOCH);
    // Whatever a stranger sends.
    for bundle in [bundle_of(&old), proposals(&[proposal]), bundle_of(&join)] {
        assert_eq!(refused(&hub, "d", &bundle), UpdateRefusal::Stranger);
    }
    let sent = hub.room.submit(&server("d"), &submission(message, DAVE), &hub.ctx());
    assert_eq!(sent.unwrap_err().verdict(9), SubmitVerdict::NotAllowed);
}

/// They are sent no commits, so they could not know.
#[test]
fn whoever_could_see_the_epoch_hears_of_it_though_their_provider_has_no_clients_in_the_room() {
    let (bot, stranger) = (TestHub::new("mimi://d.example"), TestHub::new("mimi://e.example"));
    let mut hub = Hub::with(|draft| draft.senders.push(bot.to_openmls()));
    // Dave is on the list, without a client.
    hub.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2), (DAVE, 2)]);
    let applicant = |client: &str| proposals(&[MimiDevice::new(client).ask_to_join(hub.room.group())]);
    let of_dave = applicant("mimi://d.example/d/dave/D");
    let of_erin = applicant("mimi://e.example/d/erin/E");
    let of_sender = proposals(&[bot.propose(1, hub.room.group(), Proposal::Remove(1), &[])]);
    let of_none = proposals(&[stranger.propose(1, hub.room.group(), Proposal::Remove(1), &[])]);
    let commit = hub.member("alice").update();
    hub.commit("a", "alice", &commit);
    for honest in [&of_dave, &of_sender] {
        let answer = refused(&hub, "d", honest).response(hub.room.group().epoch()).unwrap();
        assert_eq!(answer.code(), UpdateResponseCode::WRONG_EPOCH);
    }
    for (from, bundle) in [("e", &of_erin), ("e", &of_dave), ("e", &of_none)] {
        assert_eq!(refused(&hub, from, bundle), UpdateRefusal::Stranger);
    }
}

#[test]
fn invalid_proposals_are_named_and_what_is_wrong_with_a_commit_is_no_invalid_proposal() {
    let mut hub = Hub::of_three();
    let unknown = hub.member("bob").propose_update();
    hub.member("alice").process(&unknown);
    let commit = hub.member("alice").commit(Change::default());
    let refusal = refused(&hub, "a", &bundle_of(&commit));
    let UpdateVerdict::InvalidProposal { invalid_proposals } = refusal.response(0).unwrap().verdict else {
        panic!("{refusal}");
    };
    assert_eq!(invalid_proposals.len(), 1);
    hub.member("alice").clear();
    hub.member("alice").clear_proposals();
    let reason = MimiRefusal::BadSignature;
    let refusal = UpdateRefusal::from(reason);
    assert_eq!(refusal.response(0).unwrap().code(), UpdateResponseCode::NOT_ALLOWED);
}

/// Not even by whoever may change all that the policy lets anybody change.
#[test]
fn nobody_puts_another_franking_agent_in_the_hub_s_place_or_takes_it_away() {
    let mut hub = Hub::with(|draft| {
        let mut roles = templates::cooperative("a.example").roles;
        for role in &mut roles.roles {
            let capability = nabe_wire::policy::Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES;
            if !role.role_capabilities.contains(&capability) {
                role.role_capabilities.push(capability);
            }
        }
        draft.set(ComponentId::ROLES_LIST, roles.to_bytes());
        draft.set(ComponentId::FRANKING_AGENT, agent().to_bytes());
    });
    let other = FrankingAgentData {
        franking_signature_key: b"another".as_slice().into(),
        ..agent()
    };
    let component = ComponentId::FRANKING_AGENT;
    for update in [set_component(component, other.to_bytes()), remove_component(component)] {
        let proposal = hub.member("alice").propose_component(&update);
        assert_eq!(
            refused(&hub, "a", &proposals(&[proposal])),
            UpdateRefusal::OtherFrankingAgent
        );
        hub.member("alice").clear_proposals();
        let commit = hub.member("alice").commit(Change {
            updates: vec![update],
            ..Change::default()
        });
        assert_eq!(
            refused(&hub, "a", &bundle_of(&commit)),
            UpdateRefusal::OtherFrankingAgent
        );
        hub.member("alice").clear();
    }
    let own = set_component(component, agent().to_bytes());
    let commit = hub.member("alice").commit(Change {
        updates: vec![own],
        ..Change::default()
    });
    let rejection = Rejection::NoChange;
    assert_eq!(
        refused(&hub, "a", &bundle_of(&commit)),
        UpdateRefusal::Policy { rejection },
        "the hub's own is no other"
    );
}

/// Leaves are seen by everybody, and so are the pseudonyms in them.
#[test]
fn a_pseudonym_that_is_for_another_key_is_not_given_the_group_info() {
    let first = "mimi://a.example/d/alice/A";
    let mut base = templates::cooperative("a.example").base;
    base.pseudonyms_allowed = true;
    let hub = Hub::with(|draft| draft.set(ComponentId::BASE_ROOM_POLICY, base.to_bytes()));
    let copied = nabe_wire::pseudonym::PseudonymousCredential {
        client_pseudonym: uri(first),
        user_pseudonym: uri(ALICE),
        signature_public_key: b"somebody else's".as_slice().into(),
        identity_link_ciphertext: b"sealed".as_slice().into(),
    };
    let pseudonymous = nabe_wire::mls::CredentialType::PSEUDONYMOUS;
    let ask = |device: &MimiDevice| {
        let (query, _) = group_info_query(device);
        let query = nabe_mls::mimi::check_group_info_query(query).unwrap();
        let answer = hub.room.group_info(&server("a"), &query, JoinCode::Absent, &hub.ctx());
        answer.map(drop)
    };
    let device = MimiDevice::new(first);
    let thief = device.with_credential_type(pseudonymous, copied.to_bytes());
    assert_eq!(ask(&thief), Err(GroupInfoRefusal::OtherKey));
    assert_eq!(ask(&device.under_pseudonyms(first, ALICE)), Ok(()));
}

#[test]
fn a_room_of_another_provider_is_not_founded_here() {
    let hub = Hub::new();
    let (info, tree) = hub.members["alice"].hand_over();
    let elsewhere = MimiRoom::found(hub.room.uri(), &server("b"), hub.key.sender(), &info, &tree, hub.now);
    assert_eq!(elsewhere.err(), Some(UnsoundRoom::OtherProvider));
}

#[test]
fn a_group_without_a_policy_makes_no_room() {
    let key = TestHub::new("mimi://a.example");
    let alice = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&key);
    let (info, tree) = alice.hand_over();
    let room = MimiUri::parse(ROOM).unwrap();
    let founded = MimiRoom::found(&room, &server("a"), key.sender(), &info, &tree, wall_clock());
    assert!(matches!(founded.err(), Some(UnsoundRoom::Policy { .. })));
}

/// It is no verdict: another attempt may succeed.
#[test]
fn a_hub_that_cannot_sign_has_no_answer() {
    let mut hub = Hub::of_three();
    let kick = hub.member("alice").propose_remove(1);
    hub.update("a", &proposals(&[kick]));
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (_, bundle) = device.join_externally(&hub.room.group, &[]);
    let ctx = MimiCtx {
        signer: &Mute,
        ..hub.ctx()
    };
    let refused = hub
        .room
        .update(&server("c"), &bundle_of(&bundle), &hub.routes, JoinCode::Absent, &ctx);
    let refusal = refused.unwrap_err();
    assert!(matches!(refusal, UpdateRefusal::Signing(_)), "{refusal}");
    assert_eq!(refusal.response(0), None);
    let (query, _) = group_info_query(&device);
    let query = nabe_mls::mimi::check_group_info_query(query).unwrap();
    let refused = hub.room.group_info(&server("c"), &query, JoinCode::Absent, &ctx);
    assert!(refused.unwrap_err().is_ours());
}

/// A key that is not at hand.
struct Mute;

impl Signer for Mute {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignerError> {
        Err(SignerError::SigningError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Nor is there anything of its user's but their place on the list by which the hub could tell that a client is theirs.
#[test]
fn a_pseudonym_that_is_not_on_the_list_has_no_clients() {
    let first = "mimi://a.example/d/alice/A";
    let mut base = templates::cooperative("a.example").base;
    base.pseudonyms_allowed = true;
    let mut hub = Hub::by(
        |device| device.under_pseudonyms(first, ALICE),
        |draft| draft.set(ComponentId::BASE_ROOM_POLICY, base.to_bytes()),
    );
    let mut add = |client: &str, user: &str| {
        let package = MimiDevice::new(client).under_pseudonyms(client, user).key_package();
        hub.fetched(&package, client);
        let change = Change {
            add: vec![package],
            ..Change::default()
        };
        let bundle = bundle_of(&hub.member("alice").commit(change));
        hub.member("alice").clear();
        hub.try_update("a", &bundle).map(drop)
    };
    assert_eq!(add("mimi://a.example/d/alice/A2", ALICE), Ok(()));
    let refusal = add("mimi://a.example/d/4d/1", "mimi://a.example/u/4d").unwrap_err();
    assert!(matches!(refusal, UpdateRefusal::Policy { .. }), "{refusal}");
}
