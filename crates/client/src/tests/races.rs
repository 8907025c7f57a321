//! Many committers at once. Which of them meet, and in which order, comes from a seed.

use super::*;
use crate::store::PendingCommit;
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

/// Every member has a commit for the epoch in flight, and one of them wins; meanwhile one or two speak in the epoch that ends, the winner
/// or others, whose messages come after the commit. The hub's order comes from a seed; what is independent of it is done on
/// several threads.
fn everybody_races(members: usize, epochs: u64, seed: u64) {
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
    for epoch in 0..epochs {
        // Everybody takes in what happened, and prepares a commit for the epoch they are all in.
        in_parallel(&mut clients, |client| {
            while now(client.receive(Duration::ZERO)).unwrap() > 0 {}
            if client.due_intents().unwrap().is_empty() {
                client.enqueue(&room, &Intent::Update).unwrap();
            }
            for intent in client.due_intents().unwrap() {
                now(client.make_commit(&intent)).unwrap();
            }
            let pending = PendingCommit::load(client.store.read(), &room).unwrap();
            assert_eq!(
                pending.map(|pending| pending.epoch),
                Some(begun + epoch),
                "{}",
                client.user()
            );
        });
        assert_eq!(
            hub.commits(&room),
            begun + epoch,
            "all are in flight and none has arrived"
        );
        // A commit goes before the messages behind it.
        let winner = dice.roll(members);
        for _ in 0..1 + dice.roll(2) {
            let speaker = [winner, dice.roll(members), dice.roll(members)][dice.roll(3)];
            let line = format!("line {}", said.len());
            clients[speaker].queue_payload(&room, &text(&line)).unwrap();
            said.push((clients[speaker].user().clone(), line));
        }
        now(clients[winner].flush()).unwrap();
        assert_eq!(hub.commits(&room), begun + epoch + 1, "{} wins", clients[winner].user());
        // The others' arrive in any order: they have lost.
        in_parallel(&mut clients, |client| now(client.flush()).unwrap());
        assert_eq!(hub.commits(&room), begun + epoch + 1, "one commit for each epoch");
    }
    in_parallel(
        &mut clients,
        |client| while now(client.receive(Duration::ZERO)).unwrap() > 0 {},
    );
    let everybody: Vec<&Client> = clients.iter().collect();
    agree(&hub, &room, &everybody);
    assert_eq!(hub.group(&room).unwrap().epoch(), begun + epochs);
    let commits = hub
        .log(&room)
        .into_iter()
        .filter(|event| event.event_type == "m.mls.commit");
    assert_eq!(commits.count() as u64, begun + epochs, "one commit for each epoch");
    said.sort();
    for client in everybody {
        let mut read: Vec<_> = client
            .timeline(&room, 100_000)
            .unwrap()
            .into_iter()
            .map(|item| match item.body {
                ItemBody::Message(payload) => (item.sender, nabe_content::show_payload(&payload).text),
                other => panic!("{}: {other:?}", client.user()),
            })
            .collect();
        read.sort();
        assert_eq!(read, said, "{} reads everything", client.user());
    }
}

/// Runs `work` on all clients, which share nothing but the hub, on as many threads as there are cores.
fn in_parallel(clients: &mut [Client], work: impl Fn(&mut Client) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let each = clients.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for clients in clients.chunks_mut(each) {
            scope.spawn(|| clients.iter_mut().for_each(&work));
        }
    });
}

/// Ten thousand commits made, of which two hundred win, and each of these followed by all.
#[test]
fn fifty_committers_for_two_hundred_epochs() {
    everybody_races(50, 200, 3);
}
