//! [`MimiTransport`] over the client API, `/_nabe/v1/mimi` (MIMI #example-protocol-flow).
//!
//! The place in the stream is a position in each room's log, since rooms are read one by one. Every entry has a place of its own, so that
//! whoever dies between two of them goes on with the second.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{Method, Response};
use nabe_client::{
    mimi::{
        MimiTransport,
        transport::{Entry, HubKeys, Page},
    },
    transport::{Refusal, TransportError},
};
use nabe_content::mimi::external::{MAX_CONTENT_BYTES, TAG_BYTES};
use nabe_federation::{AssetDownloads, HttpsSettings, HttpsTransport, TlsSettings};
use nabe_service::ports::{
    PeerStream, SystemClock,
    assets::{AssetUrl, Assets as _},
};
use nabe_signing::base64u;
use nabe_types::ServerName;
use nabe_wire::{
    Encode as _, Message,
    consent::ConsentEntry,
    franking::FrankingAgentData,
    identifier_query::{IdentifierRequest, IdentifierResponse},
    label::SignatureScheme,
    mls::{CipherSuite, ExternalSender},
    uri::MimiUri,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    account::Account,
    connection::{Connection, TRANSFER_TIMEOUT, is_success},
    http::{API, MAX_ANSWER, connect, encoded, not_understood, refused, unreachable},
};

/// One client's line to its provider.
pub(crate) struct MimiHttp {
    connection: Connection,
    /// Where files are fetched without the provider.
    files: Files,
}

/// How servers are reached that are not the user's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// The authority of their certificates; absent: the system's.
    ca: Option<PathBuf>,
    /// Names and addresses, instead of DNS.
    pub(crate) resolve: BTreeMap<ServerName, SocketAddr>,
}

/// What is known about consent between two users.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Consent {
    pub(crate) requester: String,
    pub(crate) target: String,
    /// For which room; absent: for any.
    pub(crate) room: Option<String>,
    /// When it was asked for, if that has not been answered.
    pub(crate) requested_at: Option<u64>,
    /// `granted` or `revoked`.
    pub(crate) decision: Option<String>,
}

/// A report of abuse as the hub's operator sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AbuseReported {
    pub(crate) number: i64,
    /// The provider that sent it.
    pub(crate) provider: String,
    pub(crate) alleged_abuser: String,
    /// The hub franked all of its messages, for the accused in this room.
    pub(crate) verified: bool,
    pub(crate) messages: Vec<ReportedMessage>,
}

/// A message in it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReportedMessage {
    /// `genuine`, or why it proves nothing.
    pub(crate) evidence: String,
    /// MIMI content in base64, of one report alone.
    pub(crate) content: Option<String>,
}

/// A room as the provider lists it.
#[derive(Deserialize)]
struct Room {
    room: String,
    /// The first position that is the user's to read.
    from: i64,
    /// The newest.
    head: i64,
}

/// All of them.
#[derive(Deserialize)]
struct Rooms {
    rooms: Vec<Room>,
    /// Another one whenever something has happened in one of them.
    state: String,
}

/// What happened.
#[derive(Deserialize)]
struct Log {
    messages: Vec<Logged>,
}

#[derive(Deserialize)]
struct Logged {
    position: i64,
    message: String,
}

/// A place in the stream.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Cursor {
    /// By room: the position of what was read last.
    rooms: BTreeMap<String, i64>,
    /// What the provider called the state in which there was nothing more to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl Cursor {
    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("the keys are strings")
    }
}

impl MimiHttp {
    pub(crate) fn new(account: &Account) -> anyhow::Result<Self> {
        Ok(Self {
            connection: connect(account)?,
            files: Files {
                ca: account.ca.clone(),
                ..Files::default()
            },
        })
    }

