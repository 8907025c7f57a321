"""The cases of drafts/mimi-room-policy/vectors/decisions.json, with the verdicts as their author expects them."""

HUB, CLUB, HALL = "mimi://hub.example", "mimi://hub.example/r/clubhouse", "mimi://hub.example/r/hall"
ALICE, ANN = "mimi://hub.example/u/alice", "mimi://a.example/u/ann"
BOB, CATHY, DORA = "mimi://b.example/u/bob", "mimi://c.example/u/cathy", "mimi://c.example/u/dora"
EVE, LOU = "mimi://b.example/u/eve", "mimi://a.example/u/lou"
# Nobody's friend yet.
ZOE, YAN, XIA = "mimi://b.example/u/zoe", "mimi://a.example/u/yan", "mimi://d.example/u/xia"

OWNER, ADMIN, USER, LURKER, ENFORCER = 4, 3, 2, 5, 6
AL, AN, B1, B2, CA, LO = range(6)  # leaves
I_ALICE, I_ANN, I_BOB, I_CATHY, I_DORA, I_EVE, I_LOU = range(7)  # places in the list

ASSETS = [f"can{verb}{kind}" for verb in ("Upload", "Download") for kind in ("Image", "Audio", "Video", "Attachment")]
USERS = ["canAddParticipant", "canRemoveParticipant", "canAddOwnClient", "canRemoveOwnClient", "canRemoveSelf", "canSendMessage",
         "canReceiveMessage", "canReportAbuse", "canChangeRoomName", *ASSETS]
ADMINS = [*USERS, "canBan", "canUnBan", "canKick", "canChangeUserRole", "canChangeRoomDescription"]
OWNERS = [*ADMINS, "canChangeRoomAvatar", "canChangeRoomSubject", "canChangeRoomMood", "canCreateJoinCode", "canDeleteJoinCode",
          "canDestroyRoom", "canChangeRoomMembershipStyle", "canChangeRoleDefinitions", "canChangePreauthorizedUserList",
          "canChangeOtherPolicyAttribute", "canChangeMlsOperationalPolicies", "canSendMLSReinitProposal"]
EVERY = [0, 1, 2, 3, 4, 5]


def role(index, name, capabilities=(), changes=(), **bounds):
    return {"index": index, "name": name, "capabilities": list(capabilities), "changes": [list(change) for change in changes], **bounds}


def roles(**others):
    """Those of the club; an argument is put in the place of the role with that name, or left out if it is None."""
    own = {
        "no_role": role(0, "no_role", active=[0, 0]),
        "banned": role(1, "banned", active=[0, 0]),
        "user": role(2, "user", USERS, [(0, [2]), (2, [0])]),
        "admin": role(3, "admin", ADMINS, [(0, [1, 2, 3]), (1, [0, 2, 3]), (2, [0, 1, 3]), (3, [0, 1, 2])], participants=[1, None]),
        "owner": role(4, "owner", OWNERS, [(start, [end for end in EVERY if end != start]) for start in EVERY]),
        "lurker": role(5, "lurker"),
        "enforcer": role(6, "enforcer", ["canRemoveParticipant", "canBan"], [(0, [1]), (2, [0, 1]), (3, [0, 1])], active=[0, 0]),
    }
    return [one for one in {**own, **others}.values() if one]


def without(name, *capabilities):
    """The roles without some capabilities of one of them."""
    one = next(one for one in roles() if one["name"] == name)
    return roles(**{name: {**one, "capabilities": [it for it in one["capabilities"] if it not in capabilities]}})


def having(which, *capabilities, **changed):
    one = next(one for one in roles() if one["name"] == which)
    return roles(**{which: {**one, "capabilities": [*one["capabilities"], *capabilities], **changed}})


HUB_ENFORCES = {"claims": [[1, "", HUB]], "role": ENFORCER}
METADATA = {"room_uri": CLUB, "room_name": "Club", "room_descriptions": ["for members"], "room_avatar": "https://hub.example/club.png",
            "room_subject": "today", "room_mood": "calm"}
LISTED = [[ALICE, OWNER], [ANN, ADMIN], [BOB, USER], [CATHY, USER], [DORA, USER], [EVE, 1], [LOU, LURKER]]
LEAVES = [[ALICE, AL], [ANN, AN], [BOB, B1], [BOB, B2], [CATHY, CA], [LOU, LO]]


def room(uri=CLUB, participants=LISTED, leaves=LEAVES, **components):
    own = {"roles": roles(), "preauth": [HUB_ENFORCES], "metadata": METADATA}
    if uri != CLUB:
        del own["metadata"]
    stated = {name: value for name, value in {**own, **components}.items() if value is not None}
    return {"uri": uri, "components": stated, "participants": participants, "leaves": leaves}


OPEN = having("no_role", "canOpenJoin", "canUseJoinCode", changes=[[0, [2, 5]]])
AT_B = {"claims": [[1, "provider", "mimi://b.example"]], "role": ADMIN}
AT_A = {"claims": [[1, "provider", "mimi://a.example"]], "role": USER}
JOINABLE = [role if role["name"] not in ("user", "admin") else
            {**role, "capabilities": [*role["capabilities"], "canJoinIfPreauthorized", "canChangeOwnRole"]}
            for role in having("no_role", "canUseJoinCode", changes=[[0, [2]]])]
PAIR = [[BOB, USER], [CATHY, USER]]
FIXED = [role(0, "no_role"), role(2, "user", ["canAddOwnClient", "canRemoveOwnClient", "canRemoveSelf", "canSendMessage",
                                            "canRemoveParticipant", "canChangeRoomMembershipStyle"], [(2, [0]), (0, [2])])]
SUBSET = {"parent_dependant": True, "parent_room": [HALL]}
SMALL = [[ALICE, OWNER], [BOB, USER]]

ROOMS = {
    "club": room(),
    "open": room(roles=OPEN),
    "joinable": room(roles=JOINABLE, preauth=[HUB_ENFORCES, AT_B, AT_A]),
    "pair": room(participants=PAIR, leaves=[[BOB, 0], [CATHY, 1]], roles=FIXED, preauth=None, base={"fixed_membership": True, "max_users": 2}),
    "hall": room(uri=HALL, participants=[[ALICE, OWNER], [BOB, USER], [CATHY, USER], [DORA, USER], [EVE, 1]], leaves=[[ALICE, 0]]),
    "corner": room(participants=SMALL, leaves=[[ALICE, 0], [BOB, 1]], base=SUBSET),
}


# --- What happens ---------------------------------------------------------------------------------------------------


def member(leaf, identity=None):
    return {"leaf": leaf} if identity is None else {"leaf": leaf, "claims": {"identity": identity}}


THE_HUB = {"external": 0, "claims": {"identity": HUB}}
UNKNOWN_HUB = {"external": 0, "claims": {"identity": "mimi://other.example"}}
FOLLOWER = {"external": 1, "claims": {"identity": "mimi://b.example"}}


def client(user, **more):
    return {"user": user, **more}


def proposed(by, *actions, first=0, **more):
    return {"propose": {"by": by, "proposals": [[f"p{first + number}", action] for number, action in enumerate(actions)], **more}}


def committed(by, *proposals, **more):
    return {"commit": {"by": by, "proposals": list(proposals), **more}}


def joined(user, *proposals, code=None, **more):
    by = {"new_member": client(user, **more)}
    return committed(by if code is None else {**by, "code": code}, *proposals)


def on_list(roles=None, remove=None, add=None):
    update = {"roles": [list(pair) for pair in roles or []], "remove": list(remove or []), "add": [list(pair) for pair in add or []]}
    return {"list": {name: value for name, value in update.items() if value}}


def added(user, **more):
    return {"add": client(user, **more)}


def gone(leaf):
    return {"remove": leaf}


SELF_REMOVE = {"self_remove": True}
PUT_ZOE = on_list(add=[(ZOE, USER)])
BAN_BOB = [on_list(roles=[(I_BOB, 1)]), gone(B1), gone(B2)]
DROP_BOB = [on_list(remove=[I_BOB]), gone(B1), gone(B2)]
DROP_CATHY = [on_list(remove=[I_CATHY]), gone(CA)]
EXTERNAL_INIT = {"other": 6}


