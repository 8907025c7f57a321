//! Policies to begin a room with: the four of the draft's appendix (MRP #role-examples) and one for direct messages.
//!
//! Where the appendix contradicts itself we follow what it means (D-examples): a speaker has what an attendee has, a moderator what a
//! speaker has, and every enforcer reaches every role. Each template gives the hub the role of the enforcer, by preauthorization of
//! the hub's own credential, `mimi://host`.

use nabe_wire::Encode;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{ComponentId, CredentialType};
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::policy::{
    BaseRoomPolicy, Capability, Claim, ClaimId, PreAuthData, PreAuthRoleEntry, Role, RoleData,
    SingleSourceRoleChangeTargets,
};

/// `ordinary_user` of the cooperative and the strict room, and the participants of a direct message.
pub const ORDINARY_USER: u32 = 2;
/// `group_admin` of the cooperative and the strict room.
pub const GROUP_ADMIN: u32 = 3;
/// `super_admin` of the cooperative and the strict room.
pub const SUPER_ADMIN: u32 = 4;

/// The components that make up a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// `roles_list`.
    pub roles: RoleData,
    /// `preauth_list`.
    pub preauth: PreAuthData,
    /// `base_room_policy`.
    pub base: BaseRoomPolicy,
}

impl Template {
    /// The dictionary of a room with this policy and these participants. Whoever makes the room adds the metadata.
    pub fn dictionary(&self, participants: &ParticipantListData) -> AppDataDictionary {
        let mut dictionary = AppDataDictionary::new();
        dictionary.set(ComponentId::PARTICIPANT_LIST, participants.to_bytes());
        dictionary.set(ComponentId::ROLES_LIST, self.roles.to_bytes());
        dictionary.set(ComponentId::PREAUTH_LIST, self.preauth.to_bytes());
        dictionary.set(ComponentId::BASE_ROOM_POLICY, self.base.to_bytes());
        dictionary
    }
}

/// For family, friends and small teams: everyone adds and removes ordinary users, administrators do the rest (MRP
/// #cooperatively-administered-room).
pub fn cooperative(hub: &str) -> Template {
    let ordinary = [
        PARTICIPATE,
        &[
            Capability::CAN_ADD_PARTICIPANT,
            Capability::CAN_REMOVE_PARTICIPANT,
            Capability::CAN_REPLY_TO_MESSAGE,
            Capability::CAN_EDIT_OWN_TOPIC,
            Capability::CAN_CHANGE_ROOM_NAME,
            Capability::CAN_CHANGE_ROOM_AVATAR,
            Capability::CAN_CHANGE_ROOM_SUBJECT,
            Capability::CAN_CHANGE_ROOM_MOOD,
        ],
    ]
    .concat();
    let admin = [
        &ordinary[..],
        &[
            Capability::CAN_BAN,
            Capability::CAN_UNBAN,
            Capability::CAN_KICK,
            Capability::CAN_CHANGE_USER_ROLE,
            Capability::CAN_DELETE_OTHER_MESSAGE,
            Capability::CAN_EDIT_OTHER_TOPIC,
            Capability::CAN_CHANGE_ROOM_DESCRIPTION,
        ],
    ]
    .concat();
    let super_admin = [
        &admin[..],
        &[
            Capability::CAN_CHANGE_ROOM_MEMBERSHIP_STYLE,
            Capability::CAN_CHANGE_PREAUTHORIZED_USER_LIST,
            Capability::CAN_DESTROY_ROOM,
        ],
    ]
    .concat();
    administered(
        hub,
        [ordinary, admin, super_admin],
        role(0, "no_role", &[], &[]).without_clients(),
    )
}

