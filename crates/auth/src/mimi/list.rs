//! Changes of the participant list: who may add, remove, ban, unban and give roles (MIMI #participant-list, MRP #adding,
//! MRP #removing, MRP #role-changes).

use nabe_wire::IdentifierUri;
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::policy::Capability;

use super::Rejection;
use super::joining;
use super::participants::is_user_uri;
use super::pending::View;
use super::proposal::{Authority, Kind};
use super::roles::{BAN_ROLE, NO_ROLE};

/// One entry of an update, with the user it is about.
pub(super) struct ListChange {
    pub(super) user: IdentifierUri,
    pub(super) kind: ListChangeKind,
    /// The role afterwards; 0 for a removal.
    pub(super) to: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListChangeKind {
    Role,
    Removal,
    Addition,
}

/// The entries of an update in its order. Indices count in the list as it was when the epoch began (D-list-indices).
pub(super) fn entries(
    view: &View<'_>,
    update: &ParticipantListUpdate,
) -> impl Iterator<Item = Result<ListChange, Rejection>> + use<> {
    let at = |index: u32| view.committed.at(index).map(|it| it.user().clone());
    let roles = update.changed_role_participants.iter();
    let roles = roles.map(|pair| (at(pair.user_index), ListChangeKind::Role, pair.role_index));
    let removals = update.removed_indices.iter();
    let removals = removals.map(|index| (at(*index), ListChangeKind::Removal, NO_ROLE));
    let additions = update.added_participants.iter();
    let additions = additions.map(|pair| (Some(pair.user.clone()), ListChangeKind::Addition, pair.role_index));
    let all: Vec<_> = roles.chain(removals).chain(additions).collect();
    all.into_iter().map(|(user, kind, to)| {
        let user = user.ok_or(Rejection::ListIndex)?;
        Ok(ListChange { user, kind, to })
    })
}

/// What users change of nothing but their own place gives way to what others do about them, leaving to a ban alone (D-supersede).
pub(super) fn make_way(view: &mut View<'_>, authority: &Authority<'_>, entry: &ListChange) {
    let change = view.change_of(&entry.user);
    let is_touched = change.is_some_and(|it| it.is_touched);
    let was_removal = change.is_some_and(|it| it.role == Some(NO_ROLE));
    if was_removal && !view.policy().roles().is_ban(entry.to) {
        return;
    }
    if !is_touched || authority.user.as_ref() == Some(&entry.user) {
        return;
    }
    let own = authority.around.accepted.own_change_of(&entry.user);
    let Some(own) = own.filter(|own| !view.is_superseded(*own)) else {
        return;
    };
    view.supersede(own);
    view.change(&entry.user, |change| {
        change.role = None;
        change.is_touched = false;
        change.clients_may_go = false;
    });
    let own = view.own_mut();
    own.list_entries -= 1;
    own.list_entries_beyond_removals -= i64::from(!was_removal);
}

/// Clients that were asked for give way to what leaves their user without any (D-supersede).
pub(super) fn leave_out_clients(view: &mut View<'_>, authority: &Authority<'_>, entry: &ListChange) {
    let roles = view.policy().roles();
    let has_clients = roles
        .of_participants(entry.to)
        .is_some_and(|role| !role.is_without_clients());
    if has_clients && !roles.is_ban(entry.to) {
        return;
    }
    let adds: Vec<u64> = authority.around.accepted.adds_of(&entry.user).collect();
    if adds.is_empty() {
        return;
    }
    adds.into_iter().for_each(|add| view.supersede(add));
    view.change(&entry.user, |change| change.added = 0);
}

/// The entry is possible, whoever makes it.
pub(super) fn is_valid(view: &View<'_>, change: &ListChange) -> Result<(), Rejection> {
    if view.change_of(&change.user).is_some_and(|it| it.is_touched) {
        return Err(Rejection::UserTouchedTwice);
    }
    if change.kind == ListChangeKind::Addition && !is_user_uri(&change.user) {
        return Err(Rejection::UserUri);
    }
    if change.kind == ListChangeKind::Removal {
        return Ok(());
    }
    if change.to == NO_ROLE {
        return Err(Rejection::RoleZero);
    }
    if view.policy().roles().get(change.to).is_none() {
        // Somebody who gives role 1 means to ban.
        let is_ban = change.to == BAN_ROLE;
        return Err(if is_ban {
            Rejection::NoBanRole
        } else {
            Rejection::RoleUndefined
        });
    }
    Ok(())
}

/// Puts the entry into effect.
pub(super) fn apply(view: &mut View<'_>, entry: &ListChange, clients_may_go: bool) {
    let is_addition = entry.kind == ListChangeKind::Addition;
    view.change(&entry.user, |change| {
        change.role = Some(entry.to);
        change.is_touched = true;
        change.is_added = is_addition;
        change.clients_may_go = clients_may_go;
    });
    let own = view.own_mut();
    own.list_entries += 1;
    own.list_entries_beyond_removals += i64::from(entry.kind != ListChangeKind::Removal);
    if is_addition {
        view.append(entry.user.clone());
    }
}

/// The entry is allowed to this proposer; says whether the user's clients may go along with it.
pub(super) fn authorize(view: &View<'_>, authority: &Authority<'_>, change: &ListChange) -> Result<bool, Rejection> {
    let left_over = authority.around.left_over.users.get(&change.user);
    if let Some(left_over) = left_over.filter(|left_over| left_over.role.is_some()) {
        // What an external commit left over is proposed again by the hub, as it was accepted, and by nobody else.
        return if authority.is_hub() && left_over.role == Some(change.to) {
            Ok(left_over.clients_may_go)
        } else {
            Err(Rejection::UserTouchedTwice)
        };
    }
    let is_self = authority.user.as_ref() == Some(&change.user);
    if matches!(authority.kind, Kind::Joiner) && !(is_self && change.kind == ListChangeKind::Addition) {
        return Err(Rejection::JoinerChangesOthers);
    }
    if change.kind == ListChangeKind::Role && view.standing(&change.user).role == change.to {
        return Err(Rejection::NoChange);
    }
    match change.kind {
        ListChangeKind::Role if is_self => own_role(authority, change),
        ListChangeKind::Role => role(view, authority, change),
        ListChangeKind::Removal => removal(view, authority, change, is_self),
        ListChangeKind::Addition => addition(view, authority, change, is_self),
    }
}

/// `canChangeOwnRole`: the first role that preauthorization gives, whatever `authorized_role_changes` say.
fn own_role(authority: &Authority<'_>, change: &ListChange) -> Result<bool, Rejection> {
    authority.needs(Capability::CAN_CHANGE_OWN_ROLE, Rejection::CannotChangeOwnRole)?;
    match authority.policy.preauthorized_role(authority.claims) {
        Some(role) if role == change.to => Ok(false),
        _ => Err(Rejection::OwnRoleNotPreauthorized),
    }
}

/// `canBan`, `canUnban`, `canChangeUserRole`.
fn role(view: &View<'_>, authority: &Authority<'_>, change: &ListChange) -> Result<bool, Rejection> {
    let roles = authority.policy.roles();
    let from = view.standing(&change.user).role;
    let bans = roles.is_ban(change.to) && authority.can(Capability::CAN_BAN);
    let unbans = roles.is_ban(from) && authority.can(Capability::CAN_UNBAN);
    if !bans && !unbans {
        let missing = if roles.is_ban(change.to) {
            Rejection::CannotBan
        } else if change.to == BAN_ROLE {
            // Role 1 goes by another name: it can be given like any other, and is no ban.
            Rejection::NoBanRole
        } else if roles.is_ban(from) {
            Rejection::CannotUnban
        } else {
            Rejection::CannotChangeUserRole
        };
        authority.needs(Capability::CAN_CHANGE_USER_ROLE, missing)?;
    }
    authority.may_change(from, change.to)?;
    // With canChangeUserRole alone a ban takes canKick to remove the clients.
    Ok(bans)
}

/// `canRemoveSelf`, `canRemoveParticipant`.
fn removal(view: &View<'_>, authority: &Authority<'_>, change: &ListChange, is_self: bool) -> Result<bool, Rejection> {
    let base = authority.policy.base();
    // "If a user leaves or is removed from the parent room, that user is automatically removed": by the hub.
    if base.parent_dependant && authority.is_hub() {
        let parent = authority.around.parent.to_ask()?;
        if parent.is_none_or(|parent| !parent.takes_part(&change.user)) {
            return Ok(true);
        }
    }
    if base.fixed_membership {
        return Err(Rejection::FixedMembership);
    }
    if is_self {
        authority.needs(Capability::CAN_REMOVE_SELF, Rejection::CannotRemoveSelf)?;
    } else {
        authority.needs(Capability::CAN_REMOVE_PARTICIPANT, Rejection::CannotRemoveParticipant)?;
    }
    authority.may_change(view.standing(&change.user).role, NO_ROLE)?;
    Ok(true)
}

/// `canAddParticipant`, the ways of joining by oneself, and `canBan` for users who are not on the list (D-ban-unlisted).
fn addition(view: &View<'_>, authority: &Authority<'_>, change: &ListChange, is_self: bool) -> Result<bool, Rejection> {
    if view.standing(&change.user).role != NO_ROLE {
        return Err(Rejection::UserListed);
    }
    let base = authority.policy.base();
    if base.fixed_membership {
        return Err(Rejection::FixedMembership);
    }
    let bans = authority.policy.roles().is_ban(change.to);
    if base.parent_dependant && !bans {
        let parent = authority.around.parent.to_ask()?;
        if parent.is_some_and(|parent| !parent.takes_part(&change.user)) {
            return Err(Rejection::NotInParent);
        }
    }
    if is_self {
        joining::authorize(&authority.policy, authority.claims, authority.around.code, change.to)?;
        return Ok(false);
    }
    if !(bans && authority.can(Capability::CAN_BAN)) {
        authority.needs(Capability::CAN_ADD_PARTICIPANT, Rejection::CannotAddParticipant)?;
    }
    authority.may_change(NO_ROLE, change.to)?;
    Ok(false)
}
