//! Files through whole servers: from one provider's user to another's over real TLS, and through a process that is killed.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
};

use common::{Folder, device::Device, text, wait_for};
use serde_json::Value;

/// The events of the files that came to a device, oldest first, once there are so many.
async fn received(device: &Device, room: &str, count: usize) -> Vec<Value> {
    wait_for("the files to come", async || {
        device.run(&["sync"]);
        let mut messages = device.run(&["messages", room]);
        messages.retain(|message| !message["payload"]["content"]["m.file"].is_null());
        // What was new is shown a second time as a notice.
        messages.sort_by_key(|message| message["position"].as_i64());
        messages.dedup_by_key(|message| message["event_id"].clone());
        (messages.len() >= count).then_some(messages)
    })
    .await
}

/// Every file below a folder, which a server that has just been started may not have made yet.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn is_in(folder: &Path, needle: &[u8]) -> bool {
    let has_it = |path: PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    files(folder).into_iter().any(has_it)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_from_one_provider_to_another_and_their_servers_hold_ciphertext_only() {
    let parent = tempfile::tempdir().unwrap();
    let (a, b) = (
        Folder::init(parent.path(), "a.localhost"),
        Folder::init(parent.path(), "b.localhost"),
    );
    let (serving, _serving) = (a.serve(&[&b]), b.serve(&[&a]));
    a.client().wait_until_ready().await;
    b.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &a, "alice", "ALICE");
    let bob = Device::log_in(parent.path(), &b, "bob", "BOB");
    let room = alice.create_room("Pictures");
    alice.bring_in(&room, &bob, "a.localhost").await;

    let secret = b"for Bob's eyes only; ".repeat(20_000);
    let path = parent.path().join("picture.png");
    fs::write(&path, &secret).unwrap();
    let path = path.to_str().unwrap();
    alice.run(&["send-file", &room, path, "--scan", "grep -q 'eyes only'"]);
    let refused = alice.attempt(&["send-file", &room, path, "--scan", "echo 'not this one' >&2; exit 1"]);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("not this one"),
        "{}",
        text(&refused.stderr)
    );
    alice.run(&["send-file", &room, path]);

    let messages = received(&bob, &room, 2).await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0]["payload"]["type"], "m.image");
    assert_eq!(messages[0]["payload"]["content"]["m.file"]["mimetype"], "image/png");
    let event = |n: usize| messages[n]["event_id"].as_str().unwrap();
    // From Alice's server to Bob's, and from there.
    let out = parent.path().join("received");
    let out = out.to_str().unwrap();
    let got = bob.run(&["get-file", &room, event(0), "--out", out]);
    assert_eq!(got[0]["bytes"], secret.len());
    assert_eq!(fs::read(out).unwrap(), secret);
    // Under the name it was given, which replaces nothing.
    let mut again = bob.command(&["get-file", &room, event(0)]);
    let again = again.current_dir(parent.path()).output().unwrap();
    assert!(
        text(&again.stderr).contains("picture.png is there already"),
        "{}",
        text(&again.stderr)
    );
    // Alice herself, from her own server.
    received(&alice, &room, 2).await;
    alice.run(&["get-file", &room, event(1), "-o", out]);
    assert_eq!(fs::read(out).unwrap(), secret);

    let media = |server: &Folder| server.path.join("data/media");
    assert_eq!(files(&media(&a)).len(), 2, "each sending has a key of its own");
    assert_eq!(files(&media(&b)).len(), 1, "what Bob fetched");
    let kept = files(&media(&b)).remove(0);
    let sent: Vec<_> = files(&media(&a)).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(sent.contains(&fs::read(kept).unwrap()));
    for server in [&a, &b] {
        assert!(!is_in(&server.path.join("data"), b"for Bob's eyes only"));
        assert!(!is_in(&server.path.join("data"), b"picture.png"));
    }
    assert!(is_in(&alice.state, b"picture.png"), "the search finds what is there");

    // Once Alice's server is gone, Bob's has what he fetched.
    drop(serving);
    bob.run(&["get-file", &room, event(0), "--out", out]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_kill_interrupts_leaves_nothing_after_the_next_start() {
    let parent = tempfile::tempdir().unwrap();
    let server = Folder::init(parent.path(), "a.localhost");
    let plain = [
        ("NABE_LISTEN__PLAIN_HTTP", "true"),
        ("NABE_LISTEN__TLS_CERTIFICATE", ""),
        ("NABE_LISTEN__TLS_KEY", ""),
    ];
    let mut serving = server.serve_with(&[], &plain);
    let token = fs::read_to_string(server.path.join("provider.token")).unwrap();
    let mut upload = wait_for("the server", async || TcpStream::connect(server.address).ok()).await;
    let head = format!(
        "POST /_nabe/v1/media HTTP/1.1\r\nHost: a.localhost\r\nAuthorization: Bearer {}\r\n\
         Nabe-User: @alice:a.localhost\r\nContent-Length: 1000000\r\n\r\n",
        token.trim()
    );
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(&[b'x'; 500_000]).unwrap();
    let media = server.path.join("data/media");
    wait_for("half of the file", async || {
        let arriving = files(&media);
        let size = fs::metadata(arriving.first()?).ok()?.len();
        (size > 0).then_some(())
    })
    .await;
    serving.kill();
    assert_eq!(files(&media).len(), 1, "nobody could clean up");
    let _serving = server.serve_with(&[], &plain);
    wait_for("the folder to be empty", async || {
        files(&media).is_empty().then_some(())
    })
    .await;
}
