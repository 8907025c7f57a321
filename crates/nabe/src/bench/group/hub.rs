//! The server that the group's clients are at, as a process of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use nabe_client::{
    Client, ClientStore, Settings,
    transport::{Direction, Transport as _},
};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{DeviceId, RoomId, ServerName, UserId};

use super::{PATIENCE, now};
use crate::{
    bench::process,
    cli::Init,
    client::{
        account::{Account, Credential},
        http::HttpTransport,
    },
    init,
};

const HUB: &str = "hub.localhost";

/// The server's process and where its clients are.
pub(super) struct Hub {
    process: Process,
    folder: PathBuf,
    url: String,
    token: String,
    /// How many users there are; their names are numbers. Names are short, as each is in every commit: a byte more in 150 of them is 200
    /// bytes of an event.
    users: usize,
}

impl Hub {
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let dir = folder.join("hub");
        let arguments = Init {
            dir: dir.clone(),
            server_name: ServerName::parse(HUB)?,
            dev_tls: true,
            dev_ca: None,
            certificate_profile: None,
            mimi: None,
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
            // All devices are at one address, and take turns: each but one keeps the server waiting.
            .env("NABE_LIMITS__CONNECTIONS_PER_ADDRESS", "4096")
            .env("NABE_LIMITS__STALL_MS", "1200000")
            .env("NABE_LOG__LEVEL", "warn")
            .spawn()?;
        Ok(Self {
            process: Process(process),
            folder: folder.to_owned(),
            url: format!("https://localhost:{}", address.port()),
            token: fs::read_to_string(dir.join("provider.token"))?.trim().to_owned(),
            users: 0,
        })
    }

    /// The CPU time that the server has used so far.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        process::cpu_time(self.process.0.id())
    }

    fn account(&self, number: usize) -> anyhow::Result<Account> {
        Ok(Account {
            server: self.url.clone(),
            device: DeviceId::parse("D")?,
            credential: Credential::Provider {
                token: self.token.clone(),
                user: UserId::parse(&format!("@u{number}:{HUB}"))?,
            },
            ca: Some(self.folder.join("hub/ca.pem")),
        })
    }

    /// The client of a new user.
    async fn log_in(&mut self) -> anyhow::Result<Client> {
        let number = self.users;
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
        let client = Client::log_in(transport, store, device, &[Suite::default()], settings, clock).await?;
        self.users += 1;
        Ok(client)
    }

    /// The first client, once the server answers.
    pub(super) async fn ready(&mut self) -> anyhow::Result<Client> {
        let deadline = now() + PATIENCE;
        loop {
            match self.log_in().await {
                Ok(client) => return Ok(client),
                Err(error) if now() >= deadline => return Err(error.context("the server did not become ready")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Clients of so many new users who have joined the room and not its group.
    pub(super) async fn newcomers(&mut self, room: &RoomId, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut newcomers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = self.log_in().await?;
            client.join(room, &[]).await?;
            newcomers.push(client);
        }
        Ok(newcomers)
    }

    /// How large the newest commit's content is, in bytes of canonical JSON.
    pub(super) async fn newest_commit(&self, room: &RoomId) -> anyhow::Result<usize> {
        let transport = HttpTransport::new(&self.account(0)?)?;
        let page = transport.history(room, None, Direction::Backward, 100).await?;
        let newest = page.events.iter().find(|event| event.event_type == "m.mls.commit");
        let newest = newest.context("the room has no commit")?;
        Ok(newest.content.to_canonical().len())
    }
}

/// A child process that ends with us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
