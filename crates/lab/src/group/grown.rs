//! A group of some size and shape. Most of its members are on paper: their leaves are sound and signed, and nobody uses them. Up to 32 are
//! *live*: devices that joined, follow every commit and make some.

use std::collections::BTreeMap;

use nabe_mls::testing::{Parents, TestDevice, group_state_on_paper, wall_clock};
use nabe_mls::{HubGroup, MAX_GROUP_STATE_BYTES, Suite};

use super::{room, tree};
use crate::cell::Shape;
use crate::protocol::Witness;
use crate::seed::Seed;
use crate::stack::{Joiner as _, Made, Member as _, Stack};
use crate::worker::{Failure, Wanted};

/// The group, as its live members and the hub have it.
pub(super) struct Grown<S: Stack> {
    pub(super) size: usize,
    pub(super) shape: Shape,
    suite: Suite,
    /// At least two, in the order of what they did in the preparation. The first commits, the second follows.
    pub(super) live: Vec<S::Member>,
    /// `None` if the group is too large for it.
    pub(super) hub: Option<HubGroup>,
    /// What the last commit came with.
    pub(super) group_info: Vec<u8>,
    seed: Seed,
    newcomers: usize,
}

impl<S: Stack> Grown<S> {
    pub(super) fn new(wanted: &Wanted) -> Result<Self, Failure> {
        let size = usize::try_from(wanted.size).map_err(Failure::at("reading the size"))?;
        Self::with_live(wanted, live_members(wanted.shape, size))
    }

    /// With so many live members.
    pub(super) fn with_live(wanted: &Wanted, live: usize) -> Result<Self, Failure> {
        let size = usize::try_from(wanted.size).map_err(Failure::at("reading the size"))?;
        let suite = Suite::from_id(wanted.suite);
        let suite = suite.ok_or_else(|| Failure::Unsupported(format!("suite {} on paper", wanted.suite)))?;
        let on_paper = match wanted.shape {
            Shape::Sparse => size + gone(size),
            _ => size,
        };
        let devices: Vec<_> = (0..on_paper)
            .map(|number| device(&format!("user{number}"), suite))
            .collect();
        let parents = match wanted.shape {
            Shape::Fresh => Parents::Blank,
            _ => Parents::Full,
        };
        let mut seed = Seed::new(wanted.seed);
        let mut places = seed.choose(live, on_paper);
        seed.shuffle(&mut places);
        let (first, others) = places
            .split_first()
            .ok_or_else(|| Failure::at("placing members")("nobody"))?;
        let paper = group_state_on_paper(room().as_str(), &devices, parents);
        let (alice, made) = take_place::<S>(&devices, *first, &paper)?;
        let mut group = Self {
            size,
            shape: wanted.shape,
            suite,
            live: vec![alice],
            hub: None,
            group_info: made.group_info.clone(),
            seed,
            newcomers: 0,
        };
        let last = match wanted.shape {
            Shape::Fresh => group.replace_by_welcome(others)?,
            _ => group.come_back(&devices, others)?.unwrap_or(made),
        };
        let last = match wanted.shape {
            Shape::Fresh | Shape::Full => last,
            Shape::Churned => group.churn()?.unwrap_or(last),
            Shape::Sparse => group.remove_some(gone(size))?,
        };
        group.hub = follow(suite, &last)?;
        Ok(group)
    }

    /// The first live member replaces those at these leaves by others, who join by its Welcome.
    fn replace_by_welcome(&mut self, places: &[usize]) -> Result<Made, Failure> {
        let joiners = self.newcomers(places.len())?;
        let key_packages = key_packages::<S>(&joiners)?;
        let leaves = places.iter().map(|&place| place as u32).collect::<Vec<_>>();
        let made = self.commit(0, &key_packages, &leaves)?;
        let welcome = made.welcome.as_deref().unwrap_or_default();
        for joiner in joiners {
            self.live.push(joiner.join(welcome)?);
        }
        Ok(made)
    }

    /// These devices take their leaves anew, one after the other, each by an external commit. Returns the last.
    fn come_back(&mut self, devices: &[TestDevice], places: &[usize]) -> Result<Option<Made>, Failure> {
        let mut last = None;
        for &place in places {
            let (member, made) = take_place::<S>(devices, place, &self.group_info)?;
            for other in &mut self.live {
                other.process(&made.commit)?;
            }
            self.live.push(member);
            self.group_info.clone_from(&made.group_info);
            last = Some(made);
        }
        Ok(last)
    }

    /// A tenth of the members goes and as many come, by turns and a few at a time, by commits of different members.
    fn churn(&mut self) -> Result<Option<Made>, Failure> {
        let mut last = None;
        let total = (self.size / 10).max(1);
        for round in 0..CHURN_ROUNDS {
            let count = total * (round + 1) / CHURN_ROUNDS - total * round / CHURN_ROUNDS;
            let leaves = self.idle_leaves(count)?;
            let joiners = self.newcomers(leaves.len())?;
            let key_packages = key_packages::<S>(&joiners)?;
            self.commit((2 * round) % self.live.len(), &[], &leaves)?;
            last = Some(self.commit((2 * round + 1) % self.live.len(), &key_packages, &[])?);
        }
        Ok(last)
    }

