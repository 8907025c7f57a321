//! A group in which every member is live, and each commits in turn.
//!
//! In a small group all are live anyway. A larger one is made again for this: one adds all others, who join by its Welcome, and if the
//! shape is `full` everybody commits once before anything is timed. A tree that members have left has nobody for some of its leaves.

use std::collections::BTreeMap;

use super::grown::{EVERYBODY_LIVE, Grown};
use super::operations::owned;
use crate::cell::Shape;
use crate::measure::Stopwatch;
use crate::stack::{Joiner as _, Made, Member as _, Stack};
use crate::worker::{Failure, Outcome};

/// Every member of the group, or of one like it.
pub(super) fn gather<S: Stack>(group: &mut Grown<S>) -> Result<Vec<S::Member>, Failure> {
    if group.live.len() == group.size {
        return group.live.iter_mut().map(S::Member::copy).collect();
    }
    if group.size > EVERYBODY || !matches!(group.shape, Shape::Fresh | Shape::Full) {
        return Err(Failure::Unsupported(format!(
            "only {} of {} members are live; all are up to {EVERYBODY}, where the tree is fresh or full, and up to \
             {EVERYBODY_LIVE} from the beginning",
            group.live.len(),
            group.size
        )));
    }
    let joiners = group.newcomers(group.size - 1)?;
    let key_packages = joiners
        .iter()
        .map(S::Joiner::key_package)
        .collect::<Result<Vec<_>, _>>()?;
    let mut founder = group.newcomer()?.create()?;
    let made = founder.commit(&key_packages, &[])?;
    founder.merge()?;
    let welcome = made.welcome.unwrap_or_default();
    let mut everybody = vec![founder];
    for joiner in joiners {
        everybody.push(joiner.join(&welcome)?);
    }
    if group.shape == Shape::Full {
        for by in 0..everybody.len() {
            let made = everybody[by].commit(&[], &[])?;
            follow::<S>(&mut everybody, by, &made)?;
        }
    }
    Ok(everybody)
}

/// Each commits new keys in turn, of which the commits are timed. Who has committed need not follow the others, but for the first, who says
/// at the end whether the last is where it should be.
pub(super) fn update<S: Stack>(everybody: &mut [S::Member], watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let mut waiting = everybody
        .iter_mut()
        .map(S::Member::copy)
        .collect::<Result<Vec<_>, _>>()?;
    let (mut sent, mut work) = (0, BTreeMap::new());
    while waiting.len() > 1 {
        // The first of all, who stays, is the last to be asked.
        let by = waiting.len() - 1;
        sent += commit::<S>(&mut waiting, by, &mut work, watch)?;
        let position = waiting[by].position()?;
        if waiting[0].position()? != position {
            return Err(Failure::at("updating everybody")("the members disagree"));
        }
        waiting.pop();
    }
    sent += commit::<S>(&mut waiting, 0, &mut work, watch)?;
    Ok(Outcome {
        bytes: owned([("commit", sent)]),
        work,
    })
}

/// One commits and all follow. Returns the commit's length.
fn commit<S: Stack>(
    members: &mut [S::Member],
    by: usize,
    work: &mut BTreeMap<String, u64>,
    watch: &mut Stopwatch,
) -> Result<u64, Failure> {
    S::take_work();
    let made = watch.time(|| members[by].commit(&[], &[]))?;
    for (name, count) in S::take_work() {
        *work.entry(name).or_insert(0) += count;
    }
    follow::<S>(members, by, &made)?;
    Ok(made.commit.len() as u64)
}

fn follow<S: Stack>(members: &mut [S::Member], by: usize, made: &Made) -> Result<(), Failure> {
    for (place, member) in members.iter_mut().enumerate() {
        match place == by {
            true => member.merge()?,
            false => member.process(&made.commit)?,
        }
    }
    Ok(())
}

/// Up to this size there is such a group. Each member follows the commits of those before it, so it takes the square of the size.
const EVERYBODY: usize = 128;
