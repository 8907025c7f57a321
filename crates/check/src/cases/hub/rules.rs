//! Cases 26, 28, 29, 31 to 43: the authorization rules as a hub applies them. LM #int-auth-rules.

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::UserId;

use crate::case::{Case, Checked, Peers, Suite};
use crate::context::{Ctx, member, text};
use crate::hub_room::{HubRoom, Refusal, UNSTABLE_VERSION, levels};
use crate::peer::Peer;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-26",
        title: "levels of events",
        suite: Suite::Hub,
        requirements: &["LM-power-fields", "LM-levels-event", "LM-rule-7-level"],
        sent: "state at level 0, messages at level 0, and both with other required levels",
        expected: "rejected and allowed by level",
        peers: Peers::Any(2),
        run: run!(level_for_name),
    },
    Case {
        id: "lm-28",
        title: "the creator's join",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-before-state",
            "LM-rule-5-2-1-creator-join",
            "LM-rule-5-2-2-join-other",
        ],
        sent: "joins of the creator and of another user by somebody else",
        expected: "rejected; the creator's own follows the create event",
        peers: Peers::Any(1),
        run: run!(creator_join),
    },
    Case {
        id: "lm-29",
        title: "join rules",
        suite: Suite::Hub,
        requirements: &[
            "LM-join-rules-values",
            "LM-rule-5-2-4-join-invited",
            "LM-rule-5-2-5-join-public",
            "LM-rule-5-2-6-join-otherwise",
        ],
        sent: "joins under `invite` without and with an invite, and under `public`",
        expected: "403; allowed; allowed",
        peers: Peers::Any(1),
        run: run!(join_rules),
    },
    Case {
        id: "lm-31",
        title: "a banned user",
        suite: Suite::Hub,
        requirements: &[
            "LM-member-ban",
            "LM-rule-5-2-3-join-banned",
            "LM-rule-5-6-4-knock-otherwise",
            "LM-rule-5-4-1-leave-own",
        ],
        sent: "make_ and send_ join, knock and leave",
        expected: "403 M_FORBIDDEN each",
        peers: Peers::Any(1),
        run: run!(banned),
    },
    Case {
        id: "lm-32",
        title: "who can be invited",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-5-3-1-invite-sender",
            "LM-rule-5-3-2-invite-target",
            "LM-rule-5-3-4-invite-otherwise",
            "LM-invite-forbidden",
        ],
        sent: "invites of joined and banned users, and below the level for invites",
        expected: "rejected; 403 on E10",
        peers: Peers::Any(2),
        run: run!(invites),
    },
    Case {
        id: "lm-33",
        title: "kicks",
        suite: Suite::Hub,
        requirements: &[
            "LM-member-kick",
            "LM-levels-action",
            "LM-rule-5-4-4-kick-level",
            "LM-rule-5-4-5-leave-otherwise",
        ],
        sent: "kicks of an equal, a superior and an inferior, and below the level for kicks",
        expected: "only the inferior is kicked",
        peers: Peers::Any(2),
        run: run!(kicks),
    },
    Case {
        id: "lm-34",
        title: "lifting a ban",
        suite: Suite::Hub,
        requirements: &[
            "LM-levels-action",
            "LM-rule-5-4-3-unban-level",
            "LM-rule-consequence-unban",
        ],
        sent: "by a user with the level for kicks alone, and by one with both",
        expected: "rejected; allowed",
        peers: Peers::Any(2),
        run: run!(unban),
    },
    Case {
        id: "lm-35",
        title: "bans",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-5-5-2-ban-level",
            "LM-rule-5-5-3-ban-otherwise",
            "LM-rule-5-5-1-ban-sender",
            "LM-rule-5-4-2-kick-sender",
        ],
        sent: "bans of an equal and an inferior, and below the level for bans",
        expected: "only the inferior is banned",
        peers: Peers::Any(2),
        run: run!(bans),
    },
    Case {
        id: "lm-36",
        title: "knocks",
        suite: Suite::Hub,
        requirements: &[
            "LM-join-rules-values",
            "LM-rule-5-6-1-knock-rule",
            "LM-rule-5-6-2-knock-other",
            "LM-rule-5-6-3-knock-allow",
            "LM-make-knock-forbidden",
            "LM-rule-5-6-4-knock-otherwise",
        ],
        sent: "under `knock`, `public` and `invite`; for another user; while invited; while joined",
        expected: "only under `knock`, for oneself, while not joined",
        peers: Peers::Any(2),
        run: run!(knocks),
    },
    Case {
        id: "lm-37",
        title: "leaving twice",
        suite: Suite::Hub,
        requirements: &["LM-member-default-leave", "LM-rule-5-4-1-leave-own"],
        sent: "a leave after a leave, and of a user who never was there",
        expected: "rejected; 403",
        peers: Peers::Any(1),
        run: run!(leave_twice),
    },
    Case {
        id: "lm-38",
        title: "form of a member event",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-content-untrusted",
            "LM-member-state-key",
            "LM-member-membership",
            "LM-rule-5-1-member-form",
            "LM-rule-5-7-unknown-membership",
        ],
        sent: "membership `foo`, a number and none; no state key",
        expected: "rejected each",
        peers: Peers::Any(2),
        run: run!(member_form),
    },
    Case {
        id: "lm-39",
        title: "state under a user ID",
        suite: Suite::Hub,
        requirements: &["LM-rule-8-owned-state"],
        sent: "state keys of another user, of nobody and one's own",
        expected: "only the own one is allowed",
        peers: Peers::Any(2),
        run: run!(owned_state),
    },
    Case {
        id: "lm-40",
        title: "form of power levels",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-content-untrusted",
            "LM-rule-9-1-levels-integers",
            "LM-rule-9-2-events-integers",
            "LM-rule-9-3-users-integers",
        ],
        sent: "strings, null, arrays, fractions and names where integers and users belong",
        expected: "rejected each; nothing changes",
        peers: Peers::Any(2),
        run: run!(levels_form),
    },
    Case {
        id: "lm-41",
        title: "changing power levels",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-9-5-1-old-level",
            "LM-rule-9-5-2-new-level",
            "LM-rule-9-6-old-event-level",
            "LM-rule-9-7-new-event-level",
            "LM-rule-9-8-old-user-level",
            "LM-rule-9-9-new-user-level",
            "LM-rule-9-10-levels-allow",
        ],
        sent: "by a user of level 50: above itself, and what is above it; what is not",
        expected: "rejected each; allowed",
        peers: Peers::Any(2),
        run: run!(levels_change),
    },
    Case {
        id: "lm-42",
        title: "demoting an equal",
        suite: Suite::Hub,
        requirements: &[
            "LM-versions-test-name",
            "LM-rule-9-8-old-user-level",
            "LM-versions-per-version",
        ],
        sent: "at level 100, in `I.1` and in the version for tests",
        expected: "allowed; rejected",
        peers: Peers::Any(1),
        run: run!(equals),
    },
    Case {
        id: "lm-43",
        title: "another create event",
        suite: Suite::Hub,
        requirements: &[
            "LM-rooms-namespace",
            "LM-create-no-references",
            "LM-create-domain",
            "LM-create-state-key",
            "LM-create-room-version",
            "LM-rule-3-1-create-prev",
            "LM-rule-3-2-create-domain",
            "LM-rule-3-3-create-version",
            "LM-rule-3-4-create-allow",
        ],
        sent: "with and without state key, of another version, without version",
        expected: "rejected each",
        peers: Peers::Any(2),
        run: run!(second_create),
    },
    Case {
        id: "lm-x16",
        title: "state of no consequence",
        suite: Suite::Hub,
        requirements: &[
            "LM-join-rules-state-key",
            "LM-power-state-key",
            "LM-events-descriptive-state",
            "LM-state-key",
            "LM-state-current",
            "LM-hub-transfer-unspecified",
        ],
        sent: "join rules and levels under another state key, a name that is a number, two topics, m.room.hub",
        expected: "accepted; nothing follows from the former, the later topic counts",
        peers: Peers::Any(1),
        run: run!(custom_state),
    },
];

