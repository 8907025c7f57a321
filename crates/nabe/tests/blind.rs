//! What a server can know of an encrypted room (LM #int-mls-considerations): after two users of two providers have talked, no text, no
//! file and no private key is anywhere in the servers' files, their logs at trace level, or the memory of their processes.
//!
//! Keys and secrets are taken from the clients' databases after every step, so those of past epochs are among what is searched for. The
//! same search finds what must be there (public keys, ciphertexts, identifiers), and in the clients' own files the secrets themselves.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ciborium::Value;
use common::{Folder, Serving, device::Device, memory, wait_for};
use nabe_signing::{SigningKey, base64u};
use rusqlite::Connection;
use serde_json::json;

/// In every message, and nowhere else.
const PLAINTEXT: &str = "Meet me where the two rivers part";
/// A file's content, likewise.
const FILE: &str = "The deed to the old lighthouse, page one of two";
/// State, which is not encrypted.
const ROOM_NAME: &str = "Rivers and lighthouses";

#[tokio::test(flavor = "multi_thread")]
async fn no_text_and_no_private_key_is_in_a_servers_files_logs_or_memory() {
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let follower = Folder::init(&servers, "follower.localhost");
    let trace = [("NABE_LOG__LEVEL", "trace")];
    let mut running = [
        (&hub, hub.serve_with(&[&follower], &trace)),
        (&follower, follower.serve_with(&[&hub], &trace)),
    ];
    let backend = hub.client();
    backend.wait_until_ready().await;
    follower.client().wait_until_ready().await;

    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let bob = Device::log_in(parent.path(), &follower, "bob", "BOB");
    let mut secrets = Secrets::default();
    secrets.take(&[&alice, &bob]);
    let room = alice.create_room(ROOM_NAME);
    secrets.take(&[&alice]);
    alice.bring_in(&room, &bob, "hub.localhost").await;
    secrets.take(&[&alice, &bob]);
    let file = parent.path().join("deed.txt");
    fs::write(&file, FILE).unwrap();
    for round in 0..2 {
        for device in [&alice, &bob] {
            device.run(&["send", &room, &format!("{PLAINTEXT}, {round}")]);
            secrets.take(&[device]);
            device.run(&["update", &room]);
            secrets.take(&[device]);
        }
    }
    bob.run(&["send-file", &room, file.to_str().unwrap()]);
    for device in [&alice, &bob] {
        wait_for("everything to be read", async || {
            let read = device.texts(&room);
            let messages = read.iter().filter(|(_, text)| text.is_some());
            (messages.count() == 5).then_some(())
        })
        .await;
        secrets.take(&[device]);
    }
    // The file passes from server to server, sealed.
    let newest = alice.run(&["messages", &room, "--limit", "1"]);
    let event_id = newest.iter().find_map(|item| item["event_id"].as_str()).unwrap();
    let fetched = parent.path().join("fetched.txt");
    alice.run(&["get-file", &room, event_id, "--output", fetched.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&fetched).unwrap(), FILE);
    secrets.check();
    // Of what goes well the logs say little, so that the room is named in them something has to be refused.
    let malformed = json!({ "type": "m.mls.commit", "content": { "message": "AAAA", "public_group_state": "AAAA" } });
    let events = format!("/_nabe/v1/rooms/{room}/events");
    let refused = follower.client().post(Some(&bob.user), &events, &malformed, None).await;
    assert_eq!(refused.unwrap().status, 403);
    wait_for("the refusal to be logged", async || {
        let logs = [&hub, &follower].map(Folder::log);
        logs.iter().all(|log| log.contains(&room)).then_some(())
    })
    .await;

    let mut forbidden = Needles::default();
    forbidden.add("a message's text", PLAINTEXT.as_bytes());
    forbidden.add("a file's content", FILE.as_bytes());
    for (secret, what) in &secrets.found {
        forbidden.add(what, secret);
    }
    let mut public = Needles::default();
    for (whose, key) in &secrets.public_keys {
        public.add(&format!("signature public key of {whose}"), key);
    }
    public.add("the room's name", ROOM_NAME.as_bytes());
    public.add("the room's ID", room.as_bytes());
    let log = backend.log(&alice.user, &room).await;
    let encrypted: Vec<_> = log.iter().filter(|event| event["type"] == "m.room.encrypted").collect();
    assert_eq!(encrypted.len(), 5);
    for event in encrypted {
        let ciphertext = event["content"]["ciphertext"].as_str().unwrap();
        // It begins with the group's ID and the epoch, which others have, too.
        let bytes = base64u::decode(ciphertext).unwrap();
        public.add("a ciphertext", &bytes[bytes.len() - 64..]);
    }

    for (server, process) in &running {
        let name = &server.name;
        let memory = match memory_of(process, &[&forbidden, &public]) {
            Ok(memory) => memory,
            Err(error) => {
                let skipped = format!("the memory of {name} cannot be read: {error}");
                assert!(std::env::var_os("NABE_REQUIRE_ALL").is_none(), "{skipped}");
                println!("SKIPPED: {skipped}");
                continue;
            }
        };
        println!("{name}: {} KiB of memory searched", memory.bytes / 1024);
        assert_eq!(memory.found[0], BTreeSet::new(), "in the memory of {name}");
        assert!(memory.found[1].contains("a ciphertext"), "{:?}", memory.found[1]);
        assert!(memory.found[1].contains("the room's ID"), "{:?}", memory.found[1]);
        for whose in secrets.public_keys.keys() {
            let key = format!("signature public key of {whose}");
            assert!(memory.found[1].contains(&key), "{:?}", memory.found[1]);
        }
    }

    // Write-ahead logs are searched with everything in them, and again when the databases are closed.
    for _ in 0..2 {
        for folder in [&hub, &follower] {
            let files = files_in(&folder.path, &[&forbidden, &public]);
            let name = &folder.name;
            println!("{name}: {} KiB of files searched", files.bytes / 1024);
            assert_eq!(files.found[0], BTreeSet::new(), "in the files of {name}");
            assert_eq!(files.found[1], public.names(), "in the files of {name}");
            let log = folder.path.join("server.log");
            let log = files_in(&log, &[&forbidden, &public]);
            assert!(log.found[1].contains("the room's ID"), "{:?}", log.found[1]);
            assert!(folder.log().contains("TRACE"), "the log is at trace level");
        }
        for (folder, process) in &mut running {
            if process.is_running() {
                assert!(process.terminate().success(), "{}", folder.log());
            }
        }
    }
    // The needles are those that the clients have.
    let own = files_in(&alice.state, &[&forbidden]);
    for what in [
        "a message's text",
        "signature private key of ALICE",
        "key package of ALICE",
        "epoch key of ALICE",
        "group_epoch_secrets of ALICE",
        "message_secrets of ALICE",
    ] {
        assert!(own.found[0].contains(what), "{what} not in {:?}", own.found[0]);
    }
}

