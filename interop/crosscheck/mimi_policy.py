#!/usr/bin/env python3
"""Decisions under the policy of a MIMI room, by a second implementation.

Written from the drafts (mimi-room-policy, mimi-protocol, mls-extensions) and from the decisions beside the requirements in
drafts/mimi-room-policy, with nothing but the standard library. Nothing is kept up to date here as changes come: each decision copies the
room, and counts everything anew. (Components given as bytes are read by mimi_wire.py, beside this file.)

    mimi_policy.py check FILE...    decide every case the files state
    mimi_policy.py generate DIR     write this project's own vector file into DIR (the output is deterministic)

`check` prints one line per failure; its last line is `N passed, N failed`; the exit status is 1 if any entry failed and 2 if a
file could not be read. The file format is described in drafts/README.md. The cases themselves are in mimi_policy_cases.py.
"""

import copy
import json
import pathlib
import re
import sys

from mimi_wire import CAPABILITY, Broken, read

CAPABILITIES = {name: number for number, name in CAPABILITY.names.items()}
NAMES = {0x23: "metadata", 0x24: "operational", 0x25: "roles", 0x26: "preauth", 0x27: "base", 0x29: "link_policy", 0x2a: "links",
         0x2c: "assets", 0x2d: "logging", 0x2e: "history", 0x2f: "bots"}
NUMBERS = {name: number for number, name in NAMES.items()}
STRUCTS = {0x23: "RoomMetaData", 0x24: "OperationalParameters", 0x25: "RoleData", 0x26: "PreAuthData", 0x27: "BaseRoomPolicy",
           0x28: "StatusNotificationPolicy", 0x29: "JoinLinkPolicy", 0x2a: "JoinLinksData", 0x2b: "LinkPreviewPolicy", 0x2c: "AssetPolicy",
           0x2d: "LoggingPolicy", 0x2e: "HistoryPolicy", 0x2f: "BotPolicy", 0x30: "MessageExpiration"}
PARTICIPANT_LIST = 0x22

# Which capability a component takes; those with rules of their own are not here.
GATES = {0x25: "canChangeRoleDefinitions", 0x26: "canChangePreauthorizedUserList", 0x27: "canChangeRoomMembershipStyle",
         **{number: "canChangeMlsOperationalPolicies" for number in (1, 2, 3, 0x21, 0x24)},
         **{number: "canChangeOtherPolicyAttribute" for number in (0x28, 0x29, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30)}}
FIELDS = (("room_name", "canChangeRoomName"), ("room_descriptions", "canChangeRoomDescription"), ("room_avatar", "canChangeRoomAvatar"),
          ("room_subject", "canChangeRoomSubject"), ("room_mood", "canChangeRoomMood"))


class Refused(Exception):
    def __init__(self, rule, capability=None):
        super().__init__(rule)
        self.rule, self.capability = rule, capability


def lacking(capability):
    """The rule that is named after a capability."""
    name = re.sub(r"(?<!^)([A-Z])", r"-\1", capability.replace("MLS", "Mls").replace("PSK", "Psk")).lower().replace("un-ban", "unban")
    return Refused(name, capability)


def refuse_if(condition, rule):
    if condition:
        raise Refused(rule)


# How many proposals may be pending, and how many of them of one user or sender; the hub's own do not count.
MOST_PENDING, MOST_OF_ONE = 1024, 256
# How many bytes the entries of the list may have.
MOST_LIST_BYTES = 8 << 20


# --- Policies ------------------------------------------------------------------------------------------------------


def uri_parts(uri):
    match = re.fullmatch(r"mimi://([a-z0-9.-]+)(?:/([udrg])/(.+))?", uri)
    return match.groups() if match else None


def is_user(uri):
    """In the form in which users are listed: host in lower case, and a name."""
    match = re.fullmatch(r"mimi://([^/]*)/u/((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*)", uri)
    label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    return bool(match) and len(match[1]) <= 253 and len(match[2]) <= 255 and bool(re.fullmatch(rf"(?:{label}\.)*(?![0-9]+$){label}", match[1]))


def claims_of_identity(identity):
    claims, parts = {("", identity)}, uri_parts(identity)
    if parts and (parts[1] == "u" or parts[1] == "d" and "/" in parts[2]):
        claims |= {("user", f"mimi://{parts[0]}/u/{parts[2].split('/')[0]}"), ("provider", f"mimi://{parts[0]}")}
    return 1, claims


def claims_of(stated):
    if stated is None:
        return 1, set()
    if "identity" in stated:
        return claims_of_identity(stated["identity"])
    return stated["type"], {(name, value) for name, value in stated.get("values", [])}


