//! A device as a person has it: `nabe client` with a folder of its own, one process for each command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use super::{Folder, command, text, wait_for};

/// A folder with a device's state.
pub(crate) struct Device {
    pub(crate) state: PathBuf,
    pub(crate) user: String,
}

impl Device {
    /// A new device of a user of this server, whose name is also that of its folder below `parent`.
    pub(crate) fn log_in(parent: &Path, server: &Folder, localpart: &str, name: &str) -> Self {
        let device = Self {
            state: parent.join(name),
            user: format!("@{localpart}:{}", server.name),
        };
        let token = fs::read_to_string(server.path.join("provider.token")).unwrap();
        let url = format!("https://localhost:{}", server.address.port());
        let ca = server.path.join("ca.pem");
        device.run(&[
            "login",
            "--server",
            &url,
            "--device",
            name,
            "--provider-token",
            token.trim(),
            "--user",
            &device.user,
            "--ca",
            ca.to_str().unwrap(),
        ]);
        device
    }

    /// `nabe client` with these arguments, not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command
            .args(["client", "--json", "--state"])
            .arg(&self.state)
            .args(arguments);
        command
    }

    /// The same, started; what it prints is lost.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn attempt(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; the objects it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let done = self.attempt(arguments);
        assert!(
            done.status.success(),
            "{}: {arguments:?}: {}",
            self.user,
            text(&done.stderr)
        );
        objects(&done)
    }

    /// Creates an encrypted room and its group.
    pub(crate) fn create_room(&self, name: &str) -> String {
        let made = self.run(&["room", "create", "--name", name]);
        made[0]["room_id"].as_str().unwrap().to_owned()
    }

    /// Brings another device's user into a room that this one is in, and their devices into its group.
    pub(crate) async fn bring_in(&self, room: &str, other: &Self, via: &str) {
        self.run(&["room", "invite", room, &other.user]);
        wait_for("an invited user to join", async || {
            let joined = other.attempt(&["room", "join", room, "--via", via]);
            joined.status.success().then_some(())
        })
        .await;
        self.run(&["room", "add", room, &other.user]);
        wait_for("a Welcome to be opened", async || {
            other.group(room)["epoch"].is_u64().then_some(())
        })
        .await;
    }

    /// What `room info` says, after catching up: epoch, authenticator, tree hash, members; without them if the device is not in.
    pub(crate) fn group(&self, room: &str) -> Value {
        let shown = self.run(&["room", "info", room]);
        let is_it = |object: &&Value| object["room"]["room_id"] == room;
        shown
            .iter()
            .find(is_it)
            .cloned()
            .unwrap_or_else(|| panic!("{}: {shown:?}", self.user))
    }

    /// The texts of a room in the order of its log, each with its sender, after catching up; `None` for what cannot be read.
    pub(crate) fn texts(&self, room: &str) -> Vec<(String, Option<String>)> {
        self.run(&["sync"]);
        let shown = self.run(&["messages", room, "--limit", "100000"]);
        let items = shown
            .into_iter()
            .filter(|object| matches!(object["notice"].as_str(), Some("message" | "undecryptable" | "plain")));
        // What was new is shown a second time as a notice: an event counts once.
        let mut seen = std::collections::BTreeSet::new();
        items
            .filter(|item| seen.insert(item["event_id"].to_string()))
            .map(|item| {
                let read = item["notice"] == "message";
                let sender = item["sender"].as_str().unwrap().to_owned();
                (sender, read.then(|| item["text"].as_str().unwrap().to_owned()))
            })
            .collect()
    }
}

/// The objects that a command has printed.
pub(crate) fn objects(done: &Output) -> Vec<Value> {
    text(&done.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
