//! Canonical JSON and Ed25519, over a message of about 500 bytes, a room's state of 100 joins, and request and object signatures.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nabe_benches::{NOW, Room};
use nabe_signing::json::{Json, Object};
use nabe_signing::{sha256, verify_object};

fn canonical_json(criterion: &mut Criterion) {
    let room = Room::with_members(100);
    let message = room.message(1).bytes().to_vec();
    let state: Json = room
        .view
        .state()
        .iter()
        .map(|event| Json::Object(event.object().clone()))
        .collect();
    let state = state.to_canonical();
    let mut group = criterion.benchmark_group("canonical_json");
    for (name, bytes) in [("message", &message), ("state_of_100", &state)] {
        let json = Json::parse(bytes).expect("it was written as JSON");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("parse/{name}"), |bencher| {
            bencher.iter(|| Json::parse(black_box(bytes)))
        });
        group.bench_function(format!("write/{name}"), |bencher| {
            bencher.iter(|| black_box(&json).to_canonical())
        });
    }
    group.finish();
}

fn ed25519(criterion: &mut Criterion) {
    let room = Room::with_members(2);
    let key = &room.hub.keys()[0];
    let public = key.public();
    let message = room.message(1).bytes().to_vec();
    let signature = key.sign(&message);
    let mut group = criterion.benchmark_group("ed25519");
    group.bench_function("sign", |bencher| bencher.iter(|| key.sign(black_box(&message))));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| public.verify(black_box(&message), &signature))
    });
    group.bench_function("sha256", |bencher| bencher.iter(|| sha256(black_box(&message))));

    let object = Object::parse(&message).expect("an event is an object");
    let mut signed = object.clone();
    room.hub.sign_object(&mut signed);
    let keys = room.hub.public_keys();
    let server = room.hub.server().as_str();
    group.bench_function("sign_object", |bencher| {
        bencher.iter_batched(
            || object.clone(),
            |mut object| room.hub.sign_object(&mut object),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("verify_object", |bencher| {
        bencher.iter(|| verify_object(black_box(&signed), server, &keys));
    });
    group.bench_function("find_key", |bencher| {
        bencher.iter(|| room.keys.for_event(room.hub.server(), black_box(key.key_id()), NOW));
    });
    group.finish();
}

criterion_group!(signing, canonical_json, ed25519);
criterion_main!(signing);
