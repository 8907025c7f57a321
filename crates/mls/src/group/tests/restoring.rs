//! Groups that come back from their bytes.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::key_package::MIN_REMAINING_LIFETIME;
use crate::testing::{KeyPackageOptions, Parents, group_state_on_paper};

#[test]
fn a_checkpoint_restores_the_group() {
    let room = Room::of_three();
    let restored = HubGroup::restore(&room.hub.checkpoint()).unwrap();
    assert_eq!(restored, room.hub);
    assert_eq!(restored.checkpoint(), room.hub.checkpoint());
    assert_eq!(restored.room(), ROOM);
}

#[test]
fn a_restored_group_follows_on() {
    let mut room = Room::of_three();
    room.hub = HubGroup::restore(&room.hub.checkpoint()).unwrap();
    let commit = room.member("bob").update();
    room.accept("bob", &commit);
}

#[test]
fn a_stored_change_says_what_it_changed() {
    let mut room = Room::new();
    let delta = room.join("alice", &[("bob", "@bob:b.test", "B")]);
    let parsed = StagedChange::parse(room.log.last().unwrap()).unwrap();
    assert_eq!((parsed.delta, parsed.epoch), (delta, 2));
    let first = StagedChange::parse(&room.log[0]).unwrap();
    assert_eq!(names(&first.delta.added), ["@alice:a.test/A@0"]);
    assert_eq!(first.epoch, 1);
}

#[test]
fn a_change_belongs_to_one_epoch_of_one_group() {
    let mut room = Room::of_three();
    let change = room.log.last().unwrap().clone();
    assert_eq!(
        HubGroup::replay(&mut Some(room.hub.clone()), &change),
        Err(RestoreError::WrongEpoch)
    );
    assert_eq!(HubGroup::replay(&mut None, &change), Err(RestoreError::WrongEpoch));
    // Another commit of the same epoch won.
    let loser = room.member("alice").update();
    let loser = room.stage(&loser).unwrap();
    room.member("alice").clear();
    let winner = room.member("bob").update();
    room.accept("bob", &winner);
    let after = room.hub.clone();
    assert_eq!(room.hub.merge(&loser), Err(RestoreError::WrongEpoch));
    assert_eq!(room.hub, after);
    assert_eq!(HubGroup::restore(&change), Err(RestoreError::Malformed));
}

#[test]
fn bytes_of_another_version_are_told_apart() {
    let room = Room::new();
    let bytes = room.hub.checkpoint();
    for at in [0, 1, 2, 5] {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        assert_eq!(HubGroup::restore(&other), Err(RestoreError::OtherVersion), "byte {at}");
    }
    assert_eq!(HubGroup::restore(&[]), Err(RestoreError::OtherVersion));
    assert_eq!(
        HubGroup::restore(&bytes[..bytes.len() - 1]),
        Err(RestoreError::Malformed)
    );
}

#[test]
fn the_tag_names_the_version_of_openmls_that_is_built_in() {
    let lock = include_str!("../../../../../Cargo.lock");
    let (_, after) = lock.split_once("name = \"openmls\"\nversion = \"").unwrap();
    let (version, _) = after.split_once('"').unwrap();
    let bytes = Room::new().hub.checkpoint();
    // Format, then the version as text with its length in front.
    assert_eq!(&bytes[..2 + version.len()], [&[1, 5], version.as_bytes()].concat());
}

/// A group on paper, a device that has joined it, and its commit.
fn joined(members: usize, parents: Parents) -> (TestMember, TestCommit) {
    let device = |number| TestDevice::new(&format!("@user{number}:a.test"), "D");
    let devices: Vec<_> = (0..members).map(device).collect();
    let state = group_state_on_paper(ROOM, &devices, parents);
    TestDevice::new("@alice:a.test", "A").join_externally(&state)
}

fn take_up(commit: &TestCommit) -> Result<(HubGroup, StagedChange), GroupRefusal> {
    let room = RoomId::parse(ROOM).unwrap();
    HubGroup::take_up(&room, Suite::default(), &commit.message, &commit.group_state)
}

