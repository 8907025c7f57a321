//! `nabe bench start`: a server with many rooms on disk. How long it takes until it answers, what memory it takes when nobody uses the
//! rooms, and what a room takes that is used.
//!
//! The rooms are real: users of the server make them, through the client API, as users do. That server is stopped, and the one that is
//! measured is started on its database, several times; the files are in the operating system's cache by then. Time counts from starting
//! the process to the answer that it is ready. Another server, whose database is empty, says what a server takes without rooms. Then
//! somebody writes into some of the rooms.

mod rooms;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use nabe_federation::{HttpsSettings, HttpsTransport, TlsSettings, Transport as _};
use nabe_http::tls::DevelopmentCa;
use nabe_service::ports::{Clock as _, SystemClock, SystemEntropy};
use nabe_store::{MimiStore as _, Store as _};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::ServerName;
use serde::Serialize;

use self::rooms::Rooms;
use super::{Process, now, process};
use crate::{
    cli::{BenchProtocol, BenchStart, Init},
    init,
    output::{note, say},
};

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
struct Figures {
    protocol: &'static str,
    rooms: u32,
    made_in_s: f64,
    database_bytes: u64,
    /// Until the server answered that it is ready, start by start.
    ready_ms: Vec<f64>,
    /// Of a server without rooms.
    empty_resident_bytes: u64,
    /// Of one with all of them that nobody uses.
    idle_resident_bytes: u64,
    bytes_per_idle_room: f64,
    active: u32,
    active_resident_bytes: u64,
    bytes_per_active_room: f64,
    load_average: Option<f64>,
}

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchStart) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = DevelopmentCa::generate()?;
    std::fs::write(folder.path().join("ca.pem"), ca.certificate_pem())?;
    std::fs::write(folder.path().join("ca.key"), ca.key_pem())?;

    let empty = Home::set(folder.path(), "empty", arguments.protocol)?;
    let server = empty.start().await?;
    let empty_resident_bytes = server.settled().await?;
    server.stop().await?;

    let home = Home::set(folder.path(), "full", arguments.protocol)?;
    note!("making {} rooms", arguments.rooms);
    let (server, start) = (home.start().await?, now());
    let mut rooms = Rooms::make(&home, arguments).await?;
    let made_in_s = start.elapsed().as_secs_f64();
    server.stop().await?;

    let mut ready_ms = Vec::new();
    let server = loop {
        let server = home.start().await?;
        ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        if ready_ms.len() >= usize::try_from(arguments.starts)? {
            break server;
        }
        server.stop().await?;
    };
    let idle_resident_bytes = server.settled().await?;
    rooms.use_some(&home).await?;
    let active_resident_bytes = server.settled().await?;
    let more = |after: u64, before: u64, rooms: u32| (after as f64 - before as f64) / f64::from(rooms.max(1));
    server.stop().await?;
    let kept = home.rooms_on_disk(arguments.protocol).await?;
    ensure!(
        kept == arguments.rooms as usize,
        "the database has {kept} of {} rooms",
        arguments.rooms
    );
    let figures = Figures {
        protocol: match arguments.protocol {
            BenchProtocol::Lm => "lm",
            BenchProtocol::Mimi => "mimi",
        },
        rooms: arguments.rooms,
        made_in_s,
        database_bytes: home.database_bytes()?,
        ready_ms,
        empty_resident_bytes,
        idle_resident_bytes,
        bytes_per_idle_room: more(idle_resident_bytes, empty_resident_bytes, arguments.rooms),
        active: arguments.active,
        active_resident_bytes,
        bytes_per_active_room: more(active_resident_bytes, idle_resident_bytes, arguments.active),
        load_average: process::load_average(),
    };
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    Ok(())
}

/// A server's folder, and how it is reached.
struct Home {
    name: ServerName,
    folder: PathBuf,
    ca: PathBuf,
    port: u16,
    mimi_port: u16,
    transport: HttpsTransport,
}

/// A server that runs.
struct Running<'h> {
    home: &'h Home,
    process: Process,
    ready_after: Duration,
}

