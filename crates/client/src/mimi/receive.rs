//! What comes from the hub: each entry is taken in within one transaction, together with the cursor after it (MIMI
//! #fanout-messages-and-room-events).
//!
//! Whoever may change what is for the hub to enforce: it has seen every proposal and commit. What a hub could forge is checked here:
//! that a group is the room's, and in `hear.rs` who sent a message, and what a frank is worth.

use nabe_types::UnixMillis;
use nabe_wire::mls::{MlsMessage, MlsMessageBody, RatchetTreeOption, Welcome};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Kept, Message as _};
use openmls::group::MlsGroup;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::time::Duration;

use super::device::{Device, drop_private_key};
use super::error::{Doing as _, GroupFault, MimiError};
use super::group::{self, Member};
use super::intent::MimiIntent;
use super::notice::MimiNotice;
use super::operational;
use super::settings::MimiSettings;
use super::store::{
    Held, KnownRoom, MimiStatus, Outgoing, OwnKeyPackage, Request, RequestKind, StoredIntent, forget_pending,
    note_pending, pending, tell,
};
use super::transport::Entry;
use crate::error::sentence;
use crate::provider::Provider;
use crate::store::attempt;

/// How a ciphertext is known again.
pub(super) fn hash_of(message: &[u8]) -> [u8; 32] {
    nabe_signing::sha256(message)
}

/// One transaction's work.
pub(super) struct Work<'c> {
    pub(super) connection: &'c Connection,
    pub(super) device: &'c Device,
    pub(super) settings: &'c MimiSettings,
    pub(super) now: UnixMillis,
    /// Intentions that came to an end.
    pub(super) finished: Vec<(i64, Result<(), MimiError>)>,
    /// Something came to an end or began, so that there may be something else to do now.
    pub(super) advanced: bool,
    /// A key package was used.
    pub(super) key_packages_low: bool,
    /// Rooms whose group is in another epoch now, or that this client is out of.
    pub(super) moved: BTreeSet<MimiUri>,
}

impl<'c> Work<'c> {
    pub(super) const fn new(
        connection: &'c Connection,
        device: &'c Device,
        settings: &'c MimiSettings,
        now: UnixMillis,
    ) -> Self {
        Self {
            connection,
            device,
            settings,
            now,
            finished: Vec::new(),
            advanced: false,
            key_packages_low: false,
            moved: BTreeSet::new(),
        }
    }

    /// The group of a room.
    pub(super) fn group(&self, room: &KnownRoom) -> Result<MlsGroup, MimiError> {
        let missing = || MimiError::NotInGroup(room.room.clone());
        let group_id = room.group_id.as_ref().ok_or_else(missing)?;
        group::load(&Provider::new(self.connection), group_id)?.ok_or_else(missing)
    }

    /// Forgets all secrets of a room's group.
    pub(super) fn forget_group(&self, room: &KnownRoom) -> Result<(), MimiError> {
        forget_pending(self.connection, &room.room)?;
        match &room.group_id {
            Some(group_id) => group::delete(&Provider::new(self.connection), group_id),
            None => Ok(()),
        }
    }

