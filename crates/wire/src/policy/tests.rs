//! Each component byte by byte.

use super::*;
use crate::app_data::{MediaType, WireFormats};
use crate::codec::{Encode, Message, Rule};
use crate::mls::{ComponentId, CredentialType, WireFormat};
use crate::testing::{assert_wire, refused};
use crate::uri::Uri;

fn role() -> Role {
    Role {
        role_index: 2,
        role_name: "member".into(),
        role_description: "".into(),
        role_capabilities: vec![Capability::CAN_ADD_PARTICIPANT, Capability(0xf001)],
        minimum_participants_constraint: 1,
        maximum_participants_constraint: None,
        minimum_active_participants_constraint: 0,
        maximum_active_participants_constraint: Some(5),
        authorized_role_changes: vec![SingleSourceRoleChangeTargets {
            from_role_index: 0,
            target_role_indexes: vec![2, 3],
        }],
    }
}

const ROLE: &str = concat!(
    "00000002",             // role_index
    "06 6d656d626572",      // role_name
    "00",                   // role_description
    "04 0000 f001",         // role_capabilities
    "00000001",             // minimum_participants_constraint
    "00",                   // maximum_participants_constraint: none
    "00000000",             // minimum_active_participants_constraint
    "01 00000005",          // maximum_active_participants_constraint
    "0d",                   // authorized_role_changes: length
    "00000000",             // from_role_index
    "08 00000002 00000003", // target_role_indexes
);

#[test]
fn roles() {
    assert_wire(&role(), ROLE);
    assert_wire(&RoleData { roles: vec![role()] }, &format!("2d {ROLE}"));
}

#[test]
fn a_name_of_a_role_is_utf8() {
    assert_eq!(
        refused::<Role>("00000002 01 ff"),
        (5, "role_name".to_owned(), Rule::NotUtf8)
    );
}

#[test]
fn capabilities_have_the_registrys_numbers() {
    let named: Vec<u16> = (0..=u16::MAX).filter(|&n| Capability(n).name().is_some()).collect();
    assert_eq!(named.len(), 77);
    for (number, name) in [
        (0x0000, "canAddParticipant"),
        (0x000f, "canChangeUserRole"),
        (0x0110, "canSendDirectMessage"),
        (0x020b, "canCopyLink"),
        (0x0304, "canChangeRoomMood"),
        (0x0407, "canViewSharedScreen"),
        (0x0605, "canSendMLSExternalCommit"),
    ] {
        assert_eq!(Capability(number).name(), Some(name));
    }
}

#[test]
fn preauthorization() {
    let data = PreAuthData {
        preauthorized_entries: vec![PreAuthRoleEntry {
            claimset: vec![Claim {
                claim_id: ClaimId {
                    credential_type: CredentialType::X509,
                    id: vec![0x55, 0x1d].into(),
                },
                claim_value: b"x".as_slice().into(),
            }],
            target_role: role(),
        }],
    };
    // preauthorized_entries, claimset, claim_id, claim_value, target_role
    assert_wire(&data, &format!("35 07 0002 02 551d 01 78 {ROLE}"));
}

#[test]
fn base_policy() {
    let policy = BaseRoomPolicy {
        fixed_membership: true,
        parent_dependant: false,
        parent_room: vec![Uri::new("mimi://a/r/p").unwrap()],
        multi_device: true,
        max_clients: None,
        max_users: Some(2),
        pseudonyms_allowed: false,
        persistent_room: true,
        discoverable: false,
        policy_component_ids: vec![ComponentId::ROLES_LIST, ComponentId(0x8001)],
    };
    assert_wire(
        &policy,
        concat!(
            "01 00",                          // fixed_membership, parent_dependant
            "0d 0c 6d696d693a2f2f612f722f70", // parent_room
            "01",                             // multi_device
            "00",                             // max_clients: none
            "01 00000002",                    // max_users
            "00 01 00",                       // pseudonyms_allowed, persistent_room, discoverable
            "04 0025 8001",                   // policy_component_ids
        ),
    );
    assert_eq!(
        refused::<BaseRoomPolicy>("01 02"),
        (1, "parent_dependant".to_owned(), Rule::NotBoolean { value: 2 })
    );
}

#[test]
fn receipts() {
    let policy = StatusNotificationPolicy {
        delivery_notifications: Optionality::Required,
        read_receipts: Optionality::Forbidden,
    };
    assert_wire(&policy, "01 02");
    assert_eq!(
        refused::<StatusNotificationPolicy>("00 03"),
        (1, "read_receipts".to_owned(), Rule::NotInEnumeration { value: 3 })
    );
}

