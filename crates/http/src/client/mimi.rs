//! Rooms of MIMI: what a device of a local user needs of its provider, be that the rooms' hub or not. Bodies that have a struct in the
//! protocol between providers are that struct, byte for byte, and so are their answers: the provider hands them on. Everything else is
//! JSON, with bytes in unpadded base64.
//!
//! The user `@alice:server` is `mimi://domain/u/alice`; their device `PHONE` is the client `mimi://domain/d/alice/PHONE`.

use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use nabe_service::mimi::{ConsentDecision, CreateRefused, KeptConsent, Mimi, MimiNews};
use nabe_service::{Missing, ServiceError};
use nabe_signing::{base64u, sha256};
use nabe_types::{DeviceId, LogPosition};
use nabe_wire::codec::Reader;
use nabe_wire::consent::{ConsentAction, ConsentEntry};
use nabe_wire::group_info::GroupInfoRequest;
use nabe_wire::key_material::KeyMaterialRequest;
use nabe_wire::mls::{GroupInfo, RatchetTree};
use nabe_wire::submit_message::SubmitMessageRequest;
use nabe_wire::update::UpdateRequest;
use nabe_wire::uri::{MimiKind, MimiUri};
use nabe_wire::{Decode as _, Encode, Kept, Message};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::account::Empty;
use super::caller::Authenticated;
use super::request::{Target, Typed};
use crate::AppState;
use crate::body::{self, BodyShare};
use crate::error::ClientError;
use crate::reply::Reply;

/// A caller as a user of a MIMI provider.
pub(crate) struct MimiCaller {
    pub(super) mimi: Mimi,
    pub(super) user: MimiUri,
    device: Option<DeviceId>,
}

impl FromRequestParts<AppState> for MimiCaller {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ClientError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let mimi = state.service.mimi().ok_or_else(ClientError::unknown_endpoint)?;
        let user = format!("mimi://{}/u/{}", mimi.domain(), caller.user.localpart());
        let user = MimiUri::parse(&user);
        let user = user.map_err(|_| ClientError::bad_request("the user's name can be none of a user of MIMI"))?;
        Ok(Self {
            mimi,
            user,
            device: caller.device,
        })
    }
}

impl MimiCaller {
    /// A client of the caller's; of theirs alone, if they are one device.
    fn client(&self, text: &str) -> Result<MimiUri, ClientError> {
        let client = MimiUri::parse(text).map_err(|error| ClientError::bad_request(format!("`client`: {error}")))?;
        if let Some(device) = &self.device {
            let own = format!("mimi://{}/d/{}/{device}", self.mimi.domain(), self.user.name());
            if client.to_string() != own {
                return Err(ServiceError::OtherDevice.into());
            }
        }
        Ok(client)
    }
}

/// A body that is one struct of MIMI, as it came.
pub(crate) struct Struct<T> {
    pub(super) bytes: Bytes,
    _share: BodyShare,
    read: PhantomData<T>,
}

impl<T: Message> FromRequest<AppState> for Struct<T> {
    type Rejection = ClientError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ClientError> {
        let (bytes, share) = body::read(request.into_body(), T::MAX_LEN, &state.limits).await?;
        let read = T::from_bytes(&bytes);
        read.map_err(|error| ClientError::bad_request(format!("not a {}: {error}", T::NAME)))?;
        Ok(Self {
            bytes,
            _share: share,
            read: PhantomData,
        })
    }
}

/// What a room of this provider's has to have in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HubBody {
    /// The provider's domain.
    domain: String,
    /// The caller, as MIMI names them.
    user: String,
    /// An `ExternalSender`, in unpadded base64: the first in the list of a room's group.
    external_sender: String,
    /// A `FrankingAgentData`, in unpadded base64, if the provider franks messages: for groups whose suite signs with Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    franking_agent: Option<String>,
}

/// Key packages of one client.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MimiKeyPackagesBody {
    /// The client's URI.
    client: String,
    /// Bare `KeyPackage`s in unpadded base64, at most 200.
    key_packages: Vec<String>,
}

/// What became of each key package, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiKeyPackageResults {
    results: Vec<MimiKeyPackageResult>,
}

