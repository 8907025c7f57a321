//! What is still to be done: intentions become requests, requests are sent, the hub's verdicts take effect (MIMI
//! #update-room-state).
//!
//! A request is kept before it is sent, with the secrets of its commit in the same transaction, and stays until its outcome is known: by
//! the hub's answer, by its echo in the room's log, or by somebody else's commit for the same epoch.

use std::collections::BTreeSet;
use std::time::Duration;

use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateResponseCode, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};

use super::change::{Plan, plan};
use super::client::MimiClient;
use super::error::MimiError;
use super::group;
use super::intent::MimiIntent;
use super::notice::MimiNotice;
use super::receive::Work;
use super::store::{
    KnownRoom, MimiStatus, OwnKeyPackage, Request, RequestKind, RequestState, StoredIntent, newest_pending, pending,
    tell,
};
use crate::provider::Provider;
use crate::transport::TransportError;

impl MimiClient {
    /// Does what is due.
    pub(super) async fn work(&mut self) -> Result<(), MimiError> {
        if std::mem::take(&mut self.check_stock) {
            self.stock_up().await?;
        }
        self.settle()?;
        self.start_tending()?;
        for intent in self.due_intents()? {
            self.make_request(&intent).await?;
        }
        self.flush().await
    }

    /// Sends what is kept: changes first, since messages wait for them.
    pub(super) async fn flush(&mut self) -> Result<(), MimiError> {
        for request in Request::all(self.store.read())? {
            if request.state == RequestState::Ready {
                self.send_request(request).await?;
            }
        }
        self.flush_messages().await
    }

    /// The first due intention of each room that has no request on its way.
    fn due_intents(&self) -> Result<Vec<StoredIntent>, MimiError> {
        let connection = self.store.read();
        let requests = Request::all(connection)?;
        let mut busy: BTreeSet<MimiUri> = requests.into_iter().map(|request| request.room).collect();
        let now = self.now();
        let intents = StoredIntent::all(connection)?.into_iter();
        Ok(intents
            .filter(|intent| intent.due <= now && busy.insert(intent.room.clone()))
            .collect())
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
        match self.try_request(intent).await {
            Ok(()) => Ok(()),
            // Nobody has decided anything: it stays as it is.
            Err(MimiError::Transport(error)) if is_temporary(&error) => {
                let later = self.now().plus(RETRY);
                self.store
                    .transaction(|connection| Ok(StoredIntent::postpone(connection, intent.id, later)?))
            }
            Err(error @ MimiError::Store(_)) => Err(error),
            Err(error) => self.in_transaction(|work, _| work.give_up(intent, error)),
        }
    }

