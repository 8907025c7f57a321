//! The numbers of MLS that have names: RFC 9420 section 17, MLSX #iana-components, MIMI #iana-considerations.

use openmls_traits::types::{Ciphersuite, SignatureScheme};

use crate::codec::open_enum;

open_enum! {
    /// `ProtocolVersion`
    pub struct ProtocolVersion(u16) {
        /// MLS 1.0, the only version.
        MLS10 = 1 "mls10",
    }
}

open_enum! {
    /// `CipherSuite`
    pub struct CipherSuite(u16) {
        /// The suite that everyone implements.
        X25519_AES128GCM_SHA256_ED25519 = 1 "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
        /// NIST curves, 128 bits.
        P256_AES128GCM_SHA256_P256 = 2 "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
        /// As the first, with ChaCha20-Poly1305.
        X25519_CHACHA20POLY1305_SHA256_ED25519 = 3 "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
        /// Curve448 with AES.
        X448_AES256GCM_SHA512_ED448 = 4 "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448",
        /// P-521.
        P521_AES256GCM_SHA512_P521 = 5 "MLS_256_DHKEMP521_AES256GCM_SHA512_P521",
        /// Curve448 with ChaCha20-Poly1305.
        X448_CHACHA20POLY1305_SHA512_ED448 = 6 "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448",
        /// P-384.
        P384_AES256GCM_SHA384_P384 = 7 "MLS_256_DHKEMP384_AES256GCM_SHA384_P384",
    }
}

impl CipherSuite {
    /// OpenMLS's name for it, if it has one.
    pub fn to_openmls(self) -> Option<Ciphersuite> {
        Ciphersuite::try_from(self.0).ok()
    }

    /// Its signature algorithm, if the suite is known.
    pub fn signature_scheme(self) -> Option<SignatureScheme> {
        self.to_openmls().map(|suite| suite.signature_algorithm())
    }
}

open_enum! {
    /// `WireFormat`
    pub struct WireFormat(u16) {
        /// A message whose content servers can read.
        PUBLIC_MESSAGE = 1 "mls_public_message",
        /// A message for members alone.
        PRIVATE_MESSAGE = 2 "mls_private_message",
        /// The invitation of new members.
        WELCOME = 3 "mls_welcome",
        /// What an external joiner needs.
        GROUP_INFO = 4 "mls_group_info",
        /// A client's offer to be added.
        KEY_PACKAGE = 5 "mls_key_package",
        /// A handshake message for members and external receivers. The draft has no number yet; this one is from the
        /// private range.
        SEMI_PRIVATE_MESSAGE = 0xf001 "mls_semiprivate_message",
    }
}

open_enum! {
    /// `ContentType`
    pub struct ContentType(u8) {
        /// What users say.
        APPLICATION = 1 "application",
        /// A proposed change.
        PROPOSAL = 2 "proposal",
        /// A change of epoch.
        COMMIT = 3 "commit",
    }
}

open_enum! {
    /// `ProposalType`
    pub struct ProposalType(u16) {
        /// Adds a client.
        ADD = 1 "add",
        /// Renews the sender's leaf.
        UPDATE = 2 "update",
        /// Removes a client.
        REMOVE = 3 "remove",
        /// Brings in a pre-shared key.
        PSK = 4 "psk",
        /// Ends the group in favor of another.
        REINIT = 5 "reinit",
        /// Begins an external commit.
        EXTERNAL_INIT = 6 "external_init",
        /// Replaces the extensions of the group.
        GROUP_CONTEXT_EXTENSIONS = 7 "group_context_extensions",
        /// Changes the data of a component (MLSX #appdataupdate).
        APP_DATA_UPDATE = 8 "app_data_update",
        /// Tells everyone something in passing (MLSX #app-ephemeral).
        APP_EPHEMERAL = 9 "app_ephemeral",
        /// Removes the sender (MLSX #selfremove-proposal).
        SELF_REMOVE = 10 "self_remove",
    }
}

