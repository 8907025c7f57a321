//! Every struct that stands for itself: its name in the drafts, its limit, and how to read it knowing no more than its
//! name.

use std::fmt;

use crate::app_data::{
    AppAck, AppDataDictionary, ApplicationFraming, ComponentsList, MediaTypeList, SafeAad, WireFormats,
};
use crate::codec::{DecodeError, Message, Trace};
use crate::consent::{ConsentEntry, ConsentScope};
use crate::franking::{Frank, FrankAad, FrankingAgentData, FrankingIntegrityTbs, ServerFrankingContext};
use crate::group_info::{GroupInfoRatchetTreeTbe, GroupInfoRequest, GroupInfoResponse};
use crate::identifier_query::{IdentifierRequest, IdentifierResponse};
use crate::key_material::{KeyMaterialRequest, KeyMaterialResponse};
use crate::mls::{
    AppDataUpdate, AppEphemeral, Commit, ComponentId, Credential, CredentialBindingTbs, ExtensionType,
    ExternalReceiver, ExternalSender, GroupContext, GroupInfo, HpkeCiphertext, KeyPackage, LeafNode, MlsMessage,
    MultiCredential, PartialGroupInfo, PerMessageKeyAndNonces, PrivateMessage, Proposal, PublicMessage, RatchetTree,
    RatchetTreeOption, RequiredCapabilities, SemiPrivateMessage, SemiPrivateMessageContext, Welcome,
};
use crate::notify::{FanoutBatch, FanoutMessage};
use crate::participant_list::{ParticipantListData, ParticipantListUpdate};
use crate::policy::{
    AssetPolicy, BaseRoomPolicy, BotPolicy, HistoryPolicy, JoinLinkPolicy, JoinLinksData, JoinLinksUpdate,
    LinkPreviewPolicy, LoggingPolicy, MessageExpiration, OperationalParameters, PreAuthData, Role, RoleData,
    StatusNotificationPolicy,
};
use crate::pseudonym::{IdentityLinkTbe, PseudonymousCredential, PseudonymousCredentialTbs};
use crate::report_abuse::AbuseReport;
use crate::room_metadata::RoomMetaData;
use crate::submit_message::{SubmitMessageRequest, SubmitMessageResponse};
use crate::update::{UpdateRequest, UpdateRoomResponse};
use crate::uri::{IdentifierUri, Uri};

/// 64 KiB: what describes a handful of things.
const SMALL: usize = 64 << 10;
/// 1 MiB: what has room for a picture-less message, or for the data of one component.
const MEDIUM: usize = 1 << 20;
/// 16 MiB: what may hold the tree of a large group.
const LARGE: usize = 16 << 20;

/// One kind of struct.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The draft's name.
    pub name: &'static str,
    /// The longest encoding that is read, in bytes.
    pub max_len: usize,
    read: fn(&[u8]) -> Reading,
    check: fn(&[u8]) -> Result<(), DecodeError>,
}

/// What became of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// Each field, up to the end or to where it broke.
    pub trace: Trace,
    /// The encoding of what was read, which is the same bytes; or where and why it broke.
    pub encoded: Result<Vec<u8>, DecodeError>,
}

