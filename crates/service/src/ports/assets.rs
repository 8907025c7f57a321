//! What the service asks of the web: files that users of MIMI providers have stored there (MIMI #download-files).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use nabe_types::ServerName;

use super::{PeerError, PeerStream};

/// Downloads of assets. Whoever stores them is told nothing of us but our address: no certificate, no name, no header of the request
/// that made us ask.
#[async_trait]
pub trait Assets: Send + Sync + 'static {
    /// Begins a download and returns the answer as it comes, any status included. `timeout` bounds everything up to its header; from
    /// there on the caller decides how long it waits. A redirect is followed within the URL's host and nowhere else.
    ///
    /// # Errors
    ///
    /// [`PeerError`] when there is no answer; [`PeerError::AddressRefused`] when the host is one inside our own network.
    async fn get(&self, url: &AssetUrl, timeout: Duration) -> Result<PeerStream, PeerError>;
}

/// Where an asset is: `https`, a DNS name without a port, a path. It holds no user name and no fragment, and is at most 8 KiB long.
#[derive(Clone, Eq, PartialEq)]
pub struct AssetUrl {
    host: ServerName,
    path: String,
}

impl AssetUrl {
    /// Reads a URL; `None` if it is none of an asset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_URL_BYTES {
            return None;
        }
        let rest = text.strip_prefix("https://")?;
        let (host, path) = rest.split_at(rest.find('/')?);
        let host = ServerName::parse(&host.to_ascii_lowercase()).ok()?;
        let is_visible = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        let is_fine = host.port().is_none() && path.bytes().all(is_visible);
        is_fine.then(|| Self {
            host,
            path: path.to_owned(),
        })
    }

    /// The host, in lower case.
    #[must_use]
    pub const fn host(&self) -> &ServerName {
        &self.host
    }

    /// Path and query, from the first `/` on.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The path can be a secret of the conversation: only the host is shown.
impl fmt::Debug for AssetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/…", self.host)
    }
}

const MAX_URL_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_below_a_dns_name_by_https() {
        let url = AssetUrl::parse("https://Files.B.example/x/y?z=%20").unwrap();
        assert_eq!((url.host().as_str(), url.path()), ("files.b.example", "/x/y?z=%20"));
        assert_eq!(format!("{url:?}"), "https://files.b.example/…");
    }

    #[test]
    fn what_leads_elsewhere_is_no_asset() {
        for text in [
            "http://b.example/x",
            "https://b.example",
            "https:///x",
            "https://b.example:8443/x",
            "https://b.example:443/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://me@b.example/x",
            "https://b.example@c.example/x",
            "https://b.example\\@c.example/x",
            "https://b.example/x#y",
            "https://b.example/x y",
            "https://b.example/x\r\ny",
            "ftp://b.example/x",
            "",
        ] {
            assert_eq!(AssetUrl::parse(text), None, "{text}");
        }
        let long = format!("https://b.example/{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(AssetUrl::parse(&long), None);
    }
}
