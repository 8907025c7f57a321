//! `nabe`: the server and its tools. Each subcommand is a module; this file only tells them apart.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod check;
mod cli;
mod client;
mod config;
mod decode;
mod demo;
mod entropy;
mod frank;
mod init;
mod keys;
mod media;
mod mimi;
mod naming;
mod notary;
mod output;
mod report;
mod room;
mod serve;
mod server;
mod telemetry;
mod user;
mod vectors;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::base64u;
use nabe_store::StoreError;
use nabe_types::{KeyId, ServerName};

use cli::{
    BenchCommand, Cli, Command, ConfigCommand, ConfigFile, FrankCommand, KeysCommand, ReportCommand, RoomCommand,
    UserCommand, VectorsCommand,
};
use config::Config;
use output::{note, say};

/// Counts in the processes that measure and nowhere else.
#[global_allocator]
static ALLOCATOR: nabe_allocations::Counting = nabe_allocations::Counting;

/// What a subcommand found, for the exit status.
enum Ended {
    Done,
    /// Something that was checked does not hold.
    DoesNotHold,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = run(cli.command);
    // What could not be printed was not done: a token that nobody has seen, a verdict that nobody knows.
    let printed = output::finish().context("standard output");
    match ended.and_then(|ended| printed.map(|()| ended)) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::DoesNotHold) => ExitCode::from(1),
        Err(error) => {
            note!("nabe: {}", sentence(&error));
            ExitCode::from(if is_input_at_fault(&error) { 3 } else { 4 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Init(arguments) => {
            init::run(&arguments, SystemClock.now()).context(InputAtFault)?;
            advise_on(&arguments.server_name);
        }
        Command::Serve(ConfigFile { config }) => runtime()?.block_on(serve::run(&config))?,
        Command::Config(ConfigCommand::Check(file)) => {
            let config = load(&file)?;
            let keys = keys::load(&config.signing).context(InputAtFault)?;
            server::check(&config).context(InputAtFault)?;
            advise_on(&config.server_name);
            say!(
                "{}: good; {} with {} signing key(s)",
                file.config.display(),
                config.server_name,
                keys.active.len()
            );
        }
        Command::Keys(command) => manage_keys(&command)?,
        Command::User(UserCommand::Add {
            config,
            localpart,
            device,
        }) => {
            runtime()?.block_on(user::add(&load(&config)?, &localpart, device.as_deref()))?;
        }
        Command::User(UserCommand::Delete { config, localpart }) => {
            runtime()?.block_on(user::delete(&load(&config)?, &localpart))?;
        }
        Command::Room(RoomCommand::Show { config, room, events }) => {
            let config = load(&config)?;
            match room {
                Some(room) => runtime()?.block_on(room::show(&config, &room, events))?,
                None => runtime()?.block_on(room::list(&config))?,
            }
        }
        Command::Report(command) => reports(&command)?,
        Command::Decode(arguments) => return holds(decode::run(&arguments).context(InputAtFault)?),
        Command::Frank(FrankCommand::Verify(arguments)) => {
            return holds(frank::verify(&arguments).context(InputAtFault)?);
        }
        Command::Vectors(VectorsCommand::Verify { files }) => {
            return holds(vectors::verify_files(&files).context(InputAtFault)?);
        }
        Command::Client(arguments) => runtime()?.block_on(client::run(arguments))?,
        Command::Completions { shell } => print_completions(shell),
        Command::Bench(BenchCommand::Hub(arguments)) => runtime()?.block_on(bench::hub(&arguments))?,
        Command::Bench(BenchCommand::Start(arguments)) => runtime()?.block_on(bench::start(&arguments))?,
        Command::Bench(BenchCommand::Group(arguments)) => runtime()?.block_on(bench::group(&arguments))?,
        Command::Bench(BenchCommand::Mls(arguments)) => return holds(bench::mls::run(&arguments, SystemClock.now())?),
        Command::Bench(BenchCommand::Scenario(arguments)) => {
            return holds(bench::scenario::run(&arguments, SystemClock.now())?);
        }
        Command::Bench(BenchCommand::Compare { before, after }) => bench::mls::compare(&before, &after)?,
        Command::Bench(BenchCommand::MlsWorker { implementation }) => bench::mls::worker(implementation)?,
        Command::Bench(BenchCommand::Sink { dir }) => runtime()?.block_on(bench::sink::run(&dir))?,
        Command::Demo(arguments) => return holds(runtime()?.block_on(demo::run(&arguments))?),
        Command::Check(arguments) => return holds(runtime()?.block_on(check::run(&arguments))?),
    }
    Ok(Ended::Done)
}

fn reports(command: &ReportCommand) -> anyhow::Result<()> {
    match command {
        ReportCommand::List { config, all } => runtime()?.block_on(report::list(&load(config)?, *all)),
        ReportCommand::Show { config, number } => runtime()?.block_on(report::show(&load(config)?, *number)),
        ReportCommand::Decide {
            config,
            number,
            state,
            remark,
        } => runtime()?.block_on(report::decide(&load(config)?, *number, *state, remark)),
    }
}

/// A name is chosen once and for all: both commands that come before the first start say what speaks against it.
fn advise_on(server_name: &ServerName) {
    for advice in naming::advice(server_name) {
        note!("nabe: warning: {server_name}: {advice}");
    }
}

fn manage_keys(command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Rotate(file) => {
            let config = load(file)?;
            let id = runtime()?.block_on(rotate_keys(&config))?;
            say!("new signing key {id}; the server signs with it from its next start");
        }
        KeysCommand::Show(file) => {
            let config = load(file)?;
            let keys = keys::load(&config.signing).context(InputAtFault)?;
            for key in &keys.active {
                say!("active   {}  {}", key.key_id(), key.public().to_base64());
            }
            for key in &keys.retired {
                say!(
                    "retired  {}  {}  expired_ts {}",
                    key.id,
                    key.public.to_base64(),
                    key.expired_ts
                );
            }
            show_mimi_keys(&config).context(InputAtFault)?;
        }
    }
    Ok(())
}

