//! The configuration file: strict TOML, each option also an environment variable.
//!
//! `NABE_LISTEN__ADDRESS=0.0.0.0:8448` overrides `address` in `[listen]`: the table and the option in capitals with two
//! underscores between them, a top-level option without (`NABE_SERVER_NAME`). A variable that is empty takes the option out of
//! the file; `""` is the empty string. Unknown options are errors that name the line or the variable. Relative paths start at
//! the folder of the file.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use nabe_event::RoomVersionRules;
use nabe_http::listener::ListenerLimits;
use nabe_service::{DeliverySettings, LimitSettings};
use nabe_types::{RoomVersionId, ServerName, ServerPattern, limits::MAX_BODY_BYTES};
use nabe_wire::uri::MimiUri;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

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
    /// Proxies that pass connections to `address` through and say by the PROXY protocol who connects.
    pub(crate) proxy_protocol_from: Vec<IpNet>,
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
    /// How long a request waits for the hub to take an event before it is answered as queued, milliseconds.
    pub(crate) echo_wait_ms: u64,
}

/// `[mls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mls {
    /// Post-quantum cipher suites, for rooms made here and for key packages of our users' devices.
    pub(crate) experimental_suites: bool,
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
    /// Bytes of a request body; at least a full transaction.
    pub(crate) body_bytes: usize,
    /// How long a peer may take nothing of its answer before it is cut off, milliseconds.
    pub(crate) stall_ms: u64,
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

/// Values that are well-formed and cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {rule}", options.join(", "))]
pub(crate) struct Broken {
    /// What the rule is about.
    options: &'static [&'static str],
    rule: String,
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
        hold(self.storage.readers > 0, &["storage.readers"], "must be at least 1")?;
        EnvFilter::try_new(&self.log.level).map_err(|error| Broken {
            options: &["log.level"],
            rule: format!("{:?}: {error}", self.log.level),
        })?;
        Ok(())
    }
}

impl Listen {
    fn check(&self) -> Result<(), Broken> {
        let (certificate, key) = (self.tls_certificate.is_some(), self.tls_key.is_some());
        hold(
            !self.plain_http || !(certificate || key),
            LISTEN_TLS,
            "plain_http does not go with tls_certificate and tls_key",
        )?;
        hold(
            self.plain_http || (certificate && key),
            LISTEN_TLS,
            "give tls_certificate and tls_key, or plain_http = true behind a proxy",
        )
    }
}

impl Mimi {
    fn check(&self, listen: &Listen) -> Result<(), Broken> {
        let Some(domain) = &self.domain else {
            return Ok(());
        };
        hold(
            MimiUri::parse(&format!("mimi://{domain}/u/x")).is_ok_and(|uri| uri.host() == domain.as_str()),
            &["mimi.domain"],
            "must be a DNS name in lower case, without a port",
        )?;
        hold(
            self.tls_certificate.is_some() == self.tls_key.is_some(),
            &["mimi.tls_certificate", "mimi.tls_key"],
            "tls_certificate and tls_key go together",
        )?;
        let shows = self.tls_certificate.is_some() || listen.tls_certificate.is_some();
        hold(
            shows,
            &["mimi.tls_certificate", "mimi.tls_key"],
            "providers show each other certificates, also behind a proxy",
        )?;
        let is_shared = self.address.is_none();
        hold(
            !is_shared || listen.plain_http || self.tls_certificate.is_none(),
            &["mimi.address", "mimi.tls_certificate", "mimi.tls_key"],
            "without an address of its own the certificate is that of [listen]",
        )?;
        hold(
            !is_shared || !listen.allow_tls12,
            &["mimi.address", "listen.allow_tls12"],
            "TLS 1.2 and MIMI do not share an address: give mimi.address",
        )?;
        hold(
            !is_shared || (!self.plain_http && self.proxy_protocol_from.is_empty()),
            &["mimi.address", "mimi.plain_http", "mimi.proxy_protocol_from"],
            "without an address of its own these are options of [listen]",
        )?;
        hold(
            self.header().is_some(),
            &["mimi.certificate_header"],
            "must be the name of a header",
        )?;
        hold(
            self.certificate_header.is_some() != self.certificate_header_from.is_empty(),
            &["mimi.certificate_header", "mimi.certificate_header_from"],
            "certificate_header and certificate_header_from go together",
        )?;
        let is_plain = match is_shared {
            true => listen.plain_http,
            false => self.plain_http,
        };
        hold(
            !is_plain || self.certificate_header.is_some(),
            &["mimi.certificate_header", "mimi.plain_http", "listen.plain_http"],
            "a proxy that ends TLS must tell of certificates: give certificate_header and certificate_header_from",
        )
    }
}

