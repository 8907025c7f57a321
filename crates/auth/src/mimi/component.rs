//! Changes of every component but the participant list: which capability each takes, and which changes exclude each other in one
//! commit (MRP #disruptive-policy-changes, MRP #adjust-metadata, MRP #reserved-capabilities, MLSX #appdataupdate).

use std::sync::Arc;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{AppDataUpdate, ComponentId};
use nabe_wire::policy::{Capability, JoinLinksUpdate};
use nabe_wire::{Encode, IdentifierUri};

use super::left_over::LeftOver;
use super::pending::View;
use super::policy::{Policy, read};
use super::proposal::Authority;
use super::{Rejection, metadata};

/// Judges a change and puts it into effect.
pub(super) fn authorize(
    view: &mut View<'_>,
    authority: &Authority<'_>,
    update: &AppDataUpdate,
) -> Result<(), Rejection> {
    let changed = Changed::new(view, update)?;
    if !(authority.is_hub() && changed.is_left_over(authority.around.left_over)) {
        changed.is_one(view)?;
        authorize_change(view, authority, update, &changed)?;
    }
    changed.apply(view)
}

/// Puts a change into effect that was judged before.
pub(super) fn apply(view: &mut View<'_>, update: &AppDataUpdate) -> Result<(), Rejection> {
    Changed::new(view, update)?.apply(view)
}

/// The update is one that an external commit left over, which the hub proposes again.
pub(super) fn is_left_over(view: &View<'_>, left_over: &LeftOver, update: &AppDataUpdate) -> bool {
    Changed::new(view, update).is_ok_and(|changed| changed.is_left_over(left_over))
}

/// Roles change in no commit that changes the list, preauthorization only beside removals (MRP #roles, MRP #preauth).
pub(super) fn go_together(view: &View<'_>) -> Result<(), Rejection> {
    if view.list_changed() && view.operation(ComponentId::ROLES_LIST).is_some() {
        return Err(Rejection::RolesWithListChange);
    }
    if view.list_changed_beyond_removals() && view.operation(ComponentId::PREAUTH_LIST).is_some() {
        return Err(Rejection::PreauthWithListChange);
    }
    Ok(())
}

/// New group context extensions: the hub may keep its followers among `external_senders`, others need the capability for running the
/// group. The dictionary stays as it was committed (MIMI #authenticating-proposals).
pub(super) fn authorize_extensions(
    view: &View<'_>,
    authority: &Authority<'_>,
    dictionary: &AppDataDictionary,
) -> Result<(), Rejection> {
    if !authority.is_hub() {
        authority.needs(
            Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES,
            Rejection::CannotChangeOperationalPolicies,
        )?;
    }
    let list = view.committed.to_data().to_bytes();
    let mut rest = dictionary.clone();
    let is_same_list = rest
        .remove(ComponentId::PARTICIPANT_LIST)
        .is_some_and(|it| *it == *list);
    if !is_same_list || rest != *view.committed_policy().dictionary() {
        return Err(Rejection::DictionaryByExtensions);
    }
    Ok(())
}

/// What a component is to be.
struct Changed {
    component: ComponentId,
    /// `None` if it is removed.
    data: Option<Bytes>,
    links: Option<JoinLinksUpdate>,
}

impl Changed {
    fn new(view: &View<'_>, update: &AppDataUpdate) -> Result<Self, Rejection> {
        let component = update.component_id;
        let earlier = view.operation(component);
        let Some(bytes) = &update.update else {
            return match earlier {
                Some(true) => Err(Rejection::UpdateAndRemove),
                _ if component == ComponentId::ROLES_LIST => Err(Rejection::ComponentRequired),
                // What counts is the commit's beginning: what was left over may have taken effect without being committed.
                _ if earlier == Some(false) || view.committed_policy().dictionary().data(component).is_none() => {
                    Err(Rejection::ComponentAbsent)
                }
                _ => Ok(Self {
                    component,
                    data: None,
                    links: None,
                }),
            };
        };
        if earlier == Some(false) {
            return Err(Rejection::UpdateAndRemove);
        }
        if component == ComponentId::ROOM_METADATA && earlier.is_some() {
            return Err(Rejection::MetadataTwice);
        }
        if component != ComponentId::JOIN_LINKS {
            return Ok(Self {
                component,
                data: Some(bytes.clone()),
                links: None,
            });
        }
        // As in the participant list, places are those in the list as it was when the epoch began (D-list-indices).
        let links: JoinLinksUpdate = read(bytes)?;
        let committed = view.committed_policy().join_links();
        let mut removed = view.removed_links();
        for index in &links.removed_indices {
            let is_there = usize::try_from(*index).is_ok_and(|index| index < committed.len());
            if !is_there || !removed.insert(*index) {
                return Err(Rejection::JoinLinkIndex);
            }
        }
        let mut added = view.added_links();
        added.extend(links.added_links.iter().cloned());
        Ok(Self {
            component,
            data: Some(view.committed_policy().changed_join_links(&removed, &added)),
            links: Some(links),
        })
    }

