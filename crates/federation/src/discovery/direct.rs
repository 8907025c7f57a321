//! The authority of an `https` URL, as a name by itself: the addresses of its host, at its port or 443. No delegation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use nabe_types::ServerName;

use super::{Dns, Resolve, Target, Unresolvable, at_port};

/// [`Resolve`] for authorities of URLs.
pub(crate) struct Direct {
    dns: Arc<dyn Dns>,
    overrides: BTreeMap<ServerName, SocketAddr>,
}

impl Direct {
    /// The authorities of `overrides` are reached there, whatever DNS says.
    pub(crate) const fn new(dns: Arc<dyn Dns>, overrides: BTreeMap<ServerName, SocketAddr>) -> Self {
        Self { dns, overrides }
    }
}

#[async_trait]
impl Resolve for Direct {
    async fn resolve(&self, name: &ServerName) -> Result<Target, Unresolvable> {
        if let Some(&address) = self.overrides.get(name) {
            return Ok(Target::overridden(name, address));
        }
        at_port(&*self.dns, name, name.port().unwrap_or(HTTPS_PORT)).await
    }
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeDns, name};

    #[tokio::test]
    async fn an_authority_is_looked_up_as_it_stands() {
        let dns = Arc::new(
            FakeDns::default()
                .host("a.example", &["192.0.2.1", "2001:db8::1"])
                .srv("a.example", &[(1, 1, "elsewhere.example")]),
        );
        let address: SocketAddr = ([127, 0, 0, 1], 9).into();
        let direct = Direct::new(dns.clone(), BTreeMap::from([(name("b.example"), address)]));
        for (authority, port) in [("a.example", 443), ("a.example:8443", 8443)] {
            let target = direct.resolve(&name(authority)).await.unwrap();
            let expected = [format!("192.0.2.1:{port}"), format!("[2001:db8::1]:{port}")];
            assert_eq!(target.addresses, expected.map(|address| address.parse().unwrap()));
            assert_eq!((&*target.host_header, &*target.tls_name), (authority, "a.example"));
            assert!(!target.overridden);
        }
        assert_eq!(dns.asked(), ["a.example", "a.example"]);
        let target = direct.resolve(&name("b.example")).await.unwrap();
        assert_eq!((target.addresses, target.overridden), (vec![address], true));
        assert_eq!(direct.resolve(&name("c.example")).await, Err(Unresolvable));
    }
}
