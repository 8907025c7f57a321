//! Counts, places and leaves in a room that is too large to go through, against the same found by going through it.

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::Encode;

use super::super::proposal::MAX_LIST_BYTES;
use super::super::templates::{self, GROUP_ADMIN, ORDINARY_USER, SUPER_ADMIN};
use super::*;

fn names(count: u32) -> Vec<(String, u32)> {
    let role = |number| match number {
        0 => SUPER_ADMIN,
        _ if number % 100 == 1 => GROUP_ADMIN,
        _ => ORDINARY_USER,
    };
    (0..count)
        .map(|number| (format!("u{number}@p{}", number % 7), role(number)))
        .collect()
}

fn assert_counted(room: &Room) {
    let participants = room.participants();
    let mut counted = BTreeMap::<u32, Tally>::new();
    for (index, participant) in (0..).zip(participants.iter()) {
        let tally = counted.entry(participant.role()).or_default();
        tally.participants += 1;
        tally.active += u32::from(participant.leaves().len() > 0);
        assert_eq!(participants.at(index), Some(participant));
        assert_eq!(participants.index_of(participant.user()), Some(index));
        assert_eq!(participants.get(participant.user()), Some(participant));
        for leaf in participant.leaves() {
            assert_eq!(participants.owner(leaf), Some(participant));
        }
    }
    for role in 0..10 {
        assert_eq!(
            participants.tally(role),
            counted.get(&role).copied().unwrap_or_default()
        );
    }
    let pairs = participants.to_data().participants.into_iter();
    assert_eq!(
        participants.bytes(),
        pairs.map(|pair| pair.to_bytes().len()).sum::<usize>()
    );
    let leaves: usize = participants.iter().map(|participant| participant.leaves().len()).sum();
    assert_eq!(leaves, participants.clients());
}

#[test]
fn places_counts_and_leaves_stay_right_through_many_commits() {
    let names = names(500);
    let users: Vec<(&str, u32)> = names.iter().map(|(name, role)| (name.as_str(), *role)).collect();
    let mut room = room(&templates::cooperative("hub.example"), &users);
    let alice = claims("mimi://p0.example/u/u0");
    assert_counted(&room);
    for round in 0..40_u32 {
        // From the middle, so that everyone behind moves up and leaves get blank.
        let index = 3 + round * 7;
        let leaf = room.participants().at(index).unwrap().leaves().next().unwrap();
        let name = format!("new{round}@b");
        let mut actions = vec![drops(index), Action::Remove(leaf)];
        if round % 2 == 0 {
            actions.extend([lists(&name, ORDINARY_USER), adds(&name), adds(&name)]);
        }
        let before: BTreeSet<u32> = room.participants().leaves().map(|(leaf, _)| leaf).collect();
        commit(&mut room, committer(0, &alice), &actions).unwrap();
        assert_counted(&room);
        if round % 2 == 0 {
            let newcomer = room.participants().get(&user(&name)).unwrap();
            let blank = |from: u32| (from..).find(|it| *it == leaf || !before.contains(it)).unwrap();
            let first = blank(0);
            assert_eq!(newcomer.leaves().collect::<Vec<_>>(), [first, blank(first + 1)]);
            assert_eq!(room.participants().iter().last(), Some(newcomer));
        }
    }
}

#[test]
fn a_list_that_would_not_be_read_is_not_made() {
    let name = |number: usize| format!("{number:0250}@p");
    let each = UserRolePair {
        user: user(&name(0)),
        role_index: ORDINARY_USER,
    };
    let most = usize::try_from(MAX_LIST_BYTES).unwrap() / each.to_bytes().len();
    let pair = |number: usize| UserRolePair {
        user: user(&name(number)),
        role_index: SUPER_ADMIN,
    };
    let load = |count: usize| {
        let list = ParticipantListData {
            participants: (0..count).map(pair).collect(),
        };
        let dictionary = templates::cooperative("hub.example").dictionary(&list);
        Room::load(IdentifierUri::new(ROOM).unwrap(), &dictionary, [(0, user(&name(0)))])
    };
    assert_eq!(load(most + 1).map(drop), Err(Rejection::ListTooLarge));
    let (mut room, admin) = (load(most).unwrap(), claims(&user(&name(0))));
    let one_more = [lists(&name(most), ORDINARY_USER)];
    assert_eq!(
        propose(&mut room, member(0, &admin), &one_more),
        Err(Rejection::ListTooLarge)
    );
    propose(&mut room, member(0, &admin), &[drops(1)]).unwrap();
    propose(&mut room, member(0, &admin), &one_more).unwrap();
}
