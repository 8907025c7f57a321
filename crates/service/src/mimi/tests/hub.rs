//! What the hub takes, once, and what it says.

use nabe_mls::Suite;
use nabe_wire::codec;
use nabe_wire::directory::Endpoint;
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest};
use nabe_wire::mls::Credential;
use nabe_wire::policy::{Capability, JoinLink, JoinLinksData, RoleData};
use nabe_wire::update::UpdateResponseCode;
use tokio::task::JoinSet;

use super::*;
use crate::mimi::{CreateRefused, MimiError};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_commits_for_one_epoch_one_is_a_success_whenever_they_come() {
    for _ in 0..4 {
        let mut room = Room::of_three().await;
        let bundles = [room.member("bob").update(), room.member("cathy").update()];
        let mut asked = JoinSet::new();
        for (provider, bundle) in ["b", "c"].into_iter().zip(&bundles) {
            let (mimi, uri) = (room.providers.mimi(provider), room.uri.clone());
            let user = MimiUri::parse(if provider == "b" { BOB } else { CATHY }).unwrap();
            let body = Bytes::from(bundle.to_request());
            asked.spawn(async move { mimi.forward_update(&user, &uri, &body).await.unwrap() });
        }
        let mut codes: Vec<_> = asked.join_all().await.iter().map(|answer| answer.code().0).collect();
        codes.sort_unstable();
        let expected = [UpdateResponseCode::SUCCESS.0, UpdateResponseCode::WRONG_EPOCH.0];
        assert_eq!(codes, expected);
    }
}

#[tokio::test]
async fn what_comes_again_has_the_same_answer_and_is_done_once() {
    let mut room = Room::of_three().await;
    let bundle = room.member("bob").update();
    let message = room.message("cathy", "hello");
    let said = room.submit("cathy", &message).await;
    let first = room.update("bob", &bundle.to_request()).await;
    room.is_delivered().await;
    let head = room.providers.store("a").mimi_head(&room.uri).await.unwrap();
    room.providers.advance(std::time::Duration::from_secs(60));
    assert_eq!(room.update("bob", &bundle.to_request()).await, first);
    assert_eq!(room.submit("cathy", &message).await, said);
    // Neither does a restart change it.
    room.providers.crash("a").await;
    assert_eq!(room.update("bob", &bundle.to_request()).await, first);
    assert_eq!(room.submit("cathy", &message).await, said);
    assert_eq!(room.providers.store("a").mimi_head(&room.uri).await.unwrap(), head);
    // In the log of Cathy's own provider it is once, too.
    room.is_delivered().await;
    let of_cathy = room.inbox("cathy").await;
    let said = of_cathy
        .iter()
        .filter(|it| matches!(it.with, FanoutParts::Application { .. }));
    assert_eq!(said.count(), 1);
}

#[tokio::test]
async fn a_key_package_that_was_fetched_for_one_room_adds_nobody_to_another() {
    let mut room = Room::new().await;
    let work = MimiUri::parse("mimi://a.example/r/work").unwrap();
    let package = MimiDevice::new("mimi://b.example/d/bob/B").key_package();
    let change = || Change {
        add: vec![package.clone()],
        updates: vec![add_participants(&[(BOB, templates::ORDINARY_USER)])],
        ..Change::default()
    };
    room.fetched_for(&work, &package, "mimi://b.example/d/bob/B").await;
    let bundle = room.member("alice").commit(change());
    let refused = room.update("alice", &bundle.to_request()).await;
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED, "{refused:?}");
    // A proposal by somebody does not make it one of this room's either.
    let list = add_participants(&[(BOB, templates::ORDINARY_USER)]);
    let alice = room.member("alice");
    alice.clear();
    let proposed = [alice.propose_add(&package), alice.propose_component(&list)];
    let refused = room.update("alice", &proposals(&proposed)).await;
    assert_ne!(refused.code(), UpdateResponseCode::SUCCESS, "{refused:?}");
    room.fetched(&package, "mimi://b.example/d/bob/B").await;
    room.member("alice").clear_proposals();
    let bundle = room.member("alice").commit(change());
    room.commit("alice", &bundle).await;
}

