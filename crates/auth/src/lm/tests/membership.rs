//! Rule 5.

use super::*;

#[test]
fn rule_5_1_member_event_needs_state_key_and_membership() {
    let content = object! { "membership" => "join" };
    let no_target = pdu(&event(BOB, "m.room.member", None, content));
    assert_eq!(Room::new().ask(&no_target), Err(AuthRejection::MemberWithoutTarget));
    for content in [
        object! {},
        object! { "membership" => 1 },
        object! { "membership" => Json::Null },
    ] {
        let event = state(BOB, "m.room.member", BOB, content);
        assert_eq!(Room::new().ask(&event), Err(AuthRejection::MemberWithoutMembership));
    }
}

#[test]
fn rule_5_1a_target_must_be_a_user_id() {
    for target in ["", "bob", "@Bob:guest", "@bob:1.2.3.4", "@bob"] {
        assert_eq!(
            Room::new().ask(&member(ALICE, target, "invite")),
            Err(AuthRejection::MemberTargetNotUser)
        );
    }
}

#[test]
fn rule_5_2_1_creator_joins_right_after_create() {
    let room = Room::created();
    let after = |sender: &str, target: &str, previous: &EventId| {
        let join = event(
            sender,
            "m.room.member",
            Some(target),
            object! { "membership" => "join" },
        );
        with(join, "prev_events", vec![previous.clone()])
    };
    let create = create().event_id().clone();
    assert_eq!(room.ask(&after(ALICE, ALICE, &create)), Ok(()));
    assert_eq!(
        room.ask(&after(BOB, BOB, &create)),
        Err(AuthRejection::JoinNotAllowed),
        "not the creator"
    );
    assert_eq!(
        room.ask(&after(BOB, ALICE, &create)),
        Err(AuthRejection::JoinForSomeoneElse),
        "by another sender"
    );
    let other = EventId::from_hash([9; 32]);
    assert_eq!(
        room.ask(&after(ALICE, ALICE, &other)),
        Err(AuthRejection::JoinNotAllowed),
        "later on"
    );
}

#[test]
fn rule_5_2_2_nobody_joins_for_another() {
    let room = Room::new().join_rule("public");
    assert_eq!(
        room.ask(&member(ALICE, DAVE, "join")),
        Err(AuthRejection::JoinForSomeoneElse)
    );
}

#[test]
fn rule_5_2_3_banned_user_cannot_join() {
    for rule in ["public", "invite", "knock"] {
        assert_eq!(
            Room::new().join_rule(rule).ask(&member(EVE, EVE, "join")),
            Err(AuthRejection::JoinerBanned)
        );
    }
}

#[test]
fn rule_5_2_4_invite_or_knock_lets_the_invited_and_the_joined_join() {
    for rule in ["invite", "knock"] {
        let room = Room::new().join_rule(rule);
        for user in [IVY, BOB] {
            assert_eq!(room.ask(&member(user, user, "join")), Ok(()), "{user} under {rule}");
        }
        for user in [DAVE, KEN, LEO] {
            assert_eq!(
                room.ask(&member(user, user, "join")),
                Err(AuthRejection::JoinNotAllowed),
                "{user} under {rule}"
            );
        }
    }
}

#[test]
fn rule_5_2_5_public_lets_everyone_join() {
    for user in [DAVE, KEN, LEO, IVY, BOB] {
        assert_eq!(
            Room::new().join_rule("public").ask(&member(user, user, "join")),
            Ok(()),
            "{user}"
        );
    }
}

#[test]
fn rule_5_2_6_unknown_join_rule_lets_nobody_join() {
    let unknown = [
        object! { "join_rule" => "restricted" },
        object! { "join_rule" => 1 },
        object! {},
    ];
    for content in unknown {
        let room = Room::new().set(&state(ALICE, "m.room.join_rules", "", content));
        for user in [DAVE, IVY, BOB] {
            assert_eq!(
                room.ask(&member(user, user, "join")),
                Err(AuthRejection::JoinNotAllowed),
                "{user}"
            );
        }
    }
}

