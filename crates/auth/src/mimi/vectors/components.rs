//! Components as JSON: what the rules look at, by the names of the draft's fields; the rest has the value that restricts nothing.

use nabe_signing::json::Json;
use nabe_wire::Encode;
use nabe_wire::app_data::{MediaType, WireFormats};
use nabe_wire::codec::NulFreeText;
use nabe_wire::mls::{
    Capabilities, CipherSuite, ComponentId, CredentialType, ExtensionType, ProposalType, ProtocolVersion, WireFormat,
};
use nabe_wire::policy::{
    AppMessagePolicy, AssetPolicy, AssetUploadLocation, BaseRoomPolicy, Bot, BotPolicy, Capability, Claim, ClaimId,
    DownloadPrivacy, DownloadPrivacyType, ExtendedCapabilities, History, HistoryPolicy, JoinLink, JoinLinkPolicy,
    JoinLinksData, Logging, LoggingPolicy, MinDefaultMaxTime, OperationalParameters, PendingProposalPolicy,
    PreAuthData, PreAuthRoleEntry, ProviderAssetUploadDomains, Role, RoleData, SingleSourceRoleChangeTargets,
    UnlessForbidden,
};
use nabe_wire::room_metadata::{RichDescription, RoomMetaData};
use nabe_wire::uri::Uri;

use super::super::action::Support;
use super::super::capability::CAPABILITIES;
use super::Read;
use super::read::{bad, boolean, each, given, hex, list, member, number, object, only, optional, text, two};

/// A component by its name here, and its data.
pub(super) fn component(name: &str, json: &Json) -> Read<(ComponentId, Vec<u8>)> {
    Ok(match name {
        "roles" => (ComponentId::ROLES_LIST, roles(json)?.to_bytes()),
        "preauth" => (ComponentId::PREAUTH_LIST, preauth(json)?.to_bytes()),
        "base" => (ComponentId::BASE_ROOM_POLICY, base(json)?.to_bytes()),
        "operational" => (ComponentId::MLS_OPERATIONAL_POLICY, operational(json)?.to_bytes()),
        "metadata" => (ComponentId::ROOM_METADATA, metadata(json)?.to_bytes()),
        "links" => {
            let join_links = each(json, name, link)?;
            (ComponentId::JOIN_LINKS, JoinLinksData { join_links }.to_bytes())
        }
        "link_policy" => (ComponentId::JOIN_LINK_POLICY, link_policy(json)?.to_bytes()),
        "assets" => (ComponentId::ASSET_POLICY, assets(json)?.to_bytes()),
        "history" => (ComponentId::CHAT_HISTORY_POLICY, history(json)?.to_bytes()),
        "bots" => (ComponentId::BOT_POLICY, bots(json)?.to_bytes()),
        "logging" => (ComponentId::LOGGING_POLICY, logging(json)?.to_bytes()),
        "raw" => {
            let (id, data) = two(json, name)?;
            (ComponentId(number(id, name)?), hex(data, name)?)
        }
        other => return Err(bad(other)),
    })
}

pub(super) fn link(json: &Json, name: &str) -> Read<JoinLink> {
    Ok(JoinLink {
        join_link: text(json, name)?.as_bytes().into(),
    })
}

fn roles(json: &Json) -> Read<RoleData> {
    let roles = each(json, "roles", |json, name| {
        let role = object(json, name)?;
        only(
            role,
            &["index", "name", "capabilities", "participants", "active", "changes"],
        )?;
        let bounds = |name: &str| match role.get(name) {
            None => Ok((0, None)),
            Some(json) => {
                let (minimum, maximum) = two(json, name)?;
                Ok((number(minimum, name)?, optional(maximum, |it| number(it, name))?))
            }
        };
        let (participants, active) = (bounds("participants")?, bounds("active")?);
        Ok(Role {
            role_index: number(member(role, "index")?, "index")?,
            role_name: text(member(role, "name")?, "name")?.into(),
            role_description: "".into(),
            role_capabilities: given(role, "capabilities", |json, name| each(json, name, capability))?
                .unwrap_or_default(),
            minimum_participants_constraint: participants.0,
            maximum_participants_constraint: participants.1,
            minimum_active_participants_constraint: active.0,
            maximum_active_participants_constraint: active.1,
            authorized_role_changes: given(role, "changes", |json, name| each(json, name, change))?.unwrap_or_default(),
        })
    })?;
    Ok(RoleData { roles })
}

