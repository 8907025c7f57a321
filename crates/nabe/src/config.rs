//! The configuration file: strict TOML, each option also an environment variable.
//!
//! `NABE_LISTEN__ADDRESS=0.0.0.0:8448` overrides `address` in `[listen]`: the table and the option in capitals with two
//! underscores between them, a top-level option without (`NABE_SERVER_NAME`). Unknown options are errors that name the line
//! or the variable. Relative paths start at the folder of the file.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use nabe_types::{RoomVersionId, ServerName, ServerPattern};
use serde::Deserialize;

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
    pub(crate) client: Client,
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

/// `[listen]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// Federation and client API.
    pub(crate) address: SocketAddr,
    /// Metrics, in plain HTTP; absent = not served. Health is on `address`.
    pub(crate) operations_address: Option<SocketAddr>,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// LM asks for TLS 1.3; 1.2 only for a peer that has nothing newer.
    pub(crate) allow_tls12: bool,
    /// Serve plain HTTP: only behind a reverse proxy on the same machine.
    pub(crate) plain_http: bool,
    /// What `/.well-known/matrix/server` delegates to, as `host[:port]`; absent = 404.
    pub(crate) well_known: Option<ServerName>,
}

/// `[signing]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigningFiles {
    pub(crate) key_file: PathBuf,
    /// Keys no longer used for signing, with the time they were retired; written by `nabe keys rotate`.
    pub(crate) old_keys_file: PathBuf,
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    pub(crate) database: PathBuf,
    pub(crate) readers: u32,
}

/// `[federation]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Federation {
    /// Peers we talk to; empty = all. Exact names or `*.suffix`.
    pub(crate) allow: Vec<ServerPattern>,
    /// Peers we never talk to; wins over `allow`.
    pub(crate) deny: Vec<ServerPattern>,
    /// Server name to address, instead of discovery: for tests and closed networks without DNS.
    pub(crate) overrides: BTreeMap<ServerName, SocketAddr>,
    /// Private address ranges we may connect to all the same.
    pub(crate) allowed_ip_ranges: Vec<IpNet>,
    /// Further certificate authorities (PEM).
    pub(crate) ca_files: Vec<PathBuf>,
    /// Trust only `ca_files`, not the system's authorities.
    pub(crate) only_ca_files: bool,
    pub(crate) allow_tls12: bool,
    /// Servers asked for keys that cannot be fetched directly.
    pub(crate) notaries: Vec<ServerName>,
}

/// `[client]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Client {
    /// A file with the provider backend's credential; absent = no provider backend.
    pub(crate) provider_token_file: Option<PathBuf>,
    /// The room version of rooms made without naming one.
    pub(crate) default_room_version: Option<RoomVersionId>,
}

/// `[delivery]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Delivery {
    /// First wait after a failed request, milliseconds; doubles each time.
    pub(crate) retry_base_ms: u64,
    /// Longest wait, milliseconds.
    pub(crate) retry_max_ms: u64,
    /// Time for one request, milliseconds.
    pub(crate) request_timeout_ms: u64,
    /// Items a destination's outbox may hold before new ones are refused.
    pub(crate) outbox_limit: u64,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Rooms kept in memory, bytes.
    pub(crate) room_cache_bytes: usize,
    /// Requests per second and origin on the endpoints the draft marks as rate-limited.
    pub(crate) requests_per_second: f64,
    /// Requests an origin may make at once before the rate applies.
    pub(crate) burst: u32,
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    /// Bytes of a request body.
    pub(crate) body_bytes: usize,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A `tracing` filter such as `info,nabe_service=debug`.
    pub(crate) level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// `[[peer]]`: what a known deviation of a peer needs. Everything is off by default; see `docs/operations.md`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerCompat {
    /// Exact names or `*.suffix`.
    pub(crate) names: Vec<ServerPattern>,
    /// Plain HTTP instead of TLS.
    #[serde(default)]
    pub(crate) insecure_http: bool,
    /// Accept and send request signatures of bodyless requests without `content`.
    #[serde(default)]
    pub(crate) omit_empty_content: bool,
    /// A transaction is a repeat only when its body is the same, too.
    #[serde(default)]
    pub(crate) body_in_transaction_key: bool,
}

