//! Two providers of MIMI, each a process of its own, over mutual TLS (MIMI #transport-layer).

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use common::{Client, Serving, command, free_address, memory, nabe, text, wait_for};
use http::{Method, Request, Response};
use nabe_federation::{HttpsSettings, HttpsTransport, MimiPeers, TlsSettings, Transport as _};
use nabe_http::tls::CertificateFiles;
use nabe_service::ports::{
    SystemClock,
    mimi::{MimiPeers as _, MimiRequest},
};
use nabe_signing::SigningKey;
use nabe_types::{KeyId, ServerName};
use nabe_wire::{
    Encode as _, IdentifierUri, Message as _,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    directory::{DIRECTORY_PATH, Endpoint},
    key_material::{KeyMaterialQuery, KeyMaterialRequestTbs, KeyMaterialResponse, KeyMaterialUserCode},
    label::{SignatureScheme, Signer, SignerError},
    mls::{CipherSuite, Credential, RequiredCapabilities},
};
use serde_json::{Value, json};

const ALICE: &str = "mimi://a.localhost/u/alice";
const BOB: &str = "mimi://b.localhost/u/bob";

/// A provider made by `nabe init --mimi`.
struct Provider {
    domain: ServerName,
    folder: PathBuf,
    listen: SocketAddr,
    mimi: SocketAddr,
}

impl Provider {
    /// The first one lends its CA.
    fn init(parent: &Path, domain: &str, ca: Option<&Self>) -> Self {
        let folder = parent.join(domain);
        let mut arguments = vec!["init", folder.to_str().unwrap(), "--server-name", domain, "--dev-tls"];
        arguments.extend(["--mimi", domain]);
        if let Some(ca) = ca {
            arguments.extend(["--dev-ca", ca.folder.to_str().unwrap()]);
        }
        let made = nabe(&arguments);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self {
            domain: ServerName::parse(domain).unwrap(),
            folder,
            listen: free_address(),
            mimi: free_address(),
        }
    }

    /// `nabe serve`, with MIMI at an address of its own or at that of everything else.
    fn serve(&self, others: &[&Self], shared: bool) -> Serving {
        self.serve_with(others, shared, &[])
    }

    /// The same with more options, as environment variables.
    fn serve_with(&self, others: &[&Self], shared: bool, environment: &[(&str, &str)]) -> Serving {
        let overrides: Vec<String> = others
            .iter()
            .map(|other| format!("\"{}\" = \"{}\"", other.domain, other.mimi))
            .collect();
        let log = fs::File::create(self.folder.join("server.log")).unwrap();
        let mut serve = command();
        serve
            .args(["serve", "--config"])
            .arg(self.folder.join("nabe.toml"))
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
    fn transport(&self, certificate: Option<&Self>) -> HttpsTransport {
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
            overrides: BTreeMap::from([(self.domain.clone(), self.mimi)]),
            ..HttpsSettings::default()
        };
        HttpsTransport::direct(settings, Arc::new(SystemClock)).unwrap()
    }

    /// The same as the provider `from`, by the directory.
    fn peers(&self, from: &Self) -> MimiPeers<HttpsTransport> {
        let settings = nabe_federation::MimiSettings::default();
        let transport = self.transport(Some(from));
        MimiPeers::new(transport, &from.domain, Arc::new(SystemClock), settings)
    }

    /// The provider's own backend.
    fn backend(&self) -> Client {
        Client::new(self.domain.clone(), self.listen, &self.folder)
    }

