//! What a stream tells, and what is told again from a token.

use super::*;

/// What a stream shows, up to its `Ready` and as long as there is something.
async fn drain(stream: &mut EventStream) -> Vec<StreamItem> {
    let mut items = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = let_run() => return items,
        };
        match next {
            Some(item) => items.push(item.unwrap()),
            None => return items,
        }
    }
}

#[tokio::test]
async fn a_stream_wakes_for_what_is_new_and_ends_at_the_shutdown() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let mut stream = a.stream(&alice, None, None).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().body, StreamBody::Ready);
    let reading = tokio::spawn(async move {
        let item = stream.next().await.unwrap().unwrap();
        (item, stream)
    });
    let_run().await;
    assert!(!reading.is_finished());
    let sent = a.send_event(&alice, &room, message("hi"), None).await.unwrap();
    let (item, mut stream) = reading.await.unwrap();
    assert!(matches!(item.body, StreamBody::Event(event) if Some(event.event_id()) == sent.event_id.as_ref()));
    a.shutdown().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_room_joined_after_the_token_was_made_is_in_the_stream_from_the_join_on() {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let mut stream = a.stream(&carol, None, None).await.unwrap();
    assert_eq!(drain(&mut stream).await.len(), 1);
    a.send_event(&alice, &room, message("unseen"), None).await.unwrap();
    let join = a.join(&carol, &room, &[]).await.unwrap();
    let hello = a.send_event(&alice, &room, message("hello"), None).await.unwrap();
    a.kick(&alice, &room, &carol, None).await.unwrap();
    a.send_event(&alice, &room, message("unseen, too"), None).await.unwrap();
    let seen: Vec<_> = drain(&mut stream)
        .await
        .into_iter()
        .filter_map(|item| match item.body {
            StreamBody::Event(event) => Some(event.position.unwrap()),
            _ => None,
        })
        .collect();
    let (join, hello) = (join.position.unwrap(), hello.position.unwrap());
    assert_eq!(seen, [join, hello, hello.next()]);
}

/// The bodies a stream shows, and its last token.
async fn bodies(stream: &mut EventStream) -> (Vec<String>, String) {
    let items = drain(stream).await;
    let token = items.last().unwrap().token.clone();
    let bodies = items.into_iter().filter_map(|item| match item.body {
        StreamBody::Event(event) => Some(event.pdu.content().get("body")?.as_str()?.to_owned()),
        _ => None,
    });
    (bodies.collect(), token)
}

