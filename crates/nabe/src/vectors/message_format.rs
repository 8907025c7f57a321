//! The message format of the Matrix drafts: what is shown and written for a content, and sealed files.

use nabe_content::attachment::{AcceptAll, FileSecret, Outgoing, open, seal};
use nabe_content::{ContentUrl, EncryptedFile, Message, show};
use nabe_signing::{Object, base64u};

use super::{Checked, Untrue, canonical, object, only_members, same, same_bytes, text, untrue};

/// A content: the text that is shown for it, and what we write, or what is wrong with it.
pub(super) fn message(entry: &Object) -> Checked {
    only_members(
        entry,
        &["name", "note", "type", "content", "plain", "written", "problem"],
    )?;
    let (kind, content) = (text(entry, "type")?, object(entry, "content")?);
    let shown = show(kind, content);
    same("plain", text(entry, "plain")?, &shown.text)?;
    match (shown.problem, entry.contains_key("problem")) {
        (Some(problem), true) => return same("problem", text(entry, "problem")?, &problem.to_string()),
        (Some(problem), false) => return Err(untrue(format!("it has a problem: {problem}"))),
        (None, true) => return Err(untrue("it has no problem")),
        (None, false) => {}
    }
    let message = Message::parse(kind, content).map_err(|error| untrue(error.to_string()))?;
    let written = message.to_content();
    if entry.contains_key("written") {
        let stated = canonical(object(entry, "written")?)?;
        same("written", &stated, &canonical(&written)?)?;
    }
    let again = Message::parse(message.kind(), &written).map_err(|error| untrue(format!("written: {error}")))?;
    let payload = Message::parse_payload(&message.to_payload());
    let same_again = again == message && payload.as_ref() == Ok(&message);
    same_again
        .then_some(())
        .ok_or_else(|| untrue("what is written reads as another message"))
}

/// A file: sealing the plaintext with the secrets of `file` makes the ciphertext, and `file` opens it.
pub(super) fn attachment(entry: &Object) -> Checked {
    only_members(entry, &["name", "note", "plaintext", "ciphertext", "file"])?;
    let stated = object(entry, "file")?;
    let file = EncryptedFile::parse(stated).map_err(|error| untrue(format!("file: {error}")))?;
    same("file", &canonical(stated)?, &canonical(&file.to_object())?)?;
    let (plaintext, ciphertext) = (base64(entry, "plaintext")?, base64(entry, "ciphertext")?);
    let opened = open(ciphertext.clone(), &file).map_err(|error| untrue(format!("it does not open: {error}")))?;
    same_bytes("plaintext", &plaintext, &opened)?;

    let mut random =
        base64u::decode_url(text(object(stated, "key")?, "k")?).map_err(|_| untrue("`k` is not base64"))?;
    random.extend(base64(stated, "iv")?);
    let random = random
        .try_into()
        .map_err(|_| untrue("key and nonce are too long or too short"))?;
    let sealing = seal(Outgoing::new(plaintext), FileSecret::from_random(random), &AcceptAll);
    let (sealed, part) = sealing.map_err(|error| untrue(format!("it cannot be sealed: {error}")))?;
    same_bytes("ciphertext", &ciphertext, &sealed)?;
    let url = ContentUrl::parse(text(stated, "url")?).map_err(|error| untrue(format!("url: {error}")))?;
    let found = part.at(url).to_object();
    same("file, as it is written", &canonical(stated)?, &canonical(&found)?)
}

fn base64(parent: &Object, member: &str) -> Result<Vec<u8>, Untrue> {
    base64u::decode(text(parent, member)?).map_err(|_| untrue(format!("`{member}` is not base64")))
}