    /// Takes an entry in.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), MimiError> {
        self.take(&entry.room, &entry.message)
    }

    /// Takes in what was kept until a room got where it is now.
    pub(super) fn release(&mut self) -> Result<(), MimiError> {
        while let Some(room) = self.moved.pop_first() {
            if !Held::any(self.connection, &room)? {
                continue;
            }
            let Some(known) = KnownRoom::load(self.connection, &room)? else {
                continue;
            };
            let reached = match known.status {
                MimiStatus::Joining => continue,
                status if status.is_in() => Some(self.epoch_in(&known)?),
                // It will not get there.
                _ => None,
            };
            while !self.moved.contains(&room) {
                let Some(held) = Held::take(self.connection, &room, reached)? else {
                    break;
                };
                self.take(&room, &held.message)?;
            }
        }
        Ok(())
    }

    /// The epoch of a room's group.
    pub(super) fn epoch_in(&self, known: &KnownRoom) -> Result<u64, MimiError> {
        match known.epoch {
            Some(epoch) => Ok(epoch),
            None => Ok(self.group(known)?.epoch().as_u64()),
        }
    }

    /// Takes in what a hub said. What cannot be taken in is told, and stops nothing that comes after it.
    fn take(&mut self, room: &MimiUri, message: &[u8]) -> Result<(), MimiError> {
        let (connection, finished) = (self.connection, self.finished.len());
        match attempt(connection, || self.take_in(room, message)) {
            Err(error @ MimiError::Store(_)) => Err(error),
            Err(error) => {
                self.finished.truncate(finished);
                let notice = MimiNotice::Malformed {
                    room: room.to_string(),
                    reason: sentence(&error),
                };
                Ok(tell(connection, &notice)?)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether something is of an epoch that this client has not reached.
    fn is_early(&self, room: &MimiUri, epoch: u64) -> Result<bool, MimiError> {
        let Some(known) = KnownRoom::load(self.connection, room)? else {
            return Ok(false);
        };
        match known.status {
            status if status.is_in() => Ok(epoch > self.epoch_in(&known)?),
            MimiStatus::Joining => {
                let request = Request::of_room(self.connection, room)?;
                Ok(request.is_some_and(|request| epoch > request.epoch))
            }
            _ => Ok(false),
        }
    }

    /// Whether something is of another group than the room's.
    fn is_of_other_group(&self, room: &MimiUri, message: &MlsMessage) -> Result<bool, MimiError> {
        let ours = KnownRoom::load(self.connection, room)?.and_then(|known| known.group_id);
        Ok(ours.is_some_and(|ours| group_of(message).is_some_and(|theirs| *theirs != *ours)))
    }

    /// Keeps something until the commits before it have come.
    fn hold(&mut self, room: &MimiUri, epoch: u64, message: &[u8]) -> Result<(), MimiError> {
        if Held::keep(self.connection, room, epoch, message, self.now)? {
            return Ok(());
        }
        match KnownRoom::load(self.connection, room)?.filter(|known| known.status.is_in()) {
            Some(known) => self.stuck(known, "a commit is missing, and too much has come since".to_owned()),
            None => Ok(()),
        }
    }

    fn take_in(&mut self, room: &MimiUri, bytes: &[u8]) -> Result<(), MimiError> {
        let FanoutMessage {
            timestamp,
            message,
            with,
        } = FanoutMessage::from_bytes(bytes)?;
        let is_of_other_group = self.is_of_other_group(room, &message)?;
        if is_of_other_group && !matches!(with, FanoutParts::Application { .. }) {
            // It says nothing about this room, least of all that it cannot be followed any more.
            return Err(group::unsound(room, GroupFault::OtherRoom));
        }
        if let Some(epoch) = epoch_of(&message)
            && !is_of_other_group
            && self.is_early(room, epoch)?
        {
            return self.hold(room, epoch, bytes);
        }
        let accepted = UnixMillis::new(timestamp);
        match with {
            FanoutParts::Welcome { ratchet_tree_option } => match &message.body {
                MlsMessageBody::Welcome(welcome) => self.welcome(room, welcome, &ratchet_tree_option),
                _ => Ok(()),
            },
            FanoutParts::Proposal { more_proposals } => {
                let messages: Vec<_> = std::iter::once(message).chain(more_proposals).collect();
                self.echo(room, messages[0].as_bytes())?;
                self.proposals(room, &messages)
            }
            FanoutParts::Commit { external_proposals } => {
                self.commit(room, &message)?;
                self.proposals(room, &external_proposals)
            }
            FanoutParts::Application { frank } => self.application(room, &message, accepted, frank.as_ref()),
        }?;
        self.note_heard(room, accepted)
    }

    /// Something was heard of a room.
    fn note_heard(&self, room: &MimiUri, accepted: UnixMillis) -> Result<(), MimiError> {
        let known = KnownRoom::load(self.connection, room)?;
        match known.filter(|known| known.status.is_in() && known.since.is_none()) {
            Some(mut known) => {
                known.since = Some(accepted.min(self.now));
                Ok(known.save(self.connection)?)
            }
            None => Ok(()),
        }
    }

    /// Whether a message is what we asked the hub for; then it has taken it.
    fn echo(&mut self, room: &MimiUri, message: &[u8]) -> Result<bool, MimiError> {
        match Request::of_room(self.connection, room)? {
            Some(request) if request.kind != RequestKind::Create && request.message == message => {
                self.accepted(&request)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    // --- Joining ---

    fn welcome(&mut self, room: &MimiUri, welcome: &Kept<Welcome>, tree: &RatchetTreeOption) -> Result<(), MimiError> {
        let mut ours = None;
        for secrets in &welcome.secrets {
            if OwnKeyPackage::is_ours(self.connection, &secrets.new_member)? {
                ours = Some(&secrets.new_member);
            }
        }
        let mut known = KnownRoom::load_or_new(self.connection, room)?;
        let Some(reference) = ours.filter(|_| !known.status.is_in()) else {
            return Ok(());
        };
        self.key_packages_low = true;
        let connection = self.connection;
        let mut opened = false;
        let joined = attempt(connection, || {
            group::join(connection, &known, welcome, tree, &mut opened)
        });
        let group = match joined {
            Ok(group) => group,
            Err(error @ MimiError::Store(_)) => return Err(error),
            Err(error) => {
                // What it does not open was not made for it: anybody can name a key package that they saw proposed.
                if opened {
                    OwnKeyPackage::delete(connection, reference)?;
                    drop_private_key(connection, reference)?;
                }
                let notice = MimiNotice::Malformed {
                    room: room.to_string(),
                    reason: sentence(&error),
                };
                return Ok(tell(connection, &notice)?);
            }
        };
        OwnKeyPackage::delete(connection, reference)?;
        // Who was about to join by themselves is there.
        if let Some(request) = Request::of_room(connection, room)? {
            request.delete(connection)?;
        }
        for intent in StoredIntent::all(connection)? {
            if intent.room == *room && matches!(intent.intent, MimiIntent::Join { .. }) {
                self.finish(intent.id, Ok(()))?;
            }
        }
        forget_pending(connection, room)?;
        self.note_framing(&group, room)?;
        let epoch = group.epoch().as_u64();
        known.status = MimiStatus::Active;
        known.reason = None;
        known.group_id = Some(group.group_id().as_slice().to_vec());
        known.first_epoch = Some(epoch);
        known.epoch = Some(epoch);
        known.save(connection)?;
        self.moved.insert(room.clone());
        let room = room.to_string();
        Ok(tell(connection, &MimiNotice::Joined { room, epoch })?)
    }

    // --- Handshakes ---

    /// Takes proposals in, those of the current epoch that are new.
    fn proposals(&mut self, room: &MimiUri, messages: &[Kept<MlsMessage>]) -> Result<(), MimiError> {
        if messages.is_empty() {
            return Ok(());
        }
        let Some(mut known) = KnownRoom::load(self.connection, room)?.filter(|known| known.status.is_in()) else {
            return Ok(());
        };
        let connection = self.connection;
        let provider = Provider::new(connection);
        let mut group = self.group(&known)?;
        let mut new = 0;
        for message in messages {
            if epoch_of(message) != Some(group.epoch().as_u64()) || !note_pending(connection, room, message.as_bytes())?
            {
                continue;
            }
            let taken = attempt(connection, || {
                group::take_proposal(&provider, &mut group, message.as_bytes())
            });
            match taken {
                Ok(()) => new += 1,
                Err(error @ MimiError::Store(_)) => return Err(error),
                // If a commit contains it after all, that commit cannot be followed, and says so.
                Err(error) => {
                    super::store::drop_pending(connection, room, message.as_bytes())?;
                    let notice = MimiNotice::Malformed {
                        room: room.to_string(),
                        reason: sentence(&error),
                    };
                    tell(connection, &notice)?;
                }
            }
        }
        if new == 0 {
            return Ok(());
        }
        let own = group.own_leaf_index().u32();
        let may_commit = known.status == MimiStatus::Active && !group::pending_removals(&group).contains(&own);
        let leave_it_for = operational::leaves_it_for(&group, self.settings.tend_after * (own % 8))?;
        if self.settings.tend && may_commit && known.tend_due.is_none() {
            known.tend_due = Some(self.now.plus(leave_it_for));
            known.save(connection)?;
        }
        let notice = MimiNotice::Proposed {
            room: room.to_string(),
            pending: pending(connection, room)?.len() as u64,
        };
        Ok(tell(connection, &notice)?)
    }

    fn commit(&mut self, room: &MimiUri, message: &Kept<MlsMessage>) -> Result<(), MimiError> {
        if self.echo(room, message.as_bytes())? {
            return Ok(());
        }
        let (Some(epoch), Some(known)) = (epoch_of(message), KnownRoom::load(self.connection, room)?) else {
            return Ok(());
        };
        let request = Request::of_room(self.connection, room)?;
        if known.status == MimiStatus::Joining {
            return match request {
                Some(request) if request.epoch == epoch => self.lost(&request),
                _ => Ok(()),
            };
        }
        if !known.status.is_in() {
            return Ok(());
        }
        if epoch < self.epoch_in(&known)? {
            // An echo of what the answer said, or an entry that came twice.
            return Ok(());
        }
        if let Some(request) = request {
            self.lost(&request)?;
        }
        self.follow(known, message)
    }

    /// Takes in somebody else's commit of the current epoch.
    fn follow(&mut self, mut known: KnownRoom, message: &Kept<MlsMessage>) -> Result<(), MimiError> {
        let connection = self.connection;
        let provider = Provider::new(connection);
        let mut group = self.group(&known)?;
        let before = group::members(&group);
        let followed = attempt(connection, || {
            let (by, staged) = group::stage(&provider, &mut group, message.as_bytes())?;
            let is_out = staged.self_removed();
            group
                .merge_staged_commit(&provider, staged)
                .doing("taking in a commit")?;
            Ok((by, is_out))
        });
        match followed {
            Ok((by, is_out)) => {
                let by = by.as_ref().map(group::name).unwrap_or_default();
                if is_out {
                    self.removed(known, by)
                } else {
                    self.entered(&mut known, &group, &before, &by)
                }
            }
            Err(error @ MimiError::Store(_)) => Err(error),
            Err(error) => self.stuck(known, sentence(&error)),
        }
    }

    /// The group is in a new epoch.
    pub(super) fn entered(
        &mut self,
        known: &mut KnownRoom,
        group: &MlsGroup,
        before: &[Member],
        by: &str,
    ) -> Result<(), MimiError> {
        forget_pending(self.connection, &known.room)?;
        self.note_framing(group, &known.room)?;
        known.tend_due = None;
        known.epoch = Some(group.epoch().as_u64());
        self.moved.insert(known.room.clone());
        // The commit did not remove us: what we proposed has come to nothing.
        if known.status == MimiStatus::Leaving {
            known.status = MimiStatus::Active;
        }
        known.save(self.connection)?;
        let after = group::members(group);
        let names = |members: &[Member], without: &[Member]| {
            let new = members.iter().filter(|member| !without.contains(member));
            new.map(Member::name).collect()
        };
        let notice = MimiNotice::Epoch {
            room: known.room.to_string(),
            epoch: group.epoch().as_u64(),
            by: by.to_owned(),
            added: names(&after, before),
            removed: names(before, &after),
        };
        Ok(tell(self.connection, &notice)?)
    }

    /// Somebody's commit has taken this client out of the group.
    fn removed(&mut self, mut known: KnownRoom, by: String) -> Result<(), MimiError> {
        self.forget_group(&known)?;
        known.status = MimiStatus::Removed;
        known.group_id = None;
        known.epoch = None;
        known.tend_due = None;
        known.save(self.connection)?;
        self.moved.insert(known.room.clone());
        self.end(&known.room)?;
        let room = known.room.to_string();
        Ok(tell(self.connection, &MimiNotice::Removed { room, by })?)
    }

    /// This client cannot follow the group any more. It joins anew by itself, at most once in ten minutes; what was to be done in the room
    /// is done after that.
    pub(super) fn stuck(&mut self, mut known: KnownRoom, reason: String) -> Result<(), MimiError> {
        self.forget_group(&known)?;
        let rejoins = self.settings.rejoin && known.status == MimiStatus::Active;
        // Not again and again.
        let earliest = known.rejoined.map_or(self.now, |at| at.plus(REJOIN_AFTER));
        known.status = MimiStatus::Stuck;
        known.reason = Some(reason.clone());
        known.group_id = None;
        known.epoch = None;
        known.tend_due = None;
        if rejoins {
            known.rejoined = Some(earliest.max(self.now));
        }
        known.save(self.connection)?;
        self.moved.insert(known.room.clone());
        if rejoins {
            if let Some(request) = Request::of_room(self.connection, &known.room)? {
                request.delete(self.connection)?;
            }
            let intent = MimiIntent::Join { role: None, code: None };
            self.want_from(&known.room, &intent, earliest.max(self.now))?;
        } else {
            self.end(&known.room)?;
        }
        let room = known.room.to_string();
        Ok(tell(self.connection, &MimiNotice::Stuck { room, reason })?)
    }

    /// What was to be done in a room that this client is out of.
    pub(super) fn end(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        if let Some(request) = Request::of_room(self.connection, room)? {
            request.delete(self.connection)?;
        }
        for intent in StoredIntent::all(self.connection)? {
            if intent.room != *room {
                continue;
            }
            match intent.intent {
                MimiIntent::Leave { .. } => self.finish(intent.id, Ok(()))?,
                MimiIntent::Join { .. } => {}
                MimiIntent::Tend => self.finish(intent.id, Err(MimiError::NotInGroup(room.clone())))?,
                _ => self.give_up(&intent, MimiError::NotInGroup(room.clone()))?,
            }
        }
        for outgoing in Outgoing::all(self.connection)? {
            if outgoing.room == *room {
                self.refused(&outgoing)?;
            }
        }
        Ok(())
    }
}

pub(super) fn group_of(message: &MlsMessage) -> Option<&[u8]> {
    match &message.body {
        MlsMessageBody::Public(public) => Some(&public.content.group_id),
        MlsMessageBody::Private(private) => Some(&private.group_id),
        _ => None,
    }
}

pub(super) fn epoch_of(message: &MlsMessage) -> Option<u64> {
    match &message.body {
        MlsMessageBody::Public(public) => Some(public.content.epoch),
        MlsMessageBody::Private(private) => Some(private.epoch),
        _ => None,
    }
}

/// After joining anew by itself a client does not do so again for a while.
const REJOIN_AFTER: Duration = Duration::from_mins(10);