    /// A request as the directory has it, from nobody in particular.
    async fn request(&self, transport: &HttpsTransport, method: Method, path: &str, from: &str) -> Response<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("from", format!("mimi@{from}"))
            .body(Bytes::new())
            .unwrap();
        let answer = transport.send(&self.domain, request, Duration::from_secs(20));
        answer.await.unwrap()
    }

    /// The directory, read without a certificate.
    async fn directory(&self) -> BTreeMap<String, String> {
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

/// What a path in the directory leads to for some target.
fn path_of(template: &str, domain: &ServerName) -> String {
    let path = template.strip_prefix(&format!("https://{domain}")).unwrap();
    let (start, _) = path.split_once('{').unwrap();
    format!("{start}mimi%3A%2F%2F{domain}%2Fr%2Fnowhere")
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_reads_the_directory_and_providers_alone_reach_what_is_in_it() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    for shared in [false, true] {
        let _running = (a.serve(&[&b], shared), b.serve(&[&a], shared));
        let directory = a.directory().await;
        b.directory().await;
        assert!(!directory.is_empty(), "something is served");
        let (nobody, peer) = (a.transport(None), a.transport(Some(&b)));
        for (name, template) in &directory {
            let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == name);
            let method: Method = endpoint.unwrap().method().parse().unwrap();
            let path = path_of(template, &a.domain);
            let answer = a.request(&nobody, method.clone(), &path, "b.localhost").await;
            assert_eq!(answer.status(), 401, "{name}: without a certificate");
            let of_another = a.request(&peer, method.clone(), &path, "c.localhost").await;
            assert_eq!(of_another.status(), 403, "{name}: in the name of another");
            // Whatever the endpoint says to nonsense, it is the endpoint that says it.
            let answer = a.request(&peer, method, &path, "b.localhost").await;
            assert!(!matches!(answer.status().as_u16(), 401 | 405), "{name}: {answer:?}");
            assert_ne!(answer.body(), of_another.body(), "{name}");
        }
    }
}

/// The key of a client of another provider.
struct ClientKey(SigningKey);

impl Signer for ClientKey {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).unwrap()
}

/// What bob's client asks for.
fn key_material_of(target: &str) -> Bytes {
    let key = ClientKey(SigningKey::from_seed(KeyId::ed25519("bob").unwrap(), [7; 32]));
    let request = KeyMaterialRequestTbs {
        requesting_user: uri(BOB),
        target_user: uri(target),
        room_id: uri("mimi://b.localhost/r/club"),
        query: KeyMaterialQuery {
            acceptable_ciphersuites: vec![CipherSuite(1)],
            required_capabilities: RequiredCapabilities {
                extension_types: Vec::new(),
                proposal_types: Vec::new(),
                credential_types: Vec::new(),
            },
            requester_signature_key: key.0.public().to_bytes()[..].into(),
            requester_credential: Credential::Basic {
                identity: b"mimi://b.localhost/d/bob/phone"[..].into(),
            },
        },
    };
    request.sign(&key).unwrap().to_bytes().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_asks_another_for_keys_and_consent() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let show_users = [("NABE_MIMI__HIDE_USERS", "false")];
    let mut running = a.serve_with(&[&b], false, &show_users);
    a.directory().await;
    // Alice exists since her provider's backend spoke for her.
    a.backend().must_get("@alice:a.localhost", "/_nabe/v1/rooms").await;
    let bob = a.peers(&b);
    let call = async |endpoint, target: &str, body: Bytes| {
        let request = MimiRequest {
            endpoint,
            target: target.to_owned(),
            body,
            timeout: Duration::from_secs(20),
            max_response_bytes: 64 * 1024,
        };
        bob.call(&a.domain, request).await.unwrap()
    };
    let status = async |target: &str| {
        let answer = call(Endpoint::KeyMaterial, target, key_material_of(target)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        KeyMaterialResponse::from_bytes(&answer.body).unwrap().user_status
    };
    assert_eq!(status(ALICE).await, KeyMaterialUserCode::NO_CONSENT);
    let nobody = "mimi://a.localhost/u/nobody";
    assert_eq!(status(nobody).await, KeyMaterialUserCode::USER_UNKNOWN);

    let wish = ConsentEntry {
        operation: ConsentAction::Request,
        scope: ConsentScope {
            requester_uri: uri(BOB),
            target_uri: uri(ALICE),
            room_id: None,
        },
        consent_extensions: Default::default(),
    };
    let asked = call(Endpoint::RequestConsent, ALICE, wish.to_bytes().into()).await;
    assert_eq!(asked.status, 201, "{asked:?}");
    // Nobody follows a room here, so nobody is to be notified of one.
    let room = "mimi://b.localhost/r/club";
    let notified = call(Endpoint::Notify, room, Bytes::new()).await;
    assert!((400..500).contains(&notified.status), "{notified:?}");

    // The next process has the same users, key and name.
    running.kill();
    let _running = a.serve(&[&b], false);
    a.directory().await;
    assert_eq!(status(ALICE).await, KeyMaterialUserCode::NO_CONSENT);
    // It keeps to itself who is there.
    assert_eq!(status(nobody).await, KeyMaterialUserCode::NO_CONSENT);
}

#[test]
fn the_keys_that_clients_list_are_shown() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let config = a.folder.join("nabe.toml");
    let shown = nabe(["keys", "show", "--config", config.to_str().unwrap()]);
    let shown = text(&shown.stdout);
    for what in ["hub ", "franks "] {
        let line = shown.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(line.ends_with("  mimi://a.localhost"), "{line}");
    }
}

