//! Rule 9.

use super::*;

fn change(sender: &str, content: Object) -> Verdict {
    Room::new().ask(&power(sender, content))
}

fn users(changes: &[(&str, Option<i64>)]) -> Object {
    levels_with("users", edited("users", changes))
}

fn events(changes: &[(&str, Option<i64>)]) -> Object {
    levels_with("events", edited("events", changes))
}

fn edited(field: &str, changes: &[(&str, Option<i64>)]) -> Object {
    let mut entries = levels().get(field).and_then(Json::as_object).unwrap().clone();
    for (key, level) in changes {
        match level {
            Some(level) => entries.insert(*key, *level),
            None => entries.remove(key),
        };
    }
    entries
}

fn removed(field: &str) -> Object {
    let mut levels = levels();
    levels.remove(field);
    levels
}

const SCALARS: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "redact",
    "kick",
    "invite",
];

#[test]
fn rule_9_1_levels_must_be_integers() {
    for field in SCALARS {
        for bad in [
            Json::from("50"),
            Json::Null,
            Json::parse(b"1.5").unwrap(),
            Json::parse(b"9007199254740992").unwrap(),
        ] {
            assert_eq!(
                change(ALICE, levels_with(field, bad)),
                Err(AuthRejection::PowerLevelNotInteger),
                "{field}"
            );
        }
        assert_eq!(
            change(ALICE, levels_with(field, Json::parse(b"50.0").unwrap())),
            Ok(()),
            "50.0 is the integer 50"
        );
    }
    assert_eq!(
        change(ALICE, levels_with("notifications", "x")),
        Ok(()),
        "not one of the fields"
    );
}

#[test]
fn rule_9_2_events_must_be_an_object_of_integers() {
    for bad in [
        Json::from(5),
        Json::Null,
        Json::from(object! { "x" => "1" }),
        Json::from(object! { "x" => object! {} }),
    ] {
        assert_eq!(
            change(ALICE, levels_with("events", bad)),
            Err(AuthRejection::EventLevelsMalformed)
        );
    }
}

#[test]
fn rule_9_3_users_must_be_an_object_of_integers_by_user_id() {
    let bad = [
        Json::from(5),
        Json::from(object! { BOB => "1" }),
        Json::from(object! { "bob" => 1 }),
        Json::from(object! { "@Bob:guest" => 1 }),
        Json::from(object! { "" => 1 }),
    ];
    for bad in bad {
        assert_eq!(
            change(ALICE, levels_with("users", bad)),
            Err(AuthRejection::UserLevelsMalformed)
        );
    }
}

#[test]
fn rule_9_4_first_power_levels_are_allowed() {
    let room = Room::created().member(ALICE, "join");
    let high = object! { "users" => object! { BOB => 1000 }, "ban" => 1000 };
    assert_eq!(room.ask(&power(ALICE, high)), Ok(()));
    assert_eq!(
        room.ask(&power(ALICE, object! { "ban" => "x" })),
        Err(AuthRejection::PowerLevelNotInteger),
        "if well-formed"
    );
}

#[test]
fn rule_9_5_1_level_above_ones_own_is_not_changed() {
    // `redact` is 70, the sender has 50.
    assert_eq!(
        change(MOD, levels_with("redact", 50)),
        Err(AuthRejection::PowerLevelOutOfReach)
    );
    assert_eq!(change(MOD, removed("redact")), Err(AuthRejection::PowerLevelOutOfReach));
    assert_eq!(
        change(MOD, levels_with("ban", 40)),
        Ok(()),
        "its own level is within reach"
    );
}

#[test]
fn rule_9_5_2_level_is_not_set_above_ones_own() {
    for field in SCALARS.into_iter().filter(|field| *field != "redact") {
        assert_eq!(
            change(MOD, levels_with(field, 60)),
            Err(AuthRejection::PowerLevelRaisedAboveOwn),
            "{field}"
        );
        assert_eq!(change(MOD, levels_with(field, 50)), Ok(()), "{field}");
    }
}

#[test]
fn rule_9_5_defaults_are_not_compared() {
    // Without `kick` (40) the default 50 holds, above the sender's 45; only what is stated counts.
    let mut current = levels_with("users", object! { ALICE => 100, MOD => 45 });
    current.insert("events", object! { "m.room.power_levels" => 0 });
    let mut without_kick = current.clone();
    without_kick.remove("kick");
    assert_eq!(Room::new().power(current).ask(&power(MOD, without_kick)), Ok(()));
}

