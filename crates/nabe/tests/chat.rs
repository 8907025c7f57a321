//! `nabe client chat` on a terminal: what is typed is sent, lines can be edited and had again.

#![cfg(unix)]

mod common;

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use common::{Folder, device::Device, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn lines_typed_on_a_terminal_are_sent_edited_and_had_again() {
    // `script` runs a command on a terminal of its own.
    let script = Command::new("script").arg("--version").output();
    if !script.is_ok_and(|done| done.status.success()) {
        let skipped = "there is no `script` (util-linux) to make a terminal with";
        assert!(std::env::var_os("NABE_REQUIRE_ALL").is_none(), "{skipped}");
        println!("SKIPPED: {skipped}");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let _running = hub.serve(&[]);
    hub.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let room = alice.create_room("Chat");

    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let chat = [
        env!("CARGO_BIN_EXE_nabe"),
        "client",
        "--state",
        alice.state.to_str().unwrap(),
        "chat",
        &room,
    ]
    .map(quoted)
    .join(" ");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &chat, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let shown = Arc::new(Mutex::new(String::new()));
    let mut output = terminal.stdout.take().unwrap();
    let reader = thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut some = [0; 1024];
            while let Ok(read @ 1..) = output.read(&mut some) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&some[..read]));
            }
        }
    });
    let mut keys = terminal.stdin.take().unwrap();
    let mut type_in = |text: &str| {
        keys.write_all(text.as_bytes()).unwrap();
        keys.flush().unwrap();
    };
    let wait_until_shown = async |text: &str, times: usize| {
        wait_for(text, async || {
            (shown.lock().unwrap().matches(text).count() >= times).then_some(())
        })
        .await;
    };

    wait_until_shown("/quit", 1).await;
    // A letter is missing; one step to the left it is put in.
    type_in("helo\x1b[Dl\r");
    wait_until_shown("@alice:hub.localhost: hello", 1).await;
    // The line before comes back.
    type_in("\x1b[A\r");
    wait_until_shown("@alice:hub.localhost: hello", 2).await;
    type_in("/nonsense\r");
    wait_until_shown("no command /nonsense", 1).await;
    type_in("/quit\r");
    assert!(terminal.wait().unwrap().success(), "{}", shown.lock().unwrap());
    reader.join().unwrap();

    let texts: Vec<String> = alice.texts(&room).into_iter().map(|(_, text)| text.unwrap()).collect();
    assert_eq!(texts, ["hello", "hello"]);
}
