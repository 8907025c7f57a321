//! Signing keys: our own response, other servers' keys (fetched directly, else from a notary), and our service as a
//! notary to others. LM #int-transport-get-server-keys.
//!
//! Memory holds the keys of servers used lately, the store the last responses of each with distinct keys. For each server
//! at most one request is in progress, and one that does not answer is left alone for a while, so that forged origins
//! cost little. Names cost nothing to invent, so what the store takes in is bounded in bytes over time. What the room's
//! hub says of others' keys is no more than a help to verify what the same hub sent: it is never kept, and of a server that
//! we know it counts only with that server's own word.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use nabe_event::RawEvent;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::{KeySet, OldKeyMap, ServerKeys, VerifyKey, own_key_response};
use nabe_signing::{Signer, object, verify_object_with};
use nabe_store::{StoredServerKeys, Write, rules};
use nabe_types::limits::MAX_KEY_VALIDITY_MILLIS;
use nabe_types::{KeyId, ServerName, UnixMillis};
use tokio::sync::Semaphore;

use crate::error::ServiceError;
use crate::ports::PeerError;
use crate::rate_limit::KeyLimiters;
use crate::settings::LimitSettings;
use crate::{Service, metric};

/// Keys in memory and what is known about those who should serve them.
pub(crate) struct Keys {
    old: OldKeyMap,
    own: KeySet,
    cache: Mutex<Cache>,
    /// One pool for each purpose: who needs no authentication must not keep the others waiting.
    for_events: Semaphore,
    for_requests: Semaphore,
    /// For requests of servers whose keys we had before: whoever forges new names must not keep them waiting.
    for_acquaintances: Semaphore,
    as_notary: Semaphore,
    pub(crate) limiters: KeyLimiters,
}

#[derive(Default)]
struct Cache {
    servers: BTreeMap<ServerName, Cached>,
    uses: u64,
    /// What the servers' keys take, in bytes, about.
    bytes: usize,
}

/// What memory has of one server's keys.
#[derive(Clone, Default)]
pub(crate) struct Cached {
    keys: KeySet,
    /// The last response, if the store had no room for it.
    unsaved: Option<StoredServerKeys>,
    /// The store was asked.
    loaded: bool,
    /// When the server itself answered last, since we keep it in memory.
    answered_at: Option<UnixMillis>,
    failures: u32,
    next_attempt: UnixMillis,
    /// The same for who asks us as a notary, so that anybody's question does not keep us from asking for ourselves.
    next_as_notary: UnixMillis,
    last_use: u64,
    /// Held while a request to this server is in progress.
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// What somebody needs of one server's keys.
pub(crate) struct Need<'a> {
    server: &'a ServerName,
    /// For a notary: which keys, valid until when at least.
    wanted: BTreeMap<KeyId, UnixMillis>,
    purpose: Purpose,
    /// The hub that sent us what is to be verified, and had to verify it itself: asked when the owner does not answer.
    hub: Option<&'a ServerName>,
    /// Ask even if the server did not answer lately: whoever waits has a pause of its own.
    urgent: bool,
}

/// What keys are needed for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Purpose {
    Event,
    Request,
    /// To tell others. Other notaries are not asked for that.
    Notary,
}

/// Who says what a server's keys are.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Source {
    Owner,
    /// A notary that the operator configured.
    Notary,
}

/// What came of asking a server for its keys.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Owner {
    Answered,
    /// It did not answer, now or lately.
    Silent,
    /// Too many others are being asked.
    NotAsked,
}

impl Keys {
    pub(crate) fn new(signer: &Signer, old: OldKeyMap, limits: &LimitSettings) -> Self {
        let requests = limits.key_requests;
        let mut own = KeySet::new();
        own.insert_signer(signer);
        for (key_id, &(key, expired)) in &old {
            let key = VerifyKey {
                key,
                valid_until: expired,
                old: true,
            };
            own.insert(signer.server().clone(), key_id.clone(), key);
        }
        Self {
            old,
            own,
            cache: Mutex::default(),
            for_events: Semaphore::new(requests.max(1)),
            for_requests: Semaphore::new(requests.max(1)),
            for_acquaintances: Semaphore::new(requests.max(1)),
            as_notary: Semaphore::new((requests / 4).max(1)),
            limiters: KeyLimiters::new(limits.rate_limited_callers),
        }
    }

