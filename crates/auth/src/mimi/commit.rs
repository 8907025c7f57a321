//! Whether a commit is allowed: what it brings itself by its committer, what it refers to by those who proposed it, and what holds
//! once it is merged (MIMI #proposal-commit-paradigm, MIMI #update-room-state).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::mls::ComponentId;
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::policy::Capability;

use super::Rejection;
use super::action::{Action, Client, Proposer};
use super::pending::{Pending, View};
use super::policy::read;
use super::proposal::{Around, Authority, Counts, apply, authorize, fits, give_leaf, holds};
use super::roles::NO_ROLE;
use super::room::{Accepted, Commit, CommitProposal, Committer, Room};

/// What a commit makes of the room, beside what it leaves over.
#[derive(Debug)]
pub(super) struct Outcome {
    /// On top of what was committed before.
    pub(super) result: Pending,
    /// On top of the same, with all that was accepted: what the room counts as from now on.
    pub(super) effective: Pending,
    pub(super) is_external: bool,
}

pub(super) fn decide(room: &Room, commit: &Commit<'_>, around: &Around<'_>) -> Result<Outcome, Rejection> {
    match &commit.committer {
        Committer::Member { leaf, claims, path } => {
            let view = room.view();
            let proposer = Proposer::Member { leaf: *leaf, claims };
            let authority = Authority::new(&view, &proposer, around)?;
            authority.standing_in_the_way()?;
            let proposals = resolve(room, commit, |_| true)?;
            stays(&view, *leaf, &authority, commit)?;
            let effective = by_member(view, &authority, commit)?;
            if let Some(client) = path {
                if authority.user.as_ref() != Some(&client.user) {
                    return Err(Rejection::LeafUserChanged);
                }
                fits(&authority.policy, client)?;
            }
            let result = replay(room, &proposals, around, |_| {})?;
            Ok(Outcome {
                result,
                effective,
                is_external: false,
            })
        }
        Committer::NewMember { client, .. } => {
            let view = room.view();
            let authority = Authority::of_joiner(&view, client, around);
            let proposals = resolve(room, commit, |action| matches!(action, Action::SelfRemove))?;
            let effective = by_joiner(view, &authority, commit, client)?;
            let result = replay(room, &proposals, around, |view| give_leaf(view, &client.user))?;
            Ok(Outcome {
                result,
                effective,
                is_external: true,
            })
        }
    }
}

/// Of each proposal who made it, if a member did, and what it is, in the order of the commit. All that is pending has to be
/// there, as far as this kind of commit refers to it.
fn resolve<'a>(
    room: &'a Room,
    commit: &'a Commit<'_>,
    may_refer_to: impl Fn(&Action) -> bool,
) -> Result<Vec<(Option<u32>, &'a Action)>, Rejection> {
    let pending: BTreeMap<&[u8], &Accepted> = room.accepted().iter().map(|it| (it.reference(), it)).collect();
    let committer = match commit.committer {
        Committer::Member { leaf, .. } => Some(leaf),
        Committer::NewMember { .. } => None,
    };
    let mut referred = BTreeSet::new();
    let mut proposals = Vec::with_capacity(commit.proposals.len());
    for proposal in commit.proposals {
        match proposal {
            CommitProposal::Reference(reference) => {
                let accepted = pending.get(reference).ok_or(Rejection::UnknownProposal)?;
                if !may_refer_to(accepted.action()) {
                    return Err(Rejection::ReferenceInExternalCommit);
                }
                if !referred.insert(*reference) {
                    return Err(Rejection::ProposalTwice);
                }
                proposals.push((accepted.leaf(), accepted.action()));
            }
            CommitProposal::Inline(Action::SelfRemove) => return Err(Rejection::SelfRemoveInline),
            CommitProposal::Inline(action) => proposals.push((committer, action)),
        }
    }
    let is_missing = |it: &&Accepted| may_refer_to(it.action()) && !referred.contains(it.reference());
    match room.accepted().iter().find(is_missing) {
        Some(_) => Err(Rejection::PendingMissing),
        None => Ok(proposals),
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
        .is_some_and(|change| change.removed.contains(&leaf));
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

/// What was accepted stays so; what the commit brings is judged on top of it.
fn by_member(mut view: View<'_>, authority: &Authority<'_>, commit: &Commit<'_>) -> Result<Pending, Rejection> {
    authorize(&mut view, authority, &inline(commit))?;
    Ok(view.pending.into_owned())
}

/// `canAddOwnClient` for those who are on the list; the others put themselves there in the same commit.
fn by_joiner(
    mut view: View<'_>,
    authority: &Authority<'_>,
    commit: &Commit<'_>,
    client: &Client,
) -> Result<Pending, Rejection> {
    let operational = authority.policy.operational();
    if operational.is_some_and(|it| !it.external_commit_allowed) {
        return Err(Rejection::ExternalCommitsOff);
    }
    if authority.is_listed() {
        authority.standing_in_the_way().map_err(|_| Rejection::JoinerBanned)?;
        authority.needs(Capability::CAN_ADD_OWN_CLIENT, Rejection::CannotAddOwnClient)?;
    }
    let before = Counts::of(&view);
    authorize(&mut view, authority, &inline(commit))?;
    fits(&authority.policy, client)?;
    if view.standing(&client.user).role == NO_ROLE {
        return Err(Rejection::ClientOfUnlisted);
    }
    give_leaf(&mut view, &client.user);
    holds(&view, &before, authority.around.parent)?;
    Ok(view.pending.into_owned())
}

/// What the commit's proposals make of what was committed, without whatever else was accepted.
fn replay(
    room: &Room,
    proposals: &[(Option<u32>, &Action)],
    around: &Around<'_>,
    finish: impl FnOnce(&mut View<'_>),
) -> Result<Pending, Rejection> {
    let mut view = View::new(
        room.participants(),
        room.committed_policy(),
        Cow::Owned(Pending::default()),
    );
    let before = Counts::of(&view);
    for (proposer, action) in proposals {
        apply(&mut view, *proposer, action)?;
    }
    finish(&mut view);
    holds(&view, &before, around.parent)?;
    Ok(view.pending.into_owned())
}
