//! The messages of `mls_client.proto` that are needed here: names, field numbers and types are the interface's.

use prost::Message;

/// The service, as it stands in paths.
pub const SERVICE: &str = "mls_client.MLSClient";

#[derive(Clone, PartialEq, Message)]
pub struct NameRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct NameResponse {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SupportedCiphersuitesRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct SupportedCiphersuitesResponse {
    #[prost(uint32, repeated, tag = "1")]
    pub ciphersuites: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateGroupRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub group_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub cipher_suite: u32,
    #[prost(bool, tag = "3")]
    pub encrypt_handshake: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateGroupResponse {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateKeyPackageRequest {
    #[prost(uint32, tag = "1")]
    pub cipher_suite: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub identity: Vec<u8>,
}

/// The private keys that come along (3 to 5) are nobody's business here.
#[derive(Clone, PartialEq, Message)]
pub struct CreateKeyPackageResponse {
    #[prost(uint32, tag = "1")]
    pub transaction_id: u32,
    /// An `MLSMessage`.
    #[prost(bytes = "vec", tag = "2")]
    pub key_package: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct JoinGroupRequest {
    #[prost(uint32, tag = "1")]
    pub transaction_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub welcome: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub encrypt_handshake: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
    /// Empty if the Welcome has it.
    #[prost(bytes = "vec", tag = "5")]
    pub ratchet_tree: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct JoinGroupResponse {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub epoch_authenticator: Vec<u8>,
}

/// Without pre-shared keys (6).
#[derive(Clone, PartialEq, Message)]
pub struct ExternalJoinRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub group_info: Vec<u8>,
    /// Empty if the GroupInfo has it.
    #[prost(bytes = "vec", tag = "2")]
    pub ratchet_tree: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub encrypt_handshake: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
    #[prost(bool, tag = "5")]
    pub remove_prior: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExternalJoinResponse {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub epoch_authenticator: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GroupInfoRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bool, tag = "2")]
    pub external_tree: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct GroupInfoResponse {
    /// An `MLSMessage`.
    #[prost(bytes = "vec", tag = "1")]
    pub group_info: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub ratchet_tree: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StateAuthRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct StateAuthResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub state_auth_secret: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(string, tag = "2")]
    pub label: String,
    #[prost(bytes = "vec", tag = "3")]
    pub context: Vec<u8>,
    #[prost(uint32, tag = "4")]
    pub key_length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub exported_secret: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtectRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub authenticated_data: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtectResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UnprotectRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub ciphertext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UnprotectResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub authenticated_data: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub plaintext: Vec<u8>,
}

/// `add` and `remove`; the other kinds have further fields (4 to 8).
#[derive(Clone, PartialEq, Message)]
pub struct ProposalDescription {
    #[prost(bytes = "vec", tag = "1")]
    pub proposal_type: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub key_package: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub removed_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CommitRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub by_reference: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub by_value: Vec<ProposalDescription>,
    #[prost(bool, tag = "4")]
    pub force_path: bool,
    #[prost(bool, tag = "5")]
    pub external_tree: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct CommitResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub welcome: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub ratchet_tree: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandleCommitRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub proposal: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "3")]
    pub commit: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandleCommitResponse {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub epoch_authenticator: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandlePendingCommitRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct FreeRequest {
    #[prost(uint32, tag = "1")]
    pub state_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct FreeResponse {}
