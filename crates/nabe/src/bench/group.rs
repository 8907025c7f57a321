//! `nabe bench group`: an encrypted room with many devices at a real server. Every device is a client of its own, as `nabe client` has
//! it, with its state on disk; the server is a process of its own.
//!
//! One device brings all the others in. What a group costs depends on the shape of its tree, so it is measured twice: while nobody else has
//! committed (the path of a commit names every leaf, and the tree has hardly any inner nodes), and after everybody has given
//! themselves new keys, as clients do (a short path, all inner nodes). Each time: new keys for some, one user gone and removed, the same one
//! back and added, and messages that everybody reads. What an event has no room for is reported with the reason. With `--to-the-limit`
//! devices are then added in both shapes until that happens (LM #int-ev-mls-commit).

mod figures;
mod hub;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use nabe_client::{Client, ClientError, ItemBody, transport::NewRoom};
use nabe_content::{Body, Message as Content, Post, Text};
use nabe_mls::Suite;
use nabe_types::{RoomId, UserId};

use self::{
    figures::{Figures, Limits, Message, Shape, Times, p50, print_text},
    hub::Hub,
};
use super::{latency::percentile, process};
use crate::{cli::BenchGroup, output::say};

/// How many devices one commit adds; the client's own limit is the same.
const BATCH: usize = 50;
/// How often what is quick is measured.
const REPEATED: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

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
    let devices = usize::try_from(arguments.devices)?;
    let mut hub = Hub::start(folder)?;
    let founder = hub.ready().await?;
    let mut crowd = Crowd::found(founder).await?;
    let (mut adding, mut joining) = (Vec::new(), Vec::new());
    while crowd.others.len() + 1 < devices {
        let missing = devices - 1 - crowd.others.len();
        let batch = hub.newcomers(&crowd.room, missing.min(BATCH)).await?;
        let is_full = batch.len() == BATCH;
        let start = now();
        let batch = crowd.add(batch).await?;
        if is_full {
            adding.push(start.elapsed());
        }
        joining.extend(crowd.welcome(batch).await?);
    }
    let fresh = crowd.shape(&hub, REPEATED, Updates::Last).await?;
    for other in &mut crowd.others {
        other.catch_up().await?;
        other
            .update(&crowd.room)
            .await
            .context("not every device could commit")?;
    }
    let updates = usize::try_from(arguments.commits)?;
    let committed = crowd.shape(&hub, updates, Updates::First).await?;
    let limits = match arguments.to_the_limit {
        true => Some(Limits {
            committed: crowd.fill(&mut hub).await?,
            fresh: crowd.anew().await?.fill_at_once(&mut hub).await?,
        }),
        false => None,
    };
    Ok(Figures {
        fresh,
        committed,
        add_50_ms: {
            adding.sort_unstable();
            percentile(&adding, 100.0)
        },
        join_by_welcome_p50_ms: p50(&mut joining),
        limits,
        load_average: process::load_average(),
    })
}

/// When changes of keys are measured. They fill the tree; somebody who comes back leaves a gap in it.
enum Updates {
    First,
    Last,
}

/// A room and everybody in its group.
struct Crowd {
    room: RoomId,
    founder: Client,
    others: Vec<Client>,
}

impl Crowd {
    async fn found(mut founder: Client) -> anyhow::Result<Self> {
        let new = NewRoom {
            join_rule: Some("public".to_owned()),
            ..NewRoom::default()
        };
        Ok(Self {
            room: founder.create_room(new, Suite::default()).await?,
            founder,
            others: Vec::new(),
        })
    }

    /// Another room of the same founder.
    async fn anew(self) -> anyhow::Result<Self> {
        Self::found(self.founder).await
    }

    /// Has the founder add these devices' users, in one commit if an event has room for it.
    async fn add(&mut self, newcomers: Vec<Client>) -> anyhow::Result<Vec<Client>> {
        let users: Vec<UserId> = newcomers.iter().map(|client| client.user().clone()).collect();
        self.founder.add_users(&self.room, &users).await?;
        Ok(newcomers)
    }