/// Alice at the first server and Bob and Carol at the second, all joined.
struct People<'a> {
    room: HubRoom<'a>,
    p: &'a Peer,
    alice: UserId,
    bob: UserId,
    carol: UserId,
}

impl<'a> People<'a> {
    async fn with_levels(ctx: &'a Ctx, alice: i64, bob: i64, others: Object) -> Checked<Self> {
        let (p, t) = (ctx.p(), ctx.t());
        let (by_alice, by_bob, by_carol) = (p.user("alice"), t.user("bob"), t.user("carol"));
        let room = HubRoom::with_levels(ctx, &[(&by_alice, alice), (&by_bob, bob)], others).await?;
        room.join(p, &by_alice).await?;
        room.join(t, &by_bob).await?;
        room.join(t, &by_carol).await?;
        Ok(Self {
            room,
            p,
            alice: by_alice,
            bob: by_bob,
            carol: by_carol,
        })
    }

    async fn rejects(&self, what: &str, lpdu: &Object) -> Checked {
        self.room.refused(self.p, what, lpdu, Refusal::Reported).await
    }

    async fn allows(&self, what: &str, lpdu: &Object) -> Checked {
        self.room.accepted(self.p, lpdu).await?;
        self.room.ctx.observe(format!("{what}: allowed"));
        Ok(())
    }

