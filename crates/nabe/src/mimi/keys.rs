//! The hub's own keys on disk: the one that stands among the external senders of its rooms' groups (MIMI #authenticating-proposals), and those
//! of its franks (MIMI #message-franking).

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use nabe_content::mimi::franking::{HubKey, KeyRing};
use nabe_http::mimi::OhttpGateway;
use nabe_signing::{PublicKey, SigningKey, base64u};
use nabe_types::{KeyId, ServerName, UnixMillis};
use nabe_wire::label::{SignatureScheme, Signer, SignerError};
use nabe_wire::mls::{Credential, ExternalSender};
use serde::{Deserialize, Serialize};

use super::franking::Franks;
use crate::keys::{refuse_if_readable_by_others, write_secret};

/// A key of a hub's, for groups of the suites that sign by Ed25519.
#[derive(Clone)]
pub(crate) struct Ed25519(SigningKey);

impl Ed25519 {
    /// The public half, as it stands in groups.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.public().to_bytes()
    }

    /// The same, to check signatures with.
    pub(super) fn public_key(&self) -> PublicKey {
        self.0.public()
    }

    /// The key of a seed.
    #[cfg(test)]
    pub(super) fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_seed(KeyId::ed25519("test").unwrap(), seed))
    }

    pub(super) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }

    /// The entry of a provider's key among a group's external senders.
    pub(crate) fn external_sender(&self, domain: &ServerName) -> ExternalSender {
        ExternalSender {
            signature_key: self.public()[..].into(),
            credential: Credential::Basic {
                identity: hub_uri(domain).as_bytes().into(),
            },
        }
    }
}

/// Without the key.
impl fmt::Debug for Ed25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519")
    }
}

impl Signer for Ed25519 {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.sign_bytes(payload))
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// How a hub is named in credentials of its own.
pub(crate) fn hub_uri(domain: &ServerName) -> String {
    format!("mimi://{domain}")
}

/// The file with the keys of franks.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FrankingFile {
    /// The seed of the key that signs: its public half is in groups as the franking agent's.
    agent: String,
    /// By which the hub recognizes its franks; old ones stay, for reports come late.
    key: Vec<FrankingEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FrankingEntry {
    /// Messages accepted then and later have it, until the next one's time.
    from: u64,
    secret: String,
}

/// The file with the keys of the OHTTP gateway.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OhttpFile {
    /// The one for new requests first.
    key: Vec<OhttpEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OhttpEntry {
    /// By which requests name it.
    number: u8,
    secret: String,
}

/// Writes a new hub key, unless there is one.
pub(crate) fn make_hub(path: &Path, seed: [u8; 32]) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let key = SigningKey::from_seed(KeyId::ed25519("hub")?, seed);
    write_secret(path, &format!("{}\n", key.to_file_string()))
}

/// Writes new keys for franks, unless there are some.
pub(crate) fn make_franking(path: &Path, agent: [u8; 32], secret: [u8; 32]) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let file = FrankingFile {
        agent: base64u::encode(&agent),
        key: vec![FrankingEntry {
            from: 0,
            secret: base64u::encode(&secret),
        }],
    };
    write_secret(path, &toml::to_string(&file)?)
}

/// Writes a new key of the OHTTP gateway, unless there are some.
pub(crate) fn make_ohttp(path: &Path, secret: [u8; 32]) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let file = OhttpFile {
        key: vec![OhttpEntry {
            number: 1,
            secret: base64u::encode(&secret),
        }],
    };
    write_secret(path, &toml::to_string(&file)?)
}

/// Reads the hub's key.
pub(super) fn load_hub(path: &Path) -> anyhow::Result<Ed25519> {
    let what = || format!("mimi.hub_key_file {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    refuse_if_readable_by_others(path)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        bail!("{}: must hold one key", what());
    };
    Ok(Ed25519(SigningKey::parse_file(line).with_context(what)?))
}

