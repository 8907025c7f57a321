//! [`Dns`] of a running server: addresses by the system's resolver (`/etc/hosts` included, CNAMEs followed), SRV
//! records by asking the system's name servers.
//!
//! The rule that an SRV target is no alias (LM #int-resolve-domain) binds the peer that publishes the record; the
//! system's resolver does not show aliases, and the certificate is checked against the original name anyway.

use std::net::IpAddr;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::discovery::{Dns, DnsError, SrvRecord};

/// The system's DNS configuration, read once.
#[derive(Debug)]
pub struct SystemDns {
    resolver: Option<TokioResolver>,
}

impl SystemDns {
    /// Reads the system's configuration. Where there is none (no `/etc/resolv.conf`), SRV records cannot be looked
    /// up and discovery goes on without them.
    #[must_use]
    pub fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no DNS configuration: discovery works without SRV records");
        }
        Self {
            resolver: resolver.ok(),
        }
    }
}

impl Default for SystemDns {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Dns for SystemDns {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        // The port is not looked up; the resolver wants one.
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|_| DnsError)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found.map(|address| address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, DnsError> {
        let resolver = self.resolver.as_ref().ok_or(DnsError)?;
        // The final dot keeps the system's search domains out.
        let found = match resolver.srv_lookup(format!("{name}.")).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(Vec::new()),
            Err(_) => return Err(DnsError),
        };
        Ok(found
            .answers()
            .iter()
            .filter_map(|record| srv_record(&record.data))
            .collect())
    }
}

fn srv_record(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(srv) = data else {
        return None;
    };
    let target = srv.target.to_ascii();
    Some(SrvRecord {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: target.strip_suffix('.').unwrap_or(&target).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::SRV;

    use super::*;

    #[tokio::test]
    async fn the_systems_resolver_knows_localhost() {
        let addresses = SystemDns::new().addresses("localhost").await.unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[test]
    fn srv_targets_lose_their_final_dot_and_the_root_becomes_empty() {
        let record = |target: &str| srv_record(&RData::SRV(SRV::new(10, 5, 8448, Name::from_ascii(target).unwrap())));
        let expected = |target: &str| SrvRecord {
            priority: 10,
            weight: 5,
            port: 8448,
            target: target.to_owned(),
        };
        assert_eq!(record("a.example."), Some(expected("a.example")));
        assert_eq!(record("."), Some(expected("")));
    }
}
