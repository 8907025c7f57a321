//! The address of a `.well-known` document, and where a redirect leads (LM #int-wellknown).

use std::fmt;

use http::uri::PathAndQuery;
use nabe_types::ServerName;

/// An `https` URL whose host is a DNS name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WellKnownUrl {
    authority: ServerName,
    path: PathAndQuery,
}

impl WellKnownUrl {
    /// `https://host/.well-known/matrix/server`; `None` unless `host` is a DNS host name.
    #[must_use]
    pub fn of_host(host: &str) -> Option<Self> {
        Some(Self {
            authority: ServerName::parse(host).ok()?,
            path: PathAndQuery::from_static("/.well-known/matrix/server"),
        })
    }

    /// The host to look up and to expect in the certificate.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port to connect to, 443 unless the URL says otherwise.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port().unwrap_or(443)
    }

    /// The `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Path and query.
    #[must_use]
    pub const fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The URL that a `Location` header with this value leads to (RFC 9110 §10.2.2). `None` for other schemes than
    /// `https`, IP address literals, user names, and what is no URL reference at all.
    #[must_use]
    pub fn redirected(&self, location: &str) -> Option<Self> {
        if location.len() > MAX_LOCATION_BYTES {
            return None;
        }
        let location = location.split_once('#').map_or(location, |(before, _)| before);
        if let Some(rest) = strip_https(location).or_else(|| location.strip_prefix("//")) {
            let split = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(split);
            return Some(Self {
                authority: ServerName::parse(authority).ok()?,
                path: absolute_path(path)?,
            });
        }
        let before_path = location.split(['/', '?']).next().unwrap_or(location);
        if before_path.contains(':') {
            return None;
        }
        let path = match location.chars().next() {
            None => return Some(self.clone()),
            Some('/') => absolute_path(location)?,
            Some('?') => absolute_path(&format!("{}{location}", self.path.path()))?,
            Some(_) => {
                let directory = self.path.path().rsplit_once('/').map_or("", |(directory, _)| directory);
                absolute_path(&format!("{directory}/{location}"))?
            }
        };
        Some(Self {
            authority: self.authority.clone(),
            path,
        })
    }
}

impl fmt::Display for WellKnownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority, self.path)
    }
}

fn strip_https(location: &str) -> Option<&str> {
    let (scheme, rest) = location.split_at_checked("https://".len())?;
    scheme.eq_ignore_ascii_case("https://").then_some(rest)
}

/// `path` as it goes into a request line: empty becomes `/`, and a bare query gets its `/`.
fn absolute_path(path: &str) -> Option<PathAndQuery> {
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    path.parse().ok()
}

const MAX_LOCATION_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(location: &str) -> Option<String> {
        WellKnownUrl::of_host("example.org")
            .unwrap()
            .redirected(location)
            .map(|url| url.to_string())
    }

    #[test]
    fn locations_are_resolved_against_the_document() {
        for (location, expected) in [
            ("https://other.example/x?y=1#z", "https://other.example/x?y=1"),
            ("HTTPS://other.example", "https://other.example/"),
            ("https://other.example:8443?q", "https://other.example:8443/?q"),
            ("//other.example/x", "https://other.example/x"),
            ("/elsewhere", "https://example.org/elsewhere"),
            ("server.json", "https://example.org/.well-known/matrix/server.json"),
            ("?v=2", "https://example.org/.well-known/matrix/server?v=2"),
            ("", "https://example.org/.well-known/matrix/server"),
        ] {
            assert_eq!(redirected(location).as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn locations_that_leave_https_or_dns_names_are_refused() {
        for location in [
            "http://other.example/",
            "ftp://other.example/",
            "javascript:alert(1)",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://user@other.example/",
            "https://other.example:0/",
            "https:///x",
            "//",
            "/a b",
        ] {
            assert_eq!(redirected(location), None, "{location}");
        }
        assert_eq!(redirected(&format!("/{}", "x".repeat(2048))), None);
    }
}
