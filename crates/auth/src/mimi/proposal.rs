//! Whether proposals are allowed: some of one proposer, judged together, since removing a user and their clients is a single action
//! (MIMI #update-room-state, MRP #membership-capabilities).
//!
//! The order is fixed, so that two implementations name the same rule: who proposes; then changes of components; then clients that
//! go; then clients that come; then everything else; then what must hold afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use nabe_wire::IdentifierUri;
use nabe_wire::mls::{AppDataUpdate, ComponentId, CredentialType, ProposalType};
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::policy::Capability;

use super::action::{Action, Client, JoinCode, Proposer};
use super::claims::Claims;
use super::participants::Tally;
use super::pending::{LeftOver, View};
use super::policy::{Policy, read};
use super::roles::{BAN_ROLE, NO_ROLE, Role};
use super::room::Room;
use super::{Rejection, component, list};

/// What is decided by beside the room's own state.
pub(super) struct Around<'a> {
    pub(super) left_over: &'a LeftOver,
    pub(super) parent: Option<&'a Room>,
    pub(super) code: JoinCode,
}

/// How somebody comes to propose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A client in the group.
    Member { leaf: u32 },
    /// One of `external_senders`.
    External { is_hub: bool },
    /// Somebody outside who asks to be added.
    Applicant,
    /// Somebody outside who commits.
    Joiner,
}

/// A proposer, and what they may do as the room is before their proposals.
pub(super) struct Authority<'a> {
    pub(super) kind: Kind,
    /// `None` for an external sender.
    pub(super) user: Option<IdentifierUri>,
    pub(super) claims: &'a Claims,
    /// By which they are judged, even if their proposals change it.
    pub(super) policy: Arc<Policy>,
    /// `None` for an external sender without one.
    role: Option<u32>,
    pub(super) around: &'a Around<'a>,
}

impl<'a> Authority<'a> {
    pub(super) fn new(view: &View<'_>, proposer: &Proposer<'a>, around: &'a Around<'a>) -> Result<Self, Rejection> {
        let policy = view.policy().clone();
        let (kind, user, claims) = match *proposer {
            Proposer::Member { leaf, claims } => {
                let owner = view.committed.owner(leaf).ok_or(Rejection::UnknownLeaf)?;
                (Kind::Member { leaf }, Some(owner.user().clone()), claims)
            }
            Proposer::External { index, claims } => (Kind::External { is_hub: index == 0 }, None, claims),
            Proposer::NewMember { client } => (Kind::Applicant, Some(client.user.clone()), &client.claims),
        };
        let role = match &user {
            Some(user) => Some(view.standing(user).role),
            None => policy.preauthorized_role(claims),
        };
        Ok(Self {
            kind,
            user,
            claims,
            policy,
            role,
            around,
        })
    }

    /// Somebody who commits from outside.
    pub(super) fn of_joiner(view: &View<'_>, client: &'a Client, around: &'a Around<'a>) -> Self {
        Self {
            kind: Kind::Joiner,
            user: Some(client.user.clone()),
            claims: &client.claims,
            policy: view.policy().clone(),
            role: Some(view.standing(&client.user).role),
            around,
        }
    }

    pub(super) fn is_hub(&self) -> bool {
        self.kind == Kind::External { is_hub: true }
    }

    pub(super) fn is_listed(&self) -> bool {
        self.user.is_some() && self.role != Some(NO_ROLE)
    }

    pub(super) fn role(&self) -> Option<&Role> {
        self.policy.roles().get(self.role?)
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.role().is_some_and(|role| role.can(capability))
    }

    pub(super) fn needs(&self, capability: Capability, otherwise: Rejection) -> Result<(), Rejection> {
        match self.role() {
            None => Err(Rejection::SenderWithoutRole),
            Some(role) if role.can(capability) => Ok(()),
            Some(_) => Err(otherwise),
        }
    }

    pub(super) fn may_change(&self, from: u32, to: u32) -> Result<(), Rejection> {
        match self.role() {
            None => Err(Rejection::SenderWithoutRole),
            Some(role) if role.may_change(from, to) => Ok(()),
            Some(_) => Err(Rejection::RoleChangeNotAuthorized),
        }
    }

    /// A user who was removed or banned can only remove clients of their own (MIMI #update-room-state).
    pub(super) fn standing_in_the_way(&self) -> Result<(), Rejection> {
        match self.role {
            Some(NO_ROLE) => Err(Rejection::ProposerRemoved),
            Some(role) if self.policy.roles().is_ban(role) => Err(Rejection::ProposerBanned),
            _ => Ok(()),
        }
    }
}

