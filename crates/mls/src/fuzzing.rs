//! Bodies of the fuzz targets: each takes any bytes and panics when an invariant breaks. They need members that make honest
//! messages, hence the feature `testing`.

use std::sync::LazyLock;

use nabe_signing::Object;
use nabe_wire::mls::MlsMessage;
use nabe_wire::update::{HandshakeParts, UpdateRequest};
use nabe_wire::{Kept, Message as _};

use crate::codec::Reader;
use crate::device::DeviceObject;
use crate::group::HubGroup;
use crate::key_package::check_key_package;
use crate::mimi::{MimiGroup, ProposalRef};
use crate::suite::Suite;
use crate::testing::mimi::{Change, MimiDevice, TestBundle, TestHub, add_participants, found};
use crate::testing::{TestCommit, TestDevice, wall_clock};

/// Any bytes as a key package, and as changes to an honest one. None is taken in but the honest one itself.
pub fn key_package(data: &[u8]) {
    static HONEST: LazyLock<(TestDevice, Vec<u8>)> = LazyLock::new(|| {
        let device = TestDevice::new("@alice:a.test", "A");
        let package = device.key_package();
        (device, package)
    });
    let (device, package) = &*HONEST;
    for bytes in [data, &patched(package, &mut Reader::new(data))] {
        let credential = device.credential();
        let checked = check_key_package(
            bytes,
            None,
            &credential.user_id,
            &credential.device_id,
            device.signature_key(),
            wall_clock(),
        );
        assert_eq!(checked.is_ok(), bytes == package, "nobody else has the key");
    }
}

/// Any JSON object as a device object, as it is and signed for the fuzzer. What is valid keeps its bytes and its owner.
pub fn device_object(data: &[u8]) {
    static DEVICE: LazyLock<TestDevice> = LazyLock::new(|| TestDevice::new("@alice:a.test", "A"));
    let Ok(object) = Object::parse(data) else { return };
    for object in [DEVICE.sign_object(object.clone()), object] {
        let Ok(device) = DeviceObject::parse(object.clone()) else {
            continue;
        };
        assert_eq!(device.object(), &object, "an object is kept as it came");
        let again = Object::parse(&device.to_canonical()).expect("canonical JSON reads");
        assert_eq!(
            DeviceObject::parse(again).as_ref(),
            Ok(&device),
            "reading is repeatable"
        );
        for suite in Suite::all().filter(|&suite| device.supports(suite)) {
            assert!(device.signature_key(suite.credential_algorithm()).is_some());
        }
    }
}

/// Steps of a hostile stream of commits. Each names one of some honest commits, all for the same epoch, and says how to
/// change it and its group state. Whatever happens, refused commits change nothing, and what is accepted leads to the
/// tree that the honest committer has.
pub fn commits(data: &[u8]) {
    static HONEST: LazyLock<Honest> = LazyLock::new(Honest::new);
    let mut hub = HubGroup::restore(&HONEST.checkpoint).expect("it was just stored");
    let mut reader = Reader::new(data);
    while let Ok(pick) = reader.u8() {
        let (commit, tree_hash) = &HONEST.commits[usize::from(pick) % HONEST.commits.len()];
        let message = patched(&commit.message, &mut reader);
        let group_state = patched(&commit.group_state, &mut reader);
        let before = hub.clone();
        match hub.stage(&message, &group_state, wall_clock()) {
            Err(_) => assert_eq!(hub, before, "a refusal changes nothing"),
            Ok(change) => {
                hub.merge(&change).expect("it was staged on this group");
                assert_eq!(hub.tree_hash(), tree_hash, "there is one tree after an honest commit");
                hub = before;
            }
        }
    }
    let _ = hub.stage(data, data, wall_clock());
}

struct Honest {
    checkpoint: Vec<u8>,
    commits: Vec<(TestCommit, Vec<u8>)>,
}

