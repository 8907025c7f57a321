//! What the log of a MIMI room holds: what was fanned out, byte for byte, and to whom (MIMI #fanout-messages-and-room-events).

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::mls::{MlsMessage, MlsMessageBody, Welcome};
use nabe_wire::notify::{FanoutBatch, FanoutMessage, FanoutParts};
use nabe_wire::{Kept, Message as _};

/// One place in a room's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiEntry {
    /// Its place, counted from 1.
    pub position: LogPosition,
    /// What is there.
    pub kind: MimiEntryKind,
    /// When the hub accepted it. Never before that of an earlier entry.
    pub accepted: UnixMillis,
    /// The provider it came from; the hub's own name for what the hub proposes.
    pub origin: ServerName,
    /// Who gets it.
    pub audience: Audience,
    /// A `FanoutMessage`, as every one of them gets it; empty in the entry that founds the room.
    pub body: Bytes,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MimiEntryKind {
    /// The room begins; nobody else takes part yet.
    Founded,
    /// An application message.
    Application,
    /// Proposals that came together.
    Proposal,
    /// A commit.
    Commit,
    /// The Welcome to the commit before it.
    Welcome,
}

/// Which providers get an entry. Only those that follow at its position do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Audience {
    /// All but its origin, which has it already.
    Others,
    /// These, in ascending order, be they its origin or not.
    Only(Vec<ServerName>),
}

impl MimiEntry {
    /// `with` appends what goes with the message.
    pub(super) fn new(
        (position, kind): (LogPosition, MimiEntryKind),
        origin: &ServerName,
        audience: Audience,
        accepted: UnixMillis,
        message: &Kept<MlsMessage>,
        with: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        Self {
            position,
            kind,
            accepted,
            origin: origin.clone(),
            audience,
            body: FanoutMessage::encode_as(accepted.as_u64(), message, with).into(),
        }
    }

    /// Whether followers can take it: it goes into a notification of its own if it has to, and longer ones are not read.
    pub(super) fn fits(&self) -> bool {
        self.body.len() <= FanoutBatch::MAX_LEN
    }

    /// The Welcome to a commit. `tree` appends the tree that goes with it, as it is sent.
    pub(super) fn welcome(
        position: LogPosition,
        origin: &ServerName,
        providers: Vec<ServerName>,
        accepted: UnixMillis,
        welcome: &Kept<Welcome>,
        tree: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let message = Kept::new(MlsMessage {
            body: MlsMessageBody::Welcome(Box::new(welcome.clone())),
        });
        let audience = Audience::Only(providers);
        Self::new(
            (position, MimiEntryKind::Welcome),
            origin,
            audience,
            accepted,
            &message,
            tree,
        )
    }

    /// Whether a provider that follows the room at this position gets the entry.
    #[must_use]
    pub fn is_for(&self, provider: &ServerName) -> bool {
        match &self.audience {
            Audience::Others => *provider != self.origin,
            Audience::Only(providers) => providers.binary_search(provider).is_ok(),
        }
    }

    /// The message and those that came with it; `None` if nobody is to get anything.
    #[must_use]
    pub fn messages(&self) -> Option<Vec<Kept<MlsMessage>>> {
        let FanoutMessage { message, with, .. } = FanoutMessage::from_bytes(&self.body).ok()?;
        let more = match with {
            FanoutParts::Proposal { more_proposals } => more_proposals,
            _ => Vec::new(),
        };
        Some(std::iter::once(message).chain(more).collect())
    }
}

impl fmt::Display for MimiEntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Founded => "founded",
            Self::Application => "application",
            Self::Proposal => "proposal",
            Self::Commit => "commit",
            Self::Welcome => "welcome",
        })
    }
}

/// No kind of entry has this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no kind of entry in the log of a MIMI room")]
pub struct UnknownEntryKind;

impl FromStr for MimiEntryKind {
    type Err = UnknownEntryKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::Founded,
            Self::Application,
            Self::Proposal,
            Self::Commit,
            Self::Welcome,
        ];
        let kind = all.into_iter().find(|kind| kind.to_string() == name);
        kind.ok_or(UnknownEntryKind)
    }
}
