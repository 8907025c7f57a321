//! The servers of a simulation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use nabe_federation::{PeerSettings, SignedPeers};
use nabe_http::{AppState, HttpLimits};
use nabe_service::client::NewEvent;
use nabe_service::ports::{Clock, ManualClock, Method, PeerError, PeerRequest, PeerResponse, Peers as _};
use nabe_service::{Deps, RateLimit, Service, Settings};
use nabe_signing::json::Object;
use nabe_signing::keys::OldKeyMap;
use nabe_signing::{Signer, SigningKey, sha256};
use nabe_store::{Between, MemoryStore, Order, Store};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::{KeyId, RoomId, ServerName, UnixMillis, UserId};
use tokio::task::JoinHandle;

use crate::activity::{Activity, Life};
use crate::disk::{Disk, Fuse};
use crate::entropy::Seeded;
use crate::wire::{SimTransport, Wire};

/// `h.example` from `h`.
#[must_use]
pub fn server(name: &str) -> ServerName {
    ServerName::parse(&format!("{name}.example")).expect("test names are well-formed")
}

/// `@alice:h.example` from `alice` and `h`.
#[must_use]
pub fn user(localpart: &str, name: &str) -> UserId {
    UserId::parse(&format!("@{localpart}:{name}.example")).expect("test names are well-formed")
}

/// An event to send.
#[must_use]
pub fn event(event_type: &str, state_key: Option<&str>, content: Object) -> NewEvent {
    NewEvent {
        event_type: event_type.to_owned(),
        state_key: state_key.map(str::to_owned),
        content,
    }
}

/// How a cluster is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep each server's data in an SQLite database instead of memory.
    pub sqlite: bool,
}

/// Servers, the wire between them and their clock.
pub struct Cluster {
    /// The time all servers see.
    pub clock: ManualClock,
    /// The network.
    pub wire: Wire,
    /// What is going on.
    pub activity: Activity,
    servers: BTreeMap<String, Server>,
    options: Options,
    folder: Option<tempfile::TempDir>,
}

/// One server, running or not.
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its signing keys.
    pub signer: Arc<Signer>,
    /// The keys it used before.
    pub old_keys: OldKeyMap,
    /// Its settings; changes take effect at the next start.
    pub settings: Settings,
    data: Data,
    runs: u32,
    running: Option<Running>,
}

enum Data {
    Memory(MemoryStore),
    Sqlite(PathBuf),
}

struct Running {
    service: Service,
    disk: Arc<Disk>,
    database: Weak<SqliteStore>,
    life: Life,
}

/// A runtime for one simulation: one thread, so that the same operations give the same run, and one more for blocking jobs, which
/// it does in the order they come.
///
/// # Panics
///
/// When the operating system has no resources left.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .expect("a thread and a poll handle can be had")
}

/// Runs a scenario in a runtime of its own.
///
/// # Panics
///
/// When the scenario fails.
pub fn run<F: Future<Output = anyhow::Result<()>>>(scenario: impl FnOnce(Activity) -> F) {
    let activity = Activity::default();
    let outcome = runtime().block_on(scenario(activity.clone()));
    if let Err(error) = outcome {
        panic!("{error:#}");
    }
}

impl Cluster {
    /// Running servers with these names.
    ///
    /// # Errors
    ///
    /// When a database cannot be opened.
    pub async fn start(names: &[&str], options: Options, activity: Activity) -> anyhow::Result<Self> {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let folder = if options.sqlite {
            Some(tempfile::tempdir()?)
        } else {
            None
        };
        let mut cluster = Self {
            wire: Wire::new(clock.clone(), activity.clone()),
            clock,
            activity,
            servers: BTreeMap::new(),
            options,
            folder,
        };
        for name in names {
            cluster.add(name);
            cluster.boot(name).await?;
        }
        Ok(cluster)
    }

