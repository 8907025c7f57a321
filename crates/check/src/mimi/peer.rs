//! A provider of MIMI of our own (MIMI #transport-layer, MIMI #directory): it has a domain, a certificate for it and a directory, records
//! everything that is asked of it, answers as a well-behaved provider would unless told otherwise, and asks the subject in its own name.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use nabe_signing::json::{Json, Object};
use nabe_types::ServerName;
use nabe_wire::codec::Kept;
use nabe_wire::directory::{DIRECTORY_PATH, Endpoint, Template, escape};
use nabe_wire::key_material::{
    ClientKeyMaterial, ClientMaterial, KeyMaterialRequest, KeyMaterialResponse, KeyMaterialUserCode,
};
use nabe_wire::mls::KeyPackage;
use nabe_wire::notify::{FanoutBatch, FanoutMessage};
use nabe_wire::{Encode as _, IdentifierUri, Message};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName as TlsName};
use tokio_rustls::rustls::server::ParsedCertificate;

use crate::authority::{Authority, AuthorityError, Identity};
use crate::case::{Checked, Stop, failed};
use crate::config::MimiSubjectConfig;
use crate::http_client::{HttpClient, HttpError, Reply, roots_in};

/// A running provider of ours. Cheap to clone; it runs until the last run that knows it has ended.
#[derive(Clone)]
pub(crate) struct MimiPeer {
    shared: Arc<Shared>,
}