/// For rooms that administrators run; others join by code or preauthorization (MRP #strictly-administered-room).
pub fn strict(hub: &str) -> Template {
    let ordinary = [
        PARTICIPATE,
        &[Capability::CAN_JOIN_IF_PREAUTHORIZED, Capability::CAN_CHANGE_OWN_ROLE],
    ]
    .concat();
    let admin = [
        &ordinary[..],
        ADMINISTER,
        &[
            Capability::CAN_CHANGE_ROOM_NAME,
            Capability::CAN_CHANGE_ROOM_DESCRIPTION,
        ],
        &[
            Capability::CAN_CHANGE_ROOM_AVATAR,
            Capability::CAN_CHANGE_ROOM_SUBJECT,
            Capability::CAN_CHANGE_ROOM_MOOD,
        ],
    ]
    .concat();
    let super_admin = [&admin[..], RULE].concat();
    administered(
        hub,
        [ordinary, admin, super_admin],
        role(0, "no_role", &[Capability::CAN_USE_JOIN_CODE], &[(0, &[2])]).without_clients(),
    )
}

/// The roles that the cooperative and the strict room have in common.
fn administered(hub: &str, [ordinary, admin, super_admin]: [Vec<Capability>; 3], no_role: Builder) -> Template {
    let enforcer = enforcer(5, &[(0, &[1]), (1, &[0]), (2, &[0, 1]), (3, &[0, 1]), (4, &[0, 1])]);
    template(
        hub,
        5,
        vec![
            no_role,
            banned(),
            role(2, "ordinary_user", &ordinary, &[(0, &[2]), (2, &[0])]),
            role(
                3,
                "group_admin",
                &admin,
                &[(0, &[1, 2, 3]), (1, &[0, 2, 3]), (2, &[0, 1, 3]), (3, &[0, 1, 2])],
            )
            .at_least(1),
            role(
                4,
                "super_admin",
                &super_admin,
                &[
                    (0, &[1, 2, 3, 4]),
                    (1, &[0, 2, 3, 4]),
                    (2, &[0, 1, 3, 4]),
                    (3, &[0, 1, 2, 4]),
                    (4, &[0, 1, 2, 3]),
                ],
            ),
            enforcer,
        ],
    )
}