#[test]
fn join_links() {
    let policy = JoinLinkPolicy {
        on_request: true,
        join_link: Uri::new("https://a/").unwrap(),
        multiuser: false,
        expiration: 60,
    };
    assert_wire(&policy, "01 0a 68747470733a2f2f612f 00 0000003c");
    let link = |bytes: &[u8]| JoinLink {
        join_link: bytes.into(),
    };
    assert_wire(
        &JoinLinksData {
            join_links: vec![link(b"ab"), link(b"")],
        },
        "04 02 6162 00",
    );
    assert_wire(
        &JoinLinksUpdate {
            removed_indices: vec![1],
            added_links: vec![link(b"c")],
        },
        "04 00000001 02 01 63",
    );
}

#[test]
fn link_previews() {
    let policy = |link_preview_proxy_use| LinkPreviewPolicy {
        autodetect_hyperlinks_in_text: Optionality::Optional,
        send_link_previews: Optionality::Required,
        automatic_link_previews: Optionality::Forbidden,
        link_preview_proxy_use,
    };
    assert_wire(&policy(UnlessForbidden::Forbidden), "00 01 02 02");
    let proxy = LinkPreviewProxy {
        link_preview_proxy: vec![Uri::new("https://p/").unwrap()],
    };
    assert_wire(
        &policy(UnlessForbidden::Required(proxy)),
        "00 01 02 01 0b 0a 68747470733a2f2f702f",
    );
}

#[test]
fn detecting_links_is_never_required() {
    assert_eq!(
        refused::<LinkPreviewPolicy>("01 00 00 02"),
        (
            0,
            "autodetect_hyperlinks_in_text".to_owned(),
            Rule::NotInEnumeration { value: 1 }
        )
    );
}

#[test]
fn previews_through_a_proxy_name_one() {
    for proxy_use in ["00", "01"] {
        assert_eq!(
            refused::<LinkPreviewPolicy>(&format!("00 00 00 {proxy_use} 00")),
            (4, "link_preview_proxy".to_owned(), Rule::Empty)
        );
    }
}

#[test]
fn assets() {
    let policy = AssetPolicy {
        asset_upload_location: AssetUploadLocation::LOCAL_PROVIDER,
        upload_domains: vec![ProviderAssetUploadDomains {
            provider: "a".into(),
            asset_upload_destinations: vec!["b".into(), "c".into()],
        }],
        download_privacy: DownloadPrivacy {
            allowed_download_types: vec![DownloadPrivacyType::HUB_PROXY, DownloadPrivacyType(9)],
            forbidden_download_types: vec![DownloadPrivacyType::DIRECT],
            default_download_type: DownloadPrivacyType::OHTTP,
        },
        max_image: 1,
        max_audio: 2,
        max_video: 3,
        max_attachment: 4,
        forbidden_media_types: vec![MediaType::new("a/b")],
        permitted_media_types: None,
    };
    let common = concat!(
        "01",                      // asset_upload_location: localProvider
        "07 01 61 04 01 62 01 63", // upload_domains
        "02 0109",                 // allowed_download_types
        "01 00",                   // forbidden_download_types
        "02",                      // default_download_type: ohttp
        "0000000000000001",        // max_image
        "0000000000000002",        // max_audio
        "0000000000000003",        // max_video
        "0000000000000004",        // max_attachment
        "05 03 612f62 00",         // forbidden_media_types
    );
    assert_wire(&policy, &format!("{common} 00"));
    let nothing = AssetPolicy {
        permitted_media_types: Some(vec![]),
        ..policy
    };
    assert_wire(&nothing, &format!("{common} 01 00"));
}

#[test]
fn logging() {
    let policy = LoggingPolicy {
        logging: UnlessForbidden::Optional(Logging {
            logging_clients: vec![Uri::new("mimi://l").unwrap()],
            machine_readable_policy: Uri::default(),
            human_readable_policy: Uri::new("https://l").unwrap(),
        }),
    };
    assert_wire(&policy, "00 09 08 6d696d693a2f2f6c 00 09 68747470733a2f2f6c");
    let never = LoggingPolicy {
        logging: UnlessForbidden::Forbidden,
    };
    assert_wire(&never, "02");
    assert_eq!(refused::<LoggingPolicy>("03").1, "logging");
}

#[test]
fn history() {
    let history = History {
        roles_that_can_share: vec![3],
        automatically_share: true,
        max_time_period: 3600,
    };
    let policy = HistoryPolicy {
        history_sharing: UnlessForbidden::Required(history),
    };
    assert_wire(&policy, "01 04 00000003 01 00000e10");
    let never = HistoryPolicy {
        history_sharing: UnlessForbidden::Forbidden,
    };
    assert_wire(&never, "02");
}

