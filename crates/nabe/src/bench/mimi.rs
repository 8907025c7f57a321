//! `nabe bench hub --protocol mimi`: a hub, providers that follow its rooms and acknowledge, and this process as the provider of the
//! senders; three processes on loopback, mutual TLS between them (MIMI #transport-layer).
//!
//! A client of the hub makes two kinds of rooms: in some, clients of one more provider take part, who send; in the others also clients of as
//! many providers as `--followers` says. The clients are real, the rooms have a franking agent. What is sent is encrypted before
//! the clock starts: one message a request, as the draft has it (MIMI #submit-a-message), so many requests at once. What is measured is the
//! hub: the caller's identity, the checks of what it cannot read, the frank, an entry that is on the disk (SQLite, WAL,
//! `synchronous=FULL`) before it is acknowledged, and the notifications, until every follower has everything. The two kinds of rooms have
//! their turns one after the other, several times, so that whatever else the machine does hits both alike. Then the hub is killed, and its
//! database must have every message that was accepted.

mod line;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use nabe_client::{
    ClientStore,
    mimi::{MimiClient, MimiSettings, MimiTransport, NewRoom, templates},
};
use nabe_content::mimi::NestedPart;
use nabe_core::mimi::MimiEntryKind;
use nabe_federation::{HttpsSettings, HttpsTransport, TlsSettings, Transport as _};
use nabe_http::tls::{CertificateFiles, CertificateProfile, DevelopmentCa};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::sha256;
use nabe_store::{Between, MimiStore as _};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::{DeviceId, ServerName, UserId};
use nabe_wire::{
    Message as _,
    directory::Endpoint,
    protocol::Body,
    submit_message::{SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict},
    uri::MimiUri,
};
use serde::Serialize;

use self::line::Line;
use super::{Process, hub::run_sink, now, percentile, process, sink};
use crate::{
    cli::{BenchHub, Init},
    client::{
        account::{Account, Credential},
        mimi_http::MimiHttp,
    },
    init,
    output::say,
};

/// How often both kinds of rooms have their turn.
const TURNS: usize = 5;
/// Messages in each room before the clock starts: connections open, room in memory.
const WARM_UP: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
struct Figures {
    rooms: u32,
    in_flight: u32,
    /// Of a request, bytes.
    message_bytes: usize,
    /// In rooms that nobody follows but the senders' provider.
    alone: Phase,
    /// In rooms with followers.
    followed: Phase,
    /// By how much the followers make a message more expensive.
    fan_out_adds_percent: f64,
    /// The largest request by which a client joined: an external commit with all of the GroupInfo.
    largest_update_bytes: usize,
    largest_update_ms: f64,
    /// Whether the database has everything that was accepted after the hub was killed.
    durable: bool,
    hub_resident_bytes: Option<u64>,
    hub_peak_bytes: Option<u64>,
    load_average: Option<f64>,
}

/// What was measured in rooms of one kind.
#[derive(Serialize)]
struct Phase {
    followers: u32,
    messages: u64,
    accepted_per_s: f64,
    hub_cpu_us_per_message: f64,
    /// The same in the turn that took least.
    hub_cpu_us_per_message_fastest: f64,
    p50_ms: f64,
    p99_ms: f64,
    delivered: u64,
}

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchHub) -> anyhow::Result<()> {
    ensure!(arguments.events > 0 && arguments.rooms > 0, "nothing to measure");
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::set(folder.path(), arguments).await?;
    let mut figures = stage.measure(arguments).await?;
    figures.durable = stage.survives_a_kill(folder.path()).await?;
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    ensure!(figures.durable, "accepted messages are lost");
    Ok(())
}

/// A request with a message of a client, and its room.
type Message = (MimiUri, Bytes);

/// The processes and what is needed to speak to them.
struct Stage {
    hub: Process,
    _sink: Process,
    sink_name: ServerName,
    /// To the sink, with a certificate of one of its own names.
    transport: HttpsTransport,
    sender: Sender,
    /// The rooms with the senders' provider only, then those with followers.
    rooms: [Vec<MimiUri>; 2],
    accepted: Accepted,
}

/// A client with its line to the hub.
struct Sender {
    line: Arc<Line>,
    client: MimiClient,
}

/// The hashes of what the hub has accepted, by room.
type Accepted = BTreeMap<MimiUri, BTreeSet<[u8; 32]>>;

