//! What the room's components say, read once: every component but the participant list (MRP #roles, MRP #preauth,
//! MRP #base-room-policy-component-syntax, MRP #other-mimi-policy-components, MRP #operational, MIMI #room-metadata).

use std::collections::BTreeSet;
use std::sync::Arc;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{ComponentId, ProposalType};
use nabe_wire::policy::{
    AssetPolicy, AssetUploadLocation, BaseRoomPolicy, BotPolicy, Capability, HistoryPolicy, JoinLink, JoinLinkPolicy,
    JoinLinksData, LinkPreviewPolicy, LoggingPolicy, MessageExpiration, OperationalParameters, Optionality,
    PreAuthData, RoleData, StatusNotificationPolicy,
};
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::{MimiKind, MimiUri};
use nabe_wire::{Encode, IdentifierUri, Message};

use super::claims::Claims;
use super::roles::{BAN_ROLE, NO_ROLE, Roles};
use super::{Rejection, metadata};

/// All that is in the dictionary beside the participant list, consistent in itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    room: IdentifierUri,
    dictionary: AppDataDictionary,
    /// Shared with the policies that differ in other components: there is much of it, and it hardly ever changes.
    roles: Arc<Roles>,
    preauth: Arc<PreAuthData>,
    base: BaseRoomPolicy,
    operational: Option<OperationalParameters>,
    assets: Option<AssetPolicy>,
    metadata: Option<RoomMetaData>,
    join_links: Vec<JoinLink>,
}

impl Policy {
    /// Reads the dictionary of the group's context. The participant list in it is not looked at.
    ///
    /// # Errors
    /// A component does not read, roles are missing, or the components contradict themselves or each other.
    pub fn new(room: IdentifierUri, dictionary: &AppDataDictionary) -> Result<Self, Rejection> {
        let mut own = dictionary.clone();
        own.remove(ComponentId::PARTICIPANT_LIST);
        let roles = own.data(ComponentId::ROLES_LIST).ok_or(Rejection::ComponentRequired)?;
        let policy = Self {
            roles: Arc::new(Roles::new(&read::<RoleData>(roles)?)?),
            preauth: Arc::new(without_preauthorization()),
            base: without_base_policy(),
            operational: None,
            assets: None,
            metadata: None,
            join_links: Vec::new(),
            room,
            dictionary: own,
        };
        let components: Vec<ComponentId> = policy.dictionary.entries().iter().map(|it| it.component_id).collect();
        let policy = components.into_iter().try_fold(policy, Self::read_component)?;
        policy.is_consistent()?;
        Ok(policy)
    }

    /// The same with other data of one component, or without it.
    ///
    /// # Errors
    /// The data do not read, or contradict themselves or the rest.
    pub fn with(&self, component: ComponentId, data: Option<Bytes>) -> Result<Self, Rejection> {
        let mut policy = self.clone();
        match data {
            Some(data) => policy.dictionary.set(component, data),
            None => drop(policy.dictionary.remove(component)),
        }
        let policy = policy.read_component(component)?;
        policy.is_consistent()?;
        Ok(policy)
    }

    fn read_component(mut self, component: ComponentId) -> Result<Self, Rejection> {
        let data = self.dictionary.data(component);
        match component {
            ComponentId::ROLES_LIST => {
                self.roles = Arc::new(Roles::new(&read(data.ok_or(Rejection::ComponentRequired)?)?)?);
            }
            ComponentId::PREAUTH_LIST => {
                self.preauth = Arc::new(optional(data)?.unwrap_or_else(without_preauthorization));
            }
            ComponentId::BASE_ROOM_POLICY => {
                self.base = optional(data)?.unwrap_or_else(without_base_policy);
            }
            ComponentId::MLS_OPERATIONAL_POLICY => self.operational = optional(data)?,
            ComponentId::ASSET_POLICY => self.assets = optional(data)?,
            ComponentId::ROOM_METADATA => {
                self.metadata = optional(data)?;
                if let Some(metadata) = &self.metadata {
                    metadata::is_of_room(metadata, &self.room)?;
                }
            }
            ComponentId::JOIN_LINKS => {
                self.join_links = optional::<JoinLinksData>(data)?.map_or_else(Vec::new, |links| links.join_links);
            }
            // Clients go by these; here they only have to read.
            ComponentId::STATUS_NOTIFICATION_POLICY => reads::<StatusNotificationPolicy>(data)?,
            ComponentId::LINK_PREVIEW_POLICY => reads::<LinkPreviewPolicy>(data)?,
            ComponentId::MESSAGE_EXPIRATION_POLICY => reads::<MessageExpiration>(data)?,
            // The others are read where they are held against the rest, or by nobody.
            _ => {}
        }
        Ok(self)
    }

