//! Entry points for fuzz targets: each feeds bytes of a peer's choice to a parser and panics when what it promises
//! does not hold.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use nabe_signing::Object;
use nabe_types::UnixMillis;
use nabe_wire::directory::{Endpoint, Template};

use crate::discovery::well_known::{Answer, MAX_LIFETIME, interpret, lifetime, parse_body};
use crate::discovery::{WellKnownReply, WellKnownUrl};
use crate::mimi::Directory;
use crate::mimi::url::HttpsUrl;
use crate::peers::retry_after_body;

/// A body of `/.well-known/matrix/server`: a server name in it survives being written and read again.
pub fn well_known_body(body: &[u8]) {
    if let Some(server) = parse_body(body) {
        let document = format!(r#"{{"m.server":"{server}"}}"#);
        assert_eq!(parse_body(document.as_bytes()), Some(server));
    }
}

/// A `Cache-Control`, an `Expires` and an `Age` header, separated by line feeds: the lifetime is never above the cap.
pub fn cache_headers(text: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, value) in ["cache-control", "expires", "age"]
        .into_iter()
        .zip(text.split(|&byte| byte == b'\n'))
    {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    assert!(lifetime(&headers, UnixMillis(1_700_000_000_000)) <= MAX_LIFETIME);
}

/// A `Location` header: a URL that is followed is `https`, names no IP address and leads to itself again.
pub fn redirect(location: &[u8]) {
    let Ok(location) = HeaderValue::from_bytes(location) else {
        return;
    };
    let Some(start) = WellKnownUrl::of_host("example.org") else {
        return;
    };
    let headers = HeaderMap::from_iter([(http::header::LOCATION, location)]);
    let reply = WellKnownReply {
        status: 302,
        headers,
        body: Bytes::new(),
    };
    if let Answer::Redirects(url) = interpret(&start, &reply, UnixMillis(0)) {
        assert!(url.host().parse::<std::net::IpAddr>().is_err());
        assert_eq!(start.redirected(&url.to_string()), Some(url));
    }
}

/// A MIMI provider's directory: a template in it survives being written and read again, and a URL made from it names no IP address
/// and has what it was made for in one segment.
pub fn mimi_directory(body: &[u8]) {
    let Ok(directory) = Directory::parse(body) else {
        return;
    };
    for endpoint in Endpoint::ALL {
        let Some(Ok(template)) = directory.template(endpoint) else {
            continue;
        };
        assert_eq!(Template::parse(endpoint, &template.to_string()).as_ref(), Ok(template));
        if let Some(url) = HttpsUrl::parse(&template.expand("mimi://a.example/r/x")) {
            assert!(url.authority().host().parse::<std::net::IpAddr>().is_err());
            assert!(url.path().as_str().contains("mimi%3A%2F%2Fa.example%2Fr%2Fx"));
        }
    }
}

/// The body of an error answer.
pub fn error_body(body: &[u8]) {
    if let Ok(object) = Object::parse(body) {
        let _wait = retry_after_body(&object);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parsers_keep_their_promises_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            well_known_body(&bytes);
            cache_headers(&bytes);
            redirect(&bytes);
            mimi_directory(&bytes);
            error_body(&bytes);
        }

        #[test]
        fn parsers_keep_their_promises_on_what_looks_right(
            server in "[a-z0-9.:\\-\\[\\]]{0,20}",
            age in "(max-age|no-store|Max-Age)?[=, \"]{0,2}[0-9]{0,25}",
            location in "(https://|//|/|\\?)?[a-zA-Z0-9./:?#%@-]{0,30}",
            template in "(https://)?[a-zA-Z0-9.:@-]{0,20}/?[a-zA-Z0-9./?#%{}-]{0,10}(\\{roomId\\}[a-z/?{}]{0,5})?",
        ) {
            well_known_body(format!(r#"{{"m.server":"{server}"}}"#).as_bytes());
            cache_headers(age.as_bytes());
            redirect(location.as_bytes());
            mimi_directory(format!(r#"{{"update":"{template}"}}"#).as_bytes());
        }
    }
}