struct Shared {
    domain: ServerName,
    subject: ServerName,
    http: HttpClient,
    directory: OnceCell<Directory>,
    inbox: Mutex<Vec<Received>>,
    arrivals: watch::Sender<usize>,
    answers: Mutex<BTreeMap<(Endpoint, String), Handler>>,
    offers: Mutex<BTreeMap<String, Vec<Offer>>>,
    files: Mutex<BTreeMap<String, File>>,
    /// The paths of files that were asked for.
    fetched: Mutex<Vec<String>>,
    accepting: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What a provider does with a request about something instead of the usual, if it does anything else.
type Handler = Arc<dyn Fn(&Received) -> Option<Answer> + Send + Sync>;

/// The templates of the subject's directory.
pub(crate) type Directory = BTreeMap<String, String>;

/// The key packages of one client.
struct Offer {
    client: String,
    packages: VecDeque<Vec<u8>>,
}

/// What is at a path that is no endpoint's.
#[derive(Clone)]
enum File {
    Bytes(Vec<u8>),
    Moved(String),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which endpoint of our directory.
    pub(crate) endpoint: Endpoint,
    /// What stands for the template's variable, decoded.
    pub(crate) target: String,
    /// `From`
    pub(crate) from: String,
    /// `:authority` or `Host`
    pub(crate) host: String,
    /// Whether the caller's certificate is for the subject's domain.
    pub(crate) is_certified: bool,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// 200 and a struct.
    pub(crate) fn of(body: Vec<u8>) -> Self {
        Self {
            body,
            ..Self::status(200)
        }
    }
}

/// No provider can be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl MimiPeer {
    /// Starts a provider on `listener`, whose subject has a certificate that `ca_pem` vouches for. Must be called in a runtime.
    pub(crate) fn start(
        domain: ServerName,
        listener: TcpListener,
        identity: Identity,
        ca_pem: &str,
        subject: &MimiSubjectConfig,
    ) -> Result<Self, StartError> {
        let base_url = format!("https://{}", subject.domain);
        let http = HttpClient::new(&base_url, subject.address, ca_pem)?.showing(Some(identity.clone()));
        let tls = Authority::mutual_server_config(&identity, roots_in(ca_pem)?)?;
        let (hand_over, handed_over) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), handed_over)).abort_handle();
        let shared = Arc::new(Shared {
            domain,
            subject: subject.domain.clone(),
            http,
            directory: OnceCell::new(),
            inbox: Mutex::default(),
            arrivals: watch::Sender::new(0),
            answers: Mutex::default(),
            offers: Mutex::default(),
            files: Mutex::default(),
            fetched: Mutex::default(),
            accepting,
        });
        let _ = hand_over.send(Arc::downgrade(&shared));
        Ok(Self { shared })
    }

    pub(crate) fn domain(&self) -> &ServerName {
        &self.shared.domain
    }

    pub(crate) fn subject_domain(&self) -> &ServerName {
        &self.shared.subject
    }

    /// Answers requests for this endpoint about `target`, or about [`ANY`], like this from now on.
    pub(crate) fn on(
        &self,
        endpoint: Endpoint,
        target: &str,
        handler: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
    ) {
        lock(&self.shared.answers).insert((endpoint, target.to_owned()), Arc::new(handler));
    }

    /// Back to the usual.
    pub(crate) fn behave(&self, endpoint: Endpoint, target: &str) {
        lock(&self.shared.answers).remove(&(endpoint, target.to_owned()));
    }

    /// Has key packages of one more client of a user, each to be handed out once.
    pub(crate) fn offer(&self, user: &str, client: &str, packages: Vec<Vec<u8>>) {
        let mut offers = lock(&self.shared.offers);
        offers.entry(user.to_owned()).or_default().push(Offer {
            client: client.to_owned(),
            packages: packages.into(),
        });
    }

    /// Stores a file, for whoever asks. Its URL.
    pub(crate) fn store(&self, name: &str, bytes: &[u8]) -> String {
        self.put(name, File::Bytes(bytes.to_vec()))
    }

    /// Says that a file is elsewhere. Its URL here.
    pub(crate) fn store_elsewhere(&self, name: &str, location: &str) -> String {
        self.put(name, File::Moved(location.to_owned()))
    }

    fn put(&self, name: &str, file: File) -> String {
        let path = file_path(name);
        lock(&self.shared.files).insert(path.clone(), file);
        format!("https://{}{path}", self.domain())
    }

    /// How often a file was asked for.
    pub(crate) fn fetched(&self, name: &str) -> usize {
        let path = file_path(name);
        let fetched = lock(&self.shared.fetched);
        fetched.iter().filter(|fetched| **fetched == path).count()
    }

    /// What was asked by this endpoint about `target` so far.
    pub(crate) fn received(&self, endpoint: Endpoint, target: &str) -> Vec<Received> {
        let inbox = lock(&self.shared.inbox);
        let found = inbox
            .iter()
            .filter(|request| request.endpoint == endpoint && request.target == target);
        found.cloned().collect()
    }

    /// Waits for something among what is asked by this endpoint about `target`, also if it is there already.
    pub(crate) async fn wait_for<T>(
        &self,
        deadline: Duration,
        what: &str,
        (endpoint, target): (Endpoint, &str),
        find: impl Fn(&[Received]) -> Option<T>,
    ) -> Checked<T> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let search = async {
            loop {
                arrivals.borrow_and_update();
                if let Some(found) = find(&self.received(endpoint, target)) {
                    return found;
                }
                if arrivals.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(deadline, search).await.map_err(|_| Stop::Failed {
            expected: format!("{} receives {what} within {} s", self.domain(), deadline.as_secs()),
            got: format!(
                "nothing of the kind among {} requests of `{endpoint}` for {target}",
                self.received(endpoint, target).len()
            ),
        })
    }

    /// What was fanned out in a room so far, each body once: the same body again is the same messages. A body that is no
    /// notification fails the case.
    pub(crate) fn fanned_out(&self, room: &str) -> Checked<Vec<FanoutMessage>> {
        let mut seen: Vec<Bytes> = Vec::new();
        let mut messages = Vec::new();
        for request in self.received(Endpoint::Notify, room) {
            if seen.contains(&request.body) {
                continue;
            }
            match FanoutBatch::from_bytes(&request.body) {
                Ok(batch) => messages.extend(batch.messages().iter().cloned()),
                Err(error) => return failed("one or more FanoutMessage", error.to_string()),
            }
            seen.push(request.body);
        }
        Ok(messages)
    }

    /// The subject's directory, read once.
    pub(crate) async fn directory(&self) -> Checked<&Directory> {
        self.shared
            .directory
            .get_or_try_init(async || {
                let reply = self.request("GET", DIRECTORY_PATH, &[], Bytes::new()).await?;
                let object = reply.object();
                let entries = object.iter();
                let entries: Directory = entries
                    .filter_map(|(name, template)| Some((name.to_owned(), template.as_str()?.to_owned())))
                    .collect();
                match reply.status == 200 && !entries.is_empty() {
                    true => Ok(entries),
                    false => failed("the directory: 200 and a JSON object", reply.brief()),
                }
            })
            .await
    }

    /// Where an endpoint of the subject's is for this target: authority and path.
    pub(crate) async fn place(&self, endpoint: Endpoint, target: &str) -> Checked<(String, String)> {
        let directory = self.directory().await?;
        let Some(text) = directory.get(endpoint.name()) else {
            return failed(format!("a template of {endpoint} in the directory"), "there is none");
        };
        let Ok(template) = Template::parse(endpoint, text) else {
            return failed(format!("a template of {endpoint}"), text.clone());
        };
        let url = template.expand(target);
        match url.strip_prefix("https://").and_then(|rest| rest.split_once('/')) {
            Some((authority, path)) => Ok((authority.to_owned(), format!("/{path}"))),
            None => failed("an https URL with a path", url),
        }
    }

    /// Asks the subject by one of its endpoints. The answer, whatever it is.
    pub(crate) async fn call(&self, endpoint: Endpoint, target: &str, body: impl Into<Bytes>) -> Checked<Reply> {
        let (authority, path) = self.place(endpoint, target).await?;
        let from = format!("mimi@{}", self.domain());
        let client = self.client(&authority)?;
        send(&client, endpoint.method(), &path, &[("from", &from)], body.into()).await
    }

    /// The same with these headers and no other, such as another `From`.
    pub(crate) async fn call_with(
        &self,
        endpoint: Endpoint,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Checked<Reply> {
        let (authority, path) = self.place(endpoint, target).await?;
        let client = self.client(&authority)?;
        send(&client, endpoint.method(), &path, headers, body.into()).await
    }

    /// The same without a certificate. `None` when there is no answer, as when TLS ends the connection.
    pub(crate) async fn call_uncertified(
        &self,
        endpoint: Endpoint,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Checked<Option<Reply>> {
        let (authority, path) = self.place(endpoint, target).await?;
        let from = format!("mimi@{}", self.domain());
        let client = self.client(&authority)?.showing(None);
        let request = request(endpoint.method(), &path, &[("from", &from)], body.into());
        match client.send(request?).await {
            Ok(reply) => Ok(Some(reply)),
            Err(HttpError::Timeout) => failed("an answer or the end of the connection", "neither"),
            Err(_) => Ok(None),
        }
    }

    /// The same with another port in `Host`.
    pub(crate) async fn call_at_port(
        &self,
        endpoint: Endpoint,
        target: &str,
        port: u16,
        body: impl Into<Bytes>,
    ) -> Checked<Reply> {
        let (authority, path) = self.place(endpoint, target).await?;
        let from = format!("mimi@{}", self.domain());
        let host = authority.split(':').next().unwrap_or_default();
        let client = self.client(&authority)?.with_authority(&format!("{host}:{port}"));
        send(&client, endpoint.method(), &path, &[("from", &from)], body.into()).await
    }

    /// Any request at the subject's domain, with a certificate. That there is no answer at all is a failure of the subject.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Checked<Reply> {
        send(&self.shared.http, method, path, headers, body.into()).await
    }

    /// An endpoint's answer that must be 200 and this struct.
    pub(crate) async fn ask<T: Message>(&self, endpoint: Endpoint, target: &str, body: impl Into<Bytes>) -> Checked<T> {
        let reply = self.call(endpoint, target, body).await?;
        read(endpoint.name(), &reply)
    }

    fn client(&self, authority: &str) -> Checked<HttpClient> {
        if authority == self.shared.http.authority() {
            return Ok(self.shared.http.clone());
        }
        let elsewhere = self.shared.http.elsewhere(authority);
        elsewhere.map_err(|error| Stop::Failed {
            expected: "an authority in the directory's URLs".to_owned(),
            got: format!("{authority}: {error}"),
        })
    }

    async fn answer(self, request: Request<Incoming>, is_certified: bool) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if path == DIRECTORY_PATH {
            return self.own_directory();
        }
        let file = lock(&self.shared.files).get(&path).cloned();
        if file.is_some() {
            lock(&self.shared.fetched).push(path.clone());
        }
        match file {
            Some(File::Bytes(bytes)) => return respond(&Answer::of(bytes), "image/png"),
            Some(File::Moved(location)) => {
                let mut moved = respond(&Answer::status(302), "text/plain");
                moved
                    .headers_mut()
                    .extend(location.parse().ok().map(|location| (http::header::LOCATION, location)));
                return moved;
            }
            None => {}
        }
        let Some(received) = record(request, &path, is_certified).await else {
            return respond(&Answer::status(404), "text/plain");
        };
        let handler = {
            let answers = lock(&self.shared.answers);
            let handler = |target: &str| answers.get(&(received.endpoint, target.to_owned())).cloned();
            handler(&received.target).or_else(|| handler(ANY))
        };
        let answer = handler.and_then(|handler| handler(&received));
        let answer = answer.unwrap_or_else(|| self.usual(&received));
        lock(&self.shared.inbox).push(received);
        self.shared.arrivals.send_modify(|count| *count += 1);
        respond(&answer, "application/octet-stream")
    }

    /// What a well-behaved provider answers: everything is taken, and key packages are handed out as long as there are some.
    fn usual(&self, request: &Received) -> Answer {
        match request.endpoint {
            Endpoint::Notify | Endpoint::RequestConsent | Endpoint::UpdateConsent | Endpoint::ReportAbuse => {
                Answer::status(201)
            }
            Endpoint::KeyMaterial => match KeyMaterialRequest::from_bytes(&request.body) {
                Ok(asked) => Answer::of(self.hand_out(&asked.target_user).to_bytes()),
                Err(_) => Answer::status(400),
            },
            _ => Answer::status(404),
        }
    }

    /// What it answers to a request for a user's key packages.
    pub(crate) fn hand_out(&self, user: &IdentifierUri) -> KeyMaterialResponse {
        let mut offers = lock(&self.shared.offers);
        let clients = offers.get_mut(user.as_str()).map_or_else(Vec::new, |offers| {
            let clients = offers.iter_mut().map(|offer| ClientKeyMaterial {
                client_uri: identifier(&offer.client),
                material: match offer.packages.pop_front() {
                    Some(package) => ClientMaterial::KeyPackage(Box::new(kept_package(&package))),
                    None => ClientMaterial::Exhausted,
                },
            });
            clients.collect()
        });
        let has_one = |client: &ClientKeyMaterial| matches!(client.material, ClientMaterial::KeyPackage(_));
        let user_status = match (clients.iter().any(has_one), clients.iter().all(has_one)) {
            (true, true) => KeyMaterialUserCode::SUCCESS,
            (true, false) => KeyMaterialUserCode::PARTIAL_SUCCESS,
            (false, _) if clients.is_empty() => KeyMaterialUserCode::USER_UNKNOWN,
            (false, _) => KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL,
        };
        KeyMaterialResponse {
            clients,
            ..KeyMaterialResponse::refused(user_status, user.clone())
        }
    }

    fn own_directory(&self) -> Response<Full<Bytes>> {
        let entries = Endpoint::ALL.into_iter().map(|endpoint| {
            let (name, variable) = (endpoint.name(), endpoint.variable());
            let template = format!("https://{}{BASE}/{name}/{{{variable}}}", self.domain());
            (name.to_owned(), Json::from(template))
        });
        let body = entries.collect::<Object>().to_canonical();
        respond(&Answer::of(body), "application/json")
    }
}

