//! Cases 76 to 79: what is inside messages (MC #message-id, MC #encoding-restrictions). No server sees that, so nothing is sent: the cases hold the
//! codec with which the checks' own clients read and write against the vectors in `drafts/mimi-content`.

use nabe_content::mimi::{
    Disposition, MimiContent, MultiPart, NestedPart, Origin, Part, PartSemantics, Received, Salt,
};
use nabe_signing::json::{Json, Object};
use nabe_signing::sha256;

use crate::case::{Case, Checked, Peers, Stop, Suite, failed};
use crate::context::{Ctx, list, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-76",
        title: "content that is well-formed",
        suite: Suite::MimiHub,
        requirements: &[
            "MC-id-formula",
            "MC-id-length",
            "MC-id-received-bytes",
            "MC-enc-deterministic",
        ],
        sent: "nothing; each good vector is decoded and encoded",
        expected: "the same bytes, and the ID that the vector states",
        peers: Peers::Offline,
        run: run!(well_formed),
    },
    Case {
        id: "mimi-77",
        title: "content that is malformed",
        suite: Suite::MimiHub,
        requirements: &[
            "MC-enc-shortest",
            "MC-enc-definite",
            "MC-enc-sorted",
            "MC-enc-no-length-first",
            "MC-depth-parts",
            "MC-body-multi-two",
            "MC-id-salt",
            "MC-discard-many-parts",
        ],
        sent: "nothing; each bad vector is decoded, and content with 1025 parts",
        expected: "an error each time",
        peers: Peers::Offline,
        run: run!(malformed),
    },
    Case {
        id: "mimi-78",
        title: "a disposition that nobody knows",
        suite: Suite::MimiHub,
        requirements: &["MC-tolerate-disposition"],
        sent: "nothing; content with disposition 200 is decoded",
        expected: "it is rendered",
        peers: Peers::Offline,
        run: run!(unknown_disposition),
    },
    Case {
        id: "mimi-79",
        title: "the ID is that of the bytes that came",
        suite: Suite::MimiHub,
        requirements: &["MC-id-received-bytes", "MC-id-formula", "MC-id-sha-256"],
        sent: "nothing; the ID of each good vector is computed here, over its bytes and over others that mean the same",
        expected: "the codec's ID is the first one; the others are refused or have another ID",
        peers: Peers::Offline,
        run: run!(id_of_bytes),
    },
];

const VECTORS: &str = include_str!("../../../../drafts/mimi-content/vectors/content.json");

fn vectors(name: &str) -> Checked<Vec<Object>> {
    let wrong = |got: String| Stop::Failed {
        expected: format!("the vectors `{name}`"),
        got,
    };
    let all = Json::parse(VECTORS.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    match all.into_object().map(|all| list(&all, name)) {
        Some(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong("there are none".to_owned())),
    }
}

fn bytes(vector: &Object) -> Checked<Vec<u8>> {
    let hex = text(vector, "cbor");
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    match bytes {
        Some(bytes) => Ok(bytes),
        None => failed("hexadecimal digits", hex),
    }
}

fn received(vector: &Object, bytes: Vec<u8>) -> Checked<Received> {
    let wrong = |got: String| Stop::Failed {
        expected: format!("`{}` is read", text(vector, "name")),
        got,
    };
    let origin = Origin::new(text(vector, "sender"), text(vector, "room")).map_err(|error| wrong(error.to_string()))?;
    Received::decode(bytes, origin).map_err(|error| wrong(error.to_string()))
}

async fn well_formed(ctx: &Ctx) -> Checked {
    let vectors = vectors("messages")?;
    for vector in &vectors {
        let (name, cbor) = (text(vector, "name"), bytes(vector)?);
        let received = received(vector, cbor.clone())?;
        match received.content().encode() {
            Ok(encoded) if encoded == cbor => {}
            other => return failed(format!("`{name}`: the same bytes"), format!("{other:?}")),
        }
        let id = received.id().to_string();
        if id != text(vector, "id") {
            return failed(format!("`{name}`: ID {}", text(vector, "id")), id);
        }
    }
    ctx.observe(format!("{} messages", vectors.len()));
    Ok(())
}

async fn malformed(ctx: &Ctx) -> Checked {
    let vectors = vectors("refused")?;
    for vector in &vectors {
        if MimiContent::decode(&bytes(vector)?).is_ok() {
            return failed(format!("`{}` is refused", text(vector, "name")), "it is read");
        }
    }
    ctx.observe(format!("{} messages refused", vectors.len()));
    let many = MimiContent::new(Salt::from_random([1; 16]), &an_origin()?, with_parts(1024));
    let is_refused = many.encode().map_or(true, |bytes| MimiContent::decode(&bytes).is_err());
    ctx.check("1025 parts are refused", is_refused, || "they are read".to_owned())?;
    let fewer = MimiContent::new(Salt::from_random([1; 16]), &an_origin()?, with_parts(1023));
    let is_read = fewer.encode().is_ok_and(|bytes| MimiContent::decode(&bytes).is_ok());
    ctx.check("1024 are not", is_read, || "they are refused".to_owned())
}

/// A part with so many others in it.
fn with_parts(count: usize) -> NestedPart {
    NestedPart {
        part: Part::Multi(MultiPart {
            semantics: PartSemantics::ProcessAll,
            parts: vec![NestedPart::text("x"); count],
        }),
        ..NestedPart::text("")
    }
}

fn an_origin() -> Checked<Origin> {
    Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").map_err(|error| Stop::Failed {
        expected: "an origin".to_owned(),
        got: error.to_string(),
    })
}

async fn unknown_disposition(ctx: &Ctx) -> Checked {
    let body = NestedPart {
        disposition: Disposition(200),
        ..NestedPart::text("Is this the way?")
    };
    let sent = MimiContent::new(Salt::from_random([2; 16]), &an_origin()?, body);
    let decoded = sent.encode().and_then(|bytes| MimiContent::decode(&bytes));
    let effective = decoded.map(|content| content.body.disposition.effective());
    ctx.check("it is rendered", effective == Ok(Disposition::RENDER), || {
        format!("{effective:?}")
    })
}

async fn id_of_bytes(ctx: &Ctx) -> Checked {
    for vector in vectors("messages")? {
        let cbor = bytes(&vector)?;
        let received = received(&vector, cbor.clone())?;
        let mut hashed = Vec::new();
        for uri in [text(&vector, "sender"), text(&vector, "room")] {
            hashed.extend(u16::try_from(uri.len()).unwrap_or_default().to_be_bytes());
            hashed.extend(uri.as_bytes());
        }
        hashed.extend(&cbor);
        hashed.extend(received.content().salt.as_bytes());
        let id = [&[1], &sha256(&hashed)[..31]].concat();
        let is_same = received.id().as_bytes()[..] == id[..];
        ctx.check(&format!("`{}`", text(&vector, "name")), is_same, || {
            received.id().to_string()
        })?;
        // The same array with its length in two bytes.
        let longer = [&[0x98, cbor[0] & 0x1f], &cbor[1..]].concat();
        if let Ok(other) = self::received(&vector, longer) {
            let differs = other.id() != received.id();
            ctx.check("other bytes, another ID", differs, || other.id().to_string())?;
        }
    }
    Ok(())
}
