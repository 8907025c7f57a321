//! `nabe demo` as a process: the whole of Linearized Matrix, and the story of MIMI, in one command.

mod common;

use serde_json::Value;

#[test]
fn the_demo_verifies_every_step() {
    let demo = common::nabe(["demo", "--json"]);
    let (stdout, stderr) = (common::text(&demo.stdout), common::text(&demo.stderr));
    // Exactly one document: anything else on standard output would not parse.
    let document: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));

    let steps = document["steps"].as_array().unwrap();
    let failed: Vec<_> = steps.iter().filter(|step| step["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{stderr}");
    assert_eq!(document["ok"], true);
    assert_eq!(demo.status.code(), Some(0));
    assert!(
        steps
            .iter()
            .all(|step| step["ms"].is_u64() && !step["detail"].as_str().unwrap().is_empty())
    );
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    for name in [
        "start",
        "restart hub",
        "ban",
        "offline",
        "verify b",
        "verify c",
        "nothing lost",
        "verify events",
        "file",
        "external join",
        "lost race",
        "group restart",
        "eavesdrop",
        "verify group",
        "blind hub",
        "mimi consent",
        "mimi add next",
        "mimi frank",
        "mimi restart",
        "mimi locked out",
        "mimi new device",
        "mimi logs",
        "mimi blind hub",
        "mimi report",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }

    let providers = document["providers"].as_array().unwrap();
    let names: Vec<_> = providers
        .iter()
        .map(|provider| provider["provider"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a.localhost", "b.localhost", "c.localhost"]);
    for provider in providers {
        assert_eq!(
            provider["room_head"], providers[0]["room_head"],
            "all three end at the same event"
        );
        assert_eq!(provider["members"], 3);
        assert!(matches!(provider["lag"].as_u64(), None | Some(0)));
        assert!(provider["epoch"].as_u64() > Some(1));
        assert_eq!(provider["tree_hash"].as_str().unwrap().len(), 64);
        assert_eq!(
            (&provider["epoch"], &provider["tree_hash"]),
            (&providers[0]["epoch"], &providers[0]["tree_hash"]),
            "all three have the same group"
        );
    }
    let fields: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["ok", "providers", "steps"], "scripts rely on the shape");
    assert!(
        providers[2]["events"].as_u64() < providers[0]["events"].as_u64(),
        "c was away for a while"
    );
}

#[test]
fn the_demo_tells_of_one_protocol_only_if_asked() {
    let demo = common::nabe(["demo", "--json", "--protocol", "mimi"]);
    assert_eq!(demo.status.code(), Some(0), "{}", common::text(&demo.stdout));
    let document: Value = serde_json::from_str(&common::text(&demo.stdout)).unwrap();
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["start", "mimi clients", "mimi room"]);
    assert!(names[1..].iter().all(|name| name.starts_with("mimi ")), "{names:?}");
    let providers = document["providers"].as_array().unwrap();
    assert_eq!(providers.len(), 3);
    // Alice is at a; Bob, who was alone at b, has left; Cathy is at c.
    assert!(providers[0]["epoch"].as_u64() > Some(1));
    assert!(providers[1]["epoch"].is_null());
    for field in ["epoch", "tree_hash"] {
        assert_eq!(providers[0][field], providers[2][field]);
    }
}

#[test]
fn the_demo_tells_each_step_on_a_line_of_its_own() {
    let demo = common::nabe(["demo"]);
    let stdout = common::text(&demo.stdout);
    assert_eq!(demo.status.code(), Some(0), "{stdout}");
    assert!(
        stdout.lines().filter(|line| line.starts_with(" ✓")).count() > 30,
        "{stdout}"
    );
    assert!(
        stdout.contains("room head") && stdout.contains("nabe demo --keep"),
        "{stdout}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn kept_servers_answer_until_ctrl_c() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    let mut demo = common::command()
        .args(["demo", "--json", "--keep"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut document = String::new();
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        document.push_str(&line);
        if line == "}" {
            break;
        }
    }
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["ok"], true, "{document:#}");
    let mut told = BufReader::new(demo.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(
        told.any(|line| line.contains("openapi.json")),
        "it says how to look around"
    );

    for (provider, user) in document["providers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["alice:a", "bob:b", "cleo:c"])
    {
        let client = common::Client::of_demo(provider);
        let rooms = client.must_get(&format!("@{user}.localhost"), "/_nabe/v1/rooms").await;
        let of_user = rooms["rooms"].as_array().unwrap();
        assert!(of_user.iter().any(|room| room["name"] == "Three providers"), "{rooms}");
    }
    let interrupted = Command::new("kill")
        .arg("-INT")
        .arg(demo.id().to_string())
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(demo.wait().unwrap().code(), Some(0));

    let token_file = std::path::PathBuf::from(document["providers"][0]["token_file"].as_str().unwrap());
    let folder = token_file.parent().unwrap().parent().unwrap();
    assert!(folder.join("a.localhost/nabe.toml").exists(), "the folder is kept");
    std::fs::remove_dir_all(folder).unwrap();
}
