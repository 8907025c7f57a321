//! Delivery: what other servers are owed, brought to them by `PUT /send/{txnId}` (LM #int-transport-send-events,
//! LM #int-api-send-txn).
//!
//! One worker task per destination that has something due; it ends when nothing is left or the destination fails. A destination
//! that is down is one timer entry in memory, whatever it is owed: that stays in the store, as cursors into room logs and
//! outbox items.
//!
//! A worker freezes before it sends: the exact request is on record before its first byte leaves, is repeated byte for byte
//! until the destination answers 200, and only then moves its cursors, all in one batch. One request per destination is in
//! flight (LM #int-txn-ids).

mod body;
pub(crate) mod schedule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{Batch, InboxKind, Write};
use nabe_types::{EventId, ServerName, UnixMillis};
use tokio::sync::{Notify, Semaphore};

use self::body::{Caps, Prepared};
use self::schedule::Schedule;
use crate::failed_pdu::{FailedPdu, FailedPdus, cut};
use crate::hooks::LpduFate;
use crate::ports::{Method, PeerError, PeerRequest, PeerResponse};
use crate::settings::DeliverySettings;
use crate::wire::federation_request;
use crate::{Service, ServiceError, metric};

/// The delivery workers. Clones share them.
#[derive(Clone)]
struct Delivery {
    service: Service,
    shared: Arc<Shared>,
}

struct Shared {
    schedule: Mutex<Schedule<ServerName>>,
    /// The earliest deadline may have changed.
    rescheduled: Notify,
    /// A worker ended.
    ended: Notify,
    /// Bounds how many request bodies are in memory at once.
    slots: Semaphore,
    /// The same for destinations whose last attempt failed, so that those which let every request time out leave the
    /// others their slots.
    failing_slots: Semaphore,
}

/// How one attempt ended.
enum Attempt {
    /// The destination has it; there may be more.
    Delivered,
    /// Nothing is owed.
    Idle,
    /// Try again at this time; `insisted` when the peer named it.
    Later { at: UnixMillis, insisted: bool },
    /// Policy excludes the destination.
    Denied,
    /// The server is shutting down.
    Stopped,
}

/// Why a request did not get through.
enum Failure {
    /// No answer.
    Peer(PeerError),
    /// An answer that is not 200.
    Status {
        response: PeerResponse,
        errcode: Option<String>,
    },
    /// 200, but not a JSON object.
    NotJson,
}

impl Service {
    /// Delivers until the shutdown: takes up what the store says is owed, then whatever it is woken for. Requests under way at
    /// the shutdown are given up; they are on record and will be repeated.
    pub(crate) async fn deliver(self) {
        let delivery = Delivery::new(self.clone());
        tokio::select! {
            biased;
            () = self.stopping() => {}
            () = delivery.run() => {}
        }
        delivery.drain().await;
    }
}

impl Delivery {
    fn new(service: Service) -> Self {
        let shared = Shared {
            schedule: Mutex::default(),
            rescheduled: Notify::new(),
            ended: Notify::new(),
            slots: Semaphore::new(service.settings().delivery.concurrency.max(1)),
            failing_slots: Semaphore::new(FAILING_SLOTS),
        };
        Self {
            service,
            shared: Arc::new(shared),
        }
    }

