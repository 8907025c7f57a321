//! Messages: readable ones once, and words for the others.

use nabe_content::attachment::{self, AcceptAll};
use nabe_content::{Body, FileSource, MediaType, Message};
use nabe_signing::{Json, Object, base64u, object};

use super::*;
use crate::testing::Fault;
use crate::transport::RoomEvent;

#[test]
fn a_message_whose_answer_is_lost_is_sent_once() {
    let hub = hub();
    let mut bob = client(&hub, BOB, "B");
    let line = hub.transport(ALICE, "A");
    let mut alice = now(Client::log_in(
        line.clone(),
        ClientStore::in_memory().unwrap(),
        device("A"),
        &[Suite::default()],
        obedient(),
        hub.clock(),
    ))
    .unwrap();
    let room = room(&mut alice, &mut [&mut bob]);
    for fault in [Fault::RequestLost, Fault::AnswerLost] {
        line.fail(&[fault]);
        say(&mut alice, &room, &format!("{fault:?}"));
        sync(&mut alice);
    }
    sync(&mut bob);
    for client in [&alice, &bob] {
        assert_eq!(read(client, &room), ["RequestLost", "AnswerLost"]);
    }
}

#[test]
fn a_message_that_waited_too_long_is_encrypted_anew_and_sent_once() {
    let hub = hub();
    let (mut bob, line) = (client(&hub, BOB, "B"), hub.transport(ALICE, "A"));
    let mut alice = now(Client::log_in(
        line.clone(),
        ClientStore::in_memory().unwrap(),
        device("A"),
        &[Suite::default()],
        obedient(),
        hub.clock(),
    ))
    .unwrap();
    let room = room(&mut alice, &mut [&mut bob]);
    for (fault, body) in [(Fault::RequestLost, "never arrived"), (Fault::AnswerLost, "arrived")] {
        line.fail(&[fault]);
        say(&mut alice, &room, body);
        for _ in 0..12 {
            now(bob.update(&room)).unwrap();
        }
        // Everything is taken in before anything is sent again.
        now(alice.receive(Duration::ZERO)).unwrap();
        sync(&mut alice);
        sync(&mut bob);
    }
    for client in [&alice, &bob] {
        assert_eq!(read(client, &room), ["never arrived", "arrived"]);
    }
}

#[test]
fn own_messages_from_another_device_are_read_like_anybodys() {
    let hub = hub();
    let (mut phone, mut laptop) = (client(&hub, ALICE, "PHONE"), client(&hub, ALICE, "LAPTOP"));
    let room = room(&mut phone, &mut [&mut laptop]);
    say(&mut phone, &room, "note to self");
    sync(&mut laptop);
    sync(&mut phone);
    for client in [&phone, &laptop] {
        assert_eq!(read(client, &room), ["note to self"]);
    }
}

#[test]
fn messages_of_recent_epochs_are_read_and_of_older_ones_not() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let (recent, old) = (
        encrypted(&hub, &mut alice, &room, "recent"),
        encrypted(&hub, &mut alice, &room, "old"),
    );
    for _ in 0..8 {
        now(bob.update(&room)).unwrap();
    }
    hub.smuggle(&room, ALICE, "m.room.encrypted", recent);
    now(bob.update(&room)).unwrap();
    hub.smuggle(&room, ALICE, "m.room.encrypted", old);
    sync(&mut bob);
    assert_eq!(
        read(&bob, &room),
        [
            "recent".to_owned(),
            format!("! {}", Undecryptable::EpochGone { epoch: 2 })
        ]
    );
}

#[test]
fn messages_out_of_order_are_read() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let contents: Vec<_> = (0..20)
        .map(|n| encrypted(&hub, &mut alice, &room, &n.to_string()))
        .collect();
    for content in contents.into_iter().rev() {
        hub.smuggle(&room, ALICE, "m.room.encrypted", content);
    }
    sync(&mut bob);
    let expected: Vec<String> = (0..20).rev().map(|n| n.to_string()).collect();
    assert_eq!(read(&bob, &room), expected);
}

