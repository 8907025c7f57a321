//! Getting other servers' keys: from memory or the store, else from the server itself, else from the notaries that the operator
//! configured, else, for this answer only, from the room's hub.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use nabe_event::RawEvent;
use nabe_signing::json::Json;
use nabe_signing::keys::{KeySet, ServerKeys};
use nabe_signing::verify_object_with;
use nabe_types::{KeyId, ServerName, UnixMillis};

use super::{LEAST_BETWEEN_NOTARY_FETCHES, Purpose, Source};
use crate::error::ServiceError;
use crate::ports::PeerError;
use crate::{Service, metric};

/// What somebody needs of one server's keys.
pub(crate) struct Need<'a> {
    pub(super) server: &'a ServerName,
    /// For a notary: which keys, valid until when at least.
    pub(super) wanted: BTreeMap<KeyId, UnixMillis>,
    pub(super) purpose: Purpose,
    /// The hub that sent us what is to be verified, and had to verify it itself: asked when the owner does not answer.
    pub(super) hub: Option<&'a ServerName>,
    /// Ask even if the server did not answer lately: whoever waits has a pause of its own.
    pub(super) urgent: bool,
}

/// What came of asking a server for its keys.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Owner {
    Answered,
    /// It did not answer, now or lately.
    Silent,
    /// Too many others are being asked.
    NotAsked,
}

impl Service {
    /// Keys to authenticate a request of `origin` now, signed with these keys.
    pub(crate) async fn request_keys(&self, origin: &ServerName, keys: &[KeyId]) -> Result<KeySet, ServiceError> {
        let now = self.now();
        let wanted = keys.iter().map(|key| (key.clone(), now)).collect();
        let need = Need {
            server: origin,
            wanted,
            purpose: Purpose::Request,
            hub: None,
            urgent: false,
        };
        self.obtain(need, |known| {
            keys.iter().all(|key| known.for_request(origin, key, now).is_some())
        })
        .await
    }

    /// Keys to verify these events, as far as they can be had. `hub` is asked after the configured notaries; what
    /// it says is in this answer only.
    pub(crate) async fn event_keys(
        &self,
        events: &[RawEvent],
        hub: Option<&ServerName>,
        urgent: bool,
    ) -> Result<KeySet, ServiceError> {
        // Per server: for each event the keys of which any one suffices, and the event's time.
        let mut by_server: BTreeMap<ServerName, BTreeSet<(Vec<KeyId>, UnixMillis)>> = BTreeMap::new();
        for event in events {
            let mut listed: BTreeMap<ServerName, Vec<KeyId>> = BTreeMap::new();
            for (server, key) in event.required_keys() {
                listed.entry(server).or_default().push(key);
            }
            for (server, keys) in listed {
                by_server
                    .entry(server)
                    .or_default()
                    .insert((keys, event.origin_server_ts()));
            }
        }
        let found = join_all(by_server.iter().map(|(server, needed)| async move {
            let mut wanted: BTreeMap<KeyId, UnixMillis> = BTreeMap::new();
            for (keys, at) in needed {
                for key in keys {
                    let until = wanted.entry(key.clone()).or_insert(*at);
                    *until = (*until).max(*at);
                }
            }
            let satisfied = |known: &KeySet| {
                needed
                    .iter()
                    .all(|(keys, at)| keys.iter().any(|key| known.for_event(server, key, *at).is_some()))
            };
            let need = Need {
                server,
                wanted,
                purpose: Purpose::Event,
                hub,
                urgent,
            };
            let keys = self.obtain(need, satisfied).await;
            self.save_for_events(server).await?;
            keys
        }))
        .await;
        let mut all = KeySet::new();
        for keys in found {
            all.extend(keys?);
        }
        Ok(all)
    }

    /// Every key of `server` that is known, after asking for more if there are none current.
    pub(crate) async fn keys_of(&self, server: &ServerName) -> Result<KeySet, ServiceError> {
        let now = self.now();
        let need = Need {
            server,
            wanted: BTreeMap::new(),
            purpose: Purpose::Event,
            hub: None,
            urgent: false,
        };
        self.obtain(need, |known| {
            known.iter().any(|(_, _, key)| !key.old && key.valid_until >= now)
        })
        .await
    }

