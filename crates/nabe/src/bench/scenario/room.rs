//! A room at two servers, with clients at both, in which a scenario is played: what is the same whatever the clients speak.

use std::{collections::VecDeque, fmt::Display, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use nabe_lab::scenario::{Kind, Phase, PhaseRecord, Scenario, Step, StepRecord};

use super::servers::{Servers, nanoseconds};
use crate::bench::now;

/// A client, and what a scenario asks of it.
pub(super) trait Member: Sized {
    /// How a room is named.
    type Room: Clone;
    /// How a user is.
    type User: Clone + PartialEq + Display;

    /// A new user's client, at the hub (0) or at the other server (1).
    async fn log_in(servers: &Servers, at: usize, name: &str) -> anyhow::Result<Self>;

    /// Makes a room, which users of these names may join by themselves, every second one of the other server.
    async fn create(&mut self, servers: &Servers, joiners: &[String]) -> anyhow::Result<Self::Room>;

    fn user(&self) -> Self::User;

    /// Where it is in the group; nothing while it is not in.
    fn state(&self, room: &Self::Room) -> anyhow::Result<Option<State>>;

    /// Takes in what has happened, or waits for it.
    async fn sync(&mut self, wait: Duration) -> anyhow::Result<()>;

    /// What somebody does some day who is going to be added by this one, …
    async fn consent(&mut self, founder: &Self::User) -> anyhow::Result<()>;

    /// … and what they do just before.
    async fn enter(&mut self, room: &Self::Room) -> anyhow::Result<()>;

    async fn add(&mut self, room: &Self::Room, users: &[Self::User]) -> anyhow::Result<()>;

    /// Joins by an external commit.
    async fn join(&mut self, room: &Self::Room) -> anyhow::Result<()>;

    async fn remove(&mut self, room: &Self::Room, user: &Self::User) -> anyhow::Result<()>;

    async fn update(&mut self, room: &Self::Room) -> anyhow::Result<()>;

    async fn say(&mut self, room: &Self::Room, words: &str) -> anyhow::Result<()>;

    /// Whether the newest message says this.
    fn has_read(&self, room: &Self::Room, words: &str) -> anyhow::Result<bool>;
}

/// A client's place in a group; equal if two are in the same state of it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct State {
    pub(super) epoch: u64,
    pub(super) authenticator: Vec<u8>,
    pub(super) tree_hash: Vec<u8>,
    pub(super) members: usize,
}

/// A room cannot be made so, by the draft: no fault of anybody's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unplayable(pub(super) String);

/// The room.
pub(super) struct Room<M: Member> {
    servers: Servers,
    room: M::Room,
    /// The first is the founder.
    live: Vec<M>,
    /// Who joins by themselves next.
    joiners: VecDeque<M>,
    /// Who is added next.
    added: VecDeque<M>,
    /// Who is in the group and away.
    away: VecDeque<M::User>,
    logged_in: [usize; 2],
    said: usize,
}

impl<M: Member> Room<M> {
    /// Plays a scenario; what was played to its end goes into `phases`.
    pub(super) async fn play(folder: &Path, scenario: &Scenario, phases: &mut Vec<PhaseRecord>) -> anyhow::Result<()> {
        let mut room = Self::found(folder, scenario).await.context("before the first phase")?;
        for (phase, steps) in scenario.phases.iter().zip(scenario.steps()) {
            let played = room.phase(phase, &steps).await;
            phases.push(played.with_context(|| format!("phase `{}`", phase.name))?);
        }
        Ok(())
    }

    async fn found(folder: &Path, scenario: &Scenario) -> anyhow::Result<Self> {
        let servers = Servers::start(folder).await?;
        let mut founder = ready(async || M::log_in(&servers, 0, "f").await).await?;
        ready(async || M::log_in(&servers, 1, "o").await.map(drop)).await?;
        let joins: u32 = scenario.phases.iter().map(|phase| phase.joins).sum();
        let joiners: Vec<_> = (0..usize::try_from(joins)?)
            .map(|number| format!("j{number}"))
            .collect();
        let mut room = Self {
            room: founder.create(&servers, &joiners).await?,
            servers,
            live: vec![founder],
            joiners: VecDeque::new(),
            added: VecDeque::new(),
            away: VecDeque::new(),
            logged_in: [0, 0],
            said: 0,
        };
        let mut missing = usize::try_from(scenario.members)? - 1;
        while missing > 0 {
            let count = missing.min(BATCH);
            room.gather(0, count).await?;
            let mut added = room.add(count).await?;
            let live_missing = usize::try_from(scenario.live)? - room.live.len();
            for mut member in added.drain(..live_missing.min(count)) {
                reach(&mut member, &room.room, 1).await?;
                room.away.retain(|user| *user != member.user());
                room.live.push(member);
            }
            missing -= count;
        }
        let epoch = room.epoch()?;
        room.follow(None, epoch).await?;
        Ok(room)
    }

