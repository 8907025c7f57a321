//! What a hub pays for a commit (LM #int-mls-add-remove), beside what OpenMLS alone needs to follow it, in the same run.
//!
//! `bare` is OpenMLS's `PublicGroup`: decode, process and merge the commit, without a look at the group state that comes with it.
//! `bare_with_state` also lets OpenMLS decode that state, compares the contexts and verifies its signature, as whoever hands the
//! state out to new members has to. `hub` is `HubGroup`: all checks, staging, serializing the change, merging it.
//! `event` is the hub's path, for groups whose commit fits into an event: deciding on an `m.mls.commit` in a room and applying
//! the outcome. `plain` is the same for another event of the same size.
//!
//! `full`: every member has committed lately, so a path is short. `blank`: all members were added and none has committed since, so
//! a path names every leaf; the worst case. With 5,000 members only if `NABE_BENCH_LARGE=1`.
//!
//! Before Criterion's groups comes a table of the same work taken in turns, so that whatever else the machine does hits all
//! ways alike; the ratios in the README are from it. `-- tables` makes only the table.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use nabe_benches::{Room, room_id, user};
use nabe_core::{Ctx, Decision, Input, RoomView, StoredGroup, Via};
use nabe_event::EventBuilder;
use nabe_mls::testing::{BareGroup, Parents, TestCommit, TestDevice, group_state_on_paper, wall_clock};
use nabe_mls::{HubGroup, Suite};
use nabe_signing::json::Object;
use nabe_signing::{base64u, object};
use nabe_types::limits::MAX_EVENT_BYTES;

/// A group, and a commit for it of each kind.
struct Case {
    name: String,
    hub: HubGroup,
    checkpoint: Vec<u8>,
    /// The room, if commits fit into its events, and its members' number.
    room: Option<Room>,
    commits: Vec<(&'static str, TestCommit)>,
}

/// One way to take a commit. Returns how long it took, without what has to be prepared and dropped.
type Way<'c> = (&'static str, Box<dyn Fn() -> Duration + 'c>);

impl Case {
    /// The last of `members` joins a group on paper and makes commits. Everyone's user is in the room, so that these may be
    /// made there.
    fn new(kind: &str, members: usize, parents: Parents) -> Self {
        let device = |number: usize, device: &str| TestDevice::new(user(number).as_str(), device);
        let devices: Vec<_> = (0..members - 1).map(|number| device(number, "PHONE")).collect();
        let state = group_state_on_paper(room_id().as_str(), &devices, parents);
        let (mut alice, join) = device(members - 1, "PHONE").join_externally(&state);
        let (message, state) = (&join.message, &join.group_state);
        let (hub, _) = HubGroup::bootstrap(&room_id(), Suite::default(), message, state, wall_clock())
            .expect("the group on paper is sound");
        let update = alice.update();
        alice.clear();
        let add = alice.add(&[device(0, "TABLET").key_package()]);
        alice.clear();
        let remove = alice.remove(&[u32::try_from(members / 2).expect("a group is small")]);
        let commits = vec![("update", update), ("add", add), ("remove", remove)];
        let fits = commits.iter().all(|(_, commit)| event_bytes(commit) <= MAX_EVENT_BYTES);
        let room = fits.then(|| Room::with_encryption(members, Suite::default().room_algorithm()));
        let case = Self {
            name: format!("{kind}/{members}"),
            checkpoint: hub.checkpoint().to_vec(),
            hub,
            room,
            commits,
        };
        case.describe();
        case
    }

    fn describe(&self) {
        let checkpoint = self.checkpoint.len();
        for (kind, commit) in &self.commits {
            let change = stage(&self.hub, commit).len();
            // The service writes a checkpoint once the changes since the last one take as much as it, and 64 KiB at least.
            let commits = checkpoint.max(64 * 1024).div_ceil(change);
            println!(
                "{} {kind}: commit {} B, group state {} B; stored: change {change} B, checkpoint {checkpoint} B every {commits} \
                 commits, so {} B for each beside its event",
                self.name,
                commit.message.len(),
                commit.group_state.len(),
                change + checkpoint / commits,
            );
        }
    }

    fn restore(&self) -> HubGroup {
        HubGroup::restore(&self.checkpoint).expect("its own checkpoint")
    }

    /// The room at the point where the commit comes, sharing the group with nobody.
    fn view(&self, room: &Room) -> RoomView {
        let stored = StoredGroup {
            checkpoint: Some(self.checkpoint.clone().into()),
            ..StoredGroup::default()
        };
        room.view.clone().with_group(&stored).expect("its own checkpoint")
    }