#[test]
fn without_join_rules_only_the_invited_join() {
    let room = Room::created().member(IVY, "invite");
    assert_eq!(room.ask(&member(IVY, IVY, "join")), Ok(()));
    assert_eq!(
        room.ask(&member(DAVE, DAVE, "join")),
        Err(AuthRejection::JoinNotAllowed)
    );
    let elsewhere = state(ALICE, "m.room.join_rules", "other", object! { "join_rule" => "public" });
    assert_eq!(
        room.set(&elsewhere).ask(&member(DAVE, DAVE, "join")),
        Err(AuthRejection::JoinNotAllowed)
    );
}

#[test]
fn rule_5_3_1_only_joined_users_invite() {
    for user in [DAVE, IVY, KEN, EVE, LEO] {
        assert_eq!(
            Room::new().ask(&member(user, "@new:guest", "invite")),
            Err(AuthRejection::InviterNotJoined),
            "{user}"
        );
    }
}

#[test]
fn rule_5_3_2_joined_and_banned_users_are_not_invited() {
    for user in [BOB, EVE] {
        assert_eq!(
            Room::new().ask(&member(ALICE, user, "invite")),
            Err(AuthRejection::InviteeJoinedOrBanned),
            "{user}"
        );
    }
}

#[test]
fn rule_5_3_3_enough_power_invites() {
    for user in [DAVE, IVY, KEN, LEO] {
        assert_eq!(Room::new().ask(&member(MOD, user, "invite")), Ok(()), "{user}");
    }
    let exactly = Room::new().power(levels_with("invite", 50));
    assert_eq!(exactly.ask(&member(MOD, DAVE, "invite")), Ok(()));
    let by_default = Room::new().power(object! {});
    assert_eq!(by_default.ask(&member(BOB, DAVE, "invite")), Ok(()), "0 unless stated");
}

#[test]
fn rule_5_3_4_too_little_power_does_not_invite() {
    assert_eq!(
        Room::new().ask(&member(BOB, DAVE, "invite")),
        Err(AuthRejection::InviteLevelTooLow)
    );
}

#[test]
fn rule_5_4_1_whoever_is_in_invited_or_knocking_may_leave() {
    for user in [BOB, IVY, KEN, ALICE] {
        assert_eq!(Room::new().ask(&member(user, user, "leave")), Ok(()), "{user}");
    }
    for user in [DAVE, LEO, EVE] {
        assert_eq!(
            Room::new().ask(&member(user, user, "leave")),
            Err(AuthRejection::LeaveWithoutPresence),
            "{user}"
        );
    }
}

#[test]
fn rule_5_4_2_only_joined_users_remove_others() {
    for user in [DAVE, IVY, KEN, EVE] {
        assert_eq!(
            Room::new().ask(&member(user, BOB, "leave")),
            Err(AuthRejection::KickerNotJoined),
            "{user}"
        );
    }
}

#[test]
fn rule_5_4_3_unban_needs_the_ban_level() {
    // Level 50: enough to kick (40), not to ban (60).
    let room = Room::new().power(levels_with("ban", 60));
    assert_eq!(
        room.ask(&member(MOD, EVE, "leave")),
        Err(AuthRejection::UnbanLevelTooLow)
    );
    assert_eq!(Room::new().ask(&member(MOD, EVE, "leave")), Ok(()));
    // And the kick level too.
    let room = Room::new().power(levels_with("kick", 60));
    assert_eq!(room.ask(&member(MOD, EVE, "leave")), Err(AuthRejection::KickNotAllowed));
}

#[test]
fn rule_5_4_4_enough_power_removes_those_below() {
    for user in [BOB, IVY, KEN, LEO, DAVE] {
        assert_eq!(Room::new().ask(&member(MOD, user, "leave")), Ok(()), "{user}");
    }
    let exactly = Room::new().power(levels_with("kick", 50));
    assert_eq!(exactly.ask(&member(MOD, BOB, "leave")), Ok(()));
}

#[test]
fn rule_5_4_5_equals_are_not_removed_and_the_weak_remove_nobody() {
    assert_eq!(
        Room::new().ask(&member(ALICE, ANNE, "leave")),
        Err(AuthRejection::KickNotAllowed),
        "equal"
    );
    assert_eq!(
        Room::new().ask(&member(MOD, ALICE, "leave")),
        Err(AuthRejection::KickNotAllowed),
        "above"
    );
    let weak = Room::new().power(levels_with("users", object! { MOD => 39 }));
    assert_eq!(
        weak.ask(&member(MOD, BOB, "leave")),
        Err(AuthRejection::KickNotAllowed),
        "below the kick level"
    );
}