    /// Has those who were added join by their Welcomes; returns how long each took.
    async fn welcome(&mut self, newcomers: Vec<Client>) -> anyhow::Result<Vec<Duration>> {
        let mut joining = Vec::with_capacity(newcomers.len());
        for mut client in newcomers {
            let start = now();
            reach(&mut client, &self.room, 1).await?;
            joining.push(start.elapsed());
            self.others.push(client);
        }
        Ok(joining)
    }

    /// Measures the group as it is.
    async fn shape(&mut self, hub: &Hub, count: usize, when: Updates) -> anyhow::Result<Shape> {
        let devices = self.devices()?;
        let message = self.messages().await?;
        let cpu_before = hub.cpu_time()?;
        let early = match when {
            Updates::First => Some((
                self.updates(hub, count).await?,
                hub.cpu_time()?.saturating_sub(cpu_before),
            )),
            Updates::Last => None,
        };
        let remove = self.remove_last(hub).await?;
        let add = self.bring_back_last(hub).await?;
        ensure!(
            add.refused.is_some() || self.devices()? == devices,
            "{} devices instead of {devices} are in the group",
            self.devices()?
        );
        let (update, cpu) = match early {
            Some(early) => early,
            None => {
                let cpu_before = hub.cpu_time()?;
                (
                    self.updates(hub, count).await?,
                    hub.cpu_time()?.saturating_sub(cpu_before),
                )
            }
        };
        Ok(Shape {
            devices,
            hub_cpu_ms_per_update: cpu.as_secs_f64() * 1e3 / update.committed.len().max(1) as f64,
            update: update.figures(),
            remove: remove.figures(),
            add: add.figures(),
            message,
        })
    }

    fn devices(&self) -> anyhow::Result<usize> {
        let group = self.founder.group(&self.room)?;
        Ok(group.context("the founder is in the group")?.members.len())
    }

