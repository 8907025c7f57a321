//! Proposals and commits: RFC 9420 section 12, MLSX #appdataupdate, MLSX #app-ephemeral, MLSX #selfremove-proposal.

use super::key_package::{Extension, KeyPackage, LeafNode};
use super::names::{CipherSuite, ComponentId, ProposalType, ProtocolVersion};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Value, open_enum, wire_struct};

/// `Proposal`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proposal {
    /// Adds a client.
    Add(Box<Kept<KeyPackage>>),
    /// Renews the sender's leaf.
    Update(Box<LeafNode>),
    /// Removes the client at this leaf.
    Remove(u32),
    /// Brings in a pre-shared key.
    Psk(PreSharedKeyId),
    /// Ends the group in favor of another.
    ReInit(ReInit),
    /// Begins an external commit: the KEM output.
    ExternalInit(Bytes),
    /// Replaces the group's extensions.
    GroupContextExtensions(Vec<Extension>),
    /// Changes the data of a component.
    AppDataUpdate(AppDataUpdate),
    /// Tells everyone something in passing.
    AppEphemeral(AppEphemeral),
    /// Removes the sender.
    SelfRemove,
    /// Of another type: its content without the length.
    Other {
        /// Its type.
        proposal_type: ProposalType,
        /// What the type says it is.
        content: Bytes,
    },
}

impl Proposal {
    /// Its type.
    pub fn proposal_type(&self) -> ProposalType {
        match self {
            Self::Add(_) => ProposalType::ADD,
            Self::Update(_) => ProposalType::UPDATE,
            Self::Remove(_) => ProposalType::REMOVE,
            Self::Psk(_) => ProposalType::PSK,
            Self::ReInit(_) => ProposalType::REINIT,
            Self::ExternalInit(_) => ProposalType::EXTERNAL_INIT,
            Self::GroupContextExtensions(_) => ProposalType::GROUP_CONTEXT_EXTENSIONS,
            Self::AppDataUpdate(_) => ProposalType::APP_DATA_UPDATE,
            Self::AppEphemeral(_) => ProposalType::APP_EPHEMERAL,
            Self::SelfRemove => ProposalType::SELF_REMOVE,
            Self::Other { proposal_type, .. } => *proposal_type,
        }
    }
}

impl Encode for Proposal {
    fn encode(&self, out: &mut Vec<u8>) {
        self.proposal_type().encode(out);
        match self {
            Self::Add(key_package) => key_package.encode(out),
            Self::Update(leaf_node) => leaf_node.encode(out),
            Self::Remove(removed) => removed.encode(out),
            Self::Psk(psk) => psk.encode(out),
            Self::ReInit(reinit) => reinit.encode(out),
            Self::ExternalInit(kem_output) => kem_output.encode(out),
            Self::GroupContextExtensions(extensions) => extensions.encode(out),
            Self::AppDataUpdate(update) => update.encode(out),
            Self::AppEphemeral(ephemeral) => ephemeral.encode(out),
            Self::SelfRemove => {}
            Self::Other { content, .. } => content.encode(out),
        }
    }
}

impl Decode for Proposal {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.read("proposal_type")? {
            ProposalType::ADD => Self::Add(reader.read("key_package")?),
            ProposalType::UPDATE => Self::Update(reader.read("leaf_node")?),
            ProposalType::REMOVE => Self::Remove(reader.read("removed")?),
            ProposalType::PSK => Self::Psk(reader.read("psk")?),
            ProposalType::REINIT => Self::ReInit(reader.read("reinit")?),
            ProposalType::EXTERNAL_INIT => Self::ExternalInit(reader.read("kem_output")?),
            ProposalType::GROUP_CONTEXT_EXTENSIONS => Self::GroupContextExtensions(reader.read("extensions")?),
            ProposalType::APP_DATA_UPDATE => Self::AppDataUpdate(reader.read("app_data_update")?),
            ProposalType::APP_EPHEMERAL => Self::AppEphemeral(reader.read("app_ephemeral")?),
            ProposalType::SELF_REMOVE => Self::SelfRemove,
            proposal_type => Self::Other {
                proposal_type,
                content: reader.read("content")?,
            },
        })
    }
}

/// `PreSharedKeyID`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreSharedKeyId {
    /// Which key.
    pub psk: Psk,
    /// Fresh for each use.
    pub psk_nonce: Bytes,
}

/// Which pre-shared key, by where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Psk {
    /// From outside of MLS.
    External {
        /// Its name.
        psk_id: Bytes,
    },
    /// From an earlier epoch or group.
    Resumption {
        /// 1 application, 2 reinit, 3 branch.
        usage: u8,
        /// Of which group.
        psk_group_id: Bytes,
        /// Of which epoch.
        psk_epoch: u64,
    },
    /// From a component (MLSX #pre-shared-keys-psks).
    Application {
        /// Which.
        component_id: ComponentId,
        /// Its name there.
        psk_id: Bytes,
    },
}

open_enum! {
    /// `PSKType`
    pub struct PskType(u8) {
        /// From outside.
        EXTERNAL = 1 "external",
        /// From an earlier epoch.
        RESUMPTION = 2 "resumption",
        /// From a component.
        APPLICATION = 3 "application",
    }
}

impl Encode for PreSharedKeyId {
    fn encode(&self, out: &mut Vec<u8>) {
        match &self.psk {
            Psk::External { psk_id } => {
                PskType::EXTERNAL.encode(out);
                psk_id.encode(out);
            }
            Psk::Resumption {
                usage,
                psk_group_id,
                psk_epoch,
            } => {
                PskType::RESUMPTION.encode(out);
                usage.encode(out);
                psk_group_id.encode(out);
                psk_epoch.encode(out);
            }
            Psk::Application { component_id, psk_id } => {
                PskType::APPLICATION.encode(out);
                component_id.encode(out);
                psk_id.encode(out);
            }
        }
        self.psk_nonce.encode(out);
    }
}

