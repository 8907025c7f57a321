//! [`Transport`] over the client API, `/_nabe/v1`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use nabe_client::transport::{
    Claimed, Direction, GroupSnapshot, History, KeyPackageUpload, Member, NewEvent, NewRoom, Refusal, RoomEvent,
    RoomSummary, Rooms, Sent, StreamBody, StreamItem, ToDevice, Transport, TransportError, WhoAmI,
};
use nabe_signing::{Json, Object, base64u, object};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UserId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{
    account::{Account, Credential},
    connection::{Connection, is_success},
};

/// A device's line to its server.
pub(crate) struct HttpTransport {
    connection: Connection,
    device: DeviceId,
    stream: Mutex<Option<Stream>>,
}

/// An open event stream.
struct Stream {
    body: Incoming,
    parser: Parser,
    items: VecDeque<StreamItem>,
    /// The token of the last item that was handed out, or the one it was opened with.
    at: Option<String>,
}

impl HttpTransport {
    pub(crate) fn new(account: &Account) -> anyhow::Result<Self> {
        Ok(Self {
            connection: connect(account)?,
            device: account.device.clone(),
            stream: Mutex::default(),
        })
    }

    async fn get(&self, path: &str) -> Result<Object, TransportError> {
        self.call(Method::GET, path, None, None).await
    }

    async fn post(&self, path: &str, body: &Object, key: Option<&str>) -> Result<Object, TransportError> {
        self.call(Method::POST, path, Some(body), key).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Object>,
        key: Option<&str>,
    ) -> Result<Object, TransportError> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = body.map(Object::to_canonical).unwrap_or_default();
        let answer = self
            .connection
            .request(method, &format!("{API}{path}"), &headers, body.into(), MAX_ANSWER)
            .await
            .map_err(unreachable)?;
        if !is_success(answer.status()) {
            return Err(refused(&answer));
        }
        if answer.body().is_empty() {
            return Ok(Object::new());
        }
        Object::parse(answer.body()).map_err(not_understood)
    }

    /// Opens the stream after a token.
    async fn open_stream(&self, since: Option<&str>) -> Result<Stream, TransportError> {
        let path = format!("{API}/stream?device={}", encoded(self.device.as_str()));
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(since.map(|since| ("last-event-id", since)));
        let answer = self.connection.open(&path, &headers).await.map_err(unreachable)?;
        if !is_success(answer.status()) {
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(unreachable)?.to_bytes();
            return Err(refused(&Response::from_parts(parts, body)));
        }
        Ok(Stream {
            body: answer.into_body(),
            parser: Parser::default(),
            items: VecDeque::new(),
            at: since.map(str::to_owned),
        })
    }
}

/// The way to an account's server, with its credential.
pub(super) fn connect(account: &Account) -> anyhow::Result<Connection> {
    let mut headers = HeaderMap::new();
    let secret = |token: &str| -> anyhow::Result<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).context("the token")?;
        value.set_sensitive(true);
        Ok(value)
    };
    match &account.credential {
        Credential::User { token } => {
            headers.insert(header::AUTHORIZATION, secret(token)?);
        }
        Credential::Provider { token, user } => {
            headers.insert(header::AUTHORIZATION, secret(token)?);
            headers.insert("nabe-user", HeaderValue::from_str(user.as_str())?);
            headers.insert("nabe-device", HeaderValue::from_str(account.device.as_str())?);
        }
    }
    Connection::new(&account.server, account.ca.as_deref(), headers)
}

#[async_trait]
impl Transport for HttpTransport {
    async fn whoami(&self) -> Result<WhoAmI, TransportError> {
        let answer = self.get("/whoami").await?;
        Ok(WhoAmI {
            user_id: UserId::parse(text(&answer, "user_id")?).map_err(not_understood)?,
            device_id: optional(&answer, "device_id")
                .map(DeviceId::parse)
                .transpose()
                .map_err(not_understood)?,
            server_name: ServerName::parse(text(&answer, "server_name")?).map_err(not_understood)?,
        })
    }

    async fn put_device(&self, device: &DeviceId, object: &Object) -> Result<(), TransportError> {
        let path = format!("/devices/{}", encoded(device.as_str()));
        self.call(Method::PUT, &path, Some(object), None).await.map(drop)
    }