    fn ways<'c>(&'c self, kind: &str, commit: &'c TestCommit) -> Vec<Way<'c>> {
        let mut ways: Vec<Way<'c>> = vec![
            (
                "bare",
                Box::new(|| timed(BareGroup::of(&self.hub), |bare| bare.take(&commit.message))),
            ),
            (
                "bare_with_state",
                Box::new(|| {
                    timed(BareGroup::of(&self.hub), |bare| {
                        bare.take_with_state(&commit.message, &commit.group_state);
                    })
                }),
            ),
            (
                "hub",
                Box::new(|| {
                    timed(self.restore(), |hub| {
                        let change = hub
                            .stage(&commit.message, &commit.group_state, wall_clock())
                            .expect("made by an honest member");
                        hub.merge(&change).expect("staged on this group");
                    })
                }),
            ),
        ];
        // Others may not be removed while their user is in the room.
        if let Some(room) = self.room.as_ref().filter(|_| kind != "remove") {
            let members = self.hub.members().len();
            let content = object! {
                "message" => base64u::encode(&commit.message),
                "public_group_state" => base64u::encode(&commit.group_state),
            };
            let plain = object! { "body" => "x".repeat(content.to_canonical().len()) };
            for (name, event_type, content) in [("event", "m.mls.commit", content), ("plain", "m.text", plain)] {
                let input = input(room, members - 1, event_type, content);
                ways.push((
                    name,
                    Box::new(move || timed(self.view(room), |view| take(room, view, &input))),
                ));
            }
        }
        ways
    }
}

fn stage(hub: &HubGroup, commit: &TestCommit) -> bytes::Bytes {
    let change = hub.stage(&commit.message, &commit.group_state, wall_clock());
    change.expect("made by an honest member").bytes
}

fn event_bytes(commit: &TestCommit) -> usize {
    (commit.message.len() + commit.group_state.len()) * 4 / 3 + 1024
}

fn input(room: &Room, sender: usize, event_type: &str, content: Object) -> Input {
    let sender = user(sender);
    let server = sender.server_name().clone();
    let builder = EventBuilder::new(room_id(), event_type, sender, nabe_benches::NOW, content);
    let event = builder
        .build_lpdu(room.signer_of(&server), room.hub.server(), room.view.rules())
        .expect("it fits into an event");
    Input::Lpdu {
        event,
        from: server,
        via: Via::Send,
    }
}

fn take(room: &Room, view: &mut RoomView, input: &Input) {
    let ctx = Ctx {
        now: wall_clock(),
        ..room.ctx()
    };
    match view.decide(input, &ctx).expect("the rules allow it") {
        Decision::Done(outcome) => view.apply(&outcome),
        Decision::Ask(question) => panic!("nobody to ask: {question:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn timed<T>(mut prepared: T, work: impl FnOnce(&mut T)) -> Duration {
    let start = Instant::now();
    work(black_box(&mut prepared));
    start.elapsed()
}

/// Every way in turn, many times. Prints the median and the fastest of each, and how they compare with `bare`.
fn compare(cases: &[Case]) {
    println!("\n| Commit | Way | Fastest | Median | Fastest ÷ bare | Median ÷ bare |\n|---|---|---:|---:|---:|---:|");
    for case in cases {
        let rounds = if case.hub.members().len() > 1_000 { 40 } else { 200 };
        for (kind, commit) in &case.commits {
            let ways = case.ways(kind, commit);
            let mut times: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for _ in 0..rounds {
                for (place, (_, way)) in ways.iter().enumerate() {
                    times.entry(place).or_default().push(way().as_secs_f64() * 1e6);
                }
            }
            let mut bare = None;
            for (place, (name, _)) in ways.iter().enumerate() {
                let times = times.get_mut(&place).expect("every way was taken");
                times.sort_by(f64::total_cmp);
                let (fastest, median) = (times[0], times[times.len() / 2]);
                let (bare_fastest, bare_median) = *bare.get_or_insert((fastest, median));
                println!(
                    "| {} {kind} | {name} | {fastest:.0} µs | {median:.0} µs | {:.2} | {:.2} |",
                    case.name,
                    fastest / bare_fastest,
                    median / bare_median
                );
            }
        }
    }
    println!();
}

fn mls(criterion: &mut Criterion) {
    let mut cases = Vec::new();
    for members in [100, 1_000] {
        cases.push(Case::new("full", members, Parents::Full));
        cases.push(Case::new("blank", members, Parents::Blank));
    }
    if std::env::var_os("NABE_BENCH_LARGE").is_some_and(|large| large == "1") {
        cases.push(Case::new("full", 5_000, Parents::Full));
        cases.push(Case::new("blank", 5_000, Parents::Blank));
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if filter.is_none_or(|filter| filter == "tables") {
        compare(&cases);
    }
    let mut group = criterion.benchmark_group("mls");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for case in &cases {
        for (kind, commit) in &case.commits {
            for (name, way) in case.ways(kind, commit) {
                group.bench_function(BenchmarkId::new(name, format!("{}/{kind}", case.name)), |bencher| {
                    bencher.iter_custom(|rounds| (0..rounds).map(|_| way()).sum());
                });
            }
        }
        group.bench_function(BenchmarkId::new("cold_load", &case.name), |bencher| {
            bencher.iter_batched(|| (), |()| case.restore(), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, mls);
criterion_main!(benches);
