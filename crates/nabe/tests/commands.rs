//! The subcommands as processes: what they print, and the status they exit with.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{fs, path::PathBuf};

use common::{Folder, Serving, command, nabe, text};
use serde_json::{Value, json};

fn vector_files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../drafts/linearized-matrix/vectors");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn room_file() -> PathBuf {
    vector_files()
        .into_iter()
        .find(|path| path.ends_with("room.json"))
        .unwrap()
}

fn room_vectors() -> Value {
    serde_json::from_slice(&fs::read(room_file()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_made_by_init_checks_serves_over_tls_and_stops_when_asked() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let checked = folder.command(&["config", "check"], &[]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(
        text(&checked.stdout).contains("a.localhost with 1 signing key"),
        "{}",
        text(&checked.stdout)
    );

    let mut serving = folder.serve(&[]);
    let client = folder.client();
    client.wait_until_ready().await;
    let live = client.get(None, "/_nabe/health/live").await.unwrap();
    assert_eq!((live.status, live.body), (200, json!({ "status": "live" })));
    assert_eq!(serving.terminate().code(), Some(0), "{}", folder.log());
    assert!(
        client.get(None, "/_nabe/health/live").await.is_err(),
        "nobody listens any more"
    );
}

#[cfg(unix)]
#[test]
fn init_keeps_its_secrets_from_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    for secret in ["signing.key", "provider.token", "tls.key", "ca.key"] {
        let mode = fs::metadata(folder.path.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[test]
fn an_unknown_option_is_named_with_its_line_and_ends_with_status_3() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let config = fs::read_to_string(folder.config()).unwrap();
    let line = config.lines().position(|line| line == "[listen]").unwrap() + 2;
    fs::write(
        folder.config(),
        config.replace("[listen]\n", "[listen]\nadress = \"127.0.0.1:1\"\n"),
    )
    .unwrap();
    for subcommand in [&["config", "check"][..], &["serve"], &["keys", "rotate"]] {
        let refused = folder.command(subcommand, &[]).output().unwrap();
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{subcommand:?}: {said}");
        assert!(
            said.contains("adress") && said.contains(&format!("line {line}")),
            "{subcommand:?}: {said}"
        );
    }
}

#[test]
fn an_unknown_variable_is_named_and_ends_with_status_3() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let refused = folder
        .command(&["config", "check"], &[])
        .env("NABE_LISTEN__ADRESS", "x")
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(
        said.contains("NABE_LISTEN__ADRESS") && said.contains("unknown field `adress`"),
        "{said}"
    );
    assert_eq!(said.matches("unknown field").count(), 1, "said once: {said}");
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_once() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    fs::write(folder.config(), "adress = 1\n").unwrap();
    let unknown = text(&folder.command(&["config", "check"], &[]).output().unwrap().stderr);
    assert_eq!(unknown.matches("unknown field").count(), 1, "{unknown}");
    fs::remove_file(folder.config()).unwrap();
    let missing = text(&folder.command(&["config", "check"], &[]).output().unwrap().stderr);
    assert_eq!(missing.matches("No such file").count(), 1, "{missing}");
}

#[cfg(unix)]
#[test]
fn serve_and_config_check_refuse_the_same_files_with_status_3() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let refused = |name: &str, what: &str, spoil: &dyn Fn(&Folder)| {
        let folder = Folder::init(parent.path(), name);
        spoil(&folder);
        for subcommand in [&["config", "check"][..], &["serve"]] {
            // The level of the file, not the one other tests are given.
            let ended = folder
                .command(subcommand, &[])
                .env_remove("NABE_LOG__LEVEL")
                .output()
                .unwrap();
            let said = text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(3), "{subcommand:?}: {said}");
            assert!(said.contains(what), "{subcommand:?}: {said}");
        }
    };
    refused("mode.localhost", "0600", &|folder| {
        fs::set_permissions(folder.path.join("signing.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    refused("junk.localhost", "tls.pem", &|folder| {
        fs::write(folder.path.join("tls.pem"), "junk").unwrap();
    });
    refused("level.localhost", "log.level", &|folder| {
        let config = fs::read_to_string(folder.config()).unwrap();
        let bad = config.replace("# level = \"info\"", "level = \"info,nabe=loud\"");
        assert_ne!(bad, config);
        fs::write(folder.config(), bad).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_matters_only_if_it_is_an_option() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let check = |name: &str| {
        let mut command = folder.command(&["config", "check"], &[]);
        command.env(name, OsStr::from_bytes(b"\xff")).output().unwrap()
    };
    let foreign = check("SOME_OTHER_PROGRAM");
    assert_eq!(foreign.status.code(), Some(0), "{}", text(&foreign.stderr));
    let ours = check("NABE_DATA_DIR");
    let said = text(&ours.stderr);
    assert_eq!(ours.status.code(), Some(3), "{said}");
    assert!(said.contains("NABE_DATA_DIR") && said.contains("UTF-8"), "{said}");
}

#[test]
fn a_wrong_command_line_ends_with_status_2() {
    assert_eq!(nabe(["serve", "--no-such-option"]).status.code(), Some(2));
    assert_eq!(nabe(["no-such-command"]).status.code(), Some(2));
}

#[tokio::test]
async fn after_a_rotation_the_key_response_has_the_old_key_among_the_old_ones() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let show = || text(&folder.command(&["keys", "show"], &[]).output().unwrap().stdout);
    let id_of = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    let old = id_of(&show());
    let rotated = folder.command(&["keys", "rotate"], &[]).output().unwrap();
    assert_eq!(rotated.status.code(), Some(0), "{}", text(&rotated.stderr));
    let shown = show();
    let new = id_of(shown.lines().find(|line| line.starts_with("active")).unwrap());
    assert_ne!(old, new);
    assert!(text(&rotated.stdout).contains(&new));
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("retired") && line.contains(&old)),
        "{shown}"
    );

    let _serving = folder.serve(&[]);
    let client = folder.client();
    client.wait_until_ready().await;
    let keys = client.get(None, "/_matrix/key/v2/server").await.unwrap().body;
    assert_eq!(
        keys["verify_keys"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [&new]
    );
    assert!(keys["old_verify_keys"][&old]["expired_ts"].is_u64(), "{keys}");
    assert!(keys["signatures"]["a.localhost"][&new].is_string(), "{keys}");
}

#[tokio::test]
async fn keys_are_not_rotated_beside_a_running_server() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let key = || fs::read_to_string(folder.path.join("signing.key")).unwrap();
    let before = key();
    let mut serving = folder.serve(&[]);
    folder.client().wait_until_ready().await;
    let refused = folder.command(&["keys", "rotate"], &[]).output().unwrap();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("stop the server") && said.contains("in use"), "{said}");
    assert_eq!(key(), before);
    assert!(!folder.path.join("old-keys.toml").exists());

    assert!(serving.terminate().success());
    let rotated = folder.command(&["keys", "rotate"], &[]).output().unwrap();
    assert_eq!(rotated.status.code(), Some(0), "{}", text(&rotated.stderr));
    assert_ne!(key(), before);
}

#[tokio::test]
async fn a_user_added_can_use_the_client_api_with_the_printed_token() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let added = folder
        .command(&["user", "add"], &[])
        .args(["alice", "--device", "PHONE"])
        .output()
        .unwrap();
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let token = text(&added.stdout).trim().to_owned();
    assert!(
        !token.contains(char::is_whitespace),
        "only the token is on standard output: {token}"
    );

    let _serving = folder.serve(&[]);
    let client = folder.client();
    client.wait_until_ready().await;
    let alice = client.with_token(&token).get(None, "/_nabe/v1/whoami").await.unwrap();
    let expected = json!({ "user_id": "@alice:a.localhost", "device_id": "PHONE", "server_name": "a.localhost" });
    assert_eq!((alice.status, alice.body), (200, expected));
    let stranger = client
        .with_token("not-a-token")
        .get(None, "/_nabe/v1/whoami")
        .await
        .unwrap();
    assert_eq!(stranger.status, 401);
    assert!(!folder.log().contains(&token), "no secret in a log");
}