/// Reads the keys of franks.
pub(super) fn load_franking(path: &Path) -> anyhow::Result<Franks> {
    let what = || format!("mimi.franking_key_file {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    refuse_if_readable_by_others(path)?;
    let file: FrankingFile = toml::from_str(&text).with_context(what)?;
    let seed = |text: &str| seed(text).with_context(what);
    ensure!(!file.key.is_empty(), "{}: no [[key]] in it", what());
    let mut ring = KeyRing::new();
    for entry in &file.key {
        ring.add(UnixMillis(entry.from), HubKey::from_random(seed(&entry.secret)?));
    }
    let agent = SigningKey::from_seed(KeyId::ed25519("agent")?, seed(&file.agent)?);
    Ok(Franks::new(Ed25519(agent), ring))
}

/// Reads the keys of the OHTTP gateway.
pub(super) fn load_ohttp(path: &Path) -> anyhow::Result<OhttpGateway> {
    let what = || format!("mimi.ohttp_key_file {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    refuse_if_readable_by_others(path)?;
    let file: OhttpFile = toml::from_str(&text).with_context(what)?;
    let secrets = file.key.iter().map(|entry| Ok((entry.number, seed(&entry.secret)?)));
    let secrets = secrets.collect::<anyhow::Result<Vec<_>>>().with_context(what)?;
    OhttpGateway::new(&secrets).with_context(what)
}

fn seed(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = base64u::decode(text)?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("a key has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use nabe_core::mimi::Franking as _;
    use nabe_wire::franking::ServerFrankingContext;
    use nabe_wire::mls::CipherSuite;
    use nabe_wire::uri::IdentifierUri;
    use openmls_rust_crypto::RustCrypto;

    use super::*;

    fn context() -> ServerFrankingContext {
        let uri = |text: &str| IdentifierUri::new(text).unwrap();
        ServerFrankingContext {
            sender_uri: uri("mimi://b.example/u/bob"),
            room_uri: uri("mimi://a.example/r/fish"),
            accepted_timestamp: 1_790_000_000_000,
        }
    }

    #[test]
    fn keys_that_were_made_are_read_again_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let [hub, franking, ohttp] = ["hub", "franking", "ohttp"].map(|name| folder.path().join(name));
        for seed in [1, 2] {
            make_hub(&hub, [seed; 32]).unwrap();
            make_franking(&franking, [seed; 32], [seed + 8; 32]).unwrap();
            make_ohttp(&ohttp, [seed; 32]).unwrap();
        }
        assert!(fs::read_to_string(&ohttp).unwrap().contains(&base64u::encode(&[1; 32])));
        load_ohttp(&ohttp).unwrap();
        let first = SigningKey::from_seed(KeyId::ed25519("hub").unwrap(), [1; 32]).public();
        assert_eq!(load_hub(&hub).unwrap().public(), first.to_bytes());
        assert_eq!(load_franking(&franking).unwrap().agent().public(), first.to_bytes());
    }

    #[test]
    fn a_frank_is_the_hubs_own_and_everybody_recognizes_the_agents_signature() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("franking");
        make_franking(&path, [1; 32], [2; 32]).unwrap();
        let franks = load_franking(&path).unwrap();
        let agent = franks.agent().public();
        let frank = franks.frank(&agent, CipherSuite(1), &[7; 32], &context()).unwrap();
        let crypto = RustCrypto::default();
        assert_eq!(frank.verify(&crypto, &agent, &context()), Ok(()));
        let mut other = context();
        other.accepted_timestamp += 1;
        assert!(frank.verify(&crypto, &agent, &other).is_err());
        // Of other tags and under other secrets there are other franks.
        let of_other_tag = franks.frank(&agent, CipherSuite(1), &[8; 32], &context()).unwrap();
        assert_ne!(of_other_tag.server_frank, frank.server_frank);
    }

    #[test]
    fn nothing_is_franked_for_another_agent_or_by_another_algorithm() {
        let franks = {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("franking");
            make_franking(&path, [1; 32], [2; 32]).unwrap();
            load_franking(&path).unwrap()
        };
        let agent = franks.agent().public();
        assert_eq!(franks.frank(&[9; 32], CipherSuite(1), &[7; 32], &context()), None);
        // P-256.
        assert_eq!(franks.frank(&agent, CipherSuite(2), &[7; 32], &context()), None);
    }

    #[test]
    fn files_that_hold_no_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["", "ed25519 a", "agent = \"AAAA\"\nkey = []\n"] {
            write_secret(&path, text).unwrap();
            for error in [
                load_hub(&path).unwrap_err(),
                load_franking(&path).unwrap_err(),
                load_ohttp(&path).unwrap_err(),
            ] {
                assert!(format!("{error:#}").contains("file"), "{text}: {error:#}");
            }
        }
    }
}
