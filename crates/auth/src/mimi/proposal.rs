//! Whether proposals are allowed: some of one proposer, judged together, since removing a user and their clients is a single action
//! (MIMI #update-room-state, MRP #membership-capabilities).
//!
//! The order is fixed, so that two implementations name the same rule: who proposes; then changes of components; then clients that
//! go; then clients that come; then everything else; then what must hold afterwards.

use std::sync::Arc;

use nabe_wire::IdentifierUri;
use nabe_wire::mls::{AppDataUpdate, ComponentId, CredentialType, ProposalType};
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::policy::Capability;
use nabe_wire::uri::MimiUri;

use super::accepted::Queue;
use super::action::{Action, Client, JoinCode, Proposer};
use super::claims::Claims;
use super::left_over::LeftOver;
use super::participants::Tally;
use super::pending::{Gone, View};
use super::policy::{Policy, read};
use super::roles::{BAN_ROLE, NO_ROLE, Role};
use super::room::Room;
use super::{Rejection, component, list};

/// What is decided by beside the room's own state.
pub(super) struct Around<'a> {
    pub(super) left_over: &'a LeftOver,
    pub(super) accepted: &'a Queue,
    pub(super) parent: Parent<'a>,
    pub(super) code: JoinCode,
}

/// What is known of the room that this one depends on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent<'a> {
    /// The room as it is now, if it is at hand.
    Now(Option<&'a Room>),
    /// It was asked when what is looked at was accepted, and nobody asks it again.
    AskedBefore,
}

impl<'a> Parent<'a> {
    /// The room to ask; `None` if it was asked before.
    ///
    /// # Errors
    /// It has to be asked, and is not at hand.
    pub(super) fn to_ask(self) -> Result<Option<&'a Room>, Rejection> {
        match self {
            Self::Now(parent) => parent.map(Some).ok_or(Rejection::ParentUnknown),
            Self::AskedBefore => Ok(None),
        }
    }
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
    who_may(view, authority, actions)?;
    for action in actions {
        if let Action::AppData(update) = action {
            change_component(view, authority, update)?;
        }
    }
    for action in actions {
        match (action, authority.kind) {
            (Action::Remove(leaf), _) => remove(view, authority, *leaf, Gone::Removed)?,
            (Action::SelfRemove, Kind::Member { leaf }) => remove(view, authority, leaf, Gone::Left)?,
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
        holds(view, authority.around.parent)?;
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
        Action::Remove(leaf) => take_leaf(view, *leaf, Gone::Removed),
        Action::SelfRemove => proposer.map_or(Ok(()), |leaf| take_leaf(view, leaf, Gone::Left)),
        Action::Add(client) => {
            give_leaf(view, &client.user);
            Ok(())
        }
        Action::Update(_) | Action::Extensions(_) | Action::Other(_) => Ok(()),
    }
}

/// Who proposes what, before anything is looked at in detail.
fn who_may(view: &View<'_>, authority: &Authority<'_>, actions: &[&Action]) -> Result<(), Rejection> {
    // What was accepted before the room closed to the outside, or forbade a type, is committed all the same.
    let left_over = authority.around.left_over;
    let is_again = authority.is_hub() && actions.iter().all(|action| left_over.contains(view, action));
    if matches!(authority.kind, Kind::External { .. } | Kind::Applicant)
        && !is_again
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
        if !is_again && authority.policy.forbids_proposal(action.proposal_type()) {
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
        let mut entries = list::entries(view, &update).peekable();
        if entries.peek().is_none() {
            return Err(Rejection::NoChange);
        }
        for entry in entries {
            let entry = entry?;
            list::make_way(view, authority, &entry);
            list::is_valid(view, &entry)?;
            let clients_may_go = list::authorize(view, authority, &entry)?;
            list::apply(view, &entry, clients_may_go);
            list::leave_out_clients(view, authority, &entry);
        }
    } else {
        if authority.kind == Kind::Joiner {
            return Err(Rejection::JoinerChangesOthers);
        }
        component::authorize(view, authority, update)?;
    }
    // An external commit brings no other component and refers to none, whatever is pending.
    if authority.kind == Kind::Joiner {
        return Ok(());
    }
    component::go_together(view)
}

fn list_update(update: &AppDataUpdate) -> Result<ParticipantListUpdate, Rejection> {
    read(update.update.as_ref().ok_or(Rejection::ComponentRequired)?)
}

