use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ed25519::SigningKey;
use crate::keys::{OldKeyMap, ServerKeys, VerifyKey, own_key_response};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn signer(server: &str, keys: &[(&str, u8)]) -> Signer {
    let key = |&(id, byte): &(&str, u8)| SigningKey::from_seed(KeyId::parse(id).unwrap(), [byte; 32]);
    Signer::new(name(server), keys.iter().map(key).collect()).unwrap()
}

fn sender() -> Signer {
    signer("origin.example", &[("ed25519:1", 1)])
}

/// What the sender publishes, fetched at [`NOW`] and valid for a day.
fn published(signer: &Signer) -> KeySet {
    let valid_until = NOW.plus(Duration::from_secs(86_400));
    let response = own_key_response(signer, &OldKeyMap::new(), valid_until);
    let mut keys = KeySet::new();
    keys.insert_server_keys(&ServerKeys::parse(response, signer.server()).unwrap(), NOW);
    keys
}

fn sig() -> String {
    sender().keys()[0].sign(b"").to_base64()
}

fn parsed(value: &str) -> XMatrix {
    XMatrix::parse(value).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn expected() -> XMatrix {
    XMatrix {
        origin: name("origin.example"),
        destination: Some(name("hub.example")),
        key: KeyId::parse("ed25519:1").unwrap(),
        sig: sender().keys()[0].sign(b""),
    }
}

#[test]
fn header_is_printed_as_the_example_has_it() {
    let value = format!(
        "X-Matrix origin=\"origin.example\",destination=\"hub.example\",key=\"ed25519:1\",sig=\"{}\"",
        sig()
    );
    assert_eq!(expected().to_string(), value);
    assert_eq!(parsed(&value), expected());
}

#[test]
fn all_legal_spellings_are_read() {
    let sig = sig();
    for value in [
        format!("X-Matrix sig=\"{sig}\",key=\"ed25519:1\",destination=\"hub.example\",origin=\"origin.example\""),
        format!("X-Matrix origin=origin.example,destination=hub.example,key=\"ed25519:1\",signature=\"{sig}\""),
        format!("x-mATRIX Origin=origin.example,DESTINATION=hub.example,Key=\"ed25519:1\",SIG=\"{sig}\""),
        format!(
            "X-Matrix   origin = origin.example ,\t destination\t=\thub.example, key=\"ed25519:1\" , sig=\"{sig}\"  "
        ),
        format!("X-Matrix ,, origin=origin.example,,destination=hub.example,key=\"ed25519:1\",sig=\"{sig}\", ,"),
        format!("X-Matrix origin=\"or\\igin.ex\\ample\",destination=\"hub.example\",key=\"ed25519\\:1\",sig=\"{sig}\""),
        format!(
            "X-Matrix origin=origin.example,destination=hub.example,key=\"ed25519:1\",sig=\"{sig}\",extra=\"a,\\\"b=c\\\\\""
        ),
        format!(
            "X-Matrix origin=origin.example,destination=hub.example,key=\"ed25519:1\",sig=\"{sig}\",signature=\"{sig}\""
        ),
        format!("X-Matrix origin=origin.example,destination=hub.example,key=\"ed25519:1\",sig=\"{sig}==\""),
        format!("X-Matrix note=\"ü\",origin=origin.example,destination=hub.example,key=\"ed25519:1\",sig=\"{sig}\""),
    ] {
        assert_eq!(parsed(&value), expected(), "{value}");
    }
}

#[test]
fn colons_are_read_in_values_without_quotes() {
    let sig = sig();
    let header = parsed(&format!(
        "X-Matrix origin=origin.example:8448,destination=hub.example:443,key=ed25519:1,sig=\"{sig}\",note=a:b:"
    ));
    assert_eq!(
        header,
        XMatrix {
            origin: name("origin.example:8448"),
            destination: Some(name("hub.example:443")),
            ..expected()
        }
    );
    // What we send has its quotes.
    assert!(header.to_string().contains("key=\"ed25519:1\""), "{header}");
}

#[test]
fn destination_may_be_missing() {
    let header = parsed(&format!(
        "X-Matrix origin=origin.example,key=\"ed25519:1\",sig=\"{}\"",
        sig()
    ));
    assert_eq!(
        header,
        XMatrix {
            destination: None,
            ..expected()
        }
    );
    assert_eq!(parsed(&header.to_string()), header);
}

#[test]
fn malformed_headers_are_refused() {
    let sig = sig();
    let good = format!("origin=origin.example,key=\"ed25519:1\",sig=\"{sig}\"");
    let other_sig = sender().keys()[0].sign(b"other");
    for (value, error) in [
        (String::new(), XMatrixError::Scheme),
        ("X-Matrix".to_owned(), XMatrixError::Scheme),
        (format!("Bearer {good}"), XMatrixError::Scheme),
        (format!("X-Matrix,{good}"), XMatrixError::Scheme),
        (
            format!("X-Matrix {good},origin=origin.example"),
            XMatrixError::Duplicate,
        ),
        (format!("X-Matrix {good},ORIGIN=other.example"), XMatrixError::Duplicate),
        (format!("X-Matrix {good},x=1,x=2"), XMatrixError::Duplicate),
        (
            format!("X-Matrix {good},signature=\"{other_sig}\""),
            XMatrixError::Duplicate,
        ),
        (format!("X-Matrix {good} x=1"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x="), XMatrixError::Syntax),
        (format!("X-Matrix {good},=x"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=\"y"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=\"y\\"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=\"a\nb\""), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=\"\\\0\""), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=\"y\"z"), XMatrixError::Syntax),
        (format!("X-Matrix {good};x=1"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x=a/b"), XMatrixError::Syntax),
        (format!("X-Matrix {good},x:y=1"), XMatrixError::Syntax),
        (format!("X-Matrix {good}:x=1"), XMatrixError::Syntax),
        (format!("X-Matrix {good}, X-Matrix {good}"), XMatrixError::Syntax),
        (
            format!("X-Matrix key=\"ed25519:1\",sig=\"{sig}\""),
            XMatrixError::Missing("origin"),
        ),
        (
            format!("X-Matrix origin=origin.example,sig=\"{sig}\""),
            XMatrixError::Missing("key"),
        ),
        (
            "X-Matrix origin=origin.example,key=\"ed25519:1\"".to_owned(),
            XMatrixError::Missing("sig"),
        ),
        (
            format!("X-Matrix {good},destination=1.2.3.4"),
            XMatrixError::Invalid("destination"),
        ),
        (
            format!("X-Matrix origin=\"a b\",key=\"ed25519:1\",sig=\"{sig}\""),
            XMatrixError::Invalid("origin"),
        ),
        (
            format!("X-Matrix origin=a,key=ed25519,sig=\"{sig}\""),
            XMatrixError::Invalid("key"),
        ),
        (
            "X-Matrix origin=a,key=\"ed25519:1\",sig=AAAA".to_owned(),
            XMatrixError::Invalid("sig"),
        ),
        (
            format!("X-Matrix {good},x={}", "y".repeat(MAX_HEADER_BYTES)),
            XMatrixError::TooLong,
        ),
    ] {
        assert_eq!(XMatrix::parse(&value), Err(error), "{value}");
    }
}

/// A signed request and everything its receiver knows.
struct Received {
    method: &'static str,
    uri: &'static str,
    destination: ServerName,
    content: Option<Json>,
    headers: Vec<XMatrix>,
    keys: KeySet,
    now: UnixMillis,
    bodyless: Bodyless,
}

impl Received {
    fn request(&self) -> Request<'_> {
        let Self {
            method,
            uri,
            destination,
            content,
            ..
        } = self;
        Request {
            method,
            uri,
            destination,
            content: content.as_ref(),
        }
    }

    fn verify(&self) -> Result<ServerName, RequestError> {
        verify_request(&self.request(), &self.headers, &self.keys, self.now, self.bodyless)
    }
}

fn received(signer: &Signer, content: Option<Json>) -> Received {
    let mut received = Received {
        method: "PUT",
        uri: "/_matrix/federation/v2/send/a%2Fb?x=1&y=%20",
        destination: name("hub.example"),
        content,
        headers: Vec::new(),
        keys: published(signer),
        now: NOW,
        bodyless: Bodyless::EmptyObject,
    };
    received.headers = sign_request(signer, &received.request())
        .iter()
        .map(|value| parsed(value))
        .collect();
    received
}

#[test]
fn signed_request_verifies() {
    for content in [None, Some(object! { "pdus" => vec![1, 2] }.into())] {
        assert_eq!(received(&sender(), content).verify(), Ok(name("origin.example")));
    }
}

#[test]
fn every_part_of_the_request_is_signed() {
    let good = || received(&sender(), Some(object! { "a" => 1 }.into()));
    for changed in [
        Received {
            method: "POST",
            ..good()
        },
        Received {
            uri: "/_matrix/federation/v2/send/a/b?x=1&y=%20",
            ..good()
        },
        Received {
            uri: "/_matrix/federation/v2/send/a%2Fb",
            ..good()
        },
        Received {
            content: Some(object! { "a" => 2 }.into()),
            ..good()
        },
        Received {
            content: None,
            ..good()
        },
    ] {
        assert_eq!(changed.verify(), Err(RequestError::BadSignature));
    }
    let mut elsewhere = Received {
        destination: name("other.example"),
        ..good()
    };
    assert_eq!(elsewhere.verify(), Err(RequestError::WrongDestination));
    elsewhere.headers[0].destination = None;
    assert_eq!(elsewhere.verify(), Err(RequestError::BadSignature));
}

#[test]
fn signed_bytes_are_the_canonical_request_object() {
    for content in [None, Some(object! { "z" => "\u{7}\"", "a" => 50 }.into())] {
        let received = received(&sender(), content);
        let Request {
            method,
            uri,
            destination,
            content,
        } = received.request();
        let object = request_object(method, uri, sender().server(), destination, content);
        assert_eq!(
            signed_bytes(&received.request(), sender().server(), EMPTY_CONTENT),
            object.to_canonical()
        );
        let signature = sender().keys()[0].sign(&object.to_canonical());
        assert_eq!(received.headers[0].sig, signature);
    }
}

#[test]
fn request_without_header_fails() {
    let unsigned = Received {
        headers: vec![],
        ..received(&sender(), None)
    };
    assert_eq!(unsigned.verify(), Err(RequestError::NoHeader));
}

#[test]
fn every_key_gives_a_header_and_every_header_must_verify() {
    let both = signer("origin.example", &[("ed25519:1", 1), ("ed25519:2", 2)]);
    let mut request = received(&both, None);
    assert_eq!(request.headers.len(), 2);
    assert_eq!(request.verify(), Ok(name("origin.example")));
    request.headers[1].sig = request.headers[0].sig;
    assert_eq!(request.verify(), Err(RequestError::BadSignature));
    request.headers.reverse();
    assert_eq!(request.verify(), Err(RequestError::BadSignature));
}

#[test]
fn header_with_unknown_key_fails_the_request() {
    let both = signer("origin.example", &[("ed25519:1", 1), ("ed25519:2", 2)]);
    let request = Received {
        keys: published(&sender()),
        ..received(&both, None)
    };
    assert_eq!(request.verify(), Err(RequestError::UnknownKey));
}

#[test]
fn headers_of_two_origins_fail() {
    let mut request = received(&sender(), None);
    let other = signer("other.example", &[("ed25519:1", 1)]);
    let theirs = received(&other, None);
    request.headers.extend(theirs.headers);
    request.keys.extend(theirs.keys);
    assert_eq!(request.verify(), Err(RequestError::OriginsDiffer));
}

#[test]
fn old_and_expired_keys_fail() {
    let expired = Received {
        now: NOW.plus(Duration::from_millis(86_400_001)),
        ..received(&sender(), None)
    };
    assert_eq!(expired.verify(), Err(RequestError::UnknownKey));
    let mut keys = KeySet::new();
    let key = VerifyKey {
        key: sender().keys()[0].public(),
        valid_until: UnixMillis::MAX,
        old: true,
    };
    keys.insert(name("origin.example"), KeyId::parse("ed25519:1").unwrap(), key);
    let old = Received {
        keys,
        ..received(&sender(), None)
    };
    assert_eq!(old.verify(), Err(RequestError::UnknownKey));
}

#[test]
fn omitted_content_is_accepted_only_for_compatibility() {
    let mut request = received(&sender(), None);
    let mut object = request_object(
        request.method,
        request.uri,
        sender().server(),
        &request.destination,
        None,
    );
    object.remove("content");
    request.headers[0].sig = sender().keys()[0].sign(&object.to_canonical());
    assert_eq!(request.verify(), Err(RequestError::BadSignature));
    request.bodyless = Bodyless::EmptyObjectOrNone;
    assert_eq!(request.verify(), Ok(name("origin.example")));
    request.content = Some(object! {}.into());
    assert_eq!(
        request.verify(),
        Err(RequestError::BadSignature),
        "a body that is there must be signed"
    );
}

#[test]
fn draft_form_is_accepted_with_compatibility_too() {
    let request = Received {
        bodyless: Bodyless::EmptyObjectOrNone,
        ..received(&sender(), None)
    };
    assert_eq!(request.verify(), Ok(name("origin.example")));
}

proptest! {
    #[test]
    fn any_escaping_reads_the_same(escape in prop::collection::vec(any::<bool>(), 14)) {
        let origin: String = "origin.example"
            .chars()
            .zip(escape)
            .flat_map(|(c, escape)| escape.then_some('\\').into_iter().chain([c]))
            .collect();
        let value = format!("X-Matrix origin=\"{origin}\",destination=hub.example,key=\"ed25519:1\",sig=\"{}\"", sig());
        prop_assert_eq!(parsed(&value), expected());
    }

    #[test]
    fn any_header_is_read_or_refused(value in "X-Matrix [a-z=\",\\\\ ]{0,80}|\\PC{0,80}") {
        crate::fuzzing::x_matrix(value.as_bytes());
    }

    #[test]
    fn damaged_header_is_read_or_refused(at: prop::sample::Index, byte: u8) {
        let mut value = expected().to_string().into_bytes();
        let at = at.index(value.len());
        value[at] = byte;
        crate::fuzzing::x_matrix(&value);
    }
}