/// Why the configuration cannot be used. The sentence names the file with its line, or the variable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: toml::de::Error },
    #[error("environment: {0}")]
    Environment(toml::de::Error),
    #[error("environment: {name}: `{table}` is an option, not a table")]
    NotATable { name: String, table: String },
    #[error("{}: {option}: {rule}", path.display())]
    Rule {
        path: PathBuf,
        option: &'static str,
        rule: String,
    },
}

/// `NABE_…` variables that are not options.
const RESERVED: &[&str] = &["NABE_CONFIG", "NABE_SHARED", "NABE_REQUIRE_ALL"];
const RESERVED_PREFIX: &str = "NABE_TEST_";

impl Config {
    /// Reads `path`, then applies the process's environment.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars())
    }

    /// As [`Self::load`], the environment being an argument.
    pub(crate) fn load_with(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
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
        let mut table: toml::Table = toml::from_str(&text).map_err(in_file)?;
        let overridden = overlay(&mut table, environment)?;
        let mut config: Self = if overridden {
            table
                .clone()
                .try_into()
                .map_err(|error| match toml::from_str::<Self>(&text) {
                    Err(of_file) if !of_file.message().starts_with("missing field") => in_file(of_file),
                    _ => ConfigError::Environment(error),
                })?
        } else {
            toml::from_str(&text).map_err(in_file)?
        };
        config.resolve_paths(path.parent().unwrap_or_else(|| Path::new(".")));
        config.check(path)?;
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |base: &Path, path: &mut PathBuf| *path = base.join(&*path);
        resolve(folder, &mut self.data_dir);
        for path in [&mut self.signing.key_file, &mut self.signing.old_keys_file] {
            resolve(folder, path);
        }
        for path in [
            &mut self.listen.tls_certificate,
            &mut self.listen.tls_key,
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
            .for_each(|path| resolve(folder, path));
        self.storage.database = self.data_dir.join(&self.storage.database);
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let broken = |option, rule: &str| {
            Err(ConfigError::Rule {
                path: path.to_owned(),
                option,
                rule: rule.into(),
            })
        };
        match (
            &self.listen.tls_certificate,
            &self.listen.tls_key,
            self.listen.plain_http,
        ) {
            (Some(_), Some(_), false) | (None, None, true) => {}
            (Some(_), _, true) | (_, Some(_), true) => {
                return broken("listen.plain_http", "does not go with tls_certificate and tls_key");
            }
            _ => {
                return broken(
                    "listen",
                    "needs tls_certificate and tls_key, or plain_http = true behind a proxy",
                );
            }
        }
        if self.delivery.retry_base_ms == 0 || self.delivery.retry_base_ms > self.delivery.retry_max_ms {
            return broken("delivery.retry_base_ms", "must be at least 1 and at most retry_max_ms");
        }
        if self.limits.requests_per_second.is_nan() || self.limits.requests_per_second <= 0.0 || self.limits.burst == 0
        {
            return broken("limits.requests_per_second", "and burst must be above zero");
        }
        if self.storage.readers == 0 {
            return broken("storage.readers", "must be at least 1");
        }
        Ok(())
    }
}

/// Writes the variables into the table; `true` when there were any.
fn overlay(
    table: &mut toml::Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<bool, ConfigError> {
    let mut any = false;
    for (name, value) in environment {
        let Some(option) = name.strip_prefix("NABE_") else {
            continue;
        };
        if RESERVED.contains(&name.as_str()) || name.starts_with(RESERVED_PREFIX) {
            continue;
        }
        any = true;
        let path: Vec<String> = option.to_lowercase().split("__").map(str::to_owned).collect();
        let Some((last, tables)) = path.split_last() else {
            continue;
        };
        let mut inner = &mut *table;
        for name_of_table in tables {
            inner = inner
                .entry(name_of_table.clone())
                .or_insert_with(|| toml::Table::new().into())
                .as_table_mut()
                .ok_or_else(|| ConfigError::NotATable {
                    name: name.clone(),
                    table: name_of_table.clone(),
                })?;
        }
        inner.insert(last.clone(), parse_value(&value));
    }
    Ok(any)
}

/// A number, boolean, list or quoted string as in TOML; anything else is taken as the string it is.
fn parse_value(text: &str) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| text.into())
}