#[test]
fn a_group_whose_leaves_have_outlived_their_key_packages_is_taken_up_and_followed() {
    let (mut alice, join) = joined(5, Parents::Expired);
    assert!(matches!(
        bootstrap(&join, Suite::default()),
        Err(GroupRefusal::LeafLifetime(_))
    ));
    let (mut hub, change) = take_up(&join).unwrap();
    assert_eq!(hub.tree_hash(), alice.tree_hash());
    assert_eq!(hub.members().len(), 6);
    assert_eq!(change.delta.added.len(), 6);
    assert_eq!(HubGroup::restore(&hub.checkpoint()).unwrap(), hub);
    for remove in [&[][..], &[1]] {
        let commit = alice.change(&[], remove);
        let change = hub.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
        hub.merge(&change).unwrap();
        alice.merge();
        assert_eq!(hub.tree_hash(), alice.tree_hash());
    }
}

#[test]
fn nothing_but_lifetimes_is_overlooked_when_a_group_is_taken_up() {
    for parents in [Parents::Blank, Parents::Expired, Parents::Full] {
        let (_, mut join) = joined(5, parents);
        for at in [join.group_state.len() - 1, join.group_state.len() / 2] {
            join.group_state[at] ^= 1;
            assert!(take_up(&join).is_err(), "{parents:?}, byte {at}");
            join.group_state[at] ^= 1;
        }
        take_up(&join).unwrap();
    }
}

#[test]
fn a_group_is_the_same_whichever_way_it_is_begun_with() {
    for parents in [Parents::Blank, Parents::Full] {
        for members in [1, 2, 3, 6, 13] {
            let (mut alice, _) = joined(members, parents);
            // A gap in the middle or at the end.
            let commit = alice.remove(&[u32::try_from(members / 2).unwrap()]);
            let info = GroupInfoBytes::parse(&commit.group_state).unwrap();
            let (ours, theirs) = (overdue::load(&info, None).unwrap(), load_tree(&info).unwrap());
            assert_eq!(
                Stored::checkpoint(&ours),
                Stored::checkpoint(&theirs),
                "{parents:?}, {members}"
            );
        }
    }
}

