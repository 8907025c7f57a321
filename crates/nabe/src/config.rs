//! The configuration file: strict TOML, each option also an environment variable.
//!
//! `NABE_LISTEN__ADDRESS=0.0.0.0:8448` overrides `address` in `[listen]`: the table and the option in capitals with two
//! underscores between them, a top-level option without (`NABE_SERVER_NAME`). A variable that is empty takes the option out of
//! the file; `""` is the empty string. Unknown options are errors that name the line or the variable. Relative paths start at
//! the folder of the file.

mod client;
mod delivery;
mod environment;
mod federation;
mod limits;
mod listen;
mod log;
mod rule;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nabe_types::ServerName;
use serde::Deserialize;

use self::environment::{MISSING_NAME, is_option, overlay, variable_at_fault, variables, variables_that_break};
pub(crate) use self::{
    client::{Client, Mls},
    delivery::Delivery,
    federation::{Federation, PeerCompat},
    limits::Limits,
    listen::Listen,
    log::{Log, LogFormat},
    rule::{Broken, hold},
    storage::{SigningFiles, Storage},
};
use crate::{media::Media, mimi::Mimi, notary::Notary};

/// Everything `nabe serve` is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server_name: ServerName,
    #[serde(default = "default_data_dir")]
    pub(crate) data_dir: PathBuf,
    #[serde(default)]
    pub(crate) listen: Listen,
    #[serde(default)]
    pub(crate) signing: SigningFiles,
    #[serde(default)]
    pub(crate) storage: Storage,
    #[serde(default)]
    pub(crate) federation: Federation,
    #[serde(default)]
    pub(crate) notary: Notary,
    #[serde(default)]
    pub(crate) client: Client,
    #[serde(default)]
    pub(crate) media: Media,
    #[serde(default)]
    pub(crate) mls: Mls,
    #[serde(default)]
    pub(crate) mimi: Mimi,
    #[serde(default)]
    pub(crate) delivery: Delivery,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) log: Log,
    /// Peers that need special treatment; empty for a network of conformant servers.
    #[serde(default)]
    pub(crate) peer: Vec<PeerCompat>,
}

/// Why the configuration cannot be used. The sentence names the file with its line, or the variable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: toml::de::Error },
    #[error("environment: {name}: {source}")]
    Environment { name: String, source: toml::de::Error },
    #[error("environment: {name}: there is no such option")]
    Unknown { name: String },
    #[error("environment: {name}: not UTF-8")]
    NotUtf8 { name: String },
    #[error("environment: {name}: `{table}` is an option, not a table")]
    NotATable { name: String, table: String },
    #[error("{}: {broken}", path.display())]
    Rule { path: PathBuf, broken: Broken },
    #[error("environment: {}: {broken}", names.join(", "))]
    EnvironmentRule { names: Vec<String>, broken: Broken },
}

impl Config {
    /// Reads `path`, then applies the process's environment.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// As [`Self::load`], the environment being an argument.
    pub(crate) fn load_with(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let in_file = |source| ConfigError::File {
            path: path.to_owned(),
            source,
        };
        // The file alone comes first: only text has lines to name. What the environment alone sets may be absent from it.
        let file: toml::Table = toml::from_str(&text).map_err(in_file)?;
        let variables = variables(environment)?;
        // What takes out an option that does not exist would go unnoticed.
        if let Some((name, _)) = variables
            .iter()
            .find(|(name, value)| value.is_empty() && !is_option(name))
        {
            return Err(ConfigError::Unknown { name: name.clone() });
        }
        let mut config: Self = if variables.is_empty() {
            toml::from_str(&text).map_err(in_file)?
        } else {
            let mut table = file.clone();
            overlay(&mut table, &variables)?;
            table.try_into().map_err(|fault| {
                let of_file = toml::from_str::<Self>(&text).err();
                match of_file {
                    Some(of_file) if !of_file.message().starts_with(MISSING_NAME) => in_file(of_file),
                    of_file => match (variable_at_fault(&file, &variables, &fault), of_file) {
                        (Some(name), _) => ConfigError::Environment { name, source: fault },
                        (None, Some(of_file)) => in_file(of_file),
                        // Two spellings of one name are at fault together.
                        (None, None) => ConfigError::Environment {
                            name: variables.keys().cloned().collect::<Vec<_>>().join(", "),
                            source: fault,
                        },
                    },
                }
            })?
        };
        if let Err(broken) = config.check() {
            let names = variables_that_break(&file, &variables, &broken);
            return Err(match names.is_empty() {
                true => ConfigError::Rule {
                    path: path.to_owned(),
                    broken,
                },
                false => ConfigError::EnvironmentRule { names, broken },
            });
        }
        config.resolve_paths(path.parent().unwrap_or_else(|| Path::new(".")));
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |base: &Path, path: &mut PathBuf| *path = base.join(&*path);
        resolve(folder, &mut self.data_dir);
        for path in [
            &mut self.signing.key_file,
            &mut self.signing.old_keys_file,
            &mut self.mimi.hub_key_file,
            &mut self.mimi.franking_key_file,
            &mut self.mimi.ohttp_key_file,
        ] {
            resolve(folder, path);
        }
        for path in [
            &mut self.listen.tls_certificate,
            &mut self.listen.tls_key,
            &mut self.mimi.tls_certificate,
            &mut self.mimi.tls_key,
            &mut self.client.provider_token_file,
        ]
        .into_iter()
        .flatten()
        {
            resolve(folder, path);
        }
        self.federation
            .ca_files
            .iter_mut()
            .chain(&mut self.mimi.ca_files)
            .for_each(|path| resolve(folder, path));
        self.storage.database = self.data_dir.join(&self.storage.database);
        self.media.folder = self.data_dir.join(&self.media.folder);
    }

    /// What the types alone do not say.
    fn check(&self) -> Result<(), Broken> {
        self.listen.check()?;
        self.mimi.check(&self.listen)?;
        self.client.check()?;
        self.media.check()?;
        self.delivery.check()?;
        self.limits.check()?;
        self.storage.check()?;
        self.log.check()
    }
}

fn default_data_dir() -> PathBuf {
    "data".into()
}

/// Whole milliseconds of a default, far from the limit.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
