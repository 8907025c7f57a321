//! Whether a commit is allowed: what it brings itself by its committer, what it refers to by those who proposed it, and what holds
//! once it is merged (MIMI #proposal-commit-paradigm, MIMI #update-room-state).

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::mls::ComponentId;
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::policy::Capability;

use super::Rejection;
use super::accepted::Accepted;
use super::action::{Action, Client, Proposer};
use super::pending::{Pending, View};
use super::policy::read;
use super::proposal::{Around, Authority, apply, authorize, counts_hold, fits, give_leaf, holds};
use super::roles::NO_ROLE;
use super::room::{Commit, CommitProposal, Committer, Room};

/// What a commit makes of the room, beside what it leaves over.
#[derive(Debug)]
pub(super) struct Outcome {
    /// On top of what was committed before.
    pub(super) result: Pending,
    /// Of an external commit, on top of what was accepted: what the room counts as from now on.
    pub(super) effective: Option<Pending>,
}

pub(super) fn decide(room: &Room, commit: &Commit<'_>, around: &Around<'_>) -> Result<Outcome, Rejection> {
    let mut view = room.view();
    match &commit.committer {
        Committer::Member { leaf, claims, path } => {
            let proposer = Proposer::Member { leaf: *leaf, claims };
            let authority = Authority::new(&view, &proposer, around)?;
            authority.standing_in_the_way()?;
            let referred = resolve(room, commit, |_| true)?;
            stays(&view, *leaf, &authority, commit)?;
            // What was accepted stays so; what the commit brings is judged on top of it.
            authorize(&mut view, &authority, &inline(commit))?;
            if let Some(client) = path {
                if authority.user.as_ref() != Some(&client.user) {
                    return Err(Rejection::LeafUserChanged);
                }
                fits(&authority.policy, client)?;
            }
            // "An Update of the committer" is not for its own commit (RFC 9420, section 12.2).
            let is_own = |it: &Accepted| matches!(it.action(), Action::Update(_)) && it.leaf() == Some(*leaf);
            let is_expired =
                |it: &Accepted| matches!(it.action(), Action::Add(_)) && commit.expired.contains(&it.reference());
            is_whole(room, &view, &referred, |it| !is_own(it) && !is_expired(it))?;
            Ok(Outcome {
                result: replay(room, commit, |_| {})?,
                effective: None,
            })
        }
        Committer::NewMember { client, .. } => {
            let authority = Authority::of_joiner(&view, client, around);
            let leaves = |it: &Accepted| matches!(it.action(), Action::SelfRemove);
            let referred = resolve(room, commit, leaves)?;
            by_joiner(&mut view, &authority, commit, client)?;
            is_whole(room, &view, &referred, leaves)?;
            Ok(Outcome {
                result: replay(room, commit, |view| give_leaf(view, &client.user))?,
                effective: Some(view.into_own().0),
            })
        }
    }
}

/// The numbers of the proposals that the commit refers to: each was accepted and is for this kind of commit.
fn resolve(
    room: &Room,
    commit: &Commit<'_>,
    may_refer_to: impl Fn(&Accepted) -> bool,
) -> Result<BTreeSet<u64>, Rejection> {
    let queue = room.queue();
    let mut referred = BTreeSet::new();
    for proposal in commit.proposals {
        match proposal {
            CommitProposal::Reference(reference) => {
                let number = queue.number_of(reference).ok_or(Rejection::UnknownProposal)?;
                if !queue.get(number).is_some_and(&may_refer_to) {
                    return Err(Rejection::ReferenceInExternalCommit);
                }
                if !referred.insert(number) {
                    return Err(Rejection::ProposalTwice);
                }
            }
            CommitProposal::Inline(Action::SelfRemove) => return Err(Rejection::SelfRemoveInline),
            CommitProposal::Inline(_) => {}
        }
    }
    in_order(room, commit)?;
    Ok(referred)
}

/// What replaces a component as a whole stands in the order in which it was accepted, and the committer's own after that: else the
/// committer chose which of two accepted changes stays (D-proposal-order). Entries of the list and join links go by their places.
fn in_order(room: &Room, commit: &Commit<'_>) -> Result<(), Rejection> {
    let mut last = BTreeMap::new();
    for proposal in commit.proposals {
        let (number, action) = match proposal {
            CommitProposal::Inline(action) => (u64::MAX, action),
            CommitProposal::Reference(reference) => {
                let number = room.queue().number_of(reference).ok_or(Rejection::UnknownProposal)?;
                let accepted = room.queue().get(number).ok_or(Rejection::UnknownProposal)?;
                (number, accepted.action())
            }
        };
        let Action::AppData(update) = action else {
            continue;
        };
        let component = update.component_id;
        let goes_by_places = matches!(component, ComponentId::PARTICIPANT_LIST | ComponentId::JOIN_LINKS);
        if !goes_by_places && last.insert(component, number).is_some_and(|earlier| earlier > number) {
            return Err(Rejection::ProposalOrder);
        }
    }
    Ok(())
}

