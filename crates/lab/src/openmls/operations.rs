//! The operations. Each leaves the group as it was: what moves on is a copy, or a commit that is dropped.

use std::collections::BTreeMap;
use std::hint::black_box;

use nabe_mls::HubGroup;
use nabe_mls::testing::{BareGroup, wall_clock};

use super::counting::take_work;
use super::grown::{EVERYBODY_LIVE, Grown};
use super::member::{Joiner, Made, Member};
use super::too_large_for_the_hub;
use crate::cell::Operation;
use crate::measure::Stopwatch;
use crate::worker::{Failure, Outcome};

/// What is made once for all samples of an epoch.
#[derive(Default)]
pub(super) struct Cache {
    update: Option<Made>,
    key_packages: Vec<Vec<u8>>,
    welcome: Option<(Joiner, Vec<u8>)>,
}

impl Cache {
    pub(super) fn sample(
        &mut self,
        group: &mut Grown,
        operation: Operation,
        watch: &mut Stopwatch,
    ) -> Result<Outcome, Failure> {
        match operation {
            Operation::Create => self.create(group, watch),
            Operation::AddOne => self.add(group, 1, watch),
            Operation::AddMany => self.add(group, MANY, watch),
            Operation::AddBatches => self.add_in_batches(group, watch),
            Operation::Remove => {
                let leaf = group.leaf_to_remove();
                commit(&mut group.live[0], &[], &[leaf], watch)
            }
            Operation::Update => commit(&mut group.live[0], &[], &[], watch),
            Operation::UpdateEveryone => update_everyone(group, watch),
            Operation::ExternalJoin => external_join(group, watch),
            Operation::JoinWelcome => self.join_by_welcome(group, watch),
            Operation::Process => self.process(group, watch),
            Operation::HubBare => self.hub_bare(group, watch),
            Operation::Hub => self.hub(group, watch),
            Operation::Checkpoint => checkpoint(hub(group)?, watch),
            Operation::Restore => restore(hub(group)?, watch),
            Operation::Encrypt => encrypt(group, watch),
            Operation::Decrypt => decrypt(group, 0, watch),
            Operation::DecryptGap => decrypt(group, GAP, watch),
            Operation::DecryptUnordered => decrypt_unordered(group, watch),
            Operation::Export => export(group, watch),
        }
    }

    /// As many newcomers' key packages. They are proposed and never used, so they may be proposed again.
    fn key_packages(&mut self, group: &mut Grown, count: usize) -> Result<&[Vec<u8>], Failure> {
        while self.key_packages.len() < count {
            self.key_packages.push(group.newcomer().key_package()?);
        }
        Ok(&self.key_packages[..count])
    }

    fn create(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let count = group.size - 1;
        let founder = group.newcomer();
        let others = self.key_packages(group, count)?;
        take_work();
        let (member, made) = watch.time(|| {
            let mut member = founder.create()?;
            let made = member.commit(others, &[])?;
            member.merge()?;
            Ok::<_, Failure>((member, made))
        })?;
        Ok(outcome(&member, &made, others))
    }

    fn add(&mut self, group: &mut Grown, count: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let added = self.key_packages(group, count)?;
        commit(&mut group.live[0], added, &[], watch)
    }

    fn add_in_batches(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let added = self.key_packages(group, MANY)?;
        let mut alice = group.live[0].copy()?;
        take_work();
        let mut sum = BTreeMap::new();
        for batch in added.chunks(BATCH) {
            let made = watch.time(|| {
                let made = alice.commit(batch, &[])?;
                alice.merge()?;
                Ok::<_, Failure>(made)
            })?;
            for (name, bytes) in sizes(&alice, &made, batch) {
                let total = sum.entry(name.clone()).or_insert(0);
                // What is stored, or the same for all, does not add up.
                *total = if is_sent(&name) { *total + bytes } else { bytes };
            }
        }
        Ok(Outcome {
            bytes: sum,
            work: take_work(),
        })
    }

    fn join_by_welcome(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        if self.welcome.is_none() {
            let joiner = group.newcomer();
            let made = group.live[0].commit(&[joiner.key_package()?], &[])?;
            group.live[0].clear()?;
            self.welcome = Some((joiner, made.welcome.unwrap_or_default()));
        }
        let (joiner, welcome) = self.welcome.as_ref().ok_or_else(|| Failure::at("inviting")("nobody"))?;
        let joiner = joiner.copy();
        take_work();
        let member = watch.time(|| joiner.join(welcome))?;
        let bytes = [
            ("welcome", welcome.len() as u64),
            ("stored", member.provider.stored_bytes()),
        ];
        Ok(Outcome {
            bytes: owned(bytes),
            work: take_work(),
        })
    }

    /// An update by the first member, made once.
    fn update(&mut self, group: &mut Grown) -> Result<&Made, Failure> {
        if self.update.is_none() {
            let made = group.live[0].commit(&[], &[])?;
            group.live[0].clear()?;
            self.update = Some(made);
        }
        self.update
            .as_ref()
            .ok_or_else(|| Failure::at("making a commit")("none"))
    }

    fn process(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let update = self.update(group)?;
        let mut bob = group.live[1].copy()?;
        take_work();
        watch.time(|| bob.process(&update.commit))?;
        Ok(outcome(&bob, update, &[]))
    }

    fn hub_bare(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let update = self.update(group)?;
        let mut bare = BareGroup::of(hub(group)?);
        watch.time(|| bare.take(&update.commit));
        Ok(Outcome {
            bytes: owned([("commit", update.commit.len() as u64)]),
            ..Outcome::default()
        })
    }

