//! Who may join by themselves: by preauthorization, by a join code, or because the room is open (MRP #adding, MRP #preauth).

use nabe_wire::policy::Capability;

use super::Rejection;
use super::action::JoinCode;
use super::claims::Claims;
use super::policy::Policy;
use super::roles::NO_ROLE;

/// Somebody who is not on the list may put themselves there with this role: one of the ways has to lead there. If none does, the
/// reason is that of the first way that was tried: the code, preauthorization, the open room.
pub(super) fn authorize(policy: &Policy, claims: &Claims, code: JoinCode, role: u32) -> Result<(), Rejection> {
    let by_code = by_code(policy, code, Some(role));
    let by_preauthorization = by_preauthorization(policy, claims, Some(role));
    let openly = openly(policy, Some(role));
    first_of([by_code, by_preauthorization, Some(openly)])
}

/// The same with any role: who may have the GroupInfo for joining.
pub(super) fn authorize_any(policy: &Policy, claims: &Claims, code: JoinCode) -> Result<(), Rejection> {
    first_of([
        by_code(policy, code, None),
        by_preauthorization(policy, claims, None),
        Some(openly(policy, None)),
    ])
}

type Way = Option<Result<(), Rejection>>;

fn first_of(ways: [Way; 3]) -> Result<(), Rejection> {
    let mut tried = ways.into_iter().flatten();
    let first = tried.next().unwrap_or(Err(Rejection::CannotOpenJoin));
    if first.is_ok() || tried.any(|way| way.is_ok()) {
        return Ok(());
    }
    first
}

/// `canUseJoinCode`. The role that the code is for has to be among those that role 0 may change to (D-join-code-role).
fn by_code(policy: &Policy, code: JoinCode, role: Option<u32>) -> Way {
    let outsider = policy.roles().outsider();
    Some(match code {
        JoinCode::Absent => return None,
        _ if !outsider.can(Capability::CAN_USE_JOIN_CODE) => Err(Rejection::CannotUseJoinCode),
        JoinCode::Unknown => Err(Rejection::JoinCodeUnknown),
        JoinCode::Expired => Err(Rejection::JoinCodeExpired),
        JoinCode::For(its_role) if role.is_some_and(|role| role != its_role) => Err(Rejection::JoinCodeForAnotherRole),
        JoinCode::For(its_role) if !outsider.may_change(NO_ROLE, its_role) => Err(Rejection::RoleChangeNotAuthorized),
        JoinCode::For(_) => Ok(()),
    })
}

/// `canJoinIfPreauthorized`, which is on the role that is joined. `authorized_role_changes` are not asked.
fn by_preauthorization(policy: &Policy, claims: &Claims, role: Option<u32>) -> Way {
    let preauthorized = policy.preauthorized_role(claims)?;
    let target = policy.roles().get(preauthorized);
    Some(if role.is_some_and(|role| role != preauthorized) {
        Err(Rejection::PreauthorizedForAnotherRole)
    } else if target.is_some_and(|target| target.can(Capability::CAN_JOIN_IF_PREAUTHORIZED)) {
        Ok(())
    } else {
        Err(Rejection::CannotJoinIfPreauthorized)
    })
}

/// `canOpenJoin`, which is on role 0.
fn openly(policy: &Policy, role: Option<u32>) -> Result<(), Rejection> {
    let outsider = policy.roles().outsider();
    if !outsider.can(Capability::CAN_OPEN_JOIN) {
        return Err(Rejection::CannotOpenJoin);
    }
    if role.is_some_and(|role| !outsider.may_change(NO_ROLE, role)) {
        return Err(Rejection::RoleChangeNotAuthorized);
    }
    Ok(())
}
