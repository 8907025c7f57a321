//! From LPDU to PDU and back, and signatures added later. LM #int-lpdu, LM #int-api-invite.

use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_types::limits::MAX_EVENT_BYTES;

use super::*;
use crate::{Completion, Dropped, SignerRole, hashes};

#[test]
fn completing_adds_what_the_lpdu_lacks_and_changes_nothing_else() {
    let (before, after) = (lpdu().object().clone(), lpdu_pdu().object().clone());
    for (key, value) in &before {
        match key {
            "hashes" | "signatures" => {
                let after = after.get(key).and_then(Json::as_object).unwrap();
                assert!(
                    value
                        .as_object()
                        .unwrap()
                        .iter()
                        .all(|(inner, value)| after.get(inner) == Some(value))
                );
            }
            _ => assert_eq!(after.get(key), Some(value)),
        }
    }
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!(
        lpdu_pdu().bytes()[..],
        after.to_canonical(),
        "the bytes are the object's"
    );
    assert_eq!(
        hashes::reference_hash(&after),
        hashes::reference_hash(&lpdu_pdu().redacted())
    );
}

#[test]
fn author_finds_its_lpdu_in_the_pdu() {
    assert_eq!(lpdu_pdu().lpdu_id().as_ref(), Some(lpdu().lpdu_id()));
    assert_ne!(lpdu_pdu().event_id(), lpdu().lpdu_id());
    assert_eq!(
        lpdu_pdu().stated_lpdu_hash(),
        Some(&*nabe_signing::base64u::encode(&hashes::lpdu_hash(lpdu().object())))
    );
    assert_eq!(hub_pdu().lpdu_id(), None);
    assert_eq!(hub_pdu().stated_lpdu_hash(), None);
}

#[test]
fn only_the_hub_the_lpdu_was_made_for_can_complete_it() {
    let reason = lpdu()
        .complete(Completion::default(), &signer("third.example.org", 3))
        .unwrap_err();
    assert_eq!(reason, Dropped::WrongForm);
}

#[test]
fn pdu_over_the_limit_is_not_made() {
    let mut large = lpdu();
    let padding = MAX_EVENT_BYTES - large.bytes().len() - 100;
    large
        .event
        .object
        .insert("content", object! { "body" => "x".repeat(padding) });
    assert!(large.event.object.to_canonical().len() <= MAX_EVENT_BYTES);
    let completion = Completion {
        auth_events: vec![some_id(1)],
        prev_events: vec![some_id(2)],
    };
    assert!(matches!(large.complete(completion, &hub()), Err(Dropped::TooLarge { len }) if len > MAX_EVENT_BYTES));
}

#[test]
fn signatures_the_hub_did_not_check_do_not_reach_the_room() {
    let mut planted = lpdu().object().clone();
    let signatures = planted.get_mut("signatures").and_then(Json::as_object_mut).unwrap();
    signatures.insert("hub.example.org", object! { "ed25519:old" => "AAAA" });
    signatures.insert("third.example.org", object! { "ed25519:1" => "AAAA" });
    let own = signatures
        .get_mut("second.example.org")
        .and_then(Json::as_object_mut)
        .unwrap();
    own.insert("ed25519:unknown", "AAAA");
    let verified = raw(&planted).verify_lpdu(&keys()).unwrap();
    assert_eq!(verified.lpdu_id(), lpdu().lpdu_id());
    assert_eq!(complete(verified), lpdu_pdu());
}

#[test]
fn hub_signs_with_every_active_key() {
    let keys = ["ed25519:a", "ed25519:b"].map(|id| SigningKey::from_seed(KeyId::parse(id).unwrap(), [7; 32]));
    let hub = Signer::new(hub().server().clone(), keys.to_vec()).unwrap();
    let completion = Completion {
        auth_events: vec![some_id(1)],
        prev_events: vec![some_id(2)],
    };
    let pdu = lpdu().complete(completion, &hub).unwrap();
    assert_eq!(
        pdu.signatures_by(hub.server()).unwrap().keys().collect::<Vec<_>>(),
        ["ed25519:a", "ed25519:b"]
    );
}

#[test]
fn invited_server_countersigns_without_changing_the_event() {
    let target = signer("third.example.org", 3);
    let countersigned = lpdu_pdu().countersigned(&target).unwrap();
    assert_eq!(countersigned.event_id(), lpdu_pdu().event_id());
    assert!(countersigned.is_same_but_for_signatures(&lpdu_pdu()));
    assert_ne!(countersigned, lpdu_pdu());
    assert_eq!(countersigned.bytes()[..], countersigned.object().to_canonical());
    assert!(raw(countersigned.object()).verify_pdu(&keys()).is_ok());

    let mut target_keys = KeySet::new();
    target_keys.insert_signer(&target);
    assert_eq!(countersigned.verify_signature_by(target.server(), &target_keys), Ok(()));
    let not_signed = Dropped::NotSigned {
        role: SignerRole::Invited,
        server: target.server().clone(),
    };
    assert_eq!(
        lpdu_pdu().verify_signature_by(target.server(), &target_keys),
        Err(not_signed)
    );
}

#[test]
fn countersignature_covers_the_whole_pdu() {
    let target = signer("third.example.org", 3);
    let mut target_keys = KeySet::new();
    target_keys.insert_signer(&target);
    let countersigned = lpdu_pdu().countersigned(&target).unwrap();
    let signature = countersigned
        .signatures_by(target.server())
        .unwrap()
        .get("ed25519:1")
        .unwrap();
    let signature = nabe_signing::Signature::from_base64(signature.as_str().unwrap()).unwrap();
    let key = KeyId::parse("ed25519:1").unwrap();

    let pasted = lpdu_pdu()
        .with_extra_signature(target.server(), &key, &signature)
        .unwrap();
    assert_eq!(pasted, countersigned);
    let elsewhere = hub_pdu()
        .with_extra_signature(target.server(), &key, &signature)
        .unwrap();
    let bad = Dropped::BadSignature {
        role: SignerRole::Invited,
        server: target.server().clone(),
    };
    assert_eq!(elsewhere.verify_signature_by(target.server(), &target_keys), Err(bad));
}

#[test]
fn events_that_differ_in_more_than_signatures_are_told_apart() {
    let altered = with(lpdu_pdu().object(), "content", object! { "body" => "other" });
    let altered = Pdu::from_stored(&altered.to_canonical(), RULES).unwrap();
    assert_eq!(altered.event_id(), lpdu_pdu().event_id(), "the ID does not see it");
    assert!(!altered.is_same_but_for_signatures(&lpdu_pdu()));
    assert!(!hub_pdu().is_same_but_for_signatures(&lpdu_pdu()));
}

#[test]
fn stored_event_loads_as_it_was() {
    for pdu in [lpdu_pdu(), hub_pdu()] {
        let loaded = Pdu::from_stored(pdu.bytes(), RULES).unwrap();
        assert_eq!(loaded, pdu);
        assert_eq!(loaded.event_id(), pdu.event_id());
        assert_eq!(loaded.object(), pdu.object());
    }
}