    fn hub(&mut self, group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
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

fn hub(group: &Grown) -> Result<&HubGroup, Failure> {
    let hub = group.hub.as_ref();
    hub.ok_or_else(|| too_large_for_the_hub(group.group_info.len()))
}

fn restored(checkpoint: &[u8]) -> Result<HubGroup, Failure> {
    HubGroup::restore(checkpoint).map_err(Failure::at("reading a checkpoint"))
}

fn checkpoint(hub: &HubGroup, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let checkpoint = watch.time(|| hub.checkpoint());
    Ok(Outcome {
        bytes: owned([("stored", checkpoint.len() as u64)]),
        ..Outcome::default()
    })
}

fn restore(hub: &HubGroup, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let checkpoint = hub.checkpoint();
    let _restored = watch.time(|| restored(&checkpoint))?;
    Ok(Outcome {
        bytes: owned([("stored", checkpoint.len() as u64)]),
        ..Outcome::default()
    })
}

/// A commit, made and dropped.
fn commit(member: &mut Member, added: &[Vec<u8>], removed: &[u32], watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    take_work();
    let made = watch.time(|| member.commit(added, removed))?;
    let outcome = outcome(member, &made, added);
    member.clear()?;
    Ok(outcome)
}

fn update_everyone(group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    if group.live.len() < group.size {
        return Err(Failure::Unsupported(format!(
            "only {} of {} members are live; all are up to {EVERYBODY_LIVE}, where the tree is fresh or full",
            group.live.len(),
            group.size
        )));
    }
    let mut live = group.live.iter().map(Member::copy).collect::<Result<Vec<_>, _>>()?;
    let mut work: BTreeMap<String, u64> = BTreeMap::new();
    let mut sent = 0;
    for by in 0..live.len() {
        take_work();
        let made = watch.time(|| live[by].commit(&[], &[]))?;
        for (name, count) in take_work() {
            *work.entry(name).or_insert(0) += count;
        }
        sent += made.commit.len() as u64;
        for (place, member) in live.iter_mut().enumerate() {
            match place == by {
                true => member.merge()?,
                false => member.process(&made.commit)?,
            }
        }
    }
    Ok(Outcome {
        bytes: owned([("commit", sent)]),
        work,
    })
}

fn external_join(group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let joiner = group.newcomer();
    take_work();
    let (member, made) = watch.time(|| joiner.join_externally(&group.group_info))?;
    Ok(outcome(&member, &made, &[]))
}

fn encrypt(group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    take_work();
    let message = watch.time(|| group.live[0].encrypt(&PLAINTEXT))?;
    Ok(message_outcome(&message))
}

/// After so many messages that never come.
fn decrypt(group: &mut Grown, gap: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    for _ in 0..gap {
        group.live[0].encrypt(&PLAINTEXT)?;
    }
    let message = group.live[0].encrypt(&PLAINTEXT)?;
    take_work();
    let plaintext = watch.time(|| group.live[1].decrypt(&message))?;
    is_right(&plaintext)?;
    Ok(message_outcome(&message))
}

fn decrypt_unordered(group: &mut Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    let messages = (0..UNORDERED)
        .map(|_| group.live[0].encrypt(&PLAINTEXT))
        .collect::<Result<Vec<_>, _>>()?;
    take_work();
    for message in messages.iter().rev() {
        let plaintext = watch.time(|| group.live[1].decrypt(message))?;
        is_right(&plaintext)?;
    }
    watch.divide(UNORDERED);
    Ok(message_outcome(&messages[0]))
}

fn is_right(plaintext: &[u8]) -> Result<(), Failure> {
    match plaintext == PLAINTEXT {
        true => Ok(()),
        false => Err(Failure::at("decrypting a message")("it reads otherwise")),
    }
}

fn export(group: &Grown, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
    for _ in 0..EXPORTS {
        black_box(watch.time(|| group.live[0].export())?);
    }
    watch.divide(EXPORTS);
    Ok(Outcome::default())
}

fn message_outcome(message: &[u8]) -> Outcome {
    Outcome {
        bytes: owned([("message", message.len() as u64)]),
        work: take_work(),
    }
}

fn outcome(member: &Member, made: &Made, added: &[Vec<u8>]) -> Outcome {
    let work = take_work();
    Outcome {
        bytes: sizes(member, made, added),
        work,
    }
}

fn sizes(member: &Member, made: &Made, added: &[Vec<u8>]) -> BTreeMap<String, u64> {
    use tls_codec::Size as _;
    let tree = member.group.export_ratchet_tree().tls_serialized_len() as u64;
    let mut bytes = owned([
        ("commit", made.commit.len() as u64),
        ("group-info", made.group_info.len() as u64),
        ("tree", tree),
        ("stored", member.provider.stored_bytes()),
    ]);
    if let Some(welcome) = &made.welcome {
        bytes.insert("welcome".to_owned(), welcome.len() as u64);
    }
    if let Some(key_package) = added.first() {
        bytes.insert("key-package".to_owned(), key_package.len() as u64);
    }
    bytes
}

fn is_sent(name: &str) -> bool {
    ["commit", "welcome", "group-info"].contains(&name)
}

fn owned<const N: usize>(sizes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sizes.map(|(name, size)| (name.to_owned(), size)).into()
}

const MANY: usize = 50;
const BATCH: usize = 10;
const GAP: usize = 100;
const UNORDERED: u32 = 4;
const EXPORTS: u32 = 10;
const PLAINTEXT: [u8; 100] = [b'x'; 100];
