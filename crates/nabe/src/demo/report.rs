//! What the reader sees: each step as it is taken, a closing table, and where to look next; or one JSON document.

use std::{
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::output::{note, say};

/// The steps so far.
pub(super) struct Report {
    /// One document at the end instead of lines as things happen.
    json: bool,
    steps: Vec<StepResult>,
    held: BTreeSet<&'static str>,
    begun: Instant,
}

/// One step, as `--json` shows it.
#[derive(Clone, Debug, Serialize)]
struct StepResult {
    name: &'static str,
    ok: bool,
    ms: u64,
    /// What was proven, or why not.
    detail: String,
}

/// One line of the closing table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProviderRow {
    pub(super) provider: String,
    pub(super) role: &'static str,
    pub(super) url: String,
    /// The newest event in the provider's log.
    pub(super) room_head: Option<String>,
    pub(super) events: usize,
    pub(super) members: u64,
    /// How many events the hub still owes it; absent for the hub itself.
    pub(super) lag: Option<u64>,
    /// The epoch of the encrypted room's group, by one of its members here.
    pub(super) epoch: Option<u64>,
    /// The group's tree hash, in hexadecimal, by the same.
    pub(super) tree_hash: Option<String>,
    pub(super) token_file: PathBuf,
    #[serde(skip)]
    pub(super) config_file: PathBuf,
    #[serde(skip)]
    pub(super) ca_file: PathBuf,
    #[serde(skip)]
    pub(super) address: SocketAddr,
    #[serde(skip)]
    pub(super) user: &'static str,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    steps: &'a [StepResult],
    providers: &'a [ProviderRow],
}

impl Report {
    pub(super) fn new(json: bool, rooms: &str, folder: &Path) -> Self {
        if !json {
            say!("Three providers, {rooms}. Everything is in {}.\n", folder.display());
        }
        Self {
            json,
            steps: Vec::new(),
            held: BTreeSet::new(),
            begun: Instant::now(),
        }
    }