/// One of the two.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiKeyPackageResult {
    /// It was taken in; its KeyPackageRef, in unpadded base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// It was not, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What is left of the key packages of a user's clients.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiKeyPackagesLeft {
    key_packages: Vec<MimiLeft>,
}

/// What is left of one client's, of one cipher suite.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiLeft {
    client: String,
    /// Its code point.
    suite: u16,
    /// Without the last-resort one.
    left: u64,
    last_resort: bool,
}

/// A new room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMimiRoom {
    /// The room's URI, of this provider.
    room: String,
    /// A `GroupInfo` without a tree, in unpadded base64. The creator's client is the group's only member.
    group_info: String,
    /// The `RatchetTree`, in unpadded base64.
    ratchet_tree: String,
}

/// The rooms that a user may read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiRoomsBody {
    rooms: Vec<MimiRoomBody>,
    /// For `seen`: another value whenever something has happened in one of them.
    state: String,
}

/// A room that a user may read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiRoomBody {
    room: String,
    /// Its hub.
    hub: String,
    /// The position of the first message that the user may read.
    from: i64,
    /// The position of the newest message; for somebody who was removed, of the last one that they may read.
    head: i64,
}

/// What happened in a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiMessagesBody {
    messages: Vec<MimiMessageBody>,
}

/// One message, from this provider's log of the room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiMessageBody {
    /// Its place.
    position: i64,
    /// When the hub accepted it, in milliseconds since 1970.
    accepted: u64,
    /// When it came here.
    received: u64,
    /// A `FanoutMessage`, in unpadded base64.
    message: String,
}

/// What is known about the caller's consents.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiConsentsBody {
    consents: Vec<MimiConsentBody>,
}

/// What is known about consent in one scope.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiConsentBody {
    /// For `after`.
    number: i64,
    /// Who wants to fetch key packages.
    requester: String,
    /// Whose.
    target: String,
    /// For which room; absent: for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    /// When the requester asked, in milliseconds since 1970, if that has not been answered since.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<u64>,
    /// What the target decided last: `granted` or `revoked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    /// When, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<u64>,
}

impl From<KeptConsent> for MimiConsentBody {
    fn from(consent: KeptConsent) -> Self {
        let scope = consent.scope;
        Self {
            number: consent.number,
            requester: scope.requester.to_string(),
            target: scope.target.to_string(),
            room: scope.room.map(|room| room.to_string()),
            requested_at: consent.requested_at.map(|at| at.as_u64()),
            decision: consent.decision.map(|(decision, _)| match decision {
                ConsentDecision::Granted => "granted",
                ConsentDecision::Revoked => "revoked",
            }),
            decided_at: consent.decision.map(|(_, at)| at.as_u64()),
        }
    }
}

/// Who the caller's provider is in rooms of its own, and who the caller is.
#[utoipa::path(get, path = "/_nabe/v1/mimi/hub", tag = "mimi", operation_id = "mimi_hub",
    responses((status = 200, description = "The provider.", body = HubBody)))]
pub(crate) async fn hub(caller: MimiCaller) -> Reply {
    Reply::of(&HubBody {
        domain: caller.mimi.domain().to_string(),
        user: caller.user.to_string(),
        external_sender: base64u::encode(&caller.mimi.external_sender().to_bytes()),
        franking_agent: caller
            .mimi
            .franking_agent()
            .map(|agent| base64u::encode(&agent.to_bytes())),
    })
}

/// Uploads key packages of one of the caller's clients.
///
/// Each is taken in or refused for itself, and handed out once. A last-resort package is one whose extensions say so.
#[utoipa::path(post, path = "/_nabe/v1/mimi/key_packages", tag = "mimi", operation_id = "upload_mimi_key_packages",
    request_body = MimiKeyPackagesBody,
    responses((status = 200, description = "What became of each.", body = MimiKeyPackageResults)))]