class Policy:
    """Components by number: what JSON states, or {"raw": hex}."""

    def __init__(self, room, components):
        self.room, self.components = room, components
        self.check()

    def get(self, name, otherwise):
        return self.components.get(NUMBERS[name], otherwise)

    def roles(self):
        return {role["index"]: role for role in self.get("roles", [])}

    def role(self, index):
        return self.roles().get(index, {"index": 0, "name": ""} if index == 0 else None)

    def can(self, index, capability):
        role = self.role(index)
        return bool(role) and (capability in role.get("capabilities", []) or CAPABILITIES[capability] in role.get("capabilities", []))

    def may_change(self, index, start, end):
        return any(start == a and end in b for a, b in (self.role(index) or {}).get("changes", []))

    def is_ban(self, index):
        return index == 1 and self.role(1) is not None and self.role(1)["name"] == "banned"

    def base(self):
        return {"multi_device": True, "pseudonyms_allowed": True, **self.get("base", {})}

    def operational(self):
        return self.get("operational", {})

    def maximum(self, index, which):
        return (self.role(index) or {}).get(which, [0, None])[1]

    def minimum(self, index, which):
        return (self.role(index) or {}).get(which, [0, None])[0]

    def no_clients(self, index):
        # Role 0 of a room that does not define it has none either.
        return index == 0 and 0 not in self.roles() or self.maximum(index, "active") == 0

    def preauthorized(self, claims):
        kind, values = claims
        for entry in self.get("preauth", []):
            if all(kind == claim[0] and (claim[1], claim[2]) in values for claim in entry["claims"]):
                return entry["role"]
        return None

    def check(self):
        refuse_if(0x25 not in self.components, "component-required")
        for number, value in sorted(self.components.items()):
            if isinstance(value, dict) and "raw" in value and number in STRUCTS:
                try:
                    read(STRUCTS[number], bytes.fromhex(value["raw"]))
                except Broken:
                    raise Refused("component-malformed") from None
        self.check_roles()
        metadata = self.get("metadata", None)
        if metadata is not None:
            refuse_if(metadata.get("room_uri") != self.room, "metadata-room")
            refuse_if(metadata.get("room_avatar", "") and not metadata["room_avatar"].startswith("https://"), "metadata-avatar")
        self.check_base()
        exists = lambda index: index != 0 and index in self.roles()
        for entry in self.get("preauth", []):
            refuse_if(not exists(entry["role"]) or self.is_ban(entry["role"]), "preauth-role-undefined")
            refuse_if(not entry["claims"], "preauth-without-claims")
        refuse_if(any(not exists(index) or index == 1 or self.no_clients(index) for index in self.get("history", [])), "history-role")
        for index, local in self.get("bots", []):
            refuse_if(index != 0 and (local or not exists(index) or self.is_ban(index)), "bot-role")
        refuse_if(self.get("logging", None) == [], "logging-client")
        assets, domains = self.get("assets", {}), self.get("assets", {}).get("domains", [])
        hub = uri_parts(self.room)[0]
        refuse_if(assets.get("location", 0) == 2 and [provider for provider, _ in domains] != [hub], "asset-domains")
        refuse_if(self.get("link_policy", {}).get("on_request") and len(self.get("links", [])) > 1, "join-link-single")

    def check_roles(self):
        roles = self.get("roles", [])
        for position, role in enumerate(roles):
            for which in ("participants", "active"):
                low, high = role.get(which, [0, None])
                refuse_if(high is not None and low > high, "role-bounds-reversed")
            refuse_if(any(role["index"] == other["index"] for other in roles[:position]), "role-index-twice")
        known = {0} | set(self.roles())
        for index, role in sorted(self.roles().items()):
            refuse_if(any(not {a, *b} <= known for a, b in role.get("changes", [])), "role-target-undefined")
            refuse_if(index != 0 and self.can(index, "canOpenJoin"), "open-join-on-role")

    def check_base(self):
        base, room = self.base(), uri_parts(self.room)
        parents = base.get("parent_room", [])
        fits = lambda uri: uri_parts(uri) and uri_parts(uri)[1] == "r" and uri_parts(uri)[0] == room[0] and uri != self.room
        if base.get("parent_dependant"):
            refuse_if(len(parents) != 1 or not fits(parents[0]), "parent-room")
        else:
            refuse_if(parents, "parent-room")
        adds = any(index != 0 and not self.is_ban(index) and self.can(index, "canAddParticipant") for index in self.roles())
        refuse_if(base.get("fixed_membership") and adds, "fixed-membership-role")


# --- Rooms ---------------------------------------------------------------------------------------------------------


class State:
    """A room at one moment, with what this epoch did to it."""

    def __init__(self, policy, users, leaves):
        self.policy, self.role, self.leaves = policy, dict(users), dict(leaves)
        self.start_list, self.start_policy, self.start_leaves = [user for user, _ in users], policy, dict(leaves)
        self.added_clients = []
        self.touched, self.added, self.go_along, self.ops = set(), set(), {}, {}
        # How each leaf went: "left over", "remove" or "self"; and the entries of the list's updates that count.
        self.gone, self.entries, self.dropped = {}, [], set()
        self.removed_links, self.added_links, self.appended = set(), [], []

    def clients(self, user):
        return sum(owner == user for owner in self.leaves.values()) + self.added_clients.count(user)

    def standing(self, user):
        return self.role.get(user, 0)

    def listed(self):
        known = [*self.start_list, *[user for user in self.role if user not in self.start_list and user not in self.appended], *self.appended]
        return [[user, self.role[user]] for user in known if self.role.get(user, 0) != 0]

    def takes_part(self, user):
        return self.standing(user) != 0 and not self.policy.is_ban(self.standing(user))

    def unbanned(self):
        return sum(self.takes_part(user) for user in self.role)

    def tally(self):
        counts = {}
        for user, index in self.role.items():
            if index != 0:
                participants, active = counts.get(index, (0, 0))
                counts[index] = (participants + 1, active + (self.clients(user) > 0))
        return counts

    def take_leaf(self, leaf, how):
        self.leaves.pop(leaf, None)
        self.gone[leaf] = how


def entry_bytes(user):
    """Of a user's entry in the list: its length, the URI, and a role of four bytes."""
    length = len(user.encode())
    return length + 4 + (1 if length < 64 else 2)


