//! Joining by oneself: the GroupInfo, sealed for this client, and an external commit on top of it (MIMI
//! #claim-group-key-information).

use nabe_auth::mimi::{Claims, NO_ROLE, Policy};
use nabe_wire::group_info::{
    GroupInfoCode, GroupInfoOutcome, GroupInfoRatchetTreeTbe, GroupInfoRequestTbs, GroupInfoResponse,
};
use nabe_wire::mls::{AppDataUpdate, CipherSuite, ComponentId, Extension};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserRolePair};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::random::OpenMlsRand as _;

use super::change::list_update;
use super::client::MimiClient;
use super::device::identifier;
use super::error::{Doing as _, GroupFault, MimiError};
use super::group;
use super::store::{KnownRoom, MimiStatus, Request, RequestKind, RequestState, StoredIntent};
use crate::provider::{Provider, crypto};
use nabe_mls::Suite;

impl MimiClient {
    /// Asks for the GroupInfo and makes the external commit, kept and not sent yet.
    pub(super) async fn make_external_commit(
        &mut self,
        room: &KnownRoom,
        intent: &StoredIntent,
        role: Option<u32>,
        code: Option<&[u8]>,
    ) -> Result<(), MimiError> {
        if room.status.is_in() {
            return self.in_transaction(|work, _| work.finish(intent.id, Ok(())));
        }
        let suites = self.device.suites().to_vec();
        let (suite, offer) = self.fetch_group_info(&room.room, code, &suites).await?;
        // Who was taken off the list while this client could not follow does not come back by themselves.
        let is_automatic = room.status == MimiStatus::Stuck && role.is_none() && code.is_none();
        let updates = self.joining_updates(&room.room, &offer, role, is_automatic)?;
        let epoch = offer.group_info.group_context.epoch;
        let group_id = offer.group_info.group_context.group_id.to_vec();
        let full = self.settings.full_group_info;
        self.in_transaction(|work, connection| {
            let mut room = KnownRoom::load_or_new(connection, &room.room)?;
            group::check_id(connection, &room, &group_id)?;
            work.forget_group(&room)?;
            let provider = Provider::new(connection);
            let made = group::join_externally(&provider, work.device, suite, &offer, &updates, full)?;
            let joined = group::load(&provider, &group_id)?.ok_or_else(|| MimiError::NotInGroup(room.room.clone()))?;
            group::check_room(&room.room, joined.public_group().group_context())?;
            room.status = MimiStatus::Joining;
            room.epoch = None;
            room.group_id = Some(group_id);
            room.save(connection)?;
            let request = Request {
                room: room.room.clone(),
                intent: intent.id,
                kind: RequestKind::External,
                epoch,
                message: made.message,
                body: made.request,
                seen: 0,
                clears_the_way: false,
                state: RequestState::Ready,
            };
            Ok(request.save(connection)?)
        })
    }

