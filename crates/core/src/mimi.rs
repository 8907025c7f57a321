//! A MIMI room as its hub sees it (MIMI #introduction), as one pure state machine over the room's log.
//!
//! The room's state is the MLS group's: components of its context hold participants, roles and policy. So the fold has two
//! halves, the group ([`MimiGroup`]: is it sound MLS?) and the policy over it ([`nabe_auth::mimi::Room`]: may they?), and a third
//! that both are asked for: which providers have active participants, and are therefore sent what happens.
//!
//! [`MimiRoom::update`] and [`MimiRoom::submit`] say what a request would append and change nothing; [`MimiRoom::apply`] takes it
//! in once it is stored. Entries hold the `FanoutMessage` byte for byte as followers get it, so sending one on, now or after a
//! restart, is reading it. [`MimiRoom::restore`] is the same fold from what was stored: the group by its changes, the policy
//! from the group's components and the proposals that came since the last commit.
//!
//! | File | Story |
//! |---|---|
//! | `mimi.rs` | the room: how it begins, takes in an outcome, and is restored |
//! | `mimi/update.rs` | proposals and commits |
//! | `mimi/submit.rs` | application messages |
//! | `mimi/joiners.rs` | the GroupInfo, for those who join by themselves |
//! | `mimi/actor.rs` | who acts, in the terms of the policy |
//! | `mimi/entry.rs` | what the log holds, and for whom |
//! | `mimi/reach.rs` | which providers take part |
//! | `mimi/pending.rs` | how many bytes wait to be committed |
//! | `mimi/report.rs` | reports of abuse |
//! | `mimi/strangers.rs` | who is in a room that depends on another, and in that no more |
//! | `mimi/refusal.rs` | every way to say no, with the answer on the wire |

mod actor;
mod entry;
mod joiners;
mod pending;
mod reach;
mod refusal;
mod report;
mod strangers;
mod submit;
#[cfg(test)]
mod tests;
mod update;

use std::fmt;

use bytes::Bytes;
use nabe_auth::mimi as policy;
use nabe_mls::mimi::{MimiGroup, NextEpoch};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::IdentifierUri;
use nabe_wire::franking::{Frank, FrankingAgentData, ServerFrankingContext};
use nabe_wire::label::{SignatureScheme, Signer, SignerError};
use nabe_wire::mls::{CipherSuite, ExternalSender, GroupInfo, RatchetTree};
use nabe_wire::report_abuse::AbusiveMessage;
pub use nabe_wire::uri::MimiUri;
use nabe_wire::{Kept, Message as _};

use crate::{FollowerChange, GroupChange, StoredGroup};
use pending::PendingBytes;
use reach::{Reach, Reached};
use update::Motion;

pub use entry::{Audience, MimiEntry, MimiEntryKind, UnknownEntryKind};
pub use refusal::{GroupInfoRefusal, SubmitRefusal, UnsoundRoom, UpdateRefusal};
pub use report::{Evidence, MAX_REPORTED_MESSAGES, ReportRefusal, UnknownEvidence};
pub use strangers::Strangers;
pub use submit::Submitted;
pub use update::KeyPackageRoute;

/// A room at one position of its log, as its hub.
#[derive(Clone)]
pub struct MimiRoom {
    uri: MimiUri,
    server: ServerName,
    position: LogPosition,
    /// When the newest entry was accepted: later ones are not older.
    newest: UnixMillis,
    group: MimiGroup,
    policy: policy::Room,
    reach: Reach,
    pending: PendingBytes,
}

/// A room as it is stored, for [`MimiRoom::restore`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredMimiRoom {
    /// The room's URI.
    pub uri: MimiUri,
    /// When it was founded.
    pub created_at: UnixMillis,
    /// The group: its newest checkpoint, and the changes since.
    pub group: StoredGroup,
    /// [`MimiOutcome::left_over`] of the newest commit; empty before the first.
    pub left_over: Bytes,
    /// The entries with proposals since the newest commit, oldest first.
    pub proposals: Vec<MimiEntry>,
    /// The position of the newest entry; zero in an empty room.
    pub position: LogPosition,
    /// When that was accepted; of an empty room, when it was founded.
    pub newest: UnixMillis,
}

/// What a decision may depend on beside the room and the request.
#[derive(Clone, Copy)]
pub struct MimiCtx<'a> {
    /// The time.
    pub now: UnixMillis,
    /// The key that stands for the hub among the group's external senders (MIMI #authenticating-proposals).
    pub signer: &'a dyn Signer,
    /// By which messages are franked; `None` franks nothing.
    pub franking: Option<&'a dyn Franking>,
    /// By whose signature everybody recognizes those franks; no room has another agent (MIMI #hub-processing).
    pub franking_agent: Option<&'a FrankingAgentData>,
    /// The room that this one depends on, if it does (MRP #base-room-policy-component-syntax).
    pub parent: Option<&'a policy::Room>,
}