#[tokio::test]
async fn a_user_deleted_has_no_access_any_more_and_nobody_gets_the_name() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let run = |action: &str, name: &str| folder.command(&["user", action], &[]).arg(name).output().unwrap();
    let added = run("add", "alice");
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let token = text(&added.stdout).trim().to_owned();
    let unknown = run("delete", "alicia");
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));
    for _ in 0..2 {
        let deleted = run("delete", "alice");
        assert_eq!(deleted.status.code(), Some(0), "{}", text(&deleted.stderr));
    }
    let again = run("add", "alice");
    assert_eq!(again.status.code(), Some(4), "{}", text(&again.stderr));
    assert!(
        text(&again.stderr).contains("the user was deleted"),
        "{}",
        text(&again.stderr)
    );

    let _serving = folder.serve(&[]);
    let client = folder.client();
    client.wait_until_ready().await;
    let by_token = client.with_token(&token).get(None, "/_nabe/v1/whoami").await.unwrap();
    assert_eq!(by_token.status, 401);
    let by_provider = client
        .get(Some("@alice:a.localhost"), "/_nabe/v1/whoami")
        .await
        .unwrap();
    assert_eq!(
        (by_provider.status, &by_provider.body["error"]["code"]),
        (403, &json!("user_deleted"))
    );
}

