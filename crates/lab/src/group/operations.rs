//! The operations. Each leaves the group as it was: what moves on is a copy, or a commit that is dropped.

use std::collections::BTreeMap;
use std::hint::black_box;

use nabe_mls::testing::wall_clock;
use nabe_mls::{HubGroup, MAX_GROUP_STATE_BYTES};

use super::grown::Grown;
use super::{everyone, tree};
use crate::cell::Operation;
use crate::measure::Stopwatch;
use crate::stack::{Joiner as _, Made, Member as _, Observer as _, Stack};
use crate::worker::{Failure, Outcome};

/// What is made once for all samples of an epoch.
pub(super) struct Cache<S: Stack> {
    update: Option<Made>,
    key_packages: Vec<Vec<u8>>,
    welcome: Option<(S::Joiner, Vec<u8>)>,
    observer: Option<S::Observer>,
    everybody: Option<Vec<S::Member>>,
}

impl<S: Stack> Default for Cache<S> {
    fn default() -> Self {
        Self {
            update: None,
            key_packages: Vec::new(),
            welcome: None,
            observer: None,
            everybody: None,
        }
    }
}

impl<S: Stack> Cache<S> {
    pub(super) fn sample(
        &mut self,
        group: &mut Grown<S>,
        operation: Operation,
        watch: &mut Stopwatch,
    ) -> Result<Outcome, Failure> {
        match operation {
            Operation::Create => self.create(group, watch),
            Operation::AddOne => self.add(group, 1, watch),
            Operation::AddMany => self.add(group, MANY, watch),
            Operation::AddBatches => self.add_in_batches(group, watch),
            Operation::Remove => {
                let leaf = group.leaf_to_remove()?;
                commit::<S>(&mut group.live[0], &[], &[leaf], watch)
            }
            Operation::Update => commit::<S>(&mut group.live[0], &[], &[], watch),
            Operation::UpdateEveryone => self.update_everyone(group, watch),
            Operation::ExternalJoin => external_join(group, watch),
            Operation::JoinWelcome => self.join_by_welcome(group, watch),
            Operation::Process => self.process(group, watch),
            Operation::HubBare => self.hub_bare(group, watch),
            Operation::Hub => self.hub(group, watch),
            Operation::Checkpoint => self.checkpoint(group, watch),
            Operation::Restore => self.restore(group, watch),
            Operation::Encrypt => encrypt(group, watch),
            Operation::Decrypt => decrypt(group, 0, watch),
            Operation::DecryptGap => decrypt(group, GAP, watch),
            Operation::DecryptUnordered => decrypt_unordered(group, watch),
            Operation::Export => export(group, watch),
        }
    }

    /// As many newcomers' key packages. They are proposed and never used, so they may be proposed again.
    fn key_packages(&mut self, group: &mut Grown<S>, count: usize) -> Result<&[Vec<u8>], Failure> {
        while self.key_packages.len() < count {
            self.key_packages.push(group.newcomer()?.key_package()?);
        }
        Ok(&self.key_packages[..count])
    }

    fn create(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let count = group.size - 1;
        let founder = group.newcomer()?;
        let others = self.key_packages(group, count)?;
        S::take_work();
        let (member, made) = watch.time(|| {
            let mut member = founder.create()?;
            let made = member.commit(others, &[])?;
            member.merge()?;
            Ok::<_, Failure>((member, made))
        })?;
        outcome::<S>(&member, &made, others)
    }

    fn add(&mut self, group: &mut Grown<S>, count: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let added = self.key_packages(group, count)?;
        commit::<S>(&mut group.live[0], added, &[], watch)
    }

    fn add_in_batches(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let added = self.key_packages(group, MANY)?;
        let mut alice = group.live[0].copy()?;
        S::take_work();
        let mut sum = BTreeMap::new();
        for batch in added.chunks(BATCH) {
            let made = watch.time(|| {
                let made = alice.commit(batch, &[])?;
                alice.merge()?;
                Ok::<_, Failure>(made)
            })?;
            for (name, bytes) in sizes::<S>(&alice, &made, batch)? {
                let total = sum.entry(name.clone()).or_insert(0);
                // What is stored, or the same for all, does not add up.
                *total = if is_sent(&name) { *total + bytes } else { bytes };
            }
        }
        Ok(Outcome {
            bytes: sum,
            work: S::take_work(),
        })
    }