    async fn delete_device(&self, device: &DeviceId) -> Result<(), TransportError> {
        let path = format!("/devices/{}", encoded(device.as_str()));
        self.call(Method::DELETE, &path, None, None).await.map(drop)
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<Object>, TransportError> {
        let answer = self.get(&format!("/users/{}/devices", encoded(user.as_str()))).await?;
        Ok(objects(&answer, "devices")?.cloned().collect())
    }

    async fn upload_key_packages(
        &self,
        device: &DeviceId,
        algorithm: &str,
        packages: &[KeyPackageUpload],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        let packages: Vec<Json> = packages
            .iter()
            .map(|package| {
                object! { "key" => base64u::encode(&package.key), "last_resort" => package.last_resort }.into()
            })
            .collect();
        let body = object! { "algorithm" => algorithm, "key_packages" => Json::Array(packages) };
        let path = format!("/devices/{}/key_packages", encoded(device.as_str()));
        let answer = self.post(&path, &body, None).await?;
        Ok(objects(&answer, "results")?
            .map(|result| match result.get("error") {
                None | Some(Json::Null) => Ok(()),
                Some(Json::String(reason)) => Err(reason.clone()),
                Some(_) => Err("refused".to_owned()),
            })
            .collect())
    }

    async fn key_packages_left(&self, device: &DeviceId) -> Result<BTreeMap<String, u64>, TransportError> {
        let answer = self
            .get(&format!("/devices/{}/key_packages", encoded(device.as_str())))
            .await?;
        objects(&answer, "key_packages")?
            .map(|entry| Ok((text(entry, "algorithm")?.to_owned(), number(entry, "left")?)))
            .collect()
    }

    async fn claim_keys(&self, devices: &[(UserId, DeviceId)], algorithm: &str) -> Result<Claimed, TransportError> {
        let mut wanted: BTreeMap<&str, Object> = BTreeMap::new();
        for (user, device) in devices {
            wanted
                .entry(user.as_str())
                .or_default()
                .insert(device.as_str(), algorithm);
        }
        let mut by_user = Object::new();
        for (user, devices) in wanted {
            by_user.insert(user, devices);
        }
        let answer = self
            .post("/keys/claim", &object! { "one_time_keys" => by_user }, None)
            .await?;
        let keys = answer.get("one_time_keys").and_then(Json::as_object);
        let mut claimed = Claimed::default();
        for (user, device) in devices {
            let key = keys
                .and_then(|keys| keys.get(user.as_str())?.as_object())
                .and_then(|keys| keys.get(device.as_str())?.as_object())
                .and_then(|keys| keys.get(algorithm)?.as_str())
                .and_then(|key| base64u::decode(key).ok());
            if let Some(key) = key {
                claimed.packages.insert((user.clone(), device.clone()), key);
            }
        }
        for (server, reason) in answer.get("failures").and_then(Json::as_object).into_iter().flatten() {
            if let Ok(server) = ServerName::parse(server) {
                let reason = reason.as_str().unwrap_or("its server did not answer").to_owned();
                claimed.failures.insert(server, reason);
            }
        }
        Ok(claimed)
    }

    async fn create_room(&self, room: &NewRoom) -> Result<RoomId, TransportError> {
        let mut body = Object::new();
        let fields = [
            ("name", &room.name),
            ("join_rule", &room.join_rule),
            ("encryption", &room.encryption),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                body.insert(field, value.as_str());
            }
        }
        let invite: Vec<Json> = room.invite.iter().map(|user| Json::from(user.as_str())).collect();
        body.insert("invite", Json::Array(invite));
        let answer = self.post("/rooms", &body, None).await?;
        RoomId::parse(text(&answer, "room_id")?).map_err(not_understood)
    }

    async fn rooms(&self) -> Result<Rooms, TransportError> {
        let answer = self.get("/rooms").await?;
        let rooms = objects(&answer, "rooms")?.map(summary).collect::<Result<_, _>>()?;
        let invites = objects(&answer, "invites")?
            .map(|invite| {
                let room = RoomId::parse(text(invite, "room_id")?).map_err(not_understood)?;
                let hub = ServerName::parse(text(invite, "hub")?).map_err(not_understood)?;
                Ok::<_, TransportError>((room, hub))
            })
            .collect::<Result<_, _>>()?;
        Ok(Rooms { rooms, invites })
    }

    async fn room(&self, room: &RoomId) -> Result<RoomSummary, TransportError> {
        summary(&self.get(&in_room(room, "")).await?)
    }

    async fn join(&self, room: &RoomId, via: &[ServerName]) -> Result<(), TransportError> {
        let via: Vec<Json> = via.iter().map(|server| Json::from(server.as_str())).collect();
        self.post(&in_room(room, "/join"), &object! { "via" => Json::Array(via) }, None)
            .await
            .map(drop)
    }

