//! Any bytes as what happens in a MIMI room, and what holds in any room whatever happens.

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::{Bytes, NulFreeText};
use nabe_wire::mls::{AppDataUpdate, ComponentId, Credential, CredentialType, ProposalType, WireFormat};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::{
    BaseRoomPolicy, Claim, ClaimId, OperationalParameters, PreAuthData, PreAuthRoleEntry, Role, RoleData,
};
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::Uri;
use nabe_wire::{Decode, Encode, IdentifierUri, Message, Reader};

use super::templates::{self, Template};
use super::{
    Action, Bundle, CAPABILITIES, Claims, Client, Commit, CommitProposal, Committer, JoinCode, MessageEpoch, Proposer,
    Rejection, Room,
};

const ROOM: &str = "mimi://hub.example/r/room";
const HALL: &str = "mimi://hub.example/r/hall";
const USERS: [&str; 6] = [
    "mimi://hub.example/u/ann",
    "mimi://a.example/u/bob",
    "mimi://a.example/u/cid",
    "mimi://b.example/u/dan",
    "mimi://b.example/u/eve",
    "mimi://c.example/u/fay",
];

/// Bytes as a room and what happens in it: four that choose policy, roles of its users, and a capability of a role; then five for
/// each step.
///
/// Holds throughout: no panic; the same decision twice; after each commit the components and leaves that it names make up the very same
/// room when they are loaded, and going through them finds nobody with a client who may not have one, and no stranger to the parent room;
/// what is pending can be committed; what was accepted is what is committed, in whatever order a commit refers to it; what an external commit left over can be proposed again and
/// committed; whoever is banned sends nothing; taking a capability away from a role never allows more.
pub fn policy(data: &[u8]) {
    follow(data);
}

/// How many bundles of proposals and commits were allowed, and how many were decided.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Allowed {
    pub(crate) proposals: [usize; 2],
    pub(crate) commits: [usize; 2],
    /// How often something was left over by an external commit.
    pub(crate) left_over: usize,
    /// How often not all of it could be.
    pub(crate) dropped: usize,
}

/// [`policy`], and how it went.
pub(crate) fn follow(data: &[u8]) -> Allowed {
    let Some((&[template, roles, role, capability], steps)) = data.split_first_chunk() else {
        return Allowed::default();
    };
    let template = match template % 5 {
        0 => templates::cooperative("hub.example"),
        1 => templates::strict("hub.example"),
        2 => templates::moderated("hub.example"),
        3 => templates::multi_organization("hub.example", "a.example"),
        _ => templates::direct_message(),
    };
    let Some(mut world) = World::new(&template, roles) else {
        return Allowed::default();
    };
    world.taken = (u32::from(role % 10), usize::from(capability) % CAPABILITIES.len());
    for step in steps.chunks_exact(5).take(60) {
        world.step(step);
    }
    world.allowed
}

struct World {
    room: Room,
    /// That of a room that this one may come to depend on.
    parent: Room,
    /// What the group's context has, by what commits change of it.
    dictionary: AppDataDictionary,
    leaves: Vec<(u32, IdentifierUri)>,
    count: u32,
    /// The role from which a capability is taken, and which.
    taken: (u32, usize),
    allowed: Allowed,
}

impl World {
    /// Four of the users, or two where there may be no more, with a client each. `None` if no room can be like this.
    fn new(template: &Template, roles: u8) -> Option<Self> {
        let names = template.roles.roles.len();
        let role = |number: usize| {
            let index = usize::from(roles >> (number * 2)) % names;
            template.roles.roles[index].role_index
        };
        let pair = |number: usize| UserRolePair {
            user: user(number),
            role_index: role(number).max(2),
        };
        let members = template.base.max_users.map_or(4, |_| 2);
        let participants = (0..members).map(pair).collect();
        let dictionary = template.dictionary(&ParticipantListData { participants });
        let leaves: Vec<_> = (0..)
            .zip(0..members)
            .map(|(leaf, number)| (leaf, user(number)))
            .collect();
        let room = Room::load(uri(ROOM), &dictionary, leaves.clone()).ok()?;
        Some(Self {
            room,
            parent: hall(),
            dictionary,
            leaves,
            count: 0,
            taken: (0, 0),
            allowed: Allowed::default(),
        })
    }

