use proptest::prelude::*;

use super::*;
use crate::ed25519::SigningKey;

const DAY: u64 = 24 * 60 * 60 * 1000;
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn at(millis_after_now: u64) -> UnixMillis {
    UnixMillis(NOW.as_u64() + millis_after_now)
}

fn hub() -> ServerName {
    ServerName::parse("hub.example").unwrap()
}

fn id(version: &str) -> KeyId {
    KeyId::ed25519(version).unwrap()
}

fn key(version: &str, byte: u8) -> SigningKey {
    SigningKey::from_seed(id(version), [byte; 32])
}

fn signer(keys: &[(&str, u8)]) -> Signer {
    Signer::new(hub(), keys.iter().map(|&(version, byte)| key(version, byte)).collect()).unwrap()
}

fn old(version: &str, byte: u8, expired: UnixMillis) -> OldKeyMap {
    OldKeyMap::from([(id(version), (key(version, byte).public(), expired))])
}

fn response(keys: &[(&str, u8)], old_keys: &OldKeyMap, valid_until: UnixMillis) -> ServerKeys {
    ServerKeys::parse(own_key_response(&signer(keys), old_keys, valid_until), &hub()).unwrap()
}

/// A good response, changed by `change` and signed again.
fn changed(change: impl FnOnce(&mut Object)) -> Result<ServerKeys, KeyResponseError> {
    let mut raw = own_key_response(&signer(&[("1", 1)]), &OldKeyMap::new(), at(DAY));
    change(&mut raw);
    signer(&[("1", 1)]).sign_object(&mut raw);
    ServerKeys::parse(raw, &hub())
}

#[test]
fn own_response_is_accepted() {
    let old_keys = old("0", 9, NOW);
    let keys = response(&[("1", 1), ("2", 2)], &old_keys, at(DAY / 2));
    assert_eq!(keys.verify_keys, signer(&[("1", 1), ("2", 2)]).public_keys());
    assert_eq!(keys.old_verify_keys, old_keys);
    assert_eq!(
        (keys.server, keys.valid_until, keys.linearized),
        (hub(), at(DAY / 2), true)
    );
}

#[test]
fn own_response_has_the_drafts_fields() {
    let raw = own_key_response(&signer(&[("1", 1)]), &old("0", 9, UnixMillis(5)), NOW);
    let public = key("1", 1).public().to_base64();
    let old_public = key("0", 9).public().to_base64();
    let mut expected = object! {
        "server_name" => "hub.example",
        "valid_until_ts" => 1_700_000_000_000,
        "m.linearized" => true,
        "verify_keys" => object! { "ed25519:1" => object! { "key" => public } },
        "old_verify_keys" => object! { "ed25519:0" => object! { "key" => old_public, "expired_ts" => 5 } },
    };
    signer(&[("1", 1)]).sign_object(&mut expected);
    assert_eq!(raw, expected);
}

#[test]
fn response_of_another_server_is_refused() {
    let raw = own_key_response(&signer(&[("1", 1)]), &OldKeyMap::new(), NOW);
    let other = ServerName::parse("HUB.example").unwrap();
    assert_eq!(ServerKeys::parse(raw, &other), Err(KeyResponseError::WrongServer));
}

#[test]
fn self_signature_is_required() {
    let mut raw = own_key_response(&signer(&[("1", 1)]), &OldKeyMap::new(), at(DAY));
    raw.insert("valid_until_ts", at(2 * DAY));
    let invalid = KeyResponseError::Signature(SignatureError::Invalid);
    assert_eq!(ServerKeys::parse(raw.clone(), &hub()), Err(invalid));
    raw.remove("signatures");
    assert_eq!(
        ServerKeys::parse(raw.clone(), &hub()),
        Err(KeyResponseError::Signature(SignatureError::Missing))
    );
    signer(&[("unlisted", 7)]).sign_object(&mut raw);
    assert_eq!(
        ServerKeys::parse(raw, &hub()),
        Err(KeyResponseError::Signature(SignatureError::NoKnownKey))
    );
}

