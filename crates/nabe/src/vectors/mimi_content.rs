//! MIMI content: messages and their IDs, what is refused where and why, status reports, derived salts, sealed content, franks.

use nabe_content::mimi::external::open;
use nabe_content::mimi::franking::{
    CipherSuite, Frank, FrankingContext, FrankingTag, HubKey, KeyRing, Known, application_framing, ed25519,
};
use nabe_content::mimi::status::{MessageStatus, StatusReport};
use nabe_content::mimi::{
    ContentHash, Encryption, ExternalPart, Intent, Malformed, MimiContent, Origin, Part, Received, Salt,
};
use nabe_signing::{Json, Object, SigningKey};
use nabe_types::{KeyId, UnixMillis};

use super::{Checked, Untrue, array, bytes, list, number, only_members, same, same_bytes, text, untrue};

/// A message: it reads and writes itself again, with these IDs, this intent and these parts.
pub(super) fn message(entry: &Object) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "cbor",
        "sender",
        "room",
        "id",
        "id_draft_07",
        "intent",
        "cardinalities",
    ];
    only_members(entry, KNOWN)?;
    let origin = Origin::new(text(entry, "sender")?, text(entry, "room")?).map_err(broken)?;
    let cbor = bytes(entry, "cbor")?;
    let received = Received::decode(cbor.clone(), origin).map_err(broken)?;
    let content = received.content();
    same_bytes(
        "cbor, read and written again",
        &cbor,
        &content.encode().map_err(broken)?,
    )?;
    same("id", text(entry, "id")?, &received.id().to_string())?;
    same(
        "id_draft_07",
        text(entry, "id_draft_07")?,
        &received.id_by_draft_07().to_string(),
    )?;
    same("intent", text(entry, "intent")?, intent(content))?;
    if entry.get("cardinalities").is_none_or(Json::is_null) {
        return Ok(());
    }
    let stated = list(entry, "cardinalities")?.iter().map(Json::as_i64);
    let stated: Option<Vec<i64>> = stated.collect();
    let stated = stated.ok_or_else(|| untrue("`cardinalities` has something that is no number"))?;
    let found = content.body.parts().map(|(_, part)| match part.part {
        Part::Null => 0,
        Part::Single(_) => 1,
        Part::External(_) => 2,
        Part::Multi(_) => 3,
    });
    let found: Vec<i64> = found.collect();
    same("cardinalities", &format!("{stated:?}"), &format!("{found:?}"))
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

/// What is no message: where it breaks, in which field, by which rule.
pub(super) fn refused(entry: &Object) -> Checked {
    same_refusal(entry, MimiContent::decode(&bytes(entry, "cbor")?).err())
}

/// What is no message status report: where it breaks, in which field, by which rule.
pub(super) fn status_refused(entry: &Object) -> Checked {
    same_refusal(entry, StatusReport::decode(&bytes(entry, "cbor")?).err())
}

fn same_refusal(entry: &Object, error: Option<Malformed>) -> Checked {
    only_members(entry, &["name", "note", "cbor", "offset", "field", "rule"])?;
    let error = error.ok_or_else(|| untrue("it is read"))?;
    same(
        "offset",
        &number::<usize>(entry, "offset")?.to_string(),
        &error.offset.to_string(),
    )?;
    same("field", text(entry, "field")?, &error.field)?;
    same("rule", text(entry, "rule")?, &error.rule.to_string())
}

/// A message status report and its pairs.
pub(super) fn status(entry: &Object) -> Checked {
    only_members(entry, &["name", "note", "cbor", "entries"])?;
    let cbor = bytes(entry, "cbor")?;
    let report = StatusReport::decode(&cbor).map_err(broken)?;
    same_bytes("cbor, read and written again", &cbor, &report.encode())?;
    let describe = |id: &str, status: i64| format!("{id} {status}");
    let mut stated = Vec::new();
    for pair in list(entry, "entries")? {
        let pair = match pair.as_array() {
            Some([id, status]) => id.as_str().zip(status.as_i64()),
            _ => None,
        };
        let (id, status) = pair.ok_or_else(|| untrue("`entries` has something that is not [message ID, status]"))?;
        stated.push(describe(id, status));
    }
    let found = report.entries.iter();
    let found: Vec<_> = found
        .map(|(id, MessageStatus(status))| describe(&id.to_string(), i64::from(*status)))
        .collect();
    same("entries", &stated.join(", "), &found.join(", "))
}

