//! What a hub pays to accept an application message, beside an event of the same size that is not encrypted, in the same room and the
//! same run: reading and checking the bytes, deciding, applying. The room has an MLS group; accepting a message must not touch its
//! tree (LM #int-ev-encrypted).
//!
//! Before Criterion's groups comes a table of the same work taken in turns, so that whatever else the machine does hits both alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use nabe_benches::{NOW, Room, room_id, user};
use nabe_core::{Decision, Input, RoomView, StoredGroup, Via};
use nabe_event::{EventBuilder, RawEvent};
use nabe_mls::testing::{Parents, TestDevice, group_state_on_paper, wall_clock};
use nabe_mls::{HubGroup, Suite};
use nabe_signing::json::Object;
use nabe_signing::{base64u, object};

/// A room with a group, and one event of each kind as the participant's server sends it.
struct Case {
    members: usize,
    room: Room,
    view: RoomView,
    encrypted: Vec<u8>,
    plain: Vec<u8>,
}

impl Case {
    fn new(members: usize) -> Self {
        let devices: Vec<_> = (0..members - 1)
            .map(|number| TestDevice::new(user(number).as_str(), "PHONE"))
            .collect();
        let state = group_state_on_paper(room_id().as_str(), &devices, Parents::Full);
        let (_, join) = TestDevice::new(user(members - 1).as_str(), "PHONE").join_externally(&state);
        let (hub, _) = HubGroup::bootstrap(
            &room_id(),
            Suite::default(),
            &join.message,
            &join.group_state,
            wall_clock(),
        )
        .expect("the group on paper is sound");
        let algorithm = Suite::default().room_algorithm();
        let room = Room::with_encryption(members, algorithm.clone());
        let stored = StoredGroup {
            checkpoint: Some(hub.checkpoint().to_vec().into()),
            ..StoredGroup::default()
        };
        let view = room.view.clone().with_group(&stored).expect("its own checkpoint");
        // What a message of one line is, padding and signature included.
        let ciphertext = object! {
            "algorithm" => algorithm,
            "ciphertext" => base64u::encode(&[0xa5; 320]),
            "commit_event_id" => "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        };
        let encrypted = event(&room, "m.room.encrypted", ciphertext);
        let shortest = event(&room, "m.room.message", object! { "body" => "" });
        let body = "x".repeat(encrypted.len() - shortest.len());
        let plain = event(&room, "m.room.message", object! { "body" => body });
        assert_eq!(plain.len(), encrypted.len());
        Self {
            members,
            room,
            view,
            encrypted,
            plain,
        }
    }

    fn accept(&self, view: &mut RoomView, bytes: &[u8]) {
        let event = RawEvent::parse(bytes, self.room.view.rules())
            .and_then(|raw| raw.verify_lpdu(&self.room.keys))
            .expect("the participant signed it");
        let input = Input::Lpdu {
            event,
            from: self.room.participant.server().clone(),
            via: Via::Send,
        };
        match view.decide(&input, &self.room.ctx()).expect("the rules allow it") {
            Decision::Done(outcome) => view.apply(&outcome),
            Decision::Ask(question) => panic!("nobody to ask: {question:?}"),
        }
    }
}

fn event(room: &Room, event_type: &str, content: Object) -> Vec<u8> {
    EventBuilder::new(room_id(), event_type, user(1), NOW, content)
        .build_lpdu(&room.participant, room.hub.server(), room.view.rules())
        .expect("it is small")
        .bytes()
        .to_vec()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn timed(mut view: RoomView, work: impl FnOnce(&mut RoomView)) -> Duration {
    let start = Instant::now();
    work(black_box(&mut view));
    start.elapsed()
}

/// Both kinds in turn, many times.
fn compare(cases: &[Case]) {
    println!(
        "\n| Members | Encrypted, median | Not encrypted, median | Ratio | Ratio of the fastest |\n|---:|---:|---:|---:|---:|"
    );
    for case in cases {
        let (mut encrypted, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..3_000 {
            for (bytes, times) in [(&case.encrypted, &mut encrypted), (&case.plain, &mut plain)] {
                let time = timed(case.view.clone(), |view| case.accept(view, bytes));
                times.push(time.as_secs_f64() * 1e6);
            }
        }
        for times in [&mut encrypted, &mut plain] {
            times.sort_by(f64::total_cmp);
        }
        let middle = encrypted.len() / 2;
        println!(
            "| {} | {:.1} µs | {:.1} µs | {:.3} | {:.3} |",
            case.members,
            encrypted[middle],
            plain[middle],
            encrypted[middle] / plain[middle],
            encrypted[0] / plain[0]
        );
    }
    println!();
}

fn accept(criterion: &mut Criterion) {
    let cases = [100, 1_000].map(Case::new);
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if filter.is_none_or(|filter| filter == "tables") {
        compare(&cases);
    }
    let mut group = criterion.benchmark_group("accept");
    for case in &cases {
        for (name, bytes) in [("encrypted", &case.encrypted), ("plain", &case.plain)] {
            group.bench_function(BenchmarkId::new(name, case.members), |bencher| {
                bencher.iter_batched_ref(
                    || case.view.clone(),
                    |view| case.accept(view, bytes),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, accept);
criterion_main!(benches);
