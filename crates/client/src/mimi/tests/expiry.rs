//! Messages that expire, wherever they are.

use nabe_content::mimi::{Expiration, MessageId};
use nabe_types::UnixMillis;

use super::*;
use crate::error::StoreError;
use crate::mimi::expiry::look_at;

const WORDS: &str = "burn after reading";

fn seconds(at: UnixMillis) -> u32 {
    u32::try_from(at.as_u64() / 1000).unwrap()
}

fn says(client: &mut MimiClient, expires: Expiration) -> MessageId {
    let mut content = client.compose(&room(), NestedPart::text(WORDS)).unwrap();
    content.expires = Some(expires);
    now(client.send(&room(), &content)).unwrap()
}

fn expired(client: &mut MimiClient) -> Vec<String> {
    let told = notices(client).into_iter();
    told.filter_map(|notice| match notice {
        MimiNotice::Expired { message, .. } => Some(message),
        _ => None,
    })
    .collect()
}

/// The item itself holds nothing any more, as little as the timeline.
fn is_gone(client: &MimiClient, id: &MessageId) -> bool {
    let item = client.item_of(&room(), id).unwrap().unwrap();
    matches!(&item.body, MimiBody::Expired(left) if left.id() == *id && left.bytes().is_empty())
        && item.evidence.is_none()
}

#[test]
fn a_message_is_gone_at_its_time_for_whoever_sent_it_and_whoever_never_read_it_and_without_a_network() {
    let hub = MimiHub::new();
    let [mut alice, bob, mut cathy] = of_three(&hub);
    let line = hub.transport(B);
    let mut bob = MimiClient::open(line.clone(), bob.into_store(), obedient(), hub.clock()).unwrap();
    let moment = seconds(hub.clock()()) + 100;
    let id = says(&mut alice, Expiration::Absolute { seconds: moment });
    say(&mut alice, "for ever");
    for client in [&mut alice, &mut bob, &mut cathy] {
        sync(client);
        assert_eq!(read(client), [WORDS, "for ever"]);
    }
    let deadline = UnixMillis(u64::from(moment) * 1000);
    for client in [&alice, &bob, &cathy] {
        assert_eq!(client.next_due().unwrap(), Some(deadline), "{}", client.client());
    }
    let left = deadline.saturating_since(hub.clock()());
    hub.advance(left - Duration::from_millis(1));
    bob.expire().unwrap();
    assert!(!is_gone(&bob, &id), "not before its time");
    hub.advance(Duration::from_millis(1));
    // Even before anything is done about it, nobody is shown it any more.
    assert_eq!(read(&cathy), ["(expired)", "for ever"]);
    line.cut(true);
    now(bob.sync(Duration::ZERO)).unwrap_err();
    for client in [&mut alice, &mut cathy] {
        sync(client);
    }
    for client in [&mut alice, &mut bob, &mut cathy] {
        assert!(is_gone(client, &id), "{}", client.client());
        assert_eq!(read(client), ["(expired)", "for ever"]);
        assert_eq!(expired(client), [id.to_string()]);
        assert_eq!(client.next_due().unwrap().filter(|due| *due <= deadline), None);
    }
}

#[test]
fn a_message_that_expires_after_reading_is_there_until_it_was_read_for_so_long() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let mut second = client(&hub, C2);
    now(second.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    sync(&mut cathy);
    let id = says(&mut cathy, Expiration::Relative { seconds: 60 });
    for client in [&mut alice, &mut bob, &mut second] {
        sync(client);
    }
    hub.advance(Duration::from_secs(30));
    bob.mark_read(&room(), &[id]).unwrap();
    hub.advance(Duration::from_secs(20));
    // The first time counts.
    bob.mark_read(&room(), &[id]).unwrap();
    hub.advance(Duration::from_secs(10));
    for client in [&mut alice, &mut bob, &mut cathy, &mut second] {
        sync(client);
    }
    // Who says something has read it, on each of their clients.
    assert!(is_gone(&cathy, &id) && is_gone(&second, &id));
    assert!(!is_gone(&alice, &id) && !is_gone(&bob, &id));
    hub.advance(Duration::from_secs(30));
    sync(&mut bob);
    hub.advance(Duration::from_hours(300 * 24));
    sync(&mut alice);
    assert!(is_gone(&bob, &id) && !is_gone(&alice, &id), "she has never read it");
    assert_eq!(read(&alice), [WORDS]);
}

/// Alice and Bob in a room; his client keeps what it knows in a file.
fn room_with_a_file(hub: &MimiHub, file: &std::path::Path) -> (MimiClient, MimiClient) {
    let mut alice = client(hub, A);
    let bob = client_with(hub, B, ClientStore::open(file).unwrap(), obedient());
    now(alice.create_room(&new_room())).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    (alice, bob)
}

