//! The use cases of a Nabe server, one file each. This crate knows rooms, transactions, keys, parked events and
//! delivery; it knows nothing of HTTP or SQL. Other servers, the clock and randomness are [`ports`].
//!
//! | Who calls | Where |
//! |---|---|
//! | another server | [`Service::authenticate`], then one method per endpoint: `send_txn`, `event`, `state`, `backfill`, `invite`, `membership`, `keys`, `devices`, `key_packages`, `media` |
//! | a local user | `client`, `media` |
//! | another MIMI provider, or a local user of MIMI | [`Service::mimi`], then one method per endpoint: `mimi` |
//! | nobody: workers | `deliver` (one per destination), `parked`, `janitor`, `commit_queue` |
//!
//! Every write goes through [`rooms`](self) and the commit queue: lock the room, decide on its view, commit, keep the
//! view. No database transaction is held while another server is being asked, and no lock on a room but for the one
//! exception in `room.rs`.

mod authenticate;
mod backfill;
pub mod client;
mod commit_queue;
mod deliver;
mod devices;
mod edu;
mod error;
mod event;
mod failed_pdu;
pub mod fuzzing;
mod gaps;
mod hooks;
mod idempotency;
mod incoming;
mod invite;
mod janitor;
mod join;
mod key_packages;
mod keys;
mod media;
mod membership;
pub mod metric;
pub mod mimi;
mod off_reactor;
mod parked;
pub mod ports;
mod rate_limit;
mod room;
mod rooms;
mod send_txn;
mod settings;
pub mod shares;
mod state;
mod visibility;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nabe_signing::Signer;
use nabe_signing::keys::OldKeyMap;
use nabe_store::Store;
use nabe_types::{ServerName, UnixMillis};
use tokio::task::JoinSet;

pub use authenticate::AuthenticationError;
pub use error::{Missing, ServiceError};
pub use hooks::Appended;
pub use key_packages::{KeyPackageRefused, KeyPackagesLeft, NewKeyPackage};
pub use media::{Envelope, MediaContent, MediaFolder, Upload, Uploaded};
pub use membership::MembershipKind;
pub use settings::{Compat, DeliverySettings, LimitSettings, MediaSettings, RateLimit, Settings};

use client::ClientState;
use commit_queue::CommitQueue;
use devices::DeviceState;
use gaps::Gaps;
use hooks::Hooks;
use idempotency::InFlight;
use keys::Keys;
use media::MediaState;
use mimi::{Mimi, MimiDeps, MimiState};
use parked::Joins;
use ports::{Clock, Entropy, Peers};
use rate_limit::RateLimiter;
use rooms::Rooms;

/// What a [`Service`] is made of.
pub struct Deps {
    /// Where everything durable lives.
    pub store: Arc<dyn Store>,
    /// Requests to other servers.
    pub peers: Arc<dyn Peers>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Our name and active signing keys.
    pub signer: Arc<Signer>,
    /// Keys we signed with formerly, and when each stopped being used (LM #int-transport-get-server-keys).
    pub old_keys: OldKeyMap,
    /// The operator's choices.
    pub settings: Settings,
    /// What it takes to be a MIMI provider; `None` for a server that is none.
    pub mimi: Option<MimiDeps>,
}

/// A running server without its sockets. Clones share everything.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    peers: Arc<dyn Peers>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    signer: Arc<Signer>,
    settings: Settings,
    commits: CommitQueue,
    rooms: Rooms,
    keys: Keys,
    devices: DeviceState,
    in_flight: InFlight,
    limiter: RateLimiter,
    joins: Joins,
    gaps: Gaps,
    hooks: Hooks,
    client: ClientState,
    media: MediaState,
    mimi: Option<Arc<MimiState>>,
    workers: tokio::sync::Mutex<JoinSet<()>>,
}