def holds(before, now, parent):
    """What must be true afterwards. Without `before` the room was just loaded."""
    policy, base = now.policy, now.policy.base()
    users = sorted((user for user in now.touched | set(now.added_clients)), key=str.encode)
    new_roles = before is None or now.policy.roles() != before.policy.roles()
    refuse_if(new_roles and policy.is_ban(1) and any(now.standing(user) == 1 and now.clients(user) for user in now.role), "banned-user-has-clients")
    for user in users:
        if now.clients(user):
            index = now.standing(user)
            refuse_if(index == 0, "removed-user-has-clients")
            refuse_if(policy.is_ban(index), "banned-user-has-clients")
            refuse_if(policy.no_clients(index), "role-without-clients")
    refuse_if(not base["multi_device"] and any(now.clients(user) > 1 for user in now.role), "second-client")
    count = len(now.leaves) + len(now.added_clients)
    refuse_if(base.get("max_clients") is not None and count > base["max_clients"], "max-clients")
    refuse_if(sum(entry_bytes(user) for user, role in now.role.items() if role) > MOST_LIST_BYTES, "list-too-large")
    refuse_if(base.get("max_users") is not None and now.unbanned() > base["max_users"], "max-users")
    counts = now.tally()
    earlier = before.tally() if before else {}
    for index in sorted(counts | earlier):
        (participants, active), (participants_before, active_before) = counts.get(index, (0, 0)), earlier.get(index, (0, 0))
        if (participants, participants_before) == (0, 0):
            continue
        if participants == 0 and policy.role(index) is None:
            continue
        refuse_if(policy.role(index) is None, "role-in-use")
        for number, most, rule in ((participants, policy.maximum(index, "participants"), "max-participants"),
                                   (active, policy.maximum(index, "active"), "max-active")):
            refuse_if(most is not None and number > most, rule)
        for number, earlier_number, which, rule in ((participants, participants_before, "participants", "min-participants"),
                                                    (active, active_before, "active", "min-active")):
            refuse_if(number < earlier_number and number < policy.minimum(index, which), rule)
    if before and base.get("parent_dependant") and parent != "not asked":
        is_new = base != before.policy.base() or policy.is_ban(1) != before.policy.is_ban(1)
        comers = [user for user in now.role if now.takes_part(user) and (is_new or user in now.touched)]
        more = now.unbanned() > before.unbanned()
        refuse_if(parent is None and (is_new or comers or more), "parent-unknown")
        refuse_if(any(not parent.takes_part(user) for user in comers), "not-in-parent")
        refuse_if((is_new or more) and now.unbanned() >= parent.unbanned(), "not-strict-subset")


class Proposer:
    def __init__(self, state, kind, user=None, claims=(1, set()), index=None, leaf=None):
        self.kind, self.user, self.claims, self.leaf = kind, user, claims, leaf
        self.is_hub, self.policy = kind == "external" and index == 0, state.policy
        self.role = self.policy.preauthorized(claims) if kind == "external" else state.standing(user)

    def can(self, capability):
        return self.role is not None and self.policy.can(self.role, capability)

    def needs(self, capability, instead=None):
        refuse_if(self.role is None, "external-sender-role")
        if not self.can(capability):
            raise instead or lacking(capability)

    def may_change(self, start, end):
        refuse_if(self.role is None, "external-sender-role")
        refuse_if(not self.policy.may_change(self.role, start, end), "role-change-not-authorized")

    def is_out(self):
        refuse_if(self.role == 0, "proposer-removed")
        refuse_if(self.role is not None and self.policy.is_ban(self.role), "proposer-banned")


