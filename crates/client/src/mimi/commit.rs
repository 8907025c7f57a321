//! What is still to be done: intentions become requests, requests are sent, the hub's verdicts take effect (MIMI
//! #update-room-state).
//!
//! A request is kept before it is sent, with the secrets of its commit in the same transaction, and stays until its outcome is known: by
//! the hub's answer, by its echo in the room's log, or by somebody else's commit for the same epoch.

use std::collections::BTreeSet;
use std::time::Duration;

use nabe_types::UnixMillis;
use nabe_wire::mls::{KeyPackage, LeafNodeSource};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateResponseCode, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};

use super::change::{Plan, plan};
use super::client::MimiClient;
use super::device::drop_private_key;
use super::error::MimiError;
use super::group;
use super::intent::MimiIntent;
use super::lines::{delay, is_temporary};
use super::notice::MimiNotice;
use super::pending::Pending;
use super::receive::Work;
use super::store::{
    Held, KnownRoom, MimiStatus, OwnKeyPackage, Request, RequestKind, RequestState, StoredIntent, newest_pending,
    pending, tell,
};
use crate::provider::Provider;
use crate::transport::TransportError;

impl MimiClient {
    /// Does what is due.
    pub(super) async fn work(&mut self) -> Result<(), MimiError> {
        self.advanced = false;
        // What becomes due from here on has not been looked at.
        let begun = self.now();
        self.expire()?;
        self.look_after_stock().await?;
        self.settle().await?;
        self.look_for_what_is_missing()?;
        self.start_tending()?;
        for intent in self.due_intents()? {
            self.make_request(&intent).await?;
        }
        self.make_reports()?;
        self.flush().await?;
        self.worked = (!self.advanced).then_some(begun);
        Ok(())
    }

    /// Sends what is kept: changes first, since messages wait for them. If the provider does not answer, the rest is left for the next
    /// time.
    pub(super) async fn flush(&mut self) -> Result<(), MimiError> {
        for request in Request::all(self.store.read())? {
            if request.state == RequestState::Ready && self.lines.is_open(&request.room, self.now()) {
                let room = request.room.clone();
                let sent = self.send_request(request).await;
                let is_silent = is_silence(&sent);
                let now = self.now();
                self.lines.heard(&room, sent, now)?;
                if is_silent {
                    return Ok(());
                }
            }
        }
        self.flush_messages().await
    }

    /// The first intention of each room that has no request on its way, if it is due. Nothing else can be done before a room is joined;
    /// and committing what is pending is nobody's turn.
    fn due_intents(&self) -> Result<Vec<StoredIntent>, MimiError> {
        let connection = self.store.read();
        let requests = Request::all(connection)?;
        let mut busy: BTreeSet<MimiUri> = requests.into_iter().map(|request| request.room).collect();
        let now = self.now();
        let mut intents = StoredIntent::all(connection)?;
        intents.sort_by_key(|intent| !matches!(intent.intent, MimiIntent::Join { .. }));
        intents.retain(|intent| {
            let is_due = intent.due <= now;
            match intent.intent {
                MimiIntent::Tend => is_due && busy.insert(intent.room.clone()),
                _ => busy.insert(intent.room.clone()) && is_due,
            }
        });
        Ok(intents)
    }

