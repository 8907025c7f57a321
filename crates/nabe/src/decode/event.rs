//! Events and signed requests of Linearized Matrix: fields, canonical form, hashes, event ID, signatures.

use std::fs;

use anyhow::{Context as _, bail};
use nabe_event::{EventKind, RawEvent, RoomVersionRules, event_id_of, hashes};
use nabe_signing::{
    Json, KeyMap, Object, PublicKey, ServerKeys, XMatrix, base64u, verify_signatures, xmatrix::request_object,
};
use nabe_types::{KeyId, ServerName};

use super::findings::Findings;
use crate::cli::Decode;

/// Public keys the signatures may be checked with.
pub(super) struct Keys(Vec<(ServerName, KeyId, PublicKey)>);

impl Keys {
    /// The keys that the command line names.
    pub(super) fn read(arguments: &Decode) -> anyhow::Result<Self> {
        let mut keys = Vec::new();
        for stated in &arguments.keys {
            let [server, id, key] = stated.split(',').collect::<Vec<_>>()[..] else {
                bail!("--key {stated}: not SERVER,KEYID,BASE64");
            };
            let key = PublicKey::from_base64(key).with_context(|| format!("--key {stated}"))?;
            keys.push((ServerName::parse(server)?, KeyId::parse(id)?, key));
        }
        for path in &arguments.key_response {
            let response = Object::parse(&fs::read(path)?).with_context(|| path.display().to_string())?;
            let server = response
                .get("server_name")
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned();
            let response = ServerKeys::parse(response, &ServerName::parse(&server)?)
                .with_context(|| path.display().to_string())?;
            let old = response.old_verify_keys.into_iter().map(|(id, (key, _))| (id, key));
            for (id, key) in response.verify_keys.into_iter().chain(old) {
                keys.push((response.server.clone(), id, key));
            }
        }
        Ok(Self(keys))
    }

    fn of(&self, server: &str) -> KeyMap {
        let keys = self.0.iter().filter(|(of, ..)| of.as_str() == server);
        keys.map(|(_, id, key)| (id.clone(), *key)).collect()
    }
}

/// What there is to say about a JSON object: a request if it has a method and a URI, an event otherwise.
pub(super) fn examine(bytes: &[u8], rules: &'static RoomVersionRules, keys: &Keys) -> anyhow::Result<Findings> {
    let parsed = Json::parse(bytes).context("the input is not JSON as LM #int-canonical-json wants it")?;
    let object = parsed.as_object().context("the input is not a JSON object")?;
    let mut report = Findings::default();
    if object.contains_key("method") && object.contains_key("uri") {
        request(object, keys, &mut report)?;
    } else {
        event(object, bytes, rules, keys, &mut report);
    }
    Ok(report)
}

fn event(object: &Object, bytes: &[u8], rules: &'static RoomVersionRules, keys: &Keys, report: &mut Findings) {
    match RawEvent::from_json(object.clone(), rules) {
        Ok(raw) => report.statement(
            "schema",
            true,
            match raw.kind() {
                EventKind::Lpdu => format!("a well-formed LPDU of room version {}", rules.id),
                EventKind::Pdu => format!("a well-formed PDU of room version {}", rules.id),
            },
        ),
        Err(dropped) => report.statement("schema", false, dropped.to_string()),
    }
    for member in FIELDS {
        if let Some(value) = object.get(member) {
            report.fact(member, value.clone());
        }
    }
    let unknown = object
        .keys()
        .filter(|member| !FIELDS.contains(member) && !COVERED.contains(member));
    for member in unknown.collect::<Vec<_>>() {
        report.fact(
            &format!("{member} (dropped by redaction)"),
            object.get(member).cloned().unwrap_or(Json::Null),
        );
    }
    let canonical = object.to_canonical();
    report.fact(
        "size",
        format!("{} bytes in canonical form, {} as given", canonical.len(), bytes.len()),
    );
    report.fact("canonical", String::from_utf8_lossy(&canonical).into_owned());
    report.fact("event ID", event_id_of(object).as_str());
    stated_hashes(object, report);
    signatures(object, keys, report);
}

const FIELDS: &[&str] = &[
    "room_id",
    "type",
    "state_key",
    "sender",
    "origin_server_ts",
    "hub_server",
    "content",
    "auth_events",
    "prev_events",
];
const COVERED: &[&str] = &["hashes", "signatures"];