#[test]
fn bots() {
    let policy = BotPolicy {
        allowed_bots: vec![Bot {
            name: "B".into(),
            description: "".into(),
            homepage: Uri::default(),
            local_client_bot: true,
            bot_role_index: 0,
            can_target_message_in_group: false,
            per_user_content: true,
        }],
    };
    assert_wire(&policy, "0b 01 42 00 00 01 00000000 00 01");
}

#[test]
fn expiration() {
    let expiration = |default_expiration_duration| MessageExpiration {
        expiring_messages: UnlessForbidden::Optional(Expiration {
            min_expiration_duration: 1,
            max_expiration_duration: 2,
            default_expiration_duration,
        }),
    };
    assert_wire(&expiration(None), "00 00000001 00000002 00");
    assert_wire(&expiration(Some(2)), "00 00000001 00000002 01 00000002");
    let never = MessageExpiration {
        expiring_messages: UnlessForbidden::Forbidden,
    };
    assert_wire(&never, "02");
}

fn no_capabilities() -> ExtendedCapabilities {
    ExtendedCapabilities {
        versions: vec![],
        cipher_suites: vec![],
        extensions: vec![],
        proposals: vec![],
        credentials: vec![],
        wire_formats: WireFormats { wire_formats: vec![] },
        component_ids: vec![],
        safe_aad_types: vec![],
        media_types: vec![],
        content_types: vec![],
    }
}

fn operational(pending_proposal_policy: PendingProposalPolicy) -> OperationalParameters {
    let time = |minimum_time| MinDefaultMaxTime {
        minimum_time,
        default_time: minimum_time + 1,
        maximum_time: minimum_time + 2,
    };
    OperationalParameters {
        mandatory_capabilities: ExtendedCapabilities {
            component_ids: vec![ComponentId::ROLES_LIST],
            ..no_capabilities()
        },
        default_capabilities: no_capabilities(),
        forbidden_capabilities: no_capabilities(),
        handshake_formats: WireFormats {
            wire_formats: vec![WireFormat::PUBLIC_MESSAGE],
        },
        external_proposal_allowed: true,
        external_commit_allowed: false,
        pending_proposal_policy,
        leaf_node_update_time: time(1),
        app_message_policy: AppMessagePolicy {
            epoch_tolerance: 2,
            pad_to_size: 16,
            max_generations_skipahead: 100,
        },
        max_kp_lifetime: 10,
        max_credential_lifetime: 11,
        resumption_psk_lifetime: 12,
        sender_nonce_keypair_lifetime: time(4),
        max_keypairs: 13,
        buffer_incoming_message_time: time(7),
        max_buffered_messages: 14,
    }
}

#[test]
fn how_the_group_is_run() {
    let fixed = |pending: &str| {
        [
            "00 00 00 00 00 00 02 0025 00 00 00",                 // mandatory_capabilities
            "00 00 00 00 00 00 00 00 00 00",                      // default_capabilities
            "00 00 00 00 00 00 00 00 00 00",                      // forbidden_capabilities
            "02 0001",                                            // handshake_formats
            "01 00",                                              // external_proposal_allowed, external_commit_allowed
            pending,                                              // pending_proposal_policy
            "0000000000000001 0000000000000002 0000000000000003", // LeafNode_update_time
            "02 0010 00000064",                                   // app_message_policy
            "000000000000000a",                                   // max_kp_lifetime
            "000000000000000b",                                   // max_credential_lifetime
            "000000000000000c",                                   // resumption_psk_lifetime
            "0000000000000004 0000000000000005 0000000000000006", // sender_nonce_keypair_lifetime
            "0000000d",                                           // max_keypairs
            "0000000000000007 0000000000000008 0000000000000009", // buffer_incoming_message_time
            "0000000e",                                           // max_buffered_messages
        ]
        .join(" ")
    };
    let delay = PendingProposalPolicy::RandomDelay {
        minimum_delay_ms: 1,
        maximum_delay_ms: 2,
    };
    let extension = PendingProposalPolicy::Extension {
        strategy: PendingProposalStrategy(3),
        id_of_strategy_params: ComponentId(0x8001),
    };
    for (pending, bytes) in [
        (PendingProposalPolicy::Unspecified, "00"),
        (PendingProposalPolicy::ImmediateCommit, "01"),
        (delay, "02 0000000000000001 0000000000000002"),
        (extension, "03 8001"),
    ] {
        assert_wire(&operational(pending), &fixed(bytes));
    }
}

#[test]
fn an_update_replaces_the_data_and_has_its_format() {
    let data = RoleData { roles: vec![role()] };
    let kind = crate::Kind::of_component_update(ComponentId::ROLES_LIST).unwrap();
    assert_eq!(kind.name, RoleData::NAME);
    assert_eq!(kind.read(&data.to_bytes()).encoded, Ok(data.to_bytes()));
}