    const fn pool(&self, purpose: Purpose, is_stranger: bool) -> &Semaphore {
        match purpose {
            Purpose::Event => &self.for_events,
            Purpose::Request if is_stranger => &self.for_requests,
            Purpose::Request => &self.for_acquaintances,
            Purpose::Notary => &self.as_notary,
        }
    }

    pub(crate) fn cached(&self, server: &ServerName) -> Cached {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.uses += 1;
        let uses = cache.uses;
        if !cache.servers.contains_key(server) {
            cache.make_room();
        }
        let cached = cache.servers.entry(server.clone()).or_default();
        cached.last_use = uses;
        cached.clone()
    }

    fn update(&self, server: &ServerName, change: impl FnOnce(&mut Cached)) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cached) = cache.servers.get_mut(server) else {
            return;
        };
        let before = cached.bytes();
        change(cached);
        let after = cached.bytes();
        cache.bytes = (cache.bytes + after).saturating_sub(before);
        while cache.bytes > CACHED_BYTES {
            cache.forget_some();
        }
    }

    /// Remembers a response that was not stored.
    #[cfg(test)]
    pub(crate) fn keep_for_test(&self, server: &ServerName, response: Bytes, at: UnixMillis) {
        let unsaved = StoredServerKeys {
            server: server.clone(),
            response,
            fetched_at: at,
            effective_valid_until: at,
        };
        self.update(server, |cached| cached.unsaved = Some(unsaved));
    }

    /// How many servers and bytes are remembered.
    #[cfg(test)]
    pub(crate) fn cached_size(&self) -> (usize, usize) {
        let cache = self.cache.lock().unwrap();
        let bytes: usize = cache.servers.values().map(Cached::bytes).sum();
        assert_eq!(bytes, cache.bytes);
        (cache.servers.len(), bytes)
    }
}

impl Cached {
    fn bytes(&self) -> usize {
        let unsaved = self.unsaved.as_ref().map_or(0, |unsaved| unsaved.response.len());
        self.keys.iter().count() * CACHED_KEY_BYTES + unsaved
    }
}

impl Cache {
    /// Forgets the servers unused for longest when there are too many.
    fn make_room(&mut self) {
        if self.servers.len() >= CACHED_SERVERS {
            self.forget_some();
        }
    }

    /// Forgets the tenth that is unused for longest, at least one server.
    fn forget_some(&mut self) {
        let mut uses: Vec<u64> = self.servers.values().map(|cached| cached.last_use).collect();
        uses.sort_unstable();
        let Some(&newest_forgotten) = uses.get(uses.len() / 10) else {
            self.bytes = 0;
            return;
        };
        self.servers.retain(|_, cached| cached.last_use > newest_forgotten);
        self.bytes = self.servers.values().map(Cached::bytes).sum();
    }
}

impl Service {
    /// The body of `GET /_matrix/key/v2/server` (LM #int-api-self-key).
    #[must_use]
    pub fn own_keys(&self) -> Bytes {
        self.own_key_object().to_canonical().into()
    }

    /// The body of `GET /_matrix/key/v2/query/{server}` (LM #int-api-notary-query): what we know of the server's keys,
    /// each response valid until `minimum_valid_until` (default now) at least, with our signature beside its own. `caller`
    /// is the address that counts for the limits, if it is known.
    ///
    /// # Errors
    ///
    /// [`ServiceError::LimitExceeded`] if we are asked too often.
    pub async fn notary_one(
        &self,
        caller: Option<IpAddr>,
        server: &ServerName,
        minimum_valid_until: Option<UnixMillis>,
    ) -> Result<Object, ServiceError> {
        let minimum = minimum_valid_until.unwrap_or_else(|| self.now());
        let query = BTreeMap::from([(server.clone(), Wanted::any(minimum))]);
        self.answer_as_notary(caller, &query).await
    }

