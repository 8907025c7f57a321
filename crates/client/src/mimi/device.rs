//! The client itself: who it is, the keys it signs with, what its leaves say, and its key packages (MIMI
//! #end-to-end-security-layer, #fetch-key-material).

use std::cell::Cell;
use std::convert::Infallible;

use nabe_mls::Suite;
use nabe_signing::sha256;
use nabe_wire::app_data::{AppDataDictionary, ComponentsList, MediaType, MediaTypeList};
use nabe_wire::mls::{ComponentId, Credential as WireCredential};
use nabe_wire::uri::{MimiKind, MimiUri};
use nabe_wire::{Encode as _, IdentifierUri};
use openmls::ciphersuite::hash_ref::KeyPackageRef;
use openmls::credentials::{BasicCredential, CredentialWithKey};
use openmls::extensions::{AppDataDictionary as MlsDictionary, AppDataDictionaryExtension, Extension};
use openmls::grease::random_grease_value;
use openmls::prelude::{Capabilities, ExtensionType, Extensions, KeyPackage, LeafNode, ProposalType};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::storage::StorageProvider as _;
use rusqlite::Connection;
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

use super::error::{Doing as _, MimiError};
use super::store::{CLIENT, KEYS, OwnKeyPackage};
use crate::error::StoreError;
use crate::keys::{SignatureKeys, text};
use crate::provider::Provider;
use crate::store::set_meta;

/// Who this client is.
pub(super) struct Device {
    pub(super) client: MimiUri,
    pub(super) user: MimiUri,
    keys: SignatureKeys,
}

impl Device {
    /// A new client with new keys.
    pub(super) fn generate(client: MimiUri, suites: &[Suite]) -> Result<Self, MimiError> {
        Ok(Self {
            user: user_of(&client)?,
            client,
            keys: SignatureKeys::generate(suites)?,
        })
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), MimiError> {
        set_meta(connection, CLIENT, self.client.to_string().as_bytes())?;
        Ok(self.keys.save(connection, KEYS)?)
    }

    pub(super) fn load(connection: &Connection) -> Result<Self, MimiError> {
        let client = MimiUri::parse(&text(connection, CLIENT)?).map_err(|_| StoreError::Inconsistent {
            table: "meta",
            column: "value",
        })?;
        Ok(Self {
            user: user_of(&client)?,
            client,
            keys: SignatureKeys::load(connection, KEYS)?,
        })
    }

    /// The cipher suites that it can be in groups of.
    pub(super) fn suites(&self) -> &[Suite] {
        &self.keys.suites
    }

    /// What signs in groups of this suite.
    pub(super) fn signer(&self, suite: Suite) -> Result<&SignatureKeyPair, MimiError> {
        self.keys.of(suite).doing("signing")
    }

    /// The credential: the client's URI (D-client-identity).
    pub(super) fn credential(&self) -> WireCredential {
        WireCredential::Basic {
            identity: self.client.to_string().into_bytes().into(),
        }
    }

    pub(super) fn credential_with_key(&self, suite: Suite) -> Result<CredentialWithKey, MimiError> {
        Ok(CredentialWithKey {
            credential: BasicCredential::new(self.client.to_string().into_bytes()).into(),
            signature_key: self.signer(suite)?.public().into(),
        })
    }

    /// Where the values that stand for nothing come from: they differ from client to client, and are the same in all that one says
    /// of itself, so that its key packages offer the same.
    pub(super) fn grease(&self, suite: Suite) -> Result<Grease, MimiError> {
        Ok(Grease {
            bytes: sha256(self.signer(suite)?.public()),
            at: Cell::new(0),
        })
    }

    /// Makes key packages and notes them as not uploaded.
    pub(super) fn make_key_packages(&self, connection: &Connection, suite: Suite, count: u64) -> Result<(), MimiError> {
        let provider = Provider::new(connection);
        for _ in 0..count {
            let bundle = KeyPackage::builder()
                .leaf_node_capabilities(capabilities(suite, &self.grease(suite)?))
                .leaf_node_extensions(leaf_extensions(&self.grease(suite)?)?)
                .build(
                    suite.ciphersuite(),
                    &provider,
                    self.signer(suite)?,
                    self.credential_with_key(suite)?,
                )
                .doing("making a key package")?;
            let package = bundle.key_package();
            let reference = package.hash_ref(provider.crypto()).doing("hashing a key package")?;
            let body = package.tls_serialize_detached().doing("encoding a key package")?;
            let reference = reference.as_slice().to_vec();
            OwnKeyPackage { reference, suite, body }.insert(connection)?;
        }
        Ok(())
    }
}

/// Numbers that look random and are always the same, for [`Device::grease`] alone.
pub(super) struct Grease {
    bytes: [u8; 32],
    at: Cell<usize>,
}