pub(crate) async fn upload_key_packages(
    caller: MimiCaller,
    Typed(body): Typed<MimiKeyPackagesBody>,
) -> Result<Reply, ClientError> {
    let client = caller.client(&body.client)?;
    let packages = body
        .key_packages
        .iter()
        .map(|package| bytes_of("key_packages", package));
    let packages = packages.collect::<Result<Vec<_>, _>>()?;
    let kept = caller.mimi.upload_key_packages(&caller.user, &client, packages).await?;
    let result = |kept: Result<Bytes, _>| match kept {
        Ok(reference) => MimiKeyPackageResult {
            reference: Some(base64u::encode(&reference)),
            error: None,
        },
        Err(refused) => MimiKeyPackageResult {
            reference: None,
            error: Some(nabe_service::mimi::OfferNotKept::to_string(&refused)),
        },
    };
    Ok(Reply::of(&MimiKeyPackageResults {
        results: kept.into_iter().map(result).collect(),
    }))
}

/// What is left of the key packages of the caller's clients.
#[utoipa::path(get, path = "/_nabe/v1/mimi/key_packages", tag = "mimi", operation_id = "mimi_key_packages",
    responses((status = 200, description = "What is left.", body = MimiKeyPackagesLeft)))]
pub(crate) async fn key_packages_left(caller: MimiCaller) -> Result<Reply, ClientError> {
    let offers = caller.mimi.key_packages_on_offer(&caller.user).await?;
    let left = offers.into_iter().map(|offer| MimiLeft {
        client: offer.client.to_string(),
        suite: offer.suite,
        left: offer.left,
        last_resort: offer.has_last_resort,
    });
    Ok(Reply::of(&MimiKeyPackagesLeft {
        key_packages: left.collect(),
    }))
}

/// Asks for key packages of a user, of this provider or another (MIMI #fetch-key-material).
///
/// `KeyMaterialRequest` and `KeyMaterialResponse`. It goes through the hub of the room that it names.
#[utoipa::path(post, path = "/_nabe/v1/mimi/key_material", tag = "mimi", operation_id = "mimi_key_material",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A `KeyMaterialRequest`."),
    responses((status = 200, description = "A `KeyMaterialResponse`.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn key_material(
    caller: MimiCaller,
    body: Struct<KeyMaterialRequest>,
) -> Result<Response, ClientError> {
    let request =
        KeyMaterialRequest::from_bytes(&body.bytes).map_err(|error| ClientError::bad_request(error.to_string()))?;
    if request.requesting_user.as_str() != caller.user.to_string() {
        return Err(ClientError::forbidden("`requestingUser` is somebody else"));
    }
    let target = MimiUri::parse(&request.target_user)
        .ok()
        .filter(|uri| uri.kind() == MimiKind::User);
    let target = target.ok_or_else(|| ClientError::bad_request("`targetUser` is not the URI of a user"))?;
    let domain = caller.mimi.domain();
    Ok(octets(&caller.mimi.key_material(domain, &target, request).await?))
}

/// Asks a user for consent or no longer; grants or revokes the caller's own (MIMI #convey-explicit-consent).
///
/// A `ConsentEntry`, with which the other user's provider is told, too. A grant comes without key packages; those that `key_packages` asks
/// for the provider adds, from what the caller's clients have uploaded. They count as handed out, and who is granted consent uses them
/// before it asks for others.
#[utoipa::path(post, path = "/_nabe/v1/mimi/consent", tag = "mimi", operation_id = "put_mimi_consent",
    params(("key_packages" = Option<bool>, Query, description = "With a grant: one key package of each client goes with it.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A `ConsentEntry`."),
    responses((status = 200, description = "It is known.", body = Empty)))]
pub(crate) async fn put_consent(
    caller: MimiCaller,
    target: Target,
    body: Struct<ConsentEntry>,
) -> Result<Reply, ClientError> {
    let entry = ConsentEntry::from_bytes(&body.bytes).map_err(|error| ClientError::bad_request(error.to_string()))?;
    let asks = matches!(entry.operation, ConsentAction::Request | ConsentAction::Cancel);
    let (field, own) = match asks {
        true => ("requesterUri", &entry.scope.requester_uri),
        false => ("targetUri", &entry.scope.target_uri),
    };
    if own.as_str() != caller.user.to_string() {
        return Err(ClientError::forbidden(&format!("`{field}` is somebody else")));
    }
    let with_key_packages = match target.query.one("key_packages")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ServiceError::InvalidParam("key_packages").into()),
    };
    let domain = caller.mimi.domain();
    match (asks, with_key_packages) {
        (true, false) => caller.mimi.request_consent(domain, &entry).await?,
        (false, false) => caller.mimi.update_consent(domain, &entry).await?,
        (_, true) => caller.mimi.grant_with_key_packages(&entry).await?,
    }
    Ok(Reply::of(&Empty {}))
}

