//! What an answer to `GET /.well-known/matrix/server` means, and for how long (LM #int-wellknown).

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderName, LOCATION};
use nabe_signing::Object;
use nabe_signing::json::Limits;
use nabe_types::{ServerName, UnixMillis};

use super::{MAX_WELL_KNOWN_BYTES, WellKnownReply, WellKnownUrl};

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Delegates(Delegation),
    Redirects(WellKnownUrl),
    /// Go on as if there were no document.
    Invalid,
}

/// A valid document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Delegation {
    /// `m.server`.
    pub(crate) server: ServerName,
    /// How long the document may be used.
    pub(crate) lifetime: Duration,
}

/// Reads the answer that `url` gave.
pub(crate) fn interpret(url: &WellKnownUrl, reply: &WellKnownReply, now: UnixMillis) -> Answer {
    match reply.status {
        200 => parse_body(&reply.body).map_or(Answer::Invalid, |server| {
            Answer::Delegates(Delegation {
                server,
                lifetime: lifetime(&reply.headers, now),
            })
        }),
        301 | 302 | 303 | 307 | 308 => header(&reply.headers, LOCATION)
            .and_then(|location| url.redirected(location))
            .map_or(Answer::Invalid, Answer::Redirects),
        _ => Answer::Invalid,
    }
}

/// `m.server` of a body, whatever its content type. `None` unless the body is a JSON object with a server name
/// there: IP address literals are none.
pub(crate) fn parse_body(body: &[u8]) -> Option<ServerName> {
    let limits = Limits {
        max_bytes: MAX_WELL_KNOWN_BYTES,
        ..Limits::default()
    };
    let document = Object::parse_with(body, limits).ok()?;
    ServerName::parse(document.get("m.server")?.as_str()?).ok()
}

/// How long a `200 OK` may be used by its cache headers (RFC 9111 §4.2): at most 48 hours, 24 when they say nothing.
pub(crate) fn lifetime(headers: &HeaderMap, now: UnixMillis) -> Duration {
    explicit_lifetime(headers, now)
        .unwrap_or(DEFAULT_LIFETIME)
        .min(MAX_LIFETIME)
}

/// What the headers say; `None` when they say nothing.
pub(crate) fn explicit_lifetime(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let control = CacheControl::parse(headers);
    if control.forbidden {
        return Some(Duration::ZERO);
    }
    let fresh_for = match control.max_age {
        Some(max_age) => max_age,
        None => expires_after(headers, now)?,
    };
    let age = header(headers, AGE).and_then(seconds).unwrap_or_default();
    Some(fresh_for.saturating_sub(age))
}

/// The directives of `Cache-Control` that matter to a private cache.
#[derive(Debug, Default)]
struct CacheControl {
    /// `no-store` or `no-cache`: ask again each time.
    forbidden: bool,
    max_age: Option<Duration>,
}

impl CacheControl {
    fn parse(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let values = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(|value| value.split(',')) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => control.forbidden = true,
                "max-age" => {
                    // A malformed age counts as stale; of several the shortest counts (RFC 9111 §4.2.1).
                    let age = seconds(argument.trim().trim_matches('"')).unwrap_or_default();
                    control.max_age = Some(control.max_age.map_or(age, |other| other.min(age)));
                }
                _ => {}
            }
        }
        control
    }
}

/// From `Date` (or now) to `Expires`; an `Expires` that is no date is in the past (RFC 9111 §5.3).
fn expires_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let expires = headers.get(EXPIRES)?;
    let Some(expires) = expires.to_str().ok().and_then(http_date) else {
        return Some(Duration::ZERO);
    };
    let date = header(headers, DATE).and_then(http_date).unwrap_or(now);
    Some(expires.saturating_since(date))
}

fn http_date(text: &str) -> Option<UnixMillis> {
    let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixMillis::ZERO.plus(since_epoch))
}

/// Delta-seconds (RFC 9111 §1.2.2): digits only, too many of them mean very long.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()))
}

pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The longest an answer is used, whatever its headers say.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_hours(48);
const DEFAULT_LIFETIME: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn lifetimes_follow_the_cache_headers_between_zero_and_48_hours() {
        let now = UnixMillis(1_704_067_200_000); // Mon, 01 Jan 2024 00:00:00 GMT
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (pairs, expected) in [
            (&[][..], hours(24)),
            (&[("cache-control", "public")], hours(24)),
            (&[("cache-control", "max-age=3600")], hours(1)),
            (&[("cache-control", "public, MAX-AGE=\"7200\"")], hours(2)),
            (
                &[("cache-control", "max-age=3600"), ("cache-control", "max-age=60")],
                Duration::from_secs(60),
            ),
            (&[("cache-control", "max-age=7200"), ("age", "3600")], hours(1)),
            (&[("cache-control", "max-age=10"), ("age", "3600")], Duration::ZERO),
            (&[("cache-control", "max-age=31536000")], hours(48)),
            (&[("cache-control", "max-age=99999999999999999999999")], hours(48)),
            (&[("cache-control", "max-age=soon")], Duration::ZERO),
            (&[("cache-control", "max-age=3600, no-store")], Duration::ZERO),
            (&[("cache-control", "no-cache")], Duration::ZERO),
            (&[("expires", "Mon, 01 Jan 2024 03:00:00 GMT")], hours(3)),
            (
                &[
                    ("expires", "Mon, 01 Jan 2024 03:00:00 GMT"),
                    ("date", "Mon, 01 Jan 2024 01:00:00 GMT"),
                ],
                hours(2),
            ),
            (
                &[
                    ("expires", "Mon, 01 Jan 2024 03:00:00 GMT"),
                    ("cache-control", "max-age=60"),
                ],
                Duration::from_secs(60),
            ),
            (&[("expires", "Sun, 31 Dec 2023 03:00:00 GMT")], Duration::ZERO),
            (&[("expires", "0")], Duration::ZERO),
        ] {
            assert_eq!(lifetime(&headers(pairs), now), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_body_must_be_a_json_object_with_a_server_name() {
        let server = |body: &str| parse_body(body.as_bytes()).map(|server| server.to_string());
        assert_eq!(
            server(r#"{"m.server": "d.example:443", "other": 1}"#).as_deref(),
            Some("d.example:443")
        );
        for body in [
            "",
            "<html></html>",
            "[]",
            "{}",
            r#"{"m.server": 1}"#,
            r#"{"m.server": null}"#,
            r#"{"m.server": ""}"#,
            r#"{"m.server": "10.0.0.1"}"#,
            r#"{"m.server": "10.0.0.1:8448"}"#,
            r#"{"m.server": "[::1]:8448"}"#,
            r#"{"m.server": "d.example:0"}"#,
            r#"{"m.server": "d.example/path"}"#,
            r#"{"m.server": "https://d.example"}"#,
            r#"{"m.server": "d.example"} trailing"#,
        ] {
            assert_eq!(server(body), None, "{body}");
        }
        let long = format!(
            r#"{{"m.server":"d.example","pad":"{}"}}"#,
            "x".repeat(MAX_WELL_KNOWN_BYTES)
        );
        assert_eq!(server(&long), None);
    }
}