def cases():
    entries = []
    load = {"load": True}

    def case(name, where, decide, verdict="allowed", capability=None, **more):
        entry = {"name": name, "room": where, **more, "decide": decide, "verdict": verdict}
        if capability:
            entry["capability"] = capability
        assert name not in [other["name"] for other in entries], name
        entries.append(entry)

    def lacks(name, where, decide, capability, **more):
        from mimi_policy import lacking
        case(name, where, decide, lacking(capability).rule, capability, **more)

    # Adding users.
    case("a user adds a user and their clients", "club", committed(member(B1), PUT_ZOE, added(ZOE), added(ZOE)),
         after={"participants": [*LISTED, [ZOE, USER]], "leaves": [*LEAVES, [ZOE, 6], [ZOE, 7]]})
    case("a user adds a user who stays inactive", "club", committed(member(B1), PUT_ZOE), after={"leaves": LEAVES})
    case("added and proposed in one bundle", "club", proposed(member(B1), PUT_ZOE, added(ZOE)), after={"participants": [*LISTED, [ZOE, USER]]})
    lacks("a lurker adds nobody", "club", proposed(member(LO), PUT_ZOE), "canAddParticipant")
    case("a user makes no administrators", "club", proposed(member(B1), on_list(add=[(ZOE, ADMIN)])), "role-change-not-authorized")
    case("a user who is listed is not added", "club", proposed(member(B1), on_list(add=[(CATHY, USER)])), "user-listed")
    case("a banned user is not added", "club", proposed(member(AL), on_list(add=[(EVE, USER)])), "user-listed")
    case("nobody is listed with role 0", "club", proposed(member(AL), on_list(add=[(ZOE, 0)])), "role-zero")
    case("nobody gets a role that does not exist", "club", proposed(member(AL), on_list(add=[(ZOE, 9)])), "role-undefined")
    case("clients before their user", "club", proposed(member(B1), added(ZOE)), "client-of-unlisted-user")
    case("clients of a user who is listed already", "club", proposed(member(AL), added(DORA)), "adds-clients-of-others")
    case("clients by another who may add their user", "club", proposed(member(CA), added(ZOE), first=1), before=[proposed(member(B1), PUT_ZOE)])
    lacks("clients by another who may not add their user", "club", proposed(member(LO), added(ZOE), first=1), "canAddParticipant",
          before=[proposed(member(B1), PUT_ZOE)])
    case("clients by another who may not give the role", "club", proposed(member(B1), added(ZOE), first=1), "role-change-not-authorized",
         before=[proposed(member(AL), on_list(add=[(ZOE, ADMIN)]))])
    case("who commits does not matter", "club", committed(member(LO), "p0", "p1"), before=[proposed(member(B1), PUT_ZOE, added(ZOE))],
         after={"leaves": [*LEAVES, [ZOE, 6]]})
    case("an accepted user counts at once", "club", proposed(member(AN), on_list(add=[(ZOE, USER)]), first=1), "user-touched-twice",
         before=[proposed(member(B1), PUT_ZOE)])
    case("what an administrator proposed stays allowed when they are not one any more", "club",
         committed(member(AL), "p0", "p1", on_list(add=[(YAN, USER)])),
         before=[proposed(member(AN), on_list(roles=[(I_CATHY, ADMIN)])), proposed(member(AL), on_list(roles=[(I_ANN, USER)]), first=1)],
         after={"participants": [[ALICE, OWNER], [ANN, USER], [BOB, USER], [CATHY, ADMIN], *LISTED[4:], [YAN, USER]]})
    case("a role that was accepted counts at once", "club", proposed(member(CA), *BAN_BOB, first=1),
         before=[proposed(member(AL), on_list(roles=[(I_CATHY, ADMIN)]))])
    case("a role that was taken away counts at once", "club", proposed(member(AN), *BAN_BOB, first=1), "can-ban", "canBan",
         before=[proposed(member(AL), on_list(roles=[(I_ANN, USER), (I_CATHY, ADMIN)]))])

    # The form of an update.
    case("an index beyond the list", "club", proposed(member(AL), on_list(remove=[7])), "list-index")
    case("an index of a user who was only added in this epoch", "club", proposed(member(AL), on_list(remove=[7]), first=1), "list-index",
         before=[proposed(member(B1), PUT_ZOE)])
    case("a user twice in one update", "club", proposed(member(AL), on_list(roles=[(I_DORA, ADMIN)], remove=[I_DORA])), "user-touched-twice")
    case("a user twice in two updates", "club", committed(member(AL), on_list(roles=[(I_DORA, ADMIN)]), on_list(remove=[I_DORA])),
         "user-touched-twice")
    case("a user added twice", "club", proposed(member(AL), on_list(add=[(ZOE, USER), (ZOE, USER)])), "user-touched-twice")
    case("indices are those of the list when the epoch began", "club",
         committed(member(AL), on_list(remove=[I_DORA]), on_list(remove=[I_EVE]), on_list(roles=[(I_LOU, USER)])),
         after={"participants": [*LISTED[:4], [LOU, USER]]})
    case("the list is compacted and keeps its order", "club", committed(member(AL), *DROP_BOB, on_list(add=[(ZOE, USER)]), added(ZOE)),
         after={"participants": [[ALICE, OWNER], [ANN, ADMIN], [CATHY, USER], [DORA, USER], [EVE, 1], [LOU, LURKER], [ZOE, USER]],
                "leaves": [[ALICE, 0], [ANN, 1], [ZOE, 2], [CATHY, 4], [LOU, 5]]})
    case("an update that does not read", "club", proposed(member(AL), {"raw": [0x21, ""]}), "allowed")
    case("a component that does not read", "club", proposed(member(AL), {"raw": [0x25, "ff"]}), "component-malformed")

    # Removing users.
    case("a user removes a user with their clients", "club", committed(member(CA), *DROP_BOB))
    case("a user removes a user and forgets a client", "club", proposed(member(CA), *DROP_BOB[:2]), "removed-user-has-clients")
    case("a user removes nobody above them", "club", proposed(member(B1), on_list(remove=[I_ANN]), gone(AN)), "role-change-not-authorized")
    lacks("a lurker removes nobody", "club", proposed(member(LO), *DROP_BOB), "canRemoveParticipant")
    case("an inactive user is removed", "club", committed(member(B1), on_list(remove=[I_DORA])))
    case("a banned user is removed from the list", "club", committed(member(AN), on_list(remove=[I_EVE])))
    case("the last administrator is not removed", "club", proposed(member(AL), on_list(remove=[I_ANN]), gone(AN)), "min-participants")
    case("an administrator is removed and another made", "club",
         proposed(member(AL), on_list(roles=[(I_CATHY, ADMIN)], remove=[I_ANN]), gone(AN)))
    case("a client that is not there", "club", proposed(member(AL), gone(9)), "unknown-leaf")
    case("a proposer that is not there", "club", proposed(member(9), PUT_ZOE), "unknown-leaf")
    case("a client removed twice", "club", proposed(member(AL), gone(B1), gone(B1)), "leaf-removed-twice")

    # Leaving.
    case("a user leaves", "club", proposed(member(B1), on_list(remove=[I_BOB]), SELF_REMOVE, gone(B2)))
    case("a user leaves with removes alone", "club", proposed(member(B1), *DROP_BOB))
    case("a user leaves and somebody else commits it", "club", committed(member(LO), "p0", "p1", "p2"),
         before=[proposed(member(B1), on_list(remove=[I_BOB]), SELF_REMOVE, gone(B2))],
         after={"leaves": [[ALICE, 0], [ANN, 1], [CATHY, 4], [LOU, 5]]})
    case("a user leaves and forgets a client", "club", proposed(member(B1), on_list(remove=[I_BOB]), SELF_REMOVE), "removed-user-has-clients")
    lacks("a lurker does not leave", "club", proposed(member(LO), on_list(remove=[I_LOU]), SELF_REMOVE), "canRemoveSelf")
    case("nobody leaves whose role may not go", room(roles=having("lurker", "canRemoveSelf")),
         proposed(member(LO), on_list(remove=[I_LOU]), SELF_REMOVE), "role-change-not-authorized")
    case("nobody commits their own leaving", "club", committed(member(B1), *DROP_BOB), "committer-leaves")
    case("nobody commits the removal of their own client", "club", committed(member(B1), gone(B1)), "committer-leaves")
    case("nobody commits their own accepted SelfRemove", "club", committed(member(B1), "p0"), "committer-leaves",
         before=[proposed(member(B1), SELF_REMOVE)])
    case("their other client can commit it", "club", committed(member(B2), "p0"), before=[proposed(member(B1), SELF_REMOVE)])
    case("SelfRemove inline", "club", committed(member(B1), SELF_REMOVE), "self-remove-inline")
    case("who left sends nothing", "club", {"send": {"user": BOB}}, "not-a-participant", before=[proposed(member(B1), *DROP_BOB)])
    case("who left proposes nothing", "club", proposed(member(B1), PUT_ZOE, first=3), "proposer-removed", before=[proposed(member(CA), *DROP_BOB)])
    case("who left commits nothing", "club", committed(member(B1), "p0", "p1", "p2"), "proposer-removed", before=[proposed(member(CA), *DROP_BOB)])
    case("removing a user with their clients takes no canKick", "club", committed(member(CA), "p0", "p1", "p2"),
         before=[proposed(member(CA), *DROP_BOB)])

    # Clients of one's own, and kicking.
    case("a user adds a client", "club", committed(member(B1), added(BOB)))
    lacks("a lurker adds no client", "club", proposed(member(LO), added(LOU)), "canAddOwnClient")
    case("a user removes a client of theirs", "club", committed(member(B1), gone(B2)), after={"leaves": [*LEAVES[:3], *LEAVES[4:]]})
    case("the only client goes and the user stays", "club", proposed(member(CA), SELF_REMOVE), after={"participants": LISTED})
    lacks("a lurker removes no client", "club", proposed(member(LO), SELF_REMOVE), "canRemoveOwnClient")
    case("an administrator kicks", "club", committed(member(AN), gone(B1), gone(B2)), after={"participants": LISTED})
    case("an administrator removes one client of a user", "club", committed(member(AN), gone(B1)))
    lacks("a user does not kick", "club", proposed(member(CA), gone(B1), gone(B2)), "canKick")
    case("nobody is kicked below the minimum", room(roles=having("owner", active=[1, None])), proposed(member(AN), gone(AL)), "min-active")
    case("nobody takes out their last client below the minimum", room(roles=having("owner", active=[1, None])),
         proposed(member(AL), SELF_REMOVE), "min-active")

    # Roles.
    case("an administrator promotes", "club", committed(member(AN), on_list(roles=[(I_BOB, ADMIN)])))
    lacks("a user does not promote", "club", proposed(member(B1), on_list(roles=[(I_CATHY, ADMIN)])), "canChangeUserRole")
    case("an administrator makes no owners", "club", proposed(member(AN), on_list(roles=[(I_BOB, OWNER)])), "role-change-not-authorized")
    case("an administrator does not demote an owner", "club", proposed(member(AN), on_list(roles=[(I_ALICE, USER)])), "role-change-not-authorized")
    case("the last administrator is not demoted", "club", proposed(member(AL), on_list(roles=[(I_ANN, USER)])), "min-participants")
    case("a role has no more users than its maximum", room(roles=having("owner", participants=[0, 1])),
         proposed(member(AL), on_list(roles=[(I_BOB, OWNER)])), "max-participants")
    case("a full role is handed on", room(roles=having("owner", "canRemoveSelf", participants=[0, 1])),
         proposed(member(AL), on_list(remove=[I_ALICE], roles=[(I_BOB, OWNER)]), gone(AL)))
    case("no more users with clients than the maximum", room(roles=having("owner", active=[0, 1])),
         proposed(member(AL), on_list(roles=[(I_BOB, OWNER)])), "max-active")
    case("an inactive user does not count as active", room(roles=having("owner", active=[0, 1])),
         proposed(member(AL), on_list(roles=[(I_DORA, OWNER)])))
    case("a role without clients takes an active user only without them", room(roles=having("lurker", active=[0, 0]), leaves=LEAVES[:5]),
         proposed(member(AL), on_list(roles=[(I_BOB, LURKER)])), "role-without-clients")
    case("a role without clients takes a user whose clients go", room(roles=having("lurker", active=[0, 0]), leaves=LEAVES[:5]),
         proposed(member(AL), on_list(roles=[(I_BOB, LURKER)]), gone(B1), gone(B2)))
    case("nobody gives role 0", "club", proposed(member(AL), on_list(roles=[(I_BOB, 0)])), "role-zero")
    lacks("nobody changes their own role without the capability", "club", proposed(member(AN, ANN), on_list(roles=[(I_ANN, OWNER)])),
          "canChangeOwnRole")
    case("a user takes the role that preauthorization gives", "joinable", committed(member(B1, BOB), on_list(roles=[(I_BOB, ADMIN)])))
    case("a user takes no other role", "joinable", proposed(member(B1, BOB), on_list(roles=[(I_BOB, OWNER)])), "own-role-not-preauthorized")
    case("a user whom no entry knows takes no role", "joinable", proposed(member(CA, CATHY), on_list(roles=[(I_CATHY, ADMIN)])),
         "own-role-not-preauthorized")
    case("the first entry that matches counts", room(roles=JOINABLE, preauth=[AT_B, {**AT_B, "role": OWNER}]),
         proposed(member(B1, BOB), on_list(roles=[(I_BOB, OWNER)])), "own-role-not-preauthorized")
    case("all claims of an entry have to hold", room(roles=JOINABLE, preauth=[{**AT_B, "claims": [*AT_B["claims"], [1, "user", ANN]]}]),
         proposed(member(B1, BOB), on_list(roles=[(I_BOB, ADMIN)])), "own-role-not-preauthorized")

    # Banning.
    case("an administrator bans", "club", committed(member(AN), *BAN_BOB),
         after={"participants": [*LISTED[:2], [BOB, 1], *LISTED[3:]], "leaves": [*LEAVES[:2], *LEAVES[4:]]})
    case("a ban that leaves a client", "club", proposed(member(AN), *BAN_BOB[:2]), "banned-user-has-clients")
    lacks("a user does not ban", "club", proposed(member(CA), *BAN_BOB), "canBan")
    case("an administrator does not ban an owner", "club", proposed(member(AN), on_list(roles=[(I_ALICE, 1)]), gone(AL)),
         "role-change-not-authorized")
    case("nobody is banned where there is no such role", room(roles=[role(0, "no_role"), role(2, "user", USERS), role(4, "owner", OWNERS)],
                                                             preauth=None, participants=SMALL, leaves=[]),
         proposed(THE_HUB, on_list(roles=[(1, 1)])), "no-ban-role")
    case("role 1 under another name is no ban", room(roles=having("banned", name="Banned"), participants=LISTED[:5], leaves=LEAVES[:5]),
         proposed(THE_HUB, *BAN_BOB), "no-ban-role")
    case("a user is banned who was never listed", "club", committed(member(AN), on_list(add=[(ZOE, 1)])))
    case("a ban by canChangeUserRole takes canKick too", room(roles=without("admin", "canBan", "canKick")), proposed(member(AN), *BAN_BOB),
         "can-kick", "canKick")
    case("a ban by canChangeUserRole and canKick", room(roles=without("admin", "canBan")), proposed(member(AN), *BAN_BOB))
    case("a ban by canBan alone", room(roles=without("admin", "canChangeUserRole", "canKick")), proposed(member(AN), *BAN_BOB))
    lacks("without either nobody bans", room(roles=without("admin", "canBan", "canChangeUserRole")), proposed(member(AN), *BAN_BOB), "canBan")
    case("a banned user proposes nothing", "club", proposed(member(B1), PUT_ZOE, first=3), "proposer-banned", before=[proposed(member(AN), *BAN_BOB)])
    case("a banned user commits nothing", "club", committed(member(B1), "p0", "p1", "p2"), "proposer-banned", before=[proposed(member(AN), *BAN_BOB)])
    case("a banned user sends nothing", "club", {"send": {"user": BOB}}, "not-a-participant", before=[proposed(member(AN), *BAN_BOB)])
    case("a banned user receives nothing", "club", {"receive": {"user": EVE}}, "not-a-participant")
    case("a banned user gets no GroupInfo", "club", {"group_info": {"client": client(EVE)}}, "joiner-banned")
    case("a banned user does not join", "open", joined(EVE), "joiner-banned")
    case("a banned user does not join by preauthorization", "joinable", joined(EVE, on_list(add=[(EVE, ADMIN)])), "joiner-banned")
    case("a ban is lifted", "club", committed(member(AN), on_list(roles=[(I_EVE, USER)])))
    case("a ban is lifted and clients added at once", "club", proposed(member(AN), on_list(roles=[(I_EVE, USER)]), added(EVE)),
         "adds-clients-of-others")
    lacks("without the capability no ban is lifted", room(roles=without("admin", "canUnBan", "canChangeUserRole")),
          proposed(member(AN), on_list(roles=[(I_EVE, USER)])), "canUnBan")
    case("canUnBan alone lifts bans", room(roles=without("admin", "canChangeUserRole")), proposed(member(AN), on_list(roles=[(I_EVE, USER)])))
    case("nobody who is banned gets a role that may not follow", "club", proposed(member(AN), on_list(roles=[(I_EVE, OWNER)])),
         "role-change-not-authorized")

    # External senders.
    case("the hub removes by its preauthorized role", "club", proposed(THE_HUB, *DROP_BOB))
    case("the hub bans by its preauthorized role", "club", proposed(THE_HUB, *BAN_BOB))
    lacks("the hub adds nobody without the capability", "club", proposed(THE_HUB, PUT_ZOE), "canAddParticipant")
    case("the hub does not touch the owner", "club", proposed(THE_HUB, on_list(remove=[I_ALICE]), gone(AL)), "role-change-not-authorized")
    case("a hub without a role removes nobody", "club", proposed(UNKNOWN_HUB, *DROP_BOB), "external-sender-role")
    case("a follower without a role proposes nothing", "club", proposed(FOLLOWER, gone(B1)), "external-sender-role")
    case("the hub sets its franking agent", "club", proposed(UNKNOWN_HUB, {"raw": [0x21, "0000"]}))
    lacks("a user does not set the franking agent", "club", proposed(member(B1), {"raw": [0x21, "0000"]}), "canChangeMlsOperationalPolicies")
    case("the hub changes the extensions", "club", proposed(UNKNOWN_HUB, {"extensions": "unchanged"}))
    case("components do not change with the extensions", "club", proposed(THE_HUB, {"extensions": "changed"}), "dictionary-by-extensions")
    lacks("a user does not change the extensions", "club", proposed(member(B1), {"extensions": "unchanged"}), "canChangeMlsOperationalPolicies")
    case("no leaf is renewed from outside", "club", proposed(THE_HUB, {"update": client(BOB)}), "proposal-from-outside")
    case("proposals from outside are off", room(operational={"external_proposal_allowed": False}), proposed(THE_HUB, *DROP_BOB),
         "external-proposals-off")
    case("somebody listed asks from outside for a client of theirs", "club", proposed({"new_member": client(DORA)}, added(DORA)))
    case("somebody unlisted asks from outside", "club", proposed({"new_member": client(ZOE)}, added(ZOE)), "proposer-removed")
    case("somebody banned asks from outside", "club", proposed({"new_member": client(EVE)}, added(EVE)), "proposer-banned")
    case("somebody asks from outside for another's client", "club", proposed({"new_member": client(DORA)}, added(BOB)), "joiner-changes-others")
    case("somebody asks from outside for more than an Add", "club", proposed({"new_member": client(DORA)}, PUT_ZOE), "proposal-from-outside")

    # Joining.
    case("a new client of a user joins", "club", joined(BOB, EXTERNAL_INIT), after={"leaves": [*LEAVES, [BOB, 6]]})
    case("an inactive user joins", "club", joined(DORA), after={"leaves": [*LEAVES, [DORA, 6]]})
    case("a client joins anew and replaces itself", "club", joined(BOB, gone(B2)), after={"leaves": LEAVES})
    case("who joins removes nobody else", "club", joined(BOB, gone(CA)), "joiner-changes-others")
    lacks("a lurker's client does not join", "club", joined(LOU), "canAddOwnClient")
    case("a stranger joins and is not listed", "open", joined(XIA), "client-of-unlisted-user")
    case("a stranger joins an open room", "open", joined(XIA, on_list(add=[(XIA, USER)])),
         after={"participants": [*LISTED, [XIA, USER]], "leaves": [*LEAVES, [XIA, 6]]})
    # What is pending is in no external commit.
    with_guests = [*having("no_role", "canOpenJoin", changes=[[0, [2, 7]]]), role(7, "guest")]
    no_lou = dict(participants=LISTED[:-1], leaves=LEAVES[:-1], roles=[
        {**one, "changes": [[start, [end for end in ends if end != LURKER]] for start, ends in one["changes"] if start != LURKER]}
        if one["name"] == "owner" else one for one in OPEN])
    fewer = [one for one in no_lou["roles"] if one["name"] != "lurker"]
    fewer = [{**one, "changes": [[0, [2]]]} if one["name"] == "no_role" else one for one in fewer]
    join = on_list(add=[(XIA, USER)])
    case("a stranger joins while new roles are pending", "open", joined(XIA, join), before=[proposed(member(AL), {"roles": with_guests})],
         after={"participants": [*LISTED, [XIA, USER]]})
    case("a stranger joins while new preauthorization is pending", "open", joined(XIA, join), before=[proposed(member(AL), {"preauth": [AT_B]})])
    case("a stranger joins with a role that is to come", "open", joined(XIA, on_list(add=[(XIA, 7)])), "role-undefined",
         before=[proposed(member(AL), {"roles": with_guests})])
    case("a stranger joins with a role that is to go", room(**no_lou), joined(XIA, on_list(add=[(XIA, LURKER)])), "role-undefined",
         before=[proposed(member(AL), {"roles": fewer})])
    lacks("a stranger joins while the room is about to close", "open", joined(XIA, join), "canOpenJoin",
          before=[proposed(member(AL), {"roles": roles()})])
    case("the hub proposes the pending roles again after somebody joined", "open", proposed(UNKNOWN_HUB, {"roles": with_guests}),
         before=[proposed(member(AL), {"roles": with_guests}), joined(XIA, join)])
    case("a stranger takes another role", "open", joined(XIA, on_list(add=[(XIA, ADMIN)])), "role-change-not-authorized")
    case("a stranger brings somebody along", "open", joined(XIA, on_list(add=[(XIA, USER), (ZOE, USER)])), "joiner-changes-others")
    case("a stranger changes the name", "open", joined(XIA, on_list(add=[(XIA, USER)]), {"metadata": {**METADATA, "room_name": "Mine"}}),
         "joiner-changes-others")
    case("a stranger's other proposals", "open", joined(XIA, on_list(add=[(XIA, USER)]), added(XIA)), "proposal-from-outside")
    lacks("a closed room is not joined", "club", joined(XIA, on_list(add=[(XIA, USER)])), "canOpenJoin")
    case("a joined role is full", room(roles=[{**one, "active": [0, 2]} if one["name"] == "user" else one for one in OPEN]),
         joined(XIA, on_list(add=[(XIA, USER)])), "max-active")
    case("an open room without a role to join", room(roles=having("no_role", "canOpenJoin")), joined(XIA, on_list(add=[(XIA, USER)])),
         "role-change-not-authorized")
    case("a preauthorized role is full", room(roles=[{**one, "participants": [1, 1]} if one["name"] == "admin" else one for one in JOINABLE], preauth=[AT_B]),
         joined(ZOE, on_list(add=[(ZOE, ADMIN)])), "max-participants")
    case("the role of a join code is full", room(roles=[{**one, "participants": [0, 3]} if one["name"] == "user" else one for one in JOINABLE]),
         joined(XIA, on_list(add=[(XIA, USER)]), code=USER), "max-participants")
    case("a user is added to a full role", room(roles=having("user", participants=[0, 3])), proposed(member(B1), PUT_ZOE), "max-participants")
    case("a user is added with clients beyond the maximum", room(roles=having("user", active=[0, 2])), proposed(member(B1), PUT_ZOE, added(ZOE)), "max-active")
    case("a user is added without clients at the maximum", room(roles=having("user", active=[0, 2])), proposed(member(B1), PUT_ZOE))
    case("external commits are off", room(operational={"external_commit_allowed": False}), joined(BOB), "external-commits-off")
    case("preauthorization lets in", "joinable", joined(YAN, on_list(add=[(YAN, USER)])))
    case("preauthorization gives the first role", "joinable", joined(ZOE, on_list(add=[(ZOE, ADMIN)])))
    case("preauthorization does not give the second", "joinable", joined(ZOE, on_list(add=[(ZOE, USER)])), "preauthorized-for-another-role")
    case("preauthorization knows no stranger", "joinable", joined(XIA, on_list(add=[(XIA, USER)])), "can-open-join", "canOpenJoin")
    case("authorized changes are not asked of the preauthorized", room(roles=having("lurker", "canJoinIfPreauthorized"), preauth=[{**AT_A, "role": LURKER}]),
         joined(YAN, on_list(add=[(YAN, LURKER)])))
    lacks("the preauthorized role cannot be joined", room(preauth=[AT_A]), joined(YAN, on_list(add=[(YAN, USER)])), "canJoinIfPreauthorized")
    case("a certificate's claims", room(roles=JOINABLE, preauth=[{"claims": [[2, "O", "Example"]], "role": USER}]),
         joined(XIA, on_list(add=[(XIA, USER)]), claims={"type": 2, "values": [["O", "Example"]]}))
    case("a join code lets in", "joinable", joined(XIA, on_list(add=[(XIA, USER)]), code=USER))
    case("a join code is for its role", "joinable", joined(XIA, on_list(add=[(XIA, ADMIN)]), code=USER), "join-code-for-another-role")
    case("a join code for a role that outsiders do not get", "joinable", joined(XIA, on_list(add=[(XIA, ADMIN)]), code=ADMIN),
         "role-change-not-authorized")
    case("an unknown join code", "joinable", joined(XIA, on_list(add=[(XIA, USER)]), code="unknown"), "join-code-unknown")
    case("an expired join code", "joinable", joined(XIA, on_list(add=[(XIA, USER)]), code="expired"), "join-code-expired")
    case("a bad code does no harm to the preauthorized", "joinable", joined(YAN, on_list(add=[(YAN, USER)]), code="expired"))
    lacks("a room without join codes", "club", joined(XIA, on_list(add=[(XIA, USER)]), code=USER), "canUseJoinCode")
    case("GroupInfo for a participant", "club", {"group_info": {"client": client(DORA)}})
    lacks("GroupInfo for a lurker", "club", {"group_info": {"client": client(LOU)}}, "canAddOwnClient")
    lacks("GroupInfo for a stranger", "club", {"group_info": {"client": client(XIA)}}, "canOpenJoin")
    case("GroupInfo of an open room", "open", {"group_info": {"client": client(XIA)}})
    case("GroupInfo for the preauthorized", "joinable", {"group_info": {"client": client(YAN)}})
    case("GroupInfo by a code", "joinable", {"group_info": {"client": client(XIA), "code": USER}})
    case("GroupInfo by an expired code", "joinable", {"group_info": {"client": client(XIA), "code": "expired"}}, "join-code-expired")
    case("GroupInfo where nobody joins", "pair", {"group_info": {"client": client(XIA)}}, "fixed-membership")
    case("GroupInfo where nobody commits from outside", room(operational={"external_commit_allowed": False}),
         {"group_info": {"client": client(BOB)}}, "external-commits-off")

    # Clients that come.
    mandatory = {"mandatory_capabilities": {"extensions": [1, 6], "proposals": [3, 8], "components": [0x22]}}
    support = {"extensions": [6], "proposals": [8], "components": [0x22, 0x23]}
    case("a client with all that is mandatory", room(operational=mandatory), proposed(member(B1), added(BOB, support=support)))
    for what in support:
        case(f"a client without mandatory {what}", room(operational=mandatory), proposed(member(B1), added(BOB, support={**support, what: []})),
             "mandatory-capability")
    case("a key package that is good for too long", room(operational={"max_kp_lifetime": 100}), proposed(member(B1), added(BOB, lifetime=101)),
         "key-package-lifetime")
    case("a key package that is good for just as long", room(operational={"max_kp_lifetime": 100}), proposed(member(B1), added(BOB, lifetime=100)))
    pseudonym = {"claims": {"type": 0xf001}}
    case("a pseudonym where there are none", room(base={"pseudonyms_allowed": False}), proposed(member(B1), added(BOB, **pseudonym)),
         "pseudonym-not-allowed")
    case("a pseudonym", "club", proposed(member(B1), added(BOB, **pseudonym)))
    case("a leaf is renewed", "club", proposed(member(B1), {"update": client(BOB)}))
    case("a leaf gets another user", "club", proposed(member(B1), {"update": client(CATHY)}), "leaf-user-changed")
    case("a commit changes its leaf's user", "club", committed({**member(B1), "path": client(CATHY)}), "leaf-user-changed")
    case("a commit renews its leaf", "club", committed({**member(B1), "path": client(BOB)}))
    one_each = [[ALICE, 0], [BOB, 1]]
    case("a second client where there is one each", room(base={"multi_device": False}, leaves=one_each), proposed(member(1), added(BOB)), "second-client")
    case("a client is replaced where there is one each", room(base={"multi_device": False}, leaves=one_each), joined(BOB, gone(1)))
    case("no more clients than the maximum", room(base={"max_clients": 6}), proposed(member(B1), added(BOB)), "max-clients")
    case("one comes and one goes at the maximum", room(base={"max_clients": 6}), committed(member(B1), gone(B2), added(BOB)))
    case("no more users than the maximum", room(base={"max_users": 6}), proposed(member(B1), PUT_ZOE), "max-users")
    case("the banned do not count", room(base={"max_users": 6}), proposed(member(AN), on_list(add=[(ZOE, 1)])))
    case("a ban is not lifted in a full room", room(base={"max_users": 6}), proposed(member(AN), on_list(roles=[(I_EVE, USER)])), "max-users")

    # Fixed membership, and rooms of a parent.
    case("nobody comes into a pair", "pair", proposed(member(0), on_list(add=[(ZOE, USER)])), "fixed-membership")
    case("nobody leaves a pair", "pair", proposed(member(0), on_list(remove=[0]), SELF_REMOVE), "fixed-membership")
    case("nobody is removed from a pair", "pair", proposed(member(0), on_list(remove=[1]), gone(1)), "fixed-membership")
    case("clients leave a pair", "pair", proposed(member(0), SELF_REMOVE))
    case("clients come back to a pair", room(participants=PAIR, leaves=[[CATHY, 1]], roles=FIXED, preauth=None, base={"fixed_membership": True}),
         joined(BOB), after={"leaves": [[BOB, 0], [CATHY, 1]]})
    case("a user of the parent comes", "corner", proposed(member(1), on_list(add=[(CATHY, USER)])), parent="hall")
    case("a stranger to the parent does not come", "corner", proposed(member(1), on_list(add=[(ZOE, USER)])), "not-in-parent", parent="hall")
    case("a user whom the parent banned does not come", "corner", proposed(member(1), on_list(add=[(EVE, USER)])), "not-in-parent", parent="hall")
    case("not all of the parent come", "corner", proposed(member(1), on_list(add=[(CATHY, USER), (DORA, USER)])), "not-strict-subset", parent="hall")
    case("without the parent nobody comes", "corner", proposed(member(1), on_list(add=[(CATHY, USER)])), "parent-unknown")
    case("the hub removes who left the parent", "corner", proposed(UNKNOWN_HUB, on_list(remove=[1]), gone(1)),
         parent=room(uri=HALL, participants=[[ALICE, OWNER]], leaves=[]))
    case("the hub removes nobody who did not", "corner", proposed(UNKNOWN_HUB, on_list(remove=[1]), gone(1)), "external-sender-role", parent="hall")
    case("a room becomes one of a parent", room(participants=SMALL, leaves=[[ALICE, 0]]), proposed(member(0), {"base": SUBSET}), parent="hall")
    case("a room with strangers does not", "club", proposed(member(AL), {"base": SUBSET}), "not-in-parent", parent="hall")

    # Rooms that end with their last client, and rooms that stay.
    def small(**base):
        return room(participants=SMALL, leaves=[[ALICE, 0], [BOB, 1]], base=base)
    ending, staying = small(), small(persistent_room=True)
    one_left = [proposed(member(0), SELF_REMOVE)]
    all_left = [*one_left, proposed(member(1), SELF_REMOVE, first=1)]
    case("a room with a client goes on", ending, joined(BOB), before=one_left[:0], after={"leaves": [[ALICE, 0], [BOB, 1], [BOB, 2]]})
    case("a room with a client that stays goes on", ending, {"group_info": {"client": client(BOB)}}, before=one_left)
    case("nobody joins when the last client has left", ending, joined(BOB), "room-over", before=all_left)
    case("nobody gets the GroupInfo when the last client has left", ending, {"group_info": {"client": client(BOB)}}, "room-over", before=all_left)
    case("nobody proposes when the last client has left", ending, proposed(member(1), gone(1), first=2), "room-over", before=all_left)
    case("a room that stays gives its GroupInfo to who comes back", staying, {"group_info": {"client": client(BOB)}}, before=all_left)
    case("somebody comes back to a room that stays", staying, joined(BOB, "p0", "p1"), before=all_left, after={"leaves": [[BOB, 0]]})
    case("a room without a base policy stays", room(participants=SMALL, leaves=[[ALICE, 0], [BOB, 1]]), {"group_info": {"client": client(BOB)}},
         before=all_left)

    # Components.
    more = roles(guest=role(7, "guest"))
    case("an owner changes the roles", "club", committed(member(AL), {"roles": more}))
    lacks("an administrator does not change the roles", "club", proposed(member(AN), {"roles": more}), "canChangeRoleDefinitions")
    case("roles and users do not change together", "club", committed(member(AL), {"roles": more}, PUT_ZOE), "roles-with-list-change")
    case("not in two proposals either", "club", proposed(member(AL), {"roles": more}, first=1), "roles-with-list-change",
         before=[proposed(member(B1), PUT_ZOE)])
    case("new roles count at once", "club", proposed(member(AN), on_list(roles=[(I_BOB, ADMIN)]), first=1), "can-change-user-role", "canChangeUserRole",
         before=[proposed(member(AL), {"roles": without("admin", "canChangeUserRole")})])
    case("and in the next epoch, too", "club", proposed(member(AN), on_list(roles=[(I_BOB, ADMIN)])), "can-change-user-role", "canChangeUserRole",
         before=[committed(member(AL), {"roles": without("admin", "canChangeUserRole")})])
    case("a role that somebody has does not go", "club", proposed(member(AL), {"roles": roles(lurker=None, owner=role(4, "owner", OWNERS))}), "role-in-use")
    case("a new maximum is not below what there is", "club", proposed(member(AL), {"roles": having("user", participants=[0, 2])}), "max-participants")
    case("a new minimum may be above what there is", "club", proposed(member(AL), {"roles": having("owner", participants=[2, None])}))
    case("a role does not lose its clients in passing", "club", proposed(member(AL), {"roles": having("lurker", active=[0, 0])}), "max-active")
    case("an owner changes preauthorization", "club", committed(member(AL), {"preauth": [AT_B]}))
    lacks("an administrator does not change preauthorization", "club", proposed(member(AN), {"preauth": [AT_B]}), "canChangePreauthorizedUserList")
    case("preauthorization and additions do not change together", "club", proposed(member(AL), {"preauth": [AT_B]}, PUT_ZOE), "preauth-with-list-change")
    case("preauthorization and roles of users do not either", "club", proposed(member(AL), {"preauth": [AT_B]}, on_list(roles=[(I_BOB, ADMIN)])),
         "preauth-with-list-change")
    case("preauthorization and removals do", "club", committed(member(AL), {"preauth": [AT_B]}, *DROP_BOB))
    case("an owner changes the base policy", "club", committed(member(AL), {"base": {"max_users": 50}}))
    lacks("an administrator does not change the base policy", "club", proposed(member(AN), {"base": {"max_users": 50}}), "canChangeRoomMembershipStyle")
    case("a base policy that the room does not fit", "club", proposed(member(AL), {"base": {"max_users": 5}}), "max-users")
    case("one client each where somebody has two", "club", proposed(member(AL), {"base": {"multi_device": False}}), "second-client")
    lacks("an administrator does not change how the group is run", "club", proposed(member(AN), {"operational": {}}), "canChangeMlsOperationalPolicies")
    lacks("an administrator does not change other policy", "club", proposed(member(AN), {"raw": [0x28, "0000"]}), "canChangeOtherPolicyAttribute")
    case("an owner changes other policy", "club", proposed(member(AL), {"raw": [0x28, "0001"]}))
    case("a component that nothing is said about", "club", proposed(member(AL), {"raw": [0xf000, "00"]}), "component-unknown")
    case("a component that the base policy lists", room(base={"policy_component_ids": [0xf000]}), proposed(member(AL), {"raw": [0xf000, "00"]}))
    case("the list is not removed", "club", proposed(member(AL), {"remove_component": 0x22}), "component-required")
    case("the roles are not removed", "club", proposed(member(AL), {"remove_component": 0x25}), "component-required")
    case("a component is removed", "club", committed(member(AL), {"remove_component": 0x26}))
    case("a component that is not there is not removed", "club", proposed(member(AL), {"remove_component": 0x30}), "component-absent")
    case("a component is not removed twice", "club", proposed(member(AL), {"remove_component": 0x26}, {"remove_component": 0x26}), "component-absent")
    case("a component is not updated and removed", "club", proposed(member(AL), {"preauth": []}, {"remove_component": 0x26}), "update-and-remove")
    case("a component is not removed and updated", "club", proposed(member(AL), {"preauth": []}, first=1), "update-and-remove",
         before=[proposed(member(AL), {"remove_component": 0x26})])
    links = room(links=["one", "two"], link_policy={"on_request": False})
    case("join links change", links, committed(member(AL), {"change_links": {"remove": [0]}}, {"change_links": {"remove": [1], "add": ["three"]}}))
    case("a join link that is not there", links, proposed(member(AL), {"change_links": {"remove": [2]}}), "join-link-index")
    case("a join link is not removed twice", links, proposed(member(AL), {"change_links": {"remove": [0]}}, {"change_links": {"remove": [0]}}),
         "join-link-index")
    lacks("an administrator adds no join links", links, proposed(member(AN), {"change_links": {"add": ["three"]}}), "canCreateJoinCode")
    lacks("an administrator removes no join links", links, proposed(member(AN), {"change_links": {"remove": [0]}}), "canDeleteJoinCode")
    case("canCreateJoinCode is enough", room(roles=having("user", "canCreateJoinCode")), proposed(member(B1), {"change_links": {"add": ["x"]}}))

    # Metadata.
    for field, (value, capability) in {"room_name": ("Pub", None), "room_descriptions": (["for all"], "canChangeRoomDescription"),
                                       "room_avatar": ("https://hub.example/pub.png", "canChangeRoomAvatar"),
                                       "room_subject": ("tomorrow", "canChangeRoomSubject"), "room_mood": ("loud", "canChangeRoomMood")}.items():
        change = {"metadata": {**METADATA, field: value}}
        case(f"an owner changes {field}", "club", committed(member(AL), change))
        if capability:
            lacks(f"a user does not change {field}", "club", proposed(member(B1), change), capability)
        else:
            case(f"a user changes {field}", "club", committed(member(B1), change))
    lacks("a lurker does not change the name", "club", proposed(member(LO), {"metadata": {**METADATA, "room_name": "Pub"}}), "canChangeRoomName")
    case("a user changes name and mood", "club", proposed(member(B1), {"metadata": {**METADATA, "room_name": "Pub", "room_mood": "loud"}}),
         "can-change-room-mood", "canChangeRoomMood")
    case("metadata that change nothing", "club", proposed(member(LO), {"metadata": METADATA}), "no-change")
    case("metadata twice", "club", proposed(member(B1), {"metadata": {**METADATA, "room_name": "Pub"}}, {"metadata": METADATA}), "metadata-twice")
    case("metadata of another room", "club", proposed(member(B1), {"metadata": {**METADATA, "room_uri": HALL}}), "metadata-room")
    case("a picture that is no https URL", "club", proposed(member(AL), {"metadata": {**METADATA, "room_avatar": "http://hub.example/x"}}), "metadata-avatar")

    # Bans by another name.
    guests = room(roles=roles(banned=role(1, "guest")), leaves=[*LEAVES, [EVE, 6]])
    case("guests are there", guests, load)
    case("guests with clients are not banned by a name", guests, proposed(member(AL), {"roles": roles(banned=role(1, "banned"))}),
         "banned-user-has-clients")
    case("guests without clients are", room(roles=roles(banned=role(1, "guest"))), proposed(member(AL), {"roles": roles(banned=role(1, "banned"))}))
    case("nor is the room loaded then", room(roles=roles(banned=role(1, "banned")), leaves=[*LEAVES, [EVE, 6]]), load, "banned-user-has-clients")

    # Rooms of a parent, once more.
    for user, verdict in ((ZOE, "not-in-parent"), (CATHY, "allowed")):
        who = user.rsplit("/", 1)[1]
        case(f"{who} is banned and unbanned", "corner", committed(member(0), on_list(roles=[(2, USER)])), verdict, parent="hall",
             before=[committed(member(0), on_list(add=[(user, 1)]))])
        case(f"{who} asks for the GroupInfo", room(participants=SMALL, leaves=[[ALICE, 0], [BOB, 1]], base=SUBSET, roles=OPEN),
             {"group_info": {"client": client(user)}}, verdict, parent="hall")
        case(f"{who} is unbanned by another name of the ban", room(participants=[*SMALL, [user, 1]], leaves=[[ALICE, 0], [BOB, 1]], base=SUBSET),
             proposed(member(0), {"roles": roles(banned=role(1, "guest"))}), verdict, parent="hall")
    case("nobody knows who asks for the GroupInfo", room(participants=SMALL, leaves=[[ALICE, 0], [BOB, 1]], base=SUBSET, roles=OPEN),
         {"group_info": {"client": client(CATHY)}}, "parent-unknown")
    case("a role changes without a parent at hand", "corner", proposed(member(0), on_list(roles=[(1, LURKER)])), "parent-unknown")

    # Plain MLS.
    case("an owner begins a new group", "club", proposed(member(AL), {"other": 5}))
    lacks("an administrator begins no new group", "club", proposed(member(AN), {"other": 5}), "canSendMLSReinitProposal")
    case("a pre-shared key", "club", proposed(member(LO), {"other": 4}))
    case("a type of proposal that nobody knows", "club", proposed(member(AL), {"other": 0xf0f0}), "proposal-type-unknown")
    case("a type of proposal that is forbidden", room(operational={"forbidden_proposals": [4]}), proposed(member(AL), {"other": 4}),
         "proposal-type-forbidden")
    case("a handshake in a private message", "club", proposed(member(B1), PUT_ZOE, wire_format=2), "handshake-format")
    case("a handshake in a semi-private message", "club", proposed(member(B1), PUT_ZOE, wire_format=0xf001))
    case("a handshake in a format that the room does not take", room(operational={"handshake_formats": [0xf001]}), committed(member(B1)),
         "handshake-format")

    # Commits and what was proposed before.
    case("a commit without anything", "club", committed(member(LO)))
    case("a commit leaves out a proposal", "club", committed(member(AL)), "pending-proposal-missing", before=[proposed(member(B1), PUT_ZOE)])
    case("a commit of a proposal that was never accepted", "club", committed(member(AL), "p9"), "unknown-proposal")
    case("a commit refers twice", "club", committed(member(AL), "p0", "p0"), "proposal-twice", before=[proposed(member(B1), PUT_ZOE)])
    case("a proposal is sent twice", "club", proposed(member(B1), PUT_ZOE), "proposal-twice", before=[proposed(member(B1), {"other": 4})])
    # Of what is accepted about one component the last one counts, not the one that the committer puts last.
    muted = {"roles": without("user", "canSendMessage")}
    voiced = {"roles": without("user", "canReportAbuse")}
    quiet, loud = proposed(member(AL), muted), proposed(member(AL), voiced, first=1)
    case("two changes of a component in the order in which they were accepted", "club", committed(member(B1), "p0", "p1"), before=[quiet, loud])
    case("two changes of a component in another order", "club", committed(member(B1), "p1", "p0"), "proposal-order", before=[quiet, loud])
    lacks("what was accepted last counts after the commit", "club", {"report": {"user": BOB}}, "canReportAbuse",
          before=[quiet, loud, committed(member(B1), "p0", "p1")])
    based = proposed(member(AL), {"base": {"max_users": 50}})
    unbased = proposed(member(AL), {"base": {"max_users": 60}}, first=1)
    case("two changes of another component in another order", "club", committed(member(B1), "p1", "p0"), "proposal-order", before=[based, unbased])
    case("what a committer brings comes last", "club", committed(member(AL), "p0", voiced), before=[quiet])
    case("what a committer brings does not come before what was accepted", "club", committed(member(AL), voiced, "p0"), "proposal-order",
         before=[quiet])
    case("changes of two components in any order", "club", committed(member(B1), "p1", "p0"),
         before=[quiet, proposed(member(AL), {"base": {"max_users": 50}}, first=1)])
    case("changes of the list in any order", "club", committed(member(B1), "p1", "p0"),
         before=[proposed(member(B1), PUT_ZOE), proposed(member(AL), on_list(roles=[(I_BOB, ADMIN)]), first=1)])
    case("changes of the join links in any order", links, committed(member(B1), "p1", "p0"),
         before=[proposed(member(AL), {"change_links": {"remove": [0]}}), proposed(member(AL), {"change_links": {"add": ["three"]}}, first=1)])
    case("a proposal of the last epoch", "club", committed(member(AL), "p0"), "unknown-proposal",
         before=[proposed(member(B1), PUT_ZOE), committed(member(AL), "p0")])
    case("an external commit leaves out a SelfRemove", "club", joined(CATHY), "pending-proposal-missing", before=[proposed(member(B1), SELF_REMOVE)])
    case("an external commit with a SelfRemove", "club", joined(CATHY, "p0"), before=[proposed(member(B1), SELF_REMOVE)],
         after={"leaves": [*LEAVES[:2], [CATHY, 2], *LEAVES[3:]]})
    case("an external commit with another proposal", "club", joined(CATHY, "p0"), "reference-in-external-commit", before=[proposed(member(B1), PUT_ZOE)])
    leaving = proposed(member(B1), on_list(remove=[I_BOB]), SELF_REMOVE, gone(B2))
    case("what an external commit left out counts on", "club", {"send": {"user": BOB}}, "not-a-participant",
         before=[leaving, joined(CATHY, "p1")], after={"left_over": [[BOB, 0]], "participants": [*LISTED[:2], *LISTED[3:]]})
    case("the hub proposes it again", "club", proposed(UNKNOWN_HUB, on_list(remove=[I_BOB]), gone(B2)), before=[leaving, joined(CATHY, "p1")])
    case("the hub proposes nothing else instead", "club", proposed(UNKNOWN_HUB, on_list(roles=[(I_BOB, ADMIN)])), "user-touched-twice",
         before=[leaving, joined(CATHY, "p1")])
    case("nobody else proposes it again", "club", proposed(member(AL), on_list(remove=[I_BOB]), gone(B2)), "user-touched-twice",
         before=[leaving, joined(CATHY, "p1")])
    case("it is done once it is committed", "club", committed(member(CA), "p0", "p1"),
         before=[leaving, joined(CATHY, "p1"), proposed(UNKNOWN_HUB, on_list(remove=[I_BOB]), gone(B2))],
         after={"left_over": [], "participants": [*LISTED[:2], *LISTED[3:]], "leaves": [[ALICE, 0], [ANN, 1], [CATHY, 2], [CATHY, 4], [LOU, 5]]})
    case("a policy counts on in the same way", "club", proposed(member(AN), on_list(roles=[(I_BOB, ADMIN)])), "can-change-user-role", "canChangeUserRole",
         before=[proposed(member(AL), {"roles": without("admin", "canChangeUserRole")}), joined(CATHY)])
    case("a removal that was left over is proposed again", "club", proposed(UNKNOWN_HUB, {"remove_component": 0x26}),
         before=[proposed(member(AL), {"remove_component": 0x26}), joined(CATHY)])
    case("a component that is absent is not removed for that", "club", proposed(member(AL), {"remove_component": 0x26}), "component-absent",
         before=[committed(member(AL), {"remove_component": 0x26})])
    case("who changes a component after that has the last word", "club", proposed(member(AN), on_list(roles=[(I_BOB, ADMIN)])),
         before=[proposed(member(AL), {"roles": without("admin", "canChangeUserRole")}), joined(CATHY), committed(member(AL), {"roles": roles()})])
    case("even with what the epoch began with, and void in its turn", "club", proposed(member(AN), on_list(roles=[(I_BOB, ADMIN)]), first=2),
         before=[proposed(member(AL), {"roles": without("admin", "canChangeUserRole")}), joined(CATHY), proposed(member(AL), {"roles": roles()}, first=1),
                 joined(CATHY)])
    case("a client that has no place is cleared away by the hub", "club", proposed(UNKNOWN_HUB, gone(B2)),
         before=[leaving, joined(CATHY, "p1")])

    # What gives way to what comes later.
    another = proposed(member(B1), added(BOB))
    banned = proposed(member(AN), *BAN_BOB, first=1)
    no_bob = [[ALICE, 0], [ANN, 1], [CATHY, 4], [LOU, 5]]
    case("a client that was asked for keeps nobody from being banned", "club", banned, before=[another])
    case("nor from being removed", "club", proposed(member(CA), *DROP_BOB, first=1), before=[another])
    case("it is not committed any more", "club", committed(member(AL), "p1", "p2", "p3"), before=[another, banned], after={"leaves": no_bob})
    case("nor referred to", "club", committed(member(AL), "p0", "p1", "p2", "p3"), "unknown-proposal", before=[another, banned])
    case("a ban in a commit leaves it out", "club", committed(member(AN), *BAN_BOB), before=[another], after={"leaves": no_bob})
    case("a ban in a commit does not go with it", "club", committed(member(AN), "p0", *BAN_BOB), "banned-user-has-clients", before=[another])
    case("another role leaves no client out", "club", committed(member(AL), on_list(roles=[(I_BOB, ADMIN)])), "pending-proposal-missing",
         before=[another])
    renewed = proposed(member(B1), {"update": client(BOB)})
    kicked = proposed(member(AN), gone(B1), first=1)
    case("an Update gives way to a Remove", "club", committed(member(AL), "p1"), before=[renewed, kicked])
    case("and is not referred to then", "club", committed(member(AL), "p0", "p1"), "unknown-proposal", before=[renewed, kicked])
    case("a Remove in a commit leaves the Update out", "club", committed(member(AN), gone(B1)), before=[renewed])
    case("an Update of a client that stays is not left out", "club", committed(member(AN), gone(B2)), "pending-proposal-missing", before=[renewed])
    case("an Update gives way to the next", "club", committed(member(AL), "p1"),
         before=[renewed, proposed(member(B1), {"update": client(BOB)}, first=1)])
    case("nobody commits their own Update", "club", committed(member(B1)), before=[renewed])
    case("others do", "club", committed(member(B2)), "pending-proposal-missing", before=[renewed])
    case("a client whose key package is not good any more is left out", "club", committed(member(AL), expired=["p0"]), before=[another],
         after={"leaves": LEAVES})
    case("nothing else is for that", "club", committed(member(AL), expired=["p0"]), "pending-proposal-missing", before=[renewed])
    kicked, leaving_then = proposed(member(AN), gone(B1)), proposed(member(B1), SELF_REMOVE, first=1)
    case("a Remove gives way to a SelfRemove", "club", committed(member(AL), "p1"), before=[kicked, leaving_then])
    case("and an external commit contains that", "club", joined(CATHY, "p1"), before=[kicked, leaving_then],
         after={"leaves": [*LEAVES[:2], [CATHY, 2], *LEAVES[3:]]})
    case("a SelfRemove does not give way", "club", proposed(member(AN), gone(B1), first=1), "leaf-removed-twice",
         before=[proposed(member(B1), SELF_REMOVE)])
    case("SelfRemove twice", "club", leaving_then, "leaf-removed-twice", before=[proposed(member(B1), SELF_REMOVE)])
    promoted = proposed(member(B1, BOB), on_list(roles=[(I_BOB, ADMIN)]))
    case("what users make of themselves gives way to a ban", "joinable", banned, before=[promoted],
         after={"participants": [*LISTED[:2], [BOB, 1], *LISTED[3:]]})
    case("and is not committed any more", "joinable", committed(member(AL), "p1", "p2", "p3"), before=[promoted, banned],
         after={"leaves": no_bob, "participants": [*LISTED[:2], [BOB, 1], *LISTED[3:]]})
    case("a ban in a commit leaves it out, too", "joinable", committed(member(AN), *BAN_BOB), before=[promoted], after={"leaves": no_bob})
    case("and does not go with it", "joinable", committed(member(AN), "p0", *BAN_BOB), "user-touched-twice", before=[promoted])
    case("it gives way to another role", "joinable", proposed(member(AL), on_list(roles=[(I_BOB, LURKER)]), first=1), before=[promoted])
    case("it does not give way to the user", "joinable", proposed(member(B2, BOB), on_list(roles=[(I_BOB, ADMIN)]), first=1), "user-touched-twice",
         before=[promoted])
    case("nor to somebody who may not", "joinable", proposed(member(LO), on_list(roles=[(I_BOB, 1)]), first=1), "can-ban", "canBan", before=[promoted])
    case("who leaves can be banned for it", "club", proposed(member(AN), on_list(roles=[(I_BOB, 1)]), first=3), before=[leaving],
         after={"participants": [*LISTED[:2], [BOB, 1], *LISTED[3:]]})
    case("who leaves is not kept by another role", "club", proposed(member(AL), on_list(roles=[(I_BOB, LURKER)]), first=3), "user-touched-twice",
         before=[leaving])
    case("nor removed once more", "club", proposed(member(AL), on_list(remove=[I_BOB]), first=3), "user-touched-twice", before=[leaving])
    case("what others are part of does not give way", "club", proposed(member(AL), on_list(roles=[(I_BOB, 1)]), gone(B1), gone(B2), first=4),
         "user-touched-twice", before=[proposed(member(B1), on_list(remove=[I_BOB, I_DORA]), SELF_REMOVE, gone(B2))])

    # Proposals that change nothing would only take up the place of others.
    case("a role that the user has", "club", proposed(member(AL), on_list(roles=[(I_BOB, USER)])), "no-change")
    case("one's own role", "joinable", proposed(member(AN, ANN), on_list(roles=[(I_ANN, ADMIN)])), "no-change")
    case("an update of the list without an entry", "club", proposed(member(LO), on_list()), "no-change")
    case("an update of the join links without an entry", links, proposed(member(LO), {"change_links": {}}), "no-change")
    case("a component as it is", "club", proposed(member(AL), {"roles": roles()}), "no-change")
    case("a component as it was accepted", "club", proposed(member(AL), {"preauth": []}, first=1), "no-change",
         before=[proposed(member(AL), {"preauth": []})])
    case("a component as the epoch began with it, once another was accepted", "club", proposed(member(AL), {"preauth": [HUB_ENFORCES]}, first=1),
         before=[proposed(member(AL), {"preauth": []})])

    # What an external commit made void.
    closed = room(operational={"external_proposal_allowed": False})
    again = proposed(UNKNOWN_HUB, on_list(remove=[I_BOB]), gone(B2))
    case("the hub proposes again where nothing is proposed from outside", closed, again, before=[leaving, joined(CATHY, "p1")])
    case("and nothing with it", closed, proposed(UNKNOWN_HUB, on_list(remove=[I_BOB]), gone(B2), {"other": 4}), "external-proposals-off",
         before=[leaving, joined(CATHY, "p1")])
    case("the hub proposes again what is forbidden since", "club", again,
         before=[leaving, proposed(member(AL), {"operational": {"forbidden_proposals": [3, 8]}}, first=3), joined(CATHY, "p1")])
    kick = proposed(member(AN), gone(B2))
    case("a client that was to go is left over", "club", proposed(UNKNOWN_HUB, gone(B2), first=1), before=[kick, joined(CATHY)],
         after={"left_over": [], "left_over_leaves": [[BOB, B2]]})
    case("nobody else proposes that again", "club", proposed(member(AN), gone(B2), first=1), "leaf-removed-twice", before=[kick, joined(CATHY)])
    case("nor the hub twice", "club", proposed(UNKNOWN_HUB, gone(B2), first=2), "leaf-removed-twice",
         before=[kick, joined(CATHY), proposed(UNKNOWN_HUB, gone(B2), first=1)])
    case("the client itself may go", "club", proposed(member(B2), SELF_REMOVE, first=1), before=[kick, joined(CATHY)])
    case("it commits nothing", "club", committed(member(B2)), "committer-leaves", before=[kick, joined(CATHY)])
    case("it is gone once that is committed", "club", committed(member(AL), "p1"),
         before=[kick, joined(CATHY), proposed(UNKNOWN_HUB, gone(B2), first=1)],
         after={"left_over_leaves": [], "leaves": [*LEAVES[:3], *LEAVES[4:], [CATHY, 6]]})
    case("a leaf that is somebody else's is not left over", "club", joined(CATHY, gone(CA)), before=[proposed(member(AN), gone(CA))],
         after={"left_over_leaves": []})
    fewer = [proposed(member(AN), gone(B2)), proposed(member(AL), {"base": {"multi_device": True, "pseudonyms_allowed": True, "max_clients": 5}}, first=1),
             joined(CATHY, gone(CA))]
    case("a limit that holds only with it is left over with it", "club", proposed(UNKNOWN_HUB, gone(B2), fewer[1]["propose"]["proposals"][0][1], first=2),
         before=fewer, after={"left_over_leaves": [[BOB, B2]]})
    case("and stops nobody in between", "club", proposed(member(AL), on_list(roles=[(I_DORA, ADMIN)]), first=2), before=fewer)
    one_active = room(roles=having("admin", active=[1, None]))
    swap = [proposed(member(AL), on_list(remove=[I_ANN], add=[(ZOE, ADMIN)]), gone(AN), added(ZOE)),
            proposed(member(AL), {"base": {"multi_device": True, "pseudonyms_allowed": True, "max_users": 6}}, first=3), joined(CATHY)]
    case("what could not be committed any more does not count on", one_active, proposed(UNKNOWN_HUB, on_list(add=[(ZOE, ADMIN)]), first=4),
         before=swap, after={"left_over": [[ZOE, ADMIN]], "participants": [*LISTED, [ZOE, ADMIN]]})
    case("nor does a limit that would not hold", one_active, proposed(UNKNOWN_HUB, swap[1]["propose"]["proposals"][0][1], first=4), "external-sender-role",
         before=swap)

    # Users are listed by their URI.
    for what, uri in {"with an upper-case host": "mimi://B.example/u/zoe", "that is a client's": "mimi://b.example/d/zoe/1",
                      "that is a room's": "mimi://b.example/r/zoe", "that is a provider's": "mimi://b.example", "of another kind": "zoe@b.example",
                      "without a name": "mimi://b.example/u/", "at an address": "mimi://10.0.0.1/u/zoe"}.items():
        case(f"a user under a URI {what}", "club", proposed(member(B1), on_list(add=[(uri, USER)])), "user-uri")
    case("a user is compared with case", "club", proposed(member(B1), on_list(add=[("mimi://b.example/u/Bob", USER)])))

    # As many as one may propose.
    many = [{"other": 4}] * 256
    case("one proposal more than one may have pending", "club", proposed(member(B2), {"other": 4}, first=256), "pending-full",
         before=[proposed(member(B1), *many)])
    case("others still propose", "club", proposed(member(LO), {"other": 4}, first=256), before=[proposed(member(B1), *many)])

    # Messages, reports, files, the end.
    case("a user sends", "club", {"send": {"user": BOB}})
    lacks("a lurker sends nothing", "club", {"send": {"user": LOU}}, "canSendMessage")
    case("an inactive user sends nothing", "club", {"send": {"user": DORA}}, "sender-inactive")
    case("a stranger sends nothing", "club", {"send": {"user": ZOE}}, "not-a-participant")
    case("a message of the last epoch", "club", {"send": {"user": BOB, "epochs_behind": 1}}, "epoch-too-old")
    tolerant = room(operational={"epoch_tolerance": 2})
    case("a message of the last epoch but one where that is tolerated", tolerant, {"send": {"user": BOB, "epochs_behind": 2}})
    case("and of the one before", tolerant, {"send": {"user": BOB, "epochs_behind": 3}}, "epoch-too-old")
    case("a message of an epoch to come", tolerant, {"send": {"user": BOB, "epochs_behind": "ahead"}}, "epoch-not-reached")
    case("a user receives", "club", {"receive": {"user": BOB}})
    lacks("a lurker receives nothing", "club", {"receive": {"user": LOU}}, "canReceiveMessage")
    case("a user reports", "club", {"report": {"user": BOB}})
    case("anybody reports without a name", "club", {"report": {}})
    lacks("a lurker does not report", "club", {"report": {"user": LOU}}, "canReportAbuse")
    case("an owner destroys the room", "club", {"destroy": {"user": ALICE}})
    lacks("an administrator does not destroy the room", "club", {"destroy": {"user": ANN}}, "canDestroyRoom")
    lacks("nor does the hub without the capability", "club", {"destroy": {"external": {"identity": HUB}}}, "canDestroyRoom")
    case("nor somebody without a role", "club", {"destroy": {"external": {"identity": "mimi://b.example"}}}, "external-sender-role")
    for kind in ("image", "audio", "video", "attachment"):
        upload = {"kind": kind, "media_type": f"{kind}/x", "size": 1, "host": "files.b.example"}
        case(f"a user uploads {kind}", "club", {"upload": {"user": BOB, **upload}})
        lacks(f"a lurker uploads no {kind}", "club", {"upload": {"user": LOU, **upload}}, "canUpload" + kind.title())
        case(f"a user downloads {kind}", "club", {"download": {"user": BOB, "kind": kind, "way": 0}})
        lacks(f"a lurker downloads no {kind}", "club", {"download": {"user": LOU, "kind": kind, "way": 0}}, "canDownload" + kind.title())
    files = room(assets={"location": 1, "domains": [["b.example", ["files.b.example"]], ["c.example", ["files.c.example"]]], "max": [10, 20, 30, 40],
                         "forbidden_types": ["image/svg+xml"], "permitted_types": ["image/png", "image/svg+xml", "audio/ogg"],
                         "allowed_downloads": [1, 2], "forbidden_downloads": [2]})
    png = {"user": BOB, "kind": "image", "media_type": "image/PNG", "size": 10, "host": "files.b.example"}
    case("a file that fits", files, {"upload": png})
    case("a file that is too large", files, {"upload": {**png, "size": 11}}, "asset-too-large")
    case("larger files of another kind", files, {"upload": {**png, "kind": "audio", "media_type": "audio/ogg", "size": 20}})
    case("a file of a forbidden type", files, {"upload": {**png, "media_type": "image/svg+xml"}}, "asset-type-forbidden")
    case("a file of a type that is not permitted", files, {"upload": {**png, "media_type": "image/jpeg"}}, "asset-type-not-permitted")
    case("a file at another's provider", files, {"upload": {**png, "host": "files.c.example"}}, "asset-host")
    case("a file through the hub", files, {"download": {"user": BOB, "way": 1}})
    case("a file directly", files, {"download": {"user": BOB, "way": 0}}, "download-way")
    case("a file in a way that is allowed and forbidden", files, {"download": {"user": BOB, "way": 2}}, "download-way")

    # Rooms that contradict themselves.
    def is_loaded(name, verdict="allowed", **components):
        case(name, room(**components), load, verdict)

    is_loaded("the club is in order")
    case("a pair is in order", "pair", load)
    is_loaded("two roles with one index", "role-index-twice", roles=[*roles(), role(2, "other")])
    is_loaded("a change to a role that does not exist", "role-target-undefined", roles=having("lurker", changes=[[0, [9]]]))
    is_loaded("a change from a role that does not exist", "role-target-undefined", roles=having("lurker", changes=[[9, [0]]]))
    is_loaded("a minimum above the maximum", "role-bounds-reversed", roles=having("lurker", participants=[2, 1]))
    is_loaded("an active minimum above the maximum", "role-bounds-reversed", roles=having("lurker", active=[2, 1]))
    is_loaded("canOpenJoin on a role", "open-join-on-role", roles=having("lurker", "canOpenJoin"))
    is_loaded("a listed user with a role that does not exist", "role-in-use", participants=[[ALICE, 9]], leaves=[])
    is_loaded("a listed user under a URI with an upper-case host", "user-uri", participants=[["mimi://B.example/u/bob", 2]], leaves=[])
    is_loaded("a listed provider", "user-uri", participants=[["mimi://b.example", 2]], leaves=[])
    is_loaded("a listed user with role 0", "role-zero", participants=[[ALICE, 0]], leaves=[])
    is_loaded("a user listed twice", "user-listed", participants=[[ALICE, 2], [ALICE, 3]], leaves=[])
    is_loaded("a leaf of nobody", "client-of-unlisted-user", participants=[[ALICE, 2]], leaves=[[BOB, 0]])
    is_loaded("a banned user with a leaf", "banned-user-has-clients", participants=[[ALICE, 1]], leaves=[[ALICE, 0]])
    is_loaded("more users than there may be", "max-users", base={"max_users": 5})
    is_loaded("a room without roles", "component-required", roles=None, preauth=None)
    is_loaded("a preauthorized role that does not exist", "preauth-role-undefined", preauth=[{**AT_B, "role": 9}])
    is_loaded("a preauthorized ban", "preauth-role-undefined", preauth=[{**AT_B, "role": 1}])
    is_loaded("preauthorization of everyone", "preauth-without-claims", preauth=[{**AT_B, "claims": []}])
    is_loaded("fixed membership and users who add users", "fixed-membership-role", base={"fixed_membership": True})
    is_loaded("a parent that is not named", "parent-room", base={"parent_dependant": True})
    is_loaded("a parent for nothing", "parent-room", base={"parent_room": [HALL]})
    is_loaded("a parent on another hub", "parent-room", base={"parent_dependant": True, "parent_room": ["mimi://b.example/r/hall"]})
    is_loaded("a parent of itself", "parent-room", base={"parent_dependant": True, "parent_room": [CLUB]})
    is_loaded("two parents", "parent-room", base={"parent_dependant": True, "parent_room": [HALL, HALL]})
    is_loaded("two links where there is one at a time", "join-link-single", links=["one", "two"], link_policy={"on_request": True})
    is_loaded("one link where there is one at a time", links=["one"], link_policy={"on_request": True})
    is_loaded("history shared by the banned", "history-role", history=[1])
    is_loaded("history shared by a role without clients", "history-role", history=[6])
    is_loaded("history shared by a role that does not exist", "history-role", history=[9])
    is_loaded("history shared by administrators", history=[3, 4])
    is_loaded("a bot of one client with a role", "bot-role", bots=[[2, True]])
    is_loaded("a bot with a role that does not exist", "bot-role", bots=[[9, False]])
    is_loaded("bots", bots=[[2, False], [0, True], [0, False]])
    is_loaded("logging by nobody", "logging-client", logging=[])
    is_loaded("logging", logging=["mimi://hub.example/d/log/1"])
    is_loaded("files at the hub and elsewhere", "asset-domains", assets={"location": 2, "domains": [["b.example", ["files.b.example"]]]})
    is_loaded("files at the hub", assets={"location": 2, "domains": [["hub.example", ["files.hub.example"]]]})
    is_loaded("metadata of another room in the room", "metadata-room", metadata={**METADATA, "room_uri": HALL})
    for requirement, names in ABOUT.items():
        for name in names:
            entry = next(entry for entry in entries if entry["name"] == name)
            entry.setdefault("requirements", []).append(requirement)
    return entries