    /// Rooms that cannot be followed any more, since a commit that others have seen does not come.
    fn look_for_what_is_missing(&mut self) -> Result<(), MimiError> {
        let connection = self.store.read();
        let waiting = Held::rooms(connection)?;
        let reached = |room: &MimiUri| {
            let known = KnownRoom::load(connection, room).ok().flatten()?;
            known.epoch.filter(|_| known.status.is_in())
        };
        let ahead = self.lines.ahead(reached);
        let now = self.now();
        for (room, since) in waiting.into_iter().chain(ahead) {
            // What is missing may be our own: its answer says so, or what others made of the epoch.
            let own = Request::of_room(self.store.read(), &room)?;
            let may_be_own = own.is_some_and(|own| own.kind == RequestKind::Commit && own.state == RequestState::Ready);
            let bound = match may_be_own {
                true => self.settings.missing_after.saturating_mul(OWN_MAY_TAKE),
                false => self.settings.missing_after,
            };
            if since.plus(bound) > now {
                continue;
            }
            self.in_transaction(|work, connection| {
                match KnownRoom::load(connection, &room)?.filter(|known| known.status.is_in()) {
                    Some(known) => work.stuck(known, "a commit is missing".to_owned()),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// Rooms in which something is pending that others have left to us.
    fn start_tending(&mut self) -> Result<(), MimiError> {
        let now = self.now();
        let is_due = |room: &KnownRoom| room.tend_due.is_some_and(|due| due <= now);
        if !KnownRoom::all(self.store.read())?.iter().any(is_due) {
            return Ok(());
        }
        self.in_transaction(|work, connection| {
            for mut room in KnownRoom::all(connection)?.into_iter().filter(is_due) {
                room.tend_due = None;
                room.save(connection)?;
                work.want(&room.room, &MimiIntent::Tend)?;
            }
            Ok(())
        })
    }

    /// Makes an intention into a request, kept and not sent yet; or ends it.
    async fn make_request(&mut self, intent: &StoredIntent) -> Result<(), MimiError> {
        let tried = self.try_request(intent).await;
        if !matches!(&tried, Err(MimiError::Transport(error)) if is_temporary(error)) {
            self.lines.answered(intent.id);
        }
        match tried {
            Ok(()) => Ok(()),
            // Nobody has decided anything: it stays as it is.
            Err(MimiError::Transport(error)) if is_temporary(&error) => {
                let now = self.now();
                let later = self.lines.put_off(intent.id, &error, now);
                self.store
                    .transaction(|connection| Ok(StoredIntent::postpone(connection, intent.id, later)?))
            }
            Err(error @ MimiError::Store(_)) => Err(error),
            // It is no verdict of the hub, and what waits in the room waits for this.
            Err(MimiError::Transport(_) | MimiError::Answer(_)) if self.is_rejoining(intent)? => {
                let later = self.now().plus(REJOIN_RETRY);
                self.store
                    .transaction(|connection| Ok(StoredIntent::postpone(connection, intent.id, later)?))
            }
            // What is pending does not go together any more: something gave way to something else (D-supersede).
            Err(error @ MimiError::Mls { .. })
                if intent.attempts < self.settings.max_attempts
                    && !pending(self.store.read(), &intent.room)?.is_empty() =>
            {
                let asked = self.ask_what_is_pending(&intent.room).await;
                match asked {
                    Err(error @ MimiError::Store(_)) => Err(error),
                    Ok(Pending::Changed) => self
                        .store
                        .transaction(|connection| Ok(StoredIntent::count_attempt(connection, intent.id)?)),
                    _ => self.in_transaction(|work, _| work.give_up(intent, error)),
                }
            }
            Err(error) => self.in_transaction(|work, _| work.give_up(intent, error)),
        }
    }

    /// Whether it is the way back of a client that could not follow.
    fn is_rejoining(&self, intent: &StoredIntent) -> Result<bool, MimiError> {
        let known = KnownRoom::load(self.store.read(), &intent.room)?;
        let is_stuck = known.is_some_and(|known| known.status == MimiStatus::Stuck);
        Ok(is_stuck && matches!(intent.intent, MimiIntent::Join { .. }))
    }

    async fn try_request(&mut self, intent: &StoredIntent) -> Result<(), MimiError> {
        let room = self.room(&intent.room)?;
        if intent.intent == MimiIntent::Tend && room.status != MimiStatus::Active {
            return self.in_transaction(|work, _| work.finish(intent.id, Ok(())));
        }
        if let MimiIntent::Join { role, code } = &intent.intent {
            return self.make_external_commit(&room, intent, *role, code.as_deref()).await;
        }
        if intent.intent == MimiIntent::Create {
            // Its request is kept with it, so it has come to its end.
            return self.in_transaction(|work, _| work.finish(intent.id, Ok(())));
        }
        match room.status {
            MimiStatus::Active => {}
            MimiStatus::Leaving if matches!(intent.intent, MimiIntent::Leave { .. }) => {
                return self.in_transaction(|work, _| work.finish(intent.id, Ok(())));
            }
            MimiStatus::Leaving => return Err(MimiError::Leaving(room.room)),
            _ => return Err(MimiError::NotInGroup(room.room)),
        }
        let group = self
            .load(&room)?
            .ok_or_else(|| MimiError::NotInGroup(room.room.clone()))?;
        self.fetch_material(intent, &group).await?;
        let full = self.settings.full_group_info;
        self.in_transaction(|work, connection| {
            let provider = Provider::new(connection);
            let mut group = work.group(&room)?;
            let epoch = group.epoch().as_u64();
            let waiting = pending(connection, &room.room)?;
            if waiting.len() > 1 {
                group::queue(&provider, &mut group, &waiting)?;
            }
            let seen = newest_pending(connection, &room.room)?;
            let keep = |kind, clears_the_way, message: Vec<u8>, body: Vec<u8>| {
                let request = Request {
                    room: room.room.clone(),
                    intent: intent.id,
                    kind,
                    epoch,
                    message,
                    body,
                    seen,
                    clears_the_way,
                    state: RequestState::Ready,
                };
                request.save(connection)
            };
            let planned = plan(connection, work.device, intent, &group)?;
            let (change, left_out, clears_the_way) = match planned {
                Plan::Nothing => return work.finish(intent.id, Ok(())),
                Plan::Propose {
                    self_remove,
                    remove,
                    updates,
                } => {
                    let own = self_remove.then(|| work.self_remove(&room.room, &mut group));
                    let others = group::propose(&provider, work.device, &mut group, &remove, &updates)?;
                    let mut made = own.transpose()?.into_iter().chain(others);
                    let Some(first) = made.next() else {
                        return work.finish(intent.id, Ok(()));
                    };
                    // Making them has emptied the queue.
                    group::queue(&provider, &mut group, &waiting)?;
                    let message = first.as_bytes().to_vec();
                    let bundle = HandshakeBundle {
                        proposal_or_commit: first,
                        with: HandshakeParts::Proposal {
                            more_proposals: made.collect(),
                        },
                    };
                    return Ok(keep(RequestKind::Proposals, false, message, bundle.to_bytes())?);
                }
                Plan::PendingFirst => (group::Change::default(), Vec::new(), true),
                Plan::Commit { change, left_out } => (change, left_out, false),
            };
            if intent.attempts == 0 {
                for (client, reason) in left_out {
                    let room = room.room.to_string();
                    tell(connection, &MimiNotice::CannotAdd { room, client, reason })?;
                }
            }
            let made = group::commit(&provider, work.device, &mut group, change, full)?;
            Ok(keep(RequestKind::Commit, clears_the_way, made.message, made.request)?)
        })
    }

    /// Sends a request and takes its verdict in. An error says that there is none yet.
    async fn send_request(&mut self, request: Request) -> Result<(), MimiError> {
        let again = self.lines.sending(&request.body);
        let answer = match request.kind {
            RequestKind::Create => {
                let created = self
                    .transport
                    .create_room(&request.room, &request.message, &request.body)
                    .await;
                created.map(|()| None)
            }
            _ => self.transport.update(&request.room, &request.body).await.map(Some),
        };
        let verdict = match answer {
            Ok(None) => UpdateVerdict::Success { accepted_timestamp: 0 },
            Ok(Some(answer)) => match UpdateRoomResponse::from_bytes(&answer) {
                Ok(response) => match response.code() {
                    UpdateResponseCode::SUCCESS | UpdateResponseCode::WRONG_EPOCH => response.verdict,
                    code => {
                        let description = response.error_description.0;
                        return self.note(
                            request,
                            RequestState::Refused {
                                code: code.0,
                                description,
                            },
                        );
                    }
                },
                Err(error) => {
                    let not_understood = TransportError::NotUnderstood(Box::new(error));
                    return Err(not_understood.into());
                }
            },
            Err(error) if self.lines.keeps(&request.room, &error, again, self.now()) => return Err(error.into()),
            Err(error) => return self.end_request(&request, error.into()),
        };
        self.lines.done(&request.body);
        match verdict {
            UpdateVerdict::WrongEpoch { current_epoch } if request.kind != RequestKind::External => {
                let ours = request.epoch;
                if current_epoch <= ours {
                    let theirs = current_epoch;
                    return self.end_request(&request, MimiError::HubBehind { theirs, ours });
                }
                let now = self.now();
                self.lines.is_ahead(&request.room, current_epoch, now);
                self.note(request, RequestState::Stale)
            }
            UpdateVerdict::WrongEpoch { .. } => self.note(request, RequestState::Stale),
            _ => self.in_transaction(|work, _| work.accepted(&request)),
        }
    }

    /// Nothing comes of a request, and so nothing of its intention.
    fn end_request(&mut self, request: &Request, error: MimiError) -> Result<(), MimiError> {
        self.lines.done(&request.body);
        self.in_transaction(|work, connection| {
            let intent = StoredIntent::load(connection, request.intent)?;
            work.drop_request(request)?;
            match intent {
                Some(intent) => work.give_up(&intent, error),
                None => Ok(()),
            }
        })
    }

    fn note(&mut self, mut request: Request, state: RequestState) -> Result<(), MimiError> {
        request.state = state;
        self.advanced = true;
        self.store.transaction(|connection| Ok(request.save(connection)?))
    }

    /// Requests that the hub has refused, now that what happened before the refusal has come in.
    async fn settle(&mut self) -> Result<(), MimiError> {
        for request in Request::all(self.store.read())? {
            match &request.state {
                RequestState::Ready => {}
                // Somebody who is not in the group need not hear what came first.
                RequestState::Stale if request.kind == RequestKind::External => {
                    self.in_transaction(|work, _| work.lost(&request))?;
                }
                RequestState::Stale => {}
                RequestState::Refused { code, description } => {
                    let (code, description) = (UpdateResponseCode(*code), description.clone());
                    if self.is_made_again(&request).await? {
                        self.lines.asked(&request.room);
                        self.in_transaction(|work, _| work.lost(&request))?;
                    } else if !self.is_in_doubt(&request)? {
                        self.lines.asked(&request.room);
                        self.end_request(&request, MimiError::Refused { code, description })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a request that was refused could be accepted when it is made again. A proposal that came first has to be in a commit, and
    /// one that gave way to another cannot be: the hub has no code for either, so it is asked what is pending.
    async fn is_made_again(&mut self, request: &Request) -> Result<bool, MimiError> {
        match request.kind {
            RequestKind::Create | RequestKind::Proposals => return Ok(false),
            // Of what is pending a joiner knows what it was told, so it asks once more.
            RequestKind::External => {
                let intent = StoredIntent::load(self.store.read(), request.intent)?;
                return Ok(intent.is_some_and(|intent| intent.attempts == 0));
            }
            RequestKind::Commit => {}
        }
        if newest_pending(self.store.read(), &request.room)? != request.seen {
            return Ok(true);
        }
        let now = self.now();
        if !self.lines.is_open(&request.room, now) {
            return Ok(false);
        }
        self.lines.asking(&request.room, now);
        let asked = self.ask_what_is_pending(&request.room).await;
        let now = self.now();
        let is_refused = matches!(asked, Err(MimiError::NotAuthorized(_)));
        match self.lines.heard(&request.room, asked, now)? {
            Some(Pending::Changed) => Ok(true),
            Some(Pending::Same) => {
                self.lines.asked(&request.room);
                Ok(false)
            }
            Some(Pending::Later(epoch)) => {
                self.lines.asked(&request.room);
                self.lines.is_ahead(&request.room, epoch, now);
                self.note(request.clone(), RequestState::Stale)?;
                Ok(false)
            }
            None if is_refused => {
                // Nothing is wrong with the line.
                self.lines.reopen(&request.room);
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Whether a refused request may yet have to be made again.
    fn is_in_doubt(&mut self, request: &Request) -> Result<bool, MimiError> {
        let now = self.now();
        let kept = Request::of_room(self.store.read(), &request.room)?;
        let is_stale = kept.is_none_or(|kept| kept.state == RequestState::Stale);
        let since = self.lines.asked_since(&request.room);
        Ok(is_stale || since.is_some_and(|since| now < since.plus(DOUBT)))
    }

    /// Sees to it every few hours, and when one was used, that the provider has as many key packages as it should. What fails is tried
    /// again, and stops nothing else.
    async fn look_after_stock(&mut self) -> Result<(), MimiError> {
        if self.now() < self.stock_due {
            return Ok(());
        }
        let stocked = self.stock_up().await;
        let now = self.now();
        match stocked {
            Ok(()) => {
                self.stock_failures = 0;
                self.stock_due = now.plus(STOCK_CHECKED);
                Ok(())
            }
            Err(error @ MimiError::Store(_)) => Err(error),
            Err(_) => {
                self.stock_due = now.plus(delay(self.stock_failures));
                self.stock_failures += 1;
                Ok(())
            }
        }
    }

    /// Makes key packages and uploads them, so that the provider has as many as it should.
    async fn stock_up(&mut self) -> Result<(), MimiError> {
        let client = self.device.client.clone();
        let now = self.now();
        self.store.transaction(|connection| {
            for package in OwnKeyPackage::all(connection)? {
                if expires(&package).is_none_or(|expires| expires.plus(EXPIRED_KEPT) < now) {
                    drop_private_key(connection, &package.reference)?;
                    OwnKeyPackage::delete(connection, &package.reference)?;
                }
            }
            Ok::<_, MimiError>(())
        })?;
        for suite in self.device.suites().to_vec() {
            let id = nabe_wire::mls::CipherSuite(suite.id());
            let waiting = OwnKeyPackage::waiting(self.store.read())?;
            let waiting = waiting.iter().filter(|package| package.suite == suite).count() as u64;
            let left = self.transport.key_packages_left(&client, id).await?;
            let missing = self.settings.key_package_stock.saturating_sub(left + waiting);
            if missing > 0 {
                self.in_transaction(|work, connection| work.device.make_key_packages(connection, suite, missing))?;
            }
        }
        let waiting = OwnKeyPackage::waiting(self.store.read())?;
        if waiting.is_empty() {
            return Ok(());
        }
        let bodies: Vec<_> = waiting.iter().map(|package| package.body.clone().into()).collect();
        let answers = self.transport.upload_key_packages(&client, &bodies).await?;
        self.store.transaction(|connection| {
            for (package, answer) in waiting.iter().zip(answers) {
                match answer {
                    Ok(()) => OwnKeyPackage::uploaded(connection, &package.reference)?,
                    Err(reason) => {
                        drop_private_key(connection, &package.reference)?;
                        OwnKeyPackage::delete(connection, &package.reference)?;
                        tell(connection, &MimiNotice::KeyPackageRefused { reason })?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Whether the user's own provider did not answer.
pub(super) const fn is_silence<T>(outcome: &Result<T, MimiError>) -> bool {
    matches!(outcome, Err(MimiError::Transport(TransportError::Unreachable(_))))
}

/// When a key package of ours expires.
fn expires(package: &OwnKeyPackage) -> Option<UnixMillis> {
    match KeyPackage::from_bytes(&package.body).ok()?.leaf_node.source {
        LeafNodeSource::KeyPackage(lifetime) => Some(UnixMillis(lifetime.not_after.saturating_mul(1_000))),
        _ => None,
    }
}

impl Work<'_> {
    /// The hub has taken a request, by its own word or as its log shows.
    pub(super) fn accepted(&mut self, request: &Request) -> Result<(), MimiError> {
        // The answer and the echo both say so.
        let kept = Request::of_room(self.connection, &request.room)?;
        if kept.is_none_or(|kept| kept.message != request.message) {
            return Ok(());
        }
        request.delete(self.connection)?;
        self.advanced = true;
        let Some(mut room) = KnownRoom::load(self.connection, &request.room)? else {
            return Ok(());
        };
        match request.kind {
            RequestKind::Create => {
                self.note_framing(&self.group(&room)?, &room.room)?;
                room.status = MimiStatus::Active;
                room.first_epoch = Some(0);
                room.epoch = Some(0);
                room.save(self.connection)?;
            }
            RequestKind::Proposals => {
                room.status = MimiStatus::Leaving;
                room.tend_due = None;
                room.save(self.connection)?;
            }
            RequestKind::Commit => {
                let mut group = self.group(&room)?;
                let before = group::members(&group);
                group::merge_pending(&Provider::new(self.connection), &mut group)?;
                self.entered(&mut room, &group, &before, &self.device.client.to_string())?;
            }
            RequestKind::External => {
                let mut group = self.group(&room)?;
                group::merge_pending(&Provider::new(self.connection), &mut group)?;
                let epoch = group.epoch().as_u64();
                self.note_framing(&group, &room.room)?;
                room.status = MimiStatus::Active;
                room.reason = None;
                room.first_epoch = Some(epoch);
                room.epoch = Some(epoch);
                self.moved.insert(room.room.clone());
                super::store::forget_pending(self.connection, &room.room)?;
                room.save(self.connection)?;
                let joined = MimiNotice::Joined {
                    room: room.room.to_string(),
                    epoch,
                };
                tell(self.connection, &joined)?;
            }
        }
        // What had to be committed first was; the intention itself is still to come.
        match request.clears_the_way {
            true => Ok(()),
            false => self.finish(request.intent, Ok(())),
        }
    }

    /// Somebody else was first: the request is made again, on top of what came.
    pub(super) fn lost(&mut self, request: &Request) -> Result<(), MimiError> {
        self.drop_request(request)?;
        let Some(intent) = StoredIntent::load(self.connection, request.intent)? else {
            return Ok(());
        };
        let attempts = intent.attempts + 1;
        if attempts >= self.settings.max_attempts {
            return self.give_up(&intent, MimiError::LostTooOften { attempts });
        }
        StoredIntent::count_attempt(self.connection, intent.id)?;
        let notice = MimiNotice::LostRace {
            room: request.room.to_string(),
            intent: intent.intent,
            epoch: request.epoch,
        };
        Ok(tell(self.connection, &notice)?)
    }

    /// Forgets a request, and the secrets that were made with it.
    pub(super) fn drop_request(&mut self, request: &Request) -> Result<(), MimiError> {
        request.delete(self.connection)?;
        self.advanced = true;
        let Some(mut room) = KnownRoom::load(self.connection, &request.room)? else {
            return Ok(());
        };
        match request.kind {
            RequestKind::Proposals => Ok(()),
            RequestKind::Commit => {
                let mut group = self.group(&room)?;
                group::clear_pending(&Provider::new(self.connection), &mut group)
            }
            RequestKind::Create | RequestKind::External => {
                self.forget_group(&room)?;
                // Who could not follow before still cannot.
                room.status = match room.reason {
                    Some(_) => MimiStatus::Stuck,
                    None => MimiStatus::None,
                };
                room.group_id = None;
                room.epoch = None;
                self.moved.insert(room.room.clone());
                Ok(room.save(self.connection)?)
            }
        }
    }

    /// An intention has come to its end.
    pub(super) fn finish(&mut self, intent: i64, outcome: Result<(), MimiError>) -> Result<(), MimiError> {
        StoredIntent::delete(self.connection, intent)?;
        self.advanced = true;
        self.finished.push((intent, outcome));
        Ok(())
    }

    /// An intention cannot be brought about. What is pending has to be committed by somebody all the same: that is tried again, ever more
    /// seldom, as long as anything is, and the user is not bothered with it.
    pub(super) fn give_up(&mut self, intent: &StoredIntent, error: MimiError) -> Result<(), MimiError> {
        if intent.intent == MimiIntent::Tend {
            StoredIntent::count_attempt(self.connection, intent.id)?;
            StoredIntent::postpone(self.connection, intent.id, self.now.plus(delay(intent.attempts)))?;
            self.finished.push((intent.id, Err(error)));
            return Ok(());
        }
        let notice = MimiNotice::GaveUp {
            room: intent.room.to_string(),
            intent: intent.intent.clone(),
            reason: crate::error::sentence(&error),
        };
        tell(self.connection, &notice)?;
        let is_listed = !matches!(error, MimiError::NotInGroup(_));
        self.finish(intent.id, Err(error))?;
        if matches!(intent.intent, MimiIntent::Join { .. }) {
            // What waited for it waits for nothing.
            let known = KnownRoom::load(self.connection, &intent.room)?;
            if let Some(mut known) = known.filter(|known| known.status == MimiStatus::Stuck) {
                self.end(&intent.room)?;
                if !is_listed {
                    known.status = MimiStatus::Removed;
                    known.reason = None;
                    known.save(self.connection)?;
                }
            }
            self.moved.insert(intent.room.clone());
        }
        Ok(())
    }

    /// Keeps an intention, unless it is kept already.
    pub(super) fn want(&mut self, room: &MimiUri, intent: &MimiIntent) -> Result<(), MimiError> {
        self.want_from(room, intent, self.now)
    }

    /// The same, and not before `due`.
    pub(super) fn want_from(&mut self, room: &MimiUri, intent: &MimiIntent, due: UnixMillis) -> Result<(), MimiError> {
        let kept = StoredIntent::all(self.connection)?;
        if !kept.iter().any(|kept| kept.room == *room && kept.intent == *intent) {
            StoredIntent::insert(self.connection, room, intent, due)?;
            self.advanced = true;
        }
        Ok(())
    }
}

/// When joining anew is tried again, when there was an answer that is none of the hub's.
const REJOIN_RETRY: Duration = Duration::from_mins(1);
/// How long a refusal may be in doubt for which the hub does not say what it has pending.
pub(super) const DOUBT: Duration = Duration::from_secs(5);
/// How many times longer a commit may be missing that may be this client's own.
pub(super) const OWN_MAY_TAKE: u32 = 10;
/// How often the provider is asked how many key packages it has.
const STOCK_CHECKED: Duration = Duration::from_hours(6);
/// How long after their end the private halves of key packages are kept: a Welcome may still be on its way.
const EXPIRED_KEPT: Duration = Duration::from_hours(48);
