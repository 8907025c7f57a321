//! Rooms with real OpenMLS members, and a hub that follows them.

mod large;
mod refusals;
mod restoring;

use std::collections::BTreeMap;

use super::*;
use crate::testing::{TestCommit, TestDevice, TestMember, wall_clock};

const ROOM: &str = "!room:a.test";

/// Members of a room's group, and its hub. Every accepted commit goes to everyone.
struct Room {
    members: BTreeMap<&'static str, TestMember>,
    hub: HubGroup,
    /// The first change's bytes, and each later one's.
    log: Vec<Bytes>,
}

impl Room {
    /// A room with one member, alice's device A, after its first commit.
    fn new() -> Self {
        Self::with_suite(Suite::default())
    }

    fn with_suite(suite: Suite) -> Self {
        let mut alice = TestDevice::with_suite("@alice:a.test", "A", suite).create_group(ROOM);
        let first = alice.update();
        let (hub, change) = bootstrap(&first, suite).unwrap();
        alice.merge();
        Self {
            members: [("alice", alice)].into(),
            hub,
            log: vec![change.bytes],
        }
    }

    /// A room with alice, bob and carol, a device each.
    fn of_three() -> Self {
        let mut room = Self::new();
        room.join("alice", &[("bob", "@bob:b.test", "B"), ("carol", "@carol:c.test", "C")]);
        room
    }

    fn member(&mut self, name: &str) -> &mut TestMember {
        self.members.get_mut(name).unwrap()
    }

    fn stage(&self, commit: &TestCommit) -> Result<StagedChange, GroupRefusal> {
        self.hub.stage(&commit.message, &commit.group_state, wall_clock())
    }

    /// The hub takes the commit, and so do all but the committer, who merges it.
    fn accept(&mut self, committer: &str, commit: &TestCommit) -> MembershipDelta {
        let change = self.stage(commit).unwrap();
        self.hub.merge(&change).unwrap();
        assert_eq!(self.hub.epoch(), change.epoch);
        for (name, member) in &mut self.members {
            if *name == committer {
                member.merge();
            } else {
                member.process(&commit.message);
            }
        }
        self.log.push(change.bytes);
        self.agree();
        change.delta
    }