impl Client {
    fn check(&self) -> Result<(), Broken> {
        if let Some(version) = &self.default_room_version
            && RoomVersionRules::for_id(version).is_none()
        {
            return Err(Broken {
                options: &["client.default_room_version"],
                rule: format!("{version} is no room version that is known here"),
            });
        }
        hold(
            self.echo_wait_ms <= 60_000,
            &["client.echo_wait_ms"],
            "must be at most 60000",
        )
    }
}

impl Media {
    fn check(&self) -> Result<(), Broken> {
        hold(
            (MIN_FILE_OPTION..=MAX_FILE_OPTION).contains(&self.max_bytes),
            &["media.max_bytes"],
            "must be 65536 to 4294967296",
        )?;
        for (bytes, options) in [
            (
                self.user_bytes_per_day,
                &["media.user_bytes_per_day", "media.max_bytes"],
            ),
            (self.user_bytes, &["media.user_bytes", "media.max_bytes"]),
            (self.cache_bytes, &["media.cache_bytes", "media.max_bytes"]),
        ] {
            hold(
                (self.max_bytes..=MAX_FILES_OPTION).contains(&bytes),
                options,
                "must have room for at least one file of max_bytes, and at most 2^53 - 1 bytes",
            )?;
        }
        hold(
            self.folder != Path::new(""),
            &["media.folder"],
            "must name a folder of its own",
        )
    }
}

impl Delivery {
    fn check(&self) -> Result<(), Broken> {
        hold(
            (1..=self.retry_max_ms).contains(&self.retry_base_ms),
            &["delivery.retry_base_ms", "delivery.retry_max_ms"],
            "retry_base_ms must be at least 1 and at most retry_max_ms",
        )?;
        hold(
            self.retry_max_ms <= WEEK_MS,
            &["delivery.retry_max_ms"],
            "must be at most 604800000, a week",
        )?;
        hold(
            (1..=3_600_000).contains(&self.request_timeout_ms),
            &["delivery.request_timeout_ms"],
            "must be 1 to 3600000",
        )?;
        hold(self.outbox_limit > 0, &["delivery.outbox_limit"], "must be at least 1")
    }
}

impl Limits {
    fn check(&self) -> Result<(), Broken> {
        hold(
            self.requests_per_second.is_finite() && self.requests_per_second > 0.0,
            &["limits.requests_per_second"],
            "must be above zero",
        )?;
        hold(self.burst > 0, &["limits.burst"], "must be above zero")?;
        hold(
            (1..=MAX_CONNECTIONS).contains(&self.connections),
            &["limits.connections"],
            "must be 1 to 1000000",
        )?;
        hold(
            self.connections_per_address > 0,
            &["limits.connections_per_address"],
            "must be at least 1",
        )?;
        hold(
            (MAX_BODY_BYTES..=MAX_BODY_OPTION).contains(&self.body_bytes),
            &["limits.body_bytes"],
            "must be 9895936, the largest transaction, to 134217728",
        )?;
        hold(
            (1_000..=3_600_000).contains(&self.stall_ms),
            &["limits.stall_ms"],
            "must be 1000 to 3600000",
        )
    }
}

fn hold(holds: bool, options: &'static [&'static str], rule: &str) -> Result<(), Broken> {
    match holds {
        true => Ok(()),
        false => Err(Broken {
            options,
            rule: rule.into(),
        }),
    }
}

const LISTEN_TLS: &[&str] = &["listen.plain_http", "listen.tls_certificate", "listen.tls_key"];
const WEEK_MS: u64 = 7 * 24 * 3_600_000;
/// More than any system has file descriptors for one process.
const MAX_CONNECTIONS: usize = 1_000_000;
const MIN_FILE_OPTION: u64 = 64 * 1024;
const MAX_FILE_OPTION: u64 = 4 << 30;
/// What every program takes for the same number.
const MAX_FILES_OPTION: u64 = (1 << 53) - 1;
/// Half of what all request bodies together may take.
const MAX_BODY_OPTION: usize = 128 * 1024 * 1024;

/// How the message about the only option that every file needs begins.
const MISSING_NAME: &str = "missing field `server_name`";
/// How the message about an option that does not exist begins.
const UNKNOWN_NAME: &str = "unknown field";

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