impl Kind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// What the data of a component is, in a group's context; `None` if it is not known. That of `frank_aad` is what is
    /// in the AAD.
    pub fn of_component_data(component: ComponentId) -> Option<&'static Self> {
        Self::named(match component {
            ComponentId::APP_COMPONENTS | ComponentId::SAFE_AAD => "ComponentsList",
            ComponentId::CONTENT_MEDIA_TYPES => "MediaTypeList",
            ComponentId::APP_ACK => "AppAck",
            ComponentId::FRANK_AAD => "FrankAAD",
            ComponentId::FRANKING_AGENT => "FrankingAgentData",
            ComponentId::PARTICIPANT_LIST => "ParticipantListData",
            ComponentId::ROOM_METADATA => "RoomMetaData",
            ComponentId::MLS_OPERATIONAL_POLICY => "OperationalParameters",
            ComponentId::ROLES_LIST => "RoleData",
            ComponentId::PREAUTH_LIST => "PreAuthData",
            ComponentId::BASE_ROOM_POLICY => "BaseRoomPolicy",
            ComponentId::STATUS_NOTIFICATION_POLICY => "StatusNotificationPolicy",
            ComponentId::JOIN_LINK_POLICY => "JoinLinkPolicy",
            ComponentId::JOIN_LINKS => "JoinLinksData",
            ComponentId::LINK_PREVIEW_POLICY => "LinkPreviewPolicy",
            ComponentId::ASSET_POLICY => "AssetPolicy",
            ComponentId::LOGGING_POLICY => "LoggingPolicy",
            ComponentId::CHAT_HISTORY_POLICY => "HistoryPolicy",
            ComponentId::BOT_POLICY => "BotPolicy",
            ComponentId::MESSAGE_EXPIRATION_POLICY => "MessageExpiration",
            _ => return None,
        })
    }

    /// What an update of a component's data is: its data, but for the two lists that are changed in part.
    pub fn of_component_update(component: ComponentId) -> Option<&'static Self> {
        match component {
            ComponentId::PARTICIPANT_LIST => Self::named("ParticipantListUpdate"),
            ComponentId::JOIN_LINKS => Self::named("JoinLinksUpdate"),
            other => Self::of_component_data(other),
        }
    }

    /// What a component says in passing, in an AppEphemeral proposal; `None` if it is not known (MLSX #app-ephemeral).
    pub fn of_component_ephemeral(component: ComponentId) -> Option<&'static Self> {
        (component == ComponentId::APP_ACK).then(|| Self::of_component_data(component))?
    }

    /// What a component puts into the SafeAAD; `None` if it is not known (MLSX #safe-aad).
    pub fn of_component_aad(component: ComponentId) -> Option<&'static Self> {
        (component == ComponentId::FRANK_AAD).then(|| Self::of_component_data(component))?
    }

    /// What the content of an extension is; `None` if it is not known, or a bare key or name. Two are lists, which are
    /// not among [`KINDS`].
    pub fn of_extension(extension: ExtensionType) -> Option<&'static Self> {
        match extension {
            ExtensionType::RATCHET_TREE => Self::named("RatchetTree"),
            ExtensionType::REQUIRED_CAPABILITIES => Self::named("RequiredCapabilities"),
            ExtensionType::APP_DATA_DICTIONARY => Self::named("AppDataDictionary"),
            ExtensionType::SUPPORTED_WIRE_FORMATS | ExtensionType::REQUIRED_WIRE_FORMATS => Self::named("WireFormats"),
            ExtensionType::EXTERNAL_SENDERS => Some(&const { Self::of::<Vec<ExternalSender>>() }),
            ExtensionType::EXTERNAL_RECEIVERS => Some(&const { Self::of::<Vec<ExternalReceiver>>() }),
            _ => None,
        }
    }

    /// Reads some bytes as this.
    pub fn read(&self, bytes: &[u8]) -> Reading {
        (self.read)(bytes)
    }

    /// Whether some bytes are this, and if not, why. As [`Self::read`], without keeping what was read.
    ///
    /// # Errors
    /// Where and why they break.
    pub fn check(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        (self.check)(bytes)
    }

    const fn of<T: Message>() -> Self {
        Self {
            name: T::NAME,
            max_len: T::MAX_LEN,
            read: read::<T>,
            check: check::<T>,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn read<T: Message>(bytes: &[u8]) -> Reading {
    let (trace, result) = T::trace(bytes);
    let encoded = result.map(|value| value.to_bytes());
    Reading { trace, encoded }
}

fn check<T: Message>(bytes: &[u8]) -> Result<(), DecodeError> {
    T::from_bytes(bytes).map(drop)
}

/// The content of the extension `external_senders` (RFC 9420 section 12.1.8.1).
impl Message for Vec<ExternalSender> {
    const NAME: &'static str = "ExternalSender<V>";
    const MAX_LEN: usize = MEDIUM;
}

/// The content of the extension `external_receivers` (draft-mahy-mls-semiprivatemessage).
impl Message for Vec<ExternalReceiver> {
    const NAME: &'static str = "ExternalReceiver<V>";
    const MAX_LEN: usize = MEDIUM;
}

macro_rules! kinds {
    ($($type:ty: $name:literal, $max:ident;)*) => {
        $(impl Message for $type {
            const NAME: &'static str = $name;
            const MAX_LEN: usize = $max;
        })*

        /// All of them: bodies, what bodies hold, components, MLS.
        pub const KINDS: &[Kind] = &[$(Kind::of::<$type>(),)*];
    };
}

kinds! {
    // Bodies of requests and responses.
    KeyMaterialRequest: "KeyMaterialRequest", SMALL;
    KeyMaterialResponse: "KeyMaterialResponse", LARGE;
    UpdateRequest: "UpdateRequest", LARGE;
    UpdateRoomResponse: "UpdateRoomResponse", MEDIUM;
    SubmitMessageRequest: "SubmitMessageRequest", MEDIUM;
    SubmitMessageResponse: "SubmitMessageResponse", SMALL;
    FanoutBatch: "FanoutMessages", LARGE;
    GroupInfoRequest: "GroupInfoRequest", SMALL;
    GroupInfoResponse: "GroupInfoResponse", LARGE;
    ConsentEntry: "ConsentEntry", MEDIUM;
    IdentifierRequest: "IdentifierRequest", SMALL;
    IdentifierResponse: "IdentifierResponse", MEDIUM;
    AbuseReport: "AbuseReport", MEDIUM;
    // What is in them, or signed, or sealed.
    IdentifierUri: "IdentifierUri", SMALL;
    Uri: "Uri", SMALL;
    FanoutMessage: "FanoutMessage", LARGE;
    Frank: "Frank", SMALL;
    ServerFrankingContext: "ServerFrankingContext", SMALL;
    FrankingIntegrityTbs: "FrankingIntegrityTBS", SMALL;
    GroupInfoRatchetTreeTbe: "GroupInfoRatchetTreeTBE", LARGE;
    ConsentScope: "ConsentScope", SMALL;
    PseudonymousCredential: "PseudonymousCredential", SMALL;
    PseudonymousCredentialTbs: "PseudonymousCredentialTBS", SMALL;
    IdentityLinkTbe: "IdentityLinkTBE", SMALL;
    PartialGroupInfo: "PartialGroupInfo", MEDIUM;
    RatchetTreeOption: "RatchetTreeOption", LARGE;
    // Components.
    FrankAad: "FrankAAD", SMALL;
    FrankingAgentData: "FrankingAgentData", SMALL;
    ParticipantListData: "ParticipantListData", LARGE;
    ParticipantListUpdate: "ParticipantListUpdate", MEDIUM;
    RoomMetaData: "RoomMetaData", MEDIUM;
    OperationalParameters: "OperationalParameters", SMALL;
    Role: "Role", SMALL;
    RoleData: "RoleData", MEDIUM;
    PreAuthData: "PreAuthData", MEDIUM;
    BaseRoomPolicy: "BaseRoomPolicy", SMALL;
    StatusNotificationPolicy: "StatusNotificationPolicy", SMALL;
    JoinLinkPolicy: "JoinLinkPolicy", SMALL;
    JoinLinksData: "JoinLinksData", MEDIUM;
    JoinLinksUpdate: "JoinLinksUpdate", MEDIUM;
    LinkPreviewPolicy: "LinkPreviewPolicy", SMALL;
    AssetPolicy: "AssetPolicy", MEDIUM;
    LoggingPolicy: "LoggingPolicy", SMALL;
    HistoryPolicy: "HistoryPolicy", SMALL;
    BotPolicy: "BotPolicy", MEDIUM;
    MessageExpiration: "MessageExpiration", SMALL;
    AppDataDictionary: "AppDataDictionary", LARGE;
    AppDataUpdate: "AppDataUpdate", LARGE;
    AppEphemeral: "AppEphemeral", MEDIUM;
    AppAck: "AppAck", MEDIUM;
    SafeAad: "SafeAAD", SMALL;
    ComponentsList: "ComponentsList", SMALL;
    WireFormats: "WireFormats", SMALL;
    MediaTypeList: "MediaTypeList", SMALL;
    ApplicationFraming: "ApplicationFraming", MEDIUM;
    // MLS.
    MlsMessage: "MLSMessage", LARGE;
    PublicMessage: "PublicMessage", LARGE;
    PrivateMessage: "PrivateMessage", LARGE;
    SemiPrivateMessage: "SemiPrivateMessage", MEDIUM;
    PerMessageKeyAndNonces: "PerMessageKeyAndNonces", SMALL;
    SemiPrivateMessageContext: "SemiPrivateMessageContext", SMALL;
    ExternalReceiver: "ExternalReceiver", SMALL;
    Proposal: "Proposal", LARGE;
    Commit: "Commit", LARGE;
    KeyPackage: "KeyPackage", SMALL;
    LeafNode: "LeafNode", SMALL;
    Credential: "Credential", SMALL;
    MultiCredential: "MultiCredential", SMALL;
    CredentialBindingTbs: "CredentialBindingTBS", SMALL;
    ExternalSender: "ExternalSender", SMALL;
    RequiredCapabilities: "RequiredCapabilities", SMALL;
    GroupContext: "GroupContext", LARGE;
    GroupInfo: "GroupInfo", LARGE;
    Welcome: "Welcome", LARGE;
    HpkeCiphertext: "HPKECiphertext", LARGE;
    RatchetTree: "RatchetTree", LARGE;
}

#[cfg(test)]
mod tests;
