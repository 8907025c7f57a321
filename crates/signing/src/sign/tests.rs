use super::*;
use crate::object;

fn key(id: &str, byte: u8) -> SigningKey {
    SigningKey::from_seed(KeyId::parse(id).unwrap(), [byte; 32])
}

fn signer(keys: Vec<SigningKey>) -> Signer {
    Signer::new(ServerName::parse("hub.example").unwrap(), keys).unwrap()
}

fn one_key() -> Signer {
    signer(vec![key("ed25519:1", 1)])
}

fn two_keys() -> Signer {
    signer(vec![key("ed25519:1", 1), key("ed25519:2", 2)])
}

fn signed(by: &Signer) -> Object {
    let mut object = object! { "b" => 50, "a" => "x" };
    by.sign_object(&mut object);
    object
}

/// Puts `signature` where the first key's is.
fn replace_signature(object: &mut Object, signature: impl Into<Json>) {
    let by_key = object_at(object_at(object, "signatures"), "hub.example");
    by_key.insert("ed25519:1", signature);
}

#[test]
fn signed_object_verifies() {
    let object = signed(&one_key());
    assert_eq!(verify_object(&object, "hub.example", &one_key().public_keys()), Ok(()));
    let message = br#"{"a":"x","b":50}"#;
    let signature = one_key().keys()[0].sign(message).to_base64();
    let expected = object! {
        "a" => "x",
        "b" => 50,
        "signatures" => object! { "hub.example" => object! { "ed25519:1" => signature } },
    };
    assert_eq!(object, expected);
}

#[test]
fn signer_needs_a_key() {
    assert_eq!(
        Signer::new(ServerName::parse("hub.example").unwrap(), vec![]).unwrap_err(),
        NoSigningKey
    );
}

#[test]
fn every_active_key_signs() {
    let object = signed(&two_keys());
    let both = two_keys().public_keys();
    assert_eq!(both.len(), 2);
    for (key_id, public) in &both {
        let only_this = KeyMap::from([(key_id.clone(), *public)]);
        assert_eq!(verify_object(&object, "hub.example", &only_this), Ok(()), "{key_id}");
    }
}

#[test]
fn signatures_are_not_signed() {
    let mut object = signed(&one_key());
    let other = Signer::new(ServerName::parse("other.example").unwrap(), vec![key("ed25519:x", 9)]).unwrap();
    other.sign_object(&mut object);
    assert_eq!(verify_object(&object, "hub.example", &one_key().public_keys()), Ok(()));
    assert_eq!(verify_object(&object, "other.example", &other.public_keys()), Ok(()));
}

#[test]
fn changed_object_fails() {
    let mut object = signed(&one_key());
    object.insert("a", "y");
    assert_eq!(
        verify_object(&object, "hub.example", &one_key().public_keys()),
        Err(SignatureError::Invalid)
    );
    object.insert("a", "x");
    object.insert("c", Json::Null);
    assert_eq!(
        verify_object(&object, "hub.example", &one_key().public_keys()),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn known_key_that_fails_spoils_the_check() {
    let mut object = signed(&two_keys());
    replace_signature(&mut object, key("ed25519:1", 1).sign(b"other").to_base64());
    assert_eq!(
        verify_object(&object, "hub.example", &two_keys().public_keys()),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn unknown_keys_do_not_count() {
    let mut object = signed(&two_keys());
    replace_signature(&mut object, "not even base64");
    object_at(object_at(&mut object, "signatures"), "hub.example").insert("no key id", "x");
    let known = KeyMap::from([(KeyId::parse("ed25519:2").unwrap(), key("ed25519:2", 2).public())]);
    assert_eq!(verify_object(&object, "hub.example", &known), Ok(()));
    assert_eq!(
        verify_object(&object, "hub.example", &KeyMap::new()),
        Err(SignatureError::NoKnownKey)
    );
}

#[test]
fn each_way_to_be_malformed_is_told_apart() {
    let keys = one_key().public_keys();
    let check = |object: &Object| verify_object(object, "hub.example", &keys);
    let mut object = object! { "a" => 1 };
    assert_eq!(check(&object), Err(SignatureError::Missing));
    for malformed in [
        Json::Null,
        "x".into(),
        vec!["x"].into(),
        object! { "hub.example" => "x" }.into(),
    ] {
        object.insert("signatures", malformed);
        assert_eq!(check(&object), Err(SignatureError::Malformed), "{object}");
    }
    for absent in [object! {}, object! { "HUB.example" => object! {} }] {
        object.insert("signatures", absent);
        assert_eq!(check(&object), Err(SignatureError::EntityAbsent), "{object}");
    }
    object.insert("signatures", object! { "hub.example" => object! {} });
    assert_eq!(check(&object), Err(SignatureError::NoKnownKey));
    replace_signature(&mut object, 7);
    assert_eq!(check(&object), Err(SignatureError::Malformed));
    for text in ["", "?", "AAAA"] {
        replace_signature(&mut object, text);
        assert_eq!(check(&object), Err(SignatureError::Base64), "{text}");
    }
}

#[test]
fn padded_signature_is_accepted() {
    let mut object = signed(&one_key());
    let signature = one_key().keys()[0].sign(br#"{"a":"x","b":50}"#);
    replace_signature(&mut object, format!("{signature}=="));
    assert_eq!(verify_object(&object, "hub.example", &one_key().public_keys()), Ok(()));
}

#[test]
fn signing_replaces_malformed_signatures() {
    for malformed in [Json::from("x"), object! { "hub.example" => 7 }.into()] {
        let mut object = object! { "a" => 1, "signatures" => malformed };
        one_key().sign_object(&mut object);
        assert_eq!(verify_object(&object, "hub.example", &one_key().public_keys()), Ok(()));
    }
}
