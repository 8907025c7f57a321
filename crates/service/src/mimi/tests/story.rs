//! The story of the draft (MIMI #example-protocol-flow).

use nabe_wire::group_info::GroupInfoRequest;

use super::*;

#[tokio::test]
async fn alice_adds_bob_who_adds_cathy_who_writes_bob_leaves_and_cathy_gets_a_second_device() {
    let mut room = Room::of_three().await;
    room.say("cathy", "hello").await;
    room.all_catch_up().await;
    assert_eq!(room.client("alice").heard, ["hello"]);
    assert_eq!(room.client("bob").heard, ["hello"]);

    // Bob leaves: his client and his place in the list.
    let too_late = room.message("bob", "still here?");
    let leave = room.member("bob").leave();
    let list = room
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    for message in [&leave, &list] {
        room.client("bob").own.insert(message.as_bytes().to_vec());
    }
    let answer = room.update("bob", &proposals(&[leave, list])).await;
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
    let refused = room.submit("bob", &too_late).await;
    assert_eq!(refused.body.mls10(), Some(&SubmitVerdict::NotAllowed));
    room.is_delivered().await;
    room.catch_up("cathy").await;
    let bundle = room.member("cathy").update();
    room.commit("cathy", &bundle).await;
    room.all_catch_up().await;
    assert!(!room.member("bob").group().is_active(), "the last that he hears");
    room.clients.remove("bob");
    room.say("alice", "without Bob").await;
    room.all_catch_up().await;
    assert_eq!(room.client("cathy").heard, ["without Bob"]);
    let bobs = room.inbox("bob").await;
    assert!(matches!(bobs.last().unwrap().with, FanoutParts::Commit { .. }));

    // Cathy's second device asks the hub and joins by itself.
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (query, private_key) = group_info_query(&device);
    let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
    let mimi = room.providers.mimi("c");
    let answer = mimi
        .forward_group_info(&user_of("cathy"), &room.uri, &request)
        .await
        .unwrap();
    let opened = open_group_info(answer, &private_key);
    let info = opened.group_info.as_bytes();
    let (member, bundle) = device.join_externally_with(info, &opened.ratchet_tree_option, &[], &[]);
    let read = room.inbox("cathy").await.len();
    room.clients.insert("cathy 2", Client::new(member, read));
    room.commit("cathy 2", &bundle).await;
    room.all_catch_up().await;
    room.say("cathy", "from the first").await;
    room.all_catch_up().await;
    assert_eq!(room.client("cathy 2").heard, ["from the first"]);
    assert_eq!(room.client("alice").heard, ["hello", "from the first"]);
    let authenticators: Vec<_> = room
        .clients
        .values()
        .map(|it| it.member.epoch_authenticator())
        .collect();
    assert!(authenticators.windows(2).all(|pair| pair[0] == pair[1]));
    let readable = room
        .providers
        .store("c")
        .rooms_readable_by(&MimiUri::parse(CATHY).unwrap())
        .await;
    assert_eq!(readable.unwrap().len(), 1, "by her second device");
    let readable = room
        .providers
        .store("a")
        .rooms_readable_by(&MimiUri::parse(ALICE).unwrap())
        .await;
    assert_eq!(readable.unwrap().len(), 1, "she created it");
}