// --- What the clients have ---

/// Private keys and secrets with what they are, and the public halves of the signature keys.
#[derive(Default)]
struct Secrets {
    found: BTreeMap<Vec<u8>, String>,
    public_keys: BTreeMap<String, Vec<u8>>,
}

impl Secrets {
    /// Adds what these devices have at this moment.
    fn take(&mut self, devices: &[&Device]) {
        for device in devices {
            let database = Connection::open(device.state.join("client.db")).unwrap();
            let name = device.state.file_name().unwrap().to_str().unwrap();
            self.rows(
                &database,
                name,
                "SELECT 'signature private key', value FROM meta WHERE name LIKE 'signature_key.%'",
            );
            self.rows(
                &database,
                name,
                "SELECT 'key package', key_package FROM openmls_key_packages",
            );
            self.rows(
                &database,
                name,
                "SELECT 'encryption key', key_pair FROM openmls_encryption_keys",
            );
            self.rows(
                &database,
                name,
                "SELECT 'epoch key', key_pairs FROM openmls_epoch_keys_pairs",
            );
            self.rows(&database, name, "SELECT data_type, group_data FROM openmls_group_data");
        }
    }

    fn rows(&mut self, database: &Connection, device: &str, query: &str) {
        let mut statement = database.prepare(query).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let (what, value): (String, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
            let value: Value = ciborium::from_reader(&*value).unwrap();
            let mut taken = Vec::new();
            walk(&value, &mut Vec::new(), &mut |path, bytes| {
                if path == ["public"] {
                    self.public_keys.insert(device.to_owned(), bytes);
                } else if is_secret(path) {
                    taken.push(bytes);
                }
            });
            for secret in taken {
                self.found
                    .entry(secret)
                    .or_insert_with(|| format!("{what} of {device}"));
            }
        }
    }

