//! Users' clients: `nabe client mimi` with a folder of its own, one process for each command.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{command, provider::Provider, text, wait_for};

/// A user's client: `nabe client mimi` with a folder of its own, one process for each command.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) state: PathBuf,
    pub(crate) user: String,
}

impl Person {
    pub(crate) fn log_in(parent: &Path, provider: &Provider, name: &str) -> Self {
        Self::log_in_as(parent, provider, name, "phone")
    }

    /// Another device of a user is another client.
    pub(crate) fn log_in_as(parent: &Path, provider: &Provider, name: &str, device: &str) -> Self {
        let person = Self {
            state: parent.join(format!("{device} of {name}")),
            user: format!("mimi://{}/u/{name}", provider.domain),
        };
        let token = fs::read_to_string(provider.folder.join("provider.token")).unwrap();
        let url = format!("https://localhost:{}", provider.listen.port());
        let user = format!("@{name}:{}", provider.domain);
        let ca = provider.folder.join("ca.pem");
        let login = ["login", "--server", &url, "--device", device, "--user", &user];
        let with = ["--provider-token", token.trim(), "--ca", ca.to_str().unwrap()];
        let made = person.run(&[&login[..], &with[..]].concat());
        assert_eq!(made[0]["user"], person.user);
        person
    }

    pub(crate) fn attempt(&self, arguments: &[&str]) -> std::process::Output {
        let mut client = command();
        client
            .args(["client", "--json", "--state"])
            .arg(&self.state)
            .arg("mimi");
        client.args(arguments).output().unwrap()
    }

    /// What a command prints, a line each.
    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let done = self.attempt(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        let lines = text(&done.stdout);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// By an address that the other has, which their provider vouches for, once they let it be searched for.
    pub(crate) fn finds(&self, other: &Self) {
        let (_, rest) = other.user.split_once("mimi://").unwrap();
        let domain = rest.split_once('/').unwrap().0.to_owned();
        let look = [
            "find",
            &domain,
            "--email",
            "someone@mail.example",
            "--claim",
            "given_name=Some",
        ];
        assert!(!self.attempt(&look).status.success(), "not without a profile");
        let email =
            json!({ "kind": "email", "value": "someone@mail.example", "searchable": "exactly", "shown": false });
        let name =
            json!({ "kind": "claim", "name": "given_name", "value": "Some", "searchable": "in_part", "shown": true });
        let profile = json!({ "fields": [email, name] });
        let file = self.state.with_extension("profile");
        fs::write(&file, profile.to_string()).unwrap();
        other.run(&["profile", "put", file.to_str().unwrap()]);
        assert_eq!(other.run(&["profile", "show"]), [profile]);
        let found = json!({ "user": other.user, "shown": [["given_name", "Some"]] });
        assert_eq!(self.run(&look), [found]);
        assert!(
            !self.attempt(&["find", &domain]).status.success(),
            "not without a condition"
        );
    }

    /// Waits for the other to be allowed to add this one.
    pub(crate) async fn lets_add(&self, other: &Self) {
        other.run(&["consent", "ask", &self.user]);
        let is_known = |of: &Self, state: &str| {
            let known = of.run(&["consent", "list"]);
            let is_it = |one: &Value| one["requester"] == *other.user && one["target"] == *self.user;
            known
                .iter()
                .any(|one| is_it(one) && one["state"] == state)
                .then_some(())
        };
        wait_for("the request", async || is_known(self, "asked")).await;
        self.run(&["consent", "grant", &other.user]);
        wait_for("the consent", async || is_known(other, "granted")).await;
    }

    /// The newest message of a room once it is what is waited for.
    pub(crate) async fn hears(&self, room: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for("a message", async || {
            self.run(&["sync"]);
            let messages = self.run(&["messages", room]);
            messages.into_iter().rev().find(&is_it)
        })
        .await
    }

    pub(crate) async fn is_in(&self, room: &str, is_in: bool) -> Value {
        wait_for("the group", async || {
            self.run(&["sync"]);
            let known = self.run(&["rooms"]).into_iter().any(|known| known["room"] == room);
            let info = known.then(|| self.run(&["info", room]).pop()).flatten()?;
            ((info["status"] == "active") == is_in).then_some(info)
        })
        .await
    }
}
