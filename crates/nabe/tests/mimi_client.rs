//! `nabe client mimi` with real providers: what people say to each other, what becomes of rooms, and who gets into them (MIMI
//! #example-protocol-flow).

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::path::Path;

use common::{Serving, person::Person, provider::Provider, text, wait_for};
use serde_json::{Value, json};

const ROOM: &str = "mimi://a.localhost/r/club";

/// Providers of these domains, which run.
async fn providers<const N: usize>(parent: &Path, domains: [&str; N]) -> (Vec<Provider>, Vec<Serving>) {
    let mut made: Vec<Provider> = Vec::new();
    for domain in domains {
        let provider = Provider::init(parent, domain, made.first());
        made.push(provider);
    }
    let mut running = Vec::new();
    for provider in &made {
        let others: Vec<_> = made.iter().filter(|other| other.domain != provider.domain).collect();
        running.push(provider.serve(&others, false));
    }
    for provider in &made {
        provider.directory().await;
    }
    (made, running)
}

/// What a client refuses to do, in its words.
fn refused(person: &Person, arguments: &[&str]) -> String {
    let done = person.attempt(arguments);
    assert!(!done.status.success(), "{arguments:?}: {}", text(&done.stdout));
    text(&done.stderr)
}

/// What a command answers, without what has happened meanwhile.
fn answers(person: &Person, arguments: &[&str]) -> Vec<Value> {
    let mut lines = person.run(arguments);
    lines.retain(|line| line["notice"].is_null());
    lines
}

/// The only line that it answers.
fn answer(person: &Person, arguments: &[&str]) -> Value {
    let mut lines = answers(person, arguments);
    assert_eq!(lines.len(), 1, "{arguments:?}: {lines:?}");
    lines.remove(0)
}

/// The ID of what a command has sent.
fn sent(person: &Person, arguments: &[&str]) -> String {
    answer(person, arguments)["message"].as_str().unwrap().to_owned()
}

/// A post of the room as somebody sees it now, once it is as it should be.
async fn sees(person: &Person, message: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let seen = wait_for("a post", async || {
        person.run(&["sync"]);
        let posts = answers(person, &["timeline", ROOM]);
        last = posts.into_iter().find(|post| post["message"] == message)?;
        is_it(&last).then(|| last.clone())
    });
    seen.await
}