    fn step(&mut self, step: &[u8]) {
        let (who, actions) = (usize::from(step[0]), self.actions(step));
        match step[1] >> 6 {
            0 | 1 => self.propose(who, actions),
            2 => self.commit(who, actions, step[4]),
            _ => self.join(who, step),
        }
        for number in 0..USERS.len() {
            let sends = self.room.send(&user(number), MessageEpoch::Behind(0)).is_ok();
            let may = self.room.takes_part(&user(number)) && self.room.clients_of(&user(number)) > 0;
            assert!(may || !sends, "only active participants send");
        }
    }

    fn actions(&self, step: &[u8]) -> Vec<Action> {
        let (a, b) = (step[2], step[3]);
        let (index, role) = (u32::from(a % 7), u32::from(b % 11));
        let of = |number: u8| user(usize::from(number) % USERS.len());
        let leaves_of = |index: u32| {
            let leaves = self
                .room
                .participants()
                .at(index)
                .map(|it| it.leaves().collect::<Vec<_>>());
            leaves.unwrap_or_default().into_iter().map(Action::Remove)
        };
        let list = |roles, removed, added| {
            let update = ParticipantListUpdate {
                changed_role_participants: roles,
                removed_indices: removed,
                added_participants: added,
            };
            Action::update(ComponentId::PARTICIPANT_LIST, &update)
        };
        let pair = UserIndexRolePair {
            user_index: index,
            role_index: role,
        };
        match step[1] % 16 {
            0 => vec![list(vec![pair], vec![], vec![])],
            1 => {
                let mut actions = vec![list(vec![pair], vec![], vec![])];
                actions.extend(leaves_of(index));
                actions
            }
            2 | 3 => {
                let mut actions = vec![list(vec![], vec![index], vec![])];
                actions.extend(leaves_of(index).skip(usize::from(b % 2)));
                actions
            }
            4 | 5 => {
                let added = UserRolePair {
                    user: of(a),
                    role_index: role,
                };
                let mut actions = vec![list(vec![], vec![], vec![added])];
                actions.extend((0..step[4] % 3).map(|_| Action::Add(Box::new(client(&of(a))))));
                actions
            }
            6 => vec![Action::Remove(u32::from(a % 8))],
            7 => vec![Action::SelfRemove],
            8 => vec![Action::Add(Box::new(client(&of(a))))],
            9 => {
                let roles = self.data(ComponentId::ROLES_LIST);
                let roles = match step[1] >> 4 & 3 {
                    0 => without(roles, role, usize::from(a)),
                    1 => bounded(roles, role, a),
                    2 => renamed(roles, a),
                    _ => {
                        let preauthorized = preauthorized(roles, role);
                        return vec![Action::update(ComponentId::PREAUTH_LIST, &preauthorized)];
                    }
                };
                vec![Action::update(ComponentId::ROLES_LIST, &roles)]
            }
            10 => {
                let mut base = self.room.policy().base().clone();
                if step[1] & 0x20 != 0 {
                    base.parent_dependant = !base.parent_dependant;
                    base.parent_room = base
                        .parent_dependant
                        .then(|| Uri::new(HALL).expect("a URI"))
                        .into_iter()
                        .collect();
                }
                base.max_users = (b < 128).then(|| u32::from(b % 8));
                base.max_clients = (a < 128).then(|| u32::from(a % 8));
                base.multi_device = step[4].is_multiple_of(2);
                vec![Action::update(ComponentId::BASE_ROOM_POLICY, &base)]
            }
            11 => vec![Action::update(ComponentId::ROOM_METADATA, &metadata(a))],
            12 => vec![Action::AppData(AppDataUpdate {
                component_id: ComponentId(u16::from(a % 0x30)),
                update: None,
            })],
            13 if step[1] & 0x20 != 0 => vec![Action::update(
                ComponentId::MLS_OPERATIONAL_POLICY,
                &operational(a, u16::from(b)),
            )],
            13 => vec![Action::AppData(AppDataUpdate {
                component_id: ComponentId(0x20 + u16::from(a % 0x11)),
                update: Some(step[3..].into()),
            })],
            14 => vec![Action::Other(ProposalType(u16::from(a)))],
            _ => vec![Action::Update(Box::new(client(&of(a))))],
        }
    }

