//! Files: sealed here, uploaded to the user's own provider, and named in a message (MIMI #download-files, MC #external). Who reads them
//! fetches them through the room's hub, so that whoever stores them does not learn who does; or sealed, so that their own provider does not
//! learn which; or from where they lie.
//!
//! What the room's policy says of files is in `assets.rs`.

use bytes::Bytes;
use nabe_auth::mimi::{AssetKind, Rejection, Room, Upload};
use nabe_content::MediaType;
use nabe_content::attachment::Outgoing;
use nabe_content::mimi::external::{self, Secret};
use nabe_content::mimi::timeline::State;
use nabe_content::mimi::{Disposition, ExternalPart, MessageId, NestedPart, Part};
use nabe_wire::policy::{DownloadPrivacy, DownloadPrivacyType};
use nabe_wire::uri::MimiUri;
use openmls_traits::random::OpenMlsRand as _;

use super::assets;
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
        let media_type = file.media_type.as_ref().map_or("", MediaType::as_str).to_owned();
        let kind = assets::kind_of(&media_type);
        let upload = Upload {
            user: &identifier(&self.device.user),
            kind,
            media_type: &assets::wire_type(&media_type),
            size: file.bytes.len() as u64,
            // Where it will lie is known later.
            host: "",
        };
        match self.policy_of(room)?.upload(&upload) {
            Ok(()) | Err(Rejection::AssetHost) => {}
            Err(rejection) => return Err(MimiError::FilePolicy(rejection)),
        }
        let secret: [u8; Secret::RANDOM_BYTES] = crypto().random_array().doing("making a key")?;
        let (ciphertext, sealed) = external::seal(file.bytes, Secret::from_random(secret))?;
        let url = self.transport.upload_asset(ciphertext.into()).await?;
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
        let asset = assets::of(body).next().ok_or(MimiError::NoFile)?;
        let part = asset.part.clone();
        if part.is_expired(self.now()) && !fetch.expired {
            return Err(MimiError::FileExpired);
        }
        let policy = self.policy_of(room)?;
        let user = identifier(&self.device.user);
        let privacy = policy.policy().assets().map(|assets| &assets.download_privacy);
        let mut ways = ways(privacy, part.size, fetch.way);
        ways.retain(|way| fetch.way.is_some() || policy.download(&user, None, *way).is_ok());
        let usual = ways.first().copied().unwrap_or(DownloadPrivacyType::HUB_PROXY);
        policy
            .download(&user, Some(asset.kind), usual)
            .map_err(MimiError::FilePolicy)?;
        let sender = self.item_of(room, id)?.and_then(|item| item.sender);
        let sender = identifier(&sender.ok_or(MimiError::NoSuchMessage)?);
        // What the policy said when the message came it may not say any more.
        policy.accepts(&asset.of_user(&sender)).map_err(MimiError::FilePolicy)?;
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
        let found = Upload {
            size: bytes.len() as u64,
            ..asset.of_user(&sender)
        };
        policy.accepts(&found).map_err(MimiError::FilePolicy)?;
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
        assets::policy_of(&group, room).map_err(|_| group::unsound(room, GroupFault::Policy))
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

/// Of a file that a gateway answers in one piece, with some room for what is around it.
const MAX_OBLIVIOUS_BYTES: u64 = 15 * 1024 * 1024;
/// The status of a request that was sealed to a key that the gateway does not have.
const OTHER_KEY: u16 = 409;
