//! Keeping what was learned of other servers' keys: in the store as far as it takes in more, else in memory.

use bytes::Bytes;
use nabe_signing::json::Json;
use nabe_signing::keys::{KeySet, ServerKeys};
use nabe_store::{StoredServerKeys, Write, rules};
use nabe_types::ServerName;

use super::{Purpose, Source};
use crate::error::ServiceError;
use crate::{Service, metric};

impl Service {
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
    pub(super) async fn save_for_events(&self, server: &ServerName) -> Result<(), ServiceError> {
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
}

/// What a response takes in the store besides its own bytes, about.
const ROW_BYTES: usize = 512;
