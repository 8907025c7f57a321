//! Bodies of fuzz targets: each takes any bytes, runs a reader over them and asserts what must hold of the result.
//! A panic here is a bug in this crate.

use nabe_types::{KeyId, ServerName, UnixMillis};

use crate::ed25519::SigningKey;
use crate::json::{Json, Object};
use crate::keys::{KeySet, ServerKeys};
use crate::object;
use crate::sign::Signer;
use crate::xmatrix::XMatrix;

/// What reads as JSON reads back from its canonical form, which is its own canonical form.
pub fn canonical_json(data: &[u8]) {
    let Ok(json) = Json::parse(data) else { return };
    let canonical = json.to_canonical();
    let again = Json::parse(&canonical).expect("the canonical form is JSON");
    assert_eq!(again, json, "the canonical form means the same");
    assert_eq!(again.to_canonical(), canonical, "the canonical form is canonical");
}

/// What reads as a header reads back from what it is printed as.
pub fn x_matrix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(header) = XMatrix::parse(text) else { return };
    assert_eq!(
        XMatrix::parse(&header.to_string()).as_ref(),
        Ok(&header),
        "printing loses nothing"
    );
}

/// No object is accepted as a key response unless signed; one that is signed keeps its promises.
pub fn server_keys(data: &[u8]) {
    let Ok(mut raw) = Object::parse(data) else { return };
    let name = raw.get("server_name").and_then(Json::as_str).unwrap_or_default();
    let Ok(server) = ServerName::parse(name) else { return };
    if let Ok(keys) = ServerKeys::parse(raw.clone(), &server) {
        check_server_keys(&keys);
    }
    // The fuzzer cannot sign; do it for it, so that it gets past the signature.
    let key_id = KeyId::parse("ed25519:fuzz").expect("a constant key ID");
    let signer = Signer::new(server.clone(), vec![SigningKey::from_seed(key_id.clone(), [7; 32])]).expect("one key");
    let public = signer.keys()[0].public().to_base64();
    if let Some(listed) = raw.get_mut("verify_keys").and_then(Json::as_object_mut) {
        listed.insert(key_id.as_str(), object! { "key" => public });
    }
    signer.sign_object(&mut raw);
    if let Ok(keys) = ServerKeys::parse(raw, &server) {
        check_server_keys(&keys);
    }
}

fn check_server_keys(keys: &ServerKeys) {
    assert_eq!(
        ServerKeys::parse(keys.raw.clone(), &keys.server).as_ref(),
        Ok(keys),
        "reading is repeatable"
    );
    let fetched_at = UnixMillis(1_700_000_000_000);
    let valid_until = keys.effective_valid_until(fetched_at);
    let mut set = KeySet::new();
    set.insert_server_keys(keys, fetched_at);
    for (key_id, key) in &keys.verify_keys {
        assert_eq!(
            set.for_event(&keys.server, key_id, valid_until),
            Some(key),
            "a current key verifies until its end"
        );
        let after = UnixMillis(valid_until.as_u64() + 1);
        assert_eq!(
            set.for_event(&keys.server, key_id, after),
            None,
            "a current key verifies nothing later"
        );
        assert_eq!(
            set.for_request(&keys.server, key_id, after),
            None,
            "an expired key authenticates nothing"
        );
    }
    for (key_id, (key, expired)) in &keys.old_verify_keys {
        assert_eq!(
            set.for_event(&keys.server, key_id, *expired),
            Some(key),
            "an old key verifies what is older"
        );
        assert_eq!(
            set.for_request(&keys.server, key_id, UnixMillis::ZERO),
            None,
            "an old key authenticates nothing"
        );
    }
}
