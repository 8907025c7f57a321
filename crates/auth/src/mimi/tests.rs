//! The rules by the vectors, by stories in the templates, and by what holds in any room.

mod every_rejection;
mod large_room;
mod limits_of_input;
mod metadata;
mod properties;
mod stories;
mod vectors;

use nabe_wire::IdentifierUri;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{ComponentId, Credential, WireFormat};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};

use super::templates::Template;
use super::*;

/// A user of a provider: `bob@b` is `mimi://b.example/u/bob`.
fn user(name: &str) -> IdentifierUri {
    let (name, provider) = name.split_once('@').unwrap();
    IdentifierUri::new(format!("mimi://{provider}.example/u/{name}")).unwrap()
}

fn claims(identity: &str) -> Claims {
    Claims::of(&Credential::Basic {
        identity: identity.as_bytes().into(),
    })
}

fn client(name: &str) -> Client {
    let user = user(name);
    let claims = claims(&user);
    Client::new(user, claims)
}

const ROOM: &str = "mimi://hub.example/r/clubhouse";

/// A room by a template, with these users and a client each, in this order.
fn room(template: &Template, users: &[(&str, u32)]) -> Room {
    let pair = |(name, role_index): &(&str, u32)| UserRolePair {
        user: user(name),
        role_index: *role_index,
    };
    let list = ParticipantListData {
        participants: users.iter().map(pair).collect(),
    };
    let leaves = (0..).zip(users).map(|(leaf, (name, _))| (leaf, user(name)));
    Room::load(IdentifierUri::new(ROOM).unwrap(), &template.dictionary(&list), leaves).unwrap()
}

fn gives(index: u32, role_index: u32) -> Action {
    list_change(&[(index, role_index)], &[], &[])
}

fn drops(index: u32) -> Action {
    list_change(&[], &[index], &[])
}

fn lists(name: &str, role_index: u32) -> Action {
    list_change(&[], &[], &[(user(name), role_index)])
}

fn list_change(roles: &[(u32, u32)], removed: &[u32], added: &[(IdentifierUri, u32)]) -> Action {
    let update = ParticipantListUpdate {
        changed_role_participants: roles
            .iter()
            .map(|(user_index, role_index)| UserIndexRolePair {
                user_index: *user_index,
                role_index: *role_index,
            })
            .collect(),
        removed_indices: removed.to_vec(),
        added_participants: added
            .iter()
            .map(|(user, role_index)| UserRolePair {
                user: user.clone(),
                role_index: *role_index,
            })
            .collect(),
    };
    Action::update(ComponentId::PARTICIPANT_LIST, &update)
}

fn adds(name: &str) -> Action {
    Action::Add(Box::new(client(name)))
}

/// Proposes, and accepts what is allowed.
fn propose(room: &mut Room, proposer: Proposer<'_>, actions: &[Action]) -> Result<(), Rejection> {
    let first = room.accepted().len();
    let reference = |number: usize| Bytes::from((first + number).to_be_bytes().as_slice());
    let proposals: Vec<_> = actions
        .iter()
        .enumerate()
        .map(|(number, action)| (reference(number), action.clone()))
        .collect();
    let bundle = Bundle {
        proposer,
        proposals: &proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let proposed = room.propose(&bundle, None)?;
    room.accept(proposed).unwrap();
    Ok(())
}

/// Commits everything that is pending and these, and merges what is allowed.
fn commit(room: &mut Room, committer: Committer<'_>, actions: &[Action]) -> Result<(), Rejection> {
    let pending: Vec<Bytes> = room.accepted().map(|it| it.reference().into()).collect();
    let references = pending.iter().filter(|_| matches!(committer, Committer::Member { .. }));
    let proposals: Vec<_> = references
        .map(|reference| CommitProposal::Reference(reference))
        .chain(actions.iter().cloned().map(CommitProposal::Inline))
        .collect();
    let commit = Commit {
        committer,
        proposals: &proposals,
        expired: &[],
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let merge = room.commit(&commit, None)?;
    room.merge(merge).unwrap();
    Ok(())
}

/// The client at a leaf, which is that of the user at the same place in [`room`]'s list.
fn member(leaf: u32, claims: &Claims) -> Proposer<'_> {
    Proposer::Member { leaf, claims }
}

fn committer(leaf: u32, claims: &Claims) -> Committer<'_> {
    Committer::Member {
        leaf,
        claims,
        path: None,
    }
}
