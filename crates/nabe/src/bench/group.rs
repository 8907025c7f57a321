//! `nabe bench group`: an encrypted room with many devices at a real server. Every device is a client of its own, as `nabe client` has
//! it, with its state on disk; the server is a process of its own.
//!
//! One device brings all the others in, and each gives itself new keys, as clients do; then some commit, one after the other. A commit's time is from the wish to the echo:
//! making it, the hub's checks, a durable append, and following it. The time until another member has followed comes on top. With
//! `--to-the-limit` devices are added until a commit no longer fits into an event, which must be refused with the reason (LM
//! #int-ev-mls-commit).

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nabe_client::{
    Client, ClientError, ClientStore, Settings,
    transport::{NewRoom, Transport as _},
};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{DeviceId, RoomId, ServerName, UserId};
use serde::Serialize;

use super::{percentile, process};
use crate::{
    cli::{BenchGroup, Init},
    client::{
        account::{Account, Credential},
        http::HttpTransport,
    },
    init,
    output::say,
};

/// How many devices one commit adds; the client's own limit is the same.
const BATCH: u32 = 50;
const HUB: &str = "hub.localhost";
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
struct Figures {
    devices: usize,
    commits: usize,
    /// Of the event's content, canonical JSON.
    commit_bytes: usize,
    commit_p50_ms: f64,
    commit_max_ms: f64,
    followed_p50_ms: f64,
    add_50_ms: f64,
    join_by_welcome_p50_ms: f64,
    hub_cpu_ms_per_commit: f64,
    /// How many devices there were when the next did not fit, and what the client was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<(usize, String)>,
    load_average: Option<f64>,
}

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchGroup) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let figures = measure(folder.path(), arguments).await?;
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    Ok(())
}

async fn measure(folder: &Path, arguments: &BenchGroup) -> anyhow::Result<Figures> {
    let hub = Hub::start(folder)?;
    let mut founder = hub.ready(0).await?;
    let new = NewRoom {
        join_rule: Some("public".to_owned()),
        ..NewRoom::default()
    };
    let room = founder.create_room(new, Suite::default()).await?;
    let mut others = Vec::new();
    let (mut adding, mut joining) = (Vec::new(), Vec::new());
    while others.len() + 1 < usize::try_from(arguments.devices)? {
        let missing = usize::try_from(arguments.devices)? - 1 - others.len();
        let mut batch = hub
            .newcomers(&room, others.len(), missing.min(usize::try_from(BATCH)?))
            .await?;
        let start = now();
        add(&mut founder, &room, &batch).await?;
        if batch.len() == usize::try_from(BATCH)? {
            adding.push(start.elapsed());
        }
        for client in &mut batch {
            let start = now();
            reach(client, &room, 1).await?;
            joining.push(start.elapsed());
            client.catch_up().await?;
            client.update(&room).await?;
        }
        others.append(&mut batch);
        founder.catch_up().await?;
    }

    let (mut committing, mut following) = (Vec::new(), Vec::new());
    let cpu_before = process::cpu_time(hub.process.id())?;
    let step = (others.len() / usize::try_from(arguments.commits)?).max(1);
    for n in 0..usize::try_from(arguments.commits)? {
        let at = n * step % others.len();
        others[at].catch_up().await?;
        let start = now();
        others[at].update(&room).await?;
        committing.push(start.elapsed());
        let epoch = others[at].group(&room)?.context("the committer is in the group")?.epoch;
        reach(&mut founder, &room, epoch).await?;
        following.push(start.elapsed());
        let epochs = [&founder, &others[at]].map(|client| client.group(&room));
        let [Ok(Some(one)), Ok(Some(other))] = epochs else {
            bail!("a member is not in the group");
        };
        ensure!(one == other, "two members are in different states of the group");
    }
    let cpu = process::cpu_time(hub.process.id())?.saturating_sub(cpu_before);
    let devices = founder
        .group(&room)?
        .context("the founder is in the group")?
        .members
        .len();
    ensure!(
        devices == usize::try_from(arguments.devices)?,
        "{devices} devices are in the group"
    );
    let commit_bytes = hub.newest_commit(&founder, &room).await?;

    let limit = match arguments.to_the_limit {
        true => Some(hub.to_the_limit(&mut founder, &room, others.len()).await?),
        false => None,
    };
    for times in [&mut adding, &mut joining, &mut committing, &mut following] {
        times.sort_unstable();
    }
    Ok(Figures {
        devices,
        commits: committing.len(),
        commit_bytes,
        commit_p50_ms: percentile(&committing, 50),
        commit_max_ms: percentile(&committing, 100),
        followed_p50_ms: percentile(&following, 50),
        add_50_ms: percentile(&adding, 100),
        join_by_welcome_p50_ms: percentile(&joining, 50),
        hub_cpu_ms_per_commit: cpu.as_secs_f64() * 1e3 / committing.len() as f64,
        limit,
        load_average: process::load_average(),
    })
}

/// Takes in what comes until the client is in the group, and in this epoch of it at least.
async fn reach(client: &mut Client, room: &RoomId, epoch: u64) -> anyhow::Result<()> {
    let deadline = now() + PATIENCE;
    loop {
        client.sync(Duration::from_secs(5)).await?;
        if client.group(room)?.is_some_and(|group| group.epoch >= epoch) {
            return Ok(());
        }
        ensure!(now() < deadline, "{} did not reach epoch {epoch}", client.user());
    }
}

