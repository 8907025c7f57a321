//! Tests of discovery: each step of LM #int-resolve-domain, each way in which a `.well-known` answer can be bad, and
//! the cache in virtual time.

use std::sync::Mutex;

use http::HeaderMap;
use nabe_service::ports::ManualClock;
use nabe_types::UnixMillis;

use super::*;
use crate::testing::{FakeDns, NoEntropy, name};

type Headers = &'static [(&'static str, &'static str)];

/// Web servers by URL, and the URLs that were fetched.
#[derive(Default)]
struct FakeWeb {
    pages: Mutex<BTreeMap<String, WellKnownReply>>,
    fetched: Mutex<Vec<String>>,
    silent: bool,
}

impl FakeWeb {
    fn page(self, url: &str, status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
        self.set_page(url, status, headers, body);
        self
    }

    fn set_page(&self, url: &str, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let reply = WellKnownReply {
            status,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.pages.lock().unwrap().insert(url.to_owned(), reply);
    }

    fn delegating(to: &str) -> Self {
        Self::default().page(DOCUMENT, 200, &[], &format!(r#"{{"m.server":"{to}"}}"#))
    }

    fn redirecting(from: &str, to: &str) -> Self {
        Self::default().page(from, 302, &[("location", to)], "")
    }

    fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.fetched.lock().unwrap())
    }
}

#[async_trait]
impl WellKnown for FakeWeb {
    async fn get(&self, url: &WellKnownUrl) -> Result<WellKnownReply, WellKnownError> {
        self.fetched.lock().unwrap().push(url.to_string());
        if self.silent {
            std::future::pending::<()>().await;
        }
        self.pages
            .lock()
            .unwrap()
            .get(&url.to_string())
            .cloned()
            .ok_or(WellKnownError)
    }
}

struct World {
    dns: Arc<FakeDns>,
    web: Arc<FakeWeb>,
    clock: ManualClock,
    discovery: Discovery,
}

fn world(dns: FakeDns, web: FakeWeb) -> World {
    let (dns, web, clock) = (
        Arc::new(dns),
        Arc::new(web),
        ManualClock::new(UnixMillis(1_700_000_000_000)),
    );
    let discovery = Discovery::new(
        Arc::clone(&dns) as _,
        Arc::clone(&web) as _,
        Arc::new(clock.clone()),
        Arc::new(NoEntropy),
    );
    World {
        dns,
        web,
        clock,
        discovery,
    }
}

fn zone() -> FakeDns {
    FakeDns::default()
        .host("example.org", &["1.0.0.1"])
        .host("d.example", &["1.0.0.2"])
        .host("srv.example", &["1.0.0.3", "2606::3"])
}

fn target(addresses: &[&str], host_header: &str, tls_name: &str) -> Target {
    Target {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        host_header: host_header.to_owned(),
        tls_name: tls_name.to_owned(),
        overridden: false,
    }
}

async fn resolve(world: &World, server: &str) -> Result<Target, Unresolvable> {
    world.discovery.resolve(&name(server)).await
}

const DOCUMENT: &str = "https://example.org/.well-known/matrix/server";

#[tokio::test]
async fn step_1_an_explicit_port_is_used_literally_without_well_known_or_srv() {
    let world = world(
        zone().srv("example.org", &[(1, 1, "srv.example")]),
        FakeWeb::delegating("d.example"),
    );
    assert_eq!(
        resolve(&world, "example.org:3000").await,
        Ok(target(&["1.0.0.1:3000"], "example.org:3000", "example.org"))
    );
    assert_eq!(world.web.fetched(), Vec::<String>::new());
    assert_eq!(world.dns.asked(), ["example.org"]);
}

#[tokio::test]
async fn step_2_1_a_delegated_port_is_used_without_srv() {
    let world = world(
        zone().srv("d.example", &[(1, 1, "srv.example")]),
        FakeWeb::delegating("d.example:443"),
    );
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.2:443"], "d.example:443", "d.example"))
    );
    assert_eq!(world.dns.asked(), ["d.example"]);
}

#[tokio::test]
async fn step_2_3_srv_of_the_delegated_host_keeps_the_delegated_names() {
    let world = world(
        zone().srv("d.example", &[(1, 5000, "srv.example")]),
        FakeWeb::delegating("d.example"),
    );
    let expected = target(&["1.0.0.3:5000", "[2606::3]:5000"], "d.example", "d.example");
    assert_eq!(resolve(&world, "example.org").await, Ok(expected));
    assert_eq!(world.dns.asked(), ["_matrix._tcp.d.example", "srv.example"]);
}

#[tokio::test]
async fn step_2_4_a_delegated_host_without_srv_is_reached_at_8448() {
    let world = world(zone(), FakeWeb::delegating("d.example"));
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.2:8448"], "d.example", "d.example"))
    );
}