/// One turn: what it cost the hub, and how long it and each request took.
struct Turn {
    cpu: Duration,
    time: Duration,
    latencies: Vec<Duration>,
}

impl Stage {
    async fn set(folder: &Path, arguments: &BenchHub) -> anyhow::Result<Self> {
        let hub_name = ServerName::parse("hub.localhost")?;
        let sender_name = ServerName::parse("b.localhost")?;
        let followers: Vec<ServerName> = (1..=arguments.followers)
            .map(|n| ServerName::parse(&format!("f{n}.localhost")))
            .collect::<Result<_, _>>()?;
        let names: Vec<ServerName> = followers.iter().chain([&sender_name]).cloned().collect();
        let ca = DevelopmentCa::generate()?;
        std::fs::write(folder.join("ca.pem"), ca.certificate_pem())?;
        std::fs::write(folder.join("ca.key"), ca.key_pem())?;
        let others = folder.join("sink");
        issue(&others, &ca, &names)?;
        let file = sink::SinkFile {
            servers: BTreeMap::new(),
            tls_certificate: others.join("tls.pem"),
            tls_key: others.join("tls.key"),
            peers_ca: Some(folder.join("ca.pem")),
        };
        let (sink, sink_address) = run_sink(&others, &file)?;
        let (hub, [api, mimi]) = start_hub(folder, &hub_name, &names, sink_address)?;

        let line = |domain: &ServerName| Line::new(domain, &others, &folder.join("ca.pem"), &hub_name, mimi);
        let mut owner = owner(folder, &hub_name, api).await?;
        let mut guests = Vec::new();
        for name in &followers {
            guests.push(Sender::new(name, Arc::new(line(name)?)).await?);
        }
        let mut sender = Sender::new(&sender_name, Arc::new(line(&sender_name)?)).await?;
        let crowd = (0..arguments.participants).map(|n| MimiUri::parse(&format!("mimi://{sender_name}/u/user-{n}")));
        let crowd = crowd.collect::<Result<Vec<_>, _>>()?;
        let mut rooms = [Vec::new(), Vec::new()];
        for (rooms, (kind, guests)) in rooms
            .iter_mut()
            .zip([("alone", &mut [][..]), ("followed", guests.as_mut_slice())])
        {
            for number in 1..=arguments.rooms {
                let uri = MimiUri::parse(&format!("mimi://{hub_name}/r/{kind}-{number}"))?;
                let template = templates::cooperative(uri.host());
                let mut room = NewRoom::new(&uri, "Benchmark", template).context("the room's name and URI are good")?;
                let users = guests.iter().chain([&sender]).map(|guest| guest.client.user().clone());
                let users = users.chain(crowd.iter().cloned());
                room.participants = users.map(|user| (user, templates::ORDINARY_USER)).collect();
                owner.create_room(&room).await?;
                // Who sends comes last, so nothing happens in the group that it would have to hear of.
                for guest in guests.iter_mut().chain([&mut sender]) {
                    let joined = guest.client.join(&uri, None, None).await;
                    joined.with_context(|| format!("{} joining {uri}", guest.client.user()))?;
                }
                rooms.push(uri);
            }
        }
        Ok(Self {
            hub,
            _sink: sink,
            sink_name: sender_name,
            transport: HttpsTransport::direct(
                https(&others, &folder.join("ca.pem"), &names, sink_address)?,
                Arc::new(SystemClock),
            )?,
            sender,
            rooms,
            accepted: Accepted::new(),
        })
    }

