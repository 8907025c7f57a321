//! The vectors under `drafts/mimi-protocol/vectors`, which another implementation wrote: structs field by field, inputs
//! that are refused, signatures and sealed structs. Their format is described in drafts/README.md.

use std::path::{Path, PathBuf};

use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use serde_json::Value;

use crate::Kind;
use crate::label;
use crate::mls::CipherSuite;
use crate::testing::{hex, provider, sealed, unhex};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts/mimi-protocol/vectors");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

/// Every entry of every file's list of this name.
fn entries(list: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let content: Value = serde_json::from_str(&text).unwrap();
        entries.extend(content[list].as_array().into_iter().flatten().cloned());
    }
    assert!(!entries.is_empty(), "there are vectors of {list}");
    entries
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {}", entry["name"]))
}

fn bytes(entry: &Value, key: &str) -> Vec<u8> {
    unhex(text(entry, key))
}

fn kind(entry: &Value) -> &'static Kind {
    Kind::named(text(entry, "type")).unwrap_or_else(|| panic!("{} is of a known type", entry["name"]))
}

fn suite(entry: &Value) -> CipherSuite {
    CipherSuite(u16::try_from(entry["suite"].as_u64().unwrap()).unwrap())
}

#[test]
fn structs_read_field_by_field_and_write_the_same() {
    for entry in entries("structs") {
        let bytes = bytes(&entry, "hex");
        let reading = kind(&entry).read(&bytes);
        assert_eq!(reading.encoded.as_ref(), Ok(&bytes), "{}", entry["name"]);
        let leaves: Vec<Value> = reading
            .trace
            .leaves()
            .into_iter()
            .map(|leaf| serde_json::json!([leaf.field, leaf.offset, leaf.length, leaf.value.to_string()]))
            .collect();
        assert_eq!(Value::from(leaves), entry["fields"], "{}", entry["name"]);
    }
}

#[test]
fn a_struct_with_any_one_byte_changed_is_refused_or_writes_the_same() {
    for entry in entries("structs") {
        let (kind, mut bytes) = (kind(&entry), bytes(&entry, "hex"));
        for at in 0..bytes.len() {
            let honest = bytes[at];
            for other in [0, honest ^ 1, honest ^ 0x80, honest.wrapping_add(1), 0xff] {
                bytes[at] = other;
                match kind.read(&bytes).encoded {
                    Ok(encoded) => assert_eq!(encoded, bytes, "{} at {at}", entry["name"]),
                    Err(error) => assert!(error.offset() <= bytes.len(), "{error}"),
                }
            }
            bytes[at] = honest;
        }
    }
}

#[test]
fn every_struct_is_among_the_vectors() {
    let covered: Vec<String> = entries("structs")
        .iter()
        .map(|entry| text(entry, "type").to_owned())
        .collect();
    let missing: Vec<&str> = crate::KINDS
        .iter()
        .map(|kind| kind.name)
        .filter(|name| !covered.iter().any(|covered| covered == name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_is_refused_breaks_at_the_same_byte_by_the_same_rule() {
    for entry in entries("refused") {
        let error = kind(&entry).read(&bytes(&entry, "hex")).encoded;
        let Err(error) = error else {
            panic!("{} is read", entry["name"]);
        };
        let found = serde_json::json!([error.offset(), error.field(), error.rule().name()]);
        let stated = serde_json::json!([entry["offset"], entry["field"], entry["rule"]]);
        assert_eq!(found, stated, "{}", entry["name"]);
    }
}

#[test]
fn signatures_are_the_same_and_hold() {
    let provider = provider();
    let crypto = provider.crypto();
    for entry in entries("signatures") {
        let scheme = suite(&entry).signature_scheme().unwrap();
        let (label, content) = (text(&entry, "label"), bytes(&entry, "content"));
        let (key, signature) = (bytes(&entry, "public"), bytes(&entry, "signature"));
        let payload = label::sign_content(label, &content);
        let made = crypto.sign(scheme, &payload, &bytes(&entry, "seed")).unwrap();
        assert_eq!(hex(&made), hex(&signature), "{}", entry["name"]);
        let checked = label::verify_with_label(crypto, scheme, &key, label, &content, &signature);
        assert_eq!(checked, Ok(()), "{}", entry["name"]);
    }
}

#[test]
fn what_is_signed_is_the_struct_without_its_signature() {
    use crate::codec::Message;
    use crate::group_info::{GroupInfoRequest, GroupInfoResponse};
    use crate::key_material::KeyMaterialRequest;

    let provider = provider();
    let crypto = provider.crypto();
    let mut checked = 0;
    for entry in entries("signatures") {
        let Some(signed) = entry.get("struct") else { continue };
        let signed = unhex(signed.as_str().unwrap());
        let holds = match text(&entry, "type") {
            "KeyMaterialRequest" => KeyMaterialRequest::from_bytes(&signed).unwrap().verify(crypto).is_ok(),
            "GroupInfoResponse" => GroupInfoResponse::from_bytes(&signed).unwrap().verify(crypto).is_ok(),
            "GroupInfoRequest" => {
                let request = GroupInfoRequest::from_bytes(&signed).unwrap();
                request.body.mls10().unwrap().clone().verify(crypto).is_ok()
            }
            "GroupInfo" => {
                let group_info = crate::mls::GroupInfo::from_bytes(&signed).unwrap();
                group_info.verify(crypto, &bytes(&entry, "public")).is_ok()
            }
            other => panic!("nothing is known about signatures of {other}"),
        };
        assert!(holds, "{}", entry["name"]);
        checked += 1;
    }
    assert!(checked >= 4, "one of each");
}

#[test]
fn what_another_implementation_sealed_opens() {
    let provider = provider();
    for entry in entries("sealed") {
        let opened = label::decrypt_with_label(
            provider.crypto(),
            suite(&entry),
            &bytes(&entry, "private"),
            text(&entry, "label"),
            &bytes(&entry, "context"),
            &sealed(&bytes(&entry, "kem_output"), &bytes(&entry, "ciphertext")),
        );
        assert_eq!(opened, Ok(bytes(&entry, "plaintext")), "{}", entry["name"]);
        assert!(
            kind(&entry).read(&bytes(&entry, "plaintext")).encoded.is_ok(),
            "{}",
            entry["name"]
        );
    }
}
