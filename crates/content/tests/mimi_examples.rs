//! The working group's examples: the 14 files `*.cbor`, byte for byte, with the IDs that their `*.edn` state; and franking of one of them.
//!
//! They are looked for in `vectors/mimi-content` under `NABE_SHARED` (default `../shared` beside the workspace) and are not part of this
//! repository. Without them these tests say so and pass, unless `NABE_REQUIRE_ALL=1`.

#![expect(clippy::unwrap_used, reason = "a malformed example must fail the tests")]

use std::path::{Path, PathBuf};

use nabe_content::mimi::franking::{
    CipherSuite, Frank, FrankingContext, FrankingTag, HubKey, KeyRing, Known, application_framing, ed25519,
};
use nabe_content::mimi::matrix::{IdMap, to_matrix};
use nabe_content::mimi::{Disposition, Expiration, Intent, MimiContent, Origin, Part, PartIndex, Received};
use nabe_signing::SigningKey;
use nabe_types::{EventId, KeyId, UnixMillis};

/// Name and ID of each example.
const EXAMPLES: [(&str, &str); 14] = [
    (
        "original",
        "017ce54837404c3696e0c747b985cb172716d0ed0a3d249ca63ace7d82a096f4",
    ),
    (
        "reply",
        "015354973c2b65ca937bf1e035ae53a5ab80e947afa43d46920d4202e5cc0b27",
    ),
    (
        "reaction",
        "0158c4288911e50a8f6be3f47746b6682f10fd91bc8c05557aa589a3157aff68",
    ),
    (
        "mention",
        "018d825adf9f6be00dcafc5704c4102f5022e74219d0b603e4ba7622654042af",
    ),
    (
        "mention-html",
        "01967ff8e9a66819738ad5cf26d2e0388a3b81d86b0f61d129c077d043ee2a4e",
    ),
    (
        "edit",
        "014028c0deddbdea56bec26172f6ede953d11024cb82b8192b5e2aea62d7fb47",
    ),
    (
        "delete",
        "011d9efc78d04d4dcf4d82b07d5199bbef37011c1f0c7e004b6111c6dda504b4",
    ),
    (
        "unlike",
        "013aadbb8f313253c8930f4e93c6ca54b2ed06d258185bdcec3870534c8a4ec4",
    ),
    (
        "expiring",
        "01e59db8173939facc2c8a4a0f0ae8d0c7a11a81239626630c9464a8d6717a03",
    ),
    (
        "attachment",
        "0176180c7d19a925021fe446d241134d05c38e0d999cdc0f39c391d2377ed9d1",
    ),
    (
        "conferencing",
        "01496d15a8dba28d7397f9868b70768e4a67f765d5b5b1ae9e03848c5fdeb0ba",
    ),
    (
        "multipart-1",
        "01da5a515ec5db42cc4dcc19b90c3c31245d8a1cfcce11318f24eb11dce0990e",
    ),
    (
        "multipart-2",
        "01d65918c6c51c8e76546337276ae6f4bfd873d867d5cb57c76bcdca3d999dd7",
    ),
    (
        "multipart-3",
        "01cfebeadbdb83c1eefb6403ba4852daf8bbbf9cd53bf5035a74d5d741950c9f",
    ),
];

/// Where the examples are, if they are.
fn folder() -> Option<PathBuf> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let shared = std::env::var_os("NABE_SHARED").map_or_else(|| workspace.join("../shared"), |at| workspace.join(at));
    let folder = shared.join("vectors/mimi-content");
    if folder.is_dir() {
        return Some(folder);
    }
    let message = format!(
        "SKIPPED: {} is missing; set NABE_SHARED to the folder that holds it",
        folder.display()
    );
    assert_ne!(std::env::var("NABE_REQUIRE_ALL").as_deref(), Ok("1"), "{message}");
    println!("{message}");
    None
}

fn example(folder: &Path, name: &str) -> Received {
    let bytes = std::fs::read(folder.join(name).with_extension("cbor")).unwrap();
    let content = MimiContent::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let origin = Origin::claimed(&content).unwrap();
    Received::decode(bytes, origin).unwrap()
}

#[test]
fn the_drafts_examples_round_trip_and_have_their_ids() {
    let Some(folder) = folder() else { return };
    for (name, id) in EXAMPLES {
        let received = example(&folder, name);
        assert_eq!(received.content().encode().unwrap(), received.bytes(), "{name}");
        assert_eq!(received.id().to_string(), id, "{name}");
        let stated = std::fs::read_to_string(folder.join(name).with_extension("edn")).unwrap();
        let stated: String = stated
            .split("h'")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned();
        let stated: String = stated.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(stated, id, "{name}: the file's own statement");
    }
}

#[test]
fn every_truncation_of_the_examples_is_refused() {
    let Some(folder) = folder() else { return };
    for (name, _) in EXAMPLES {
        let bytes = example(&folder, name).bytes().to_vec();
        for length in 0..bytes.len() {
            assert!(
                MimiContent::decode(&bytes[..length]).is_err(),
                "{name} cut to {length} bytes"
            );
        }
    }
}

