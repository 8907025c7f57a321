//! What a hub pays for a commit (LM #int-mls-add-remove): decode, check, stage, serialize the change and merge it, beside
//! what OpenMLS alone needs for decoding, processing and merging the same commit; and loading a group from its checkpoint.
//!
//! `full`: every member has committed, so each path is short. `bulk`: all members were added by one of them and have not
//! committed yet, so a path names every leaf; the worst case. Groups of 5,000 take minutes to make and are only
//! made with `NABE_BENCH_LARGE=1`.

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use nabe_mls::testing::{BareGroup, TestCommit, TestDevice, TestMember, wall_clock};
use nabe_mls::{HubGroup, Suite};
use nabe_types::RoomId;

const ROOM: &str = "!room:a.test";
const BATCH: usize = 250;

struct Case {
    name: String,
    hub: HubGroup,
    commits: Vec<(&'static str, TestCommit)>,
}

/// Members added by the first one, in batches.
fn bulk(members: usize) -> Case {
    let (mut alice, mut hub) = begin();
    let mut number = 1;
    while number < members {
        let batch: Vec<_> = (number..members.min(number + BATCH))
            .map(|number| device(number).key_package())
            .collect();
        number += batch.len();
        let commit = alice.add(&batch);
        take(&mut hub, &commit);
        alice.merge();
    }
    case(format!("bulk/{members}"), alice, hub)
}

/// Members that joined one after the other and so left no node blank on their way.
fn full(members: usize) -> Case {
    let (mut alice, mut hub) = begin();
    let first = alice.update();
    take(&mut hub, &first);
    alice.merge();
    let mut state = first.group_state;
    for number in 1..members {
        let (_, commit) = device(number).join_externally(&state);
        take(&mut hub, &commit);
        alice.process(&commit.message);
        state = commit.group_state;
    }
    case(format!("full/{members}"), alice, hub)
}

fn begin() -> (TestMember, HubGroup) {
    let mut alice = device(0).create_group(ROOM);
    let first = alice.update();
    let room = RoomId::parse(ROOM).expect("made by an honest member");
    let (hub, _) = HubGroup::bootstrap(
        &room,
        Suite::default(),
        &first.message,
        &first.group_state,
        wall_clock(),
    )
    .expect("made by an honest member");
    alice.merge();
    (alice, hub)
}

fn device(number: usize) -> TestDevice {
    TestDevice::new(&format!("@user{number}:a.test"), "D")
}

fn take(hub: &mut HubGroup, commit: &TestCommit) {
    let change = hub
        .stage(&commit.message, &commit.group_state, wall_clock())
        .expect("made by an honest member");
    hub.merge(&change).expect("made by an honest member");
}

fn case(name: String, mut alice: TestMember, hub: HubGroup) -> Case {
    let update = alice.update();
    alice.clear();
    let add = alice.add(&[TestDevice::new("@new:b.test", "D").key_package()]);
    alice.clear();
    let remove = alice.remove(&[u32::try_from(hub.members().len() / 2).expect("made by an honest member")]);
    alice.clear();
    let commits = vec![("update", update), ("add", add), ("remove", remove)];
    for (kind, commit) in &commits {
        let change = hub
            .stage(&commit.message, &commit.group_state, wall_clock())
            .expect("made by an honest member");
        println!(
            "{name} {kind}: commit {} B, group state {} B, stored change {} B, checkpoint {} B",
            commit.message.len(),
            commit.group_state.len(),
            change.bytes.len(),
            hub.checkpoint().len()
        );
    }
    Case { name, hub, commits }
}

fn mls(criterion: &mut Criterion) {
    let mut cases = vec![full(100), bulk(100), bulk(1_000)];
    if std::env::var_os("NABE_BENCH_LARGE").is_some_and(|large| large == "1") {
        cases.push(bulk(5_000));
    }
    let mut group = criterion.benchmark_group("mls");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for case in &cases {
        let checkpoint = case.hub.checkpoint();
        for (kind, commit) in &case.commits {
            let name = format!("{}/{kind}", case.name);
            group.bench_function(BenchmarkId::new("openmls", &name), |bencher| {
                bencher.iter_batched_ref(
                    || BareGroup::of(&case.hub),
                    |bare| bare.take(&commit.message),
                    BatchSize::LargeInput,
                );
            });
            group.bench_function(BenchmarkId::new("hub", &name), |bencher| {
                let now = wall_clock();
                bencher.iter_batched_ref(
                    || HubGroup::restore(&checkpoint).expect("made by an honest member"),
                    |hub| {
                        let change = hub
                            .stage(&commit.message, &commit.group_state, now)
                            .expect("made by an honest member");
                        hub.merge(&change).expect("made by an honest member");
                    },
                    BatchSize::LargeInput,
                );
            });
        }
        group.bench_function(BenchmarkId::new("restore", &case.name), |bencher| {
            bencher.iter_with_large_drop(|| HubGroup::restore(&checkpoint).expect("made by an honest member"));
        });
    }
    group.finish();
}

criterion_group!(benches, mls);
criterion_main!(benches);
