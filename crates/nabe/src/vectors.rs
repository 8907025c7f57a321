//! `nabe vectors verify`: is every statement of a vector file true? Our formats are described in `drafts/README.md`; a file that is
//! a list is taken for one of the MLS working group's `passive-client-*.json`.
//!
//! Each member of a file is a list of vectors of one sort. Here are those of Linearized Matrix; the others have files of their own.
//!
//! An entry passes only if all it states could be checked and holds; a member this program does not know therefore fails it.

mod message_format;
mod mimi_content;
mod mimi_structs;
mod passive_client;
mod policy;

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Context as _;
use nabe_event::{EventKind, RawEvent, RoomVersionRules, event_id_of, hashes, redact};
use nabe_signing::{
    Json, Object, PublicKey, ServerKeys, Signature, SigningKey, XMatrix, base64u, json::Limits, verify_signatures,
};
use nabe_types::{KeyId, ServerName};

use crate::{decode::hex, output::say};

/// One vector of a file and what was found out about it.
pub(crate) struct Verdict {
    /// Such as `events/create`.
    pub(crate) entry: String,
    /// The first statement that is not true.
    pub(crate) outcome: Result<(), Untrue>,
    /// Why it was not looked at; it counts neither way.
    pub(crate) skipped: Option<String>,
}

/// A statement of a vector that does not hold, in words.
#[derive(Debug)]
pub(crate) struct Untrue(String);

impl fmt::Display for Untrue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Checked = Result<(), Untrue>;

