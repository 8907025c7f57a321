//! `[listen]`: where others reach the server.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use nabe_types::ServerName;
use serde::Deserialize;

use super::rule::{Broken, hold};

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

impl Listen {
    pub(super) fn check(&self) -> Result<(), Broken> {
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

pub(super) const LISTEN_TLS: &[&str] = &["listen.plain_http", "listen.tls_certificate", "listen.tls_key"];
