//! Which servers we talk to: an operator's allow-list and deny-list. Not part of the draft.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{InvalidId, ServerName};

/// Names one server or a family of them: `example.org`, `example.org:8448`, `*.example.org` or `*`.
///
/// Matching ignores case, although server names differ by case (LM #int-server-names): DNS leads all spellings to
/// the same operator. A pattern without port covers every port of the host. `*.example.org` covers names below
/// `example.org`, not `example.org` itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerPattern(Pattern);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    All,
    Exact(ServerName),
    Below(ServerName),
}

/// Not a server name, `*.` and a server name, or `*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a server name, `*.` followed by one, or `*`: {0}")]
pub struct InvalidServerPattern(#[from] InvalidId);

impl ServerPattern {
    /// Reads a pattern. Fails unless it is `*`, or a server name after an optional `*.`.
    pub fn parse(text: &str) -> Result<Self, InvalidServerPattern> {
        if text == "*" {
            return Ok(Self(Pattern::All));
        }
        Ok(Self(match text.strip_prefix("*.") {
            Some(suffix) => Pattern::Below(ServerName::parse(suffix)?),
            None => Pattern::Exact(ServerName::parse(text)?),
        }))
    }

    /// Whether `server` is the one or among those named.
    #[must_use]
    pub fn matches(&self, server: &ServerName) -> bool {
        match &self.0 {
            Pattern::All => true,
            Pattern::Exact(name) => port_matches(name, server) && server.host().eq_ignore_ascii_case(name.host()),
            Pattern::Below(suffix) => port_matches(suffix, server) && is_below(server.host(), suffix.host()),
        }
    }
}

impl fmt::Display for ServerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::All => f.write_str("*"),
            Pattern::Exact(name) => name.fmt(f),
            Pattern::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl FromStr for ServerPattern {
    type Err = InvalidServerPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ServerPattern {
    type Error = InvalidServerPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ServerPattern> for String {
    fn from(pattern: ServerPattern) -> Self {
        pattern.to_string()
    }
}

/// Whom we federate with. The default permits everyone. Our own name is not special here; ask only about peers.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerPolicy {
    /// If not empty, only these servers are permitted.
    pub allow: Vec<ServerPattern>,
    /// Never permitted, even when also in `allow`.
    pub deny: Vec<ServerPattern>,
}

impl ServerPolicy {
    /// Whether we may exchange anything with `server`.
    #[must_use]
    pub fn permits(&self, server: &ServerName) -> bool {
        let named_in = |patterns: &[ServerPattern]| patterns.iter().any(|pattern| pattern.matches(server));
        !named_in(&self.deny) && (self.allow.is_empty() || named_in(&self.allow))
    }
}

fn port_matches(pattern: &ServerName, server: &ServerName) -> bool {
    pattern.port().is_none() || pattern.port() == server.port()
}

fn is_below(host: &str, suffix: &str) -> bool {
    let Some(start) = host.len().checked_sub(suffix.len()) else {
        return false;
    };
    // Hosts are ASCII, so `start` is a character boundary; a name that begins with the dot cannot parse.
    host.as_bytes()[..start].ends_with(b".") && host[start..].eq_ignore_ascii_case(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> ServerPolicy {
        let read = |list: &[&str]| list.iter().map(|text| ServerPattern::parse(text).unwrap()).collect();
        ServerPolicy {
            allow: read(allow),
            deny: read(deny),
        }
    }

    fn permits(policy: &ServerPolicy, server: &str) -> bool {
        policy.permits(&ServerName::parse(server).unwrap())
    }

    #[test]
    fn empty_policy_permits_everyone() {
        assert!(permits(&ServerPolicy::default(), "example.org"));
    }

    #[test]
    fn deny_wins_over_allow() {
        let policy = policy(&["*.example.org"], &["bad.example.org"]);
        assert!(permits(&policy, "good.example.org"));
        assert!(!permits(&policy, "bad.example.org"));
    }

    #[test]
    fn allow_list_shuts_out_the_rest() {
        let policy = policy(&["a.example"], &[]);
        assert!(permits(&policy, "a.example"));
        assert!(!permits(&policy, "b.example"));
    }

    #[test]
    fn wildcard_covers_names_below_only() {
        let policy = policy(&[], &["*.evil.example"]);
        for (server, permitted) in [
            ("evil.example", true),
            ("notevil.example", true),
            ("x.evil.example", false),
            ("x.y.evil.example:8448", false),
            ("x.EVIL.example", false),
            ("example", true),
        ] {
            assert_eq!(permits(&policy, server), permitted, "{server}");
        }
    }

    #[test]
    fn pattern_without_port_covers_every_port() {
        let any_port = policy(&[], &["evil.example"]);
        assert!(!permits(&any_port, "Evil.example:1"));
        let one_port = policy(&[], &["evil.example:1"]);
        assert!(!permits(&one_port, "evil.example:1"));
        assert!(permits(&one_port, "evil.example:2"));
        assert!(permits(&one_port, "evil.example"));
    }

    #[test]
    fn star_covers_everyone() {
        assert!(!permits(&policy(&[], &["*"]), "example.org"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in ["", "*.", "**", "*example.org", "a.*.example", "1.2.3.4"] {
            assert!(ServerPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn policy_reads_from_configuration() {
        let read: ServerPolicy = serde_json::from_str(r#"{"deny":["*.evil.example","a.example:1"]}"#).unwrap();
        assert_eq!(read, policy(&[], &["*.evil.example", "a.example:1"]));
        assert_eq!(
            serde_json::to_string(&read.deny).unwrap(),
            r#"["*.evil.example","a.example:1"]"#
        );
    }
}
