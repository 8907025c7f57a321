//! Files: sealed here, uploaded to the user's own provider, and named in a message (MIMI #download-files, MC #external). Who reads them
//! fetches them through the room's hub, so that whoever stores them does not learn who does.
//!
//! What a room's `asset_policy` says is for clients to see to, since nobody else sees what files are (MRP #assets).

use nabe_auth::mimi::{AssetKind, Rejection, Room, Upload};
use nabe_content::MediaType;
use nabe_content::attachment::Outgoing;
use nabe_content::mimi::external::{self, Secret};
use nabe_content::mimi::timeline::{State, authors_only};
use nabe_content::mimi::{Disposition, ExternalPart, MessageId, NestedPart, Part};
use nabe_wire::app_data::{MediaType as WireMediaType, Parameter};
use nabe_wire::policy::{AssetPolicy, AssetUploadLocation, DownloadPrivacyType};
use nabe_wire::uri::MimiUri;
use openmls_traits::random::OpenMlsRand as _;

use super::client::MimiClient;
use super::device::identifier;
use super::error::{Doing as _, GroupFault, MimiError};
use super::group;
use crate::provider::crypto;

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

    /// Fetches the file of a message through the room's hub, checks and opens it.
    ///
    /// # Errors
    /// [`MimiError::NoFile`] if the message has none; [`MimiError::File`] if something else lies where it says; [`MimiError::FilePolicy`];
    /// [`MimiError::Transport`].
    pub async fn fetch_file(&self, room: &MimiUri, id: &MessageId) -> Result<(ExternalPart, Vec<u8>), MimiError> {
        let timeline = self.timeline(room)?;
        let post = timeline.post(id, authors_only).ok_or(MimiError::NoSuchMessage)?;
        let State::Shown { body, .. } = &post.state else {
            return Err(MimiError::NoFile);
        };
        let mut files = body.parts().filter_map(|(_, part)| match &part.part {
            Part::External(external) => Some(((**external).clone(), part.disposition)),
            _ => None,
        });
        let (part, disposition) = files.next().ok_or(MimiError::NoFile)?;
        let kind = match disposition {
            Disposition::RENDER => kind_of(&part.content_type),
            _ => AssetKind::Attachment,
        };
        let policy = self.policy_of(room)?;
        let user = identifier(&self.device.user);
        policy
            .download(&user, Some(kind), DownloadPrivacyType::HUB_PROXY)
            .map_err(MimiError::FilePolicy)?;
        let sender = self.item_of(room, id)?.and_then(|item| item.sender);
        let sender = sender.ok_or(MimiError::NoSuchMessage)?;
        let assets = policy.policy().assets();
        if !assets.is_none_or(|assets| lies_where_it_should(assets, &sender, &part.url)) {
            return Err(MimiError::FilePolicy(Rejection::AssetHost));
        }
        let fetched = self.transport.download(room, &part.url).await?;
        let opened = external::open(fetched.into(), &part)?;
        Ok((part, opened))
    }

    /// A room's policy as it was committed.
    fn policy_of(&self, room: &MimiUri) -> Result<Room, MimiError> {
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
        let members = group::members(&group).into_iter();
        let leaves = members.map(|member| (member.leaf, identifier(member.identity.user())));
        Room::load(identifier(room), &group::dictionary(&group), leaves)
            .map_err(|_| group::unsound(room, GroupFault::Policy))
    }
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