fn capability(json: &Json, name: &str) -> Read<Capability> {
    let Some(named) = json.as_str() else {
        return Ok(Capability(number(json, name)?));
    };
    let found = CAPABILITIES
        .iter()
        .find(|(capability, _)| capability.name() == Some(named));
    found.map(|(capability, _)| *capability).ok_or_else(|| bad(named))
}

fn change(json: &Json, name: &str) -> Read<SingleSourceRoleChangeTargets> {
    let (from, targets) = two(json, name)?;
    Ok(SingleSourceRoleChangeTargets {
        from_role_index: number(from, name)?,
        target_role_indexes: each(targets, name, number)?,
    })
}

/// Of the role its index: the rest of it says nothing (D-preauth-role).
fn preauth(json: &Json) -> Read<PreAuthData> {
    let preauthorized_entries = each(json, "preauth", |json, name| {
        let entry = object(json, name)?;
        only(entry, &["claims", "role"])?;
        let claimset = each(member(entry, "claims")?, "claims", |json, name| {
            match list(json, name)? {
                [credential_type, id, value] => Ok(Claim {
                    claim_id: ClaimId {
                        credential_type: CredentialType(number(credential_type, name)?),
                        id: text(id, name)?.as_bytes().into(),
                    },
                    claim_value: text(value, name)?.as_bytes().into(),
                }),
                _ => Err(bad(name)),
            }
        })?;
        Ok(PreAuthRoleEntry {
            claimset,
            target_role: Role {
                role_index: number(member(entry, "role")?, "role")?,
                role_name: "".into(),
                role_description: "".into(),
                role_capabilities: Vec::new(),
                minimum_participants_constraint: 0,
                maximum_participants_constraint: None,
                minimum_active_participants_constraint: 0,
                maximum_active_participants_constraint: None,
                authorized_role_changes: Vec::new(),
            },
        })
    })?;
    Ok(PreAuthData { preauthorized_entries })
}

fn base(json: &Json) -> Read<BaseRoomPolicy> {
    let base = object(json, "base")?;
    only(
        base,
        &[
            "fixed_membership",
            "parent_dependant",
            "parent_room",
            "multi_device",
            "max_clients",
            "max_users",
            "pseudonyms_allowed",
            "persistent_room",
            "discoverable",
            "policy_component_ids",
        ],
    )?;
    let flag = |name: &str, otherwise| Ok(given(base, name, boolean)?.unwrap_or(otherwise));
    let uri = |json: &Json, name: &str| Uri::new(text(json, name)?).ok_or_else(|| bad(name));
    let ids = |json, name: &str| each(json, name, |id, name| Ok(ComponentId(number(id, name)?)));
    Ok(BaseRoomPolicy {
        fixed_membership: flag("fixed_membership", false)?,
        parent_dependant: flag("parent_dependant", false)?,
        parent_room: given(base, "parent_room", |json, name| each(json, name, uri))?.unwrap_or_default(),
        multi_device: flag("multi_device", true)?,
        max_clients: given(base, "max_clients", number)?,
        max_users: given(base, "max_users", number)?,
        pseudonyms_allowed: flag("pseudonyms_allowed", true)?,
        persistent_room: flag("persistent_room", false)?,
        discoverable: flag("discoverable", false)?,
        policy_component_ids: given(base, "policy_component_ids", ids)?.unwrap_or_default(),
    })
}

/// What a client supports, or what every client has to.
pub(super) fn support(json: &Json, name: &str) -> Read<Support> {
    let support = object(json, name)?;
    only(
        support,
        &[
            "versions",
            "cipher_suites",
            "extensions",
            "proposals",
            "credentials",
            "components",
        ],
    )?;
    let numbers =
        |name: &str| Ok(given(support, name, |json, name| each(json, name, number::<u16>))?.unwrap_or_default());
    Ok(Support {
        capabilities: Capabilities {
            versions: numbers("versions")?.into_iter().map(ProtocolVersion).collect(),
            cipher_suites: numbers("cipher_suites")?.into_iter().map(CipherSuite).collect(),
            extensions: numbers("extensions")?.into_iter().map(ExtensionType).collect(),
            proposals: numbers("proposals")?.into_iter().map(ProposalType).collect(),
            credentials: numbers("credentials")?.into_iter().map(CredentialType).collect(),
        },
        components: numbers("components")?.into_iter().map(ComponentId).collect(),
    })
}

