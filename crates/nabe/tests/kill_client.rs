//! `kill -9` of `nabe client` in the middle of sending and committing, and of both servers while messages wait for the hub: nothing that
//! was kept is lost, nothing is doubled, and the devices still agree on the group.
//!
//! What was kept is what is in the client's database when its process is dead. That must arrive, once; everything else must not.
//!
//! `NABE_TEST_CLIENT_KILLS` says how often (40), `NABE_TEST_SEED` repeats the random numbers of a failed run.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::{
    Folder,
    device::Device,
    random::{Random, variable},
    wait_for,
};
use rusqlite::Connection;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// As if the client had died between the two, or another program had created the room.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_was_left_without_a_group_gets_one() {
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let _running = hub.serve(&[]);
    hub.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let new = json!({ "encryption": "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519" });
    let made = hub.client().must_post(&alice.user, "/_nabe/v1/rooms", &new).await;
    let room = made["room_id"].as_str().unwrap();
    alice.run(&["room", "found", room]);
    assert_eq!(alice.group(room)["epoch"], 1);
    alice.run(&["send", room, "at home"]);
    assert_eq!(alice.texts(room), [(alice.user.clone(), Some("at home".to_owned()))]);
    let again = alice.attempt(&["room", "found", room]);
    assert!(!again.status.success());
    assert!(common::text(&again.stderr).contains("has a group already"));
    let elsewhere = alice.attempt(&["room", "found", "!nowhere:hub.localhost"]);
    assert!(!elsewhere.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let kills: usize = variable("NABE_TEST_CLIENT_KILLS").unwrap_or(40);
    let mut random = Random::new();
    println!("{kills} kills, NABE_TEST_SEED={}", random.seed);
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let follower = Folder::init(&servers, "follower.localhost");
    let (_hub, _follower) = (hub.serve(&[&follower]), follower.serve(&[&hub]));
    hub.client().wait_until_ready().await;
    follower.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let bob = Device::log_in(parent.path(), &follower, "bob", "BOB");
    let room = alice.create_room("Killed");
    alice.bring_in(&room, &bob, "hub.localhost").await;

    // How long a command takes, so that it can be killed at any moment of that.
    let began = Instant::now();
    bob.run(&["update", &room]);
    let whole = began.elapsed();

    let mut kept = BTreeSet::new();
    let (mut lost, mut in_commits) = (0, 0);
    for n in 0..kills {
        let device = [&alice, &bob][n % 2];
        let text = format!("line {n:03}");
        let command: Vec<&str> = match random.up_to(6) {
            1 => vec!["sync"],
            2 | 3 => vec!["update", &room],
            _ => vec!["send", &room, &text],
        };
        let mut process = device.start(&command);
        let share = u32::try_from(random.up_to(150)).unwrap();
        // No condition to wait for: any moment is as good as any other.
        sleep(whole * share / 100).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let state = State::of(device);
        in_commits += usize::from(state.commit.is_some());
        match command[0] {
            "send" if state.has(&text) => drop(kept.insert(text)),
            "send" => lost += 1,
            _ => {}
        }
    }
    println!(
        "{} messages kept, {lost} killed before; {in_commits} kills with a commit on its way; a command takes {whole:?}",
        kept.len()
    );

    settle(&hub, &room, &[&alice, &bob]).await;
    let encrypted = check(&hub, &room, &[&alice, &bob]).await;
    let texts: Vec<String> = alice.texts(&room).into_iter().map(|(_, text)| text.unwrap()).collect();
    assert_eq!(texts.len(), kept.len(), "{texts:?}");
    assert_eq!(encrypted, kept.len(), "the log has each message once");
    assert_eq!(texts.into_iter().collect::<BTreeSet<_>>(), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_dead_hub_survives_both_servers_and_the_client() {
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let follower = Folder::init(&servers, "follower.localhost");
    let (mut hub_process, mut follower_process) = (hub.serve(&[&follower]), follower.serve(&[&hub]));
    hub.client().wait_until_ready().await;
    follower.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let bob = Device::log_in(parent.path(), &follower, "bob", "BOB");
    let room = alice.create_room("Waiting");
    alice.bring_in(&room, &bob, "hub.localhost").await;
    bob.run(&["send", &room, "before"]);
    // Whoever was added commits once without being told to: nothing of that may be on its way when the hub dies.
    settle(&hub, &room, &[&alice, &bob]).await;
    let epoch = bob.group(&room)["epoch"].as_u64().unwrap();

    hub_process.kill();
    bob.run(&["send", &room, "first"]);
    // A commit that the follower has taken for the hub: its client waits for the echo, and is killed in that.
    let mut patience = Duration::from_millis(250);
    loop {
        let mut process = bob.start(&["update", &room]);
        // The database is the client's alone while it runs: nothing can be seen until it is dead.
        sleep(patience).await;
        process.kill().unwrap();
        process.wait().unwrap();
        if State::of(&bob).commit.as_deref() == Some("sent") {
            break;
        }
        patience = (patience * 2).min(Duration::from_secs(8));
    }
    bob.run(&["send", &room, "second"]);
    assert_eq!(State::of(&bob).waiting, 2, "nobody has confirmed anything");
    follower_process.kill();
    // With its own server gone, too, the user is told at once, and nothing is kept.
    let failed = bob.attempt(&["send", &room, "third"]);
    assert!(!failed.status.success());
    assert_eq!(State::of(&bob).waiting, 2);
    follower_process = follower.serve(&[&hub]);
    follower.client().wait_until_ready().await;
    bob.run(&["sync"]);
    assert_eq!(bob.group(&room)["epoch"], epoch, "nothing is decided without the hub");

    hub_process = hub.serve(&[&follower]);
    hub.client().wait_until_ready().await;
    settle(&hub, &room, &[&alice, &bob]).await;
    assert_eq!(check(&hub, &room, &[&alice, &bob]).await, 3);
    assert!(alice.group(&room)["epoch"].as_u64() > Some(epoch), "the commit counts");
    let texts: Vec<String> = alice.texts(&room).into_iter().map(|(_, text)| text.unwrap()).collect();
    assert_eq!(texts, ["before", "first", "second"]);
    assert!(hub_process.terminate().success(), "{}", hub.log());
    assert!(follower_process.terminate().success(), "{}", follower.log());
}

/// Syncs until the devices have nothing left to do, agree on the group and have seen every message of the log: the last ones of one
/// device may come after the other has synced.
async fn settle(hub: &Folder, room: &str, devices: &[&Device]) {
    wait_for("the devices to have nothing left to do", async || {
        let groups: Vec<_> = devices.iter().map(|device| device.group(room)).collect();
        let states = devices.iter().map(|device| State::of(device));
        let idle = states
            .into_iter()
            .all(|state| state.waiting == 0 && state.commit.is_none() && state.intents == 0);
        let field = |name: &str| groups.iter().all(|group| group[name] == groups[0][name]);
        let agreed = groups[0]["epoch"].is_u64() && field("epoch_authenticator") && field("tree_hash");
        if !(idle && agreed) {
            return None;
        }
        let log = hub.client().log(&devices[0].user, room).await;
        let messages = log.iter().filter(|event| event["type"] == "m.room.encrypted").count();
        let have_all = devices.iter().all(|device| device.texts(room).len() == messages);
        have_all.then_some(())
    })
    .await;
}

/// One commit for each epoch, no ciphertext twice, and both devices read the same and everything. Returns the number of messages.
async fn check(hub: &Folder, room: &str, devices: &[&Device]) -> usize {
    let log = hub.client().log(&devices[0].user, room).await;
    let commits = log.iter().filter(|event| event["type"] == "m.mls.commit").count();
    let group = devices[0].group(room);
    assert_eq!(group["epoch"], commits, "one commit for each epoch");
    let encrypted: Vec<_> = log
        .iter()
        .filter(|event| event["type"] == "m.room.encrypted")
        .map(|event| event["content"]["ciphertext"].to_string())
        .collect();
    let distinct: BTreeSet<_> = encrypted.iter().collect();
    assert_eq!(distinct.len(), encrypted.len(), "no ciphertext twice");
    let read = devices[0].texts(room);
    assert_eq!(read.len(), encrypted.len());
    assert!(read.iter().all(|(_, text)| text.is_some()), "{read:?}");
    for device in devices {
        assert_eq!(device.texts(room), read, "{}", device.user);
    }
    encrypted.len()
}

/// What is in the database of a client that is not running.
struct State {
    /// Payloads of messages that are known: waiting for their echo or in the timeline.
    payloads: Vec<String>,
    /// Messages waiting for their echo.
    waiting: usize,
    /// How far the commit is that waits for its echo, if there is one.
    commit: Option<String>,
    intents: usize,
}

impl State {
    fn of(device: &Device) -> Self {
        let database = Connection::open(device.state.join("client.db")).unwrap();
        let list = |query: &str| -> Vec<String> {
            let mut statement = database.prepare(query).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let waiting = list("SELECT CAST(payload AS TEXT) FROM outbox");
        let mut payloads = list("SELECT CAST(payload AS TEXT) FROM timeline WHERE payload IS NOT NULL");
        let count = waiting.len();
        payloads.extend(waiting);
        Self {
            payloads,
            waiting: count,
            commit: list("SELECT state FROM commits").pop(),
            intents: list("SELECT body FROM intents").len(),
        }
    }

    fn has(&self, text: &str) -> bool {
        self.payloads.iter().any(|payload| payload.contains(text))
    }
}