#[test]
fn one_listed_key_need_not_sign_but_must_not_sign_wrongly() {
    let mut raw = own_key_response(&signer(&[("1", 1), ("2", 2)]), &OldKeyMap::new(), at(DAY));
    raw.remove("signatures");
    signer(&[("1", 1)]).sign_object(&mut raw);
    assert!(ServerKeys::parse(raw.clone(), &hub()).is_ok());
    signer(&[("2", 3)]).sign_object(&mut raw);
    assert_eq!(
        ServerKeys::parse(raw, &hub()),
        Err(KeyResponseError::Signature(SignatureError::Invalid))
    );
}

#[test]
fn signature_of_an_old_key_is_not_enough() {
    let old_keys = old("0", 9, NOW);
    let mut raw = own_key_response(&signer(&[("1", 1)]), &old_keys, at(DAY));
    raw.remove("signatures");
    signer(&[("0", 9)]).sign_object(&mut raw);
    assert_eq!(
        ServerKeys::parse(raw.clone(), &hub()),
        Err(KeyResponseError::Signature(SignatureError::NoKnownKey))
    );
    signer(&[("1", 1)]).sign_object(&mut raw);
    assert!(ServerKeys::parse(raw, &hub()).is_ok());
}

#[test]
fn key_listed_as_old_is_old_only() {
    let listed_twice = |raw: &mut Object| {
        let entry = object! { "key" => key("1", 1).public().to_base64(), "expired_ts" => NOW };
        raw.insert("old_verify_keys", object! { "ed25519:1" => entry });
    };
    assert_eq!(changed(listed_twice), Err(KeyResponseError::NoVerifyKeys));
}

#[test]
fn missing_and_malformed_fields_are_named() {
    for (field, malformed) in [
        (
            "valid_until_ts",
            vec![Json::Null, "1".into(), (-1).into(), Json::parse(b"0.5").unwrap()],
        ),
        (
            "verify_keys",
            vec![Json::Null, vec![1].into(), object! { "ed25519:1" => "x" }.into()],
        ),
        (
            "verify_keys",
            vec![object! { "ed25519:1" => object! { "key" => 1 } }.into()],
        ),
        (
            "old_verify_keys",
            vec![Json::Null, object! { "ed25519:0" => object! {} }.into()],
        ),
    ] {
        for value in malformed {
            let error = changed(|raw| drop(raw.insert(field, value.clone())));
            assert_eq!(error, Err(KeyResponseError::Field { field }), "{value}");
        }
    }
    for field in ["valid_until_ts", "verify_keys"] {
        assert_eq!(
            changed(|raw| drop(raw.remove(field))),
            Err(KeyResponseError::Field { field })
        );
    }
    let without_expired_ts = object! { "key" => key("0", 9).public().to_base64() };
    let error = changed(|raw| drop(raw.insert("old_verify_keys", object! { "ed25519:0" => without_expired_ts })));
    assert_eq!(error, Err(KeyResponseError::Field { field: "expired_ts" }));
    assert_eq!(
        changed(|raw| drop(raw.remove("server_name"))),
        Err(KeyResponseError::WrongServer)
    );
}

#[test]
fn optional_fields_may_be_missing() {
    let keys = changed(|raw| {
        raw.remove("old_verify_keys");
        raw.remove("m.linearized");
        raw.insert("org.example.extra", 7);
    })
    .unwrap();
    assert!(keys.old_verify_keys.is_empty() && !keys.linearized);
}

#[test]
fn small_order_key_spoils_the_response() {
    let weak = object! { "key" => "A".repeat(43) };
    let error = changed(|raw| {
        raw.get_mut("verify_keys")
            .and_then(Json::as_object_mut)
            .unwrap()
            .insert("ed25519:weak", weak);
    });
    assert_eq!(error, Err(KeyResponseError::Key(PublicKeyError::SmallOrder)));
}

