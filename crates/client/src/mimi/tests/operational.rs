//! How a room's policy has the group run.

use std::collections::BTreeSet;

use nabe_wire::app_data::WireFormats;
use nabe_wire::mls::MlsMessageBody;
use nabe_wire::policy::{
    AppMessagePolicy, ExtendedCapabilities, MinDefaultMaxTime, OperationalParameters, PendingProposalPolicy,
};

use super::*;

fn policy() -> OperationalParameters {
    let none = ExtendedCapabilities {
        versions: Vec::new(),
        cipher_suites: Vec::new(),
        extensions: Vec::new(),
        proposals: Vec::new(),
        credentials: Vec::new(),
        wire_formats: WireFormats {
            wire_formats: Vec::new(),
        },
        component_ids: Vec::new(),
        safe_aad_types: Vec::new(),
        media_types: Vec::new(),
        content_types: Vec::new(),
    };
    let unsaid = MinDefaultMaxTime {
        minimum_time: 0,
        default_time: 0,
        maximum_time: 0,
    };
    OperationalParameters {
        mandatory_capabilities: none.clone(),
        default_capabilities: none.clone(),
        handshake_formats: none.wire_formats.clone(),
        forbidden_capabilities: none,
        external_proposal_allowed: true,
        external_commit_allowed: true,
        pending_proposal_policy: PendingProposalPolicy::Unspecified,
        leaf_node_update_time: unsaid.clone(),
        app_message_policy: AppMessagePolicy {
            epoch_tolerance: 0,
            pad_to_size: 0,
            max_generations_skipahead: 0,
        },
        max_kp_lifetime: 0,
        max_credential_lifetime: 0,
        resumption_psk_lifetime: 0,
        sender_nonce_keypair_lifetime: unsaid.clone(),
        max_keypairs: 0,
        buffer_incoming_message_time: unsaid,
        max_buffered_messages: 0,
    }
}

/// Alice's room with this policy, with Bob and Cathy in it, who commits what others propose.
fn of_three_with(hub: &MimiHub, policy: OperationalParameters) -> [MimiClient; 3] {
    let tends = MimiSettings {
        tend: true,
        ..obedient()
    };
    let (mut alice, mut bob) = (client(hub, A), client(hub, B));
    let mut cathy = client_with(hub, C, ClientStore::in_memory().unwrap(), tends);
    let mut new = new_room();
    new.operational = Some(policy);
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER), (uri(CATHY), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    [alice, bob, cathy]
}

fn members(client: &MimiClient) -> usize {
    client.group(&room()).unwrap().unwrap().members.len()
}

#[test]
fn what_others_proposed_is_committed_when_the_rooms_policy_says() {
    const LEAST: u64 = 60_000;
    const MOST: u64 = 90_000;
    let random = PendingProposalPolicy::RandomDelay {
        minimum_delay_ms: LEAST,
        maximum_delay_ms: MOST,
    };
    let mut chosen = BTreeSet::new();
    for strategy in [
        PendingProposalPolicy::ImmediateCommit,
        PendingProposalPolicy::Unspecified,
    ]
    .into_iter()
    .chain([random; 4])
    {
        let hub = MimiHub::new();
        let pending_proposal_policy = strategy;
        let [_, mut bob, mut cathy] = of_three_with(
            &hub,
            OperationalParameters {
                pending_proposal_policy,
                ..policy()
            },
        );
        now(bob.leave(&room())).unwrap();
        let before = hub.clock()();
        sync(&mut cathy);
        let after = hub.clock()();
        if strategy == PendingProposalPolicy::ImmediateCommit {
            assert_eq!(members(&cathy), 2, "at once");
            continue;
        }
        assert_eq!(members(&cathy), 3, "{strategy:?}");
        let due = cathy.next_due().unwrap().unwrap();
        let (least, most) = match strategy {
            PendingProposalPolicy::Unspecified => (0, 2_000),
            _ => (LEAST, MOST),
        };
        assert!(due.saturating_since(before) >= Duration::from_millis(least));
        assert!(due.saturating_since(after) <= Duration::from_millis(most));
        if strategy == random {
            chosen.insert(due.saturating_since(before));
        }
        hub.advance(due.saturating_since(after));
        sync(&mut cathy);
        assert_eq!(members(&cathy), 2, "{strategy:?}");
    }
    assert!(chosen.len() > 1, "the delay is random: {chosen:?}");
}

fn with_messages(pad_to_size: u16, max_generations_skipahead: u32) -> OperationalParameters {
    OperationalParameters {
        app_message_policy: AppMessagePolicy {
            epoch_tolerance: 0,
            pad_to_size,
            max_generations_skipahead,
        },
        ..policy()
    }
}

#[test]
fn messages_are_padded_to_a_multiple_of_what_the_rooms_policy_says() {
    for (pad_to_size, step) in [(0, 64), (1_000, 1_000), (48, 48)] {
        let hub = MimiHub::new();
        let [mut alice, mut bob, _] = of_three_with(&hub, with_messages(pad_to_size, 0));
        for said in ["Fish!", &"Fish! ".repeat(300)] {
            for client in [&mut alice, &mut bob] {
                say(client, said);
                hub.alter_last(|fanout| {
                    let MlsMessageBody::Private(private) = &fanout.message.body else {
                        panic!("it is a message");
                    };
                    assert_eq!(private.ciphertext.len() % step, 0, "{pad_to_size}");
                });
            }
        }
        sync(&mut bob);
        assert_eq!(read(&bob).len(), 4);
    }
}

#[test]
fn no_more_messages_of_one_sender_may_be_missing_than_the_rooms_policy_says() {
    for (max_generations_skipahead, is_read) in [(2, false), (3, true), (0, true)] {
        let hub = MimiHub::new();
        let [mut alice, mut bob, _] = of_three_with(&hub, with_messages(0, max_generations_skipahead));
        for _ in 0..3 {
            say(&mut bob, "lost");
            hub.take_last();
        }
        say(&mut bob, "found");
        sync(&mut alice);
        let body = alice.items(&room(), 1).unwrap().remove(0).body;
        match is_read {
            true => assert_eq!(read(&alice), ["found"]),
            false => assert!(
                matches!(body, MimiBody::Unreadable(Unreadable::Undecryptable { .. })),
                "{body:?}"
            ),
        }
    }
}
