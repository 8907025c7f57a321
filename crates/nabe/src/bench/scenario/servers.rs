//! Two servers as processes of their own, and all that goes between them and to their clients over lines that count.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nabe_http::tls::DevelopmentCa;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{DeviceId, ServerName, UserId};

use super::wire::Line;
use crate::{
    bench::{Process, process},
    cli::Init,
    client::account::{Account, Credential},
    init,
};

/// The hub, and the server that takes part in its room.
pub(super) struct Servers {
    folder: PathBuf,
    /// The hub is the first.
    pub(super) both: [Server; 2],
}

/// One of them.
pub(super) struct Server {
    process: Process,
    pub(super) name: ServerName,
    token: String,
    /// Its clients' line.
    clients: Line,
    /// The other server's lines to it: where Linearized Matrix is spoken, and where MIMI is.
    others: [Line; 2],
}

/// Where a server listens.
struct Place {
    name: ServerName,
    api: SocketAddr,
    mimi: SocketAddr,
}

impl Servers {
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ca = DevelopmentCa::generate()?;
        fs::write(folder.join("ca.pem"), ca.certificate_pem())?;
        fs::write(folder.join("ca.key"), ca.key_pem())?;
        let places = [place("a.localhost")?, place("b.localhost")?];
        let mut lines = Vec::new();
        for place in &places {
            lines.push((
                Line::open(place.api).await?,
                [Line::open(place.api).await?, Line::open(place.mimi).await?],
            ));
        }
        let ways = places.iter().zip(&lines);
        let ways: Vec<_> = ways
            .map(|(place, (_, [lm, mimi]))| (place.name.clone(), lm.address, mimi.address))
            .collect();
        let mut both = Vec::new();
        for (place, (clients, others)) in places.into_iter().zip(lines) {
            both.push(Server::start(folder, place, clients, others, &ways)?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            both: both.try_into().ok().context("there are two servers")?,
        })
    }

    /// What a client of one of them logs in with.
    pub(super) fn account(&self, at: usize, user: &str, device: &str) -> anyhow::Result<Account> {
        let server = &self.both[at];
        Ok(Account {
            server: format!("https://localhost:{}", server.clients.address.port()),
            device: DeviceId::parse(device)?,
            credential: Credential::Provider {
                token: server.token.clone(),
                user: UserId::parse(&format!("@{user}:{}", server.name))?,
            },
            ca: Some(self.folder.join("ca.pem")),
        })
    }

    /// All that was used so far, by the names of the lab.
    pub(super) fn used(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let [hub, other] = &self.both;
        let sum = |lines: &[Line], of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
        let clients = [&hub.clients, &other.clients];
        let used = [
            ("hub-cpu-ns", nanoseconds(hub.cpu_time()?)),
            ("other-cpu-ns", nanoseconds(other.cpu_time()?)),
            ("client-up-bytes", clients.iter().map(|line| line.up()).sum()),
            ("client-down-bytes", clients.iter().map(|line| line.down()).sum()),
            (
                "to-hub-bytes",
                sum(&hub.others, Line::up) + sum(&other.others, Line::down),
            ),
            (
                "from-hub-bytes",
                sum(&hub.others, Line::down) + sum(&other.others, Line::up),
            ),
        ];
        Ok(used.map(|(name, amount)| (name.to_owned(), amount)).into())
    }
}

impl Server {
    fn start(
        parent: &Path,
        place: Place,
        clients: Line,
        others: [Line; 2],
        ways: &[(ServerName, SocketAddr, SocketAddr)],
    ) -> anyhow::Result<Self> {
        let dir = parent.join(place.name.as_str());
        let arguments = Init {
            dir: dir.clone(),
            server_name: place.name.clone(),
            dev_tls: true,
            dev_ca: Some(parent.to_owned()),
            certificate_profile: None,
            mimi: Some(place.name.clone()),
        };
        init::write(&arguments, SystemClock.now())?;
        let overrides = |which: fn(&(ServerName, SocketAddr, SocketAddr)) -> SocketAddr| {
            let each: Vec<_> = ways
                .iter()
                .map(|way| format!("\"{}\" = \"{}\"", way.0, which(way)))
                .collect();
            format!("{{ {} }}", each.join(", "))
        };
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(dir.join("nabe.toml"))
            .env("NABE_LISTEN__ADDRESS", place.api.to_string())
            .env("NABE_FEDERATION__ONLY_CA_FILES", "true")
            .env("NABE_FEDERATION__OVERRIDES", overrides(|way| way.1))
            .env("NABE_MIMI__ADDRESS", place.mimi.to_string())
            .env("NABE_MIMI__ONLY_CA_FILES", "true")
            .env("NABE_MIMI__OVERRIDES", overrides(|way| way.2))
            .env("NABE_MIMI__MESSAGES_PER_SECOND", "1000000")
            .env("NABE_MIMI__UPDATES_PER_SECOND", "1000000")
            .env("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000")
            .env("NABE_LIMITS__BURST", "1000000")
            // All clients are at one address, and take turns: each but one keeps the server waiting.
            .env("NABE_LIMITS__CONNECTIONS_PER_ADDRESS", "8192")
            .env("NABE_LIMITS__STALL_MS", "1200000")
            .env("NABE_LOG__LEVEL", "error")
            .spawn()?;
        Ok(Self {
            process: Process(child),
            name: place.name,
            token: fs::read_to_string(dir.join("provider.token"))?.trim().to_owned(),
            clients,
            others,
        })
    }

    fn cpu_time(&self) -> anyhow::Result<Duration> {
        process::cpu_time(self.process.id())
    }
}

fn place(name: &str) -> anyhow::Result<Place> {
    // Free for the moment it takes the server to start: nobody else is given a port that was just used.
    let sockets = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let [api, mimi] = sockets;
    Ok(Place {
        name: ServerName::parse(name)?,
        api: api?.local_addr()?,
        mimi: mimi?.local_addr()?,
    })
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
