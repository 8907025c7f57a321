//! Storing, and what a group is after a restart: the same.

use std::sync::OnceLock;

use openmls::extensions::Extensions;
use proptest::prelude::*;

use super::*;
use crate::stored;

impl Room {
    /// The group as it is after a restart, from the change after `checkpoint` on.
    fn replayed(&self, from: usize, checkpoint: Option<Bytes>) -> MimiGroup {
        let mut group = checkpoint.map(|bytes| MimiGroup::restore(&bytes).unwrap());
        for change in &self.log[from..] {
            MimiGroup::replay(&mut group, change).unwrap();
        }
        group.unwrap()
    }
}

#[test]
fn a_group_is_restored_with_what_is_pending() {
    let mut room = Room::of_three();
    let leave = room.member("bob").leave();
    room.accept_proposal("bob", &leave);
    let hub = Proposal::AppDataUpdate(change_participants(&[], &[1], &[]));
    let hub = room.group.hub_proposal(hub, room.hub.signer()).unwrap();
    room.accept_proposal("the hub", &hub);
    let restored = MimiGroup::restore(&room.group.checkpoint()).unwrap();
    assert_eq!(restored, room.group);
    assert_eq!(restored.checkpoint(), room.group.checkpoint());
    assert_eq!(restored.pending().len(), 2);
    // And can be committed.
    let bundle = room.member("alice").update();
    let staged = restored.stage(&bundle.commit, &bundle.parts, wall_clock()).unwrap();
    assert_eq!(staged.bytes, room.stage(&bundle).unwrap().bytes);
}

#[test]
fn a_change_fits_the_state_it_was_staged_on() {
    let mut room = Room::of_three();
    let bundle = room.member("alice").update();
    room.member("alice").clear();
    let commit = room.stage(&bundle).unwrap();
    let remove = room.member("alice").propose_remove(1);
    let proposals = room.propose(&remove).unwrap();
    room.merge(&proposals.bytes);
    // The commit knew nothing of the proposal, and the proposal is not merged twice.
    for late in [&commit.bytes, &proposals.bytes] {
        assert_eq!(room.group.merge(late), Err(RestoreError::WrongEpoch));
    }
    let mut other = Room::of_three();
    assert_eq!(other.group.merge(&commit.bytes), Err(RestoreError::WrongEpoch));
    assert_eq!(
        MimiGroup::replay(&mut None, &commit.bytes),
        Err(RestoreError::WrongEpoch)
    );
    assert_eq!(room.group.merge_staged(commit.next), Err(RestoreError::WrongEpoch));
}

#[test]
fn a_commit_that_was_staged_is_merged_without_reading_it_again() {
    let mut room = Room::of_three();
    let leave = room.member("bob").leave();
    room.accept_proposal("bob", &leave);
    let bundle = room.member("alice").commit(Change {
        add: vec![MimiDevice::new("mimi://a.example/d/alice/B").key_package()],
        updates: vec![set_component(ComponentId::STATUS_NOTIFICATION_POLICY, vec![1, 0])],
        ..Change::default()
    });
    let staged = room.stage(&bundle).unwrap();
    let mut group = MimiGroup::restore(&room.group.checkpoint()).unwrap();
    group.merge_staged(staged.next).unwrap();
    room.merge(&staged.bytes);
    assert_eq!(group, room.group);
    assert_eq!(group.checkpoint(), room.group.checkpoint());
}

/// Both change the dictionary's extension, or the list that it stands in.
#[test]
fn extensions_and_components_that_change_in_one_commit_are_the_same_when_replayed() {
    for (is_reversed, changes) in [(false, true), (true, true), (true, false)] {
        let mut room = Room::of_three();
        let follower = TestHub::new("mimi://b.example");
        let alice = room.members["alice"].device().clone();
        let mut draft = RoomDraft::new(&alice, &room.hub);
        draft.dictionary = room.group.dictionary();
        draft.senders.push(follower.to_openmls());
        let mut extensions: Vec<_> = draft.extensions().iter().cloned().collect();
        if is_reversed {
            extensions.reverse();
        }
        let updates = [
            set_component(ComponentId::STATUS_NOTIFICATION_POLICY, vec![1, 1]),
            add_participants(&[("mimi://d.example/u/dave", 2)]),
        ];
        let bundle = room.member("alice").commit(Change {
            extensions: Some(Extensions::from_vec(extensions).unwrap()),
            updates: updates.into_iter().filter(|_| changes).collect(),
            ..Change::default()
        });
        let staged = room.stage(&bundle).unwrap();
        let mut live = room.group.clone();
        live.merge_staged(staged.next).unwrap();
        room.accept("alice", &bundle);
        assert_eq!(live, room.group);
        assert_eq!(live, room.replayed(0, None));
        assert_eq!(live.checkpoint(), room.group.checkpoint());
        room.agree();
        // And it can go on.
        let bundle = room.member("bob").update();
        room.accept("bob", &bundle);
        assert_eq!(room.replayed(0, None), room.group);
    }
}

