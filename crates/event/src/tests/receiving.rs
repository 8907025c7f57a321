//! Steps 2 and 3: signatures and content hashes. LM #int-receiving-events, LM #int-checking-signatures.

use nabe_signing::json::Json;
use nabe_signing::keys::{OldKeyMap, ServerKeys, VerifyKey, own_key_response};
use nabe_signing::{base64u, object};

use super::*;
use crate::{Dropped, SignerRole};

fn bad(role: SignerRole, by: &Signer) -> Dropped {
    Dropped::BadSignature {
        role,
        server: by.server().clone(),
    }
}

fn not_signed(role: SignerRole, by: &Signer) -> Dropped {
    Dropped::NotSigned {
        role,
        server: by.server().clone(),
    }
}

/// `event` with `signatures[server]["ed25519:1"]` replaced.
fn with_signature(event: &Object, server: &str, signature: &str) -> Object {
    let mut signatures = event.get("signatures").and_then(Json::as_object).unwrap().clone();
    signatures.insert(server, object! { "ed25519:1" => signature });
    with(event, "signatures", signatures)
}

fn unsigned_by(event: &Object, server: &str) -> Object {
    let mut signatures = event.get("signatures").and_then(Json::as_object).unwrap().clone();
    signatures.remove(server);
    with(event, "signatures", signatures)
}

fn signature_of(event: &Object, server: &str) -> String {
    let signatures = event.get("signatures").and_then(Json::as_object).unwrap();
    let own = signatures.get(server).and_then(Json::as_object).unwrap();
    own.get("ed25519:1").and_then(Json::as_str).unwrap().to_owned()
}

#[test]
fn required_signers_depend_on_the_form_and_the_hub() {
    let (sender, hub_name) = (participant().server().clone(), hub().server().clone());
    assert_eq!(
        raw(lpdu().object()).required_signers(),
        [(sender.clone(), SignerRole::Sender)]
    );
    assert_eq!(
        raw(lpdu_pdu().object()).required_signers(),
        [(sender, SignerRole::Sender), (hub_name.clone(), SignerRole::Hub)]
    );
    assert_eq!(
        raw(hub_pdu().object()).required_signers(),
        [(hub_name, SignerRole::Sender)]
    );
}

#[test]
fn required_keys_are_those_the_required_signers_name() {
    let mut event = with_signature(lpdu_pdu().object(), "third.example.org", "AAAA");
    let signatures = event.get_mut("signatures").and_then(Json::as_object_mut).unwrap();
    let own = signatures
        .get_mut("second.example.org")
        .and_then(Json::as_object_mut)
        .unwrap();
    own.insert("ed25519:2", "AAAA");
    own.insert("rsa:1", "AAAA");
    own.insert("nonsense", "AAAA");
    let keys: Vec<_> = raw(&event)
        .required_keys()
        .into_iter()
        .map(|(server, key)| format!("{server} {key}"))
        .collect();
    assert_eq!(
        keys,
        [
            "hub.example.org ed25519:1",
            "second.example.org ed25519:1",
            "second.example.org ed25519:2"
        ]
    );
}

#[test]
fn well_signed_events_pass_unredacted() {
    let verified = raw(lpdu().object()).verify_lpdu(&keys()).unwrap();
    assert!(!verified.was_redacted());
    assert_eq!(verified.bytes(), lpdu().bytes());
    assert_eq!(verified.lpdu_id(), lpdu().lpdu_id());
    for pdu in [lpdu_pdu(), hub_pdu()] {
        let verified = raw(pdu.object()).verify_pdu(&keys()).unwrap();
        assert!(!verified.was_redacted());
        assert_eq!(verified.event_id(), pdu.event_id());
        assert_eq!(verified.into_pdu(), pdu);
    }
}

#[test]
fn lpdu_with_wrong_lpdu_hash_and_good_signature_is_redacted() {
    // The content is not signed, only its hash is.
    let altered = with(lpdu().object(), "content", object! { "body" => "something else" });
    let verified = raw(&altered).verify_lpdu(&keys()).unwrap();
    assert!(verified.was_redacted());
    assert_eq!(verified.lpdu_id(), lpdu().lpdu_id(), "redaction keeps the ID");
    assert_eq!(verified.content(), &object! {});
    assert_eq!(verified.bytes(), lpdu().redacted().to_canonical());

    // The hub appends the redacted copy; every participant comes to the same event.
    let pdu = complete(verified);
    assert_eq!(pdu.content(), &object! {});
    let received = raw(pdu.object()).verify_pdu(&keys()).unwrap();
    assert_eq!(received.event_id(), pdu.event_id());
    assert_eq!(received.into_pdu(), pdu);
}

#[test]
fn pdu_with_altered_content_is_redacted() {
    for pdu in [lpdu_pdu(), hub_pdu()] {
        let altered = with(pdu.object(), "content", object! { "body" => "something else" });
        let verified = raw(&altered).verify_pdu(&keys()).unwrap();
        assert!(verified.was_redacted());
        assert_eq!(verified.event_id(), pdu.event_id());
        assert_eq!(verified.into_pdu().bytes()[..], pdu.redacted().to_canonical());
    }
}