#[test]
fn the_examples_mean_what_the_draft_says() {
    let Some(folder) = folder() else { return };
    let content = |name| example(&folder, name).content().clone();
    let id = |name| example(&folder, name).id();
    let (original, reply, reaction) = (id("original"), id("reply"), id("reaction"));
    assert_eq!(content("original").intent(), Intent::Post);
    assert_eq!(content("reply").intent(), Intent::Reply { to: original });
    assert_eq!(content("reaction").intent(), Intent::Reaction { to: original });
    assert_eq!(content("edit").intent(), Intent::Edit { of: reply });
    assert_eq!(content("delete").intent(), Intent::Delete { of: reply });
    assert_eq!(content("unlike").intent(), Intent::Delete { of: reaction });
    assert_eq!(
        content("expiring").expires,
        Some(Expiration::Absolute { seconds: 1_644_390_004 })
    );
    assert_eq!(content("conferencing").topic_id, b"Foo 118");
    assert_eq!(content("conferencing").body.disposition, Disposition::SESSION);
    let nested = content("multipart-3").body;
    assert_eq!(nested.parts().count(), 11);
    assert!(nested.wrong_references().is_empty());
    for (from, to) in [(3, 5), (4, 5), (8, 10), (9, 10)] {
        let part = nested.part_at(PartIndex(from)).unwrap();
        assert_eq!(part.references(), [PartIndex(to)]);
        assert!(matches!(nested.part_at(PartIndex(to)).unwrap().part, Part::Single(_)));
    }
}

#[test]
fn every_example_becomes_matrix_events() {
    let Some(folder) = folder() else { return };
    let mut ids = IdMap::new();
    for (at, (name, _)) in EXAMPLES.iter().enumerate() {
        ids.link(example(&folder, name).id(), EventId::from_hash([at as u8; 32]));
    }
    let kinds = |name| {
        let events = to_matrix(example(&folder, name).content(), &ids).value;
        events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    for name in [
        "original",
        "reply",
        "mention",
        "mention-html",
        "edit",
        "expiring",
        "attachment",
        "conferencing",
    ] {
        assert_eq!(kinds(name), ["m.message"], "{name}");
    }
    assert_eq!(kinds("reaction"), ["m.reaction"]);
    assert_eq!(kinds("delete"), ["m.room.redaction"]);
    assert_eq!(kinds("unlike"), ["m.room.redaction"]);
}

/// Computed apart from this code, from `original.cbor`, hub key and seed `00..1f`, cipher suite 1.
#[test]
fn the_original_example_is_franked_as_computed_elsewhere() {
    let Some(folder) = folder() else { return };
    let received = example(&folder, "original");
    let content = received.content();
    let counting: [u8; 32] = std::array::from_fn(|at| at as u8);
    let agent = SigningKey::from_seed(KeyId::ed25519("x").unwrap(), counting);
    let mut keys = KeyRing::new();
    keys.add(UnixMillis(0), HubKey::from_random(counting));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sign = |message: &[u8]| agent.sign(message).to_bytes().to_vec();
    let context = FrankingContext {
        origin: received.origin().clone(),
        accepted: UnixMillis(1_644_387_225_019),
    };
    let framed = application_framing(received.bytes());
    for (data, tag, server_frank) in [
        (
            received.bytes(),
            "a9a69f1d2fe6f37984190c093ecb8a10d647093db735fb7ba926bfdccff4c2bf",
            "395d272f8a11846200e6c5cece361210556ac6981b2f6462c29ad92bbcba8609",
        ),
        (
            &framed,
            "cac50818a758d500a44109d35073e0ce59d35c81f68eaf911c5b930d014034d0",
            "be7478355d4b9b8077360e58123a7a8eecfa72c78abe5707aa64be06d9986bc2",
        ),
    ] {
        let computed = FrankingTag::compute(&content.salt, data);
        assert_eq!(hex(&computed.0), tag);
        let frank = Frank::stamp(&keys, CipherSuite(1), &computed, &context, sign).unwrap();
        assert_eq!(hex(&frank.server_frank), server_frank);
        let known = Known {
            origin: received.origin(),
            accepted: context.accepted,
            cipher_suite: CipherSuite(1),
        };
        let verified = frank.verify_received(&computed, data, &known, ed25519(agent.public()));
        assert_eq!(verified.as_ref(), Ok(&context));
    }
    let tag = FrankingTag::compute(&content.salt, received.bytes());
    let frank = Frank::stamp(&keys, CipherSuite(1), &tag, &context, sign).unwrap();
    assert_eq!(
        hex(&frank.integrity_signature),
        "ed5e45b8f5e5827b6876d2e047b43f80b20a0df2c504afc67961dc3e006851bbf026a396ace8cc25fcd0363f471fd12cec05edffe018d7631d524c30a7c23e07"
    );
}
