//! The policy of the checks' rooms, and what a case changes in it. It is small on purpose: each role holds what some case needs and
//! little else (MRP #roles, MRP #preauth, MRP #base-room-policy-component-syntax).

use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{ComponentId, CredentialType};
use nabe_wire::policy::{
    BaseRoomPolicy, Capability, Claim, ClaimId, PreAuthData, PreAuthRoleEntry, Role, RoleData,
    SingleSourceRoleChangeTargets,
};

/// Everybody who is not on the list.
pub(crate) const OUTSIDER: u32 = 0;
/// Who must stay away.
pub(crate) const BANNED: u32 = 1;
/// May write, add and remove ordinary users, leave, and change the room's name.
pub(crate) const ORDINARY: u32 = 2;
/// May also ban, lift bans, kick, change roles, and change all metadata.
pub(crate) const ADMIN: u32 = 3;
/// May also change roles' definitions and preauthorization, and remove join codes. The room's creator has this role.
pub(crate) const SUPER: u32 = 4;
/// The hub, by preauthorization.
pub(crate) const ENFORCER: u32 = 5;
/// May read and nothing more.
pub(crate) const READER: u32 = 6;
/// May write and not read.
pub(crate) const DEAF: u32 = 8;

/// The three components.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) roles: RoleData,
    pub(crate) preauth: PreAuthData,
    pub(crate) base: BaseRoomPolicy,
}

impl Policy {
    /// That of most rooms at this hub.
    pub(crate) fn new(hub: &str) -> Self {
        let ordinary = [
            Capability::CAN_ADD_PARTICIPANT,
            Capability::CAN_REMOVE_PARTICIPANT,
            Capability::CAN_ADD_OWN_CLIENT,
            Capability::CAN_REMOVE_OWN_CLIENT,
            Capability::CAN_REMOVE_SELF,
            Capability::CAN_JOIN_IF_PREAUTHORIZED,
            Capability::CAN_SEND_MESSAGE,
            Capability::CAN_RECEIVE_MESSAGE,
            Capability::CAN_REPORT_ABUSE,
            Capability::CAN_CHANGE_ROOM_NAME,
        ];
        let admin = [
            &ordinary[..],
            &[
                Capability::CAN_BAN,
                Capability::CAN_UNBAN,
                Capability::CAN_KICK,
                Capability::CAN_CHANGE_USER_ROLE,
                Capability::CAN_CHANGE_ROOM_DESCRIPTION,
                Capability::CAN_CHANGE_ROOM_SUBJECT,
            ],
        ]
        .concat();
        let first = [
            &admin[..],
            &[
                Capability::CAN_CHANGE_ROLE_DEFINITIONS,
                Capability::CAN_CHANGE_PREAUTHORIZED_USER_LIST,
                Capability::CAN_DELETE_JOIN_CODE,
            ],
        ]
        .concat();
        let enforcer = [
            Capability::CAN_REMOVE_PARTICIPANT,
            Capability::CAN_CHANGE_USER_ROLE,
            Capability::CAN_BAN,
            Capability::CAN_UNBAN,
        ];
        let enforcer = role(
            ENFORCER,
            "enforcer",
            &enforcer,
            &[
                (0, &[1]),
                (1, &[0]),
                (2, &[0, 1]),
                (3, &[0, 1]),
                (4, &[0, 1]),
                (6, &[0, 1]),
            ],
        );
        let roles = vec![
            Role {
                maximum_active_participants_constraint: Some(0),
                ..role(OUTSIDER, "outsider", &[], &[])
            },
            Role {
                maximum_active_participants_constraint: Some(0),
                ..role(BANNED, "banned", &[], &[])
            },
            role(ORDINARY, "ordinary", &ordinary, &[(0, &[2]), (2, &[0])]),
            role(
                ADMIN,
                "admin",
                &admin,
                &[(0, &[1, 2, 3]), (1, &[0, 2, 3]), (2, &[0, 1, 3]), (3, &[0, 1, 2])],
            ),
            role(
                SUPER,
                "super",
                &first,
                &[
                    (0, &[1, 2, 3, 4, 6, 8]),
                    (1, &[0, 2, 3, 4, 6]),
                    (2, &[0, 1, 3, 4, 6]),
                    (3, &[0, 1, 2, 4, 6]),
                    (4, &[0, 1, 2, 3, 6]),
                    (6, &[0, 1, 2, 3, 4]),
                ],
            ),
            enforcer.clone(),
            role(READER, "reader", &[Capability::CAN_RECEIVE_MESSAGE], &[]),
            role(DEAF, "deaf", &[Capability::CAN_SEND_MESSAGE], &[]),
        ];
        Self {
            roles: RoleData { roles },
            preauth: PreAuthData {
                preauthorized_entries: vec![entry("", &format!("mimi://{hub}"), enforcer)],
            },
            base: BaseRoomPolicy {
                fixed_membership: false,
                parent_dependant: false,
                parent_room: Vec::new(),
                multi_device: true,
                max_clients: None,
                max_users: None,
                pseudonyms_allowed: false,
                persistent_room: true,
                discoverable: false,
                policy_component_ids: vec![
                    ComponentId::ROLES_LIST,
                    ComponentId::PREAUTH_LIST,
                    ComponentId::BASE_ROOM_POLICY,
                ],
            },
        }
    }

    /// The role with this index.
    ///
    /// # Panics
    /// If a case names one that is not there.
    pub(crate) fn role(&mut self, index: u32) -> &mut Role {
        let mut roles = self.roles.roles.iter_mut();
        roles
            .find(|role| role.role_index == index)
            .expect("cases name roles of their policy")
    }

    /// Everybody whose credential's claim `id` has this value has this role before all others: `user` or `provider` as this hub's
    /// decisions name them.
    pub(crate) fn preauthorize(&mut self, id: &str, value: &str, index: u32) {
        let role = self.role(index).clone();
        self.preauth.preauthorized_entries.push(entry(id, value, role));
    }

    /// Puts the components into a room's dictionary.
    pub(crate) fn put_into(&self, dictionary: &mut AppDataDictionary) {
        dictionary.set(ComponentId::ROLES_LIST, self.roles.to_bytes());
        dictionary.set(ComponentId::PREAUTH_LIST, self.preauth.to_bytes());
        dictionary.set(ComponentId::BASE_ROOM_POLICY, self.base.to_bytes());
    }
}

/// A role, without minima and maxima.
pub(crate) fn role(index: u32, name: &str, capabilities: &[Capability], changes: &[(u32, &[u32])]) -> Role {
    let changes = changes.iter().map(|&(from, targets)| SingleSourceRoleChangeTargets {
        from_role_index: from,
        target_role_indexes: targets.to_vec(),
    });
    Role {
        role_index: index,
        role_name: name.into(),
        role_description: "".into(),
        role_capabilities: capabilities.to_vec(),
        minimum_participants_constraint: 0,
        maximum_participants_constraint: None,
        minimum_active_participants_constraint: 0,
        maximum_active_participants_constraint: None,
        authorized_role_changes: changes.collect(),
    }
}

fn entry(id: &str, value: &str, target_role: Role) -> PreAuthRoleEntry {
    PreAuthRoleEntry {
        claimset: vec![Claim {
            claim_id: ClaimId {
                credential_type: CredentialType::BASIC,
                id: id.as_bytes().into(),
            },
            claim_value: value.as_bytes().into(),
        }],
        target_role,
    }
}