#[tokio::test]
async fn a_message_that_was_taken_is_not_taken_under_another_name() {
    for backend in crate::mimi::testing::BACKENDS {
        let mut room = Room::on(backend, |_| {}).await;
        room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
        room.add("bob", "cathy", "mimi://c.example/d/cathy/C", CATHY).await;
        room.all_catch_up().await;
        let message = room.message("cathy", "mine");
        let said = room.submit("cathy", &message).await;
        let head_of = async |room: &Room| room.providers.store("a").mimi_head(&room.uri).await.unwrap();
        let head = head_of(&room).await;
        let copied = |user: &str| {
            let mut request = SubmitMessageRequest::from_bytes(&message).unwrap();
            let nabe_wire::protocol::Body::Mls10(submission) = &mut request.body else {
                panic!("a message is expected");
            };
            submission.sending_uri = identifier(user);
            request
        };
        for crashes in [false, true] {
            if crashes {
                room.providers.crash("a").await;
            }
            let mimi = room.providers.mimi("a");
            // By another participant, by the hub's own, and by another provider in the sender's name.
            for (provider, user) in [("b", BOB), ("a", ALICE), ("b", CATHY)] {
                let answer = mimi.submit(&server(provider), &room.uri, copied(user)).await.unwrap();
                let verdict = answer.body.mls10();
                assert_eq!(verdict, Some(&SubmitVerdict::NotAllowed), "{provider} {user}");
            }
            let again = mimi.submit(&server("c"), &room.uri, copied(CATHY)).await.unwrap();
            assert_eq!(again, said, "her own");
            assert_eq!(head_of(&room).await, head);
        }
    }
}