    async fn phase(&mut self, phase: &Phase, steps: &[Step]) -> anyhow::Result<PhaseRecord> {
        self.gather(usize::try_from(phase.joins)?, usize::try_from(phase.adds)?)
            .await?;
        let before = self.servers.used()?;
        let start = now();
        let mut done = Vec::with_capacity(steps.len());
        for step in steps {
            done.push(self.step(*step).await?);
        }
        let ns = nanoseconds(start.elapsed());
        let mut used = self.servers.used()?;
        for (what, amount) in &mut used {
            *amount -= before.get(what).copied().unwrap_or(0);
        }
        Ok(PhaseRecord {
            name: phase.name.clone(),
            members: self.agreed()?,
            ns,
            used,
            steps: done,
        })
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<StepRecord> {
        let start = now();
        let amount = usize::try_from(step.amount)?;
        let accepted = match step.kind {
            Kind::Message => self.message(step.by, amount).await?,
            Kind::Update => self.update(step.by).await?,
            Kind::Join => self.join().await?,
            Kind::Add => {
                let epoch = self.epoch()? + 1;
                self.add(amount).await?;
                let accepted = start.elapsed();
                self.follow(Some(0), epoch).await?;
                accepted
            }
            Kind::Remove => {
                let epoch = self.epoch()? + 1;
                let user = self.away.pop_front().context("somebody is away")?;
                self.live[0].remove(&self.room, &user).await?;
                let accepted = start.elapsed();
                self.follow(Some(0), epoch).await?;
                accepted
            }
            Kind::Idle => self.idle(Duration::from_secs(step.amount.into())).await?,
        };
        Ok(StepRecord {
            kind: step.kind,
            accepted_ns: nanoseconds(accepted),
            followed_ns: nanoseconds(start.elapsed()),
        })
    }

    async fn message(&mut self, by: usize, bytes: usize) -> anyhow::Result<Duration> {
        self.said += 1;
        let words = text(self.said, bytes);
        let (room, start) = (&self.room, now());
        let (author, others) = split(&mut self.live, by)?;
        let saying = async {
            author.say(room, &words).await?;
            anyhow::Ok(start.elapsed())
        };
        let reading = others.map(|other| read(other, room, &words));
        let (accepted, _) = tokio::try_join!(saying, try_join_all(reading))?;
        Ok(accepted)
    }

    async fn update(&mut self, by: usize) -> anyhow::Result<Duration> {
        let epoch = self.epoch()? + 1;
        let (room, start) = (&self.room, now());
        let (author, others) = split(&mut self.live, by)?;
        let committing = async {
            author.update(room).await?;
            anyhow::Ok(start.elapsed())
        };
        let following = others.map(|other| reach(other, room, epoch));
        let (accepted, _) = tokio::try_join!(committing, try_join_all(following))?;
        Ok(accepted)
    }

    async fn join(&mut self) -> anyhow::Result<Duration> {
        let epoch = self.epoch()? + 1;
        let mut newcomer = self.joiners.pop_front().context("somebody wants to join")?;
        let (room, start) = (&self.room, now());
        let joining = async {
            newcomer.join(room).await?;
            anyhow::Ok(start.elapsed())
        };
        let following = self.live.iter_mut().map(|member| reach(member, room, epoch));
        let (accepted, _) = tokio::try_join!(joining, try_join_all(following))?;
        self.away.push_back(newcomer.user());
        Ok(accepted)
    }

    async fn idle(&mut self, time: Duration) -> anyhow::Result<Duration> {
        let until = now() + time;
        let waiting = self.live.iter_mut().map(|member| async move {
            while now() < until {
                member.sync(until.saturating_duration_since(now())).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(waiting).await?;
        Ok(time)
    }

    /// So many log in who will join by themselves, and who will be added.
    async fn gather(&mut self, joins: usize, adds: usize) -> anyhow::Result<()> {
        let founder = self.live[0].user();
        for _ in 0..joins {
            let number = self.logged_in[0];
            self.logged_in[0] += 1;
            let name = format!("j{number}");
            self.joiners
                .push_back(M::log_in(&self.servers, number % 2, &name).await?);
        }
        for _ in 0..adds {
            let number = self.logged_in[1];
            self.logged_in[1] += 1;
            // Short names: each is in every GroupInfo, and an event has a limit.
            let mut member = M::log_in(&self.servers, number % 2, &format!("u{number}")).await?;
            member.consent(&founder).await?;
            self.added.push_back(member);
        }
        Ok(())
    }

    /// The founder adds the next ones, by one commit.
    async fn add(&mut self, count: usize) -> anyhow::Result<Vec<M>> {
        let mut added: Vec<_> = self.added.drain(..count).collect();
        for member in &mut added {
            member.enter(&self.room).await?;
        }
        let users: Vec<_> = added.iter().map(Member::user).collect();
        self.live[0].add(&self.room, &users).await?;
        self.away.extend(users);
        Ok(added)
    }

    fn epoch(&self) -> anyhow::Result<u64> {
        let state = self.live[0].state(&self.room)?;
        Ok(state.context("the founder is not in the group")?.epoch)
    }

    async fn follow(&mut self, but: Option<usize>, epoch: u64) -> anyhow::Result<()> {
        let room = &self.room;
        let others = self.live.iter_mut().enumerate();
        let others = others.filter(|(place, _)| Some(*place) != but);
        try_join_all(others.map(|(_, member)| reach(member, room, epoch))).await?;
        Ok(())
    }

    /// All live members are in the same state; how many members there are.
    fn agreed(&self) -> anyhow::Result<u64> {
        let first = self.live[0].state(&self.room)?;
        for member in &self.live[1..] {
            ensure!(
                member.state(&self.room)? == first,
                "{} is in another state of the group than the founder",
                member.user()
            );
        }
        Ok(first.context("the founder is not in the group")?.members as u64)
    }
}

/// The one who does something, and the others.
fn split<M>(live: &mut [M], by: usize) -> anyhow::Result<(&mut M, impl Iterator<Item = &mut M>)> {
    let (before, rest) = live.split_at_mut_checked(by).context("a live member")?;
    let (author, after) = rest.split_first_mut().context("a live member")?;
    Ok((author, before.iter_mut().chain(after)))
}

/// Takes in what comes until the client is in this epoch of the group.
async fn reach<M: Member>(member: &mut M, room: &M::Room, epoch: u64) -> anyhow::Result<()> {
    let deadline = now() + PATIENCE;
    while member.state(room)?.is_none_or(|state| state.epoch < epoch) {
        ensure!(now() < deadline, "{} did not reach epoch {epoch}", member.user());
        member.sync(WAIT).await?;
    }
    Ok(())
}

/// Takes in what comes until the newest message says this.
async fn read<M: Member>(member: &mut M, room: &M::Room, words: &str) -> anyhow::Result<()> {
    let deadline = now() + PATIENCE;
    while !member.has_read(room, words)? {
        ensure!(now() < deadline, "{} did not get a message", member.user());
        member.sync(WAIT).await?;
    }
    Ok(())
}

/// Tries until it works: the servers may not listen yet.
async fn ready<T>(attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if now() >= deadline => return Err(error.context("a server did not become ready")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Words that differ, of this length, or of what a number takes.
fn text(number: usize, bytes: usize) -> String {
    let mut text = format!("{number} ");
    while text.len() < bytes {
        text.push('x');
    }
    text
}

/// How many are added by one commit before the first phase; a client's own limit.
const BATCH: usize = 50;
const WAIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acts_and_all_others_follow() {
        let mut live = [0, 1, 2, 3];
        let (author, others) = split(&mut live, 2).unwrap();
        assert_eq!(
            (*author, others.map(|other| *other).collect::<Vec<_>>()),
            (2, vec![0, 1, 3])
        );
        assert!(split(&mut live, 4).is_err());
    }

    #[test]
    fn a_text_is_as_long_as_wanted_and_no_two_are_alike() {
        assert_eq!(text(7, 10), "7 xxxxxxxx");
        assert_eq!(text(1_000, 3), "1000 ");
    }
}
