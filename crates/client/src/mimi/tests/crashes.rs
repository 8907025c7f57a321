//! A client that dies at any of its transactions goes on as if it had not: nothing is lost, nothing doubled.

use std::path::Path;

use super::*;
use crate::Fuse;

/// Opens Bob's file and runs the next steps of his life, until the fuse burns out or nothing is left to do.
fn live(hub: &MimiHub, file: &Path, fuse: Option<Fuse>, said: &mut usize) -> Result<(), MimiError> {
    let mut store = ClientStore::open(file).unwrap();
    store.set_fuse(fuse);
    let mut bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock())?;
    now(bob.catch_up())?;
    while *said < 2 {
        // Once it is in the outbox it must arrive, whatever happens.
        let content = bob.compose(&room(), NestedPart::text(&format!("bob {said}")))?;
        bob.enqueue_message(&room(), &content)?;
        *said += 1;
        now(bob.catch_up())?;
    }
    if !participants(&bob).iter().any(|(user, _)| user == DAVE) {
        now(bob.add(&room(), &[(uri(DAVE), MEMBER)]))?;
    }
    now(bob.catch_up())
}

#[test]
fn dying_at_every_transaction_changes_nothing() {
    let mut deaths = 0;
    for transactions in 1..100 {
        let hub = MimiHub::new();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.db");
        let mut alice = client(&hub, A);
        let mut dave = client(&hub, D);
        drop(client_with(&hub, B, ClientStore::open(&file).unwrap(), obedient()));
        now(alice.create_room(&new_room())).unwrap();
        now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
        say(&mut alice, "alice 0");
        now(alice.update(&room())).unwrap();
        say(&mut alice, "alice 1");
        let mut said = 0;
        let died = live(&hub, &file, Some(Fuse { transactions }), &mut said).is_err();
        deaths += usize::from(died);
        // A message whose transaction was the last one is kept although the caller did not hear of it.
        let store = ClientStore::open(&file).unwrap();
        let waiting = store::Outgoing::all(store.read()).unwrap().len();
        let sent = MimiItem::newest(store.read(), &room(), 100).unwrap();
        said = waiting + sent.iter().filter(|item| item.sent).count();
        drop(store);
        live(&hub, &file, None, &mut said).unwrap();
        sync(&mut alice);
        sync(&mut dave);
        let store = ClientStore::open(&file).unwrap();
        let bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
        agree(&hub, &[&alice, &bob, &dave]);
        for client in [&alice, &bob] {
            let mut lines = read(client);
            lines.sort();
            let expected = ["alice 0", "alice 1", "bob 0", "bob 1"];
            assert_eq!(lines, expected, "{} after {transactions} transactions", client.client());
        }
        if !died {
            assert!(deaths > 10, "the story has that many transactions");
            return;
        }
    }
    panic!("the story does not end");
}
