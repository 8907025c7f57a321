//! Why the policy of a MIMI room refuses something: one variant per rule.

use std::fmt;

use nabe_wire::policy::Capability;

/// One table for variant, rule, section, missing capability and sentence.
macro_rules! rejections {
    ($($variant:ident $rule:literal $section:literal $($capability:ident)? : $text:literal)*) => {
        /// The rule by which a proposal, a commit or a request was refused.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Rejection {
            $(
                #[doc = concat!("`", $rule, "` (", $section, "): ", $text, ".")]
                $variant,
            )*
        }

        impl Rejection {
            /// Every rejection there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The rule's name in logs, metrics and vectors. It does not change.
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$variant => $rule,)*
                }
            }

            /// Where the draft has the rule, or where it leaves the gap that the rule fills: `MRP` is the room policy, `MIMI` the
            /// protocol, `MLSX` the extensions of MLS.
            pub const fn section(self) -> &'static str {
                match self {
                    $(Self::$variant => $section,)*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The capability that the role lacks, if that is the reason.
            pub const fn capability(self) -> Option<Capability> {
                match self {
                    $(Self::$variant => rejections!(@capability $($capability)?),)*
                }
            }
        }
    };
    (@capability) => { None };
    (@capability $capability:ident) => { Some(Capability::$capability) };
}