    /// `adder` adds new devices, which join by Welcome.
    fn join(&mut self, adder: &str, devices: &[(&'static str, &str, &str)]) -> MembershipDelta {
        let suite = self.hub.suite();
        let devices: Vec<_> = devices
            .iter()
            .map(|&(name, user, device)| (name, TestDevice::with_suite(user, device, suite)))
            .collect();
        let packages: Vec<_> = devices.iter().map(|(_, device)| device.key_package()).collect();
        let commit = self.member(adder).add(&packages);
        let delta = self.accept(adder, &commit);
        for (name, device) in devices {
            self.members.insert(name, device.join(commit.welcome()));
        }
        self.agree();
        delta
    }

    fn remove(&mut self, remover: &str, removed: &str) -> MembershipDelta {
        let leaf = self.members.remove(removed).unwrap().leaf();
        let commit = self.member(remover).remove(&[leaf]);
        self.accept(remover, &commit)
    }

    /// The hub has the members' epoch, tree and roster.
    fn agree(&self) {
        let authenticators: Vec<_> = self.members.values().map(TestMember::epoch_authenticator).collect();
        assert!(authenticators.windows(2).all(|pair| pair[0] == pair[1]));
        for member in self.members.values() {
            assert_eq!(self.hub.epoch(), member.epoch());
            assert_eq!(self.hub.tree_hash(), member.tree_hash());
            let credential = member.device().credential();
            let at_leaf = self.hub.member_at(member.leaf()).unwrap();
            assert_eq!(
                (&at_leaf.user, &at_leaf.device),
                (&credential.user_id, &credential.device_id)
            );
        }
        let roster = Roster::new(&self.hub.state.group, Rules::Room).unwrap();
        assert_eq!(self.hub.state.roster, roster, "the roster kept is the tree's");
    }
}

fn bootstrap(commit: &TestCommit, suite: Suite) -> Result<(HubGroup, StagedChange), GroupRefusal> {
    let room = RoomId::parse(ROOM).unwrap();
    HubGroup::bootstrap(&room, suite, &commit.message, &commit.group_state, wall_clock())
}

fn names(members: &[DeviceRef]) -> Vec<String> {
    members
        .iter()
        .map(|member| format!("{}/{}@{}", member.user, member.device, member.leaf))
        .collect()
}

#[test]
fn the_first_commit_begins_the_group() {
    let mut alice = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    let (hub, change) = bootstrap(&alice.update(), Suite::default()).unwrap();
    assert_eq!((hub.epoch(), change.epoch), (1, 1));
    assert_eq!(hub.room(), ROOM);
    assert_eq!(names(&change.delta.added), ["@alice:a.test/A@0"]);
    assert_eq!(change.delta.committer, change.delta.added[0]);
    assert!(!change.delta.external);
}

#[test]
fn every_suite_is_followed() {
    for suite in Suite::all() {
        let mut room = Room::with_suite(suite);
        room.join("alice", &[("bob", "@bob:b.test", "B")]);
        let commit = room.member("bob").update();
        room.accept("bob", &commit);
        assert_eq!(room.hub.suite(), suite);
    }
}

#[test]
fn a_commit_says_who_comes_goes_and_changes_keys() {
    let mut room = Room::new();
    let delta = room.join("alice", &[("bob", "@bob:b.test", "B"), ("carol", "@carol:c.test", "C")]);
    assert_eq!(names(&delta.added), ["@bob:b.test/B@1", "@carol:c.test/C@2"]);
    assert_eq!(names(&delta.updated), ["@alice:a.test/A@0"]);
    assert_eq!(names(&delta.removed), Vec::<String>::new());

    let commit = room.member("carol").update();
    let delta = room.accept("carol", &commit);
    assert_eq!(names(std::slice::from_ref(&delta.committer)), ["@carol:c.test/C@2"]);
    assert_eq!(delta.updated, [delta.committer]);
    assert_eq!(delta.added, []);

    let delta = room.remove("alice", "bob");
    assert_eq!(names(&delta.removed), ["@bob:b.test/B@1"]);
    assert!(
        !room
            .hub
            .contains(&UserId::parse("@bob:b.test").unwrap(), &DeviceId::parse("B").unwrap())
    );

    // The leaf that became free is the first to be taken again.
    let delta = room.join("carol", &[("dave", "@dave:d.test", "D"), ("erin", "@erin:e.test", "E")]);
    assert_eq!(names(&delta.added), ["@dave:d.test/D@1", "@erin:e.test/E@3"]);
}

#[test]
fn removed_and_added_in_one_commit_the_leaf_is_used_again() {
    let mut room = Room::of_three();
    let carol = room.members.remove("carol").unwrap();
    let bob = room.members.remove("bob").unwrap();
    let [dave, erin] =
        [("@dave:d.test", "D"), ("@erin:e.test", "E")].map(|(user, device)| TestDevice::new(user, device));
    let commit = room
        .member("alice")
        .change(&[dave.key_package(), erin.key_package()], &[carol.leaf(), bob.leaf()]);
    let delta = room.accept("alice", &commit);
    // OpenMLS chooses the order of proposals of one kind; the leaves follow from it.
    let gone: BTreeSet<u32> = delta.removed.iter().map(|member| member.leaf).collect();
    let taken: Vec<u32> = delta.added.iter().map(|member| member.leaf).collect();
    assert_eq!(gone, [1, 2].into());
    assert_eq!(taken, [1, 2]);
}

#[test]
fn a_device_can_be_replaced_by_itself() {
    let mut room = Room::of_three();
    let bob = room.members.remove("bob").unwrap();
    let again = TestDevice::new("@bob:b.test", "B");
    let commit = room.member("alice").change(&[again.key_package()], &[bob.leaf()]);
    let delta = room.accept("alice", &commit);
    assert!(delta.removed[0].is_same_device(&delta.added[0]));
}

#[test]
fn an_external_commit_joins() {
    let mut room = Room::of_three();
    let last = room.member("alice").update();
    room.accept("alice", &last);
    let (dave, commit) = TestDevice::new("@dave:d.test", "D").join_externally(&last.group_state);
    let delta = room.accept("dave", &commit);
    assert!(delta.external);
    assert_eq!(names(&delta.added), ["@dave:d.test/D@3"]);
    assert_eq!(delta.added, [delta.committer]);
    assert_eq!(delta.removed, []);
    room.members.insert("dave", dave);
    room.agree();
    // The joiner is a member like any other.
    let commit = room.member("dave").update();
    room.accept("dave", &commit);
}

#[test]
fn an_external_commit_replaces_the_device_s_own_leaf() {
    let mut room = Room::of_three();
    let last = room.member("alice").update();
    room.accept("alice", &last);
    let bob = room.members.remove("bob").unwrap();
    let (bob, commit) = bob.device().join_externally(&last.group_state);
    let delta = room.accept("bob", &commit);
    assert!(delta.external);
    assert_eq!(names(&delta.removed), ["@bob:b.test/B@1"]);
    assert_eq!(names(&delta.added), ["@bob:b.test/B@1"]);
    room.members.insert("bob", bob);
    room.agree();
}

#[test]
fn of_two_commits_for_one_epoch_the_second_learns_the_epoch() {
    let mut room = Room::of_three();
    let epoch = room.hub.epoch();
    let (first, second) = (room.member("alice").update(), room.member("bob").update());
    room.stage(&second).unwrap();
    room.member("bob").clear();
    room.accept("alice", &first);
    assert_eq!(
        room.stage(&second),
        Err(GroupRefusal::WrongEpoch {
            epoch,
            current: epoch + 1
        })
    );
    let retried = room.member("bob").update();
    room.accept("bob", &retried);
}

#[test]
fn staging_changes_nothing() {
    let mut room = Room::of_three();
    let before = room.hub.clone();
    let commit = room.member("alice").update();
    let change = room.stage(&commit).unwrap();
    assert_eq!(room.hub, before);
    assert_eq!(room.hub.checkpoint(), before.checkpoint());
    assert_eq!(room.stage(&commit).unwrap().delta, change.delta);
}

#[test]
fn a_clone_keeps_its_epoch() {
    let mut room = Room::of_three();
    let before = room.hub.clone();
    let commit = room.member("alice").update();
    room.accept("alice", &commit);
    assert_eq!(before.epoch() + 1, room.hub.epoch());
    assert_ne!(before, room.hub);
}

#[test]
fn both_framings_of_commit_and_state_are_read() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    let bare = TestCommit {
        message: commit.message[4..].to_vec(),
        group_state: commit.group_state[4..].to_vec(),
        welcome: None,
    };
    assert_eq!(room.stage(&bare).unwrap().delta, room.stage(&commit).unwrap().delta);
}

#[test]
fn a_participant_begins_in_the_middle() {
    let mut room = Room::of_three();
    let commit = room.member("bob").update();
    let (participant, change) = bootstrap(&commit, Suite::default()).unwrap();
    room.accept("bob", &commit);
    assert_eq!(participant, room.hub);
    assert_eq!(change.delta.committer.user, "@bob:b.test");
    assert_eq!(change.delta.added.len(), 3);

    let (dave, commit) = TestDevice::new("@dave:d.test", "D").join_externally(&commit.group_state);
    let (participant, change) = bootstrap(&commit, Suite::default()).unwrap();
    room.accept("dave", &commit);
    room.members.insert("dave", dave);
    assert!(change.delta.external);
    assert_eq!(change.delta.committer.user, "@dave:d.test");
    assert_eq!(participant, room.hub);
}
