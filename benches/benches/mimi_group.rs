//! What the hub of a MIMI room pays for a commit (MIMI #update-room-state), beside what OpenMLS alone needs to follow it, in the
//! same run.
//!
//! `bare` is OpenMLS's `PublicGroup`: decode, process and merge the commit. `hub` is `MimiGroup` given a request that is read:
//! all checks, putting the GroupInfo together and verifying it, serializing the change, merging it. `room` is the hub's path: from the
//! request's bytes on, with the room's policy, up to the entries for followers, all of it taken into the room.
//!
//! `update` renews a leaf, `add` puts a user on the list and adds a client, `rename` changes the room's metadata and nothing else, `tree`
//! is an update that brings the whole ratchet tree along, which is then hashed and compared. GroupInfos are partial but for that.
//!
//! `full`: every member has committed lately, so a path is short. `blank`: nobody has, so a path names every leaf; the worst case. Each
//! member's user is on the participant list. With 5,000 members only if `NABE_BENCH_LARGE=1`.
//!
//! Before Criterion's groups comes a table of the same work taken in turns; `-- tables` makes only the table, and with more words
//! (`-- tables,blank/100,add`) only of the rows that contain each of them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use nabe_auth::mimi::{JoinCode, templates};
use nabe_core::StoredGroup;
use nabe_core::mimi::{KeyPackageRoute, MimiCtx, MimiRoom, StoredMimiRoom};
use nabe_mls::mimi::MimiGroup;
use nabe_mls::testing::mimi::{
    BareMimiGroup, Change, MimiDevice, TestBundle, TestHub, add_participants, key_package_ref, metadata, room,
    room_on_paper_with, set_component,
};
use nabe_mls::testing::{Parents, wall_clock};
use nabe_types::{LogPosition, ServerName};
use nabe_wire::Message as _;
use nabe_wire::mls::{ComponentId, RatchetTreeOption};
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::update::UpdateRequest;
use nabe_wire::uri::MimiUri;

struct Case {
    name: String,
    hub: TestHub,
    server: ServerName,
    /// Whose the key packages are that commits add.
    routes: BTreeMap<Vec<u8>, KeyPackageRoute>,
    checkpoint: Vec<u8>,
    group: MimiGroup,
    commits: Vec<(&'static str, TestBundle)>,
}

/// One way to take a commit. Returns how long it took, without what has to be prepared and dropped.
type Way<'c> = (&'static str, Box<dyn Fn() -> Duration + 'c>);

impl Case {
    fn new(kind: &str, members: usize, parents: Parents) -> Self {
        let device = |number: usize| MimiDevice::new(&format!("mimi://a.example/d/user{number}/PHONE"));
        let devices: Vec<_> = (0..members).map(device).collect();
        let (last, others) = devices.split_last().expect("there are members");
        let hub = TestHub::new("mimi://a.example");
        let policy = templates::cooperative("a.example").dictionary(&ParticipantListData {
            participants: Vec::new(),
        });
        let (info, tree) = room_on_paper_with(&hub, others, parents, |draft| {
            let parts = policy.entries().iter();
            for part in parts.filter(|part| part.component_id != ComponentId::PARTICIPANT_LIST) {
                draft.set(part.component_id, part.data.to_vec());
            }
        });
        let tree = RatchetTreeOption::Full(tree);
        let user = format!("mimi://a.example/u/user{}", members - 1);
        let joining = [add_participants(&[(&user, 4)])];
        let (mut alice, _) = last.join_externally_with(info.as_bytes(), &tree, &[], &joining);
        let (info, tree) = alice.hand_over();
        let (group, checkpoint) =
            MimiGroup::follow(&room(), hub.sender(), &info, &tree, wall_clock()).expect("the room on paper is sound");
        let mut commit = |change: Change| {
            let bundle = alice.commit(change).in_parts();
            alice.clear();
            bundle
        };
        let update = commit(Change::default());
        let bob = MimiDevice::new("mimi://b.example/d/bob/PHONE").key_package();
        let route = KeyPackageRoute {
            provider: ServerName::parse("b.example").expect("a name"),
            user: MimiUri::parse("mimi://b.example/u/bob").expect("a user"),
            client: MimiUri::parse("mimi://b.example/d/bob/PHONE").expect("a client"),
        };
        let routes = BTreeMap::from([(key_package_ref(&bob), route)]);
        let add = commit(Change {
            add: vec![bob],
            updates: vec![add_participants(&[("mimi://b.example/u/bob", 2)])],
            ..Change::default()
        });
        let name = metadata(&room().to_string(), "Another name");
        let rename = commit(Change {
            updates: vec![set_component(ComponentId::ROOM_METADATA, name)],
            ..Change::default()
        });
        let with_tree = alice.update();
        alice.merge();
        let with_tree = with_tree.with_tree(alice.tree());
        let case = Self {
            name: format!("{kind}/{members}"),
            hub,
            server: ServerName::parse("a.example").expect("a name"),
            routes,
            checkpoint: checkpoint.to_vec(),
            group,
            commits: vec![
                ("update", update),
                ("add", add),
                ("rename", rename),
                ("tree", with_tree),
            ],
        };
        case.describe();
        case
    }

