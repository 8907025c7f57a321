//! Joining, inviting, leaving, removing, banning, knocking. LM #int-auth-rules rule 5.

use nabe_event::{Event, Pdu};
use nabe_types::UserId;

use super::{Action, AuthRejection, JoinRule, Membership, PowerLevels, RoomState, membership_of};

/// A membership change and what the rules look at.
struct Change<'a> {
    sender: &'a str,
    target: &'a str,
    sender_is: Membership,
    target_is: Membership,
    levels: PowerLevels<'a>,
    join_rule: JoinRule,
    /// The creator, when the event directly follows their `m.room.create`.
    follows_create_by: Option<&'a str>,
}

/// LM #int-auth-rules, rule 5.
pub(super) fn authorize_member(event: &Event, state: &impl RoomState, create: &Pdu) -> Result<(), AuthRejection> {
    // 5.1
    let target = event.state_key().ok_or(AuthRejection::MemberWithoutTarget)?;
    let membership = event.membership().ok_or(AuthRejection::MemberWithoutMembership)?;
    // 5.1a: LM #int-ev-member wants a user ID; the list of rules does not ask for it.
    if UserId::parse(target).is_err() {
        return Err(AuthRejection::MemberTargetNotUser);
    }
    let sender = event.sender().as_str();
    let follows_create = event.prev_events() == std::slice::from_ref(create.event_id());
    let change = Change {
        sender,
        target,
        sender_is: membership_of(state, sender),
        target_is: membership_of(state, target),
        levels: PowerLevels::of(state),
        join_rule: JoinRule::of(state),
        follows_create_by: follows_create.then(|| create.sender().as_str()),
    };
    match Membership::parse(membership) {
        Some(Membership::Join) => authorize_join(&change),
        Some(Membership::Invite) => authorize_invite(&change),
        Some(Membership::Leave) => authorize_leave(&change),
        Some(Membership::Ban) => authorize_ban(&change),
        Some(Membership::Knock) => authorize_knock(&change),
        // 5.7
        None => Err(AuthRejection::UnknownMembership),
    }
}

// 5.2
fn authorize_join(change: &Change<'_>) -> Result<(), AuthRejection> {
    // 5.2.1 (deviation): only when the creator is also the sender. As written, anyone could author the creator's join.
    if change.follows_create_by == Some(change.target) && change.sender == change.target {
        return Ok(());
    }
    // 5.2.2
    if change.sender != change.target {
        return Err(AuthRejection::JoinForSomeoneElse);
    }
    // 5.2.3
    if change.sender_is == Membership::Ban {
        return Err(AuthRejection::JoinerBanned);
    }
    // 5.2.4, 5.2.5, 5.2.6
    match (change.join_rule, change.sender_is) {
        (JoinRule::Invite | JoinRule::Knock, Membership::Invite | Membership::Join) | (JoinRule::Public, _) => Ok(()),
        _ => Err(AuthRejection::JoinNotAllowed),
    }
}

// 5.3
fn authorize_invite(change: &Change<'_>) -> Result<(), AuthRejection> {
    // 5.3.1
    if change.sender_is != Membership::Join {
        return Err(AuthRejection::InviterNotJoined);
    }
    // 5.3.2
    if matches!(change.target_is, Membership::Join | Membership::Ban) {
        return Err(AuthRejection::InviteeJoinedOrBanned);
    }
    // 5.3.3, 5.3.4
    if change.sender_may(Action::Invite) {
        Ok(())
    } else {
        Err(AuthRejection::InviteLevelTooLow)
    }
}

// 5.4
fn authorize_leave(change: &Change<'_>) -> Result<(), AuthRejection> {
    // 5.4.1
    if change.sender == change.target {
        return match change.sender_is {
            Membership::Knock | Membership::Join | Membership::Invite => Ok(()),
            Membership::Leave | Membership::Ban => Err(AuthRejection::LeaveWithoutPresence),
        };
    }
    // 5.4.2
    if change.sender_is != Membership::Join {
        return Err(AuthRejection::KickerNotJoined);
    }
    // 5.4.3
    if change.target_is == Membership::Ban && !change.sender_may(Action::Ban) {
        return Err(AuthRejection::UnbanLevelTooLow);
    }
    // 5.4.4, 5.4.5
    if change.sender_may(Action::Kick) && change.sender_outranks_target() {
        Ok(())
    } else {
        Err(AuthRejection::KickNotAllowed)
    }
}

// 5.5
fn authorize_ban(change: &Change<'_>) -> Result<(), AuthRejection> {
    // 5.5.1
    if change.sender_is != Membership::Join {
        return Err(AuthRejection::BannerNotJoined);
    }
    // 5.5.2, 5.5.3
    if change.sender_may(Action::Ban) && change.sender_outranks_target() {
        Ok(())
    } else {
        Err(AuthRejection::BanNotAllowed)
    }
}

// 5.6. Unlike room versions of Matrix, an invited user may knock.
fn authorize_knock(change: &Change<'_>) -> Result<(), AuthRejection> {
    // 5.6.1
    if change.join_rule != JoinRule::Knock {
        return Err(AuthRejection::KnockNotAllowed);
    }
    // 5.6.2
    if change.sender != change.target {
        return Err(AuthRejection::KnockForSomeoneElse);
    }
    // 5.6.3, 5.6.4
    match change.sender_is {
        Membership::Leave | Membership::Knock | Membership::Invite => Ok(()),
        Membership::Join | Membership::Ban => Err(AuthRejection::KnockerBannedOrJoined),
    }
}

impl Change<'_> {
    fn sender_may(&self, action: Action) -> bool {
        self.levels.user_level(self.sender) >= self.levels.action_level(action)
    }

    fn sender_outranks_target(&self) -> bool {
        self.levels.user_level(self.target) < self.levels.user_level(self.sender)
    }
}