/// Prints a line per vector and the closing line; `true` when all passed.
pub(crate) fn verify_files(files: &[impl AsRef<Path>]) -> anyhow::Result<bool> {
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for path in files.iter().map(AsRef::as_ref) {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let verdicts = verify(&bytes).with_context(|| path.display().to_string())?;
        for Verdict {
            entry,
            outcome,
            skipped,
        } in verdicts
        {
            match (outcome, skipped) {
                (Ok(()), Some(reason)) => say!("skip {}: {entry}: {reason}", path.display()),
                (Ok(()), None) => {
                    passed += 1;
                    say!("ok   {}: {entry}", path.display());
                }
                (Err(untrue), _) => {
                    failed += 1;
                    say!("FAIL {}: {entry}: {untrue}", path.display());
                }
            }
        }
    }
    say!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

/// The verdict on every vector of one file; an error when it is no vector file.
pub(crate) fn verify(bytes: &[u8]) -> anyhow::Result<Vec<Verdict>> {
    let file = Json::parse_with(bytes, limits())?;
    if let Some(groups) = file.as_array() {
        anyhow::ensure!(!groups.is_empty(), "no vector in it");
        return Ok(passive_client::verify(groups));
    }
    let file = file.as_object().context("neither a JSON object nor a list")?;
    if file.contains_key("decisions") {
        return policy::verify(file);
    }
    for member in file.keys() {
        anyhow::ensure!(
            MEMBERS.contains(&member) || LISTS.iter().any(|(list, _)| *list == member),
            "unknown member `{member}`: cannot be verified"
        );
    }
    let keys = Keys::read(file.get("keys"))?;
    let mut verdicts = Vec::new();
    for (member, check) in LISTS {
        let entries = match file.get(member) {
            None => continue,
            Some(entries) => entries
                .as_array()
                .with_context(|| format!("`{member}` is not a list"))?,
        };
        for (index, entry) in entries.iter().enumerate() {
            let name = entry
                .as_object()
                .and_then(|entry| entry.get("name"))
                .and_then(Json::as_str);
            verdicts.push(Verdict {
                entry: name.map_or_else(|| format!("{member}/{index}"), |name| format!("{member}/{name}")),
                outcome: entry
                    .as_object()
                    .ok_or_else(|| untrue("not an object"))
                    .and_then(|entry| check(entry, &keys)),
                skipped: None,
            });
        }
    }
    if let Some(response) = file.get("server_key_response") {
        verdicts.push(Verdict {
            entry: "server_key_response".into(),
            outcome: response
                .as_object()
                .ok_or_else(|| untrue("not an object"))
                .and_then(|it| key_response(it, &keys)),
            skipped: None,
        });
    }
    anyhow::ensure!(!verdicts.is_empty(), "no vector in it");
    Ok(verdicts)
}

/// Larger than what servers say to each other.
fn limits() -> Limits {
    Limits {
        max_bytes: 64 << 20,
        ..Limits::default()
    }
}

/// What a file may have besides lists.
const MEMBERS: &[&str] = &["note", "keys", "server_key_response"];

type Check = fn(&Object, &Keys) -> Checked;
const LISTS: &[(&str, Check)] = &[
    ("canonical_json", canonical_json),
    ("events", event),
    ("request_auth", request_auth),
    ("structs", |entry, _| mimi_structs::structure(entry)),
    ("signatures", |entry, _| mimi_structs::signature(entry)),
    ("sealed", |entry, _| mimi_structs::sealed(entry)),
    ("refused", |entry, _| match entry.contains_key("cbor") {
        true => mimi_content::refused(entry),
        false => mimi_structs::refused(entry),
    }),
    ("messages", |entry, _| match entry.contains_key("cbor") {
        true => mimi_content::message(entry),
        false => message_format::message(entry),
    }),
    ("status", |entry, _| mimi_content::status(entry)),
    ("status_refused", |entry, _| mimi_content::status_refused(entry)),
    ("salts", |entry, _| mimi_content::salt(entry)),
    ("external", |entry, _| mimi_content::external(entry)),
    ("franking", |entry, _| mimi_content::franking(entry)),
    ("attachments", |entry, _| message_format::attachment(entry)),
];

/// The file's keys, by server, in the file's order.
struct Keys(BTreeMap<String, Vec<(KeyId, PublicKey)>>);

impl Keys {
    fn read(stated: Option<&Json>) -> anyhow::Result<Self> {
        let mut keys = BTreeMap::new();
        let servers = match stated {
            None => return Ok(Self(keys)),
            Some(stated) => stated.as_object().context("`keys` is not an object")?,
        };
        for (server, stated) in servers {
            let one = std::slice::from_ref(stated);
            let list = stated.as_array().unwrap_or(one);
            let read = list.iter().map(read_key).collect::<anyhow::Result<Vec<_>>>();
            keys.insert(server.to_owned(), read.with_context(|| format!("keys of {server}"))?);
        }
        Ok(Self(keys))
    }

    fn of(&self, server: &str) -> Result<&[(KeyId, PublicKey)], Untrue> {
        self.0
            .get(server)
            .map(Vec::as_slice)
            .ok_or_else(|| untrue(format!("the file has no key of {server}")))
    }

    fn find(&self, server: &str, id: &str) -> Result<&PublicKey, Untrue> {
        self.of(server)?
            .iter()
            .find(|(key_id, _)| key_id.as_str() == id)
            .map(|(_, key)| key)
            .ok_or_else(|| untrue(format!("the file has no key {id} of {server}")))
    }
}

fn read_key(stated: &Json) -> anyhow::Result<(KeyId, PublicKey)> {
    let text = |name: &str| {
        let value = stated.as_object().and_then(|key| key.get(name));
        value.and_then(Json::as_str).with_context(|| format!("no `{name}`"))
    };
    let id = KeyId::parse(text("key_id")?)?;
    let public = PublicKey::from_base64(text("public")?)?;
    let seed = base64u::decode(text("seed_b64")?)?
        .try_into()
        .ok()
        .context("`seed_b64` is not 32 bytes")?;
    anyhow::ensure!(
        SigningKey::from_seed(id.clone(), seed).public() == public,
        "`public` is not the key of `seed_b64`"
    );
    Ok((id, public))
}

fn canonical_json(entry: &Object, _: &Keys) -> Checked {
    only_members(entry, &["name", "note", "in", "rfc8785"])?;
    let parsed = Json::parse(text(entry, "in")?.as_bytes()).map_err(|error| untrue(format!("`in`: {error}")))?;
    same("rfc8785", text(entry, "rfc8785")?, &utf8(parsed.to_canonical())?)
}

fn event(entry: &Object, keys: &Keys) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "pdu",
        "event_id",
        "lpdu",
        "lpdu_event_id",
        "canonical_for_content_hash",
        "redacted",
    ];
    only_members(entry, KNOWN)?;
    let pdu = object(entry, "pdu")?;
    parses_as(pdu, EventKind::Pdu)?;
    same("event_id", text(entry, "event_id")?, event_id_of(pdu).as_str())?;
    pdu_hashes(pdu)?;
    pdu_signatures(pdu, keys)?;
    if let Some(stated) = entry.get("canonical_for_content_hash") {
        let stated = stated
            .as_str()
            .ok_or_else(|| untrue("`canonical_for_content_hash` is not text"))?;
        same(
            "canonical_for_content_hash",
            stated,
            &utf8(hashes::content_hash_input(pdu))?,
        )?;
    }
    if entry.contains_key("redacted") {
        let redacted = redact(pdu, &RoomVersionRules::I1);
        same(
            "redacted",
            &canonical(object(entry, "redacted")?)?,
            &canonical(&redacted)?,
        )?;
    }
    match (entry.contains_key("lpdu"), entry.contains_key("lpdu_event_id")) {
        (false, false) => Ok(()),
        (true, true) => lpdu(entry, pdu, keys),
        _ => Err(untrue("`lpdu` and `lpdu_event_id` go together")),
    }
}

