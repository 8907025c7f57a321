//! Events whose keys cannot be had, and what becomes of them.

use super::*;

#[tokio::test]
async fn event_whose_key_cannot_be_had_waits_and_is_appended_later() {
    let hub = Hub::public().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.joins(&carol).await;
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let known = hub.world.log("p", &hub.room).await.len();

    // The hub knows d's key; p cannot get it, neither from d nor from a notary.
    let dave = dave();
    let join = hub.member(&dave, &dave, "join");
    hub.service.learn_for_test(&signer("d"), START).await;
    hub.send_member("d", crate::MembershipKind::Join, json(&join))
        .await
        .unwrap();
    hub.send("p", "after", vec![json(&hub.message(&bob, "after"))])
        .await
        .unwrap();
    let store = hub.world.store("p");
    eventually("both events wait", || async {
        store.parked(&hub.room).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(hub.world.log("p", &hub.room).await.len(), known);

    participant.learn_for_test(&signer("d"), START).await;
    hub.world.clock.advance(Duration::from_secs(60));
    participant.retry_due().await.unwrap();
    assert_eq!(store.parked(&hub.room).await.unwrap(), []);
    assert!(
        hub.world
            .log("h", &hub.room)
            .await
            .ends_with(&hub.world.log("p", &hub.room).await)
    );
}

#[tokio::test]
async fn key_that_was_valid_too_short_a_time_may_still_turn_out_valid() {
    let subject = Subject::new(|_| {});
    let early = START.minus(Duration::from_secs(1));
    subject.serves(&signer("p"), early);
    subject.service.keys_of(&server("p")).await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    let checked = subject.service.verify_single(event_of_p()).await.unwrap();
    assert!(matches!(checked.verdict, CheckedVerdict::LacksKeys { .. }));
    // Of a key that is out of use nothing else is to be heard.
    let retired = OldKeyMap::from([(KeyId::ed25519("1").unwrap(), (only_key(&signer("p")), early))]);
    let now_used = SigningKey::from_seed(KeyId::ed25519("2").unwrap(), [2; 32]);
    let now_used = Signer::new(server("p"), vec![now_used]).unwrap();
    let response = own_key_response(&now_used, &retired, START.plus(hours(12)));
    subject
        .peers
        .responses
        .lock()
        .unwrap()
        .insert(server("p"), response.to_canonical().into());
    subject.clock.advance(hours(1));
    let checked = subject.service.verify_single(event_of_p()).await.unwrap();
    assert!(matches!(checked.verdict, CheckedVerdict::Bad(_)));
}

#[tokio::test]
async fn event_whose_key_never_comes_leaves_a_hole_after_a_day() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    let dave = dave();
    hub.service.learn_for_test(&signer("d"), START).await;
    hub.send_member(
        "d",
        crate::MembershipKind::Join,
        json(&hub.member(&dave, &dave, "join")),
    )
    .await
    .unwrap();
    hub.send("p", "after", vec![json(&hub.message(&bob, "after"))])
        .await
        .unwrap();
    let store = hub.world.store("p");
    eventually("both events wait", || async {
        store.parked(&hub.room).await.unwrap().len() == 2
    })
    .await;
    hub.world.clock.advance(hours(24));
    eventually("nothing waits", || async {
        participant.retry_due().await.unwrap();
        store.parked(&hub.room).await.unwrap().is_empty()
    })
    .await;
    let log = store
        .entries(&hub.room, Between::ALL, usize::MAX, Order::Ascending)
        .await
        .unwrap();
    let [.., hole, after] = log.as_slice() else {
        panic!("{log:?}")
    };
    assert!(
        matches!(
            &hole.body,
            EntryBody::Hole {
                reason: HoleReason::KeysUnavailable,
                ..
            }
        ),
        "{hole:?}"
    );
    assert_eq!(
        after.pdu().unwrap().content().get("body").unwrap().as_str(),
        Some("after")
    );
}

#[tokio::test]
async fn event_during_a_join_is_kept_for_it() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let participant = hub.world.service("p");
    let guard = participant.begin_join(&hub.room);
    guard.ask(&server("h"));
    hub.joins(&bob).await;
    let event = Json::from(hub.last().await);
    let body = Json::from(object! { "pdus" => vec![event] });
    let hash = sha256(&body.to_canonical());
    let reply = participant
        .send_txn(server("h"), txn_id("early"), body, hash)
        .await
        .unwrap();
    assert_eq!(Object::parse(&reply.body).unwrap(), nothing_failed());
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap().len(), 1);
    drop(guard);
    // The join failed after all, so what came for it is dropped.
    participant.drain_parked(&hub.room).await.unwrap();
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap(), []);
}

impl Service {
    /// Makes a server's keys known, as if it had answered at `at`.
    async fn learn_for_test(&self, signer: &Signer, at: UnixMillis) {
        let response = own_key_response(signer, &OldKeyMap::new(), at.plus(hours(24 * 30)));
        let bytes = response.to_canonical().into();
        self.cached_keys(signer.server()).await.unwrap();
        let keys = nabe_signing::ServerKeys::parse(response, signer.server()).unwrap();
        self.learn(keys, bytes, Source::Owner, Purpose::Event).await.unwrap();
    }
}

/// A user of a server that is not there.
fn dave() -> nabe_types::UserId {
    user("dave", "d")
}