/// What clients need to know for making a room: whom to list as external sender, and as franking agent.
fn show_mimi_keys(config: &Config) -> anyhow::Result<()> {
    let Some(domain) = &config.mimi.domain else {
        return Ok(());
    };
    let (hub, agent) = config.mimi.public_keys()?;
    let uri = mimi::keys::hub_uri(domain);
    for (what, key) in [("hub", Some(hub)), ("franks", agent)] {
        if let Some(key) = key {
            say!("{what:<8} ed25519  {}  {uri}", base64u::encode(&key.public()));
        }
    }
    Ok(())
}

/// A running server would go on signing with a key that others no longer accept: only who has the database may rotate.
async fn rotate_keys(config: &Config) -> anyhow::Result<KeyId> {
    let in_use = |error: &anyhow::Error| matches!(error.downcast_ref(), Some(StoreError::InUse { .. }));
    let held = server::open_store(config).await.map_err(|error| match in_use(&error) {
        true => error.context("the key stays as it is: stop the server, rotate, then start it again"),
        false => error,
    })?;
    let id = keys::rotate(&config.signing, entropy::bytes()?, SystemClock.now()).context(InputAtFault)?;
    drop(held);
    Ok(id)
}

fn print_completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nabe", &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
}

/// The error with its causes, each said once: some messages already end with their cause's.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        if sentence.is_empty() {
            sentence.push_str(cause);
        } else if !sentence.ends_with(cause) {
            sentence.push_str(": ");
            sentence.push_str(cause);
        }
    }
    sentence
}

const fn holds(holds: bool) -> anyhow::Result<Ended> {
    Ok(if holds { Ended::Done } else { Ended::DoesNotHold })
}

fn load(file: &ConfigFile) -> anyhow::Result<Config> {
    Config::load(&file.config).context(InputAtFault)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Marks an error whose cause is a file or argument of the caller: exit status 3 instead of 4.
#[derive(Debug)]
struct InputAtFault;

impl std::fmt::Display for InputAtFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot use what was given")
    }
}

fn is_input_at_fault(error: &anyhow::Error) -> bool {
    error.downcast_ref::<InputAtFault>().is_some() || error.downcast_ref::<config::ConfigError>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the file: {0}")]
    struct SaysItsCause(#[from] io::Error);

    #[test]
    fn a_cause_is_said_once_whether_or_not_the_message_ends_with_it() {
        let cause = || io::Error::other("no such thing\n");
        let said = anyhow::Error::new(SaysItsCause(cause())).context("cannot start");
        assert_eq!(sentence(&said), "cannot start: reading the file: no such thing");
        let unsaid = anyhow::Error::new(cause()).context("cannot start");
        assert_eq!(sentence(&unsaid), "cannot start: no such thing");
    }
}