    /// Adds a server without starting it.
    pub fn add(&mut self, name: &str) {
        let server_name = server(name);
        let mut settings = Settings::new(server_name.clone());
        // The clock stands still for many operations; how fast callers may be is tested elsewhere.
        settings.limits.federation = RateLimit {
            per_second: 1e6,
            burst: 1e6,
        };
        settings.limits.client = settings.limits.federation;
        let data = match &self.folder {
            Some(folder) => Data::Sqlite(folder.path().join(format!("{name}.sqlite"))),
            None => Data::Memory(MemoryStore::new()),
        };
        let server = Server {
            signer: Arc::new(signer(&server_name, "1")),
            name: server_name,
            old_keys: OldKeyMap::new(),
            settings,
            data,
            runs: 0,
            running: None,
        };
        self.servers.insert(name.to_owned(), server);
    }

    /// Whether the data is in SQLite databases.
    #[must_use]
    pub const fn is_on_sqlite(&self) -> bool {
        self.options.sqlite
    }

    /// Starts a server on the data it has. Nothing happens if it runs already.
    ///
    /// # Errors
    ///
    /// When its database cannot be opened.
    pub async fn boot(&mut self, name: &str) -> anyhow::Result<()> {
        self.reap(name).await;
        let (clock, wire, activity) = (self.clock.clone(), self.wire.clone(), self.activity.clone());
        let server = self.server_mut(name);
        if server.running.is_some() {
            return Ok(());
        }
        server.runs += 1;
        let life = Life::default();
        let mut database = Weak::new();
        let store: Arc<dyn Store> = match &server.data {
            Data::Memory(memory) => Arc::new(memory.clone()),
            Data::Sqlite(path) => {
                let open = SqliteStore::open(&SqliteOptions::new(path))
                    .await
                    .context("open a database")?;
                let open = Arc::new(open);
                database = Arc::downgrade(&open);
                open
            }
        };
        let disk = Arc::new(Disk::new(store, life.clone(), activity));
        let shared_clock: Arc<dyn Clock> = Arc::new(clock);
        let transport = SimTransport {
            from: server.name.clone(),
            life: life.clone(),
            wire: wire.clone(),
        };
        let peer_settings = PeerSettings {
            policy: server.settings.policy.clone(),
            ..PeerSettings::default()
        };
        let peers = SignedPeers::new(
            transport,
            Arc::clone(&server.signer),
            Arc::clone(&shared_clock),
            peer_settings,
        );
        let service = Service::start(Deps {
            store: Arc::<Disk>::clone(&disk),
            peers: Arc::new(peers),
            clock: shared_clock,
            entropy: Arc::new(Seeded::new(&format!("{} {}", server.name, server.runs))),
            signer: Arc::clone(&server.signer),
            old_keys: server.old_keys.clone(),
            settings: server.settings.clone(),
            mimi: None,
        });
        let router = nabe_http::app(AppState {
            service: service.clone(),
            well_known: None,
            provider_token_hash: None,
            limits: HttpLimits::default(),
            metrics: Arc::new(String::new),
            ohttp: None,
        });
        wire.plug_in(&server.name, router, life.clone());
        server.running = Some(Running {
            service,
            disk,
            database,
            life,
        });
        Ok(())
    }

    /// The process dies at this moment. What was committed is what the next start finds.
    pub async fn crash(&mut self, name: &str) {
        if let Some(running) = &self.server(name).running {
            running.life.end();
        }
        self.reap(name).await;
    }

    /// The process will die at a commit.
    pub fn crash_at_commit(&self, name: &str, fuse: Fuse) {
        if let Some(running) = &self.server(name).running {
            running.disk.set_fuse(fuse);
        }
    }

    /// Cleans up after a process that died.
    async fn reap(&mut self, name: &str) {
        let server = self.server_mut(name);
        let Some(running) = server.running.take_if(|running| running.life.is_over()) else {
            return;
        };
        running.disk.release();
        if let Data::Memory(memory) = &mut server.data {
            *memory = memory.snapshot();
        }
        // The next process can only open the database once this one's last call is done with it.
        while running.database.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        let name = server.name.clone();
        self.wire.unplug(&name);
    }

    /// Stops a server as an operator would.
    pub async fn stop(&mut self, name: &str) {
        self.reap(name).await;
        let Some(running) = &self.server(name).running else {
            return;
        };
        tokio::select! {
            biased;
            // It may still die while it stops.
            () = running.life.over() => {}
            () = running.service.shutdown() => running.life.end(),
        }
        self.reap(name).await;
    }