fn operational(json: &Json) -> Read<OperationalParameters> {
    let policy = object(json, "operational")?;
    only(
        policy,
        &[
            "mandatory_capabilities",
            "forbidden_proposals",
            "handshake_formats",
            "external_proposal_allowed",
            "external_commit_allowed",
            "epoch_tolerance",
            "max_kp_lifetime",
        ],
    )?;
    let mut mandatory = nothing();
    if let Some(stated) = given(policy, "mandatory_capabilities", support)? {
        mandatory.versions = stated.capabilities.versions;
        mandatory.cipher_suites = stated.capabilities.cipher_suites;
        mandatory.extensions = stated.capabilities.extensions;
        mandatory.proposals = stated.capabilities.proposals;
        mandatory.credentials = stated.capabilities.credentials;
        mandatory.component_ids = stated.components;
    }
    let mut forbidden = nothing();
    let types = |json, name: &str| each(json, name, |it, name| Ok(ProposalType(number(it, name)?)));
    forbidden.proposals = given(policy, "forbidden_proposals", types)?.unwrap_or_default();
    let formats = |json, name: &str| each(json, name, |it, name| Ok(WireFormat(number(it, name)?)));
    let unlimited = MinDefaultMaxTime {
        minimum_time: 0,
        default_time: 0,
        maximum_time: 0,
    };
    Ok(OperationalParameters {
        mandatory_capabilities: mandatory,
        default_capabilities: nothing(),
        forbidden_capabilities: forbidden,
        handshake_formats: WireFormats {
            wire_formats: given(policy, "handshake_formats", formats)?.unwrap_or_default(),
        },
        external_proposal_allowed: given(policy, "external_proposal_allowed", boolean)?.unwrap_or(true),
        external_commit_allowed: given(policy, "external_commit_allowed", boolean)?.unwrap_or(true),
        pending_proposal_policy: PendingProposalPolicy::Unspecified,
        leaf_node_update_time: unlimited.clone(),
        app_message_policy: AppMessagePolicy {
            epoch_tolerance: given(policy, "epoch_tolerance", number)?.unwrap_or(0),
            pad_to_size: 0,
            max_generations_skipahead: 0,
        },
        max_kp_lifetime: given(policy, "max_kp_lifetime", number)?.unwrap_or(0),
        max_credential_lifetime: 0,
        resumption_psk_lifetime: 0,
        sender_nonce_keypair_lifetime: unlimited.clone(),
        max_keypairs: 0,
        buffer_incoming_message_time: unlimited,
        max_buffered_messages: 0,
    })
}

fn nothing() -> ExtendedCapabilities {
    ExtendedCapabilities {
        versions: Vec::new(),
        cipher_suites: Vec::new(),
        extensions: Vec::new(),
        proposals: Vec::new(),
        credentials: Vec::new(),
        wire_formats: WireFormats {
            wire_formats: Vec::new(),
        },
        component_ids: Vec::new(),
        safe_aad_types: Vec::new(),
        media_types: Vec::new(),
        content_types: Vec::new(),
    }
}

fn metadata(json: &Json) -> Read<RoomMetaData> {
    let metadata = object(json, "metadata")?;
    only(
        metadata,
        &[
            "room_uri",
            "room_name",
            "room_descriptions",
            "room_avatar",
            "room_subject",
            "room_mood",
        ],
    )?;
    let field = |name: &str| Ok(given(metadata, name, text)?.unwrap_or_default());
    let uri = |name: &str| Uri::new(field(name)?).ok_or_else(|| bad(name));
    let words = |name: &str| NulFreeText::new(field(name)?).ok_or_else(|| bad(name));
    let description = |json: &Json, name: &str| {
        Ok(RichDescription {
            media_type: "".into(),
            language_tag: "".into(),
            description_content: text(json, name)?.as_bytes().into(),
        })
    };
    Ok(RoomMetaData {
        room_uri: uri("room_uri")?,
        room_name: words("room_name")?,
        room_descriptions: given(metadata, "room_descriptions", |json, name| {
            each(json, name, description)
        })?
        .unwrap_or_default(),
        room_avatar: uri("room_avatar")?,
        room_subject: words("room_subject")?,
        room_mood: words("room_mood")?,
    })
}