    /// Takes a step, which ends in what it leaves and a sentence on what was proven.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> Option<T> {
        let begun = Instant::now();
        let outcome = timeout(LONGEST_STEP, work).await;
        let (left, ok, detail) = match outcome {
            Ok(Ok((left, detail))) => (Some(left), true, detail),
            Ok(Err(error)) => (None, false, format!("{error:#}")),
            Err(_) => (None, false, format!("not done after {} s", LONGEST_STEP.as_secs())),
        };
        self.add(StepResult {
            name,
            ok,
            ms: millis(begun),
            detail,
        });
        left
    }

    /// Accounts for a step that could not be taken because `missing` did not hold.
    pub(super) fn skip(&mut self, name: &'static str, missing: &str) {
        self.add(StepResult {
            name,
            ok: false,
            ms: 0,
            detail: format!("not tried: `{missing}` failed before it"),
        });
    }

    pub(super) fn skip_all(&mut self, names: impl Iterator<Item = &'static str>, missing: &str) {
        names.for_each(|name| self.skip(name, missing));
    }

    /// Whether a step was taken and verified.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.held.contains(name)
    }

    fn add(&mut self, step: StepResult) {
        if !self.json {
            let mark = if step.ok { '✓' } else { '✗' };
            say!(" {mark} {:>5} ms  {:<15} {}", step.ms, step.name, step.detail);
        }
        if step.ok {
            self.held.insert(step.name);
        }
        self.steps.push(step);
    }

    /// The table, or the document. Returns whether every step holds.
    pub(super) fn close(&self, providers: &[ProviderRow], hub_view: Option<&str>) -> bool {
        let ok = self.steps.iter().all(|step| step.ok);
        if self.json {
            let document = Document {
                ok,
                steps: &self.steps,
                providers,
            };
            say!(
                "{}",
                serde_json::to_string_pretty(&document).expect("names, numbers and paths are valid JSON")
            );
            return ok;
        }
        say!(
            "\n {:<12} {:<12} {:<46} {:>6} {:>8} {:>4} {:>6}  {:<16}",
            "provider",
            "role",
            "room head",
            "events",
            "members",
            "lag",
            "epoch",
            "tree hash"
        );
        for row in providers {
            let head = row.room_head.as_deref().unwrap_or("none");
            let lag = row.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
            let epoch = row.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
            let tree_hash = row.tree_hash.as_deref().unwrap_or("-");
            say!(
                " {:<12} {:<12} {head:<46} {:>6} {:>8} {lag:>4} {epoch:>6}  {tree_hash:.16}",
                row.provider,
                row.role,
                row.events,
                row.members
            );
        }
        if let Some(view) = hub_view {
            say!("\n{view}");
        }
        let failed = self.steps.iter().filter(|step| !step.ok).count();
        let (steps, seconds) = (self.steps.len(), self.begun.elapsed().as_secs_f64());
        match failed {
            0 => say!("\nAll {steps} steps verified in {seconds:.1} s. {NEXT}"),
            _ => say!("\n{failed} of {steps} steps NOT verified, in {seconds:.1} s."),
        }
        ok
    }

    /// How to talk to the servers that are left running. `room` is empty if there is only one of MIMI; `devices` are in the encrypted room.
    pub(super) fn look_around(&self, providers: &[ProviderRow], room: &str, devices: Option<&Path>) {
        let query = match room {
            "" => "mimi/rooms".to_owned(),
            room => format!("rooms/{room}/events?limit=5"),
        };
        let mut text = String::from("\nThe servers go on running until Ctrl-C. Look around as one of their users:\n");
        for row in providers {
            let ProviderRow {
                provider,
                url,
                address,
                user,
                ..
            } = row;
            text.push_str(&format!(
                "\n{provider}: {url}, credential in {token}\n  curl --cacert {ca} --resolve {provider}:{port}:{ip} \\\n    \
                 -H \"Authorization: Bearer $(cat {token})\" -H 'Nabe-User: {user}' \\\n    \
                 '{url}/_nabe/v1/{query}'\n",
                token = row.token_file.display(),
                ca = row.ca_file.display(),
                port = address.port(),
                ip = address.ip(),
            ));
        }
        if let Some(devices) = devices {
            text.push_str(&format!(
                "\nOr as one of the devices in the encrypted room, in {0}:\n  nabe client --state {0}/phone chat\n",
                devices.display()
            ));
        }
        text.push_str("\nEvery operation is described in /_nabe/openapi.json.");
        self.say(&text);
    }

    /// What can be done with the folder once the servers have stopped.
    pub(super) fn afterwards(&self, folder: &Path, providers: &[ProviderRow]) {
        let mut text = format!(
            "\nThe servers have stopped; everything is still in {}.\n",
            folder.display()
        );
        for row in providers {
            text.push_str(&format!("  nabe room show --config {}\n", row.config_file.display()));
        }
        text.push_str("`nabe serve --config …` starts one of them again.");
        self.say(&text);
    }

    /// Beside the document, never in it.
    fn say(&self, text: &str) {
        if self.json {
            note!("{text}");
        } else {
            say!("{text}");
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

const LONGEST_STEP: Duration = Duration::from_secs(60);

const NEXT: &str = "To look around:
  nabe demo --keep                              the same, with the servers left running
  nabe init mine --server-name NAME --dev-tls   a server of your own
  nabe --help                                   everything else";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_step_and_those_that_were_not_tried_are_in_the_report() {
        let mut report = Report::new(true, "no room", Path::new("nowhere"));
        assert_eq!(
            report.step("first", async { Ok((1, "Fine.".to_owned())) }).await,
            Some(1)
        );
        let failed: Option<()> = report
            .step("second", async { Err(anyhow::anyhow!("broken").context("trying")) })
            .await;
        assert_eq!(failed, None);
        report.skip("third", "second");
        assert!(report.holds("first") && !report.holds("second") && !report.holds("third"));
        let told: Vec<_> = report
            .steps
            .iter()
            .map(|step| (step.ok, step.detail.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (true, "Fine."),
                (false, "trying: broken"),
                (false, "not tried: `second` failed before it")
            ]
        );
        assert!(!report.close(&[], None));
    }
}