/// Judges the proposals and puts them into effect in the view.
///
/// # Errors
/// The first rule broken; the view is of no use then.
pub(super) fn authorize(view: &mut View<'_>, authority: &Authority<'_>, actions: &[&Action]) -> Result<(), Rejection> {
    let before = Counts::of(view);
    who_may(view, authority, actions)?;
    for action in actions {
        if let Action::AppData(update) = action {
            change_component(view, authority, update)?;
        }
    }
    for action in actions {
        match (action, authority.kind) {
            (Action::Remove(leaf), _) => remove(view, authority, *leaf)?,
            (Action::SelfRemove, Kind::Member { leaf }) => remove(view, authority, leaf)?,
            _ => {}
        }
    }
    for action in actions {
        if let Action::Add(client) = action {
            add(view, authority, client)?;
        }
    }
    for action in actions {
        match action {
            Action::Update(client) => update(view, authority, client)?,
            Action::Extensions(dictionary) => component::authorize_extensions(view, authority, dictionary)?,
            Action::Other(proposal_type) => other(authority, *proposal_type)?,
            Action::Add(_) | Action::Remove(_) | Action::SelfRemove | Action::AppData(_) => {}
        }
    }
    if authority.kind != Kind::Joiner {
        // Of a commit from outside the new leaf is still missing.
        holds(view, &before, authority.around.parent)?;
    }
    Ok(())
}

/// Puts an action into effect that was judged before.
pub(super) fn apply(view: &mut View<'_>, proposer: Option<u32>, action: &Action) -> Result<(), Rejection> {
    match action {
        Action::AppData(update) if update.component_id == ComponentId::PARTICIPANT_LIST => {
            let update = list_update(update)?;
            for entry in list::entries(view, &update) {
                let entry = entry?;
                list::is_valid(view, &entry)?;
                list::apply(view, &entry, false);
            }
            Ok(())
        }
        Action::AppData(update) => component::apply(view, update),
        Action::Remove(leaf) => take_leaf(view, *leaf),
        Action::SelfRemove => proposer.map_or(Ok(()), |leaf| take_leaf(view, leaf)),
        Action::Add(client) => {
            give_leaf(view, &client.user);
            Ok(())
        }
        Action::Update(_) | Action::Extensions(_) | Action::Other(_) => Ok(()),
    }
}

/// Who proposes what, before anything is looked at in detail.
fn who_may(view: &View<'_>, authority: &Authority<'_>, actions: &[&Action]) -> Result<(), Rejection> {
    if matches!(authority.kind, Kind::External { .. } | Kind::Applicant)
        && authority
            .policy
            .operational()
            .is_some_and(|it| !it.external_proposal_allowed)
    {
        return Err(Rejection::ExternalProposalsOff);
    }
    if let Kind::External { is_hub: false } = authority.kind
        && authority.role.is_none()
    {
        return Err(Rejection::SenderWithoutRole);
    }
    let is_own = |action: &&Action| match action {
        Action::SelfRemove => true,
        Action::Remove(leaf) => view.committed.owner(*leaf).map(|it| it.user()) == authority.user.as_ref(),
        _ => false,
    };
    if matches!(authority.kind, Kind::Member { .. } | Kind::Applicant) && !actions.iter().all(is_own) {
        authority.standing_in_the_way()?;
    }
    for action in actions {
        if authority.policy.forbids_proposal(action.proposal_type()) {
            return Err(Rejection::ProposalTypeForbidden);
        }
        let is_for_them = match authority.kind {
            Kind::Member { .. } => true,
            Kind::External { .. } => !matches!(action, Action::Update(_) | Action::SelfRemove),
            Kind::Applicant => matches!(action, Action::Add(_)),
            Kind::Joiner => matches!(
                action,
                Action::AppData(_) | Action::Remove(_) | Action::Other(ProposalType::EXTERNAL_INIT | ProposalType::PSK)
            ),
        };
        if !is_for_them {
            return Err(Rejection::ProposalFromOutside);
        }
    }
    Ok(())
}

fn change_component(view: &mut View<'_>, authority: &Authority<'_>, update: &AppDataUpdate) -> Result<(), Rejection> {
    if update.component_id == ComponentId::PARTICIPANT_LIST {
        let update = list_update(update)?;
        for entry in list::entries(view, &update) {
            let entry = entry?;
            list::is_valid(view, &entry)?;
            let clients_may_go = list::authorize(view, authority, &entry)?;
            list::apply(view, &entry, clients_may_go);
        }
    } else {
        if authority.kind == Kind::Joiner {
            return Err(Rejection::JoinerChangesOthers);
        }
        component::authorize(view, authority, update)?;
    }
    component::go_together(view)
}

fn list_update(update: &AppDataUpdate) -> Result<ParticipantListUpdate, Rejection> {
    read(update.update.as_ref().ok_or(Rejection::ComponentRequired)?)
}

