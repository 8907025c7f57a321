//! A client that dies at any of its transactions goes on as if it had not: nothing is lost, nothing doubled, no key used twice.

use std::path::Path;

use super::*;
use crate::{ClientError, Fuse};

/// Opens Bob's file and runs the next steps of his life, until the fuse burns out or nothing is left to do.
fn live(hub: &FakeHub, file: &Path, room: &RoomId, fuse: Option<Fuse>, said: &mut usize) -> Result<(), ClientError> {
    let mut store = ClientStore::open(file).unwrap();
    store.set_fuse(fuse);
    let settings = Settings {
        update_after_join: true,
        ..obedient()
    };
    let mut bob = Client::open(hub.transport(BOB, "B"), store, settings, hub.clock())?;
    now(bob.catch_up())?;
    if bob.group(room)?.is_none() {
        return Ok(());
    }
    while *said < 3 {
        // Once it is in the outbox it must arrive, whatever happens.
        bob.queue_payload(room, &text(&format!("bob {said}")))?;
        *said += 1;
        now(bob.catch_up())?;
    }
    now(bob.update(room))?;
    now(bob.catch_up())
}

#[test]
fn dying_at_every_transaction_changes_nothing() {
    let mut deaths = 0;
    for transactions in 1..200 {
        let hub = hub();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.db");
        let mut alice = client(&hub, ALICE, "A");
        let bob = client_with(&hub, BOB, "B", ClientStore::open(&file).unwrap(), obedient());
        drop(bob);
        let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
        now(alice.invite(&room, &user(BOB))).unwrap();
        now(crate::transport::Transport::join(&*hub.transport(BOB, "B"), &room, &[])).unwrap();
        now(alice.add_users(&room, &[user(BOB)])).unwrap();
        for n in 0..3 {
            say(&mut alice, &room, &format!("alice {n}"));
        }
        now(alice.update(&room)).unwrap();
        let mut said = 0;
        let died = live(&hub, &file, &room, Some(Fuse { transactions }), &mut said).is_err();
        deaths += usize::from(died);
        // A message whose transaction was the last one is kept although the caller did not hear of it.
        let store = ClientStore::open(&file).unwrap();
        let waiting = crate::store::Outgoing::all(store.read()).unwrap().len();
        let echoed = crate::TimelineItem::newest(store.read(), &room, 100).unwrap();
        said = waiting + echoed.iter().filter(|item| item.sent.is_some()).count();
        drop(store);
        live(&hub, &file, &room, None, &mut said).unwrap();
        sync(&mut alice);
        let store = ClientStore::open(&file).unwrap();
        let bob = Client::open(hub.transport(BOB, "B"), store, obedient(), hub.clock()).unwrap();
        agree(&hub, &room, &[&alice, &bob]);
        for client in [&alice, &bob] {
            let mut lines = read(client, &room);
            lines.sort();
            let expected = ["alice 0", "alice 1", "alice 2", "bob 0", "bob 1", "bob 2"];
            assert_eq!(lines, expected, "{} after {transactions} transactions", client.user());
        }
        if !died {
            assert!(deaths > 20, "the story has that many transactions");
            return;
        }
    }
    panic!("the story does not end");
}