class Room:
    def __init__(self, stated):
        components = {}
        for name, value in stated["components"].items():
            if name == "raw":
                components[value[0]] = {"raw": value[1]}
            else:
                components[NUMBERS[name]] = value
        policy = Policy(stated["uri"], components)
        refuse_if("participants" not in stated, "component-required")
        users = stated["participants"]
        for position, (user, index) in enumerate(users):
            refuse_if(index == 0, "role-zero")
            refuse_if(not is_user(user), "user-uri")
            refuse_if(user in [name for name, _ in users[:position]], "user-listed")
        leaves = {}
        for user, leaf in stated["leaves"]:
            refuse_if(leaf in leaves, "unknown-leaf")
            refuse_if(user not in dict(users), "client-of-unlisted-user")
            leaves[leaf] = user
        # What counts now, and what the epoch began with.
        self.state, self.start = State(policy, users, leaves), State(policy, users, leaves)
        self.pending, self.left_over = [], ({}, {})
        holds(None, self.state, None)

    # --- Decisions

    def is_going_on(self):
        policy = self.state.policy
        temporary = NUMBERS["base"] in policy.components and not policy.base().get("persistent_room")
        refuse_if(temporary and self.state.start_leaves and not self.state.leaves, "room-over")

    def propose(self, step, parent):
        self.is_going_on()
        self.takes(step)
        state, by = copy.deepcopy(self.state), step["by"]
        claims = claims_of(by.get("claims"))
        if "leaf" in by:
            refuse_if(by["leaf"] not in state.start_leaves, "unknown-leaf")
            proposer = Proposer(state, "member", state.start_leaves[by["leaf"]], claims, leaf=by["leaf"])
        elif "external" in by:
            proposer = Proposer(state, "external", None, claims, by["external"])
        else:
            client = by["new_member"]
            proposer = Proposer(state, "applicant", client["user"], client_claims(client))
        references = [reference for reference, *_ in self.pending] + [reference for reference, _ in step["proposals"]]
        refuse_if(len(set(references)) != len(references), "proposal-twice")
        author = None if proposer.is_hub else proposer.user or by["external"]
        of_them = [who for *_, who in self.pending if who == author] + [author] * len(step["proposals"])
        others = [who for *_, who in self.pending if who not in (None, author)]
        refuse_if(author is not None and (len(of_them) > MOST_OF_ONE or len(of_them) + len(others) > MOST_PENDING), "pending-full")
        self.judge(state, proposer, [action for _, action in step["proposals"]], parent, None)
        self.state = state
        self.pending += [(reference, by.get("leaf"), action, author) for reference, action in step["proposals"]]
        self.pending = [one for one in self.pending if one[0] not in state.dropped]

    def commit(self, step, parent):
        self.is_going_on()
        self.takes(step)
        state, by = copy.deepcopy(self.state), step["by"]
        joins = "new_member" in by
        if joins:
            client = by["new_member"]
            proposer = Proposer(state, "joiner", client["user"], client_claims(client))
        else:
            refuse_if(by["leaf"] not in state.start_leaves, "unknown-leaf")
            proposer = Proposer(state, "member", state.start_leaves[by["leaf"]], claims_of(by.get("claims")), leaf=by["leaf"])
            proposer.is_out()
        concerns = lambda action: not joins or "self_remove" in action
        known, seen, brought, all_of_it = {reference: (leaf, action) for reference, leaf, action, _ in self.pending}, set(), [], []
        for proposal in step["proposals"]:
            if isinstance(proposal, str):
                refuse_if(proposal not in known, "unknown-proposal")
                refuse_if(not concerns(known[proposal][1]), "reference-in-external-commit")
                refuse_if(proposal in seen, "proposal-twice")
                seen.add(proposal)
                all_of_it.append(known[proposal])
            else:
                refuse_if("self_remove" in proposal, "self-remove-inline")
                brought.append(proposal)
                all_of_it.append((by.get("leaf"), proposal))
        refuse_if(self.is_out_of_order(step["proposals"]), "proposal-order")
        own_update = lambda leaf, action: "update" in action and leaf == by.get("leaf")
        needed = lambda reference, leaf, action: concerns(action) and not own_update(leaf, action) and not (
            "add" in action and reference in step.get("expired", [])) and reference not in state.dropped
        if not joins:
            own = state.start_list.index(proposer.user) if proposer.user in state.start_list else None
            leaves = by["leaf"] not in state.leaves or any(
                action.get("remove") == by["leaf"] or own in action.get("list", {}).get("remove", []) for action in brought)
            refuse_if(leaves, "committer-leaves")
            self.judge(state, proposer, brought, parent, None)
            if "path" in by:
                refuse_if(by["path"]["user"] != proposer.user, "leaf-user-changed")
                fits(proposer.policy, by["path"])
        else:
            refuse_if(not proposer.policy.operational().get("external_commit_allowed", True), "external-commits-off")
            if proposer.role != 0:
                refuse_if(proposer.policy.is_ban(proposer.role), "joiner-banned")
                proposer.needs("canAddOwnClient")
            before = copy.deepcopy(state)
            self.judge(state, proposer, brought, parent, by.get("code"))
            fits(proposer.policy, client)
            refuse_if(state.standing(client["user"]) == 0, "client-of-unlisted-user")
            state.added_clients.append(client["user"])
            holds(before, state, parent)
        refuse_if(any(reference not in seen and needed(reference, leaf, action) for reference, leaf, action, _ in self.pending),
                  "pending-proposal-missing")
        # The same once more, without what an external commit made void, on what the epoch began with.
        result = copy.deepcopy(self.start)
        before = copy.deepcopy(result)
        for leaf, action in all_of_it:
            self.put(result, leaf, action)
        if joins:
            result.added_clients.append(client["user"])
        holds(before, result, "not asked")
        self.merge(state, result, joins, parent)

    def is_out_of_order(self, proposals):
        """Changes of a component that replace each other stand as they were accepted, and then what the commit brings."""
        places, actions = {one[0]: place for place, one in enumerate(self.pending)}, {one[0]: one[2] for one in self.pending}
        found = {}
        for proposal in proposals:
            action = actions[proposal] if isinstance(proposal, str) else proposal
            number = component_of(action) if proposal_type(action) == 8 else PARTICIPANT_LIST
            if number not in (PARTICIPANT_LIST, NUMBERS["links"]):
                found.setdefault(number, []).append(places[proposal] if isinstance(proposal, str) else len(places))
        return any(those != sorted(those) for those in found.values())

    def merge(self, state, result, joins, parent):
        users, components = self.left_over
        own_leaves = lambda user, leaves: {leaf for leaf in leaves if state.start_leaves[leaf] == user}
        if joins:
            users = {}
            for user in state.touched | set(self.left_over[0]) | {state.start_leaves[leaf] for leaf in state.gone}:
                role = state.standing(user) if state.standing(user) != result.standing(user) else None
                leaves = own_leaves(user, set(state.gone) - set(result.gone))
                users[user] = (role, state.go_along.get(user, False), leaves)
            components = components | {number: state.policy.components.get(number) for number in state.ops}
        else:
            users = {user: (role, along, leaves - set(result.gone)) for user, (role, along, leaves) in users.items()}
            components = {number: value for number, value in components.items() if number not in result.ops}
        if parent is not None and result.policy.base().get("parent_dependant"):
            stranger = lambda user, role: role and not result.policy.is_ban(role) and not parent.takes_part(user)
            users = {user: (None if stranger(user, role) else role, along, its) for user, (role, along, its) in users.items()}
        leaves = dict(result.leaves)
        for user in result.added_clients:
            leaves[next(leaf for leaf in range(len(leaves) + 1) if leaf not in leaves)] = user
        self.start, self.state = (State(result.policy, result.listed(), leaves) for _ in range(2))
        self.pending = []
        self.keep_left_over(users, components)

    def keep_left_over(self, users, components):
        """As much of it as a commit could still contain counts on."""
        self.left_over, start = ({}, {}), self.start
        for user in sorted(users, key=str.encode):
            role, along, leaves = users[user]
            role = None if role == start.standing(user) else role
            leaves = {leaf for leaf in leaves if start.leaves.get(leaf) == user}
            if role is not None or leaves:
                self.left_over[0][user] = (role, along, leaves)

        def put(state, user):
            role, along, leaves = self.left_over[0][user]
            if role is not None:
                state.role.pop(user, None)
                if role:
                    state.role[user] = role
                state.go_along[user] = along
            for leaf in leaves:
                state.take_leaf(leaf, "left over")

        def fits_in(before, now):
            # Of those who changed, nobody has clients without a place.
            asked = copy.deepcopy(now)
            asked.touched = set(self.left_over[0])
            try:
                holds(before, asked, "not asked")
            except Refused:
                return False
            return True

        together = copy.deepcopy(self.state)
        for user in self.left_over[0]:
            put(together, user)
        if not fits_in(start, together):
            together = copy.deepcopy(self.state)
            for user in list(self.left_over[0]):
                alone = copy.deepcopy(together)
                put(alone, user)
                if fits_in(together, alone):
                    together = alone
                else:
                    del self.left_over[0][user]
        self.state = together
        for number in sorted(components):
            value = components[number]
            if self.state.policy.components.get(number) == value:
                continue
            changed = copy.deepcopy(self.state)
            rest = {key: it for key, it in changed.policy.components.items() if key != number}
            try:
                changed.policy = Policy(self.state.policy.room, rest if value is None else rest | {number: value})
                holds(self.state, changed, "not asked")
            except Refused:
                continue
            self.state.policy = changed.policy
            self.left_over[1][number] = value

    def takes(self, step):
        formats = self.state.policy.operational().get("handshake_formats", [])
        form = step.get("wire_format", 1)
        refuse_if(form not in (1, 0xf001) or formats and form not in formats, "handshake-format")

    # --- The rules

    def judge(self, state, proposer, actions, parent, code):
        before, operational = copy.deepcopy(state), proposer.policy.operational()
        kind = proposer.kind
        again = proposer.is_hub and all(self.repeats(state, action) for action in actions)
        refuse_if(kind in ("external", "applicant") and not again and not operational.get("external_proposal_allowed", True),
                  "external-proposals-off")
        refuse_if(kind == "external" and not proposer.is_hub and proposer.role is None, "external-sender-role")
        own = lambda action: "self_remove" in action or "remove" in action and state.start_leaves.get(action["remove"]) == proposer.user
        if kind in ("member", "applicant") and not all(own(action) for action in actions):
            proposer.is_out()
        for action in actions:
            number = proposal_type(action)
            refuse_if(not again and number in operational.get("forbidden_proposals", []), "proposal-type-forbidden")
            allowed = {"member": True, "external": number not in (2, 10), "applicant": number == 1,
                       "joiner": number in (3, 4, 6, 8)}[kind]
            refuse_if(not allowed, "proposal-from-outside")
        for action in actions:
            if "list" in action:
                self.change_list(state, proposer, action["list"], parent, code)
            elif proposal_type(action) == 8:
                refuse_if(action.get("remove_component") == PARTICIPANT_LIST, "component-required")
                refuse_if(kind == "joiner", "joiner-changes-others")
                self.change_component(state, proposer, action)
            else:
                continue
            if kind == "joiner":
                # With an external commit nothing of what is pending is committed but SelfRemoves.
                continue
            refuse_if(state.entries and 0x25 in state.ops, "roles-with-list-change")
            refuse_if(any(kind != "remove" for kind, _ in state.entries) and 0x26 in state.ops, "preauth-with-list-change")
        for action in actions:
            if "remove" in action or "self_remove" in action:
                self.remove(state, proposer, action.get("remove", proposer.leaf), "self" if "self_remove" in action else "remove")
        for action in actions:
            if "add" in action:
                self.add(state, proposer, action["add"])
        for action in actions:
            if "update" in action:
                refuse_if(action["update"]["user"] != proposer.user, "leaf-user-changed")
                fits(state.policy, action["update"])
                self.drop(state, lambda leaf, it: "update" in it and leaf == proposer.leaf)
            elif "extensions" in action:
                if not proposer.is_hub:
                    proposer.needs("canChangeMlsOperationalPolicies")
                refuse_if(action["extensions"] == "changed", "dictionary-by-extensions")
            elif "other" in action:
                if action["other"] == 5:
                    proposer.needs("canSendMLSReinitProposal")
                else:
                    refuse_if(action["other"] not in (4, 9) and not (action["other"] == 6 and kind == "joiner"), "proposal-type-unknown")
        if kind != "joiner":
            holds(before, state, parent)

    def drop(self, state, gives_way):
        """What was accepted before and gives way to what is proposed now."""
        state.dropped |= {reference for reference, leaf, action, _ in self.pending if gives_way(leaf, action)}

    def repeats(self, state, action):
        """The action is one that an external commit made void."""
        users, components = self.left_over
        if "list" in action:
            entries = self.entries(state, action["list"])
            return bool(entries) and all(user in users and users[user][0] == to for _, user, to in entries)
        if "remove" in action:
            return any(action["remove"] in leaves for _, _, leaves in users.values())
        if proposal_type(action) != 8:
            return False
        try:
            number, value = self.changed(state, action)
        except Refused:
            return False
        return number in components and components[number] == value

    def entries(self, state, update):
        at = lambda index: state.start_list[index] if index < len(state.start_list) else None
        return ([("role", at(index), to) for index, to in update.get("roles", [])] + [("remove", at(index), 0) for index in update.get("remove", [])]
                + [("add", user, to) for user, to in update.get("add", [])])

    def own_change(self, state, user):
        """The update by which users change nothing but their own place."""
        for reference, leaf, action, _ in self.pending:
            if "list" in action and leaf is not None and state.start_leaves[leaf] == user and reference not in state.dropped:
                if {one for _, one, _ in self.entries(state, action["list"])} == {user}:
                    return reference
        return None

    def change_list(self, state, proposer, update, parent, code):
        refuse_if(not self.entries(state, update), "no-change")
        for kind, user, to in self.entries(state, update):
            refuse_if(user is None, "list-index")
            own = self.own_change(state, user) if user in state.touched and user != proposer.user else None
            if state.role.get(user) is None and not state.policy.is_ban(to):
                own = None  # Who leaves is banned for it or goes.
            if own is not None:
                state.dropped.add(own)
                state.touched.discard(user)
                state.go_along.pop(user, None)
                state.role[user] = self.start.standing(user)
                state.entries = [one for one in state.entries if one[1] != user]
            self.is_possible(state, kind, user, to)
            along = self.may_change_list(state, proposer, kind, user, to, parent, code)
            self.put_entry(state, kind, user, to, along)
            if to == 0 or state.policy.is_ban(to) or state.policy.no_clients(to):
                self.drop(state, lambda _, action: action.get("add", {}).get("user") == user)
                state.added_clients = [one for one in state.added_clients if one != user]

    def is_possible(self, state, kind, user, to):
        refuse_if(user in state.touched, "user-touched-twice")
        refuse_if(kind == "add" and not is_user(user), "user-uri")
        if kind != "remove":
            refuse_if(to == 0, "role-zero")
            refuse_if(state.policy.role(to) is None, "no-ban-role" if to == 1 else "role-undefined")

    def put_entry(self, state, kind, user, to, along=False):
        if to:
            state.role[user] = to
        else:
            state.role.pop(user, None)
        state.touched.add(user)
        state.go_along[user] = along
        state.entries.append((kind, user))
        if kind == "add":
            state.added.add(user)
            state.appended.append(user)

    def may_change_list(self, state, proposer, kind, user, to, parent, code):
        if self.left_over[0].get(user, (None,))[0] is not None:
            index, along, _ = self.left_over[0][user]
            refuse_if(not proposer.is_hub or index != to, "user-touched-twice")
            return along
        own, policy, start = user == proposer.user, proposer.policy, state.standing(user)
        base = policy.base()
        refuse_if(proposer.kind == "joiner" and not (own and kind == "add"), "joiner-changes-others")
        refuse_if(kind == "role" and to == start, "no-change")
        if kind == "role" and own:
            proposer.needs("canChangeOwnRole")
            refuse_if(policy.preauthorized(proposer.claims) != to, "own-role-not-preauthorized")
            return False
        if kind == "role":
            bans = policy.is_ban(to) and proposer.can("canBan")
            if not bans and not (policy.is_ban(start) and proposer.can("canUnBan")):
                instead = lacking("canBan") if policy.is_ban(to) else Refused("no-ban-role") if to == 1 else \
                    lacking("canUnBan") if policy.is_ban(start) else None
                proposer.needs("canChangeUserRole", instead)
            proposer.may_change(start, to)
            return bans
        if kind == "remove":
            if base.get("parent_dependant") and proposer.is_hub:
                refuse_if(parent is None, "parent-unknown")
                if not parent.takes_part(user):
                    return True
            refuse_if(base.get("fixed_membership"), "fixed-membership")
            proposer.needs("canRemoveSelf" if own else "canRemoveParticipant")
            proposer.may_change(start, 0)
            return True
        refuse_if(start != 0, "user-listed")
        refuse_if(base.get("fixed_membership"), "fixed-membership")
        if base.get("parent_dependant") and not policy.is_ban(to):
            refuse_if(parent is None, "parent-unknown")
            refuse_if(not parent.takes_part(user), "not-in-parent")
        if own:
            may_join(policy, proposer.claims, code, to)
            return False
        if not (policy.is_ban(to) and proposer.can("canBan")):
            proposer.needs("canAddParticipant")
        proposer.may_change(0, to)
        return False

    def changed(self, state, action):
        """The component an action is about and its data afterwards; None if there are none."""
        number = component_of(action)
        if "remove_component" in action:
            refuse_if(state.ops.get(number) == "update", "update-and-remove")
            refuse_if(number == 0x25, "component-required")
            refuse_if(number in state.ops or number not in state.start_policy.components, "component-absent")
            return number, None
        (_, change), = action.items()
        if "raw" in action:
            change = {"raw": change[1]}
        refuse_if(state.ops.get(number) == "remove", "update-and-remove")
        refuse_if(number == 0x23 and number in state.ops, "metadata-twice")
        if "change_links" in action:
            links, removed = state.start_policy.get("links", []), set(state.removed_links)
            for index in change.get("remove", []):
                refuse_if(index >= len(links) or index in removed, "join-link-index")
                removed.add(index)
            kept = [link for index, link in enumerate(links) if index not in removed]
            change = kept + state.added_links + change.get("add", [])
        return number, change

    def change_component(self, state, proposer, action):
        number, value = self.changed(state, action)
        if not (proposer.is_hub and self.repeats(state, action)):
            refuse_if(action.get("change_links", {"add": 1}) in ({}, {"add": []}, {"remove": []}, {"add": [], "remove": []}), "no-change")
            refuse_if(value == state.policy.components.get(number), "no-change")
            self.may_change_component(state, proposer, action, number, value)
        self.put_component(state, action, number, value)

    def put_component(self, state, action, number, value):
        components = {key: it for key, it in state.policy.components.items() if key != number}
        if value is not None:
            components[number] = value
        state.policy = Policy(state.policy.room, components)
        state.ops[number] = "remove" if value is None else "update"
        state.removed_links |= set(action.get("change_links", {}).get("remove", []))
        state.added_links = state.added_links + action.get("change_links", {}).get("add", [])

    def may_change_component(self, state, proposer, action, number, value):
        if number == 0x23:
            if value and "raw" in value:
                raise Refused("component-malformed")
            refuse_if(proposer.role is None, "external-sender-role")
            before, after = state.policy.get("metadata", {}), value or {}
            for field, capability in FIELDS:
                if before.get(field, "") != after.get(field, "") and (before.get(field) or after.get(field)):
                    proposer.needs(capability)
        elif number == 0x2a:
            other = proposer.can("canChangeOtherPolicyAttribute")
            if (value is None or action["change_links"].get("remove")) and not other:
                proposer.needs("canDeleteJoinCode")
            if value is not None and action["change_links"].get("add") and not other:
                proposer.needs("canCreateJoinCode")
        elif number == 0x21 and proposer.is_hub:
            pass
        elif number in GATES:
            proposer.needs(GATES[number])
        else:
            refuse_if(number not in proposer.policy.base().get("policy_component_ids", []), "component-unknown")
            proposer.needs("canChangeOtherPolicyAttribute")

    def remove(self, state, proposer, leaf, how):
        refuse_if(leaf not in state.start_leaves, "unknown-leaf")
        before, again = state.gone.get(leaf), proposer.is_hub and state.gone.get(leaf) == "left over"
        # Who leaves, or joins in place of the client, may do what somebody else proposed.
        is_by_owner = before != "self" and (how == "self" or proposer.kind == "joiner")
        refuse_if(before is not None and not again and not is_by_owner, "leaf-removed-twice")
        owner = state.start_leaves[leaf]
        index = state.standing(owner)
        stays = index != 0 and not state.policy.is_ban(index)
        if owner == proposer.user:
            if stays and proposer.kind != "joiner":
                proposer.needs("canRemoveOwnClient")
        elif proposer.kind == "joiner":
            raise Refused("joiner-changes-others")
        elif not state.go_along.get(owner) and not again:
            if not (proposer.is_hub and (not stays or state.policy.no_clients(index))):
                proposer.needs("canKick")
        state.take_leaf(leaf, how)
        self.drop(state, lambda its, action: "update" in action and its == leaf or how == "self" and action.get("remove") == leaf)

    def add(self, state, proposer, client):
        fits(proposer.policy, client)
        user = client["user"]
        index = state.standing(user)
        refuse_if(index == 0, "client-of-unlisted-user")
        if user == proposer.user:
            proposer.needs("canAddOwnClient")
        else:
            refuse_if(proposer.kind == "applicant", "joiner-changes-others")
            refuse_if(user not in state.added, "adds-clients-of-others")
            proposer.needs("canAddParticipant")
            proposer.may_change(0, index)
        state.added_clients.append(user)

    def put(self, state, leaf, action):
        """What was judged before."""
        if "list" in action:
            for kind, user, to in self.entries(state, action["list"]):
                self.is_possible(state, kind, user, to)
                self.put_entry(state, kind, user, to)
        elif proposal_type(action) == 8:
            self.put_component(state, action, *self.changed(state, action))
        elif "remove" in action or "self_remove" in action:
            state.take_leaf(action.get("remove", leaf), "remove")
        elif "add" in action:
            state.added_clients.append(action["add"]["user"])

    # --- Requests

    def participant(self, user):
        refuse_if(not self.state.takes_part(user), "not-a-participant")
        return self.state.standing(user)

    def needs(self, index, capability):
        if not self.state.policy.can(index, capability):
            raise lacking(capability)

    def send(self, step, _):
        index = self.participant(step["user"])
        refuse_if(self.state.clients(step["user"]) == 0, "sender-inactive")
        self.needs(index, "canSendMessage")
        behind = step.get("epochs_behind", 0)
        refuse_if(behind == "ahead", "epoch-not-reached")
        refuse_if(behind > self.state.policy.operational().get("epoch_tolerance", 0), "epoch-too-old")

    def receive(self, step, _):
        self.needs(self.participant(step["user"]), "canReceiveMessage")

    def report(self, step, _):
        if "user" in step:
            self.needs(self.participant(step["user"]), "canReportAbuse")

    def destroy(self, step, _):
        if "external" in step:
            index = self.state.policy.preauthorized(claims_of(step["external"]))
            refuse_if(index is None, "external-sender-role")
        else:
            index = self.participant(step["user"])
        self.needs(index, "canDestroyRoom")

    def group_info(self, step, parent):
        self.is_going_on()
        policy, user = self.state.policy, step["client"]["user"]
        refuse_if(not policy.operational().get("external_commit_allowed", True), "external-commits-off")
        index = self.state.standing(user)
        refuse_if(policy.is_ban(index), "joiner-banned")
        if index != 0:
            self.needs(index, "canAddOwnClient")
        else:
            refuse_if(policy.base().get("fixed_membership"), "fixed-membership")
            if policy.base().get("parent_dependant"):
                refuse_if(parent is None, "parent-unknown")
                refuse_if(not parent.takes_part(user), "not-in-parent")
            may_join(policy, client_claims(step["client"]), step.get("code"), None)

    def upload(self, step, _):
        policy = self.state.policy
        self.needs(self.participant(step["user"]), "canUpload" + step["kind"].title())
        if 0x2c not in policy.components:
            return
        assets = policy.get("assets", {})
        if "max" in assets:
            most = dict(zip(("image", "audio", "video", "attachment"), assets["max"]))
            refuse_if(step["size"] > most[step["kind"]], "asset-too-large")
        same = lambda types: step["media_type"].lower() in [it.lower() for it in types]
        refuse_if(same(assets.get("forbidden_types", [])), "asset-type-forbidden")
        refuse_if("permitted_types" in assets and not same(assets["permitted_types"]), "asset-type-not-permitted")
        location, provider = assets.get("location", 0), uri_parts(step["user"])[0]
        hosts = [host for domain, its in assets.get("domains", []) if location != 1 or domain == provider for host in its]
        refuse_if(location != 0 and step["host"] not in hosts, "asset-host")

    def download(self, step, _):
        index, assets = self.participant(step["user"]), self.state.policy.get("assets", {})
        if "kind" in step:
            self.needs(index, "canDownload" + step["kind"].title())
        allowed = assets.get("allowed_downloads", [])
        refuse_if(allowed and step["way"] not in allowed or step["way"] in assets.get("forbidden_downloads", []), "download-way")