    /// Files that are fetched from where they lie are fetched from these addresses, for networks without DNS.
    pub(crate) fn resolving(mut self, addresses: BTreeMap<ServerName, SocketAddr>) -> Self {
        self.files.resolve = addresses;
        self
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, TransportError> {
        let headers = [("content-type", media_type)];
        let path = format!("{API}/mimi/{path}");
        let answer = self.connection.request(method, &path, &headers, body, MAX_ANSWER);
        let answer = answer.await.map_err(unreachable)?;
        match is_success(answer.status()) {
            true => Ok(answer),
            false => Err(refused(&answer)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, TransportError> {
        let answer = self.call(Method::GET, path, JSON, Bytes::new()).await?;
        serde_json::from_slice(answer.body()).map_err(not_understood)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, TransportError> {
        let answer = self.call(Method::POST, path, JSON, body.to_string().into()).await?;
        serde_json::from_slice(answer.body()).map_err(not_understood)
    }

    /// A struct for a struct.
    async fn exchange(&self, path: &str, request: &[u8]) -> Result<Bytes, TransportError> {
        let body = Bytes::copy_from_slice(request);
        Ok(self.call(Method::POST, path, OCTETS, body).await?.into_body())
    }

    /// Asks another user for consent or no longer, or decides what another one asked for (MIMI #convey-explicit-consent).
    pub(crate) async fn put_consent(&self, entry: &ConsentEntry) -> Result<(), TransportError> {
        self.exchange("consent", &entry.to_bytes()).await.map(drop)
    }

    /// Grants consent, with a key package of each of the user's clients.
    pub(crate) async fn grant_with_key_packages(&self, entry: &ConsentEntry) -> Result<(), TransportError> {
        self.exchange("consent?key_packages=true", &entry.to_bytes())
            .await
            .map(drop)
    }

    /// The user, as MIMI names them.
    pub(crate) async fn user(&self) -> Result<MimiUri, TransportError> {
        #[derive(Deserialize)]
        struct Hub {
            user: String,
        }
        let hub: Hub = self.get("hub").await?;
        MimiUri::parse(&hub.user).map_err(not_understood)
    }

    /// What is known about the user's consents, as who asks or as who is asked.
    pub(crate) async fn consents(&self) -> Result<Vec<Consent>, TransportError> {
        #[derive(Deserialize)]
        struct Consents {
            consents: Vec<Consent>,
        }
        let answer: Consents = self.get("consent").await?;
        Ok(answer.consents)
    }

    /// The user's profile, as the client API has it.
    pub(crate) async fn profile(&self) -> Result<Value, TransportError> {
        self.get("profile").await
    }

    /// Puts it in place of the one before.
    pub(crate) async fn put_profile(&self, profile: &[u8]) -> Result<(), TransportError> {
        let body = Bytes::copy_from_slice(profile);
        self.call(Method::PUT, "profile", JSON, body).await.map(drop)
    }

    /// Who of a provider's users meets these conditions (MIMI #find-internal-address).
    pub(crate) async fn find(
        &self,
        provider: &ServerName,
        request: &IdentifierRequest,
    ) -> Result<IdentifierResponse, TransportError> {
        let path = format!("identifier_query/{provider}");
        let answer = self.exchange(&path, &request.to_bytes()).await?;
        IdentifierResponse::from_bytes(&answer).map_err(not_understood)
    }

    /// The log of a room after a position, as the provider has it.
    pub(crate) async fn log(
        &self,
        room: &MimiUri,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Bytes)>, TransportError> {
        let path = in_room(room, &format!("messages?after={after}&limit={limit}"));
        let log: Log = self.get(&path).await?;
        let message = |logged: Logged| {
            let message = base64u::decode(&logged.message).map_err(not_understood)?;
            Ok((logged.position, message.into()))
        };
        log.messages.into_iter().map(message).collect()
    }

    /// Reports of abuse that nobody has decided about, with what they are about: for whoever has the provider's credential.
    pub(crate) async fn open_reports(&self) -> Result<Vec<AbuseReported>, TransportError> {
        #[derive(Deserialize)]
        struct Reports {
            reports: Vec<AbuseReported>,
        }
        let answer: Reports = self.get("reports?state=open").await?;
        Ok(answer.reports)
    }

    /// One of them, with what its messages say.
    pub(crate) async fn report(&self, number: i64) -> Result<AbuseReported, TransportError> {
        self.get(&format!("reports/{number}")).await
    }

    /// Something was done about a report.
    pub(crate) async fn resolve_report(&self, number: i64, remark: &str) -> Result<(), TransportError> {
        let body = json!({ "state": "resolved", "remark": remark }).to_string();
        let path = format!("reports/{number}");
        self.call(Method::PUT, &path, JSON, body.into()).await.map(drop)
    }

    async fn rooms(&self, seen: Option<&str>, wait: Duration) -> Result<Rooms, TransportError> {
        match seen {
            Some(seen) => {
                let wait = wait.min(MAX_WAIT).as_millis();
                let seen = encoded(seen);
                self.get(&format!("rooms?seen={seen}&wait_ms={wait}")).await
            }
            None => self.get("rooms").await,
        }
    }
}

impl Files {
    /// A file from where it lies: from no address of the user's own network, and from no other host.
    async fn get(&self, url: &str) -> Result<Bytes, TransportError> {
        let no = |status: u16, message: &str| {
            TransportError::Refused(Refusal {
                status,
                code: "file".to_owned(),
                message: message.to_owned(),
                current_epoch: None,
            })
        };
        let url = AssetUrl::parse(url).ok_or_else(|| no(400, "not the https URL of a file"))?;
        let settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: self.ca.is_none(),
                extra_root_files: self.ca.iter().cloned().collect(),
                ..TlsSettings::default()
            },
            overrides: self.resolve.clone(),
            ..HttpsSettings::default()
        };
        let transport = HttpsTransport::direct(settings, Arc::new(SystemClock)).map_err(not_understood)?;
        let answer = AssetDownloads::new(transport).get(&url, TIME_TO_ANSWER).await;
        let PeerStream { status, body, .. } = answer.map_err(unreachable)?;
        if status != 200 {
            return Err(no(status, "the server where the file lies does not give it out"));
        }
        collected(body)
            .await?
            .ok_or_else(|| no(413, "the file is larger than one may be"))
    }
}

/// A whole file; `None` if it is larger than one may be.
///
/// # Errors
/// It breaks off, nothing more of it comes, or it takes too long.
async fn collected<E>(body: impl Stream<Item = Result<Bytes, E>> + Unpin) -> Result<Option<Bytes>, TransportError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    timeout(TRANSFER_TIMEOUT, pieces(body)).await.map_err(unreachable)?
}

async fn pieces<E>(mut body: impl Stream<Item = Result<Bytes, E>> + Unpin) -> Result<Option<Bytes>, TransportError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut file = BytesMut::new();
    while let Some(piece) = timeout(TIME_TO_ANSWER, body.next()).await.map_err(unreachable)? {
        let piece = piece.map_err(unreachable)?;
        if file.len() + piece.len() > MAX_FILE {
            return Ok(None);
        }
        file.extend_from_slice(&piece);
    }
    Ok(Some(file.freeze()))
}

#[async_trait]
impl MimiTransport for MimiHttp {
    async fn hub(&self, suite: CipherSuite) -> Result<HubKeys, TransportError> {
        #[derive(Deserialize)]
        struct Hub {
            external_sender: String,
            franking_agent: Option<String>,
        }
        let hub: Hub = self.get("hub").await?;
        let franks = suite.signature_scheme() == Some(SignatureScheme::ED25519);
        let agent = hub.franking_agent.filter(|_| franks);
        Ok(HubKeys {
            sender: read::<ExternalSender>(&hub.external_sender)?,
            franking_agent: agent.map(|agent| read::<FrankingAgentData>(&agent)).transpose()?,
        })
    }