    /// The body of `POST /_matrix/key/v2/query` (LM #int-api-notary-query-bulk): the same for many servers, or for some of
    /// their keys.
    ///
    /// # Errors
    ///
    /// [`ServiceError::BadJson`] if `server_keys` is not an object of objects; [`ServiceError::TooLarge`] if it names too
    /// many servers or keys, or the answer would be too large; [`ServiceError::LimitExceeded`] if we are asked too often.
    pub async fn notary_many(&self, caller: Option<IpAddr>, body: &Object) -> Result<Object, ServiceError> {
        let query = read_query(body, self.now(), &self.settings().limits)?;
        self.answer_as_notary(caller, &query).await
    }

    /// First asks all servers that have to be asked, at once; then puts the answer together, one server at a time,
    /// so that no more than one answer is in memory.
    async fn answer_as_notary(
        &self,
        caller: Option<IpAddr>,
        query: &BTreeMap<ServerName, Wanted>,
    ) -> Result<Object, ServiceError> {
        self.limit_notary_query(caller, query.len())?;
        let refreshed = query
            .iter()
            .map(|(server, wanted)| self.refresh(caller, server, wanted));
        for outcome in join_all(refreshed).await {
            outcome?;
        }
        let mut room = self.settings().limits.notary_answer_bytes;
        let mut responses: Vec<Json> = Vec::new();
        for (server, wanted) in query {
            for response in self.known_responses(server).await? {
                let parsed = Json::parse(&response.response).ok().and_then(Json::into_object);
                let Some(mut object) = parsed.filter(|object| wanted.fits(&response, object)) else {
                    continue;
                };
                room = room
                    .checked_sub(response.response.len())
                    .ok_or(ServiceError::TooLarge("the answer; ask for fewer keys"))?;
                self.signer().sign_object(&mut object);
                responses.push(object.into());
            }
        }
        Ok(object! { "server_keys" => responses })
    }

    fn own_key_object(&self) -> Object {
        let valid_until = self.now().plus(self.settings().key_validity);
        own_key_response(self.signer(), &self.inner.keys.old, valid_until)
    }

    /// The responses we have of a server, last fetched first.
    async fn known_responses(&self, server: &ServerName) -> Result<Vec<StoredServerKeys>, ServiceError> {
        if self.is_us(server) {
            let now = self.now();
            return Ok(vec![StoredServerKeys {
                server: server.clone(),
                response: self.own_keys(),
                fetched_at: now,
                effective_valid_until: now.plus(self.settings().key_validity),
            }]);
        }
        if self.check_policy(server).is_err() {
            return Ok(Vec::new());
        }
        let unsaved = self.inner.keys.cached(server).unsaved;
        let stored = self.store().server_keys(server).await?;
        Ok(unsaved.into_iter().chain(stored).collect())
    }