fn link_policy(json: &Json) -> Read<JoinLinkPolicy> {
    let policy = object(json, "link_policy")?;
    only(policy, &["on_request"])?;
    Ok(JoinLinkPolicy {
        on_request: boolean(member(policy, "on_request")?, "on_request")?,
        join_link: Uri::default(),
        multiuser: true,
        expiration: 0,
    })
}

fn assets(json: &Json) -> Read<AssetPolicy> {
    let policy = object(json, "assets")?;
    only(
        policy,
        &[
            "location",
            "domains",
            "allowed_downloads",
            "forbidden_downloads",
            "max",
            "forbidden_types",
            "permitted_types",
        ],
    )?;
    let domains = |json, name: &str| {
        each(json, name, |json, name| {
            let (provider, hosts) = two(json, name)?;
            Ok(ProviderAssetUploadDomains {
                provider: text(provider, name)?.into(),
                asset_upload_destinations: each(hosts, name, |host, name| Ok(text(host, name)?.into()))?,
            })
        })
    };
    let ways = |json, name: &str| each(json, name, |it, name| Ok(DownloadPrivacyType(number(it, name)?)));
    let types = |json, name: &str| each(json, name, |it, name| Ok(MediaType::new(text(it, name)?)));
    let [image, audio, video, attachment] = given(policy, "max", |json, name| each(json, name, number))?
        .map_or(Ok([u64::MAX; 4]), |max| max.try_into().map_err(|_| bad("max")))?;
    Ok(AssetPolicy {
        asset_upload_location: AssetUploadLocation(given(policy, "location", number)?.unwrap_or(0)),
        upload_domains: given(policy, "domains", domains)?.unwrap_or_default(),
        download_privacy: DownloadPrivacy {
            allowed_download_types: given(policy, "allowed_downloads", ways)?.unwrap_or_default(),
            forbidden_download_types: given(policy, "forbidden_downloads", ways)?.unwrap_or_default(),
            default_download_type: DownloadPrivacyType::DIRECT,
        },
        max_image: image,
        max_audio: audio,
        max_video: video,
        max_attachment: attachment,
        forbidden_media_types: given(policy, "forbidden_types", types)?.unwrap_or_default(),
        permitted_media_types: given(policy, "permitted_types", types)?,
    })
}

fn history(json: &Json) -> Read<HistoryPolicy> {
    Ok(HistoryPolicy {
        history_sharing: UnlessForbidden::Optional(History {
            roles_that_can_share: each(json, "history", number)?,
            automatically_share: false,
            max_time_period: 0,
        }),
    })
}

/// Roles, and whether the bot is one of a single client.
fn bots(json: &Json) -> Read<BotPolicy> {
    let allowed_bots = each(json, "bots", |json, name| {
        let (role, local) = two(json, name)?;
        Ok(Bot {
            name: "".into(),
            description: "".into(),
            homepage: Uri::default(),
            local_client_bot: boolean(local, name)?,
            bot_role_index: number(role, name)?,
            can_target_message_in_group: false,
            per_user_content: false,
        })
    })?;
    Ok(BotPolicy { allowed_bots })
}

/// The clients that keep a record, where somebody has to.
fn logging(json: &Json) -> Read<LoggingPolicy> {
    let client = |json: &Json, name: &str| Uri::new(text(json, name)?).ok_or_else(|| bad(name));
    Ok(LoggingPolicy {
        logging: UnlessForbidden::Required(Logging {
            logging_clients: each(json, "logging", client)?,
            machine_readable_policy: Uri::default(),
            human_readable_policy: Uri::default(),
        }),
    })
}
