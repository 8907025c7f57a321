//! Exchanges captured from two running eigen-servers, replayed against our parsers and verifiers: request signatures, key
//! responses, and every event in every body. The captures are in `${NABE_SHARED}/vectors/eigen` and not part of this
//! repository; without them the test says SKIPPED.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use nabe_event::{EventKind, RawEvent, RoomVersionRules};
use nabe_signing::{
    Json, KeySet, Object, ServerKeys, XMatrix,
    xmatrix::{Bodyless, Request, verify_request},
};
use nabe_types::{ServerName, UnixMillis};

const RULES: &RoomVersionRules = &RoomVersionRules::UNSTABLE_02;

/// One captured request and its answer.
struct Exchange {
    method: String,
    uri: String,
    host: String,
    authorization: Option<String>,
    body: Option<Json>,
    answer: Json,
    /// The file's name.
    name: String,
}

#[test]
fn every_captured_exchange_parses_and_verifies() {
    let Some(exchanges) = captured() else { return };
    assert_eq!(exchanges.len(), 11);

    // The key responses first: everything else is verified with them.
    let mut keys = KeySet::new();
    let fetched_at = UnixMillis(1_795_293_102_000);
    let responses = exchanges
        .iter()
        .filter(|exchange| exchange.uri == "/_matrix/key/v2/server");
    for exchange in responses {
        let server = ServerName::parse(&exchange.host).unwrap();
        let response = ServerKeys::parse(exchange.answer.as_object().unwrap().clone(), &server).unwrap();
        assert!(response.linearized, "{}", exchange.name);
        keys.insert_server_keys(&response, fetched_at);
    }
    assert_eq!(keys.iter().count(), 2);

    let (mut requests, mut bodyless, mut pdus, mut lpdus) = (0, 0, BTreeSet::new(), 0);
    for exchange in &exchanges {
        if let Some(header) = &exchange.authorization {
            requests += 1;
            bodyless += usize::from(exchange.body.is_none());
            let destination = ServerName::parse(&exchange.host).unwrap();
            let request = Request {
                method: &exchange.method,
                uri: &exchange.uri,
                destination: &destination,
                content: exchange.body.as_ref(),
            };
            let headers = [XMatrix::parse(header).unwrap()];
            // eigen-server leaves `content` out of what it signs for a bodyless request: only its compatibility setting takes that.
            let strict = verify_request(&request, &headers, &keys, fetched_at, Bodyless::EmptyObject);
            assert_eq!(strict.is_ok(), exchange.body.is_some(), "{}", exchange.name);
            let tolerant = verify_request(&request, &headers, &keys, fetched_at, Bodyless::EmptyObjectOrNone).unwrap();
            assert_eq!(tolerant, headers[0].origin, "{}", exchange.name);
        }
        let mut events = Vec::new();
        for value in exchange.body.iter().chain([&exchange.answer]) {
            collect_events(value, &mut events);
        }
        for event in events {
            let raw = RawEvent::from_json(event.clone(), RULES).expect("the captured event is well-formed");
            match raw.kind() {
                EventKind::Pdu => {
                    let pdu = raw.verify_pdu(&keys).expect("the captured signatures hold");
                    assert!(!pdu.was_redacted(), "{}", exchange.name);
                    pdus.insert(pdu.event_id().clone());
                }
                EventKind::Lpdu => {
                    assert!(
                        !raw.verify_lpdu(&keys)
                            .expect("the captured signature holds")
                            .was_redacted()
                    );
                    lpdus += 1;
                }
            }
        }
    }
    assert!(
        requests >= 9 && bodyless == 1,
        "{requests} signed requests, {bodyless} of them bodyless"
    );
    assert!(pdus.len() >= 10 && lpdus >= 2, "{} PDUs, {lpdus} LPDUs", pdus.len());
}

/// Signed events anywhere in a body.
fn collect_events<'a>(value: &'a Json, found: &mut Vec<&'a Object>) {
    if let Some(object) = value.as_object() {
        if object.contains_key("sender") && object.contains_key("signatures") {
            found.push(object);
            return;
        }
        object.values().for_each(|inner| collect_events(inner, found));
    }
    value
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|inner| collect_events(inner, found));
}

fn captured() -> Option<Vec<Exchange>> {
    let shared = std::env::var_os("NABE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        |path| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path),
    );
    let folder = shared.join("vectors/eigen");
    let Ok(files) = fs::read_dir(&folder) else {
        let required = std::env::var_os("NABE_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "{} is missing and NABE_REQUIRE_ALL=1", folder.display());
        println!(
            "SKIPPED: {} is missing; set NABE_SHARED to the folder that holds it",
            folder.display()
        );
        return None;
    };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    Some(
        paths
            .iter()
            .map(|path| exchange(path.file_name().unwrap().to_str().unwrap(), path))
            .collect(),
    )
}

/// A request as on the wire, the line `======== RESPONSE ========`, the answer, and then the bodies again for people.
fn exchange(name: &str, path: &std::path::Path) -> Exchange {
    let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let (request, rest) = text.split_once("======== RESPONSE ========\n").unwrap();
    let answer = rest.split("\n======== ").next().unwrap();
    let (head, body) = request.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let mut request_line = lines.next().unwrap().split(' ');
    let header = |wanted: &str| {
        let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_owned())
    };
    let body = body.trim();
    Exchange {
        method: request_line.next().unwrap().to_owned(),
        uri: request_line.next().unwrap().to_owned(),
        host: header("host").unwrap(),
        authorization: header("authorization"),
        body: (!body.is_empty()).then(|| Json::parse(body.as_bytes()).unwrap()),
        answer: Json::parse(answer.split_once("\n\n").unwrap().1.trim().as_bytes()).unwrap(),
        name: name.to_owned(),
    }
}