/// Whether any configuration could have what this variable is named for.
fn is_option(variable: &str) -> bool {
    let mut table = toml::Table::new();
    let alone = BTreeMap::from([(variable.to_owned(), "0".to_owned())]);
    let fault = overlay(&mut table, &alone).map(|()| table.try_into::<Config>());
    !matches!(fault, Ok(Err(fault)) if fault.message().starts_with(UNKNOWN_NAME))
}

/// Writes the variables into the table; what an empty one is for is taken out.
fn overlay(table: &mut toml::Table, variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let path = option_path(name);
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
        match value.is_empty() {
            true => inner.remove(last),
            false => inner.insert(last.clone(), parse_value(value)),
        };
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

/// The variables to blame for a broken rule: the one without which the file and the others would be fine or break another
/// rule; if there is none, although the file alone is not to blame, those that set what the rule is about.
fn variables_that_break(file: &toml::Table, variables: &BTreeMap<String, String>, broken: &Broken) -> Vec<String> {
    let breaks_it = |variables: &BTreeMap<String, String>| {
        let mut table = file.clone();
        let config = overlay(&mut table, variables)
            .is_ok()
            .then(|| table.try_into::<Config>());
        // What cannot be read at all for want of a variable says nothing about the rule.
        !matches!(config, Some(Ok(config)) if config.check().as_ref() != Err(broken))
    };
    let decisive = variables.keys().find(|name| {
        let mut others = variables.clone();
        others.remove(*name);
        !breaks_it(&others)
    });
    if let Some(name) = decisive {
        return vec![name.clone()];
    }
    let sets_it = |name: &&String| {
        let path = option_path(name).join(".");
        broken
            .options
            .iter()
            .any(|option| *option == path || option.starts_with(&format!("{path}.")))
    };
    match toml::Table::try_into::<Config>(file.clone()) {
        Ok(config) if config.check().as_ref() == Err(broken) => Vec::new(),
        _ => variables.keys().filter(sets_it).cloned().collect(),
    }
}

/// `["listen", "address"]` for `NABE_LISTEN__ADDRESS`.
fn option_path(variable: &str) -> Vec<String> {
    let option = variable.strip_prefix(PREFIX).unwrap_or(variable);
    option.to_lowercase().split("__").map(str::to_owned).collect()
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

/// Whole milliseconds of a default, far from the limit.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A default that counts something: our own, and a small whole number.
const fn whole(count: f64) -> u32 {
    count as u32
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
            proxy_protocol_from: Vec::new(),
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
            echo_wait_ms: 5_000,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let delivery = DeliverySettings::default();
        Self {
            retry_base_ms: millis(delivery.backoff_base),
            retry_max_ms: millis(delivery.backoff_max),
            request_timeout_ms: millis(delivery.request_timeout),
            outbox_limit: LimitSettings::default().outbox_items,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (limits, listener) = (LimitSettings::default(), ListenerLimits::default());
        Self {
            room_cache_bytes: limits.room_memory_bytes,
            requests_per_second: limits.federation.per_second,
            burst: whole(limits.federation.burst),
            connections: listener.connections,
            connections_per_address: listener.connections_per_address,
            body_bytes: MAX_BODY_BYTES,
            stall_ms: millis(listener.stall),
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
                ("NABE_LISTEN__PROXY_PROTOCOL_FROM", "[\"192.0.2.0/24\"]"),
                ("NABE_REQUIRE_ALL", "1"),
            ],
        )
        .unwrap();
        assert_eq!(config.server_name.as_str(), "b.example");
        assert_eq!(config.listen.address, ([127, 0, 0, 1], 1).into());
        assert_eq!(config.storage.readers, 2);
        assert_eq!(config.federation.deny.len(), 1);
        assert_eq!(config.listen.proxy_protocol_from, ["192.0.2.0/24".parse().unwrap()]);
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

    /// The options of the rule that is broken, by the file.
    fn broken_by_file(text: &str, environment: &[(&str, &str)]) -> &'static [&'static str] {
        match load(text, environment).unwrap_err() {
            ConfigError::Rule { broken, .. } => broken.options,
            other => panic!("not the file: {other}"),
        }
    }

    /// The variables that break a rule together, and the sentence.
    fn broken_by(text: &str, environment: &[(&str, &str)]) -> (Vec<String>, String) {
        match load(text, environment).unwrap_err() {
            ConfigError::EnvironmentRule { names, broken } => (names, broken.to_string()),
            other => panic!("no variable is named: {other}"),
        }
    }

    #[test]
    fn a_log_level_that_is_no_filter_is_an_error() {
        let (names, rule) = broken_by(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe=loud")]);
        assert_eq!(names, ["NABE_LOG__LEVEL"]);
        assert!(rule.contains("log.level") && rule.contains("nabe=loud"), "{rule}");
        assert!(load(MINIMAL, &[("NABE_LOG__LEVEL", "info,nabe_service=debug")]).is_ok());
    }

    #[test]
    fn tls_files_and_plain_http_exclude_each_other() {
        let text = "server_name = \"a.example\"\n[listen]\nplain_http = true\ntls_key = \"k\"\n";
        assert_eq!(broken_by_file(text, &[]), LISTEN_TLS);
        assert_eq!(broken_by_file("server_name = \"a.example\"", &[]), LISTEN_TLS);
    }

    #[test]
    fn options_of_mimi_that_do_not_go_together_are_refused() {
        let own = "server_name = \"a.example\"\n[listen]\ntls_certificate = \"c\"\ntls_key = \"k\"\n[mimi]\n";
        let fine = |options: &str| load(&format!("{own}domain = \"a.example\"\n{options}"), &[]);
        for options in [
            "",
            "address = \"127.0.0.1:1\"\ntls_certificate = \"m\"\ntls_key = \"m\"\n",
            "address = \"127.0.0.1:1\"\nplain_http = true\ncertificate_header = \"Client-Cert\"\ncertificate_header_from = \
             [\"127.0.0.1/32\"]\n",
        ] {
            assert!(fine(options).is_ok(), "{options}: {:?}", fine(options));
        }
        // Who has no domain is no provider, whatever else is said.
        assert!(load(&format!("{own}tls_key = \"m\"\n"), &[]).is_ok());
        for (options, named) in [
            ("tls_key = \"m\"\n", "mimi.tls_certificate"),
            ("tls_certificate = \"m\"\ntls_key = \"m\"\n", "mimi.address"),
            ("plain_http = true\n", "mimi.address"),
            (
                "address = \"127.0.0.1:1\"\nplain_http = true\n",
                "mimi.certificate_header",
            ),
            ("certificate_header = \"x\"\n", "mimi.certificate_header_from"),
            (
                "certificate_header = \"not a name\"\ncertificate_header_from = [\"127.0.0.1/32\"]\n",
                "mimi.certificate_header",
            ),
        ] {
            let options = format!("{own}domain = \"a.example\"\n{options}");
            assert!(broken_by_file(&options, &[]).contains(&named), "{options}");
        }
        for domain in ["a.example:443", "A.example"] {
            let text = format!("{own}domain = \"{domain}\"\n");
            assert_eq!(broken_by_file(&text, &[]), ["mimi.domain"], "{domain}");
        }
        // Behind a proxy a provider still has a certificate to show, and someone has to say who calls.
        let plain = format!("{MINIMAL}[mimi]\ndomain = \"a.example\"\n");
        assert!(broken_by_file(&plain, &[]).contains(&"mimi.tls_certificate"));
        let shown = format!("{plain}tls_certificate = \"m\"\ntls_key = \"m\"\n");
        assert!(broken_by_file(&shown, &[]).contains(&"mimi.certificate_header"));
    }

    #[test]
    fn a_rule_that_a_variable_breaks_names_the_variable() {
        let also = ("NABE_STORAGE__DATABASE", "x.sqlite");
        let (names, rule) = broken_by(MINIMAL, &[also, ("NABE_STORAGE__READERS", "0")]);
        assert_eq!(names, ["NABE_STORAGE__READERS"]);
        assert!(rule.starts_with("storage.readers: "), "{rule}");
        // The other half of the pair is in the file.
        let text = format!("{MINIMAL}[delivery]\nretry_max_ms = 2000\n");
        let text = text.as_str();
        let (names, _) = broken_by(text, &[("NABE_DELIVERY__RETRY_BASE_MS", "5000")]);
        assert_eq!(names, ["NABE_DELIVERY__RETRY_BASE_MS"]);
        let sentence = load(text, &[("NABE_DELIVERY__RETRY_BASE_MS", "5000")]).unwrap_err();
        assert!(
            sentence.to_string().contains("NABE_DELIVERY__RETRY_BASE_MS"),
            "{sentence}"
        );
    }

    #[test]
    fn a_rule_that_variables_break_together_names_them_all_and_no_other() {
        let tls = [
            ("NABE_LISTEN__TLS_CERTIFICATE", "c"),
            ("NABE_LISTEN__TLS_KEY", "k"),
            ("NABE_LOG__LEVEL", "warn"),
        ];
        let (names, _) = broken_by(MINIMAL, &tls);
        assert_eq!(names, ["NABE_LISTEN__TLS_CERTIFICATE", "NABE_LISTEN__TLS_KEY"]);
    }

    #[test]
    fn a_rule_that_the_file_breaks_is_not_blamed_on_variables() {
        let text = format!("{MINIMAL}[storage]\nreaders = 0\n");
        assert_eq!(
            broken_by_file(&text, &[("NABE_LOG__LEVEL", "warn")]),
            ["storage.readers"]
        );
        // Also when the file cannot stand alone.
        let nameless = "[listen]\nplain_http = true\n[storage]\nreaders = 0\n";
        let error = load(nameless, &[("NABE_SERVER_NAME", "a.example")]).unwrap_err();
        assert!(matches!(error, ConfigError::Rule { .. }), "{error}");
    }

    #[test]
    fn values_that_no_server_could_work_with_are_refused() {
        for (name, value) in [
            ("NABE_LIMITS__CONNECTIONS", "0"),
            ("NABE_LIMITS__CONNECTIONS", "9223372036854775807"),
            ("NABE_LIMITS__CONNECTIONS_PER_ADDRESS", "0"),
            ("NABE_LIMITS__BODY_BYTES", "9895935"),
            ("NABE_LIMITS__STALL_MS", "999"),
            ("NABE_LIMITS__REQUESTS_PER_SECOND", "inf"),
            ("NABE_LIMITS__REQUESTS_PER_SECOND", "0.0"),
            ("NABE_LIMITS__BURST", "0"),
            ("NABE_DELIVERY__REQUEST_TIMEOUT_MS", "0"),
            ("NABE_DELIVERY__RETRY_MAX_MS", "9223372036854775807"),
            ("NABE_DELIVERY__OUTBOX_LIMIT", "0"),
            ("NABE_CLIENT__ECHO_WAIT_MS", "60001"),
            ("NABE_MEDIA__MAX_BYTES", "100"),
            ("NABE_MEDIA__MAX_BYTES", "9007199254740993"),
            ("NABE_MEDIA__CACHE_BYTES", "1000000"),
            ("NABE_MEDIA__USER_BYTES", "9223372036854775807"),
            ("NABE_MEDIA__USER_BYTES_PER_DAY", "1"),
            ("NABE_MEDIA__FOLDER", "\"\""),
            ("NABE_CLIENT__DEFAULT_ROOM_VERSION", "I.99"),
        ] {
            assert_eq!(broken_by(MINIMAL, &[(name, value)]).0, [name], "{value}");
        }
    }

    #[test]
    fn an_empty_variable_takes_the_option_out_of_the_file() {
        // The file of `nabe init`, behind a proxy.
        let text =
            "server_name = \"a.example\"\n[listen]\ntls_certificate = \"c\"\ntls_key = \"k\"\n[storage]\nreaders = 9\n";
        let proxied = [
            ("NABE_LISTEN__PLAIN_HTTP", "true"),
            ("NABE_LISTEN__TLS_CERTIFICATE", ""),
            ("NABE_LISTEN__TLS_KEY", ""),
            ("NABE_STORAGE", ""),
            // Nothing to take out.
            ("NABE_NOTARY__BURST", ""),
            ("NABE_PEER", ""),
        ];
        let config = load(text, &proxied).unwrap();
        assert!(config.listen.plain_http && config.listen.tls_certificate.is_none() && config.listen.tls_key.is_none());
        assert_eq!(config.storage.readers, Storage::default().readers);
        assert!(load(text, &proxied[..2]).is_err());
    }

    #[test]
    fn quotes_make_the_empty_string() {
        let folder = load(MINIMAL, &[("NABE_STORAGE__DATABASE", "\"\"")]).unwrap();
        assert!(folder.storage.database.ends_with("data"), "{folder:?}");
    }

    #[test]
    fn an_empty_variable_that_is_no_option_is_an_error_naming_it() {
        for name in ["NABE_LISTEN__TLS_KEI", "NABE_LISTN__TLS_KEY", "NABE_PLAIN_HTTP"] {
            let error = load(MINIMAL, &[(name, ""), ("NABE_LOG__LEVEL", "warn")]).unwrap_err();
            assert!(
                matches!(&error, ConfigError::Unknown { name: named } if named == name),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_taken_out_of_the_file_is_missed_and_the_variable_named() {
        assert_eq!(at_fault(MINIMAL, &[("NABE_SERVER_NAME", "")]), "NABE_SERVER_NAME");
    }

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let config = load(MINIMAL, &[]).unwrap();
        assert!(config.storage.database.is_absolute());
        assert!(config.storage.database.ends_with("data/nabe.sqlite"));
    }
}
