//! The roles of a room, checked once and ready to be asked (MRP #roles).

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::policy::{Capability, Role as WireRole, RoleData};

use super::Rejection;

/// That of everyone who is not on the list.
pub const NO_ROLE: u32 = 0;

/// That of the banned, if it has the name.
pub const BAN_ROLE: u32 = 1;

const BAN_NAME: &str = "banned";

/// A minimum and a maximum, either of which may be missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// 0 if there is none.
    pub minimum: u32,
    /// `None` if there is none.
    pub maximum: Option<u32>,
}

/// One role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Role {
    name: String,
    capabilities: BTreeSet<Capability>,
    participants: Bounds,
    active: Bounds,
    changes: BTreeMap<u32, BTreeSet<u32>>,
}

impl Role {
    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has a capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Whether `authorized_role_changes` lists this change. 0 stands for not being on the list, on either side.
    pub fn may_change(&self, from: u32, to: u32) -> bool {
        self.changes.get(&from).is_some_and(|targets| targets.contains(&to))
    }

    /// How many users may have it.
    pub fn participants(&self) -> Bounds {
        self.participants
    }

    /// How many users with clients may have it.
    pub fn active(&self) -> Bounds {
        self.active
    }

    /// Users with this role have no clients in the group.
    pub fn is_without_clients(&self) -> bool {
        self.active.maximum == Some(0)
    }
}

impl TryFrom<&WireRole> for Role {
    type Error = Rejection;

    fn try_from(role: &WireRole) -> Result<Self, Rejection> {
        let bounds = |minimum, maximum: Option<u32>| match maximum {
            Some(maximum) if minimum > maximum => Err(Rejection::RoleBoundsReversed),
            _ => Ok(Bounds { minimum, maximum }),
        };
        let mut changes = BTreeMap::<u32, BTreeSet<u32>>::new();
        for change in &role.authorized_role_changes {
            let targets = changes.entry(change.from_role_index).or_default();
            targets.extend(&change.target_role_indexes);
        }
        Ok(Self {
            name: role.role_name.0.clone(),
            capabilities: role.role_capabilities.iter().copied().collect(),
            participants: bounds(
                role.minimum_participants_constraint,
                role.maximum_participants_constraint,
            )?,
            active: bounds(
                role.minimum_active_participants_constraint,
                role.maximum_active_participants_constraint,
            )?,
            changes,
        })
    }
}

/// All roles of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Roles {
    roles: BTreeMap<u32, Role>,
}

impl Roles {
    /// Role 0 is there even if the data do not have it: it can do nothing then.
    ///
    /// # Errors
    /// Two roles with one index, changes to roles that do not exist, minima above maxima, `canOpenJoin` on another role
    /// than 0.
    pub fn new(data: &RoleData) -> Result<Self, Rejection> {
        let mut roles = BTreeMap::new();
        for role in &data.roles {
            if roles.insert(role.role_index, Role::try_from(role)?).is_some() {
                return Err(Rejection::RoleIndexTwice);
            }
        }
        let exists = |index: &u32| *index == NO_ROLE || roles.contains_key(index);
        for (index, role) in &roles {
            if !role
                .changes
                .iter()
                .all(|(from, to)| exists(from) && to.iter().all(exists))
            {
                return Err(Rejection::RoleTargetUndefined);
            }
            if *index != NO_ROLE && role.can(Capability::CAN_OPEN_JOIN) {
                return Err(Rejection::OpenJoinOnRole);
            }
        }
        roles.entry(NO_ROLE).or_insert_with(|| Role {
            name: String::new(),
            capabilities: BTreeSet::new(),
            participants: Bounds {
                minimum: 0,
                maximum: None,
            },
            active: Bounds {
                minimum: 0,
                maximum: Some(0),
            },
            changes: BTreeMap::new(),
        });
        Ok(Self { roles })
    }

    /// A role by its index.
    pub fn get(&self, index: u32) -> Option<&Role> {
        self.roles.get(&index)
    }

    /// A role by its index, if users on the list can have it.
    pub fn of_participants(&self, index: u32) -> Option<&Role> {
        self.get(index).filter(|_| index != NO_ROLE)
    }

    /// All roles in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Role)> {
        self.roles.iter().map(|(index, role)| (*index, role))
    }

    /// That of the users who are not on the list.
    pub fn outsider(&self) -> &Role {
        self.roles.get(&NO_ROLE).expect("put there when the roles were read")
    }

    /// Users with this role are banned: it is role 1 and named exactly `banned` (MRP #role-changes).
    pub fn is_ban(&self, index: u32) -> bool {
        index == BAN_ROLE && self.get(BAN_ROLE).is_some_and(|role| role.name == BAN_NAME)
    }
}
