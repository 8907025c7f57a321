//! What is kept of MIMI for local users, in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_types::{LogPosition, ServerName, UnixMillis};

use super::MemoryStore;
use super::tables::Journal;
use crate::error::StoreError;
use crate::mimi_order::{Forwarded, WaitingMessage};
use crate::mimi_users::{
    ClaimedMimiKeyPackage, ConsentDecision, ConsentScope, ConsentState, GrantedKeyPackage, IssuedKeyPackage,
    KeptConsent, KeyPackageUse, LocalMessage, LocalRoom, MimiKeyPackage, MimiKeyPackageClaim, MimiKeyPackageOffer,
    MimiUserStore, MimiUserWrite, NewLocalMessage, ProfileEntry, ReadableRoom, Searchable, ShownJoinCode,
};
use crate::model::KeyPackageKept;
use crate::rules::{self, ReaderChange};

/// The tables of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct MimiUsers {
    pub(super) rooms: BTreeMap<MimiUri, LocalRoom>,
    messages: BTreeMap<(MimiUri, LogPosition), LocalMessage>,
    /// By user, room and where they begin, with where they end.
    pub(super) readers: BTreeMap<(MimiUri, MimiUri, LogPosition), Option<LogPosition>>,
    withheld: BTreeMap<(MimiUri, LogPosition, MimiUri), ()>,
    /// By room and hash, with the order in which they came.
    pub(super) marks: BTreeMap<(MimiUri, [u8; 32]), (i64, UnixMillis)>,
    pub(super) last_marks: BTreeMap<MimiUri, i64>,
    pub(super) epochs: BTreeMap<MimiUri, u64>,
    pub(super) waiting: BTreeMap<(MimiUri, i64), WaitingMessage>,
    /// By room and request, with the order in which they were sent.
    pub(super) forwarded: BTreeMap<(MimiUri, [u8; 32]), (i64, Forwarded)>,
    delivered: BTreeMap<(MimiUri, ServerName, [u8; 32]), UnixMillis>,
    codes: BTreeMap<(MimiUri, MimiUri, Bytes), ShownJoinCode>,
    /// By client, with its user.
    clients: BTreeMap<MimiUri, MimiUri>,
    /// By client and the order in which they came.
    packages: BTreeMap<(MimiUri, u64), MimiKeyPackage>,
    last_package: u64,
    /// By client, in the order they went.
    spent: BTreeMap<MimiUri, Vec<(Bytes, UnixMillis)>>,
    /// By client, in the order they went.
    issued: BTreeMap<MimiUri, Vec<Issued>>,
    consents: BTreeMap<ConsentScope, Consent>,
    /// Index of `consents`: what is known by one provider's word alone.
    heard: BTreeMap<(ServerName, i64), ConsentScope>,
    granted: BTreeMap<Bytes, Granted>,
    profiles: BTreeMap<MimiUri, Vec<ProfileEntry>>,
    numbers: BTreeMap<(), i64>,
}

/// A user, and the index of the first or last message that they may read.
type ReaderAt = (MimiUri, usize);

/// A key package that was handed out.
#[derive(Clone, Debug)]
struct Issued {
    reference: Bytes,
    for_use: KeyPackageUse,
    not_after: UnixMillis,
}

impl Issued {
    fn is_for(&self, hub: &ServerName, room: &MimiUri) -> bool {
        self.for_use.hub == *hub && self.for_use.room.as_ref().is_none_or(|named| named == room)
    }
}

#[derive(Clone, Debug)]
struct Consent {
    kept: KeptConsent,
    heard_from: Option<ServerName>,
}

impl Consent {
    /// Its place in the index, if it is known by a provider's word alone.
    fn heard(&self) -> Option<(ServerName, i64)> {
        Some((self.heard_from.clone()?, self.kept.number))
    }
}

#[derive(Clone, Debug)]
struct Granted {
    scope: ConsentScope,
    number: i64,
    package: GrantedKeyPackage,
    taken: bool,
}