    fn member(&self, target: &UserId, membership: &str) -> Object {
        self.room.membership(self.p, &self.alice, target, membership)
    }

    fn state(&self, event_type: &str, state_key: &str, content: Object) -> Object {
        self.room
            .lpdu(self.p, &self.alice, event_type, Some(state_key), content)
    }
}

/// 26
pub(crate) async fn level_for_name(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 0, 0, Object::new()).await?;
    all.rejects(
        "m.room.name at level 0",
        &all.state("m.room.name", "", object! { "name" => "x" }),
    )
    .await?;
    all.rejects(
        "a custom state event at level 0",
        &all.state("org.example.state", "", Object::new()),
    )
    .await?;
    all.allows("a message at level 0", &all.room.message(all.p, &all.alice, "x"))
        .await?;
    let others = object! { "events" => object! { "m.room.name" => 0, "m.room.message" => 10 } };
    let all = People::with_levels(ctx, 0, 0, others).await?;
    all.allows(
        "m.room.name where it needs 0",
        &all.state("m.room.name", "", object! { "name" => "x" }),
    )
    .await?;
    all.rejects("a message where it needs 10", &all.room.message(all.p, &all.alice, "x"))
        .await
}

/// 28
pub(crate) async fn creator_join(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let log = room.log(p).await?;
    let (create, join) = (
        log.first().cloned().unwrap_or_default(),
        log.get(1).cloned().unwrap_or_default(),
    );
    let prev = Json::from(vec![event_id_of(&create).as_str()]);
    let follows = text(&join, "type") == "m.room.member"
        && text(&join, "state_key") == room.creator.as_str()
        && join.get("prev_events") == Some(&prev);
    ctx.check("the creator's join follows the create event", follows, || {
        join.to_string()
    })?;
    let for_creator = room.membership(p, &alice, &room.creator, "join");
    room.refused(
        p,
        "a join of the creator by somebody else",
        &for_creator,
        Refusal::Reported,
    )
    .await?;
    let for_bob = room.membership(p, &alice, &ctx.p().user("bob"), "join");
    room.refused(p, "a join of a user by another", &for_bob, Refusal::Reported)
        .await
}

/// 29
pub(crate) async fn join_rules(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(ctx, Object::new()).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let made = room.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers("make_join without an invite", &made, 403, "M_FORBIDDEN")?;
    let join = room.membership(p, &alice, &alice, "join");
    ctx.answers(
        "send_join without an invite",
        &room.send_membership(p, "send_join", &join).await?,
        403,
        "M_FORBIDDEN",
    )?;
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    let membership = room.membership_of(&alice).await?;
    ctx.check("after an invite the user is joined", membership == "join", || {
        membership.clone()
    })?;
    let public = HubRoom::public(ctx).await?;
    public.join(p, &alice).await?;
    let membership = public.membership_of(&alice).await?;
    ctx.check("a public room can be joined", membership == "join", || {
        membership.clone()
    })
}