/// A salt derived from a secret and a nonce.
pub(super) fn salt(entry: &Object) -> Checked {
    only_members(entry, &["name", "note", "secret", "nonce", "salt"])?;
    let salt = Salt::derive(&bytes(entry, "secret")?, &bytes(entry, "nonce")?);
    same_bytes("salt", &bytes(entry, "salt")?, salt.as_bytes())
}

/// Sealed content, by its hash, which opens.
pub(super) fn external(entry: &Object) -> Checked {
    const KNOWN: &[&str] = &["name", "note", "key", "nonce", "aad", "content", "ciphertext", "sha256"];
    only_members(entry, KNOWN)?;
    let key = bytes(entry, "key")?;
    let algorithm = match key.len() {
        16 => Encryption::AES_128_GCM,
        _ => Encryption::AES_256_GCM,
    };
    let mut part = ExternalPart::link("https://files.example/x", "");
    part.encryption = Encryption::new(algorithm, key, bytes(entry, "nonce")?, bytes(entry, "aad")?).map_err(broken)?;
    part.hash = ContentHash::sha256(array(entry, "sha256")?);
    let opened = open(bytes(entry, "ciphertext")?, &part).map_err(broken)?;
    same_bytes("content", &bytes(entry, "content")?, &opened)
}

/// A frank and everything it is made of; who receives and who reports can verify it.
pub(super) fn franking(entry: &Object) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "cbor",
        "framed",
        "accepted",
        "hub_key",
        "seed",
        "cipher_suite",
        "tag",
        "context",
        "server_frank",
        "signed",
        "public",
        "signature",
    ];
    only_members(entry, KNOWN)?;
    let message = bytes(entry, "cbor")?;
    let framed = entry.get("framed").and_then(Json::as_bool);
    let application_data = match framed.ok_or_else(|| untrue("`framed` is not a boolean"))? {
        true => application_framing(&message),
        false => message.clone(),
    };
    let content = MimiContent::decode(&message).map_err(broken)?;
    let tag = FrankingTag::compute(&content.salt, &application_data);
    same_bytes("tag", &bytes(entry, "tag")?, &tag.0)?;
    let origin = Origin::claimed(&content).ok_or_else(|| untrue("the message names no sender and room"))?;
    let accepted = UnixMillis(number(entry, "accepted")?);
    let context = FrankingContext {
        origin: origin.clone(),
        accepted,
    };
    same_bytes("context", &bytes(entry, "context")?, &context.to_bytes())?;

    let key_id = KeyId::ed25519("agent").map_err(broken)?;
    let agent = SigningKey::from_seed(key_id, array(entry, "seed")?);
    same_bytes("public", &bytes(entry, "public")?, &agent.public().to_bytes())?;
    let mut keys = KeyRing::new();
    keys.add(UnixMillis(0), HubKey::from_random(array(entry, "hub_key")?));
    let cipher_suite = CipherSuite(number(entry, "cipher_suite")?);
    let mut signed = Vec::new();
    let sign = |bytes: &[u8]| {
        signed = bytes.to_vec();
        agent.sign(bytes).to_bytes().to_vec()
    };
    let frank = Frank::stamp(&keys, cipher_suite, &tag, &context, sign).ok_or_else(|| untrue("the hub has no key"))?;
    same_bytes("server_frank", &bytes(entry, "server_frank")?, &frank.server_frank)?;
    same_bytes("signed", &bytes(entry, "signed")?, &signed)?;
    same_bytes("signature", &bytes(entry, "signature")?, &frank.integrity_signature)?;

    let verify = ed25519(agent.public());
    let known = Known {
        origin: &origin,
        accepted,
        cipher_suite,
    };
    frank
        .verify_received(&tag, &application_data, &known, &verify)
        .map_err(|error| untrue(format!("for a receiver: {error}")))?;
    for reported in [&application_data, &message] {
        frank
            .verify_report(reported, accepted, &keys, &verify)
            .map_err(|error| untrue(format!("in a report: {error}")))?;
    }
    Ok(())
}

fn broken(error: impl std::fmt::Display) -> Untrue {
    untrue(error.to_string())
}
