//! Files: sealed here, uploaded to the user's own provider, and named in a message (MIMI #download-files, MC #external). Who reads them
//! fetches them through the room's hub, so that whoever stores them does not learn who does; or sealed, so that their own provider does not
//! learn which; or from where they lie.
//!
//! What a room's `asset_policy` says is for clients to see to, since nobody else sees what files are (MRP #assets).

use bytes::Bytes;
use nabe_auth::mimi::{AssetKind, Rejection, Room, Upload};
use nabe_content::MediaType;
use nabe_content::attachment::Outgoing;
use nabe_content::mimi::external::{self, Secret};
use nabe_content::mimi::timeline::State;
use nabe_content::mimi::{Disposition, ExternalPart, MessageId, NestedPart, Part};
use nabe_wire::app_data::{MediaType as WireMediaType, Parameter};
use nabe_wire::policy::{AssetPolicy, AssetUploadLocation, DownloadPrivacy, DownloadPrivacyType};
use nabe_wire::uri::MimiUri;
use openmls_traits::random::OpenMlsRand as _;

use super::client::MimiClient;
use super::device::identifier;
use super::error::{Doing as _, GroupFault, MimiError};
use super::group;
use super::oblivious::{self, ObliviousError};
use crate::provider::crypto;
use crate::transport::TransportError;

/// How a file is to be fetched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fetch {
    /// In which way; without one, as the room's policy suggests.
    pub way: Option<DownloadPrivacyType>,
    /// The keys of the hub's gateway, `application/ohttp-keys`, of a user who has them from the hub. Without them they come by way of the
    /// user's provider, which could put its own in their place.
    pub ohttp_keys: Option<Bytes>,
    /// Also what is no longer valid by its sender's word.
    pub expired: bool,
}

/// A file that has been fetched, checked and opened.
#[derive(Clone, Debug)]
pub struct FetchedFile {
    /// What its message says about it.
    pub part: ExternalPart,
    /// Its content.
    pub bytes: Vec<u8>,
    /// How it came.
    pub way: DownloadPrivacyType,
}

impl MimiClient {
    /// Seals a file, uploads it, and sends a message with it. Its ID. Pictures, sounds and films are sent to be shown, anything else as an
    /// attachment.
    ///
    /// # Errors
    /// [`MimiError::FilePolicy`] if the user may not send it; [`MimiError::FileTooLarge`]; [`MimiError::Transport`] if the provider does
    /// not take it; and as [`MimiClient::send`] has them.
    pub async fn send_file(&mut self, room: &MimiUri, file: Outgoing) -> Result<MessageId, MimiError> {
        let policy = self.policy_of(room)?;
        let media_type = file.media_type.as_ref().map_or("", MediaType::as_str).to_owned();
        let user = identifier(&self.device.user);
        let kind = kind_of(&media_type);
        let wire_type = wire_type(&media_type);
        let size = file.bytes.len() as u64;
        let upload = |host| Upload {
            user: &user,
            kind,
            media_type: &wire_type,
            size,
            host,
        };
        // Where it will lie is known later.
        match policy.upload(&upload("")) {
            Ok(()) | Err(Rejection::AssetHost) => {}
            Err(rejection) => return Err(MimiError::FilePolicy(rejection)),
        }
        let secret: [u8; Secret::RANDOM_BYTES] = crypto().random_array().doing("making a key")?;
        let (ciphertext, sealed) = external::seal(file.bytes, Secret::from_random(secret))?;
        let url = self.transport.upload_asset(ciphertext.into()).await?;
        policy
            .upload(&upload(host_of(&url).unwrap_or_default()))
            .map_err(MimiError::FilePolicy)?;
        let mut part = sealed.at(&url);
        part.content_type = media_type;
        part.filename = file.name.map(|name| name.as_str().to_owned()).unwrap_or_default();
        let mut body = NestedPart::new(Part::External(Box::new(part)));
        body.disposition = match kind {
            AssetKind::Attachment => Disposition::ATTACHMENT,
            _ => Disposition::RENDER,
        };
        self.say(room, body).await
    }

