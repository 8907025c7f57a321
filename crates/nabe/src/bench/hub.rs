//! `nabe bench hub`: a hub, a follower that acknowledges, and this process as the sender; three processes on loopback.
//!
//! Everything the sender sends is signed before the clock starts, so what is measured is the hub: request authentication,
//! two Ed25519 operations an event, the authorization rules, an append that is on the disk (SQLite, WAL, `synchronous=FULL`)
//! before it is acknowledged, and delivery to the follower, which is the sender's own server (a hub echoes every event to its
//! author, LM #int-receiving-events). CPU time counts until the follower has everything. Then the hub is killed, and its database
//! must have every event that was accepted.
//!
//! With `--rate` as many events are sent once more, each transaction when it is due ([`super::open_loop`]). With `--followers` users of further
//! servers are in the rooms, which say nothing and are sent everything.

mod figures;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use nabe_federation::{HttpsSettings, HttpsTransport, TlsSettings, Transport as _};
use nabe_http::tls::DevelopmentCa;
use nabe_service::ports::{Clock as _, SystemClock, SystemEntropy};
use nabe_signing::{Json, Object, object};
use nabe_store::{Between, Order, Store as _};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::{RoomId, ServerName};

use self::figures::{Figures, print_text};
use super::{
    Process,
    latency::Latency,
    load::{EVENT_TYPE, Origin},
    now,
    open_loop::{AtRate, Timetable},
    process::{self, Spent},
    sink,
};
use crate::{
    cli::{BenchHub, BenchRate, Init},
    init,
    output::say,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Events per origin before the clock starts: keys fetched, connections open, caches filled.
const WARM_UP_EVENTS: u32 = 200;

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchHub) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let load = Load::of(arguments);
    let mut stage = Stage::set(folder.path(), &load).await?;
    let mut figures = stage.measure(&load).await?;
    figures.durable = stage.survives_a_kill(folder.path()).await?;
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    ensure!(figures.durable, "accepted events are lost");
    Ok(())
}

/// What is asked for, with what is taken where nothing is said.
struct Load {
    events: u32,
    rooms: u32,
    origins: u32,
    followers: u32,
    batch: u32,
    rate: Option<BenchRate>,
}

impl Load {
    fn of(arguments: &BenchHub) -> Self {
        Self {
            events: arguments.events,
            rooms: arguments.rooms,
            origins: arguments.origins.unwrap_or(1),
            followers: arguments.followers.unwrap_or(0),
            batch: arguments.batch.unwrap_or(50),
            rate: arguments.rate,
        }
    }
}

/// What one origin sends after the other.
type Transactions = Vec<Request<Bytes>>;

/// The processes and what is needed to speak to them.
struct Stage {
    hub: Process,
    _sink: Process,
    hub_name: ServerName,
    sink_name: ServerName,
    transport: Arc<HttpsTransport>,
    origins: Vec<Origin>,
    followers: Vec<Origin>,
    rooms: Vec<RoomId>,
    /// Events accepted so far, those before the clock starts included.
    accepted: u64,
}