/// 31
pub(crate) async fn banned(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(ctx, object! { "join_rule" => "knock" }).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    room.act("ban", &alice).await?;
    for (make, send, membership) in [
        ("make_join", "send_join", "join"),
        ("make_knock", "send_knock", "knock"),
        ("make_leave", "send_leave", "leave"),
    ] {
        let made = room.make(p, make, alice.as_str(), &["I.1"]).await?;
        ctx.answers(&format!("{make} of a banned user"), &made, 403, "M_FORBIDDEN")?;
        let lpdu = room.membership(p, &alice, &alice, membership);
        let sent = room.send_membership(p, send, &lpdu).await?;
        ctx.answers(&format!("{send} of a banned user"), &sent, 403, "M_FORBIDDEN")?;
    }
    let membership = room.membership_of(&alice).await?;
    ctx.check("the user is still banned", membership == "ban", || membership.clone())
}

/// 32
pub(crate) async fn invites(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 0, 0, Object::new()).await?;
    let dave = ctx.t().user("dave");
    all.rejects("an invite of a joined user", &all.member(&all.bob, "invite"))
        .await?;
    all.room.act("ban", &dave).await?;
    all.rejects("an invite of a banned user", &all.member(&dave, "invite"))
        .await?;
    let reply = all.room.invite(all.p, &all.member(&dave, "invite")).await?;
    ctx.answers("E10 for a banned user", &reply, 403, "M_FORBIDDEN")?;
    let reply = all.room.invite(all.p, &all.member(&all.bob, "invite")).await?;
    ctx.answers("E10 for a joined user", &reply, 403, "M_FORBIDDEN")?;
    let others = object! { "invite" => 50 };
    let strict = People::with_levels(ctx, 49, 0, others).await?;
    let erin = ctx.t().user("erin");
    let reply = strict.room.invite(strict.p, &strict.member(&erin, "invite")).await?;
    ctx.answers("E10 below the level for invites", &reply, 403, "M_FORBIDDEN")?;
    let asked = ctx
        .t()
        .inbox()
        .iter()
        .any(|request| request.endpoint == crate::peer::Endpoint::Invite);
    ctx.check("the invited user's server heard of none of them", !asked, || {
        "it got an invite".to_owned()
    })
}

/// 33
pub(crate) async fn kicks(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 50, 50, Object::new()).await?;
    all.rejects("a kick of an equal", &all.member(&all.bob, "leave"))
        .await?;
    all.rejects("a kick of a superior", &all.member(&all.room.creator, "leave"))
        .await?;
    all.allows("a kick of an inferior", &all.member(&all.carol, "leave"))
        .await?;
    let all = People::with_levels(ctx, 49, 0, Object::new()).await?;
    all.rejects("a kick below the level for kicks", &all.member(&all.carol, "leave"))
        .await
}

/// 34
pub(crate) async fn unban(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 50, 0, object! { "ban" => 75 }).await?;
    all.room.act("ban", &all.carol).await?;
    all.rejects(
        "lifting a ban with the level for kicks alone",
        &all.member(&all.carol, "leave"),
    )
    .await?;
    let membership = all.room.membership_of(&all.carol).await?;
    ctx.check("the user is still banned", membership == "ban", || membership.clone())?;
    let all = People::with_levels(ctx, 75, 0, object! { "ban" => 75 }).await?;
    all.room.act("ban", &all.carol).await?;
    all.allows("lifting a ban with both levels", &all.member(&all.carol, "leave"))
        .await
}

