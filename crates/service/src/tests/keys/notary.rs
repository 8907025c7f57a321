//! The notary: what it says of others, and whom it asks for it.

use super::*;

#[tokio::test]
async fn notary_vouches_when_the_owner_is_down() {
    let subject = Subject::new(|settings| settings.notaries.push(server("t")));
    let (p, t) = (signer("p"), signer("t"));
    subject.serves(&t, START.plus(hours(12)));
    let mut vouched = own_key_response(&p, &OldKeyMap::new(), START.plus(hours(12)));
    let unsigned = object! { "server_keys" => vec![Json::from(vouched.clone())] };
    subject
        .peers
        .notaries
        .lock()
        .unwrap()
        .insert(server("t"), unsigned.to_canonical().into());
    assert!(subject.authenticate(&p, "/x").await.is_err());
    t.sign_object(&mut vouched);
    let signed = object! { "server_keys" => vec![Json::from(vouched)] };
    subject
        .peers
        .notaries
        .lock()
        .unwrap()
        .insert(server("t"), signed.to_canonical().into());
    subject.clock.advance(hours(1));
    subject.authenticate(&p, "/x").await.unwrap();
}

#[tokio::test]
async fn older_answer_of_a_notary_does_not_shorten_what_the_owner_said() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    subject.serves(&signer("p"), START.plus(hours(24 * 7)));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(1));
    let d = signer("d");
    subject.serves(&d, START.plus(hours(24)));
    let mut older = own_key_response(&signer("p"), &OldKeyMap::new(), START.plus(hours(2)));
    d.sign_object(&mut older);
    let answer = object! { "server_keys" => vec![Json::from(older)] };
    let notaries = &subject.peers.notaries;
    notaries
        .lock()
        .unwrap()
        .insert(server("d"), answer.to_canonical().into());
    // An unknown key makes us ask.
    assert!(subject.authenticate(&rotating(), "/x").await.is_err());
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    subject.clock.advance(hours(3));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
}