/// For lectures and panels: guests and attendees listen, speakers speak (MRP #moderated-room).
pub fn moderated(hub: &str) -> Template {
    let guest = vec![
        Capability::CAN_REMOVE_SELF,
        Capability::CAN_RECEIVE_MESSAGE,
        Capability::CAN_COPY_MESSAGE,
        Capability::CAN_REACT_TO_MESSAGE,
        Capability::CAN_DELETE_OWN_REACTION,
        Capability::CAN_FOLLOW_LINK,
        Capability::CAN_COPY_LINK,
        Capability::CAN_DOWNLOAD_IMAGE,
        Capability::CAN_DOWNLOAD_VIDEO,
        Capability::CAN_DOWNLOAD_AUDIO,
    ];
    let attendee = [
        &guest[..],
        &[
            Capability::CAN_ADD_OWN_CLIENT,
            Capability::CAN_JOIN_IF_PREAUTHORIZED,
            Capability::CAN_REMOVE_OWN_CLIENT,
            Capability::CAN_CHANGE_OWN_ROLE,
            Capability::CAN_REPORT_ABUSE,
            Capability::CAN_REPLY_IN_TOPIC,
            Capability::CAN_DOWNLOAD_ATTACHMENT,
            Capability::CAN_CHANGE_OWN_NAME,
            Capability::CAN_CHANGE_OWN_PRESENCE,
            Capability::CAN_CHANGE_OWN_AVATAR,
        ],
    ]
    .concat();
    let speaker = [
        &attendee[..],
        &[
            Capability::CAN_SEND_MESSAGE,
            Capability::CAN_EDIT_OWN_MESSAGE,
            Capability::CAN_DELETE_OWN_MESSAGE,
            Capability::CAN_START_TOPIC,
            Capability::CAN_UPLOAD_IMAGE,
            Capability::CAN_UPLOAD_VIDEO,
            Capability::CAN_UPLOAD_AUDIO,
            Capability::CAN_UPLOAD_ATTACHMENT,
            Capability::CAN_SEND_LINK,
            Capability::CAN_SEND_LINK_PREVIEW,
        ],
    ]
    .concat();
    let moderator = [
        &speaker[..],
        ADMINISTER,
        &[
            Capability::CAN_CHANGE_ROOM_NAME,
            Capability::CAN_CHANGE_ROOM_AVATAR,
            Capability::CAN_CHANGE_ROOM_SUBJECT,
            Capability::CAN_CHANGE_ROOM_MOOD,
        ],
    ]
    .concat();
    let super_admin = [&moderator[..], &[Capability::CAN_CHANGE_ROOM_DESCRIPTION], RULE].concat();
    template(
        hub,
        7,
        vec![
            role(0, "no_role", &[Capability::CAN_USE_JOIN_CODE], &[(0, &[2, 3])]).without_clients(),
            banned(),
            role(2, "guest", &guest, &[(0, &[2]), (2, &[0])]),
            role(3, "attendee", &attendee, &[(0, &[3]), (3, &[0])]),
            role(4, "speaker", &speaker, &[(0, &[4]), (4, &[0])]),
            role(
                5,
                "moderator",
                &moderator,
                &[
                    (0, &[1, 2, 3, 4, 5]),
                    (1, &[0, 2, 3, 4, 5]),
                    (2, &[0, 1, 3, 4, 5]),
                    (3, &[0, 1, 2, 4, 5]),
                    (4, &[0, 1, 2, 3, 5]),
                    (5, &[0, 1, 2, 3, 4]),
                ],
            )
            .at_least(1),
            role(
                6,
                "super_admin",
                &super_admin,
                &[
                    (0, &[1, 2, 3, 4, 5, 6]),
                    (1, &[0, 2, 3, 4, 5, 6]),
                    (2, &[0, 1, 3, 4, 5, 6]),
                    (3, &[0, 1, 2, 4, 5, 6]),
                    (4, &[0, 1, 2, 3, 5, 6]),
                    (5, &[0, 1, 2, 3, 4, 6]),
                    (6, &[0, 1, 2, 3, 4, 5]),
                ],
            ),
            enforcer(
                7,
                &[
                    (0, &[1]),
                    (1, &[0]),
                    (2, &[0, 1]),
                    (3, &[0, 1]),
                    (4, &[0, 1]),
                    (5, &[0, 1]),
                    (6, &[0, 1]),
                ],
            ),
        ],
    )
}