def client_claims(client):
    return claims_of(client["claims"]) if "claims" in client else claims_of_identity(client["user"])


def proposal_type(action):
    for name, number in (("add", 1), ("update", 2), ("remove", 3), ("extensions", 7), ("self_remove", 10)):
        if name in action:
            return number
    return action.get("other", 8)


def component_of(action):
    if "list" in action:
        return PARTICIPANT_LIST
    if "change_links" in action:
        return NUMBERS["links"]
    if "remove_component" in action:
        return action["remove_component"]
    return action["raw"][0] if "raw" in action else NUMBERS[next(iter(action))]


def fits(policy, client):
    kind, _ = client_claims(client)
    refuse_if(kind == 0xf001 and not policy.base()["pseudonyms_allowed"], "pseudonym-not-allowed")
    operational = policy.operational()
    most = operational.get("max_kp_lifetime", 0)
    refuse_if(most and client.get("lifetime", 0) > most, "key-package-lifetime")
    if "support" in client:
        implied = {"extensions": range(6), "proposals": range(8)}
        for what, wanted in operational.get("mandatory_capabilities", {}).items():
            has = {*client["support"].get(what, []), *implied.get(what, [])}
            refuse_if(not set(wanted) <= has, "mandatory-capability")


def may_join(policy, claims, code, role):
    """Any way will do; if none does, the first one that was tried says why. Without a role: any."""
    ways = []
    if code is not None:
        ways.append(lambda: join_by_code(policy, code, role))
    if policy.preauthorized(claims) is not None:
        ways.append(lambda: join_preauthorized(policy, policy.preauthorized(claims), role))
    ways.append(lambda: join_openly(policy, role))
    reasons = []
    for way in ways:
        try:
            return way()
        except Refused as reason:
            reasons.append(reason)
    raise reasons[0]


