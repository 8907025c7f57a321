//! MIMI content: decoding with validation, encoding, message IDs and franking tags, over messages of the shapes that the draft's
//! examples have. With the examples themselves (`NABE_SHARED`, default `../shared` beside the workspace), those are measured too.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nabe_content::mimi::franking::FrankingTag;
use nabe_content::mimi::{
    Disposition, ExternalPart, MessageId, MimiContent, NestedPart, Origin, Part, PartSemantics, Received, Salt,
};

/// Name and encoding of each message.
fn messages() -> Vec<(String, Vec<u8>)> {
    let origin = Origin::new("mimi://example.com/u/alice", "mimi://example.com/r/fish").expect("short URIs");
    let salt = Salt::from_random([7; 16]);
    let first = MimiContent::new(
        salt,
        &origin,
        NestedPart::markdown("I am a __fish__, and I swim all day long."),
    );
    let first_bytes = first.encode().expect("it is small");
    let to = MessageId::compute(&origin, &first_bytes, &salt);
    let mut sealed = ExternalPart::link("https://example.com/storage/8ksB4bSrrRE.mp4", "2 hours of fish");
    "video/mp4".clone_into(&mut sealed.content_type);
    let attachment = NestedPart::new(Part::External(Box::new(sealed))).with_disposition(Disposition::ATTACHMENT);
    let version = |media_type| {
        let words = vec![NestedPart::html("<p>fish</p>"), NestedPart::html("<p>poisson</p>")];
        let words = NestedPart::multi(PartSemantics::ChooseOne, words);
        NestedPart::multi(
            PartSemantics::ProcessAll,
            vec![words, NestedPart::single(media_type, [7; 16])],
        )
    };
    let nested = NestedPart::multi(
        PartSemantics::ChooseOne,
        vec![version("image/gif"), version("image/png")],
    );
    let reaction = MimiContent::reaction(salt, &origin, to, &["❤", "🥳", "🤞"]).expect("three reactions");
    let own = [
        ("markdown", first.clone()),
        ("reactions", reaction),
        ("delete", MimiContent::delete(salt, &origin, to, &first)),
        ("attachment", MimiContent::new(salt, &origin, attachment)),
        ("nested", MimiContent::new(salt, &origin, nested)),
    ];
    let own = own.map(|(name, content)| (name.to_owned(), content.encode().expect("it is small")));
    let mut messages = Vec::from(own);
    messages.extend(examples());
    messages
}

/// The draft's examples, if they are there.
fn examples() -> Vec<(String, Vec<u8>)> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let shared = std::env::var_os("NABE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(workspace.join(shared).join("vectors/mimi-content")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cbor"));
    files.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        // One of the files holds derived values and no message.
        let bytes = std::fs::read(path).ok()?;
        MimiContent::decode(&bytes)
            .is_ok()
            .then_some((format!("draft/{name}"), bytes))
    };
    files.into_iter().filter_map(named).collect()
}

fn mimi_content(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mimi_content");
    let origin = Origin::new("mimi://example.com/u/alice", "mimi://example.com/r/fish").expect("short URIs");
    for (name, bytes) in messages() {
        let content = MimiContent::decode(&bytes).expect("it was written as a message");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| MimiContent::decode(black_box(&bytes)))
        });
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| black_box(&content).encode())
        });
    }
    let (_, bytes) = messages().swap_remove(0);
    let salt = Salt::from_random([7; 16]);
    group.bench_function("message_id", |bencher| {
        bencher.iter(|| MessageId::compute(black_box(&origin), black_box(&bytes), &salt))
    });
    group.bench_function("received", |bencher| {
        bencher.iter(|| Received::decode(black_box(&bytes[..]), origin.clone()))
    });
    group.bench_function("franking_tag", |bencher| {
        bencher.iter(|| FrankingTag::compute(&salt, black_box(&bytes)))
    });
    group.finish();
}

criterion_group!(benches, mimi_content);
criterion_main!(benches);
