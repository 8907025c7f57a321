//! What is decided beside proposals and commits. By the hub: messages, the GroupInfo, key packages, reports, the room's end (MIMI
//! #submit-a-message, MIMI #claim-group-key-information, MIMI #fetch-key-material, MIMI #report-abuse, MRP #message-capabilities). By
//! clients, since nobody else sees them: files (MRP #asset-capabilities, MRP #assets, D-assets-hub).

use nabe_wire::IdentifierUri;
use nabe_wire::app_data::{MediaType, Parameter};
use nabe_wire::policy::{AssetPolicy, AssetUploadLocation, DownloadPrivacyType};
use nabe_wire::uri::MimiUri;

use super::Rejection;
use super::action::{Client, JoinCode};
use super::claims::Claims;
use super::joining;
use super::pending::Standing;
use super::roles::{NO_ROLE, Role};
use super::room::Room;

/// How far a message's epoch is from the room's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageEpoch {
    /// So many epochs ago; 0 is the current one.
    Behind(u64),
    /// The room has not reached it.
    Ahead,
}

/// What a file is to the policy (MRP #asset-capabilities).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AssetKind {
    /// `image`, rendered.
    Image,
    /// `audio`, rendered.
    Audio,
    /// `video`, rendered.
    Video,
    /// Anything else.
    Attachment,
}

/// A file that somebody uploads for the room, or names in a message.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Who sends it.
    pub user: &'a IdentifierUri,
    /// As what.
    pub kind: AssetKind,
    /// Of which type.
    pub media_type: &'a MediaType,
    /// How large, in bytes.
    pub size: u64,
    /// On which host it lies.
    pub host: &'a str,
}

impl Room {
    /// Whether a user's message is taken. What epoch tolerance the room has is in the operational policy; without one only the
    /// current epoch is taken.
    ///
    /// # Errors
    /// [`Rejection::EpochTooOld`] has an answer of its own on the wire, all else is `notAllowed`.
    pub fn send(&self, sender: &IdentifierUri, epoch: MessageEpoch) -> Result<(), Rejection> {
        let (standing, role) = self.participant(sender)?;
        if standing.clients == 0 {
            return Err(Rejection::SenderInactive);
        }
        needs(role, Rejection::CannotSendMessage)?;
        let tolerance = self
            .policy()
            .operational()
            .map_or(0, |it| it.app_message_policy.epoch_tolerance);
        match epoch {
            MessageEpoch::Ahead => Err(Rejection::EpochNotReached),
            MessageEpoch::Behind(epochs) if epochs > tolerance.into() => Err(Rejection::EpochTooOld),
            MessageEpoch::Behind(_) => Ok(()),
        }
    }

    /// Whether messages are handed to a user's clients.
    ///
    /// # Errors
    /// The user does not take part, is banned, or their role receives nothing.
    pub fn receive(&self, receiver: &IdentifierUri) -> Result<(), Rejection> {
        let (_, role) = self.participant(receiver)?;
        needs(role, Rejection::CannotReceiveMessage)
    }

    /// What a join code is worth that is shown now: it is one of the room's join links as they count now, byte for byte, and for the lowest
    /// role that outsiders may take by it (D-join-code-role).
    pub fn join_code(&self, shown: &[u8]) -> JoinCode {
        let policy = self.policy();
        if !policy.join_links().iter().any(|link| *link.join_link == *shown) {
            return JoinCode::Unknown;
        }
        let roles = policy.roles();
        let can_take = |index: &u32| roles.outsider().may_change(NO_ROLE, *index);
        let mut takes = roles.iter().map(|(index, _)| index);
        let role = takes.find(|index| *index != NO_ROLE && !roles.is_ban(*index) && can_take(index));
        role.map_or(JoinCode::Unknown, JoinCode::For)
    }

    /// Whether somebody may have the GroupInfo, to join with an external commit: who is on the list and may add clients of their
    /// own, or who may put themselves on the list. `parent` is the room that this one depends on, if it does.
    ///
    /// # Errors
    /// Why not.
    pub fn group_info(&self, client: &Client, code: JoinCode, parent: Option<&Self>) -> Result<(), Rejection> {
        self.is_going_on()?;
        let policy = self.policy();
        if policy.operational().is_some_and(|it| !it.external_commit_allowed) {
            return Err(Rejection::ExternalCommitsOff);
        }
        let role = self.role_of(&client.user);
        if policy.roles().is_ban(role) {
            return Err(Rejection::JoinerBanned);
        }
        match policy.roles().of_participants(role) {
            Some(role) => needs(role, Rejection::CannotAddOwnClient),
            None if policy.base().fixed_membership => Err(Rejection::FixedMembership),
            None => {
                if policy.base().parent_dependant {
                    let parent = parent.ok_or(Rejection::ParentUnknown)?;
                    if !parent.takes_part(&client.user) {
                        return Err(Rejection::NotInParent);
                    }
                }
                joining::authorize_any(policy, &client.claims, code)
            }
        }
    }

