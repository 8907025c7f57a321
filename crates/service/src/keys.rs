//! Signing keys: our own response, other servers' keys (fetched directly, else from a notary), and our service as a
//! notary to others. LM #int-transport-get-server-keys.
//!
//! Memory holds the keys of servers used lately, the store the last responses of each with distinct keys. For each server
//! at most one request is in progress, and one that does not answer is left alone for a while, so that forged origins
//! cost little. Names cost nothing to invent, so what the store takes in is bounded in bytes over time. What the room's
//! hub says of others' keys is no more than a help to verify what the same hub sent: it is never kept, and of a server that
//! we know it counts only with that server's own word.

mod cache;
mod keep;
mod notary;
mod obtain;

use std::sync::Mutex;
use std::time::Duration;

use nabe_signing::Signer;
use nabe_signing::keys::{KeySet, OldKeyMap, VerifyKey};
use tokio::sync::Semaphore;

use self::cache::Cache;
use crate::rate_limit::KeyLimiters;
use crate::settings::LimitSettings;

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
}

/// How soon after a fetch another one may follow on behalf of who asks us as a notary, since anybody may.
const LEAST_BETWEEN_NOTARY_FETCHES: Duration = Duration::from_secs(60);