fn lpdu(entry: &Object, pdu: &Object, keys: &Keys) -> Checked {
    let lpdu = object(entry, "lpdu")?;
    parses_as(lpdu, EventKind::Lpdu)?;
    same(
        "lpdu_event_id",
        text(entry, "lpdu_event_id")?,
        event_id_of(lpdu).as_str(),
    )?;
    same(
        "lpdu: hashes.lpdu.sha256",
        lpdu_hash_of(lpdu)?,
        &base64u::encode(&hashes::lpdu_hash(lpdu)),
    )?;
    signatures(lpdu, keys, |_| hashes::signed_bytes(lpdu))?;
    // The PDU must be this LPDU, completed: what the hub may add is taken away and the rest compared.
    let without_hub_parts = |event: &Object| {
        let mut event = event.clone();
        event.retain(|member, _| !["auth_events", "prev_events", "signatures", "hashes"].contains(&member));
        canonical(&event)
    };
    same(
        "lpdu compared with pdu",
        &without_hub_parts(lpdu)?,
        &without_hub_parts(pdu)?,
    )?;
    same(
        "lpdu: hashes.lpdu compared with pdu",
        lpdu_hash_of(lpdu)?,
        lpdu_hash_of(pdu)?,
    )
}

fn parses_as(event: &Object, kind: EventKind) -> Checked {
    let raw = RawEvent::from_json(event.clone(), &RoomVersionRules::I1)
        .map_err(|dropped| untrue(format!("not a valid event: {dropped}")))?;
    if raw.kind() == kind {
        Ok(())
    } else {
        Err(untrue(format!("it is a {:?}, not a {kind:?}", raw.kind())))
    }
}

fn pdu_hashes(pdu: &Object) -> Checked {
    let stated = object(pdu, "hashes")?;
    same(
        "hashes.sha256",
        text(stated, "sha256")?,
        &base64u::encode(&hashes::content_hash(pdu)),
    )?;
    if stated.contains_key("lpdu") {
        same(
            "hashes.lpdu.sha256",
            lpdu_hash_of(pdu)?,
            &base64u::encode(&hashes::lpdu_hash(pdu)),
        )?;
    }
    Ok(())
}

fn lpdu_hash_of(event: &Object) -> Result<&str, Untrue> {
    text(object(object(event, "hashes")?, "lpdu")?, "sha256")
}

/// LM #int-signing-events: a sender's server signs the LPDU when its event goes through another hub.
fn pdu_signatures(pdu: &Object, keys: &Keys) -> Checked {
    let sender_server = text(pdu, "sender")?.split_once(':').map(|(_, server)| server);
    let hub = pdu.get("hub_server").and_then(Json::as_str);
    let over_lpdu = |signer: &str| hub.is_some_and(|hub| sender_server == Some(signer) && signer != hub);
    signatures(pdu, keys, |signer| {
        if over_lpdu(signer) {
            hashes::lpdu_signed_bytes(pdu)
        } else {
            hashes::signed_bytes(pdu)
        }
    })
}

