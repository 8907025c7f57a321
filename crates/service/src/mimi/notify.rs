//! `POST /notify/{roomId}` by the hub: what happens in a room goes to the providers of its clients (MIMI
//! #fanout-messages-and-room-events).
//!
//! One worker task per follower of a room that is owed something; it ends when nothing is left or the follower fails. A follower
//! that is down is one timer entry in memory, whatever it is owed: that stays in the store, as a cursor into the room's log.
//!
//! A worker freezes before it sends: which stretch of the log a request has is on record before its first byte leaves, so that the same
//! bytes are sent again until the follower answers 201, and only then the cursor moves on. One request to a follower of a room is in
//! flight; what has come together meanwhile goes with the next one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::{Between, MimiWrite, Notification, NotifyWork, Write};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::directory::Endpoint;
use tokio::sync::{Notify, Semaphore};

use super::Mimi;
use crate::deliver::delay;
use crate::deliver::schedule::Schedule;
use crate::error::ServiceError;
use crate::metric;
use crate::ports::PeerResponse;
use crate::ports::mimi::{MimiPeerError, MimiRequest};
use crate::settings::DeliverySettings;

/// A follower of a room.
type Follower = (ServerName, MimiUri);

/// Followers that are owed something since the worker last looked.
#[derive(Default)]
pub(crate) struct Woken {
    followers: Mutex<BTreeSet<Follower>>,
    wake: Notify,
}

impl Woken {
    async fn next(&self) -> BTreeSet<Follower> {
        loop {
            let woken = std::mem::take(&mut *self.followers.lock().unwrap_or_else(PoisonError::into_inner));
            if !woken.is_empty() {
                return woken;
            }
            self.wake.notified().await;
        }
    }
}

/// The workers. Clones share them.
#[derive(Clone)]
struct Notifier {
    mimi: Mimi,
    shared: Arc<Shared>,
}

struct Shared {
    schedule: Mutex<Schedule<Follower>>,
    /// The earliest deadline may have changed.
    rescheduled: Notify,
    /// A worker ended.
    ended: Notify,
    /// Bounds how many request bodies are in memory at once.
    slots: Semaphore,
    /// The same for followers whose last attempt failed, so that those which let every request time out leave the others their slots.
    failing_slots: Semaphore,
}

/// How one attempt ended.
enum Attempt {
    /// The follower has it. Whether there was more for it already.
    Delivered { more: bool },
    /// Nothing is owed.
    Idle,
    /// Try again at this time; `insisted` when the follower named it.
    Later { at: UnixMillis, insisted: bool },
    /// The operator's lists exclude the follower.
    Denied,
    /// The server is shutting down.
    Stopped,
}

/// A request that is on record.
struct Prepared {
    notification: Notification,
    body: Bytes,
    messages: u64,
}

/// Why a request did not get through.
enum Failure {
    /// No answer.
    Peer(MimiPeerError),
    /// An answer that is not 201.
    Status(PeerResponse),
}

impl Mimi {
    /// There is something for these followers of a room. Call it after the commit.
    pub(super) fn wake_notify(&self, room: &MimiUri, followers: BTreeSet<ServerName>) {
        if followers.is_empty() {
            return;
        }
        let woken = &self.state.woken;
        let followers = followers.into_iter().map(|follower| (follower, room.clone()));
        woken
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(followers);
        woken.wake.notify_one();
    }

    /// The worker: takes up what the store says is owed, then whatever it is woken for, until the shutdown. Requests under way at the
    /// shutdown are given up; they are on record and will be repeated.
    pub(crate) async fn notify_followers(self) {
        let notifier = Notifier::new(self.clone());
        tokio::select! {
            biased;
            () = self.service.stopping() => {}
            () = notifier.run() => {}
        }
        notifier.drain().await;
    }
}

impl Notifier {
    fn new(mimi: Mimi) -> Self {
        let concurrency = mimi.service.settings().delivery.concurrency.max(1);
        Self {
            mimi,
            shared: Arc::new(Shared {
                schedule: Mutex::default(),
                rescheduled: Notify::new(),
                ended: Notify::new(),
                slots: Semaphore::new(concurrency),
                failing_slots: Semaphore::new(FAILING_SLOTS),
            }),
        }
    }

