//! An OHTTP gateway (MIMI #download-using-oblivious-http, RFC 9458, RFC 9540): requests for files that a relay hands us sealed, so that
//! it does not learn which file, and we do not learn who wants it. The relay is another provider, with a certificate as on every
//! endpoint; the keys are for everybody. What may be asked for is what may be downloaded by proxy.
//!
//! ```text
//! GET  /.well-known/ohttp-gateway   application/ohttp-keys    whose key to seal to
//! POST /.well-known/ohttp-gateway   message/ohttp-req  →  message/ohttp-res
//! ```
//!
//! What is wrong with the sealed request is said in the sealed answer, since it is nobody else's business.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bhttp::{Message, Mode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use nabe_service::mimi::{Asset, MAX_SEALED_BYTES, Mimi, UNKNOWN_KEY};
use nabe_service::shares::Shares;
use nabe_types::ServerName;
use nabe_wire::uri::MimiUri;
use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{KeyConfig, Server, SymmetricSuite};

use super::{MimiRefusal, PeerIdentity};
use crate::{AppState, body};

/// Where the gateway is, by RFC 9540.
pub(crate) const OHTTP_PATH: &str = "/.well-known/ohttp-gateway";

/// A gateway with its keys. Clones share everything.
#[derive(Clone)]
pub struct OhttpGateway {
    inner: Arc<Inner>,
}

struct Inner {
    /// By the number that requests begin with.
    servers: BTreeMap<u8, Server>,
    keys: Bytes,
    /// An answer is held whole, and twice while it is sealed.
    answers: Shares<String>,
}

/// Who hands us a sealed request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'a> {
    /// A relay, for a user of its own.
    Provider(&'a ServerName),
    /// A user of ours, whose relay we are ourselves.
    User(&'a MimiUri),
}

/// No key can be made of a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no OHTTP key can be made of the secret")]
pub struct OhttpKeyError;

impl OhttpGateway {
    /// A gateway whose keys follow from these secrets, each with the number by which requests name its key. The first one is the key for
    /// new requests; the others are for requests that were sealed to what was published before.
    ///
    /// # Errors
    ///
    /// [`OhttpKeyError`]; also if there is no secret, or one number twice.
    pub fn new(secrets: &[(u8, [u8; 32])]) -> Result<Self, OhttpKeyError> {
        let suite = |aead| SymmetricSuite::new(Kdf::HkdfSha256, aead);
        let mut servers = BTreeMap::new();
        for (number, secret) in secrets {
            let suites = vec![suite(Aead::Aes128Gcm), suite(Aead::ChaCha20Poly1305)];
            let config = KeyConfig::derive(*number, Kem::X25519Sha256, suites, secret);
            let server = config.and_then(Server::new).map_err(|_| OhttpKeyError)?;
            if servers.insert(*number, server).is_some() {
                return Err(OhttpKeyError);
            }
        }
        let newest = secrets.first().and_then(|(number, _)| servers.get(number));
        let keys = KeyConfig::encode_list(&[newest.ok_or(OhttpKeyError)?.config()]).map_err(|_| OhttpKeyError)?;
        Ok(Self {
            inner: Arc::new(Inner {
                servers,
                keys: keys.into(),
                answers: Shares::default(),
            }),
        })
    }

    /// The key to seal requests to: `application/ohttp-keys`.
    pub(crate) fn key_list(&self) -> Bytes {
        self.inner.keys.clone()
    }

    pub(super) fn keys(&self) -> Response {
        let mut answer = Response::new(Body::from(self.key_list()));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, KEYS);
        headers.insert(CACHE_CONTROL, super::DIRECTORY_LIFETIME);
        answer
    }

    /// A sealed request, answered.
    pub(super) async fn forward(
        self,
        peer: PeerIdentity,
        state: AppState,
        request: Request,
    ) -> Result<Response, MimiRefusal> {
        let mimi = state.service.mimi().ok_or(MimiRefusal::UnknownEndpoint)?;
        let is_sealed = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|found| found == "message/ohttp-req");
        if !is_sealed {
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not a message/ohttp-req"));
        }
        let (sealed, _share) = body::read(request.into_body(), MAX_SEALED_BYTES, &state.limits).await?;
        let Some(sealed) = self.open(&mimi, Asker::Provider(peer.domain()), &sealed).await? else {
            return Ok(unknown_key());
        };
        let mut answer = Response::new(Body::from(sealed));
        answer.headers_mut().insert(CONTENT_TYPE, SEALED_ANSWER);
        Ok(answer)
    }

    /// A sealed request, answered in the same way; `None` if it is sealed to a key that is not ours.
    pub(crate) async fn open(&self, mimi: &Mimi, from: Asker<'_>, sealed: &[u8]) -> Result<Option<Bytes>, MimiRefusal> {
        let Some(server) = sealed.first().and_then(|number| self.inner.servers.get(number)) else {
            return Ok(None);
        };
        let Ok((message, sealer)) = server.decapsulate(sealed) else {
            return Err(refused(StatusCode::BAD_REQUEST, "the sealed request cannot be opened"));
        };
        let (of, each) = match from {
            Asker::Provider(provider) => (provider.to_string(), ANSWERS_OF_PROVIDER),
            Asker::User(user) => (user.to_string(), ANSWERS_OF_USER),
        };
        let turn = self.inner.answers.take(&of, each, ANSWERS_AT_ONCE);
        let _turn = turn.ok_or(MimiRefusal::Busy)?;
        let inner = match answer(mimi, from, &message).await {
            Ok(inner) => inner,
            Err((status, text)) => plain(status, text.as_bytes(), None),
        };
        let mut encoded = Vec::new();
        let encoding = inner.write_bhttp(Mode::KnownLength, &mut encoded);
        let failed = |_| refused(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be sealed");
        encoding.map_err(|_| ()).map_err(failed)?;
        let sealed = sealer.encapsulate(&encoded).map_err(|_| ()).map_err(failed)?;
        Ok(Some(sealed.into()))
    }
}

