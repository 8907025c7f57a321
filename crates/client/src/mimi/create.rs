//! A room begins: its policy, its components, and its only participant (MIMI #alice-creates-a-room, MRP #role-examples).

use nabe_auth::mimi::templates::{SUPER_ADMIN, Template};
use nabe_mls::Suite;
use nabe_wire::app_data::{AppDataDictionary, MediaTypeList};
use nabe_wire::codec::NulFreeText;
use nabe_wire::mls::ComponentId;
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::policy::OperationalParameters;
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::{MimiKind, MimiUri, Uri};
use nabe_wire::{Encode as _, IdentifierUri};

use super::client::MimiClient;
use super::device::media_types;
use super::error::MimiError;
use super::group;
use super::intent::MimiIntent;
use super::store::{KnownRoom, MimiStatus, Request, RequestKind, RequestState, StoredIntent};
use super::transport::HubKeys;
use crate::provider::Provider;

/// A room to be. The hub's franking agent is put into it by [`MimiClient::create_room`], if the hub has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewRoom {
    /// Its URI, of the user's own provider.
    pub uri: MimiUri,
    /// The suite of its group.
    pub suite: Suite,
    /// Its policy, such as one of [`nabe_auth::mimi::templates`].
    pub policy: Template,
    /// The role of whoever creates it.
    pub role: u32,
    /// What people see of it.
    pub metadata: RoomMetaData,
    /// How its group is run, if the room says so.
    pub operational: Option<OperationalParameters>,
    /// What clients have to read.
    pub media_types: MediaTypeList,
    /// Other components that it begins with, such as policies about receipts or join links.
    pub components: AppDataDictionary,
    /// Users who take part from the beginning, as rooms need them whose membership is fixed. Their clients join by themselves.
    pub participants: Vec<(MimiUri, u32)>,
}

impl NewRoom {
    /// A room with this name and this policy, whose creator is its `super_admin`; `None` if the name or the URI is none.
    #[must_use]
    pub fn new(uri: &MimiUri, name: &str, policy: Template) -> Option<Self> {
        let metadata = RoomMetaData {
            room_uri: Uri::new(uri.to_string())?,
            room_name: NulFreeText::new(name)?,
            room_descriptions: Vec::new(),
            room_avatar: Uri::default(),
            room_subject: NulFreeText::default(),
            room_mood: NulFreeText::default(),
        };
        (uri.kind() == MimiKind::Room).then(|| Self {
            uri: uri.clone(),
            suite: Suite::default(),
            policy,
            role: SUPER_ADMIN,
            metadata,
            operational: None,
            media_types: media_types(&[nabe_content::mimi::MEDIA_TYPE]),
            components: AppDataDictionary::new(),
            participants: Vec::new(),
        })
    }

    pub(super) fn dictionary(&self, creator: &IdentifierUri) -> AppDataDictionary {
        let mut participants = vec![UserRolePair {
            user: creator.clone(),
            role_index: self.role,
        }];
        participants.extend(self.participants.iter().map(|(user, role_index)| UserRolePair {
            user: super::device::identifier(user),
            role_index: *role_index,
        }));
        let mut dictionary = self.policy.dictionary(&ParticipantListData { participants });
        dictionary.set(ComponentId::ROOM_METADATA, self.metadata.to_bytes());
        dictionary.set(ComponentId::CONTENT_MEDIA_TYPES, self.media_types.to_bytes());
        if let Some(operational) = &self.operational {
            dictionary.set(ComponentId::MLS_OPERATIONAL_POLICY, operational.to_bytes());
        }
        for component in self.components.entries() {
            dictionary.set(component.component_id, component.data.to_vec());
        }
        dictionary
    }
}

impl MimiClient {
    /// Creates a room and its group, in which this client is alone.
    ///
    /// # Errors
    /// [`MimiError::KnownRoom`] if the client knows a room of this name. After [`MimiError::NotConfirmed`] the room will be created by
    /// later calls of [`MimiClient::sync`].
    pub async fn create_room(&mut self, new: &NewRoom) -> Result<(), MimiError> {
        if new.uri.host() != self.device.user.host() {
            let room = new.uri.clone();
            return Err(MimiError::NotOurRoom { room });
        }
        let known = KnownRoom::load(self.store.read(), &new.uri)?;
        if known.is_some_and(|known| known.status != MimiStatus::None) {
            return Err(MimiError::KnownRoom(new.uri.clone()));
        }
        let hub = self.transport.hub(nabe_wire::mls::CipherSuite(new.suite.id())).await?;
        let intent = self.begin(new, &hub, group::fresh_id(&new.uri)?)?;
        self.drive(intent).await
    }

    /// Makes the group, and keeps what the hub is to be handed.
    pub(super) fn begin(&mut self, new: &NewRoom, hub: &HubKeys, group_id: Vec<u8>) -> Result<i64, MimiError> {
        let now = self.now();
        let device = &self.device;
        self.store.transaction(|connection| {
            let provider = Provider::new(connection);
            let founded = group::create(&provider, device, new, hub, &group_id)?;
            let mut room = KnownRoom::load_or_new(connection, &new.uri)?;
            room.status = MimiStatus::Creating;
            room.group_id = Some(group_id);
            room.save(connection)?;
            let intent = StoredIntent::insert(connection, &new.uri, &MimiIntent::Create, now)?;
            let request = Request {
                room: new.uri.clone(),
                intent,
                kind: RequestKind::Create,
                epoch: 0,
                message: founded.group_info,
                body: founded.tree,
                seen: 0,
                clears_the_way: false,
                state: RequestState::Ready,
            };
            request.save(connection)?;
            Ok(intent)
        })
    }
}