#[test]
fn what_cannot_be_read_says_why() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let good = encrypted(&hub, &mut alice, &room, "good");
    let with = |change: &dyn Fn(&mut Object)| {
        let mut content = good.clone();
        change(&mut content);
        content
    };
    let commit = hub
        .log(&room)
        .into_iter()
        .rfind(|event| event.event_type == "m.mls.commit")
        .unwrap();
    let other_room_message = {
        let other = super::room(&mut alice, &mut [&mut bob]);
        encrypted(&hub, &mut alice, &other, "elsewhere")
    };
    let cases: Vec<(&str, Object, Undecryptable)> = vec![
        (ALICE, object! {}, Undecryptable::Malformed),
        (
            ALICE,
            with(&|content| drop(content.remove("commit_event_id"))),
            Undecryptable::Malformed,
        ),
        (
            ALICE,
            with(&|content| drop(content.insert("ciphertext", "*"))),
            Undecryptable::Malformed,
        ),
        (
            ALICE,
            with(&|content| drop(content.insert("ciphertext", "AAAA"))),
            Undecryptable::Malformed,
        ),
        (
            ALICE,
            with(&|content| drop(content.insert("algorithm", Suite::P256_AES128.room_algorithm()))),
            Undecryptable::OtherAlgorithm,
        ),
        (ALICE, with(&flip_last), Undecryptable::Corrupt),
        (BOB, good.clone(), Undecryptable::OtherSender { actual: user(ALICE) }),
        (ALICE, other_room_message, Undecryptable::OtherGroup),
        (
            ALICE,
            with(&|content| drop(content.insert("ciphertext", commit.content.get("message").unwrap().clone()))),
            Undecryptable::EpochGone { epoch: 1 },
        ),
        (
            ALICE,
            with(&|content| set_epoch(content, 9)),
            Undecryptable::EpochUnknown { epoch: 9, ours: 2 },
        ),
    ];
    sync(&mut bob);
    for (sender, content, expected) in cases {
        hub.smuggle(&room, sender, "m.room.encrypted", content);
        sync(&mut bob);
        let found = reasons(&bob, &room).pop();
        // A commit instead of a message: of an epoch before Bob's first.
        let expected = match expected {
            Undecryptable::EpochGone { epoch: 1 } => Undecryptable::SentBeforeJoining,
            expected => expected,
        };
        assert_eq!(found, Some(expected));
    }
}

#[test]
fn an_encrypted_event_names_the_algorithm_and_the_commit_of_its_epoch() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    say(&mut alice, &room, "hello");
    let log = hub.log(&room);
    let commit = log.iter().rfind(|event| event.event_type == "m.mls.commit").unwrap();
    let message = log
        .iter()
        .rfind(|event| event.event_type == "m.room.encrypted")
        .unwrap();
    let field = |name: &str| message.content.get(name).and_then(Json::as_str).unwrap();
    assert_eq!(field("algorithm"), Suite::default().room_algorithm());
    assert_eq!(field("commit_event_id"), commit.event_id.as_str());
    assert!(base64u::decode(field("ciphertext")).is_ok());
}

#[test]
fn a_repeated_message_is_read_once() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let content = encrypted(&hub, &mut alice, &room, "once");
    hub.smuggle(&room, ALICE, "m.room.encrypted", content.clone());
    hub.smuggle(&room, ALICE, "m.room.encrypted", content);
    sync(&mut bob);
    assert_eq!(
        read(&bob, &room),
        ["once".to_owned(), format!("! {}", Undecryptable::Replayed)]
    );
}

#[test]
fn events_that_are_not_encrypted_are_shown_as_such() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let room = room(&mut alice, &mut []);
    hub.smuggle(&room, BOB, "m.room.message", object! { "body" => "psst" });
    sync(&mut alice);
    assert_eq!(read(&alice, &room), ["plain"]);
}

#[test]
fn a_file_is_sealed_sent_and_opened() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let file = attachment::Outgoing::new(b"the fish itself".to_vec());
    now(alice.send_file(&room, file, &AcceptAll)).unwrap();
    sync(&mut bob);
    let item = bob.timeline(&room, 1).unwrap().pop().unwrap();
    let ItemBody::Message(payload) = item.body else {
        panic!("{:?}", item.body)
    };
    let Ok(Message::Post(post)) = Message::parse_payload(&payload) else {
        panic!("a post was sent")
    };
    let Body::File(file) = post.body else {
        panic!("a file was sent")
    };
    let FileSource::Encrypted(sealed) = file.block.source else {
        panic!("it was sealed")
    };
    assert_eq!(now(bob.fetch(&sealed)).unwrap(), b"the fish itself");
}

