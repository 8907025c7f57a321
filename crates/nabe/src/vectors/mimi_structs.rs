//! The structs of MIMI's protocol and of the MLS they carry: encodings field by field, what is refused where and why, labelled
//! signatures, sealed structs.

use nabe_signing::{Json, Object};
use nabe_wire::codec::{Bytes, Message};
use nabe_wire::group_info::{GroupInfoRequest, GroupInfoResponse};
use nabe_wire::key_material::KeyMaterialRequest;
use nabe_wire::mls::{CipherSuite, GroupInfo, HpkeCiphertext};
use nabe_wire::{Kind, label};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;

use super::{Checked, Untrue, bytes, list, number, only_members, same, same_bytes, text, untrue};

/// An encoding, which reads field by field as stated and writes itself again.
pub(super) fn structure(entry: &Object) -> Checked {
    only_members(entry, &["name", "note", "type", "hex", "fields"])?;
    let stated = bytes(entry, "hex")?;
    let reading = kind(entry)?.read(&stated);
    let written = reading.encoded.map_err(|error| untrue(format!("hex: {error}")))?;
    same_bytes("hex, read and written again", &stated, &written)?;
    let leaves = reading.trace.leaves();
    let fields = list(entry, "fields")?;
    for (index, field) in fields.iter().enumerate() {
        let found = leaves.get(index).map_or_else(
            || "nothing more".to_owned(),
            |leaf| {
                describe(
                    &leaf.field,
                    leaf.offset as i64,
                    leaf.length as i64,
                    &leaf.value.to_string(),
                )
            },
        );
        same(&format!("fields[{index}]"), &stated_field(index, field)?, &found)?;
    }
    same("number of fields", &fields.len().to_string(), &leaves.len().to_string())
}

fn stated_field(index: usize, field: &Json) -> Result<String, Untrue> {
    let wrong = || untrue(format!("fields[{index}] is not [field, offset, length, value]"));
    let Some([name, offset, length, value]) = field.as_array() else {
        return Err(wrong());
    };
    let stated = || {
        let (offset, length) = (offset.as_i64()?, length.as_i64()?);
        Some(describe(name.as_str()?, offset, length, value.as_str()?))
    };
    stated().ok_or_else(wrong)
}

fn describe(name: &str, offset: i64, length: i64, value: &str) -> String {
    format!("{name} at {offset}, {length} bytes: {value}")
}

/// What is no encoding: where it breaks, in which field, by which rule.
pub(super) fn refused(entry: &Object) -> Checked {
    only_members(entry, &["name", "note", "type", "hex", "offset", "field", "rule"])?;
    let Err(error) = kind(entry)?.check(&bytes(entry, "hex")?) else {
        return Err(untrue("it is read"));
    };
    same(
        "offset",
        &number::<usize>(entry, "offset")?.to_string(),
        &error.offset().to_string(),
    )?;
    same("field", text(entry, "field")?, &error.field())?;
    same("rule", text(entry, "rule")?, error.rule().name())
}

/// `SignWithLabel` by the Ed25519 key of a seed, and the struct that carries the signature.
pub(super) fn signature(entry: &Object) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "type",
        "suite",
        "label",
        "content",
        "seed",
        "public",
        "signature",
        "struct",
    ];
    only_members(entry, KNOWN)?;
    let crypto = RustCrypto::default();
    let scheme = suite(entry)?
        .signature_scheme()
        .ok_or_else(|| untrue("`suite` is not known"))?;
    let (content, public, stated) = (
        bytes(entry, "content")?,
        bytes(entry, "public")?,
        bytes(entry, "signature")?,
    );
    let signed = label::sign_content(text(entry, "label")?, &content);
    let made = crypto
        .sign(scheme, &signed, &bytes(entry, "seed")?)
        .map_err(|error| untrue(format!("`seed`: {error:?}")))?;
    same_bytes("signature", &stated, &made)?;
    label::verify_with_label(&crypto, scheme, &public, text(entry, "label")?, &content, &stated)
        .map_err(|error| untrue(format!("by `public`: {error}")))?;
    match (entry.contains_key("type"), entry.contains_key("struct")) {
        (true, true) => {}
        (false, false) => return Ok(()),
        _ => return Err(untrue("`type` and `struct` go together")),
    }
    let carrier = bytes(entry, "struct")?;
    let verified = verify_carrier(kind(entry)?, &carrier, &crypto, &public)?;
    verified.map_err(|error| untrue(format!("in `struct`: {error}")))?;
    let carries = carrier.windows(stated.len()).any(|window| window == stated);
    carries
        .then_some(())
        .ok_or_else(|| untrue("`struct` carries another signature"))
}

/// Whether the struct's own signature holds.
fn verify_carrier(
    kind: &Kind,
    bytes: &[u8],
    crypto: &RustCrypto,
    public: &[u8],
) -> Result<Result<(), label::SignatureError>, Untrue> {
    let read = |error: nabe_wire::DecodeError| untrue(format!("`struct`: {error}"));
    Ok(match kind.name {
        "KeyMaterialRequest" => KeyMaterialRequest::from_bytes(bytes)
            .map_err(read)?
            .verify(crypto)
            .map(drop),
        "GroupInfoResponse" => GroupInfoResponse::from_bytes(bytes)
            .map_err(read)?
            .verify(crypto)
            .map(drop),
        "GroupInfoRequest" => {
            let request = GroupInfoRequest::from_bytes(bytes).map_err(read)?;
            let body = request
                .body
                .mls10()
                .ok_or_else(|| untrue("`struct` is not of MLS 1.0"))?;
            body.clone().verify(crypto).map(drop)
        }
        "GroupInfo" => GroupInfo::from_bytes(bytes)
            .map_err(read)?
            .verify(crypto, public)
            .map(drop),
        other => return Err(untrue(format!("nothing is known about signatures in {other}"))),
    })
}

/// `EncryptWithLabel` for the key with a private half.
pub(super) fn sealed(entry: &Object) -> Checked {
    const KNOWN: &[&str] = &[
        "name",
        "note",
        "type",
        "suite",
        "label",
        "context",
        "private",
        "plaintext",
        "kem_output",
        "ciphertext",
    ];
    only_members(entry, KNOWN)?;
    let sealed = HpkeCiphertext {
        kem_output: Bytes(bytes(entry, "kem_output")?),
        ciphertext: Bytes(bytes(entry, "ciphertext")?),
    };
    let opened = label::decrypt_with_label(
        &RustCrypto::default(),
        suite(entry)?,
        &bytes(entry, "private")?,
        text(entry, "label")?,
        &bytes(entry, "context")?,
        &sealed,
    );
    let opened = opened.map_err(|error| untrue(format!("it does not open: {error}")))?;
    same_bytes("plaintext", &bytes(entry, "plaintext")?, &opened)?;
    kind(entry)?
        .check(&opened)
        .map_err(|error| untrue(format!("plaintext: {error}")))
}

fn kind(entry: &Object) -> Result<&'static Kind, Untrue> {
    let name = text(entry, "type")?;
    Kind::named(name).ok_or_else(|| untrue(format!("`type` {name} is not known")))
}

fn suite(entry: &Object) -> Result<CipherSuite, Untrue> {
    number(entry, "suite").map(CipherSuite)
}