    /// Asks a server for its keys on behalf of who asks us as a notary, if that may help and is not too often.
    async fn refresh(&self, caller: Option<IpAddr>, server: &ServerName, wanted: &Wanted) -> Result<(), ServiceError> {
        if self.is_us(server) || self.check_policy(server).is_err() {
            return Ok(());
        }
        let now = self.now();
        let may_help = |newest: &StoredServerKeys| {
            now >= newest.fetched_at.plus(LEAST_BETWEEN_NOTARY_FETCHES)
                && (is_stale(newest, now, wanted.lowest()) || lacks_a_key(newest, &wanted.keys))
        };
        let may_help = self.known_responses(server).await?.first().is_none_or(may_help);
        if may_help && self.limit_notary_fetch(caller).is_ok() {
            self.cached_keys(server).await?;
            let need = Need {
                server,
                wanted: BTreeMap::new(),
                purpose: Purpose::Notary,
                hub: None,
                urgent: false,
            };
            self.ask_owner(&need, &|_| false).await?;
        }
        Ok(())
    }

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
    async fn ask_owner(&self, need: &Need<'_>, is_enough: &impl Fn(&KeySet) -> bool) -> Result<Owner, ServiceError> {
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

    /// Keeps a response of the server itself or of a configured notary: in the store, or in memory only if the store takes
    /// in no more for now.
    pub(crate) async fn learn(
        &self,
        keys: ServerKeys,
        response: Bytes,
        source: Source,
        purpose: Purpose,
    ) -> Result<(), ServiceError> {
        let fetched_at = self.now();
        let stored = StoredServerKeys {
            server: keys.server.clone(),
            response,
            fetched_at,
            effective_valid_until: keys.effective_valid_until(fetched_at),
        };
        self.save(stored, source, purpose).await
    }

    /// What came for another purpose and was not stored gets the place that verifying an event gives it.
    async fn save_for_events(&self, server: &ServerName) -> Result<(), ServiceError> {
        match self.inner.keys.cached(server).unsaved {
            Some(unsaved) => self.save(unsaved, Source::Owner, Purpose::Event).await,
            None => Ok(()),
        }
    }

    async fn save(&self, new: StoredServerKeys, source: Source, purpose: Purpose) -> Result<(), ServiceError> {
        let server = new.server.clone();
        let stored = self.store().server_keys(&server).await?;
        let key_set = rules::key_set(&new.response);
        let same = stored.iter().find(|kept| rules::key_set(&kept.response) == key_set);
        // A notary may still have what the owner said before it said the same to us.
        let is_known = same.is_some_and(|kept| kept.effective_valid_until >= new.effective_valid_until);
        if source == Source::Notary && is_known {
            return Ok(());
        }
        let oldest = stored.last().filter(|_| stored.len() >= rules::KEY_SETS_KEPT);
        let growth = match same.or(oldest) {
            Some(replaced) => new.response.len().saturating_sub(replaced.response.len()),
            None => new.response.len() + ROW_BYTES,
        };
        let unsaved = match self.may_grow(growth, purpose) {
            true => {
                let write = Write::PutServerKeys {
                    server: new.server,
                    response: new.response,
                    fetched_at: new.fetched_at,
                    effective_valid_until: new.effective_valid_until,
                };
                self.commit(write.into()).await?;
                None
            }
            false => {
                metrics::counter!(metric::KEYS_NOT_STORED).increment(1);
                Some(new)
            }
        };
        self.inner.keys.update(&server, |cached| cached.unsaved = unsaved);
        // Memory has what the store kept, so that it forgets, too.
        self.load_keys(&server).await
    }

    /// Whether the store may take in so many bytes more.
    fn may_grow(&self, bytes: usize, purpose: Purpose) -> bool {
        let account = match purpose {
            Purpose::Event => "keys_for_events",
            Purpose::Request | Purpose::Notary => "keys_of_strangers",
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let limit = self.settings().limits.key_storage;
        let shared = &self.inner.keys.limiters.shared;
        bytes == 0 || shared.take_many("", account, limit, bytes, self.now()).is_ok()
    }

    /// What is known without asking anybody: memory, else the store.
    pub(crate) async fn cached_keys(&self, server: &ServerName) -> Result<KeySet, ServiceError> {
        let cached = self.inner.keys.cached(server);
        if cached.loaded {
            return Ok(cached.keys);
        }
        self.load_keys(server).await?;
        Ok(self.inner.keys.cached(server).keys)
    }

    async fn load_keys(&self, server: &ServerName) -> Result<(), ServiceError> {
        let mut keys = KeySet::new();
        let unsaved = self.inner.keys.cached(server).unsaved;
        let stored = self.store().server_keys(server).await?;
        for StoredServerKeys {
            response, fetched_at, ..
        } in stored.into_iter().chain(unsaved)
        {
            let raw = Json::parse(&response).ok().and_then(Json::into_object);
            if let Some(Ok(response)) = raw.map(|raw| ServerKeys::parse(raw, server)) {
                keys.insert_server_keys(&response, fetched_at);
            }
        }
        self.inner.keys.update(server, |cached| {
            cached.keys = keys;
            cached.loaded = true;
        });
        Ok(())
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

/// What somebody who asks us as a notary wants of one server.
struct Wanted {
    /// Which keys, each valid until when at least; empty for all.
    keys: BTreeMap<KeyId, UnixMillis>,
    /// Until when the keys must be valid if none is named.
    minimum: UnixMillis,
}

impl Wanted {
    const fn any(minimum: UnixMillis) -> Self {
        Self {
            keys: BTreeMap::new(),
            minimum,
        }
    }

    /// The least demand on the validity of a response.
    fn lowest(&self) -> UnixMillis {
        self.keys.values().copied().min().unwrap_or(self.minimum)
    }

    fn fits(&self, response: &StoredServerKeys, object: &Object) -> bool {
        let valid_until = response.effective_valid_until;
        match self.keys.is_empty() {
            true => valid_until >= self.minimum,
            false => self
                .keys
                .iter()
                .any(|(key, &until)| valid_until >= until && lists_key(object, key)),
        }
    }
}

/// `server_keys` of a bulk query.
fn read_query(
    body: &Object,
    now: UnixMillis,
    limits: &LimitSettings,
) -> Result<BTreeMap<ServerName, Wanted>, ServiceError> {
    let bad = || ServiceError::BadJson("`server_keys` must map servers to keys");
    let servers = body.get("server_keys").and_then(Json::as_object).ok_or_else(bad)?;
    if servers.len() > limits.notary_servers {
        return Err(ServiceError::TooLarge("`server_keys` names too many servers"));
    }
    let mut room = limits.notary_keys;
    let mut wanted = BTreeMap::new();
    for (server, keys) in servers {
        let keys = keys.as_object().ok_or_else(bad)?;
        let too_many = ServiceError::TooLarge("`server_keys` names too many keys");
        room = room.checked_sub(keys.len()).ok_or(too_many)?;
        let mut of_server = Wanted::any(now);
        for (key, criteria) in keys {
            let criteria = criteria.as_object().ok_or_else(bad)?;
            let minimum = match criteria.get("minimum_valid_until_ts") {
                Some(minimum) => minimum.as_i64().and_then(UnixMillis::from_i64).ok_or_else(bad)?,
                None => now,
            };
            of_server.keys.insert(KeyId::parse(key)?, minimum);
        }
        wanted.insert(ServerName::parse(server)?, of_server);
    }
    Ok(wanted)
}

/// Whether a key of the server that we know, and that was not retired as far as we know, signed the response.
fn has_signed(known: &KeySet, response: &ServerKeys) -> bool {
    let server = &response.server;
    let current = |key: &KeyId| known.get(server, key).filter(|key| !key.old).map(|key| &key.key);
    verify_object_with(&response.raw, server.as_str(), current).is_ok()
}

/// A notary asks again after half of a response's life, or when it is not good for what is asked and another might be.
fn is_stale(newest: &StoredServerKeys, now: UnixMillis, minimum: UnixMillis) -> bool {
    let half = newest.effective_valid_until.saturating_since(newest.fetched_at) / 2;
    let longest = now.plus(Duration::from_millis(MAX_KEY_VALIDITY_MILLIS));
    now >= newest.fetched_at.plus(half) || (newest.effective_valid_until < minimum && minimum <= longest)
}

fn lacks_a_key(newest: &StoredServerKeys, wanted: &BTreeMap<KeyId, UnixMillis>) -> bool {
    let object = Json::parse(&newest.response).ok().and_then(Json::into_object);
    object.is_none_or(|object| !wanted.keys().all(|key| lists_key(&object, key)))
}

fn lists_key(response: &Object, key: &KeyId) -> bool {
    ["verify_keys", "old_verify_keys"]
        .into_iter()
        .filter_map(|field| response.get(field).and_then(Json::as_object))
        .any(|keys| keys.contains_key(key.as_str()))
}

/// How soon after a successful fetch another one may follow: an unknown key ID must not make us ask without end.
const LEAST_BETWEEN_FETCHES: Duration = Duration::from_secs(1);
/// The same for fetches on behalf of who asks us as a notary, since anybody may.
const LEAST_BETWEEN_NOTARY_FETCHES: Duration = Duration::from_secs(60);
/// When a request is to be repeated whose origin could not be asked for keys.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Longest key response that is read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// First pause after a server did not answer; doubles up to [`BACKOFF_MAX`].
const BACKOFF_BASE: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);
/// Servers whose keys, or silence, are remembered at once.
const CACHED_SERVERS: usize = 10_000;
/// Bytes of memory for the keys of all servers. The servers unused for longest are forgotten first.
const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// What a key takes in memory, about.
const CACHED_KEY_BYTES: usize = 256;
/// What a response takes in the store besides its own bytes, about.
const ROW_BYTES: usize = 512;
/// Most responses read from one notary's answer.
const NOTARY_RESPONSES: usize = 32;
