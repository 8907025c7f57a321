//! Our own keys, and our service as a notary to others. LM #int-api-self-key, #int-api-notary-query.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::own_key_response;
use nabe_signing::object;
use nabe_store::StoredServerKeys;
use nabe_types::limits::MAX_KEY_VALIDITY_MILLIS;
use nabe_types::{KeyId, ServerName, UnixMillis};

use super::obtain::Need;
use super::{LEAST_BETWEEN_NOTARY_FETCHES, Purpose};
use crate::Service;
use crate::error::ServiceError;
use crate::settings::LimitSettings;

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
