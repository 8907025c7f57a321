//! MIMI's structs on the wire: reading and writing the bodies that a hub sees most, and trees of the sizes that rooms grow to. The
//! structs are those of the test vectors; trees repeat one leaf.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use nabe_benches::vectors::longest;
use nabe_wire::codec::{Encode, Message};
use nabe_wire::group_info::{GroupInfoRequest, GroupInfoResponse};
use nabe_wire::key_material::{KeyMaterialRequest, KeyMaterialResponse};
use nabe_wire::mls::{GroupInfo, KeyPackage, LeafNode, MlsMessage, Node, RatchetTree};
use nabe_wire::notify::FanoutBatch;
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::submit_message::{SubmitMessageRequest, SubmitMessageResponse};
use nabe_wire::update::UpdateRequest;
use nabe_wire::{IdentifierUri, Kind};

fn measure<T: Message>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bytes: &[u8]) {
    let value = T::from_bytes(bytes).expect("it is well-formed");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(format!("read/{name}"), |bencher| {
        bencher.iter(|| T::from_bytes(black_box(bytes)))
    });
    group.bench_function(format!("write/{name}"), |bencher| {
        bencher.iter(|| black_box(&value).to_bytes())
    });
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    macro_rules! measure_vectors {
        ($($type:ty),*) => { $(measure::<$type>(&mut group, <$type>::NAME, &longest::<$type>());)* };
    }
    measure_vectors!(
        SubmitMessageRequest,
        SubmitMessageResponse,
        FanoutBatch,
        KeyMaterialRequest,
        KeyMaterialResponse,
        UpdateRequest,
        GroupInfoRequest,
        GroupInfoResponse,
        GroupInfo,
        KeyPackage,
        MlsMessage
    );
    group.finish();
}

fn large(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let leaf = LeafNode::from_bytes(&longest::<LeafNode>()).expect("it is well-formed");
    for members in [100, 1000] {
        let node = || Some(Box::new(Node::Leaf(Box::new(leaf.clone()))));
        let tree: RatchetTree = (0..2 * members - 1)
            .map(|at| (at % 2 == 0).then(node).flatten())
            .collect();
        measure::<RatchetTree>(&mut group, &format!("RatchetTree/{members}"), &tree.to_bytes());
    }
    // What a hub sends to a follower that was away.
    measure::<FanoutBatch>(&mut group, "FanoutMessages/200", &longest::<FanoutBatch>().repeat(100));
    let users = 10_000;
    let list = participants(users);
    measure::<ParticipantListData>(&mut group, &format!("ParticipantListData/{users}"), &list);
    // What a decoder for people does: the same reading with a trace of each field.
    let kind = Kind::named("KeyPackage").expect("it has a name");
    let bytes = longest::<KeyPackage>();
    group.bench_function("trace/KeyPackage", |bencher| {
        bencher.iter(|| kind.read(black_box(&bytes)))
    });
    group.finish();
}

/// A participant list of so many users.
fn participants(users: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    for user in 0..users {
        let uri = IdentifierUri::new(format!("mimi://example.com/u/user-{user:06}")).expect("a short URI");
        uri.encode(&mut entries);
        1_u32.encode(&mut entries);
    }
    nabe_wire::codec::Bytes(entries).to_bytes()
}

criterion_group!(benches, bodies, large);
criterion_main!(benches);
