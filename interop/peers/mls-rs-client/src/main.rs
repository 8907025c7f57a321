//! An MLS client that is not OpenMLS: mls-rs behind Nabe's client API.
//!
//! ```text
//! mls-rs-client --server URL --ca FILE --token-file FILE --device ID [--user ID]
//! mls-rs-client --server URL --ca FILE --token-file FILE --mimi CLIENT [--alone] [--user ID]
//! ```
//!
//! The second form is for rooms of MIMI, of the client `mimi://host/d/user/device`; `--alone` shows how far mls-rs comes there without
//! `mimi/frame.rs`.
//!
//! It logs in with a token (or, with `--user`, a provider's credential), publishes a new device and its key packages, and follows the event
//! stream. Commands come on standard input, one JSON object per line; what happens goes to standard output in the same form: `answer`
//! for each command in order, `notice` for everything else, among them one `epoch` for each commit with the epoch authenticator. The
//! keys live as long as the process.

mod api;
mod device;
mod error;
mod member;
mod mimi;
mod receive;
mod room;

use std::collections::VecDeque;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use mls_rs::CipherSuite;
use mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use serde_json::{Value, json};

use crate::api::Api;
use crate::device::{OwnDevice, check_device};
use crate::error::{Error, Result, invalid};
use crate::member::{Member, Step, client};

/// Suite 1, the draft's own.
pub const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// What this process reacts to.
pub enum Input {
    /// A command.
    Line(String),
    /// No more commands.
    End,
    /// An item of the event stream: its kind and its data.
    Item(String, Value),
    /// The stream ended in an error; it begins again.
    StreamBroke(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mls-rs-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::read()?;
    let ca = std::fs::read(&arguments.ca).map_err(|error| invalid(format!("{}: {error}", arguments.ca)))?;
    let token = std::fs::read_to_string(&arguments.token_file);
    let token = token.map_err(|error| invalid(format!("{}: {error}", arguments.token_file)))?;
    let acting = arguments.user.map(|user| (user, arguments.device.clone()));
    let api = Api::new(&arguments.server, &ca, token.trim().to_owned(), acting)?;
    if let Some(client) = &arguments.mimi {
        return mimi::run(api, client, arguments.alone);
    }
    let api = Arc::new(api);
    let me = api.get("/whoami")?;
    let user = me
        .get("user_id")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("whoami"))?;
    let device = OwnDevice::generate(user, &arguments.device)?;
    let object = device.object()?;
    if check_device(&object, user)?.is_none() {
        return Err(invalid("the own device object"));
    }
    api.put(&format!("/devices/{}", api::escape(&device.device)), &object)?;

    let (sender, inputs) = channel();
    let lines = sender.clone();
    let (stream, name) = (Arc::clone(&api), device.device.clone());
    // Both threads wait for others and end with the process.
    std::thread::spawn(move || stream.follow(&name, &sender));
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if lines.send(Input::Line(line)).is_err() {
                return;
            }
        }
        let _ = lines.send(Input::End);
    });
    let groups = InMemoryGroupStateStorage::new();
    let mut session = Session {
        member: Member::new(api, client(&device, groups.clone())?, groups, device),
        inputs,
        waiting: VecDeque::new(),
    };
    session.until(|member| member.is_ready().then_some(()))?;
    session.member.stock_up()?;
    session.obey()
}

/// A member, and what is to be done.
struct Session<C: mls_rs::client_builder::MlsConfig> {
    member: Member<C>,
    inputs: Receiver<Input>,
    /// Commands that came while another one was at work.
    waiting: VecDeque<Input>,
}

impl<C: mls_rs::client_builder::MlsConfig> Session<C> {
    /// Does as it is told until there are no more commands.
    fn obey(&mut self) -> Result<()> {
        say(&json!({
            "notice": "ready", "user": self.member.user(), "device": self.member.device(),
        }));
        loop {
            let input = match self.waiting.pop_front() {
                Some(input) => input,
                None => self.inputs.recv().map_err(|_| invalid("no more input"))?,
            };
            match input {
                Input::End => return Ok(()),
                Input::Line(line) if line.trim().is_empty() => {}
                Input::Line(line) => {
                    let answer = match self.command(&line) {
                        Ok(answer) => json!({"answer": answer, "ok": true}),
                        Err(error) => json!({"answer": error.to_string(), "ok": false}),
                    };
                    say(&answer);
                }
                other => self.take(other),
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<Value> {
        let command: Value = serde_json::from_str(line).map_err(|error| invalid(error.to_string()))?;
        let begun = Instant::now();
        let mut first = true;
        loop {
            match self.member.command(&command, std::mem::take(&mut first))? {
                Step::Done(answer) => return Ok(answer),
                Step::Sent { room } => {
                    // It counts when the hub has put it in the log, and not before.
                    let won = self.until(|member| member.outcome(&room))??;
                    if won {
                        return self.member.state(&room);
                    }
                    say(&json!({"notice": "lost_race", "room": room}));
                }
                Step::Behind { room, epoch } => {
                    say(&json!({"notice": "lost_race", "room": room, "current_epoch": epoch}));
                    self.until(|member| member.has_reached(&room, epoch).then_some(()))?;
                    // Whoever joins externally sees no commits, but asks its server for the newest one.
                    std::thread::sleep(PAUSE);
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::CannotDo("other commits won too often".to_owned()));
            }
        }
    }

    /// Takes in what happens until something is there.
    fn until<T>(&mut self, mut look: impl FnMut(&mut Member<C>) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&mut self.member) {
                return Ok(found);
            }
            match self
                .inputs
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(input @ (Input::Line(_) | Input::End)) => self.waiting.push_back(input),
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => return Err(Error::NoAnswer("nothing came by the stream".to_owned())),
                Err(RecvTimeoutError::Disconnected) => return Err(invalid("no more input")),
            }
        }
    }

    fn take(&mut self, input: Input) {
        let taken = match input {
            Input::Item(kind, data) => self.member.item(&kind, &data),
            Input::StreamBroke(error) => Err(Error::NoAnswer(error)),
            Input::Line(_) | Input::End => Ok(()),
        };
        if let Err(error) = taken {
            say(&json!({"notice": "problem", "reason": error.to_string()}));
        }
    }
}

/// Prints one line.
pub fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any longer: the end of the commands comes soon.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[derive(Default)]
struct Arguments {
    server: String,
    ca: String,
    token_file: String,
    device: String,
    /// In rooms of MIMI: the client.
    mimi: Option<String>,
    /// There, without the translation of what mls-rs writes in another way.
    alone: bool,
    user: Option<String>,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut read = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--alone" {
                read.alone = true;
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| invalid(format!("{name} needs a value")))?;
            match name.as_str() {
                "--server" => read.server = value,
                "--ca" => read.ca = value,
                "--token-file" => read.token_file = value,
                "--device" => read.device = value,
                "--mimi" => {
                    read.device = value.rsplit('/').next().unwrap_or_default().to_owned();
                    read.mimi = Some(value);
                }
                "--user" => read.user = Some(value),
                _ => return Err(invalid(format!("{name} is no option"))),
            }
        }
        if [&read.server, &read.ca, &read.token_file, &read.device]
            .iter()
            .any(|value| value.is_empty())
        {
            return Err(invalid(
                "--server, --ca, --token-file and --device or --mimi are needed",
            ));
        }
        Ok(read)
    }
}

const PAUSE: Duration = Duration::from_millis(20);
/// For something that others have to do.
const PATIENCE: Duration = Duration::from_secs(15);
