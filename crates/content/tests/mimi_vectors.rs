//! The vectors of `drafts/mimi-content/vectors` and `drafts/mimi-message-status/vectors`, which an independent implementation in Python wrote: messages, their IDs, what is refused
//! where and why, status reports, salts, sealed content, franks.

#![expect(clippy::unwrap_used, reason = "a malformed vector file must fail the tests")]

use nabe_content::mimi::external::open;
use nabe_content::mimi::franking::{
    CipherSuite, Frank, FrankingContext, FrankingTag, HubKey, KeyRing, Known, application_framing, ed25519,
};
use nabe_content::mimi::status::{MessageStatus, StatusReport};
use nabe_content::mimi::{
    ContentHash, Encryption, ExternalPart, Formula, Intent, MessageId, MimiContent, Origin, Part, Received, Salt,
    status_outline,
};
use nabe_signing::{Json, Object, SigningKey};
use nabe_types::{KeyId, UnixMillis};

fn vectors(member: &str) -> Vec<Object> {
    vectors_of("mimi-content/vectors/content.json", member)
}

fn vectors_of(file: &str, member: &str) -> Vec<Object> {
    let path = format!("{}/../../drafts/{file}", env!("CARGO_MANIFEST_DIR"));
    let file = Object::parse(&std::fs::read(path).unwrap()).unwrap();
    let entries = file.get(member).and_then(Json::as_array).unwrap();
    assert!(!entries.is_empty());
    entries.iter().map(|entry| entry.as_object().unwrap().clone()).collect()
}

fn text<'a>(entry: &'a Object, key: &str) -> &'a str {
    entry
        .get(key)
        .and_then(Json::as_str)
        .unwrap_or_else(|| panic!("no `{key}`"))
}

fn number(entry: &Object, key: &str) -> u64 {
    entry.get(key).and_then(Json::as_i64).unwrap().try_into().unwrap()
}

fn bytes(entry: &Object, key: &str) -> Vec<u8> {
    unhex(text(entry, key))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(text: &str) -> MessageId {
    MessageId::from_bytes(unhex(text).try_into().unwrap()).unwrap()
}

fn intent(content: &MimiContent) -> &'static str {
    match content.intent() {
        Intent::Post => "post",
        Intent::Reply { .. } => "reply",
        Intent::Reaction { .. } => "reaction",
        Intent::Edit { .. } => "edit",
        Intent::Delete { .. } => "delete",
        Intent::Nothing => "nothing",
    }
}

