//! What memory has of other servers' keys: bounded in servers and in bytes; the servers unused for longest are forgotten first.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

#[cfg(test)]
use bytes::Bytes;
use nabe_signing::keys::KeySet;
use nabe_store::StoredServerKeys;
use nabe_types::{ServerName, UnixMillis};

use super::Keys;

#[derive(Default)]
pub(super) struct Cache {
    servers: BTreeMap<ServerName, Cached>,
    uses: u64,
    /// What the servers' keys take, in bytes, about.
    bytes: usize,
}

/// What memory has of one server's keys.
#[derive(Clone, Default)]
pub(crate) struct Cached {
    pub(super) keys: KeySet,
    /// The last response, if the store had no room for it.
    pub(super) unsaved: Option<StoredServerKeys>,
    /// The store was asked.
    pub(super) loaded: bool,
    /// When the server itself answered last, since we keep it in memory.
    pub(super) answered_at: Option<UnixMillis>,
    pub(super) failures: u32,
    pub(super) next_attempt: UnixMillis,
    /// The same for who asks us as a notary, so that anybody's question does not keep us from asking for ourselves.
    pub(super) next_as_notary: UnixMillis,
    pub(super) last_use: u64,
    /// Held while a request to this server is in progress.
    pub(super) flight: Arc<tokio::sync::Mutex<()>>,
}

impl Keys {
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

    pub(super) fn update(&self, server: &ServerName, change: impl FnOnce(&mut Cached)) {
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

/// Servers whose keys, or silence, are remembered at once.
const CACHED_SERVERS: usize = 10_000;
/// Bytes of memory for the keys of all servers. The servers unused for longest are forgotten first.
const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// What a key takes in memory, about.
const CACHED_KEY_BYTES: usize = 256;