impl Stage {
    async fn set(folder: &Path, load: &Load) -> anyhow::Result<Self> {
        let hub_name = ServerName::parse("hub.localhost")?;
        let origins = (1..=load.origins).map(|n| format!("o{n}.localhost"));
        let followers = (1..=load.followers).map(|n| format!("f{n}.localhost"));
        let names = origins.chain(followers).map(|name| ServerName::parse(&name));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let ca = DevelopmentCa::generate()?;
        std::fs::write(folder.join("ca.pem"), ca.certificate_pem())?;
        std::fs::write(folder.join("ca.key"), ca.key_pem())?;

        let (sink, sink_address) = start_sink(folder, &ca, &names)?;
        let (hub, hub_address) = start_hub(folder, &hub_name, &names, sink_address)?;
        let addresses = names
            .iter()
            .map(|name| (name.clone(), sink_address))
            .chain([(hub_name.clone(), hub_address)]);
        let transport = Arc::new(HttpsTransport::new(
            HttpsSettings {
                tls: TlsSettings {
                    system_roots: false,
                    extra_root_files: vec![folder.join("ca.pem")],
                    ..TlsSettings::default()
                },
                overrides: addresses.collect(),
                max_in_flight: 64,
                ..HttpsSettings::default()
            },
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        )?);
        let mut origins = (1..)
            .zip(&names)
            .map(|(seed, name)| Origin::new(sink::signer(name.clone(), seed)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let followers = origins.split_off(usize::try_from(load.origins)?);
        let sink_name = names.first().context("there is an origin")?.clone();
        let mut stage = Self {
            hub,
            _sink: sink,
            hub_name,
            sink_name,
            transport,
            origins,
            followers,
            rooms: Vec::new(),
            accepted: 0,
        };
        stage.wait_until_ready().await?;
        let token = std::fs::read_to_string(folder.join("hub/provider.token"))?;
        stage.make_rooms(token.trim(), load.rooms).await?;
        Ok(stage)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = now() + PATIENCE;
        loop {
            let request = Request::get("/_nabe/health/ready").body(Bytes::new())?;
            let answer = self
                .transport
                .send(&self.hub_name, request, Duration::from_secs(2))
                .await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Ok(());
            }
            ensure!(now() < deadline, "the hub did not become ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Public rooms made by a user of the hub, joined by the user of every other server through `make_join` and `send_join`.
    async fn make_rooms(&mut self, token: &str, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let request = Request::post("/_nabe/v1/rooms")
                .header("authorization", format!("Bearer {token}"))
                .header("nabe-user", format!("@owner:{}", self.hub_name))
                .header("content-type", "application/json")
                .body(Bytes::from(object! { "join_rule" => "public" }.to_canonical()))?;
            let created = self.call(request).await?;
            let room = RoomId::parse(created.get("room_id").and_then(Json::as_str).unwrap_or_default())?;
            for origin in self.origins.iter().chain(&self.followers) {
                let path = format!(
                    "/_matrix/federation/v1/make_join/{}/{}?ver=I.1",
                    escape(room.as_str()),
                    escape(origin.user.as_str())
                );
                self.call(origin.request(Method::GET, &path, &self.hub_name, None)?)
                    .await?;
                let join = origin.join(&room, &self.hub_name, SystemClock.now())?;
                let path = format!("/_matrix/federation/v3/send_join/join-{}", escape(room.as_str()));
                self.call(origin.request(Method::POST, &path, &self.hub_name, Some(join.into()))?)
                    .await?;
            }
            self.rooms.push(room);
        }
        Ok(())
    }

    async fn measure(&mut self, load: &Load) -> anyhow::Result<Figures> {
        let per_origin = load.events / load.origins;
        let parts = [
            WARM_UP_EVENTS.min(per_origin),
            per_origin,
            match load.rate {
                Some(_) => per_origin,
                None => 0,
            },
        ];
        let [warm_up, at_once, when_due] = self.sign(parts, load.batch)?;
        self.accepted += count_all(&warm_up);
        self.send_all(warm_up).await?;
        let before = self.settled().await?;

        let measured = self.run(before, at_once, |stage, load| stage.send_all(load)).await?;
        let accepted_per_s = measured.events as f64 / measured.accepted.as_secs_f64();
        let mut received = before + measured.owed;
        let wanted_per_s = load.rate.map(|rate| match rate {
            BenchRate::Half => accepted_per_s / 2.0,
            BenchRate::PerSecond(events) => f64::from(events),
        });
        let at_rate = match wanted_per_s {
            None => None,
            Some(wanted_per_s) => {
                let timetable = wanted_per_s / f64::from(load.batch);
                let send = |stage, load| Self::send_when_due(stage, load, timetable);
                let measured = self.run(received, when_due, send).await?;
                received += measured.owed;
                Some(AtRate {
                    wanted_per_s,
                    accepted_per_s: measured.events as f64 / measured.accepted.as_secs_f64(),
                    events: measured.events,
                    hub_cpu_us_per_event: measured.spent.cpu_us() / measured.events as f64,
                    latency: Latency::of(measured.times),
                })
            }
        };
        Ok(Figures {
            events: measured.events,
            rooms: load.rooms,
            origins: load.origins,
            followers: load.followers,
            batch: load.batch,
            accepted_per_s,
            hub_cpu_us_per_event: measured.spent.cpu_us() / measured.events as f64,
            hub_bytes_written_per_event: measured.spent.bytes_written_for(measured.events),
            latency: Latency::of(measured.times),
            at_rate,
            durable: false,
            delivered: received - before,
            delivered_after_ms: measured.delivered.as_secs_f64() * 1e3,
            hub_resident_bytes: process::resident_bytes(self.hub.id()),
            load_average: process::load_average(),
        })
    }

    /// Transactions of each origin, signed, in parts with so many events of each.
    fn sign<const N: usize>(&self, parts: [u32; N], batch: u32) -> anyhow::Result<[Vec<Transactions>; N]> {
        let mut signed = [(); N].map(|()| Vec::new());
        for origin in &self.origins {
            let (now, all) = (SystemClock.now(), parts.iter().sum());
            let mut rest = origin.transactions(&self.rooms, &self.hub_name, now, all, batch)?;
            for (signed, &events) in signed.iter_mut().zip(&parts) {
                let later = rest.split_off(rest.len().min(usize::try_from(events.div_ceil(batch))?));
                signed.push(std::mem::replace(&mut rest, later));
            }
        }
        Ok(signed)
    }

    /// Has all of a load sent by `send` and waits until everybody has it, who have had `before` events.
    async fn run<'s, F>(
        &'s mut self,
        before: u64,
        load: Vec<Transactions>,
        send: impl FnOnce(&'s Self, Vec<Transactions>) -> F,
    ) -> anyhow::Result<Measured>
    where
        F: Future<Output = anyhow::Result<Vec<Duration>>>,
    {
        let events = count_all(&load);
        self.accepted += events;
        let stage: &Self = self;
        let owed = events * (stage.origins.len() + stage.followers.len()) as u64;
        let (spent_before, start) = (Spent::by(stage.hub.id())?, now());
        let times = send(stage, load).await?;
        let accepted = start.elapsed();
        stage.wait_for_deliveries(before + owed).await?;
        Ok(Measured {
            events,
            owed,
            times,
            accepted,
            delivered: start.elapsed(),
            spent: Spent::by(stage.hub.id())?.since(&spent_before),
        })
    }

    /// Kills the hub, opens its database and counts.
    async fn survives_a_kill(self, folder: &Path) -> anyhow::Result<bool> {
        drop(self.hub);
        let store = SqliteStore::open(&SqliteOptions::new(folder.join("hub/data/nabe.sqlite"))).await?;
        let mut kept = 0;
        for room in &self.rooms {
            let log = store.entries(room, Between::ALL, usize::MAX, Order::Ascending).await?;
            let messages = log.iter().filter_map(|entry| entry.pdu());
            kept += messages.filter(|pdu| pdu.event_type() == EVENT_TYPE).count() as u64;
        }
        Ok(kept == self.accepted)
    }

    /// One transaction at a time for each origin, as the draft demands (LM #int-txn-ids); the origins in parallel.
    async fn send_all(&self, loads: Vec<Transactions>) -> anyhow::Result<Vec<Duration>> {
        let mut senders = tokio::task::JoinSet::new();
        for load in loads {
            let (transport, hub) = (Arc::clone(&self.transport), self.hub_name.clone());
            senders.spawn(async move {
                let mut latencies = Vec::with_capacity(load.len());
                for request in load {
                    let start = now();
                    send_one(&transport, &hub, request).await?;
                    latencies.push(start.elapsed());
                }
                Ok(latencies)
            });
        }
        gather(senders).await
    }

    /// The same with each transaction when it is due, so many a second of all origins together.
    async fn send_when_due(&self, loads: Vec<Transactions>, per_second: f64) -> anyhow::Result<Vec<Duration>> {
        let timetable = Timetable::begin(per_second);
        let lanes = loads.len() as u64;
        let mut senders = tokio::task::JoinSet::new();
        for (lane, load) in (0..).zip(loads) {
            let (transport, hub) = (Arc::clone(&self.transport), self.hub_name.clone());
            senders.spawn(async move {
                let send = |request| send_one(&transport, &hub, request);
                timetable.send_in_turn((lane, lanes), load, send).await
            });
        }
        gather(senders).await
    }

    /// The number of events the follower has once it gets no more.
    async fn settled(&self) -> anyhow::Result<u64> {
        let mut last = self.received().await?;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let received = self.received().await?;
            if received == last && received > 0 {
                return Ok(received);
            }
            last = received;
        }
    }

    async fn wait_for_deliveries(&self, expected: u64) -> anyhow::Result<()> {
        let deadline = now() + PATIENCE;
        loop {
            let received = self.received().await?;
            if received >= expected {
                ensure!(
                    received == expected,
                    "the follower got {received} events, {expected} were owed: doubled"
                );
                return Ok(());
            }
            ensure!(now() < deadline, "the follower got {received} of {expected} events");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn received(&self) -> anyhow::Result<u64> {
        let request = Request::get("/received").body(Bytes::new())?;
        let answer = self.transport.send(&self.sink_name, request, PATIENCE).await?;
        Ok(std::str::from_utf8(answer.body())?.parse()?)
    }

    async fn call(&self, request: Request<Bytes>) -> anyhow::Result<Object> {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = self
            .transport
            .send(&self.hub_name, request, PATIENCE)
            .await
            .with_context(|| what.clone())?;
        if !answer.status().is_success() {
            bail!(
                "{what}: {}: {}",
                answer.status(),
                String::from_utf8_lossy(answer.body())
            );
        }
        Object::parse(answer.body()).context(what)
    }
}

/// What a run took.
struct Measured {
    events: u64,
    /// Deliveries.
    owed: u64,
    /// Of each transaction.
    times: Vec<Duration>,
    /// Until all was accepted.
    accepted: Duration,
    /// Until everybody had it.
    delivered: Duration,
    spent: Spent,
}

async fn send_one(transport: &HttpsTransport, hub: &ServerName, request: Request<Bytes>) -> anyhow::Result<()> {
    let answer = transport.send(hub, request, PATIENCE).await?;
    ensure!(
        answer.status() == StatusCode::OK && answer.body() == &br#"{"failed_pdus":{}}"#[..],
        "the hub answered {}: {}",
        answer.status(),
        String::from_utf8_lossy(answer.body())
    );
    Ok(())
}

/// All that the senders have measured, once they have ended.
pub(super) async fn gather(
    mut senders: tokio::task::JoinSet<anyhow::Result<Vec<Duration>>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut all = Vec::new();
    while let Some(times) = senders.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

fn start_sink(folder: &Path, ca: &DevelopmentCa, names: &[ServerName]) -> anyhow::Result<(Process, SocketAddr)> {
    let issued = ca.issue(&names.iter().map(|name| name.host().to_owned()).collect::<Vec<_>>())?;
    let dir = folder.join("sink");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("tls.pem"), issued.chain_pem)?;
    std::fs::write(dir.join("tls.key"), issued.key_pem)?;
    let file = sink::SinkFile {
        servers: names.iter().cloned().zip(1..).collect(),
        tls_certificate: dir.join("tls.pem"),
        tls_key: dir.join("tls.key"),
        peers_ca: None,
    };
    run_sink(&dir, &file)
}

/// The sink in a process of its own, and where it listens.
pub(super) fn run_sink(dir: &Path, file: &sink::SinkFile) -> anyhow::Result<(Process, SocketAddr)> {
    std::fs::write(dir.join("sink.toml"), toml::to_string(file)?)?;
    let mut child = Process(
        Command::new(std::env::current_exe()?)
            .args(["bench", "sink"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut address = String::new();
    BufReader::new(child.0.stdout.take().context("the sink's output is piped")?).read_line(&mut address)?;
    Ok((child, address.trim().parse().context("the sink's address")?))
}

fn start_hub(
    folder: &Path,
    name: &ServerName,
    followers: &[ServerName],
    sink: SocketAddr,
) -> anyhow::Result<(Process, SocketAddr)> {
    let dir = folder.join("hub");
    let arguments = Init {
        dir: dir.clone(),
        server_name: name.clone(),
        dev_tls: true,
        dev_ca: Some(folder.to_owned()),
        certificate_profile: None,
        mimi: None,
    };
    init::write(&arguments, SystemClock.now())?;
    // Free for the moment it takes the hub to start: nobody else is given a port that was just used.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let overrides: BTreeMap<String, String> = followers
        .iter()
        .map(|follower| (follower.to_string(), sink.to_string()))
        .collect();
    let overrides = overrides
        .iter()
        .map(|(name, address)| format!("\"{name}\" = \"{address}\""))
        .collect::<Vec<_>>();
    let child = Command::new(std::env::current_exe()?)
        .args(["serve", "--config"])
        .arg(dir.join("nabe.toml"))
        .env("NABE_LISTEN__ADDRESS", address.to_string())
        .env("NABE_FEDERATION__ONLY_CA_FILES", "true")
        .env("NABE_FEDERATION__OVERRIDES", format!("{{ {} }}", overrides.join(", ")))
        .env("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000")
        .env("NABE_LIMITS__BURST", "1000000")
        .env("NABE_LOG__LEVEL", "warn")
        .spawn()?;
    Ok((Process(child), address))
}

fn count_all(loads: &[Vec<Request<Bytes>>]) -> u64 {
    loads.iter().flatten().map(|request| count_pdus(request.body())).sum()
}

fn count_pdus(body: &[u8]) -> u64 {
    let body = Object::parse(body).ok();
    let pdus = body.as_ref().and_then(|body| body.get("pdus")?.as_array());
    pdus.map_or(0, |pdus| pdus.len() as u64)
}

fn escape(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}
