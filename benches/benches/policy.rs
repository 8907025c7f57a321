//! Decisions under the policy of a MIMI room with ten thousand participants, each with a client: what a hub asks before it accepts
//! anything. Beside them what is not a decision and goes through the whole list: loading the room, and the list after a commit.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use nabe_auth::mimi::templates::{GROUP_ADMIN, ORDINARY_USER};
use nabe_auth::mimi::{
    Action, Bundle, Client, Commit, CommitProposal, Committer, JoinCode, MessageEpoch, Proposer, Room,
};
use nabe_benches::policy::{OWNER, ROOM, SOMEBODY, claims, dictionary, list, load, removal, user};
use nabe_wire::codec::{Bytes, NulFreeText};
use nabe_wire::mls::{ComponentId, WireFormat};
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::Uri;

const SIZES: [u32; 2] = [10, 10_000];
fn renamed() -> Action {
    let words = |text: &str| NulFreeText::new(text).expect("no null character");
    let metadata = RoomMetaData {
        room_uri: Uri::new(ROOM).expect("a URI"),
        room_name: words("another name"),
        room_descriptions: vec![],
        room_avatar: Uri::default(),
        room_subject: words(""),
        room_mood: words(""),
    };
    Action::update(ComponentId::ROOM_METADATA, &metadata)
}

/// A thousand users who are asked for, by four who list them.
fn fill(room: &mut Room, size: u32) {
    for number in 0..1_000 {
        let leaf = 10 + number % 4;
        let claims = claims(&user(leaf));
        let proposals = [(
            Bytes(vec![255, (number >> 8).to_le_bytes()[0], number.to_le_bytes()[0]]),
            list(&[], &[], &[(size + 1 + number, ORDINARY_USER)]),
        )];
        let bundle = Bundle {
            proposer: Proposer::Member { leaf, claims: &claims },
            proposals: &proposals,
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        let proposed = room.propose(&bundle, None).expect("allowed");
        room.accept(proposed).expect("nothing happened in between");
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for size in SIZES {
        let room = load(&dictionary(size), size);
        let newcomer = user(size);
        let joiner = Client::new(newcomer.clone(), claims(&newcomer));
        let owner = claims(&user(OWNER));
        let add = Action::Add(Box::new(joiner.clone()));
        let proposals = |actions: &[Action]| -> Vec<(Bytes, Action)> {
            let references = (0..=u8::MAX).map(|number| Bytes(vec![number; 32]));
            references.zip(actions.iter().cloned()).collect()
        };
        for (name, actions) in [
            ("add", vec![list(&[], &[], &[(size, ORDINARY_USER)]), add]),
            ("remove", removal(SOMEBODY).into()),
            ("ban", vec![list(&[(SOMEBODY, 1)], &[], &[]), Action::Remove(SOMEBODY)]),
            ("role", vec![list(&[(SOMEBODY, GROUP_ADMIN)], &[], &[])]),
            ("rename", vec![renamed()]),
        ] {
            let proposals = proposals(&actions);
            let bundle = Bundle {
                proposer: Proposer::Member {
                    leaf: OWNER,
                    claims: &owner,
                },
                proposals: &proposals,
                wire_format: WireFormat::PUBLIC_MESSAGE,
            };
            group.bench_function(BenchmarkId::new(format!("propose/{name}"), size), |bencher| {
                bencher.iter(|| room.propose(black_box(&bundle), None).expect("allowed"));
            });
            let inline: Vec<_> = actions.into_iter().map(CommitProposal::Inline).collect();
            let commit = Commit {
                committer: Committer::Member {
                    leaf: OWNER,
                    claims: &owner,
                    path: None,
                },
                proposals: &inline,
                expired: &[],
                wire_format: WireFormat::PUBLIC_MESSAGE,
            };
            group.bench_function(BenchmarkId::new(format!("commit/{name}"), size), |bencher| {
                bencher.iter(|| room.commit(black_box(&commit), None).expect("allowed"));
            });
            // The same once a thousand of others' proposals are pending.
            let mut busy = room.clone();
            if size > 1_000 {
                fill(&mut busy, size);
                group.bench_function(
                    BenchmarkId::new(format!("propose_among_1000/{name}"), size),
                    |bencher| {
                        bencher.iter(|| busy.propose(black_box(&bundle), None).expect("allowed"));
                    },
                );
            }
            if name == "remove" {
                let decide = || room.commit(&commit, None).expect("allowed");
                group.bench_function(BenchmarkId::new("merge/remove", size), |bencher| {
                    let both = || (room.clone(), decide());
                    bencher.iter_batched_ref(
                        || Some(both()),
                        |taken| {
                            let (mut room, merge) = taken.take()?;
                            room.merge(merge).expect("nothing happened in between");
                            Some(room)
                        },
                        BatchSize::LargeInput,
                    );
                });
                let merge = decide();
                group.bench_function(BenchmarkId::new("list_after/remove", size), |bencher| {
                    bencher.iter(|| room.component_changes(black_box(&merge)));
                });
            }
        }
        let puts_themself = [CommitProposal::Inline(list(&[], &[], &[(size, ORDINARY_USER)]))];
        let join = Commit {
            committer: Committer::NewMember {
                client: &joiner,
                code: JoinCode::Absent,
            },
            proposals: &puts_themself,
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        group.bench_function(BenchmarkId::new("commit/open_join", size), |bencher| {
            bencher.iter(|| room.commit(black_box(&join), None).expect("allowed"));
        });
        let sender = user(SOMEBODY);
        group.bench_function(BenchmarkId::new("send", size), |bencher| {
            bencher.iter(|| room.send(black_box(&sender), MessageEpoch::Behind(0)));
        });
        group.bench_function(BenchmarkId::new("group_info", size), |bencher| {
            bencher.iter(|| room.group_info(black_box(&joiner), JoinCode::Absent, None));
        });
        let dictionary = dictionary(size);
        group.bench_function(BenchmarkId::new("load", size), |bencher| {
            bencher.iter(|| load(black_box(&dictionary), size));
        });
    }
    group.finish();
}

criterion_group!(policy, decisions);
criterion_main!(policy);