/// `canRemoveOwnClient`, `canKick`, and clients that go along with their user. An Update gives way to a removal, and a Remove to a
/// SelfRemove.
fn remove(view: &mut View<'_>, authority: &Authority<'_>, leaf: u32, how: Gone) -> Result<(), Rejection> {
    let owner = view.committed.owner(leaf).ok_or(Rejection::UnknownLeaf)?.user().clone();
    let change = view.change_of(&owner);
    let before = change.and_then(|change| change.removed.get(&leaf)).copied();
    let is_again = before == Some(Gone::LeftOver) && authority.is_hub();
    // Who leaves, or joins in place of the client, does what somebody else proposed.
    let is_by_owner = how == Gone::Left || authority.kind == Kind::Joiner;
    if before.is_some() && !is_again && (before == Some(Gone::Left) || !is_by_owner) {
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
    } else if !is_again && !change.is_some_and(|change| change.clients_may_go) {
        // What has no place in the group any more the hub may clear away without a role (D-hub-role).
        let has_no_place = !stays || roles.get(role).is_none_or(|role| role.is_without_clients());
        if !(authority.is_hub() && has_no_place) {
            authority.needs(Capability::CAN_KICK, Rejection::CannotKick)?;
        }
    }
    let accepted = authority.around.accepted;
    if let Some(update) = accepted.update_of(leaf) {
        view.supersede(update);
    }
    if let Some(removal) = accepted.removal_of(leaf).filter(|_| how == Gone::Left) {
        view.supersede(removal);
    }
    take_leaf(view, leaf, how)
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

/// An Update gives way to the next one of the same client.
fn update(view: &mut View<'_>, authority: &Authority<'_>, client: &Client) -> Result<(), Rejection> {
    if authority.user.as_ref() != Some(&client.user) {
        return Err(Rejection::LeafUserChanged);
    }
    fits(view.policy(), client)?;
    if let Kind::Member { leaf } = authority.kind
        && let Some(update) = authority.around.accepted.update_of(leaf)
    {
        view.supersede(update);
    }
    Ok(())
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

fn take_leaf(view: &mut View<'_>, leaf: u32, how: Gone) -> Result<(), Rejection> {
    let owner = view.committed.owner(leaf).ok_or(Rejection::UnknownLeaf)?.user().clone();
    view.change(&owner, |change| {
        change.removed.insert(leaf, how);
    });
    Ok(())
}

/// Adds a client of a user.
pub(super) fn give_leaf(view: &mut View<'_>, user: &IdentifierUri) {
    view.change(user, |change| change.added += 1);
    view.own_mut().added_clients.push(user.clone());
}

/// How many bytes the entries of the list may take up: half of what a dictionary may have, in which it is read with the other
/// components (D-list-size).
pub(super) const MAX_LIST_BYTES: u32 = 8 << 20;

/// What must hold after every accepted change.
pub(super) fn holds(view: &View<'_>, parent: Parent<'_>) -> Result<(), Rejection> {
    counts_hold(view, false)?;
    is_subset(view, parent)
}

/// Nobody has clients who may not, and no count is above its maximum, or below its minimum if it has just gone down. What is judged is
/// what is on top in the view; of a room that was never judged everything is.
pub(super) fn counts_hold(view: &View<'_>, is_new_room: bool) -> Result<(), Rejection> {
    let policy = view.policy();
    let (roles, base) = (policy.roles(), policy.base());
    let are_new_roles = is_new_room || view.own().components.contains_key(&ComponentId::ROLES_LIST);
    // A role can be made the ban by its name.
    if are_new_roles && roles.is_ban(BAN_ROLE) && view.tally(BAN_ROLE).active > 0 {
        return Err(Rejection::BannedUserHasClients);
    }
    for (user, _) in view.own_users() {
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
    if view.list_bytes() > MAX_LIST_BYTES {
        return Err(Rejection::ListTooLarge);
    }
    if base.max_users.is_some_and(|max| unbanned(view) > max) {
        return Err(Rejection::TooManyUsers);
    }
    let counted = if are_new_roles {
        view.roles_in_use()
    } else {
        view.counted_roles()
    };
    let before = view.before();
    for index in counted {
        let now = view.tally(index);
        let earlier = if is_new_room {
            Tally::default()
        } else {
            before.tally(index)
        };
        if now.participants == 0 && earlier.participants == 0 {
            continue;
        }
        let role = roles.get(index).ok_or(Rejection::RoleInUse)?;
        role_holds(role, now, earlier)?;
    }
    Ok(())
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

/// "the list of participants of the room MUST be a strict subset of the participants of the parent room": whoever comes is in the parent,
/// by whatever way; everyone is if the room has just come to depend on it, or if who is banned has changed; and the parent has more.
fn is_subset(view: &View<'_>, parent: Parent<'_>) -> Result<(), Rejection> {
    let (policy, before) = (view.policy(), view.before());
    if !policy.base().parent_dependant {
        return Ok(());
    }
    let roles = policy.roles();
    let is_new = view.own().policy().is_some() && {
        let earlier = before.policy();
        policy.base() != earlier.base() || roles.is_ban(BAN_ROLE) != earlier.roles().is_ban(BAN_ROLE)
    };
    let comes = |user: &&IdentifierUri| component::takes_part(view, user);
    let touched = view.own_users().filter(|(_, change)| change.is_touched);
    let mut comers = touched.map(|(user, _)| user).filter(comes).peekable();
    let has_grown = is_new || unbanned(view) > unbanned(&before);
    if !has_grown && comers.peek().is_none() {
        return Ok(());
    }
    let Some(parent) = parent.to_ask()? else {
        return Ok(());
    };
    // Whoever asks us has the room at hand that this one depended on so far.
    if is_new && !is_of(policy, parent) {
        return Err(Rejection::ParentUnknown);
    }
    let is_stranger = |user: &IdentifierUri| !parent.takes_part(user);
    if comers.any(is_stranger) {
        return Err(Rejection::NotInParent);
    }
    if is_new {
        let others = view.changed_users().into_keys();
        let all = view.committed.iter().map(|it| it.user()).chain(others);
        if all.filter(comes).any(is_stranger) {
            return Err(Rejection::NotInParent);
        }
    }
    if has_grown && unbanned(view) >= parent.unbanned() {
        return Err(Rejection::NotStrictSubset);
    }
    Ok(())
}

/// Whether a room of this policy depends on this one.
fn is_of(policy: &Policy, parent: &Room) -> bool {
    let named = policy
        .base()
        .parent_room
        .first()
        .and_then(|uri| MimiUri::parse(uri).ok());
    named.is_some_and(|named| MimiUri::parse(parent.policy().room()).is_ok_and(|room| room == named))
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
