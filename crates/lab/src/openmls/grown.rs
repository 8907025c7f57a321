//! A group of some size and shape. Most of its members are on paper: their leaves are sound and signed, and nobody uses them. Up to 32 are
//! *live*: devices that joined, follow every commit and make some.

use std::collections::BTreeMap;

use nabe_mls::testing::{Parents, TestDevice, group_state_on_paper, wall_clock};
use nabe_mls::{HubGroup, MAX_GROUP_STATE_BYTES, Suite};
use serde_json::Value;

use super::member::{Joiner, Made, Member};
use super::room;
use crate::cell::Shape;
use crate::protocol::Witness;
use crate::seed::Seed;
use crate::worker::{Failure, Wanted};

/// The group, as its live members and the hub have it.
pub(super) struct Grown {
    pub(super) size: usize,
    /// At least two, in the order of what they did in the preparation. The first commits, the second follows.
    pub(super) live: Vec<Member>,
    /// `None` if the group is too large for it.
    pub(super) hub: Option<HubGroup>,
    /// What the last commit came with.
    pub(super) group_info: Vec<u8>,
    seed: Seed,
    newcomers: usize,
}

impl Grown {
    pub(super) fn new(wanted: &Wanted) -> Result<Self, Failure> {
        let size = usize::try_from(wanted.size).map_err(Failure::at("reading the size"))?;
        let on_paper = match wanted.shape {
            Shape::Sparse => size + gone(size),
            _ => size,
        };
        let devices: Vec<_> = (0..on_paper).map(device).collect();
        let parents = match wanted.shape {
            Shape::Fresh => Parents::Blank,
            _ => Parents::Full,
        };
        let mut seed = Seed::new(wanted.seed);
        let mut places = seed.choose(live_members(wanted.shape, size), on_paper);
        seed.shuffle(&mut places);
        let (first, others) = places
            .split_first()
            .ok_or_else(|| Failure::at("placing members")("nobody"))?;
        let paper = group_state_on_paper(room().as_str(), &devices, parents);
        let (alice, made) = Joiner::of(devices[*first].clone()).join_externally(&paper)?;
        let mut group = Self {
            size,
            live: vec![alice],
            hub: None,
            group_info: made.group_info.clone(),
            seed,
            newcomers: 0,
        };
        let last = match wanted.shape {
            Shape::Fresh => group.replace_by_welcome(others)?,
            _ => group
                .come_back(others.iter().map(|&place| devices[place].clone()))?
                .unwrap_or(made),
        };
        let last = match wanted.shape {
            Shape::Fresh | Shape::Full => last,
            Shape::Churned => group.churn()?.unwrap_or(last),
            Shape::Sparse => group.remove_some(gone(size))?,
        };
        group.hub = follow(&last)?;
        Ok(group)
    }

    /// The first live member replaces those at these leaves by others, who join by its Welcome.
    fn replace_by_welcome(&mut self, places: &[usize]) -> Result<Made, Failure> {
        let joiners: Vec<_> = places.iter().map(|_| self.newcomer()).collect();
        let key_packages = joiners.iter().map(Joiner::key_package).collect::<Result<Vec<_>, _>>()?;
        let leaves = places.iter().map(|&place| place as u32).collect::<Vec<_>>();
        let made = self.commit(0, &key_packages, &leaves)?;
        let welcome = made.welcome.as_deref().unwrap_or_default();
        for joiner in joiners {
            self.live.push(joiner.join(welcome)?);
        }
        Ok(made)
    }

    /// These devices take their leaves anew, one after the other, each by an external commit. Returns the last.
    fn come_back(&mut self, devices: impl Iterator<Item = TestDevice>) -> Result<Option<Made>, Failure> {
        let mut last = None;
        for device in devices {
            let (member, made) = Joiner::of(device).join_externally(&self.group_info)?;
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
            let leaves = self.idle_leaves(count);
            let joiners: Vec<_> = leaves.iter().map(|_| self.newcomer()).collect();
            let key_packages = joiners.iter().map(Joiner::key_package).collect::<Result<Vec<_>, _>>()?;
            self.commit((2 * round) % self.live.len(), &[], &leaves)?;
            last = Some(self.commit((2 * round + 1) % self.live.len(), &key_packages, &[])?);
        }
        Ok(last)
    }