/// `canRemoveOwnClient`, `canKick`, and clients that go along with their user.
fn remove(view: &mut View<'_>, authority: &Authority<'_>, leaf: u32) -> Result<(), Rejection> {
    let owner = view.committed.owner(leaf).ok_or(Rejection::UnknownLeaf)?.user().clone();
    let change = view.change_of(&owner);
    if change.is_some_and(|change| change.removed.contains(&leaf)) {
        return Err(Rejection::LeafRemovedTwice);
    }
    let role = view.standing(&owner).role;
    let roles = view.policy().roles();
    let stays = role != NO_ROLE && !roles.is_ban(role);
    if authority.user.as_ref() == Some(&owner) {
        // Somebody who joins again replaces the client they had.
        if stays && authority.kind != Kind::Joiner {
            authority.needs(Capability::CAN_REMOVE_OWN_CLIENT, Rejection::CannotRemoveOwnClient)?;
        }
    } else if authority.kind == Kind::Joiner {
        return Err(Rejection::JoinerChangesOthers);
    } else if !change.is_some_and(|change| change.clients_may_go) {
        // What has no place in the group any more the hub may clear away without a role (D-hub-role).
        let has_no_place = !stays || roles.get(role).is_none_or(|role| role.is_without_clients());
        if !(authority.is_hub() && has_no_place) {
            authority.needs(Capability::CAN_KICK, Rejection::CannotKick)?;
        }
    }
    take_leaf(view, leaf)
}

/// `canAddOwnClient`, and the clients of a user who is being added.
fn add(view: &mut View<'_>, authority: &Authority<'_>, client: &Client) -> Result<(), Rejection> {
    fits(&authority.policy, client)?;
    let standing = view.standing(&client.user);
    if standing.role == NO_ROLE {
        return Err(Rejection::ClientOfUnlisted);
    }
    if authority.user.as_ref() == Some(&client.user) {
        authority.needs(Capability::CAN_ADD_OWN_CLIENT, Rejection::CannotAddOwnClient)?;
    } else if authority.kind == Kind::Applicant {
        return Err(Rejection::JoinerChangesOthers);
    } else if view.change_of(&client.user).is_some_and(|change| change.is_added) {
        authority.needs(Capability::CAN_ADD_PARTICIPANT, Rejection::CannotAddParticipant)?;
        authority.may_change(NO_ROLE, standing.role)?;
    } else {
        return Err(Rejection::AddsClientsOfOthers);
    }
    give_leaf(view, &client.user);
    Ok(())
}

/// A client that comes in or gets a new leaf is one that the room takes.
pub(super) fn fits(policy: &Policy, client: &Client) -> Result<(), Rejection> {
    if !policy.base().pseudonyms_allowed && client.claims.credential_type() == CredentialType::PSEUDONYMOUS {
        return Err(Rejection::PseudonymNotAllowed);
    }
    let Some(operational) = policy.operational() else {
        return Ok(());
    };
    // A limit of 0 is none (D-zero-lifetime).
    let limit = operational.max_kp_lifetime;
    if limit > 0 && client.lifetime.is_some_and(|lifetime| lifetime > limit) {
        return Err(Rejection::KeyPackageLifetime);
    }
    let mandatory = &operational.mandatory_capabilities;
    if client
        .support
        .as_ref()
        .is_some_and(|support| !support.covers(mandatory))
    {
        return Err(Rejection::MandatoryCapability);
    }
    Ok(())
}

fn update(view: &View<'_>, authority: &Authority<'_>, client: &Client) -> Result<(), Rejection> {
    if authority.user.as_ref() != Some(&client.user) {
        return Err(Rejection::LeafUserChanged);
    }
    fits(view.policy(), client)
}

/// Proposals that are about MLS alone.
fn other(authority: &Authority<'_>, proposal_type: ProposalType) -> Result<(), Rejection> {
    match proposal_type {
        ProposalType::REINIT => authority.needs(Capability::CAN_SEND_MLS_REINIT_PROPOSAL, Rejection::CannotReinit),
        ProposalType::EXTERNAL_INIT if authority.kind == Kind::Joiner => Ok(()),
        ProposalType::PSK | ProposalType::APP_EPHEMERAL => Ok(()),
        _ => Err(Rejection::ProposalTypeUnknown),
    }
}

fn take_leaf(view: &mut View<'_>, leaf: u32) -> Result<(), Rejection> {
    let owner = view.committed.owner(leaf).ok_or(Rejection::UnknownLeaf)?.user().clone();
    view.change(&owner, |change| {
        change.removed.insert(leaf);
    });
    Ok(())
}

/// Adds a client of a user.
pub(super) fn give_leaf(view: &mut View<'_>, user: &IdentifierUri) {
    view.change(user, |change| change.added += 1);
    view.pending.to_mut().added_clients.push(user.clone());
}

/// How many there were.
pub(super) struct Counts {
    tallies: BTreeMap<u32, Tally>,
    unbanned: u32,
    may_be_anything: bool,
}