fn file_path(name: &str) -> String {
    format!("/files/{name}")
}

/// A key package that a client of ours made.
pub(crate) fn kept_package(package: &[u8]) -> Kept<KeyPackage> {
    Kept::new(KeyPackage::from_bytes(package).expect("our clients make good key packages"))
}

/// A URI that a check makes up.
pub(crate) fn identifier(uri: &str) -> IdentifierUri {
    IdentifierUri::new(uri).expect("checks make short URIs")
}

/// An answer that must be 200 and this struct.
pub(crate) fn read<T: Message>(what: &str, reply: &Reply) -> Checked<T> {
    if reply.status != 200 {
        return failed(format!("{what}: 200 with a {}", T::NAME), reply.brief());
    }
    T::from_bytes(&reply.body).map_err(|error| Stop::Failed {
        expected: format!("{what}: a {}", T::NAME),
        got: error.to_string(),
    })
}

/// Whose path `host/r/name` this is, for the form of targets that the draft's figures have.
pub(crate) fn as_host_and_path(uri: &str) -> String {
    uri.strip_prefix("mimi://").unwrap_or(uri).to_owned()
}

/// The template's path for a target in the form `host/r/name`.
pub(crate) fn unescaped(path: &str, target: &str) -> String {
    path.replace(&escape(target), &as_host_and_path(target))
}