impl Honest {
    fn new() -> Self {
        let mut alice = TestDevice::new("@alice:a.test", "A").create_group("!room:a.test");
        let first = alice.add(&[
            TestDevice::new("@bob:b.test", "B").key_package(),
            TestDevice::new("@carol:c.test", "C").key_package(),
        ]);
        let room = nabe_types::RoomId::parse("!room:a.test").expect("a room ID");
        let (hub, _) = HubGroup::bootstrap(
            &room,
            Suite::default(),
            &first.message,
            &first.group_state,
            wall_clock(),
        )
        .expect("an honest commit");
        alice.merge();
        let (_, external) = TestDevice::new("@erin:e.test", "E").join_externally(&first.group_state);
        let mut commits = vec![external];
        commits.push(alice.update());
        alice.clear();
        commits.push(alice.add(&[TestDevice::new("@dave:d.test", "D").key_package()]));
        alice.clear();
        commits.push(alice.remove(&[1]));
        let after = |commit: TestCommit| {
            let change = hub
                .stage(&commit.message, &commit.group_state, wall_clock())
                .expect("an honest commit");
            let mut group = hub.clone();
            group.merge(&change).expect("it was staged on this group");
            (commit, group.tree_hash().to_vec())
        };
        Self {
            checkpoint: hub.checkpoint().to_vec(),
            commits: commits.into_iter().map(after).collect(),
        }
    }
}

/// Steps of a hostile stream of handshake messages into the hub of a MIMI room. Each names one of some honest proposals and commits, all
/// for the same epoch, and says how to change it and what comes with it. Whatever happens, what is refused changes nothing, a
/// proposal that is accepted is the honest one, and an accepted commit leads to the honest committer's tree.
pub fn mimi_handshakes(data: &[u8]) {
    static HONEST: LazyLock<HonestRoom> = LazyLock::new(HonestRoom::new);
    let honest = &*HONEST;
    let group = MimiGroup::restore(&honest.checkpoint).expect("it was just stored");
    let mut reader = Reader::new(data);
    while let Ok(pick) = reader.u8() {
        let pick = usize::from(pick) % (honest.proposals.len() + honest.commits.len());
        if let Some((message, reference)) = honest.proposals.get(pick) {
            let Ok(message) = MlsMessage::from_bytes(&patched(message, &mut reader)) else {
                continue;
            };
            if let Ok(staged) = group.propose(&Kept::new(message), &[], wall_clock()) {
                assert_eq!(staged.proposals[0].reference, *reference, "nobody else has the keys");
                take(&group, &staged.bytes);
            }
        } else {
            let (request, tree_hash) = &honest.commits[pick - honest.proposals.len()];
            let Ok(request) = UpdateRequest::from_bytes(&patched(request, &mut reader)) else {
                continue;
            };
            let HandshakeParts::Commit(parts) = &request.with else {
                continue;
            };
            if let Ok(staged) = group.stage(&request.proposal_or_commit, parts, wall_clock()) {
                let group = take(&group, &staged.bytes);
                assert_eq!(group.tree_hash(), tree_hash, "there is one tree after an honest commit");
            }
        }
    }
    assert_eq!(group.checkpoint(), honest.checkpoint, "checking changes nothing");
    assert!(MimiGroup::restore(data).is_err(), "nothing this short is a group");
}

/// The group after a change, which is the same after a restart.
fn take(before: &MimiGroup, change: &[u8]) -> MimiGroup {
    let mut live = before.clone();
    live.merge(change).expect("it was staged on this group");
    let mut replayed = Some(MimiGroup::restore(&before.checkpoint()).expect("its own checkpoint"));
    MimiGroup::replay(&mut replayed, change).expect("it was staged on this group");
    assert!(replayed.as_ref() == Some(&live), "a replayed group is the live one");
    live
}