/// For three organizations, each of which runs its own users (MRP #multi-organization-administered-room). Users of the first, whose
/// provider is `organization_a`, join by preauthorization.
pub fn multi_organization(hub: &str, organization_a: &str) -> Template {
    let user_b = vec![
        Capability::CAN_REMOVE_SELF,
        Capability::CAN_ADD_OWN_CLIENT,
        Capability::CAN_REMOVE_OWN_CLIENT,
        Capability::CAN_SEND_MESSAGE,
        Capability::CAN_RECEIVE_MESSAGE,
        Capability::CAN_COPY_MESSAGE,
        Capability::CAN_REPORT_ABUSE,
        Capability::CAN_REPLY_IN_TOPIC,
        Capability::CAN_REACT_TO_MESSAGE,
        Capability::CAN_DELETE_OWN_REACTION,
        Capability::CAN_EDIT_OWN_MESSAGE,
        Capability::CAN_SEND_LINK,
        Capability::CAN_SEND_LINK_PREVIEW,
        Capability::CAN_FOLLOW_LINK,
        Capability::CAN_COPY_LINK,
        Capability::CAN_DOWNLOAD_IMAGE,
        Capability::CAN_DOWNLOAD_VIDEO,
        Capability::CAN_DOWNLOAD_AUDIO,
        Capability::CAN_DOWNLOAD_ATTACHMENT,
        Capability::CAN_CHANGE_OWN_NAME,
        Capability::CAN_CHANGE_OWN_PRESENCE,
        Capability::CAN_CHANGE_OWN_AVATAR,
    ];
    let at_home: &[Capability] = &[Capability::CAN_CHANGE_OWN_ROLE, Capability::CAN_JOIN_IF_PREAUTHORIZED];
    let user_a = [&user_b[..], at_home].concat();
    let admin_b = [
        &user_b[..],
        &[
            Capability::CAN_DELETE_OWN_MESSAGE,
            Capability::CAN_START_TOPIC,
            Capability::CAN_UPLOAD_IMAGE,
            Capability::CAN_UPLOAD_VIDEO,
            Capability::CAN_UPLOAD_AUDIO,
            Capability::CAN_UPLOAD_ATTACHMENT,
            Capability::CAN_ADD_PARTICIPANT,
            Capability::CAN_REMOVE_PARTICIPANT,
            Capability::CAN_BAN,
            Capability::CAN_KICK,
            Capability::CAN_CHANGE_USER_ROLE,
        ],
    ]
    .concat();
    let admin_a = [&admin_b[..], at_home].concat();
    let super_admin = [
        &admin_a[..],
        &[
            Capability::CAN_UNBAN,
            Capability::CAN_DELETE_OTHER_REACTION,
            Capability::CAN_DELETE_OTHER_MESSAGE,
            Capability::CAN_EDIT_OWN_TOPIC,
            Capability::CAN_EDIT_OTHER_TOPIC,
            Capability::CAN_CHANGE_ROOM_DESCRIPTION,
            Capability::CAN_CHANGE_ROOM_NAME,
            Capability::CAN_CHANGE_ROOM_AVATAR,
            Capability::CAN_CHANGE_ROOM_SUBJECT,
            Capability::CAN_CHANGE_ROOM_MOOD,
        ],
        RULE,
    ]
    .concat();
    let mut template = template(
        hub,
        9,
        vec![
            role(0, "no_role", &[], &[]).without_clients(),
            banned(),
            role(2, "org_a_user", &user_a, &[(0, &[2]), (2, &[0])]),
            role(3, "org_b_user", &user_b, &[(0, &[3]), (3, &[0])]),
            role(4, "org_c_user", &user_b, &[(0, &[4]), (4, &[0])]),
            role(
                5,
                "org_a_admin",
                &admin_a,
                &[(0, &[2, 5]), (2, &[0, 1, 5]), (5, &[0, 1, 2])],
            ),
            role(
                6,
                "org_b_admin",
                &admin_b,
                &[(0, &[3, 6]), (3, &[0, 1, 6]), (6, &[0, 1, 3])],
            )
            .at_least(1)
            .at_most(3)
            .active_at_least(1),
            role(
                7,
                "org_c_admin",
                &admin_b,
                &[(0, &[4, 7]), (4, &[0, 1, 7]), (7, &[0, 1, 4])],
            )
            .at_least(1)
            .at_most(3)
            .active_at_least(1),
            role(
                8,
                "super_admin",
                &super_admin,
                &[
                    (0, &[1, 2, 3, 4, 5, 6, 7, 8]),
                    (1, &[0, 2, 3, 4, 5, 6, 7, 8]),
                    (2, &[0, 1, 5, 8]),
                    (3, &[0, 1, 6]),
                    (4, &[0, 1, 7]),
                    (5, &[0, 1, 2, 8]),
                    (6, &[0, 1, 3]),
                    (7, &[0, 1, 4]),
                    (8, &[0, 1, 2, 5]),
                ],
            )
            .at_least(1)
            .active_at_least(1),
            enforcer(
                9,
                &[
                    (0, &[1]),
                    (1, &[0]),
                    (2, &[0, 1]),
                    (3, &[0, 1]),
                    (4, &[0, 1]),
                    (5, &[0, 1]),
                    (6, &[0, 1]),
                    (7, &[0, 1]),
                    (8, &[0, 1]),
                ],
            ),
        ],
    );
    template.preauth.preauthorized_entries.push(entry(
        b"provider",
        organization_a,
        role(2, "org_a_user", &user_a, &[]).0,
    ));
    template
}