    async fn leave(&self, room: &RoomId) -> Result<(), TransportError> {
        self.post(&in_room(room, "/leave"), &Object::new(), None)
            .await
            .map(drop)
    }

    async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        let body = object! { "user_id" => user.as_str() };
        self.post(&in_room(room, "/invite"), &body, None).await.map(drop)
    }

    async fn kick(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        let body = object! { "user_id" => user.as_str() };
        self.post(&in_room(room, "/kick"), &body, None).await.map(drop)
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<Member>, TransportError> {
        let answer = self.get(&in_room(room, "/members")).await?;
        objects(&answer, "members")?
            .map(|member| {
                Ok(Member {
                    user_id: UserId::parse(text(member, "user_id")?).map_err(not_understood)?,
                    membership: text(member, "membership")?.to_owned(),
                })
            })
            .collect()
    }

    async fn send_event(&self, room: &RoomId, event: &NewEvent, key: &str) -> Result<Sent, TransportError> {
        let mut body = object! { "type" => event.event_type.as_str(), "content" => event.content.clone() };
        if let Some(state_key) = &event.state_key {
            body.insert("state_key", state_key.as_str());
        }
        let answer = self.post(&in_room(room, "/events"), &body, Some(key)).await?;
        Ok(Sent {
            event_id: optional(&answer, "event_id")
                .map(EventId::parse)
                .transpose()
                .map_err(not_understood)?,
            lpdu_id: optional(&answer, "lpdu_id").map(str::to_owned),
        })
    }

    async fn history(
        &self,
        room: &RoomId,
        from: Option<LogPosition>,
        direction: Direction,
        limit: usize,
    ) -> Result<History, TransportError> {
        let direction = match direction {
            Direction::Forward => 'f',
            Direction::Backward => 'b',
        };
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let answer = self
            .get(&in_room(room, &format!("/events?dir={direction}&limit={limit}{from}")))
            .await?;
        Ok(History {
            events: objects(&answer, "events")?.filter_map(RoomEvent::from_object).collect(),
            next: answer.get("next").and_then(Json::as_i64).map(LogPosition),
        })
    }

    async fn send_to_device(&self, messages: &[ToDevice], key: &str) -> Result<(), TransportError> {
        let messages: Vec<Json> = messages
            .iter()
            .map(|message| {
                object! {
                    "target" => message.target.as_str(),
                    "target_device" => message.target_device.as_str(),
                    "type" => message.message_type.as_str(),
                    "content" => message.content.clone(),
                }
                .into()
            })
            .collect();
        let body = object! { "messages" => Json::Array(messages) };
        self.post("/to_device", &body, Some(key)).await.map(drop)
    }

    async fn group(&self, room: &RoomId) -> Result<Option<GroupSnapshot>, TransportError> {
        let answer = match self.get(&in_room(room, "/group")).await {
            Err(TransportError::Refused(refusal)) if refusal.status == 404 => return Ok(None),
            answer => answer?,
        };
        let state = base64u::decode(text(&answer, "public_group_state")?).map_err(not_understood)?;
        Ok(Some(GroupSnapshot {
            event_id: EventId::parse(text(&answer, "event_id")?).map_err(not_understood)?,
            position: LogPosition(answer.get("position").and_then(Json::as_i64).unwrap_or(0)),
            epoch: number(&answer, "epoch")?,
            public_group_state: state,
        }))
    }

    /// May be dropped at any time: what was read stays for the next call.
    async fn next(&self, since: Option<&str>, wait: Duration) -> Result<Vec<StreamItem>, TransportError> {
        let mut open = self.stream.lock().await;
        let mut stream = match open.take() {
            Some(stream) if stream.at.as_deref() == since && since.is_some() => stream,
            _ => self.open_stream(since).await?,
        };
        let until = Instant::now() + wait.max(CAUGHT_UP);
        loop {
            // Whatever has come already goes out together.
            let deadline = if stream.items.is_empty() { until } else { Instant::now() };
            if stream.items.len() >= MAX_ITEMS {
                break;
            }
            let frame = {
                let kept = open.insert(stream);
                let frame = timeout_at(deadline, kept.body.frame()).await;
                stream = open.take().expect("it was put there");
                frame
            };
            match frame {
                Err(_) => break,
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        stream.items.extend(stream.parser.feed(data));
                    }
                }
                Ok(None | Some(Err(_))) if !stream.items.is_empty() => {
                    return Ok(stream.items.into_iter().collect());
                }
                // The server closed the stream; it is opened again next time.
                Ok(None) => return Ok(Vec::new()),
                Ok(Some(Err(error))) => return Err(unreachable(error)),
            }
        }
        let items: Vec<StreamItem> = stream.items.drain(..).collect();
        if let Some(last) = items.last() {
            stream.at = Some(last.token.clone());
        }
        *open = Some(stream);
        Ok(items)
    }

    async fn put_media(&self, bytes: Bytes) -> Result<String, TransportError> {
        let headers = [("content-type", "application/octet-stream")];
        let answer = self
            .connection
            .transfer(Method::POST, &format!("{API}/media"), &headers, bytes, MAX_ANSWER)
            .await
            .map_err(unreachable)?;
        if !is_success(answer.status()) {
            return Err(refused(&answer));
        }
        let answer = Object::parse(answer.body()).map_err(not_understood)?;
        let uri = text(&answer, "content_uri")?;
        let id = uri
            .strip_prefix("mxc://")
            .ok_or_else(|| not_understood(Missing("content_uri")))?;
        Ok(id.to_owned())
    }

    async fn get_media(&self, media_id: &str) -> Result<Bytes, TransportError> {
        let path: Vec<String> = media_id.split('/').map(encoded).collect();
        let path = format!("{API}/media/{}", path.join("/"));
        let answer = self
            .connection
            .transfer(Method::GET, &path, &[], Bytes::new(), MAX_MEDIA)
            .await
            .map_err(unreachable)?;
        if !is_success(answer.status()) {
            return Err(refused(&answer));
        }
        Ok(answer.into_body())
    }
}

