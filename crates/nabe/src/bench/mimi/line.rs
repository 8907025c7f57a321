//! How a client of another provider reaches the hub in `bench hub --protocol mimi`: what its own provider would hand on is sent to the hub
//! at once, with that provider's certificate. Messages are kept instead, to be sent when the clock runs.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_client::{
    mimi::{
        MimiTransport,
        transport::{HubKeys, Page},
    },
    transport::{Refusal, TransportError},
};
use nabe_federation::{HttpsSettings, HttpsTransport, MimiPeers, TlsSettings};
use nabe_http::tls::CertificateFiles;
use nabe_service::ports::{
    Clock as _, SystemClock,
    mimi::{MimiPeers as _, MimiRequest},
};
use nabe_types::ServerName;
use nabe_wire::{
    Encode as _,
    directory::Endpoint,
    mls::CipherSuite,
    submit_message::{Acceptance, SubmitMessageResponse, SubmitVerdict},
    uri::MimiUri,
};

use super::super::now;

/// A provider's line to the hub, and what its client wants to say.
pub(super) struct Line {
    hub: ServerName,
    peers: MimiPeers<HttpsTransport>,
    said: Mutex<Vec<(MimiUri, Bytes)>>,
    largest: Mutex<LargestUpdate>,
}

/// The largest request with a change of a group.
#[derive(Clone, Copy, Default)]
pub(super) struct LargestUpdate {
    pub(super) bytes: usize,
    /// From sending it to the hub's answer.
    pub(super) time: Duration,
}

impl Line {
    /// For the provider `domain`, for which the certificate in `folder` is; the hub listens at `address`.
    pub(super) fn new(
        domain: &ServerName,
        folder: &Path,
        ca: &Path,
        hub: &ServerName,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let certificate = CertificateFiles::open(folder.join("tls.pem"), folder.join("tls.key"))?;
        let settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_root_files: vec![ca.to_owned()],
                client_certificate: Some(certificate as _),
                ..TlsSettings::default()
            },
            overrides: std::iter::once((hub.clone(), address)).collect(),
            max_in_flight: 64,
            ..HttpsSettings::default()
        };
        let transport = HttpsTransport::direct(settings, Arc::new(SystemClock))?;
        let settings = nabe_federation::MimiSettings::default();
        Ok(Self {
            hub: hub.clone(),
            peers: MimiPeers::new(transport, domain, Arc::new(SystemClock), settings),
            said: Mutex::default(),
            largest: Mutex::default(),
        })
    }

    /// What the client has said since this was last asked, ready to be sent.
    pub(super) fn take_said(&self) -> Vec<(MimiUri, Bytes)> {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The largest update that was sent.
    pub(super) fn largest_update(&self) -> LargestUpdate {
        *self.largest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A struct for a struct, or an error that says what the hub answered instead.
    pub(super) async fn call(&self, endpoint: Endpoint, room: &MimiUri, body: Bytes) -> Result<Bytes, TransportError> {
        let request = MimiRequest {
            endpoint,
            target: room.to_string(),
            body,
            timeout: PATIENCE,
            max_response_bytes: MAX_ANSWER,
        };
        let answer = self.peers.call(&self.hub, request).await;
        let answer = answer.map_err(|error| TransportError::Unreachable(Box::new(error)))?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(refused(status, &answer.body)),
        }
    }
}

fn refused(status: u16, body: &[u8]) -> TransportError {
    TransportError::Refused(Refusal {
        status,
        code: String::new(),
        message: String::from_utf8_lossy(body).into_owned(),
        current_epoch: None,
    })
}

#[async_trait]
impl MimiTransport for Line {
    async fn hub(&self, _: CipherSuite) -> Result<HubKeys, TransportError> {
        Err(refused(404, b"no hub"))
    }

    async fn upload_key_packages(
        &self,
        _: &MimiUri,
        packages: &[Bytes],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        Ok(packages.iter().map(|_| Ok(())).collect())
    }

    async fn key_packages_left(&self, _: &MimiUri, _: CipherSuite) -> Result<u64, TransportError> {
        Ok(0)
    }

    async fn create_room(&self, _: &MimiUri, _: &[u8], _: &[u8]) -> Result<(), TransportError> {
        Err(refused(404, b"no hub"))
    }

    async fn key_material(&self, _: &[u8]) -> Result<Bytes, TransportError> {
        Err(refused(404, b"nobody is added"))
    }

    async fn update(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        let start = now();
        let answer = self
            .call(Endpoint::Update, room, Bytes::copy_from_slice(request))
            .await?;
        let time = start.elapsed();
        let mut largest = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        if request.len() > largest.bytes {
            let bytes = request.len();
            *largest = LargestUpdate { bytes, time };
        }
        Ok(answer)
    }

    /// Keeps the message, and answers as the hub would if it franked nothing.
    async fn submit(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push((room.clone(), Bytes::copy_from_slice(request)));
        let acceptance = Acceptance {
            accepted_timestamp: SystemClock.now().as_u64(),
            frank: None,
        };
        Ok(SubmitMessageResponse::from(SubmitVerdict::Accepted(acceptance))
            .to_bytes()
            .into())
    }

    async fn group_info(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        self.call(Endpoint::GroupInfo, room, Bytes::copy_from_slice(request))
            .await
    }

    async fn report_abuse(&self, _: &MimiUri, _: &[u8]) -> Result<(), TransportError> {
        Err(refused(404, b"nothing is reported"))
    }

    async fn upload_asset(&self, _: Bytes) -> Result<String, TransportError> {
        Err(refused(404, b"no files are sent"))
    }

    async fn download(&self, _: &MimiUri, _: &str) -> Result<Bytes, TransportError> {
        Err(refused(404, b"no files are sent"))
    }

    async fn ohttp_keys(&self, _: &str) -> Result<Bytes, TransportError> {
        Err(refused(404, b"no files are sent"))
    }

    async fn ohttp(&self, _: &str, _: Bytes) -> Result<Bytes, TransportError> {
        Err(refused(404, b"no files are sent"))
    }

    async fn download_directly(&self, _: &str) -> Result<Bytes, TransportError> {
        Err(refused(404, b"no files are sent"))
    }

    /// Nothing ever: who sends is the last to join.
    async fn entries(&self, _: Option<&str>, _: Duration) -> Result<Page, TransportError> {
        Ok(Page {
            entries: Vec::new(),
            cursor: "0".to_owned(),
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 64 * 1024 * 1024;
