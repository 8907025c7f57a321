//! A group in which a scenario is played by the library alone. It begins as `fresh` groups do: all were added at once, and one member has committed.

use std::time::{Duration, Instant};

use nabe_mls::MAX_GROUP_STATE_BYTES;
use nabe_mls::testing::wall_clock;

use super::grown::Grown;
use super::tree;
use crate::cell::Shape;
use crate::protocol;
use crate::scenario::Scenario;
use crate::scenario::library::{Played, now};
use crate::stack::{Joiner as _, Made, Member as _, Stack};
use crate::worker::{Failure, Wanted};

/// The group, its live members and the hub.
pub(crate) struct Rehearsal<S: Stack>(Grown<S>);

impl<S: Stack> Rehearsal<S> {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self, Failure> {
        let wanted = Wanted {
            suite: nabe_mls::Suite::X25519_AES128.id(),
            shape: Shape::Fresh,
            size: scenario.members,
            seed: scenario.seed,
        };
        let live = usize::try_from(scenario.live).map_err(Failure::at("reading the scenario"))?;
        let group = Grown::with_live(&wanted, live)?;
        match group.hub {
            Some(_) => Ok(Self(group)),
            None => Err(Failure::Unsupported(format!(
                "the group state has {} bytes, and Nabe's hub takes {MAX_GROUP_STATE_BYTES}",
                group.group_info.len()
            ))),
        }
    }

    /// Who will join, with their keys.
    pub(crate) fn newcomers(&mut self, count: u32) -> Result<Vec<Newcomer<S>>, Failure> {
        let newcomer = |_| {
            let joiner = self.0.newcomer()?;
            let key_package = joiner.key_package()?;
            Ok(Newcomer { joiner, key_package })
        };
        (0..count).map(newcomer).collect()
    }

    pub(crate) fn members(&self) -> Result<u64, Failure> {
        Ok(tree::leaves(&tree::read(&self.0.group_info)?).len() as u64)
    }

    /// A live member writes, and the others read.
    pub(crate) fn message(&mut self, by: usize, bytes: usize) -> Result<Played, Failure> {
        let text = vec![b'x'; bytes];
        let start = now();
        let message = self.0.live[by].encrypt(&text)?;
        let accepted = start.elapsed();
        let slowest = self.others(by, |member| member.decrypt(&message).map(drop))?;
        Ok(Played {
            accepted,
            followed: accepted + slowest,
            hub: Duration::ZERO,
            up: message.len() as u64,
            down: (message.len() * (self.0.live.len() - 1)) as u64,
        })
    }

    /// A newcomer comes by themselves, and goes away.
    pub(crate) fn join(&mut self, newcomer: impl Iterator<Item = Newcomer<S>>) -> Result<Played, Failure> {
        let newcomer = newcomer.last().ok_or_else(|| Failure::at("joining")("nobody comes"))?;
        let group_info = self.0.group_info.clone();
        let start = now();
        let (_, made) = newcomer.joiner.join_externally(&group_info, None)?;
        let mut played = self.accept(start, &made)?;
        let nobody = self.0.live.len();
        self.follow(nobody, &made, &mut played)?;
        played.down += group_info.len() as u64;
        Ok(played)
    }

    /// A live member commits: additions, the removal of somebody who is away, new keys.
    pub(crate) fn commit(&mut self, by: usize, newcomers: &[Newcomer<S>], remove: bool) -> Result<Played, Failure> {
        let leaves = match remove {
            true => vec![self.0.leaf_to_remove()?],
            false => Vec::new(),
        };
        let key_packages: Vec<_> = newcomers.iter().map(|newcomer| newcomer.key_package.clone()).collect();
        let start = now();
        let made = self.0.live[by].commit(&key_packages, &leaves)?;
        let mut played = self.accept(start, &made)?;
        self.0.live[by].merge()?;
        self.follow(by, &made, &mut played)?;
        let welcome = made.welcome.as_ref().map_or(0, Vec::len);
        played.down += (welcome * newcomers.len()) as u64;
        played.up += key_packages.iter().map(|package| package.len() as u64).sum::<u64>();
        Ok(played)
    }

    /// All live members and the hub agree.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        protocol::check(&self.0.check()?).map_err(Failure::at("comparing the members"))
    }

    fn accept(&mut self, start: Instant, made: &Made) -> Result<Played, Failure> {
        let hub = self.0.hub.as_mut().ok_or_else(|| Failure::at("accepting")("no hub"))?;
        let before = now();
        let change = hub.stage(&made.commit, &made.group_info, wall_clock());
        let change = change.map_err(Failure::at("checking a commit as hub"))?;
        hub.merge(&change).map_err(Failure::at("merging a commit as hub"))?;
        let hub = before.elapsed();
        self.0.group_info.clone_from(&made.group_info);
        Ok(Played {
            accepted: start.elapsed(),
            followed: Duration::ZERO,
            hub,
            up: (made.commit.len() + made.group_info.len() + made.welcome.as_ref().map_or(0, Vec::len)) as u64,
            down: 0,
        })
    }

    fn follow(&mut self, by: usize, made: &Made, played: &mut Played) -> Result<(), Failure> {
        let slowest = self.others(by, |member| member.process(&made.commit))?;
        played.followed = played.accepted + slowest;
        let others = self.0.live.len() - usize::from(by < self.0.live.len());
        played.down += (made.commit.len() * others) as u64;
        Ok(())
    }

    /// Everybody but one works, each for itself; how long the slowest took.
    fn others(
        &mut self,
        but: usize,
        work: impl Fn(&mut S::Member) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        let mut slowest = Duration::ZERO;
        let others = self.0.live.iter_mut().enumerate();
        for (_, member) in others.filter(|(place, _)| *place != but) {
            let start = now();
            work(member)?;
            slowest = slowest.max(start.elapsed());
        }
        Ok(slowest)
    }
}

/// Somebody who is in no group yet.
pub(crate) struct Newcomer<S: Stack> {
    joiner: S::Joiner,
    key_package: Vec<u8>,
}