    /// Fetches the file of a message in the way that the room's policy suggests, and without one through the room's hub; checks and opens
    /// it.
    ///
    /// # Errors
    /// [`MimiError::NoFile`] if the message has none; [`MimiError::FileExpired`]; [`MimiError::File`] if something else lies where it says; [`MimiError::FilePolicy`];
    /// [`MimiError::Oblivious`]; [`MimiError::Transport`].
    pub async fn fetch_file(&self, room: &MimiUri, id: &MessageId) -> Result<(ExternalPart, Vec<u8>), MimiError> {
        let fetched = self.fetch_file_by(room, id, &Fetch::default()).await?;
        Ok((fetched.part, fetched.bytes))
    }

    /// The same in a way that the user may choose, as far as the room's policy allows it.
    ///
    /// # Errors
    /// As for [`MimiClient::fetch_file`].
    pub async fn fetch_file_by(&self, room: &MimiUri, id: &MessageId, fetch: &Fetch) -> Result<FetchedFile, MimiError> {
        let (timeline, moderation) = (self.timeline_about(room, id)?, self.moderation(room)?);
        let post = timeline.post(id, moderation.policy()).ok_or(MimiError::NoSuchMessage)?;
        let State::Shown { body, .. } = &post.state else {
            return Err(MimiError::NoFile);
        };
        let mut files = body.parts().filter_map(|(_, part)| match &part.part {
            Part::External(external) => Some(((**external).clone(), part.disposition)),
            _ => None,
        });
        let (part, disposition) = files.next().ok_or(MimiError::NoFile)?;
        if part.is_expired(self.now()) && !fetch.expired {
            return Err(MimiError::FileExpired);
        }
        let kind = match disposition {
            Disposition::RENDER => kind_of(&part.content_type),
            _ => AssetKind::Attachment,
        };
        let policy = self.policy_of(room)?;
        let user = identifier(&self.device.user);
        let assets = policy.policy().assets();
        let mut ways = ways(assets.map(|assets| &assets.download_privacy), part.size, fetch.way);
        ways.retain(|way| fetch.way.is_some() || policy.download(&user, None, *way).is_ok());
        let usual = ways.first().copied().unwrap_or(DownloadPrivacyType::HUB_PROXY);
        policy
            .download(&user, Some(kind), usual)
            .map_err(MimiError::FilePolicy)?;
        let sender = self.item_of(room, id)?.and_then(|item| item.sender);
        let sender = sender.ok_or(MimiError::NoSuchMessage)?;
        if !assets.is_none_or(|assets| lies_where_it_should(assets, &sender, &part.url)) {
            return Err(MimiError::FilePolicy(Rejection::AssetHost));
        }
        let mut way = usual;
        let mut fetched = self.fetch_by(way, room, &part.url, fetch).await;
        if let Err(error) = &fetched
            && is_no_gateway(error)
            && way == DownloadPrivacyType::OHTTP
            && ways.contains(&DownloadPrivacyType::HUB_PROXY)
        {
            way = DownloadPrivacyType::HUB_PROXY;
            fetched = self.fetch_by(way, room, &part.url, fetch).await;
        }
        let bytes = external::open(fetched?.into(), &part)?;
        Ok(FetchedFile { part, bytes, way })
    }

    async fn fetch_by(
        &self,
        way: DownloadPrivacyType,
        room: &MimiUri,
        url: &str,
        fetch: &Fetch,
    ) -> Result<Bytes, MimiError> {
        match way {
            DownloadPrivacyType::DIRECT => Ok(self.transport.download_directly(url).await?),
            DownloadPrivacyType::OHTTP => {
                self.fetch_obliviously(room.host(), url, fetch.ohttp_keys.as_ref())
                    .await
            }
            _ => Ok(self.transport.download(room, url).await?),
        }
    }