/// All that is pending is there, as far as this kind of commit needs it and nothing in the commit makes it give way.
fn is_whole(
    room: &Room,
    view: &View<'_>,
    referred: &BTreeSet<u64>,
    is_needed: impl Fn(&Accepted) -> bool,
) -> Result<(), Rejection> {
    let mut pending = room.queue().numbered();
    let is_missing = |(number, accepted): (u64, &Accepted)| {
        !referred.contains(&number) && is_needed(accepted) && !view.is_superseded(number)
    };
    if pending.any(is_missing) {
        Err(Rejection::PendingMissing)
    } else {
        Ok(())
    }
}

/// "this action cannot be committed by the leaving user"
fn stays(view: &View<'_>, leaf: u32, authority: &Authority<'_>, commit: &Commit<'_>) -> Result<(), Rejection> {
    let Some(user) = &authority.user else {
        return Ok(());
    };
    let index = view.committed.index_of(user);
    let takes_off = |update: &ParticipantListUpdate| update.removed_indices.iter().any(|it| Some(*it) == index);
    let leaves = inline(commit).into_iter().any(|action| match action {
        Action::Remove(removed) => *removed == leaf,
        Action::AppData(update) if update.component_id == ComponentId::PARTICIPANT_LIST => {
            let update = update.update.as_ref().and_then(|update| read(update).ok());
            update.as_ref().is_some_and(takes_off)
        }
        _ => false,
    });
    let is_pending = view
        .change_of(user)
        .is_some_and(|change| change.removed.contains_key(&leaf));
    if leaves || is_pending {
        return Err(Rejection::CommitterLeaves);
    }
    Ok(())
}

fn inline<'a>(commit: &'a Commit<'_>) -> Vec<&'a Action> {
    let inline = commit.proposals.iter().filter_map(|proposal| match proposal {
        CommitProposal::Inline(action) => Some(action),
        CommitProposal::Reference(_) => None,
    });
    inline.collect()
}

/// `canAddOwnClient` for those who are on the list; the others put themselves there in the same commit.
fn by_joiner(
    view: &mut View<'_>,
    authority: &Authority<'_>,
    commit: &Commit<'_>,
    client: &Client,
) -> Result<(), Rejection> {
    let operational = authority.policy.operational();
    if operational.is_some_and(|it| !it.external_commit_allowed) {
        return Err(Rejection::ExternalCommitsOff);
    }
    if authority.is_listed() {
        authority.standing_in_the_way().map_err(|_| Rejection::JoinerBanned)?;
        authority.needs(Capability::CAN_ADD_OWN_CLIENT, Rejection::CannotAddOwnClient)?;
    }
    authorize(view, authority, &inline(commit))?;
    fits(&authority.policy, client)?;
    if view.standing(&client.user).role == NO_ROLE {
        return Err(Rejection::ClientOfUnlisted);
    }
    give_leaf(view, &client.user);
    holds(view, authority.around.parent)
}

/// What the commit's proposals, in its order, make of what was committed, without whatever else was accepted. Of the parent room
/// each was judged by when it was accepted or brought: else a change there could keep what is pending from ever being committed.
fn replay(room: &Room, commit: &Commit<'_>, finish: impl FnOnce(&mut View<'_>)) -> Result<Pending, Rejection> {
    let mut view = View::new(room.participants(), room.committed_policy(), None);
    let committer = match commit.committer {
        Committer::Member { leaf, .. } => Some(leaf),
        Committer::NewMember { .. } => None,
    };
    for proposal in commit.proposals {
        let (proposer, action) = match proposal {
            CommitProposal::Inline(action) => (committer, action),
            CommitProposal::Reference(reference) => {
                let accepted = room
                    .queue()
                    .number_of(reference)
                    .and_then(|number| room.queue().get(number));
                let accepted = accepted.ok_or(Rejection::UnknownProposal)?;
                (accepted.leaf(), accepted.action())
            }
        };
        apply(&mut view, proposer, action)?;
    }
    finish(&mut view);
    counts_hold(&view, false)?;
    Ok(view.into_own().0)
}
