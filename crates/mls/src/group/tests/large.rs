//! Groups so large that the signature of their state is checked beside the commit, with the key that the committer had before.

use super::*;
use crate::testing::{Parents, group_state_on_paper};

/// Eighty members on paper, and Alice, who joined them.
fn room_of_eighty() -> (HubGroup, TestMember) {
    let device = |number| TestDevice::new(&format!("@user{number}:a.test"), "D");
    let devices: Vec<_> = (0..80).map(device).collect();
    let state = group_state_on_paper(ROOM, &devices, Parents::Full);
    let (alice, join) = TestDevice::new("@alice:a.test", "A").join_externally(&state);
    let (hub, _) = bootstrap(&join, Suite::default()).unwrap();
    (hub, alice)
}

fn stage(hub: &HubGroup, commit: &TestCommit, group_state: &[u8]) -> Result<StagedChange, GroupRefusal> {
    assert!(group_state.len() > WORTH_A_THREAD, "{} bytes", group_state.len());
    hub.stage(&commit.message, group_state, wall_clock())
}

#[test]
fn the_state_of_a_large_group_must_be_signed_as_that_of_a_small_one() {
    let (hub, mut alice) = room_of_eighty();
    let commit = alice.update();
    let state = &commit.group_state;
    for at in [state.len() - 1, state.len() / 2] {
        let mut flipped = state.clone();
        flipped[at] ^= 1;
        let refusal = stage(&hub, &commit, &flipped).map(|_| ());
        assert_eq!(refusal, Err(GroupRefusal::GroupStateBadSignature), "byte {at}");
    }
    assert_eq!(stage(&hub, &commit, state).unwrap().epoch, hub.epoch() + 1);
}

#[test]
fn a_committer_may_change_the_key_it_signs_with() {
    let (mut hub, mut alice) = room_of_eighty();
    let commit = alice.update_signature_key();
    let mut flipped = commit.group_state.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let refusal = stage(&hub, &commit, &flipped).map(|_| ());
    assert_eq!(refusal, Err(GroupRefusal::GroupStateBadSignature));
    let change = stage(&hub, &commit, &commit.group_state).unwrap();
    hub.merge(&change).unwrap();
    alice.merge();
    assert_eq!(hub.tree_hash(), alice.tree_hash());
}

#[test]
fn joining_and_rejoining_a_large_group_externally_is_followed() {
    let (mut hub, mut alice) = room_of_eighty();
    let commit = alice.update();
    hub.merge(&stage(&hub, &commit, &commit.group_state).unwrap()).unwrap();
    let (again, commit) = alice.device().join_externally(&commit.group_state);
    hub.merge(&stage(&hub, &commit, &commit.group_state).unwrap()).unwrap();
    assert_eq!(hub.tree_hash(), again.tree_hash());
    assert_eq!(hub.members().len(), 81);
}

/// What is stored beside the event. It holds the path, which grows with the logarithm of the group, and nothing for each member.
#[test]
fn what_is_stored_of_a_commit_is_no_larger_than_the_commit() {
    let stored = |members: u32, parents| {
        let device = |number| TestDevice::new(&format!("@user{number}:a.test"), "D");
        let devices: Vec<_> = (1..members).map(device).collect();
        let state = group_state_on_paper(ROOM, &devices, parents);
        let (mut alice, join) = TestDevice::new("@alice:a.test", "A").join_externally(&state);
        let (hub, first) = bootstrap(&join, Suite::default()).unwrap();
        assert!(first.bytes.len() > 200 * devices.len(), "the first change is the group");
        let commit = alice.update();
        let change = hub.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
        let (change, commit) = (change.bytes.len(), commit.message.len());
        assert!(
            change < commit + 100,
            "{members} {parents:?}: {change} bytes for a commit of {commit}"
        );
        change
    };
    let (small, large) = (stored(32, Parents::Full), stored(512, Parents::Full));
    let more_nodes = 4;
    assert!(large <= small + more_nodes * 160, "{small} bytes at 32, {large} at 512");
    stored(256, Parents::Blank);
}

#[test]
fn new_members_take_the_leftmost_free_leaves() {
    let (mut hub, mut alice) = room_of_eighty();
    let commit = alice.remove(&[3, 70, 5]);
    hub.merge(&stage(&hub, &commit, &commit.group_state).unwrap()).unwrap();
    alice.merge();
    let packages: Vec<_> = (0..4)
        .map(|number| TestDevice::new(&format!("@new{number}:a.test"), "D").key_package())
        .collect();
    // A leaf that is freed by the same commit can be taken by it.
    let commit = alice.change(&packages, &[4]);
    let change = stage(&hub, &commit, &commit.group_state).unwrap();
    let leaves: Vec<_> = change.delta.added.iter().map(|device| device.leaf).collect();
    assert_eq!(leaves, [3, 4, 5, 70]);
    hub.merge(&change).unwrap();
    for device in &change.delta.added {
        assert_eq!(hub.member_at(device.leaf), Some(device));
    }
    let tree = hub.state.group.treesync();
    assert_eq!(
        tree.full_leaves().map(|(leaf, _)| leaf.u32()).collect::<Vec<_>>(),
        hub.members().map(|member| member.leaf).collect::<Vec<_>>()
    );
}
