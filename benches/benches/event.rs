//! The way of a message of about 500 bytes through `nabe-event`: schema, hashes, verification at hub and participant, completion.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nabe_benches::{NOW, Room, room_id, user};
use nabe_event::{Completion, EventBuilder, Pdu, RawEvent, RoomVersionRules, hashes};
use nabe_signing::object;

const RULES: &RoomVersionRules = &RoomVersionRules::I1;

fn hashing(criterion: &mut Criterion) {
    let room = Room::with_members(2);
    let outcome = room.decide(&room.message_input(1));
    let pdu = outcome.append[0].pdu().expect("a hub appends events").object().clone();
    let mut group = criterion.benchmark_group("hashing");
    group.bench_function("lpdu", |bencher| bencher.iter(|| hashes::lpdu_hash(black_box(&pdu))));
    group.bench_function("content", |bencher| {
        bencher.iter(|| hashes::content_hash(black_box(&pdu)))
    });
    group.bench_function("reference", |bencher| {
        bencher.iter(|| hashes::reference_hash(black_box(&pdu)))
    });
    group.finish();
}

fn receiving(criterion: &mut Criterion) {
    let room = Room::with_members(2);
    let lpdu = room.message(1).bytes().to_vec();
    let outcome = room.decide(&room.message_input(1));
    let pdu = outcome.append[0].pdu().expect("a hub appends events").bytes().clone();
    let parse = |bytes: &[u8]| RawEvent::parse(bytes, RULES).expect("it is an event");
    let mut group = criterion.benchmark_group("event");
    group.bench_function("parse/lpdu", |bencher| {
        bencher.iter(|| RawEvent::parse(black_box(&lpdu), RULES))
    });
    group.bench_function("parse/pdu", |bencher| {
        bencher.iter(|| RawEvent::parse(black_box(&pdu), RULES))
    });
    group.bench_function("load/pdu", |bencher| {
        bencher.iter(|| Pdu::from_stored(black_box(&pdu), RULES))
    });
    group.bench_function("verify/lpdu", |bencher| {
        bencher.iter_batched(
            || parse(&lpdu),
            |raw| raw.verify_lpdu(&room.keys),
            BatchSize::SmallInput,
        );
    });
    // Two signatures: the participant's and the hub's.
    group.bench_function("verify/pdu", |bencher| {
        bencher.iter_batched(|| parse(&pdu), |raw| raw.verify_pdu(&room.keys), BatchSize::SmallInput);
    });
    group.finish();
}

fn making(criterion: &mut Criterion) {
    let room = Room::with_members(2);
    let lpdu = room.message(1);
    let entry = room.decide(&room.message_input(1)).append.remove(0);
    let pdu = entry.pdu().expect("a hub appends events");
    let completion = Completion {
        auth_events: pdu.auth_events().to_vec(),
        prev_events: pdu.prev_events().to_vec(),
    };
    let builder = EventBuilder::new(
        room_id(),
        "m.room.message",
        user(0),
        NOW,
        object! { "body" => "x".repeat(200) },
    );
    let mut group = criterion.benchmark_group("event");
    group.bench_function("complete", |bencher| {
        bencher.iter_batched(
            || (lpdu.clone(), completion.clone()),
            |(lpdu, completion)| lpdu.complete(completion, &room.hub),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("build/pdu", |bencher| {
        bencher.iter_batched(
            || (builder.clone(), completion.clone()),
            |(builder, links)| builder.build_pdu(&room.hub, links.auth_events, links.prev_events, RULES),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(event, hashing, receiving, making);
criterion_main!(event);
