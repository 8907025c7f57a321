//! Appending messages of about 500 bytes to a room with one follower, in one durable commit of 1, 10 or 50. The database is a file
//! below the build's target directory, so that it is on a disk.

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nabe_benches::{NOW, Room, room_id};
use nabe_core::Entry;
use nabe_store::{Batch, Store, StoreError, Write};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::LogPosition;
use tokio::runtime::{Builder, Runtime};

fn append(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let mut group = criterion.benchmark_group("sqlite");
    group.sample_size(30);
    for events in [1, 10, 50] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
        let log = RefCell::new(Log::new(&runtime, SqliteOptions::new(folder.path().join("bench.db"))));
        let store = log.borrow().store.clone();
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("append/{events}"), |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || log.borrow_mut().next(events),
                |write| commit(&store, vec![write]),
                BatchSize::PerIteration,
            );
        });
        runtime.block_on(store.close()).expect("it closes");
    }
    group.finish();
}

/// A room in a database and in memory, the latter some events ahead.
struct Log {
    store: std::sync::Arc<SqliteStore>,
    room: Room,
    messages: usize,
}

impl Log {
    fn new(runtime: &Runtime, options: SqliteOptions) -> Self {
        let room = Room::with_members(10);
        let store = runtime.block_on(SqliteStore::open(&options)).expect("it opens");
        let create = Write::CreateRoom {
            meta: room.view.meta().clone(),
            checkpoint: None,
            outliers: Vec::new(),
        };
        let append = Write::Append {
            room: room_id(),
            expected: LogPosition::ZERO,
            entries: room.log.clone(),
            followers: room.followers.clone(),
            now: NOW,
        };
        runtime.block_on(commit(&store, vec![create, append]));
        Self {
            store: store.into(),
            room,
            messages: 0,
        }
    }

    /// The next messages, to be committed before asking for more.
    fn next(&mut self, events: u64) -> Write {
        let expected = self.room.view.position();
        let entries: Vec<Entry> = (0..events).map(|_| self.message()).collect();
        Write::Append {
            room: room_id(),
            expected,
            entries,
            followers: Vec::new(),
            now: NOW,
        }
    }

    fn message(&mut self) -> Entry {
        self.messages += 1;
        let mut outcome = self.room.decide(&self.room.message_input(self.messages));
        self.room.view.apply(&outcome);
        outcome.append.remove(0)
    }
}

async fn commit(store: &SqliteStore, writes: Vec<Write>) {
    let results: Result<Vec<Result<(), StoreError>>, StoreError> = store.commit(vec![Batch::new(writes)]).await;
    for result in results.expect("the database works") {
        result.expect("the write fits");
    }
}

criterion_group!(store_sqlite, append);
criterion_main!(store_sqlite);