#[tokio::test]
async fn step_3_without_well_known_srv_of_the_host_keeps_its_names() {
    let world = world(
        zone().srv("example.org", &[(1, 5000, "srv.example")]),
        FakeWeb::default(),
    );
    let expected = target(&["1.0.0.3:5000", "[2606::3]:5000"], "example.org", "example.org");
    assert_eq!(resolve(&world, "example.org").await, Ok(expected));
}

#[tokio::test]
async fn step_4_without_anything_the_host_is_reached_at_8448() {
    let world = world(zone(), FakeWeb::default());
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.1:8448"], "example.org", "example.org"))
    );
}

#[tokio::test]
async fn a_bad_well_known_answer_falls_through_to_srv_and_to_8448() {
    let pages: [(u16, Headers, &str); 11] = [
        (500, &[], r#"{"m.server":"d.example"}"#),
        (404, &[], r#"{"m.server":"d.example"}"#),
        (204, &[], ""),
        (200, &[("content-type", "text/html")], "<html></html>"),
        (200, &[], r#"{"server":"d.example"}"#),
        (200, &[], r#"{"m.server":["d.example"]}"#),
        (200, &[], r#"{"m.server":"10.0.0.1:443"}"#),
        (200, &[], r#"{"m.server":"[::1]"}"#),
        (200, &[], r#"{"m.server":"d.example/x"}"#),
        (302, &[], ""),
        (302, &[("location", "http://example.org/plain")], ""),
    ];
    for (status, headers, body) in pages {
        let web = || FakeWeb::default().page(DOCUMENT, status, headers, body);
        let with_srv = world(zone().srv("example.org", &[(1, 5000, "d.example")]), web());
        let expected = target(&["1.0.0.2:5000"], "example.org", "example.org");
        assert_eq!(resolve(&with_srv, "example.org").await, Ok(expected), "{status} {body}");
        let without_srv = world(zone(), web());
        let expected = target(&["1.0.0.1:8448"], "example.org", "example.org");
        assert_eq!(
            resolve(&without_srv, "example.org").await,
            Ok(expected),
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn the_content_type_of_the_document_does_not_matter() {
    let web = FakeWeb::default().page(
        DOCUMENT,
        200,
        &[("content-type", "text/plain")],
        r#"{"m.server":"d.example:1"}"#,
    );
    assert_eq!(
        resolve(&world(zone(), web), "example.org").await,
        Ok(target(&["1.0.0.2:1"], "d.example:1", "d.example"))
    );
}

#[tokio::test]
async fn redirects_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        let web = FakeWeb::default()
            .page(DOCUMENT, status, &[("location", "https://www.example/a")], "")
            .page("https://www.example/a", status, &[("location", "/b")], "")
            .page("https://www.example/b", 200, &[], r#"{"m.server":"d.example:1"}"#);
        let expected = target(&["1.0.0.2:1"], "d.example:1", "d.example");
        assert_eq!(
            resolve(&world(zone(), web), "example.org").await,
            Ok(expected),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_redirect_loop_falls_through_after_visiting_each_page_once() {
    let web = FakeWeb::redirecting(DOCUMENT, "/b").page("https://example.org/b", 302, &[("location", DOCUMENT)], "");
    let world = world(zone(), web);
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.1:8448"], "example.org", "example.org"))
    );
    assert_eq!(world.web.fetched(), [DOCUMENT, "https://example.org/b"]);
}

#[tokio::test]
async fn an_endless_chain_of_redirects_is_given_up_after_ten() {
    let web = (0..50).fold(FakeWeb::redirecting(DOCUMENT, "/0"), |web, page| {
        web.page(
            &format!("https://example.org/{page}"),
            302,
            &[("location", &format!("/{}", page + 1))],
            "",
        )
    });
    let world = world(zone(), web);
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.1:8448"], "example.org", "example.org"))
    );
    assert_eq!(world.web.fetched().len(), 11);
}

#[tokio::test]
async fn a_web_server_that_never_answers_is_given_up_and_not_asked_again_at_once() {
    let mut world = world(
        zone(),
        FakeWeb {
            silent: true,
            ..FakeWeb::default()
        },
    );
    world.discovery = world.discovery.with_well_known_timeout(Duration::from_millis(1));
    let expected = target(&["1.0.0.1:8448"], "example.org", "example.org");
    assert_eq!(resolve(&world, "example.org").await, Ok(expected.clone()));
    assert_eq!(resolve(&world, "example.org").await, Ok(expected));
    assert_eq!(world.web.fetched().len(), 1);
}

#[tokio::test]
async fn a_request_given_up_during_the_fetch_still_counts_as_a_failure_of_the_web_server() {
    let world = world(
        zone(),
        FakeWeb {
            silent: true,
            ..FakeWeb::default()
        },
    );
    let given_up = tokio::time::timeout(Duration::from_millis(1), resolve(&world, "example.org")).await;
    assert!(given_up.is_err());
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.1:8448"], "example.org", "example.org"))
    );
}

#[tokio::test]
async fn a_document_is_kept_for_24_hours_when_its_headers_say_nothing() {
    assert_eq!(seconds_until_refetch(&[]).await, 24 * 3600);
}

#[tokio::test]
async fn a_document_is_kept_as_its_headers_say_but_no_longer_than_48_hours() {
    assert_eq!(seconds_until_refetch(&[("cache-control", "max-age=600")]).await, 600);
    assert_eq!(
        seconds_until_refetch(&[("cache-control", "max-age=999999")]).await,
        48 * 3600
    );
    assert_eq!(seconds_until_refetch(&[("cache-control", "no-store")]).await, 0);
}

/// Advances the clock until discovery fetches the document anew.
async fn seconds_until_refetch(headers: &[(&'static str, &str)]) -> u64 {
    let web = FakeWeb::default().page(DOCUMENT, 200, headers, r#"{"m.server":"d.example:1"}"#);
    let world = world(zone(), web);
    resolve(&world, "example.org").await.unwrap();
    world.web.fetched();
    for seconds in (0..=72 * 3600).step_by(600) {
        resolve(&world, "example.org").await.unwrap();
        if !world.web.fetched().is_empty() {
            return seconds;
        }
        world.clock.advance(Duration::from_secs(600));
    }
    panic!("kept for more than three days");
}

#[tokio::test]
async fn a_failure_is_kept_for_a_minute_then_two_and_never_more_than_an_hour() {
    let world = world(zone(), FakeWeb::default());
    let mut fetched_at = Vec::new();
    for minute in 0..=300 {
        resolve(&world, "example.org").await.unwrap();
        if !world.web.fetched().is_empty() {
            fetched_at.push(minute);
        }
        world.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(fetched_at, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[tokio::test]
async fn a_server_that_begins_to_delegate_is_followed_once_the_failure_has_expired() {
    let world = world(zone(), FakeWeb::default());
    resolve(&world, "example.org").await.unwrap();
    world.web.set_page(DOCUMENT, 200, &[], r#"{"m.server":"d.example:1"}"#);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(target(&["1.0.0.2:1"], "d.example:1", "d.example"))
    );
}

#[tokio::test]
async fn srv_targets_are_tried_by_priority_and_dead_ones_left_out() {
    let records = [
        (20, 3, "d.example"),
        (10, 1, "gone.example"),
        (15, 2, "example.org"),
        (5, 9, ""),
    ];
    let world = world(zone().srv("example.org", &records), FakeWeb::default());
    let expected = target(&["1.0.0.1:2", "1.0.0.2:3"], "example.org", "example.org");
    assert_eq!(resolve(&world, "example.org").await, Ok(expected));
}

#[tokio::test]
async fn srv_that_declares_the_service_absent_is_not_replaced_by_8448() {
    let world = world(zone().srv("example.org", &[(0, 0, "")]), FakeWeb::default());
    assert_eq!(resolve(&world, "example.org").await, Err(Unresolvable));
}

#[tokio::test]
async fn a_host_without_addresses_is_unresolvable() {
    let world = world(zone().host("empty.example", &[]), FakeWeb::default());
    assert_eq!(resolve(&world, "nowhere.example").await, Err(Unresolvable));
    assert_eq!(resolve(&world, "nowhere.example:1").await, Err(Unresolvable));
    assert_eq!(resolve(&world, "empty.example:1").await, Err(Unresolvable));
}

#[tokio::test]
async fn an_override_replaces_all_steps_but_not_the_names() {
    let mut world = world(zone(), FakeWeb::delegating("d.example"));
    let overrides = [("example.org", "127.0.0.1:9"), ("example.org:80", "127.0.0.1:10")]
        .map(|(server, address)| (name(server), address.parse().unwrap()));
    world.discovery = world.discovery.with_overrides(overrides.into());
    let overridden = |target: Target| Target {
        overridden: true,
        ..target
    };
    assert_eq!(
        resolve(&world, "example.org").await,
        Ok(overridden(target(&["127.0.0.1:9"], "example.org", "example.org")))
    );
    assert_eq!(
        resolve(&world, "example.org:80").await,
        Ok(overridden(target(&["127.0.0.1:10"], "example.org:80", "example.org")))
    );
    assert_eq!(world.dns.asked(), Vec::<String>::new());
}