#[tokio::test]
async fn a_room_can_be_shown_once_the_server_has_stopped() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let mut serving = folder.serve(&[]);
    let client = folder.client();
    client.wait_until_ready().await;
    let made = client
        .must_post("@alice:a.localhost", "/_nabe/v1/rooms", &json!({ "name": "Attic" }))
        .await;
    let room = made["room_id"].as_str().unwrap();
    assert!(serving.terminate().success());

    let listed = text(&folder.command(&["room", "show"], &[]).output().unwrap().stdout);
    assert!(listed.contains(room), "{listed}");
    let shown = folder
        .command(&["room", "show"], &[])
        .args([room, "--events", "2"])
        .output()
        .unwrap();
    let stdout = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(stdout.contains("m.room.name") && stdout.contains("Attic"), "{stdout}");
    assert_eq!(
        stdout.lines().filter(|line| line.starts_with("event ")).count(),
        2,
        "{stdout}"
    );
}

#[test]
fn our_vectors_verify() {
    let verified = nabe(["vectors".into(), "verify".into()].into_iter().chain(vector_files()));
    let stdout = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(0), "{stdout}");
    let (lines, last) = (stdout.lines().count() - 1, stdout.lines().last().unwrap());
    assert_eq!(last, format!("{lines} passed, 0 failed"));
}

#[test]
fn a_damaged_vector_fails_alone_and_ends_with_status_1() {
    let folder = tempfile::tempdir().unwrap();
    // In the text: what a JSON library reads and writes again may be another number.
    let vectors = fs::read_to_string(room_file()).unwrap();
    let time = room_vectors()["events"][0]["pdu"]["origin_server_ts"].to_string();
    let damaged = folder.path().join("damaged.json");
    fs::write(&damaged, vectors.replacen(&time, "1", 1)).unwrap();
    let verified = nabe(["vectors".into(), "verify".into(), damaged]);
    let stdout = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(1), "{stdout}");
    assert_eq!(
        stdout.lines().filter(|line| line.starts_with("FAIL")).count(),
        1,
        "{stdout}"
    );
    assert!(
        stdout.lines().last().unwrap().ends_with(" passed, 1 failed"),
        "{stdout}"
    );
}

#[test]
fn traces_of_unknown_suites_are_passed_over_and_broken_ones_fail() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passive-client.json");
    fs::write(&file, r#"[{"cipher_suite": 999}, {"cipher_suite": 1}]"#).unwrap();
    let verified = nabe(["vectors".into(), "verify".into(), file]);
    let stdout = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(1), "{stdout}");
    let starts: Vec<_> = stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["skip", "FAIL", "0"], "{stdout}");
}

#[test]
fn a_file_without_vectors_ends_with_status_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.json");
    fs::write(&file, "[]").unwrap();
    assert_eq!(nabe(["vectors".into(), "verify".into(), file]).status.code(), Some(3));
}