    /// What has to hold between components and within them.
    fn is_consistent(&self) -> Result<(), Rejection> {
        self.base_is_consistent()?;
        self.preauth_is_consistent()?;
        self.history_is_consistent()?;
        self.bots_are_consistent()?;
        self.logging_is_consistent()?;
        self.assets_are_consistent()?;
        match self.component::<JoinLinkPolicy>(ComponentId::JOIN_LINK_POLICY)? {
            Some(links) if links.on_request && self.join_links.len() > 1 => Err(Rejection::JoinLinkSingle),
            _ => Ok(()),
        }
    }

    fn base_is_consistent(&self) -> Result<(), Rejection> {
        let is_parent = |uri: &str| {
            let (parent, room) = (MimiUri::parse(uri), MimiUri::parse(&self.room));
            parent.is_ok_and(|parent| {
                parent.kind() == MimiKind::Room && room.is_ok_and(|room| room.host() == parent.host() && room != parent)
            })
        };
        let parent = match &self.base.parent_room[..] {
            [] => !self.base.parent_dependant,
            [parent] => self.base.parent_dependant && is_parent(parent),
            _ => false,
        };
        if !parent {
            return Err(Rejection::ParentRoom);
        }
        // "none of its non-zero, non-banned roles can contain the canAddParticipant capability"
        let adds = |(index, role): (u32, &super::roles::Role)| {
            index != NO_ROLE && !self.roles.is_ban(index) && role.can(Capability::CAN_ADD_PARTICIPANT)
        };
        if self.base.fixed_membership && self.roles.iter().any(adds) {
            return Err(Rejection::FixedMembershipRole);
        }
        Ok(())
    }

    fn preauth_is_consistent(&self) -> Result<(), Rejection> {
        for entry in &self.preauth.preauthorized_entries {
            let role = entry.target_role.role_index;
            if self.roles.of_participants(role).is_none() || self.roles.is_ban(role) {
                return Err(Rejection::PreauthRoleUndefined);
            }
            if entry.claimset.is_empty() {
                return Err(Rejection::PreauthWithoutClaims);
            }
        }
        Ok(())
    }

    fn history_is_consistent(&self) -> Result<(), Rejection> {
        let history = self.component::<HistoryPolicy>(ComponentId::CHAT_HISTORY_POLICY)?;
        let roles = history.as_ref().and_then(|history| history.history_sharing.details());
        let can_share = |index: &u32| {
            let role = self.roles.of_participants(*index);
            *index != BAN_ROLE && role.is_some_and(|role| !role.is_without_clients())
        };
        if roles.is_none_or(|history| history.roles_that_can_share.iter().all(can_share)) {
            Ok(())
        } else {
            Err(Rejection::HistoryRole)
        }
    }

    fn bots_are_consistent(&self) -> Result<(), Rejection> {
        let bots = self.component::<BotPolicy>(ComponentId::BOT_POLICY)?;
        let fits = |index: u32, is_local: bool| {
            index == NO_ROLE || !is_local && self.roles.get(index).is_some() && !self.roles.is_ban(index)
        };
        let bots = bots.map_or_else(Vec::new, |bots| bots.allowed_bots);
        if bots.iter().all(|bot| fits(bot.bot_role_index, bot.local_client_bot)) {
            Ok(())
        } else {
            Err(Rejection::BotRole)
        }
    }

    fn logging_is_consistent(&self) -> Result<(), Rejection> {
        let Some(LoggingPolicy { logging }) = self.component(ComponentId::LOGGING_POLICY)? else {
            return Ok(());
        };
        let is_without_client = logging
            .details()
            .is_none_or(|details| details.logging_clients.is_empty());
        if logging.optionality() == Optionality::Required && is_without_client {
            return Err(Rejection::LoggingClient);
        }
        Ok(())
    }