/// Every stated signature must verify with the file's key of that name; there must be one.
fn signatures(object_: &Object, keys: &Keys, message: impl Fn(&str) -> Vec<u8>) -> Checked {
    let stated = object(object_, "signatures")?;
    if stated.is_empty() {
        return Err(untrue("`signatures` is empty"));
    }
    for (signer, by_signer) in stated {
        let by_signer = by_signer.as_object().filter(|it| !it.is_empty());
        let by_signer = by_signer.ok_or_else(|| untrue(format!("signatures.{signer} is not an object with keys")))?;
        let message = message(signer);
        for key_id in by_signer.keys() {
            let key = keys.find(signer, key_id)?;
            verify_signatures(object_.get("signatures"), signer, &message, |id| {
                (id.as_str() == key_id).then_some(key)
            })
            .map_err(|error| untrue(format!("signatures.{signer}.{key_id}: {error}")))?;
        }
    }
    Ok(())
}

fn request_auth(entry: &Object, keys: &Keys) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "object",
        "signing_bytes",
        "sig",
        "header",
        "sigs",
        "headers",
        "also_accepted",
        "sig_if_content_omitted_as_eigen_does",
    ];
    only_members(entry, KNOWN)?;
    let signed = object(entry, "object")?;
    same("signing_bytes", text(entry, "signing_bytes")?, &canonical(signed)?)?;
    let message = signed.to_canonical();
    let origin = text(signed, "origin")?;
    let (first_id, first_key) = keys
        .of(origin)?
        .first()
        .ok_or_else(|| untrue(format!("no key of {origin}")))?;

    let sig = text(entry, "sig")?;
    check_signature("sig", first_key, &message, sig)?;
    if entry.contains_key("header") {
        check_header("header", text(entry, "header")?, signed, first_id.as_str(), sig)?;
    }
    if entry.contains_key("sigs") {
        for (key_id, sig) in object(entry, "sigs")? {
            let sig = sig
                .as_str()
                .ok_or_else(|| untrue("`sigs` holds something that is not text"))?;
            check_signature(&format!("sigs.{key_id}"), keys.find(origin, key_id)?, &message, sig)?;
        }
    }
    for header in texts(entry, "headers")? {
        let parsed = XMatrix::parse(header).map_err(|error| untrue(format!("headers: {error}")))?;
        let (key_id, sig) = (parsed.key.as_str(), parsed.sig.to_base64());
        check_signature("headers", keys.find(origin, key_id)?, &message, &sig)?;
        check_header("headers", header, signed, key_id, &sig)?;
    }
    for header in texts(entry, "also_accepted")? {
        check_header("also_accepted", header, signed, first_id.as_str(), sig)?;
    }
    if entry.contains_key("sig_if_content_omitted_as_eigen_does") {
        let sig = text(entry, "sig_if_content_omitted_as_eigen_does")?;
        let mut bodyless = signed.clone();
        bodyless.remove("content");
        check_signature(
            "sig_if_content_omitted_as_eigen_does",
            first_key,
            &bodyless.to_canonical(),
            sig,
        )?;
    }
    Ok(())
}

fn check_signature(what: &str, key: &PublicKey, message: &[u8], sig: &str) -> Checked {
    let parsed = Signature::from_base64(sig).map_err(|error| untrue(format!("{what}: {error}")))?;
    key.verify(message, &parsed)
        .map_err(|error| untrue(format!("{what}: {error}")))
}