/// The clock that OpenMLS reads cannot be moved, so the leaves are made to expire within the test, past what a hub would
/// accept: what is shown is that neither restoring nor replaying looks at them again.
#[test]
fn a_group_is_restored_past_every_expiry() {
    let lifetime = Duration::from_secs(3);
    let made = wall_clock();
    let expires = made.as_u64() / 1000 + lifetime.as_secs();
    let brief = KeyPackageOptions {
        lifetime: Some((made.as_u64() / 1000 - 1, expires)),
        ..KeyPackageOptions::default()
    };
    // Our own rule would refuse them, so by our own clock they have two days.
    let now = made.minus(MIN_REMAINING_LIFETIME);
    let early = KeyPackageOptions {
        lifetime: Some((now.as_u64() / 1000 - 1, expires)),
        ..brief
    };

    let mut alice = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    let first = alice.update();
    let room_id = RoomId::parse(ROOM).unwrap();
    let (mut hub, change) =
        HubGroup::bootstrap(&room_id, Suite::default(), &first.message, &first.group_state, now).unwrap();
    alice.merge();
    let mut log = vec![change.bytes];
    let mut bobs = Vec::new();
    for device in ["B1", "B2", "B3"] {
        let bob = TestDevice::new("@bob:b.test", device);
        let commit = alice.add(&[bob.key_package_with(&early)]);
        let change = hub.stage(&commit.message, &commit.group_state, now).unwrap();
        hub.merge(&change).unwrap();
        alice.merge();
        bobs.push((bob, commit));
        log.push(change.bytes);
    }
    let checkpoint = hub.checkpoint();
    let (_, last) = bobs.last().unwrap();
    let from_external = HubGroup::bootstrap(&room_id, Suite::default(), &last.message, &last.group_state, now);
    assert!(from_external.is_ok(), "not expired yet");

    while wall_clock() <= UnixMillis(expires * 1000 + 1000) {
        std::thread::yield_now();
    }

    let expired = GroupRefusal::LeafLifetime(crate::key_package::LifetimeFault::Expired);
    let from_external = HubGroup::bootstrap(&room_id, Suite::default(), &last.message, &last.group_state, now);
    assert_eq!(
        from_external.map(|_| ()),
        Err(expired),
        "OpenMLS reads the clock when it checks a tree"
    );

    let restored = HubGroup::restore(&checkpoint).unwrap();
    assert_eq!(restored, hub);
    let mut replayed = None;
    for change in &log {
        HubGroup::replay(&mut replayed, change).unwrap();
    }
    assert_eq!(replayed.as_ref(), Some(&hub));
    // And the group goes on, with the expired leaves in it.
    let mut group = replayed.unwrap();
    let commit = alice.update();
    let change = group.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
    group.merge(&change).unwrap();
    alice.merge();
    assert_eq!(group.tree_hash(), alice.tree_hash());
    let commit = alice.remove(&[2]);
    let change = group.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
    assert_eq!(names(&change.delta.removed), ["@bob:b.test/B2@2"]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    Remove,
    Update,
    External,
    Resync,
}

fn steps() -> impl Strategy<Value = Vec<(Step, prop::sample::Index)>> {
    let step = prop_oneof![
        3 => Just(Step::Add),
        2 => Just(Step::Remove),
        2 => Just(Step::Update),
        1 => Just(Step::External),
        1 => Just(Step::Resync),
    ];
    prop::collection::vec((step, any::<prop::sample::Index>()), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happened to a group: at every point, its checkpoint plus the changes since, from every earlier checkpoint,
    /// is the group as it is.
    #[test]
    fn a_live_group_is_every_checkpoint_plus_the_changes_since(steps in steps()) {
        let mut room = Room::new();
        let mut last = room.member("alice").update();
        room.accept("alice", &last);
        let mut points = vec![(room.hub.checkpoint(), room.log.len())];
        for (number, (step, pick)) in steps.into_iter().enumerate() {
            let names: Vec<&'static str> = room.members.keys().copied().collect();
            let actor = names[pick.index(names.len())];
            let name: &'static str = Box::leak(format!("m{number:02}").into_boxed_str());
            let device = TestDevice::new(&format!("@{name}:x.test"), "D");
            let others: Vec<_> = names.iter().filter(|other| **other != actor).copied().collect();
            let mut joined = None;
            let (committer, commit) = match step {
                Step::Add => {
                    let commit = room.member(actor).add(&[device.key_package()]);
                    (actor, commit)
                }
                Step::Remove if !others.is_empty() => {
                    let gone = others[pick.index(others.len())];
                    let leaf = room.members.remove(gone).unwrap().leaf();
                    (actor, room.member(actor).remove(&[leaf]))
                }
                Step::External => {
                    let (member, commit) = device.join_externally(&last.group_state);
                    joined = Some((name, member));
                    (name, commit)
                }
                Step::Resync => {
                    let member = room.members.remove(actor).unwrap();
                    let (member, commit) = member.device().join_externally(&last.group_state);
                    joined = Some((actor, member));
                    (actor, commit)
                }
                Step::Remove | Step::Update => (actor, room.member(actor).update()),
            };
            room.accept(committer, &commit);
            if matches!(step, Step::Add) {
                joined = Some((name, device.join(commit.welcome())));
            }
            room.members.extend(joined);
            room.agree();
            last = commit;
            points.push((room.hub.checkpoint(), room.log.len()));
            for (checkpoint, at) in &points {
                let mut group = Some(HubGroup::restore(checkpoint).unwrap());
                for change in &room.log[*at..] {
                    HubGroup::replay(&mut group, change).unwrap();
                }
                prop_assert_eq!(group.as_ref(), Some(&room.hub));
            }
            let mut group = None;
            for change in &room.log {
                HubGroup::replay(&mut group, change).unwrap();
            }
            prop_assert_eq!(group.as_ref(), Some(&room.hub));
        }
    }
}