fn roles(info: &Value) -> Vec<(String, u64)> {
    let users = info["participants"].as_array().unwrap().iter();
    users
        .map(|one| (one["user"].as_str().unwrap().to_owned(), one["role"].as_u64().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_reacted_to_edited_taken_back_put_into_topics_read_and_gone() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    let receipts = ["--delivery-notifications", "required", "--read-receipts", "optional"];
    alice.run(&[&["create", "The Club", "--id", "club"], &receipts[..]].concat());
    bob.lets_add(&alice).await;
    alice.run(&["add", ROOM, &bob.user]);
    bob.is_in(ROOM, true).await;

    let first = sent(&alice, &["send", ROOM, "I am a fsh"]);
    bob.hears(ROOM, |message| message["message"] == *first).await;
    let by_bob = json!({ "by": bob.user, "text": "\u{2764}" });
    sent(&bob, &["react", ROOM, &first, "\u{2764}"]);
    let post = sees(&alice, &first, |post| post["reactions"] == json!([by_bob])).await;
    assert_eq!(post["text"], "I am a fsh");
    assert_eq!(
        post["statuses"],
        json!({ (&*bob.user): "delivered" }),
        "his provider's policy says so"
    );
    sent(&bob, &["unreact", ROOM, &first]);
    assert!(refused(&bob, &["unreact", ROOM, &first]).contains("no reaction"));
    sent(&alice, &["edit", ROOM, &first, "I am a *fish*", "--markdown"]);
    let post = sees(&bob, &first, |post| post["state"] == "edited").await;
    assert_eq!(
        (&post["text"], &post["reactions"]),
        (&json!("I am a *fish*"), &json!([]))
    );

    // It is read, and then it is not, as he says.
    bob.run(&["read", ROOM]);
    sees(&alice, &first, |post| post["statuses"][&*bob.user] == "read").await;
    sent(&bob, &["status", ROOM, &first, "--report", "unread"]);
    wait_for("the report", async || {
        alice.run(&["sync"]);
        let known = answers(&alice, &["status", ROOM, &first]);
        (known[0]["statuses"][&*bob.user] == "unread").then_some(())
    })
    .await;
    // The discreet tell what they have to.
    let second = sent(&alice, &["send", ROOM, "and a bird"]);
    bob.hears(ROOM, |message| message["message"] == *second).await;
    bob.run(&["--no-read-receipts", "read", ROOM, &second]);
    let post = sees(&alice, &second, |post| post["statuses"][&*bob.user] == "delivered").await;
    assert_eq!(post["state"], "shown");

    // Topics.
    let begun = answer(&alice, &["topic", ROOM, "Birds"]);
    let topic = begun["topic"].as_str().unwrap();
    let birds = begun["message"].as_str().unwrap();
    bob.hears(ROOM, |message| message["message"] == birds).await;
    let reply = sent(&bob, &["send", ROOM, "which?", "--reply-to", birds]);
    alice.hears(ROOM, |message| message["message"] == *reply).await;
    let all = sent(&alice, &["send", ROOM, "all of them", "--topic", topic]);
    bob.hears(ROOM, |message| message["message"] == *all).await;
    let about = answer(&alice, &["topic", ROOM, "eat fish", "--about", &second]);
    assert_eq!(about["topic"], *second, "the first message names it");
    let of_topic = answers(&bob, &["timeline", ROOM, "--topic", topic]).into_iter();
    let of_topic: Vec<_> = of_topic
        .map(|post| post["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_topic, [birds, &*reply, &*all]);

    // Taken back, and gone by itself: also for who sent it.
    sent(&alice, &["delete", ROOM, &second]);
    let post = sees(&bob, &second, |post| post["state"] == "deleted").await;
    assert_eq!(post["text"], "(deleted)");
    let secret = sent(&alice, &["send", ROOM, "the code is 1234", "--expires-after", "1"]);
    let post = sees(&bob, &secret, |_| true).await;
    assert_eq!(
        (&post["state"], &post["text"]),
        (&json!("shown"), &json!("the code is 1234"))
    );
    bob.run(&["read", ROOM, &secret]);
    for person in [&alice, &bob] {
        let post = sees(person, &secret, |post| post["state"] == "expired").await;
        assert_eq!(post["text"], "(expired)");
        let kept = person.run(&["messages", ROOM, "--limit", "100"]);
        let kept = kept.iter().find(|message| message["message"] == *secret).unwrap();
        assert_eq!(
            (&kept["notice"], &kept["text"]),
            (&json!("expired"), &json!("(expired)"))
        );
    }
    let nonsense = refused(&alice, &["delete", ROOM, "01ab"]);
    assert!(nonsense.contains("no message's ID"), "{nonsense}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_described_own_clients_come_and_go_and_people_are_kicked_banned_and_leave_in_both_ways() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    alice.run(&["create", "The Club", "--id", "club"]);
    alice.run(&["create", "The Hall", "--id", "hall"]);

    // Consent for one room is for no other.
    let hall = "mimi://a.localhost/r/hall";
    bob.run(&["consent", "grant", &alice.user, "--room", ROOM]);
    wait_for("the consent", async || {
        let known = alice.run(&["consent", "list"]);
        let is_it = |one: &Value| one["state"] == "granted" && one["room"] == ROOM;
        known.iter().any(is_it).then_some(())
    })
    .await;
    refused(&alice, &["add", hall, &bob.user]);
    alice.run(&["add", ROOM, &bob.user]);
    bob.is_in(ROOM, true).await;

    // What people see of it.
    alice.run(&[
        "metadata",
        ROOM,
        "--name",
        "The Aquarium",
        "--subject",
        "Fish",
        "--description",
        "For fish",
    ]);
    let seen = wait_for("the name", async || {
        bob.run(&["sync"]);
        let seen = answers(&bob, &["metadata", ROOM]).pop()?;
        (seen["name"] == "The Aquarium").then_some(seen)
    });
    let seen = seen.await;
    assert_eq!(
        (&seen["subject"], &seen["descriptions"]),
        (&json!("Fish"), &json!(["For fish"]))
    );
    let listed = answers(&bob, &["component", ROOM]);
    let names: Vec<_> = listed.iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(
        names.contains(&"room_metadata") && names.contains(&"roles_list"),
        "{names:?}"
    );
    let file = parent.path().join("update");
    std::fs::write(&file, [0, 2]).unwrap();
    let status = [
        "component",
        ROOM,
        "status_notification_policy",
        "--set",
        file.to_str().unwrap(),
    ];
    let not_allowed = refused(&alice, &status);
    assert!(not_allowed.contains("can-change-other-policy"), "{not_allowed}");

    // Bob's tablet comes and goes, as he likes, and as an administrator does.
    let tablet = Person::log_in_as(parent.path(), &providers[1], "bob", "tablet");
    let tablet_uri = "mimi://b.localhost/d/bob/tablet";
    bob.run(&["add-own", ROOM]);
    let info = tablet.is_in(ROOM, true).await;
    assert_eq!(info["clients"].as_array().unwrap().len(), 3);
    bob.run(&["kick", ROOM, tablet_uri]);
    tablet.is_in(ROOM, false).await;
    tablet.run(&["join", ROOM]);
    wait_for("the tablet", async || {
        alice.run(&["sync"]);
        let info = answers(&alice, &["info", ROOM]).pop()?;
        info["clients"].as_array()?.contains(&json!(tablet_uri)).then_some(())
    })
    .await;
    alice.run(&["kick", ROOM, tablet_uri, "mimi://b.localhost/d/bob/phone"]);
    bob.is_in(ROOM, false).await;
    let info = answer(&alice, &["info", ROOM]);
    assert_eq!(
        roles(&info),
        [(alice.user.clone(), 4), (bob.user.clone(), 2)],
        "he still takes part"
    );
    bob.run(&["join", ROOM]);
    bob.is_in(ROOM, true).await;

    // A ban, and its end.
    let alone = refused(&bob, &["ban", ROOM, &alice.user]);
    assert!(alone.contains("can-ban"), "{alone}");
    wait_for("the ban", async || {
        alice.attempt(&["ban", ROOM, &bob.user]).status.success().then_some(())
    })
    .await;
    bob.is_in(ROOM, false).await;
    let banned = refused(&bob, &["join", ROOM]);
    assert!(banned.contains("does not let you join"), "{banned}");
    let info = answer(&alice, &["set-role", ROOM, &bob.user, "2"]);
    assert_eq!(roles(&info)[1], (bob.user.clone(), 2));

    // Both ways to go.
    for by in ["self-remove", "remove"] {
        if by == "self-remove" {
            bob.run(&["join", ROOM]);
        }
        bob.is_in(ROOM, true).await;
        bob.run(&["leave", ROOM, "--by", by]);
        wait_for("Bob to be gone", async || {
            alice.run(&["update", ROOM]);
            let info = answer(&alice, &["info", ROOM]);
            (roles(&info).len() == 1).then_some(())
        })
        .await;
        bob.is_in(ROOM, false).await;
        // The consent still holds, as long as it is not taken back.
        if by == "self-remove" {
            alice.run(&["add", ROOM, &bob.user]);
            bob.is_in(ROOM, true).await;
        }
    }
    bob.run(&["consent", "revoke", &alice.user, "--room", ROOM]);
    let taken_back = refused(&alice, &["add", ROOM, &bob.user]);
    assert!(taken_back.contains("noConsent"), "{taken_back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_makes_a_room_and_both_of_a_direct_message_meet() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    for (policy, role) in [
        ("cooperative", 4),
        ("strict", 4),
        ("moderated", 6),
        ("multi-organization", 8),
    ] {
        let room = answer(&alice, &["create", policy, "--policy", policy]);
        let info = answer(&alice, &["info", room["room"].as_str().unwrap()]);
        assert_eq!(roles(&info), [(alice.user.clone(), role)], "{policy}");
    }
    alice.run(&["create", "", "--id", "club", "--policy", "direct", "--with", &bob.user]);
    bob.run(&["join", ROOM]);
    let id = sent(&bob, &["send", ROOM, "hello"]);
    let heard = alice.hears(ROOM, |message| message["message"] == *id).await;
    assert_eq!(heard["sender"], bob.user);
    let info = answer(&alice, &["info", ROOM]);
    assert_eq!(roles(&info), [(alice.user.clone(), 2), (bob.user.clone(), 2)]);
    refused(&alice, &["remove", ROOM, &bob.user]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_room_is_joined_by_anybody_and_another_one_by_nobody_who_is_not_let_in() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    alice.run(&["create", "Open", "--id", "club", "--open"]);
    alice.run(&["create", "Closed", "--id", "closed"]);
    let stranger = refused(&bob, &["join", "mimi://a.localhost/r/closed"]);
    assert!(stranger.contains("does not let you join"), "{stranger}");
    let too_much = refused(&bob, &["join", ROOM, "--role", "3"]);
    assert!(too_much.contains("notAllowed"), "{too_much}");
    let info = answer(&bob, &["join", ROOM]);
    assert_eq!(roles(&info)[1], (bob.user.clone(), 2));
    let id = sent(&bob, &["send", ROOM, "hello"]);
    alice.hears(ROOM, |message| message["message"] == *id).await;
    // Who was banned is a stranger no more.
    alice.run(&["ban", ROOM, &bob.user]);
    bob.is_in(ROOM, false).await;
    let banned = refused(&bob, &["join", ROOM]);
    assert!(banned.contains("does not let you join"), "{banned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_preauthorized_joins_with_the_role_that_is_theirs_and_nobody_else_does() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost", "c.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    let cathy = Person::log_in(parent.path(), &providers[2], "cathy");
    let organizations = ["--policy", "multi-organization", "--organization", "b.localhost"];
    alice.run(&[&["create", "Organizations", "--id", "club"], &organizations[..]].concat());
    let strict = ["--policy", "strict", "--preauthorize", "c.localhost"];
    alice.run(&[&["create", "Strict", "--id", "strict"], &strict[..]].concat());
    let other = "mimi://a.localhost/r/strict";
    for (insider, outsider, room) in [(&bob, &cathy, ROOM), (&cathy, &bob, other)] {
        let stranger = refused(outsider, &["join", room]);
        assert!(stranger.contains("does not let you join"), "{stranger}");
        let as_admin = refused(insider, &["join", room, "--role", "3"]);
        assert!(as_admin.contains("preauthorized-for-another-role"), "{as_admin}");
        let info = answer(insider, &["join", room]);
        assert_eq!(roles(&info)[1], (insider.user.clone(), 2));
        let id = sent(insider, &["send", room, "hello"]);
        alice.hears(room, |message| message["message"] == *id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_people_join_as_long_as_the_room_has_it() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost", "c.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    let cathy = Person::log_in(parent.path(), &providers[2], "cathy");
    alice.run(&["create", "Strict", "--id", "club", "--policy", "strict"]);
    let made = answer(&alice, &["link", "make", ROOM]);
    let link = made["link"].as_str().unwrap();
    assert_eq!(
        answers(&alice, &["link", "list", ROOM]),
        [json!({ "room": ROOM, "link": link })]
    );
    for guess in [&["join", ROOM][..], &["link", "use", ROOM, "open sesame"]] {
        let stranger = refused(&bob, guess);
        assert!(stranger.contains("does not let you join"), "{stranger}");
    }
    let info = answer(&bob, &["link", "use", ROOM, link]);
    assert_eq!(roles(&info)[1], (bob.user.clone(), 2));
    let id = sent(&bob, &["send", ROOM, "hello"]);
    alice.hears(ROOM, |message| message["message"] == *id).await;
    // Ordinary users make none, and take none away.
    for attempt in [&["link", "make", ROOM][..], &["link", "remove", ROOM, link]] {
        let not_allowed = refused(&bob, attempt);
        assert!(not_allowed.contains("join-code"), "{not_allowed}");
    }
    // It is for many, until it is taken away.
    alice.run(&["link", "remove", ROOM, link]);
    assert_eq!(answers(&alice, &["link", "list", ROOM]), [Value::Null; 0]);
    let gone = refused(&cathy, &["link", "use", ROOM, link]);
    assert!(gone.contains("does not let you join"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_for_one_user_lets_in_one_user() {
    let parent = tempfile::tempdir().unwrap();
    let (providers, _running) = providers(parent.path(), ["a.localhost", "b.localhost", "c.localhost"]).await;
    let alice = Person::log_in(parent.path(), &providers[0], "alice");
    let bob = Person::log_in(parent.path(), &providers[1], "bob");
    let cathy = Person::log_in(parent.path(), &providers[2], "cathy");
    let links = ["--policy", "strict", "--links-single", "--links-expire", "3600"];
    alice.run(&[&["create", "Strict", "--id", "club"], &links[..]].concat());
    alice.run(&["link", "make", ROOM, "open sesame"]);
    bob.run(&["link", "use", ROOM, "open sesame"]);
    bob.is_in(ROOM, true).await;
    let used = refused(&cathy, &["link", "use", ROOM, "open sesame"]);
    assert!(used.contains("does not let you join"), "{used}");
    // His tablet comes all the same.
    let tablet = Person::log_in_as(parent.path(), &providers[1], "bob", "tablet");
    tablet.run(&["join", ROOM]);
    tablet.is_in(ROOM, true).await;
}
