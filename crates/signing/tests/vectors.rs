//! The shared example file `lm-vectors.json`: keys, canonical JSON, request signatures and a key response, made by an
//! independent implementation. Its events are checked where events are.
//!
//! The file is looked for in `specs` under `NABE_SHARED` (default `../shared` beside the workspace). Without it the
//! tests say SKIPPED, or fail if `NABE_REQUIRE_ALL=1`.

#![expect(clippy::unwrap_used, reason = "a malformed example file must fail the tests")]

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use nabe_signing::xmatrix::{Bodyless, Request, RequestError, request_object, sign_request, verify_request};
use nabe_signing::{
    Json, KeySet, Object, PublicKey, ServerKeys, Signature, Signer, SigningKey, XMatrix, base64u, verify_object,
};
use nabe_types::{KeyId, ServerName, UnixMillis};

/// The file's content, or `None` if tests are to be skipped.
fn vectors() -> Option<Object> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("NABE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let path = workspace.join(shared).join("specs/lm-vectors.json");
    match std::fs::read(&path) {
        Ok(bytes) => Some(Object::parse(&bytes).expect("the file is strict JSON")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let required = std::env::var_os("NABE_REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!required, "no {} although NABE_REQUIRE_ALL=1", path.display());
            // Not `eprintln!`, which the test harness swallows.
            let line = format!("SKIPPED: no {}\n", path.display());
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object
        .get(key)
        .and_then(Json::as_str)
        .unwrap_or_else(|| panic!("no `{key}`"))
}

fn list<'a>(object: &'a Object, key: &str) -> Vec<&'a Object> {
    let elements = object
        .get(key)
        .and_then(Json::as_array)
        .unwrap_or_else(|| panic!("no `{key}`"));
    assert!(!elements.is_empty());
    elements.iter().map(|element| element.as_object().unwrap()).collect()
}

fn map<'a>(object: &'a Object, key: &str) -> &'a Object {
    object
        .get(key)
        .and_then(Json::as_object)
        .unwrap_or_else(|| panic!("no `{key}`"))
}

fn signer(vectors: &Object, server: &str) -> Signer {
    let key = map(map(vectors, "keys"), server);
    let seed = base64u::decode(text(key, "seed_b64")).unwrap().try_into().unwrap();
    let key = SigningKey::from_seed(KeyId::parse(text(key, "key_id")).unwrap(), seed);
    Signer::new(ServerName::parse(server).unwrap(), vec![key]).unwrap()
}

#[test]
fn public_keys_follow_from_the_seeds() {
    let Some(vectors) = vectors() else { return };
    for (server, key) in map(&vectors, "keys") {
        let public = PublicKey::from_base64(text(key.as_object().unwrap(), "public")).unwrap();
        assert_eq!(signer(&vectors, server).keys()[0].public(), public, "{server}");
    }
}

#[test]
fn canonical_json_is_the_same() {
    let Some(vectors) = vectors() else { return };
    for vector in list(&vectors, "canonical_json") {
        let json = Json::parse(text(vector, "in").as_bytes()).unwrap();
        assert_eq!(json.to_string(), text(vector, "rfc8785"));
    }
}

#[test]
fn request_signatures_are_the_same() {
    let Some(vectors) = vectors() else { return };
    for vector in list(&vectors, "request_auth") {
        let object = map(vector, "object");
        let signer = signer(&vectors, text(object, "origin"));
        let destination = ServerName::parse(text(object, "destination")).unwrap();
        let content = object.get("content").unwrap();
        let (method, uri) = (text(object, "method"), text(object, "uri"));
        let content = (method != "GET").then_some(content);
        let request = Request {
            method,
            uri,
            destination: &destination,
            content,
        };

        let rebuilt = request_object(method, uri, signer.server(), &destination, content);
        assert_eq!(rebuilt.to_string(), text(vector, "signing_bytes"));
        let headers = sign_request(&signer, &request);
        let sig = Signature::from_base64(text(vector, "sig")).unwrap();
        assert_eq!(
            headers
                .iter()
                .map(|header| XMatrix::parse(header).unwrap().sig)
                .collect::<Vec<_>>(),
            [sig]
        );

        let mut keys = KeySet::new();
        keys.insert_signer(&signer);
        let verify = |header: &XMatrix, bodyless| {
            verify_request(
                &request,
                std::slice::from_ref(header),
                &keys,
                UnixMillis::ZERO,
                bodyless,
            )
        };
        let mut header = XMatrix::parse(&headers[0]).unwrap();
        assert_eq!(verify(&header, Bodyless::EmptyObject).as_ref(), Ok(signer.server()));
        if let Some(value) = vector.get("header") {
            assert_eq!(value.as_str(), Some(headers[0].as_str()));
        }
        if let Some(omitted) = vector.get("sig_if_content_omitted_as_eigen_does") {
            header.sig = Signature::from_base64(omitted.as_str().unwrap()).unwrap();
            assert_eq!(verify(&header, Bodyless::EmptyObject), Err(RequestError::BadSignature));
            assert_eq!(
                verify(&header, Bodyless::EmptyObjectOrNone).as_ref(),
                Ok(signer.server())
            );
        }
    }
}

#[test]
fn key_response_is_the_same() {
    let Some(vectors) = vectors() else { return };
    let raw = map(&vectors, "server_key_response");
    let server = ServerName::parse(text(raw, "server_name")).unwrap();
    let signer = signer(&vectors, server.as_str());
    let keys = ServerKeys::parse(raw.clone(), &server).unwrap();
    assert_eq!(keys.verify_keys, signer.public_keys());
    assert!(keys.linearized);
    let own = nabe_signing::keys::own_key_response(&signer, &keys.old_verify_keys, keys.valid_until);
    assert_eq!(own, *raw);
}

#[test]
fn small_events_are_signed_as_objects() {
    let Some(vectors) = vectors() else { return };
    // Redaction keeps all of these three, so signing the event is signing the object.
    for vector in &list(&vectors, "events")[..3] {
        let pdu = map(vector, "pdu");
        let signer = signer(&vectors, "hub.example.org");
        assert_eq!(
            verify_object(pdu, "hub.example.org", &signer.public_keys()),
            Ok(()),
            "{}",
            text(vector, "name")
        );
    }
}
