//! Carries operations out and keeps book of what users were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nabe_service::client::{Direction, NewEvent, NewRoom, Sent, SentStatus, StreamBody, ToDeviceMessage};
use nabe_service::{Service, ServiceError};
use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_tests::activity::Activity;
use nabe_tests::disk::Fuse;
use nabe_tests::{Cluster, Options, event, server, user};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UserId};
use tokio::task::JoinHandle;

use super::invariants;
use super::ops::Op;
use crate::panics;

/// The servers; users are spread over them two by two.
pub(crate) const SERVERS: [&str; 3] = ["h", "p", "q"];
const LOCALPARTS: [&str; 2] = ["ann", "bob"];

/// Runs the operations, mends everything, waits for rest, and checks the rules.
pub(crate) fn run(ops: &[Op], sqlite: bool) -> anyhow::Result<()> {
    panics::watch();
    let activity = Activity::default();
    let runtime = nabe_tests::cluster::runtime();
    let outcome = runtime.block_on(async {
        let mut simulation = Simulation::begin(sqlite, activity).await?;
        for op in ops {
            simulation.step(op).await?;
        }
        simulation.end().await
    });
    // Tasks of dead servers hang forever by design.
    runtime.shutdown_background();
    match panics::noticed() {
        Some(panic) => anyhow::bail!("a task panicked: {panic}"),
        None => outcome,
    }
}

/// A request's idempotency key and whose it is.
type Asked = (String, UserId);

/// The servers and the book.
pub(crate) struct Simulation {
    pub(crate) cluster: Cluster,
    pub(crate) readers: Vec<Reader>,
    pub(crate) book: Book,
    hurry: Option<u8>,
    under_way: Vec<JoinHandle<()>>,
    next: u32,
}

/// A user and what their stream has shown them so far, over all its interruptions.
pub(crate) struct Reader {
    pub(crate) user: UserId,
    pub(crate) server: &'static str,
    pub(crate) token: Option<String>,
    pub(crate) events: Vec<(RoomId, LogPosition, EventId)>,
    pub(crate) inbox: Vec<(i64, Json)>,
}

/// What users did and were told. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Entries>>);

/// The book's pages.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) rooms: Vec<RoomId>,
    pub(crate) messages: BTreeMap<String, Message>,
    /// Other events: where they were said to be.
    pub(crate) appended: Vec<(RoomId, EventId)>,
    /// To-device messages: sender, target, and whether the sender was told that all is well.
    pub(crate) to_device: BTreeMap<String, (UserId, UserId, bool)>,
    /// Joins under way.
    joining: BTreeMap<(ServerName, RoomId), usize>,
    /// Joins of which nobody knows how they went.
    doubtful_joins: BTreeSet<(ServerName, RoomId)>,
}

/// A message somebody tried to send, under an idempotency key of the same name.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) sender: UserId,
    pub(crate) room: RoomId,
    pub(crate) told: Told,
}

/// What the sender was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Nothing: the server died.
    Nothing,
    Appended(EventId),
    Queued(EventId),
    Refused(String),
    /// Something went wrong on the server's side.
    Failed,
}

impl Book {
    pub(crate) fn open(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, room: &RoomId, sent: Result<Sent, ServiceError>) {
        if let Ok(Sent {
            event_id: Some(event_id),
            ..
        }) = sent
        {
            self.open().appended.push((room.clone(), event_id));
        }
    }
}

impl Entries {
    /// Whether the server may have been let into the room without knowing it, or not when it thinks it was.
    pub(crate) fn is_doubtful(&self, server: &ServerName, room: &RoomId) -> bool {
        let key = (server.clone(), room.clone());
        // A join that never ended died with its server.
        self.doubtful_joins.contains(&key) || self.joining.get(&key).is_some_and(|joining| *joining > 0)
    }
}

impl Simulation {
    async fn begin(sqlite: bool, activity: Activity) -> anyhow::Result<Self> {
        let cluster = Cluster::start(&SERVERS, Options { sqlite }, activity).await?;
        let mut readers = Vec::new();
        for name in SERVERS {
            for localpart in LOCALPARTS {
                let user = user(localpart, name);
                cluster.service(name).register_device(&user, Some(device())).await?;
                readers.push(Reader {
                    user,
                    server: name,
                    token: None,
                    events: Vec::new(),
                    inbox: Vec::new(),
                });
            }
        }
        let mut simulation = Self {
            cluster,
            readers,
            book: Book::default(),
            hurry: None,
            under_way: Vec::new(),
            next: 0,
        };
        for reader in 0..simulation.readers.len() {
            simulation.read(reader, 1).await?;
        }
        let public = NewRoom {
            join_rule: Some("public".to_owned()),
            ..NewRoom::default()
        };
        let first = simulation.readers[0].user.clone();
        let created = simulation
            .cluster
            .service(SERVERS[0])
            .create_room(&first, public, None)
            .await?;
        simulation.book.open().rooms.push(created.room_id);
        Ok(simulation)
    }

