//! The vectors of `drafts/matrix-message-format/vectors`: what is shown and written for a content, and sealed files. The ciphertexts and
//! hashes in them were computed by another implementation.

#![expect(clippy::unwrap_used, reason = "a malformed vector file must fail the tests")]

use nabe_content::attachment::{AcceptAll, FileSecret, Outgoing, open, seal};
use nabe_content::{ContentUrl, EncryptedFile, Message, show};
use nabe_signing::{Json, Object, base64u};

fn vectors(member: &str) -> Vec<Object> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../drafts/matrix-message-format/vectors/messages.json"
    );
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

fn object<'a>(entry: &'a Object, key: &str) -> &'a Object {
    entry
        .get(key)
        .and_then(Json::as_object)
        .unwrap_or_else(|| panic!("no `{key}`"))
}

#[test]
fn messages_are_shown_and_written_as_the_vectors_say() {
    for entry in vectors("messages") {
        let (name, kind, content) = (text(&entry, "name"), text(&entry, "type"), object(&entry, "content"));
        let shown = show(kind, content);
        assert_eq!(shown.text, text(&entry, "plain"), "{name}");
        let problem = entry.get("problem").and_then(Json::as_str).map(str::to_owned);
        assert_eq!(shown.problem.map(|problem| problem.to_string()), problem, "{name}");
        if problem.is_none() {
            let message = Message::parse(kind, content).unwrap();
            let written = message.to_content();
            if entry.contains_key("written") {
                assert_eq!(&written, object(&entry, "written"), "{name}");
            }
            assert_eq!(Message::parse(message.kind(), &written).unwrap(), message, "{name}");
            assert_eq!(
                Message::parse_payload(&message.to_payload()).unwrap(),
                message,
                "{name}"
            );
        }
    }
}

#[test]
fn attachments_are_sealed_and_opened_as_the_vectors_say() {
    for entry in vectors("attachments") {
        let name = text(&entry, "name");
        let bytes = |key: &str| base64u::decode(text(&entry, key)).unwrap();
        let file = EncryptedFile::parse(object(&entry, "file")).unwrap();
        assert_eq!(open(bytes("ciphertext"), &file).unwrap(), bytes("plaintext"), "{name}");
        assert_eq!(&file.to_object(), object(&entry, "file"), "{name}");

        let mut random = base64u::decode_url(text(object(object(&entry, "file"), "key"), "k")).unwrap();
        random.extend(base64u::decode(text(object(&entry, "file"), "iv")).unwrap());
        let secret = FileSecret::from_random(random.try_into().unwrap());
        let (ciphertext, sealed) = seal(Outgoing::new(bytes("plaintext")), secret, &AcceptAll).unwrap();
        assert_eq!(ciphertext, bytes("ciphertext"), "{name}");
        assert_eq!(
            sealed.at(ContentUrl::parse("mxc://example.org/abcd1234").unwrap()),
            file,
            "{name}"
        );
    }
}
