//! An `https` URL as a request needs it: an authority to connect to, and a path.

use http::uri::PathAndQuery;
use nabe_types::ServerName;

/// An `https` URL whose host is a DNS name; neither user nor fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HttpsUrl {
    authority: ServerName,
    path: PathAndQuery,
}

impl HttpsUrl {
    /// `https://authority/path`; `None` unless `path` is one.
    pub(crate) fn new(authority: ServerName, path: &str) -> Option<Self> {
        let parsed: PathAndQuery = path.parse().ok()?;
        let is_unchanged = path.starts_with('/') && parsed.as_str() == path;
        is_unchanged.then_some(Self {
            authority,
            path: parsed,
        })
    }

    /// An absolute URL. `None` for other schemes, IP address literals, user names, fragments, and what is longer than
    /// [`MAX_URL_BYTES`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_URL_BYTES {
            return None;
        }
        let rest = text.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        Self::new(ServerName::parse(&authority.to_ascii_lowercase()).ok()?, path)
    }

    /// Where a `Location` leads: to another URL, or to another path of the same authority.
    pub(crate) fn redirected(&self, location: &str) -> Option<Self> {
        let is_path = location.starts_with('/') && !location.starts_with("//") && location.len() <= MAX_URL_BYTES;
        match is_path {
            true => Self::new(self.authority.clone(), location),
            false => Self::parse(location),
        }
    }

    /// Host and port, as the `Host` header has them.
    pub(crate) const fn authority(&self) -> &ServerName {
        &self.authority
    }

    /// Path and query.
    pub(crate) const fn path(&self) -> &PathAndQuery {
        &self.path
    }
}

/// A template with a URI of 1024 bytes in it, each of them escaped, and room for more.
const MAX_URL_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(url: &HttpsUrl) -> String {
        format!("https://{}{}", url.authority, url.path)
    }

    #[test]
    fn urls_are_read_as_they_stand() {
        for url in [
            "https://a.example/",
            "https://a.example:8443/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fx",
            "https://a.example/x?y=%20",
        ] {
            assert_eq!(text(&HttpsUrl::parse(url).unwrap()), url);
        }
        assert_eq!(
            text(&HttpsUrl::parse("https://A.example/X").unwrap()),
            "https://a.example/X"
        );
    }

    #[test]
    fn urls_that_leave_https_or_dns_names_are_refused() {
        for url in [
            "http://a.example/",
            "https://a.example",
            "https:///x",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://me@a.example/",
            "https://a.example:0/",
            "https://a.example/a b",
            "https://a.example/x#y",
        ] {
            assert_eq!(HttpsUrl::parse(url), None, "{url}");
        }
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        assert_eq!(HttpsUrl::parse(&long), None);
    }

    #[test]
    fn redirects_lead_to_urls_or_paths() {
        let url = HttpsUrl::parse("https://a.example/x").unwrap();
        for (location, expected) in [
            ("https://b.example/y", Some("https://b.example/y")),
            ("/y?z", Some("https://a.example/y?z")),
            ("//b.example/y", None),
            ("http://b.example/y", None),
            ("y", None),
            ("", None),
        ] {
            assert_eq!(
                url.redirected(location).as_ref().map(text).as_deref(),
                expected,
                "{location}"
            );
        }
    }
}