#[tokio::test]
async fn room_left_long_ago_is_not_in_the_token_and_is_not_told_again() {
    let month = std::time::Duration::from_secs(31 * 24 * 60 * 60);
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let other = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    for room in [&room, &other] {
        a.join(&carol, room, &[]).await.unwrap();
    }
    let mut stream = a.stream(&carol, None, Some(STREAM_START)).await.unwrap();
    a.send_event(&alice, &room, message("first time"), None).await.unwrap();
    a.leave(&carol, &room, None).await.unwrap();
    let (seen, _) = bodies(&mut stream).await;
    assert_eq!(seen, ["first time"]);
    a.send_event(&alice, &room, message("without carol"), None)
        .await
        .unwrap();
    a.send_event(&alice, &other, message("soon after"), None).await.unwrap();
    let (seen, soon) = bodies(&mut stream).await;
    assert_eq!(seen, ["soon after"]);
    world.clock.advance(month);
    a.send_event(&alice, &other, message("later"), None).await.unwrap();
    drain(&mut stream).await;
    a.send_event(&alice, &other, message("and later"), None).await.unwrap();
    let (_, one) = bodies(&mut stream).await;
    assert!(one.len() + 8 < soon.len(), "{one} {soon}");
    // Neither a token of then nor one of before tells anything twice, nor keeps back what is new.
    let fresh = {
        let mut stream = a.stream(&carol, None, None).await.unwrap();
        bodies(&mut stream).await.1
    };
    assert_eq!(fresh.len(), one.len());
    a.join(&carol, &room, &[]).await.unwrap();
    a.send_event(&alice, &room, message("second time"), None).await.unwrap();
    for (token, expected) in [
        (&one, &["second time"][..]),
        (&fresh, &["second time"]),
        (&soon, &["later", "and later", "second time"]),
        (
            &STREAM_START.to_owned(),
            &["first time", "soon after", "later", "and later", "second time"],
        ),
    ] {
        let mut stream = a.stream(&carol, None, Some(token)).await.unwrap();
        let mut seen = bodies(&mut stream).await.0;
        // Rooms are read one after the other.
        seen.sort();
        let mut expected: Vec<_> = expected.iter().map(|body| (*body).to_owned()).collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn inbox_keeps_what_some_device_has_not_handled() {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let [desk, phone] = ["DESK", "PHONE"].map(|name| DeviceId::parse(name).unwrap());
    for device in [&desk, &phone] {
        a.register_device(&carol, Some(device.clone())).await.unwrap();
    }
    for _ in 0..3 {
        let room = a.create_room(&alice, NewRoom::default(), None).await.unwrap().room_id;
        a.invite_user(&alice, &room, &carol, None).await.unwrap();
    }
    let kept = || async { a.inbox(&carol, None, 0).await.unwrap().len() };
    let mut stream = a.stream(&carol, Some(desk.clone()), None).await.unwrap();
    let items = drain(&mut stream).await;
    let tokens: Vec<_> = items.iter().map(|item| item.token.as_str()).collect();
    let [_, first, _, third] = tokens[..] else {
        panic!("{items:?}")
    };
    // Readers that were there before this server started get an hour to come back.
    a.acknowledge_inbox(&carol, Some(&phone), third).await.unwrap();
    a.acknowledge_inbox(&carol, Some(&desk), first).await.unwrap();
    assert_eq!(kept().await, 3);
    world.clock.advance(std::time::Duration::from_secs(3600));
    drop(a.stream(&carol, Some(phone), Some(third)).await.unwrap());
    assert_eq!(kept().await, 2);
    // Somebody else's device does not count, and what is not there cannot be handled.
    let stranger = DeviceId::parse("TABLET").unwrap();
    a.acknowledge_inbox(&carol, Some(&stranger), third).await.unwrap();
    assert_eq!(kept().await, 2);
    drop(a.stream(&carol, Some(desk), Some(third)).await.unwrap());
    assert_eq!(kept().await, 0);
    let refused = a.acknowledge_inbox(&carol, None, "nonsense!").await;
    assert!(matches!(refused, Err(ServiceError::InvalidParam("token"))));
}

#[tokio::test]
async fn a_token_we_did_not_make_is_refused() {
    let world = World::new(&["a"]);
    let refused = world
        .service("a")
        .stream(&user("alice", "a"), None, Some("nonsense!"))
        .await;
    assert!(matches!(refused.err(), Some(ServiceError::InvalidParam("token"))));
}

/// One thing that happens in [`cut_anywhere`].
#[derive(Clone, Copy, Debug)]
enum Happening {
    Message(usize),
    JoinOrLeave(usize),
    ToDevice,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..3_usize).prop_map(Happening::Message),
        2 => (0..3_usize).prop_map(Happening::JoinOrLeave),
        1 => Just(Happening::ToDevice),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_cut_anywhere_and_resumed_shows_the_same(
        happenings in proptest::collection::vec(happening(), 1..25),
        cuts in proptest::collection::vec(0..12_usize, 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cut_anywhere(happenings, cuts));
    }
}

/// Per room and inbox, what a reader saw.
type Seen = BTreeMap<String, Vec<i64>>;

fn note(seen: &mut Seen, item: &StreamItem) {
    match &item.body {
        StreamBody::Ready => {}
        StreamBody::Event(event) => {
            let key = event.pdu.room_id().to_string();
            seen.entry(key).or_default().push(event.position.unwrap().as_i64());
        }
        StreamBody::Inbox(item) => seen.entry("inbox".to_owned()).or_default().push(item.seq),
    }
}

async fn cut_anywhere(happenings: Vec<Happening>, cuts: Vec<usize>) {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let device = a.register_device(&carol, None).await.unwrap();
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(a.create_room(&alice, public_room(), None).await.unwrap().room_id);
    }
    let mut whole = a.stream(&carol, Some(device.clone()), None).await.unwrap();
    let mut resumed = a.stream(&carol, Some(device.clone()), None).await.unwrap();
    let mut token = resumed.next().await.unwrap().unwrap().token;
    let (mut seen_whole, mut seen_resumed) = (Seen::new(), Seen::new());
    let mut cuts = cuts.into_iter();
    for happening in happenings {
        match happening {
            Happening::Message(room) => {
                a.send_event(&alice, &rooms[room], message("x"), None).await.unwrap();
            }
            Happening::JoinOrLeave(room) => {
                let members = a.members(&alice, &rooms[room]).await.unwrap();
                let joined = Member {
                    user: carol.clone(),
                    membership: Membership::Join,
                };
                if members.contains(&joined) {
                    a.leave(&carol, &rooms[room], None).await.unwrap();
                } else {
                    a.join(&carol, &rooms[room], &[]).await.unwrap();
                }
            }
            Happening::ToDevice => {
                let message = ToDeviceMessage {
                    target: carol.clone(),
                    target_device: device.clone(),
                    message_type: "x".to_owned(),
                    message: object! {},
                };
                a.to_device(&alice, None, vec![message], None).await.unwrap();
            }
        }
        // Reads some, handles a few of them, hangs up, and comes back with the token of the last one handled.
        if let Some(count) = cuts.next() {
            for item in drain(&mut resumed).await.into_iter().take(count) {
                note(&mut seen_resumed, &item);
                token = item.token;
            }
            resumed = a.stream(&carol, Some(device.clone()), Some(&token)).await.unwrap();
        }
    }
    for item in drain(&mut whole).await {
        note(&mut seen_whole, &item);
    }
    for item in drain(&mut resumed).await {
        note(&mut seen_resumed, &item);
    }
    assert_eq!(seen_resumed, seen_whole);
}