# Which cases are about which requirement of drafts/mimi-room-policy/requirements.toml.
ABOUT = {
    "MRP-base-parent-set": ["a parent that is not named", "two parents"],
    "MRP-assets-media-permitted": ["a file that fits", "a file of a type that is not permitted"],
    "MRP-assets-media-forbidden": ["a file of a forbidden type"],
    "MRP-roles-one-each": ["a user twice in one update", "a listed user with a role that does not exist", "a user listed twice"],
    "MRP-roles-zero": ["nobody is listed with role 0", "nobody gives role 0", "a listed user with role 0"],
    "MRP-roles-gaps": ["a room becomes one of a parent", "the club is in order"],
    "MRP-roles-maximum": ["a role has no more users than its maximum", "no more users with clients than the maximum",
        "an inactive user does not count as active", "a new maximum is not below what there is"],
    "MRP-roles-minimum-zero": ["the only client goes and the user stays", "an inactive user is removed"],
    "MRP-roles-no-clients": ["a role without clients takes an active user only without them",
        "a role without clients takes a user whose clients go", "a role does not lose its clients in passing"],
    "MRP-roles-changes": ["an administrator promotes", "an administrator makes no owners", "an administrator does not demote an owner"],
    "MRP-roles-update-authorized": ["an owner changes the roles", "new roles count at once"],
    "MRP-roles-update-alone": ["roles and users do not change together", "not in two proposals either"],
    "MRP-preauth-when": ["preauthorization lets in", "preauthorization knows no stranger", "a user takes the role that preauthorization gives"],
    "MRP-preauth-banned": ["a banned user does not join by preauthorization"],
    "MRP-preauth-all-claims": ["all claims of an entry have to hold", "a certificate's claims"],
    "MRP-preauth-first": ["the first entry that matches counts", "preauthorization gives the first role",
        "preauthorization does not give the second"],
    "MRP-preauth-update-authorized": ["an owner changes preauthorization"],
    "MRP-preauth-update-removals": ["preauthorization and additions do not change together", "preauthorization and roles of users do not either",
        "preauthorization and removals do"],
    "MRP-preauth-hub": ["the hub removes by its preauthorized role", "the hub bans by its preauthorized role",
        "the hub adds nobody without the capability"],
    "MRP-base-fixed-no-adding": ["nobody comes into a pair", "fixed membership and users who add users", "GroupInfo where nobody joins"],
    "MRP-base-fixed-clients": ["clients leave a pair", "clients come back to a pair"],
    "MRP-base-fixed-no-leaving": ["nobody leaves a pair", "nobody is removed from a pair", "clients leave a pair"],
    "MRP-base-parent-subset": ["a user of the parent comes", "a stranger to the parent does not come", "not all of the parent come",
        "a room with strangers does not", "zoe is banned and unbanned", "zoe asks for the GroupInfo", "zoe is unbanned by another name of the ban"],
    "MRP-base-parent-leaving": ["the hub removes who left the parent", "the hub removes nobody who did not"],
    "MRP-base-parent-hub": ["a parent on another hub"],
    "MRP-base-multi-device": ["a second client where there is one each", "a client is replaced where there is one each",
        "one client each where somebody has two"],
    "MRP-base-max-clients": ["no more clients than the maximum", "one comes and one goes at the maximum"],
    "MRP-base-max-users": ["no more users than the maximum", "the banned do not count", "a ban is not lifted in a full room"],
    "MRP-base-persistent": ["nobody joins when the last client has left", "nobody gets the GroupInfo when the last client has left",
        "somebody comes back to a room that stays"],
    "MRP-base-pseudonyms": ["a pseudonym where there are none", "a pseudonym"],
    "MRP-link-single": ["two links where there is one at a time", "one link where there is one at a time"],
    "MRP-link-list-change": ["join links change", "a join link that is not there", "a join link is not removed twice"],
    "MRP-assets-hub-domain": ["files at the hub and elsewhere", "files at the hub"],
    "MRP-assets-local-domains": ["a file that fits", "a file at another's provider"],
    "MRP-assets-download-types": ["a file through the hub", "a file directly", "a file in a way that is allowed and forbidden"],
    "MRP-assets-sizes": ["a file that fits", "a file that is too large", "larger files of another kind"],
    "MRP-logging-required-client": ["logging by nobody", "logging"],
    "MRP-history-roles": ["history shared by the banned", "history shared by a role without clients", "history shared by administrators"],
    "MRP-bots-local": ["a bot of one client with a role", "bots"],
    "MRP-operational-external": ["proposals from outside are off", "external commits are off",
        "the hub proposes again where nothing is proposed from outside"],
    "MRP-operational-mandatory": ["a client with all that is mandatory", "a client without mandatory extensions",
        "a client without mandatory proposals", "a client without mandatory components"],
    "MRP-operational-forbidden": ["a type of proposal that is forbidden"],
    "MRP-operational-formats": ["a handshake in a format that the room does not take"],
    "MRP-operational-lifetime": ["a key package that is good for too long", "a key package that is good for just as long"],
    "MRP-operational-epochs": ["a message of the last epoch", "a message of the last epoch but one where that is tolerated",
        "and of the one before"],
    "MRP-caps-holder": ["a role that was accepted counts at once", "a role that was taken away counts at once",
        "the hub removes by its preauthorized role"],
    "MRP-caps-proposal-and-commit": ["two changes of a component in another order", "what was accepted last counts after the commit",
        "who commits does not matter", "what an administrator proposed stays allowed when they are not one any more"],
    "MRP-add-participant": ["a user adds a user and their clients", "a lurker adds nobody", "a user makes no administrators",
        "a user who is listed is not added"],
    "MRP-add-participant-limits": ["a user is added to a full role", "a user is added with clients beyond the maximum",
        "a user is added without clients at the maximum"],
    "MRP-add-participant-clients": ["a user adds a user and their clients", "clients by another who may add their user",
        "clients by another who may not add their user"],
    "MRP-add-own-client": ["a user adds a client", "a lurker adds no client", "a new client of a user joins", "a lurker's client does not join"],
    "MRP-add-open-join": ["a stranger joins an open room", "a stranger takes another role", "a closed room is not joined", "a joined role is full"],
    "MRP-add-open-join-zero": ["canOpenJoin on a role"],
    "MRP-add-preauthorized": ["preauthorization lets in", "authorized changes are not asked of the preauthorized",
        "the preauthorized role cannot be joined"],
    "MRP-add-preauthorized-limits": ["a preauthorized role is full"],
    "MRP-add-join-code": ["a join code lets in", "a join code is for its role", "an unknown join code", "an expired join code",
        "the role of a join code is full", "a room without join codes"],
    "MRP-remove-participant": ["a user removes a user with their clients", "a user removes nobody above them", "a lurker removes nobody",
        "the last administrator is not removed", "nor from being removed"],
    "MRP-remove-participant-clients": ["a user removes a user and forgets a client"],
    "MRP-remove-own-client": ["a user removes a client of theirs", "the only client goes and the user stays", "a lurker removes no client"],
    "MRP-remove-self": ["a user leaves", "a user leaves and forgets a client", "a lurker does not leave", "who leaves is not kept by another role"],
    "MRP-remove-not-committed": ["nobody commits their own leaving", "nobody commits their own accepted SelfRemove",
        "their other client can commit it"],
    "MRP-remove-kick": ["an administrator kicks", "a user does not kick", "nobody is kicked below the minimum"],
    "MRP-role-change": ["an administrator promotes", "a user does not promote", "an administrator makes no owners",
        "the last administrator is not demoted"],
    "MRP-role-change-own": ["a user takes the role that preauthorization gives", "a user takes no other role",
        "nobody changes their own role without the capability"],
    "MRP-role-ban": ["an administrator bans", "a ban that leaves a client", "a user does not ban", "role 1 under another name is no ban",
        "a client that was asked for keeps nobody from being banned", "guests with clients are not banned by a name"],
    "MRP-role-ban-by-parts": ["a ban by canChangeUserRole takes canKick too", "a ban by canChangeUserRole and canKick", "a ban by canBan alone"],
    "MRP-role-unban": ["a ban is lifted", "a ban is lifted and clients added at once", "without the capability no ban is lifted"],
    "MRP-metadata-fields": ["an owner changes room_name", "a lurker does not change the name", "a user does not change room_descriptions",
        "a user does not change room_avatar", "a user does not change room_subject", "a user does not change room_mood",
        "a user changes name and mood"],
    "MRP-message-send": ["a user sends", "a lurker sends nothing"],
    "MRP-message-receive": ["a user receives", "a lurker receives nothing"],
    "MRP-message-report": ["a user reports", "a lurker does not report"],
    "MRP-asset-upload": ["a user uploads image", "a lurker uploads no image", "a lurker uploads no audio", "a lurker uploads no video",
        "a lurker uploads no attachment"],
    "MRP-asset-download": ["a user downloads image", "a lurker downloads no image", "a lurker downloads no audio", "a lurker downloads no video",
        "a lurker downloads no attachment"],
    "MRP-disruptive-base": ["an owner changes the base policy", "an administrator does not change the base policy"],
    "MRP-disruptive-roles": ["an owner changes the roles", "an administrator does not change the roles"],
    "MRP-disruptive-preauth": ["an owner changes preauthorization", "an administrator does not change preauthorization"],
    "MRP-disruptive-destroy": ["an owner destroys the room", "an administrator does not destroy the room",
        "nor does the hub without the capability"],
    "MRP-disruptive-reinit": ["an owner begins a new group", "an administrator begins no new group"],
}