/// What the sealed request asks for, or what is wrong with it.
async fn answer(mimi: &Mimi, from: Asker<'_>, message: &[u8]) -> Result<Message, (StatusCode, String)> {
    let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    let request = Message::read_bhttp(&mut Cursor::new(message)).map_err(|_| bad("not a binary HTTP message"))?;
    let control = request.control();
    let text = |part: Option<&[u8]>| part.and_then(|part| std::str::from_utf8(part).ok().map(str::to_owned));
    if control.method() != Some(b"GET") {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "files are fetched with GET".to_owned()));
    }
    let (scheme, path) = (text(control.scheme()), text(control.path()));
    let authority = text(control.authority()).filter(|authority| !authority.is_empty());
    let authority = authority.or_else(|| text(request.header().get(b"host")));
    let (Some(scheme), Some(authority), Some(path)) = (scheme, authority, path) else {
        return Err(bad("the request does not say of where"));
    };
    let url = format!("{scheme}://{authority}{path}");
    let asset = match from {
        Asker::Provider(provider) => mimi.download(provider, &url).await,
        Asker::User(user) => mimi.download_for(user, &url).await,
    };
    let asset = asset.map_err(|error| {
        let refusal = MimiRefusal::from(error);
        (refusal.status(), refusal.to_string())
    })?;
    let Asset { content_type, mut body } = asset;
    let mut file = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
        if file.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err((
                StatusCode::BAD_GATEWAY,
                "the file is larger than what is sealed in one piece".to_owned(),
            ));
        }
        file.extend_from_slice(&piece);
    }
    Ok(plain(StatusCode::OK, &file, content_type))
}

fn plain(status: StatusCode, content: &[u8], content_type: Option<String>) -> Message {
    let status = bhttp::StatusCode::try_from(status.as_u16()).expect("a status has three digits");
    let mut message = Message::response(status);
    let content_type = content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    message.put_header("content-type", content_type);
    message.write_content(content);
    message
}

/// RFC 9458 section 5.3: the client fetches the key again.
fn unknown_key() -> Response {
    let problem = format!(r#"{{"type":"{UNKNOWN_KEY}","title":"the key is unknown here"}}"#);
    let mut answer = (StatusCode::BAD_REQUEST, problem).into_response();
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    answer
}

fn refused(status: StatusCode, text: &str) -> MimiRefusal {
    MimiRefusal::Failed {
        status,
        text: text.to_owned(),
        retry_after: None,
    }
}

impl fmt::Debug for OhttpGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OhttpGateway").finish_non_exhaustive()
    }
}

pub(crate) const KEYS: HeaderValue = HeaderValue::from_static("application/ohttp-keys");
pub(crate) const SEALED_ANSWER: HeaderValue = HeaderValue::from_static("message/ohttp-res");
/// Of a file, since it is sealed in one piece.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
const ANSWERS_AT_ONCE: usize = 8;
/// Of those, for one relay.
const ANSWERS_OF_PROVIDER: usize = 4;
/// And for one user of ours.
const ANSWERS_OF_USER: usize = 2;