    fn join_by_welcome(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        if self.welcome.is_none() {
            let joiner = group.newcomer()?;
            let made = group.live[0].commit(&[joiner.key_package()?], &[])?;
            group.live[0].clear()?;
            self.welcome = Some((joiner, made.welcome.unwrap_or_default()));
        }
        let (joiner, welcome) = self.welcome.as_ref().ok_or_else(|| Failure::at("inviting")("nobody"))?;
        let joiner = joiner.copy()?;
        S::take_work();
        let member = watch.time(|| joiner.join(welcome))?;
        let bytes = [("welcome", welcome.len() as u64), ("stored", member.stored_bytes())];
        Ok(Outcome {
            bytes: owned(bytes),
            work: S::take_work(),
        })
    }

    /// An update by the first member, made once.
    fn update(&mut self, group: &mut Grown<S>) -> Result<&Made, Failure> {
        if self.update.is_none() {
            let made = group.live[0].commit(&[], &[])?;
            group.live[0].clear()?;
            self.update = Some(made);
        }
        self.update
            .as_ref()
            .ok_or_else(|| Failure::at("making a commit")("none"))
    }

    fn process(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let update = self.update(group)?;
        let mut bob = group.live[1].copy()?;
        S::take_work();
        watch.time(|| bob.process(&update.commit))?;
        outcome::<S>(&bob, update, &[])
    }

    fn update_everyone(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        if self.everybody.is_none() {
            self.everybody = Some(everyone::gather(group)?);
        }
        let everybody = self
            .everybody
            .as_mut()
            .ok_or_else(|| Failure::at("gathering everybody")("nobody"))?;
        everyone::update::<S>(everybody, watch)
    }

    /// What follows the group without secrets, at the epoch it is in.
    fn observer(&mut self, group: &Grown<S>) -> Result<&S::Observer, Failure> {
        if self.observer.is_none() {
            self.observer = Some(S::observer(hub(group)?, &group.group_info)?);
        }
        self.observer
            .as_ref()
            .ok_or_else(|| Failure::at("following a group")("nobody"))
    }

    fn hub_bare(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let mut bare = self.observer(group)?.bare()?;
        let update = self.update(group)?;
        watch.time(|| S::Observer::take(&mut bare, &update.commit))?;
        Ok(Outcome {
            bytes: owned([("commit", update.commit.len() as u64)]),
            ..Outcome::default()
        })
    }

    fn checkpoint(&mut self, group: &Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let observer = self.observer(group)?;
        let checkpoint = watch.time(|| observer.checkpoint())?;
        Ok(stored(&checkpoint))
    }

    fn restore(&mut self, group: &Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let checkpoint = self.observer(group)?.checkpoint()?;
        let _restored = watch.time(|| S::Observer::restore(&checkpoint))?;
        Ok(stored(&checkpoint))
    }

    fn hub(&mut self, group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let update = self.update(group)?;
        let mut hub = restored(&hub(group)?.checkpoint())?;
        let stored = watch.time(|| {
            let change = hub
                .stage(&update.commit, &update.group_info, wall_clock())
                .map_err(Failure::at("checking a commit as hub"))?;
            hub.merge(&change).map_err(Failure::at("merging a commit as hub"))?;
            Ok::<_, Failure>(change.bytes.len() as u64)
        })?;
        let bytes = [
            ("commit", update.commit.len() as u64),
            ("group-info", update.group_info.len() as u64),
            ("stored", stored),
        ];
        Ok(Outcome {
            bytes: owned(bytes),
            ..Outcome::default()
        })
    }
}

fn hub<S: Stack>(group: &Grown<S>) -> Result<&HubGroup, Failure> {
    group.hub.as_ref().ok_or_else(|| {
        Failure::Unsupported(format!(
            "the group state has {} bytes, and Nabe's hub takes {MAX_GROUP_STATE_BYTES}",
            group.group_info.len()
        ))
    })
}

fn restored(checkpoint: &[u8]) -> Result<HubGroup, Failure> {
    HubGroup::restore(checkpoint).map_err(Failure::at("reading a checkpoint"))
}