#[test]
fn a_clone_keeps_its_state() {
    let mut room = Room::of_three();
    let before = room.group.clone();
    let leave = room.member("bob").leave();
    room.accept_proposal("bob", &leave);
    let between = room.group.clone();
    let bundle = room.member("alice").update();
    room.accept("alice", &bundle);
    assert_eq!((before.pending().len(), between.pending().len()), (0, 1));
    assert_eq!(before.epoch(), between.epoch());
    assert_eq!(before.epoch() + 1, room.group.epoch());
    assert_ne!(before, between);
}

#[test]
fn other_bytes_give_no_group() {
    let room = Room::of_three();
    let checkpoint = room.group.checkpoint();
    assert_eq!(MimiGroup::restore(&[]).err(), Some(RestoreError::OtherVersion));
    assert_eq!(
        MimiGroup::restore(&checkpoint[..checkpoint.len() - 1]).err(),
        Some(RestoreError::Malformed)
    );
    assert_eq!(MimiGroup::restore(&room.log[1]).err(), Some(RestoreError::Malformed));
    let mut other_version = checkpoint.to_vec();
    other_version[0] += 1;
    assert_eq!(
        MimiGroup::restore(&other_version).err(),
        Some(RestoreError::OtherVersion)
    );
    // Nor is a group of another kind of room one.
    let mut alice = crate::testing::TestDevice::new("@alice:a.test", "A").create_group("!room:a.test");
    let first = alice.update();
    let matrix = nabe_types::RoomId::parse("!room:a.test").unwrap();
    let (matrix, _) = crate::HubGroup::bootstrap(
        &matrix,
        Suite::default(),
        &first.message,
        &first.group_state,
        wall_clock(),
    )
    .unwrap();
    assert!(MimiGroup::restore(&matrix.checkpoint()).is_err());
    assert!(crate::HubGroup::restore(&checkpoint).is_err());
}

#[test]
fn a_change_is_as_large_as_the_commit_whatever_the_room_holds() {
    let sizes = [0, 2_000].map(|listed| {
        let mut room = Room::of_three();
        let users: Vec<_> = (0..listed)
            .map(|number| format!("mimi://b.example/u/user{number}"))
            .collect();
        let users: Vec<_> = users.iter().map(|user| (&user[..], 2)).collect();
        let bundle = room.member("alice").commit(Change {
            updates: vec![add_participants(&users)],
            ..Change::default()
        });
        room.accept("alice", &bundle);
        let bundle = room.member("bob").update();
        let staged = room.accept("bob", &bundle);
        let one_more = room.member("alice").commit(Change {
            updates: vec![add_participants(&[("mimi://e.example/u/erin", 2)])],
            ..Change::default()
        });
        let one_more = room.accept("alice", &one_more);
        assert_eq!(participants_of(&room.group).len(), 4 + listed);
        room.agree();
        (staged.bytes.len(), one_more.bytes.len(), room.group.checkpoint().len())
    });
    let [small, large] = sizes;
    assert!(large.0.abs_diff(small.0) < 64, "{sizes:?}");
    assert!(large.1.abs_diff(small.1) < 64, "{sizes:?}");
    assert!(large.2 > small.2 + 50_000, "{sizes:?}");
    assert!(small.0 < 2_500, "{sizes:?}");
}

#[test]
fn the_tag_is_of_the_version_that_is_pinned() {
    let manifest = include_str!("../../../../../Cargo.toml");
    assert!(manifest.contains("openmls = { version = \"=0.9.2\""));
    let room = Room::new();
    let tag: (u8, &str, u8) = postcard::take_from_bytes(&room.log[0]).unwrap().0;
    assert_eq!(tag.1, "0.9.2");
    assert!(stored::decode::<(u8, &str, u8)>(&room.log[0]).is_err(), "more follows");
}

/// A step in the life of a room, by small numbers that name whoever is there.
#[derive(Clone, Debug)]
enum Step {
    Update(u8),
    Add(u8),
    Remove(u8, u8),
    Leave(u8),
    Renew(u8),
    List(u8, u8),
    HubList(u8),
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::Update),
        any::<u8>().prop_map(Step::Add),
        any::<(u8, u8)>().prop_map(|(who, whom)| Step::Remove(who, whom)),
        any::<u8>().prop_map(Step::Leave),
        any::<u8>().prop_map(Step::Renew),
        any::<(u8, u8)>().prop_map(|(who, role)| Step::List(who, role)),
        any::<u8>().prop_map(Step::HubList),
        Just(Step::Join),
    ]
}