    async fn upload_key_packages(
        &self,
        client: &MimiUri,
        packages: &[Bytes],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        #[derive(Deserialize)]
        struct Results {
            results: Vec<Outcome>,
        }
        #[derive(Deserialize)]
        struct Outcome {
            error: Option<String>,
        }
        let packages: Vec<_> = packages.iter().map(|package| base64u::encode(package)).collect();
        let body = json!({ "client": client.to_string(), "key_packages": packages });
        let answer: Results = self.post("key_packages", &body).await?;
        let outcome = |outcome: Outcome| outcome.error.map_or(Ok(()), Err);
        Ok(answer.results.into_iter().map(outcome).collect())
    }

    async fn key_packages_left(&self, client: &MimiUri, suite: CipherSuite) -> Result<u64, TransportError> {
        #[derive(Deserialize)]
        struct Offers {
            key_packages: Vec<Offer>,
        }
        #[derive(Deserialize)]
        struct Offer {
            client: String,
            suite: u16,
            left: u64,
        }
        let client = client.to_string();
        let answer: Offers = self.get("key_packages").await?;
        // One for all that are of the same capabilities.
        let offers = answer.key_packages.iter();
        let of_client = offers.filter(|offer| offer.client == client && offer.suite == suite.0);
        Ok(of_client.map(|offer| offer.left).sum())
    }

