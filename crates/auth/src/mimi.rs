//! The policy of a MIMI room (draft-ietf-mimi-room-policy): who may do what, decided from the room's components alone.
//!
//! A [`Room`] is loaded from the dictionary in the group's context and from whose leaves are whose. It is asked about everything that
//! reaches a hub: [`Room::propose`], [`Room::commit`], [`Room::send`], [`Room::receive`], [`Room::group_info`], [`Room::report`],
//! [`Room::upload`], [`Room::download`], [`Room::destroy`]. A refusal is a [`Rejection`]: the one rule that was broken, with its name,
//! its place in the draft and the capability that is missing. MLS itself (signatures, epochs, trees) is checked before.
//!
//! ```
//! use nabe_auth::mimi::{Action, Bundle, Claims, Proposer, Rejection, Room, templates};
//! use nabe_wire::IdentifierUri;
//! use nabe_wire::mls::{ComponentId, Credential, WireFormat};
//! use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
//!
//! let uri = |uri: &str| IdentifierUri::new(uri).expect("a short URI");
//! let (alice, bob) = (uri("mimi://a.example/u/alice"), uri("mimi://b.example/u/bob"));
//! let list = ParticipantListData {
//!     participants: vec![
//!         UserRolePair { user: alice.clone(), role_index: templates::SUPER_ADMIN },
//!         UserRolePair { user: bob.clone(), role_index: templates::ORDINARY_USER },
//!     ],
//! };
//! let dictionary = templates::cooperative("a.example").dictionary(&list);
//! let room = Room::load(uri("mimi://a.example/r/clubhouse"), &dictionary, [(0, alice), (1, bob.clone())])?;
//!
//! // Bob makes himself an administrator.
//! let claims = Claims::of(&Credential::Basic { identity: bob.as_bytes().into() });
//! let update = ParticipantListUpdate {
//!     changed_role_participants: vec![UserIndexRolePair { user_index: 1, role_index: templates::GROUP_ADMIN }],
//!     removed_indices: vec![],
//!     added_participants: vec![],
//! };
//! let bundle = Bundle {
//!     proposer: Proposer::Member { leaf: 1, claims: &claims },
//!     proposals: &[(b"reference".as_slice().into(), Action::update(ComponentId::PARTICIPANT_LIST, &update))],
//!     wire_format: WireFormat::PUBLIC_MESSAGE,
//! };
//! let rejection = room.propose(&bundle, None).unwrap_err();
//! assert_eq!(rejection, Rejection::CannotChangeOwnRole);
//! assert_eq!(rejection.rule(), "can-change-own-role");
//! # Ok::<(), Rejection>(())
//! ```
//!
//! # Where things are
//!
//! - the room: [`Room`], its [`Policy`] with [`Roles`], its [`Participants`]; [`templates`] to begin with
//! - what is proposed, and by whom: [`Action`], [`Proposer`], [`Client`], [`Claims`]
//! - what is pending: [`Accepted`], and what an external commit kept from being committed: [`LeftOver`]
//! - the rules: [`Rejection`], and [`CAPABILITIES`] for which of them the hub enforces
//! - [`vectors`]: cases that other implementations can be held against

mod accepted;
mod action;
mod capability;
mod claims;
mod commit;
mod component;
pub(crate) mod fuzzing;
mod joining;
mod left_over;
mod list;
mod metadata;
mod participants;
mod pending;
mod policy;
mod proposal;
mod rejection;
mod requests;
mod roles;
mod room;
pub mod templates;
pub mod vectors;

#[cfg(test)]
mod tests;

pub use accepted::{Accepted, MAX_PENDING, MAX_PENDING_OF_ONE};
pub use action::{Action, Client, JoinCode, Proposer, Support};
pub use capability::{CAPABILITIES, Enforcement, enforcement};
pub use claims::{Claims, user_of};
pub use left_over::{LeftOver, LeftOverUser};
pub use participants::{Participant, Participants, Tally};
pub use policy::Policy;
pub use rejection::Rejection;
pub use requests::{AssetKind, MessageEpoch, Upload};
pub use roles::{BAN_ROLE, Bounds, NO_ROLE, Role, Roles};
pub use room::{Bundle, Commit, CommitProposal, Committer, Merge, Proposed, Room, Stale};
