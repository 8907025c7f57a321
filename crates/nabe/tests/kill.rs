//! `kill -9` of a hub under load, many times in a row: nothing acknowledged is lost, nothing is doubled, and the follower's log is the
//! hub's.
//!
//! The hub is a process that is killed and started again; its follower is another one that lives on. Users of both write without a
//! pause: those of the hub through its client API, with idempotency keys and repeated until answered; those of the follower through
//! theirs, from where transactions go to the hub and are repeated until it answers. A kill comes after a random number of
//! acknowledgements, so it hits commits, answers and deliveries wherever they happen to be.
//!
//! `NABE_TEST_KILLS` says how often (50), `NABE_TEST_SEED` repeats the random numbers of a failed run.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Client, Folder,
    random::{Random, variable},
    text, wait_for,
};
use nabe_event::event_id_of;
use nabe_signing::{Json, Object};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const SENDERS: usize = 4;

/// What a sender was told about a message.
#[derive(Clone, Debug)]
struct Acknowledged {
    text: String,
    /// `None` from the follower when the hub's echo took too long: it will be sent until the hub answers.
    event_id: Option<String>,
}

/// Acknowledgements of one server's users, per user in the order sent.
#[derive(Default)]
struct Acks {
    count: AtomicUsize,
    by_user: Mutex<BTreeMap<String, Vec<Acknowledged>>>,
}

impl Acks {
    fn add(&self, user: &str, acknowledged: Acknowledged) {
        self.by_user
            .lock()
            .unwrap()
            .entry(user.to_owned())
            .or_default()
            .push(acknowledged);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let kills: usize = variable("NABE_TEST_KILLS").unwrap_or(50);
    let mut random = Random::new();
    println!("{kills} kills, NABE_TEST_SEED={}", random.seed);

    let parent = tempfile::tempdir().unwrap();
    let hub = Folder::init(parent.path(), "hub.localhost");
    let follower = Folder::init(parent.path(), "follower.localhost");
    let mut hub_process = hub.serve(&[&follower]);
    let mut follower_process = follower.serve(&[&hub]);
    let (hub_client, follower_client) = (hub.client(), follower.client());
    hub_client.wait_until_ready().await;
    follower_client.wait_until_ready().await;
    let room = populate(&hub_client, &follower_client).await;

    let stop = Arc::new(AtomicBool::new(false));
    let (at_hub, at_follower) = (Arc::new(Acks::default()), Arc::new(Acks::default()));
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        for (client, acks, server) in [
            (&hub_client, &at_hub, "hub"),
            (&follower_client, &at_follower, "follower"),
        ] {
            let send = keep_sending(
                client.clone(),
                user(number, server),
                room.clone(),
                Arc::clone(acks),
                Arc::clone(&stop),
            );
            senders.push(tokio::spawn(send));
        }
    }

    let begun = Instant::now();
    for kill in 0..kills {
        let (hub_target, follower_target) = (at_hub.count() + random.up_to(12), at_follower.count() + random.up_to(3));
        wait_for("acknowledgements between two kills", async || {
            assert!(
                hub_process.is_running(),
                "the hub ended by itself after {kill} kills: {}",
                hub.log()
            );
            (at_hub.count() >= hub_target && at_follower.count() >= follower_target).then_some(())
        })
        .await;
        hub_process.kill();
        hub_process = hub.serve(&[&follower]);
    }
    println!("{kills} kills in {:.1} s", begun.elapsed().as_secs_f64());
    hub_client.wait_until_ready().await;
    stop.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.await.unwrap();
    }
    let (at_hub, at_follower) = (
        at_hub.by_user.lock().unwrap().clone(),
        at_follower.by_user.lock().unwrap().clone(),
    );

    wait_until_delivered(&hub_client, &room, &at_follower).await;
    let log = hub_client.log(&user(0, "hub"), &room).await;
    let followed = follower_client.log(&user(0, "follower"), &room).await;
    check_acknowledged(&log, &at_hub, &at_follower);
    check_follower(&log, &followed);
    check_repetitions(&hub_client, &room, &at_hub).await;

    assert!(hub_process.terminate().success(), "{}", hub.log());
    assert!(follower_process.terminate().success(), "{}", follower.log());
    check_stored(&stored(&hub, &room), &stored(&follower, &room), &log);
    let acknowledged = |acks: &BTreeMap<String, Vec<_>>| acks.values().map(Vec::len).sum::<usize>();
    println!(
        "{} messages acknowledged by the hub, {} by the follower; {} events in the log",
        acknowledged(&at_hub),
        acknowledged(&at_follower),
        log.len()
    );
}

