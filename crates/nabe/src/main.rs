//! `nabe`: the server and its tools. Each subcommand is a module; this file only tells them apart.

mod bench;
mod check;
mod cli;
mod config;
mod decode;
mod demo;
mod entropy;
mod init;
mod keys;
mod room;
mod serve;
mod server;
mod telemetry;
mod user;
mod vectors;

use std::{io, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use nabe_service::ports::{Clock as _, SystemClock};

use cli::{
    BenchCommand, Cli, Command, ConfigCommand, ConfigFile, KeysCommand, RoomCommand, UserCommand, VectorsCommand,
};
use config::Config;

/// What a subcommand found, for the exit status.
enum Ended {
    Done,
    /// Something that was checked does not hold.
    DoesNotHold,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::DoesNotHold) => ExitCode::from(1),
        Err(error) => {
            eprintln!("nabe: {error:#}");
            ExitCode::from(if is_input_at_fault(&error) { 3 } else { 4 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Init(arguments) => init::run(&arguments, SystemClock.now()).context(InputAtFault)?,
        Command::Serve(ConfigFile { config }) => runtime()?.block_on(serve::run(&config))?,
        Command::Config(ConfigCommand::Check(file)) => {
            let config = load(&file)?;
            let keys = keys::load(&config.signing).context(InputAtFault)?;
            server::check(&config).context(InputAtFault)?;
            println!(
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
        Command::Room(RoomCommand::Show { config, room, events }) => {
            let config = load(&config)?;
            match room {
                Some(room) => runtime()?.block_on(room::show(&config, &room, events))?,
                None => runtime()?.block_on(room::list(&config))?,
            }
        }
        Command::Decode(arguments) => return holds(decode::run(&arguments).context(InputAtFault)?),
        Command::Vectors(VectorsCommand::Verify { files }) => {
            return holds(vectors::verify_files(&files).context(InputAtFault)?);
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "nabe", &mut io::stdout());
        }
        Command::Bench(BenchCommand::Hub(arguments)) => runtime()?.block_on(bench::hub(&arguments))?,
        Command::Bench(BenchCommand::Sink { dir }) => runtime()?.block_on(bench::sink::run(&dir))?,
        Command::Demo(arguments) => return holds(runtime()?.block_on(demo::run(&arguments))?),
        Command::Check(arguments) => return holds(runtime()?.block_on(check::run(&arguments))?),
    }
    Ok(Ended::Done)
}

fn manage_keys(command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Rotate(file) => {
            let config = load(file)?;
            let id = keys::rotate(&config.signing, entropy::bytes()?, SystemClock.now()).context(InputAtFault)?;
            println!("new signing key {id}; restart the server to use it");
        }
        KeysCommand::Show(file) => {
            let keys = keys::load(&load(file)?.signing).context(InputAtFault)?;
            for key in &keys.active {
                println!("active   {}  {}", key.key_id(), key.public().to_base64());
            }
            for key in &keys.retired {
                println!(
                    "retired  {}  {}  expired_ts {}",
                    key.id,
                    key.public.to_base64(),
                    key.expired_ts
                );
            }
        }
    }
    Ok(())
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
