//! What a run needs to know: where the subject is, and who the checker's own servers are.

use std::net::SocketAddr;
use std::time::Duration;

use nabe_types::ServerName;

use crate::Authority;

/// The server that is checked.
#[derive(Clone, Debug)]
pub struct SubjectConfig {
    /// Where both its APIs are, `https://host[:port]` without a path.
    pub base_url: String,
    /// Connect here instead of to what the URL's host resolves to.
    pub address: Option<SocketAddr>,
    /// Its server name.
    pub server_name: ServerName,
    /// The CA, PEM, that vouches for its certificate.
    pub ca_pem: String,
    /// The provider credential of its client API.
    pub provider_token: String,
    /// Where it is a provider of MIMI; the suites of MIMI need it.
    pub mimi: Option<MimiSubjectConfig>,
}

/// The subject as a provider of MIMI.
#[derive(Clone, Debug)]
pub struct MimiSubjectConfig {
    /// Its domain.
    pub domain: ServerName,
    /// Connect here instead of to port 443 of the domain, and of whatever its directory names.
    pub address: Option<SocketAddr>,
}

/// The checker's side.
#[derive(Clone, Debug)]
pub struct CheckerConfig {
    /// Names and addresses of the servers it plays.
    pub peers: PeerNames,
    /// The providers of MIMI it plays, by domain. The subject must find them at these addresses: a domain has no port.
    pub mimi_peers: Vec<FixedPeer>,
    /// Who vouches for their certificates. The subject must trust it.
    pub authority: Authority,
    /// What their signing keys are derived from, so that a name has the same key in every run.
    pub seed: [u8; 32],
    /// How long to wait for something that should happen.
    pub deadline: Duration,
    /// How many cases run at once, at least 1.
    pub concurrency: usize,
    /// A command for the shell that ends the subject as a power cut would, and has it start again with what it has stored. Cases that need it
    /// are skipped if there is none. They run last and alone.
    pub restart_command: Option<String>,
}

/// Which servers the checker can play.
#[derive(Clone, Debug)]
pub enum PeerNames {
    /// As many as needed, each named `host:port` after a free port of 127.0.0.1. `host` (such as `localhost`) must
    /// resolve to 127.0.0.1 at the subject, which must not refuse to connect to it.
    Loopback {
        /// The host part of all names.
        host: String,
    },
    /// These and no more. A case that needs more is skipped, and so are cases that need a server the subject has never
    /// heard of, since these ones keep their names.
    Fixed(Vec<FixedPeer>),
}

/// A server the checker plays under a name that the subject can resolve.
#[derive(Clone, Debug)]
pub struct FixedPeer {
    /// Its server name.
    pub server_name: ServerName,
    /// Where to listen for what arrives under that name.
    pub listen: SocketAddr,
}

impl CheckerConfig {
    /// Servers on loopback named after `localhost`, 10 seconds of patience, four cases at once.
    #[must_use]
    pub fn loopback(authority: Authority) -> Self {
        Self {
            peers: PeerNames::Loopback {
                host: "localhost".to_owned(),
            },
            mimi_peers: Vec::new(),
            authority,
            seed: [0x42; 32],
            deadline: Duration::from_secs(10),
            concurrency: 4,
            restart_command: None,
        }
    }
}