impl Journal<'_> {
    pub(super) fn apply_mimi_user(&mut self, write: MimiUserWrite) -> Result<(), StoreError> {
        match write {
            MimiUserWrite::Deliver {
                room,
                hub,
                messages,
                readers,
                leavers,
                once,
                now,
            } => self.deliver(&room, &hub, messages, (&readers, &leavers), once, now),
            MimiUserWrite::Order(write) => self.apply_mimi_order(write),
            MimiUserWrite::ForgetDelivered { before } => {
                let old = self.tables.mimi_users.delivered.iter();
                let old = old.filter(|(_, received)| **received < before);
                for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.mimi_users.delivered, key, None);
                }
            }
            MimiUserWrite::ForgetLocalMessages { before, limit } => {
                let all = self.tables.mimi_users.messages.iter();
                let mut old: Vec<_> = all.filter(|(_, message)| message.received < before).collect();
                old.sort_by_key(|(_, message)| message.received);
                let old: Vec<_> = old.into_iter().take(limit).map(|(key, _)| key.clone()).collect();
                for (room, position) in old {
                    let of_message = self.tables.mimi_users.withheld.keys();
                    let of_message = of_message.filter(|(of, at, _)| *of == room && *at == position);
                    for key in of_message.cloned().collect::<Vec<_>>() {
                        self.set(|tables| &mut tables.mimi_users.withheld, key, None);
                    }
                    self.set(|tables| &mut tables.mimi_users.messages, (room, position), None);
                }
            }
            MimiUserWrite::ShowJoinCode { shown } => {
                let key = (shown.room.clone(), shown.user.clone(), shown.signature_key.clone());
                self.set(|tables| &mut tables.mimi_users.codes, key, Some(shown));
            }
            MimiUserWrite::ExpireJoinCodes { now } => {
                let old = self.tables.mimi_users.codes.iter();
                let old = old.filter(|(_, shown)| shown.expires_at <= now);
                for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.mimi_users.codes, key, None);
                }
            }
            MimiUserWrite::RemoveClient { client } => self.remove_client(client),
            MimiUserWrite::RemoveUser { user } => self.remove_user(&user),
            MimiUserWrite::ExpireKeyPackages { now } => self.expire_mimi_key_packages(now),
            MimiUserWrite::PutProfile {
                user,
                entries,
                instead_of,
            } => {
                let kept = self.tables.mimi_users.profiles.get(&user);
                if instead_of.is_some_and(|expected| expected != *kept.map_or(&[][..], |kept| kept)) {
                    return Err(StoreError::ProfileChanged { user });
                }
                self.set(|tables| &mut tables.mimi_users.profiles, user, Some(entries));
            }
            MimiUserWrite::RequestConsent { scope, from, now } => {
                let mut consent = self.consent_to_change(&scope, from.as_ref());
                consent.kept.requested_at = consent.kept.requested_at.or(Some(now));
                self.put_consent(consent, from.as_ref());
            }
            MimiUserWrite::CancelConsent { scope } => {
                if let Some(mut consent) = self.tables.mimi_users.consents.get(&scope).cloned() {
                    consent.kept.requested_at = None;
                    let left = consent.kept.decision.is_some().then_some(consent);
                    self.set_consent(scope, left);
                }
            }
            MimiUserWrite::DecideConsent {
                scope,
                decision,
                key_packages,
                from,
                now,
            } => {
                let mut consent = self.consent_to_change(&scope, from.as_ref());
                consent.kept.requested_at = None;
                consent.kept.decision = Some((decision, now));
                self.put_consent(consent, from.as_ref());
                if decision == ConsentDecision::Revoked {
                    self.drop_granted(&scope);
                }
                for package in key_packages {
                    self.put_granted(&scope, package);
                }
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        room: &MimiUri,
        hub: &ServerName,
        messages: Vec<NewLocalMessage>,
        (readers, leavers): (&[ReaderAt], &[ReaderAt]),
        once: Option<[u8; 32]>,
        now: UnixMillis,
    ) {
        if let Some(once) = once {
            let key = (room.clone(), hub.clone(), once);
            if self.tables.mimi_users.delivered.contains_key(&key) {
                return;
            }
            self.set(|tables| &mut tables.mimi_users.delivered, key, Some(now));
        }
        let mut row = self.local_room_to_write_to(room, hub);
        let before = row.head;
        let mut marks = Vec::new();
        for NewLocalMessage {
            accepted,
            body,
            marks: of_message,
            withheld_from,
        } in messages
        {
            row.head = row.head.next();
            marks.extend(of_message);
            for user in withheld_from {
                let key = (room.clone(), row.head, user);
                self.set(|tables| &mut tables.mimi_users.withheld, key, Some(()));
            }
            let message = LocalMessage {
                position: row.head,
                accepted,
                received: now,
                body,
            };
            let key = (room.clone(), row.head);
            self.set(|tables| &mut tables.mimi_users.messages, key, Some(message));
        }
        self.set(|tables| &mut tables.mimi_users.rooms, room.clone(), Some(row));
        self.mark_messages(room, &marks, now);
        for change in rules::reader_changes(readers, leavers) {
            match change {
                ReaderChange::Begins(user, index) => self.begin_to_read(user, room, rules::nth_after(before, index)),
                ReaderChange::Ends(user, index) => {
                    if let Some(key) = self.tables.mimi_users.open_stretch(user, room) {
                        let until = rules::nth_after(before, index);
                        self.set(|tables| &mut tables.mimi_users.readers, key, Some(Some(until)));
                    }
                }
            }
        }
    }

    fn remove_client(&mut self, client: MimiUri) {
        for key in self.tables.mimi_users.packages_of(&client) {
            self.set(|tables| &mut tables.mimi_users.packages, key, None);
        }
        self.set(|tables| &mut tables.mimi_users.spent, client.clone(), None);
        self.set(|tables| &mut tables.mimi_users.issued, client.clone(), None);
        self.set(|tables| &mut tables.mimi_users.clients, client, None);
    }

    fn remove_user(&mut self, user: &MimiUri) {
        let clients = self.tables.mimi_users.clients.iter();
        let clients = clients.filter(|(_, owner)| *owner == user);
        for client in clients.map(|(client, _)| client.clone()).collect::<Vec<_>>() {
            self.remove_client(client);
        }
        self.set(|tables| &mut tables.mimi_users.profiles, user.clone(), None);
        let is_theirs = |scope: &ConsentScope| scope.requester == *user || scope.target == *user;
        let consents = self.tables.mimi_users.consents.keys();
        for scope in consents.filter(|scope| is_theirs(scope)).cloned().collect::<Vec<_>>() {
            self.set_consent(scope, None);
        }
        let granted = self.tables.mimi_users.granted.iter();
        let granted = granted.filter(|(_, granted)| is_theirs(&granted.scope));
        for key in granted.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.mimi_users.granted, key, None);
        }
        let reading = self.tables.mimi_users.readers.iter();
        let reading = reading.filter(|((reader, ..), until)| reader == user && until.is_none());
        for key in reading.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let head = self.tables.mimi_users.rooms.get(&key.1).map(|room| room.head);
            self.set(|tables| &mut tables.mimi_users.readers, key, Some(head));
        }
    }

    /// A room's local log, which begins if there is none.
    pub(super) fn local_room_to_write_to(&mut self, room: &MimiUri, hub: &ServerName) -> LocalRoom {
        if let Some(known) = self.tables.mimi_users.rooms.get(room) {
            return known.clone();
        }
        let row = LocalRoom {
            room: room.clone(),
            hub: hub.clone(),
            head: LogPosition::ZERO,
        };
        self.set(|tables| &mut tables.mimi_users.rooms, room.clone(), Some(row.clone()));
        row
    }

    pub(super) fn begin_to_read(&mut self, user: &MimiUri, room: &MimiUri, from: LogPosition) {
        if self.tables.mimi_users.open_stretch(user, room).is_none() {
            let key = (user.clone(), room.clone(), from);
            self.set(|tables| &mut tables.mimi_users.readers, key, Some(None));
        }
    }

    /// Remembers messages, and forgets those that need not be remembered any more.
    pub(super) fn mark_messages(&mut self, room: &MimiUri, marks: &[[u8; 32]], now: UnixMillis) {
        if marks.is_empty() {
            return;
        }
        let mut last = self.tables.mimi_users.last_marks.get(room).copied().unwrap_or(0);
        for mark in marks {
            let key = (room.clone(), *mark);
            if !self.tables.mimi_users.marks.contains_key(&key) {
                last += 1;
                self.set(|tables| &mut tables.mimi_users.marks, key, Some((last, now)));
            }
        }
        self.set(|tables| &mut tables.mimi_users.last_marks, room.clone(), Some(last));
        let kept = last - i64::try_from(rules::MIN_REMEMBERED_MESSAGES).unwrap_or(i64::MAX);
        let before = now.minus(rules::MESSAGES_REMEMBERED);
        let all = self
            .tables
            .mimi_users
            .marks
            .range((room.clone(), [0; 32])..=(room.clone(), [255; 32]));
        let old = all.filter(|(_, (number, received))| *number <= kept && *received < before);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.mimi_users.marks, key, None);
        }
    }

    fn expire_mimi_key_packages(&mut self, now: UnixMillis) {
        let old = self.tables.mimi_users.packages.iter();
        let old = old.filter(|(_, package)| package.not_after <= now);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.mimi_users.packages, key, None);
        }
        for (client, mut spent) in self.tables.mimi_users.spent.clone() {
            spent.retain(|(_, not_after)| *not_after > now);
            self.set(|tables| &mut tables.mimi_users.spent, client, Some(spent));
        }
        for (client, mut issued) in self.tables.mimi_users.issued.clone() {
            issued.retain(|issued| issued.not_after > now);
            self.set(|tables| &mut tables.mimi_users.issued, client, Some(issued));
        }
        let old = self.tables.mimi_users.granted.iter();
        let old = old.filter(|(_, granted)| granted.package.not_after <= now);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.mimi_users.granted, key, None);
        }
    }

    pub(super) fn next_number(&mut self) -> i64 {
        let number = self.tables.mimi_users.numbers.get(&()).copied().unwrap_or(0) + 1;
        self.set(|tables| &mut tables.mimi_users.numbers, (), Some(number));
        number
    }

    fn consent_to_change(&mut self, scope: &ConsentScope, from: Option<&ServerName>) -> Consent {
        if let Some(mut consent) = self.tables.mimi_users.consents.get(scope).cloned() {
            consent.heard_from = consent.heard_from.filter(|_| from.is_some());
            return consent;
        }
        Consent {
            kept: KeptConsent {
                number: self.next_number(),
                scope: scope.clone(),
                requested_at: None,
                decision: None,
            },
            heard_from: from.cloned(),
        }
    }

    fn put_consent(&mut self, consent: Consent, from: Option<&ServerName>) {
        self.set_consent(consent.kept.scope.clone(), Some(consent));
        let Some(from) = from else { return };
        let of_provider = (from.clone(), 0)..=(from.clone(), i64::MAX);
        let mut heard = self.tables.mimi_users.heard.range(of_provider);
        let first = heard.next().map(|(_, scope)| scope.clone());
        if heard.count() >= rules::MAX_HEARD_CONSENTS
            && let Some(first) = first
        {
            self.drop_granted(&first);
            self.set_consent(first, None);
        }
    }

    /// What came with grants in this scope and was not taken.
    fn drop_granted(&mut self, scope: &ConsentScope) {
        let granted = self.tables.mimi_users.granted.iter();
        let of_scope = granted.filter(|(_, granted)| granted.scope == *scope && !granted.taken);
        for key in of_scope.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.mimi_users.granted, key, None);
        }
    }

    fn set_consent(&mut self, scope: ConsentScope, consent: Option<Consent>) {
        let before = self.tables.mimi_users.consents.get(&scope).and_then(Consent::heard);
        let after = consent.as_ref().and_then(Consent::heard);
        if let Some(key) = before {
            self.set(|tables| &mut tables.mimi_users.heard, key, None);
        }
        if let Some(key) = after {
            self.set(|tables| &mut tables.mimi_users.heard, key, Some(scope.clone()));
        }
        self.set(|tables| &mut tables.mimi_users.consents, scope, consent);
    }

    fn put_granted(&mut self, scope: &ConsentScope, package: GrantedKeyPackage) {
        let of_both = self.tables.mimi_users.granted.values();
        let of_both = of_both
            .filter(|granted| granted.scope.requester == scope.requester && granted.scope.target == scope.target);
        let is_known = self.tables.mimi_users.granted.contains_key(&package.reference);
        if is_known || of_both.count() >= rules::MAX_GRANTED_KEY_PACKAGES {
            return;
        }
        let granted = Granted {
            scope: scope.clone(),
            number: self.next_number(),
            package,
            taken: false,
        };
        let reference = granted.package.reference.clone();
        self.set(|tables| &mut tables.mimi_users.granted, reference, Some(granted));
    }
}