def join_by_code(policy, code, role):
    if not policy.can(0, "canUseJoinCode"):
        raise lacking("canUseJoinCode")
    refuse_if(code == "unknown", "join-code-unknown")
    refuse_if(code == "expired", "join-code-expired")
    refuse_if(role is not None and role != code, "join-code-for-another-role")
    refuse_if(not policy.may_change(0, 0, code), "role-change-not-authorized")


def join_preauthorized(policy, its_role, role):
    refuse_if(role is not None and role != its_role, "preauthorized-for-another-role")
    if not policy.can(its_role, "canJoinIfPreauthorized"):
        raise lacking("canJoinIfPreauthorized")


def join_openly(policy, role):
    if not policy.can(0, "canOpenJoin"):
        raise lacking("canOpenJoin")
    refuse_if(role is not None and not policy.may_change(0, 0, role), "role-change-not-authorized")


# --- Files ---------------------------------------------------------------------------------------------------------


def room_of(rooms, stated):
    """A room by its name, or one that is like another but for some members; a component that is null is not there."""
    if isinstance(stated, str):
        return Room(rooms[stated])
    if "like" not in stated:
        return Room(stated)
    like = rooms[stated["like"]]
    components = like["components"] | stated.get("components", {})
    own = {member: value for member, value in stated.items() if member != "like"}
    return Room(like | own | {"components": {name: value for name, value in components.items() if value is not None}})