    async fn measure(&mut self, arguments: &BenchHub) -> anyhow::Result<Figures> {
        let events = usize::try_from(arguments.events)?;
        let in_flight = usize::try_from(arguments.in_flight)?;
        let mut loads = Vec::new();
        for rooms in self.rooms.clone() {
            let warm_up = WARM_UP * rooms.len();
            let mut messages = self.sender.messages(&rooms, warm_up + events).await?;
            let load = messages.split_off(warm_up);
            self.send(messages, in_flight).await?;
            loads.push(load);
        }
        let bytes: usize = loads.iter().flatten().map(|(_, body)| body.len()).sum();
        let mut received = self.settled().await?;

        let per_turn = events.div_ceil(TURNS);
        let mut turns = [Vec::new(), Vec::new()];
        let owed = [0, u64::from(arguments.followers)];
        let mut delivered = [0, 0];
        while loads.iter().any(|load| !load.is_empty()) {
            for (kind, load) in loads.iter_mut().enumerate() {
                let rest = load.split_off(per_turn.min(load.len()));
                let messages = std::mem::replace(load, rest);
                let expected = messages.len() as u64 * owed[kind];
                let turn = self.turn(messages, in_flight, received + expected).await?;
                received += expected;
                delivered[kind] += expected;
                turns[kind].push(turn);
            }
        }
        let [alone, followed] = turns;
        let alone = Phase::of(0, &alone, delivered[0]);
        let followed = Phase::of(arguments.followers, &followed, delivered[1]);
        let largest = self.sender.line.largest_update();
        Ok(Figures {
            rooms: arguments.rooms,
            in_flight: arguments.in_flight,
            message_bytes: bytes / (2 * events),
            fan_out_adds_percent: 100.0 * (followed.hub_cpu_us_per_message / alone.hub_cpu_us_per_message - 1.0),
            alone,
            followed,
            largest_update_bytes: largest.bytes,
            largest_update_ms: largest.time.as_secs_f64() * 1e3,
            durable: false,
            hub_resident_bytes: process::resident_bytes(self.hub.id()),
            hub_peak_bytes: process::peak_bytes(self.hub.id()),
            load_average: process::load_average(),
        })
    }

    /// Sends messages until the followers have `expected` in all.
    async fn turn(&mut self, messages: Vec<Message>, in_flight: usize, expected: u64) -> anyhow::Result<Turn> {
        let before = process::cpu_time(self.hub.id())?;
        let start = now();
        let latencies = self.send(messages, in_flight).await?;
        let time = start.elapsed();
        self.wait_for_deliveries(expected).await?;
        let cpu = process::cpu_time(self.hub.id())?.saturating_sub(before);
        Ok(Turn { cpu, time, latencies })
    }

