//! A room's group as it grows: the draft's story of Alice, Bob and Cathy (MIMI #example-protocol-flow), and the hub's view of it.

mod commits;
mod ephemeral;
mod messages;
mod policy;
mod proposals;
mod pseudonyms;
mod restoring;
mod rooms;
mod signatures;

use std::collections::BTreeMap;

use bytes::Bytes;
use nabe_wire::Message as _;
use nabe_wire::mls::{AppDataUpdate, ComponentId, MlsMessage, Proposal, RatchetTreeOption};
use nabe_wire::update::{HandshakeParts, UpdateRequest, UpdateResponseCode};

use super::*;
use crate::testing::mimi::*;
use crate::testing::wall_clock;

const ALICE: &str = "mimi://a.example/u/alice";
const BOB: &str = "mimi://b.example/u/bob";
const CATHY: &str = "mimi://c.example/u/cathy";

/// A room with its hub and its members, by name.
struct Room {
    hub: TestHub,
    group: MimiGroup,
    members: BTreeMap<&'static str, MimiMember>,
    /// The first checkpoint and each change.
    log: Vec<Bytes>,
}

impl Room {
    /// Alice's client A is alone.
    fn new() -> Self {
        let hub = TestHub::new("mimi://a.example");
        let alice = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&hub);
        let group = found(&hub, &alice);
        Self {
            log: vec![group.checkpoint()],
            members: [("alice", alice)].into(),
            group,
            hub,
        }
    }

    /// Alice, Bob and Cathy, a client each, added as the draft tells it.
    fn of_three() -> Self {
        let mut room = Self::new();
        room.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
        room.add("bob", "cathy", "mimi://c.example/d/cathy/C", &[(CATHY, 2)]);
        room
    }

    fn member(&mut self, name: &str) -> &mut MimiMember {
        self.members.get_mut(name).unwrap()
    }

    fn leaf(&self, name: &str) -> u32 {
        self.members[name].leaf()
    }

    fn stage(&self, bundle: &TestBundle) -> Result<StagedCommit, MimiRefusal> {
        self.group.stage(&bundle.commit, &bundle.parts, wall_clock())
    }

    fn propose(&self, message: &Kept<MlsMessage>) -> Result<StagedProposals, MimiRefusal> {
        let staged = self.group.propose(message, &[], wall_clock());
        staged.map_err(|refused| refused.reason)
    }

    fn merge(&mut self, change: &Bytes) {
        self.group.merge(change).unwrap();
        self.log.push(change.clone());
    }

    /// The hub takes a proposal, and so do all members but its author.
    fn accept_proposal(&mut self, author: &str, message: &Kept<MlsMessage>) -> StagedProposals {
        let staged = self.propose(message).unwrap();
        self.merge(&staged.bytes);
        for (name, member) in &mut self.members {
            if *name != author {
                member.process(message);
            }
        }
        staged
    }

    /// The hub takes the commit, and so do all but the committer, who merges it.
    fn accept(&mut self, committer: &str, bundle: &TestBundle) -> StagedCommit {
        let staged = self.stage(bundle).unwrap();
        let tree = staged.tree_after.as_ref().map(|tree| {
            let mut bytes = Vec::new();
            tree.encode(&self.group, &mut bytes);
            bytes
        });
        self.merge(&staged.bytes);
        assert_eq!(tree.is_some(), bundle.parts.welcome.is_some());
        if let Some(tree) = tree {
            assert_eq!(
                tree,
                self.group.ratchet_tree().to_bytes(),
                "known before the commit is merged"
            );
        }
        assert_eq!(self.group.epoch(), staged.epoch);
        assert_eq!(*self.group.group_info(), *staged.group_info);
        for (name, member) in &mut self.members {
            if *name == committer {
                member.merge();
            } else if staged.removed.iter().all(|removed| removed.leaf != member.leaf()) {
                member.process(&bundle.commit);
            }
        }
        let gone: Vec<u32> = staged.removed.iter().map(|removed| removed.leaf).collect();
        self.members
            .retain(|name, member| *name == committer || !gone.contains(&member.leaf()));
        staged
    }

    /// `adder` adds a client, and users to the list.
    fn add(&mut self, adder: &str, name: &'static str, client: &str, users: &[(&str, u32)]) -> StagedCommit {
        let device = MimiDevice::new(client);
        let change = Change {
            add: vec![device.key_package()],
            updates: (!users.is_empty())
                .then(|| add_participants(users))
                .into_iter()
                .collect(),
            ..Change::default()
        };
        let bundle = self.member(adder).commit(change);
        let staged = self.accept(adder, &bundle);
        let joined = device.join(bundle.welcome(), &self.group.ratchet_tree());
        self.members.insert(name, joined);
        self.agree();
        staged
    }

    /// The hub has the members' epoch, tree, components and roster.
    fn agree(&self) {
        let authenticators: Vec<_> = self.members.values().map(MimiMember::epoch_authenticator).collect();
        assert!(authenticators.windows(2).all(|pair| pair[0] == pair[1]));
        for member in self.members.values() {
            assert_eq!(self.group.epoch(), member.epoch());
            assert_eq!(self.group.tree_hash(), member.tree_hash());
            assert_eq!(self.group.group_info().group_context, context_of(member));
            assert!(self.group.member_at(member.leaf()).is_some());
        }
        let roster = Roster::new(&self.group.state.group).unwrap();
        assert_eq!(self.group.state.roster, roster, "the roster kept is the tree's");
        let requirements = Requirements::of(self.group.state.dictionary().unwrap(), self.group.room());
        assert_eq!(Ok(&self.group.state.requirements), requirements.as_ref());
    }
}

