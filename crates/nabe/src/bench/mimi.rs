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
//!
//! With `--rate` as many messages are sent once more into the rooms with followers, each when it is due ([`super::open_loop`]).

mod figures;
mod line;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use self::{
    figures::{Figures, Phase, Turn, print_text},
    line::Line,
};
use super::{
    Process,
    hub::{gather, run_sink},
    latency::Latency,
    now,
    open_loop::{AtRate, Timetable},
    process::{self, Spent},
    sink,
};
use crate::{
    cli::{BenchHub, BenchRate, Init},
    client::{
        account::{Account, Credential},
        mimi_http::MimiHttp,
    },
    init,
    output::say,
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

/// How often both kinds of rooms have their turn.
const TURNS: usize = 5;
/// Messages in each room before the clock starts: connections open, room in memory.
const WARM_UP: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the benchmark and prints its figures.
pub(crate) async fn run(arguments: &BenchHub) -> anyhow::Result<()> {
    let load = Load::of(arguments);
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::set(folder.path(), &load).await?;
    let mut figures = stage.measure(&load).await?;
    figures.durable = stage.survives_a_kill(folder.path()).await?;
    if arguments.json {
        say!("{}", serde_json::to_string(&figures)?);
    } else {
        print_text(&figures);
    }
    ensure!(figures.durable, "accepted messages are lost");
    Ok(())
}

/// What is asked for, with what is taken where nothing is said.
struct Load {
    events: usize,
    rooms: u32,
    followers: u32,
    participants: u32,
    in_flight: u32,
    rate: Option<BenchRate>,
}

impl Load {
    fn of(arguments: &BenchHub) -> Self {
        Self {
            events: usize::try_from(arguments.events).unwrap_or(usize::MAX),
            rooms: arguments.rooms,
            followers: arguments.followers.unwrap_or(10),
            participants: arguments.participants.unwrap_or(0),
            in_flight: arguments.in_flight.unwrap_or(32),
            rate: arguments.rate,
        }
    }
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

impl Stage {
    async fn set(folder: &Path, load: &Load) -> anyhow::Result<Self> {
        let hub_name = ServerName::parse("hub.localhost")?;
        let sender_name = ServerName::parse("b.localhost")?;
        let followers: Vec<ServerName> = (1..=load.followers)
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
        let mut owner = owner(&folder.join("hub"), &folder.join("ca.pem"), &hub_name, api, "owner").await?;
        let mut guests = Vec::new();
        for name in &followers {
            guests.push(Sender::new(name, Arc::new(line(name)?)).await?);
        }
        let mut sender = Sender::new(&sender_name, Arc::new(line(&sender_name)?)).await?;
        let crowd = (0..load.participants).map(|n| MimiUri::parse(&format!("mimi://{sender_name}/u/user-{n}")));
        let crowd = crowd.collect::<Result<Vec<_>, _>>()?;
        let mut rooms = [Vec::new(), Vec::new()];
        for (rooms, (kind, guests)) in rooms
            .iter_mut()
            .zip([("alone", &mut [][..]), ("followed", guests.as_mut_slice())])
        {
            for number in 1..=load.rooms {
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

    async fn measure(&mut self, load: &Load) -> anyhow::Result<Figures> {
        let in_flight = usize::try_from(load.in_flight)?;
        let mut loads = Vec::new();
        for rooms in self.rooms.clone() {
            let warm_up = WARM_UP * rooms.len();
            let mut messages = self.sender.messages(&rooms, warm_up + load.events).await?;
            let rest = messages.split_off(warm_up);
            self.note(&messages)?;
            self.send_all(messages, in_flight).await?;
            loads.push(rest);
        }
        let bytes: usize = loads.iter().flatten().map(|(_, body)| body.len()).sum();
        let mut received = self.settled().await?;

        let per_turn = load.events.div_ceil(TURNS);
        let mut turns = [Vec::new(), Vec::new()];
        let owed = [0, u64::from(load.followers)];
        let mut delivered = [0, 0];
        while loads.iter().any(|load| !load.is_empty()) {
            for (kind, load) in loads.iter_mut().enumerate() {
                let rest = load.split_off(per_turn.min(load.len()));
                let messages = std::mem::replace(load, rest);
                let expected = messages.len() as u64 * owed[kind];
                let send = |stage, messages| Self::send_all(stage, messages, in_flight);
                let turn = self.turn(messages, received + expected, send).await?;
                received += expected;
                delivered[kind] += expected;
                turns[kind].push(turn);
            }
        }
        let [alone, followed] = turns;
        let alone = Phase::of(0, alone, delivered[0]);
        let followed = Phase::of(load.followers, followed, delivered[1]);
        let at_rate = match load.rate {
            None => None,
            Some(BenchRate::Half) => Some(followed.accepted_per_s / 2.0),
            Some(BenchRate::PerSecond(messages)) => Some(f64::from(messages)),
        };
        let at_rate = match at_rate {
            None => None,
            Some(wanted_per_s) => Some(self.at_rate(wanted_per_s, load, received).await?),
        };
        let largest = self.sender.line.largest_update();
        Ok(Figures {
            rooms: load.rooms,
            in_flight: load.in_flight,
            message_bytes: bytes / (2 * load.events),
            fan_out_adds_percent: 100.0 * (followed.hub_cpu_us_per_message / alone.hub_cpu_us_per_message - 1.0),
            alone,
            followed,
            at_rate,
            largest_update_bytes: largest.bytes,
            largest_update_ms: largest.time.as_secs_f64() * 1e3,
            durable: false,
            hub_resident_bytes: process::resident_bytes(self.hub.id()),
            hub_peak_bytes: process::peak_bytes(self.hub.id()),
            load_average: process::load_average(),
        })
    }

    /// As many messages once more, into the rooms with followers, who have had `received` so far.
    async fn at_rate(&mut self, wanted_per_s: f64, load: &Load, received: u64) -> anyhow::Result<AtRate> {
        let [_, rooms] = self.rooms.clone();
        let messages = self.sender.messages(&rooms, load.events).await?;
        let events = messages.len() as u64;
        let expected = received + events * u64::from(load.followers);
        let send = |stage, messages| Self::send_when_due(stage, messages, wanted_per_s);
        let turn = self.turn(messages, expected, send).await?;
        Ok(AtRate {
            wanted_per_s,
            accepted_per_s: events as f64 / turn.time.as_secs_f64(),
            events,
            hub_cpu_us_per_event: turn.spent.cpu_us() / events as f64,
            latency: Latency::of(turn.latencies),
        })
    }

    /// Has messages sent, and waits until the followers have `expected` in all.
    async fn turn<'s, F>(
        &'s mut self,
        messages: Vec<Message>,
        expected: u64,
        send: impl FnOnce(&'s Self, Vec<Message>) -> F,
    ) -> anyhow::Result<Turn>
    where
        F: Future<Output = anyhow::Result<Vec<Duration>>>,
    {
        self.note(&messages)?;
        let stage: &Self = self;
        let (before, start) = (Spent::by(stage.hub.id())?, now());
        let latencies = send(stage, messages).await?;
        let time = start.elapsed();
        stage.wait_for_deliveries(expected).await?;
        let spent = Spent::by(stage.hub.id())?.since(&before);
        Ok(Turn { spent, time, latencies })
    }

    /// What has to be in the database in the end: every message has to be accepted.
    fn note(&mut self, messages: &[Message]) -> anyhow::Result<()> {
        for (room, body) in messages {
            let of_room = self.accepted.entry(room.clone()).or_default();
            of_room.insert(message_hash(body)?);
        }
        Ok(())
    }

    /// So many requests at a time, on connections that stay open.
    async fn send_all(&self, messages: Vec<Message>, in_flight: usize) -> anyhow::Result<Vec<Duration>> {
        let messages = Arc::new(Mutex::new(VecDeque::from(messages)));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let (messages, line) = (Arc::clone(&messages), Arc::clone(&self.sender.line));
            senders.spawn(async move {
                let mut latencies = Vec::new();
                let next = || messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(message) = next() {
                    let start = now();
                    send_one(Arc::clone(&line), message).await?;
                    latencies.push(start.elapsed());
                }
                Ok(latencies)
            });
        }
        gather(senders).await
    }

    /// Each message when it is due.
    async fn send_when_due(&self, messages: Vec<Message>, per_second: f64) -> anyhow::Result<Vec<Duration>> {
        let line = &self.sender.line;
        let send = |message| send_one(Arc::clone(line), message);
        Timetable::begin(per_second).send_each(messages, send).await
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

/// Every message has to be accepted, and with a frank.
async fn send_one(line: Arc<Line>, (room, body): Message) -> anyhow::Result<()> {
    let answer = line.call(Endpoint::SubmitMessage, &room, body).await?;
    let answer = SubmitMessageResponse::from_bytes(&answer)?;
    let is_franked = match &answer.body {
        Body::Mls10(SubmitVerdict::Accepted(acceptance)) => acceptance.frank.is_some(),
        _ => false,
    };
    ensure!(is_franked, "the hub answered {answer:?}");
    Ok(())
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

/// A user of the hub's own, who makes rooms; `folder` is the hub's.
pub(super) async fn owner(
    folder: &Path,
    ca: &Path,
    hub: &ServerName,
    api: SocketAddr,
    name: &str,
) -> anyhow::Result<MimiClient> {
    let token = std::fs::read_to_string(folder.join("provider.token"))?;
    let account = Account {
        server: format!("https://localhost:{}", api.port()),
        device: DeviceId::parse("phone")?,
        credential: Credential::Provider {
            token: token.trim().to_owned(),
            user: UserId::parse(&format!("@{name}:{hub}"))?,
        },
        ca: Some(ca.to_owned()),
    };
    let transport = Arc::new(MimiHttp::new(&account)?);
    let client = MimiUri::parse(&format!("mimi://{hub}/d/{name}/phone"))?;
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

const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, lets it.";