#[test]
fn pdu_whose_hub_lied_about_the_lpdu_is_redacted() {
    // The hub alters the content and hashes and signs the result: only the LPDU's hash tells.
    let altered = with(lpdu().object(), "content", object! { "body" => "something else" });
    let mut event = lpdu();
    event.event.object = altered;
    let pdu = complete(event);
    let verified = raw(pdu.object()).verify_pdu(&keys()).unwrap();
    assert!(verified.was_redacted());
    assert_eq!(verified.content(), &object! {});
}

#[test]
fn unknown_field_added_on_the_way_leads_to_the_redacted_copy() {
    let verified = raw(&with(hub_pdu().object(), "extra", 1)).verify_pdu(&keys()).unwrap();
    assert!(verified.was_redacted());
    assert!(verified.object().get("extra").is_none());
}

#[test]
fn fields_deployed_servers_add_to_served_events_are_taken_off() {
    for pdu in [lpdu_pdu(), hub_pdu()] {
        let served = with(pdu.object(), "event_id", pdu.event_id());
        let served = with(&served, "unsigned", object! { "age" => 5 });
        let verified = raw(&served).verify_pdu(&keys()).unwrap();
        assert!(!verified.was_redacted());
        assert_eq!(verified.into_pdu(), pdu);
        // They do not hide an alteration.
        let altered = with(&served, "content", object! { "body" => "something else" });
        assert!(raw(&altered).verify_pdu(&keys()).unwrap().was_redacted());
    }
}

#[test]
fn hash_that_is_not_base64_counts_as_wrong() {
    let event = with(hub_pdu().object(), "hashes", object! { "sha256" => "not base64!" });
    let unsigned = without(&event, "signatures");
    let mut signed = redacted_and_signed(&unsigned);
    signed.insert("content", hub_pdu().content().clone());
    assert!(raw(&signed).verify_pdu(&keys()).unwrap().was_redacted());
}

/// `event` redacted and signed by the hub as it stands.
fn redacted_and_signed(event: &Object) -> Object {
    let mut event = crate::redact(event, RULES);
    hub().sign_object(&mut event);
    event
}

#[test]
fn signature_covers_what_redaction_keeps() {
    let altered = with(lpdu().object(), "origin_server_ts", 5);
    assert_eq!(
        raw(&altered).verify_lpdu(&keys()).unwrap_err(),
        bad(SignerRole::Sender, &participant())
    );
    let altered = with(hub_pdu().object(), "prev_events", vec![some_id(9)]);
    assert_eq!(
        raw(&altered).verify_pdu(&keys()).unwrap_err(),
        bad(SignerRole::Sender, &hub())
    );
}

#[test]
fn senders_signature_covers_the_lpdu_and_the_hubs_the_pdu() {
    // What the hub adds is the hub's word alone.
    let altered = with(lpdu_pdu().object(), "prev_events", vec![some_id(9)]);
    assert_eq!(
        raw(&altered).verify_pdu(&keys()).unwrap_err(),
        bad(SignerRole::Hub, &hub())
    );
    let altered = with(lpdu_pdu().object(), "origin_server_ts", 5);
    assert_eq!(
        raw(&altered).verify_pdu(&keys()).unwrap_err(),
        bad(SignerRole::Sender, &participant())
    );
}

#[test]
fn every_required_signature_must_be_there() {
    for (server, reason) in [
        ("second.example.org", not_signed(SignerRole::Sender, &participant())),
        ("hub.example.org", not_signed(SignerRole::Hub, &hub())),
    ] {
        let event = unsigned_by(lpdu_pdu().object(), server);
        assert_eq!(raw(&event).verify_pdu(&keys()).unwrap_err(), reason);
        let event = with(&event, "signatures", with(&object! {}, server, "not an object"));
        assert!(matches!(
            raw(&event).verify_pdu(&keys()),
            Err(Dropped::NotSigned { .. })
        ));
    }
}

#[test]
fn signature_that_cannot_be_decoded_is_bad() {
    for signature in ["", "AAAA", "%", "=="] {
        let event = with_signature(hub_pdu().object(), "hub.example.org", signature);
        assert_eq!(
            raw(&event).verify_pdu(&keys()).unwrap_err(),
            bad(SignerRole::Sender, &hub()),
            "{signature:?}"
        );
    }
}

#[test]
fn padded_signature_and_hash_are_accepted() {
    let padded = format!("{}==", signature_of(hub_pdu().object(), "hub.example.org"));
    let event = with_signature(hub_pdu().object(), "hub.example.org", &padded);
    assert!(!raw(&event).verify_pdu(&keys()).unwrap().was_redacted());

    let hash = hub_pdu()
        .object()
        .get("hashes")
        .and_then(Json::as_object)
        .unwrap()
        .get("sha256")
        .unwrap()
        .clone();
    let hash = format!("{}=", hash.as_str().unwrap());
    assert_eq!(base64u::decode(&hash).unwrap().len(), 32);
    let event = with(hub_pdu().object(), "hashes", object! { "sha256" => hash });
    let event = with(&redacted_and_signed(&event), "content", hub_pdu().content().clone());
    assert!(!raw(&event).verify_pdu(&keys()).unwrap().was_redacted());
}