fn stated_hashes(event: &Object, report: &mut Findings) {
    let stated = event.get("hashes").and_then(Json::as_object);
    let mut check = |name: &str, stated: Option<&Json>, found: [u8; 32]| {
        let found = base64u::encode(&found);
        match stated.and_then(Json::as_str) {
            Some(stated) if stated == found => report.statement(name, true, found),
            Some(stated) => report.statement(name, false, format!("stated {stated}, it is {found}")),
            None => report.open(name, format!("not stated, it is {found}")),
        }
    };
    let lpdu = stated.and_then(|stated| stated.get("lpdu")).and_then(Json::as_object);
    if event.contains_key("prev_events") {
        check(
            "hashes.sha256",
            stated.and_then(|stated| stated.get("sha256")),
            hashes::content_hash(event),
        );
    }
    if event.contains_key("hub_server") || lpdu.is_some() {
        check(
            "hashes.lpdu.sha256",
            lpdu.and_then(|lpdu| lpdu.get("sha256")),
            hashes::lpdu_hash(event),
        );
    }
}

/// LM #int-signing-events: the sender's server signs the LPDU when another server is the hub, everybody else the PDU.
fn signatures(event: &Object, keys: &Keys, report: &mut Findings) {
    let Some(stated) = event.get("signatures").and_then(Json::as_object) else {
        return report.statement("signatures", false, "missing or not an object");
    };
    let text = |member: &str| event.get(member).and_then(Json::as_str);
    let sender_server = text("sender")
        .and_then(|sender| sender.split_once(':'))
        .map(|(_, server)| server);
    for (signer, by_signer) in stated {
        let over_lpdu = text("hub_server").is_some_and(|hub| sender_server == Some(signer) && signer != hub);
        let message = if over_lpdu {
            hashes::lpdu_signed_bytes(event)
        } else {
            hashes::signed_bytes(event)
        };
        let covers = if over_lpdu {
            "over the LPDU"
        } else {
            "over the whole event"
        };
        let known = keys.of(signer);
        for key_id in by_signer.as_object().into_iter().flat_map(Object::keys) {
            let name = format!("signature {signer} {key_id}");
            let only_this = |id: &KeyId| (id.as_str() == key_id).then(|| known.get(id)).flatten();
            if !known.keys().any(|id| id.as_str() == key_id) {
                report.open(name, "not checked: give the key with --key or --key-response");
                continue;
            }
            match verify_signatures(event.get("signatures"), signer, &message, only_this) {
                Ok(()) => report.statement(name, true, covers),
                Err(error) => report.statement(name, false, format!("{error} ({covers})")),
            }
        }
    }
}

/// `{"method","uri","content"?}` with the header in `headers` (an object) or as `authorization`, each value text or a list
/// of texts; or the signed object with `origin` and `destination`.
fn request(request: &Object, keys: &Keys, report: &mut Findings) -> anyhow::Result<()> {
    let text = |member: &str| request.get(member).and_then(Json::as_str);
    let (method, uri) = (
        text("method").context("`method` is not text")?,
        text("uri").context("`uri` is not text")?,
    );
    let headers = authorization(request)?;
    report.fact("method", method);
    report.fact("uri", uri);
    for header in &headers {
        let parsed = match XMatrix::parse(header) {
            Ok(parsed) => parsed,
            Err(error) => {
                report.statement("header", false, format!("{header}: {error}"));
                continue;
            }
        };
        let stated_destination = text("destination").map(ServerName::parse).transpose()?;
        let Some(destination) = parsed.destination.clone().or(stated_destination) else {
            report.open("header", format!("{header}: names no destination; add `destination`"));
            continue;
        };
        let signed = request_object(method, uri, &parsed.origin, &destination, request.get("content"));
        let message = signed.to_canonical();
        report.fact("origin", parsed.origin.as_str());
        report.fact("destination", destination.as_str());
        report.fact("signed bytes", String::from_utf8_lossy(&message).into_owned());
        let name = format!("signature {} {}", parsed.origin, parsed.key);
        match keys.of(parsed.origin.as_str()).get(&parsed.key) {
            None => report.open(name, "not checked: give the key with --key or --key-response"),
            Some(key) => match key.verify(&message, &parsed.sig) {
                Ok(()) => report.statement(name, true, "over the signed bytes"),
                Err(error) => report.statement(name, false, error.to_string()),
            },
        }
    }
    if headers.is_empty() {
        let (origin, destination) = (text("origin"), text("destination"));
        if let (Some(origin), Some(destination)) = (origin, destination) {
            let (origin, destination) = (ServerName::parse(origin)?, ServerName::parse(destination)?);
            let signed = request_object(method, uri, &origin, &destination, request.get("content"));
            report.fact(
                "signed bytes",
                String::from_utf8_lossy(&signed.to_canonical()).into_owned(),
            );
        }
        report.open("authorization", "no header given");
    }
    Ok(())
}