#[test]
fn rule_5_5_1_only_joined_users_ban() {
    for user in [DAVE, IVY, KEN, EVE] {
        assert_eq!(
            Room::new().ask(&member(user, BOB, "ban")),
            Err(AuthRejection::BannerNotJoined),
            "{user}"
        );
    }
}

#[test]
fn rule_5_5_2_enough_power_bans_those_below() {
    for user in [BOB, DAVE, EVE, IVY, KEN] {
        assert_eq!(Room::new().ask(&member(MOD, user, "ban")), Ok(()), "{user}");
    }
}

#[test]
fn rule_5_5_3_equals_are_not_banned_and_the_weak_ban_nobody() {
    assert_eq!(
        Room::new().ask(&member(ALICE, ANNE, "ban")),
        Err(AuthRejection::BanNotAllowed),
        "equal"
    );
    assert_eq!(
        Room::new().ask(&member(ALICE, ALICE, "ban")),
        Err(AuthRejection::BanNotAllowed),
        "oneself"
    );
    assert_eq!(
        Room::new().ask(&member(BOB, DAVE, "ban")),
        Err(AuthRejection::BanNotAllowed),
        "below the ban level"
    );
    let weak = Room::new().power(levels_with("ban", 51));
    assert_eq!(
        weak.ask(&member(MOD, BOB, "ban")),
        Err(AuthRejection::BanNotAllowed),
        "just below it"
    );
}

#[test]
fn rule_5_6_1_knocking_needs_the_join_rule_knock() {
    for rule in ["public", "invite", "restricted"] {
        assert_eq!(
            Room::new().join_rule(rule).ask(&member(DAVE, DAVE, "knock")),
            Err(AuthRejection::KnockNotAllowed)
        );
    }
    assert_eq!(
        Room::created().ask(&member(DAVE, DAVE, "knock")),
        Err(AuthRejection::KnockNotAllowed),
        "without rules"
    );
}

#[test]
fn rule_5_6_2_nobody_knocks_for_another() {
    let room = Room::new().join_rule("knock");
    assert_eq!(
        room.ask(&member(ALICE, DAVE, "knock")),
        Err(AuthRejection::KnockForSomeoneElse)
    );
}

#[test]
fn rule_5_6_3_who_is_neither_banned_nor_joined_may_knock() {
    // The draft lets even the invited knock.
    for user in [DAVE, LEO, KEN, IVY] {
        assert_eq!(
            Room::new().join_rule("knock").ask(&member(user, user, "knock")),
            Ok(()),
            "{user}"
        );
    }
}

#[test]
fn rule_5_6_4_banned_and_joined_users_do_not_knock() {
    for user in [EVE, BOB] {
        let verdict = Room::new().join_rule("knock").ask(&member(user, user, "knock"));
        assert_eq!(verdict, Err(AuthRejection::KnockerBannedOrJoined), "{user}");
    }
}

#[test]
fn rule_5_7_unknown_membership_is_rejected() {
    for membership in ["foo", "", "Join"] {
        assert_eq!(
            Room::new().ask(&member(BOB, BOB, membership)),
            Err(AuthRejection::UnknownMembership)
        );
    }
}

#[test]
fn banned_user_can_neither_join_nor_knock_nor_leave() {
    let room = Room::new().join_rule("knock");
    let verdicts =
        ["join", "knock", "leave"].map(|membership| room.ask(&member(EVE, EVE, membership)).unwrap_err().rule());
    assert_eq!(verdicts, ["5.2.3", "5.6.4", "5.4.1"]);
}

#[test]
fn memberships_read_as_they_are_written() {
    for membership in [
        Membership::Leave,
        Membership::Join,
        Membership::Knock,
        Membership::Invite,
        Membership::Ban,
    ] {
        assert_eq!(Membership::parse(membership.as_str()), Some(membership));
    }
}