impl OpenMlsRand for Grease {
    type Error = Infallible;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Infallible> {
        let mut out = [0; N];
        out.fill_with(|| {
            let at = self.at.get();
            self.at.set(at + 1);
            self.bytes.get(at % self.bytes.len()).copied().unwrap_or_default()
        });
        Ok(out)
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Infallible> {
        Ok((0..len).flat_map(|_| self.random_array::<1>()).flatten().collect())
    }
}

/// Forgets the private half of a key package that will not be used any more.
pub(super) fn drop_private_key(connection: &Connection, reference: &[u8]) -> Result<(), MimiError> {
    let reference = VLBytes::new(reference.to_vec()).tls_serialize_detached();
    let reference = reference.doing("writing a reference")?;
    let reference = KeyPackageRef::tls_deserialize_exact(&reference).doing("reading a reference")?;
    Provider::new(connection)
        .storage()
        .delete_key_package(&reference)
        .doing("dropping a key package")
}

/// The user of a client.
pub(super) fn user_of(client: &MimiUri) -> Result<MimiUri, MimiError> {
    let user = (client.kind() == MimiKind::Client)
        .then(|| client.name().split_once('/'))
        .flatten()
        .and_then(|(user, _)| MimiUri::parse(&format!("mimi://{}/u/{user}", client.host())).ok());
    user.ok_or_else(|| MimiError::NotAClient(client.clone()))
}

/// The same URI as wire structs have it.
pub(super) fn identifier(uri: &MimiUri) -> IdentifierUri {
    IdentifierUri::new(uri.to_string()).expect("a mimi URI is short enough for any field")
}

/// What a leaf of ours is capable of, and a value of each kind that stands for nothing (RFC 9420, 7.2).
pub(super) fn capabilities(suite: Suite, rand: &impl OpenMlsRand) -> Capabilities {
    let capabilities = Capabilities::new(
        None,
        Some(&[suite.ciphersuite()]),
        Some(&[ExtensionType::AppDataDictionary]),
        Some(PROPOSALS),
        None,
    );
    capabilities.with_grease(rand)
}

/// What a leaf of ours says about this client (MLSX #negotiation), and components that stand for nothing, to keep others used to
/// them (MLSX #grease).
pub(super) fn leaf_extensions(rand: &impl OpenMlsRand) -> Result<Extensions<LeafNode>, MimiError> {
    // Components have the lower half of these values.
    let grease = || ComponentId(random_grease_value(rand) & 0x7f7f);
    let mut dictionary = AppDataDictionary::new();
    dictionary.set(grease(), Vec::new());
    dictionary.set(
        ComponentId::APP_COMPONENTS,
        components_list(&[SUPPORTED, &[grease()]].concat()),
    );
    dictionary.set(
        ComponentId::SAFE_AAD,
        components_list(&[ComponentId::FRANK_AAD, grease()]),
    );
    dictionary.set(ComponentId::CONTENT_MEDIA_TYPES, readable().to_bytes());
    Extensions::single(dictionary_extension(&dictionary)).doing("writing a leaf's extensions")
}

pub(super) fn dictionary_extension(dictionary: &AppDataDictionary) -> Extension {
    let mut theirs = MlsDictionary::new();
    for entry in dictionary.entries() {
        theirs.insert(entry.component_id.0, entry.data.to_vec());
    }
    Extension::AppDataDictionary(AppDataDictionaryExtension::new(theirs))
}

pub(super) fn components_list(component_ids: &[ComponentId]) -> Vec<u8> {
    ComponentsList {
        component_ids: component_ids.to_vec(),
    }
    .to_bytes()
}

pub(super) fn media_types(types: &[&str]) -> MediaTypeList {
    let types = types.iter().map(|name| MediaType::new(name)).collect();
    MediaTypeList::new(types).expect("there is a type")
}

/// The components that this client knows. All policies are the hub's to enforce, or are known to `nabe_auth`.
pub(super) const SUPPORTED: &[ComponentId] = &[
    ComponentId::APP_COMPONENTS,
    ComponentId::SAFE_AAD,
    ComponentId::CONTENT_MEDIA_TYPES,
    ComponentId::FRANK_AAD,
    ComponentId::FRANKING_AGENT,
    ComponentId::PARTICIPANT_LIST,
    ComponentId::ROOM_METADATA,
    ComponentId::MLS_OPERATIONAL_POLICY,
    ComponentId::ROLES_LIST,
    ComponentId::PREAUTH_LIST,
    ComponentId::BASE_ROOM_POLICY,
    ComponentId::STATUS_NOTIFICATION_POLICY,
    ComponentId::JOIN_LINK_POLICY,
    ComponentId::JOIN_LINKS,
    ComponentId::LINK_PREVIEW_POLICY,
    ComponentId::ASSET_POLICY,
    ComponentId::LOGGING_POLICY,
    ComponentId::CHAT_HISTORY_POLICY,
    ComponentId::BOT_POLICY,
    ComponentId::MESSAGE_EXPIRATION_POLICY,
];

/// The proposals that members of a room's group have to support.
pub(super) const PROPOSALS: &[ProposalType] = &[
    ProposalType::AppDataUpdate,
    ProposalType::AppEphemeral,
    ProposalType::SelfRemove,
];

/// The media types that this client reads, Markdown as plain text (MC #mimi-required-and-recommended-media-types).
fn readable() -> MediaTypeList {
    let types = vec![
        MediaType::new(nabe_content::mimi::MEDIA_TYPE),
        MediaType::new(nabe_content::mimi::status::MEDIA_TYPE),
        MediaType::new("text/plain").with_parameter("charset", "utf-8"),
        MediaType::new("text/markdown").with_parameter("variant", "GFM-MIMI"),
    ];
    MediaTypeList::new(types).expect("there is a type")
}