fn authorization(request: &Object) -> anyhow::Result<Vec<&str>> {
    let headers = match request.get("headers") {
        None => None,
        Some(headers) => Some(headers.as_object().context("`headers` is not an object")?),
    };
    let of_headers = headers
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let mut values = Vec::new();
    for value in request
        .get("authorization")
        .into_iter()
        .chain(of_headers.map(|(_, value)| value))
    {
        match value {
            Json::String(header) => values.push(header.as_str()),
            list => values.extend(
                list.as_array()
                    .and_then(|list| list.iter().map(Json::as_str).collect::<Option<Vec<_>>>())
                    .context("`authorization` is neither text nor a list of texts")?,
            ),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nabe_event::EventBuilder;
    use nabe_signing::object;
    use nabe_signing::{Signer, SigningKey, xmatrix};
    use nabe_types::{RoomId, UnixMillis, UserId};

    fn signer(server: &str, seed: u8) -> Signer {
        let key = SigningKey::from_seed(KeyId::parse("ed25519:1").unwrap(), [seed; 32]);
        Signer::new(ServerName::parse(server).unwrap(), vec![key]).unwrap()
    }

    fn keys(signers: &[&Signer]) -> Keys {
        let of = |signer: &&Signer| {
            let keys = signer.public_keys();
            keys.into_iter()
                .map(|(id, key)| (signer.server().clone(), id, key))
                .collect::<Vec<_>>()
        };
        Keys(signers.iter().flat_map(of).collect())
    }

    fn lpdu(participant: &Signer) -> Object {
        let event = EventBuilder::new(
            RoomId::parse("!r:hub.example").unwrap(),
            "org.example.thing",
            UserId::parse("@a:part.example").unwrap(),
            UnixMillis(1_700_000_000_000),
            object! { "body" => "hello" },
        );
        let hub = ServerName::parse("hub.example").unwrap();
        let lpdu = event.build_lpdu(participant, &hub, &RoomVersionRules::I1).unwrap();
        Object::parse(lpdu.bytes()).unwrap()
    }

    #[test]
    fn a_true_event_holds_and_every_false_statement_is_named() {
        let participant = signer("part.example", 2);
        let event = lpdu(&participant);
        let run =
            |event: &Object| examine(&event.to_canonical(), &RoomVersionRules::I1, &keys(&[&participant])).unwrap();
        let report = run(&event);
        assert!(report.holds(), "{}", report.to_text());
        assert!(report.to_text().contains(event_id_of(&event).as_str()));

        let mut altered = event.clone();
        altered.insert("content", object! { "body" => "goodbye" });
        let report = run(&altered);
        assert!(
            report.to_text().contains("FALSE  hashes.lpdu.sha256"),
            "{}",
            report.to_text()
        );

        let mut redated = event;
        redated.insert("origin_server_ts", 5);
        assert!(run(&redated).to_text().contains("FALSE  signature part.example"));
    }

    #[test]
    fn without_the_key_a_signature_is_open_and_not_called_false() {
        let report = examine(
            &lpdu(&signer("part.example", 2)).to_canonical(),
            &RoomVersionRules::I1,
            &keys(&[]),
        )
        .unwrap();
        assert!(report.holds() && report.to_text().contains("give the key"));
    }

    fn header_of_get(origin: &Signer, uri: &str) -> String {
        let request = xmatrix::Request {
            method: "GET",
            uri,
            destination: &ServerName::parse("hub.example").unwrap(),
            content: None,
        };
        xmatrix::sign_request(origin, &request).remove(0)
    }

    #[test]
    fn a_requests_header_is_checked_over_the_signed_bytes() {
        let origin = signer("part.example", 2);
        let uri = "/_matrix/federation/v2/event/$x";
        let header = header_of_get(&origin, uri);
        let mut request = object! { "method" => "GET", "uri" => uri, "authorization" => header };
        let run =
            |request: &Object| examine(&request.to_canonical(), &RoomVersionRules::I1, &keys(&[&origin])).unwrap();
        assert!(run(&request).holds());
        request.insert("uri", "/_matrix/federation/v2/event/$y");
        assert!(!run(&request).holds());
    }

    #[test]
    fn the_header_is_found_in_headers_whatever_the_case_of_its_name() {
        let origin = signer("part.example", 2);
        let uri = "/_matrix/federation/v2/event/$x";
        let header = header_of_get(&origin, uri);
        let run = |uri: &str, headers: Object| {
            let request = object! { "method" => "GET", "uri" => uri, "headers" => headers };
            examine(&request.to_canonical(), &RoomVersionRules::I1, &keys(&[&origin]))
        };
        for name in ["Authorization", "authorization", "AUTHORIZATION"] {
            let as_text = object! { name => header.as_str(), "Accept" => "*/*" };
            let as_list = object! { name => vec![Json::from(header.as_str())] };
            for headers in [as_text, as_list] {
                let report = run(uri, headers.clone()).unwrap();
                assert!(
                    report.to_text().contains("ok     signature part.example"),
                    "{}",
                    report.to_text()
                );
                assert!(!run("/_matrix/federation/v2/event/$y", headers).unwrap().holds());
            }
        }
        let without = run(uri, object! { "X-Authorization" => header.as_str() }).unwrap();
        assert!(without.to_text().contains("no header given"), "{}", without.to_text());
        assert!(run(uri, object! { "Authorization" => 5 }).is_err());
    }
}