impl MimiUsers {
    /// Where the user reads a room now.
    fn open_stretch(&self, user: &MimiUri, room: &MimiUri) -> Option<(MimiUri, MimiUri, LogPosition)> {
        let open = self.stretches(user, room).find(|(_, until)| until.is_none());
        open.map(|(from, _)| (user.clone(), room.clone(), from))
    }

    fn stretches(
        &self,
        user: &MimiUri,
        room: &MimiUri,
    ) -> impl Iterator<Item = (LogPosition, Option<LogPosition>)> + use<'_> {
        let key = |position| (user.clone(), room.clone(), position);
        let of_both = self
            .readers
            .range(key(LogPosition(i64::MIN))..=key(LogPosition(i64::MAX)));
        of_both.map(|((_, _, from), until)| (*from, *until))
    }

    fn readable(&self, user: &MimiUri, room: &MimiUri) -> Option<ReadableRoom> {
        let stretches: Vec<_> = self.stretches(user, room).collect();
        let until: Option<Vec<_>> = stretches.iter().map(|(_, until)| *until).collect();
        Some(ReadableRoom {
            room: self.rooms.get(room)?.clone(),
            from: stretches.first()?.0,
            until: until.and_then(|until| until.into_iter().max()),
        })
    }

    fn packages_of(&self, client: &MimiUri) -> Vec<(MimiUri, u64)> {
        let range = self.packages.range((client.clone(), 0)..=(client.clone(), u64::MAX));
        range.map(|(key, _)| key.clone()).collect()
    }

    fn users_with(&self, has_it: impl Fn(&ProfileEntry) -> bool, limit: usize) -> Vec<MimiUri> {
        let found = self.profiles.iter().filter(|(_, entries)| entries.iter().any(&has_it));
        let mut users: Vec<_> = found.map(|(user, _)| user.clone()).collect();
        users.sort_by_key(MimiUri::to_string);
        users.truncate(limit);
        users
    }

    fn is_spent(&self, reference: &Bytes) -> bool {
        self.spent.values().flatten().any(|(spent, _)| spent == reference)
    }

    fn spend(&mut self, client: &MimiUri, reference: Bytes, not_after: UnixMillis) {
        let spent = self.spent.entry(client.clone()).or_default();
        spent.push((reference, not_after));
        let beyond = spent.len().saturating_sub(rules::MAX_SPENT_KEY_PACKAGES);
        spent.drain(..beyond);
    }

    fn add(&mut self, client: &MimiUri, package: &MimiKeyPackage) -> KeyPackageKept {
        if self.packages.values().any(|known| known.reference == package.reference) {
            return KeyPackageKept::Known;
        }
        if self.is_spent(&package.reference) {
            return KeyPackageKept::Spent;
        }
        let keys = self.packages_of(client);
        let others = keys.iter().filter(|key| !self.packages[*key].last_resort).count();
        if !package.last_resort && others >= rules::MAX_KEY_PACKAGES {
            return KeyPackageKept::Full;
        }
        for key in keys.iter().filter(|_| package.last_resort) {
            let known = &self.packages[key];
            if known.last_resort && known.suite == package.suite {
                let (reference, not_after) = (known.reference.clone(), known.not_after);
                self.packages.remove(key);
                self.spend(client, reference, not_after);
            }
        }
        self.last_package += 1;
        self.packages
            .insert((client.clone(), self.last_package), package.clone());
        KeyPackageKept::Kept
    }

    fn claim(&mut self, claim: &MimiKeyPackageClaim, usable_at: UnixMillis) -> Option<ClaimedMimiKeyPackage> {
        let last_resort = || self.find(claim, true, usable_at).filter(|_| claim.last_resort);
        let key = self.find(claim, false, usable_at).or_else(last_resort)?;
        let package = self.packages[&key].clone();
        if !package.last_resort {
            self.packages.remove(&key);
            self.spend(&claim.client, package.reference.clone(), package.not_after);
        }
        self.issue(claim, &package);
        Some(ClaimedMimiKeyPackage {
            reference: package.reference,
            body: package.body,
            last_resort: package.last_resort,
        })
    }

    fn issue(&mut self, claim: &MimiKeyPackageClaim, package: &MimiKeyPackage) {
        let issued = self.issued.entry(claim.client.clone()).or_default();
        let is_same = |known: &Issued| known.reference == package.reference && known.for_use == claim.for_use;
        issued.retain(|known| !is_same(known));
        issued.push(Issued {
            reference: package.reference.clone(),
            for_use: claim.for_use.clone(),
            not_after: package.not_after,
        });
        // What is for one hub pushes out nothing that is for another.
        let is_of_hub = |known: &Issued| known.for_use.hub == claim.for_use.hub;
        let of_hub = issued.iter().filter(|known| is_of_hub(known)).count();
        let mut beyond = of_hub.saturating_sub(rules::MAX_SPENT_KEY_PACKAGES);
        issued.retain(|known| {
            let goes = beyond > 0 && is_of_hub(known);
            beyond -= usize::from(goes);
            !goes
        });
    }

    fn find(&self, claim: &MimiKeyPackageClaim, last_resort: bool, usable_at: UnixMillis) -> Option<(MimiUri, u64)> {
        let keys = self.packages_of(&claim.client);
        claim.kinds.iter().find_map(|(suite, capabilities)| {
            let fitting = keys.iter().filter(|key| {
                let package = &self.packages[*key];
                package.suite == *suite
                    && package.capabilities == *capabilities
                    && package.last_resort == last_resort
                    && package.not_after > usable_at
            });
            fitting
                .min_by_key(|key| (self.packages[*key].not_after, key.1))
                .cloned()
        })
    }
}

