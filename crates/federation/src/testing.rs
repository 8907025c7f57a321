//! What the tests of several modules share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use nabe_service::ports::Entropy;
use nabe_types::ServerName;

use crate::discovery::{Dns, DnsError, SrvRecord};

pub(crate) fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

/// Always zero.
pub(crate) struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// A zone file, and the names that were looked up.
#[derive(Default)]
pub(crate) struct FakeDns {
    hosts: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    services: Mutex<BTreeMap<String, Vec<SrvRecord>>>,
    asked: Mutex<Vec<String>>,
}

impl FakeDns {
    pub(crate) fn host(self, host: &str, addresses: &[&str]) -> Self {
        self.set_host(host, addresses);
        self
    }

    pub(crate) fn set_host(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(host.to_owned(), addresses);
    }

    /// A record `(priority, port, target)` of `_matrix._tcp.host`.
    pub(crate) fn srv(self, host: &str, records: &[(u16, u16, &str)]) -> Self {
        let record = |&(priority, port, target): &(u16, u16, &str)| SrvRecord {
            priority,
            weight: 1,
            port,
            target: target.to_owned(),
        };
        self.services
            .lock()
            .unwrap()
            .insert(format!("_matrix._tcp.{host}"), records.iter().map(record).collect());
        self
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Dns for FakeDns {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.asked.lock().unwrap().push(host.to_owned());
        self.hosts.lock().unwrap().get(host).cloned().ok_or(DnsError)
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, DnsError> {
        self.asked.lock().unwrap().push(name.to_owned());
        Ok(self.services.lock().unwrap().get(name).cloned().unwrap_or_default())
    }
}