/// The hub's keys for franking (MIMI #message-franking).
pub trait Franking: Send + Sync {
    /// The hub's stamp on a message with this tag, in a room whose agent has this public key. `None` if the hub has not got the key
    /// that belongs to it.
    fn frank(&self, agent: &[u8], suite: CipherSuite, tag: &[u8; 32], context: &ServerFrankingContext)
    -> Option<Frank>;

    /// Who sent a reported message to which room, and when, if its frank is the hub's own (MIMI #report-abuse). A hub that keeps
    /// nothing recognizes nothing.
    ///
    /// # Errors
    /// Why it proves nothing.
    fn recognize(&self, _: &AbusiveMessage) -> Result<ServerFrankingContext, Evidence> {
        Err(Evidence::NoKeys)
    }
}

/// What to store, in one transaction, at the position the room stood at; then to [`MimiRoom::apply`].
#[must_use]
pub struct MimiOutcome {
    /// New log entries, at consecutive positions.
    pub append: Vec<MimiEntry>,
    /// What entries do to the group, each at the position of its entry.
    pub group: Vec<GroupChange>,
    /// Changes to which providers are owed the log, in order.
    pub followers: Vec<FollowerChange>,
    /// KeyPackageRefs whose Welcome is on its way: whose they are can be forgotten (MIMI #fetch-key-material).
    pub welcomed: Vec<Bytes>,
    /// KeyPackageRefs of Adds that wait for a commit from now on: whose they are has to be known until they expire, or nobody could
    /// commit any more (MIMI #bob-leaves-the-room).
    pub to_add: Vec<Bytes>,
    /// Of a commit: what counts though it is not committed, in place of what was kept before (D-external-commit). Encoded.
    pub left_over: Option<Bytes>,
    /// When the hub accepted it, for the answer.
    pub accepted: UnixMillis,
    judged: Judged,
    /// Of a commit: the first change of the group, ready to be merged.
    next_epoch: Option<Box<NextEpoch>>,
    reached: Reached,
}

/// What becomes of the policy's half.
enum Judged {
    /// Nothing: an application message.
    Same,
    /// Proposals count from now on.
    Proposed(Box<policy::Proposed>),
    /// A commit takes effect.
    Merged(Box<policy::Merge>),
    /// A commit takes effect, and what the hub proposed again counts.
    Replaced(Box<policy::Room>),
}

impl MimiOutcome {
    /// Whether somebody may take part no more because of it.
    #[must_use]
    pub const fn may_take_out(&self) -> bool {
        matches!(self.reached, Reached::Others)
    }
}

impl MimiRoom {
    /// A room that a client of the hub's own creates (MIMI #alice-creates-a-room), from the group that it hands over, with itself as
    /// the only member. `hub` has to stand first among the external senders.
    ///
    /// Returns the room and what is to be stored; the outcome is in it already.
    ///
    /// # Errors
    /// The group is none of a room, or its components make no policy.
    pub fn found(
        uri: &MimiUri,
        server: &ServerName,
        hub: &ExternalSender,
        group_info: &Kept<GroupInfo>,
        tree: &RatchetTree,
        now: UnixMillis,
    ) -> Result<(Self, MimiOutcome), UnsoundRoom> {
        if uri.host() != server.as_str() {
            return Err(UnsoundRoom::OtherProvider);
        }
        let (group, checkpoint) = MimiGroup::found(uri, hub, group_info, tree, now)?;
        let position = LogPosition::FIRST;
        let room = Self::begin(uri.clone(), server.clone(), group, position, now)?;
        let entry = MimiEntry {
            position,
            kind: MimiEntryKind::Founded,
            accepted: now,
            origin: server.clone(),
            audience: Audience::Only(Vec::new()),
            body: Bytes::new(),
        };
        let outcome = MimiOutcome {
            append: vec![entry],
            group: vec![GroupChange {
                position,
                bytes: checkpoint,
            }],
            followers: Vec::new(),
            welcomed: Vec::new(),
            to_add: Vec::new(),
            left_over: None,
            accepted: now,
            judged: Judged::Same,
            next_epoch: None,
            reached: Reached::Same,
        };
        Ok((room, outcome))
    }

    /// The room from what its hub, `server`, has stored.
    ///
    /// # Errors
    /// What is stored contradicts itself.
    pub fn restore(stored: StoredMimiRoom, server: &ServerName) -> Result<Self, UnsoundRoom> {
        let checkpoint = stored.group.checkpoint.as_ref();
        let mut group = checkpoint.map(|bytes| MimiGroup::restore(bytes)).transpose()?;
        for change in &stored.group.changes {
            MimiGroup::replay(&mut group, &change.bytes)?;
        }
        let group = group.ok_or(UnsoundRoom::NoGroup)?;
        let mut room = Self::begin(stored.uri, server.clone(), group, stored.position, stored.newest)?;
        if !stored.left_over.is_empty() {
            room.policy.restore(policy::LeftOver::from_bytes(&stored.left_over)?);
        }
        for entry in &stored.proposals {
            room.accept_again(entry)?;
            room.pending.append(entry);
        }
        room.reach = Reach::of(&room.group, &room.policy);
        Ok(room)
    }

