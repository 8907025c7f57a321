//! Many committers at once. Which of them meet, and in which order, comes from a seed.

use super::*;
use crate::{Intent, ItemBody};

/// SplitMix64: enough for choosing who races whom.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("less than sides")
    }
}

/// Some members commit for the same epoch, in an order of chance, others speak meanwhile, some sleep; until the group has gone
/// through so many epochs.
fn race(members: usize, epochs: u64, seed: u64) {
    let hub = hub();
    let mut dice = Dice(seed);
    let settings = Settings {
        key_package_stock: 1,
        max_attempts: 10_000,
        ..obedient()
    };
    let mut clients: Vec<Client> = (0..members)
        .map(|n| {
            let (id, name) = (format!("@user{n}:s{}.test", n % 3), format!("D{n}"));
            client_with(&hub, &id, &name, ClientStore::in_memory().unwrap(), settings.clone())
        })
        .collect();
    let room = {
        let (creator, others) = clients.split_first_mut().unwrap();
        let mut others: Vec<&mut Client> = others.iter_mut().collect();
        room(creator, &mut others)
    };
    let mut said = Vec::new();
    let begun = hub.commits(&room);
    while hub.commits(&room) < begun + epochs {
        // Everybody who races prepares their commit before any is sent.
        let racers: Vec<usize> = (0..2 + dice.roll(5)).map(|_| dice.roll(members)).collect();
        for &racer in &racers {
            let client = &mut clients[racer];
            sync(client);
            if client.due_intents().unwrap().is_empty() {
                client.enqueue(&room, &Intent::Update).unwrap();
            }
            for intent in client.due_intents().unwrap() {
                now(client.make_commit(&intent)).unwrap();
            }
        }
        let speaker = dice.roll(members);
        let line = format!("line {}", said.len());
        say(&mut clients[speaker], &room, &line);
        said.push(line);
        let before = hub.commits(&room);
        for &racer in &racers {
            now(clients[racer].flush()).unwrap();
        }
        assert!(hub.commits(&room) <= before + 1, "one commit for each epoch");
        // Nobody sleeps for longer than keys of past epochs are kept.
        for client in &mut clients {
            let behind = hub.group(&room).unwrap().epoch() - client.group(&room).unwrap().unwrap().epoch;
            if behind > 3 || dice.roll(3) == 0 {
                sync(client);
            }
        }
    }
    // The losers of the last race get their turn.
    for _ in 0..2 {
        clients.iter_mut().for_each(sync);
    }
    let everybody: Vec<&Client> = clients.iter().collect();
    agree(&hub, &room, &everybody);
    let commits = hub
        .log(&room)
        .into_iter()
        .filter(|event| event.event_type == "m.mls.commit");
    assert_eq!(
        commits.count() as u64,
        hub.group(&room).unwrap().epoch(),
        "one commit for each epoch"
    );
    for client in everybody {
        let items = client.timeline(&room, 100_000).unwrap();
        let unread = items.iter().filter(|item| !matches!(item.body, ItemBody::Message(_)));
        assert_eq!(unread.count(), 0, "{} reads everything", client.user());
        assert_eq!(read(client, &room), said);
    }
}

#[test]
fn one_commit_wins_each_epoch_and_nothing_is_lost() {
    race(12, 40, 1);
}

/// The full size: `cargo test -p nabe-client --release -- --ignored fifty`, some minutes without `--release`.
#[test]
#[ignore = "minutes without optimization"]
fn fifty_committers_for_two_hundred_epochs() {
    race(50, 200, 2);
}