#[test]
fn keys_of_unknown_algorithms_are_left_out() {
    let keys = changed(|raw| {
        let listed = raw.get_mut("verify_keys").and_then(Json::as_object_mut).unwrap();
        listed.insert("ed448:1", "anything");
        listed.insert("no key id", 7);
    })
    .unwrap();
    assert_eq!(keys.verify_keys, signer(&[("1", 1)]).public_keys());
}

#[test]
fn validity_is_at_most_seven_days() {
    let keys = response(&[("1", 1)], &OldKeyMap::new(), at(30 * DAY));
    assert_eq!(keys.effective_valid_until(NOW), at(7 * DAY));
    let mut set = KeySet::new();
    set.insert_server_keys(&keys, NOW);
    let valid = |now| set.for_request(&hub(), &id("1"), now).is_some();
    assert!(valid(at(7 * DAY)));
    assert!(!valid(at(7 * DAY + 1)));
    let short = response(&[("1", 1)], &OldKeyMap::new(), at(DAY));
    assert_eq!(short.effective_valid_until(NOW), at(DAY));
}

#[test]
fn event_needs_a_key_that_was_in_use_then() {
    let mut set = KeySet::new();
    set.insert_server_keys(&response(&[("1", 1)], &old("0", 9, NOW), at(DAY)), NOW);
    let usable = |version, time| set.for_event(&hub(), &id(version), time).is_some();
    // Expired before the event: dropped. After it: accepted.
    assert!(!usable("0", at(1)));
    assert!(usable("0", NOW));
    assert!(usable("0", UnixMillis::ZERO));
    assert!(usable("1", at(DAY)));
    assert!(!usable("1", at(DAY + 1)));
    assert!(!usable("unknown", NOW));
    assert_eq!(
        set.for_event(&ServerName::parse("other.example").unwrap(), &id("1"), NOW),
        None
    );
}

#[test]
fn only_current_keys_authenticate_requests() {
    let mut set = KeySet::new();
    set.insert_server_keys(&response(&[("1", 1)], &old("0", 9, at(DAY)), at(DAY)), NOW);
    assert_eq!(set.for_request(&hub(), &id("1"), at(DAY)), Some(&key("1", 1).public()));
    assert_eq!(set.for_request(&hub(), &id("1"), at(DAY + 1)), None);
    assert_eq!(set.for_request(&hub(), &id("0"), NOW), None);
    assert_eq!(set.for_request(&hub(), &id("unknown"), NOW), None);
}

#[test]
fn key_of_an_earlier_response_still_verifies_events_but_no_requests() {
    let first = response(&[("1", 1), ("2", 2)], &OldKeyMap::new(), at(DAY));
    let second = response(&[("2", 2), ("3", 3)], &OldKeyMap::new(), at(2 * DAY));
    for order in [[(&first, NOW), (&second, at(5))], [(&second, at(5)), (&first, NOW)]] {
        let mut set = KeySet::new();
        for (keys, fetched_at) in order {
            set.insert_server_keys(keys, fetched_at);
        }
        assert!(set.for_event(&hub(), &id("1"), at(DAY)).is_some());
        assert_eq!(set.for_request(&hub(), &id("1"), at(10)), None);
        assert!(set.for_request(&hub(), &id("2"), at(2 * DAY)).is_some());
        assert!(set.for_request(&hub(), &id("3"), at(10)).is_some());
    }
}

#[test]
fn retired_key_stays_retired() {
    let current = response(&[("1", 1), ("2", 2)], &OldKeyMap::new(), at(DAY));
    let retired = response(&[("2", 2)], &old("1", 1, at(3)), at(DAY));
    for order in [
        [(&current, NOW), (&retired, at(5))],
        [(&retired, NOW), (&current, at(5))],
    ] {
        let mut set = KeySet::new();
        for (keys, fetched_at) in order {
            set.insert_server_keys(keys, fetched_at);
        }
        assert!(set.for_event(&hub(), &id("1"), at(3)).is_some());
        assert_eq!(set.for_event(&hub(), &id("1"), at(4)), None);
        assert_eq!(set.for_request(&hub(), &id("1"), NOW), None);
    }
}

