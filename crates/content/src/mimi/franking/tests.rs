use nabe_signing::SigningKey;
use nabe_types::KeyId;
use proptest::prelude::*;

use super::*;
use crate::mimi::{NestedPart, Salt};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const SUITE: CipherSuite = CipherSuite(1);

fn origin() -> Origin {
    Origin::new("mimi://b.example/u/bob", "mimi://a.example/r/fish").unwrap()
}

fn agent() -> SigningKey {
    SigningKey::from_seed(KeyId::ed25519("x").unwrap(), [1; 32])
}

fn keys() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add(UnixMillis(0), HubKey::from_random([2; 32]));
    keys
}

/// A message, its tag and its frank.
struct Stamped {
    message: Vec<u8>,
    tag: FrankingTag,
    frank: Frank,
}

fn stamped() -> Stamped {
    stamp_in(&keys(), NOW)
}

fn stamp_in(keys: &KeyRing, accepted: UnixMillis) -> Stamped {
    let content = MimiContent::new(Salt::from_random([7; 16]), &origin(), NestedPart::text("You fish!"));
    let message = content.encode().unwrap();
    let tag = FrankingTag::compute(&content.salt, &message);
    let context = FrankingContext {
        origin: origin(),
        accepted,
    };
    let sign = |signed: &[u8]| agent().sign(signed).to_bytes().to_vec();
    let frank = Frank::stamp(keys, SUITE, &tag, &context, sign).unwrap();
    Stamped { message, tag, frank }
}

fn known(origin: &Origin) -> Known<'_> {
    Known {
        origin,
        accepted: NOW,
        cipher_suite: SUITE,
    }
}

fn receive(stamped: &Stamped, known: &Known<'_>) -> Result<FrankingContext, FrankError> {
    let verify = ed25519(agent().public());
    stamped
        .frank
        .verify_received(&stamped.tag, &stamped.message, known, verify)
}

fn report(stamped: &Stamped, accepted: UnixMillis, keys: &KeyRing) -> Result<FrankingContext, FrankError> {
    let verify = ed25519(agent().public());
    stamped.frank.verify_report(&stamped.message, accepted, keys, verify)
}

#[test]
fn an_honest_frank_is_verified_by_receiver_and_hub() {
    let context = FrankingContext {
        origin: origin(),
        accepted: NOW,
    };
    assert_eq!(receive(&stamped(), &known(&origin())), Ok(context.clone()));
    assert_eq!(report(&stamped(), NOW, &keys()), Ok(context));
}

#[test]
fn a_receiver_notices_whatever_was_changed_on_the_way() {
    let bob = origin();
    let honest = known(&bob);
    let mut late = honest;
    late.accepted = UnixMillis(NOW.0 + 1);
    assert_eq!(receive(&stamped(), &late), Err(FrankError::Signature));

    let mut suite = honest;
    suite.cipher_suite = CipherSuite(2);
    assert_eq!(
        receive(&stamped(), &suite),
        Err(FrankError::CipherSuite { expected: 2, found: 1 })
    );

    let mut frank = stamped();
    frank.frank.server_frank[0] ^= 1;
    assert_eq!(receive(&frank, &honest), Err(FrankError::Signature));

    let mut signature = stamped();
    signature.frank.integrity_signature.pop();
    assert_eq!(receive(&signature, &honest), Err(FrankError::Signature));

    let mut tag = stamped();
    tag.tag.0[31] ^= 1;
    assert_eq!(receive(&tag, &honest), Err(FrankError::Tag));
}

#[test]
fn the_message_must_name_who_sent_it_and_where() {
    let mallory = Origin::new("mimi://m.example/u/mallory", origin().room()).unwrap();
    assert_eq!(receive(&stamped(), &known(&mallory)), Err(FrankError::Sender));
    let elsewhere = Origin::new(origin().sender(), "mimi://a.example/r/cats").unwrap();
    assert_eq!(receive(&stamped(), &known(&elsewhere)), Err(FrankError::Room));
    let mut nameless = MimiContent::decode(&stamped().message).unwrap();
    nameless.extensions = crate::mimi::Extensions::new();
    let mut stamped = stamped();
    stamped.message = nameless.encode().unwrap();
    assert_eq!(receive(&stamped, &known(&origin())), Err(FrankError::NoClaims));
    stamped.message = b"\x87nonsense".to_vec();
    assert!(matches!(
        receive(&stamped, &known(&origin())),
        Err(FrankError::Content(_))
    ));
    stamped.message = b"\x0aimage/jpegxxx".to_vec();
    assert_eq!(receive(&stamped, &known(&origin())), Err(FrankError::Framing));
}