def shortened(rooms, stated, name):
    """The same, said by what differs from a room with a name."""
    if isinstance(stated, str):
        return stated
    like = rooms[name]
    components = {component: stated["components"].get(component) for component in {**like["components"], **stated["components"]}
                  if stated["components"].get(component) != like["components"].get(component)}
    own = {member: value for member, value in stated.items() if member != "components" and value != like[member]}
    return {"like": name, **own, **({"components": components} if components else {})}


def decide(rooms, case):
    """The rule and the capability, or (None, None), and the room."""
    parent = room_of(rooms, case["parent"]).state if "parent" in case else None
    (kind, step), = case["decide"].items()
    try:
        room = room_of(rooms, case["room"])
    except Refused as refused:
        if kind != "load":
            raise
        return refused.rule, refused.capability, None
    for before in case.get("before", []):
        (name, it), = before.items()
        getattr(room, name)(it, parent)
    if kind == "load":
        return None, None, room
    try:
        getattr(room, kind)(step, parent)
    except Refused as refused:
        return refused.rule, refused.capability, room
    return None, None, room


def problem_of(rooms, case):
    try:
        rule, capability, room = decide(rooms, case)
    except Refused as refused:
        return f"what comes before is refused by {refused.rule}"
    if (rule or "allowed") != case["verdict"]:
        return f"the verdict is {rule or 'allowed'}, not {case['verdict']}"
    if capability != case.get("capability"):
        return f"the missing capability is {capability}"
    after = case.get("after", {})
    found = room and {"participants": room.state.listed(),
                      "leaves": [[room.state.start_leaves[leaf], leaf] for leaf in sorted(room.state.start_leaves)],
                      "left_over": [[user, role] for user, (role, _, _) in room.left_over[0].items() if role is not None],
                      "left_over_leaves": [[user, leaf] for user, (_, _, leaves) in room.left_over[0].items() for leaf in sorted(leaves)]}
    for member, stated in after.items():
        if found[member] != stated:
            return f"{member} afterwards are {found[member]}"
    return None