    /// The GroupInfo, the tree and the pending proposals, if the hub gives them out, and the suite of the room's group, which is not known
    /// before. A question by any suite that the hub signs by has an answer (MIMI #claim-group-key-information); other hubs answer by the
    /// group's alone, so each is tried.
    pub(super) async fn fetch_group_info(
        &mut self,
        room: &MimiUri,
        code: Option<&[u8]>,
        suites: &[Suite],
    ) -> Result<(Suite, GroupInfoRatchetTreeTbe), MimiError> {
        for suite in suites.iter().copied() {
            let seed: Vec<u8> = crypto().random_vec(32).doing("making a key")?;
            let keys = crypto()
                .derive_hpke_keypair(suite.ciphersuite().hpke_config(), &seed)
                .doing("making a key")?;
            let signer = self.device.signer(suite)?;
            let request = GroupInfoRequestTbs {
                cipher_suite: CipherSuite(suite.id()),
                requesting_signature_key: signer.public().into(),
                requesting_credential: self.device.credential(),
                group_info_public_key: keys.public.into(),
                joining_code: code.map(Into::into),
            };
            let request = request.sign(signer).doing("asking for a GroupInfo")?.to_bytes();
            let response = self.transport.group_info(room, &request).await?;
            let response = GroupInfoResponse::from_bytes(&response)?;
            match &response.outcome {
                GroupInfoOutcome::Success(_) => {}
                GroupInfoOutcome::Refused(GroupInfoCode::NO_SUCH_ROOM) => {
                    return Err(MimiError::UnknownRoom(room.clone()));
                }
                GroupInfoOutcome::Refused(_) => continue,
            }
            let offer = open(response, room, &keys.private)?;
            let group_suite = Suite::from_id(offer.group_info.group_context.cipher_suite.0);
            let group_suite = group_suite.filter(|suite| self.device.suites().contains(suite));
            let group_suite = group_suite.ok_or_else(|| group::unsound(room, GroupFault::Suite))?;
            return Ok((group_suite, offer));
        }
        Err(MimiError::NotAuthorized(room.clone()))
    }

    /// Somebody who is not on the list puts themselves there.
    fn joining_updates(
        &self,
        room: &MimiUri,
        offer: &GroupInfoRatchetTreeTbe,
        role: Option<u32>,
        must_be_listed: bool,
    ) -> Result<Vec<AppDataUpdate>, MimiError> {
        let fault = |fault| group::unsound(room, fault);
        let dictionary = Extension::app_data_dictionary(&offer.group_info.group_context.extensions);
        let dictionary = dictionary
            .ok_or_else(|| fault(GroupFault::OtherRoom))?
            .map_err(|_| fault(GroupFault::OtherRoom))?;
        let list = dictionary.data(ComponentId::PARTICIPANT_LIST);
        let list = list.ok_or_else(|| fault(GroupFault::OtherRoom))?;
        let user = identifier(&self.device.user);
        let list = ParticipantListData::from_bytes(list)?;
        if list.participants.iter().any(|pair| pair.user == user) {
            return Ok(Vec::new());
        }
        if must_be_listed {
            return Err(MimiError::NotInGroup(room.clone()));
        }
        let role_index = match role {
            Some(role) => role,
            None => {
                let policy = Policy::new(identifier(room), &dictionary).map_err(|_| fault(GroupFault::Policy))?;
                let preauthorized = policy.preauthorized_role(&Claims::of(&self.device.credential()));
                let outsider = policy.roles().outsider();
                let mut roles = policy.roles().iter().map(|(index, _)| index);
                let open = roles.find(|role| *role != NO_ROLE && outsider.may_change(NO_ROLE, *role));
                let first = preauthorized.or(open);
                first.ok_or_else(|| MimiError::NoRoleOpen(room.clone()))?
            }
        };
        Ok(vec![list_update(&ParticipantListUpdate {
            changed_role_participants: Vec::new(),
            removed_indices: Vec::new(),
            added_participants: vec![UserRolePair { user, role_index }],
        })])
    }
}

/// Checks and opens what the hub answered. Its key has to be that of the group's first external sender (D-response-key).
fn open(response: GroupInfoResponse, room: &MimiUri, private_key: &[u8]) -> Result<GroupInfoRatchetTreeTbe, MimiError> {
    let fault = |fault| group::unsound(room, fault);
    if response.room_id != identifier(room) {
        return Err(fault(GroupFault::Signature));
    }
    let granted = response.verify(crypto()).map_err(|_| fault(GroupFault::Signature))?;
    let offer = granted
        .open(crypto(), private_key)
        .map_err(|_| fault(GroupFault::Sealing))?;
    let context = &offer.group_info.group_context;
    let senders = group::senders_in(&context.extensions)?;
    if senders.first() != Some(&granted.sealed.hub_sender) {
        return Err(fault(GroupFault::NotTheHub));
    }
    Ok(offer)
}
