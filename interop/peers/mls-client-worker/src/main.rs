//! `mls-client-worker --address HOST:PORT [--name NAME]`: a worker of Nabe's lab that measures the stack behind `mls_client.MLSClient` there. NAME is the
//! lab's, as in `--worker NAME=…` (default `mls-client`).

use std::io;
use std::process::ExitCode;

use mls_client_worker::client::Client;
use mls_client_worker::driven::Driven;
use nabe_lab::worker;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mls-client-worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (address, name) = options(std::env::args().skip(1))?;
    let client = Client::connect(&address).map_err(|error| error.to_string())?;
    let mut driven = Driven::new(client, name).map_err(|error| error.to_string())?;
    worker::serve(&mut driven, io::stdin().lock(), io::stdout().lock()).map_err(|error| error.to_string())
}

/// The address and the name.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<(String, String), String> {
    let (mut address, mut name) = (None, "mls-client".to_owned());
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option}: there is no value"))?;
        match option.as_str() {
            "--address" => address = Some(value),
            "--name" => name = value,
            _ => return Err(format!("{option}: there are --address and --name")),
        }
    }
    let address = address.ok_or("--address HOST:PORT says where the stack listens")?;
    Ok((address, name))
}