impl Home {
    fn set(parent: &Path, which: &str, protocol: BenchProtocol) -> anyhow::Result<Self> {
        let name = ServerName::parse("hub.localhost")?;
        let arguments = Init {
            dir: parent.join(which),
            server_name: name.clone(),
            dev_tls: true,
            dev_ca: Some(parent.to_owned()),
            mimi: (protocol == BenchProtocol::Mimi).then(|| name.clone()),
            certificate_profile: None,
        };
        init::write(&arguments, SystemClock.now())?;
        // Free for the moment it takes the server to start: nobody else is given a port that was just used.
        let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
        let [public, mimi] = sockets;
        let (address, mimi) = (public?.local_addr()?, mimi?.local_addr()?);
        let settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_root_files: vec![parent.join("ca.pem")],
                ..TlsSettings::default()
            },
            overrides: std::iter::once((name.clone(), address)).collect(),
            max_in_flight: 64,
            ..HttpsSettings::default()
        };
        Ok(Self {
            name,
            folder: arguments.dir,
            ca: parent.join("ca.pem"),
            port: address.port(),
            mimi_port: mimi.port(),
            transport: HttpsTransport::new(settings, Arc::new(SystemClock), Arc::new(SystemEntropy))?,
        })
    }

    /// Starts the server and waits until it is ready.
    async fn start(&self) -> anyhow::Result<Running<'_>> {
        let start = now();
        let process = Process(
            Command::new(std::env::current_exe()?)
                .args(["serve", "--config"])
                .arg(self.folder.join("nabe.toml"))
                .env("NABE_LISTEN__ADDRESS", format!("127.0.0.1:{}", self.port))
                .env("NABE_MIMI__ADDRESS", format!("127.0.0.1:{}", self.mimi_port))
                .env("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000")
                .env("NABE_LIMITS__BURST", "1000000")
                .env("NABE_LOG__LEVEL", "warn")
                .spawn()?,
        );
        // It listens before it is ready, and answers when it is.
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            ensure!(start.elapsed() < PATIENCE, "the server does not listen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        loop {
            let request = Request::get("/_nabe/health/ready").body(Bytes::new())?;
            let answer = self.transport.send(&self.name, request, PATIENCE).await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                break;
            }
            ensure!(start.elapsed() < PATIENCE, "the server did not become ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Running {
            home: self,
            process,
            ready_after: start.elapsed(),
        })
    }

    fn provider_token(&self) -> anyhow::Result<String> {
        let token = std::fs::read_to_string(self.folder.join("provider.token"))?;
        Ok(token.trim().to_owned())
    }

    async fn rooms_on_disk(&self, protocol: BenchProtocol) -> anyhow::Result<usize> {
        let store = SqliteStore::open(&SqliteOptions::new(self.folder.join("data/nabe.sqlite"))).await?;
        Ok(match protocol {
            BenchProtocol::Lm => store.rooms().await?.len(),
            BenchProtocol::Mimi => store.mimi_rooms().await?.len(),
        })
    }

    /// Of the database and its write-ahead log.
    fn database_bytes(&self) -> anyhow::Result<u64> {
        let database = std::fs::metadata(self.folder.join("data/nabe.sqlite"))?.len();
        let log = std::fs::metadata(self.folder.join("data/nabe.sqlite-wal"));
        Ok(database + log.map_or(0, |log| log.len()))
    }
}

impl Running<'_> {
    /// Resident memory once the server has done what there is to do after a start, or after the last request.
    async fn settled(&self) -> anyhow::Result<u64> {
        tokio::time::sleep(SETTLING).await;
        let bytes = process::resident_bytes(self.process.id());
        bytes.context("the memory of a process can be read")
    }

    /// Asks the server to stop, and waits until it has.
    async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status()?;
        ensure!(
            asked.success(),
            "the server of {} could not be stopped",
            self.home.folder.display()
        );
        let start = now();
        while self.process.0.try_wait()?.is_none() {
            ensure!(start.elapsed() < PATIENCE, "the server does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn print_text(figures: &Figures) {
    let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    let kib = |bytes: f64| bytes / 1024.0;
    say!(
        "{} rooms ({}), made in {:.0} s; the database has {:.0} MiB",
        figures.rooms,
        figures.protocol,
        figures.made_in_s,
        mib(figures.database_bytes)
    );
    let starts: Vec<_> = figures.ready_ms.iter().map(|ms| format!("{ms:.0}")).collect();
    say!("  ready after               {} ms", starts.join(", "));
    say!(
        "  memory, no room used      {:.1} MiB, without rooms {:.1} MiB: {:.2} KiB for each",
        mib(figures.idle_resident_bytes),
        mib(figures.empty_resident_bytes),
        kib(figures.bytes_per_idle_room)
    );
    say!(
        "  memory, {} used         {:.1} MiB: {:.1} KiB for each",
        figures.active,
        mib(figures.active_resident_bytes),
        kib(figures.bytes_per_active_room)
    );
    if let Some(load) = figures.load_average {
        say!("  load average              {load:.2}");
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
/// After which a server's memory is looked at.
const SETTLING: Duration = Duration::from_secs(2);
