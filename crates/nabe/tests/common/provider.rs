//! Providers of MIMI, each a process of its own, over mutual TLS (MIMI #transport-layer).

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use nabe_federation::{HttpsSettings, HttpsTransport, MimiPeers, TlsSettings, Transport as _, TransportError};
use nabe_http::tls::CertificateFiles;
use nabe_service::ports::SystemClock;
use nabe_types::ServerName;
use nabe_wire::directory::DIRECTORY_PATH;
use serde_json::Value;

use super::{Client, Serving, command, free_address, nabe, text, wait_for};

/// A provider made by `nabe init --mimi`.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) domain: ServerName,
    /// Where its endpoints are; mostly the domain.
    pub(crate) authority: ServerName,
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) mimi: SocketAddr,
}

impl Provider {
    /// The first one lends its CA.
    pub(crate) fn init(parent: &Path, domain: &str, ca: Option<&Self>) -> Self {
        Self::init_with(parent, domain, ca, &[])
    }

    /// The same with more options of `nabe init`.
    pub(crate) fn init_with(parent: &Path, domain: &str, ca: Option<&Self>, options: &[&str]) -> Self {
        Self::make(parent, domain, domain, ca, options)
    }

    /// With endpoints at another name and port than the domain's, for which its certificate is, too.
    pub(crate) fn init_elsewhere(parent: &Path, domain: &str, name: &str, ca: Option<&Self>) -> Self {
        let made = Self::make(parent, domain, name, ca, &[]);
        let authority = ServerName::parse(&format!("{name}:{}", made.mimi.port())).unwrap();
        Self { authority, ..made }
    }

    fn make(parent: &Path, domain: &str, server_name: &str, ca: Option<&Self>, options: &[&str]) -> Self {
        let folder = parent.join(domain);
        let mut arguments = vec![
            "init",
            folder.to_str().unwrap(),
            "--server-name",
            server_name,
            "--dev-tls",
        ];
        arguments.extend(["--mimi", domain]);
        arguments.extend(options);
        if let Some(ca) = ca {
            arguments.extend(["--dev-ca", ca.folder.to_str().unwrap()]);
        }
        let made = nabe(&arguments);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self {
            domain: ServerName::parse(domain).unwrap(),
            authority: ServerName::parse(domain).unwrap(),
            folder,
            listen: free_address(),
            mimi: free_address(),
        }
    }

    /// `nabe serve`, with MIMI at an address of its own or at that of everything else.
    pub(crate) fn serve(&self, others: &[&Self], shared: bool) -> Serving {
        self.serve_with(others, shared, &[])
    }

    /// The same with more options, as environment variables.
    pub(crate) fn serve_with(&self, others: &[&Self], shared: bool, environment: &[(&str, &str)]) -> Serving {
        let overrides: Vec<String> = others
            .iter()
            .map(|other| format!("\"{}\" = \"{}\"", other.domain, other.mimi))
            .collect();
        let log = fs::File::create(self.folder.join("server.log")).unwrap();
        let mut serve = command();
        serve
            .args(["serve", "--config"])
            .arg(self.folder.join("nabe.toml"))
            .env("NABE_MIMI__AUTHORITY", self.authority.as_str())
            .env("NABE_MIMI__ONLY_CA_FILES", "true")
            .env("NABE_MIMI__OVERRIDES", format!("{{ {} }}", overrides.join(", ")))
            .env("NABE_LOG__LEVEL", "warn")
            .envs(environment.iter().copied())
            .stderr(log);
        match shared {
            true => serve.env("NABE_LISTEN__ADDRESS", self.mimi.to_string()),
            false => serve
                .env("NABE_LISTEN__ADDRESS", self.listen.to_string())
                .env("NABE_MIMI__ADDRESS", self.mimi.to_string()),
        };
        Serving::of(serve.spawn().unwrap())
    }

    /// How somebody else's program calls this provider, with `certificate` or without.
    pub(crate) fn transport(&self, certificate: Option<&Self>) -> HttpsTransport {
        let certificate = certificate.map(|of| {
            let files = CertificateFiles::open(of.folder.join("tls.pem"), of.folder.join("tls.key"));
            files.unwrap() as _
        });
        let settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_root_files: vec![self.folder.join("ca.pem")],
                client_certificate: certificate,
                ..TlsSettings::default()
            },
            overrides: BTreeMap::from([(self.domain.clone(), self.mimi), (self.authority.clone(), self.mimi)]),
            ..HttpsSettings::default()
        };
        HttpsTransport::direct(settings, Arc::new(SystemClock)).unwrap()
    }

    /// The same as the provider `from`, by the directory.
    pub(crate) fn peers(&self, from: &Self) -> MimiPeers<HttpsTransport> {
        let settings = nabe_federation::MimiSettings::default();
        let transport = self.transport(Some(from));
        MimiPeers::new(transport, &from.domain, Arc::new(SystemClock), settings)
    }

    /// The provider's own backend.
    pub(crate) fn backend(&self) -> Client {
        Client::new(self.domain.clone(), self.listen, &self.folder)
    }

    /// A request as the directory has it, from nobody in particular.
    pub(crate) async fn request(
        &self,
        transport: &HttpsTransport,
        method: Method,
        path: &str,
        from: &str,
    ) -> Response<Bytes> {
        self.attempt(transport, method, path, from).await.unwrap()
    }

    /// The same, which may not get through.
    pub(crate) async fn attempt(
        &self,
        transport: &HttpsTransport,
        method: Method,
        path: &str,
        from: &str,
    ) -> Result<Response<Bytes>, TransportError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("from", format!("mimi@{from}"))
            .body(Bytes::new())
            .unwrap();
        transport.send(&self.domain, request, Duration::from_secs(20)).await
    }

    /// The directory, read without a certificate.
    pub(crate) async fn directory(&self) -> BTreeMap<String, String> {
        let transport = self.transport(None);
        wait_for("the directory", async || {
            let request = Request::get(DIRECTORY_PATH).body(Bytes::new()).unwrap();
            let answer = transport.send(&self.domain, request, Duration::from_secs(10)).await;
            let answer = answer.ok()?;
            assert_eq!(answer.status(), 200);
            let directory: Value = serde_json::from_slice(answer.body()).unwrap();
            Some(serde_json::from_value(directory).unwrap())
        })
        .await
    }
}