/// A public room at the hub with all senders in it. Returns its ID.
async fn populate(hub: &Client, follower: &Client) -> String {
    let made = hub
        .must_post(&user(0, "hub"), "/_nabe/v1/rooms", &json!({ "join_rule": "public" }))
        .await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let join = format!("/_nabe/v1/rooms/{room}/join");
    let via = json!({ "via": ["hub.localhost"] });
    for number in 0..SENDERS {
        if number > 0 {
            hub.must_post(&user(number, "hub"), &join, &json!({})).await;
        }
        follower.must_post(&user(number, "follower"), &join, &via).await;
    }
    for (client, server) in [(hub, "hub"), (follower, "follower")] {
        wait_for("everybody to be in the room", async || {
            let members = client
                .must_get(&user(0, server), &format!("/_nabe/v1/rooms/{room}/members"))
                .await;
            let joined = members["members"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|member| member["membership"] == "join");
            (joined.count() == 2 * SENDERS).then_some(())
        })
        .await;
    }
    room
}

fn user(number: usize, server: &str) -> String {
    format!("@sender{number}:{server}.localhost")
}

/// One message after the other, each repeated until it is acknowledged.
async fn keep_sending(client: Client, user: String, room: String, acks: Arc<Acks>, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let text = format!("{user} {number}");
        let event_id = loop {
            match send(&client, &user, &room, &text).await {
                Some(event_id) => break event_id,
                // The pause of a client between two attempts: its server may be dead just now.
                None => sleep(Duration::from_millis(10)).await,
            }
        };
        acks.add(&user, Acknowledged { text, event_id });
    }
}

/// `None`: not acknowledged, and so to be repeated. Anything but success or a reason to wait is a failure of the test.
async fn send(client: &Client, user: &str, room: &str, text: &str) -> Option<Option<String>> {
    let body = json!({ "type": "m.room.message", "content": { "body": text } });
    let path = format!("/_nabe/v1/rooms/{room}/events");
    let key = text.replace(' ', "-");
    let answer = client.post(Some(user), &path, &body, Some(&key)).await.ok()?;
    match answer.status {
        200 | 202 => Some(answer.body["event_id"].as_str().map(str::to_owned)),
        429 | 503 => None,
        _ => panic!("{text}: {answer:?}"),
    }
}

/// Until the hub has every message the follower took, and the follower everything the hub has.
async fn wait_until_delivered(hub: &Client, room: &str, at_follower: &BTreeMap<String, Vec<Acknowledged>>) {
    let newest: Vec<_> = at_follower
        .values()
        .filter_map(|of_user| Some(of_user.last()?.text.clone()))
        .collect();
    let user = user(0, "hub");
    wait_for("what the follower took to reach the hub", async || {
        // The last message of each sender is among the newest: nobody sends any more.
        let page = hub
            .must_get(&user, &format!("/_nabe/v1/rooms/{room}/events?dir=b&limit=100"))
            .await;
        let bodies: Vec<_> = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| body(event))
            .collect();
        newest.iter().all(|text| bodies.contains(&text.as_str())).then_some(())
    })
    .await;
    wait_for("the follower to have everything", async || {
        let delivery = hub.must_get(&user, &format!("/_nabe/v1/rooms/{room}/delivery")).await;
        delivery["followers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|follower| follower["lag"] == 0)
            .then_some(())
    })
    .await;
}

fn body(event: &Value) -> Option<&str> {
    event["content"]["body"].as_str()
}