def check(paths):
    passed = failed = 0
    for path in paths:
        try:
            document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        for case in document["decisions"]:
            problem = problem_of(document["rooms"], case)
            passed, failed = passed + (problem is None), failed + (problem is not None)
            if problem:
                print(f"FAIL {path}: {case['name']}: {problem}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def generate(directory):
    from mimi_policy_cases import ROOMS, cases
    entries = list(cases())
    for case in entries:
        for place in ("room", "parent"):
            if place in case:
                case[place] = shortened(ROOMS, case[place], "club")
    wrong = [(case["name"], problem) for case in entries if (problem := problem_of(ROOMS, case))]
    for name, problem in wrong:
        print(f"{name}: {problem}", file=sys.stderr)
    if wrong:
        return 1
    row = lambda value: json.dumps(value, ensure_ascii=False)
    rooms = ",\n".join(f"  {row(name)}: {row(room)}" for name, room in ROOMS.items())
    rows = ",\n".join("  " + row(entry) for entry in entries)
    target = pathlib.Path(directory) / "decisions.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    note = "decisions under the policy of a room, at least one for each rule"
    target.write_text(f'{{\n "note": {row(note)},\n "rooms": {{\n{rooms}\n }},\n "decisions": [\n{rows}\n ]\n}}\n', encoding="utf-8")
    print(f"{target}: {len(entries)} cases")
    return 0


def main(arguments):
    if len(arguments) >= 2 and arguments[0] == "check":
        return check(arguments[1:])
    if len(arguments) == 2 and arguments[0] == "generate":
        return generate(arguments[1])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
