//! The state machine in a room of 1000: what the hub decides about a message and a join, applying it, and starting from a checkpoint.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nabe_benches::Room;
use nabe_core::RoomView;

fn room(criterion: &mut Criterion) {
    let room = Room::with_members(1000);
    let (message, join) = (room.message_input(1), room.join(1001));
    let mut group = criterion.benchmark_group("core");
    for (name, input) in [("message", &message), ("join", &join)] {
        group.bench_function(format!("decide/{name}/1000"), |bencher| {
            bencher.iter(|| room.view.decide(black_box(input), &room.ctx()));
        });
    }
    let outcome = room.decide(&message);
    group.bench_function("apply/message/1000", |bencher| {
        bencher.iter_batched_ref(|| room.view.clone(), |view| view.apply(&outcome), BatchSize::LargeInput);
    });
    group.bench_function("checkpoint/1000", |bencher| bencher.iter(|| room.view.checkpoint()));
    let checkpoint = room.view.checkpoint();
    group.bench_function("restore/1000", |bencher| {
        bencher.iter_batched(
            || (room.view.meta().clone(), checkpoint.clone()),
            |(meta, checkpoint)| RoomView::restore(meta, Some(checkpoint)),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(core, room);
criterion_main!(core);