#[tokio::test]
async fn whoever_is_refused_keeps_nobody_s_message_out_that_comes_at_the_same_time() {
    let mut room = Room::of_three().await;
    let mimi = room.providers.mimi("a");
    let body = room.message("cathy", "mine");
    let busy = mimi.open(&room.uri).await.unwrap();
    let submit = |from: &'static str| {
        let request = SubmitMessageRequest::from_bytes(&body).unwrap();
        let (mimi, uri) = (mimi.clone(), room.uri.clone());
        tokio::spawn(async move { mimi.submit(&server(from), &uri, request).await.unwrap() })
    };
    // Bob's provider, which does not speak for her, comes first.
    let stolen = submit("b");
    while mimi.state.waiting.count(&room.uri) < 1 {
        tokio::task::yield_now().await;
    }
    let own = submit("c");
    crate::client::testing::let_run().await;
    drop(busy);
    let (stolen, own) = (stolen.await.unwrap(), own.await.unwrap());
    assert_eq!(stolen.body.mls10(), Some(&SubmitVerdict::NotAllowed));
    assert!(matches!(own.body.mls10(), Some(SubmitVerdict::Accepted(_))), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_that_wait_for_a_room_are_all_taken_once_each_with_an_answer_of_its_own() {
    let mut room = Room::of_three().await;
    let mut bodies: Vec<_> = (0..40)
        .map(|n| room.message("cathy", &format!("message {n}")))
        .collect();
    // Bob's provider does not speak for it.
    let of_bob = room.message("bob", "from elsewhere");
    let mimi = room.providers.mimi("a");
    let before = room.providers.store("a").mimi_head(&room.uri).await.unwrap().unwrap();
    // Some were taken before, and come again among the others.
    let mut taken = BTreeMap::new();
    for body in bodies.iter().skip(3).step_by(9) {
        taken.insert(body.clone(), room.submit("cathy", body).await);
    }
    let busy = mimi.open(&room.uri).await.unwrap();
    let mut asked = JoinSet::new();
    for body in bodies.iter().chain([&of_bob]).cloned() {
        let (mimi, uri) = (mimi.clone(), room.uri.clone());
        asked.spawn(async move {
            let request = SubmitMessageRequest::from_bytes(&body).unwrap();
            let answer = mimi.submit(&server("c"), &uri, request).await.unwrap();
            (body, answer)
        });
    }
    while mimi.state.waiting.count(&room.uri) < 41 {
        tokio::task::yield_now().await;
    }
    drop(busy);
    let answers = asked.join_all().await;
    for (body, answer) in &answers {
        assert!(taken.get(body).is_none_or(|before| before == answer), "{answer:?}");
        match answer.body.mls10() {
            Some(SubmitVerdict::Accepted(_)) => assert_ne!(body, &of_bob),
            verdict => assert_eq!((body, verdict), (&of_bob, Some(&SubmitVerdict::NotAllowed))),
        }
    }
    assert_eq!(mimi.state.waiting.count(&room.uri), 0);
    let after = nabe_store::Between {
        after: before,
        ..nabe_store::Between::ALL
    };
    let log = room
        .providers
        .store("a")
        .mimi_entries(&room.uri, after, usize::MAX, usize::MAX);
    let log = log.await.unwrap();
    let of_log = log.iter().flat_map(|entry| entry.messages().unwrap());
    let mut of_log: Vec<_> = of_log.map(|message| message.as_bytes().to_vec()).collect();
    let message = |body: &Bytes| match SubmitMessageRequest::from_bytes(body).unwrap().body.mls10() {
        Some(submission) => submission.app_message.as_bytes().to_vec(),
        None => panic!("a message is expected"),
    };
    let mut sent: Vec<_> = bodies.drain(..).map(|body| message(&body)).collect();
    of_log.sort();
    sent.sort();
    assert_eq!(of_log, sent);
    // Each has its own answer again.
    for (body, answer) in answers.iter().filter(|(body, _)| *body != of_bob) {
        let request = SubmitMessageRequest::from_bytes(body).unwrap();
        let again = mimi.submit(&server("c"), &room.uri, request).await.unwrap();
        assert_eq!(again, *answer);
    }
}

#[tokio::test]
async fn what_was_refused_may_be_accepted_when_it_comes_again() {
    let mut room = Room::new().await;
    let client = "mimi://b.example/d/bob/B";
    let package = MimiDevice::new(client).key_package();
    let bundle = room.member("alice").commit(Change {
        add: vec![package.clone()],
        updates: vec![add_participants(&[(BOB, templates::ORDINARY_USER)])],
        ..Change::default()
    });
    let refused = room.update("alice", &bundle.to_request()).await;
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED);
    room.fetched(&package, client).await;
    let accepted = room.update("alice", &bundle.to_request()).await;
    assert_eq!(accepted.code(), UpdateResponseCode::SUCCESS);
}