fn fitting<'a>(found: impl Iterator<Item = &'a LocalMessage>, limit: usize, max_bytes: usize) -> Vec<LocalMessage> {
    let mut bytes = 0;
    let fitting = found.take(limit).take_while(|message| {
        let is_first = bytes == 0;
        bytes += message.body.len();
        is_first || bytes <= max_bytes
    });
    fitting.cloned().collect()
}

#[async_trait]
impl MimiUserStore for MemoryStore {
    async fn local_room(&self, room: &MimiUri) -> Result<Option<LocalRoom>, StoreError> {
        Ok(self.tables().mimi_users.rooms.get(room).cloned())
    }

    async fn was_delivered(&self, hub: &ServerName, room: &MimiUri, once: &[u8; 32]) -> Result<bool, StoreError> {
        let key = (room.clone(), hub.clone(), *once);
        Ok(self.tables().mimi_users.delivered.contains_key(&key))
    }

    async fn local_messages(
        &self,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        let tables = self.tables();
        let range = (room.clone(), after.next())..=(room.clone(), LogPosition(i64::MAX));
        let found = tables.mimi_users.messages.range(range).map(|(_, message)| message);
        Ok(fitting(found, limit, max_bytes))
    }

    async fn messages_readable_by(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        let tables = self.tables();
        let tables = &tables.mimi_users;
        let range = (room.clone(), after.next())..=(room.clone(), LogPosition(i64::MAX));
        let stretches: Vec<_> = tables.stretches(user, room).collect();
        let is_theirs = |position: LogPosition| {
            let withheld = (room.clone(), position, user.clone());
            let mut stretches = stretches.iter();
            stretches.any(|(from, until)| *from <= position && until.is_none_or(|until| position <= until))
                && !tables.withheld.contains_key(&withheld)
        };
        let found = tables.messages.range(range).map(|(_, message)| message);
        let theirs = found.filter(|message| is_theirs(message.position));
        Ok(fitting(theirs, limit, max_bytes))
    }