    /// Whether somebody may fetch a user's key packages for the room (MIMI #bob-adds-cathy-to-the-room): who may add the user, or clients of their own.
    ///
    /// # Errors
    /// The requester does not take part, or could not add anybody by them.
    pub fn fetch_key_packages(&self, requester: &IdentifierUri, target: &IdentifierUri) -> Result<(), Rejection> {
        self.is_going_on()?;
        let (_, role) = self.participant(requester)?;
        if requester == target {
            return needs(role, Rejection::CannotAddOwnClient);
        }
        self.may_add(role)
    }

    /// The same for an external sender, whose role is by preauthorization.
    ///
    /// # Errors
    /// It has none, the role cannot, or the room takes no proposals from outside.
    pub fn fetch_key_packages_from_outside(&self, claims: &Claims) -> Result<(), Rejection> {
        self.is_going_on()?;
        let policy = self.policy();
        if policy.operational().is_some_and(|it| !it.external_proposal_allowed) {
            return Err(Rejection::ExternalProposalsOff);
        }
        let role = policy.preauthorized_role(claims);
        let role = role.and_then(|role| policy.roles().get(role));
        self.may_add(role.ok_or(Rejection::SenderWithoutRole)?)
    }

    fn may_add(&self, role: &Role) -> Result<(), Rejection> {
        match self.policy().base().fixed_membership {
            true => Err(Rejection::FixedMembership),
            false => needs(role, Rejection::CannotAddParticipant),
        }
    }

    /// Whether a report is taken. Whoever gives no name needs no role.
    ///
    /// # Errors
    /// The reporter does not take part, or their role cannot report.
    pub fn report(&self, reporter: Option<&IdentifierUri>) -> Result<(), Rejection> {
        let Some(reporter) = reporter else {
            return Ok(());
        };
        let (_, role) = self.participant(reporter)?;
        needs(role, Rejection::CannotReportAbuse)
    }

    /// Whether a user may destroy the room.
    ///
    /// # Errors
    /// The user does not take part, or their role cannot.
    pub fn destroy(&self, user: &IdentifierUri) -> Result<(), Rejection> {
        let (_, role) = self.participant(user)?;
        needs(role, Rejection::CannotDestroyRoom)
    }

    /// The same for an external sender, whose role is by preauthorization.
    ///
    /// # Errors
    /// It has none, or the role cannot.
    pub fn destroy_from_outside(&self, claims: &Claims) -> Result<(), Rejection> {
        let role = self.policy().preauthorized_role(claims);
        let role = role.and_then(|role| self.policy().roles().get(role));
        needs(role.ok_or(Rejection::SenderWithoutRole)?, Rejection::CannotDestroyRoom)
    }

    /// Whether a user may upload a file, and name it in a message.
    ///
    /// # Errors
    /// The role cannot, or the policy of files has it otherwise.
    pub fn upload(&self, upload: &Upload<'_>) -> Result<(), Rejection> {
        let (_, role) = self.participant(upload.user)?;
        needs(role, upload.kind.cannot_upload())?;
        self.accepts(upload)
    }

    /// Whether the room has such files, whatever the role of who sent it is by now.
    ///
    /// # Errors
    /// The policy of files has it otherwise.
    pub fn accepts(&self, file: &Upload<'_>) -> Result<(), Rejection> {
        self.policy().assets().map_or(Ok(()), |policy| takes(policy, file))
    }

    /// Whether a user may fetch a file in this way; without a kind only the way is asked about.
    ///
    /// # Errors
    /// The role cannot, or the room has files fetched otherwise.
    pub fn download(
        &self,
        user: &IdentifierUri,
        kind: Option<AssetKind>,
        way: DownloadPrivacyType,
    ) -> Result<(), Rejection> {
        let (_, role) = self.participant(user)?;
        if let Some(kind) = kind {
            needs(role, kind.cannot_download())?;
        }
        let Some(policy) = self.policy().assets() else {
            return Ok(());
        };
        let ways = &policy.download_privacy;
        let is_allowed = ways.allowed_download_types.is_empty() || ways.allowed_download_types.contains(&way);
        if is_allowed && !ways.forbidden_download_types.contains(&way) {
            Ok(())
        } else {
            Err(Rejection::DownloadWay)
        }
    }

    /// Who is on the list and not banned, with their role.
    fn participant(&self, user: &IdentifierUri) -> Result<(Standing, &Role), Rejection> {
        let standing = self.view().standing(user);
        let roles = self.policy().roles();
        match roles.get(standing.role) {
            Some(role) if standing.role != NO_ROLE && !roles.is_ban(standing.role) => Ok((standing, role)),
            _ => Err(Rejection::NotParticipant),
        }
    }
}