    fn describe(&self) {
        for (kind, bundle) in &self.commits {
            let staged = self.group.stage(&bundle.commit, &bundle.parts, wall_clock());
            println!(
                "{} {kind}: commit {} B, request {} B; stored: change {} B, checkpoint {} B",
                self.name,
                bundle.commit.as_bytes().len(),
                bundle.to_request().len(),
                staged.expect("made by an honest member").bytes.len(),
                self.checkpoint.len(),
            );
        }
    }

    fn restore(&self) -> MimiGroup {
        MimiGroup::restore(&self.checkpoint).expect("its own checkpoint")
    }

    /// The room as its hub has it.
    fn room(&self) -> MimiRoom {
        let stored = StoredMimiRoom {
            uri: room(),
            created_at: wall_clock(),
            group: StoredGroup {
                checkpoint: Some(self.checkpoint.clone().into()),
                ..StoredGroup::default()
            },
            left_over: bytes::Bytes::new(),
            proposals: Vec::new(),
            position: LogPosition::FIRST,
            newest: wall_clock(),
        };
        MimiRoom::restore(stored, &self.server).expect("it holds together")
    }

    fn ctx(&self) -> MimiCtx<'_> {
        MimiCtx {
            now: wall_clock(),
            signer: self.hub.signer(),
            franking: None,
            franking_agent: None,
            parent: None,
        }
    }

    fn ways<'c>(&'c self, bundle: &'c TestBundle) -> Vec<Way<'c>> {
        let request = bundle.to_request();
        vec![
            (
                "bare",
                Box::new(|| {
                    timed(BareMimiGroup::of(&self.group), |bare| {
                        bare.take(bundle.commit.as_bytes());
                    })
                }),
            ),
            (
                "hub",
                Box::new(|| {
                    timed(self.restore(), |group| {
                        let staged = group.stage(&bundle.commit, &bundle.parts, wall_clock());
                        let staged = staged.expect("made by an honest member");
                        group.merge_staged(staged.next).expect("staged on this group");
                    })
                }),
            ),
            (
                "room",
                Box::new(move || {
                    timed(self.room(), |room| {
                        let request = UpdateRequest::from_bytes(&request).expect("a request reads");
                        let outcome = room.update(&self.server, &request, &self.routes, JoinCode::Absent, &self.ctx());
                        room.apply(outcome.expect("the policy allows it"));
                    })
                }),
            ),
        ]
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn timed<T>(mut prepared: T, work: impl FnOnce(&mut T)) -> Duration {
    let start = Instant::now();
    work(black_box(&mut prepared));
    start.elapsed()
}

/// Every way in turn, many times, of the rows with all of these words. Prints the fastest and the median of each, and how they compare with
/// `bare`.
fn compare(cases: &[Case], words: &[&str]) {
    println!("\n| Commit | Way | Fastest | Median | Fastest ÷ bare | Median ÷ bare |\n|---|---|---:|---:|---:|---:|");
    for case in cases {
        let rounds = if case.group.members().len() > 1_000 { 40 } else { 200 };
        for (kind, bundle) in &case.commits {
            let row = format!("{} {kind}", case.name);
            if !words.iter().all(|word| row.contains(word)) {
                continue;
            }
            let ways = case.ways(bundle);
            let mut times = vec![Vec::with_capacity(rounds); ways.len()];
            for _ in 0..rounds {
                for (times, (_, way)) in times.iter_mut().zip(&ways) {
                    times.push(way().as_secs_f64() * 1e6);
                }
            }
            let mut bare = None;
            for (times, (name, _)) in times.iter_mut().zip(&ways) {
                times.sort_by(f64::total_cmp);
                let (fastest, median) = (times[0], times[rounds / 2]);
                let (bare_fastest, bare_median) = *bare.get_or_insert((fastest, median));
                println!(
                    "| {row} | {name} | {fastest:.0} µs | {median:.0} µs | {:.2} | {:.2} |",
                    fastest / bare_fastest,
                    median / bare_median
                );
            }
        }
    }
    println!();
}

fn mimi_group(criterion: &mut Criterion) {
    let mut sizes = vec![100, 1_000];
    if std::env::var_os("NABE_BENCH_LARGE").is_some_and(|large| large == "1") {
        sizes.push(5_000);
    }
    let mut cases = Vec::new();
    for members in sizes {
        cases.push(Case::new("full", members, Parents::Full));
        cases.push(Case::new("blank", members, Parents::Blank));
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let mut words = filter.iter().flat_map(|filter| filter.split(','));
    if words.next().is_none_or(|first| first == "tables") {
        compare(&cases, &words.collect::<Vec<_>>());
    }
    let mut group = criterion.benchmark_group("mimi_group");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for case in &cases {
        for (kind, bundle) in &case.commits {
            for (name, way) in case.ways(bundle) {
                group.bench_function(BenchmarkId::new(name, format!("{}/{kind}", case.name)), |bencher| {
                    bencher.iter_custom(|rounds| (0..rounds).map(|_| way()).sum());
                });
            }
        }
        group.bench_function(BenchmarkId::new("cold_load", &case.name), |bencher| {
            bencher.iter(|| case.restore());
        });
    }
    group.finish();
}

criterion_group!(benches, mimi_group);
criterion_main!(benches);