#[test]
fn of_two_keys_under_one_id_the_one_listed_last_counts() {
    let long = response(&[("1", 1)], &OldKeyMap::new(), at(5 * DAY));
    let late = response(&[("1", 2)], &OldKeyMap::new(), at(DAY));
    for order in [[(&long, NOW), (&late, at(5))], [(&late, at(5)), (&long, NOW)]] {
        let mut set = KeySet::new();
        for (keys, fetched_at) in order {
            set.insert_server_keys(keys, fetched_at);
        }
        assert_eq!(set.for_event(&hub(), &id("1"), NOW), Some(&key("1", 2).public()));
        assert_eq!(set.for_event(&hub(), &id("1"), at(2 * DAY)), None);
    }
}

#[test]
fn another_key_under_a_known_id_is_a_contradiction() {
    let mut set = KeySet::new();
    let keys = response(&[("1", 1)], &old("0", 9, NOW), at(DAY));
    assert!(!set.contradicts(&keys));
    set.insert_server_keys(&keys, NOW);
    assert!(!set.contradicts(&keys));
    assert!(!set.contradicts(&response(&[("2", 2)], &old("1", 1, NOW), at(DAY))));
    assert!(set.contradicts(&response(&[("1", 2)], &OldKeyMap::new(), at(DAY))));
    assert!(set.contradicts(&response(&[("2", 2)], &old("0", 8, NOW), at(DAY))));
}

#[test]
fn response_has_at_most_64_keys_of_a_kind() {
    let with = |count: usize, field: &'static str| {
        changed(|raw| {
            let entry = object! { "key" => "x", "expired_ts" => 1 };
            let keys = (0..count).map(|n| (format!("other:{n}"), Json::from(entry.clone())));
            let listed = raw.get(field).and_then(Json::as_object).cloned().unwrap_or_default();
            let own = listed.iter().map(|(id, key)| (id.to_owned(), key.clone()));
            let all: Object = own.chain(keys).collect();
            raw.insert(field, all);
        })
    };
    assert!(with(63, "verify_keys").is_ok());
    for field in ["verify_keys", "old_verify_keys"] {
        assert_eq!(with(65, field), Err(KeyResponseError::TooManyKeys { field }));
    }
}

#[test]
fn sets_can_be_joined() {
    let mut set = KeySet::new();
    set.insert_signer(&signer(&[("own", 4)]));
    let mut other = KeySet::new();
    assert!(other.is_empty());
    other.insert_server_keys(&response(&[("1", 1)], &OldKeyMap::new(), at(DAY)), NOW);
    set.extend(other.clone());
    assert!(set.for_event(&hub(), &id("own"), UnixMillis::MAX).is_some());
    assert!(set.for_request(&hub(), &id("1"), NOW).is_some());
    let before = set.clone();
    set.extend(other);
    assert_eq!(set, before);
    assert_eq!(
        set.iter().map(|(_, key_id, _)| key_id.as_str()).collect::<Vec<_>>(),
        ["ed25519:1", "ed25519:own"]
    );
}

#[test]
fn own_keys_authenticate_own_requests() {
    let mut set = KeySet::new();
    set.insert_signer(&signer(&[("1", 1)]));
    assert_eq!(set.for_request(&hub(), &id("1"), NOW), Some(&key("1", 1).public()));
}

proptest! {
    #[test]
    fn any_response_is_read_or_refused(
        valid_until in prop_oneof![any::<i64>(), Just(1_700_000_000_000)],
        expired in any::<i64>(),
        version in "[a-z:]{0,3}",
        public in prop_oneof!["[A-Za-z0-9+/]{43}", Just("gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q".to_owned())],
    ) {
        let data = object! {
            "server_name" => "hub.example",
            "valid_until_ts" => valid_until,
            "verify_keys" => object! { format!("ed25519:{version}") => object! { "key" => public.as_str() } },
            "old_verify_keys" => object! { "ed25519:b" => object! { "key" => public, "expired_ts" => expired } },
        };
        crate::fuzzing::server_keys(&data.to_canonical());
    }
}
