//! Cases 76 to 79: what is inside messages (MC #message-id, MC #encoding-restrictions). Of a server it is seen in reports of abuse alone, and there
//! the subject is shown such content; for the rest the cases hold the codec with which the checks' own clients read and write against the vectors in
//! `drafts/mimi-content`.

use nabe_content::mimi::franking::application_framing;
use nabe_content::mimi::{
    Disposition, MimiContent, MultiPart, NestedPart, Origin, Part, PartSemantics, Received, Salt,
};
use nabe_signing::json::{Json, Object};
use nabe_signing::sha256;
use nabe_wire::report_abuse::AbusiveMessage;

use crate::case::{Case, Checked, Peers, Stop, Suite, failed};
use crate::context::{Ctx, list, text};
use crate::mimi::reporting::Reporting;

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
        sent: "each good vector is decoded and encoded; said by a user of the subject, franked, and reported",
        expected: "the same bytes, and the ID that the vector states; the report is about genuine messages",
        peers: Peers::Mimi(1),
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
        sent: "each bad vector is decoded, and content with 1025 parts; content that is malformed in seven ways is said, franked and reported",
        expected: "an error each time; no such report is about genuine messages, and the next good one is",
        peers: Peers::Mimi(1),
        run: run!(malformed),
    },
    Case {
        id: "mimi-78",
        title: "a disposition that nobody knows",
        suite: Suite::MimiHub,
        requirements: &["MC-tolerate-disposition"],
        sent: "content with disposition 200 is decoded; said, franked and reported",
        expected: "it is rendered; the report is about a genuine message",
        peers: Peers::Mimi(1),
        run: run!(unknown_disposition),
    },
    Case {
        id: "mimi-79",
        title: "the ID is that of the bytes that came",
        suite: Suite::MimiHub,
        requirements: &["MC-id-received-bytes", "MC-id-formula", "MC-id-sha-256"],
        sent: "the ID of each good vector is computed here, over its bytes and over others that mean the same; a message is said, franked, and reported with either",
        expected: "the codec's ID is the first one; the others are refused or have another ID; the first report is about a genuine message, the second is not",
        peers: Peers::Mimi(1),
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
    let mut reporting = Reporting::begin(ctx).await?;
    let origin = origin_of(&reporting)?;
    let mut said = Vec::new();
    for vector in &vectors {
        // The same, but of Alice in this room.
        let content = received(vector, bytes(vector)?)?.content().clone();
        let own = MimiContent::new(content.salt, &origin, content.body.clone());
        let own = MimiContent {
            extensions: own.extensions,
            ..content
        };
        said.push(reporting.say(&own.salt, &encoded(&own)?).await?);
    }
    reporting.report("all of them", said).await?;
    reporting.are_genuine(&[true]).await
}

/// Alice's, in the room in which she is reported.
fn origin_of(reporting: &Reporting<'_>) -> Checked<Origin> {
    let (alice, room) = reporting.alice();
    Origin::new(alice, room).map_err(|error| Stop::Failed {
        expected: "an origin".to_owned(),
        got: error.to_string(),
    })
}

fn encoded(content: &MimiContent) -> Checked<Vec<u8>> {
    content.encode().map_err(|error| Stop::Failed {
        expected: "content that can be written".to_owned(),
        got: error.to_string(),
    })
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
    ctx.check("1024 are not", is_read, || "they are refused".to_owned())?;
    let mut reporting = Reporting::begin(ctx).await?;
    // The last byte is zero, so that HMAC takes the salt without it for the same key.
    let mut salt = [7; 16];
    salt[15] = 0;
    let salt = Salt::from_random(salt);
    let good = MimiContent::new(salt, &origin_of(&reporting)?, NestedPart::text("fish"));
    let good = encoded(&good)?;
    let ways = malformed_in_some_way(&good);
    let mut expected = vec![false; ways.len()];
    for (what, content) in ways {
        if MimiContent::decode(&content).is_ok() {
            return failed(format!("{what}: refused"), "it is read");
        }
        let said = reporting.say(&salt, &content).await?;
        reporting.report(what, vec![said]).await?;
    }
    let said = reporting.say(&salt, &good).await?;
    reporting.report("good content", vec![said]).await?;
    expected.push(true);
    reporting.are_genuine(&expected).await
}

/// Content with one text and a salt of 16 bytes, in other words that the encoding does not allow.
fn malformed_in_some_way(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    // Disposition, language, cardinality: the beginning of the only part.
    let text = good
        .windows(4)
        .rposition(|head| head == [0x85, 1, 0x60, 1])
        .unwrap_or(good.len());
    let (before, text) = good.split_at(text);
    let many = |count: &[u8], parts: &[u8]| [&[0x85, 1, 0x60, 3, 2], count, parts].concat();
    let mut five_levels = text.to_vec();
    for _ in 0..4 {
        five_levels = many(&[0x82], &[&five_levels[..], text].concat());
    }
    vec![
        ("an array in a longer form", [&[0x98, 7], &good[1..]].concat()),
        ("an array of indefinite length", [&[0x9f], &good[1..], &[0xff]].concat()),
        (
            "a salt of 15 bytes",
            [&[0x87, 0x4f], &good[2..17], &good[18..]].concat(),
        ),
        ("a byte that follows", [good, &[0]].concat()),
        ("one part", [before, &many(&[0x81], text)].concat()),
        ("five levels", [before, &five_levels].concat()),
        (
            "1025 parts",
            [before, &many(&[0x99, 4, 0], &text.repeat(1024))].concat(),
        ),
    ]
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
    })?;
    let mut reporting = Reporting::begin(ctx).await?;
    let said = MimiContent::new(sent.salt, &origin_of(&reporting)?, sent.body);
    let said = reporting.say(&said.salt, &encoded(&said)?).await?;
    reporting.report("it", vec![said]).await?;
    reporting.are_genuine(&[true]).await
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
    let mut reporting = Reporting::begin(ctx).await?;
    let salt = Salt::from_random([3; 16]);
    let content = MimiContent::new(salt, &origin_of(&reporting)?, NestedPart::text("fish"));
    let content = encoded(&content)?;
    let said = reporting.say(&salt, &content).await?;
    let longer = AbusiveMessage {
        message_content: application_framing(&[&[0x98, 7], &content[1..]].concat()).into(),
        ..said.clone()
    };
    reporting.report("as it was said", vec![said]).await?;
    reporting.report("in other bytes", vec![longer]).await?;
    reporting.are_genuine(&[true, false]).await
}