/// Names that live as long as the tests do.
fn name(number: usize) -> &'static str {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| (0..64).map(|number| format!("user{number}")).collect());
    &names[number]
}

impl Room {
    fn pick(&self, number: u8) -> &'static str {
        let names: Vec<_> = self.members.keys().copied().collect();
        names[usize::from(number) % names.len()]
    }

    /// Somebody else, whose removal is not pending.
    fn committer(&self, number: u8) -> Option<&'static str> {
        let leaving: Vec<u32> = self.group.leaving().collect();
        let mut staying: Vec<_> = self.members.keys().copied().collect();
        staying.retain(|name| !leaving.contains(&self.leaf(name)));
        (!staying.is_empty()).then(|| staying[usize::from(number) % staying.len()])
    }

    /// Proposes; what the hub refuses, nobody sees.
    fn try_proposal(&mut self, author: &'static str, message: &Kept<MlsMessage>) {
        match self.group.propose(message, &[], wall_clock()) {
            Ok(staged) => {
                self.merge(&staged.bytes);
                for (name, member) in &mut self.members {
                    if *name != author {
                        member.process(message);
                    }
                }
            }
            Err(refused) => {
                if let (Some(member), Some(reference)) = (self.members.get_mut(author), refused.reference) {
                    member.forget(&reference);
                }
            }
        }
    }

    fn take(&mut self, step: &Step, number: usize) {
        let newcomer = MimiDevice::new(&format!("mimi://n.example/d/{}/N", name(number)));
        let user = format!("mimi://n.example/u/{}", name(number));
        match *step {
            Step::Update(who) => {
                if let Some(committer) = self.committer(who) {
                    let bundle = self.member(committer).update();
                    self.accept(committer, &bundle);
                }
            }
            Step::Add(who) => {
                if let Some(committer) = self.committer(who) {
                    self.add(
                        committer,
                        name(number),
                        &format!("mimi://n.example/d/{}/N", name(number)),
                        &[],
                    );
                }
            }
            Step::Remove(who, whom) => {
                let (author, leaf) = (self.pick(who), self.leaf(self.pick(whom)));
                if self.members.len() > self.group.leaving().count() + 1 {
                    let message = self.member(author).propose_remove(leaf);
                    self.try_proposal(author, &message);
                }
            }
            Step::Leave(who) => {
                let author = self.pick(who);
                let is_leaving = self.group.leaving().any(|leaf| leaf == self.leaf(author));
                if !is_leaving && self.members.len() > self.group.leaving().count() + 1 {
                    let message = self.member(author).leave();
                    self.try_proposal(author, &message);
                }
            }
            Step::Renew(who) => {
                let author = self.pick(who);
                let is_leaving = self.group.leaving().any(|leaf| leaf == self.leaf(author));
                if !is_leaving {
                    let message = self.member(author).propose_update();
                    self.try_proposal(author, &message);
                }
            }
            Step::List(who, role) => {
                let author = self.pick(who);
                let update = add_participants(&[(&user, u32::from(role % 4))]);
                let message = self.member(author).propose_component(&update);
                self.try_proposal(author, &message);
            }
            Step::HubList(place) => {
                let listed = participants_of(&self.group).len();
                let place = u32::from(place) % u32::try_from(listed + 1).unwrap();
                let update = Proposal::AppDataUpdate(change_participants(&[(place, 2)], &[], &[]));
                let message = self.group.hub_proposal(update, self.hub.signer()).unwrap();
                self.try_proposal("the hub", &message);
            }
            Step::Join => {
                let (joined, bundle) = newcomer.join_externally(&self.group, &[]);
                self.accept("the joiner", &bundle);
                self.members.insert(name(number), joined);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens in a room, the group that lived through it, one that was replayed from the beginning, and one that
    /// was restored somewhere on the way are the same; and all members agree with them.
    #[test]
    fn a_group_that_lived_and_one_that_was_replayed_are_the_same(
        steps in prop::collection::vec(step(), 1..10),
        restart in any::<prop::sample::Index>(),
    ) {
        let mut room = Room::of_three();
        let restart = restart.index(steps.len());
        let mut restored = None;
        for (number, step) in steps.iter().enumerate() {
            if number == restart {
                restored = Some((room.log.len(), room.group.checkpoint()));
            }
            room.take(step, number);
            room.agree();
        }
        let (from, checkpoint) = restored.unwrap();
        prop_assert_eq!(&room.replayed(0, None), &room.group);
        prop_assert_eq!(&room.replayed(from, Some(checkpoint)), &room.group);
        let copy = room.replayed(0, None);
        prop_assert_eq!(copy.checkpoint(), room.group.checkpoint());
    }
}