    async fn step(&mut self, op: &Op) -> anyhow::Result<()> {
        self.under_way.retain(|task| !task.is_finished());
        match op {
            Op::Hurry { yields } => {
                self.hurry = Some(*yields);
                return Ok(());
            }
            Op::Crash { server } => self.cluster.crash(server_name(*server)).await,
            Op::CrashAtCommit {
                server,
                commits,
                written,
            } => {
                let fuse = Fuse {
                    commits: *commits,
                    written: *written,
                };
                self.cluster.crash_at_commit(server_name(*server), fuse);
            }
            Op::Stop { server } => self.cluster.stop(server_name(*server)).await,
            Op::Boot { server } => self.cluster.boot(server_name(*server)).await?,
            Op::Cut { from, to } => self.set_cut(*from, *to, true),
            Op::Mend { from, to } => self.set_cut(*from, *to, false),
            Op::Strike { from, to, fault } => {
                let (from, to) = (server(server_name(*from)), server(server_name(*to)));
                self.cluster.wire.add_fault(&from, &to, *fault);
            }
            Op::Advance { seconds } => self.cluster.clock.advance(Duration::from_secs(u64::from(*seconds))),
            Op::Read { user, items } => {
                let reader = usize::from(*user) % self.readers.len();
                if self.cluster.is_up(self.readers[reader].server) {
                    self.read(reader, usize::from(*items)).await?;
                }
            }
            act => self.act(act),
        }
        match self.hurry.take() {
            None => self.cluster.let_run().await,
            Some(yields) => {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    fn set_cut(&self, from: u8, to: u8, is_cut: bool) {
        self.cluster
            .wire
            .set_cut(&server(server_name(from)), &server(server_name(to)), is_cut);
    }

    /// Begins what a user does; it may take as long as it likes, and ends with the user's server.
    fn act(&mut self, op: &Op) {
        let who = acting_user(op);
        let reader = &self.readers[usize::from(who) % self.readers.len()];
        let Some((service, life)) = self.cluster.try_service(reader.server) else {
            return;
        };
        let Some(act) = self.prepare(op, reader.user.clone(), service) else {
            return;
        };
        self.under_way.push(self.cluster.spawn(async move {
            tokio::select! {
                biased;
                () = life.over() => {}
                () = act => {}
            }
        }));
        self.next += 1;
    }

    fn room(&self, room: u8) -> RoomId {
        let entries = self.book.open();
        entries.rooms[usize::from(room) % entries.rooms.len()].clone()
    }

    fn user(&self, user: u8) -> UserId {
        self.readers[usize::from(user) % self.readers.len()].user.clone()
    }

    fn prepare(
        &self,
        op: &Op,
        user: UserId,
        service: Service,
    ) -> Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
        let book = self.book.clone();
        let label = format!("m{}", self.next);
        Some(match *op {
            Op::Create { rule, .. } => Box::pin(async move {
                let room = NewRoom {
                    join_rule: Some(rule.as_str().to_owned()),
                    ..NewRoom::default()
                };
                if let Ok(created) = service.create_room(&user, room, None).await {
                    book.open().rooms.push(created.room_id);
                }
            }),
            Op::Join { room, .. } => {
                let room = self.room(room);
                Box::pin(async move { join(&book, &service, &user, &room).await })
            }
            Op::Invite { room, target, .. } => {
                let (room, target) = (self.room(room), self.user(target));
                Box::pin(async move { book.note(&room, service.invite_user(&user, &room, &target, None).await) })
            }
            Op::Leave { room, .. } => {
                let room = self.room(room);
                Box::pin(async move {
                    let _ = service.leave(&user, &room, None).await;
                })
            }
            Op::Knock { room, .. } => {
                let room = self.room(room);
                let via = vec![room.server_name().clone()];
                Box::pin(async move {
                    let _ = service.knock(&user, &room, &via, None).await;
                })
            }
            Op::Kick { room, target, .. } => {
                let (room, target) = (self.room(room), self.user(target));
                Box::pin(async move { book.note(&room, service.kick(&user, &room, &target, Some("so there")).await) })
            }
            Op::Ban { room, target, .. } => {
                let (room, target) = (self.room(room), self.user(target));
                Box::pin(async move { book.note(&room, service.ban(&user, &room, &target, None).await) })
            }
            Op::Unban { room, target, .. } => {
                let (room, target) = (self.room(room), self.user(target));
                Box::pin(async move { book.note(&room, service.unban(&user, &room, &target, None).await) })
            }
            Op::Message { room, .. } => {
                let room = self.room(room);
                let message = Message {
                    sender: user,
                    room,
                    told: Told::Nothing,
                };
                book.open().messages.insert(label.clone(), message);
                Box::pin(async move { say(&book, &service, &label).await })
            }
            Op::Topic { room, .. } => {
                let room = self.room(room);
                let topic = event("m.room.topic", Some(""), object! { "topic" => label });
                Box::pin(async move { book.note(&room, service.send_event(&user, &room, topic, None).await) })
            }
            Op::SetRule { room, rule, .. } => {
                let room = self.room(room);
                let rule = event("m.room.join_rules", Some(""), object! { "join_rule" => rule.as_str() });
                Box::pin(async move { book.note(&room, service.send_event(&user, &room, rule, None).await) })
            }
            Op::Power {
                room, target, level, ..
            } => {
                let (room, target) = (self.room(room), self.user(target));
                Box::pin(async move {
                    if let Some(levels) = power_levels(&service, &user, &room, &target, level).await {
                        book.note(&room, service.send_event(&user, &room, levels, None).await);
                    }
                })
            }
            Op::ToDevice { target, .. } => {
                let target = self.user(target);
                book.open()
                    .to_device
                    .insert(label.clone(), (user.clone(), target, false));
                Box::pin(async move { say_to_device(&book, &service, &label).await })
            }
            Op::History { room, pages, .. } => {
                let room = self.room(room);
                Box::pin(async move {
                    let mut from = None;
                    for _ in 0..pages {
                        match service.history(&user, &room, from, Direction::Backward, 4).await {
                            Ok(page) if page.next.is_some() => from = page.next,
                            _ => return,
                        }
                    }
                })
            }
            _ => return None,
        })
    }

    /// Reads at most `items` more items of a user's stream.
    pub(crate) async fn read(&mut self, reader: usize, items: usize) -> anyhow::Result<usize> {
        let Some((service, life)) = self.cluster.try_service(self.readers[reader].server) else {
            return Ok(0);
        };
        let reader = &mut self.readers[reader];
        let mut stream = tokio::select! {
            biased;
            () = life.over() => return Ok(0),
            stream = service.stream(&reader.user, Some(device()), reader.token.as_deref()) => stream?,
        };
        let mut count = 0;
        for _ in 0..=items {
            let item = tokio::select! {
                biased;
                () = life.over() => break,
                item = stream.next() => item,
                () = self.cluster.let_run() => break,
            };
            let Some(item) = item.transpose().context("stream")? else {
                break;
            };
            reader.token = Some(item.token);
            match item.body {
                StreamBody::Ready => continue,
                StreamBody::Event(event) => {
                    let position = event.position.context("an event in a stream has a position")?;
                    reader
                        .events
                        .push((event.pdu.room_id().clone(), position, event.pdu.event_id().clone()));
                }
                StreamBody::Inbox(item) => reader.inbox.push((item.seq, Json::parse(&item.body)?)),
            }
            count += 1;
        }
        Ok(count)
    }

    /// Everything is mended and comes to rest; who got no answer asks again; then the rules must hold.
    async fn end(mut self) -> anyhow::Result<()> {
        self.cluster.wire.mend();
        self.boot_all().await?;
        self.cluster.quiesce().await?;
        self.under_way.retain(|task| !task.is_finished());
        ensure!(self.under_way.is_empty(), "an operation of a user never ends");
        self.ask_again().await?;
        self.cluster.quiesce().await?;
        for reader in 0..self.readers.len() {
            while self.read(reader, 50).await? > 0 {}
        }
        invariants::check(&self).await
    }

    async fn boot_all(&mut self) -> anyhow::Result<()> {
        // A lit fuse may still go off while the rest is being delivered.
        for _ in 0..2 {
            for name in SERVERS {
                self.cluster.stop(name).await;
                self.cluster.boot(name).await?;
            }
            self.cluster.let_run().await;
        }
        Ok(())
    }

    async fn ask_again(&mut self) -> anyhow::Result<()> {
        let (messages, to_device) = self.unanswered();
        for (label, sender) in messages {
            let (book, service) = (self.book.clone(), self.service_of(&sender));
            self.finish(async move { say(&book, &service, &label).await }).await?;
        }
        for (label, sender) in to_device {
            let (book, service) = (self.book.clone(), self.service_of(&sender));
            self.finish(async move { say_to_device(&book, &service, &label).await })
                .await?;
        }
        Ok(())
    }

    /// Messages, then to-device messages, with who sent them.
    fn unanswered(&self) -> (Vec<Asked>, Vec<Asked>) {
        let entries = self.book.open();
        let messages = entries.messages.iter();
        let messages = messages.filter(|(_, message)| matches!(message.told, Told::Nothing | Told::Failed));
        let to_device = entries.to_device.iter().filter(|(_, (.., told))| !told);
        (
            messages
                .map(|(label, message)| (label.clone(), message.sender.clone()))
                .collect(),
            to_device
                .map(|(label, (sender, ..))| (label.clone(), sender.clone()))
                .collect(),
        )
    }

    async fn finish(&self, act: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let task = self.cluster.spawn(act);
        for _ in 0..100 {
            self.cluster.let_run().await;
            if task.is_finished() {
                return Ok(task.await?);
            }
            self.cluster.clock.advance(Duration::from_secs(1));
        }
        anyhow::bail!("an operation of a user never ends")
    }

    fn service_of(&self, user: &UserId) -> Service {
        let reader = self
            .readers
            .iter()
            .find(|reader| reader.user == *user)
            .expect("every user has a stream");
        self.cluster.service(reader.server)
    }
}

async fn join(book: &Book, service: &Service, user: &UserId, room: &RoomId) {
    let via = [room.server_name().clone()];
    let key = (service.server_name().clone(), room.clone());
    {
        let mut entries = book.open();
        let joining = entries.joining.entry(key.clone()).or_default();
        *joining += 1;
        if *joining > 1 {
            // Their answers may arrive in the other order.
            entries.doubtful_joins.insert(key.clone());
        }
    }
    let joined = service.join(user, room, &via).await;
    let mut entries = book.open();
    *entries.joining.entry(key.clone()).or_default() -= 1;
    match joined {
        Ok(sent) => entries
            .appended
            .extend(sent.event_id.map(|event_id| (room.clone(), event_id))),
        Err(error) if is_final(&error) => {}
        Err(_) => {
            entries.doubtful_joins.insert(key);
        }
    }
}

/// Whether the answer leaves no doubt that nothing happened.
const fn is_final(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::Refused(_)
            | ServiceError::RejectedByHub { .. }
            | ServiceError::NotInRoom
            | ServiceError::NotFound(_)
    )
}

async fn say(book: &Book, service: &Service, label: &str) {
    let Some(message) = book.open().messages.get(label).cloned() else {
        return;
    };
    let said = event("m.room.message", None, object! { "body" => label });
    let told = match service
        .send_event(&message.sender, &message.room, said, Some(label))
        .await
    {
        Ok(Sent {
            status: SentStatus::Appended,
            event_id: Some(event_id),
            ..
        }) => Told::Appended(event_id),
        Ok(Sent {
            lpdu_id: Some(lpdu_id), ..
        }) => Told::Queued(lpdu_id),
        Ok(_) => Told::Failed,
        Err(error) if is_final(&error) => Told::Refused(error.to_string()),
        Err(_) => Told::Failed,
    };
    if let Some(message) = book.open().messages.get_mut(label) {
        message.told = told;
    }
}

async fn say_to_device(book: &Book, service: &Service, label: &str) {
    let Some((sender, target, _)) = book.open().to_device.get(label).cloned() else {
        return;
    };
    let message = ToDeviceMessage {
        target,
        target_device: device(),
        message_type: "m.test".to_owned(),
        message: object! { "label" => label },
    };
    let sent = service
        .to_device(&sender, Some(&device()), vec![message], Some(label))
        .await;
    if let Some((.., told)) = book.open().to_device.get_mut(label) {
        *told = sent.is_ok();
    }
}

async fn power_levels(service: &Service, user: &UserId, room: &RoomId, target: &UserId, level: u8) -> Option<NewEvent> {
    let now = service
        .room_state_event(user, room, "m.room.power_levels", "")
        .await
        .ok()?;
    let mut content = now.pdu.content().clone();
    let mut users = content
        .get("users")
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    users.insert(target.as_str(), i64::from(level));
    content.insert("users", users);
    Some(event("m.room.power_levels", Some(""), content))
}

/// The one device everybody has.
pub(crate) fn device() -> DeviceId {
    DeviceId::parse("PHONE").expect("well-formed")
}

fn server_name(server: u8) -> &'static str {
    SERVERS[usize::from(server) % SERVERS.len()]
}

const fn acting_user(op: &Op) -> u8 {
    match *op {
        Op::Create { user, .. }
        | Op::Invite { user, .. }
        | Op::Join { user, .. }
        | Op::Leave { user, .. }
        | Op::Knock { user, .. }
        | Op::Kick { user, .. }
        | Op::Ban { user, .. }
        | Op::Unban { user, .. }
        | Op::Message { user, .. }
        | Op::Topic { user, .. }
        | Op::Power { user, .. }
        | Op::SetRule { user, .. }
        | Op::ToDevice { user, .. }
        | Op::History { user, .. }
        | Op::Read { user, .. } => user,
        _ => 0,
    }
}
