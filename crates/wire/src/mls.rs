//! The grammar of RFC 9420 and of the extensions MIMI needs, as far as bytes go.
//!
//! MIMI puts MLS objects into its structs without a length, and fields follow them: whoever wants the next field has to
//! know where a `KeyPackage` ends. These types know that and nothing more; keys, signatures, trees and epochs are
//! OpenMLS's business, which is given the kept bytes ([`crate::codec::Kept`]). They are also what says where in an MLS
//! object an input breaks.
//!
//! A credential or a proposal of a type unknown here is taken to be one variable-size vector, as OpenMLS does, since
//! RFC 9420 gives no other way to get past it.

mod credential;
mod framing;
mod group_info;
mod key_package;
mod names;
mod proposal;
mod semi_private;
mod tree;

pub use credential::{
    BoundCredential, Certificate, Credential, CredentialBinding, CredentialBindingTbs, ExternalSender, MultiCredential,
};
pub use framing::{
    FramedContent, FramedContentBody, MlsMessage, MlsMessageBody, PrivateMessage, PublicMessage, Sender, SenderType,
};
pub(crate) use group_info::decode_without_tree;
pub use group_info::{
    EncryptedGroupSecrets, GroupContext, GroupInfo, GroupInfoOption, GroupInfoRepresentation, PartialGroupInfo,
    RatchetTreePresence, RebuildError, Welcome,
};
pub use key_package::{Capabilities, Extension, KeyPackage, LeafNode, LeafNodeSource, Lifetime, RequiredCapabilities};
pub use names::{
    CipherSuite, ComponentId, ContentType, CredentialType, ExtensionType, ProposalType, ProtocolVersion, WireFormat,
};
pub use proposal::{
    AppDataUpdate, AppDataUpdateOperation, AppEphemeral, Commit, HpkeCiphertext, PreSharedKeyId, Proposal,
    ProposalOrRef, ProposalOrRefType, Psk, PskType, ReInit, SealedForMany, UpdatePath, UpdatePathNode,
};
pub use semi_private::{
    ExternalReceiver, KeyForExternalReceiver, PerMessageKeyAndNonces, SemiPrivateMessage, SemiPrivateMessageContext,
};
pub use tree::{Node, NodeType, ParentNode, RatchetTree, RatchetTreeOption, RatchetTreeSource};

#[cfg(test)]
mod tests;