fn stored(checkpoint: &[u8]) -> Outcome {
    Outcome {
        bytes: owned([("stored", checkpoint.len() as u64)]),
        ..Outcome::default()
    }
}

/// A commit, made and dropped.
fn commit<S: Stack>(
    member: &mut S::Member,
    added: &[Vec<u8>],
    removed: &[u32],
    watch: &mut Stopwatch,
) -> Result<Outcome, Failure> {
    S::take_work();
    let made = watch.time(|| member.commit(added, removed))?;
    let outcome = outcome::<S>(member, &made, added);
    member.clear()?;
    outcome
}

fn external_join<S: Stack>(group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let joiner = group.newcomer()?;
    S::take_work();
    let (member, made) = watch.time(|| joiner.join_externally(&group.group_info, None))?;
    outcome::<S>(&member, &made, &[])
}

fn encrypt<S: Stack>(group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    S::take_work();
    let message = watch.time(|| group.live[0].encrypt(&PLAINTEXT))?;
    Ok(message_outcome::<S>(&message))
}

/// After so many messages that never come.
fn decrypt<S: Stack>(group: &mut Grown<S>, gap: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    for _ in 0..gap {
        group.live[0].encrypt(&PLAINTEXT)?;
    }
    let message = group.live[0].encrypt(&PLAINTEXT)?;
    S::take_work();
    let plaintext = watch.time(|| group.live[1].decrypt(&message))?;
    is_right(&plaintext)?;
    Ok(message_outcome::<S>(&message))
}

fn decrypt_unordered<S: Stack>(group: &mut Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let messages = (0..UNORDERED)
        .map(|_| group.live[0].encrypt(&PLAINTEXT))
        .collect::<Result<Vec<_>, _>>()?;
    S::take_work();
    for message in messages.iter().rev() {
        let plaintext = watch.time(|| group.live[1].decrypt(message))?;
        is_right(&plaintext)?;
    }
    watch.divide(UNORDERED);
    Ok(message_outcome::<S>(&messages[0]))
}

fn is_right(plaintext: &[u8]) -> Result<(), Failure> {
    match plaintext == PLAINTEXT {
        true => Ok(()),
        false => Err(Failure::at("decrypting a message")("it reads otherwise")),
    }
}

fn export<S: Stack>(group: &Grown<S>, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    for _ in 0..EXPORTS {
        black_box(watch.time(|| group.live[0].export())?);
    }
    watch.divide(EXPORTS);
    Ok(Outcome::default())
}

fn message_outcome<S: Stack>(message: &[u8]) -> Outcome {
    Outcome {
        bytes: owned([("message", message.len() as u64)]),
        work: S::take_work(),
    }
}

fn outcome<S: Stack>(member: &S::Member, made: &Made, added: &[Vec<u8>]) -> Result<Outcome, Failure> {
    let work = S::take_work();
    Ok(Outcome {
        bytes: sizes::<S>(member, made, added)?,
        work,
    })
}

fn sizes<S: Stack>(member: &S::Member, made: &Made, added: &[Vec<u8>]) -> Result<BTreeMap<String, u64>, Failure> {
    let mut bytes = owned([
        ("commit", made.commit.len() as u64),
        ("group-info", made.group_info.len() as u64),
        ("tree", tree::bytes_in(&made.group_info)?.len() as u64),
        ("stored", member.stored_bytes()),
    ]);
    if let Some(welcome) = &made.welcome {
        bytes.insert("welcome".to_owned(), welcome.len() as u64);
    }
    if let Some(key_package) = added.first() {
        bytes.insert("key-package".to_owned(), key_package.len() as u64);
    }
    Ok(bytes)
}

fn is_sent(name: &str) -> bool {
    ["commit", "welcome", "group-info"].contains(&name)
}

pub(super) fn owned<const N: usize>(sizes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sizes.map(|(name, size)| (name.to_owned(), size)).into()
}

const MANY: usize = 50;
const BATCH: usize = 10;
const GAP: usize = 100;
const UNORDERED: u32 = 4;
const EXPORTS: u32 = 10;
const PLAINTEXT: [u8; 100] = [b'x'; 100];