async fn add(founder: &mut Client, room: &RoomId, newcomers: &[Client]) -> Result<(), ClientError> {
    let users: Vec<UserId> = newcomers.iter().map(|client| client.user().clone()).collect();
    founder.add_users(room, &users).await
}

/// The server's process and where its clients are.
struct Hub {
    process: Process,
    folder: PathBuf,
    url: String,
    token: String,
}

impl Hub {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let dir = folder.join("hub");
        let arguments = Init {
            dir: dir.clone(),
            server_name: ServerName::parse(HUB)?,
            dev_tls: true,
            dev_ca: None,
        };
        init::write(&arguments, SystemClock.now())?;
        // Free for the moment it takes the server to start: nobody else is given a port that was just used.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(dir.join("nabe.toml"))
            .env("NABE_LISTEN__ADDRESS", address.to_string())
            .env("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000")
            .env("NABE_LIMITS__BURST", "1000000")
            .env("NABE_LOG__LEVEL", "warn")
            .spawn()?;
        Ok(Self {
            process: Process(process),
            folder: folder.to_owned(),
            url: format!("https://localhost:{}", address.port()),
            token: fs::read_to_string(dir.join("provider.token"))?.trim().to_owned(),
        })
    }

    fn account(&self, number: usize) -> anyhow::Result<Account> {
        Ok(Account {
            server: self.url.clone(),
            device: DeviceId::parse("D")?,
            credential: Credential::Provider {
                token: self.token.clone(),
                user: UserId::parse(&format!("@user{number}:{HUB}"))?,
            },
            ca: Some(self.folder.join("hub/ca.pem")),
        })
    }

    /// The client of a new user.
    async fn log_in(&self, number: usize) -> anyhow::Result<Client> {
        let folder = self.folder.join(format!("user{number}"));
        fs::create_dir_all(&folder)?;
        let transport = Arc::new(HttpTransport::new(&self.account(number)?)?);
        let store = ClientStore::open(&Account::database(&folder))?;
        // Nothing by itself: what is measured is what is asked for.
        let settings = Settings {
            tend: false,
            update_after_join: false,
            key_package_stock: 1,
            ..Settings::default()
        };
        let clock = Box::new(|| SystemClock.now());
        let device = DeviceId::parse("D")?;
        Ok(Client::log_in(transport, store, device, &[Suite::default()], settings, clock).await?)
    }

    /// The first client, once the server answers.
    async fn ready(&self, number: usize) -> anyhow::Result<Client> {
        let deadline = now() + PATIENCE;
        loop {
            match self.log_in(number).await {
                Ok(client) => return Ok(client),
                Err(error) if now() >= deadline => return Err(error.context("the server did not become ready")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Clients of so many new users who have joined the room and not its group.
    async fn newcomers(&self, room: &RoomId, known: usize, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut newcomers = Vec::new();
        for number in known + 1..=known + count {
            let mut client = self.log_in(number).await?;
            client.join(room, &[]).await?;
            newcomers.push(client);
        }
        Ok(newcomers)
    }

    /// How large the newest commit's content is.
    async fn newest_commit(&self, asking: &Client, room: &RoomId) -> anyhow::Result<usize> {
        use nabe_client::transport::Direction;
        let transport = HttpTransport::new(&self.account(0)?)?;
        let page = transport.history(room, None, Direction::Backward, 100).await?;
        let mut commits = page.events.iter().filter(|event| event.event_type == "m.mls.commit");
        let newest = commits
            .next()
            .with_context(|| format!("{} sees no commit", asking.user()))?;
        Ok(newest.content.to_canonical().len())
    }

    /// Adds devices one by one until that is refused, for the reason that is to be expected.
    async fn to_the_limit(
        &self,
        founder: &mut Client,
        room: &RoomId,
        mut known: usize,
    ) -> anyhow::Result<(usize, String)> {
        loop {
            let newcomers = self.newcomers(room, known, 1).await?;
            match add(founder, room, &newcomers).await {
                Ok(()) => known += 1,
                Err(error @ ClientError::CommitTooLarge { .. }) => {
                    let devices = founder
                        .group(room)?
                        .context("the founder is in the group")?
                        .members
                        .len();
                    return Ok((devices, error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
            ensure!(known < 1_000, "no commit was too large");
        }
    }
}

/// A child process that ends with us.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn print_text(figures: &Figures) {
    say!("{} devices in one room, {} commits", figures.devices, figures.commits);
    say!(
        "  commit, wish to echo      p50 {:.0} ms, max {:.0} ms",
        figures.commit_p50_ms,
        figures.commit_max_ms
    );
    say!("  another has followed      p50 {:.0} ms", figures.followed_p50_ms);
    say!("  commit event's content    {} bytes", figures.commit_bytes);
    say!("  adding 50 devices         {:.0} ms at most", figures.add_50_ms);
    say!(
        "  joining by Welcome        p50 {:.0} ms",
        figures.join_by_welcome_p50_ms
    );
    say!(
        "  hub CPU time per commit   {:.0} ms, with its readers",
        figures.hub_cpu_ms_per_commit
    );
    if let Some((devices, sentence)) = &figures.limit {
        say!("  limit                     {devices} devices; for one more: {sentence}");
    }
    if let Some(load) = figures.load_average {
        say!("  load average              {load:.2}");
    }
}