/// A header must carry the signed object's origin and destination, the key and the signature.
fn check_header(what: &str, header: &str, signed: &Object, key_id: &str, sig: &str) -> Checked {
    let parsed = XMatrix::parse(header).map_err(|error| untrue(format!("{what}: {error}")))?;
    same(
        &format!("{what}: origin"),
        parsed.origin.as_str(),
        text(signed, "origin")?,
    )?;
    if let Some(destination) = &parsed.destination {
        same(
            &format!("{what}: destination"),
            destination.as_str(),
            text(signed, "destination")?,
        )?;
    }
    same(&format!("{what}: key"), parsed.key.as_str(), key_id)?;
    same(&format!("{what}: sig"), &parsed.sig.to_base64(), sig)
}

fn key_response(response: &Object, keys: &Keys) -> Checked {
    let server = ServerName::parse(text(response, "server_name")?).map_err(|error| untrue(error.to_string()))?;
    let parsed = ServerKeys::parse(response.clone(), &server).map_err(|error| untrue(error.to_string()))?;
    for (id, public) in &parsed.verify_keys {
        same(
            &format!("verify_keys.{id}"),
            &public.to_base64(),
            &keys.find(server.as_str(), id.as_str())?.to_base64(),
        )?;
    }
    let mut message = Vec::new();
    response.write_canonical_without(&mut message, &["signatures"]);
    signatures(response, keys, |_| message.clone())
}

fn only_members(entry: &Object, known: &[&str]) -> Checked {
    match entry.keys().find(|member| !known.contains(member)) {
        None => Ok(()),
        Some(unknown) => Err(untrue(format!("unknown member `{unknown}`: cannot be verified"))),
    }
}

fn object<'a>(parent: &'a Object, member: &str) -> Result<&'a Object, Untrue> {
    parent
        .get(member)
        .and_then(Json::as_object)
        .ok_or_else(|| untrue(format!("`{member}` is not an object")))
}

fn text<'a>(parent: &'a Object, member: &str) -> Result<&'a str, Untrue> {
    parent
        .get(member)
        .and_then(Json::as_str)
        .ok_or_else(|| untrue(format!("`{member}` is not text")))
}

fn texts<'a>(parent: &'a Object, member: &str) -> Result<Vec<&'a str>, Untrue> {
    let Some(list) = parent.get(member) else {
        return Ok(Vec::new());
    };
    list.as_array()
        .and_then(|list| list.iter().map(Json::as_str).collect())
        .ok_or_else(|| untrue(format!("`{member}` is not a list of texts")))
}

fn same(what: &str, stated: &str, found: &str) -> Checked {
    if stated == found {
        Ok(())
    } else {
        Err(untrue(format!("{what}: the file states {stated}, it is {found}")))
    }
}

/// Bytes in hexadecimal.
fn bytes(parent: &Object, member: &str) -> Result<Vec<u8>, Untrue> {
    let stated = text(parent, member)?;
    let (pairs, rest) = stated.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes
        .filter(|_| rest.is_empty())
        .ok_or_else(|| untrue(format!("`{member}` is not hexadecimal")))
}

/// So many bytes in hexadecimal.
fn array<const N: usize>(parent: &Object, member: &str) -> Result<[u8; N], Untrue> {
    let bytes = bytes(parent, member)?;
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| untrue(format!("`{member}` has {length} bytes, must have {N}")))
}

fn number<T: TryFrom<i64>>(parent: &Object, member: &str) -> Result<T, Untrue> {
    let number = parent.get(member).and_then(Json::as_i64);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| untrue(format!("`{member}` is no number of the right size")))
}

fn list<'a>(parent: &'a Object, member: &str) -> Result<&'a [Json], Untrue> {
    let list = parent.get(member).and_then(Json::as_array);
    list.ok_or_else(|| untrue(format!("`{member}` is not a list")))
}

fn same_bytes(what: &str, stated: &[u8], found: &[u8]) -> Checked {
    same(what, &hex(stated), &hex(found))
}

fn canonical(object: &Object) -> Result<String, Untrue> {
    utf8(object.to_canonical())
}

fn utf8(bytes: Vec<u8>) -> Result<String, Untrue> {
    String::from_utf8(bytes).map_err(|_| untrue("not UTF-8"))
}

fn untrue(reason: impl Into<String>) -> Untrue {
    Untrue(reason.into())
}

#[cfg(test)]
mod tests;