async fn send(client: &HttpClient, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Checked<Reply> {
    let reply = client.send(request(method, path, headers, body)?).await;
    reply.map_err(|error| Stop::Failed {
        expected: format!("an answer to {method} {}", crate::subject::short(path)),
        got: error.to_string(),
    })
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Checked<Request<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if method == "POST" && !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/octet-stream");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).map_err(|error| Stop::Failed {
        expected: "a path that can be asked for".to_owned(),
        got: error.to_string(),
    })
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, peer: oneshot::Receiver<Weak<Shared>>) {
    let Ok(peer) = peer.await else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(serve(stream, tls.clone(), peer.clone()));
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, peer: Weak<Shared>) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else {
        return;
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let is_certified = leaf
        .zip(peer.upgrade())
        .is_some_and(|(leaf, shared)| is_for(leaf, &shared.subject));
    let service = service_fn(move |request| {
        let peer = peer.upgrade();
        async move {
            let Some(shared) = peer else {
                return Ok(respond(&Answer::status(503), "text/plain"));
            };
            Ok::<_, Infallible>(MimiPeer { shared }.answer(request, is_certified).await)
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A caller that breaks the connection off is no concern of ours.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Whether a certificate names a domain (RFC 6125).
fn is_for(leaf: &CertificateDer<'_>, domain: &ServerName) -> bool {
    let Ok(name) = TlsName::try_from(domain.host()) else {
        return false;
    };
    let parsed = ParsedCertificate::try_from(leaf);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

async fn record(request: Request<Incoming>, path: &str, is_certified: bool) -> Option<Received> {
    let (name, target) = path.strip_prefix(BASE)?.strip_prefix('/')?.split_once('/')?;
    let endpoint = Endpoint::named(name).filter(|endpoint| endpoint.method() == request.method().as_str())?;
    let target = percent_decode_str(target).decode_utf8().ok()?.into_owned();
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await.ok()?.to_bytes();
    let text = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Some(Received {
        endpoint,
        target,
        from: text("from"),
        host: parts.uri.authority().map_or_else(|| text("host"), ToString::to_string),
        is_certified,
        body,
        at: Instant::now(),
    })
}

fn respond(answer: &Answer, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body.clone().into()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(content_type));
    if let Some(seconds) = answer.retry_after {
        headers.insert("retry-after", seconds.into());
    }
    response
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In place of a target: whatever it is.
pub(crate) const ANY: &str = "*";
const BASE: &str = "/mimi";
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