    async fn create_room(&self, room: &MimiUri, group_info: &[u8], tree: &[u8]) -> Result<(), TransportError> {
        let body = json!({
            "room": room.to_string(),
            "group_info": base64u::encode(group_info),
            "ratchet_tree": base64u::encode(tree),
        });
        self.post::<Value>("rooms", &body).await.map(drop)
    }

    async fn key_material(&self, request: &[u8]) -> Result<Bytes, TransportError> {
        self.exchange("key_material", request).await
    }

    async fn update(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        self.exchange(&in_room(room, "update"), request).await
    }

    async fn submit(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        self.exchange(&in_room(room, "submit_message"), request).await
    }

    async fn group_info(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        self.exchange(&in_room(room, "group_info"), request).await
    }

    async fn report_abuse(&self, room: &MimiUri, report: &[u8]) -> Result<(), TransportError> {
        self.exchange(&in_room(room, "report_abuse"), report).await.map(drop)
    }

    async fn upload_asset(&self, file: Bytes) -> Result<String, TransportError> {
        #[derive(Deserialize)]
        struct Asset {
            url: String,
        }
        let headers = [("content-type", OCTETS)];
        let path = format!("{API}/mimi/assets");
        let answer = self
            .connection
            .transfer(Method::POST, &path, &headers, file, MAX_ANSWER);
        let answer = answer.await.map_err(unreachable)?;
        if !is_success(answer.status()) {
            return Err(refused(&answer));
        }
        let asset: Asset = serde_json::from_slice(answer.body()).map_err(not_understood)?;
        Ok(asset.url)
    }

    async fn download(&self, room: &MimiUri, url: &str) -> Result<Bytes, TransportError> {
        let path = format!(
            "{API}/mimi/{}",
            in_room(room, &format!("download?url={}", encoded(url)))
        );
        let answer = self
            .connection
            .transfer(Method::GET, &path, &[], Bytes::new(), MAX_FILE);
        let answer = answer.await.map_err(unreachable)?;
        match is_success(answer.status()) {
            true => Ok(answer.into_body()),
            false => Err(refused(&answer)),
        }
    }

    async fn ohttp_keys(&self, provider: &str) -> Result<Bytes, TransportError> {
        let path = format!("ohttp/{}", encoded(provider));
        Ok(self.call(Method::GET, &path, JSON, Bytes::new()).await?.into_body())
    }

    async fn ohttp(&self, provider: &str, sealed: Bytes) -> Result<Bytes, TransportError> {
        let path = format!("{API}/mimi/ohttp/{}", encoded(provider));
        let headers = [("content-type", "message/ohttp-req")];
        let answer = self
            .connection
            .transfer(Method::POST, &path, &headers, sealed, MAX_SEALED_FILE);
        let answer = answer.await.map_err(unreachable)?;
        match is_success(answer.status()) {
            true => Ok(answer.into_body()),
            false => Err(refused(&answer)),
        }
    }

    async fn download_directly(&self, url: &str) -> Result<Bytes, TransportError> {
        self.files.get(url).await
    }