/// What is known about the caller's consents, as who asks or as who is asked.
#[utoipa::path(get, path = "/_nabe/v1/mimi/consent", tag = "mimi", operation_id = "mimi_consents",
    params(("after" = Option<u64>, Query, description = "Only those with a greater number; at most 1000 come at once.")),
    responses((status = 200, description = "The consents, by ascending number.", body = MimiConsentsBody)))]
pub(crate) async fn consents(caller: MimiCaller, target: Target) -> Result<Reply, ClientError> {
    let after = number(&target, "after")?.unwrap_or(0);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let consents = caller.mimi.consents_of(&caller.user, after, MAX_CONSENTS).await?;
    Ok(Reply::of(&MimiConsentsBody {
        consents: consents.into_iter().map(MimiConsentBody::from).collect(),
    }))
}

/// Creates a room, whose hub this provider is. The same again is the same room.
#[utoipa::path(post, path = "/_nabe/v1/mimi/rooms", tag = "mimi", operation_id = "create_mimi_room",
    request_body = NewMimiRoom,
    responses((status = 200, description = "The room is there.", body = Empty)))]
pub(crate) async fn create_room(caller: MimiCaller, Typed(body): Typed<NewMimiRoom>) -> Result<Reply, ClientError> {
    let room = room_of(&body.room)?;
    let info = kept::<GroupInfo>("group_info", &body.group_info)?;
    let tree: RatchetTree = read("ratchet_tree", &body.ratchet_tree)?;
    caller.mimi.create_room(&caller.user, &room, info, tree).await?;
    Ok(Reply::of(&Empty {}))
}

/// The rooms that the caller may read, wherever their hubs are.
///
/// With `seen`, the `state` of an earlier answer, it is answered once something else is to be said, or `wait_ms` have passed (at most
/// 60000).
#[utoipa::path(get, path = "/_nabe/v1/mimi/rooms", tag = "mimi", operation_id = "mimi_rooms",
    params(("seen" = Option<String>, Query, description = "The `state` of an earlier answer."),
        ("wait_ms" = Option<u64>, Query, description = "How long to wait for another one.")),
    responses((status = 200, description = "The rooms.", body = MimiRoomsBody)))]
pub(crate) async fn rooms(caller: MimiCaller, target: Target) -> Result<Reply, ClientError> {
    let seen = target.query.one("seen")?;
    let (mut news, deadline) = (caller.mimi.news(), deadline(&target)?);
    loop {
        let rooms = caller.mimi.rooms_readable_by(&caller.user).await?;
        let rooms = rooms.into_iter().map(|readable| MimiRoomBody {
            room: readable.room.room.to_string(),
            hub: readable.room.hub.to_string(),
            from: readable.from.as_i64(),
            head: readable
                .until
                .map_or(readable.room.head, |until| until.min(readable.room.head))
                .as_i64(),
        });
        let rooms: Vec<_> = rooms.collect();
        let state = serde_json::to_vec(&rooms).expect("our own answers have string keys only");
        let state = base64u::encode_url(&sha256(&state)[..12]);
        if seen != Some(state.as_str()) || !is_news(&mut news, deadline, |_| true).await {
            return Ok(Reply::of(&MimiRoomsBody { rooms, state }));
        }
    }
}

/// What happened in a room after a position, in the order in which its hub accepted it.
///
/// What the caller's provider sent is in it, too. If there is nothing, waits for `wait_ms` (at most 60000).
#[utoipa::path(get, path = "/_nabe/v1/mimi/rooms/{room}/messages", tag = "mimi", operation_id = "mimi_messages",
    params(("room" = String, Path, description = "The room's URI."),
        ("after" = Option<i64>, Query, description = "The position; absent: from the beginning."),
        ("limit" = Option<usize>, Query, description = "At most so many, of at most 1000."),
        ("wait_ms" = Option<u64>, Query, description = "How long to wait for the first one.")),
    responses((status = 200, description = "The messages.", body = MimiMessagesBody)))]