    async fn rooms_readable_by(&self, user: &MimiUri) -> Result<Vec<ReadableRoom>, StoreError> {
        let tables = self.tables();
        let tables = &tables.mimi_users;
        let theirs = tables.readers.keys().filter(|(reader, _, _)| reader == user);
        let rooms: BTreeSet<_> = theirs.map(|(_, room, _)| room).collect();
        let mut rooms: Vec<_> = rooms.iter().filter_map(|room| tables.readable(user, room)).collect();
        rooms.sort_by_key(|readable| readable.room.room.to_string());
        Ok(rooms)
    }

    async fn readable_room(&self, user: &MimiUri, room: &MimiUri) -> Result<Option<ReadableRoom>, StoreError> {
        Ok(self.tables().mimi_users.readable(user, room))
    }

    async fn shown_join_code(
        &self,
        room: &MimiUri,
        user: &MimiUri,
        signature_key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<ShownJoinCode>, StoreError> {
        let key = (room.clone(), user.clone(), Bytes::copy_from_slice(signature_key));
        let tables = self.tables();
        let shown = tables.mimi_users.codes.get(&key);
        Ok(shown.filter(|shown| shown.expires_at > now).cloned())
    }

    async fn add_mimi_key_packages(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        packages: &[MimiKeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        let mut tables = self.tables();
        let tables = &mut tables.mimi_users;
        tables.clients.entry(client.clone()).or_insert_with(|| user.clone());
        for key in tables.packages_of(client) {
            if tables.packages[&key].not_after <= now {
                tables.packages.remove(&key);
            }
        }
        Ok(packages.iter().map(|package| tables.add(client, package)).collect())
    }

    async fn mimi_clients(&self, user: &MimiUri) -> Result<Vec<MimiUri>, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let of_user = tables.mimi_users.clients.iter().filter(|(_, of)| *of == user);
        let mut clients: Vec<_> = of_user.map(|(client, _)| client.clone()).collect();
        clients.sort_by_key(MimiUri::to_string);
        Ok(clients)
    }

    async fn mimi_key_package_offers(
        &self,
        user: &MimiUri,
        usable_at: UnixMillis,
    ) -> Result<Vec<MimiKeyPackageOffer>, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let tables = &tables.mimi_users;
        let mut offers: BTreeMap<(String, u16, Bytes), MimiKeyPackageOffer> = BTreeMap::new();
        for ((client, _), package) in &tables.packages {
            if tables.clients.get(client) != Some(user) || package.not_after <= usable_at {
                continue;
            }
            let key = (client.to_string(), package.suite, package.capabilities.clone());
            let offer = offers.entry(key).or_insert_with(|| MimiKeyPackageOffer {
                client: client.clone(),
                suite: package.suite,
                capabilities: package.capabilities.clone(),
                left: 0,
                has_last_resort: false,
            });
            offer.left += u64::from(!package.last_resort);
            offer.has_last_resort |= package.last_resort;
        }
        Ok(offers.into_values().collect())
    }

