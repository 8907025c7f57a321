//! The server that is checked: its client API as the provider's backend, and requests of other servers to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, xmatrix};
use nabe_types::{ServerName, UserId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::author::now_millis;
use crate::case::{Checked, Stop, failed};
use crate::config::SubjectConfig;
use crate::http_client::{HttpClient, HttpError, Reply};

/// The subject. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Subject {
    name: ServerName,
    provider_token: Arc<str>,
    http: HttpClient,
}

impl Subject {
    pub(crate) fn new(config: &SubjectConfig) -> Result<Self, HttpError> {
        Ok(Self {
            name: config.server_name.clone(),
            provider_token: config.provider_token.as_str().into(),
            http: HttpClient::new(&config.base_url, config.address, &config.ca_pem)?,
        })
    }

    /// The same server over a connection of its own, so that no case suffers from what another does to its connection.
    pub(crate) fn apart(&self) -> Self {
        Self {
            http: self.http.apart(),
            ..self.clone()
        }
    }

    pub(crate) const fn name(&self) -> &ServerName {
        &self.name
    }

    pub(crate) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// A call to the client API as one of its users. `path` begins behind `/_nabe/v1`.
    pub(crate) async fn api(&self, user: &UserId, method: &str, path: &str, body: Option<&Object>) -> Checked<Reply> {
        let token = format!("Bearer {}", self.provider_token);
        let headers = [("authorization", token.as_str()), ("nabe-user", user.as_str())];
        let body = body.map(|body| Bytes::from(body.to_canonical()));
        self.request(method, &format!("/_nabe/v1{path}"), &headers, body).await
    }

    /// A question to the client API as one of its users, of a subject that may not be there. `path` begins behind `/_nabe/v1`.
    pub(crate) async fn try_api(&self, user: &UserId, path: &str) -> Result<Reply, HttpError> {
        let token = format!("Bearer {}", self.provider_token);
        let headers = [("authorization", token.as_str()), ("nabe-user", user.as_str())];
        self.try_request("GET", &format!("/_nabe/v1{path}"), &headers, None)
            .await
    }

    /// A call to the client API as one of its users with a body that is a struct of MIMI. `path` begins behind `/_nabe/v1/mimi`.
    pub(crate) async fn mimi(&self, user: &UserId, path: &str, body: Vec<u8>) -> Checked<Reply> {
        let token = format!("Bearer {}", self.provider_token);
        let headers = [
            ("authorization", token.as_str()),
            ("nabe-user", user.as_str()),
            ("content-type", "application/octet-stream"),
        ];
        let path = format!("/_nabe/v1/mimi{path}");
        self.request("POST", &path, &headers, Some(body.into())).await
    }

    /// A question that the subject's operator asks with the provider's credential, as none of its users. `path` begins behind `/_nabe/v1`.
    pub(crate) async fn operator(&self, path: &str) -> Checked<Reply> {
        let token = format!("Bearer {}", self.provider_token);
        let headers = [("authorization", token.as_str())];
        self.request("GET", &format!("/_nabe/v1{path}"), &headers, None).await
    }

    /// What the event stream tells one of its users' devices from the beginning, until this text comes.
    pub(crate) async fn stream_until(&self, user: &UserId, device: &str, text: &str) -> Checked<String> {
        let request = Request::builder()
            .uri(format!("/_nabe/v1/stream?since=start&device={device}"))
            .header("authorization", format!("Bearer {}", self.provider_token))
            .header("nabe-user", user.as_str())
            .body(Bytes::new());
        let read = async { self.http.read_until(request?, |heard| heard.contains(text)).await };
        let expected = format!("{text} on the stream of {user}");
        match read.await {
            Ok(heard) if heard.contains(text) => Ok(heard),
            Ok(heard) => failed(expected, format!("the end of the stream after {}", short(&heard))),
            Err(error) => failed(expected, error.to_string()),
        }
    }

    /// A request signed by `signer`'s server, with `content: {}` if there is no body.
    pub(crate) async fn signed(&self, signer: &Signer, method: &str, uri: &str, body: Option<&Json>) -> Checked<Reply> {
        let bytes = body.map(|body| Bytes::from(body.to_canonical()));
        self.signed_bytes(signer, method, uri, body, bytes).await
    }

    /// A signed request whose bytes are another way to write `body`.
    pub(crate) async fn signed_bytes(
        &self,
        signer: &Signer,
        method: &str,
        uri: &str,
        body: Option<&Json>,
        bytes: Option<Bytes>,
    ) -> Checked<Reply> {
        let authorization = self.authorization(signer, method, uri, body);
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        self.request(method, uri, &headers, bytes).await
    }

    /// The `Authorization` headers that [`Subject::signed`] sends.
    pub(crate) fn authorization(&self, signer: &Signer, method: &str, uri: &str, body: Option<&Json>) -> Vec<String> {
        let request = xmatrix::Request {
            method,
            uri,
            destination: &self.name,
            content: body,
        };
        xmatrix::sign_request(signer, &request)
    }

    /// Any request. That there is no answer at all is a failure of the subject.
    pub(crate) async fn request(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Checked<Reply> {
        self.try_request(method, uri, headers, body)
            .await
            .map_err(|error| Stop::Failed {
                expected: format!("an answer to {method} {}", short(uri)),
                got: error.to_string(),
            })
    }

    pub(crate) async fn try_request(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Reply, HttpError> {
        let mut request = Request::builder().method(method).uri(uri);
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.http.send(request.body(body.unwrap_or_default())?).await
    }
}

impl Reply {
    /// The body, if it is JSON as the draft demands it.
    pub(crate) fn json(&self) -> Option<Json> {
        Json::parse(&self.body).ok()
    }

    /// The body, empty if it is no JSON object.
    pub(crate) fn object(&self) -> Object {
        self.json().and_then(Json::into_object).unwrap_or_default()
    }

    /// The machine-readable code of an error, whichever API it is from.
    pub(crate) fn errcode(&self) -> Option<String> {
        let object = self.object();
        let code = match object.get("error").and_then(Json::as_object) {
            Some(error) => error.get("code"),
            None => object.get("errcode"),
        };
        code.and_then(Json::as_str).map(str::to_owned)
    }

    /// Status, code and sentence, for people.
    pub(crate) fn brief(&self) -> String {
        if self.status == 200 {
            return "200".to_owned();
        }
        let text = String::from_utf8_lossy(&self.body);
        format!("{} {}", self.status, short(&text))
    }

    /// One header's value, empty if it is missing or not text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }
}

/// The beginning of a text that may be long.
pub(crate) fn short(text: &str) -> String {
    let mut beginning: String = text.chars().take(160).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    beginning
}

/// One path segment or query value, percent-encoded.
pub(crate) fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, ENCODED).to_string()
}

/// A text that is used once: transaction IDs, localparts, markers. Lower-case letters and digits.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:x}n{:x}", now_millis(), COUNT.fetch_add(1, Ordering::Relaxed))
}

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