#[test]
fn rule_9_6_1_event_level_above_ones_own_is_not_changed() {
    // `m.room.name` is 60.
    assert_eq!(
        change(MOD, events(&[("m.room.name", Some(50))])),
        Err(AuthRejection::EventLevelOutOfReach)
    );
    assert_eq!(
        change(MOD, events(&[("m.room.name", None)])),
        Err(AuthRejection::EventLevelOutOfReach)
    );
    assert_eq!(
        change(MOD, removed("events")),
        Err(AuthRejection::EventLevelOutOfReach),
        "all at once"
    );
    assert_eq!(change(MOD, events(&[("org.example.low", None)])), Ok(()));
}

#[test]
fn rule_9_7_1_event_level_is_not_set_above_ones_own() {
    for key in ["org.example.low", "org.example.new"] {
        assert_eq!(
            change(MOD, events(&[(key, Some(51))])),
            Err(AuthRejection::EventLevelRaisedAboveOwn),
            "{key}"
        );
        assert_eq!(change(MOD, events(&[(key, Some(50))])), Ok(()), "{key}");
    }
    let room = Room::new().power(removed("events"));
    assert_eq!(
        room.ask(&power(MOD, events(&[]))),
        Err(AuthRejection::EventLevelRaisedAboveOwn),
        "where there was no map"
    );
}

#[test]
fn rule_9_8_1_user_above_is_not_demoted() {
    assert_eq!(
        change(MOD, users(&[(ALICE, Some(0))])),
        Err(AuthRejection::UserLevelOutOfReach)
    );
    assert_eq!(
        change(MOD, users(&[(ALICE, None)])),
        Err(AuthRejection::UserLevelOutOfReach)
    );
    assert_eq!(
        change(MOD, removed("users")),
        Err(AuthRejection::UserLevelOutOfReach),
        "all at once"
    );
    assert_eq!(
        change(MOD, users(&[(MOD, Some(0))])),
        Ok(()),
        "oneself is another matter"
    );
    assert_eq!(change(MOD, users(&[(MOD, None)])), Ok(()));
}

#[test]
fn rule_9_8_1_equal_is_demoted_in_the_draft_but_not_in_the_unstable_version() {
    let demoted = power(ALICE, users(&[(ANNE, Some(0))]));
    assert_eq!(Room::new().ask(&demoted), Ok(()));
    let unstable = Room {
        rules: &RoomVersionRules::UNSTABLE_02,
        ..Room::new()
    };
    assert_eq!(unstable.ask(&demoted), Err(AuthRejection::UserLevelOutOfReach));
    assert_eq!(
        unstable.ask(&power(ALICE, users(&[(ALICE, Some(0))]))),
        Ok(()),
        "oneself in either"
    );
}

#[test]
fn rule_9_9_1_user_is_not_raised_above_oneself() {
    for user in [MOD, BOB, DAVE] {
        assert_eq!(
            change(MOD, users(&[(user, Some(60))])),
            Err(AuthRejection::UserLevelRaisedAboveOwn),
            "{user}"
        );
    }
    assert_eq!(change(MOD, users(&[(BOB, Some(50))])), Ok(()), "up to one's own level");
    let room = Room::new().power(object! { "users_default" => 50 });
    let verdict = room.ask(&power(
        MOD,
        object! { "users_default" => 50, "users" => object! { BOB => 51 } },
    ));
    assert_eq!(
        verdict,
        Err(AuthRejection::UserLevelRaisedAboveOwn),
        "where there was no map"
    );
}

#[test]
fn rule_9_10_unchanged_and_lowered_levels_are_allowed() {
    assert_eq!(change(MOD, levels()), Ok(()));
    assert_eq!(change(ALICE, object! {}), Ok(()));
}

#[test]
fn malformed_power_levels_in_the_state_read_as_absent() {
    let garbage = object! { "users" => 5, "events" => "x", "ban" => "50", "users_default" => object! {} };
    let room = Room::new().power(garbage);
    let levels = PowerLevels::of(&room.state);
    assert_eq!(
        (levels.user_level(ALICE), levels.event_level("m.room.name", true)),
        (0, 50)
    );
    assert_eq!(levels.action_level(Action::Ban), 50);
}
