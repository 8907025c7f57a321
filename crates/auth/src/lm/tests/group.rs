//! Which devices a commit may add and remove. LM #int-mls-add-remove.

use nabe_types::{DeviceId, DeviceRef, MembershipDelta, UserId};

use super::*;

fn device(user: &str, device: &str, leaf: u32) -> DeviceRef {
    DeviceRef {
        user: UserId::parse(user).unwrap(),
        device: DeviceId::parse(device).unwrap(),
        leaf,
    }
}

fn commit_by(committer: DeviceRef) -> MembershipDelta {
    MembershipDelta {
        committer,
        external: false,
        added: Vec::new(),
        removed: Vec::new(),
        updated: Vec::new(),
    }
}

fn ask(room: &Room, sender: &str, delta: &MembershipDelta) -> Result<(), GroupRejection> {
    authorize_group_change(delta, &UserId::parse(sender).unwrap(), &room.state)
}

fn adding(added: &DeviceRef) -> MembershipDelta {
    MembershipDelta {
        added: vec![added.clone()],
        ..commit_by(device(BOB, "PHONE", 0))
    }
}

fn removing(removed: &DeviceRef) -> MembershipDelta {
    MembershipDelta {
        removed: vec![removed.clone()],
        ..commit_by(device(BOB, "PHONE", 0))
    }
}

#[test]
fn a_joined_user_updates_their_own_leaf() {
    let own = device(BOB, "PHONE", 0);
    let delta = MembershipDelta {
        updated: vec![own.clone()],
        ..commit_by(own)
    };
    assert_eq!(ask(&Room::new(), BOB, &delta), Ok(()));
}

#[test]
fn a_commit_must_be_sent_by_the_user_whose_device_made_it() {
    let delta = commit_by(device(BOB, "PHONE", 0));
    let refused = GroupRejection::CommitterIsNotSender {
        committer: UserId::parse(BOB).unwrap(),
    };
    assert_eq!(ask(&Room::new(), MOD, &delta), Err(refused));
}

#[test]
fn only_devices_of_joined_users_can_be_added() {
    let room = Room::new();
    for joined in [ALICE, MOD, BOB] {
        assert_eq!(
            ask(&room, BOB, &adding(&device(joined, "TABLET", 1))),
            Ok(()),
            "{joined}"
        );
    }
    for other in [DAVE, EVE, IVY, KEN, LEO] {
        let added = device(other, "TABLET", 1);
        let refused = GroupRejection::AddedNotJoined { device: added.clone() };
        assert_eq!(ask(&room, BOB, &adding(&added)), Err(refused), "{other}");
    }
}

#[test]
fn anyones_device_can_be_added_to_a_world_readable_room() {
    let visible = |value: &str| {
        let content = object! { "history_visibility" => value };
        Room::new().set(&state(ALICE, "m.room.history_visibility", "", content))
    };
    let added = device(DAVE, "PHONE", 1);
    assert_eq!(ask(&visible("world_readable"), BOB, &adding(&added)), Ok(()));
    for other in ["shared", "invited", "joined", "WORLD_READABLE"] {
        let refused = GroupRejection::AddedNotJoined { device: added.clone() };
        assert_eq!(ask(&visible(other), BOB, &adding(&added)), Err(refused), "{other}");
    }
}

#[test]
fn an_external_join_is_an_addition_like_any_other() {
    let newcomer = device(IVY, "PHONE", 3);
    let delta = MembershipDelta {
        external: true,
        added: vec![newcomer.clone()],
        ..commit_by(newcomer.clone())
    };
    let refused = GroupRejection::AddedNotJoined { device: newcomer };
    assert_eq!(ask(&Room::new(), IVY, &delta), Err(refused));
    assert_eq!(ask(&Room::new().member(IVY, "join"), IVY, &delta), Ok(()));
}

#[test]
fn a_device_can_be_removed_by_its_user_or_once_its_user_is_gone() {
    let room = Room::new();
    assert_eq!(ask(&room, BOB, &removing(&device(BOB, "TABLET", 1))), Ok(()));
    for gone in [DAVE, EVE, IVY, KEN, LEO] {
        assert_eq!(ask(&room, BOB, &removing(&device(gone, "PHONE", 1))), Ok(()), "{gone}");
    }
    for joined in [ALICE, MOD] {
        let removed = device(joined, "PHONE", 1);
        let refused = GroupRejection::RemovedStillJoined {
            device: removed.clone(),
        };
        assert_eq!(ask(&room, BOB, &removing(&removed)), Err(refused), "{joined}");
    }
}

#[test]
fn a_high_power_level_does_not_allow_removing_a_joined_users_device() {
    let removed = device(BOB, "PHONE", 1);
    let delta = MembershipDelta {
        removed: vec![removed.clone()],
        ..commit_by(device(ALICE, "PHONE", 0))
    };
    let refused = GroupRejection::RemovedStillJoined { device: removed };
    assert_eq!(ask(&Room::new(), ALICE, &delta), Err(refused));
}

#[test]
fn one_forbidden_device_among_allowed_ones_is_found() {
    let mut delta = adding(&device(ALICE, "TABLET", 1));
    delta.added.push(device(DAVE, "PHONE", 2));
    assert!(
        matches!(ask(&Room::new(), BOB, &delta), Err(GroupRejection::AddedNotJoined { device }) if device.leaf == 2)
    );
    let mut delta = removing(&device(LEO, "PHONE", 1));
    delta.removed.push(device(MOD, "PHONE", 2));
    assert!(
        matches!(ask(&Room::new(), BOB, &delta), Err(GroupRejection::RemovedStillJoined { device }) if device.leaf == 2)
    );
}
