//! The port to the user's own provider: what a device of a MIMI user asks of its client API. Nothing here encrypts.
//!
//! Bodies are the structs of MIMI between providers, byte for byte: the provider hands them on to the hub, or is the hub. So a
//! route of the client API follows from each method: the method's name and, where there is one, the room.
//!
//! Everything that comes back was written by others, and is checked by whoever asked.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::mls::{CipherSuite, ExternalSender};
use nabe_wire::uri::MimiUri;

use crate::transport::TransportError;

/// One client's line to its provider.
///
/// Every method may fail with any [`TransportError`]. After [`TransportError::Unreachable`] it is unknown whether the provider acted.
/// All methods but `key_material` can be called again with the same bytes: what was done is not done twice, and the answer is that
/// of the first time.
#[async_trait]
pub trait MimiTransport: Send + Sync {
    /// `hub`: what a room of this provider's has to have in it, for a group of this suite (MIMI #authenticating-proposals,
    /// #message-franking).
    async fn hub(&self, suite: CipherSuite) -> Result<HubKeys, TransportError>;

    /// `keyPackages`: stores key packages of this client, to be given out once each. The answers are in the order of the packages:
    /// taken, or why not.
    async fn upload_key_packages(
        &self,
        client: &MimiUri,
        packages: &[Bytes],
    ) -> Result<Vec<Result<(), String>>, TransportError>;

    /// `keyPackages`: how many of this suite the provider has left of this client.
    async fn key_packages_left(&self, client: &MimiUri, suite: CipherSuite) -> Result<u64, TransportError>;

    /// `createRoom`: has the provider be the hub of a new room (MIMI #alice-creates-a-room), from a `GroupInfo` without a tree, and
    /// the `RatchetTree`.
    async fn create_room(&self, room: &MimiUri, group_info: &[u8], tree: &[u8]) -> Result<(), TransportError>;

    /// `keyMaterial`: a `KeyMaterialRequest`, through the hub of the room that it names; the answer is a `KeyMaterialResponse` (MIMI
    /// #fetch-key-material).
    async fn key_material(&self, request: &[u8]) -> Result<Bytes, TransportError>;

    /// `update`: an `UpdateRequest`; the answer is an `UpdateRoomResponse` (MIMI #update-room-state).
    async fn update(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError>;

    /// `submitMessage`: a `SubmitMessageRequest`; the answer is a `SubmitMessageResponse` (MIMI #submit-a-message).
    async fn submit(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError>;

    /// `groupInfo`: a `GroupInfoRequest`; the answer is a `GroupInfoResponse` (MIMI #claim-group-key-information).
    async fn group_info(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError>;

    /// `reportAbuse`: an `AbuseReport`; nothing is answered (MIMI #report-abuse).
    async fn report_abuse(&self, room: &MimiUri, report: &[u8]) -> Result<(), TransportError>;

    /// `assets`: stores a file, which is sealed. Where it lies: an `https` URL by which whoever knows it may have it.
    async fn upload_asset(&self, file: Bytes) -> Result<String, TransportError>;

    /// `download`: a file in a message of a room, through the room's hub (MIMI #download-using-a-hub-proxy). At most 100 MiB and 16 bytes.
    async fn download(&self, room: &MimiUri, url: &str) -> Result<Bytes, TransportError>;

    /// `ohttp`: the keys of the OHTTP gateway of a provider that is the hub of a room of the user (MIMI #download-using-oblivious-http):
    /// `application/ohttp-keys`. A [`Refusal`](crate::transport::Refusal) with status 404 if it has no gateway.
    async fn ohttp_keys(&self, provider: &str) -> Result<Bytes, TransportError>;

    /// `ohttp`: hands a `message/ohttp-req` to that gateway. Its `message/ohttp-res`; status 409 if it has another key.
    async fn ohttp(&self, provider: &str, sealed: Bytes) -> Result<Bytes, TransportError>;

    /// A file from where it lies, without anybody in between (MIMI #direct-download). At most 100 MiB and 16 bytes.
    async fn download_directly(&self, url: &str) -> Result<Bytes, TransportError>;

    /// `entries`: what happened in the rooms of this client's user after a cursor of an earlier page, room by room in the order in
    /// which the hub accepted it. If nothing has, waits up to `wait` and then answers with nothing. At most a few hundred entries; the
    /// rest comes next time.
    ///
    /// It begins, without a cursor, with what happens from now on. What clients of this provider sent is there as well, this
    /// client's own included, as the hub would have fanned it out: commits cannot be followed otherwise by a user's other devices.
    /// An entry may come twice.
    async fn entries(&self, after: Option<&str>, wait: Duration) -> Result<Page, TransportError>;
}

/// What a room of a provider's has to have in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubKeys {
    /// Stands first among the external senders.
    pub sender: ExternalSender,
    /// Franks messages, if the provider does.
    pub franking_agent: Option<FrankingAgentData>,
}

/// Some entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// In order.
    pub entries: Vec<Entry>,
    /// After them.
    pub cursor: String,
}

/// Something that happened in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// After it.
    pub cursor: String,
    /// In which room.
    pub room: MimiUri,
    /// A `FanoutMessage` (MIMI #fanout-messages-and-room-events).
    pub message: Bytes,
}