impl Service {
    /// Starts the workers and returns the handle. Reads nothing per room: a room is loaded when it is first used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(deps: Deps) -> Self {
        metric::describe();
        let (commits, queue) = CommitQueue::new();
        let keys = Keys::new(&deps.signer, deps.old_keys, &deps.settings.limits);
        let store = Arc::clone(&deps.store);
        let service = Self {
            inner: Arc::new(Inner {
                store: deps.store,
                peers: deps.peers,
                clock: deps.clock,
                entropy: deps.entropy,
                signer: deps.signer,
                commits,
                rooms: Rooms::default(),
                keys,
                devices: DeviceState::new(deps.settings.limits.rate_limited_callers),
                in_flight: InFlight::default(),
                limiter: RateLimiter::new(deps.settings.limits.rate_limited_callers),
                joins: Joins::default(),
                gaps: Gaps::default(),
                hooks: Hooks::new(),
                client: ClientState::default(),
                media: MediaState::default(),
                mimi: deps.mimi.map(|mimi| Arc::new(MimiState::new(mimi))),
                settings: deps.settings,
                workers: tokio::sync::Mutex::new(JoinSet::new()),
            }),
        };
        {
            let mut workers = service
                .inner
                .workers
                .try_lock()
                .expect("nobody else has the service yet");
            workers.spawn(queue.run(store));
            workers.spawn(service.clone().retry_parked());
            workers.spawn(service.clone().keep_house());
            workers.spawn(service.clone().deliver());
            workers.spawn(service.clone().wake_streams());
            if let Some(mimi) = service.mimi() {
                workers.spawn(mimi.clone().notify_followers());
                workers.spawn(mimi.clone().tend_children());
                workers.spawn(mimi.repeat_forwards());
            }
        }
        service
    }

    /// Stops the workers, writes a checkpoint of every room that changed, and waits until all that was queued is
    /// durable. Work of requests still running ends with [`ServiceError::ShuttingDown`]. Idempotent.
    pub async fn shutdown(&self) {
        self.inner.hooks.stop();
        self.write_checkpoints().await;
        self.inner.commits.close().await;
        let mut workers = self.inner.workers.lock().await;
        let grace = tokio::time::sleep(SHUTDOWN_GRACE);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                ended = workers.join_next() => if ended.is_none() { return },
                () = &mut grace => {
                    workers.shutdown().await;
                    return;
                }
            }
        }
    }

    /// Our server name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.settings.server_name
    }

    /// The operator's choices.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The same server as a MIMI provider, if it is one.
    #[must_use]
    pub fn mimi(&self) -> Option<Mimi> {
        let state = self.inner.mimi.as_ref()?;
        Some(Mimi::new(self.clone(), Arc::clone(state)))
    }

    /// Whether the database answers; for a readiness probe.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn check_ready(&self) -> Result<(), ServiceError> {
        self.store().destination(self.server_name()).await?;
        Ok(())
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.inner.store
    }

    pub(crate) fn peers(&self) -> &dyn Peers {
        &*self.inner.peers
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    pub(crate) fn signer(&self) -> &Arc<Signer> {
        &self.inner.signer
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.inner.clock.now()
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.inner.entropy.fill(&mut bytes);
        bytes
    }

    /// A transaction ID nobody used before: 24 random url-safe characters.
    pub(crate) fn new_txn_id(&self) -> String {
        nabe_signing::base64u::encode_url(&self.random::<18>())
    }

    pub(crate) fn is_us(&self, server: &ServerName) -> bool {
        server == self.server_name()
    }

    /// Refuses peers the operator's lists exclude. Our own name is always fine.
    ///
    /// # Errors
    ///
    /// [`ServiceError::PolicyRefused`]
    pub fn check_policy(&self, server: &ServerName) -> Result<(), ServiceError> {
        if self.is_us(server) || self.settings().policy.permits(server) {
            return Ok(());
        }
        metrics::counter!(metric::POLICY_REFUSALS).increment(1);
        Err(ServiceError::PolicyRefused { server: server.clone() })
    }

    /// Makes one batch durable. It is one database transaction with whatever else is queued, but fails alone.
    pub(crate) async fn commit(&self, batch: nabe_store::Batch) -> Result<(), ServiceError> {
        self.inner.commits.commit(batch).await
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("server_name", self.server_name())
            .finish_non_exhaustive()
    }
}

/// How long workers get to end what they are doing before they are dropped. What they do is durable, so nothing is lost.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