    /// What was taken is what it is said to be: there is something of every kind, and the signature keys make their public halves.
    fn check(&self) {
        for device in ["ALICE", "BOB"] {
            for kind in [
                "signature private key",
                "key package",
                "epoch key",
                "group_epoch_secrets",
                "message_secrets",
            ] {
                let what = format!("{kind} of {device}");
                assert!(self.found.values().any(|known| *known == what), "there is a {what}");
            }
            let seeds = self.found.iter();
            let what = format!("signature private key of {device}");
            let seed = seeds.filter(|(_, known)| **known == what).map(|(seed, _)| seed).next();
            let seed: [u8; 32] = seed.unwrap()[..].try_into().unwrap();
            let key = SigningKey::from_seed(nabe_types::KeyId::ed25519("1").unwrap(), seed);
            assert_eq!(key.public().to_bytes()[..], self.public_keys[device][..]);
        }
        println!("{} secrets of two devices", self.found.len());
    }
}

/// Whether a field's name, or that of one around it, says that it is not public.
fn is_secret(path: &[String]) -> bool {
    let says = |part: &String| {
        ["private", "secret", "psk", "membership_key", "confirmation_key"]
            .iter()
            .any(|word| part.contains(word))
    };
    let public = |part: &String| part.contains("public") || part.contains("serialized_context");
    path.iter().any(says) && !path.iter().any(public)
}