#[test]
fn a_file_is_sent_as_what_its_media_type_says() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let room = room(&mut alice, &mut []);
    let kind = |body: &Body| match body {
        Body::Image(_) => "image",
        Body::Video(_) => "video",
        Body::Audio(_) => "audio",
        Body::File(_) => "file",
        _ => "something else",
    };
    for (media_type, expected) in [
        (Some("image/png"), "image"),
        (Some("video/mp4"), "video"),
        (Some("video/webm"), "video"),
        (Some("audio/ogg"), "audio"),
        (Some("application/pdf"), "file"),
        (Some("text/plain"), "file"),
        (None, "file"),
    ] {
        let file = attachment::Outgoing {
            media_type: media_type.map(|name| MediaType::parse(name).unwrap()),
            ..attachment::Outgoing::new(b"bytes".to_vec())
        };
        now(alice.send_file(&room, file, &AcceptAll)).unwrap();
        sync(&mut alice);
        let item = alice.timeline(&room, 1).unwrap().pop().unwrap();
        let ItemBody::Message(payload) = item.body else {
            panic!("{:?}", item.body)
        };
        let Ok(Message::Post(post)) = Message::parse_payload(&payload) else {
            panic!("a post was sent")
        };
        assert_eq!(kind(&post.body), expected, "{media_type:?}");
    }
}

#[test]
fn a_message_too_large_for_an_event_is_refused_with_its_size() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let room = room(&mut alice, &mut []);
    let error = now(alice.send_payload(&room, &text(&"x".repeat(60_000)))).unwrap_err();
    assert!(matches!(error, crate::ClientError::MessageTooLarge { .. }), "{error}");
    now(alice.send_payload(&room, &text(&"x".repeat(44_000)))).unwrap();
    sync(&mut alice);
    assert_eq!(read(&alice, &room).len(), 1);
}

#[test]
fn a_notice_stays_until_it_is_acknowledged() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    notices(&mut bob);
    say(&mut alice, &room, "look at me");
    sync(&mut bob);
    let first = bob.notices(10).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(bob.notices(10).unwrap(), first);
    let Notice::Item { item, .. } = first[0].1 else {
        panic!("{first:?}")
    };
    assert!(matches!(bob.item(item).unwrap().unwrap().body, ItemBody::Message(_)));
    bob.acknowledge(first[0].0).unwrap();
    assert_eq!(bob.notices(10).unwrap(), []);
}

/// The content of a message that is encrypted and does not reach the hub.
fn encrypted(hub: &FakeHub, client: &mut Client, room: &RoomId, body: &str) -> Object {
    hub.queue_events(true);
    now(client.send_payload(room, &text(body))).unwrap();
    hub.queue_events(false);
    hub.drop_queued();
    let outgoing = crate::store::Outgoing::all(client.store.read()).unwrap().pop().unwrap();
    outgoing.content.unwrap()
}

fn ciphertext(content: &Object) -> Vec<u8> {
    base64u::decode(content.get("ciphertext").and_then(Json::as_str).unwrap()).unwrap()
}

fn flip_last(content: &mut Object) {
    let mut bytes = ciphertext(content);
    *bytes.last_mut().unwrap() ^= 1;
    content.insert("ciphertext", base64u::encode(&bytes));
}

/// `struct { ProtocolVersion; WireFormat; opaque group_id<V>; uint64 epoch; … }`
fn set_epoch(content: &mut Object, epoch: u64) {
    let mut bytes = ciphertext(content);
    let at = 5 + usize::from(bytes[4]);
    bytes[at..at + 8].copy_from_slice(&epoch.to_be_bytes());
    content.insert("ciphertext", base64u::encode(&bytes));
}

#[test]
fn an_event_survives_being_held() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let room = room(&mut alice, &mut []);
    for event in hub.log(&room) {
        assert_eq!(RoomEvent::from_object(&event.to_object()), Some(event));
    }
}