/// Takes server-sent events apart (WHATWG HTML, 9.2.6), as far as this API uses them.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
    id: String,
    event: String,
    data: String,
}

impl Parser {
    /// The items that these bytes complete.
    fn feed(&mut self, bytes: &[u8]) -> Vec<StreamItem> {
        self.rest.extend_from_slice(bytes);
        let mut items = Vec::new();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            items.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        items
    }

    fn line(&mut self, line: &str) -> Option<StreamItem> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            return (!event.is_empty()).then(|| StreamItem {
                token: self.id.clone(),
                body: body(&event, &data).unwrap_or(StreamBody::Other(event)),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment, or a field that we have no use for.
            _ => {}
        }
        None
    }
}

/// `None` for what this client has no use for or cannot read.
fn body(event: &str, data: &str) -> Option<StreamBody> {
    if event == "ready" {
        return Some(StreamBody::Ready);
    }
    let data = Object::parse(data.as_bytes()).ok()?;
    let text = |field| data.get(field).and_then(Json::as_str);
    let room = || RoomId::parse(text("room_id")?).ok();
    Some(match event {
        "room" => {
            let event = RoomEvent::from_object(data.get("event")?.as_object()?)?;
            StreamBody::Room(room()?, Box::new(event))
        }
        "invite" => {
            let sender = text("sender").and_then(|sender| UserId::parse(sender).ok());
            StreamBody::Invite(room()?, sender.map(|sender| sender.server_name().clone()))
        }
        "to_device" => StreamBody::ToDevice {
            sender: UserId::parse(text("sender")?).ok()?,
            message_type: text("message_type")?.to_owned(),
            message: data.get("message")?.as_object()?.clone(),
        },
        "event_rejected" => StreamBody::EventRejected {
            room: room()?,
            lpdu_id: text("lpdu_id")?.to_owned(),
            error: text("error")?.to_owned(),
            current_epoch: data
                .get("current_epoch")
                .and_then(Json::as_i64)
                .and_then(|epoch| u64::try_from(epoch).ok()),
        },
        "device_list" | "device_list_changed" => StreamBody::DeviceListChanged(UserId::parse(text("user_id")?).ok()?),
        "key_packages_low" => StreamBody::KeyPackagesLow {
            device: DeviceId::parse(text("device_id")?).ok()?,
            algorithm: text("algorithm")?.to_owned(),
            left: data.get("left")?.as_i64().and_then(|left| u64::try_from(left).ok())?,
        },
        _ => return None,
    })
}

fn summary(object: &Object) -> Result<RoomSummary, TransportError> {
    Ok(RoomSummary {
        room_id: RoomId::parse(text(object, "room_id")?).map_err(not_understood)?,
        membership: text(object, "membership")?.to_owned(),
        hub: ServerName::parse(text(object, "hub")?).map_err(not_understood)?,
        name: optional(object, "name").map(str::to_owned),
        encryption: optional(object, "encryption").map(str::to_owned),
        position: LogPosition(object.get("position").and_then(Json::as_i64).unwrap_or(0)),
    })
}