/// The same key package may be used in another room meanwhile: by somebody who has a last-resort one, or who wants to jam this one.
#[tokio::test]
async fn a_proposed_client_can_be_added_even_if_its_key_package_was_used_elsewhere() {
    let mut room = Room::of_three().await;
    let client = "mimi://b.example/d/bob/B2";
    let package = MimiDevice::new(client).key_package();
    let add = room.member("bob").propose_add(&package);
    let proposal = proposals(std::slice::from_ref(&add));
    let refused = room.update("bob", &proposal).await;
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED);
    assert!(refused.error_description.contains("not fetched"), "{refused:?}");
    room.fetched(&package, client).await;
    let accepted = room.update("bob", &proposal).await;
    assert_eq!(accepted.code(), UpdateResponseCode::SUCCESS);
    let references = vec![Bytes::from(key_package_ref(&package))];
    let forget = Write::Mimi(MimiWrite::ForgetKeyPackages { references });
    room.providers.mimi("a").service.commit(forget.into()).await.unwrap();
    room.providers.crash("a").await;
    room.member("alice").process(&add);
    let bundle = room.member("alice").commit(Change::default());
    room.commit("alice", &bundle).await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_nothing() {
    let mut room = Room::of_three().await;
    let body = room.message("cathy", "hello");
    let mimi = room.providers.mimi("a");
    let request = SubmitMessageRequest::from_bytes(&body).unwrap();
    {
        let from = server("c");
        let submit = mimi.submit(&from, &room.uri, request);
        tokio::pin!(submit);
        // Up to where the work has begun.
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = &mut submit => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    room.inbox_with("alice", |it| matches!(it.with, FanoutParts::Application { .. }))
        .await;
}

#[tokio::test]
async fn asking_for_rooms_that_are_not_there_leaves_nothing_behind() {
    let mut room = Room::of_three().await;
    let body = room.message("cathy", "hello");
    let bundle = room.member("cathy").update();
    let (query, _) = group_info_query(&MimiDevice::new("mimi://c.example/d/cathy/C2"));
    let mimi = room.providers.mimi("a");
    let before = mimi.state.rooms.count();
    for elsewhere in ["mimi://a.example/r/cellar", "mimi://b.example/r/clubhouse"] {
        let uri = MimiUri::parse(elsewhere).unwrap();
        let request = SubmitMessageRequest::from_bytes(&body).unwrap();
        let answer = mimi.submit(&server("c"), &uri, request).await.unwrap();
        assert_eq!(answer.body.mls10(), Some(&SubmitVerdict::NotAllowed));
        let update = Bytes::from(bundle.to_request());
        let request = HandshakeBundle::from_bytes(&update).unwrap();
        let answer = mimi.update(&server("c"), &uri, &update, request).await.unwrap();
        assert_eq!(answer.code(), UpdateResponseCode::NOT_ALLOWED);
        let request = GroupInfoRequest::from(query.clone());
        let answer = mimi.group_info(&server("c"), &uri, request).await.unwrap();
        assert_eq!(answer.outcome.code(), GroupInfoCode::NO_SUCH_ROOM);
    }
    assert_eq!(mimi.state.rooms.count(), before);
}

#[tokio::test]
async fn a_room_is_the_same_after_it_was_dropped_from_memory_or_the_hub_crashed() {
    let mut room = Room::of_three().await;
    let proposal = room.member("bob").propose_component(&rename("Cellar"));
    room.client("bob").own.insert(proposal.as_bytes().to_vec());
    room.update("bob", &proposals(&[proposal])).await;
    room.all_catch_up().await;
    let mimi = room.providers.mimi("a");
    let limited = {
        // Everything is more than nothing.
        let open = mimi.open(&room.uri).await.unwrap().unwrap();
        open.room().size_bytes()
    };
    assert!(mimi.state.rooms.bytes() >= limited / 2);
    mimi.forget_rooms_beyond(0);
    assert_eq!(mimi.state.rooms.count(), 0);
    room.providers.crash("a").await;
    let bundle = room.member("cathy").update();
    room.commit("cathy", &bundle).await;
    room.all_catch_up().await;
    let mimi = room.providers.mimi("a");
    let open = mimi.open(&room.uri).await.unwrap().unwrap();
    let data = open.room().group().component(ComponentId::ROOM_METADATA);
    assert_eq!(data, rename("Cellar").update.as_deref());
}

#[tokio::test]
async fn many_proposals_and_commits_write_checkpoints_that_are_read() {
    let mut room = Room::of_three().await;
    for round in 0..40 {
        let name = "x".repeat(2_000) + &round.to_string();
        let change = Change {
            updates: vec![rename(&name)],
            ..Change::default()
        };
        let bundle = room.member("alice").commit(change);
        room.commit("alice", &bundle).await;
    }
    let stored = room.providers.store("a").mimi_room(&room.uri).await.unwrap().unwrap();
    assert!(stored.group.checkpoint.is_some());
    assert!(stored.group.changes.len() < 40);
    room.providers.crash("a").await;
    room.all_catch_up().await;
    let bundle = room.member("cathy").update();
    room.commit("cathy", &bundle).await;
}

#[tokio::test]
async fn a_room_is_created_once_by_a_client_of_its_creator_at_the_creators_provider() {
    let providers = Providers::new(&["a", "b"]).await;
    let device = MimiDevice::new("mimi://a.example/d/alice/A");
    let draft = |device: &MimiDevice| {
        let mut draft = RoomDraft::new(device, providers.key("a"));
        let list = ParticipantListData { participants: vec![] };
        for entry in templates::cooperative("a.example").dictionary(&list).entries() {
            if entry.component_id != ComponentId::PARTICIPANT_LIST {
                draft.set(entry.component_id, entry.data.to_vec());
            }
        }
        draft
    };
    let (info, tree) = device.create_room_with(&draft(&device)).hand_over();
    let (room, alice) = (MimiUri::parse(ROOM).unwrap(), MimiUri::parse(ALICE).unwrap());
    let mimi = providers.mimi("a");
    let anna = MimiUri::parse("mimi://a.example/u/anna").unwrap();
    let refused = mimi.create_room(&anna, &room, info.clone(), tree.clone()).await;
    assert!(matches!(refused, Err(CreateRefused::NotTheCreator(_))), "{refused:?}");
    let elsewhere = providers
        .mimi("b")
        .create_room(&alice, &room, info.clone(), tree.clone())
        .await;
    assert!(matches!(elsewhere, Err(CreateRefused::NotOurs(_))), "{elsewhere:?}");
    for _ in 0..2 {
        mimi.create_room(&alice, &room, info.clone(), tree.clone())
            .await
            .unwrap();
    }
    let device = MimiDevice::new("mimi://a.example/d/alice/A2");
    let (other, tree) = device.create_room_with(&draft(&device)).hand_over();
    let refused = mimi.create_room(&alice, &room, other, tree).await;
    assert!(matches!(refused, Err(CreateRefused::Exists(_))), "{refused:?}");
}

#[tokio::test]
async fn a_room_that_the_hub_could_not_sign_for_or_that_somebody_else_franks_is_not_created() {
    let providers = Providers::new(&["a"]).await;
    let (room, alice) = (MimiUri::parse(ROOM).unwrap(), MimiUri::parse(ALICE).unwrap());
    let create = async |suite, agent: Option<FrankingAgentData>| {
        let device = MimiDevice::with_suite("mimi://a.example/d/alice/A", suite);
        let mut draft = RoomDraft::new(&device, providers.key("a"));
        let list = ParticipantListData {
            participants: vec![UserRolePair {
                user: identifier(ALICE),
                role_index: templates::SUPER_ADMIN,
            }],
        };
        for entry in templates::cooperative("a.example").dictionary(&list).entries() {
            draft.set(entry.component_id, entry.data.to_vec());
        }
        if let Some(agent) = agent {
            draft.set(ComponentId::FRANKING_AGENT, agent.to_bytes());
        }
        let (info, tree) = device.create_room_with(&draft).hand_over();
        providers.mimi("a").create_room(&alice, &room, info, tree).await
    };
    let refused = create(Suite::P256_AES128, None).await;
    assert!(matches!(refused, Err(CreateRefused::Suite)), "{refused:?}");
    let of_alice = FrankingAgentData {
        franking_signature_key: [9; 32].as_slice().into(),
        credential: Credential::Basic {
            identity: b"mimi://a.example".as_slice().into(),
        },
    };
    let refused = create(Suite::X25519_AES128, Some(of_alice)).await;
    assert!(matches!(refused, Err(CreateRefused::OtherFrankingAgent)), "{refused:?}");
    create(Suite::X25519_AES128, None).await.unwrap();
}

/// The code is in the request for the GroupInfo alone; the commit comes after a restart.
#[tokio::test]
async fn who_showed_a_join_code_joins_by_it_even_if_the_hub_restarts_in_between() {
    let links = JoinLinksData {
        join_links: vec![JoinLink {
            join_link: b"https://a.example/join/me".as_slice().into(),
        }],
    };
    let mut room =
        Room::with(|draft| {
            let list = ParticipantListData { participants: vec![] };
            let dictionary = templates::strict("a.example").dictionary(&list);
            let roles = dictionary.data(ComponentId::ROLES_LIST).unwrap();
            assert!(RoleData::from_bytes(roles).unwrap().roles.iter().any(|role| {
                role.role_index == 0 && role.role_capabilities.contains(&Capability::CAN_USE_JOIN_CODE)
            }));
            draft.set(ComponentId::ROLES_LIST, roles.to_vec());
            draft.set(ComponentId::JOIN_LINKS, links.to_bytes());
        })
        .await;
    let device = MimiDevice::new("mimi://d.example/d/dave/D");
    let ask = async |code: Option<&[u8]>| {
        let (query, private_key) = group_info_query_with(&device, code);
        let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
        let mimi = room.providers.mimi("d");
        (
            mimi.forward_group_info(&user_of("dave"), &room.uri, &request)
                .await
                .unwrap(),
            private_key,
        )
    };
    for wrong in [None, Some(&b"https://a.example/join/you"[..])] {
        let (answer, _) = ask(wrong).await;
        assert_eq!(answer.outcome.code(), GroupInfoCode::NOT_AUTHORIZED);
    }
    let (answer, private_key) = ask(Some(b"https://a.example/join/me")).await;
    let opened = open_group_info(answer, &private_key);
    room.providers.crash("a").await;
    let info = opened.group_info.as_bytes();
    let comes = [add_participants(&[("mimi://d.example/u/dave", 2)])];
    let (member, bundle) = device.join_externally_with(info, &opened.ratchet_tree_option, &[], &comes);
    room.clients.insert("dave", Client::new(member, 0));
    room.commit("dave", &bundle).await;
    room.all_catch_up().await;
    room.say("alice", "welcome").await;
    room.all_catch_up().await;
    assert_eq!(room.client("dave").heard, ["welcome"]);
    // Another one, who has shown none, does not.
    let (info, tree) = {
        let mimi = room.providers.mimi("a");
        let open = mimi.open(&room.uri).await.unwrap().unwrap();
        (open.room().group().group_info(), open.room().group().ratchet_tree())
    };
    let device = MimiDevice::new("mimi://d.example/d/doris/D");
    let comes = [add_participants(&[("mimi://d.example/u/doris", 2)])];
    let (_, bundle) = device.join_externally_with(info.as_bytes(), &tree, &[], &comes);
    let refused = room.update("doris", &bundle.to_request()).await;
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED, "{refused:?}");
}