    fn remove_some(&mut self, count: usize) -> Result<Made, Failure> {
        let leaves = self.idle_leaves(count);
        self.commit(0, &[], &leaves)
    }

    /// So many leaves of members that are not live.
    fn idle_leaves(&mut self, count: usize) -> Vec<u32> {
        let live: Vec<u32> = self.live.iter().map(Member::leaf).collect();
        let tree = self.live[0].group.treesync();
        let mut idle: Vec<u32> = tree.full_leaves().map(|(leaf, _)| leaf.u32()).collect();
        idle.retain(|leaf| !live.contains(leaf));
        self.seed.shuffle(&mut idle);
        idle.truncate(count);
        idle
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
    pub(super) fn newcomer(&mut self) -> Joiner {
        self.newcomers += 1;
        Joiner::new(&format!("new{}", self.newcomers))
    }

    /// The leaf of a member that may be removed: one that is not live, if there is any.
    pub(super) fn leaf_to_remove(&mut self) -> u32 {
        self.idle_leaves(1)
            .first()
            .copied()
            .unwrap_or_else(|| self.live[1].leaf())
    }

    /// The first member commits new keys and all follow; then everyone says where they are.
    pub(super) fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        let made = self.commit(0, &[], &[])?;
        if let Some(hub) = &mut self.hub {
            let change = hub.stage(&made.commit, &made.group_info, wall_clock());
            let change = change.map_err(Failure::at("checking a commit as hub"))?;
            hub.merge(&change).map_err(Failure::at("merging a commit as hub"))?;
        }
        let members = self.live.iter().map(|member| Witness {
            leaf: Some(member.leaf()),
            epoch: member.group.epoch().as_u64(),
            tree_hash: hex(member.group.public_group().group_context().tree_hash()),
            authenticator: Some(hex(member.group.epoch_authenticator().as_slice())),
        });
        let hub = self.hub.iter().map(|hub| Witness {
            leaf: None,
            epoch: hub.epoch(),
            tree_hash: hex(hub.tree_hash()),
            authenticator: None,
        });
        Ok(members.chain(hub).collect())
    }

    /// The tree in numbers.
    pub(super) fn describe(&self) -> BTreeMap<String, u64> {
        let tree = self.live[0].group.treesync();
        let unmerged = |parent| unmerged_leaves(&serde_json::to_value(parent).unwrap_or_default());
        [
            ("members", tree.full_leaves().count()),
            ("live-members", self.live.len()),
            ("blank-leaves", tree.blank_leaves().count()),
            ("parents", tree.full_parents().count()),
            ("blank-parents", tree.blank_parents().count()),
            (
                "unmerged-leaves",
                tree.full_parents().map(|(_, parent)| unmerged(parent)).sum(),
            ),
        ]
        .map(|(name, count)| (name.to_owned(), count as u64))
        .into()
    }
}

/// OpenMLS tells of unmerged leaves only where it writes a node down.
fn unmerged_leaves(parent: &Value) -> usize {
    let leaves = &parent["unmerged_leaves"];
    let list = leaves.get("list").unwrap_or(leaves);
    list.as_array().map_or(0, Vec::len)
}

/// The hub's state of the group that a commit begins; `None` if it is too large.
fn follow(last: &Made) -> Result<Option<HubGroup>, Failure> {
    if last.group_info.len() > MAX_GROUP_STATE_BYTES {
        return Ok(None);
    }
    let hub = HubGroup::take_up(&room(), Suite::X25519_AES128, &last.commit, &last.group_info);
    let (hub, _) = hub.map_err(Failure::at("following the group as hub"))?;
    Ok(Some(hub))
}

fn device(number: usize) -> TestDevice {
    TestDevice::new(&format!("@user{number}:lab.example"), "D")
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

/// Up to this size all members are live.
pub(super) const EVERYBODY_LIVE: usize = 32;
const CHURN_ROUNDS: usize = 8;
