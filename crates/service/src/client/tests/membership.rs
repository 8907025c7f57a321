//! Who comes, goes, is invited, knocks, or is kept out.

use super::*;

/// A room of `alice`, a user of `a.example`, to which `bob` is invited.
async fn invited(world: &World, alice: &UserId, bob: &UserId) -> RoomId {
    let a = world.service("a");
    let room = a.create_room(alice, NewRoom::default(), None).await.unwrap().room_id;
    a.invite_user(alice, &room, bob, None).await.unwrap();
    room
}

#[tokio::test]
async fn invite_kick_ban_and_unban_work_from_hub_and_participant() {
    let world = World::new(&["a", "b", "c"]);
    let (alice, bob, carol) = (user("alice", "a"), user("bob", "b"), user("carol", "c"));
    let (a, b, c) = (world.service("a"), world.service("b"), world.service("c"));
    let levels = object! { "users" => object! { alice.as_str() => 100, bob.as_str() => 50 } };
    let new = NewRoom {
        power_levels: Some(levels),
        ..NewRoom::default()
    };
    let room = a.create_room(&alice, new, None).await.unwrap().room_id;
    a.invite_user(&alice, &room, &bob, None).await.unwrap();
    assert_eq!(b.invitations(&bob).await.unwrap().len(), 1);
    b.join(&bob, &room, &[]).await.unwrap();
    assert_eq!(b.invitations(&bob).await.unwrap(), []);

    b.invite_user(&bob, &room, &carol, Some("come")).await.unwrap();
    c.join(&carol, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b", "c"]).await;

    b.kick(&bob, &room, &carol, None).await.unwrap();
    eventually("c knows of the kick", || async {
        c.store().rooms_of(&carol).await.unwrap()[0].membership == Membership::Leave
    })
    .await;
    a.ban(&alice, &room, &carol, None).await.unwrap();
    let error = c.join(&carol, &room, &[]).await.unwrap_err();
    assert!(matches!(error, ServiceError::RejectedByHub { .. }), "{error:?}");
    assert!(matches!(
        a.kick(&alice, &room, &carol, None).await,
        Err(ServiceError::NotFound(_))
    ));
    a.unban(&alice, &room, &carol, None).await.unwrap();
    a.invite_user(&alice, &room, &carol, None).await.unwrap();
    c.join(&carol, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b", "c"]).await;
    let members = c.members(&carol, &room).await.unwrap();
    assert!(members.iter().all(|member| member.membership == Membership::Join));
}

#[tokio::test]
async fn a_rejected_invite_is_off_the_list_and_known_to_the_hub() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = invited(&world, &alice, &bob).await;
    let left = world.service("b").leave(&bob, &room, None).await.unwrap();
    assert_eq!(
        left,
        Left {
            sent: None,
            hub_told: true
        }
    );
    assert_eq!(world.service("b").invitations(&bob).await.unwrap(), []);
    let members = world.service("a").members(&alice, &room).await.unwrap();
    assert!(members.contains(&Member {
        user: bob,
        membership: Membership::Leave
    }));
}

#[tokio::test]
async fn a_dead_hubs_invite_can_be_thrown_away() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = invited(&world, &alice, &bob).await;
    world.set_down("a", true);
    let left = world.service("b").leave(&bob, &room, None).await.unwrap();
    assert_eq!(
        left,
        Left {
            sent: None,
            hub_told: false
        }
    );
    assert_eq!(world.service("b").invitations(&bob).await.unwrap(), []);
}

#[tokio::test]
async fn whatever_its_hub_answers_an_invite_can_be_thrown_away() {
    for (status, body) in [
        (429, object! { "errcode" => "M_LIMIT_EXCEEDED" }),
        (500, object! { "errcode" => "M_UNKNOWN" }),
        (401, Object::new()),
    ] {
        let world = World::new(&["a", "b"]);
        let (alice, bob) = (user("alice", "a"), user("bob", "b"));
        let private = NewRoom::default();
        let created = world.service("a").create_room(&alice, private, None).await.unwrap();
        let room = created.room_id;
        world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
        world.intercept(move |_, _, request| {
            let is_leaving = request.stable.contains("_leave/");
            is_leaving.then(|| answer(status, body.clone()))
        });
        let left = world.service("b").leave(&bob, &room, None).await.unwrap();
        assert!(!left.hub_told, "{status}");
        assert_eq!(world.service("b").invitations(&bob).await.unwrap(), [], "{status}");
    }
}

#[tokio::test]
async fn a_knock_is_listed_and_can_be_answered_with_an_invite() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let new = NewRoom {
        join_rule: Some("knock".to_owned()),
        name: Some("Den".to_owned()),
        ..NewRoom::default()
    };
    let room = world.service("a").create_room(&alice, new, None).await.unwrap().room_id;
    let b = world.service("b");
    assert_eq!(b.knock(&bob, &room, &[server("a")], None).await.unwrap(), None);
    let knocks = b.invitations(&bob).await.unwrap();
    assert_eq!((knocks.len(), knocks[0].is_invite), (1, false));
    assert!(
        String::from_utf8(knocks[0].stripped_state.to_canonical())
            .unwrap()
            .contains("Den")
    );
    world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
    assert!(b.invitations(&bob).await.unwrap()[0].is_invite);
    b.join(&bob, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b"]).await;
}

#[tokio::test]
async fn a_request_the_hub_never_answers_rightly_is_an_error_not_a_join() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = world
        .service("a")
        .create_room(&alice, public_room(), None)
        .await
        .unwrap()
        .room_id;
    world.intercept(|_, _, request| {
        request
            .stable
            .contains("send_join")
            .then(|| answer(200, object! { "state" => Vec::<nabe_signing::Json>::new() }))
    });
    let error = world.service("b").join(&bob, &room, &[server("a")]).await.unwrap_err();
    assert!(matches!(error, ServiceError::BadAnswer { .. }), "{error:?}");
    assert_eq!(world.store("b").head(&room).await.unwrap(), None::<LogPosition>);
}