    async fn claim_mimi_key_packages(
        &self,
        claims: &[MimiKeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, StoreError> {
        let mut tables = self.tables();
        let claims = claims.iter();
        Ok(claims.map(|claim| tables.mimi_users.claim(claim, usable_at)).collect())
    }

    async fn issued_key_packages(
        &self,
        references: &[Bytes],
        hub: &ServerName,
        room: &MimiUri,
    ) -> Result<Vec<IssuedKeyPackage>, StoreError> {
        self.count_lookups(references.len());
        let tables = self.tables();
        let tables = &tables.mimi_users;
        let wanted: BTreeSet<&Bytes> = references.iter().collect();
        let mut found = BTreeMap::new();
        for (client, issued) in &tables.issued {
            let Some(user) = tables.clients.get(client) else {
                continue;
            };
            let fitting = issued.iter().filter(|issued| issued.is_for(hub, room));
            for issued in fitting.filter(|issued| wanted.contains(&issued.reference)) {
                let package = IssuedKeyPackage {
                    reference: issued.reference.clone(),
                    user: user.clone(),
                    client: client.clone(),
                };
                found.insert(issued.reference.clone(), package);
            }
        }
        Ok(found.into_values().collect())
    }

    async fn profile(&self, user: &MimiUri) -> Result<Vec<ProfileEntry>, StoreError> {
        self.count_lookups(1);
        Ok(self.tables().mimi_users.profiles.get(user).cloned().unwrap_or_default())
    }

    async fn users_by_value(&self, value: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let has_it = |entry: &ProfileEntry| entry.searchable != Searchable::Never && entry.value == value;
        Ok(tables.mimi_users.users_with(has_it, limit))
    }

    async fn users_by_nick(&self, nick: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let has_it = |entry: &ProfileEntry| {
            entry.searchable != Searchable::Never && (entry.value == nick || entry.user_part() == Some(nick))
        };
        Ok(tables.mimi_users.users_with(has_it, limit))
    }

    async fn users_by_part(&self, part: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        self.count_lookups(1);
        let (tables, part) = (self.tables(), part.to_lowercase());
        let has_it =
            |entry: &ProfileEntry| entry.searchable == Searchable::InPart && entry.value.to_lowercase().contains(&part);
        Ok(tables.mimi_users.users_with(has_it, limit))
    }

    async fn consent(&self, scope: &ConsentScope) -> Result<ConsentState, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let of_both = tables.mimi_users.consents.values().map(|consent| &consent.kept);
        let of_both =
            of_both.filter(|kept| kept.scope.requester == scope.requester && kept.scope.target == scope.target);
        let mut state = ConsentState::default();
        for kept in of_both {
            let decision = kept.decision.map(|(decision, _)| decision);
            match &kept.scope.room {
                None => state.for_any = decision,
                room if *room == scope.room => state.for_room = decision,
                Some(_) => state.elsewhere |= decision == Some(ConsentDecision::Granted),
            }
        }
        Ok(state)
    }

    async fn consents_of(&self, user: &MimiUri, after: i64, limit: usize) -> Result<Vec<KeptConsent>, StoreError> {
        let tables = self.tables();
        let all = tables.mimi_users.consents.values().map(|consent| &consent.kept);
        let of_user = all.filter(|kept| kept.scope.requester == *user || kept.scope.target == *user);
        let mut of_user: Vec<_> = of_user.filter(|kept| kept.number > after).cloned().collect();
        of_user.sort_by_key(|kept| kept.number);
        of_user.truncate(limit);
        Ok(of_user)
    }

    async fn granted_key_packages(
        &self,
        scope: &ConsentScope,
        usable_at: UnixMillis,
    ) -> Result<Vec<GrantedKeyPackage>, StoreError> {
        self.count_lookups(1);
        let tables = self.tables();
        let granted = tables.mimi_users.granted.values();
        let usable = granted
            .filter(|granted| granted.scope == *scope && !granted.taken && granted.package.not_after > usable_at);
        let mut usable: Vec<_> = usable.collect();
        usable.sort_by_key(|granted| granted.number);
        Ok(usable.into_iter().map(|granted| granted.package.clone()).collect())
    }

    async fn take_granted_key_packages(&self, references: &[Bytes]) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let granted = &mut tables.mimi_users.granted;
        let are_there = references
            .iter()
            .all(|reference| granted.get(reference).is_some_and(|granted| !granted.taken));
        if are_there {
            for reference in references {
                granted
                    .entry(reference.clone())
                    .and_modify(|granted| granted.taken = true);
            }
        }
        Ok(are_there)
    }
}