fn names(members: &[Member]) -> Vec<String> {
    let name = |member: &Member| match member.identity.client() {
        Some(client) => format!("{client}@{}", member.leaf),
        None => format!("{}@{}", member.identity.user(), member.leaf),
    };
    members.iter().map(name).collect()
}

fn added(staged: &StagedCommit) -> Vec<String> {
    let members: Vec<_> = staged.added.iter().map(|added| added.member.clone()).collect();
    names(&members)
}

#[test]
fn alice_adds_bob_and_bob_adds_cathy() {
    let mut room = Room::new();
    assert_eq!(room.group.epoch(), 0);
    let staged = room.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
    assert_eq!(
        names(std::slice::from_ref(&staged.committer)),
        ["mimi://a.example/d/alice/A@0"]
    );
    assert_eq!(added(&staged), ["mimi://b.example/d/bob/B@1"]);
    assert_eq!(names(&staged.updated), ["mimi://a.example/d/alice/A@0"]);
    assert!(staged.added[0].key_package.is_some() && !staged.external);
    assert_eq!(
        participants_of(&room.group),
        [(ALICE.to_owned(), 4), (BOB.to_owned(), 2)]
    );
    let proposers: Vec<_> = staged.proposals.iter().map(|committed| &committed.proposer).collect();
    let alice = room.group.state.roster.member_at(0).map(Proposer::Member).unwrap();
    assert_eq!(proposers, [&alice, &alice]);

    let staged = room.add("bob", "cathy", "mimi://c.example/d/cathy/C", &[(CATHY, 2)]);
    assert_eq!(added(&staged), ["mimi://c.example/d/cathy/C@2"]);
    let user = MimiUri::parse(CATHY).unwrap();
    assert_eq!(room.group.leaves_of(&user).collect::<Vec<_>>(), [2]);
}

#[test]
fn bob_leaves_and_the_next_commit_takes_him_out() {
    let mut room = Room::of_three();
    let bob = room.leaf("bob");
    let remove_from_list = change_participants(&[], &[1], &[]);
    let leave = room.member("bob").leave();
    let list = room.member("bob").propose_component(&remove_from_list);
    let staged = room
        .group
        .propose(&leave, std::slice::from_ref(&list), wall_clock())
        .unwrap();
    assert_eq!(staged.proposals.len(), 2);
    assert_eq!(staged.proposals[0].proposal, Proposal::SelfRemove);
    let client = staged.proposals[0].client.as_ref().unwrap();
    assert_eq!(client.user().to_string(), BOB);
    room.merge(&staged.bytes);
    for name in ["alice", "cathy"] {
        for message in [&leave, &list] {
            room.member(name).process(message);
        }
    }
    // Accepted, and in effect for the hub before anybody commits.
    assert_eq!(room.group.leaving().collect::<Vec<_>>(), [bob]);
    assert_eq!(room.group.pending_components().len(), 1);
    assert_eq!(participants_of(&room.group).len(), 3);

    let bundle = room.member("cathy").update();
    let staged = room.accept("cathy", &bundle);
    assert_eq!(names(&staged.removed), ["mimi://b.example/d/bob/B@1"]);
    let by_bob = |committed: &CommittedProposal| {
        matches!(&committed.proposer, Proposer::Member(member) if member.leaf == bob) && committed.reference.is_some()
    };
    assert_eq!(staged.proposals.len(), 2);
    assert!(staged.proposals.iter().all(by_bob));
    assert_eq!(staged.voided, []);
    assert_eq!(
        participants_of(&room.group),
        [(ALICE.to_owned(), 4), (CATHY.to_owned(), 2)]
    );
    assert_eq!(room.group.pending().len(), 0);
    room.agree();
}

#[test]
fn cathy_adds_a_device_by_an_external_commit() {
    let mut room = Room::of_three();
    let tablet = MimiDevice::new("mimi://c.example/d/cathy/D");
    let (tablet, bundle) = tablet.join_externally(&room.group, &[]);
    let staged = room.accept("tablet", &bundle);
    assert!(staged.external);
    assert_eq!(added(&staged), ["mimi://c.example/d/cathy/D@3"]);
    assert_eq!(staged.added[0].key_package, None);
    assert_eq!(staged.added[0].member, staged.committer);
    room.members.insert("tablet", tablet);
    room.agree();
    let user = MimiUri::parse(CATHY).unwrap();
    assert_eq!(room.group.leaves_of(&user).collect::<Vec<_>>(), [2, 3]);
    let bundle = room.member("tablet").update();
    room.accept("tablet", &bundle);
    room.agree();
}

