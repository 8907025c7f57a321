//! How the group is run: MRP #operational.

use crate::app_data::{MediaType, WireFormats};
use crate::codec::{Decode, DecodeError, Encode, Reader, open_enum, wire_struct};
use crate::mls::{CipherSuite, ComponentId, ContentType, CredentialType, ExtensionType, ProposalType, ProtocolVersion};

wire_struct! {
    /// `ExtendedCapabilities`. The draft's `WireFormats wire_formats<V>` is taken for one list of formats, not for a
    /// list of lists.
    pub struct ExtendedCapabilities {
        /// Protocol versions.
        pub versions: Vec<ProtocolVersion>,
        /// Cipher suites.
        pub cipher_suites: Vec<CipherSuite>,
        /// Extensions.
        pub extensions: Vec<ExtensionType>,
        /// Proposals.
        pub proposals: Vec<ProposalType>,
        /// Credentials.
        pub credentials: Vec<CredentialType>,
        /// Wire formats.
        pub wire_formats: WireFormats,
        /// Components.
        pub component_ids: Vec<ComponentId>,
        /// Components in the AAD.
        pub safe_aad_types: Vec<ComponentId>,
        /// Media types.
        pub media_types: Vec<MediaType>,
        /// Content types.
        pub content_types: Vec<ContentType>,
    }
}

open_enum! {
    /// `PendingProposalStrategy`
    pub struct PendingProposalStrategy(u8) {
        /// Nothing is said.
        UNSPECIFIED = 0 "unspecified",
        /// At once.
        IMMEDIATE_COMMIT = 1 "immediate_commit",
        /// After a while, by chance.
        RANDOM_DELAY = 2 "random_delay",
    }
}

/// `PendingProposalPolicy`: when members commit what was proposed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PendingProposalPolicy {
    /// Nothing is said.
    Unspecified,
    /// At once.
    ImmediateCommit,
    /// After a while, by chance.
    RandomDelay {
        /// At least, in milliseconds.
        minimum_delay_ms: u64,
        /// At most, in milliseconds.
        maximum_delay_ms: u64,
    },
    /// In another way. The draft has an arm `extension` for these and no such value; it is taken for all values that
    /// have no name.
    Extension {
        /// Which.
        strategy: PendingProposalStrategy,
        /// Where more about it stands.
        id_of_strategy_params: ComponentId,
    },
}

impl Encode for PendingProposalPolicy {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unspecified => PendingProposalStrategy::UNSPECIFIED.encode(out),
            Self::ImmediateCommit => PendingProposalStrategy::IMMEDIATE_COMMIT.encode(out),
            Self::RandomDelay {
                minimum_delay_ms,
                maximum_delay_ms,
            } => {
                PendingProposalStrategy::RANDOM_DELAY.encode(out);
                minimum_delay_ms.encode(out);
                maximum_delay_ms.encode(out);
            }
            Self::Extension {
                strategy,
                id_of_strategy_params,
            } => {
                strategy.encode(out);
                id_of_strategy_params.encode(out);
            }
        }
    }
}

impl Decode for PendingProposalPolicy {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.read("pending_proposal_strategy")? {
            PendingProposalStrategy::UNSPECIFIED => Self::Unspecified,
            PendingProposalStrategy::IMMEDIATE_COMMIT => Self::ImmediateCommit,
            PendingProposalStrategy::RANDOM_DELAY => Self::RandomDelay {
                minimum_delay_ms: reader.read("minimum_delay_ms")?,
                maximum_delay_ms: reader.read("maximum_delay_ms")?,
            },
            strategy => Self::Extension {
                strategy,
                id_of_strategy_params: reader.read("id_of_strategy_params")?,
            },
        })
    }
}

wire_struct! {
    /// `MinDefaultMaxTime`. The draft does not say in which unit.
    pub struct MinDefaultMaxTime {
        /// At least.
        pub minimum_time: u64,
        /// Usually.
        pub default_time: u64,
        /// At most.
        pub maximum_time: u64,
    }
}

wire_struct! {
    /// `AppMessagePolicy`
    pub struct AppMessagePolicy {
        /// How many epochs old a message may be.
        pub epoch_tolerance: u8,
        /// Messages are padded to a multiple of this.
        pub pad_to_size: u16,
        /// How far a ratchet is turned for one message.
        pub max_generations_skipahead: u32,
    }
}

wire_struct! {
    /// `OperationalParameters`: the data of the component `mls_operational_policy`.
    pub struct OperationalParameters {
        /// What everyone has to know.
        pub mandatory_capabilities: ExtendedCapabilities,
        /// What is usual.
        pub default_capabilities: ExtendedCapabilities,
        /// What must not be used.
        pub forbidden_capabilities: ExtendedCapabilities,
        /// For proposals and commits.
        pub handshake_formats: WireFormats,
        /// Proposals from outside.
        pub external_proposal_allowed: bool,
        /// Joining by oneself.
        pub external_commit_allowed: bool,
        /// When members commit.
        pub pending_proposal_policy: PendingProposalPolicy,
        /// How often members renew their leaves; `LeafNode_update_time` in the draft.
        pub leaf_node_update_time: MinDefaultMaxTime,
        /// For messages.
        pub app_message_policy: AppMessagePolicy,
        /// Of key packages.
        pub max_kp_lifetime: u64,
        /// Of credentials.
        pub max_credential_lifetime: u64,
        /// Of resumption secrets.
        pub resumption_psk_lifetime: u64,
        /// How long unused keys of a sender are kept.
        pub sender_nonce_keypair_lifetime: MinDefaultMaxTime,
        /// How many of them.
        pub max_keypairs: u32,
        /// How long messages wait that came too early.
        pub buffer_incoming_message_time: MinDefaultMaxTime,
        /// How many of them.
        pub max_buffered_messages: u32,
    }
}