    fn remove_some(&mut self, count: usize) -> Result<Made, Failure> {
        let leaves = self.idle_leaves(count)?;
        self.commit(0, &[], &leaves)
    }

    /// So many leaves of members that are not live.
    fn idle_leaves(&mut self, count: usize) -> Result<Vec<u32>, Failure> {
        let live: Vec<u32> = self.live.iter().map(S::Member::leaf).collect();
        let mut idle = tree::leaves(&tree::read(&self.group_info)?);
        idle.retain(|leaf| !live.contains(leaf));
        self.seed.shuffle(&mut idle);
        idle.truncate(count);
        Ok(idle)
    }

    /// A live member commits, and all follow.
    pub(super) fn commit(&mut self, by: usize, key_packages: &[Vec<u8>], leaves: &[u32]) -> Result<Made, Failure> {
        let made = self.live[by].commit(key_packages, leaves)?;
        for (place, member) in self.live.iter_mut().enumerate() {
            match place == by {
                true => member.merge()?,
                false => member.process(&made.commit)?,
            }
        }
        self.group_info.clone_from(&made.group_info);
        Ok(made)
    }

    /// A device that is not in the group and has not been.
    pub(super) fn newcomer(&mut self) -> Result<S::Joiner, Failure> {
        self.newcomers += 1;
        S::joiner(&device(&format!("new{}", self.newcomers), self.suite))
    }

    pub(super) fn newcomers(&mut self, count: usize) -> Result<Vec<S::Joiner>, Failure> {
        (0..count).map(|_| self.newcomer()).collect()
    }

    /// The leaf of a member that may be removed: one that is not live, if there is any.
    pub(super) fn leaf_to_remove(&mut self) -> Result<u32, Failure> {
        let idle = self.idle_leaves(1)?;
        Ok(idle.first().copied().unwrap_or_else(|| self.live[1].leaf()))
    }

    /// The first member commits new keys and all follow; then everyone says where they are.
    pub(super) fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        let made = self.commit(0, &[], &[])?;
        if let Some(hub) = &mut self.hub {
            let change = hub.stage(&made.commit, &made.group_info, wall_clock());
            let change = change.map_err(Failure::at("checking a commit as hub"))?;
            hub.merge(&change).map_err(Failure::at("merging a commit as hub"))?;
        }
        let mut witnesses = Vec::new();
        for member in &self.live {
            let position = member.position()?;
            witnesses.push(Witness {
                leaf: Some(member.leaf()),
                epoch: position.epoch,
                tree_hash: hex(&position.tree_hash),
                authenticator: Some(hex(&position.authenticator)),
            });
        }
        let hub = self.hub.iter().map(|hub| Witness {
            leaf: None,
            epoch: hub.epoch(),
            tree_hash: hex(hub.tree_hash()),
            authenticator: None,
        });
        witnesses.extend(hub);
        Ok(witnesses)
    }

    /// The tree in numbers.
    pub(super) fn describe(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let mut counts = tree::describe(&tree::read(&self.group_info)?);
        counts.insert("live-members".to_owned(), self.live.len() as u64);
        Ok(counts)
    }
}

/// The device of this place takes its leaf anew.
fn take_place<S: Stack>(devices: &[TestDevice], place: usize, group_info: &[u8]) -> Result<(S::Member, Made), Failure> {
    let leaf = u32::try_from(place).map_err(Failure::at("placing members"))?;
    S::joiner(&devices[place])?.join_externally(group_info, Some(leaf))
}

fn key_packages<S: Stack>(joiners: &[S::Joiner]) -> Result<Vec<Vec<u8>>, Failure> {
    joiners.iter().map(S::Joiner::key_package).collect()
}

/// The hub's state of the group that a commit begins; `None` if it is too large.
fn follow(suite: Suite, last: &Made) -> Result<Option<HubGroup>, Failure> {
    if last.group_info.len() > MAX_GROUP_STATE_BYTES {
        return Ok(None);
    }
    let hub = HubGroup::take_up(&room(), suite, &last.commit, &last.group_info);
    let (hub, _) = hub.map_err(Failure::at("following the group as hub"))?;
    Ok(Some(hub))
}

fn device(name: &str, suite: Suite) -> TestDevice {
    TestDevice::with_suite(&format!("@{name}:lab.example"), "D", suite)
}

/// Each live member costs a join and follows every commit, so in large groups there are fewer.
fn live_members(shape: Shape, size: usize) -> usize {
    let most = match size {
        size if size <= EVERYBODY_LIVE => size,
        size if size <= 1_000 => 16,
        _ => 4,
    };
    match shape {
        Shape::Fresh | Shape::Full => most,
        // Somebody has to be left who can go.
        Shape::Churned | Shape::Sparse => most.min(16).min(size / 2).max(2),
    }
}

/// Members of a sparse group that were removed: a quarter of what there was.
const fn gone(size: usize) -> usize {
    size.div_ceil(3)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Up to this size all members are live from the beginning.
pub(super) const EVERYBODY_LIVE: usize = 32;
const CHURN_ROUNDS: usize = 8;
