//! What each role may do: MRP #roles and MRP #caps.

use crate::codec::{Text, open_enum, wire_struct};

open_enum! {
    /// `CapabilityType` (MRP #new-mimi-role-capabilities-registry). 0xF000 and above are for private use.
    pub struct Capability(u16) {
        /// Put someone else on the list, and add their clients.
        CAN_ADD_PARTICIPANT = 0x0000 "canAddParticipant",
        /// Take someone else off the list, with all of their clients.
        CAN_REMOVE_PARTICIPANT = 0x0001 "canRemoveParticipant",
        /// Add clients of one's own.
        CAN_ADD_OWN_CLIENT = 0x0002 "canAddOwnClient",
        /// Remove clients of one's own, and stay on the list.
        CAN_REMOVE_OWN_CLIENT = 0x0003 "canRemoveOwnClient",
        /// Put oneself on the list. For role 0 alone.
        CAN_OPEN_JOIN = 0x0004 "canOpenJoin",
        /// Be joined by those whom the preauthorization gives this role.
        CAN_JOIN_IF_PREAUTHORIZED = 0x0005 "canJoinIfPreauthorized",
        /// Leave.
        CAN_REMOVE_SELF = 0x0006 "canRemoveSelf",
        /// Make join codes. Reserved: the draft only names it.
        CAN_CREATE_JOIN_CODE = 0x0007 "canCreateJoinCode",
        /// Delete join codes. Reserved: the draft only names it.
        CAN_DELETE_JOIN_CODE = 0x0008 "canDeleteJoinCode",
        /// Join by a code.
        CAN_USE_JOIN_CODE = 0x0009 "canUseJoinCode",
        /// Give someone the role `banned` and remove their clients.
        CAN_BAN = 0x000a "canBan",
        /// Give someone another role than `banned`; `canUnban` in the draft's text.
        CAN_UNBAN = 0x000b "canUnBan",
        /// Remove someone's clients and leave them on the list.
        CAN_KICK = 0x000c "canKick",
        /// Ask to be let in. Reserved: the draft only names it.
        CAN_KNOCK = 0x000d "canKnock",
        /// Let someone in who asks. Reserved: the draft only names it.
        CAN_ACCEPT_KNOCK = 0x000e "canAcceptKnock",
        /// Give someone else another role.
        CAN_CHANGE_USER_ROLE = 0x000f "canChangeUserRole",
        /// Take the role that the preauthorization gives.
        CAN_CHANGE_OWN_ROLE = 0x0010 "canChangeOwnRole",
        /// Make a group within the group. Reserved: the draft only names it.
        CAN_CREATE_SUBGROUP = 0x0011 "canCreateSubgroup",
        /// Send messages.
        CAN_SEND_MESSAGE = 0x0100 "canSendMessage",
        /// Receive messages.
        CAN_RECEIVE_MESSAGE = 0x0101 "canReceiveMessage",
        /// Copy from messages.
        CAN_COPY_MESSAGE = 0x0102 "canCopyMessage",
        /// Report messages.
        CAN_REPORT_ABUSE = 0x0103 "canReportAbuse",
        /// Reply.
        CAN_REPLY_TO_MESSAGE = 0x0104 "canReplyToMessage",
        /// React.
        CAN_REACT_TO_MESSAGE = 0x0105 "canReactToMessage",
        /// Change one's own reaction.
        CAN_EDIT_REACTION = 0x0106 "canEditReaction",
        /// Take back one's own reaction.
        CAN_DELETE_OWN_REACTION = 0x0107 "canDeleteOwnReaction",
        /// Delete someone's reaction.
        CAN_DELETE_OTHER_REACTION = 0x0108 "canDeleteOtherReaction",
        /// Edit one's own messages.
        CAN_EDIT_OWN_MESSAGE = 0x0109 "canEditOwnMessage",
        /// Delete one's own messages.
        CAN_DELETE_OWN_MESSAGE = 0x010a "canDeleteOwnMessage",
        /// Delete someone's messages.
        CAN_DELETE_OTHER_MESSAGE = 0x010b "canDeleteOtherMessage",
        /// Give a message a topic.
        CAN_START_TOPIC = 0x010c "canStartTopic",
        /// Reply within a topic.
        CAN_REPLY_IN_TOPIC = 0x010d "canReplyInTopic",
        /// Change the topic of one's own message.
        CAN_EDIT_OWN_TOPIC = 0x010e "canEditOwnTopic",
        /// Change the topic of someone's message.
        CAN_EDIT_OTHER_TOPIC = 0x010f "canEditOtherTopic",
        /// Write to one person. Reserved: the draft only names it.
        CAN_SEND_DIRECT_MESSAGE = 0x0110 "canSendDirectMessage",
        /// Target a message. Reserved: the draft only names it.
        CAN_TARGET_MESSAGE = 0x0111 "canTargetMessage",
        /// Send pictures.
        CAN_UPLOAD_IMAGE = 0x0200 "canUploadImage",
        /// Send sounds.
        CAN_UPLOAD_AUDIO = 0x0201 "canUploadAudio",
        /// Send films.
        CAN_UPLOAD_VIDEO = 0x0202 "canUploadVideo",
        /// Send files.
        CAN_UPLOAD_ATTACHMENT = 0x0203 "canUploadAttachment",
        /// Fetch pictures.
        CAN_DOWNLOAD_IMAGE = 0x0204 "canDownloadImage",
        /// Fetch sounds.
        CAN_DOWNLOAD_AUDIO = 0x0205 "canDownloadAudio",
        /// Fetch films.
        CAN_DOWNLOAD_VIDEO = 0x0206 "canDownloadVideo",
        /// Fetch files.
        CAN_DOWNLOAD_ATTACHMENT = 0x0207 "canDownloadAttachment",
        /// Send links.
        CAN_SEND_LINK = 0x0208 "canSendLink",
        /// Send links with a preview.
        CAN_SEND_LINK_PREVIEW = 0x0209 "canSendLinkPreview",
        /// Open links.
        CAN_FOLLOW_LINK = 0x020a "canFollowLink",
        /// Copy links.
        CAN_COPY_LINK = 0x020b "canCopyLink",
        /// Change the room's name.
        CAN_CHANGE_ROOM_NAME = 0x0300 "canChangeRoomName",
        /// Change the room's description.
        CAN_CHANGE_ROOM_DESCRIPTION = 0x0301 "canChangeRoomDescription",
        /// Change the room's picture.
        CAN_CHANGE_ROOM_AVATAR = 0x0302 "canChangeRoomAvatar",
        /// Change the room's subject.
        CAN_CHANGE_ROOM_SUBJECT = 0x0303 "canChangeRoomSubject",
        /// Change the room's mood.
        CAN_CHANGE_ROOM_MOOD = 0x0304 "canChangeRoomMood",
        /// Change one's own name. Reserved: the draft only names it.
        CAN_CHANGE_OWN_NAME = 0x0380 "canChangeOwnName",
        /// Change one's own presence. Reserved: the draft only names it.
        CAN_CHANGE_OWN_PRESENCE = 0x0381 "canChangeOwnPresence",
        /// Change one's own mood. Reserved: the draft only names it.
        CAN_CHANGE_OWN_MOOD = 0x0382 "canChangeOwnMood",
        /// Change one's own picture. Reserved: the draft only names it.
        CAN_CHANGE_OWN_AVATAR = 0x0383 "canChangeOwnAvatar",
        /// Begin a call.
        CAN_START_CALL = 0x0400 "canStartCall",
        /// Join a call.
        CAN_JOIN_CALL = 0x0401 "canJoinCall",
        /// Be heard in a call.
        CAN_SEND_AUDIO = 0x0402 "canSendAudio",
        /// Hear a call.
        CAN_RECEIVE_AUDIO = 0x0403 "canReceiveAudio",
        /// Be seen in a call.
        CAN_SEND_VIDEO = 0x0404 "canSendVideo",
        /// See a call.
        CAN_RECEIVE_VIDEO = 0x0405 "canReceiveVideo",
        /// Show one's screen.
        CAN_SHARE_SCREEN = 0x0406 "canShareScreen",
        /// See a screen.
        CAN_VIEW_SHARED_SCREEN = 0x0407 "canViewSharedScreen",
        /// Make a room. Reserved: the draft only names it.
        CAN_CREATE_ROOM = 0x0500 "canCreateRoom",
        /// Destroy the room.
        CAN_DESTROY_ROOM = 0x0501 "canDestroyRoom",
        /// Change the base policy.
        CAN_CHANGE_ROOM_MEMBERSHIP_STYLE = 0x0502 "canChangeRoomMembershipStyle",
        /// Change the roles.
        CAN_CHANGE_ROLE_DEFINITIONS = 0x0503 "canChangeRoleDefinitions",
        /// Change the preauthorization.
        CAN_CHANGE_PREAUTHORIZED_USER_LIST = 0x0504 "canChangePreauthorizedUserList",
        /// Change other policy. Reserved: the draft only names it.
        CAN_CHANGE_OTHER_POLICY_ATTRIBUTE = 0x0505 "canChangeOtherPolicyAttribute",
        /// Change how the group is run. Reserved: the draft only names it.
        CAN_CHANGE_MLS_OPERATIONAL_POLICIES = 0x0600 "canChangeMlsOperationalPolicies",
        /// Propose to begin a new group.
        CAN_SEND_MLS_REINIT_PROPOSAL = 0x0601 "canSendMLSReinitProposal",
        /// Propose a new leaf of one's own. Reserved: the draft only names it.
        CAN_SEND_MLS_UPDATE_PROPOSAL = 0x0602 "canSendMLSUpdateProposal",
        /// Propose a pre-shared key. Reserved: the draft only names it.
        CAN_SEND_MLS_PSK_PROPOSAL = 0x0603 "canSendMLSPSKProposal",
        /// Propose from outside. Reserved: the draft only names it.
        CAN_SEND_MLS_EXTERNAL_PROPOSAL = 0x0604 "canSendMLSExternalProposal",
        /// Join by oneself. Reserved: the draft only names it.
        CAN_SEND_MLS_EXTERNAL_COMMIT = 0x0605 "canSendMLSExternalCommit",
    }
}