pub(crate) async fn messages(caller: MimiCaller, target: Target) -> Result<Reply, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    let after = number(&target, "after")?.unwrap_or(0);
    let after = LogPosition::new(i64::try_from(after).unwrap_or(i64::MAX));
    let limit = number(&target, "limit")?.unwrap_or(100).clamp(1, 1000);
    let limit = usize::try_from(limit).unwrap_or(1000);
    let (mut news, deadline) = (caller.mimi.news(), deadline(&target)?);
    loop {
        let messages = caller
            .mimi
            .messages(&caller.user, &room, after, limit, MAX_BYTES)
            .await?;
        let of_room = |of: &MimiNews| matches!(of, MimiNews::Room { room: of, .. } if *of == room);
        if !messages.is_empty() || !is_news(&mut news, deadline, of_room).await {
            let messages = messages.iter().map(|message| MimiMessageBody {
                position: message.position.as_i64(),
                accepted: message.accepted.as_u64(),
                received: message.received.as_u64(),
                message: base64u::encode(&message.body),
            });
            return Ok(Reply::of(&MimiMessagesBody {
                messages: messages.collect(),
            }));
        }
    }
}

/// Has the room's hub take proposals or a commit (MIMI #update-room-state).
///
/// `UpdateRequest` and `UpdateRoomResponse`. The same again has the same answer.
#[utoipa::path(post, path = "/_nabe/v1/mimi/rooms/{room}/update", tag = "mimi", operation_id = "update_mimi_room",
    params(("room" = String, Path, description = "The room's URI.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "An `UpdateRequest`."),
    responses((status = 200, description = "An `UpdateRoomResponse`.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn update(
    caller: MimiCaller,
    target: Target,
    body: Struct<UpdateRequest>,
) -> Result<Response, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    Ok(octets(
        &caller.mimi.forward_update(&caller.user, &room, &body.bytes).await?,
    ))
}

/// Has the room's hub take a message of the caller (MIMI #submit-a-message).
///
/// `SubmitMessageRequest` and `SubmitMessageResponse`. The same again has the same answer.
#[utoipa::path(post, path = "/_nabe/v1/mimi/rooms/{room}/submit_message", tag = "mimi", operation_id = "submit_mimi_message",
    params(("room" = String, Path, description = "The room's URI.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A `SubmitMessageRequest`."),
    responses((status = 200, description = "A `SubmitMessageResponse`.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn submit_message(
    caller: MimiCaller,
    target: Target,
    body: Struct<SubmitMessageRequest>,
) -> Result<Response, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    Ok(octets(
        &caller.mimi.forward_submit(&caller.user, &room, &body.bytes).await?,
    ))
}

/// Asks the room's hub for what a client of the caller's needs to join (MIMI #claim-group-key-information).
///
/// `GroupInfoRequest` and `GroupInfoResponse`.
#[utoipa::path(post, path = "/_nabe/v1/mimi/rooms/{room}/group_info", tag = "mimi", operation_id = "mimi_group_info",
    params(("room" = String, Path, description = "The room's URI.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A `GroupInfoRequest`."),
    responses((status = 200, description = "A `GroupInfoResponse`.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn group_info(
    caller: MimiCaller,
    target: Target,
    body: Struct<GroupInfoRequest>,
) -> Result<Response, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    Ok(octets(
        &caller.mimi.forward_group_info(&caller.user, &room, &body.bytes).await?,
    ))
}

/// A file that was taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssetBody {
    /// Where it lies, for the message: anybody who knows this URL may have it.
    url: String,
    /// How many bytes it has.
    size: u64,
}

/// Uploads a file for a message (MIMI #download-files), which the client has encrypted.
///
/// As `upload_media`, with a URL for rooms of MIMI.
#[utoipa::path(post, path = "/_nabe/v1/mimi/assets", tag = "mimi", operation_id = "upload_mimi_asset",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file's bytes."),
    responses((status = 200, description = "The file is kept.", body = AssetBody)))]
pub(crate) async fn upload_asset(
    State(state): State<AppState>,
    caller: MimiCaller,
    Authenticated(account): Authenticated,
    body: Body,
) -> Result<Reply, ClientError> {
    let uploaded = super::media::take_in(&state, &account.user, body).await?;
    Ok(Reply::of(&AssetBody {
        url: caller.mimi.asset_url(&uploaded.media_id)?,
        size: uploaded.size,
    }))
}

/// A file in a message of a room, fetched through the room's hub (MIMI #download-using-a-hub-proxy). Only the message says whether it
/// is the right one: check the hash there.
#[utoipa::path(get, path = "/_nabe/v1/mimi/rooms/{room}/download", tag = "mimi", operation_id = "download_mimi_asset",
    params(("room" = String, Path, description = "The room's URI."),
        ("url" = String, Query, description = "Where the file lies, as its message says.")),
    responses((status = 200, description = "The file's bytes.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn download_asset(caller: MimiCaller, target: Target) -> Result<Response, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    let url = target.query.one("url")?.ok_or(ServiceError::InvalidParam("url"))?;
    let asset = caller.mimi.asset_for(&caller.user, &room, url).await?;
    let mut answer = Response::new(Body::from_stream(asset.body));
    super::media::as_download(&mut answer);
    Ok(answer)
}

impl From<CreateRefused> for ClientError {
    fn from(refused: CreateRefused) -> Self {
        match refused {
            CreateRefused::Failed(error) => error.into(),
            CreateRefused::Exists(_) | CreateRefused::SameMembers(_) => Self::conflict(&refused.to_string()),
            CreateRefused::NotTheCreator(_) => Self::forbidden(&refused.to_string()),
            CreateRefused::NotOurs(_)
            | CreateRefused::Unsound(_)
            | CreateRefused::Suite
            | CreateRefused::OtherFrankingAgent => Self::bad_request(refused.to_string()),
        }
    }
}

pub(super) fn octets(answer: &impl Encode) -> Response {
    let mut response = Bytes::from(answer.to_bytes()).into_response();
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, octets);
    response
}

pub(super) fn room_of(text: &str) -> Result<MimiUri, ClientError> {
    let room = MimiUri::parse(text).ok().filter(|uri| uri.kind() == MimiKind::Room);
    room.ok_or_else(|| ServiceError::NotFound(Missing::Room).into())
}

fn bytes_of(field: &'static str, text: &str) -> Result<Bytes, ClientError> {
    let bytes =
        base64u::decode(text).map_err(|_| ClientError::bad_request(format!("`{field}`: not unpadded base64")))?;
    Ok(bytes.into())
}

/// A struct in base64.
fn read<T: Message>(field: &'static str, text: &str) -> Result<T, ClientError> {
    let bytes = bytes_of(field, text)?;
    T::from_bytes(&bytes).map_err(|error| ClientError::bad_request(format!("`{field}`: not a {}: {error}", T::NAME)))
}

/// A struct in base64, with the bytes it came in.
fn kept<T: Message>(field: &'static str, text: &str) -> Result<Kept<T>, ClientError> {
    read::<T>(field, text)?;
    let bytes = bytes_of(field, text)?;
    Kept::decode(&mut Reader::new(&bytes)).map_err(|error| ClientError::bad_request(format!("`{field}`: {error}")))
}

pub(super) fn number(target: &Target, name: &'static str) -> Result<Option<u64>, ClientError> {
    let number = target.query.one(name)?.map(str::parse).transpose();
    number.map_err(|_| ServiceError::InvalidParam(name).into())
}

fn deadline(target: &Target) -> Result<Instant, ClientError> {
    let wait = Duration::from_millis(number(target, "wait_ms")?.unwrap_or(0));
    Ok(Instant::now() + wait.min(MAX_WAIT))
}

/// Waits for news of this kind; `false` when there is none by then. Who listens too slowly looks again.
async fn is_news(news: &mut Receiver<MimiNews>, deadline: Instant, is_wanted: impl Fn(&MimiNews) -> bool) -> bool {
    loop {
        match timeout_at(deadline, news.recv()).await {
            Ok(Ok(of)) if !is_wanted(&of) => {}
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => return true,
            Ok(Err(RecvError::Closed)) | Err(_) => return false,
        }
    }
}

/// Bytes of messages in one answer, before they are base64.
const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_WAIT: Duration = Duration::from_mins(1);
/// In one answer.
const MAX_CONSENTS: usize = 1000;

#[cfg(test)]
mod tests;