    fn begin(
        uri: MimiUri,
        server: ServerName,
        group: MimiGroup,
        position: LogPosition,
        newest: UnixMillis,
    ) -> Result<Self, UnsoundRoom> {
        let policy = load_policy(&uri, &group)?;
        Ok(Self {
            reach: Reach::of(&group, &policy),
            pending: PendingBytes::default(),
            uri,
            server,
            position,
            newest,
            group,
            policy,
        })
    }

    /// Takes in what was decided on this very room and is stored.
    pub fn apply(&mut self, outcome: MimiOutcome) {
        const DECIDED_HERE: &str = "decided on this very room, which nothing has changed since";
        let mut changes = outcome.group.iter();
        if let Some(next) = outcome.next_epoch {
            changes.next();
            self.group.merge_staged(*next).expect(DECIDED_HERE);
        }
        for change in changes {
            self.group.merge(&change.bytes).expect(DECIDED_HERE);
        }
        match outcome.judged {
            Judged::Same => {}
            Judged::Proposed(proposed) => self.policy.accept(*proposed).expect(DECIDED_HERE),
            Judged::Merged(merge) => self.policy.merge(*merge).expect(DECIDED_HERE),
            Judged::Replaced(room) => self.policy = *room,
        }
        match &outcome.reached {
            Reached::Same => {}
            Reached::More { clients, users } => self.reach.add(&self.group, &self.policy, clients, users),
            Reached::Others => self.reach = Reach::of(&self.group, &self.policy),
        }
        for entry in &outcome.append {
            self.pending.append(entry);
            self.position = entry.position;
            self.newest = entry.accepted;
        }
    }

    /// The room's URI.
    #[must_use]
    pub const fn uri(&self) -> &MimiUri {
        &self.uri
    }

    /// The position of the newest entry.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.position
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> &MimiGroup {
        &self.group
    }

    /// The policy, with what was accepted and not yet committed.
    #[must_use]
    pub const fn policy(&self) -> &policy::Room {
        &self.policy
    }

    /// The providers with clients in the group, the hub left out, in ascending order (MIMI #fanout-messages-and-room-events).
    pub fn followers(&self) -> impl Iterator<Item = &ServerName> {
        self.reach.active().filter(|provider| **provider != self.server)
    }

    /// Whether clients of the hub's own users are in the group.
    #[must_use]
    pub fn has_own_clients(&self) -> bool {
        self.reach.active().any(|provider| *provider == self.server)
    }

    /// The hub's own users with clients in the group who may not receive messages, with what was accepted and not yet committed counted: they
    /// are about to be removed or banned, or their role does not allow it (MRP #message-capabilities).
    pub fn own_users_without_messages(&self) -> impl Iterator<Item = &MimiUri> {
        self.reach.withheld(&self.server)
    }

    /// About how much memory the room takes, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let participants = self.policy.participants().iter().count();
        size_of::<Self>() + self.group.memory_estimate() + participants * MEMORY_PER_PARTICIPANT
    }

    /// When something that is accepted now counts as accepted: never before anything else of the room.
    fn accepted_at(&self, now: UnixMillis) -> UnixMillis {
        now.max(self.newest)
    }

    /// Lets count what an entry with proposals made count when it was appended. Nothing but proposals came since.
    fn accept_again(&mut self, entry: &MimiEntry) -> Result<(), UnsoundRoom> {
        let messages = entry.messages().ok_or(UnsoundRoom::Log)?;
        let motion = Motion::read(&self.group, &messages).map_err(|_| UnsoundRoom::Log)?;
        Ok(self.policy.accept_again(&motion.bundle())?)
    }
}

impl fmt::Debug for MimiRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MimiRoom")
            .field("uri", &self.uri)
            .field("position", &self.position)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MimiOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MimiOutcome")
            .field("append", &self.append)
            .field("followers", &self.followers)
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

/// A signing key behind a reference.
struct Key<'a>(&'a dyn Signer);

impl Signer for Key<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.0.sign(payload)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        self.0.signature_scheme()
    }
}

fn load_policy(uri: &MimiUri, group: &MimiGroup) -> Result<policy::Room, UnsoundRoom> {
    let leaves = group.members().map(|(leaf, member)| (leaf, identifier(member.user())));
    Ok(policy::Room::load(identifier(uri), &group.dictionary(), leaves)?)
}

/// The same URI as wire structs have it.
fn identifier(uri: &MimiUri) -> IdentifierUri {
    IdentifierUri::new(uri.to_string()).expect("a mimi URI is short enough for any field")
}

/// Of a user's name, role and leaves.
const MEMORY_PER_PARTICIPANT: usize = 256;