/// For two people, none of whom can be removed or leave: both can take their clients out.
pub fn direct_message() -> Template {
    let both: Vec<Capability> = PARTICIPATE
        .iter()
        .copied()
        .filter(|capability| *capability != Capability::CAN_REMOVE_SELF)
        .chain([
            Capability::CAN_REPLY_TO_MESSAGE,
            Capability::CAN_EDIT_REACTION,
            Capability::CAN_EDIT_OWN_TOPIC,
        ])
        .collect();
    let roles = [
        role(0, "no_role", &[], &[]).without_clients(),
        role(ORDINARY_USER, "participant", &both, &[]),
    ];
    Template {
        roles: RoleData {
            roles: roles.into_iter().map(|role| role.0).collect(),
        },
        preauth: PreAuthData {
            preauthorized_entries: Vec::new(),
        },
        base: BaseRoomPolicy {
            fixed_membership: true,
            max_users: Some(2),
            persistent_room: true,
            ..base()
        },
    }
}

/// What users do everywhere but in a moderated room.
const PARTICIPATE: &[Capability] = &[
    Capability::CAN_ADD_OWN_CLIENT,
    Capability::CAN_REMOVE_OWN_CLIENT,
    Capability::CAN_REMOVE_SELF,
    Capability::CAN_SEND_MESSAGE,
    Capability::CAN_RECEIVE_MESSAGE,
    Capability::CAN_COPY_MESSAGE,
    Capability::CAN_REPORT_ABUSE,
    Capability::CAN_REACT_TO_MESSAGE,
    Capability::CAN_DELETE_OWN_REACTION,
    Capability::CAN_EDIT_OWN_MESSAGE,
    Capability::CAN_DELETE_OWN_MESSAGE,
    Capability::CAN_START_TOPIC,
    Capability::CAN_REPLY_IN_TOPIC,
    Capability::CAN_UPLOAD_IMAGE,
    Capability::CAN_UPLOAD_VIDEO,
    Capability::CAN_UPLOAD_AUDIO,
    Capability::CAN_UPLOAD_ATTACHMENT,
    Capability::CAN_DOWNLOAD_IMAGE,
    Capability::CAN_DOWNLOAD_VIDEO,
    Capability::CAN_DOWNLOAD_AUDIO,
    Capability::CAN_DOWNLOAD_ATTACHMENT,
    Capability::CAN_SEND_LINK,
    Capability::CAN_SEND_LINK_PREVIEW,
    Capability::CAN_FOLLOW_LINK,
    Capability::CAN_COPY_LINK,
    Capability::CAN_CHANGE_OWN_NAME,
    Capability::CAN_CHANGE_OWN_PRESENCE,
    Capability::CAN_CHANGE_OWN_MOOD,
    Capability::CAN_CHANGE_OWN_AVATAR,
];

/// What administrators and moderators have beyond users where these cannot add anybody.
const ADMINISTER: &[Capability] = &[
    Capability::CAN_ADD_PARTICIPANT,
    Capability::CAN_REMOVE_PARTICIPANT,
    Capability::CAN_BAN,
    Capability::CAN_UNBAN,
    Capability::CAN_KICK,
    Capability::CAN_CHANGE_USER_ROLE,
    Capability::CAN_CREATE_JOIN_CODE,
    Capability::CAN_DELETE_JOIN_CODE,
    Capability::CAN_DELETE_OTHER_REACTION,
    Capability::CAN_DELETE_OTHER_MESSAGE,
    Capability::CAN_EDIT_OWN_TOPIC,
    Capability::CAN_EDIT_OTHER_TOPIC,
];