/// What is wrong and what to do instead, with the capability that it takes.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self.capability().and_then(Capability::name) {
            Some(capability) => write!(f, " (it takes {capability})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

rejections! {
    // Who proposes.
    RoomOver "room-over" "MRP #base-room-policy-component-syntax": "the last client has left, and the room is not persistent; make another room"
    UnknownLeaf "unknown-leaf" "MRP #membership-capabilities": "no client of the room has this leaf; fetch the current tree"
    ProposerRemoved "proposer-removed" "MIMI #update-room-state": "the user is not on the list and can only remove clients of their own"
    ProposerBanned "proposer-banned" "MIMI #update-room-state": "the user is banned and can only remove clients of their own"
    SenderWithoutRole "external-sender-role" "MRP #preauth": "no entry of preauth_list gives this external sender a role; it needs one"
    ExternalProposalsOff "external-proposals-off" "MRP #operational": "the room takes no proposals from outside; ask a member to propose it"
    ExternalCommitsOff "external-commits-off" "MRP #operational": "the room takes no external commits; ask a member to add you"
    HandshakeFormat "handshake-format" "MRP #operational": "the room does not take proposals and commits in this wire format"
    ProposalTypeForbidden "proposal-type-forbidden" "MRP #operational": "the room forbids proposals of this type"
    ProposalTypeUnknown "proposal-type-unknown" "MRP #operational": "nothing in the policy allows proposals of this type"
    ProposalFromOutside "proposal-from-outside" "MRP #membership-capabilities": "this type of proposal is not for those outside of the group"
    NoChange "no-change" "MIMI #room-state": "nothing would be different afterwards"
    PendingFull "pending-full" "MIMI #proposal-commit-paradigm": "as many proposals are pending as may be; commit them"
    CannotReinit "can-send-mls-reinit-proposal" "MRP #disruptive-policy-changes" CAN_SEND_MLS_REINIT_PROPOSAL: "the role cannot propose a new group"

    // The participant list.
    ListIndex "list-index" "MIMI #participant-list": "the list has no user at this index; count in the list as it was when the epoch began"
    UserTouchedTwice "user-touched-twice" "MIMI #participant-list": "the user was already added, removed or given a role in this epoch; wait for a commit"
    UserUri "user-uri" "MIMI #participant-list": "users are listed by their URI, mimi://host/u/name, with the host in lower case"
    UserListed "user-listed" "MRP #adding": "the user is on the list already; change their role instead"
    RoleZero "role-zero" "MRP #roles": "role 0 is that of users who are not on the list; remove the user instead"
    RoleUndefined "role-undefined" "MRP #roles": "roles_list has no such role; use one that it has"
    RoleChangeNotAuthorized "role-change-not-authorized" "MRP #roles": "the role's authorized_role_changes do not list this change"
    FixedMembership "fixed-membership" "MRP #base-room-policy-component-syntax": "nobody comes or goes in a room with fixed membership; make another room"
    ParentUnknown "parent-unknown" "MRP #base-room-policy-component-syntax": "the room depends on a parent, whose list is not at hand"
    NotInParent "not-in-parent" "MRP #base-room-policy-component-syntax": "the user takes no part in the parent room; add them there first"
    NotStrictSubset "not-strict-subset" "MRP #base-room-policy-component-syntax": "a room that depends on a parent has fewer participants than it"
    CannotAddParticipant "can-add-participant" "MRP #adding" CAN_ADD_PARTICIPANT: "the role cannot add users"
    CannotRemoveParticipant "can-remove-participant" "MRP #removing" CAN_REMOVE_PARTICIPANT: "the role cannot remove other users"
    CannotRemoveSelf "can-remove-self" "MRP #removing" CAN_REMOVE_SELF: "the role cannot leave; somebody else has to remove the user"
    CannotChangeUserRole "can-change-user-role" "MRP #role-changes" CAN_CHANGE_USER_ROLE: "the role cannot change the roles of others"
    CannotChangeOwnRole "can-change-own-role" "MRP #role-changes" CAN_CHANGE_OWN_ROLE: "the role cannot change itself; somebody else has to do it"
    OwnRoleNotPreauthorized "own-role-not-preauthorized" "MRP #role-changes": "users give themselves only the first role that preauth_list has for them"
    NoBanRole "no-ban-role" "MRP #role-changes": "nobody can be banned: the room has no role 1 that is named `banned`"
    CannotBan "can-ban" "MRP #role-changes" CAN_BAN: "the role cannot ban"
    CannotUnban "can-unban" "MRP #role-changes" CAN_UNBAN: "the role cannot lift bans"

    // Clients.
    CredentialWithoutUser "credential-without-user" "MIMI #participant-list": "the credential does not say whose client it is"
    ClientOfUnlisted "client-of-unlisted-user" "MIMI #update-room-state": "the client's user is not on the list; add the user before or in the same commit"
    AddsClientsOfOthers "adds-clients-of-others" "MRP #adding": "clients of somebody else are added only with their user; let them join by themselves"
    CannotAddOwnClient "can-add-own-client" "MRP #adding" CAN_ADD_OWN_CLIENT: "the role cannot add clients of its own"
    CannotRemoveOwnClient "can-remove-own-client" "MRP #removing" CAN_REMOVE_OWN_CLIENT: "the role cannot remove clients of its own and stay"
    CannotKick "can-kick" "MRP #removing" CAN_KICK: "the role cannot remove clients of others who stay on the list"
    LeafRemovedTwice "leaf-removed-twice" "MRP #removing": "this client is being removed already"
    LeafUserChanged "leaf-user-changed" "MIMI #participant-list": "a leaf stays that of the same user"
    PseudonymNotAllowed "pseudonym-not-allowed" "MRP #base-room-policy-component-syntax": "the room has no pseudonyms; use a credential that names the user"
    KeyPackageLifetime "key-package-lifetime" "MRP #operational": "the key package is good for longer than the room allows; make one for a shorter time"
    MandatoryCapability "mandatory-capability" "MRP #operational": "the client does not support what the room's operational policy makes mandatory"

    // What must hold afterwards.
    RemovedUserHasClients "removed-user-has-clients" "MRP #removing": "whoever leaves the list takes all of their clients along; remove these, too"
    BannedUserHasClients "banned-user-has-clients" "MRP #role-changes": "whoever is banned has no clients; remove these, too"
    RoleWithoutClients "role-without-clients" "MRP #roles": "users with this role have no clients in the group"
    SecondClient "second-client" "MRP #base-room-policy-component-syntax": "a user has only one client in this room; remove the other one"
    TooManyClients "max-clients" "MRP #base-room-policy-component-syntax": "the room has as many clients as it may have"
    TooManyUsers "max-users" "MRP #base-room-policy-component-syntax": "the room has as many users as it may have"
    ListTooLarge "list-too-large" "MIMI #participant-list": "the list would be longer than what is read of one; remove users first"
    TooFewParticipants "min-participants" "MRP #roles": "too few users would have this role; give it to somebody else first"
    TooManyParticipants "max-participants" "MRP #roles": "as many users have this role as may have it"
    TooFewActive "min-active" "MRP #roles": "too few users with this role would have clients in the group"
    TooManyActive "max-active" "MRP #roles": "as many users with this role have clients in the group as may have them"

    // Joining.
    JoinerBanned "joiner-banned" "MRP #preauth": "a banned user cannot join; the ban has to be lifted first"
    JoinerChangesOthers "joiner-changes-others" "MRP #adding": "who joins can only put themselves on the list and replace their own client"
    CannotOpenJoin "can-open-join" "MRP #adding" CAN_OPEN_JOIN: "the room is not open; ask a participant to add you"
    CannotJoinIfPreauthorized "can-join-if-preauthorized" "MRP #adding" CAN_JOIN_IF_PREAUTHORIZED: "the preauthorized role cannot be joined from outside"
    PreauthorizedForAnotherRole "preauthorized-for-another-role" "MRP #preauth": "join with the first role that preauth_list has for the credential"
    CannotUseJoinCode "can-use-join-code" "MRP #adding" CAN_USE_JOIN_CODE: "the room takes no join codes"
    JoinCodeUnknown "join-code-unknown" "MRP #adding": "this is no join code of the room"
    JoinCodeExpired "join-code-expired" "MRP #adding": "the join code is not good any more; ask for another"
    JoinCodeForAnotherRole "join-code-for-another-role" "MRP #adding": "join with the role that the join code is for"

    // Components.
    ComponentMalformed "component-malformed" "MRP #new-mls-application-components": "the component does not read"
    ComponentUnknown "component-unknown" "MRP #new-mls-application-components": "nothing in the policy allows changing this component; list it in policy_component_ids"
    ComponentRequired "component-required" "MRP #new-mls-application-components": "every room has a participant list and roles"
    ComponentAbsent "component-absent" "MLSX #appdataupdate": "the component has no data that could be removed"
    UpdateAndRemove "update-and-remove" "MLSX #appdataupdate": "a component is either updated or removed in one commit"
    DictionaryByExtensions "dictionary-by-extensions" "MLSX #appdataupdate": "components are changed by AppDataUpdate, not by new group context extensions"
    RolesWithListChange "roles-with-list-change" "MRP #roles": "roles and participants do not change in the same commit"
    PreauthWithListChange "preauth-with-list-change" "MRP #preauth": "preauth_list changes in the same commit with removals from the list only"
    CannotChangeRoleDefinitions "can-change-role-definitions" "MRP #disruptive-policy-changes" CAN_CHANGE_ROLE_DEFINITIONS: "the role cannot change roles_list"
    CannotChangePreauthorizedUserList "can-change-preauthorized-user-list" "MRP #disruptive-policy-changes" CAN_CHANGE_PREAUTHORIZED_USER_LIST: "the role cannot change preauth_list"
    CannotChangeMembershipStyle "can-change-room-membership-style" "MRP #disruptive-policy-changes" CAN_CHANGE_ROOM_MEMBERSHIP_STYLE: "the role cannot change the base policy"
    CannotChangeOtherPolicy "can-change-other-policy-attribute" "MRP #reserved-capabilities" CAN_CHANGE_OTHER_POLICY_ATTRIBUTE: "the role cannot change this policy"
    CannotChangeOperationalPolicies "can-change-mls-operational-policies" "MRP #reserved-capabilities" CAN_CHANGE_MLS_OPERATIONAL_POLICIES: "the role cannot change how the group is run"
    CannotCreateJoinCode "can-create-join-code" "MRP #reserved-capabilities" CAN_CREATE_JOIN_CODE: "the role cannot add join links"
    CannotDeleteJoinCode "can-delete-join-code" "MRP #reserved-capabilities" CAN_DELETE_JOIN_CODE: "the role cannot remove join links"
    MetadataTwice "metadata-twice" "MIMI #room-metadata": "a commit has one update of the metadata; wait for a commit"
    MetadataRoom "metadata-room" "MIMI #room-metadata": "the metadata name another room"
    MetadataAvatar "metadata-avatar" "MIMI #room-metadata": "the room's picture is an https URL or there is none"
    CannotChangeRoomName "can-change-room-name" "MRP #adjust-metadata" CAN_CHANGE_ROOM_NAME: "the role cannot change the room's name"
    CannotChangeRoomDescription "can-change-room-description" "MRP #adjust-metadata" CAN_CHANGE_ROOM_DESCRIPTION: "the role cannot change the room's descriptions"
    CannotChangeRoomAvatar "can-change-room-avatar" "MRP #adjust-metadata" CAN_CHANGE_ROOM_AVATAR: "the role cannot change the room's picture"
    CannotChangeRoomSubject "can-change-room-subject" "MRP #adjust-metadata" CAN_CHANGE_ROOM_SUBJECT: "the role cannot change the room's subject"
    CannotChangeRoomMood "can-change-room-mood" "MRP #adjust-metadata" CAN_CHANGE_ROOM_MOOD: "the role cannot change the room's mood"

    // A policy that contradicts itself.
    RoleIndexTwice "role-index-twice" "MRP #roles": "two roles have the same index"
    RoleTargetUndefined "role-target-undefined" "MRP #roles": "authorized_role_changes name a role that does not exist"
    RoleBoundsReversed "role-bounds-reversed" "MRP #roles": "a role's minimum is above its maximum"
    RoleInUse "role-in-use" "MRP #roles": "users have the role that is taken away; give them another first"
    OpenJoinOnRole "open-join-on-role" "MRP #adding": "canOpenJoin is for role 0 alone"
    FixedMembershipRole "fixed-membership-role" "MRP #base-room-policy-component-syntax": "no role can add users in a room with fixed membership"
    ParentRoom "parent-room" "MRP #base-room-policy-component-syntax": "parent_room is one room of the same hub if the room depends on it, and empty otherwise"
    PreauthRoleUndefined "preauth-role-undefined" "MRP #preauth": "an entry of preauth_list is for a role that does not exist, or for 0 or the ban"
    PreauthWithoutClaims "preauth-without-claims" "MRP #preauth": "an entry of preauth_list without claims would be for everyone; use canOpenJoin"
    JoinLinkIndex "join-link-index" "MRP #join-link": "there is no such join link, or it is removed twice"
    JoinLinkSingle "join-link-single" "MRP #join-link": "with on_request there is at most one join link"
    HistoryRole "history-role" "MRP #history": "history is shared by roles that exist and have clients"
    BotRole "bot-role" "MRP #bots": "a bot has a role that exists, and a bot of one client has role 0"
    LoggingClient "logging-client" "MRP #logging": "where logging is required there is a client that does it"
    AssetDomains "asset-domains" "MRP #assets": "files that are uploaded to the hub have the hub's domains and no others"

    // Commits.
    UnknownProposal "unknown-proposal" "MIMI #proposal-commit-paradigm": "the commit names a proposal that the hub did not accept in this epoch"
    ProposalTwice "proposal-twice" "MIMI #proposal-commit-paradigm": "the proposal is there already"
    ProposalOrder "proposal-order" "MIMI #proposal-commit-paradigm": "changes of one component stand in the order in which they were accepted, and the committer's own after them"
    PendingMissing "pending-proposal-missing" "MIMI #bob-leaves-the-room": "the commit leaves out a proposal that the hub accepted; include it"
    SelfRemoveInline "self-remove-inline" "MLSX #selfremove-proposal": "SelfRemove is committed by others, by reference"
    ReferenceInExternalCommit "reference-in-external-commit" "MLSX #selfremove-proposal": "an external commit refers to SelfRemove proposals alone"
    CommitterLeaves "committer-leaves" "MRP #removing": "nobody commits their own leaving; propose it and let somebody else commit"

    // Messages, reports, files.
    NotParticipant "not-a-participant" "MIMI #submit-a-message": "the user is not on the list"
    SenderInactive "sender-inactive" "MIMI #submit-a-message": "the user has no client in the group"
    CannotSendMessage "can-send-message" "MRP #message-capabilities" CAN_SEND_MESSAGE: "the role cannot send messages"
    CannotReceiveMessage "can-receive-message" "MRP #message-capabilities" CAN_RECEIVE_MESSAGE: "the role receives no messages"
    EpochTooOld "epoch-too-old" "MIMI #submit-a-message": "the message is of too old an epoch; process the commits and send it again"
    EpochNotReached "epoch-not-reached" "MIMI #submit-a-message": "the message is of an epoch that the room has not reached"
    CannotReportAbuse "can-report-abuse" "MRP #message-capabilities" CAN_REPORT_ABUSE: "the role cannot report messages; report anonymously"
    CannotDestroyRoom "can-destroy-room" "MRP #disruptive-policy-changes" CAN_DESTROY_ROOM: "the role cannot destroy the room"
    CannotUploadImage "can-upload-image" "MRP #asset-capabilities" CAN_UPLOAD_IMAGE: "the role cannot upload images"
    CannotUploadAudio "can-upload-audio" "MRP #asset-capabilities" CAN_UPLOAD_AUDIO: "the role cannot upload audio"
    CannotUploadVideo "can-upload-video" "MRP #asset-capabilities" CAN_UPLOAD_VIDEO: "the role cannot upload videos"
    CannotUploadAttachment "can-upload-attachment" "MRP #asset-capabilities" CAN_UPLOAD_ATTACHMENT: "the role cannot upload attachments"
    CannotDownloadImage "can-download-image" "MRP #asset-capabilities" CAN_DOWNLOAD_IMAGE: "the role cannot download images"
    CannotDownloadAudio "can-download-audio" "MRP #asset-capabilities" CAN_DOWNLOAD_AUDIO: "the role cannot download audio"
    CannotDownloadVideo "can-download-video" "MRP #asset-capabilities" CAN_DOWNLOAD_VIDEO: "the role cannot download videos"
    CannotDownloadAttachment "can-download-attachment" "MRP #asset-capabilities" CAN_DOWNLOAD_ATTACHMENT: "the role cannot download attachments"
    AssetTooLarge "asset-too-large" "MRP #assets": "the file is larger than the room allows"
    AssetTypeForbidden "asset-type-forbidden" "MRP #assets": "the room forbids files of this media type"
    AssetTypeNotPermitted "asset-type-not-permitted" "MRP #assets": "the room permits other media types only"
    AssetHost "asset-host" "MRP #assets": "files of this user do not lie on this host"
    DownloadWay "download-way" "MRP #assets": "the room does not allow files to be fetched in this way"
}