/// 35
pub(crate) async fn bans(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 50, 50, Object::new()).await?;
    all.rejects("a ban of an equal", &all.member(&all.bob, "ban")).await?;
    all.allows("a ban of an inferior", &all.member(&all.carol, "ban"))
        .await?;
    let all = People::with_levels(ctx, 49, 0, Object::new()).await?;
    all.rejects("a ban below the level for bans", &all.member(&all.carol, "ban"))
        .await?;
    let outsider = all.p.user("outsider");
    let ban = all.room.membership(all.p, &outsider, &all.carol, "ban");
    all.rejects("a ban by a user who is not joined", &ban).await?;
    let kick = all.room.membership(all.p, &outsider, &all.carol, "leave");
    all.rejects("a kick by a user who is not joined", &kick).await
}

/// 36
pub(crate) async fn knocks(ctx: &Ctx) -> Checked {
    let (p, t) = (ctx.p(), ctx.t());
    let (alice, bob, carol) = (p.user("alice"), t.user("bob"), p.user("carol"));
    let room = HubRoom::create(ctx, object! { "join_rule" => "knock" }).await?;
    ctx.answers(
        "make_knock under `knock`",
        &room.make(p, "make_knock", alice.as_str(), &["I.1"]).await?,
        200,
        "",
    )?;
    let knock = room.membership(p, &alice, &alice, "knock");
    ctx.answers(
        "send_knock under `knock`",
        &room.send_membership(p, "send_knock", &knock).await?,
        200,
        "",
    )?;
    let membership = room.membership_of(&alice).await?;
    ctx.check("the user knocks", membership == "knock", || membership.clone())?;
    let for_carol = room.membership(p, &alice, &carol, "knock");
    room.refused(p, "a knock for somebody else", &for_carol, Refusal::Reported)
        .await?;
    room.act("invite", &bob).await?;
    let knock = room.membership(t, &bob, &bob, "knock");
    ctx.answers(
        "a knock while invited",
        &room.send_membership(t, "send_knock", &knock).await?,
        200,
        "",
    )?;
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    let joined = room.membership(p, &alice, &alice, "knock");
    room.refused(p, "a knock while joined", &joined, Refusal::Reported)
        .await?;
    for rule in ["public", "invite"] {
        let room = HubRoom::create(ctx, object! { "join_rule" => rule }).await?;
        let made = room.make(p, "make_knock", alice.as_str(), &["I.1"]).await?;
        ctx.answers(&format!("make_knock under `{rule}`"), &made, 403, "M_FORBIDDEN")?;
    }
    Ok(())
}

/// 37
pub(crate) async fn leave_twice(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice, carol) = (ctx.p(), ctx.p().user("alice"), ctx.p().user("carol"));
    room.join(p, &alice).await?;
    room.join(p, &carol).await?;
    room.accepted(p, &room.membership(p, &alice, &alice, "leave")).await?;
    let again = room.membership(p, &alice, &alice, "leave");
    room.refused(p, "a second leave", &again, Refusal::Reported).await?;
    let made = room.make(p, "make_leave", alice.as_str(), &[]).await?;
    ctx.answers("make_leave after a leave", &made, 403, "M_FORBIDDEN")?;
    let made = room.make(p, "make_leave", p.user("nobody").as_str(), &[]).await?;
    ctx.answers("make_leave of a user who never was there", &made, 403, "M_FORBIDDEN")
}

/// 38
pub(crate) async fn member_form(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 100, 0, Object::new()).await?;
    let key = all.alice.as_str();
    let unknown = all.state("m.room.member", key, object! { "membership" => "foo" });
    all.rejects("membership `foo`", &unknown).await?;
    all.rejects("no membership", &all.state("m.room.member", key, Object::new()))
        .await?;
    let number = all.state("m.room.member", key, object! { "membership" => 1 });
    all.rejects("a membership that is no string", &number).await?;
    let content = object! { "membership" => "join" };
    let no_key = all.room.lpdu(all.p, &all.alice, "m.room.member", None, content);
    all.rejects("no state key", &no_key).await
}

