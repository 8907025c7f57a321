//! Leaves and key packages: RFC 9420 sections 7.2 and 10.

use super::credential::Credential;
use super::names::{CipherSuite, CredentialType, ExtensionType, ProposalType, ProtocolVersion};
use crate::app_data::AppDataDictionary;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Message, Reader, Value, wire_struct};
use crate::label::{self, Signed};

wire_struct! {
    /// `Extension`
    pub struct Extension {
        /// Which.
        pub extension_type: ExtensionType,
        /// Its content.
        pub extension_data: Bytes,
    }
}

impl Extension {
    /// The dictionary among these extensions (MLSX #attaching-application-data-to-mls-messages), if there is one.
    ///
    /// # Errors
    /// If it is there and does not read.
    pub fn app_data_dictionary(extensions: &[Self]) -> Option<Result<AppDataDictionary, DecodeError>> {
        let dictionary = extensions
            .iter()
            .find(|extension| extension.extension_type == ExtensionType::APP_DATA_DICTIONARY)?;
        Some(AppDataDictionary::from_bytes(&dictionary.extension_data))
    }
}

wire_struct! {
    /// `Capabilities`: what a client knows.
    pub struct Capabilities {
        /// Protocol versions.
        pub versions: Vec<ProtocolVersion>,
        /// Cipher suites.
        pub cipher_suites: Vec<CipherSuite>,
        /// Extensions beyond those everyone knows.
        pub extensions: Vec<ExtensionType>,
        /// Proposals beyond those everyone knows.
        pub proposals: Vec<ProposalType>,
        /// Credentials.
        pub credentials: Vec<CredentialType>,
    }
}

wire_struct! {
    /// `RequiredCapabilities`: what a client must know.
    pub struct RequiredCapabilities {
        /// Extensions.
        pub extension_types: Vec<ExtensionType>,
        /// Proposals.
        pub proposal_types: Vec<ProposalType>,
        /// Credentials.
        pub credential_types: Vec<CredentialType>,
    }
}

wire_struct! {
    /// `Lifetime`, in seconds since 1970.
    pub struct Lifetime {
        /// From when.
        pub not_before: u64,
        /// Until when.
        pub not_after: u64,
    }
}

/// What a leaf came from, with what only that source has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeafNodeSource {
    /// A key package.
    KeyPackage(Lifetime),
    /// An update proposal.
    Update,
    /// A commit, with the hash of the parent.
    Commit {
        /// The hash.
        parent_hash: Bytes,
    },
}

impl Encode for LeafNodeSource {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeyPackage(lifetime) => {
                out.push(1);
                lifetime.encode(out);
            }
            Self::Update => out.push(2),
            Self::Commit { parent_hash } => {
                out.push(3);
                parent_hash.encode(out);
            }
        }
    }
}

/// `LeafNode`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeafNode {
    /// What is sealed for it.
    pub encryption_key: Bytes,
    /// What it signs with.
    pub signature_key: Bytes,
    /// Whose it is.
    pub credential: Credential,
    /// What it knows.
    pub capabilities: Capabilities,
    /// Where it came from.
    pub source: LeafNodeSource,
    /// More about it.
    pub extensions: Vec<Extension>,
    /// By `signature_key`.
    pub signature: Bytes,
}

impl Encode for LeafNode {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        self.signature.encode(out);
    }
}

impl LeafNode {
    /// The label of its signature (RFC 9420, 7.2).
    pub const LABEL: &'static str = "LeafNodeTBS";

    /// What is signed. `place` is the group's ID and the leaf's index, which a leaf from a key package does not have yet.
    pub fn to_be_signed(&self, place: Option<(&[u8], u32)>) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_unsigned(&mut out);
        if let Some((group_id, leaf_index)) = place {
            Bytes::from(group_id).encode(&mut out);
            leaf_index.encode(&mut out);
        }
        out
    }

    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        self.encryption_key.encode(out);
        self.signature_key.encode(out);
        self.credential.encode(out);
        self.capabilities.encode(out);
        self.source.encode(out);
        self.extensions.encode(out);
    }
}

impl Decode for LeafNode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            encryption_key: reader.read("encryption_key")?,
            signature_key: reader.read("signature_key")?,
            credential: reader.read("credential")?,
            capabilities: reader.read("capabilities")?,
            source: LeafNodeSource::decode(reader)?,
            extensions: reader.read("extensions")?,
            signature: reader.read("signature")?,
        })
    }
}

impl Decode for LeafNodeSource {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.field("leaf_node_source", |reader| {
            let [source] = reader.array()?;
            let name = match source {
                1 => Some("key_package"),
                2 => Some("update"),
                3 => Some("commit"),
                _ => None,
            };
            reader.note(|| Value::Named(source.into(), name));
            Ok(source)
        })? {
            1 => reader.read("lifetime").map(Self::KeyPackage),
            2 => Ok(Self::Update),
            3 => Ok(Self::Commit {
                parent_hash: reader.read("parent_hash")?,
            }),
            other => Err(DecodeError::unknown(start, "leaf_node_source", other)),
        }
    }
}

wire_struct! {
    /// `KeyPackage`: a client's offer to be added, for one use.
    pub struct KeyPackage {
        /// Always MLS 1.0 so far.
        pub version: ProtocolVersion,
        /// For groups of this suite.
        pub cipher_suite: CipherSuite,
        /// What the Welcome is sealed for.
        pub init_key: Bytes,
        /// The leaf to be.
        pub leaf_node: LeafNode,
        /// More about it.
        pub extensions: Vec<Extension>,
        /// By the leaf's key.
        pub signature: Bytes,
    }
}

impl Signed for KeyPackage {
    const LABEL: &'static str = "KeyPackageTBS";

    fn to_be_signed(&self) -> Vec<u8> {
        label::concatenated(&[
            &self.version,
            &self.cipher_suite,
            &self.init_key,
            &self.leaf_node,
            &self.extensions,
        ])
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }
}