wire_struct! {
    /// `SingleSourceRoleChangeTargets`
    pub struct SingleSourceRoleChangeTargets {
        /// Of those who have this role; 0 for those who are not on the list.
        pub from_role_index: u32,
        /// To one of these; 0 to take them off the list.
        pub target_role_indexes: Vec<u32>,
    }
}

wire_struct! {
    /// `Role`
    pub struct Role {
        /// By which it is named elsewhere; there may be gaps. 0 is that of everyone who is not on the list.
        pub role_index: u32,
        /// For people; `banned` for role 1 if there is such a role.
        pub role_name: Text,
        /// For people; may be empty.
        pub role_description: Text,
        /// What it may do.
        pub role_capabilities: Vec<Capability>,
        /// At least so many have it.
        pub minimum_participants_constraint: u32,
        /// At most so many have it.
        pub maximum_participants_constraint: Option<u32>,
        /// At least so many of them have clients in the group.
        pub minimum_active_participants_constraint: u32,
        /// At most so many of them have clients in the group.
        pub maximum_active_participants_constraint: Option<u32>,
        /// Which changes of role it may make.
        pub authorized_role_changes: Vec<SingleSourceRoleChangeTargets>,
    }
}

wire_struct! {
    /// `RoleData`: the data of the component `roles_list`.
    pub struct RoleData {
        /// In any order.
        pub roles: Vec<Role>,
    }
}
