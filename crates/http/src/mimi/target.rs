//! What a path names behind the name of its endpoint. Directories have one variable for it, which a caller fills with a whole URI,
//! escaped to be one segment; figures in the draft show the URI's host and path as they are. Both are read, by the path as it
//! came: a `%2F` is no `/`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nabe_types::ServerName;
use nabe_wire::uri::{MimiKind, MimiUri};
use percent_encoding::percent_decode_str;

use super::BASE;
use crate::error::mimi::MimiRefusal;

/// What stands in the path behind an endpoint's name, as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target(String);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = MimiRefusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MimiRefusal> {
        Self::of(parts.uri.path()).ok_or(MimiRefusal::UnknownEndpoint)
    }
}

impl Target {
    /// Of a path as it came; `None` unless it leads to an endpoint.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let below = path.strip_prefix(BASE)?.strip_prefix('/')?;
        let (_, target) = below.split_once('/')?;
        Some(Self(target.to_owned()))
    }

    /// The URI of a room: `mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse`, or `a.example/r/clubhouse`.
    ///
    /// # Errors
    ///
    /// [`MimiRefusal::BadTarget`]
    pub fn room(&self) -> Result<MimiUri, MimiRefusal> {
        self.uri(MimiKind::Room, "a room")
    }

    /// The URI of a user, in the same two forms.
    ///
    /// # Errors
    ///
    /// [`MimiRefusal::BadTarget`]
    pub fn user(&self) -> Result<MimiUri, MimiRefusal> {
        self.uri(MimiKind::User, "a user")
    }

    /// A provider's domain.
    ///
    /// # Errors
    ///
    /// [`MimiRefusal::BadTarget`]
    pub fn domain(&self) -> Result<ServerName, MimiRefusal> {
        self.segment()
            .and_then(|domain| ServerName::parse(&domain.to_ascii_lowercase()).ok())
            .filter(|domain| domain.port().is_none())
            .ok_or(MimiRefusal::BadTarget("a domain"))
    }

    /// The URI of a user, or a domain: the draft has both for consent (MIMI #convey-explicit-consent), and the body decides.
    ///
    /// # Errors
    ///
    /// [`MimiRefusal::BadTarget`]
    pub fn user_or_domain(&self) -> Result<ServerName, MimiRefusal> {
        let domain = match self.user() {
            Ok(user) => ServerName::parse(user.host()).ok(),
            Err(_) => self.domain().ok(),
        };
        domain.ok_or(MimiRefusal::BadTarget("a user or a domain"))
    }

    /// A URL, escaped to be one segment; of its parts nothing is checked here.
    ///
    /// # Errors
    ///
    /// [`MimiRefusal::BadTarget`]
    pub fn url(&self) -> Result<String, MimiRefusal> {
        self.segment().ok_or(MimiRefusal::BadTarget("a URL"))
    }

    fn uri(&self, kind: MimiKind, what: &'static str) -> Result<MimiUri, MimiRefusal> {
        let uri = match self.0.contains('/') {
            // Escapes in it belong to the URI.
            true => Some(format!("mimi://{}", self.0)),
            false => self.segment(),
        };
        let uri = uri.and_then(|uri| MimiUri::parse(&uri).ok());
        uri.filter(|uri| uri.kind() == kind).ok_or(MimiRefusal::BadTarget(what))
    }

    /// The only segment, its escapes taken off once.
    fn segment(&self) -> Option<String> {
        if self.0.contains('/') {
            return None;
        }
        let text = percent_decode_str(&self.0).decode_utf8().ok()?;
        Some(text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target(text.to_owned())
    }

    #[test]
    fn a_uri_is_one_escaped_segment_or_the_host_and_path() {
        for (text, uri) in [
            ("mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse", "mimi://a.example/r/clubhouse"),
            ("mimi%3a%2f%2fA.example%2fr%2fclubhouse", "mimi://a.example/r/clubhouse"),
            ("a.example/r/clubhouse", "mimi://a.example/r/clubhouse"),
            (
                "mimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house",
                "mimi://a.example/r/club%20house",
            ),
            ("a.example/r/club%20house", "mimi://a.example/r/club%20house"),
            ("a.example/r/club%2Fhouse", "mimi://a.example/r/club%2Fhouse"),
        ] {
            assert_eq!(target(text).room().unwrap().to_string(), uri, "{text}");
        }
    }

    #[test]
    fn what_names_no_room_is_refused() {
        for text in [
            "clubhouse",
            "a.example",
            "a.example%2Fr%2Fclubhouse",
            "mimi://a.example/r/clubhouse",
            "mimi%3A//a.example/r/clubhouse",
            "mimi%3A%2F%2Fa.example%2Fu%2Falice",
            "a.example/u/alice",
            "a.example:443/r/x",
            "a.example/r/",
            "/a.example/r/x",
            "mimi%3A%2F%2Fa.example%2Fr%2Fx%ff",
            "mimi%3A%2F%2Fa.example%2Fr%2Fx%",
            "mimi%3A%2F%2Fa.example%2Fr%2F%20",
            "https%3A%2F%2Fa.example%2Fr%2Fx",
        ] {
            assert_eq!(target(text).room(), Err(MimiRefusal::BadTarget("a room")), "{text}");
        }
    }

    #[test]
    fn users_domains_and_urls_are_told_apart() {
        let user = "mimi%3A%2F%2Fa.example%2Fu%2Falice";
        assert_eq!(target(user).user().unwrap().name(), "alice");
        assert_eq!(target("A.Example").domain().unwrap().as_str(), "a.example");
        for text in ["a.example:1", "a.example/x", "10.0.0.1", "", user] {
            assert!(target(text).domain().is_err(), "{text}");
        }
        for text in [user, "a.example/u/alice", "a.example"] {
            assert_eq!(target(text).user_or_domain().unwrap().as_str(), "a.example", "{text}");
        }
        assert!(target("a.example/r/x").user_or_domain().is_err());
        assert_eq!(
            target("https%3A%2F%2Fb.example%2Fx%3Fy").url().unwrap(),
            "https://b.example/x?y"
        );
        assert!(target("https://b.example/x").url().is_err());
    }
}