    async fn obtain(&self, need: Need<'_>, is_enough: impl Fn(&KeySet) -> bool) -> Result<KeySet, ServiceError> {
        if self.is_us(need.server) {
            return Ok(self.inner.keys.own.clone());
        }
        let known = self.cached_keys(need.server).await?;
        if is_enough(&known) {
            return Ok(known);
        }
        let owner = self.ask_owner(&need, &is_enough).await?;
        let mut keys = self.cached_keys(need.server).await?;
        if is_enough(&keys) {
            return Ok(keys);
        }
        match (owner, need.hub) {
            (Owner::NotAsked, _) if need.purpose == Purpose::Request => Err(ServiceError::LimitExceeded {
                retry_after: BUSY_PAUSE,
            }),
            // Whoever joins cannot wait until it is this server's turn.
            (Owner::NotAsked, Some(_)) if !need.urgent => Ok(keys),
            (Owner::Silent | Owner::NotAsked, Some(hub)) if hub != need.server => {
                if let Some(_permit) = self.in_time(self.inner.keys.pool(need.purpose, false).acquire()).await {
                    let (now, known) = (self.now(), keys.clone());
                    for (vouched, _) in self.notary_answer(hub, &need, &known).await? {
                        if known.is_empty() || has_signed(&known, &vouched) {
                            keys.insert_server_keys(&vouched, now);
                        } else {
                            tracing::warn!(%hub, server = %need.server, "the hub names keys of a server that signed with none we know");
                        }
                    }
                }
                Ok(keys)
            }
            _ => Ok(keys),
        }
    }

    /// Asks the server itself, unless somebody did meanwhile, it was asked just now or does not answer lately; and then
    /// the configured notaries.
    pub(super) async fn ask_owner(
        &self,
        need: &Need<'_>,
        is_enough: &impl Fn(&KeySet) -> bool,
    ) -> Result<Owner, ServiceError> {
        let before = self.inner.keys.cached(need.server);
        // Whoever holds the flight waits for a permit and then for an answer.
        let flight = match self.in_time(before.flight.lock()).await {
            Some(flight) => Some(flight),
            None => self.in_time(before.flight.lock()).await,
        };
        if flight.is_none() {
            return Ok(Owner::NotAsked);
        }
        let known = self.inner.keys.cached(need.server);
        if known.answered_at != before.answered_at || is_enough(&known.keys) {
            return Ok(Owner::Answered);
        }
        // Whoever held the flight meanwhile asked for us, too.
        if known.failures > before.failures {
            return Ok(Owner::Silent);
        }
        let now = self.now();
        let is_fresh = |at: UnixMillis| now < at.plus(LEAST_BETWEEN_FETCHES) && at <= now;
        if known.answered_at.is_some_and(is_fresh) {
            return Ok(Owner::Answered);
        }
        let left_alone_until = match need.purpose {
            Purpose::Notary => known.next_attempt.max(known.next_as_notary),
            Purpose::Event | Purpose::Request => known.next_attempt,
        };
        if now < left_alone_until && !need.urgent {
            return Ok(Owner::Silent);
        }
        let pool = self.inner.keys.pool(need.purpose, known.keys.is_empty());
        let permit = match need.purpose {
            Purpose::Notary => pool.try_acquire().ok(),
            Purpose::Event | Purpose::Request => self.in_time(pool.acquire()).await.and_then(Result::ok),
        };
        if permit.is_none() {
            return Ok(Owner::NotAsked);
        }
        self.ask_in_flight(need, is_enough).await
    }

    async fn ask_in_flight(
        &self,
        need: &Need<'_>,
        is_enough: &impl Fn(&KeySet) -> bool,
    ) -> Result<Owner, ServiceError> {
        let now = self.now();
        let has_answered = match self.check_policy(need.server) {
            Ok(()) => self.fetch_direct(need.server, need.purpose).await?,
            Err(_) => false,
        };
        let mut is_vouched = false;
        // What the owner does not list nobody else shall list for it.
        if !has_answered && need.purpose != Purpose::Notary && !need.wanted.is_empty() {
            for notary in self.settings().notaries.iter().filter(|notary| *notary != need.server) {
                let known = self.cached_keys(need.server).await?;
                for (keys, response) in self.notary_answer(notary, need, &known).await? {
                    self.learn(keys, response, Source::Notary, need.purpose).await?;
                }
                is_vouched = is_enough(&self.cached_keys(need.server).await?);
                if is_vouched {
                    break;
                }
            }
        }
        self.inner.keys.update(need.server, |cached| {
            if has_answered {
                cached.answered_at = Some(self.now());
            }
            if has_answered || is_vouched {
                cached.failures = 0;
                cached.next_attempt = UnixMillis::ZERO;
            } else if need.purpose == Purpose::Notary {
                cached.next_as_notary = now.plus(LEAST_BETWEEN_NOTARY_FETCHES);
            } else {
                cached.failures = cached.failures.saturating_add(1);
                let pause = BACKOFF_BASE.saturating_mul(1 << cached.failures.min(10));
                cached.next_attempt = now.plus(pause.min(BACKOFF_MAX));
            }
        });
        Ok(if has_answered { Owner::Answered } else { Owner::Silent })
    }