    fn is_left_over(&self, left_over: &LeftOver) -> bool {
        left_over.components.get(&self.component) == Some(&self.data)
    }

    /// Something is different afterwards. What changes nothing would only keep others from changing it.
    fn is_one(&self, view: &View<'_>) -> Result<(), Rejection> {
        let is_empty = self
            .links
            .as_ref()
            .is_some_and(|links| links.removed_indices.is_empty() && links.added_links.is_empty());
        if is_empty || view.component(self.component) == self.data.as_deref() {
            return Err(Rejection::NoChange);
        }
        Ok(())
    }

    fn apply(self, view: &mut View<'_>) -> Result<(), Rejection> {
        let policy = view.policy().with(self.component, self.data.clone())?;
        view.set_policy(Arc::new(policy));
        let own = view.own_mut();
        own.components.insert(self.component, self.data.is_some());
        if let Some(links) = self.links {
            own.removed_links.extend(links.removed_indices);
            own.added_links.extend(links.added_links);
        }
        Ok(())
    }
}

fn authorize_change(
    view: &View<'_>,
    authority: &Authority<'_>,
    update: &AppDataUpdate,
    changed: &Changed,
) -> Result<(), Rejection> {
    match update.component_id {
        ComponentId::ROOM_METADATA => {
            let after = changed.data.as_deref().map(read).transpose()?;
            let role = authority.role().ok_or(Rejection::SenderWithoutRole)?;
            metadata::authorize_change(view.policy().metadata(), after.as_ref(), role)
        }
        ComponentId::JOIN_LINKS => {
            let (adds, removes) = match &changed.links {
                Some(links) => (!links.added_links.is_empty(), !links.removed_indices.is_empty()),
                None => (false, true),
            };
            let needs = |is_needed: bool, rejection: Rejection| match rejection.capability() {
                Some(capability) if is_needed && !authority.can(Capability::CAN_CHANGE_OTHER_POLICY_ATTRIBUTE) => {
                    authority.needs(capability, rejection)
                }
                _ => Ok(()),
            };
            needs(removes, Rejection::CannotDeleteJoinCode)?;
            needs(adds, Rejection::CannotCreateJoinCode)
        }
        // The hub announces its own key.
        ComponentId::FRANKING_AGENT if authority.is_hub() => Ok(()),
        component => {
            let rejection = missing(component, &authority.policy);
            match rejection.capability() {
                Some(capability) => authority.needs(capability, rejection),
                None => Err(rejection),
            }
        }
    }
}

/// The rule that refuses a change of this component to whoever lacks its capability.
fn missing(component: ComponentId, policy: &Policy) -> Rejection {
    match component {
        ComponentId::ROLES_LIST => Rejection::CannotChangeRoleDefinitions,
        ComponentId::PREAUTH_LIST => Rejection::CannotChangePreauthorizedUserList,
        ComponentId::BASE_ROOM_POLICY => Rejection::CannotChangeMembershipStyle,
        ComponentId::MLS_OPERATIONAL_POLICY
        | ComponentId::FRANKING_AGENT
        | ComponentId::APP_COMPONENTS
        | ComponentId::SAFE_AAD
        | ComponentId::CONTENT_MEDIA_TYPES => Rejection::CannotChangeOperationalPolicies,
        ComponentId::STATUS_NOTIFICATION_POLICY
        | ComponentId::JOIN_LINK_POLICY
        | ComponentId::LINK_PREVIEW_POLICY
        | ComponentId::ASSET_POLICY
        | ComponentId::LOGGING_POLICY
        | ComponentId::CHAT_HISTORY_POLICY
        | ComponentId::BOT_POLICY
        | ComponentId::MESSAGE_EXPIRATION_POLICY => Rejection::CannotChangeOtherPolicy,
        other if policy.base().policy_component_ids.contains(&other) => Rejection::CannotChangeOtherPolicy,
        _ => Rejection::ComponentUnknown,
    }
}

/// Whether a user is on the list of the room that this one depends on.
pub(super) fn takes_part(view: &View<'_>, user: &IdentifierUri) -> bool {
    let role = view.standing(user).role;
    role != super::roles::NO_ROLE && !view.policy().roles().is_ban(role)
}