    /// By the user's provider as relay and the hub's gateway. Its key may have changed since it was fetched.
    async fn fetch_obliviously(&self, hub: &str, url: &str, trusted: Option<&Bytes>) -> Result<Bytes, MimiError> {
        for _ in 0..2 {
            let keys = match trusted {
                Some(keys) => keys.clone(),
                None => self.transport.ohttp_keys(hub).await?,
            };
            let sealed = oblivious::seal(&keys, url)?;
            match self.transport.ohttp(hub, sealed.request.clone()).await {
                Ok(answer) => return Ok(sealed.open(&answer)?),
                Err(TransportError::Refused(refusal)) if refusal.status == OTHER_KEY && trusted.is_none() => {}
                Err(TransportError::Refused(refusal)) if refusal.status == OTHER_KEY => break,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ObliviousError::UnknownKey.into())
    }

    /// A room's policy as it was committed.
    pub(super) fn policy_of(&self, room: &MimiUri) -> Result<Room, MimiError> {
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
        let members = group::members(&group).into_iter();
        let leaves = members.map(|member| (member.leaf, identifier(member.identity.user())));
        Room::load(identifier(room), &group::dictionary(&group), leaves)
            .map_err(|_| group::unsound(room, GroupFault::Policy))
    }
}

/// In which ways a file of so many bytes may be fetched, the one to begin with first: as the user says, as the policy suggests, and then
/// those that tell others least. Nothing is fetched from where it lies unless the policy names that way.
fn ways(policy: Option<&DownloadPrivacy>, size: u64, chosen: Option<DownloadPrivacyType>) -> Vec<DownloadPrivacyType> {
    if let Some(chosen) = chosen {
        return vec![chosen];
    }
    let Some(policy) = policy else {
        return vec![DownloadPrivacyType::HUB_PROXY];
    };
    let mut ways = vec![
        policy.default_download_type,
        DownloadPrivacyType::OHTTP,
        DownloadPrivacyType::HUB_PROXY,
    ];
    if policy.allowed_download_types.contains(&DownloadPrivacyType::DIRECT) {
        ways.push(DownloadPrivacyType::DIRECT);
    }
    let known = [
        DownloadPrivacyType::DIRECT,
        DownloadPrivacyType::HUB_PROXY,
        DownloadPrivacyType::OHTTP,
    ];
    ways.retain(|way| known.contains(way) && (*way != DownloadPrivacyType::OHTTP || size <= MAX_OBLIVIOUS_BYTES));
    ways
}

fn is_no_gateway(error: &MimiError) -> bool {
    matches!(error, MimiError::Transport(TransportError::Refused(refusal)) if refusal.status == 404)
}

/// What a file is shown as.
fn kind_of(media_type: &str) -> AssetKind {
    match media_type.split('/').next() {
        Some("image") => AssetKind::Image,
        Some("audio") => AssetKind::Audio,
        Some("video") => AssetKind::Video,
        _ => AssetKind::Attachment,
    }
}

/// A media type as policies have it.
fn wire_type(media_type: &str) -> WireMediaType {
    let mut pieces = media_type.split(';').map(str::trim);
    let essence = pieces.next().unwrap_or_default();
    let parameters = pieces.filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        Some(Parameter {
            parameter_name: name.trim().into(),
            parameter_value: value.trim().trim_matches('"').into(),
        })
    });
    WireMediaType {
        parameters: parameters.collect(),
        ..WireMediaType::new(essence)
    }
}

fn host_of(url: &str) -> Option<&str> {
    url.strip_prefix("https://")?.split('/').next()
}

/// A file lies where the policy has files of its sender's provider lie; who sent it may have left since.
fn lies_where_it_should(policy: &AssetPolicy, sender: &MimiUri, url: &str) -> bool {
    let is_theirs = |provider: &str| match policy.asset_upload_location {
        AssetUploadLocation::LOCAL_PROVIDER => provider == sender.host(),
        _ => true,
    };
    let mut domains = policy
        .upload_domains
        .iter()
        .filter(|domains| is_theirs(&domains.provider));
    policy.asset_upload_location == AssetUploadLocation::UNSPECIFIED
        || host_of(url).is_some_and(|host| {
            domains.any(|domains| domains.asset_upload_destinations.iter().any(|there| **there == *host))
        })
}

/// Of a file that a gateway answers in one piece, with some room for what is around it.
const MAX_OBLIVIOUS_BYTES: u64 = 15 * 1024 * 1024;
/// The status of a request that was sealed to a key that the gateway does not have.
const OTHER_KEY: u16 = 409;
