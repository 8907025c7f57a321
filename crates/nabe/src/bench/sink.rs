//! The followers of `bench hub`: a server that acknowledges everything, and does nothing else. For Linearized Matrix it publishes its keys
//! and takes transactions; for MIMI it has a directory, asks callers for certificates, and takes what it is notified of (MIMI
//! #fanout-messages-and-room-events).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri},
    routing::{get, post, put},
};
use bytes::Bytes;
use nabe_federation::TlsSettings;
use nabe_http::{
    listener::{self, ListenerLimits},
    peer_certificate::{self, PeerUsage},
    tls::{self, CertificateFiles},
};
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::{Json, Object, Signer, SigningKey, keys::own_key_response};
use nabe_types::{KeyId, ServerName};
use nabe_wire::{
    Message as _,
    directory::{DIRECTORY_PATH, Endpoint, Template},
    notify::FanoutBatch,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};

use crate::output::say;

/// What the sink is told, in `sink.toml`.
#[derive(Deserialize, Serialize)]
pub(crate) struct SinkFile {
    /// The servers it stands for; the number is the seed of the signing key.
    pub(crate) servers: BTreeMap<ServerName, u8>,
    pub(crate) tls_certificate: PathBuf,
    pub(crate) tls_key: PathBuf,
    /// The authority of the certificates that callers have to show; absent: nobody is asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peers_ca: Option<PathBuf>,
}

/// The signer of one of the sink's servers; the load signs with the same.
pub(crate) fn signer(server: ServerName, seed: u8) -> Signer {
    let key = SigningKey::from_seed(
        KeyId::ed25519("bench").expect("a plain word is a key version"),
        [seed; 32],
    );
    Signer::new(server, vec![key]).expect("there is one key")
}

/// Serves until the process is ended; prints its address as the first line.
pub(crate) async fn run(dir: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(dir.join("sink.toml")).context("sink.toml")?;
    let file: SinkFile = toml::from_str(&text).context("sink.toml")?;
    let certificates = CertificateFiles::open(file.tls_certificate, file.tls_key)?;
    let state = Arc::new(Sink {
        signers: file
            .servers
            .into_iter()
            .map(|(server, seed)| (server.to_string(), signer(server, seed)))
            .collect(),
        received: AtomicU64::new(0),
    });
    let app = Router::new()
        .route("/_matrix/key/v2/server", get(keys))
        .route("/_matrix/federation/v2/send/{txn}", put(send))
        .route(DIRECTORY_PATH, get(directory))
        .route("/notify/{*room}", post(notify))
        .route("/received", get(received))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(state);
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    say!("{}", socket.local_addr()?);
    let (_keep_running, shutdown) = watch::channel(false);
    let tls = match file.peers_ca {
        None => tls::server_config(certificates, false)?,
        Some(ca) => {
            let trusted = TlsSettings {
                system_roots: false,
                extra_root_files: vec![ca],
                ..TlsSettings::default()
            };
            let peers = peer_certificate::verifier(trusted.roots()?, PeerUsage::Either)?;
            tls::mutual_server_config(certificates, peers)?
        }
    };
    Ok(listener::serve(socket, Some(tls), app, ListenerLimits::default(), shutdown).await?)
}

struct Sink {
    signers: BTreeMap<String, Signer>,
    received: AtomicU64,
}

/// Whom a request is for: HTTP/2 names the host in the URI, HTTP/1.1 in a header.
fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    uri.host()
        .or_else(|| headers.get("host")?.to_str().ok()?.split(':').next())
}

async fn keys(State(sink): State<Arc<Sink>>, headers: HeaderMap, uri: Uri) -> Result<String, &'static str> {
    let signer = host(&headers, &uri)
        .and_then(|host| sink.signers.get(host))
        .ok_or("not one of this sink's servers")?;
    let valid_until = SystemClock.now().plus(Duration::from_secs(12 * 3600));
    Ok(own_key_response(signer, &BTreeMap::new(), valid_until).to_string())
}

async fn send(State(sink): State<Arc<Sink>>, body: Bytes) -> &'static str {
    let body = Json::parse(&body).ok();
    let pdus = body
        .as_ref()
        .and_then(Json::as_object)
        .and_then(|body| body.get("pdus")?.as_array());
    let count = pdus.map_or(0, <[Json]>::len);
    sink.received.fetch_add(count as u64, Ordering::Relaxed);
    r#"{"failed_pdus":{}}"#
}

/// MIMI #directory
async fn directory(headers: HeaderMap, uri: Uri) -> Result<String, StatusCode> {
    let base = format!("https://{}", host(&headers, &uri).ok_or(StatusCode::BAD_REQUEST)?);
    let notify = Template::below(&base, Endpoint::Notify).map_err(|_| StatusCode::BAD_REQUEST)?;
    let entry = (Endpoint::Notify.name().to_owned(), Json::from(notify.to_string()));
    Ok(Json::from(std::iter::once(entry).collect::<Object>()).to_string())
}

async fn notify(State(sink): State<Arc<Sink>>, body: Bytes) -> StatusCode {
    match FanoutBatch::from_bytes(&body) {
        Ok(batch) => {
            let count = batch.messages().len();
            sink.received.fetch_add(count as u64, Ordering::Relaxed);
            StatusCode::CREATED
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn received(State(sink): State<Arc<Sink>>) -> String {
    sink.received.load(Ordering::Relaxed).to_string()
}