fn needs(role: &Role, otherwise: Rejection) -> Result<(), Rejection> {
    match otherwise.capability() {
        Some(capability) if !role.can(capability) => Err(otherwise),
        _ => Ok(()),
    }
}

fn takes(policy: &AssetPolicy, upload: &Upload<'_>) -> Result<(), Rejection> {
    let largest = match upload.kind {
        AssetKind::Image => policy.max_image,
        AssetKind::Audio => policy.max_audio,
        AssetKind::Video => policy.max_video,
        AssetKind::Attachment => policy.max_attachment,
    };
    if upload.size > largest {
        return Err(Rejection::AssetTooLarge);
    }
    let is_of = |entry: &MediaType| covers(entry, upload.media_type);
    if policy.forbidden_media_types.iter().any(is_of) {
        return Err(Rejection::AssetTypeForbidden);
    }
    if policy
        .permitted_media_types
        .as_ref()
        .is_some_and(|permitted| !permitted.iter().any(is_of))
    {
        return Err(Rejection::AssetTypeNotPermitted);
    }
    // At one's own provider, the domains are those of the provider whose domain is that of the user.
    let provider = MimiUri::parse(upload.user).ok();
    let is_theirs = |domain: &str| match policy.asset_upload_location {
        AssetUploadLocation::LOCAL_PROVIDER => provider.as_ref().is_some_and(|uri| uri.host() == domain),
        _ => true,
    };
    let mut domains = policy
        .upload_domains
        .iter()
        .filter(|domains| is_theirs(&domains.provider));
    let lies_there = domains.any(|domains| {
        domains
            .asset_upload_destinations
            .iter()
            .any(|host| **host == *upload.host)
    });
    if policy.asset_upload_location == AssetUploadLocation::UNSPECIFIED || lies_there {
        Ok(())
    } else {
        Err(Rejection::AssetHost)
    }
}

/// "that entry matches all media types of that type and subtype" if it has no parameters; otherwise those that have all of its
/// parameters, in any order and with others. Types and names of parameters are the same in upper and lower case (D-media-parameters).
fn covers(entry: &MediaType, media_type: &MediaType) -> bool {
    let is_there = |wanted: &Parameter| {
        let mut parameters = media_type.parameters.iter();
        parameters.any(|it| {
            it.parameter_name.eq_ignore_ascii_case(&wanted.parameter_name)
                && it.parameter_value == wanted.parameter_value
        })
    };
    entry.media_type.eq_ignore_ascii_case(&media_type.media_type) && entry.parameters.iter().all(is_there)
}

impl AssetKind {
    fn cannot_upload(self) -> Rejection {
        match self {
            Self::Image => Rejection::CannotUploadImage,
            Self::Audio => Rejection::CannotUploadAudio,
            Self::Video => Rejection::CannotUploadVideo,
            Self::Attachment => Rejection::CannotUploadAttachment,
        }
    }

    fn cannot_download(self) -> Rejection {
        match self {
            Self::Image => Rejection::CannotDownloadImage,
            Self::Audio => Rejection::CannotDownloadAudio,
            Self::Video => Rejection::CannotDownloadVideo,
            Self::Attachment => Rejection::CannotDownloadAttachment,
        }
    }

    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Image, Self::Audio, Self::Video, Self::Attachment];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(media_type: &str, parameter: Option<(&str, &str)>) -> MediaType {
        let parameter = parameter.map(|(name, value)| Parameter {
            parameter_name: name.into(),
            parameter_value: value.into(),
        });
        MediaType {
            parameters: parameter.into_iter().collect(),
            ..MediaType::new(media_type)
        }
    }

    #[test]
    fn an_entry_without_parameters_covers_all() {
        let (plain, gfm) = (of("text/markdown", None), of("Text/Markdown", Some(("variant", "GFM"))));
        assert!(covers(&plain, &gfm) && covers(&plain, &plain) && covers(&gfm, &gfm));
        assert!(!covers(&gfm, &plain));
        assert!(!covers(&gfm, &of("text/markdown", Some(("variant", "MIMI")))));
        assert!(!covers(&plain, &of("text/plain", None)));
    }

    #[test]
    fn an_entry_covers_types_with_its_parameters_and_others() {
        let gfm = of("text/markdown", Some(("variant", "GFM")));
        let mut more = of("text/markdown", Some(("charset", "utf-8")));
        assert!(!covers(&gfm, &more));
        more.parameters
            .extend(of("text/markdown", Some(("Variant", "GFM"))).parameters);
        assert!(covers(&gfm, &more) && !covers(&more, &gfm));
    }
}