/// A user's client: `nabe client mimi` with a folder of its own, one process for each command.
struct Person {
    state: PathBuf,
    user: String,
}

impl Person {
    fn log_in(parent: &Path, provider: &Provider, name: &str) -> Self {
        let person = Self {
            state: parent.join(format!("client of {name}")),
            user: format!("mimi://{}/u/{name}", provider.domain),
        };
        let token = fs::read_to_string(provider.folder.join("provider.token")).unwrap();
        let url = format!("https://localhost:{}", provider.listen.port());
        let user = format!("@{name}:{}", provider.domain);
        let ca = provider.folder.join("ca.pem");
        let login = ["login", "--server", &url, "--device", "phone", "--user", &user];
        let with = ["--provider-token", token.trim(), "--ca", ca.to_str().unwrap()];
        let made = person.run(&[&login[..], &with[..]].concat());
        assert_eq!(made[0]["user"], person.user);
        person
    }

    fn attempt(&self, arguments: &[&str]) -> std::process::Output {
        let mut client = command();
        client
            .args(["client", "--json", "--state"])
            .arg(&self.state)
            .arg("mimi");
        client.args(arguments).output().unwrap()
    }

    /// What a command prints, a line each.
    fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let done = self.attempt(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        let lines = text(&done.stdout);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// By an address that the other has, which their provider vouches for, once they let it be searched for.
    fn finds(&self, other: &Self) {
        let (_, rest) = other.user.split_once("mimi://").unwrap();
        let domain = rest.split_once('/').unwrap().0.to_owned();
        let look = [
            "find",
            &domain,
            "--email",
            "someone@mail.example",
            "--claim",
            "given_name=Some",
        ];
        assert!(!self.attempt(&look).status.success(), "not without a profile");
        let email =
            json!({ "kind": "email", "value": "someone@mail.example", "searchable": "exactly", "shown": false });
        let name =
            json!({ "kind": "claim", "name": "given_name", "value": "Some", "searchable": "in_part", "shown": true });
        let profile = json!({ "fields": [email, name] });
        let file = self.state.with_extension("profile");
        fs::write(&file, profile.to_string()).unwrap();
        other.run(&["profile", "put", file.to_str().unwrap()]);
        assert_eq!(other.run(&["profile", "show"]), [profile]);
        let found = json!({ "user": other.user, "shown": [["given_name", "Some"]] });
        assert_eq!(self.run(&look), [found]);
        assert!(
            !self.attempt(&["find", &domain]).status.success(),
            "not without a condition"
        );
    }

    /// Waits for the other to be allowed to add this one.
    async fn lets_add(&self, other: &Self) {
        other.run(&["consent", "ask", &self.user]);
        let is_known = |of: &Self, state: &str| {
            let known = of.run(&["consent", "list"]);
            let is_it = |one: &Value| one["requester"] == *other.user && one["target"] == *self.user;
            known
                .iter()
                .any(|one| is_it(one) && one["state"] == state)
                .then_some(())
        };
        wait_for("the request", async || is_known(self, "asked")).await;
        self.run(&["consent", "grant", &other.user]);
        wait_for("the consent", async || is_known(other, "granted")).await;
    }

    /// The newest message of a room once it is what is waited for.
    async fn hears(&self, room: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for("a message", async || {
            self.run(&["sync"]);
            let messages = self.run(&["messages", room]);
            messages.into_iter().rev().find(&is_it)
        })
        .await
    }

    async fn is_in(&self, room: &str, is_in: bool) -> Value {
        wait_for("the group", async || {
            self.run(&["sync"]);
            let known = self.run(&["rooms"]).into_iter().any(|known| known["room"] == room);
            let info = known.then(|| self.run(&["info", room]).pop()).flatten()?;
            ((info["status"] == "active") == is_in).then_some(info)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_three_providers_talk_and_send_files_on_the_command_line() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let c = Provider::init(parent.path(), "c.localhost", Some(&a));
    // The hub knows where the others' users store files.
    let hosts = [("NABE_MIMI__ASSET_HOSTS", "[\"b.localhost\", \"c.localhost\"]")];
    let _running = (
        a.serve_with(&[&b, &c], false, &hosts),
        b.serve(&[&a, &c], false),
        c.serve(&[&a, &b], false),
    );
    for provider in [&a, &b, &c] {
        provider.directory().await;
    }
    let alice = Person::log_in(parent.path(), &a, "alice");
    let bob = Person::log_in(parent.path(), &b, "bob");
    let cathy = Person::log_in(parent.path(), &c, "cathy");
    let room = "mimi://a.localhost/r/club";
    assert_eq!(alice.run(&["create", "The Club", "--id", "club"])[0]["room"], room);
    alice.finds(&bob);
    bob.lets_add(&alice).await;
    cathy.lets_add(&alice).await;
    alice.run(&["add", room, &bob.user, &cathy.user]);
    bob.is_in(room, true).await;
    let info = cathy.is_in(room, true).await;
    assert_eq!(info["clients"].as_array().unwrap().len(), 3);

    let sent = bob.run(&["send", room, "hello"]);
    let heard = alice.hears(room, |message| message["text"] == "hello").await;
    assert_eq!(
        (&heard["sender"], &heard["message"]),
        (&Value::from(&*bob.user), &sent[0]["message"])
    );
    assert_eq!(heard["franking"], "genuine");
    let reply = heard["message"].as_str().unwrap();
    alice.run(&["send", room, "hello Bob", "--reply-to", reply]);
    cathy
        .hears(room, |message| message["text"] == "[reply] hello Bob")
        .await;

    // One file lies at the hub, the other at Bob's provider, from where the hub fetches it for Cathy's.
    let secret = b"for the club's eyes only; ".repeat(5_000);
    let path = parent.path().join("picture.png");
    fs::write(&path, &secret).unwrap();
    let out = parent.path().join("received");
    for (sender, provider) in [(&alice, &a), (&bob, &b)] {
        let sent = sender.run(&["send-file", room, path.to_str().unwrap()]);
        let id = sent[0]["message"].as_str().unwrap();
        let message = cathy.hears(room, |message| message["message"] == id).await;
        assert_eq!(message["file"]["name"], "picture.png");
        assert_eq!(message["file"]["media_type"], "image/png");
        cathy.run(&["get-file", room, id, "--out", out.to_str().unwrap()]);
        assert_eq!(fs::read(&out).unwrap(), secret, "from {}", provider.domain);
        // Its provider has something else in its place.
        let stored = find_file(&provider.folder.join("data/media"));
        let mut bytes = fs::read(&stored).unwrap();
        assert!(!bytes.windows(5).any(|five| five == b"eyes "), "it is sealed");
        bytes[7] ^= 1;
        fs::write(&stored, bytes).unwrap();
        let refused = cathy.attempt(&["get-file", room, id, "--out", out.to_str().unwrap()]);
        assert!(!refused.status.success());
        assert!(
            text(&refused.stderr).contains("hash differs"),
            "{}",
            text(&refused.stderr)
        );
    }
    // Whoever does not know the URL gets nothing by the file's name alone.
    let stored = find_file(&a.folder.join("data/media"));
    let name = stored.file_name().unwrap().to_str().unwrap();
    let guess = format!("/_nabe/mimi/assets/{name}/AAAAAAAAAAAAAAAAAAAAAA");
    let guessed = a.request(&a.transport(None), Method::GET, &guess, "b.localhost").await;
    assert_eq!(guessed.status(), 404);

    bob.run(&["leave", room]);
    wait_for("Bob to be gone", async || {
        alice.run(&["update", room]);
        let info = alice.run(&["info", room]).pop().unwrap();
        (info["participants"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    bob.is_in(room, false).await;
    cathy.is_in(room, true).await;
    alice.run(&["add", room, &bob.user]);
    bob.is_in(room, true).await;
    alice.run(&["remove", room, &bob.user]);
    bob.is_in(room, false).await;
    let outside = bob.attempt(&["send", room, "hello?"]);
    assert!(!outside.status.success());
    alice.run(&["set-role", room, &cathy.user, "3"]);
    wait_for("the role", async || {
        let info = cathy.is_in(room, true).await;
        let mut users = info["participants"].as_array().unwrap().iter();
        users
            .any(|one| one["user"] == *cathy.user && one["role"] == 3)
            .then_some(())
    })
    .await;
}

/// Whether these bytes are anywhere in the memory of a provider.
fn remembers(provider: &Serving, what: &str) -> bool {
    let (first, what) = (what.as_bytes()[0], what.as_bytes());
    let mut found = false;
    let searched = memory::read(provider, |chunk| {
        let mut places = chunk.iter().enumerate().filter(|(_, byte)| **byte == first);
        found |= places.any(|(at, _)| chunk[at..].starts_with(what));
    });
    assert!(searched.unwrap() > 0);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_never_told_which_file_comes_by_oblivious_http() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let c = Provider::init(parent.path(), "c.localhost", Some(&a));
    let hub = [
        ("NABE_MIMI__ASSET_HOSTS", "[\"b.localhost\"]"),
        ("NABE_MIMI__OHTTP", "true"),
    ];
    let _hub = (a.serve_with(&[&b, &c], false, &hub), b.serve(&[&a, &c], false));
    let relay = c.serve(&[&a, &b], false);
    for provider in [&a, &b, &c] {
        provider.directory().await;
    }
    let alice = Person::log_in(parent.path(), &a, "alice");
    let bob = Person::log_in(parent.path(), &b, "bob");
    let cathy = Person::log_in(parent.path(), &c, "cathy");
    let room = "mimi://a.localhost/r/club";
    alice.run(&["create", "The Club", "--id", "club"]);
    bob.lets_add(&alice).await;
    cathy.lets_add(&alice).await;
    alice.run(&["add", room, &bob.user, &cathy.user]);
    bob.is_in(room, true).await;
    cathy.is_in(room, true).await;
    let secret = b"for the club's eyes only; ".repeat(5_000);
    let path = parent.path().join("picture.png");
    fs::write(&path, &secret).unwrap();
    let sent = bob.run(&["send-file", room, path.to_str().unwrap()]);
    let id = sent[0]["message"].as_str().unwrap();
    cathy.hears(room, |message| message["message"] == id).await;
    let out = parent.path().join("received");
    let fetch = |by: &[&str]| {
        let arguments = [&["get-file", room, id, "--out", out.to_str().unwrap()], by].concat();
        let fetched = cathy.run(&arguments);
        assert_eq!(fs::read(&out).unwrap(), secret, "{by:?}");
        fetched[0]["way"].as_str().unwrap().to_owned()
    };

    // Under this name Bob's provider keeps the file, and its URL has it.
    let stored = find_file(&b.folder.join("data/media"));
    let name = stored.file_name().unwrap().to_str().unwrap();
    assert_eq!(fetch(&["--by", "ohttp"]), "ohttp");
    assert!(!remembers(&relay, name), "it saw nothing but what is sealed");

    // With the hub's own word for its key, and with another key.
    let (keys, other) = (parent.path().join("keys"), parent.path().join("other"));
    let published = a
        .request(
            &a.transport(None),
            Method::GET,
            "/.well-known/ohttp-gateway",
            "c.localhost",
        )
        .await;
    fs::write(&keys, published.body()).unwrap();
    assert_eq!(
        fetch(&["--by", "ohttp", "--ohttp-keys", keys.to_str().unwrap()]),
        "ohttp"
    );
    let mut changed = published.body().to_vec();
    changed[10] ^= 1;
    fs::write(&other, changed).unwrap();
    let wrong = [
        "get-file",
        room,
        id,
        "--by",
        "ohttp",
        "--ohttp-keys",
        other.to_str().unwrap(),
    ];
    let refused = cathy.attempt(&wrong);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));

    assert!(!remembers(&relay, name));
    assert_eq!(fetch(&[]), "hubProxy");
    assert!(remembers(&relay, name), "what it is told is found");
    let address = format!("b.localhost={}", b.mimi);
    assert_eq!(fetch(&["--by", "direct", "--resolve", &address]), "direct");
}

/// The only file below a folder.
fn find_file(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