    fn data(&self, component: ComponentId) -> &[u8] {
        self.room.policy().dictionary().data(component).unwrap_or_default()
    }

    fn propose(&mut self, who: usize, actions: Vec<Action>) {
        let proposals: Vec<(Bytes, Action)> = actions.into_iter().map(|action| (self.reference(), action)).collect();
        let credential = claims(USERS[who % USERS.len()]);
        let hub = claims("mimi://hub.example");
        let applicant = client(&user(who % USERS.len()));
        let proposer = match (self.leaf_of(who), who % 8) {
            (_, 6) => Proposer::External { index: 0, claims: &hub },
            (_, 7) => Proposer::External {
                index: 1,
                claims: &credential,
            },
            (Some(leaf), _) => Proposer::Member {
                leaf,
                claims: &credential,
            },
            (None, _) => Proposer::NewMember { client: &applicant },
        };
        let bundle = Bundle {
            proposer,
            proposals: &proposals,
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        let parent = Some(&self.parent);
        self.taking_away_never_allows_more(|room| room.propose(&bundle, parent).map(drop));
        let again = self.room.propose(&bundle, parent).map(drop);
        let decided = self.room.propose(&bundle, parent);
        assert_eq!(decided.as_ref().err(), again.as_ref().err());
        self.allowed.proposals[1] += 1;
        if let Ok(proposed) = decided {
            self.allowed.proposals[0] += 1;
            self.room.accept(proposed).expect("nothing happened in between");
            if self.room.left_over().is_empty() {
                self.what_is_pending_can_be_committed(&self.room);
            }
        }
    }

    /// The references and what the commit brings stand in an order that `order` chooses: from 128 not in that of what was accepted.
    fn commit(&mut self, who: usize, actions: Vec<Action>, order: u8) {
        let Some(leaf) = self.leaf_of(who) else {
            return;
        };
        let credential = claims(USERS[who % USERS.len()]);
        let pending: Vec<Bytes> = self.room.accepted().map(|it| it.reference().into()).collect();
        let is_pure = who < 128;
        let inline = actions.into_iter().filter(|_| !is_pure).map(CommitProposal::Inline);
        let references = pending.iter().map(|reference| CommitProposal::Reference(reference));
        let mut proposals: Vec<CommitProposal<'_>> = references.chain(inline).collect();
        if order >= 128 && !proposals.is_empty() {
            let by = usize::from(order) % proposals.len();
            proposals.rotate_left(by);
            if order & 64 != 0 {
                proposals.reverse();
            }
        }
        let (before, policy) = (self.room.effective_list(), self.room.policy().clone());
        let committer = Committer::Member {
            leaf,
            claims: &credential,
            path: None,
        };
        let is_merged = self.decide(committer, &proposals);
        let is_all = self.room.left_over().is_empty();
        if is_merged && is_pure && is_all {
            assert_eq!(
                sorted(&self.room.effective_list()),
                sorted(&before),
                "what was accepted is committed"
            );
            assert_eq!(
                self.room.policy(),
                &policy,
                "what was accepted last of a component is committed"
            );
        }
    }

    fn join(&mut self, who: usize, step: &[u8]) {
        let joiner = client(&user(who % USERS.len()));
        let role_index = u32::from(step[3] % 8);
        let list = ParticipantListUpdate {
            changed_role_participants: vec![],
            removed_indices: vec![],
            added_participants: vec![UserRolePair {
                user: joiner.user.clone(),
                role_index,
            }],
        };
        let code = match step[4] % 3 {
            0 => JoinCode::Absent,
            1 => JoinCode::Expired,
            _ => JoinCode::For(role_index),
        };
        let leaving: Vec<Bytes> = self
            .room
            .accepted()
            .filter(|it| matches!(it.action(), Action::SelfRemove))
            .map(|it| it.reference().into())
            .collect();
        let mut proposals: Vec<_> = leaving.iter().map(|it| CommitProposal::Reference(it)).collect();
        if step[2].is_multiple_of(2) {
            proposals.push(CommitProposal::Inline(Action::update(
                ComponentId::PARTICIPANT_LIST,
                &list,
            )));
        }
        if step[2] % 4 == 3 {
            proposals.extend(
                self.leaf_of(who)
                    .map(|leaf| CommitProposal::Inline(Action::Remove(leaf))),
            );
        }
        let before = self.room.effective_list();
        let committer = Committer::NewMember { client: &joiner, code };
        if self.decide(committer, &proposals) {
            let stays = |pair: &UserRolePair| self.room.role_of(&pair.user) == pair.role_index;
            if !before.participants.iter().all(stays) {
                // What no commit could contain any more.
                self.allowed.dropped += 1;
            }
            let again = self.room.left_over_proposals();
            let proposals: Vec<_> = again.into_iter().map(|action| (self.reference(), action)).collect();
            let nobody = claims("mimi://nobody.example");
            let bundle = Bundle {
                proposer: Proposer::External {
                    index: 0,
                    claims: &nobody,
                },
                proposals: &proposals,
                wire_format: WireFormat::PUBLIC_MESSAGE,
            };
            let proposed = self.room.propose(&bundle, Some(&self.parent));
            self.allowed.left_over += usize::from(!proposals.is_empty());
            assert_eq!(
                proposed.as_ref().err(),
                None,
                "the hub proposes again what was left over"
            );
            let mut room = self.room.clone();
            room.accept(proposed.expect("just allowed"))
                .expect("nothing happened in between");
            self.what_is_pending_can_be_committed(&room);
            if step[4] >= 128 {
                self.room = room;
            }
        }
    }

    fn decide(&mut self, committer: Committer<'_>, proposals: &[CommitProposal<'_>]) -> bool {
        let commit = Commit {
            committer,
            proposals,
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        if self.room.accepted().len() == 0 {
            self.taking_away_never_allows_more(|room| room.commit(&commit, Some(&self.parent)).map(drop));
        }
        self.allowed.commits[1] += 1;
        let Ok(merge) = self.room.commit(&commit, Some(&self.parent)) else {
            return false;
        };
        self.allowed.commits[0] += 1;
        for (component, data) in self.room.component_changes(&merge) {
            match data {
                Some(data) => self.dictionary.set(component, data),
                None => drop(self.dictionary.remove(component)),
            }
        }
        let removed: Vec<u32> = merge.removed_leaves().collect();
        self.leaves.retain(|(leaf, _)| !removed.contains(leaf));
        for (leaf, owner) in merge.added_leaves() {
            assert!(self.leaves.iter().all(|(taken, _)| *taken != leaf), "the leaf is blank");
            self.leaves.push((leaf, owner.clone()));
        }
        self.room.merge(merge).expect("nothing happened in between");
        let mut loaded = Room::load(uri(ROOM), &self.dictionary, self.leaves.clone()).expect("a room stays in order");
        assert_eq!(loaded.participants(), self.room.participants());
        assert_eq!(loaded.committed_policy(), self.room.committed_policy());
        loaded.restore(self.room.left_over().clone());
        assert_eq!(
            loaded.left_over(),
            self.room.left_over(),
            "what is left over is restored"
        );
        assert_eq!(sorted(&loaded.effective_list()), sorted(&self.room.effective_list()));
        assert_eq!(loaded.policy(), self.room.policy());
        self.every_leaf_has_its_place();
        true
    }

    /// By the components and the leaves alone, all of them.
    fn every_leaf_has_its_place(&self) {
        let data = |component| self.dictionary.data(component).unwrap_or_default();
        let list = ParticipantListData::from_bytes(data(ComponentId::PARTICIPANT_LIST)).expect("the list reads");
        let roles = RoleData::from_bytes(data(ComponentId::ROLES_LIST)).expect("the roles read");
        let role_of = |user: &IdentifierUri| {
            let mut pairs = list.participants.iter();
            let index = pairs.find(|pair| pair.user == *user)?.role_index;
            roles.roles.iter().find(|role| role.role_index == index)
        };
        let is_ban = |role: &Role| role.role_index == 1 && role.role_name.0 == "banned";
        for (leaf, owner) in &self.leaves {
            let role = role_of(owner).expect("the owner of a leaf is listed");
            assert!(
                role.role_index != 0 && !is_ban(role),
                "leaf {leaf} is that of a banned user"
            );
            assert_ne!(role.maximum_active_participants_constraint, Some(0), "leaf {leaf}");
        }
        let base = self.dictionary.data(ComponentId::BASE_ROOM_POLICY);
        let base = base.map(|base| BaseRoomPolicy::from_bytes(base).expect("the base policy reads"));
        if base.is_some_and(|base| base.parent_dependant) {
            for pair in &list.participants {
                let is_banned = role_of(&pair.user).is_some_and(is_ban);
                assert!(
                    is_banned || self.parent.takes_part(&pair.user),
                    "{} is a stranger",
                    pair.user
                );
            }
        }
    }

    /// What is pending can be committed by whoever takes part with a client that stays, unless something is left over and not proposed
    /// again yet.
    fn what_is_pending_can_be_committed(&self, room: &Room) {
        let stays = |leaf: u32| {
            let is_removed = |it: &super::Accepted| match it.action() {
                Action::Remove(removed) => *removed == leaf,
                Action::SelfRemove => it.leaf() == Some(leaf),
                _ => false,
            };
            !room.accepted().any(is_removed) && room.left_over().leaves().all(|(_, left_over)| left_over != leaf)
        };
        let committer = room
            .participants()
            .leaves()
            .find(|(leaf, owner)| room.takes_part(owner.user()) && stays(*leaf));
        let Some((leaf, owner)) = committer else {
            return;
        };
        let pending: Vec<Bytes> = room.accepted().map(|it| it.reference().into()).collect();
        let proposals: Vec<_> = pending.iter().map(|it| CommitProposal::Reference(it)).collect();
        let commit = Commit {
            committer: Committer::Member {
                leaf,
                claims: &claims(owner.user()),
                path: None,
            },
            proposals: &proposals,
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        // Whose Update it is leaves it out.
        if room.accepted().all(|it| !matches!(it.action(), Action::Update(_))) {
            let decided = room.commit(&commit, Some(&self.parent)).map(drop);
            assert_eq!(decided, Ok(()), "what is pending can be committed");
        }
    }

    /// Where nothing is pending, so that the lesser room can be loaded.
    fn taking_away_never_allows_more(&self, decide: impl Fn(&Room) -> Result<(), Rejection>) {
        let (role, capability) = self.taken;
        let load = |dictionary| Room::load(uri(ROOM), dictionary, self.leaves.clone());
        let mut lesser = self.dictionary.clone();
        let roles = lesser.data(ComponentId::ROLES_LIST).unwrap_or_default();
        lesser.set(ComponentId::ROLES_LIST, without(roles, role, capability).to_bytes());
        let (Ok(room), Ok(lesser)) = (load(&self.dictionary), load(&lesser)) else {
            unreachable!("both are in order");
        };
        let allowed = decide(&room);
        // The roles as they are in one room are other ones in the other.
        if decide(&lesser).is_ok() && allowed != Err(Rejection::NoChange) {
            assert_eq!(
                allowed,
                Ok(()),
                "without {:?} of role {role}",
                CAPABILITIES[capability].0
            );
        }
    }

    fn leaf_of(&self, who: usize) -> Option<u32> {
        self.room.participants().get(&user(who % USERS.len()))?.leaves().next()
    }

    fn reference(&mut self) -> Bytes {
        self.count += 1;
        self.count.to_bytes().into()
    }
}

/// The roles with a capability taken from one of them.
fn without(roles: &[u8], role: u32, capability: usize) -> RoleData {
    let mut data = RoleData::from_bytes(roles).expect("the roles of a room read");
    let (capability, _) = CAPABILITIES[capability % CAPABILITIES.len()];
    for its in data.roles.iter_mut().filter(|its| its.role_index == role) {
        its.role_capabilities.retain(|it| *it != capability);
    }
    data
}

/// The roles with other bounds for one of them.
fn bounded(roles: &[u8], role: u32, bounds: u8) -> RoleData {
    let mut data = RoleData::from_bytes(roles).expect("the roles of a room read");
    for its in data.roles.iter_mut().filter(|its| its.role_index == role) {
        let most = |bits: u8| (bits & 1 != 0).then_some(u32::from(bits >> 1 & 3));
        its.maximum_participants_constraint = most(bounds);
        its.maximum_active_participants_constraint = most(bounds >> 3);
        its.minimum_participants_constraint = u32::from(bounds >> 6 & 1);
        its.minimum_active_participants_constraint = u32::from(bounds >> 7);
    }
    data
}

/// The roles with another name of role 1, which takes clients.
fn renamed(roles: &[u8], name: u8) -> RoleData {
    let mut data = RoleData::from_bytes(roles).expect("the roles of a room read");
    for its in data.roles.iter_mut().filter(|its| its.role_index == 1) {
        "banned".clone_into(&mut its.role_name.0);
        if name & 1 != 0 {
            "guest".clone_into(&mut its.role_name.0);
        }
        its.maximum_active_participants_constraint = None;
    }
    data
}

/// A role for all users of a provider, and for their clients from outside.
fn preauthorized(roles: &[u8], role: u32) -> PreAuthData {
    let data = RoleData::from_bytes(roles).expect("the roles of a room read");
    let target_role = data.roles.into_iter().find(|its| its.role_index == role);
    let claim = Claim {
        claim_id: ClaimId {
            credential_type: CredentialType::BASIC,
            id: b"provider".as_slice().into(),
        },
        claim_value: b"mimi://a.example".as_slice().into(),
    };
    let entry = target_role.map(|target_role| PreAuthRoleEntry {
        claimset: vec![claim],
        target_role,
    });
    PreAuthData {
        preauthorized_entries: entry.into_iter().collect(),
    }
}

/// Whether there are proposals and commits from outside, and a type of proposals that there is not.
fn operational(flags: u8, forbidden: u16) -> OperationalParameters {
    let zeros = &mut Reader::new(&[0; 256]);
    let mut policy = OperationalParameters::decode(zeros).expect("all of it may be 0 or empty");
    policy.external_proposal_allowed = flags & 1 != 0;
    policy.external_commit_allowed = flags & 2 != 0;
    if flags & 12 == 0 {
        policy.forbidden_capabilities.proposals = vec![ProposalType(forbidden % 11)];
    }
    policy
}

/// Where all but the last of the users are, and some more.
fn hall() -> Room {
    let others = ["mimi://a.example/u/x", "mimi://a.example/u/y"].map(uri);
    let users = (0..USERS.len() - 1).map(user).chain(others);
    let pair = |user| UserRolePair { user, role_index: 2 };
    let list = ParticipantListData {
        participants: users.map(pair).collect(),
    };
    let dictionary = templates::cooperative("hub.example").dictionary(&list);
    Room::load(uri(HALL), &dictionary, []).expect("the hall is in order")
}

fn metadata(seed: u8) -> RoomMetaData {
    let text = |bit: u8| NulFreeText::new(if seed & bit == 0 { "" } else { "x" }).expect("no null character");
    RoomMetaData {
        room_uri: Uri::new(ROOM).expect("a URI"),
        room_name: text(1),
        room_descriptions: vec![],
        room_avatar: Uri::default(),
        room_subject: text(2),
        room_mood: text(4),
    }
}

fn sorted(list: &ParticipantListData) -> Vec<(&str, u32)> {
    let mut list: Vec<_> = list
        .participants
        .iter()
        .map(|pair| (&*pair.user, pair.role_index))
        .collect();
    list.sort_unstable();
    list
}

fn user(number: usize) -> IdentifierUri {
    uri(USERS[number])
}

fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).expect("a short URI")
}

fn claims(identity: &str) -> Claims {
    Claims::of(&Credential::Basic {
        identity: identity.as_bytes().into(),
    })
}

fn client(user: &IdentifierUri) -> Client {
    Client::new(user.clone(), claims(user))
}