impl Decode for PreSharedKeyId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let psk = match reader.read("psktype")? {
            PskType::EXTERNAL => Psk::External {
                psk_id: reader.read("psk_id")?,
            },
            PskType::RESUMPTION => Psk::Resumption {
                usage: reader.read("usage")?,
                psk_group_id: reader.read("psk_group_id")?,
                psk_epoch: reader.read("psk_epoch")?,
            },
            PskType::APPLICATION => Psk::Application {
                component_id: reader.read("component_id")?,
                psk_id: reader.read("psk_id")?,
            },
            other => {
                return Err(DecodeError::unknown(start, "psktype", other.0));
            }
        };
        let psk_nonce = reader.read("psk_nonce")?;
        Ok(Self { psk, psk_nonce })
    }
}

wire_struct! {
    /// `ReInit`
    pub struct ReInit {
        /// Of the new group.
        pub group_id: Bytes,
        /// Of the new group.
        pub version: ProtocolVersion,
        /// Of the new group.
        pub cipher_suite: CipherSuite,
        /// Of the new group.
        pub extensions: Vec<Extension>,
    }
}

open_enum! {
    /// `AppDataUpdateOperation`
    pub struct AppDataUpdateOperation(u8) {
        /// Hands the update to the component.
        UPDATE = 1 "update",
        /// Removes the component's data.
        REMOVE = 2 "remove",
    }
}

/// `AppDataUpdate`: a change of the data that a component has in the group's context.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppDataUpdate {
    /// Whose data.
    pub component_id: ComponentId,
    /// The update, in the component's own format; without one the data is removed.
    pub update: Option<Bytes>,
}

impl Encode for AppDataUpdate {
    fn encode(&self, out: &mut Vec<u8>) {
        self.component_id.encode(out);
        match &self.update {
            Some(update) => {
                AppDataUpdateOperation::UPDATE.encode(out);
                update.encode(out);
            }
            None => AppDataUpdateOperation::REMOVE.encode(out),
        }
    }
}

impl Decode for AppDataUpdate {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let component_id = reader.read("component_id")?;
        let start = reader.position();
        let update = match reader.read("op")? {
            AppDataUpdateOperation::UPDATE => Some(reader.read("update")?),
            AppDataUpdateOperation::REMOVE => None,
            other => {
                return Err(DecodeError::unknown(start, "op", other.0));
            }
        };
        Ok(Self { component_id, update })
    }
}

wire_struct! {
    /// `AppEphemeral`: something a component tells everyone with a commit.
    pub struct AppEphemeral {
        /// Which component.
        pub component_id: ComponentId,
        /// In its own format.
        pub data: Bytes,
    }
}

/// `ProposalOrRef`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProposalOrRef {
    /// The proposal itself.
    Proposal(Proposal),
    /// The hash of one that was sent before.
    Reference(Bytes),
}

open_enum! {
    /// `ProposalOrRefType`
    pub struct ProposalOrRefType(u8) {
        /// Inline.
        PROPOSAL = 1 "proposal",
        /// By hash.
        REFERENCE = 2 "reference",
    }
}

impl Encode for ProposalOrRef {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Proposal(proposal) => {
                ProposalOrRefType::PROPOSAL.encode(out);
                proposal.encode(out);
            }
            Self::Reference(reference) => {
                ProposalOrRefType::REFERENCE.encode(out);
                reference.encode(out);
            }
        }
    }
}

impl Decode for ProposalOrRef {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.read("type")? {
            ProposalOrRefType::PROPOSAL => reader.read("proposal").map(Self::Proposal),
            ProposalOrRefType::REFERENCE => reader.read("reference").map(Self::Reference),
            other => Err(DecodeError::unknown(start, "type", other.0)),
        }
    }
}

wire_struct! {
    /// `Commit`
    pub struct Commit {
        /// What it puts into effect, in order.
        pub proposals: Vec<ProposalOrRef>,
        /// The committer's new path through the tree.
        pub path: Option<UpdatePath>,
    }
}

wire_struct! {
    /// `UpdatePath`
    pub struct UpdatePath {
        /// The committer's new leaf.
        pub leaf_node: LeafNode,
        /// From the leaf to the root.
        pub nodes: Vec<UpdatePathNode>,
    }
}

wire_struct! {
    /// `UpdatePathNode`
    pub struct UpdatePathNode {
        /// Of the parent.
        pub encryption_key: Bytes,
        /// Its secret, sealed for each subtree.
        pub encrypted_path_secret: SealedForMany,
    }
}

/// `HPKECiphertext x<V>`, read through and kept as it came: there may be as many as members, and nobody but they has a use for them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SealedForMany(Bytes);

impl Encode for SealedForMany {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for SealedForMany {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let skim = |reader: &mut Reader<'_>| {
            let bytes = reader.opaque()?;
            reader.note(|| Value::Bytes(bytes.to_vec()));
            Ok(())
        };
        let start = reader.position();
        reader.vector(|reader| {
            reader.field("kem_output", skim)?;
            reader.field("ciphertext", skim)
        })?;
        let mut whole = Reader::new(reader.since(start));
        Ok(Self(whole.opaque()?.into()))
    }
}

wire_struct! {
    /// `HPKECiphertext`
    pub struct HpkeCiphertext {
        /// What the recipient's key turns into a secret.
        pub kem_output: Bytes,
        /// Sealed with that secret.
        pub ciphertext: Bytes,
    }
}