fn default_data_dir() -> PathBuf {
    "data".into()
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: ([0, 0, 0, 0], 8448).into(),
            operations_address: None,
            tls_certificate: None,
            tls_key: None,
            allow_tls12: false,
            plain_http: false,
            well_known: None,
        }
    }
}

impl Default for SigningFiles {
    fn default() -> Self {
        Self {
            key_file: "signing.key".into(),
            old_keys_file: "old-keys.toml".into(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            database: "nabe.sqlite".into(),
            readers: 4,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            retry_base_ms: 1_000,
            retry_max_ms: 3_600_000,
            request_timeout_ms: 60_000,
            outbox_limit: 10_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            room_cache_bytes: 256 * 1024 * 1024,
            requests_per_second: 20.0,
            burst: 200,
            connections: 4096,
            connections_per_address: 256,
            body_bytes: 8 * 1024 * 1024,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nabe.toml");
        fs::write(&path, text).unwrap();
        Config::load_with(
            &path,
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    const MINIMAL: &str = "server_name = \"a.example\"\n[listen]\nplain_http = true\n";

    #[test]
    fn an_unknown_option_is_an_error_naming_the_line() {
        let error = load(&format!("{MINIMAL}\nadress = \"x\"\n"), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 5") && error.contains("adress"), "{error}");
    }

    #[test]
    fn an_unknown_option_is_named_with_its_line_also_when_the_environment_overrides_another() {
        let error = load(
            &format!("{MINIMAL}\nadress = \"x\"\n"),
            &[("NABE_STORAGE__READERS", "2")],
        )
        .unwrap_err();
        assert!(error.to_string().contains("line 5"), "{error}");
    }

    #[test]
    fn every_kind_of_value_can_come_from_the_environment() {
        let config = load(
            MINIMAL,
            &[
                ("NABE_SERVER_NAME", "b.example"),
                ("NABE_LISTEN__ADDRESS", "127.0.0.1:1"),
                ("NABE_STORAGE__READERS", "2"),
                ("NABE_FEDERATION__DENY", "[\"*.evil.example\"]"),
                ("NABE_FEDERATION__ALLOW_TLS12", "true"),
                ("NABE_REQUIRE_ALL", "1"),
            ],
        )
        .unwrap();
        assert_eq!(config.server_name.as_str(), "b.example");
        assert_eq!(config.listen.address, ([127, 0, 0, 1], 1).into());
        assert_eq!(config.storage.readers, 2);
        assert_eq!(config.federation.deny.len(), 1);
        assert!(config.federation.allow_tls12);
    }

    #[test]
    fn an_unknown_variable_is_an_error() {
        let error = load(MINIMAL, &[("NABE_LISTEN__ADRESS", "x")]).unwrap_err();
        assert!(
            matches!(error, ConfigError::Environment(_)) && error.to_string().contains("adress"),
            "{error}"
        );
    }

    #[test]
    fn tls_files_and_plain_http_exclude_each_other() {
        let text = "server_name = \"a.example\"\n[listen]\nplain_http = true\ntls_key = \"k\"\n";
        assert!(matches!(
            load(text, &[]),
            Err(ConfigError::Rule {
                option: "listen.plain_http",
                ..
            })
        ));
        assert!(matches!(
            load("server_name = \"a.example\"", &[]),
            Err(ConfigError::Rule { option: "listen", .. })
        ));
    }

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let config = load(MINIMAL, &[]).unwrap();
        assert!(config.storage.database.is_absolute());
        assert!(config.storage.database.ends_with("data/nabe.sqlite"));
    }
}