    async fn run(&self) {
        self.take_up_stored_work().await;
        loop {
            let now = self.service.now();
            let (due, next) = {
                let mut schedule = self.schedule();
                (schedule.take_due(now), schedule.next_due())
            };
            for destination in due {
                self.spawn(destination, false);
            }
            let alarm = async {
                match next {
                    Some(next) => self.service.clock().sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = alarm => {}
                () = self.shared.rescheduled.notified() => {}
                woken = self.service.woken_destinations() => {
                    woken.owed.iter().for_each(|destination| self.wake(destination));
                    woken.heard.iter().for_each(|origin| self.heard_from(origin));
                }
            }
        }
    }

    async fn take_up_stored_work(&self) {
        let statuses = loop {
            match self.service.store().destinations_with_work().await {
                Ok(statuses) => break statuses,
                Err(error) => tracing::error!(%error, "delivery cannot read what is owed"),
            }
            self.service.clock().sleep(STORE_PAUSE).await;
        };
        let now = self.service.now();
        for status in statuses {
            if status.next_attempt > now {
                self.schedule()
                    .sleep(&status.destination, status.next_attempt, now, false);
            } else {
                self.wake(&status.destination);
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

    /// There is something new for `destination`. One that is backing off is not disturbed.
    fn wake(&self, destination: &ServerName) {
        if self.schedule().wake(destination) {
            self.spawn(destination.clone(), false);
        }
    }

    /// `origin` is up: whatever it is owed is tried now, unless it named the time itself.
    fn heard_from(&self, origin: &ServerName) {
        let least = self.service.settings().delivery.backoff_base;
        if self.schedule().heard_from(origin, self.service.now(), least) {
            self.spawn(origin.clone(), true);
        }
    }

    fn spawn(&self, destination: ServerName, heard: bool) {
        tokio::spawn(self.clone().work(destination, heard));
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule<ServerName>> {
        self.shared.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One destination's worker. `heard`: the destination was just heard from, so its pause is over. Its failures still count:
    /// only a 200 shows that it takes what we send.
    async fn work(self, destination: ServerName, mut heard: bool) {
        // Whether the last request got through: then no failure and no request is on record, since nobody but this worker puts
        // one there.
        let mut delivered = false;
        loop {
            let attempt = match self.attempt(&destination, heard, delivered).await {
                Ok(attempt) => attempt,
                Err(ServiceError::ShuttingDown) => Attempt::Stopped,
                Err(error) => {
                    tracing::error!(%destination, %error, "delivery cannot use the database");
                    let at = self.service.now().plus(STORE_PAUSE);
                    Attempt::Later { at, insisted: true }
                }
            };
            heard = false;
            delivered = matches!(attempt, Attempt::Delivered) || (delivered && matches!(attempt, Attempt::Idle));
            match attempt {
                Attempt::Delivered => continue,
                Attempt::Idle => {
                    if self.schedule().finish(&destination) {
                        continue;
                    }
                }
                Attempt::Later { at, insisted } => {
                    let now = self.service.now();
                    self.schedule().sleep(&destination, at, now, insisted);
                    self.shared.rescheduled.notify_one();
                }
                Attempt::Denied => {
                    let mut schedule = self.schedule();
                    schedule.end(&destination);
                    if schedule.deny(&destination) {
                        tracing::warn!(%destination, "policy excludes a server that is owed events; they are kept");
                    }
                }
                Attempt::Stopped => self.schedule().end(&destination),
            }
            self.report_load();
            self.shared.ended.notify_waiters();
            return;
        }
    }

    async fn attempt(&self, destination: &ServerName, heard: bool, delivered: bool) -> Result<Attempt, ServiceError> {
        if self.service.check_policy(destination).is_err() {
            return Ok(Attempt::Denied);
        }
        let stop = self.service.stopping();
        tokio::pin!(stop);
        let status = if delivered {
            None
        } else {
            self.service.store().destination(destination).await?
        };
        let failures = status.as_ref().map_or(0, |status| status.failures);
        if let Some(at) = status
            .map(|status| status.next_attempt)
            .filter(|at| !heard && *at > self.service.now())
        {
            return Ok(Attempt::Later { at, insisted: false });
        }
        let timeout = self.service.settings().delivery.request_timeout;
        let (slots, timeout) = if failures == 0 {
            (&self.shared.slots, timeout)
        } else {
            (&self.shared.failing_slots, timeout.min(FAILING_TIMEOUT))
        };
        let _slot = tokio::select! {
            biased;
            () = &mut stop => return Ok(Attempt::Stopped),
            slot = slots.acquire() => slot,
        };
        let prepared = if delivered {
            self.freeze(destination, Caps::FULL, Vec::new()).await?
        } else {
            self.prepare(destination).await?
        };
        let Some(prepared) = prepared else {
            return Ok(Attempt::Idle);
        };
        let request = send_request(&prepared, timeout);
        let answer = tokio::select! {
            biased;
            () = &mut stop => return Ok(Attempt::Stopped),
            answer = self.service.peers().call(destination, request) => answer,
        };
        match judge(answer) {
            Ok(failed) => self
                .confirm(destination, &prepared, &failed)
                .await
                .map(|()| Attempt::Delivered),
            Err(failure) => self.back_off(destination, &prepared, failures, failure).await,
        }
    }

    /// The request on record, put together again, or a new one, put on record. `None` when nothing is owed.
    async fn prepare(&self, destination: &ServerName) -> Result<Option<Prepared>, ServiceError> {
        let store = self.service.store();
        if let Some(frozen) = store.frozen(destination).await? {
            let txn_id = frozen.txn_id.clone();
            if let Some(prepared) = body::rebuild(store, frozen).await? {
                return Ok(Some(prepared));
            }
            // What it held is still owed. Receivers know events by their IDs, so sending them under a new ID doubles nothing.
            tracing::error!(%destination, txn_id, "a request on record cannot be repeated byte for byte; starting it afresh");
            self.commit(vec![thaw(destination, txn_id)]).await?;
        }
        self.freeze(destination, Caps::FULL, Vec::new()).await
    }

    async fn freeze(
        &self,
        destination: &ServerName,
        caps: Caps,
        mut writes: Vec<Write>,
    ) -> Result<Option<Prepared>, ServiceError> {
        let (txn_id, now) = (self.service.new_txn_id(), self.service.now());
        let Some(prepared) = body::collect(self.service.store(), destination, caps, txn_id, now).await? else {
            return Ok(None);
        };
        let request = prepared.request.clone();
        writes.push(Write::Freeze { request });
        self.commit(writes).await?;
        Ok(Some(prepared))
    }

    /// Moves the cursors, drops the outbox items, and tells the authors of the LPDUs the hub refused: all in one batch.
    async fn confirm(
        &self,
        destination: &ServerName,
        prepared: &Prepared,
        failed: &FailedPdus,
    ) -> Result<(), ServiceError> {
        let now = self.service.now();
        let txn_id = prepared.request.txn_id.clone();
        let mut writes = vec![Write::Confirm {
            destination: destination.clone(),
            txn_id,
        }];
        let refused: Vec<_> = prepared
            .lpdus
            .iter()
            .filter_map(|lpdu| Some((lpdu, failed.get(&lpdu.lpdu_id)?)))
            .collect();
        for (lpdu, entry) in &refused {
            let mut body = object! {
                "room_id" => lpdu.room.as_str(),
                "lpdu_id" => lpdu.lpdu_id.as_str(),
                "error" => entry.error.as_str(),
            };
            if let Some(epoch) = entry.current_epoch.and_then(|epoch| i64::try_from(epoch).ok()) {
                body.insert("current_epoch", epoch);
            }
            writes.push(Write::Inbox {
                user: lpdu.sender.clone(),
                device: None,
                kind: InboxKind::EventRejected,
                body: body.to_canonical().into(),
                now,
            });
        }
        self.commit(writes).await?;
        metrics::counter!(metric::DELIVERY_REQUESTS, "result" => "delivered").increment(1);
        metrics::counter!(metric::DELIVERY_PDUS).increment(prepared.pdus as u64);
        metrics::counter!(metric::DELIVERY_EDUS).increment(prepared.edus as u64);
        for (lpdu, entry) in refused {
            let error = &entry.error;
            tracing::info!(%destination, room_id = %lpdu.room, lpdu_id = %lpdu.lpdu_id, error, "the hub refused an event");
            self.service
                .settle_lpdu(&lpdu.lpdu_id, &LpduFate::Rejected(entry.clone()));
            self.service.notify_inbox(&lpdu.sender);
        }
        if failed.len() > prepared.lpdus.len() {
            // Nothing to be done as hub: the participant recorded what it refused, and the log goes on.
            tracing::debug!(%destination, count = failed.len(), "a participant refused events");
        }
        Ok(())
    }

    /// Records the failure and when to try again.
    async fn back_off(
        &self,
        destination: &ServerName,
        prepared: &Prepared,
        failures: u32,
        failure: Failure,
    ) -> Result<Attempt, ServiceError> {
        let settings = &self.service.settings().delivery;
        let failures = failures.saturating_add(1);
        let mut delay = delay(settings, failures, u32::from_le_bytes(self.service.random()));
        let insisted = failure.retry_after();
        if failure.is_final() {
            tracing::error!(%destination, error = failure.describe(), "a server refuses our request for good; trying slowly");
            delay = settings.backoff_max;
        } else {
            tracing::info!(%destination, failures, error = failure.describe(), "delivery failed");
        }
        let wait = insisted.map_or(delay, |wait| wait.max(delay));
        let at = self.service.now().plus(wait);
        let mut writes = vec![Write::Backoff {
            destination: destination.clone(),
            failures,
            next_attempt: at,
            last_error: failure.describe(),
        }];
        if failure.is_too_large() && failures.is_multiple_of(TOO_LARGE_ATTEMPTS) && prepared.items() > 1 {
            // LM #int-txn-ids (deviation): a request is repeated until it is answered with 200, but a destination that says it is
            // too large did not process it and never will.
            let caps = Caps::half_of(prepared);
            tracing::warn!(%destination, pdus = caps.pdus, edus = caps.edus, "a server finds our requests too large; halving");
            writes.push(thaw(destination, prepared.request.txn_id.clone()));
            self.freeze(destination, caps, writes).await?;
        } else {
            self.commit(writes).await?;
        }
        metrics::counter!(metric::DELIVERY_REQUESTS, "result" => failure.label()).increment(1);
        Ok(Attempt::Later {
            at,
            insisted: insisted.is_some(),
        })
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), ServiceError> {
        self.service.commit(Batch(writes)).await
    }

    fn report_load(&self) {
        let (active, sleeping) = self.schedule().counts();
        metrics::gauge!(metric::DELIVERY_WORKERS).set(active as f64);
        metrics::gauge!(metric::DELIVERY_BACKING_OFF).set(sleeping as f64);
    }
}

impl Failure {
    fn describe(&self) -> String {
        match self {
            Self::Peer(error) => error.to_string(),
            Self::Status {
                response,
                errcode: Some(errcode),
            } => {
                format!("the destination answered with status {} {errcode}", response.status)
            }
            Self::Status {
                response,
                errcode: None,
            } => {
                format!("the destination answered with status {}", response.status)
            }
            Self::NotJson => "the destination answered with something that is not a JSON object".to_owned(),
        }
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.label(),
            Self::Status { .. } => "status",
            Self::NotJson => "not_json",
        }
    }

    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { response, .. } => response.retry_after,
            _ => None,
        }
    }

    const fn is_too_large(&self) -> bool {
        matches!(self, Self::Status { response, .. } if response.status == 413)
    }

    /// Whether the same bytes can hardly ever succeed.
    fn is_final(&self) -> bool {
        match self {
            Self::Peer(error) => !error.is_transient(),
            Self::Status { response, errcode } => {
                response.status == 400 && matches!(errcode.as_deref(), Some("M_BAD_JSON" | "M_NOT_JSON"))
            }
            Self::NotJson => false,
        }
    }
}

fn thaw(destination: &ServerName, txn_id: String) -> Write {
    Write::Thaw {
        destination: destination.clone(),
        txn_id,
    }
}

fn send_request(prepared: &Prepared, timeout: Duration) -> PeerRequest {
    let segments = ["send", prepared.request.txn_id.as_str()];
    let mut request = federation_request(Method::Put, "v2", &segments, &[], true, timeout);
    request.body = Some(prepared.body.clone());
    request
}

/// What `failed_pdus` says, when the answer is a success. Keys that are no event IDs are passed over.
fn judge(answer: Result<PeerResponse, PeerError>) -> Result<FailedPdus, Failure> {
    let response = answer.map_err(Failure::Peer)?;
    let object = parse_object(&response.body);
    if response.status != 200 {
        let errcode = object.and_then(|body| Some(cut(body.get("errcode")?.as_str()?, 64)));
        return Err(Failure::Status { response, errcode });
    }
    let object = object.ok_or(Failure::NotJson)?;
    let failed = object.get("failed_pdus").and_then(Json::as_object);
    let failed = failed.into_iter().flat_map(Object::iter);
    Ok(failed
        .filter_map(|(id, entry)| Some((EventId::parse(id).ok()?, FailedPdu::read(entry))))
        .collect())
}

fn parse_object(body: &Bytes) -> Option<Object> {
    match Json::parse(body) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

/// How long to wait after `failures` failures in a row: doubling from the base up to the cap, less up to a share of it so that
/// destinations which failed together do not come back together.
pub(crate) fn delay(settings: &DeliverySettings, failures: u32, random: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = settings
        .backoff_base
        .saturating_mul(1 << doublings)
        .min(settings.backoff_max);
    let share = settings.jitter.clamp(0.0, 1.0) * f64::from(random) / f64::from(u32::MAX);
    full.mul_f64(1.0 - share)
}

/// Requests in progress at once to destinations whose last attempt failed.
const FAILING_SLOTS: usize = 16;
/// How long such a request may take. Whoever needs longer to process one does so once and answers the repetition at once.
const FAILING_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures with 413 before a request is halved.
const TOO_LARGE_ATTEMPTS: u32 = 3;
const STORE_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