    /// Whether the server answered with usable keys.
    async fn fetch_direct(&self, server: &ServerName, purpose: Purpose) -> Result<bool, ServiceError> {
        let answer = self.within(self.peers().server_keys(server)).await;
        let outcome = match &answer {
            Ok(_) => "answered",
            Err(error) => error.label(),
        };
        metrics::counter!(metric::KEY_REQUESTS, "outcome" => outcome).increment(1);
        let Ok(body) = answer else {
            tracing::debug!(%server, outcome, "no keys");
            return Ok(false);
        };
        if body.len() > MAX_RESPONSE_BYTES {
            tracing::info!(%server, "a key response is too large");
            return Ok(false);
        }
        let keys = Json::parse(&body)
            .ok()
            .and_then(Json::into_object)
            .map(|raw| ServerKeys::parse(raw, server));
        match keys {
            Some(Ok(keys)) => {
                self.learn(keys, body, Source::Owner, purpose).await?;
                Ok(true)
            }
            Some(Err(error)) => {
                tracing::info!(%server, %error, "refused a key response");
                Ok(false)
            }
            None => {
                tracing::info!(%server, "a key response is not a JSON object");
                Ok(false)
            }
        }
    }

    /// What a notary says of a server's keys, each response with the bytes to keep of it. Leaves out what is not signed by
    /// both, and what names another key than is `known` under the same ID.
    async fn notary_answer(
        &self,
        notary: &ServerName,
        need: &Need<'_>,
        known: &KeySet,
    ) -> Result<Vec<(ServerKeys, Bytes)>, ServiceError> {
        if self.is_us(notary) || self.check_policy(notary).is_err() {
            return Ok(Vec::new());
        }
        let wanted = BTreeMap::from([(need.server.clone(), need.wanted.clone())]);
        let answer = self.within(self.peers().notary_keys(notary, &wanted)).await;
        let Ok(body) = answer else { return Ok(Vec::new()) };
        let mut notary_keys = self.cached_keys(notary).await?;
        let now = self.now();
        if !notary_keys.iter().any(|(_, _, key)| !key.old && key.valid_until >= now) {
            self.fetch_direct(notary, need.purpose).await?;
            notary_keys = self.cached_keys(notary).await?;
        }
        let parsed = Json::parse(&body).ok().and_then(Json::into_object);
        let responses = parsed
            .as_ref()
            .and_then(|answer| answer.get("server_keys"))
            .and_then(Json::as_array);
        let mut usable = Vec::new();
        for response in responses.into_iter().flatten().take(NOTARY_RESPONSES) {
            let Some(raw) = response.as_object() else { continue };
            let bytes: Bytes = raw.to_canonical().into();
            if bytes.len() > MAX_RESPONSE_BYTES {
                tracing::info!(%notary, server = %need.server, "a notary's answer is too large");
                continue;
            }
            let vouched = verify_object_with(raw, notary.as_str(), |key| notary_keys.for_request(notary, key, now));
            match vouched.map(|()| ServerKeys::parse(raw.clone(), need.server)) {
                Ok(Ok(keys)) if known.contradicts(&keys) => {
                    tracing::warn!(%notary, server = %need.server, "a notary names another key under a known ID");
                }
                Ok(Ok(keys)) => usable.push((keys, bytes)),
                Ok(Err(error)) => tracing::info!(%notary, server = %need.server, %error, "refused a notary's answer"),
                Err(error) => tracing::info!(%notary, %error, "a notary's signature is not valid"),
            }
        }
        Ok(usable)
    }
    /// Bounds a question to another server by our clock.
    async fn within<T>(&self, question: impl Future<Output = Result<T, PeerError>> + Send) -> Result<T, PeerError> {
        self.in_time(question).await.unwrap_or(Err(PeerError::Timeout))
    }

    /// Waits no longer than for an answer to a question.
    async fn in_time<T>(&self, future: impl Future<Output = T> + Send) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            () = self.clock().sleep(self.settings().delivery.question_timeout) => None,
        }
    }
}

/// Whether a key of the server that we know, and that was not retired as far as we know, signed the response.
fn has_signed(known: &KeySet, response: &ServerKeys) -> bool {
    let server = &response.server;
    let current = |key: &KeyId| known.get(server, key).filter(|key| !key.old).map(|key| &key.key);
    verify_object_with(&response.raw, server.as_str(), current).is_ok()
}

/// How soon after a successful fetch another one may follow: an unknown key ID must not make us ask without end.
const LEAST_BETWEEN_FETCHES: Duration = Duration::from_secs(1);
/// When a request is to be repeated whose origin could not be asked for keys.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Longest key response that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// First pause after a server did not answer; doubles up to [`BACKOFF_MAX`].
const BACKOFF_BASE: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);
/// Most responses read from one notary's answer.
const NOTARY_RESPONSES: usize = 32;