#[test]
fn what_expires_while_a_client_is_closed_is_gone_when_it_is_opened_and_nothing_of_it_is_in_its_file() {
    let hub = MimiHub::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let (mut alice, mut bob) = room_with_a_file(&hub, &file);
    sync(&mut bob);
    let absolute = seconds(hub.clock()()) + 100;
    let absolute = says(&mut alice, Expiration::Absolute { seconds: absolute });
    let relative = says(&mut bob, Expiration::Relative { seconds: 50 });
    sync(&mut bob);
    drop(bob);
    let holds_words = || {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend(std::fs::read(folder.path().join("client.db-wal")).unwrap_or_default());
        bytes.windows(WORDS.len()).any(|window| window == WORDS.as_bytes())
    };
    assert!(holds_words());
    hub.advance(Duration::from_secs(101));
    let store = ClientStore::open(&file).unwrap();
    let mut bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
    assert!(is_gone(&bob, &absolute) && is_gone(&bob, &relative));
    assert_eq!(read(&bob), ["(expired)", "(expired)"]);
    assert!(!holds_words(), "not in the file, and not in its log");
    assert_eq!(expired(&mut bob).len(), 2);
    drop(bob);
    // And stays so.
    let store = ClientStore::open(&file).unwrap();
    let mut bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
    assert_eq!(read(&bob), ["(expired)", "(expired)"]);
    assert_eq!(expired(&mut bob), [""; 0]);
    // It comes once more, and is known.
    hub.repeat_everything();
    sync(&mut bob);
    assert!(is_gone(&bob, &absolute) && is_gone(&bob, &relative));
}

#[test]
fn what_was_wiped_is_in_no_log_after_a_crash() {
    let hub = MimiHub::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let (mut alice, mut bob) = room_with_a_file(&hub, &file);
    let moment = seconds(hub.clock()()) + 100;
    let ids = [(); 2].map(|()| says(&mut alice, Expiration::Absolute { seconds: moment }));
    sync(&mut bob);
    let holds_words = |folder: &std::path::Path| {
        let log = std::fs::read(folder.join("client.db-wal")).unwrap_or_default();
        log.windows(WORDS.len()).any(|window| window == WORDS.as_bytes())
    };
    assert!(holds_words(folder.path()));
    hub.advance(Duration::from_secs(101));
    // It dies after each of the two, before it has seen to the log.
    let at = hub.clock()();
    for id in ids {
        let look = |connection: &rusqlite::Connection| look_at(connection, &room(), &id, at, u64::MAX);
        assert!(bob.store.transaction(look).unwrap());
    }
    assert!(holds_words(folder.path()));
    let copy = tempfile::tempdir().unwrap();
    for name in ["client.db", "client.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    assert!(holds_words(copy.path()));
    let store = ClientStore::open(&copy.path().join("client.db")).unwrap();
    let bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
    assert!(is_gone(&bob, &ids[0]));
    assert!(!holds_words(copy.path()));
}

#[test]
fn a_log_is_seen_to_even_if_not_all_could_be_wiped() {
    let hub = MimiHub::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let (mut alice, mut bob) = room_with_a_file(&hub, &file);
    let soon = seconds(hub.clock()()) + 100;
    says(&mut alice, Expiration::Absolute { seconds: soon });
    let broken = says(&mut alice, Expiration::Absolute { seconds: soon + 1 });
    sync(&mut bob);
    let spoil = |connection: &rusqlite::Connection| -> Result<usize, StoreError> {
        let sql = "UPDATE mimi_timeline SET content = x'00', data = NULL WHERE message_id = ?1";
        Ok(connection.execute(sql, [&broken.as_bytes()[..]])?)
    };
    assert_eq!(bob.store.transaction(spoil).unwrap(), 1);
    hub.advance(Duration::from_secs(102));
    bob.expire().unwrap_err();
    let log = std::fs::read(folder.path().join("client.db-wal")).unwrap_or_default();
    assert!(!log.windows(WORDS.len()).any(|window| window == WORDS.as_bytes()));
}

#[test]
fn all_versions_go_with_the_first_one_and_so_does_one_that_comes_later() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let id = says(&mut alice, Expiration::Relative { seconds: 60 });
    let edit = now(alice.edit(&room(), &id, NestedPart::text("burn before reading"))).unwrap();
    sync(&mut bob);
    // He has read it as it is now.
    bob.mark_read(&room(), &[edit]).unwrap();
    hub.hold(BOB, true);
    let late = now(alice.edit(&room(), &id, NestedPart::text("burn anyway"))).unwrap();
    hub.advance(Duration::from_secs(61));
    now(bob.sync(Duration::ZERO)).unwrap();
    assert!(is_gone(&bob, &id) && is_gone(&bob, &edit));
    hub.hold(BOB, false);
    sync(&mut bob);
    assert!(is_gone(&bob, &late));
    assert_eq!(read(&bob), ["(expired)"]);
}

#[test]
fn what_could_not_be_sent_in_time_is_not_sent() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    // Nothing is encrypted before somebody has committed that he goes.
    now(bob.leave(&room())).unwrap();
    sync(&mut cathy);
    let soon = seconds(hub.clock()()) + 10;
    let mut content = cathy.compose(&room(), NestedPart::text(WORDS)).unwrap();
    content.expires = Some(Expiration::Absolute { seconds: soon });
    let id = cathy.enqueue_message(&room(), &content).unwrap();
    hub.advance(Duration::from_secs(11));
    sync(&mut cathy);
    sync(&mut alice);
    assert_eq!(read(&alice), [""; 0]);
    assert!(cathy.item_of(&room(), &id).unwrap().is_none());
    let message = id.to_string();
    let room = ROOM.to_owned();
    assert!(notices(&mut cathy).contains(&MimiNotice::NotSent { room, message }));
}
