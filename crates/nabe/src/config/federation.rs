//! `[federation]` and `[[peer]]`: which servers we talk to, and how.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use nabe_types::{ServerName, ServerPattern};
use serde::Deserialize;

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
