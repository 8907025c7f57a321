//! `nabe bench hub`: a hub, a follower that acknowledges, and this process as the sender; three processes on loopback.
//!
//! Everything the sender sends is signed before the clock starts, so what is measured is the hub: request authentication,
//! two Ed25519 operations an event, the authorization rules, an append that is on the disk (SQLite, WAL, `synchronous=FULL`)
//! before it is acknowledged, and delivery to the follower, which is the sender's own server (a hub echoes every event to its
//! author, LM #int-receiving-events). CPU time counts until the follower has everything. Then the hub is killed, and its database
//! must have every event that was accepted.

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
use serde::Serialize;

use super::{
    Process,
    load::{EVENT_TYPE, Origin},
    now, percentile, process, sink,
};
use crate::{
    cli::{BenchHub, Init},
    init,
    output::say,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Events per origin before the clock starts: keys fetched, connections open, caches filled.
const WARM_UP_EVENTS: u32 = 200;

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
struct Figures {
    events: u64,
    rooms: u32,
    origins: u32,
    batch: u32,
    accepted_per_s: f64,
    hub_cpu_us_per_event: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Whether the database has everything that was accepted after the hub was killed.
    durable: bool,
    delivered: u64,
    delivered_after_ms: f64,
    hub_resident_bytes: Option<u64>,
    load_average: Option<f64>,
}

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchHub) -> anyhow::Result<()> {
    ensure!(arguments.events >= arguments.origins, "fewer events than origins");
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::set(folder.path(), arguments).await?;
    let mut figures = stage.measure(arguments).await?;
    figures.durable = stage.survives_a_kill(folder.path()).await?;
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    Ok(())
}

/// The processes and what is needed to speak to them.
struct Stage {
    hub: Process,
    _sink: Process,
    hub_name: ServerName,
    sink_name: ServerName,
    transport: Arc<HttpsTransport>,
    origins: Vec<Origin>,
    rooms: Vec<RoomId>,
    /// Events accepted so far, those before the clock starts included.
    accepted: u64,
}

impl Stage {
    async fn set(folder: &Path, arguments: &BenchHub) -> anyhow::Result<Self> {
        let hub_name = ServerName::parse("hub.localhost")?;
        let names: Vec<ServerName> = (1..=arguments.origins)
            .map(|n| ServerName::parse(&format!("o{n}.localhost")))
            .collect::<Result<_, _>>()?;
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
        let origins = (1..)
            .zip(&names)
            .map(|(seed, name)| Origin::new(sink::signer(name.clone(), seed)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let sink_name = names.first().context("there is an origin")?.clone();
        let mut stage = Self {
            hub,
            _sink: sink,
            hub_name,
            sink_name,
            transport,
            origins,
            rooms: Vec::new(),
            accepted: 0,
        };
        stage.wait_until_ready().await?;
        let token = std::fs::read_to_string(folder.join("hub/provider.token"))?;
        stage.make_rooms(token.trim(), arguments.rooms).await?;
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

    /// Public rooms made by a user of the hub, joined by every origin's user through `make_join` and `send_join`.
    async fn make_rooms(&mut self, token: &str, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let request = Request::post("/_nabe/v1/rooms")
                .header("authorization", format!("Bearer {token}"))
                .header("nabe-user", format!("@owner:{}", self.hub_name))
                .header("content-type", "application/json")
                .body(Bytes::from(object! { "join_rule" => "public" }.to_canonical()))?;
            let created = self.call(request).await?;
            let room = RoomId::parse(created.get("room_id").and_then(Json::as_str).unwrap_or_default())?;
            for origin in &self.origins {
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

    async fn measure(&mut self, arguments: &BenchHub) -> anyhow::Result<Figures> {
        let per_origin = arguments.events / arguments.origins;
        let warm_up = WARM_UP_EVENTS.min(per_origin);
        let mut loads = Vec::new();
        let mut warm_ups = Vec::new();
        for origin in &self.origins {
            let now = SystemClock.now();
            let mut requests =
                origin.transactions(&self.rooms, &self.hub_name, now, warm_up + per_origin, arguments.batch)?;
            let rest = requests.split_off(usize::try_from(warm_up.div_ceil(arguments.batch))?);
            warm_ups.push(requests);
            loads.push(rest);
        }
        self.accepted += count_all(&warm_ups);
        self.send_all(warm_ups).await?;
        let expected_before = self.settled().await?;

        let events = count_all(&loads);
        self.accepted += events;
        let expected_after = expected_before + events * u64::from(arguments.origins);
        let cpu_before = process::cpu_time(self.hub.id())?;
        let start = now();
        let mut latencies = self.send_all(loads).await?;
        let accepted = start.elapsed();
        self.wait_for_deliveries(expected_after).await?;
        let delivered = start.elapsed();
        let cpu = process::cpu_time(self.hub.id())?.saturating_sub(cpu_before);

        latencies.sort_unstable();
        Ok(Figures {
            events,
            rooms: arguments.rooms,
            origins: arguments.origins,
            batch: arguments.batch,
            accepted_per_s: events as f64 / accepted.as_secs_f64(),
            hub_cpu_us_per_event: cpu.as_secs_f64() * 1e6 / events as f64,
            p50_ms: percentile(&latencies, 50),
            p99_ms: percentile(&latencies, 99),
            durable: false,
            delivered: expected_after - expected_before,
            delivered_after_ms: delivered.as_secs_f64() * 1e3,
            hub_resident_bytes: process::resident_bytes(self.hub.id()),
            load_average: process::load_average(),
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
    async fn send_all(&self, loads: Vec<Vec<Request<Bytes>>>) -> anyhow::Result<Vec<Duration>> {
        let mut senders = tokio::task::JoinSet::new();
        for load in loads {
            let (transport, hub) = (Arc::clone(&self.transport), self.hub_name.clone());
            senders.spawn(async move {
                let mut latencies = Vec::with_capacity(load.len());
                for request in load {
                    let start = now();
                    let answer = transport.send(&hub, request, PATIENCE).await?;
                    latencies.push(start.elapsed());
                    ensure!(
                        answer.status() == StatusCode::OK && answer.body() == &br#"{"failed_pdus":{}}"#[..],
                        "the hub answered {}: {}",
                        answer.status(),
                        String::from_utf8_lossy(answer.body())
                    );
                }
                Ok(latencies)
            });
        }
        let mut all = Vec::new();
        while let Some(latencies) = senders.join_next().await {
            all.extend(latencies??);
        }
        Ok(all)
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

fn print_text(figures: &Figures) {
    say!(
        "{} events in {} room(s), from {} origin(s), up to {} a transaction",
        figures.events,
        figures.rooms,
        figures.origins,
        figures.batch
    );
    say!("  accepted per second       {:.0}", figures.accepted_per_s);
    say!("  hub CPU time per event    {:.0} µs", figures.hub_cpu_us_per_event);
    say!(
        "  transaction latency       p50 {:.1} ms, p99 {:.1} ms",
        figures.p50_ms,
        figures.p99_ms
    );
    say!(
        "  delivered                 {} events, the last after {:.0} ms",
        figures.delivered,
        figures.delivered_after_ms
    );
    say!(
        "  durable                   {}",
        if figures.durable {
            "yes: all accepted events are in the database of the killed hub"
        } else {
            "NO: accepted events are not in the database of the killed hub"
        }
    );
    if let Some(bytes) = figures.hub_resident_bytes {
        say!(
            "  hub memory                {:.1} MiB",
            bytes as f64 / (1024.0 * 1024.0)
        );
    }
    if let Some(load) = figures.load_average {
        say!("  load average              {load:.2}");
    }
}