#[test]
fn decode_takes_an_event_apart_and_says_which_signatures_verify() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = room_vectors();
    let (event, key) = (&vectors["events"][0], &vectors["keys"]["north.example"][0]);
    let key = format!(
        "north.example,{},{}",
        key["key_id"].as_str().unwrap(),
        key["public"].as_str().unwrap()
    );
    let decode = |pdu: &Value| {
        let file = folder.path().join("event.json");
        fs::write(&file, pdu.to_string()).unwrap();
        let decoded = nabe(["decode", file.to_str().unwrap(), "--key", &key]);
        (decoded.status.code(), text(&decoded.stdout))
    };
    let (status, stdout) = decode(&event["pdu"]);
    assert_eq!(status, Some(0), "{stdout}");
    assert!(stdout.contains(event["event_id"].as_str().unwrap()), "{stdout}");
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("ok ") && line.contains("north.example")),
        "{stdout}"
    );

    let mut forged = event["pdu"].clone();
    forged["content"]["room_version"] = json!("I.1-forged");
    let (status, stdout) = decode(&forged);
    assert_eq!(status, Some(1), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("FALSE")), "{stdout}");
}

#[test]
fn completions_name_the_subcommands_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = nabe(["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        let script = text(&script.stdout);
        for subcommand in ["serve", "demo", "vectors"] {
            assert!(script.contains(subcommand), "{shell} lacks {subcommand}");
        }
    }
}

/// A pipe that nobody reads, from the very beginning.
fn unread() -> std::io::PipeWriter {
    let (_, writer) = std::io::pipe().unwrap();
    writer
}

#[test]
fn a_subcommand_whose_output_nobody_reads_ends_as_it_would() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.json");
    let time = room_vectors()["events"][0]["pdu"]["origin_server_ts"].to_string();
    let vectors = fs::read_to_string(room_file()).unwrap();
    fs::write(&damaged, vectors.replacen(&time, "1", 1)).unwrap();
    let damaged = damaged.to_str().unwrap();
    let (room, made) = (room_file(), folder.path().join("made"));
    for (arguments, status) in [
        (&["completions", "bash"][..], 0),
        (&["vectors", "verify", room.to_str().unwrap()], 0),
        (&["vectors", "verify", damaged], 1),
        (&["check", "--list"], 0),
        (&["init", made.to_str().unwrap(), "--server-name", "a.localhost"], 0),
    ] {
        let mut command = command();
        let ended = command
            .args(arguments)
            .stdout(unread())
            .stderr(std::process::Stdio::piped());
        let ended = ended.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(
            ended.status.code(),
            Some(status),
            "{arguments:?}: {}",
            text(&ended.stderr)
        );
        assert_eq!(text(&ended.stderr), "", "{arguments:?}");
    }
    let unheard = command()
        .args(["config", "check", "-c", "/nowhere"])
        .stderr(unread())
        .status();
    assert_eq!(unheard.unwrap().code(), Some(3));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_ends_with_status_4() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = command();
    let ended = command
        .args(["check", "--list"])
        .stdout(full)
        .stderr(std::process::Stdio::piped());
    let ended = ended.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4));
    assert!(
        text(&ended.stderr).starts_with("nabe: standard output: "),
        "{}",
        text(&ended.stderr)
    );
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::init(parent.path(), "a.localhost");
    let child = folder
        .command(&["serve"], &[])
        .env("NABE_LOG__LEVEL", "debug")
        .stdout(std::process::Stdio::null())
        .stderr(unread())
        .spawn()
        .unwrap();
    let mut serving = Serving::of(child);
    let client = folder.client();
    client.wait_until_ready().await;
    // Each of these is logged at this level.
    for _ in 0..3 {
        assert_eq!(client.get(None, "/_nabe/v1/whoami").await.unwrap().status, 400);
    }
    assert_eq!(serving.terminate().code(), Some(0));
}

#[test]
fn help_says_where_to_start_and_what_the_exit_statuses_mean() {
    let help = text(&nabe(["--help"]).stdout);
    assert!(help.contains("nabe demo") && help.contains("Exit status:"), "{help}");
}