#[test]
fn messages_round_trip_and_have_the_ids_the_vectors_say() {
    for entry in vectors("messages") {
        let name = text(&entry, "name");
        let origin = Origin::new(text(&entry, "sender"), text(&entry, "room")).unwrap();
        let cbor = bytes(&entry, "cbor");
        let received = Received::decode(cbor.clone(), origin.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let content = received.content();
        assert_eq!(content.encode().unwrap(), cbor, "{name}");
        assert_eq!(received.id(), id(text(&entry, "id")), "{name}");
        let former = id(text(&entry, "id_draft_07"));
        assert_eq!(received.id_by_draft_07(), former, "{name}");
        assert_eq!(
            former.formula(&origin, &cbor, &content.salt),
            Some(Formula::Draft07),
            "{name}"
        );
        assert_eq!(intent(content), text(&entry, "intent"), "{name}");
        if let Some(cardinalities) = entry.get("cardinalities").and_then(Json::as_array) {
            let found = content.body.parts().map(|(_, part)| match part.part {
                Part::Null => 0,
                Part::Single(_) => 1,
                Part::External(_) => 2,
                Part::Multi(_) => 3,
            });
            let stated: Vec<_> = cardinalities.iter().map(|number| number.as_i64().unwrap()).collect();
            assert_eq!(found.collect::<Vec<_>>(), stated, "{name}");
        }
    }
}

#[test]
fn malformed_messages_are_refused_with_offset_field_and_rule() {
    for entry in vectors("refused") {
        let name = text(&entry, "name");
        let error = MimiContent::decode(&bytes(&entry, "cbor")).expect_err(name);
        let found = (error.offset as u64, error.field.as_str(), error.rule.to_string());
        let stated = (
            number(&entry, "offset"),
            text(&entry, "field"),
            text(&entry, "rule").to_owned(),
        );
        assert_eq!(found, stated, "{name}");
    }
}

#[test]
fn status_reports_say_what_the_vectors_say() {
    let own = vectors_of("mimi-message-status/vectors/status.json", "status");
    for entry in vectors("status").into_iter().chain(own) {
        let stated = entry
            .get("entries")
            .and_then(Json::as_array)
            .unwrap()
            .iter()
            .map(|pair| {
                let pair = pair.as_array().unwrap();
                let status = pair[1].as_i64().unwrap().try_into().unwrap();
                (id(pair[0].as_str().unwrap()), MessageStatus(status))
            });
        let report = StatusReport::new(stated.collect());
        assert_eq!(StatusReport::decode(&bytes(&entry, "cbor")), Ok(report.clone()));
        assert_eq!(report.encode(), bytes(&entry, "cbor"));
    }
}

#[test]
fn malformed_status_reports_are_refused_with_offset_field_and_rule() {
    for entry in vectors_of("mimi-message-status/vectors/status.json", "status_refused") {
        let name = text(&entry, "name");
        let cbor = bytes(&entry, "cbor");
        let error = StatusReport::decode(&cbor).expect_err(name);
        let found = (error.offset as u64, error.field.as_str(), error.rule.to_string());
        let stated = (
            number(&entry, "offset"),
            text(&entry, "field"),
            text(&entry, "rule").to_owned(),
        );
        assert_eq!(found, stated, "{name}");
        assert_eq!(status_outline(&cbor).1, Some(error), "{name}");
    }
}

#[test]
fn salts_are_derived_as_the_vectors_say() {
    for entry in vectors("salts") {
        let salt = Salt::derive(&bytes(&entry, "secret"), &bytes(&entry, "nonce"));
        assert_eq!(hex(salt.as_bytes()), text(&entry, "salt"));
    }
}

#[test]
fn external_content_opens_as_the_vectors_say() {
    for entry in vectors("external") {
        let name = text(&entry, "name");
        let key = bytes(&entry, "key");
        let algorithm = if key.len() == 16 {
            Encryption::AES_128_GCM
        } else {
            Encryption::AES_256_GCM
        };
        let mut part = ExternalPart::link("https://files.example/x", "");
        part.encryption = Encryption::new(algorithm, key, bytes(&entry, "nonce"), bytes(&entry, "aad")).unwrap();
        part.hash = ContentHash::sha256(bytes(&entry, "sha256").try_into().unwrap());
        let opened = open(bytes(&entry, "ciphertext"), &part).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(opened, bytes(&entry, "content"), "{name}");
    }
}

#[test]
fn franks_are_made_and_verified_as_the_vectors_say() {
    for entry in vectors("franking") {
        let name = text(&entry, "name");
        let message = bytes(&entry, "cbor");
        let is_framed = entry.get("framed") == Some(&Json::Bool(true));
        let application_data = if is_framed {
            application_framing(&message)
        } else {
            message.clone()
        };
        let content = MimiContent::decode(&message).unwrap();
        let tag = FrankingTag::compute(&content.salt, &application_data);
        assert_eq!(hex(&tag.0), text(&entry, "tag"), "{name}");

        let origin = Origin::claimed(&content).unwrap();
        let accepted = UnixMillis(number(&entry, "accepted"));
        let context = FrankingContext {
            origin: origin.clone(),
            accepted,
        };
        assert_eq!(hex(&context.to_bytes()), text(&entry, "context"), "{name}");

        let agent = SigningKey::from_seed(KeyId::ed25519("x").unwrap(), bytes(&entry, "seed").try_into().unwrap());
        assert_eq!(hex(&agent.public().to_bytes()), text(&entry, "public"), "{name}");
        let mut keys = KeyRing::new();
        keys.add(
            UnixMillis(0),
            HubKey::from_random(bytes(&entry, "hub_key").try_into().unwrap()),
        );
        let cipher_suite = CipherSuite(number(&entry, "cipher_suite").try_into().unwrap());
        let sign = |signed: &[u8]| {
            assert_eq!(hex(signed), text(&entry, "signed"), "{name}");
            agent.sign(signed).to_bytes().to_vec()
        };
        let frank = Frank::stamp(&keys, cipher_suite, &tag, &context, sign).unwrap();
        assert_eq!(hex(&frank.server_frank), text(&entry, "server_frank"), "{name}");
        assert_eq!(hex(&frank.integrity_signature), text(&entry, "signature"), "{name}");

        let verify = ed25519(agent.public());
        let known = Known {
            origin: &origin,
            accepted,
            cipher_suite,
        };
        let received = frank.verify_received(&tag, &application_data, &known, &verify);
        assert_eq!(received.as_ref(), Ok(&context), "{name}");
        // With the framing and without it.
        for reported in [&application_data, &message] {
            assert_eq!(
                frank.verify_report(reported, accepted, &keys, &verify),
                received,
                "{name}"
            );
        }
    }
}