/// 39
pub(crate) async fn owned_state(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 100, 0, Object::new()).await?;
    let foreign = all.state("org.example.own", all.bob.as_str(), object! { "n" => 1 });
    all.rejects("state under another user's ID", &foreign).await?;
    let nobody = all.state("org.example.own", "@nonsense", object! { "n" => 1 });
    all.rejects("state under something that begins with @", &nobody).await?;
    let own = all.state("org.example.own", all.alice.as_str(), object! { "n" => 1 });
    all.allows("state under one's own ID", &own).await
}

/// 40
pub(crate) async fn levels_form(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 100, 0, Object::new()).await?;
    let base = all.room.state_content("m.room.power_levels").await?;
    let changed = |key: &str, value: Json| {
        let mut content = base.clone();
        content.insert(key, value);
        all.state("m.room.power_levels", "", content)
    };
    let mut users = member(&base, "users");
    users.insert("nonsense", 1);
    let mut fraction = member(&base, "users");
    fraction.insert(all.bob.as_str(), Json::parse(b"1.5").unwrap_or_default());
    for (what, event) in [
        ("`ban` as a string", changed("ban", "50".into())),
        ("`users_default` as null", changed("users_default", Json::Null)),
        (
            "`events` with a string",
            changed("events", object! { "x" => "1" }.into()),
        ),
        ("`events` as an array", changed("events", Json::Array(Vec::new()))),
        ("`users` with a name that is no user ID", changed("users", users.into())),
        ("`users` with a fraction", changed("users", fraction.into())),
        ("`users` as a string", changed("users", "x".into())),
    ] {
        all.rejects(what, &event).await?;
    }
    let after = all.room.state_content("m.room.power_levels").await?;
    ctx.check("the levels are as before", after == base, || after.to_string())
}

/// 41
pub(crate) async fn levels_change(ctx: &Ctx) -> Checked {
    let others = object! { "kick" => 75, "events" => object! { "org.example.high" => 75, "org.example.low" => 10 } };
    let all = People::with_levels(ctx, 50, 60, others).await?;
    let base = all.room.state_content("m.room.power_levels").await?;
    let with = |key: &str, value: Json| {
        let mut content = base.clone();
        content.insert(key, value);
        all.state("m.room.power_levels", "", content)
    };
    let within = |field: &str, key: &str, value: Option<i64>| {
        let mut map = member(&base, field);
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(key),
        };
        with(field, map.into())
    };
    let mut unbounded = base.clone();
    unbounded.remove("kick");
    let without_kick = all.state("m.room.power_levels", "", unbounded);
    for (what, event) in [
        (
            "raising one's own level above itself",
            within("users", all.alice.as_str(), Some(60)),
        ),
        (
            "raising another's above one's own",
            within("users", all.carol.as_str(), Some(51)),
        ),
        ("lowering a superior", within("users", all.bob.as_str(), Some(0))),
        ("removing a superior's entry", within("users", all.bob.as_str(), None)),
        ("raising `ban` above one's own", with("ban", 60.into())),
        ("lowering `kick` from above one's own", with("kick", 50.into())),
        ("removing `kick` from above one's own", without_kick),
        (
            "lowering an event's level from above one's own",
            within("events", "org.example.high", Some(0)),
        ),
        (
            "removing an event's level above one's own",
            within("events", "org.example.high", None),
        ),
        (
            "setting an event's level above one's own",
            within("events", "org.example.new", Some(60)),
        ),
    ] {
        all.rejects(what, &event).await?;
    }
    let allowed = within("events", "org.example.low", Some(50));
    all.allows("raising an event's level to one's own", &allowed).await?;
    let mut content = all.room.state_content("m.room.power_levels").await?;
    let mut users = member(&content, "users");
    users.insert(all.alice.as_str(), 40);
    content.insert("users", users);
    all.allows("lowering oneself", &all.state("m.room.power_levels", "", content))
        .await
}