    async fn entries(&self, after: Option<&str>, wait: Duration) -> Result<Page, TransportError> {
        let Some(after) = after else {
            let Rooms { rooms, state } = self.rooms(None, Duration::ZERO).await?;
            let cursor = Cursor {
                rooms: rooms.into_iter().map(|room| (room.room, room.head)).collect(),
                state: Some(state),
            };
            return Ok(Page {
                entries: Vec::new(),
                cursor: cursor.to_text(),
            });
        };
        let mut cursor: Cursor = serde_json::from_str(after).map_err(not_understood)?;
        let seen = cursor.state.take();
        let Rooms { rooms, state } = self.rooms(seen.as_deref(), wait).await?;
        let mut entries = Vec::new();
        let mut has_read_all = true;
        for Room { room: name, from, head } in rooms {
            let room = MimiUri::parse(&name).map_err(not_understood)?;
            // What a Welcome belongs to is new here; it is read from where the user may.
            let mut position = cursor
                .rooms
                .get(&name)
                .copied()
                .unwrap_or_else(|| from.saturating_sub(1));
            while position < head && entries.len() < MAX_ENTRIES {
                let page = self.log(&room, position, MAX_ENTRIES - entries.len()).await?;
                // The rest is not for this user: they left.
                let last = page.last().map_or(head, |(position, _)| *position);
                for (at, message) in page {
                    cursor.rooms.insert(name.clone(), at);
                    entries.push(Entry {
                        cursor: cursor.to_text(),
                        room: room.clone(),
                        message,
                    });
                }
                if last <= position {
                    return Err(not_understood(Backward));
                }
                position = last;
                cursor.rooms.insert(name.clone(), position);
            }
            has_read_all &= position >= head;
        }
        cursor.state = has_read_all.then_some(state);
        Ok(Page {
            entries,
            cursor: cursor.to_text(),
        })
    }
}

/// The log of a room goes on before the position that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("a room's log goes backward")]
struct Backward;

/// A struct in base64.
fn read<T: Message>(text: &str) -> Result<T, TransportError> {
    let bytes = base64u::decode(text).map_err(not_understood)?;
    T::from_bytes(&bytes).map_err(not_understood)
}

fn in_room(room: &MimiUri, rest: &str) -> String {
    format!("rooms/{}/{rest}", encoded(&room.to_string()))
}

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
/// Bytes of a sealed file.
/// Of what a gateway answers, which is a file and little around it.
const MAX_SEALED_FILE: usize = 17 << 20;
/// Of a server where a file lies, to answer and then for each piece.
const TIME_TO_ANSWER: Duration = Duration::from_secs(30);
const MAX_FILE: usize = (MAX_CONTENT_BYTES + TAG_BYTES) as usize;
/// In one page.
const MAX_ENTRIES: usize = 200;
/// For one request; whoever wants to wait longer asks again.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Json, Router,
        extract::{Path, Query, State},
        routing::get,
    };
    use nabe_types::DeviceId;
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::account::Credential;

    /// The rooms of a provider: from where the user may read, where that ends, and the messages' numbers.
    type Logs = Arc<Mutex<BTreeMap<String, (i64, i64, Vec<i64>)>>>;

    async fn rooms(State(logs): State<Logs>) -> Json<Value> {
        let logs = logs.lock().unwrap();
        let head = |log: &[i64]| log.last().copied().unwrap_or(0);
        let rooms = logs
            .iter()
            .map(|(room, (from, _, log))| json!({ "room": room, "hub": "a.test", "from": from, "head": head(log) }));
        let rooms: Vec<_> = rooms.collect();
        let state = json!(rooms).to_string().len().to_string();
        Json(json!({ "rooms": rooms, "state": state }))
    }

    /// Two at once.
    async fn messages(
        State(logs): State<Logs>,
        Path(room): Path<String>,
        Query(query): Query<BTreeMap<String, String>>,
    ) -> Json<Value> {
        let logs = logs.lock().unwrap();
        let (from, until, log) = &logs[&room];
        let after: i64 = query["after"].parse().unwrap();
        let readable = log.iter().filter(|at| **at > after && *at >= from && *at <= until);
        let message = |at: &i64| json!({ "position": at, "message": base64u::encode(&at.to_be_bytes()) });
        Json(json!({ "messages": readable.take(2).map(message).collect::<Vec<_>>() }))
    }

    async fn provider(logs: &Logs) -> MimiHttp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/_nabe/v1/mimi/rooms", get(rooms))
            .route("/_nabe/v1/mimi/rooms/{room}/messages", get(messages))
            .with_state(Arc::clone(logs));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let account = Account {
            server,
            device: DeviceId::parse("phone").unwrap(),
            credential: Credential::User {
                token: "token".to_owned(),
            },
            ca: None,
        };
        MimiHttp::new(&account).unwrap()
    }

    fn set(logs: &Logs, room: &str, from: i64, until: i64, log: impl IntoIterator<Item = i64>) {
        let log = (from, until, log.into_iter().collect());
        logs.lock().unwrap().insert(format!("mimi://a.test/r/{room}"), log);
    }

    /// What comes after a place: room and number.
    async fn after(provider: &MimiHttp, cursor: &str) -> (Vec<(String, i64, String)>, String) {
        let page = provider.entries(Some(cursor), Duration::ZERO).await.unwrap();
        let entry = |entry: Entry| {
            let number = i64::from_be_bytes(entry.message.as_ref().try_into().unwrap());
            (entry.room.name().to_owned(), number, entry.cursor)
        };
        (page.entries.into_iter().map(entry).collect(), page.cursor)
    }

    fn numbers(entries: &[(String, i64, String)]) -> Vec<(&str, i64)> {
        entries
            .iter()
            .map(|(room, number, _)| (room.as_str(), *number))
            .collect()
    }

    #[tokio::test]
    async fn what_happens_from_now_on_is_read_and_a_new_room_from_its_welcome() {
        let logs = Logs::default();
        let provider = provider(&logs).await;
        set(&logs, "club", 1, i64::MAX, 1..=3);
        let now = provider.entries(None, Duration::ZERO).await.unwrap();
        assert_eq!(now.entries, Vec::new());
        let (nothing, same) = after(&provider, &now.cursor).await;
        assert_eq!((numbers(&nothing), &same), (Vec::new(), &now.cursor));

        set(&logs, "club", 1, i64::MAX, 1..=8);
        set(&logs, "new", 4, i64::MAX, 1..=5);
        let expected = [
            ("club", 4),
            ("club", 5),
            ("club", 6),
            ("club", 7),
            ("club", 8),
            ("new", 4),
            ("new", 5),
        ];
        let (all, end) = after(&provider, &now.cursor).await;
        assert_eq!(numbers(&all), expected);
        assert_eq!(numbers(&after(&provider, &end).await.0), Vec::new());
        // Whoever stops after any of them goes on with the next.
        for (index, (_, _, cursor)) in all.iter().enumerate() {
            let (rest, _) = after(&provider, cursor).await;
            assert_eq!(numbers(&rest), expected[index + 1..], "{cursor}");
        }
    }

    #[tokio::test]
    async fn who_has_left_is_not_kept_busy_by_what_others_say() {
        let logs = Logs::default();
        let provider = provider(&logs).await;
        set(&logs, "club", 1, 3, 1..=2);
        let now = provider.entries(None, Duration::ZERO).await.unwrap();
        set(&logs, "club", 1, 3, 1..=9);
        let (last, end) = after(&provider, &now.cursor).await;
        assert_eq!(numbers(&last), [("club", 3)]);
        let place: Cursor = serde_json::from_str(&end).unwrap();
        assert!(place.state.is_some(), "it waits for something new: {end}");
        assert_eq!(place.rooms["mimi://a.test/r/club"], 9);
        // Added again, they read from there on.
        set(&logs, "club", 10, i64::MAX, 1..=11);
        assert_eq!(numbers(&after(&provider, &end).await.0), [("club", 10), ("club", 11)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_come_to_its_end_is_given_up() {
        let piece = || Ok::<_, std::io::Error>(Bytes::from_static(b"x"));
        let begun = tokio::time::Instant::now();
        let stalls = futures_util::stream::iter([piece()]).chain(futures_util::stream::pending());
        collected(stalls).await.unwrap_err();
        assert!(begun.elapsed() < 2 * TIME_TO_ANSWER);
        let drips = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(TIME_TO_ANSWER / 2).await;
            Some((piece(), ()))
        });
        collected(Box::pin(drips)).await.unwrap_err();
        assert!(begun.elapsed() < 2 * TRANSFER_TIMEOUT);
        let whole = futures_util::stream::iter([piece(), piece()]);
        assert_eq!(collected(whole).await.unwrap().unwrap(), "xx");
    }

    #[test]
    fn rooms_are_escaped_in_paths() {
        let room = MimiUri::parse("mimi://a.test/r/club").unwrap();
        assert_eq!(in_room(&room, "update"), "rooms/mimi%3A%2F%2Fa.test%2Fr%2Fclub/update");
    }
}