    fn assets_are_consistent(&self) -> Result<(), Rejection> {
        let Some(assets) = &self.assets else {
            return Ok(());
        };
        let hub = MimiUri::parse(&self.room).ok();
        let is_hub = |provider: &str| hub.as_ref().is_some_and(|hub| hub.host() == provider);
        match &assets.upload_domains[..] {
            [domains] if is_hub(&domains.provider) => Ok(()),
            _ if assets.asset_upload_location == AssetUploadLocation::HUB => Err(Rejection::AssetDomains),
            _ => Ok(()),
        }
    }

    fn component<T: Message>(&self, component: ComponentId) -> Result<Option<T>, Rejection> {
        optional(self.dictionary.data(component))
    }

    /// The room's URI.
    pub fn room(&self) -> &IdentifierUri {
        &self.room
    }

    /// The components and their data, without the participant list.
    pub fn dictionary(&self) -> &AppDataDictionary {
        &self.dictionary
    }

    /// The roles.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The base policy. A room without one has neither limits nor restrictions.
    pub fn base(&self) -> &BaseRoomPolicy {
        &self.base
    }

    /// How the group is run, if that is said.
    pub fn operational(&self) -> Option<&OperationalParameters> {
        self.operational.as_ref()
    }

    /// The policy of files, if there is one.
    pub fn assets(&self) -> Option<&AssetPolicy> {
        self.assets.as_ref()
    }

    /// The metadata, if there are any.
    pub fn metadata(&self) -> Option<&RoomMetaData> {
        self.metadata.as_ref()
    }

    /// The join links.
    pub fn join_links(&self) -> &[JoinLink] {
        &self.join_links
    }

    /// The policy of new join links, if there is one.
    pub fn join_link_policy(&self) -> Option<JoinLinkPolicy> {
        // It was read when the room came to have it.
        self.component(ComponentId::JOIN_LINK_POLICY).ok().flatten()
    }

    /// The role of the first entry of `preauth_list` all of whose claims hold (MRP #preauth).
    pub fn preauthorized_role(&self, claims: &Claims) -> Option<u32> {
        let entries = &self.preauth.preauthorized_entries;
        let first = entries
            .iter()
            .find(|entry| entry.claimset.iter().all(|claim| claims.satisfy(claim)))?;
        Some(first.target_role.role_index)
    }

    pub(super) fn forbids_proposal(&self, proposal_type: ProposalType) -> bool {
        let forbidden = self.operational.as_ref().map(|it| &it.forbidden_capabilities.proposals);
        forbidden.is_some_and(|forbidden| forbidden.contains(&proposal_type))
    }

    /// The join links after some were removed, by their index, and others added; encoded.
    pub(super) fn changed_join_links(&self, removed: &BTreeSet<u32>, added: &[JoinLink]) -> Bytes {
        let stays = |(index, _): &(u32, &JoinLink)| !removed.contains(index);
        let kept = (0..).zip(&self.join_links).filter(stays).map(|(_, link)| link);
        let join_links = kept.chain(added).cloned().collect();
        JoinLinksData { join_links }.to_bytes().into()
    }
}

/// Reads a component.
pub(super) fn read<T: Message>(data: &[u8]) -> Result<T, Rejection> {
    T::from_bytes(data).map_err(|_| Rejection::ComponentMalformed)
}

fn reads<T: Message>(data: Option<&[u8]>) -> Result<(), Rejection> {
    optional::<T>(data).map(|_| ())
}

fn optional<T: Message>(data: Option<&[u8]>) -> Result<Option<T>, Rejection> {
    data.map(read).transpose()
}

fn without_preauthorization() -> PreAuthData {
    PreAuthData {
        preauthorized_entries: Vec::new(),
    }
}

/// What holds in a room without the component: several clients for each user, which the draft calls the default, no limits, and no end.
fn without_base_policy() -> BaseRoomPolicy {
    BaseRoomPolicy {
        fixed_membership: false,
        parent_dependant: false,
        parent_room: Vec::new(),
        multi_device: true,
        max_clients: None,
        max_users: None,
        pseudonyms_allowed: true,
        persistent_room: true,
        discoverable: false,
        policy_component_ids: Vec::new(),
    }
}