#[tokio::test]
async fn other_protocols_are_not_spoken() {
    let room = Room::new().await;
    let mimi = room.providers.mimi("a");
    let other = nabe_wire::protocol::Body::Other {
        protocol: nabe_wire::protocol::Protocol(7),
        rest: codec::Bytes::from(b"whatever".as_slice()),
    };
    let request = SubmitMessageRequest { body: other.clone() };
    let answer = mimi.submit(&server("b"), &room.uri, request).await.unwrap();
    assert_eq!(answer.body.mls10(), Some(&SubmitVerdict::NotAllowed));
}

/// The hub believes a provider about its users, so the provider has to be sure.
#[tokio::test]
async fn nobody_sends_or_asks_in_the_name_of_another_user_of_their_provider() {
    let mut room = Room::of_three().await;
    let body = room.message("cathy", "hello");
    let (mimi, clara) = (room.providers.mimi("c"), user_of("clara"));
    let refused = mimi.forward_submit(&clara, &room.uri, &body).await;
    assert!(
        matches!(
            refused,
            Err(MimiError::Invalid {
                field: "sendingUri",
                ..
            })
        ),
        "{refused:?}"
    );
    let (query, _) = group_info_query(&MimiDevice::new("mimi://c.example/d/cathy/C2"));
    let body = Bytes::from(GroupInfoRequest::from(query).to_bytes());
    let refused = mimi.forward_group_info(&clara, &room.uri, &body).await;
    assert!(
        matches!(
            refused,
            Err(MimiError::Invalid {
                field: "requestingCredential",
                ..
            })
        ),
        "{refused:?}"
    );
    let (info, tree) = {
        let mimi = room.providers.mimi("a");
        let open = mimi.open(&room.uri).await.unwrap().unwrap();
        (open.room().group().group_info(), open.room().group().ratchet_tree())
    };
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (_, bundle) = device.join_externally_with(info.as_bytes(), &tree, &[], &[]);
    let asking = {
        let mimi = room.providers.mimi("a");
        let open = mimi.open(&room.uri).await.unwrap().unwrap();
        device.ask_to_join(open.room().group())
    };
    for body in [bundle.to_request(), proposals(&[asking])] {
        let refused = mimi.forward_update(&clara, &room.uri, &body.into()).await;
        assert!(
            matches!(
                refused,
                Err(MimiError::Invalid {
                    field: "proposalOrCommit",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

/// Clients of the hub's own users read the same log; each of them only what is for them (MIMI #fanout-messages-and-room-events).
#[tokio::test]
async fn a_banned_user_of_the_hub_reads_up_to_the_commit_that_removes_them() {
    let adam = "mimi://a.example/u/adam";
    for backend in crate::mimi::testing::BACKENDS {
        let mut room = Room::on(backend, |_| {}).await;
        room.add("alice", "adam", "mimi://a.example/d/adam/A", adam).await;
        room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
        room.all_catch_up().await;
        let read = async |room: &Room| {
            let mimi = room.providers.mimi("a");
            let after = nabe_types::LogPosition::ZERO;
            let messages = mimi.messages(&user_of("adam"), &room.uri, after, 100, 1 << 20).await;
            let messages = messages.unwrap().into_iter();
            let messages = messages.map(|message| FanoutMessage::from_bytes(&message.body).unwrap());
            messages.collect::<Vec<_>>()
        };
        let is_text = |message: &FanoutMessage| matches!(message.with, FanoutParts::Application { .. });
        room.say("bob", "before").await;
        let before = read(&room).await;
        assert!(is_text(before.last().unwrap()));
        // The ban is proposed. What is said from now on is not for him, what his client needs to follow is.
        let late = room.message("bob", "pending");
        let leaf = room.member("adam").leaf();
        let remove = room.member("alice").propose_remove(leaf);
        let ban = room
            .member("alice")
            .propose_component(&change_participants(&[(1, 1)], &[], &[]));
        let answer = room.update("alice", &proposals(&[remove, ban])).await;
        assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
        let answer = room.submit("bob", &late).await;
        assert!(
            matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_))),
            "{answer:?}"
        );
        let pending = read(&room).await;
        assert_eq!(pending.len(), before.len() + 1);
        assert!(matches!(pending.last().unwrap().with, FanoutParts::Proposal { .. }));
        let commit = room.member("alice").update();
        room.commit("alice", &commit).await;
        room.say("alice", "after").await;
        let last = read(&room).await;
        assert_eq!(last.len(), pending.len() + 1);
        assert_eq!(last.last().unwrap().message, commit.commit);
        let store = room.providers.store("a");
        let readable = store.readable_room(&user_of("adam"), &room.uri).await.unwrap().unwrap();
        assert!(readable.until.is_some_and(|until| until < readable.room.head));
        // Alice has all of it, and a restart makes no difference.
        let heard = room.inbox("alice").await.iter().filter(|it| is_text(it)).count();
        assert_eq!(heard, 3);
        room.is_delivered().await;
        room.catch_up("bob").await;
        room.providers.crash("a").await;
        room.say("bob", "later").await;
        assert_eq!(read(&room).await, last);
    }
}

/// As many are on the list as make a GroupInfo of more than two megabytes, which goes with every commit and Welcome.
#[tokio::test]
async fn a_commit_and_a_welcome_of_two_megabytes_go_through() {
    const USERS: usize = 60_000;
    let mut room = Room::with(|draft| {
        let creator = UserRolePair {
            user: identifier(ALICE),
            role_index: templates::SUPER_ADMIN,
        };
        let others = (0..USERS).map(|number| UserRolePair {
            user: identifier(&format!("mimi://d.example/u/member{number:05}")),
            role_index: templates::ORDINARY_USER,
        });
        let list = ParticipantListData {
            participants: std::iter::once(creator).chain(others).collect(),
        };
        draft.set(ComponentId::PARTICIPANT_LIST, list.to_bytes());
    })
    .await;
    room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
    let welcome = room.providers.made("b", Endpoint::Notify);
    assert!(welcome.iter().any(|made| made.body.len() > 2 << 20), "by notification");
    let bundle = room.member("bob").update();
    assert!(bundle.to_request().len() > 2 << 20);
    room.commit("bob", &bundle).await;
    room.is_delivered().await;
    room.catch_up("alice").await;
    assert_eq!(room.member("alice").epoch(), room.member("bob").epoch());
}
