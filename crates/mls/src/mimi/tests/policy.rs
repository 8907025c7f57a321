//! The group and the policy over the same proposals and commits: what is pending, what gives way, what a commit has to contain, what an
//! external commit leaves over (MIMI #bob-leaves-the-room, MIMI #room-state).

use nabe_auth::mimi::{
    Action, Bundle, Claims, Client, Commit, CommitProposal, Committer, JoinCode, LeftOver, Merge,
    Proposer as PolicyProposer, Rejection, Room as Policy, templates,
};
use nabe_wire::IdentifierUri;
use nabe_wire::mls::{FramedContentBody, MlsMessageBody, Sender, WireFormat};
use nabe_wire::participant_list::ParticipantListData;

use super::*;

const BANNED: u32 = 1;
const USER: u32 = 2;
const ADMIN: u32 = 3;

/// Alice may do everything, Bob and Cathy are ordinary users of a cooperative room.
struct Both {
    room: Room,
    policy: Policy,
}

fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).unwrap()
}

fn load(group: &MimiGroup) -> Policy {
    let leaves = group.members();
    let leaves = leaves.map(|(leaf, client)| (leaf, uri(&client.user().to_string())));
    Policy::load(uri(ROOM), &group.dictionary(), leaves).unwrap()
}

impl Both {
    fn new() -> Self {
        let hub = TestHub::new("mimi://a.example");
        let alice = MimiDevice::new("mimi://a.example/d/alice/A");
        let mut draft = RoomDraft::new(&alice, &hub);
        let template = templates::cooperative("a.example").dictionary(&ParticipantListData { participants: vec![] });
        for entry in template.entries() {
            if entry.component_id != ComponentId::PARTICIPANT_LIST {
                draft.set(entry.component_id, entry.data.to_vec());
            }
        }
        let alice = alice.create_room_with(&draft);
        let group = found(&hub, &alice);
        let mut room = Room {
            log: vec![group.checkpoint()],
            members: [("alice", alice)].into(),
            group,
            hub,
        };
        room.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, USER)]);
        room.add("bob", "cathy", "mimi://c.example/d/cathy/C", &[(CATHY, USER)]);
        let policy = load(&room.group);
        Self { room, policy }
    }

    fn member(&mut self, name: &str) -> &mut MimiMember {
        self.room.member(name)
    }

    /// Both take it, and drop the same for it.
    fn propose(&mut self, author: &str, messages: &[Kept<MlsMessage>]) {
        let group = &mut self.room.group;
        let staged = group.propose(&messages[0], &messages[1..], wall_clock()).unwrap();
        let proposals: Vec<_> = staged
            .proposals
            .iter()
            .map(|one| (one.reference.as_bytes().into(), Action::of(&one.proposal).unwrap()))
            .collect();
        let credential = |identity: &Identity| Claims::of(identity.credential());
        let (claims, kind) = match &staged.proposals[0].proposer {
            Proposer::Member(member) => (credential(&member.identity), Some(member.leaf)),
            Proposer::ExternalSender { sender, .. } => (Claims::of(&sender.credential), None),
            Proposer::NewMember(_) => panic!("nobody asks to be added here"),
        };
        let claims = &claims;
        let proposer = match kind {
            Some(leaf) => PolicyProposer::Member { leaf, claims },
            None => PolicyProposer::External { index: 0, claims },
        };
        let bundle = Bundle {
            proposer,
            proposals: &proposals,
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        let proposed = self.policy.propose(&bundle, None).unwrap();
        let known_to_policy: Vec<&[u8]> = proposed.superseded().collect();
        assert!(
            staged
                .superseded
                .iter()
                .all(|one| known_to_policy.contains(&one.as_bytes())),
            "what gives way in the group gives way in the policy"
        );
        let staged = group.superseding(staged, known_to_policy);
        self.policy.accept(proposed).unwrap();
        self.room.merge(&staged.bytes);
        for (name, member) in &mut self.room.members {
            if *name != author {
                messages.iter().for_each(|message| member.process(message));
            }
            staged.superseded.iter().for_each(|gone| member.forget(gone));
        }
        self.same_is_pending();
    }

    fn same_is_pending(&self) {
        let group: Vec<&[u8]> = self.room.group.pending().map(|one| one.reference.as_bytes()).collect();
        let policy: Vec<&[u8]> = self.policy.accepted().map(|one| one.reference()).collect();
        assert_eq!(group, policy, "the same is pending");
    }

    /// What both say, which is the same.
    fn judge(&self, bundle: &TestBundle, now: UnixMillis) -> Result<Merge, (MimiRefusal, Rejection)> {
        let staged = self.room.group.stage(&bundle.commit, &bundle.parts, now);
        let MlsMessageBody::Public(message) = &bundle.commit.body else {
            panic!("a public message");
        };
        let FramedContentBody::Commit(commit) = &message.content.body else {
            panic!("a commit");
        };
        let proposals: Vec<_> = commit
            .proposals
            .iter()
            .map(|proposal| CommitProposal::of(proposal).unwrap())
            .collect();
        let client = Client::of_leaf(&commit.path.as_ref().unwrap().leaf_node).unwrap();
        let expired: Vec<&[u8]> = self.room.group.expired(now).map(ProposalRef::as_bytes).collect();
        let committer = match message.content.sender {
            Sender::Member { leaf_index: leaf } => Committer::Member {
                leaf,
                claims: &client.claims,
                path: Some(&client),
            },
            _ => Committer::NewMember {
                client: &client,
                code: JoinCode::Absent,
            },
        };
        let commit = Commit {
            committer,
            proposals: &proposals,
            expired: &expired,
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        match (staged, self.policy.commit(&commit, None)) {
            (Ok(_), Ok(merge)) => Ok(merge),
            (Err(refused), Err(rejection)) => Err((refused, rejection)),
            (staged, judged) => panic!("the group: {:?}; the policy: {:?}", staged.err(), judged.err()),
        }
    }

    /// Both take the commit, and are the same after it as each by itself.
    fn accept(&mut self, committer: &'static str, bundle: &TestBundle) -> StagedCommit {
        let merge = self.judge(bundle, wall_clock()).unwrap();
        let staged = self.room.accept(committer, bundle);
        self.policy.merge(merge).unwrap();
        let loaded = load(&self.room.group);
        assert_eq!(loaded.participants(), self.policy.participants());
        assert_eq!(loaded.committed_policy(), self.policy.committed_policy());
        self.same_is_pending();
        staged
    }

    /// Of the commits that leave out one of what is pending, those that are taken, by the place of what is left out.
    fn may_leave_out(&mut self, committer: &str, change: impl Fn() -> Change) -> Vec<usize> {
        let pending: Vec<_> = self.room.group.pending().cloned().collect();
        let mut may = Vec::new();
        for (place, left_out) in pending.iter().enumerate() {
            self.member(committer).forget(&left_out.reference);
            let bundle = self.member(committer).commit(change());
            if let Err((refused, rejection)) = self.judge(&bundle, wall_clock()).map(drop) {
                let references = vec![left_out.reference.clone()];
                assert_eq!(refused, MimiRefusal::PendingLeftOut { references });
                assert_eq!(rejection, Rejection::PendingMissing);
            } else {
                may.push(place);
            }
            self.member(committer).clear();
            self.member(committer).process(&left_out.message);
        }
        may
    }

    fn ban_bob(&mut self) -> [Kept<MlsMessage>; 2] {
        let leaf = self.room.leaf("bob");
        let alice = self.member("alice");
        [
            alice.propose_component(&change_participants(&[(1, BANNED)], &[], &[])),
            alice.propose_remove(leaf),
        ]
    }
}

fn nothing() -> Change {
    Change::default()
}

fn ban_of_bob() -> Change {
    Change {
        remove: vec![1],
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    }
}

fn tablet_of_bob() -> Vec<u8> {
    MimiDevice::new("mimi://b.example/d/bob/T").key_package()
}

#[test]
fn a_client_that_bob_asked_for_does_not_keep_him_from_being_banned() {
    let mut both = Both::new();
    let add = both.member("bob").propose_add(&tablet_of_bob());
    both.propose("bob", &[add]);
    let ban = both.ban_bob();
    both.propose("alice", &ban);
    assert_eq!(both.room.group.pending().len(), 2);
    assert!(both.may_leave_out("cathy", nothing).is_empty());
    let bundle = both.member("cathy").update();
    let staged = both.accept("cathy", &bundle);
    assert_eq!(names(&staged.removed), ["mimi://b.example/d/bob/B@1"]);
    assert_eq!(both.policy.role_of(&uri(BOB)), BANNED);
    assert!(
        both.room
            .group
            .leaves_of(&MimiUri::parse(BOB).unwrap())
            .next()
            .is_none()
    );
}

#[test]
fn a_commit_that_bans_bob_leaves_out_his_client_and_his_update() {
    let mut both = Both::new();
    let add = both.member("bob").propose_add(&tablet_of_bob());
    both.propose("bob", &[add]);
    let update = both.member("bob").propose_update();
    both.propose("bob", &[update]);
    let name = both.member("cathy").propose_component(&set_component(
        ComponentId::ROOM_METADATA,
        metadata(ROOM, "Another name"),
    ));
    both.propose("cathy", &[name]);
    // Each is left out by a commit that does nothing about Bob, which nobody takes.
    assert!(both.may_leave_out("alice", nothing).is_empty());
    let pending: Vec<_> = both.room.group.pending().map(|one| one.reference.clone()).collect();
    both.member("alice").forget(&pending[0]);
    both.member("alice").forget(&pending[1]);
    let bundle = both.member("alice").commit(ban_of_bob());
    both.accept("alice", &bundle);
    assert_eq!(both.policy.role_of(&uri(BOB)), BANNED);
}

#[test]
fn a_promotion_leaves_no_client_out() {
    let mut both = Both::new();
    let add = both.member("bob").propose_add(&tablet_of_bob());
    both.propose("bob", &[add]);
    let promote = both
        .member("alice")
        .propose_component(&change_participants(&[(1, ADMIN)], &[], &[]));
    both.propose("alice", &[promote]);
    assert_eq!(both.room.group.pending().len(), 2);
    let bundle = both.member("cathy").update();
    both.accept("cathy", &bundle);
    assert_eq!(both.policy.clients_of(&uri(BOB)), 2);
}

#[test]
fn what_bob_makes_of_his_own_place_gives_way_to_a_ban() {
    let mut both = Both::new();
    let leave = both.member("bob").leave();
    let list = both
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    both.propose("bob", &[leave, list]);
    let ban = both
        .member("alice")
        .propose_component(&change_participants(&[(1, BANNED)], &[], &[]));
    both.propose("alice", &[ban]);
    assert_eq!(both.room.group.pending().len(), 2);
    assert!(both.may_leave_out("cathy", nothing).is_empty());
    let bundle = both.member("cathy").update();
    both.accept("cathy", &bundle);
    assert_eq!(both.policy.role_of(&uri(BOB)), BANNED);
}

#[test]
fn a_commit_that_bans_bob_leaves_out_what_he_makes_of_his_own_place() {
    let mut both = Both::new();
    let leave = both.member("bob").leave();
    let list = both
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    both.propose("bob", &[leave, list]);
    let ban = || Change {
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    };
    assert_eq!(both.may_leave_out("alice", nothing), [0_usize; 0]);
    let list = both.room.group.pending().nth(1).unwrap().reference.clone();
    both.member("alice").forget(&list);
    let bundle = both.member("alice").commit(ban());
    both.accept("alice", &bundle);
    assert_eq!(both.policy.role_of(&uri(BOB)), BANNED);
}

#[test]
fn an_update_gives_way_to_the_next_and_to_a_removal() {
    let mut both = Both::new();
    for _ in 0..2 {
        let update = both.member("bob").propose_update();
        both.propose("bob", &[update]);
        assert_eq!(both.room.group.pending().len(), 1);
    }
    assert!(both.may_leave_out("cathy", nothing).is_empty());
    let remove = both.member("alice").propose_remove(1);
    both.propose("alice", &[remove]);
    assert_eq!(both.room.group.pending().len(), 1);
    // Bob goes of his own accord.
    let leave = both.member("bob").leave();
    both.propose("bob", &[leave]);
    assert_eq!(both.room.group.pending().len(), 1);
    let tablet = MimiDevice::new("mimi://a.example/d/alice/T");
    let (tablet, bundle) = tablet.join_externally(&both.room.group, &[]);
    both.accept("tablet", &bundle);
    both.room.members.insert("tablet", tablet);
    assert!(both.policy.left_over().is_empty());
}

#[test]
fn committers_leave_out_their_own_update() {
    let mut both = Both::new();
    let update = both.member("bob").propose_update();
    both.propose("bob", &[update]);
    assert!(both.may_leave_out("alice", nothing).is_empty());
    both.member("bob").clear_proposals();
    let bundle = both.member("bob").update();
    both.accept("bob", &bundle);
}

#[test]
fn a_client_whose_key_package_is_not_good_any_more_is_left_out() {
    let mut both = Both::new();
    let now = wall_clock().as_u64() / 1000;
    let tablet = MimiDevice::new("mimi://b.example/d/bob/T").key_package_for(Some((now - 60, now + 60)));
    let add = both.member("bob").propose_add(&tablet);
    both.propose("bob", &[add]);
    assert!(both.may_leave_out("alice", nothing).is_empty());
    let add = both.room.group.pending().next().unwrap().reference.clone();
    both.member("alice").forget(&add);
    let bundle = both.member("alice").update();
    let late = UnixMillis((now + 120) * 1000);
    assert!(both.judge(&bundle, late).is_ok());
    assert!(both.judge(&bundle, wall_clock()).is_err());
}

#[test]
fn what_an_external_commit_leaves_over_is_proposed_again_and_committed() {
    let mut both = Both::new();
    let tablet = MimiDevice::new("mimi://b.example/d/bob/T");
    let (tablet, bundle) = tablet.join_externally(&both.room.group, &[]);
    both.accept("tablet of bob", &bundle);
    both.room.members.insert("tablet of bob", tablet);
    // Cathy leaves, Bob becomes an administrator, his tablet is to go, and the room has another name.
    let leave = both.member("cathy").leave();
    let list = both
        .member("cathy")
        .propose_component(&change_participants(&[], &[2], &[]));
    both.propose("cathy", &[leave, list]);
    let promote = both
        .member("alice")
        .propose_component(&change_participants(&[(1, ADMIN)], &[], &[]));
    both.propose("alice", &[promote]);
    let kick = both.member("alice").propose_remove(3);
    both.propose("alice", &[kick]);
    let name = set_component(ComponentId::ROOM_METADATA, metadata(ROOM, "Another name"));
    let name = both.member("alice").propose_component(&name);
    both.propose("alice", &[name]);

    let phone = MimiDevice::new("mimi://a.example/d/alice/P");
    let (phone, bundle) = phone.join_externally(&both.room.group, &[]);
    both.accept("phone of alice", &bundle);
    both.room.members.insert("phone of alice", phone);
    assert_eq!(participants_of(&both.room.group).len(), 3);
    assert_eq!(both.policy.role_of(&uri(CATHY)), 0);
    assert_eq!(both.policy.role_of(&uri(BOB)), ADMIN);
    let left_over = both.policy.left_over().clone();
    let leaves: Vec<_> = left_over
        .leaves()
        .map(|(user, leaf)| (user.to_string(), leaf))
        .collect();
    assert_eq!(leaves, [(BOB.to_owned(), 3)], "Cathy's client went with its SelfRemove");
    assert_eq!(left_over.components.len(), 1);

    // After a restart it is the same.
    let mut loaded = load(&both.room.group);
    loaded.restore(left_over.clone());
    assert_eq!(loaded.left_over(), &left_over);
    assert_eq!(loaded.effective_list(), both.policy.effective_list());
    assert_eq!(loaded.policy(), both.policy.policy());

    // The hub proposes what is about users, and when that is committed, the name.
    for proposals in [2, 1] {
        let again: Vec<_> = both
            .policy
            .left_over_proposals()
            .iter()
            .map(|action| action.to_proposal().unwrap())
            .map(|proposal| both.room.group.hub_proposal(proposal, both.room.hub.signer()).unwrap())
            .collect();
        assert_eq!(again.len(), proposals);
        both.propose("the hub", &again);
        assert!(both.may_leave_out("bob", nothing).is_empty());
        let bundle = both.member("bob").update();
        both.accept("bob", &bundle);
    }
    assert_eq!(both.policy.left_over(), &LeftOver::default());
    assert_eq!(
        participants_of(&both.room.group),
        [(ALICE.to_owned(), 4), (BOB.to_owned(), ADMIN)]
    );
    assert_eq!(both.room.group.members().len(), 3);
    let data = both.room.group.component(ComponentId::ROOM_METADATA).unwrap();
    assert_eq!(data, metadata(ROOM, "Another name"));
    both.room.agree();
}
