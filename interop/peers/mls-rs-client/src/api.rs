//! Nabe's client API over HTTPS, as far as a device with an MLS stack of its own needs it.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::Input;
use crate::error::{Error, Result, invalid};

/// One device's line to its server.
pub struct Api {
    agent: Agent,
    server: String,
    token: String,
    /// With a provider's credential: for which user, and which device. A user's own token says so itself.
    acting: Option<(String, String)>,
}

impl Api {
    /// For the server at `server` (`https://host:port`), whose certificate the authority in `ca` (PEM) has signed.
    pub fn new(server: &str, ca: &[u8], token: String, acting: Option<(String, String)>) -> Result<Self> {
        let ca = Certificate::from_pem(ca).map_err(|error| invalid(format!("the CA file: {error}")))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[ca]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(TIMEOUT))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            server: server.trim_end_matches('/').to_owned(),
            token,
            acting,
        })
    }

    /// `GET`
    pub fn get(&self, path: &str) -> Result<Value> {
        let request = self.with_headers(self.agent.get(self.url(path)));
        let request = request.config().timeout_global(Some(TIMEOUT)).build();
        read(request.call())
    }

    /// `POST` with a JSON body. The same request with the same key is one request.
    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value> {
        let mut request = self.with_headers(self.agent.post(self.url(path)));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.config().timeout_global(Some(TIMEOUT)).build();
        read(
            request
                .header("content-type", "application/json")
                .send(body.to_string()),
        )
    }

    /// `PUT` with a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.with_headers(self.agent.put(self.url(path)));
        let request = request.config().timeout_global(Some(TIMEOUT)).build();
        read(
            request
                .header("content-type", "application/json")
                .send(body.to_string()),
        )
    }

    /// `POST` of one struct of MIMI, for another one.
    pub fn exchange(&self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let request = self.with_headers(self.agent.post(self.url(path)));
        let request = request.config().timeout_global(Some(TIMEOUT)).build();
        let answer = request.header("content-type", "application/octet-stream").send(body);
        let mut answer = answer.map_err(no_answer)?;
        if answer.status() != 200 {
            read(Ok(answer))?;
            return Err(invalid("an answer that is no struct"));
        }
        answer.body_mut().read_to_vec().map_err(no_answer)
    }

    /// Sends an event to a room.
    pub fn send_event(&self, room: &str, event_type: &str, content: &Value, key: &str) -> Result<Value> {
        let path = format!("/rooms/{}/events", escape(room));
        self.post(&path, &json!({"type": event_type, "content": content}), Some(key))
    }

    /// Uploads key packages; each must be taken.
    pub fn upload_key_packages(&self, device: &str, algorithm: &str, packages: &[(Vec<u8>, bool)]) -> Result<Value> {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(key, last_resort)| json!({"key": encode(key), "last_resort": last_resort}))
            .collect();
        let path = format!("/devices/{}/key_packages", escape(device));
        self.post(&path, &json!({"algorithm": algorithm, "key_packages": packages}), None)
    }

    /// A user's device objects, unchecked.
    pub fn devices(&self, user: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/users/{}/devices", escape(user)))?;
        let devices = answer.get("devices").and_then(Value::as_array);
        Ok(devices.ok_or_else(|| invalid("no `devices` in the answer"))?.clone())
    }

    /// Claims a key package of one device, unchecked.
    pub fn claim(&self, user: &str, device: &str, algorithm: &str) -> Result<Vec<u8>> {
        let wanted = json!({"one_time_keys": object(user, object(device, algorithm.into()))});
        let answer = self.post("/keys/claim", &wanted, None)?;
        let key = answer
            .get("one_time_keys")
            .and_then(|users| users.get(user)?.get(device)?.get(algorithm)?.as_str());
        let key = key.ok_or_else(|| invalid(format!("no key package for {user} {device}: {answer}")))?;
        decode(key)
    }

    /// The newest commit of a room's log.
    pub fn group(&self, room: &str) -> Result<Value> {
        self.get(&format!("/rooms/{}/group", escape(room)))
    }

    /// Follows the event stream for as long as the process lives, and passes on what it brings. After a break it goes on where it was.
    pub fn follow(&self, device: &str, to: &Sender<Input>) {
        let mut since: Option<String> = None;
        loop {
            if let Err(error) = self.follow_once(device, &mut since, to) {
                let gone = to.send(Input::StreamBroke(error.to_string())).is_err();
                if gone {
                    return;
                }
            }
            std::thread::sleep(RECONNECT);
        }
    }

    fn follow_once(&self, device: &str, since: &mut Option<String>, to: &Sender<Input>) -> Result<()> {
        let request = self.agent.get(self.url("/stream")).query("device", device);
        let mut request = self.with_headers(request);
        if let Some(since) = since.as_deref() {
            request = request.header("last-event-id", since);
        }
        let response = request.call().map_err(no_answer)?;
        if response.status() != 200 {
            read(Ok(response))?;
            return Err(invalid("the stream is not one"));
        }
        let (mut id, mut kind, mut data) = (String::new(), String::new(), String::new());
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|error| Error::NoAnswer(error.to_string()))?;
            if line.is_empty() {
                if !kind.is_empty() {
                    let data = serde_json::from_str(&data).map_err(|error| invalid(error.to_string()))?;
                    let item = Input::Item(std::mem::take(&mut kind), data);
                    to.send(item).map_err(|error| Error::NoAnswer(error.to_string()))?;
                    *since = Some(id.clone());
                }
                data.clear();
                continue;
            }
            match line.split_once(':') {
                Some(("id", value)) => id = value.trim_start().to_owned(),
                Some(("event", value)) => kind = value.trim_start().to_owned(),
                Some(("data", value)) => data.push_str(value.trim_start()),
                _ => {}
            }
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/_nabe/v1{path}", self.server)
    }

    fn with_headers<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let request = request.header("authorization", format!("Bearer {}", self.token));
        match &self.acting {
            Some((user, device)) => request.header("nabe-user", user).header("nabe-device", device),
            None => request,
        }
    }
}

/// A user, room or device in a path.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Unpadded base64, as all of the draft's.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Reads unpadded base64.
pub fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD_NO_PAD
        .decode(text)
        .map_err(|error| invalid(format!("base64: {error}")))
}

/// An object with one field.
pub fn object(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn read(answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
    let answer = answer.map_err(no_answer)?;
    let status = answer.status().as_u16();
    let body = answer.into_body().read_to_string().map_err(no_answer)?;
    let body: Value = serde_json::from_str(&body).map_err(|error| Error::NoAnswer(format!("{status}: {error}")))?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let error = body.get("error").cloned().unwrap_or_default();
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(Error::Refused {
        status,
        code: text("code"),
        message: text("message"),
        current_epoch: error.get("current_epoch").and_then(Value::as_u64),
    })
}

fn no_answer(error: ureq::Error) -> Error {
    Error::NoAnswer(error.to_string())
}

const TIMEOUT: Duration = Duration::from_secs(12);
const RECONNECT: Duration = Duration::from_millis(100);