impl Counts {
    /// As it is now.
    pub(super) fn of(view: &View<'_>) -> Self {
        Self {
            tallies: view.counted_roles().map(|role| (role, view.tally(role))).collect(),
            unbanned: unbanned(view),
            may_be_anything: false,
        }
    }

    /// Of a room that was never judged.
    pub(super) fn unknown() -> Self {
        Self {
            tallies: BTreeMap::new(),
            unbanned: 0,
            may_be_anything: true,
        }
    }

    fn tally(&self, view: &View<'_>, role: u32) -> Tally {
        if self.may_be_anything {
            return Tally::default();
        }
        self.tallies
            .get(&role)
            .copied()
            .unwrap_or_else(|| view.committed.tally(role))
    }
}

/// What must hold after every accepted change: nobody has clients who may not, and no count is above its maximum, or below its
/// minimum if it has just gone down.
pub(super) fn holds(view: &View<'_>, before: &Counts, parent: Option<&Room>) -> Result<(), Rejection> {
    let policy = view.policy();
    let (roles, base) = (policy.roles(), policy.base());
    let touched = view
        .changed_users()
        .filter(|(_, change)| change.is_touched || change.added > 0);
    for (user, _) in touched {
        let standing = view.standing(user);
        if standing.clients == 0 {
            continue;
        }
        if standing.role == NO_ROLE {
            return Err(Rejection::RemovedUserHasClients);
        }
        if roles.is_ban(standing.role) {
            return Err(Rejection::BannedUserHasClients);
        }
        if roles.get(standing.role).is_some_and(Role::is_without_clients) {
            return Err(Rejection::RoleWithoutClients);
        }
    }
    if !base.multi_device && view.with_several_clients() > 0 {
        return Err(Rejection::SecondClient);
    }
    if base.max_clients.is_some_and(|max| view.clients() > max) {
        return Err(Rejection::TooManyClients);
    }
    if base.max_users.is_some_and(|max| unbanned(view) > max) {
        return Err(Rejection::TooManyUsers);
    }
    let roles_changed = before.may_be_anything || view.pending.components.contains_key(&ComponentId::ROLES_LIST);
    let counted = if roles_changed {
        view.roles_in_use()
    } else {
        view.counted_roles().collect()
    };
    for index in counted {
        let tally = view.tally(index);
        if tally.participants == 0 && before.tally(view, index).participants == 0 {
            continue;
        }
        let role = roles.get(index).ok_or(Rejection::RoleInUse)?;
        role_holds(role, tally, before.tally(view, index))?;
    }
    is_subset(view, before, parent)
}

fn role_holds(role: &Role, now: Tally, before: Tally) -> Result<(), Rejection> {
    let (participants, active) = (role.participants(), role.active());
    if participants.maximum.is_some_and(|maximum| now.participants > maximum) {
        return Err(Rejection::TooManyParticipants);
    }
    if active.maximum.is_some_and(|maximum| now.active > maximum) {
        return Err(Rejection::TooManyActive);
    }
    if now.participants < before.participants && now.participants < participants.minimum {
        return Err(Rejection::TooFewParticipants);
    }
    if now.active < before.active && now.active < active.minimum {
        return Err(Rejection::TooFewActive);
    }
    Ok(())
}

/// "the list of participants of the room MUST be a strict subset of the participants of the parent room": of those who come each was
/// looked at; here it is that the parent has more, and, if the base policy is new, everyone.
fn is_subset(view: &View<'_>, before: &Counts, parent: Option<&Room>) -> Result<(), Rejection> {
    if !view.policy().base().parent_dependant || before.may_be_anything {
        return Ok(());
    }
    let is_new = view.pending.components.contains_key(&ComponentId::BASE_ROOM_POLICY);
    let own = unbanned(view);
    if !is_new && own <= before.unbanned {
        return Ok(());
    }
    let parent = parent.ok_or(Rejection::ParentUnknown)?;
    let roles = view.policy().roles();
    let is_stranger = |user: &IdentifierUri| {
        let role = view.standing(user).role;
        role != NO_ROLE && !roles.is_ban(role) && !parent.takes_part(user)
    };
    let users = view.committed.iter().map(|it| it.user()).chain(&view.pending.appended);
    if is_new && users.into_iter().any(is_stranger) {
        return Err(Rejection::NotInParent);
    }
    if own >= parent.unbanned() {
        return Err(Rejection::NotStrictSubset);
    }
    Ok(())
}

/// How many users are on the list and not banned.
pub(super) fn unbanned(view: &View<'_>) -> u32 {
    let banned = if view.policy().roles().is_ban(BAN_ROLE) {
        view.tally(BAN_ROLE).participants
    } else {
        0
    };
    view.participants().saturating_sub(banned)
}