/// Everything acknowledged is there once, under the acknowledged ID, and each sender's messages are in the order sent.
fn check_acknowledged(
    log: &[Value],
    at_hub: &BTreeMap<String, Vec<Acknowledged>>,
    at_follower: &BTreeMap<String, Vec<Acknowledged>>,
) {
    let positions: Vec<_> = log.iter().map(|event| event["position"].as_i64().unwrap()).collect();
    let expected: Vec<_> = (1..=i64::try_from(log.len()).unwrap()).collect();
    assert_eq!(positions, expected, "the hub's log has no gap");
    let mut by_text = BTreeMap::new();
    for (index, event) in log.iter().enumerate() {
        if let Some(text) = body(event) {
            assert!(by_text.insert(text, (index, event)).is_none(), "doubled: {text}");
        }
    }
    let mut acknowledged = 0;
    for (user, of_user) in at_hub.iter().chain(at_follower) {
        let mut before = None;
        for Acknowledged { text, event_id } in of_user {
            let (index, event) = by_text
                .get(text.as_str())
                .unwrap_or_else(|| panic!("acknowledged and lost: {text}"));
            assert_eq!(event["sender"].as_str(), Some(user.as_str()));
            if let Some(event_id) = event_id {
                assert_eq!(event["event_id"].as_str(), Some(event_id.as_str()), "{text}");
            }
            assert!(before < Some(*index), "{text} is before the message sent before it");
            before = Some(*index);
            acknowledged += 1;
        }
    }
    assert_eq!(
        by_text.len(),
        acknowledged,
        "senders repeat each message until it is acknowledged"
    );
}

/// From its first join on, the follower has what the hub has.
fn check_follower(log: &[Value], followed: &[Value]) {
    let first_join = user(0, "follower");
    let from = log
        .iter()
        .position(|event| event["state_key"] == *first_join && event["content"]["membership"] == "join");
    let without_position = |event: &Value| {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove("position");
        event
    };
    let expected: Vec<_> = log[from.unwrap()..].iter().map(without_position).collect();
    let followed: Vec<_> = followed.iter().map(without_position).collect();
    assert_eq!(followed.len(), expected.len());
    for (index, (followed, expected)) in followed.iter().zip(&expected).enumerate() {
        assert_eq!(followed, expected, "event {index} of the follower");
    }
}

/// Asked again with an old key, the hub gives the old answer.
async fn check_repetitions(hub: &Client, room: &str, at_hub: &BTreeMap<String, Vec<Acknowledged>>) {
    for (user, of_user) in at_hub {
        for Acknowledged { text, event_id } in of_user.iter().step_by(7) {
            let again = wait_for("an answer", async || send(hub, user, room, text).await).await;
            assert_eq!(again, *event_id, "{text}");
        }
    }
}

/// The raw events of a stopped server's log, as `nabe room show` prints them.
fn stored(folder: &Folder, room: &str) -> Vec<Object> {
    let shown = folder
        .command(&["room", "show"], &[])
        .args([room, "--events", "1000000"])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let stdout = text(&shown.stdout);
    let events = stdout.lines().filter_map(|line| line.strip_prefix("event "));
    events
        .map(|line| Object::parse(&line.as_bytes()[line.find('{').unwrap()..]).unwrap())
        .collect()
}

/// One chain of events, whose IDs are those the client API showed, byte for byte the same on both servers.
fn check_stored(hub: &[Object], follower: &[Object], log: &[Value]) {
    let ids: Vec<String> = hub.iter().map(|event| event_id_of(event).to_string()).collect();
    let shown: Vec<_> = log.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids, shown);
    for (pair, ids) in hub.windows(2).zip(&ids) {
        let prev = pair[1].get("prev_events").and_then(Json::as_array).unwrap();
        assert_eq!(prev.iter().map(|id| id.as_str().unwrap()).collect::<Vec<_>>(), [ids]);
    }
    let owed = &hub[hub.len() - follower.len()..];
    assert!(
        owed.iter()
            .zip(follower)
            .all(|(hub, follower)| hub.to_canonical() == follower.to_canonical())
    );
}