open_enum! {
    /// `ExtensionType`
    pub struct ExtensionType(u16) {
        /// An application's name for a group or leaf.
        APPLICATION_ID = 1 "application_id",
        /// The whole tree.
        RATCHET_TREE = 2 "ratchet_tree",
        /// What members have to support.
        REQUIRED_CAPABILITIES = 3 "required_capabilities",
        /// The key for external commits.
        EXTERNAL_PUB = 4 "external_pub",
        /// Who may propose from outside.
        EXTERNAL_SENDERS = 5 "external_senders",
        /// The data of components (MLSX #attaching-application-data-to-mls-messages).
        APP_DATA_DICTIONARY = 6 "app_data_dictionary",
        /// Which wire formats a client knows (MLSX #negotiation).
        SUPPORTED_WIRE_FORMATS = 7 "supported_wire_formats",
        /// Which wire formats a group needs (MLSX #negotiation).
        REQUIRED_WIRE_FORMATS = 8 "required_wire_formats",
        /// For whom handshake messages are sealed besides the members. Its draft suggests 8, which is taken; this one
        /// is from the private range.
        EXTERNAL_RECEIVERS = 0xf008 "external_receivers",
        /// Where trees may be fetched. The draft has no number yet; this one is from the private range.
        RATCHET_TREE_SOURCE_DOMAINS = 0xf009 "ratchet_tree_source_domains",
    }
}

open_enum! {
    /// `CredentialType`
    pub struct CredentialType(u16) {
        /// A bare identity.
        BASIC = 1 "basic",
        /// A chain of certificates.
        X509 = 2 "x509",
        /// Several credentials, all of which everyone supports (MLSX #multi-credentials).
        MULTI = 3 "multi",
        /// Several credentials, one of which everyone supports (MLSX #multi-credentials).
        WEAK_MULTI = 4 "weak-multi",
        /// A pseudonym with a sealed link to its owner (MIMI #credential-encryption). The draft has no number; this one
        /// is from the private range.
        PSEUDONYMOUS = 0xf001 "pseudonymous",
    }
}

open_enum! {
    /// `ComponentID`: whose data it is. 0x8000 and above are for private use.
    pub struct ComponentId(u16) {
        /// Which components a client supports or a group needs.
        APP_COMPONENTS = 0x0001 "app_components",
        /// Which components put data into the AAD.
        SAFE_AAD = 0x0002 "safe_aad",
        /// Which media types a client reads or a group needs.
        CONTENT_MEDIA_TYPES = 0x0003 "content_media_types",
        /// Marks a key package of last resort.
        LAST_RESORT_KEY_PACKAGE = 0x0004 "last_resort_key_package",
        /// Which messages arrived.
        APP_ACK = 0x0005 "app_ack",
        /// The tag a message is franked by.
        FRANK_AAD = 0x0020 "frank_aad",
        /// Who franks; IANA's name is `franking_signature_key`.
        FRANKING_AGENT = 0x0021 "franking_agent",
        /// Who takes part, and as what.
        PARTICIPANT_LIST = 0x0022 "participant_list",
        /// The room's name, picture and the like.
        ROOM_METADATA = 0x0023 "room_metadata",
        /// How the group is run.
        MLS_OPERATIONAL_POLICY = 0x0024 "mls_operational_policy",
        /// What each role may do.
        ROLES_LIST = 0x0025 "roles_list",
        /// Who has a role without being listed.
        PREAUTH_LIST = 0x0026 "preauth_list",
        /// The frame of all policy.
        BASE_ROOM_POLICY = 0x0027 "base_room_policy",
        /// Receipts.
        STATUS_NOTIFICATION_POLICY = 0x0028 "status_notification_policy",
        /// How join links are made.
        JOIN_LINK_POLICY = 0x0029 "join_link_policy",
        /// The join links themselves.
        JOIN_LINKS = 0x002a "join_links",
        /// Previews of links.
        LINK_PREVIEW_POLICY = 0x002b "link_preview_policy",
        /// Files.
        ASSET_POLICY = 0x002c "asset_policy",
        /// Who keeps a record.
        LOGGING_POLICY = 0x002d "logging_policy",
        /// What new members may see of the past.
        CHAT_HISTORY_POLICY = 0x002e "chat_history_policy",
        /// Which bots may be there.
        BOT_POLICY = 0x002f "bot_policy",
        /// Messages that expire.
        MESSAGE_EXPIRATION_POLICY = 0x0030 "message_expiration_policy",
    }
}

impl ComponentId {
    /// True for the values that stand for nothing and keep others from relying on there being no more (MLSX #grease).
    pub fn is_grease(self) -> bool {
        let [high, low] = self.0.to_be_bytes();
        high == low && high & 0x0f == 0x0a && high < 0x80
    }
}