    /// Whether a server runs.
    #[must_use]
    pub fn is_up(&self, name: &str) -> bool {
        self.server(name)
            .running
            .as_ref()
            .is_some_and(|running| !running.life.is_over())
    }

    /// The names of all servers, running or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// A server.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> &Server {
        self.servers.get(name).expect("the server was added")
    }

    /// A server, to change its settings or keys before the next start.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    pub fn server_mut(&mut self, name: &str) -> &mut Server {
        self.servers.get_mut(name).expect("the server was added")
    }

    /// A running server's service and the end of its life; `None` if it is down.
    #[must_use]
    pub fn try_service(&self, name: &str) -> Option<(Service, Life)> {
        let running = self
            .server(name)
            .running
            .as_ref()
            .filter(|running| !running.life.is_over())?;
        Some((running.service.clone(), running.life.clone()))
    }

    /// A running server's service.
    ///
    /// # Panics
    ///
    /// When it is down.
    #[must_use]
    pub fn service(&self, name: &str) -> Service {
        self.try_service(name).expect("the server runs").0
    }

    /// A running server's store.
    ///
    /// # Panics
    ///
    /// When it is down.
    #[must_use]
    pub fn store(&self, name: &str) -> Arc<Disk> {
        let running = self.server(name).running.as_ref().expect("the server runs");
        Arc::clone(&running.disk)
    }

    /// Gives a server a new signing key; the old one is published as such. Takes effect at the next start.
    pub fn rotate_key(&mut self, name: &str, version: &str) {
        let now = self.clock.now();
        let server = self.server_mut(name);
        for (key_id, key) in server.signer.public_keys() {
            server.old_keys.insert(key_id, (key, now));
        }
        server.signer = Arc::new(signer(&server.name, version));
    }

    /// Cuts a server off, or connects it again.
    pub fn set_isolated(&self, name: &str, is_cut: bool) {
        for other in self.servers.values().filter(|other| other.name != server(name)) {
            self.wire.set_cut(&server(name), &other.name, is_cut);
            self.wire.set_cut(&other.name, &server(name), is_cut);
        }
    }

    /// Cuts the link between two servers, or connects them again.
    pub fn set_cut(&self, a: &str, b: &str, is_cut: bool) {
        self.wire.set_cut(&server(a), &server(b), is_cut);
        self.wire.set_cut(&server(b), &server(a), is_cut);
    }

    /// A request of one server to another that its program would not make: signed with its key, by this path.
    ///
    /// # Errors
    ///
    /// As for `Peers::call`.
    pub async fn call_as(
        &self,
        from: &str,
        to: &str,
        method: Method,
        path: &str,
        body: Option<&Object>,
    ) -> Result<PeerResponse, PeerError> {
        let sender = self.server(from);
        let transport = SimTransport {
            from: sender.name.clone(),
            life: Life::default(),
            wire: self.wire.clone(),
        };
        let clock = Arc::new(self.clock.clone());
        let peers = SignedPeers::new(transport, Arc::clone(&sender.signer), clock, PeerSettings::default());
        let request = PeerRequest {
            method,
            stable: path.to_owned(),
            unstable: None,
            body: body.map(|body| Bytes::from(body.to_canonical())),
            timeout: Duration::from_secs(60),
        };
        peers.call(&server(to), request).await
    }

    /// Lets everything run that can run without the clock moving.
    ///
    /// # Panics
    ///
    /// When it does not come to rest.
    pub async fn let_run(&self) {
        let began = tokio::time::Instant::now();
        let (mut seen, mut still) = (self.activity.steps(), 0);
        while still < STILL {
            tokio::task::yield_now().await;
            still += 1;
            if still % LOOKS_PER_JOB == 0 {
                // Blocking jobs are done in order: when this one is, so are those begun before it, however busy the machine is.
                let _ = tokio::task::spawn_blocking(|| ()).await;
            }
            let steps = self.activity.steps();
            if steps != seen || self.activity.is_working() {
                (seen, still) = (steps, 0);
            }
            assert!(began.elapsed() < PATIENCE, "the servers do not come to rest");
        }
    }

    /// Begins something that counts as under way until it is done.
    pub fn spawn<T: Send + 'static>(&self, act: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let ongoing = self.activity.pending();
        tokio::spawn(async move {
            let _ongoing = ongoing;
            act.await
        })
    }

    /// What comes of something that needs no time on the clock.
    ///
    /// # Errors
    ///
    /// When it needs time all the same, or panicked.
    pub async fn finish<T>(&self, act: JoinHandle<T>) -> anyhow::Result<T> {
        let began = tokio::time::Instant::now();
        while !act.is_finished() {
            anyhow::ensure!(began.elapsed() < PATIENCE / 3, "an operation waits for something");
            self.let_run().await;
        }
        Ok(act.await?)
    }

    /// Moves the clock and lets everything run.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.let_run().await;
    }

    /// Moves the clock until nothing is under way, nothing is owed to anybody and no event waits. All servers must run.
    ///
    /// # Errors
    ///
    /// What is left when that does not happen within a few days.
    pub async fn quiesce(&self) -> anyhow::Result<()> {
        let mut left = String::new();
        for (steps, millis) in [(20, 500), (20, 5_000), (20, 60_000), (20, 600_000), (30, 3_600_000)] {
            for _ in 0..steps {
                self.let_run().await;
                left = self.left().await?;
                if left.is_empty() {
                    return Ok(());
                }
                self.clock.advance(Duration::from_millis(millis));
            }
        }
        self.let_run().await;
        anyhow::ensure!(self.left().await?.is_empty(), "never comes to rest: {left}");
        Ok(())
    }

    /// What there is left to do, in words; empty if nothing.
    async fn left(&self) -> anyhow::Result<String> {
        let mut left = String::new();
        if self.activity.pending_count() > 0 || self.activity.delayed_count() > 0 {
            left += "requests are under way; ";
        }
        for name in self.names() {
            let Some(running) = &self.server(name).running else {
                left += &format!("{name} is down; ");
                continue;
            };
            if running.life.is_over() {
                left += &format!("{name} is dead; ");
                continue;
            }
            for work in running.disk.destinations_with_work().await? {
                let to = &work.destination;
                left += &format!(
                    "{name} owes {to} something ({} failures, {}); ",
                    work.failures, work.last_error
                );
            }
            for parked in running.disk.parked_due(UnixMillis(u64::MAX >> 1), 3).await? {
                left += &format!("{name} has parked {} ({:?}); ", parked.event_id, parked.reason);
            }
        }
        Ok(left)
    }

    /// A server's log of a room, oldest first.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn log(&self, name: &str, room: &RoomId) -> anyhow::Result<Vec<nabe_core::Entry>> {
        Ok(self
            .store(name)
            .entries(room, Between::ALL, usize::MAX, Order::Ascending)
            .await?)
    }

    /// The IDs in a server's log of a room, oldest first.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn ids(&self, name: &str, room: &RoomId) -> anyhow::Result<Vec<String>> {
        Ok(self
            .log(name, room)
            .await?
            .iter()
            .map(|entry| entry.event_id().to_string())
            .collect())
    }

    /// The `body`s of the messages in a server's log of a room, oldest first.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn messages(&self, name: &str, room: &RoomId) -> anyhow::Result<Vec<String>> {
        let log = self.log(name, room).await?;
        let bodies = log
            .iter()
            .filter_map(|entry| entry.pdu()?.content().get("body")?.as_str().map(str::to_owned));
        Ok(bodies.collect())
    }
}

/// The signer of a server with one key, which follows from names.
#[must_use]
pub fn signer(server: &ServerName, version: &str) -> Signer {
    let key_id = KeyId::ed25519(version).expect("test versions are well-formed");
    let key = SigningKey::from_seed(key_id, sha256(format!("{server} {version}").as_bytes()));
    Signer::new(server.clone(), vec![key]).expect("there is a key")
}

/// Looks around in vain after which nothing is going on.
const STILL: u32 = 60;
/// Looks around between two looks at the blocking jobs: enough for a task to go on from one job to its next.
const LOOKS_PER_JOB: u32 = 10;
/// After this time on the real clock something is taken to run in circles. No outcome depends on it otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