/// What the highest administrators have beyond the others.
const RULE: &[Capability] = &[
    Capability::CAN_CHANGE_ROOM_MEMBERSHIP_STYLE,
    Capability::CAN_CHANGE_ROLE_DEFINITIONS,
    Capability::CAN_CHANGE_PREAUTHORIZED_USER_LIST,
    Capability::CAN_DESTROY_ROOM,
    Capability::CAN_SEND_MLS_REINIT_PROPOSAL,
];

/// What the hub does without being a participant.
const ENFORCE: &[Capability] = &[
    Capability::CAN_REMOVE_PARTICIPANT,
    Capability::CAN_CHANGE_USER_ROLE,
    Capability::CAN_BAN,
    Capability::CAN_UNBAN,
    Capability::CAN_CHANGE_ROLE_DEFINITIONS,
    Capability::CAN_CHANGE_PREAUTHORIZED_USER_LIST,
    Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES,
    Capability::CAN_DESTROY_ROOM,
    Capability::CAN_SEND_MLS_REINIT_PROPOSAL,
];

struct Builder(Role);

impl Builder {
    fn without_clients(mut self) -> Self {
        self.0.maximum_active_participants_constraint = Some(0);
        self
    }

    fn at_least(mut self, minimum: u32) -> Self {
        self.0.minimum_participants_constraint = minimum;
        self
    }

    fn at_most(mut self, maximum: u32) -> Self {
        self.0.maximum_participants_constraint = Some(maximum);
        self
    }

    fn active_at_least(mut self, minimum: u32) -> Self {
        self.0.minimum_active_participants_constraint = minimum;
        self
    }
}

fn role(role_index: u32, name: &str, capabilities: &[Capability], changes: &[(u32, &[u32])]) -> Builder {
    let mut role_capabilities = capabilities.to_vec();
    role_capabilities.sort_unstable();
    role_capabilities.dedup();
    let change = |(from_role_index, targets): &(u32, &[u32])| SingleSourceRoleChangeTargets {
        from_role_index: *from_role_index,
        target_role_indexes: targets.to_vec(),
    };
    Builder(Role {
        role_index,
        role_name: name.into(),
        role_description: "".into(),
        role_capabilities,
        minimum_participants_constraint: 0,
        maximum_participants_constraint: None,
        minimum_active_participants_constraint: 0,
        maximum_active_participants_constraint: None,
        authorized_role_changes: changes.iter().map(change).collect(),
    })
}

fn banned() -> Builder {
    role(1, "banned", &[], &[]).without_clients()
}

fn enforcer(index: u32, changes: &[(u32, &[u32])]) -> Builder {
    role(index, "policy_enforcer", ENFORCE, changes)
        .at_least(1)
        .at_most(2)
        .without_clients()
}

fn template(hub: &str, enforcer: usize, roles: Vec<Builder>) -> Template {
    let roles: Vec<Role> = roles.into_iter().map(|role| role.0).collect();
    let preauthorized_entries = vec![entry(b"", hub, roles[enforcer].clone())];
    Template {
        roles: RoleData { roles },
        preauth: PreAuthData { preauthorized_entries },
        base: base(),
    }
}

fn entry(claim: &[u8], host: &str, target_role: Role) -> PreAuthRoleEntry {
    PreAuthRoleEntry {
        claimset: vec![Claim {
            claim_id: ClaimId {
                credential_type: CredentialType::BASIC,
                id: claim.into(),
            },
            claim_value: format!("mimi://{host}").into_bytes().into(),
        }],
        target_role,
    }
}

fn base() -> BaseRoomPolicy {
    BaseRoomPolicy {
        fixed_membership: false,
        parent_dependant: false,
        parent_room: Vec::new(),
        multi_device: true,
        max_clients: None,
        max_users: None,
        pseudonyms_allowed: false,
        persistent_room: true,
        discoverable: false,
        policy_component_ids: vec![ComponentId::ROLES_LIST, ComponentId::PREAUTH_LIST],
    }
}
