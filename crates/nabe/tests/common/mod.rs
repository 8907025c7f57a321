//! What the tests of the binary share: folders made by `nabe init`, server processes, and a client that trusts their CA.

#![expect(dead_code, reason = "each test file uses its part of this")]
#![expect(clippy::unwrap_used, reason = "this is test code")]

pub(crate) mod device;
pub(crate) mod memory;
pub(crate) mod person;
pub(crate) mod provider;
pub(crate) mod random;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use nabe_federation::{HttpsSettings, HttpsTransport, TlsSettings, Transport as _, TransportError};
use nabe_service::ports::{SystemClock, SystemEntropy};
use nabe_types::ServerName;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Runs the binary to its end.
pub(crate) fn nabe<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    command().args(arguments).output().unwrap()
}

/// The binary, without what the surrounding environment may configure.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nabe"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NABE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `nabe init` was run here.
pub(crate) struct Folder {
    pub(crate) name: ServerName,
    pub(crate) path: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Folder {
    /// A server of this name in its own folder below `parent`, on a free port; the first one made below `parent` lends its CA.
    pub(crate) fn init(parent: &Path, name: &str) -> Self {
        Self::init_with(parent, name, &[])
    }

    /// The same with more options of `nabe init`.
    pub(crate) fn init_with(parent: &Path, name: &str, options: &[&str]) -> Self {
        let path = parent.join(name);
        let mut arguments = vec![
            "init".to_owned(),
            path.display().to_string(),
            "--server-name".into(),
            name.into(),
        ];
        arguments.push("--dev-tls".into());
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let ca = fs::read_dir(parent)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.join("ca.key").exists());
        if let Some(ca) = ca {
            arguments.extend(["--dev-ca".into(), ca.display().to_string()]);
        }
        let made = nabe(&arguments);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self {
            name: ServerName::parse(name).unwrap(),
            path,
            address: free_address(),
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("nabe.toml")
    }

    /// The binary with a subcommand, this folder's configuration, and what it needs to find the others.
    pub(crate) fn command(&self, subcommand: &[&str], others: &[&Self]) -> Command {
        let overrides: Vec<String> = others
            .iter()
            .map(|other| format!("\"{}\" = \"{}\"", other.name, other.address))
            .collect();
        let mut command = command();
        command
            .args(subcommand)
            .arg("--config")
            .arg(self.config())
            .env("NABE_LISTEN__ADDRESS", self.address.to_string())
            .env("NABE_FEDERATION__OVERRIDES", format!("{{ {} }}", overrides.join(", ")))
            .env("NABE_FEDERATION__ONLY_CA_FILES", "true")
            .env("NABE_DELIVERY__RETRY_BASE_MS", "20")
            .env("NABE_DELIVERY__RETRY_MAX_MS", "100")
            .env("NABE_LOG__LEVEL", "warn");
        command
    }

    /// A running `nabe serve`; its log goes to `server.log` in the folder.
    pub(crate) fn serve(&self, others: &[&Self]) -> Serving {
        self.serve_with(others, &[])
    }

    /// The same with more options, as environment variables.
    pub(crate) fn serve_with(&self, others: &[&Self], environment: &[(&str, &str)]) -> Serving {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path.join("server.log"))
            .unwrap();
        let environment = environment.iter().copied();
        let child = self
            .command(&["serve"], others)
            .envs(environment)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Serving::of(child)
    }

    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        if let Ok(mut file) = fs::File::open(self.path.join("server.log")) {
            file.read_to_string(&mut log).unwrap();
        }
        log
    }

    /// A client of this server. Inside a runtime.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.name.clone(), self.address, &self.path)
    }
}

/// A port nobody listens on at this moment.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A server process; killed when the test is done with it.
pub(crate) struct Serving {
    child: Option<Child>,
}

impl Serving {
    /// A `nabe serve` that was started otherwise.
    pub(crate) fn of(child: Child) -> Self {
        Self { child: Some(child) }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// `kill -TERM`, then waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let told = Command::new("kill")
            .arg("-TERM")
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(told.success());
        child.wait().unwrap()
    }

