//! `kill -9` of a hub of MIMI and of a follower while users of three providers write and commit: what was accepted is read by everybody, once
//! and in the order in which it was accepted, the providers have the same of the room, byte for byte, and the clients agree on the group (MIMI #fanout-messages-and-room-events).
//!
//! Hub and followers are processes with SQLite, the clients are `nabe client mimi`, one process for each command. A kill comes at any moment: the
//! hub may have accepted what nobody was sent yet, or a follower taken what the hub never heard of. A third provider lives on.
//!
//! `NABE_TEST_MIMI_KILLS` says how often (15), `NABE_TEST_SEED` repeats the random numbers of a failed run.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    Serving,
    person::Person,
    provider::Provider,
    random::{Random, variable},
    text, wait_for,
};
use nabe_signing::base64u;
use nabe_wire::{Encode as _, Message as _, directory::escape, notify::FanoutMessage, notify::FanoutParts};
use rusqlite::Connection;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const ROOM: &str = "mimi://a.localhost/r/club";
/// Providers try again soon, so that most kills hit one of them at it.
const IMPATIENT: [(&str, &str); 2] = [
    ("NABE_DELIVERY__RETRY_BASE_MS", "20"),
    ("NABE_DELIVERY__RETRY_MAX_MS", "100"),
];
/// Every fifth thing that somebody does is a commit.
const COMMIT_EVERY: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_and_a_follower_killed_again_and_again_lose_nothing_and_double_nothing() {
    let kills: usize = variable("NABE_TEST_MIMI_KILLS").unwrap_or(15);
    let mut random = Random::new();
    println!("{kills} kills, NABE_TEST_SEED={}", random.seed);
    let parent = tempfile::tempdir().unwrap();
    let mut providers = vec![Provider::init(parent.path(), "a.localhost", None)];
    for domain in ["b.localhost", "c.localhost"] {
        providers.push(Provider::init(parent.path(), domain, providers.first()));
    }
    let mut running: Vec<_> = (0..providers.len()).map(|number| serve(&providers, number)).collect();
    for provider in &providers {
        provider.directory().await;
    }
    let people = room_of_three(&providers, parent.path()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let talking: Vec<_> = people
        .iter()
        .map(|person| {
            let (person, stop, done) = (person.clone(), Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || keep_talking(&person, &stop, &done))
        })
        .collect();
    let begun = Instant::now();
    for kill in 0..kills {
        let target = done.load(Ordering::SeqCst) + random.up_to(3);
        wait_for("something to be accepted between two kills", async || {
            (done.load(Ordering::SeqCst) >= target).then_some(())
        })
        .await;
        // No condition to wait for: any moment is as good as any other.
        sleep(Duration::from_millis(random.up_to(200).try_into().unwrap())).await;
        let victim = kill % 2;
        assert!(
            running[victim].is_running(),
            "{} ended by itself",
            providers[victim].domain
        );
        running[victim].kill();
        running[victim] = serve(&providers, victim);
    }
    stop.store(true, Ordering::SeqCst);
    let told: Vec<Told> = talking.into_iter().map(|talking| talking.join().unwrap()).collect();
    let (accepted, failed, commits) = told.iter().fold((0, 0, 0), |sum, told| {
        (sum.0 + told.accepted.len(), sum.1 + told.failed, sum.2 + told.commits)
    });
    println!(
        "{kills} kills in {:.1} s: {accepted} messages and {commits} commits accepted, {failed} commands failed",
        begun.elapsed().as_secs_f64()
    );
    assert!(accepted >= kills && commits > 0, "there was something to lose");

    settle(&people).await;
    check_read(&people, &told);
    check_logs(&providers, &people).await;
    for (serving, provider) in running.iter_mut().zip(&providers) {
        assert!(serving.terminate().success(), "{}", provider.domain);
    }
}

fn serve(providers: &[Provider], number: usize) -> Serving {
    let others: Vec<_> = providers
        .iter()
        .filter(|other| other.domain != providers[number].domain)
        .collect();
    providers[number].serve_with(&others, false, &IMPATIENT)
}

/// Alice's at the hub, with Bob and Cathy in it, each of a provider of their own.
async fn room_of_three(providers: &[Provider], parent: &std::path::Path) -> Vec<Person> {
    let names = ["alice", "bob", "cathy"];
    let people: Vec<_> = names
        .iter()
        .zip(providers)
        .map(|(name, provider)| Person::log_in(parent, provider, name))
        .collect();
    let alice = &people[0];
    alice.run(&["create", "The Club", "--id", "club"]);
    for other in &people[1..] {
        other.lets_add(alice).await;
        alice.run(&["add", ROOM, &other.user]);
        other.is_in(ROOM, true).await;
    }
    settle(&people).await;
    people
}

/// What came of somebody's commands.
#[derive(Default)]
struct Told {
    /// Messages that they were told are accepted, in the order in which they said them.
    accepted: Vec<String>,
    /// Commits.
    commits: usize,
    /// Commands of which nobody knows what became of them: what they were for may be done all the same, later.
    failed: usize,
}

/// Says one thing after the other.
fn keep_talking(person: &Person, stop: &AtomicBool, done: &AtomicUsize) -> Told {
    let mut told = Told::default();
    for number in 1.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let line = format!("{} {number}", person.user);
        let is_commit = number % COMMIT_EVERY == 0;
        let answer = match is_commit {
            true => person.attempt(&["update", ROOM]),
            false => person.attempt(&["send", ROOM, &line]),
        };
        if !answer.status.success() {
            let why = text(&answer.stderr);
            assert!(!why.contains("panicked"), "{line}: {why}");
            told.failed += 1;
            continue;
        }
        match is_commit {
            true => told.commits += 1,
            false => told.accepted.push(line),
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    told
}

/// Until nobody has anything left to do, and all have read as much and agree on the group.
async fn settle(people: &[Person]) {
    wait_for("the clients to agree", async || {
        let states: Vec<_> = people
            .iter()
            .map(|person| {
                person.run(&["sync"]);
                let mut info = person.run(&["info", ROOM]);
                let lines = read(person).len();
                (info.pop().unwrap(), lines, unfinished(person))
            })
            .collect();
        let (first, lines, _) = &states[0];
        let agreed = states.iter().all(|(info, of_person, unfinished)| {
            let same = ["epoch", "epoch_authenticator", "tree_hash"];
            *unfinished == 0 && of_person == lines && same.into_iter().all(|name| info[name] == first[name])
        });
        agreed.then_some(())
    })
    .await;
}

/// How much a client still has to do. Its process is not running.
fn unfinished(person: &Person) -> i64 {
    let database = Connection::open(person.state.join("client.db")).unwrap();
    let query = "SELECT (SELECT count(*) FROM mimi_outbox) + (SELECT count(*) FROM mimi_intents) + (SELECT count(*) FROM mimi_held)
                 + (SELECT count(*) FROM mimi_pending)";
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

/// What somebody has read and said, oldest first.
fn read(person: &Person) -> Vec<Value> {
    person.run(&["messages", ROOM, "--limit", "100000"])
}

/// Everything accepted is there once, all in the order in which it was said, and everybody has the same.
fn check_read(people: &[Person], told: &[Told]) {
    let of = |person: &Person| -> Vec<(u64, String, String)> {
        let text = |item: &Value, member: &str| item[member].as_str().unwrap().to_owned();
        let accepted = |item: &Value| item["accepted"].as_u64().unwrap();
        let one = |item: &Value| (accepted(item), text(item, "message"), text(item, "text"));
        let read: Vec<_> = read(person).iter().map(one).collect();
        // Of two that the hub accepted in the same millisecond the one with the lower ID comes first (MC #topics-threading).
        assert!(
            read.is_sorted_by_key(|(accepted, message, _)| (*accepted, message.clone())),
            "{}",
            person.user
        );
        read
    };
    let first = of(&people[0]);
    for person in people {
        assert_eq!(of(person), first, "{}", person.user);
    }
    let lines: Vec<_> = first.into_iter().map(|(.., line)| line).collect();
    let distinct: BTreeSet<_> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len(), "nothing is read twice: {lines:?}");
    for told in told {
        let places = told.accepted.iter().map(|line| {
            let place = lines.iter().position(|read| read == line);
            place.unwrap_or_else(|| panic!("accepted and lost: {line}"))
        });
        assert!(places.is_sorted(), "in the order in which it was said");
    }
}

/// The providers have the same, byte for byte, as far back as they go, and the commits in the hub's order. Messages are in the order in which
/// they came, since what a follower's own users said does not come back from the hub (D-no-echo).
async fn check_logs(providers: &[Provider], people: &[Person]) {
    let mut logs = Vec::new();
    for (provider, person) in providers.iter().zip(people) {
        logs.push(log(provider, person).await);
    }
    let of_hub = &logs[0];
    assert!(
        of_hub.is_sorted_by_key(|entry| entry.timestamp),
        "the hub's is in order"
    );
    let distinct: BTreeSet<_> = of_hub.iter().map(|entry| entry.message.as_bytes()).collect();
    assert_eq!(distinct.len(), of_hub.len(), "the hub has nothing twice");
    let is_commit = |entry: &&FanoutMessage| matches!(entry.with, FanoutParts::Commit { .. });
    for (provider, log) in providers.iter().zip(&logs) {
        let owed = &of_hub[of_hub.len() - log.len()..];
        assert!(
            log.iter().filter(is_commit).eq(owed.iter().filter(is_commit)),
            "{}: commits",
            provider.domain
        );
        assert_eq!(by_time(log), by_time(owed), "{}", provider.domain);
    }
}

/// The bytes of what was accepted, by the time.
fn by_time(log: &[FanoutMessage]) -> Vec<(u64, String)> {
    let bytes = |entry: &FanoutMessage| (entry.timestamp, base64u::encode(&entry.to_bytes()));
    let mut log: Vec<_> = log.iter().map(bytes).collect();
    log.sort();
    log
}

/// Messages and commits of the room as a provider was sent them.
async fn log(provider: &Provider, person: &Person) -> Vec<FanoutMessage> {
    let name = person.user.rsplit('/').next().unwrap();
    let user = format!("@{name}:{}", provider.domain);
    let (mut log, mut after) = (Vec::new(), 0);
    loop {
        let path = format!(
            "/_nabe/v1/mimi/rooms/{}/messages?after={after}&limit=1000",
            escape(ROOM)
        );
        let page = provider.backend().must_get(&user, &path).await;
        let page = page["messages"].as_array().unwrap();
        let Some(last) = page.last() else { return log };
        after = last["position"].as_i64().unwrap();
        for entry in page {
            let bytes = base64u::decode(entry["message"].as_str().unwrap()).unwrap();
            let message = FanoutMessage::from_bytes(&bytes).unwrap();
            // Whom somebody is welcomed by is for their provider alone.
            if !matches!(message.with, FanoutParts::Welcome { .. }) {
                log.push(message);
            }
        }
    }
}
