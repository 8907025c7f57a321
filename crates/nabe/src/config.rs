//! The configuration file: strict TOML, each option also an environment variable.
//!
//! `NABE_LISTEN__ADDRESS=0.0.0.0:8448` overrides `address` in `[listen]`: the table and the option in capitals with two
//! underscores between them, a top-level option without (`NABE_SERVER_NAME`). Unknown options are errors that name the line
//! or the variable. Relative paths start at the folder of the file.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use nabe_types::{RoomVersionId, ServerName, ServerPattern};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

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
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Client {
    /// A file with the provider backend's credential; absent = no provider backend.
    pub(crate) provider_token_file: Option<PathBuf>,
    /// The room version of rooms made without naming one.
    pub(crate) default_room_version: Option<RoomVersionId>,
    /// Others may invite users of ours that nobody has seen yet.
    pub(crate) invites_for_unknown_users: bool,
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
    #[error("environment: {name}: {source}")]
    Environment { name: String, source: toml::de::Error },
    #[error("environment: {name}: not UTF-8")]
    NotUtf8 { name: String },
    #[error("environment: {name}: `{table}` is an option, not a table")]
    NotATable { name: String, table: String },
    #[error("{}: {option}: {rule}", path.display())]
    Rule {
        path: PathBuf,
        option: &'static str,
        rule: String,
    },
}

/// What the name of an option's variable begins with.
const PREFIX: &str = "NABE_";
/// `NABE_…` variables that are not options.
const RESERVED: &[&str] = &["NABE_CONFIG", "NABE_SHARED", "NABE_REQUIRE_ALL"];
const RESERVED_PREFIX: &str = "NABE_TEST_";

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
                            name: variables.into_keys().collect::<Vec<_>>().join(", "),
                            source: fault,
                        },
                    },
                }
            })?
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
        if let Err(error) = EnvFilter::try_new(&self.log.level) {
            return broken("log.level", &format!("{:?}: {error}", self.log.level));
        }
        Ok(())
    }
}

/// How the message about the only option that every file needs begins.
const MISSING_NAME: &str = "missing field `server_name`";

/// The variables that are options, sorted: that of a table comes before those of the options in it. Others may hold anything.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        if RESERVED.contains(&shown.as_str()) || shown.starts_with(RESERVED_PREFIX) {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.insert(name, value),
            _ => return Err(ConfigError::NotUtf8 { name: shown }),
        };
    }
    Ok(variables)
}

/// Writes the variables into the table.
fn overlay(table: &mut toml::Table, variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let option = name.strip_prefix(PREFIX).unwrap_or(name);
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
        inner.insert(last.clone(), parse_value(value));
    }
    Ok(())
}

/// The variable without which the fault would be another one or none.
fn variable_at_fault(
    file: &toml::Table,
    variables: &BTreeMap<String, String>,
    fault: &toml::de::Error,
) -> Option<String> {
    let fault = Some(fault.to_string());
    let is_at_fault = |name: &&String| {
        let mut others = variables.clone();
        others.remove(*name);
        let mut table = file.clone();
        let fault_without = match overlay(&mut table, &others) {
            Ok(()) => table.try_into::<Config>().err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        fault_without != fault
    };
    variables.keys().find(is_at_fault).cloned()
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

impl Default for Client {
    fn default() -> Self {
        Self {
            provider_token_file: None,
            default_room_version: None,
            invites_for_unknown_users: true,
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
                .map(|(name, value)| ((*name).into(), (*value).into())),
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

    /// The variable that is called at fault when these are given.
    fn at_fault(text: &str, environment: &[(&str, &str)]) -> String {
        match load(text, environment).unwrap_err() {
            ConfigError::Environment { name, .. } => name,
            other => panic!("no variable is named: {other}"),
        }
    }

    #[test]
    fn an_unknown_variable_is_an_error_naming_it() {
        let error = load(MINIMAL, &[("NABE_LISTEN__ADRESS", "x")]).unwrap_err().to_string();
        assert!(error.contains("NABE_LISTEN__ADRESS"), "{error}");
    }

    #[test]
    fn of_several_variables_the_one_at_fault_is_named() {
        let variables = [
            ("NABE_LISTEN__ADDRESS", "127.0.0.1:1"),
            ("NABE_STORAGE__READERS", "many"),
            ("NABE_STORAGE__DATABASE", "x.sqlite"),
        ];
        assert_eq!(at_fault(MINIMAL, &variables), "NABE_STORAGE__READERS");
        let nested = [("NABE_PEER", "[{ insecure_http = true }]"), ("NABE_LOG__LEVEL", "warn")];
        assert_eq!(at_fault(MINIMAL, &nested), "NABE_PEER");
    }

    #[test]
    fn the_one_at_fault_is_named_also_when_only_the_environment_has_the_server_name() {
        let variables = [("NABE_SERVER_NAME", "a.example"), ("NABE_STORAGE__READERS", "many")];
        let text = "[listen]\nplain_http = true\n";
        assert_eq!(at_fault(text, &variables), "NABE_STORAGE__READERS");
        assert_eq!(
            at_fault(text, &[("NABE_SERVER_NAME", "not a name")]),
            "NABE_SERVER_NAME"
        );
    }

    #[test]
    fn a_missing_server_name_is_the_fault_of_the_file_and_of_no_variable() {
        let error = load("[listen]\nplain_http = true\n", &[("NABE_LOG__LEVEL", "warn")]).unwrap_err();
        assert!(matches!(error, ConfigError::File { .. }), "{error}");
        assert!(error.to_string().contains("server_name"), "{error}");
    }

    #[test]
    fn a_table_can_come_from_the_environment_with_an_option_of_it_beside() {
        let variables = [
            ("NABE_STORAGE__READERS", "2"),
            ("NABE_STORAGE", "{ readers = 9, database = \"x.sqlite\" }"),
        ];
        let config = load(MINIMAL, &variables).unwrap();
        assert_eq!(config.storage.readers, 2);
        assert!(config.storage.database.ends_with("x.sqlite"));
    }

    #[cfg(unix)]
    #[test]
    fn only_a_variable_of_ours_must_be_utf8() {
        use std::os::unix::ffi::OsStringExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nabe.toml");
        fs::write(&path, MINIMAL).unwrap();
        let load = |name: &[u8]| {
            Config::load_with(
                &path,
                [(OsString::from_vec(name.to_vec()), OsString::from_vec(vec![0xff]))],
            )
        };
        for foreign in [&b"LESS"[..], b"\xff", b"NABE_CONFIG", b"NABE_TEST_X"] {
            assert!(load(foreign).is_ok(), "{foreign:?}");
        }
        for ours in [&b"NABE_DATA_DIR"[..], b"NABE_DATA_DIR\xff"] {
            let error = load(ours).unwrap_err();
            assert!(matches!(error, ConfigError::NotUtf8 { .. }), "{error}");
            assert!(error.to_string().contains("NABE_DATA_DIR"), "{error}");
        }
    }

    #[test]
    fn a_log_level_that_is_no_filter_is_an_error() {
        let error = load(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe=loud")]).unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::Rule {
                    option: "log.level",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("nabe=loud"), "{error}");
        assert!(load(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe_service=debug")]).is_ok());
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
