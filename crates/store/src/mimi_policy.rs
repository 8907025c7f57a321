//! What the policy of MIMI's rooms asks of their hub beside the room itself: how long a join link is good and who has used it (MRP
//! #join-link), that there is one room with fixed membership for a set of participants, and which rooms depend on another (MRP
//! #base-room-policy-component-syntax).

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_types::UnixMillis;

use crate::error::StoreError;

/// A join link of a room, as the policy was when it was added.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinLinkTerms {
    /// The link.
    pub link: Bytes,
    /// From when on nobody joins by it; `None` if there is no end.
    pub expires_at: Option<UnixMillis>,
    /// Whether several users may join by it.
    pub multiuser: bool,
    /// Who joined by it first.
    pub used_by: Option<MimiUri>,
}

/// One change. Naming a room that is not there fails with [`StoreError::UnknownMimiRoom`].
#[derive(Clone, Debug)]
pub enum PolicyWrite {
    /// Join links that came, and those that went. One that is there already keeps its terms.
    ChangeJoinLinks {
        /// The room.
        room: MimiUri,
        /// New ones.
        added: Vec<JoinLinkTerms>,
        /// Those that are none any more.
        removed: Vec<Bytes>,
    },
    /// Somebody joined by a link. Who was the first stays so.
    UseJoinLink {
        /// The room.
        room: MimiUri,
        /// The link.
        link: Bytes,
        /// Who.
        user: MimiUri,
    },
    /// A room has fixed membership from now on, with the users of this hash, or not any more. `FixedMembersTaken` if another has the same.
    SetFixedMembers {
        /// The room.
        room: MimiUri,
        /// SHA-256 over the users.
        members_sha256: Option<[u8; 32]>,
    },
    /// On which room another depends, or that it does not. One that was not there before is due: who is in the room may have left it since it
    /// was asked.
    SetParent {
        /// The room that depends on it.
        room: MimiUri,
        /// The room that it depends on.
        parent: Option<MimiUri>,
    },
    /// Somebody left a room: those that depend on it are due.
    MarkChildrenDue {
        /// The room that they depend on.
        parent: MimiUri,
    },
    /// Nobody is in the room who is not in its parent.
    ChildIsDone {
        /// The room.
        room: MimiUri,
    },
    /// What the room's policy says is kept: of one that was founded before there was anything to keep.
    Noted {
        /// The room.
        room: MimiUri,
    },
}

/// What is asked about it. As with [`crate::Store`], reads see all commits that returned before they began.
#[async_trait]
pub trait PolicyStore {
    /// A join link of a room; `None` if it is none, or was before there were terms.
    async fn join_link(&self, room: &MimiUri, link: &[u8]) -> Result<Option<JoinLinkTerms>, StoreError>;

    /// Rooms that depend on another and are due, in the order of their URIs, from the first or from that after this one.
    async fn due_child_rooms(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError>;

    /// Rooms that were founded before there was anything to keep beside them ([`PolicyWrite::Noted`]), in the order of their URIs, from the
    /// first or from that after this one.
    async fn rooms_to_note(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError>;
}