#[test]
fn bogus_signature_of_an_unrelated_server_is_ignored() {
    for junk in [
        Json::from(object! { "ed25519:1" => "AAAA" }),
        Json::from("junk"),
        Json::Null,
    ] {
        let mut signatures = lpdu_pdu()
            .object()
            .get("signatures")
            .and_then(Json::as_object)
            .unwrap()
            .clone();
        signatures.insert("unrelated.example.org", junk);
        let event = with(lpdu_pdu().object(), "signatures", signatures);
        assert!(!raw(&event).verify_pdu(&keys()).unwrap().was_redacted());
    }
}

#[test]
fn unknown_key_beside_a_known_one_does_not_count() {
    let mut event = hub_pdu().object().clone();
    let signatures = event.get_mut("signatures").and_then(Json::as_object_mut).unwrap();
    let own = signatures
        .get_mut("hub.example.org")
        .and_then(Json::as_object_mut)
        .unwrap();
    own.insert("ed25519:unknown", "AAAA");
    assert!(raw(&event).verify_pdu(&keys()).is_ok());
}

#[test]
fn unknown_key_alone_is_unavailable_not_invalid() {
    let mut only_hub = KeySet::new();
    only_hub.insert_signer(&hub());
    let reason = raw(lpdu_pdu().object()).verify_pdu(&only_hub).unwrap_err();
    let key = KeyId::parse("ed25519:1").unwrap();
    assert_eq!(
        reason,
        Dropped::KeysUnavailable {
            server: participant().server().clone(),
            keys: vec![key]
        }
    );
    assert!(reason.is_for_want_of_keys());
    assert!(!bad(SignerRole::Hub, &hub()).is_for_want_of_keys());
}

#[test]
fn event_signed_with_a_key_retired_before_its_time_is_dropped_and_after_accepted() {
    let time = hub_pdu().origin_server_ts();
    let with_old_key = |expired: UnixMillis| {
        let key = hub().keys()[0].clone();
        let new = SigningKey::from_seed(KeyId::parse("ed25519:2").unwrap(), [9; 32]);
        let now_signing = Signer::new(hub().server().clone(), vec![new]).unwrap();
        let old: OldKeyMap = [(key.key_id().clone(), (key.public(), expired))].into();
        let response = own_key_response(&now_signing, &old, UnixMillis(time.as_u64() + 1_000));
        let mut keys = KeySet::new();
        keys.insert_server_keys(&ServerKeys::parse(response, hub().server()).unwrap(), time);
        keys
    };
    let verify = |keys: KeySet| raw(hub_pdu().object()).verify_pdu(&keys).map(|_| ());
    assert_eq!(
        verify(with_old_key(UnixMillis(time.as_u64() - 1))),
        Err(Dropped::KeyExpired {
            server: hub().server().clone()
        })
    );
    assert_eq!(verify(with_old_key(time)), Ok(()));
    assert_eq!(verify(with_old_key(UnixMillis(time.as_u64() + 1))), Ok(()));
}

#[test]
fn key_known_only_from_a_stale_response_is_unavailable() {
    let key = hub().keys()[0].clone();
    let mut keys = KeySet::new();
    let stale = VerifyKey {
        key: key.public(),
        valid_until: UnixMillis(5),
        old: false,
    };
    keys.insert(hub().server().clone(), key.key_id().clone(), stale);
    assert!(
        raw(hub_pdu().object())
            .verify_pdu(&keys)
            .unwrap_err()
            .is_for_want_of_keys()
    );
}

#[test]
fn lpdu_is_not_taken_for_a_pdu_nor_the_reverse() {
    // An LPDU delivered to a server that is not the hub.
    assert_eq!(
        raw(lpdu().object()).verify_pdu(&keys()).unwrap_err(),
        Dropped::WrongForm
    );
    assert_eq!(
        raw(hub_pdu().object()).verify_lpdu(&keys()).unwrap_err(),
        Dropped::WrongForm
    );
    assert_eq!(Pdu::from_stored(lpdu().bytes(), RULES).unwrap_err(), Dropped::WrongForm);
}

#[test]
fn event_of_the_hubs_own_user_with_hub_server_needs_the_hubs_signature_only() {
    let lpdu = builder("m.room.message", "@alice:hub.example.org", object! { "body" => "hi" })
        .build_lpdu(&hub(), hub().server(), RULES)
        .unwrap();
    let lpdu = raw(lpdu.object()).verify_lpdu(&keys()).unwrap();
    let pdu = complete(lpdu);
    assert_eq!(
        raw(pdu.object()).required_signers(),
        [(hub().server().clone(), SignerRole::Sender)]
    );
    assert!(!raw(pdu.object()).verify_pdu(&keys()).unwrap().was_redacted());
}