    async fn try_request(&mut self, intent: &StoredIntent) -> Result<(), MimiError> {
        let room = self.room(&intent.room)?;
        if let MimiIntent::Join { role, code } = &intent.intent {
            return self.make_external_commit(&room, intent, *role, code.as_deref()).await;
        }
        if intent.intent == MimiIntent::Create {
            // Its request is kept with it, so it has come to its end.
            return self.in_transaction(|work, _| work.finish(intent.id, Ok(())));
        }
        match room.status {
            MimiStatus::Active => {}
            MimiStatus::Leaving if matches!(intent.intent, MimiIntent::Leave | MimiIntent::Tend) => {
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
                    let device = work.device;
                    let mut made =
                        group::propose(&provider, device, &mut group, self_remove, &remove, &updates)?.into_iter();
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

    async fn send_request(&mut self, request: Request) -> Result<(), MimiError> {
        let answer = match request.kind {
            RequestKind::Create => {
                let created = self
                    .transport
                    .create_room(&request.room, &request.message, &request.body)
                    .await;
                created.map(|()| UpdateVerdict::Success { accepted_timestamp: 0 })
            }
            _ => match self.transport.update(&request.room, &request.body).await {
                Ok(response) => {
                    let response = UpdateRoomResponse::from_bytes(&response)?;
                    let code = response.code();
                    match response.verdict {
                        verdict @ (UpdateVerdict::Success { .. } | UpdateVerdict::WrongEpoch { .. }) => Ok(verdict),
                        _ => {
                            let description = response.error_description.0;
                            return self.note(
                                request,
                                RequestState::Refused {
                                    code: code.0,
                                    description,
                                },
                            );
                        }
                    }
                }
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(UpdateVerdict::Success { .. }) => self.in_transaction(|work, _| work.accepted(&request)),
            Ok(_) => self.note(request, RequestState::Stale),
            Err(error) if is_temporary(&error) => Err(error.into()),
            Err(error) => self.in_transaction(|work, connection| {
                let intent = StoredIntent::load(connection, request.intent)?;
                work.drop_request(&request)?;
                match intent {
                    Some(intent) => work.give_up(&intent, error.into()),
                    None => Ok(()),
                }
            }),
        }
    }

    fn note(&mut self, mut request: Request, state: RequestState) -> Result<(), MimiError> {
        request.state = state;
        self.store.transaction(|connection| Ok(request.save(connection)?))
    }

    /// Requests that the hub has refused, now that what happened before the refusal has come in.
    fn settle(&mut self) -> Result<(), MimiError> {
        for request in Request::all(self.store.read())? {
            let has_more = newest_pending(self.store.read(), &request.room)? != request.seen;
            match &request.state {
                RequestState::Ready => {}
                // Somebody who is not in the group need not hear what came first.
                RequestState::Stale if request.kind == RequestKind::External => {
                    self.in_transaction(|work, _| work.lost(&request))?;
                }
                RequestState::Stale => {}
                RequestState::Refused { code, description } => {
                    let (code, description) = (UpdateResponseCode(*code), description.clone());
                    self.in_transaction(|work, connection| {
                        let intent = StoredIntent::load(connection, request.intent)?;
                        // A proposal that came first has to be in a commit; the hub has no code for that. Of what is pending a joiner
                        // knows what it was told, so it asks once more.
                        let attempts = intent.as_ref().map_or(u32::MAX, |intent| intent.attempts);
                        let may_be_late = match request.kind {
                            RequestKind::Commit => has_more,
                            RequestKind::External => attempts == 0,
                            RequestKind::Create | RequestKind::Proposals => false,
                        };
                        if may_be_late {
                            return work.lost(&request);
                        }
                        work.drop_request(&request)?;
                        match intent {
                            Some(intent) => work.give_up(&intent, MimiError::Refused { code, description }),
                            None => Ok(()),
                        }
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Makes key packages and uploads them, so that the provider has as many as it should.
    async fn stock_up(&mut self) -> Result<(), MimiError> {
        let client = self.device.client.clone();
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
                        OwnKeyPackage::delete(connection, &package.reference)?;
                        tell(connection, &MimiNotice::KeyPackageRefused { reason })?;
                    }
                }
            }
            Ok(())
        })
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
        let Some(mut room) = KnownRoom::load(self.connection, &request.room)? else {
            return Ok(());
        };
        match request.kind {
            RequestKind::Create => {
                room.status = MimiStatus::Active;
                room.first_epoch = Some(0);
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
                room.status = MimiStatus::Active;
                room.reason = None;
                room.first_epoch = Some(epoch);
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
                room.status = MimiStatus::None;
                room.group_id = None;
                Ok(room.save(self.connection)?)
            }
        }
    }

    /// An intention has come to its end.
    pub(super) fn finish(&mut self, intent: i64, outcome: Result<(), MimiError>) -> Result<(), MimiError> {
        StoredIntent::delete(self.connection, intent)?;
        self.finished.push((intent, outcome));
        Ok(())
    }

    /// An intention cannot be brought about.
    pub(super) fn give_up(&mut self, intent: &StoredIntent, error: MimiError) -> Result<(), MimiError> {
        let notice = MimiNotice::GaveUp {
            room: intent.room.to_string(),
            intent: intent.intent.clone(),
            reason: crate::error::sentence(&error),
        };
        tell(self.connection, &notice)?;
        self.finish(intent.id, Err(error))
    }

    /// Keeps an intention, unless it is kept already.
    pub(super) fn want(&mut self, room: &MimiUri, intent: &MimiIntent) -> Result<(), MimiError> {
        let kept = StoredIntent::all(self.connection)?;
        if !kept.iter().any(|kept| kept.room == *room && kept.intent == *intent) {
            StoredIntent::insert(self.connection, room, intent, self.now)?;
        }
        Ok(())
    }
}

/// Whether a request can be sent again as it is.
pub(super) fn is_temporary(error: &TransportError) -> bool {
    match error {
        TransportError::Unreachable(_) | TransportError::RateLimited { .. } => true,
        TransportError::Refused(refusal) => refusal.status >= 500,
        TransportError::NotUnderstood(_) => true,
    }
}

/// When an intention is tried again for which the provider had no answer.
const RETRY: Duration = Duration::from_secs(2);