#[tokio::test]
async fn notary_cannot_replace_a_known_key() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    let p = signer("p");
    subject.serves(&p, START.plus(Duration::from_secs(1)));
    subject.authenticate(&p, "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(1));
    for notary in [signer("t"), signer("d")] {
        subject.serves(&notary, START.plus(hours(12)));
        subject.vouches(&notary, &impostor());
    }
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(subject.key_by_hub(&event_of_p()).await, Some(only_key(&p)));
    assert_eq!(
        subject.service.store().server_keys(&server("p")).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn notary_asks_an_owner_rarely_whatever_is_demanded() {
    let subject = Subject::new(|_| {});
    let notary_is_asked = async |until| {
        subject.service.notary_one(None, &BOBS, Some(until)).await.unwrap();
    };
    subject.serves(&signer("p"), START.plus(hours(1)));
    subject.service.notary_one(None, &BOBS, None).await.unwrap();
    for _ in 0..20 {
        subject.clock.advance(Duration::from_secs(2));
        notary_is_asked(START.plus(hours(48))).await;
    }
    assert_eq!(subject.asked("p"), 1);
    subject.clock.advance(Duration::from_secs(60));
    // No response counts for longer than a week.
    notary_is_asked(subject.service.now().plus(hours(24 * 7 + 1))).await;
    assert_eq!(subject.asked("p"), 1);
    notary_is_asked(START.plus(hours(48))).await;
    assert_eq!(subject.asked("p"), 2);
}

#[tokio::test]
async fn queries_to_the_notary_do_not_keep_requests_waiting() {
    let subject = Subject::new(|settings| settings.limits.key_requests = 4);
    let service = subject.service.clone();
    subject.peers.hanging.lock().unwrap().push(server("t"));
    let hanging = tokio::spawn(async move { service.notary_one(None, &server("t"), None).await });
    eventually("t is being asked", || async { subject.asked("t") == 1 }).await;
    // The one place is taken, so the notary answers from what it knows, which is nothing.
    let p = signer("p");
    subject.serves(&p, START.plus(hours(12)));
    let found = subject.service.notary_one(None, &BOBS, None).await.unwrap();
    assert!(list(&found, "server_keys").is_empty());
    assert_eq!(subject.asked("p"), 0);
    subject.authenticate(&p, "/x").await.unwrap();
    hanging.abort();
}

#[tokio::test]
async fn notary_keeps_an_answer_for_half_of_its_lifetime() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    let ask = || subject.service.notary_one(None, &BOBS, None);
    ask().await.unwrap();
    subject.clock.advance(hours(6) - Duration::from_millis(1));
    assert_eq!(list(&ask().await.unwrap(), "server_keys").len(), 1);
    assert_eq!(subject.asked("p"), 1);
    subject.clock.advance(Duration::from_millis(1));
    ask().await.unwrap();
    assert_eq!(subject.asked("p"), 2);
}

#[tokio::test]
async fn one_address_does_not_use_up_the_notary_for_others() {
    let limit = |burst| crate::RateLimit { per_second: 1.0, burst };
    let subject = Subject::new(|settings| {
        settings.limits.notary_queries = limit(2.0);
        settings.limits.notary_queries_total = limit(5.0);
    });
    let ask = |last: u8| {
        let caller = std::net::IpAddr::from([192, 0, 2, last]);
        subject.service.notary_one(Some(caller), &BOBS, None)
    };
    ask(1).await.unwrap();
    ask(1).await.unwrap();
    for _ in 0..10 {
        assert!(matches!(ask(1).await, Err(ServiceError::LimitExceeded { .. })));
    }
    ask(2).await.unwrap();
    ask(2).await.unwrap();
    ask(3).await.unwrap();
    // All together have had enough.
    assert!(matches!(ask(4).await, Err(ServiceError::LimitExceeded { .. })));
}

#[tokio::test]
async fn one_address_does_not_use_up_the_fetches_for_others() {
    let limit = |burst| crate::RateLimit { per_second: 1.0, burst };
    let subject = Subject::new(|settings| {
        settings.limits.notary_fetches = limit(2.0);
        settings.limits.notary_fetches_total = limit(3.0);
    });
    for number in 0..10 {
        let caller = std::net::IpAddr::from([192, 0, 2, 1]);
        let unknown = invented(number);
        let found = subject.service.notary_one(Some(caller), unknown.server(), None).await;
        assert!(list(&found.unwrap(), "server_keys").is_empty());
    }
    assert_eq!(subject.peers.asked.lock().unwrap().len(), 2);
    subject.serves(&signer("p"), START.plus(hours(12)));
    let other = std::net::IpAddr::from([192, 0, 2, 2]);
    let found = subject.service.notary_one(Some(other), &BOBS, None).await.unwrap();
    assert_eq!(list(&found, "server_keys").len(), 1);
}

#[tokio::test]
async fn bulk_query_counts_each_server() {
    let subject = Subject::new(|settings| {
        settings.limits.notary_queries_total = crate::RateLimit {
            per_second: 1.0,
            burst: 4.0,
        };
    });
    let three: Object = (0..3)
        .map(|number| (invented(number).server().to_string(), Json::from(Object::new())))
        .collect();
    let body = object! { "server_keys" => three };
    subject.service.notary_many(None, &body).await.unwrap();
    let refused = subject.service.notary_many(None, &body).await;
    assert!(
        matches!(refused, Err(ServiceError::LimitExceeded { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn bulk_query_for_too_much_is_refused() {
    let subject = Subject::new(|settings| {
        settings.limits.notary_servers = 2;
        settings.limits.notary_keys = 3;
        settings.limits.notary_answer_bytes = 500;
    });
    for number in 0..2 {
        subject.serves(&invented(number), START.plus(hours(12)));
    }
    let keys = |count: usize| -> Object {
        (0..count)
            .map(|key| (format!("ed25519:{key}"), Json::from(Object::new())))
            .collect()
    };
    let ask = |servers: Object| {
        let body = object! { "server_keys" => servers };
        let service = subject.service.clone();
        async move { service.notary_many(None, &body).await }
    };
    ask(object! { "s0.example" => keys(3) }).await.unwrap();
    assert_eq!(subject.asked_in_all(), 1);
    for servers in [
        object! { "s0.example" => keys(2), "s1.example" => keys(2) },
        object! { "a.example" => keys(0), "b.example" => keys(0), "c.example" => keys(0) },
    ] {
        let refused = ask(servers).await.unwrap_err();
        assert!(matches!(refused, ServiceError::TooLarge(_)), "{refused}");
    }
    // Whoever asks for too much has made us ask nobody.
    assert_eq!(subject.asked_in_all(), 1);
    let one = ask(object! { "s0.example" => keys(0) }).await.unwrap();
    assert_eq!(list(&one, "server_keys").len(), 1);
    let refused = ask(object! { "s0.example" => keys(0), "s1.example" => keys(0) }).await;
    assert!(matches!(refused, Err(ServiceError::TooLarge(_))), "{refused:?}");
}

#[tokio::test]
async fn notary_measures_its_own_keys_like_those_of_others() {
    let subject = Subject::new(|_| {});
    let us = server("h");
    let own = |minimum| subject.service.notary_one(None, &us, minimum);
    assert_eq!(list(&own(None).await.unwrap(), "server_keys").len(), 1);
    let beyond = START.plus(hours(13));
    assert!(list(&own(Some(beyond)).await.unwrap(), "server_keys").is_empty());
    let unknown_key = object! { "h.example" => object! { "ed25519:nosuch" => Object::new() } };
    let body = object! { "server_keys" => unknown_key };
    let found = subject.service.notary_many(None, &body).await.unwrap();
    assert!(list(&found, "server_keys").is_empty());
}

#[tokio::test]
async fn notary_is_not_asked_without_end() {
    let one = crate::RateLimit {
        per_second: 1.0,
        burst: 2.0,
    };
    let subject = Subject::new(|settings| settings.limits.notary_queries_total = one);
    subject.service.notary_one(None, &BOBS, None).await.unwrap();
    subject
        .service
        .notary_many(None, &object! { "server_keys" => Object::new() })
        .await
        .unwrap();
    let refused = subject.service.notary_one(None, &BOBS, None).await.unwrap_err();
    assert!(matches!(refused, ServiceError::LimitExceeded { .. }), "{refused}");
}

#[tokio::test]
async fn notary_signs_what_it_knows_and_omits_what_is_too_old() {
    let subject = Subject::new(|_| {});
    let (p, notary) = (signer("p"), signer("h").public_keys());
    let answer = |minimum| subject.service.notary_one(None, &BOBS, minimum);
    assert!(list(&answer(None).await.unwrap(), "server_keys").is_empty());
    subject.serves(&p, START.plus(hours(24 * 30)));
    subject.clock.advance(hours(1));
    let found = answer(None).await.unwrap();
    let [keys] = list(&found, "server_keys") else {
        panic!("{found:?}")
    };
    let keys = keys.as_object().unwrap();
    verify_object(keys, "h.example", &notary).unwrap();
    verify_object(keys, "p.example", &p.public_keys()).unwrap();
    let too_far = START.plus(hours(24 * 8 + 1));
    assert!(list(&answer(Some(too_far)).await.unwrap(), "server_keys").is_empty());
    // The owner is gone and the keys are old: who asks about an old event still gets them.
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(24 * 60));
    assert!(list(&answer(None).await.unwrap(), "server_keys").is_empty());
    assert_eq!(list(&answer(Some(START)).await.unwrap(), "server_keys").len(), 1);
}

#[tokio::test]
async fn bulk_query_answers_for_each_server_and_key() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    let ask = |servers: Object| {
        let body = object! { "server_keys" => servers };
        let service = subject.service.clone();
        async move { service.notary_many(None, &body).await }
    };
    assert!(list(&ask(Object::new()).await.unwrap(), "server_keys").is_empty());
    let both = ask(object! { "p.example" => Object::new(), "h.example" => Object::new() })
        .await
        .unwrap();
    let names: Vec<_> = list(&both, "server_keys")
        .iter()
        .map(|keys| text(keys.as_object().unwrap(), "server_name"))
        .collect();
    assert_eq!(names, ["h.example", "p.example"]);
    let key = |id: &str| object! { "p.example" => object! { id => Object::new() } };
    assert_eq!(list(&ask(key("ed25519:1")).await.unwrap(), "server_keys").len(), 1);
    subject.clock.advance(hours(1));
    assert!(list(&ask(key("ed25519:nosuch")).await.unwrap(), "server_keys").is_empty());
    assert!(ask(object! { "p.example" => 7 }).await.is_err());
    let many: Object = (0..200)
        .map(|n| (format!("s{n}.example"), Json::from(Object::new())))
        .collect();
    assert!(ask(many).await.is_err());
}