struct HonestRoom {
    checkpoint: Vec<u8>,
    proposals: Vec<(Vec<u8>, ProposalRef)>,
    commits: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HonestRoom {
    fn new() -> Self {
        let hub = TestHub::new("mimi://a.example");
        let mut alice = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&hub);
        let mut group = found(&hub, &alice);
        let bob = MimiDevice::new("mimi://b.example/d/bob/B");
        let bundle = alice.commit(Change {
            add: vec![bob.key_package()],
            updates: vec![add_participants(&[("mimi://b.example/u/bob", 2)])],
            ..Change::default()
        });
        let staged = group.stage(&bundle.commit, &bundle.parts, wall_clock());
        group
            .merge(&staged.expect("an honest commit").bytes)
            .expect("it was staged on this group");
        alice.merge();
        let mut bob = bob.join(bundle.welcome(), &group.ratchet_tree());

        let dave = || MimiDevice::new("mimi://d.example/d/dave/D");
        let list = add_participants(&[("mimi://d.example/u/dave", 2)]);
        let by_hub = nabe_wire::mls::Proposal::AppDataUpdate(list.clone());
        let by_hub = group.hub_proposal(by_hub, hub.signer()).expect("the hub has its key");
        let proposals = [
            bob.leave(),
            bob.propose_component(&list),
            by_hub,
            dave().ask_to_join(&group),
        ];
        let reference = |message: &Kept<MlsMessage>| {
            let staged = group.propose(message, &[], wall_clock()).expect("an honest proposal");
            (message.as_bytes().to_vec(), staged.proposals[0].reference.clone())
        };
        let proposals = proposals.iter().map(reference).collect();

        let mut commits = vec![dave().join_externally(&group, std::slice::from_ref(&list)).1];
        for change in [
            Change::default(),
            Change {
                add: vec![dave().key_package()],
                updates: vec![list],
                ..Change::default()
            },
            Change {
                remove: vec![1],
                ..Change::default()
            },
        ] {
            commits.push(alice.commit(change).in_parts());
            alice.clear();
        }
        let tree_hash = |bundle: &TestBundle| {
            let staged = group.stage(&bundle.commit, &bundle.parts, wall_clock());
            let after = take(&group, &staged.expect("an honest commit").bytes);
            (bundle.to_request(), after.tree_hash().to_vec())
        };
        Self {
            commits: commits.iter().map(tree_hash).collect(),
            checkpoint: group.checkpoint().to_vec(),
            proposals,
        }
    }
}

/// `bytes` after changes read from `reader`: a count, then for each a place and what to put there, or a new length.
fn patched(bytes: &[u8], reader: &mut Reader<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..reader.u8().unwrap_or(0) % 8 {
        let (Ok(at), Ok(how)) = (reader.u16(), reader.u8()) else {
            break;
        };
        match (bytes.get_mut(usize::from(at)), how) {
            (_, 0) => bytes.truncate(usize::from(at)),
            (Some(byte), _) => *byte ^= how,
            (None, _) => bytes.push(how),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_as_key_packages(data in prop::collection::vec(any::<u8>(), 0..64)) {
            key_package(&data);
        }

        #[test]
        fn any_bytes_as_commits(data in prop::collection::vec(any::<u8>(), 0..64)) {
            commits(&data);
        }

        #[test]
        fn any_bytes_as_handshakes_of_mimi(data in prop::collection::vec(any::<u8>(), 0..24)) {
            mimi_handshakes(&data);
        }

        #[test]
        fn near_device_objects(user in "(@alice:a.test|@b:b.test|x)", device in "[A-B]{0,2}", key in "[A-Za-z0-9]{0,8}") {
            device_object(
                format!(
                    r#"{{"user_id":"{user}","device_id":"{device}","algorithms":["m.x"],"keys":{{"m.x:{device}":"{key}"}}}}"#
                )
                .as_bytes(),
            );
        }
    }

    #[test]
    fn honest_commits_pass_and_a_real_device_object_is_read() {
        commits(&[0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0]);
        mimi_handshakes(&[0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0]);
        key_package(&[0]);
        device_object(&TestDevice::new("@bob:b.test", "B").device_object().to_canonical());
    }
}