pub(super) fn refused(answer: &Response<Bytes>) -> TransportError {
    if answer.status() == StatusCode::TOO_MANY_REQUESTS {
        let seconds = answer.headers().get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = Duration::from_secs(seconds.unwrap_or(1));
        return TransportError::RateLimited { retry_after };
    }
    let body = Object::parse(answer.body()).ok();
    let error = body
        .as_ref()
        .and_then(|body| body.get("error"))
        .and_then(Json::as_object);
    let field = |name| error.and_then(|error| error.get(name));
    TransportError::Refused(Refusal {
        status: answer.status().as_u16(),
        code: field("code").and_then(Json::as_str).unwrap_or("unknown").to_owned(),
        message: field("message")
            .and_then(Json::as_str)
            .unwrap_or("the server said no")
            .to_owned(),
        current_epoch: field("current_epoch")
            .and_then(Json::as_i64)
            .and_then(|epoch| u64::try_from(epoch).ok()),
    })
}

pub(super) fn unreachable(error: impl std::error::Error + Send + Sync + 'static) -> TransportError {
    TransportError::Unreachable(Box::new(error))
}

pub(super) fn not_understood(error: impl std::error::Error + Send + Sync + 'static) -> TransportError {
    TransportError::NotUnderstood(Box::new(error))
}

/// A field that the API promises is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no `{0}`")]
struct Missing(&'static str);

fn text<'o>(object: &'o Object, field: &'static str) -> Result<&'o str, TransportError> {
    optional(object, field).ok_or_else(|| not_understood(Missing(field)))
}

fn optional<'o>(object: &'o Object, field: &str) -> Option<&'o str> {
    object.get(field).and_then(Json::as_str)
}

fn number(object: &Object, field: &'static str) -> Result<u64, TransportError> {
    let number = object.get(field).and_then(Json::as_i64);
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| not_understood(Missing(field)))
}

fn objects<'o>(object: &'o Object, field: &'static str) -> Result<impl Iterator<Item = &'o Object>, TransportError> {
    let array = object.get(field).and_then(Json::as_array);
    let array = array.ok_or_else(|| not_understood(Missing(field)))?;
    Ok(array.iter().filter_map(Json::as_object))
}

fn in_room(room: &RoomId, rest: &str) -> String {
    format!("/rooms/{}{rest}", encoded(room.as_str()))
}

pub(super) fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

pub(super) const API: &str = "/_nabe/v1";
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Largest answer that is not a file.
pub(super) const MAX_ANSWER: usize = 16 << 20;
const MAX_MEDIA: usize = 101 << 20;
const MAX_ITEMS: usize = 200;
/// If nothing comes for so long, there is nothing more for now.
const CAUGHT_UP: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let room = r#"{"room_id":"!r:a.test","event":{"event_id":"$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","position":3,"type":"m.room.encrypted","sender":"@a:a.test","origin_server_ts":5,"content":{}}}"#;
        let text = format!(
            ":\n\nid: t0\nevent: ready\ndata: {{}}\n\nid: t1\nevent: room\ndata: {room}\n\nid: t2\nevent: news\ndata: {{}}\n\n"
        );
        for size in [1, 7, 1_000] {
            let mut parser = Parser::default();
            let items: Vec<StreamItem> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| parser.feed(chunk))
                .collect();
            let tokens: Vec<&str> = items.iter().map(|item| item.token.as_str()).collect();
            assert_eq!(tokens, ["t0", "t1", "t2"]);
            assert!(matches!(&items[1].body, StreamBody::Room(_, event) if event.position == LogPosition(3)));
            assert_eq!(items[2].body, StreamBody::Other("news".to_owned()));
        }
    }

    #[test]
    fn a_refused_commit_names_the_current_epoch() {
        let body = r#"{"error":{"code":"forbidden","message":"too late","current_epoch":7}}"#;
        let answer = Response::builder().status(403).body(Bytes::from(body)).unwrap();
        let TransportError::Refused(refusal) = refused(&answer) else {
            panic!("a refusal")
        };
        assert_eq!((refusal.current_epoch, refusal.message.as_str()), (Some(7), "too late"));
    }

    #[test]
    fn ids_are_escaped_in_paths() {
        let room = RoomId::parse("!r:a.test").unwrap();
        assert_eq!(in_room(&room, "/join"), "/rooms/%21r%3Aa.test/join");
    }
}