#[test]
fn a_stranger_joins_and_puts_itself_on_the_list() {
    let mut room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let joining = add_participants(&[("mimi://d.example/u/dave", 2)]);
    let (dave, bundle) = dave.join_externally(&room.group, &[joining]);
    let staged = room.accept("dave", &bundle);
    let newcomer = Proposer::NewMember(staged.committer.identity.clone());
    assert!(staged.proposals.iter().all(|committed| committed.proposer == newcomer));
    assert_eq!(participants_of(&room.group).len(), 4);
    room.members.insert("dave", dave);
    room.agree();
}

#[test]
fn a_client_that_lost_its_state_joins_again() {
    let mut room = Room::of_three();
    let bob = room.members.remove("bob").unwrap();
    let (bob, bundle) = bob.device().join_externally(&room.group, &[]);
    let staged = room.accept("bob", &bundle);
    assert_eq!(names(&staged.removed), ["mimi://b.example/d/bob/B@1"]);
    assert_eq!(added(&staged), ["mimi://b.example/d/bob/B@1"]);
    room.members.insert("bob", bob);
    room.agree();
}

#[test]
fn what_joiners_need_is_served() {
    let mut room = Room::of_three();
    let leave = room.member("bob").leave();
    room.accept_proposal("bob", &leave);
    let info = room.group.group_info();
    assert!(!info.has_ratchet_tree());
    let alice = room
        .group
        .state
        .group
        .leaf(openmls::prelude::LeafNodeIndex::new(info.signer));
    let key = alice.unwrap().signature_key().as_slice().to_vec();
    assert!((*info).clone().verify(crypto(), &key).is_ok());
    let RatchetTreeOption::Full(served) = room.group.ratchet_tree() else {
        panic!("a hub serves its own tree");
    };
    let hash = room.group.suite().ciphersuite().hash_algorithm();
    assert_eq!(tree::hash(&served, hash).as_deref(), Some(room.group.tree_hash()));
    let for_joiners = room.group.for_joiners();
    let read = GroupInfoRatchetTreeTbe::from_bytes(&for_joiners.to_bytes());
    assert_eq!(read.as_ref(), Ok(&for_joiners));
    assert_eq!(for_joiners.group_info, info);
    let [pending] = &for_joiners.pending_proposals[..] else {
        panic!("one proposal is pending");
    };
    assert_eq!(pending.proposal, leave);
    assert!(pending.hub_accepted_time <= wall_clock().as_u64());
}

#[test]
fn the_components_are_there_to_be_asked() {
    let mut room = Room::of_three();
    let policy = ComponentId::STATUS_NOTIFICATION_POLICY;
    let change = |updates| Change {
        updates,
        ..Change::default()
    };
    let bundle = room
        .member("alice")
        .commit(change(vec![set_component(policy, vec![1, 0])]));
    let staged = room.stage(&bundle).unwrap();
    assert_eq!(staged.components, [(policy, Some(vec![1, 0]))].into());
    let foreseen = staged.dictionary(&room.group);
    room.accept("alice", &bundle);
    assert_eq!(room.group.component(policy), Some(&[1, 0][..]));
    assert_eq!(room.group.dictionary(), foreseen);

    let bundle = room.member("bob").commit(change(vec![remove_component(policy)]));
    let staged = room.accept("bob", &bundle);
    assert_eq!(staged.components, [(policy, None)].into());
    assert_eq!(room.group.component(policy), None);
    room.agree();
}

#[test]
fn a_body_as_it_comes_over_the_wire_is_staged() {
    let mut room = Room::of_three();
    let body = room.member("alice").update().in_parts().to_request();
    let request = UpdateRequest::from_bytes(&body).unwrap();
    let HandshakeParts::Commit(parts) = &request.with else {
        panic!("a commit");
    };
    let staged = room
        .group
        .stage(&request.proposal_or_commit, parts, wall_clock())
        .unwrap();
    assert_eq!(staged.epoch, room.group.epoch() + 1);
}

#[test]
fn every_suite_that_is_enabled_by_default_is_followed() {
    for suite in crate::SuiteSet::default().iter() {
        let hub = TestHub::with_suite("mimi://a.example", suite);
        let mut alice = MimiDevice::with_suite("mimi://a.example/d/alice/A", suite).create_room(&hub);
        let mut group = found(&hub, &alice);
        let bob = MimiDevice::with_suite("mimi://b.example/d/bob/B", suite);
        let bundle = alice.commit(Change {
            add: vec![bob.key_package()],
            updates: vec![add_participants(&[(BOB, 2)])],
            ..Change::default()
        });
        let staged = group.stage(&bundle.commit, &bundle.parts, wall_clock()).unwrap();
        group.merge(&staged.bytes).unwrap();
        alice.merge();
        let _ = bob.join(bundle.welcome(), &group.ratchet_tree());
        assert_eq!(group.suite(), suite);
        let proposal = group.hub_proposal(Proposal::Remove(1), hub.signer()).unwrap();
        assert!(group.propose(&proposal, &[], wall_clock()).is_ok());
    }
}