/// Hands over every string of at least 16 bytes that looks random, with the names of the fields it is in. CBOR made from types without
/// bytes has lists of numbers in their place.
fn walk(value: &Value, path: &mut Vec<String>, found: &mut impl FnMut(&[String], Vec<u8>)) {
    let mut bytes = |bytes: Vec<u8>, path: &[String]| {
        let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
        if bytes.len() >= NEEDLE && distinct.len() >= NEEDLE / 2 {
            found(path, bytes);
        }
    };
    match value {
        Value::Bytes(string) => bytes(string.clone(), path),
        Value::Array(items) => {
            let numbers: Option<Vec<u8>> = items.iter().map(|item| u8::try_from(item.as_integer()?).ok()).collect();
            match numbers {
                Some(numbers) => bytes(numbers, path),
                None => items.iter().for_each(|item| walk(item, path, found)),
            }
        }
        Value::Map(fields) => {
            for (name, field) in fields {
                path.push(name.as_text().unwrap_or_default().to_owned());
                walk(field, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

// --- Searching ---

/// How much of a secret is searched for: its beginning. That so many bytes are the same by chance does not happen.
const NEEDLE: usize = 16;

/// What is searched for: everything in every form it may be kept or printed in.
#[derive(Default)]
struct Needles {
    /// Bits for the first three bytes of any form.
    filter: Vec<u64>,
    forms: BTreeMap<[u8; 3], Vec<(Vec<u8>, String)>>,
}

impl Needles {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        self.filter.resize(1 << 18, 0);
        for form in forms(&bytes[..NEEDLE.min(bytes.len())]) {
            let first = [form[0], form[1], form[2]];
            let (word, bit) = place(first);
            self.filter[word] |= bit;
            self.forms.entry(first).or_default().push((form, name.to_owned()));
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.forms.values().flatten().map(|(_, name)| name.clone()).collect()
    }

    fn search(&self, haystack: &[u8], found: &mut BTreeSet<String>) {
        for at in 0..haystack.len().saturating_sub(2) {
            let first = [haystack[at], haystack[at + 1], haystack[at + 2]];
            let (word, bit) = place(first);
            if self.filter[word] & bit != 0 {
                for (form, name) in &self.forms[&first] {
                    if haystack[at..].starts_with(form) {
                        found.insert(name.clone());
                    }
                }
            }
        }
    }
}

fn place([a, b, c]: [u8; 3]) -> (usize, u64) {
    let index = u32::from_be_bytes([0, a, b, c]);
    (usize::try_from(index / 64).unwrap(), 1 << (index % 64))
}

/// Bytes as they are; in base64, both alphabets, wherever in something larger they stand; in hex; and as Rust and CBOR list numbers.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let list = |separator: &str| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        numbers.join(separator).into_bytes()
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        bytes.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        list(", "),
        list(","),
    ];
    let mut cbor = Vec::new();
    for &byte in bytes {
        ciborium::into_writer(&byte, &mut cbor).unwrap();
    }
    forms.push(cbor);
    // Three bytes become four characters; those that hold bits of neighbors are left out.
    for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
        let mut shifted = vec![0; before];
        shifted.extend(bytes);
        let whole = shifted.len() * 8 / 6;
        for encoded in [base64u::encode(&shifted), base64u::encode_url(&shifted)] {
            forms.push(encoded.as_bytes()[shared..whole].to_vec());
        }
    }
    forms
}

/// What a search looked at, and what of each set of needles it found.
struct Searched {
    bytes: u64,
    found: Vec<BTreeSet<String>>,
}

impl Searched {
    fn new(needles: &[&Needles]) -> Self {
        Self {
            bytes: 0,
            found: vec![BTreeSet::new(); needles.len()],
        }
    }

    fn look(&mut self, haystack: &[u8], needles: &[&Needles]) {
        for (needles, found) in needles.iter().zip(&mut self.found) {
            needles.search(haystack, found);
        }
    }
}

/// Searches a file, or all files below a folder.
fn files_in(path: &Path, needles: &[&Needles]) -> Searched {
    let mut searched = Searched::new(needles);
    let mut paths: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(path).unwrap();
            searched.bytes += bytes.len() as u64;
            searched.look(&bytes, needles);
        }
    }
    searched
}

/// Searches the memory of a server.
fn memory_of(process: &Serving, needles: &[&Needles]) -> std::io::Result<Searched> {
    let mut searched = Searched::new(needles);
    searched.bytes = memory::read(process, |chunk| searched.look(chunk, needles))?;
    Ok(searched)
}

#[test]
fn the_search_finds_every_form_anywhere() {
    let secret: Vec<u8> = (0..32u8).map(|n| n.wrapping_mul(167).wrapping_add(201)).collect();
    let mut needles = Needles::default();
    needles.add("it", &secret);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for before in 0..5u8 {
        let mut whole = vec![7; before.into()];
        whole.extend(&secret);
        whole.extend([9; 3]);
        let mut cbor = Vec::new();
        ciborium::into_writer(&whole, &mut cbor).unwrap();
        for (form, stored) in [
            ("raw", whole.clone()),
            ("base64", base64u::encode(&whole).into_bytes()),
            ("base64url", base64u::encode_url(&whole).into_bytes()),
            ("hex", hex(&whole).into_bytes()),
            ("HEX", hex(&whole).to_uppercase().into_bytes()),
            ("debug", format!("{whole:?}").into_bytes()),
            ("JSON", serde_json::to_vec(&whole).unwrap()),
            ("CBOR", cbor),
        ] {
            let mut found = BTreeSet::new();
            needles.search(&stored, &mut found);
            assert!(found.contains("it"), "{form} after {before} bytes");
            let mut other = stored;
            let middle = other.len() / 4;
            other[middle] ^= 1;
            let mut found = BTreeSet::new();
            needles.search(&other, &mut found);
            assert!(found.is_empty(), "{form} after {before} bytes with a bit flipped");
        }
    }
}
