//! Every capability of the registry: who can enforce it, and what it drives (MRP #caps).

use nabe_wire::policy::Capability;

use super::Rejection;

/// Who can make sure that a capability is kept to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// The hub sees what the capability is about, or could if requests said of which room a file is (D-assets-hub). Named is the rule that
    /// refuses without it, which of files clients ask.
    Hub(Rejection),
    /// It is about what stands in encrypted messages or happens in clients: other clients see it, the hub does not.
    Clients,
    /// Reserved by the draft for something that MIMI does not have yet. Nothing can be done with it or for want of it.
    Nobody,
}

/// Who enforces a capability; [`Enforcement::Clients`] for those that are private or of a later draft.
pub fn enforcement(capability: Capability) -> Enforcement {
    let entry = CAPABILITIES.iter().find(|(named, _)| *named == capability);
    entry.map_or(Enforcement::Clients, |(_, enforcement)| *enforcement)
}

/// The registry (MRP #new-mimi-role-capabilities-registry) in its order. Of the reserved ones the hub enforces those without
/// which nobody could change the policy they name (D-reserved-capabilities).
pub const CAPABILITIES: &[(Capability, Enforcement)] = {
    use Enforcement::{Clients, Hub, Nobody};
    use Rejection as No;
    &[
        (Capability::CAN_ADD_PARTICIPANT, Hub(No::CannotAddParticipant)),
        (Capability::CAN_REMOVE_PARTICIPANT, Hub(No::CannotRemoveParticipant)),
        (Capability::CAN_ADD_OWN_CLIENT, Hub(No::CannotAddOwnClient)),
        (Capability::CAN_REMOVE_OWN_CLIENT, Hub(No::CannotRemoveOwnClient)),
        (Capability::CAN_OPEN_JOIN, Hub(No::CannotOpenJoin)),
        (
            Capability::CAN_JOIN_IF_PREAUTHORIZED,
            Hub(No::CannotJoinIfPreauthorized),
        ),
        (Capability::CAN_REMOVE_SELF, Hub(No::CannotRemoveSelf)),
        (Capability::CAN_CREATE_JOIN_CODE, Hub(No::CannotCreateJoinCode)),
        (Capability::CAN_DELETE_JOIN_CODE, Hub(No::CannotDeleteJoinCode)),
        (Capability::CAN_USE_JOIN_CODE, Hub(No::CannotUseJoinCode)),
        (Capability::CAN_BAN, Hub(No::CannotBan)),
        (Capability::CAN_UNBAN, Hub(No::CannotUnban)),
        (Capability::CAN_KICK, Hub(No::CannotKick)),
        (Capability::CAN_KNOCK, Nobody),
        (Capability::CAN_ACCEPT_KNOCK, Nobody),
        (Capability::CAN_CHANGE_USER_ROLE, Hub(No::CannotChangeUserRole)),
        (Capability::CAN_CHANGE_OWN_ROLE, Hub(No::CannotChangeOwnRole)),
        (Capability::CAN_CREATE_SUBGROUP, Nobody),
        (Capability::CAN_SEND_MESSAGE, Hub(No::CannotSendMessage)),
        (Capability::CAN_RECEIVE_MESSAGE, Hub(No::CannotReceiveMessage)),
        (Capability::CAN_COPY_MESSAGE, Clients),
        (Capability::CAN_REPORT_ABUSE, Hub(No::CannotReportAbuse)),
        (Capability::CAN_REPLY_TO_MESSAGE, Clients),
        (Capability::CAN_REACT_TO_MESSAGE, Clients),
        (Capability::CAN_EDIT_REACTION, Clients),
        (Capability::CAN_DELETE_OWN_REACTION, Clients),
        (Capability::CAN_DELETE_OTHER_REACTION, Clients),
        (Capability::CAN_EDIT_OWN_MESSAGE, Clients),
        (Capability::CAN_DELETE_OWN_MESSAGE, Clients),
        (Capability::CAN_DELETE_OTHER_MESSAGE, Clients),
        (Capability::CAN_START_TOPIC, Clients),
        (Capability::CAN_REPLY_IN_TOPIC, Clients),
        (Capability::CAN_EDIT_OWN_TOPIC, Clients),
        (Capability::CAN_EDIT_OTHER_TOPIC, Clients),
        (Capability::CAN_SEND_DIRECT_MESSAGE, Nobody),
        (Capability::CAN_TARGET_MESSAGE, Nobody),
        (Capability::CAN_UPLOAD_IMAGE, Hub(No::CannotUploadImage)),
        (Capability::CAN_UPLOAD_AUDIO, Hub(No::CannotUploadAudio)),
        (Capability::CAN_UPLOAD_VIDEO, Hub(No::CannotUploadVideo)),
        (Capability::CAN_UPLOAD_ATTACHMENT, Hub(No::CannotUploadAttachment)),
        (Capability::CAN_DOWNLOAD_IMAGE, Hub(No::CannotDownloadImage)),
        (Capability::CAN_DOWNLOAD_AUDIO, Hub(No::CannotDownloadAudio)),
        (Capability::CAN_DOWNLOAD_VIDEO, Hub(No::CannotDownloadVideo)),
        (Capability::CAN_DOWNLOAD_ATTACHMENT, Hub(No::CannotDownloadAttachment)),
        (Capability::CAN_SEND_LINK, Clients),
        (Capability::CAN_SEND_LINK_PREVIEW, Clients),
        (Capability::CAN_FOLLOW_LINK, Clients),
        (Capability::CAN_COPY_LINK, Clients),
        (Capability::CAN_CHANGE_ROOM_NAME, Hub(No::CannotChangeRoomName)),
        (
            Capability::CAN_CHANGE_ROOM_DESCRIPTION,
            Hub(No::CannotChangeRoomDescription),
        ),
        (Capability::CAN_CHANGE_ROOM_AVATAR, Hub(No::CannotChangeRoomAvatar)),
        (Capability::CAN_CHANGE_ROOM_SUBJECT, Hub(No::CannotChangeRoomSubject)),
        (Capability::CAN_CHANGE_ROOM_MOOD, Hub(No::CannotChangeRoomMood)),
        (Capability::CAN_CHANGE_OWN_NAME, Nobody),
        (Capability::CAN_CHANGE_OWN_PRESENCE, Nobody),
        (Capability::CAN_CHANGE_OWN_MOOD, Nobody),
        (Capability::CAN_CHANGE_OWN_AVATAR, Nobody),
        (Capability::CAN_START_CALL, Clients),
        (Capability::CAN_JOIN_CALL, Clients),
        (Capability::CAN_SEND_AUDIO, Clients),
        (Capability::CAN_RECEIVE_AUDIO, Clients),
        (Capability::CAN_SEND_VIDEO, Clients),
        (Capability::CAN_RECEIVE_VIDEO, Clients),
        (Capability::CAN_SHARE_SCREEN, Clients),
        (Capability::CAN_VIEW_SHARED_SCREEN, Clients),
        (Capability::CAN_CREATE_ROOM, Nobody),
        (Capability::CAN_DESTROY_ROOM, Hub(No::CannotDestroyRoom)),
        (
            Capability::CAN_CHANGE_ROOM_MEMBERSHIP_STYLE,
            Hub(No::CannotChangeMembershipStyle),
        ),
        (
            Capability::CAN_CHANGE_ROLE_DEFINITIONS,
            Hub(No::CannotChangeRoleDefinitions),
        ),
        (
            Capability::CAN_CHANGE_PREAUTHORIZED_USER_LIST,
            Hub(No::CannotChangePreauthorizedUserList),
        ),
        (
            Capability::CAN_CHANGE_OTHER_POLICY_ATTRIBUTE,
            Hub(No::CannotChangeOtherPolicy),
        ),
        (
            Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES,
            Hub(No::CannotChangeOperationalPolicies),
        ),
        (Capability::CAN_SEND_MLS_REINIT_PROPOSAL, Hub(No::CannotReinit)),
        (Capability::CAN_SEND_MLS_UPDATE_PROPOSAL, Nobody),
        (Capability::CAN_SEND_MLS_PSK_PROPOSAL, Nobody),
        (Capability::CAN_SEND_MLS_EXTERNAL_PROPOSAL, Nobody),
        (Capability::CAN_SEND_MLS_EXTERNAL_COMMIT, Nobody),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_registry() {
        let named: Vec<Capability> = (0..=u16::MAX)
            .map(Capability)
            .filter(|it| it.name().is_some())
            .collect();
        let listed: Vec<Capability> = CAPABILITIES.iter().map(|(capability, _)| *capability).collect();
        assert_eq!(listed, named);
    }

    #[test]
    fn each_capability_the_hub_enforces_has_a_rule_that_names_it() {
        for (capability, enforcement) in CAPABILITIES {
            if let Enforcement::Hub(rejection) = enforcement {
                assert_eq!(rejection.capability(), Some(*capability));
            }
        }
        for rejection in Rejection::ALL {
            if let Some(capability) = rejection.capability() {
                assert_eq!(enforcement(capability), Enforcement::Hub(*rejection));
            }
        }
        assert_eq!(enforcement(Capability(0xf000)), Enforcement::Clients);
    }
}