    /// So many requests at a time, on connections that stay open. Every message has to be accepted, and with a frank.
    async fn send(&mut self, messages: Vec<Message>, in_flight: usize) -> anyhow::Result<Vec<Duration>> {
        for (room, body) in &messages {
            let of_room = self.accepted.entry(room.clone()).or_default();
            of_room.insert(message_hash(body)?);
        }
        let messages = Arc::new(Mutex::new(VecDeque::from(messages)));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let (messages, line) = (Arc::clone(&messages), Arc::clone(&self.sender.line));
            senders.spawn(async move {
                let mut latencies = Vec::new();
                let next = || messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some((room, body)) = next() {
                    let start = now();
                    let answer = line.call(Endpoint::SubmitMessage, &room, body).await?;
                    latencies.push(start.elapsed());
                    let answer = SubmitMessageResponse::from_bytes(&answer)?;
                    let is_franked = match &answer.body {
                        Body::Mls10(SubmitVerdict::Accepted(acceptance)) => acceptance.frank.is_some(),
                        _ => false,
                    };
                    ensure!(is_franked, "the hub answered {answer:?}");
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

    /// Kills the hub, opens its database and compares.
    async fn survives_a_kill(self, folder: &Path) -> anyhow::Result<bool> {
        drop(self.hub);
        let store = SqliteStore::open(&SqliteOptions::new(folder.join("hub/data/nabe.sqlite"))).await?;
        let mut kept = Accepted::new();
        for room in self.rooms.iter().flatten() {
            let log = store.mimi_entries(room, Between::ALL, usize::MAX, usize::MAX).await?;
            let messages = log.iter().filter(|entry| entry.kind == MimiEntryKind::Application);
            let messages = messages.flat_map(|entry| entry.messages().unwrap_or_default());
            let hashes = messages.map(|message| sha256(message.as_bytes())).collect();
            kept.insert(room.clone(), hashes);
        }
        Ok(kept == self.accepted)
    }

    /// The number of messages the followers have once they get no more.
    async fn settled(&self) -> anyhow::Result<u64> {
        let (mut last, mut same) = (self.received().await?, 0);
        while same < 4 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let received = self.received().await?;
            same = if received == last { same + 1 } else { 0 };
            last = received;
        }
        Ok(last)
    }

    async fn wait_for_deliveries(&self, expected: u64) -> anyhow::Result<()> {
        let deadline = now() + PATIENCE;
        loop {
            let received = self.received().await?;
            if received >= expected {
                ensure!(
                    received == expected,
                    "the followers got {received} messages, {expected} were owed: doubled"
                );
                return Ok(());
            }
            ensure!(now() < deadline, "the followers got {received} of {expected} messages");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn received(&self) -> anyhow::Result<u64> {
        let request = Request::get("/received").body(Bytes::new())?;
        let answer = self.transport.send(&self.sink_name, request, PATIENCE).await?;
        Ok(std::str::from_utf8(answer.body())?.parse()?)
    }
}

impl Sender {
    async fn new(domain: &ServerName, line: Arc<Line>) -> anyhow::Result<Self> {
        let client = MimiUri::parse(&format!("mimi://{domain}/d/guest/phone"))?;
        let client = log_in(line.clone(), ClientStore::in_memory()?, &client).await?;
        Ok(Self { line, client })
    }

    /// So many messages, to one room after the other.
    async fn messages(&mut self, rooms: &[MimiUri], count: usize) -> anyhow::Result<Vec<Message>> {
        for number in 0..count {
            let room = &rooms[number % rooms.len()];
            let content = self
                .client
                .compose(room, NestedPart::text(&format!("{number}: {TEXT}")))?;
            self.client.enqueue_message(room, &content)?;
        }
        self.client.sync(Duration::ZERO).await?;
        let said = self.line.take_said();
        ensure!(said.len() == count, "{} of {count} messages were encrypted", said.len());
        Ok(said)
    }
}

impl Phase {
    fn of(followers: u32, turns: &[Turn], delivered: u64) -> Self {
        let mut latencies: Vec<_> = turns.iter().flat_map(|turn| turn.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        let time: Duration = turns.iter().map(|turn| turn.time).sum();
        let cpu: Duration = turns.iter().map(|turn| turn.cpu).sum();
        let messages = latencies.len() as f64;
        let each = turns
            .iter()
            .map(|turn| turn.cpu.as_secs_f64() * 1e6 / turn.latencies.len() as f64);
        Self {
            followers,
            messages: latencies.len() as u64,
            accepted_per_s: messages / time.as_secs_f64(),
            hub_cpu_us_per_message: cpu.as_secs_f64() * 1e6 / messages,
            hub_cpu_us_per_message_fastest: each.fold(f64::INFINITY, f64::min),
            p50_ms: percentile(&latencies, 50),
            p99_ms: percentile(&latencies, 99),
            delivered,
        }
    }
}

/// The hub's own user, who makes the rooms.
async fn owner(folder: &Path, hub: &ServerName, api: SocketAddr) -> anyhow::Result<MimiClient> {
    let token = std::fs::read_to_string(folder.join("hub/provider.token"))?;
    let account = Account {
        server: format!("https://localhost:{}", api.port()),
        device: DeviceId::parse("phone")?,
        credential: Credential::Provider {
            token: token.trim().to_owned(),
            user: UserId::parse(&format!("@owner:{hub}"))?,
        },
        ca: Some(folder.join("ca.pem")),
    };
    let transport = Arc::new(MimiHttp::new(&account)?);
    let client = MimiUri::parse(&format!("mimi://{hub}/d/owner/phone"))?;
    let deadline = now() + PATIENCE;
    loop {
        // The server may not listen yet.
        match log_in(transport.clone(), ClientStore::in_memory()?, &client).await {
            Ok(client) => return Ok(client),
            Err(error) => ensure!(now() < deadline, "the hub did not become ready: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn log_in(transport: Arc<dyn MimiTransport>, store: ClientStore, client: &MimiUri) -> anyhow::Result<MimiClient> {
    let settings = MimiSettings {
        tend: false,
        key_package_stock: 0,
        full_group_info: true,
        ..MimiSettings::default()
    };
    let clock = Box::new(|| SystemClock.now());
    MimiClient::log_in(transport, store, client, &[Suite::default()], settings, clock)
        .await
        .with_context(|| format!("logging in as {client}"))
}

/// A certificate for all these names, to be shown by whoever calls and whoever is called.
fn issue(folder: &Path, ca: &DevelopmentCa, names: &[ServerName]) -> anyhow::Result<()> {
    let names: Vec<_> = names.iter().map(|name| name.host().to_owned()).collect();
    let issued = ca.issue_for(&names, CertificateProfile::Mutual)?;
    std::fs::create_dir(folder)?;
    std::fs::write(folder.join("tls.pem"), issued.chain_pem)?;
    std::fs::write(folder.join("tls.key"), issued.key_pem)?;
    Ok(())
}

fn https(folder: &Path, ca: &Path, names: &[ServerName], address: SocketAddr) -> anyhow::Result<HttpsSettings> {
    let certificate = CertificateFiles::open(folder.join("tls.pem"), folder.join("tls.key"))?;
    Ok(HttpsSettings {
        tls: TlsSettings {
            system_roots: false,
            extra_root_files: vec![ca.to_owned()],
            client_certificate: Some(certificate as _),
            ..TlsSettings::default()
        },
        overrides: names.iter().map(|name| (name.clone(), address)).collect(),
        max_in_flight: 64,
        ..HttpsSettings::default()
    })
}

/// The hub, and where it listens: the client API, and MIMI.
fn start_hub(
    folder: &Path,
    name: &ServerName,
    others: &[ServerName],
    sink: SocketAddr,
) -> anyhow::Result<(Process, [SocketAddr; 2])> {
    let dir = folder.join("hub");
    let arguments = Init {
        dir: dir.clone(),
        server_name: name.clone(),
        dev_tls: true,
        dev_ca: Some(folder.to_owned()),
        certificate_profile: None,
        mimi: Some(name.clone()),
    };
    init::write(&arguments, SystemClock.now())?;
    // Free for the moment it takes the hub to start: nobody else is given a port that was just used.
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
    let [api, mimi] = sockets;
    let addresses = [api?.local_addr()?, mimi?.local_addr()?];
    let overrides: Vec<_> = others.iter().map(|name| format!("\"{name}\" = \"{sink}\"")).collect();
    let child = Command::new(std::env::current_exe()?)
        .args(["serve", "--config"])
        .arg(dir.join("nabe.toml"))
        .env("NABE_LISTEN__ADDRESS", addresses[0].to_string())
        .env("NABE_MIMI__ADDRESS", addresses[1].to_string())
        .env("NABE_MIMI__ONLY_CA_FILES", "true")
        .env("NABE_MIMI__OVERRIDES", format!("{{ {} }}", overrides.join(", ")))
        .env("NABE_MIMI__MESSAGES_PER_SECOND", "1000000")
        .env("NABE_MIMI__UPDATES_PER_SECOND", "1000000")
        .env("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000")
        .env("NABE_LIMITS__BURST", "1000000")
        .env("NABE_LOG__LEVEL", "warn")
        .spawn()?;
    Ok((Process(child), addresses))
}

/// Of the message in a request.
fn message_hash(body: &[u8]) -> anyhow::Result<[u8; 32]> {
    match SubmitMessageRequest::from_bytes(body)?.body {
        Body::Mls10(submission) => Ok(sha256(submission.app_message.as_bytes())),
        _ => anyhow::bail!("a client of ours speaks another protocol"),
    }
}

fn print_text(figures: &Figures) {
    say!(
        "messages of {} bytes in {} room(s) of each kind, {} on their way at once",
        figures.message_bytes,
        figures.rooms,
        figures.in_flight
    );
    for phase in [&figures.alone, &figures.followed] {
        say!("{} messages, {} follower(s)", phase.messages, phase.followers);
        say!("  accepted per second       {:.0}", phase.accepted_per_s);
        say!(
            "  hub CPU time per message  {:.0} µs, in the fastest turn {:.0} µs",
            phase.hub_cpu_us_per_message,
            phase.hub_cpu_us_per_message_fastest
        );
        say!(
            "  latency of a request      p50 {:.1} ms, p99 {:.1} ms",
            phase.p50_ms,
            phase.p99_ms
        );
        say!("  delivered                 {} messages", phase.delivered);
    }
    say!("fan-out adds                {:.0} %", figures.fan_out_adds_percent);
    say!(
        "durable                     {}",
        if figures.durable {
            "yes: all accepted messages are in the database of the killed hub"
        } else {
            "NO: accepted messages are not in the database of the killed hub"
        }
    );
    say!(
        "largest update              {} bytes, accepted after {:.0} ms",
        figures.largest_update_bytes,
        figures.largest_update_ms
    );
    if let (Some(now), Some(peak)) = (figures.hub_resident_bytes, figures.hub_peak_bytes) {
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        say!(
            "hub memory                  {:.1} MiB, at most {:.1} MiB",
            mib(now),
            mib(peak)
        );
    }
    if let Some(load) = figures.load_average {
        say!("load average                {load:.2}");
    }
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, lets it.";