    /// Whether the process has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Speaks HTTPS to one server, as its provider's backend unless told otherwise.
#[derive(Clone)]
pub(crate) struct Client {
    server: ServerName,
    token: String,
    transport: Arc<HttpsTransport>,
}

/// A status and a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Client {
    /// The backend of the provider whose server was made in `folder`.
    pub(crate) fn new(server: ServerName, address: SocketAddr, folder: &Path) -> Self {
        let settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_root_files: vec![folder.join("ca.pem")],
                ..TlsSettings::default()
            },
            overrides: BTreeMap::from([(server.clone(), address)]),
            ..HttpsSettings::default()
        };
        let transport = HttpsTransport::new(settings, Arc::new(SystemClock), Arc::new(SystemEntropy)).unwrap();
        let token = fs::read_to_string(folder.join("provider.token"))
            .unwrap()
            .trim()
            .to_owned();
        Self {
            server,
            token,
            transport: Arc::new(transport),
        }
    }

    /// The same for a provider of `nabe demo --json --keep`.
    pub(crate) fn of_demo(provider: &Value) -> Self {
        let text = |member: &str| provider[member].as_str().unwrap();
        let port = text("url").rsplit(':').next().unwrap().parse().unwrap();
        let folder = Path::new(text("token_file")).parent().unwrap();
        Self::new(
            ServerName::parse(text("provider")).unwrap(),
            (Ipv4Addr::LOCALHOST, port).into(),
            folder,
        )
    }

    /// The same with a user's own token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) async fn get(&self, user: Option<&str>, path: &str) -> Result<Answer, TransportError> {
        self.send(Method::GET, user, path, None, Bytes::new()).await
    }

    pub(crate) async fn post(
        &self,
        user: Option<&str>,
        path: &str,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, TransportError> {
        self.send(Method::POST, user, path, idempotency_key, body.to_string().into())
            .await
    }

    /// A struct of MIMI; the answer, whatever it is.
    pub(crate) async fn post_bytes(&self, user: &str, path: &str, body: Vec<u8>) -> http::Response<Bytes> {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("nabe-user", user)
            .body(Bytes::from(body))
            .unwrap();
        let answer = self
            .transport
            .send(&self.server, request, Duration::from_secs(10))
            .await;
        answer.unwrap()
    }

    async fn send(
        &self,
        method: Method,
        user: Option<&str>,
        path: &str,
        idempotency_key: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, TransportError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {}", self.token));
        if let Some(user) = user {
            request = request.header("nabe-user", user);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(body).unwrap();
        let answer = self
            .transport
            .send(&self.server, request, Duration::from_secs(10))
            .await?;
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        Ok(Answer {
            status: answer.status().as_u16(),
            body,
        })
    }

    /// Waits until the server can do its work.
    pub(crate) async fn wait_until_ready(&self) {
        wait_for("the server to be ready", async || {
            let answer = self.get(None, "/_nabe/health/ready").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// A POST that must succeed.
    pub(crate) async fn must_post(&self, user: &str, path: &str, body: &Value) -> Value {
        let answer = self.post(Some(user), path, body, None).await.unwrap();
        assert!(matches!(answer.status, 200 | 202), "POST {path}: {answer:?}");
        answer.body
    }

    /// A GET that must succeed.
    pub(crate) async fn must_get(&self, user: &str, path: &str) -> Value {
        let answer = self.get(Some(user), path).await.unwrap();
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.body
    }

    /// The whole log of a room as a user sees it, oldest first.
    pub(crate) async fn log(&self, user: &str, room: &str) -> Vec<Value> {
        let mut log = Vec::new();
        let mut from = String::new();
        loop {
            let page = self
                .must_get(user, &format!("/_nabe/v1/rooms/{room}/events?dir=f&limit=100{from}"))
                .await;
            log.extend(page["events"].as_array().unwrap().iter().cloned());
            match page["next"].as_i64() {
                Some(next) => from = format!("&from={next}"),
                None => return log,
            }
        }
    }
}

/// Asks until there is an answer; a test that waits longer than this has failed. Who asks another process has nothing to
/// wait on: the pause only spares the processor.
pub(crate) async fn wait_for<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
