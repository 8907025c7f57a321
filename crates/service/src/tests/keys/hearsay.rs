//! What hubs say of others' keys.

use super::*;

#[tokio::test]
async fn what_a_hub_says_of_keys_is_not_kept() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("t"), START.plus(hours(12)));
    subject.vouches(&signer("t"), &impostor());
    let event = event_of_p();
    assert_eq!(subject.key_by_hub(&event).await, Some(only_key(&impostor())));
    assert_eq!(subject.service.store().server_keys(&server("p")).await.unwrap(), []);
    assert!(subject.service.cached_keys(&server("p")).await.unwrap().is_empty());
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
    // p is back: its own key is the one that counts.
    subject.serves(&signer("p"), START.plus(hours(12)));
    subject.clock.advance(hours(1));
    assert_eq!(subject.key_by_hub(&event).await, Some(only_key(&signer("p"))));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
}

/// An event signed by p's key 2 alone.
fn event_by_new_key() -> RawEvent {
    let new = rotating().keys()[1].clone();
    event_signed_by(&Signer::new(server("p"), vec![new]).unwrap())
}

/// p was up and told us its key 1; now it does not answer.
async fn subject_that_knew_p() -> Subject {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.serves(&signer("t"), START.plus(hours(24)));
    subject.clock.advance(hours(1));
    subject
}

#[tokio::test]
async fn hub_speaks_for_no_server_that_is_known() {
    let subject = subject_that_knew_p().await;
    let event = event_by_new_key();
    // The hub makes up a key of p's: under an ID that p never used, signed with nothing of p's.
    subject.vouches(
        &signer("t"),
        &Signer::new(server("p"), vec![rotating().keys()[1].clone()]).unwrap(),
    );
    let keys = subject.keys_by_hub(&event).await;
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(keys.get(&server("p"), &KeyId::ed25519("2").unwrap()), None);
    let checked = subject
        .service
        .verify_events(vec![event], Some(&server("t")), true)
        .await
        .unwrap();
    assert!(matches!(checked[0].verdict, CheckedVerdict::LacksKeys { .. }));
}

#[tokio::test]
async fn hub_passes_on_what_a_known_server_signed() {
    let subject = subject_that_knew_p().await;
    let event = event_by_new_key();
    subject.vouches(&signer("t"), &rotating());
    let checked = subject
        .service
        .verify_events(vec![event], Some(&server("t")), true)
        .await
        .unwrap();
    assert!(matches!(checked[0].verdict, CheckedVerdict::Lpdu(_)));
    assert_eq!(
        subject.service.store().server_keys(&server("p")).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn retired_key_introduces_no_other() {
    let subject = Subject::new(|_| {});
    let retired = OldKeyMap::from([(KeyId::ed25519("1").unwrap(), (only_key(&signer("p")), START))]);
    let third = SigningKey::from_seed(KeyId::ed25519("3").unwrap(), [3; 32]);
    let p = Signer::new(server("p"), vec![third]).unwrap();
    let response = own_key_response(&p, &retired, START.plus(hours(12)));
    let responses = &subject.peers.responses;
    responses
        .lock()
        .unwrap()
        .insert(server("p"), response.to_canonical().into());
    subject.authenticate(&p, "/x").await.unwrap();
    responses.lock().unwrap().clear();
    subject.serves(&signer("t"), START.plus(hours(24)));
    subject.clock.advance(hours(1));
    // Whoever has key 1, which p retired, and the hub's help.
    subject.vouches(&signer("t"), &rotating());
    let keys = subject.keys_by_hub(&event_by_new_key()).await;
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(keys.get(&server("p"), &KeyId::ed25519("2").unwrap()), None);
}

#[tokio::test]
async fn nobody_else_is_asked_for_what_the_owner_does_not_list() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    let other = SigningKey::from_seed(KeyId::ed25519("2").unwrap(), [2; 32]);
    subject.serves(&Signer::new(server("p"), vec![other]).unwrap(), START.plus(hours(12)));
    for notary in [signer("t"), signer("d")] {
        subject.serves(&notary, START.plus(hours(12)));
        subject.vouches(&notary, &impostor());
    }
    assert_eq!(subject.key_by_hub(&event_of_p()).await, None);
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn hub_asks_no_sender_for_the_keys_of_others() {
    let subject = Subject::new(|_| {});
    let room = subject
        .service
        .create_room(&user("alice", "h"), crate::client::testing::public_room(), None)
        .await
        .unwrap()
        .room_id;
    subject.serves(&signer("t"), START.plus(hours(12)));
    subject.vouches(&signer("t"), &impostor());
    let event = EventBuilder::new(room, "m.room.message", user("bob", "p"), START, Object::new())
        .build_lpdu(&impostor(), &server("h"), &RoomVersionRules::I1)
        .unwrap();
    let body = Json::from(object! { "pdus" => vec![json(&event)] });
    let hash = sha256(&body.to_canonical());
    subject
        .service
        .send_txn(server("t"), txn_id("1"), body, hash)
        .await
        .unwrap();
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 0);
    assert!(subject.service.cached_keys(&server("p")).await.unwrap().is_empty());
}