#[test]
fn a_hub_notices_whatever_a_report_changes() {
    assert_eq!(
        report(&stamped(), UnixMillis(NOW.0 - 1), &keys()),
        Err(FrankError::ServerFrank)
    );

    let mut words = stamped();
    let last = words.message.len() - 2;
    words.message[last] ^= 1;
    assert_eq!(report(&words, NOW, &keys()), Err(FrankError::ServerFrank));

    let mut sender = MimiContent::decode(&stamped().message).unwrap();
    let alice = super::super::cbor::CborValue::text("mimi://a.example/u/alice");
    sender
        .extensions
        .insert(super::super::ExtensionKey::SENDER_URI, alice)
        .unwrap();
    let mut framed = stamped();
    framed.message = sender.encode().unwrap();
    assert_eq!(report(&framed, NOW, &keys()), Err(FrankError::ServerFrank));

    let mut signature = stamped();
    signature.frank.integrity_signature[0] ^= 1;
    assert_eq!(report(&signature, NOW, &keys()), Err(FrankError::Signature));

    let mut other = KeyRing::new();
    assert_eq!(report(&stamped(), NOW, &other), Err(FrankError::ServerFrank));
    other.add(UnixMillis(0), HubKey::from_random([3; 32]));
    assert_eq!(report(&stamped(), NOW, &other), Err(FrankError::ServerFrank));
}

#[test]
fn old_reports_are_verified_with_old_keys() {
    let mut keys = KeyRing::new();
    keys.add(UnixMillis(2000), HubKey::from_random([2; 32]));
    keys.add(UnixMillis(1000), HubKey::from_random([1; 32]));
    assert_eq!(keys.current(UnixMillis(999)), None);
    assert_eq!(keys.current(UnixMillis(1000)), Some(&HubKey::from_random([1; 32])));
    assert_eq!(keys.current(UnixMillis(1999)), Some(&HubKey::from_random([1; 32])));
    assert_eq!(keys.current(UnixMillis(2000)), Some(&HubKey::from_random([2; 32])));
    let old = stamp_in(&keys, UnixMillis(1500));
    keys.add(UnixMillis(1400), HubKey::from_random([9; 32]));
    // Not the key for its time any more, but still on the ring.
    assert!(report(&old, UnixMillis(1500), &keys).is_ok());
    assert_eq!(format!("{keys:?}").matches("[9").count(), 0, "no key in logs");
}

#[test]
fn no_key_no_frank() {
    let context = FrankingContext {
        origin: origin(),
        accepted: NOW,
    };
    let frank = Frank::stamp(&KeyRing::new(), SUITE, &FrankingTag([0; 32]), &context, <[u8]>::to_vec);
    assert_eq!(frank, None);
}

#[test]
fn ed25519_signs_for_the_suites_that_have_it() {
    let verify = ed25519(agent().public());
    let signature = agent().sign(b"x").to_bytes();
    for (suite, verified) in [(1, true), (3, true), (2, false), (7, false)] {
        assert_eq!(verify(CipherSuite(suite), b"x", &signature), verified, "suite {suite}");
    }
    assert!(!verify(SUITE, b"y", &signature));
}

#[test]
fn the_agent_must_be_the_hub() {
    assert!(is_hub("mimi://a.example", "mimi://A.example/r/fish"));
    for agent in [
        "mimi://b.example",
        "mimi://a.example.evil",
        "a.example",
        "",
        "mimi:///r/fish",
    ] {
        assert!(!is_hub(agent, "mimi://a.example/r/fish"), "{agent}");
    }
    assert!(!is_hub("mimi://", "mimi://"));
}

#[test]
fn framing_has_the_media_type_and_is_taken_off_again() {
    let framed = application_framing(b"\x87x");
    assert_eq!(framed, b"\x18application/mimi-content\x00\x02\x87x");
    assert_eq!(unframe(&framed), Ok(&b"\x87x"[..]));
    assert_eq!(unframe(b"\x87x"), Ok(&b"\x87x"[..]));
    let without_type = b"\x00\x00\x02\x87x";
    assert_eq!(unframe(without_type), Ok(&b"\x87x"[..]), "it is of the group's first");
    for wrong in [
        &b""[..],
        b"\x00\x00\x01\x87x",
        b"\x18application/mimi-content\x00\x02\x87",
        b"\x18application/mimi-content\x00\x01\x87x",
        b"\x0aimage/jpeg\x00\x02\x87x",
        b"\x18application/mimi-content\x40\x00\x02\x87x",
        b"\xc0",
    ] {
        assert_eq!(unframe(wrong), Err(FrankError::Framing), "{wrong:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn vectors_of_any_length_read_as_written(length in prop_oneof![0_usize..70, 16_380_usize..16_390, 70_usize..20_000]) {
        let bytes = vec![7; length];
        let mut out = Vec::new();
        write_vector(&mut out, &bytes);
        out.push(9);
        let mut rest = &out[..];
        prop_assert_eq!(read_vector(&mut rest), Some(&bytes[..]));
        prop_assert_eq!(rest, &[9]);
    }
}
