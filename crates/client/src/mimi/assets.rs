//! What a room's policy says of the files that messages name (MRP #assets, MRP #asset-capabilities, D-assets-hub).
//!
//! Nobody but clients sees what files are. Ours sends no message with a file that its user may not send, shows none of others with one that
//! they may not, and hands out no file that turns out to be larger than its message says.

use nabe_auth::mimi::{AssetKind, Rejection, Room, Upload};
use nabe_content::mimi::external::TAG_BYTES;
use nabe_content::mimi::{Disposition, ExternalPart, NestedPart, Part};
use nabe_wire::IdentifierUri;
use nabe_wire::app_data::{MediaType, Parameter};
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;

use super::device::identifier;
use super::group;

/// A file that a message names.
pub(super) struct Asset<'c> {
    pub(super) part: &'c ExternalPart,
    pub(super) kind: AssetKind,
    media_type: MediaType,
}

/// The files that a body names, in its order. A session is none, but a place to join it.
pub(super) fn of(body: &NestedPart) -> impl Iterator<Item = Asset<'_>> {
    body.parts().filter_map(|(_, part)| match &part.part {
        Part::External(_) if part.disposition == Disposition::SESSION => None,
        Part::External(external) => Some(Asset {
            part: external,
            kind: match part.disposition.effective() {
                Disposition::RENDER => kind_of(&external.content_type),
                _ => AssetKind::Attachment,
            },
            media_type: wire_type(&external.content_type),
        }),
        _ => None,
    })
}

impl Asset<'_> {
    /// The file as one of this user, with the size that its message says: of the content or of the ciphertext, so the smaller one counts. A
    /// size that is not said is at least one byte.
    pub(super) fn of_user<'a>(&'a self, user: &'a IdentifierUri) -> Upload<'a> {
        let overhead = match self.part.encryption.algorithm() {
            0 => 0,
            _ => TAG_BYTES,
        };
        Upload {
            user,
            kind: self.kind,
            media_type: &self.media_type,
            size: self.part.size.saturating_sub(overhead).max(1),
            host: host_of(&self.part.url).unwrap_or_default(),
        }
    }
}

/// Why a user may not send the files that a message names, if they may not: by the policy in the group when it is sent, or comes. Of who is
/// on the list no more, the role is not known; of a policy that does not read, nothing is.
pub(super) fn refused(group: &MlsGroup, room: &MimiUri, user: &MimiUri, body: &NestedPart) -> Option<Rejection> {
    let mut assets = of(body).peekable();
    assets.peek()?;
    let policy = policy_of(group, room).ok()?;
    let user = identifier(user);
    assets.find_map(|asset| {
        let file = asset.of_user(&user);
        match policy.upload(&file) {
            Err(Rejection::NotParticipant) => policy.accepts(&file).err(),
            judged => judged.err(),
        }
    })
}

/// A group's policy.
pub(super) fn policy_of(group: &MlsGroup, room: &MimiUri) -> Result<Room, Rejection> {
    let members = group::members(group).into_iter();
    let leaves = members.map(|member| (member.leaf, identifier(member.identity.user())));
    Room::load(identifier(room), &group::dictionary(group), leaves)
}

/// What a file of a type is shown as.
pub(super) fn kind_of(media_type: &str) -> AssetKind {
    let top = media_type.split('/').next().unwrap_or_default().trim();
    match top.to_ascii_lowercase().as_str() {
        "image" => AssetKind::Image,
        "audio" => AssetKind::Audio,
        "video" => AssetKind::Video,
        _ => AssetKind::Attachment,
    }
}

/// A media type as policies have it.
pub(super) fn wire_type(media_type: &str) -> MediaType {
    let mut pieces = media_type.split(';').map(str::trim);
    let essence = pieces.next().unwrap_or_default();
    let parameters = pieces.filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        Some(Parameter {
            parameter_name: name.trim().into(),
            parameter_value: value.trim().trim_matches('"').into(),
        })
    });
    MediaType {
        parameters: parameters.collect(),
        ..MediaType::new(essence)
    }
}

fn host_of(url: &str) -> Option<&str> {
    url.strip_prefix("https://")?.split('/').next()
}