    async fn run(&self) {
        self.take_up_stored_work().await;
        let clock = self.mimi.service.clock();
        loop {
            let now = self.mimi.service.now();
            let (due, next) = {
                let mut schedule = self.schedule();
                (schedule.take_due(now), schedule.next_due())
            };
            for follower in due {
                self.spawn(follower);
            }
            let alarm = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = alarm => {}
                () = self.shared.rescheduled.notified() => {}
                woken = self.mimi.state.woken.next() => woken.into_iter().for_each(|follower| self.wake(follower)),
            }
        }
    }

    async fn take_up_stored_work(&self) {
        let all = loop {
            match self.mimi.service.store().notify_work(FOREVER, usize::MAX).await {
                Ok(all) => break all,
                Err(error) => tracing::error!(%error, "what followers are owed cannot be read"),
            }
            self.mimi.service.clock().sleep(STORE_PAUSE).await;
        };
        let now = self.mimi.service.now();
        for work in all {
            let follower = (work.follower.provider, work.follower.room);
            if work.next_attempt > now {
                self.schedule().sleep(&follower, work.next_attempt, now, false);
            } else {
                self.wake(follower);
            }
        }
    }

    /// Waits until every worker has ended; none is started any more.
    async fn drain(&self) {
        self.schedule().stop();
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.schedule().is_quiet() {
                return;
            }
            ended.await;
        }
    }

    /// There is something new for a follower. One that is backing off is not disturbed.
    fn wake(&self, follower: Follower) {
        if self.schedule().wake(&follower) {
            self.spawn(follower);
        }
    }

    fn spawn(&self, follower: Follower) {
        tokio::spawn(self.clone().work(follower));
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule<Follower>> {
        self.shared.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker of one follower of one room.
    async fn work(self, follower: Follower) {
        let (provider, room) = &follower;
        // Whether the last request got through: then none is on record, since nobody but this worker puts one there.
        let mut delivered = false;
        loop {
            let begun = self.mimi.service.now();
            let attempt = match self.attempt(provider, room, delivered).await {
                Ok(attempt) => attempt,
                Err(ServiceError::ShuttingDown) => Attempt::Stopped,
                Err(error) => {
                    tracing::error!(%provider, %room, %error, "notifying cannot use the database");
                    let at = self.mimi.service.now().plus(STORE_PAUSE);
                    Attempt::Later { at, insisted: true }
                }
            };
            delivered = matches!(attempt, Attempt::Delivered { .. }) || (delivered && matches!(attempt, Attempt::Idle));
            match attempt {
                Attempt::Delivered { more: true } => continue,
                Attempt::Delivered { more: false } => {
                    self.gather(begun).await;
                    continue;
                }
                Attempt::Idle => {
                    if self.schedule().finish(&follower) {
                        continue;
                    }
                }
                Attempt::Later { at, insisted } => {
                    let now = self.mimi.service.now();
                    self.schedule().sleep(&follower, at, now, insisted);
                    self.shared.rescheduled.notify_one();
                }
                Attempt::Denied => {
                    let mut schedule = self.schedule();
                    schedule.end(&follower);
                    if schedule.deny(&follower) {
                        tracing::warn!(%provider, %room, "policy excludes a follower; what it is owed is kept");
                    }
                }
                Attempt::Stopped => self.schedule().end(&follower),
            }
            self.report_load();
            self.shared.ended.notify_waiters();
            return;
        }
    }

    async fn attempt(&self, provider: &ServerName, room: &MimiUri, delivered: bool) -> Result<Attempt, ServiceError> {
        let service = &self.mimi.service;
        if service.check_policy(provider).is_err() {
            return Ok(Attempt::Denied);
        }
        let stop = service.stopping();
        tokio::pin!(stop);
        let Some(work) = service.store().notify_work_of(room, provider).await? else {
            return Ok(Attempt::Idle);
        };
        if work.next_attempt > service.now() {
            let at = work.next_attempt;
            return Ok(Attempt::Later { at, insisted: false });
        }
        let timeout = service.settings().delivery.request_timeout;
        let (slots, timeout) = if work.failures == 0 {
            (&self.shared.slots, timeout)
        } else {
            (&self.shared.failing_slots, timeout.min(FAILING_TIMEOUT))
        };
        let _slot = tokio::select! {
            biased;
            () = &mut stop => return Ok(Attempt::Stopped),
            slot = slots.acquire() => slot,
        };
        let frozen = match delivered {
            true => None,
            false => service.store().notification(room, provider).await?,
        };
        let prepared = match frozen {
            Some(frozen) => match self.rebuild(frozen).await? {
                Some(prepared) => prepared,
                None => {
                    tracing::error!(%provider, %room, "a notification on record cannot be repeated byte for byte");
                    let at = service.now().plus(BACKOFF_MAX);
                    return Ok(Attempt::Later { at, insisted: true });
                }
            },
            None => match self.freeze(&work).await? {
                Some(prepared) => prepared,
                None => return Ok(Attempt::Idle),
            },
        };
        let request = MimiRequest {
            endpoint: Endpoint::Notify,
            target: room.to_string(),
            body: prepared.body.clone(),
            timeout,
            max_response_bytes: MAX_ANSWER,
        };
        let answer = tokio::select! {
            biased;
            () = &mut stop => return Ok(Attempt::Stopped),
            answer = self.mimi.state.peers.call(provider, request) => answer,
        };
        match judge(answer) {
            Ok(()) => self.confirm(&prepared).await.map(|()| Attempt::Delivered {
                more: prepared.notification.through < work.owed,
            }),
            Err(failure) => self.back_off(&prepared, work.failures, &failure).await,
        }
    }

    /// Waits before the next request to a follower that has all there was when the last one began: what comes meanwhile goes together.
    /// Whoever has heard nothing for so long hears at once.
    async fn gather(&self, begun: UnixMillis) {
        let time = self.mimi.settings().gather;
        if !time.is_zero() {
            tokio::select! {
                biased;
                () = self.mimi.service.stopping() => {}
                () = self.mimi.service.clock().sleep_until(begun.plus(time)) => {}
            }
        }
    }

    /// The request on record, put together again; `None` if that does not give the same bytes.
    async fn rebuild(&self, notification: Notification) -> Result<Option<Prepared>, ServiceError> {
        let (mut bodies, mut after) = (Vec::new(), notification.after);
        while after < notification.through {
            let between = Between {
                after,
                through: notification.through,
            };
            let Some((some, through)) = self.read(&notification.room, &notification.provider, between).await? else {
                break;
            };
            bodies.extend(some);
            after = through;
        }
        let messages = bodies.len() as u64;
        let body = concatenated(bodies);
        let is_same = sha256(&body) == notification.body_sha256;
        Ok(is_same.then_some(Prepared {
            notification,
            body,
            messages,
        }))
    }

    /// Puts the next request on record. What is not for the follower is passed over; `None` if that is all.
    async fn freeze(&self, work: &NotifyWork) -> Result<Option<Prepared>, ServiceError> {
        let follower = &work.follower;
        let mut after = follower.delivered;
        while after < work.owed {
            let between = Between {
                after,
                through: work.owed,
            };
            let Some((bodies, through)) = self.read(&follower.room, &follower.provider, between).await? else {
                break;
            };
            if bodies.is_empty() {
                self.commit(MimiWrite::Skip {
                    room: follower.room.clone(),
                    provider: follower.provider.clone(),
                    interval_from: follower.from,
                    through,
                })
                .await?;
                after = through;
                continue;
            }
            let messages = bodies.len() as u64;
            let body = concatenated(bodies);
            let notification = Notification {
                room: follower.room.clone(),
                provider: follower.provider.clone(),
                interval_from: follower.from,
                after,
                through,
                body_sha256: sha256(&body),
                frozen_at: self.mimi.service.now(),
            };
            self.commit(MimiWrite::Freeze {
                notification: notification.clone(),
            })
            .await?;
            return Ok(Some(Prepared {
                notification,
                body,
                messages,
            }));
        }
        Ok(None)
    }

    /// What is for a follower of the next entries, as many as go into one request, and the position of the last of those; `None` if
    /// there are none.
    async fn read(
        &self,
        room: &MimiUri,
        provider: &ServerName,
        between: Between,
    ) -> Result<Option<(Vec<Bytes>, LogPosition)>, ServiceError> {
        let recent = &self.mimi.state.recent;
        let entries = match recent.entries(room, between, BATCH_ENTRIES, BATCH_BYTES) {
            Some(entries) => entries,
            None => {
                let store = self.mimi.service.store();
                store.mimi_entries(room, between, BATCH_ENTRIES, BATCH_BYTES).await?
            }
        };
        let last = entries.last().map(|entry| entry.position);
        let theirs = entries.into_iter().filter(|entry| entry.is_for(provider));
        Ok(last.map(|last| (theirs.map(|entry| entry.body).collect(), last)))
    }

    async fn confirm(&self, prepared: &Prepared) -> Result<(), ServiceError> {
        let notification = &prepared.notification;
        self.commit(MimiWrite::Confirm {
            room: notification.room.clone(),
            provider: notification.provider.clone(),
            body_sha256: notification.body_sha256,
        })
        .await?;
        metrics::counter!(metric::MIMI_NOTIFY_REQUESTS, "result" => "delivered").increment(1);
        metrics::counter!(metric::MIMI_NOTIFIED).increment(prepared.messages);
        Ok(())
    }

    /// Records the failure and when to try again.
    async fn back_off(&self, prepared: &Prepared, failures: u32, failure: &Failure) -> Result<Attempt, ServiceError> {
        let (provider, room) = (&prepared.notification.provider, &prepared.notification.room);
        let service = &self.mimi.service;
        let failures = failures.saturating_add(1);
        let settings = DeliverySettings {
            backoff_max: service.settings().delivery.backoff_max.min(BACKOFF_MAX),
            ..service.settings().delivery.clone()
        };
        let delay = delay(&settings, failures, u32::from_le_bytes(service.random()));
        let insisted = failure.retry_after();
        tracing::info!(%provider, %room, failures, error = failure.describe(), "a follower could not be notified");
        let at = service.now().plus(insisted.map_or(delay, |wait| wait.max(delay)));
        self.commit(MimiWrite::Backoff {
            room: room.clone(),
            provider: provider.clone(),
            failures,
            next_attempt: at,
            last_error: failure.describe(),
        })
        .await?;
        metrics::counter!(metric::MIMI_NOTIFY_REQUESTS, "result" => failure.label()).increment(1);
        Ok(Attempt::Later {
            at,
            insisted: insisted.is_some(),
        })
    }

    async fn commit(&self, write: MimiWrite) -> Result<(), ServiceError> {
        self.mimi.service.commit(Write::Mimi(write).into()).await
    }

    fn report_load(&self) {
        let (active, sleeping) = self.schedule().counts();
        metrics::gauge!(metric::MIMI_NOTIFY_WORKERS).set(active as f64);
        metrics::gauge!(metric::MIMI_NOTIFY_BACKING_OFF).set(sleeping as f64);
    }
}

impl Failure {
    fn describe(&self) -> String {
        match self {
            Self::Peer(error) => error.to_string(),
            Self::Status(answer) => format!("the follower answered with status {}", answer.status),
        }
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.label(),
            Self::Status(_) => "status",
        }
    }

    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Peer(_) => None,
            Self::Status(answer) => answer.retry_after,
        }
    }
}

/// Nothing but 201 says that the follower has it.
fn judge(answer: Result<PeerResponse, MimiPeerError>) -> Result<(), Failure> {
    let answer = answer.map_err(Failure::Peer)?;
    match answer.status {
        201 => Ok(()),
        _ => Err(Failure::Status(answer)),
    }
}

/// The body of a request: one message after the other.
fn concatenated(mut bodies: Vec<Bytes>) -> Bytes {
    match bodies.len() {
        1 => bodies.remove(0),
        _ => bodies.concat().into(),
    }
}

/// Requests in progress at once to followers whose last attempt failed.
const FAILING_SLOTS: usize = 16;
/// How long such a request may take. Whoever needs longer to process one does so once and answers the repetition at once.
const FAILING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Most entries of a room's log that are looked at for one request.
const BATCH_ENTRIES: usize = 256;
/// Bytes of them, but for a single entry that has more. With as many requests in progress as there may be, this is what they take.
const BATCH_BYTES: usize = 1024 * 1024;
/// The answer has no body; of one that has, this much is read.
const MAX_ANSWER: usize = 4 * 1024;
/// Later than any attempt that was put off.
const FOREVER: UnixMillis = UnixMillis::new(i64::MAX.unsigned_abs());