    /// New keys for some, spread over the tree.
    async fn updates(&mut self, hub: &Hub, count: usize) -> anyhow::Result<Times> {
        let mut times = Times::default();
        let step = (self.others.len() / count).max(1);
        for n in 0..count {
            let at = n * step % self.others.len();
            let other = &mut self.others[at];
            other.catch_up().await?;
            let start = now();
            match other.update(&self.room).await {
                Ok(()) => times.committed.push(start.elapsed()),
                Err(error @ ClientError::CommitTooLarge { .. }) => {
                    times.refused = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            let group = other.group(&self.room)?.context("the committer is in the group")?;
            reach(&mut self.founder, &self.room, group.epoch).await?;
            times.followed.push(start.elapsed());
            ensure!(
                self.founder.group(&self.room)? == Some(group),
                "two members are in different states of the group"
            );
            times.bytes = times.bytes.max(hub.newest_commit(&self.room).await?);
        }
        Ok(times)
    }

    /// The last of the others leaves, and the founder removes their device.
    async fn remove_last(&mut self, hub: &Hub) -> anyhow::Result<Times> {
        let (last, rest) = self.others.split_last_mut().context("there are others")?;
        if let Some(watching) = rest.last_mut() {
            watching.catch_up().await?;
        }
        last.leave(&self.room).await?;
        self.founder.catch_up().await?;
        let start = now();
        self.founder
            .remove_device(&self.room, last.user(), last.device())
            .await?;
        let mut times = Times {
            committed: vec![start.elapsed()],
            ..Times::default()
        };
        let group = self.founder.group(&self.room)?.context("the founder is in the group")?;
        if let Some(watching) = rest.last_mut() {
            reach(watching, &self.room, group.epoch).await?;
            times.followed.push(start.elapsed());
        }
        times.bytes = hub.newest_commit(&self.room).await?;
        Ok(times)
    }

    /// The one who left comes back, and the founder adds them.
    async fn bring_back_last(&mut self, hub: &Hub) -> anyhow::Result<Times> {
        let mut last = self.others.pop().context("there are others")?;
        last.catch_up().await?;
        last.join(&self.room, &[]).await?;
        self.founder.catch_up().await?;
        let mut times = Times::default();
        let start = now();
        let added = self.founder.add_users(&self.room, &[last.user().clone()]).await;
        match added {
            Ok(()) => times.committed.push(start.elapsed()),
            Err(error @ ClientError::CommitTooLarge { .. }) => {
                times.refused = Some(error.to_string());
                return Ok(times);
            }
            Err(error) => return Err(error.into()),
        }
        reach(&mut last, &self.room, 1).await?;
        times.followed.push(start.elapsed());
        times.bytes = hub.newest_commit(&self.room).await?;
        self.others.push(last);
        Ok(times)
    }

    /// Messages of the founder that everybody waits for.
    async fn messages(&mut self) -> anyhow::Result<Message> {
        for other in &mut self.others {
            other.catch_up().await?;
        }
        self.founder.catch_up().await?;
        let (mut accepted, mut half, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..REPEATED {
            let content = Content::Post(Post::new(Body::Text(Text::plain(format!("message {n}"))?)));
            let payload = content.to_payload();
            let (room, founder) = (&self.room, &mut self.founder);
            let reading = self.others.iter_mut().map(|other| read(other, room, &payload));
            let sending = async {
                // By then everybody waits for the server.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let start = now();
                founder.send(room, &content).await?;
                anyhow::Ok((start, start.elapsed()))
            };
            let ((start, took), mut read) = tokio::try_join!(sending, try_join_all(reading))?;
            read.sort_unstable();
            let since = |at: &Instant| at.saturating_duration_since(start);
            accepted.push(took);
            half.extend(read.get(read.len() / 2).map(since));
            all.extend(read.last().map(since));
        }
        Ok(Message {
            measured: accepted.len(),
            accepted_p50_ms: p50(&mut accepted),
            half_have_read_p50_ms: p50(&mut half),
            all_have_read_p50_ms: p50(&mut all),
        })
    }

    /// Adds devices one by one, each of which commits as soon as it is in, until an event has no room for one or the other.
    async fn fill(&mut self, hub: &mut Hub) -> anyhow::Result<(usize, String)> {
        for _ in 0..UNREACHED {
            let newcomers = hub.newcomers(&self.room, 1).await?;
            self.founder.catch_up().await?;
            let users = [newcomers[0].user().clone()];
            if let Some(sentence) = too_large(self.founder.add_users(&self.room, &users).await)? {
                return Ok((self.devices()?, sentence));
            }
            self.welcome(newcomers).await?;
            let Some(last) = self.others.last_mut() else { continue };
            if let Some(sentence) = too_large(last.update(&self.room).await)? {
                return Ok((self.devices()? - 1, sentence));
            }
        }
        bail!("no commit was too large")
    }

    /// Adds devices, none of which commits, until an event has no room for one more.
    async fn fill_at_once(&mut self, hub: &mut Hub) -> anyhow::Result<(usize, String)> {
        for _ in 0..UNREACHED {
            let newcomers = hub.newcomers(&self.room, 10).await?;
            let users: Vec<UserId> = newcomers.iter().map(|client| client.user().clone()).collect();
            if let Some(sentence) = too_large(self.founder.add_users(&self.room, &users).await)? {
                return Ok((self.devices()?, sentence));
            }
        }
        bail!("no commit was too large")
    }
}

/// The sentence that a client was told if its commit was too large.
fn too_large(done: Result<(), ClientError>) -> anyhow::Result<Option<String>> {
    match done {
        Ok(()) => Ok(None),
        Err(error @ ClientError::CommitTooLarge { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Takes in what comes until the client is in the group, and in this epoch of it at least.
async fn reach(client: &mut Client, room: &RoomId, epoch: u64) -> anyhow::Result<()> {
    let deadline = now() + PATIENCE;
    loop {
        if client.group(room)?.is_some_and(|group| group.epoch >= epoch) {
            return Ok(());
        }
        ensure!(now() < deadline, "{} did not reach epoch {epoch}", client.user());
        client.sync(Duration::from_secs(5)).await?;
    }
}

/// Takes in what comes until this is the newest message. Returns when it was.
async fn read(client: &mut Client, room: &RoomId, payload: &[u8]) -> anyhow::Result<Instant> {
    let deadline = now() + PATIENCE;
    loop {
        client.sync(Duration::from_secs(20)).await?;
        let newest = client.timeline(room, 1)?.pop().map(|item| item.body);
        if newest.is_some_and(|body| matches!(body, ItemBody::Message(bytes) if bytes == payload)) {
            return Ok(now());
        }
        ensure!(now() < deadline, "{} did not get a message", client.user());
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// More steps than to any limit.
const UNREACHED: usize = 100;