/// 42
pub(crate) async fn equals(ctx: &Ctx) -> Checked {
    let (p, alice, creator) = (ctx.p(), ctx.p().user("alice"), ctx.user("creator"));
    let both = levels(&creator, &[(&alice, 100)], Object::new());
    let demoted = {
        let mut content = both.clone();
        content.insert("users", object! { creator.as_str() => 50, alice.as_str() => 100 });
        content
    };
    for (version, is_allowed) in [("I.1", true), (UNSTABLE_VERSION, false)] {
        let options = object! {
            "join_rule" => "public", "power_levels" => both.clone(), "room_version" => version,
        };
        let room = HubRoom::create(ctx, options).await?;
        room.join(p, &alice).await?;
        let lpdu = room.lpdu(p, &alice, "m.room.power_levels", Some(""), demoted.clone());
        if is_allowed {
            room.accepted(p, &lpdu).await?;
            ctx.observe(format!("{version}: an equal may be demoted"));
        } else {
            room.refused(p, &format!("{version}: demoting an equal"), &lpdu, Refusal::Reported)
                .await?;
        }
    }
    Ok(())
}

/// 43
pub(crate) async fn second_create(ctx: &Ctx) -> Checked {
    let all = People::with_levels(ctx, 100, 0, Object::new()).await?;
    let content = object! { "room_version" => "I.1" };
    for (what, event) in [
        ("a second create event", all.state("m.room.create", "", content.clone())),
        (
            "a create event with a state key",
            all.state("m.room.create", "x", content),
        ),
        (
            "a create event of another version",
            all.state("m.room.create", "", object! { "room_version" => "I.2" }),
        ),
        (
            "a create event without a version",
            all.state("m.room.create", "", Object::new()),
        ),
    ] {
        all.rejects(what, &event).await?;
    }
    let log = all.room.log(all.p).await?;
    let first = log.first().cloned().unwrap_or_default();
    let domain = all
        .room
        .id
        .split_once(':')
        .map(|(_, server)| server.to_owned())
        .unwrap_or_default();
    let sender = text(&first, "sender").to_owned();
    let is_proper = text(&first, "type") == "m.room.create"
        && text(&first, "state_key").is_empty()
        && sender.ends_with(&format!(":{domain}"))
        && first
            .get("prev_events")
            .and_then(Json::as_array)
            .is_some_and(<[Json]>::is_empty)
        && first
            .get("auth_events")
            .and_then(Json::as_array)
            .is_some_and(<[Json]>::is_empty);
    ctx.check("the room's own create event is as it should be", is_proper, || {
        first.to_string()
    })
}

/// State that decides only under the empty state key, and state in which nothing is checked.
pub(crate) async fn custom_state(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let levels = levels(&ctx.user("creator"), &[(&alice, 100)], Object::new());
    let room = HubRoom::create(ctx, object! { "power_levels" => levels }).await?;
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    let set = async |event_type: &str, state_key: &str, content: Object| {
        let lpdu = room.lpdu(p, &alice, event_type, Some(state_key), content);
        room.accepted(p, &lpdu).await
    };
    set("m.room.join_rules", "x", object! { "join_rule" => "public" }).await?;
    let made = room.make(p, "make_join", p.user("bob").as_str(), &["I.1"]).await?;
    ctx.answers(
        "join rules under another state key open nothing",
        &made,
        403,
        "M_FORBIDDEN",
    )?;
    set(
        "m.room.power_levels",
        "x",
        object! { "users" => Object::new(), "events_default" => 99 },
    )
    .await?;
    set("m.room.name", "", object! { "name" => 5 }).await?;
    ctx.observe("levels under another state key take nothing away; a name is not checked");
    set("m.room.topic", "", object! { "topic" => "first" }).await?;
    set("m.room.topic", "", object! { "topic" => "second" }).await?;
    set("m.room.topic", "x", object! { "topic" => "elsewhere" }).await?;
    let topic = room.state_content("m.room.topic").await?;
    ctx.check(
        "the later topic under the same key counts",
        text(&topic, "topic") == "second",
        || topic.to_string(),
    )?;
    set("m.room.hub", "", object! { "hub" => p.name() }).await?;
    room.accepted(p, &room.message(p, &alice, "to the same hub")).await?;
    ctx.observe("`m.room.hub` moves nothing");
    Ok(())
}
