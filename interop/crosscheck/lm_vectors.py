#!/usr/bin/env python3
"""Linearized Matrix test vectors, by a second implementation.

Everything here is written from the draft (LM #int-canonical-json, #int-redactions, #int-content-hashes,
#int-reference-hashes, #int-signing, #int-checking-signatures, #int-transport-auth) and from RFC 8785 and RFC 8032, with
nothing but the standard library, so that it shares no code and no dependency with the Rust workspace.

    lm_vectors.py check FILE...     recompute every canonical form, hash, ID and signature the files state
    lm_vectors.py generate DIR      write this project's own vector files into DIR (the output is deterministic)

`check` prints one line per entry; its last line is `N passed, N failed`; the exit status is 1 if any entry failed and 2 if a
file could not be read. The file format is described in drafts/README.md.
"""

import base64
import copy
import hashlib
import json
import pathlib
import re
import sys

MAX_EVENT_BYTES = 65536


class Mismatch(Exception):
    """A statement in a vector file that is not true."""


# --- Ed25519 (RFC 8032 section 5.1) -------------------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1, 1, 0)


def point_add(a, b):
    """Adds two points in extended homogeneous coordinates (X, Y, Z, T)."""
    minus = (a[1] - a[0]) * (b[1] - b[0]) % P
    plus = (a[1] + a[0]) * (b[1] + b[0]) % P
    c = 2 * a[3] * b[3] * D % P
    d = 2 * a[2] * b[2] % P
    e, f, g, h = plus - minus, d - c, d + c, plus + minus
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(scalar, point):
    """Multiplies a point by a scalar, double-and-add."""
    result = IDENTITY
    while scalar > 0:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def point_equal(a, b):
    """Compares two points without normalising them."""
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def recover_x(y, sign):
    """The x coordinate for a y and a sign bit, or None when there is none."""
    if y >= P:
        return None  # not a canonical encoding
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P != 0:
        x = x * SQRT_MINUS_ONE % P
    if (x * x - square) % P != 0:
        return None
    return P - x if x & 1 != sign else x


def point_encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_decode(data):
    if len(data) != 32:
        return None
    value = int.from_bytes(data, "little")
    sign, y = value >> 255, value & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def expand_seed(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    scalar = scalar & ((1 << 254) - 8) | (1 << 254)
    return scalar, digest[32:]


def ed25519_public(seed):
    return point_encode(point_mul(expand_seed(seed)[0], BASE))


def ed25519_sign(seed, message):
    scalar, prefix = expand_seed(seed)
    public = point_encode(point_mul(scalar, BASE))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    commitment = point_encode(point_mul(nonce, BASE))
    challenge = int.from_bytes(hashlib.sha512(commitment + public + message).digest(), "little") % ORDER
    return commitment + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")


def ed25519_verify(public, message, signature):
    """Strict verification: canonical encodings, S below the group order, no point of small order, no cofactor."""
    if len(signature) != 64:
        return False
    key, commitment = point_decode(public), point_decode(signature[:32])
    response = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or response >= ORDER:
        return False
    if any(point_equal(point_mul(8, point), IDENTITY) for point in (key, commitment)):
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    return point_equal(point_mul(response, BASE), point_add(commitment, point_mul(challenge, key)))


# --- Base64 (LM #int-unpadded-base64) -----------------------------------------------------------------------------


def b64(data):
    return base64.b64encode(data).decode().rstrip("=")


def b64_url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text):
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)


# --- RFC 8785 canonical JSON (LM #int-canonical-json) -------------------------------------------------------------


def parse_json(text):
    """Parses I-JSON: no duplicate names, no lone surrogates, no infinities."""

    def pairs(items):
        result = {}
        for name, value in items:
            if name in result:
                raise ValueError(f"duplicate name {name!r}")
            result[name] = value
        return result

    def refuse(constant):
        raise ValueError(f"not JSON: {constant}")

    value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises on a lone surrogate
    return value


SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def canonical_string(text):
    parts = []
    for char in text:
        if char in SHORT_ESCAPES:
            parts.append(SHORT_ESCAPES[char])
        elif ord(char) < 0x20:
            parts.append(f"\\u{ord(char):04x}")
        else:
            parts.append(char)
    return '"' + "".join(parts) + '"'


def canonical_number(number):
    """ECMAScript's Number::toString over the nearest double."""
    number = float(number)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("not a finite number")
    if number == 0:
        return "0"
    if number < 0:
        return "-" + canonical_number(-number)
    # repr() yields the shortest digits that read back as the same double, which is what ECMAScript asks for.
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    head, tail = digits[0], digits[1:]
    return head + ("." + tail if tail else "") + f"e{point - 1:+d}"


def canonical(value):
    """The RFC 8785 text of a JSON value."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return canonical_string(value)
    if isinstance(value, (int, float)):
        return canonical_number(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(canonical_string(name) + ":" + canonical(value[name]) for name in names) + "}"


def canonical_bytes(value):
    return canonical(value).encode("utf-8")


# --- Events: redaction, hashes, signatures ------------------------------------------------------------------------

KEPT_TOP_LEVEL = (
    "type room_id sender state_key content origin_server_ts hashes signatures prev_events auth_events hub_server"
).split()
KEPT_CONTENT = {
    "m.room.member": ["membership"],
    "m.room.join_rules": ["join_rule"],
    "m.room.power_levels": (
        "ban events events_default kick redact state_default users users_default invite"
    ).split(),
    "m.room.history_visibility": ["history_visibility"],
}


def without(obj, *names):
    return {name: value for name, value in obj.items() if name not in names}


def redact(event):
    result = {name: copy.deepcopy(value) for name, value in event.items() if name in KEPT_TOP_LEVEL}
    if event["type"] != "m.room.create":
        kept = KEPT_CONTENT.get(event["type"], [])
        result["content"] = {name: value for name, value in result["content"].items() if name in kept}
    return result


def lpdu_of(pdu):
    """The LPDU inside a PDU made from one; signatures are left as they are."""
    result = without(pdu, "auth_events", "prev_events")
    result["hashes"] = {"lpdu": pdu["hashes"]["lpdu"]}
    return result


def lpdu_hash(event):
    return b64(hashlib.sha256(canonical_bytes(without(event, "signatures", "hashes", "auth_events", "prev_events"))).digest())


def content_hash_text(event):
    """What the PDU content hash covers: an emptied `hashes` goes away altogether (decision D-hashes-empty)."""
    result = without(event, "signatures", "hashes")
    if "lpdu" in event.get("hashes", {}):
        result["hashes"] = {"lpdu": event["hashes"]["lpdu"]}
    return canonical(result)


def content_hash(event):
    return b64(hashlib.sha256(content_hash_text(event).encode("utf-8")).digest())


def event_id(event):
    return "$" + b64_url(hashlib.sha256(canonical_bytes(without(redact(event), "signatures"))).digest())


def signing_bytes(event):
    return canonical_bytes(without(redact(event), "signatures"))


def object_bytes(obj):
    return canonical_bytes(without(obj, "signatures"))


def server_of(user_id):
    return user_id.split(":", 1)[1]


# --- The keys of a file -------------------------------------------------------------------------------------------


def read_keys(document):
    """`keys` as {(server, key ID): (seed, public)}; a server's value is one key or a list of keys."""
    keys = {}
    for server, entries in document.get("keys", {}).items():
        for entry in entries if isinstance(entries, list) else [entries]:
            public = unb64(entry["public"])
            seed = unb64(entry["seed_b64"]) if "seed_b64" in entry else None
            if seed is not None and ed25519_public(seed) != public:
                raise Mismatch(f"keys: {server} {entry['key_id']}: the public key does not belong to the seed")
            keys[(server, entry["key_id"])] = (seed, public)
    return keys


def check_signature(keys, server, key_id, message, signature):
    if (server, key_id) not in keys:
        raise Mismatch(f"no key {key_id} of {server} in this file")
    if not ed25519_verify(keys[(server, key_id)][1], message, unb64(signature)):
        raise Mismatch(f"signature by {server} {key_id} does not verify")


def expect(what, stated, computed):
    if stated != computed:
        raise Mismatch(f"{what}: stated {stated!r}, computed {computed!r}")


# --- check --------------------------------------------------------------------------------------------------------


def check_event(entry, keys):
    if "lpdu" not in entry and "pdu" not in entry:
        raise Mismatch("neither pdu nor lpdu")
    if "lpdu" in entry:
        check_lpdu(entry["lpdu"], keys)
        if "lpdu_event_id" in entry:
            expect("lpdu_event_id", entry["lpdu_event_id"], event_id(entry["lpdu"]))
    if "pdu" not in entry:
        return
    pdu = entry["pdu"]
    if len(canonical_bytes(pdu)) > MAX_EVENT_BYTES:
        raise Mismatch("larger than an event may be")
    expect("hashes.sha256", pdu["hashes"]["sha256"], content_hash(pdu))
    expect("hashes.lpdu present", "lpdu" in pdu["hashes"], "hub_server" in pdu)
    if "hub_server" in pdu:
        expect("hashes.lpdu.sha256", pdu["hashes"]["lpdu"]["sha256"], lpdu_hash(pdu))
    check_pdu_signatures(pdu, keys)
    if "event_id" in entry:
        expect("event_id", entry["event_id"], event_id(pdu))
    if "canonical_for_content_hash" in entry:
        expect("canonical_for_content_hash", entry["canonical_for_content_hash"], content_hash_text(pdu))
    if "lpdu" in entry:
        inside = canonical(without(lpdu_of(pdu), "signatures"))
        expect("the LPDU inside the PDU", inside, canonical(without(entry["lpdu"], "signatures")))
    if "redacted" in entry:
        expect("redacted", canonical(entry["redacted"]), canonical(redact(pdu)))
        expect("event ID of the redacted copy", event_id(entry["redacted"]), event_id(pdu))


def check_lpdu(lpdu, keys):
    for name in ("auth_events", "prev_events"):
        if name in lpdu:
            raise Mismatch(f"an LPDU with {name}")
    expect("the LPDU's hashes", sorted(lpdu["hashes"]), ["lpdu"])
    expect("the LPDU's hash", lpdu["hashes"]["lpdu"]["sha256"], lpdu_hash(lpdu))
    sender = server_of(lpdu["sender"])
    if not lpdu["signatures"].get(sender):
        raise Mismatch(f"the LPDU is not signed by {sender}")
    for key_id, signature in lpdu["signatures"][sender].items():
        check_signature(keys, sender, key_id, signing_bytes(lpdu), signature)


def check_pdu_signatures(pdu, keys):
    sender, hub = server_of(pdu["sender"]), pdu.get("hub_server")
    for required in {sender, hub or sender}:
        if not pdu["signatures"].get(required):
            raise Mismatch(f"not signed by {required}")
    for server, by_key in pdu["signatures"].items():
        # Only the sender's server signs the LPDU, and only when another server is the hub; the rest sign the PDU.
        signed = lpdu_of(pdu) if server == sender and hub not in (None, sender) else pdu
        for key_id, signature in by_key.items():
            check_signature(keys, server, key_id, signing_bytes(signed), signature)


def check_canonical(entry, _keys):
    expect("rfc8785", entry["rfc8785"], canonical(parse_json(entry["in"])))


AUTH_PARAM = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))\s*(?:,|$)")


def parse_x_matrix(header):
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "x-matrix":
        raise Mismatch("not an X-Matrix header")
    params, position = {}, 0
    while position < len(rest):
        found = AUTH_PARAM.match(rest, position)
        if not found:
            raise Mismatch(f"malformed header at {rest[position:]!r}")
        quoted, token = found.group(2), found.group(3)
        params[found.group(1).lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = found.end()
    return params


def check_request(entry, keys):
    obj = entry["object"]
    message = object_bytes(obj)
    origin = obj["origin"]
    if "signing_bytes" in entry:
        expect("signing_bytes", entry["signing_bytes"], message.decode("utf-8"))
    key_ids = [key_id for server, key_id in keys if server == origin]
    if "sig" in entry:
        check_signature(keys, origin, key_ids[0], message, entry["sig"])
    for key_id, signature in entry.get("sigs", {}).items():
        check_signature(keys, origin, key_id, message, signature)
    headers = [entry["header"]] if "header" in entry else []
    for header in headers + entry.get("headers", []) + entry.get("also_accepted", []):
        params = parse_x_matrix(header)
        expect("header origin", params["origin"], origin)
        expect("header destination", params["destination"], obj["destination"])
        check_signature(keys, origin, params["key"], message, params.get("sig") or params["signature"])
    if "sig_if_content_omitted_as_eigen_does" in entry:
        omitted = object_bytes(without(obj, "content"))
        check_signature(keys, origin, key_ids[0], omitted, entry["sig_if_content_omitted_as_eigen_does"])


def check_key_response(response, keys):
    server = response["server_name"]
    for key_id, value in response["verify_keys"].items():
        if (server, key_id) in keys:
            expect(f"verify_keys {key_id}", unb64(value["key"]), keys[(server, key_id)][1])
        if key_id not in response["signatures"].get(server, {}):
            raise Mismatch(f"not signed with {key_id}")
    for key_id in response.get("old_verify_keys", {}):
        if key_id in response["verify_keys"]:
            raise Mismatch(f"{key_id} is both current and old")
    for signer, by_key in response["signatures"].items():
        for key_id, signature in by_key.items():
            check_signature(keys, signer, key_id, object_bytes(response), signature)


def entries_of(document):
    for entry in document.get("events", []):
        yield "event " + entry["name"], check_event, entry
    for number, entry in enumerate(document.get("canonical_json", []), 1):
        yield "canonical_json " + entry.get("name", f"#{number}"), check_canonical, entry
    for number, entry in enumerate(document.get("request_auth", []), 1):
        yield "request_auth " + entry.get("name", f"#{number}"), check_request, entry
    if "server_key_response" in document:
        yield "server_key_response", check_key_response, document["server_key_response"]


def check(paths):
    passed = failed = 0
    for path in paths:
        try:
            document = parse_json(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        try:
            keys = read_keys(document)
        except (Mismatch, ValueError, KeyError) as error:
            print(f"FAIL {path}: {error}")
            failed += 1
            continue
        for name, verify, entry in entries_of(document):
            try:
                verify(entry, keys)
            except (Mismatch, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                failed += 1
                print(f"FAIL {path}: {name}: {type(error).__name__}: {error}")
            else:
                passed += 1
                print(f"ok   {path}: {name}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


# --- generate -----------------------------------------------------------------------------------------------------

HUB, SOUTH, WEST = "north.example", "south.example:8449", "west.example"
ROOM = "!Cross-Check_7~a.b:north.example"
ADA, BEN, CARL, DORA = (f"@{name}" for name in (f"ada:{HUB}", f"ben/desk=1:{SOUTH}", f"carl:{WEST}", f"dora:{WEST}"))
FIRST_TS = 1718000000000


class Signer:
    """A server with its signing keys, oldest first; seeds are derived from a label so that anyone can rebuild them."""

    def __init__(self, server, *versions):
        self.server = server
        self.seeds = {
            f"ed25519:{version}": hashlib.sha256(f"nabe vectors/{server}/{version}".encode()).digest() for version in versions
        }

    def signatures(self, message, key_ids=None):
        return {key_id: b64(ed25519_sign(self.seeds[key_id], message)) for key_id in key_ids or self.seeds}

    def sign(self, obj, message, key_ids=None):
        obj.setdefault("signatures", {}).setdefault(self.server, {}).update(self.signatures(message, key_ids))

    def file_entry(self):
        entries = [
            {"key_id": key_id, "seed_b64": b64(seed), "public": b64(ed25519_public(seed))} for key_id, seed in self.seeds.items()
        ]
        return entries[0] if len(entries) == 1 else entries


class Room:
    """A hub's room, just enough of it to choose `auth_events` and `prev_events`."""

    def __init__(self, signers):
        self.signers = {signer.server: signer for signer in signers}
        self.state, self.head, self.events, self.clock = {}, None, [], FIRST_TS

    def fields(self, event_type, sender, content, state_key=None, **extra):
        self.clock += 1337
        event = {"type": event_type, "room_id": ROOM, "sender": sender, "origin_server_ts": self.clock, "content": content}
        if state_key is not None:
            event["state_key"] = state_key
        return {**event, **extra}

    def auth_events(self, event):
        if event["type"] == "m.room.create":
            return []
        wanted = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", event["sender"])]
        if event["type"] == "m.room.member":
            wanted.append(("m.room.member", event["state_key"]))
            if event["content"]["membership"] in ("join", "invite"):
                wanted.append(("m.room.join_rules", ""))
        found = [self.state[key] for key in wanted if key in self.state]
        return list(dict.fromkeys(found))

    def complete(self, event, hub_keys=None):
        event["auth_events"] = self.auth_events(event)
        event["prev_events"] = [self.head] if self.head else []
        event.setdefault("hashes", {})["sha256"] = content_hash(event)
        self.signers[HUB].sign(event, signing_bytes(event), hub_keys)

    def append(self, name, entry, redacted, note):
        pdu = entry["pdu"]
        entry = {"name": name, **({"note": note} if note else {}), **entry, "event_id": event_id(pdu)}
        entry["canonical_for_content_hash"] = content_hash_text(pdu)
        if redacted:
            entry["redacted"] = redact(pdu)
        self.head = entry["event_id"]
        if "state_key" in pdu:
            self.state[(pdu["type"], pdu["state_key"])] = self.head
        self.events.append(entry)

    def hub_sends(self, name, event, redacted=False, note=None, hub_keys=("ed25519:n1",), invited=None):
        if "hub_server" in event:
            event["hashes"] = {"lpdu": {"sha256": lpdu_hash(event)}}
        self.complete(event, hub_keys)
        if invited:
            self.signers[invited].sign(event, signing_bytes(event))
        self.append(name, {"pdu": event}, redacted, note)

    def participant_sends(self, name, event, redacted=False, note=None, hub_keys=("ed25519:n1",), invited=None):
        server = server_of(event["sender"])
        event["hub_server"] = HUB
        event["hashes"] = {"lpdu": {"sha256": lpdu_hash(event)}}
        self.signers[server].sign(event, signing_bytes(event))
        lpdu = copy.deepcopy(event)
        self.complete(event, hub_keys)
        if invited:
            self.signers[invited].sign(event, signing_bytes(event))
        self.append(name, {"lpdu": lpdu, "lpdu_event_id": event_id(lpdu), "pdu": event}, redacted, note)


def room_vectors(signers):
    room = Room(signers)
    member = "m.room.member"
    room.hub_sends("create", room.fields("m.room.create", ADA, {"room_version": "I.1", "org.example.kept": [1, 2]}, ""),
                   redacted=True, note="redaction keeps the whole content of a create event")
    room.hub_sends("creator_join", room.fields(member, ADA, {"membership": "join", "displayname": "Ada ✎"}, ADA),
                   redacted=True, note="the display name is lost in redaction, the event ID is not")
    room.hub_sends("power_levels", room.fields("m.room.power_levels", ADA, {
        "users": {ADA: 100, BEN: 50}, "users_default": 0, "events": {"m.room.name": 30, "org.example.ünï": -5},
        "events_default": 0, "state_default": 50, "ban": 50, "kick": 50, "redact": 50, "invite": 25,
        "notifications": {"room": 20}}, ""), redacted=True, note="notifications is lost in redaction")
    room.hub_sends("join_rules_knock", room.fields("m.room.join_rules", ADA, {"join_rule": "knock", "allow": []}, ""),
                   redacted=True, note="allow is lost in redaction, unlike in later Matrix room versions")
    room.hub_sends("history_visibility", room.fields("m.room.history_visibility", ADA, {
        "history_visibility": "shared", "org.example.note": "lost"}, ""), redacted=True)
    room.hub_sends("invite_by_hub", room.fields(member, ADA, {"membership": "invite"}, BEN), invited=SOUTH,
                   note="two signatures: the hub's and the invited user's server's, both over the PDU")
    room.participant_sends("participant_join", room.fields(member, BEN, {
        "membership": "join", "displayname": "Ben", "avatar_url": "mxc://south.example/1"}, BEN), redacted=True)
    room.participant_sends("invite_of_third_server", room.fields(member, BEN, {
        "membership": "invite", "reason": "third server"}, DORA), invited=WEST, redacted=True,
        note="three signatures: south's over the LPDU, the hub's and west's over the PDU")
    room.participant_sends("knock", room.fields(member, CARL, {"membership": "knock", "reason": "may I?"}, CARL),
                           note="auth_events of a knock leave join_rules out")
    room.participant_sends("unknown_type", room.fields("org.example.measurement", BEN, {
        "\ue000": 1.5, "\U0001f600": 1e21, "\ufb33": 333333333.33333329, "a": [0.1, -0.0, 1e-7, 5e-324, 1e2, 123456789012345680000],
        "nested": {"\U00010000": None, "\uffff": True, "": ""}}), redacted=True,
        note="floats, and names whose UTF-16 order is not their code point order")
    room.hub_sends("hub_server_is_sender", room.fields("m.room.topic", ADA, {"topic": "routed through itself"}, "", hub_server=HUB),
                   note="hub_server names the sender's own server: one signature, over the PDU, and still an lpdu hash")
    room.hub_sends("long_state_key", room.fields("org.example.long", ADA, {"n": 255}, "é" * 127 + "\U0001f4ac" * 127 + "Z"),
                   note="255 characters: 763 bytes of UTF-8, 382 UTF-16 code units")
    room.participant_sends("unknown_top_level_field", room.fields("org.example.traced", BEN, {"body": "hej"}, **{
        "org.example.trace": {"hop": 1}, "unsigned": {"age": 12}}), redacted=True,
        note="both content hashes cover fields nobody knows, `unsigned` among them; the event ID does not")
    room.participant_sends("two_key_hub", room.fields("m.room.message", BEN, {"body": "x" * 40}),
                           hub_keys=("ed25519:n1", "ed25519:N_2"), note="the hub signs with both of its keys")
    room.hub_sends("ban", room.fields(member, ADA, {"membership": "ban", "reason": "quote \" backslash \\ control \u0001"}, CARL),
                   hub_keys=("ed25519:N_2",), redacted=True, note="signed with the newer key alone")
    return room.events


CANONICAL_INPUTS = [
    ("order_by_utf16", '{"\\ue000":1,"\\ud83d\\ude00":2,"\\ud800\\udc00":3,"\\uffff":4,"z":5,"":6,"Z":7}'),
    ("order_of_prefixes", '{"aa":1,"a":2,"a\\u0000":3,"A":4}'),
    ("integers", "[0,-0,1,-1,9007199254740991,-9007199254740991,10000000000000000,9007199254740993]"),
    ("floats", "[50.0,1e2,0.5,1e21,1E20,123456789012345680000,1e-6,1e-7,-1.25e-9,5e-324,1.7976931348623157e308,0.1,333333333.33333329,4.35,1e23]"),
    ("zeroes", "[-0.0,0e10,0.0,-0E-5]"),
    ("escapes", '"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\"\\\\\\/\\u007f\\u0080\\u2028\\ufeff"'),
    ("no_normalization", '["\\u00e9","e\\u0301","\\u212b"]'),
    ("spaces", ' { "b" : [ ] , "a" : { } , "c" : [ null , true , false ] } '),
    ("nested_order", '{"b":{"y":1,"x":[{"d":1,"c":2}]},"a":[]}'),
]


def canonical_vectors():
    return [{"name": name, "in": text, "rfc8785": canonical(parse_json(text))} for name, text in CANONICAL_INPUTS]


def request_vector(name, signer, obj, note=None):
    message = object_bytes(obj)
    sigs = signer.signatures(message)
    headers = [x_matrix(obj, key_id, sig) for key_id, sig in sigs.items()]
    entry = {"name": name, **({"note": note} if note else {}), "object": obj, "signing_bytes": message.decode(),
             "sig": next(iter(sigs.values())), "header": headers[0]}
    if len(headers) > 1:
        entry.update({"sigs": sigs, "headers": headers})
    return entry


def x_matrix(obj, key_id, sig):
    return f'X-Matrix origin="{obj["origin"]}",destination="{obj["destination"]}",key="{key_id}",sig="{sig}"'


def request_vectors(hub, south, west):
    send = {"method": "PUT", "uri": "/_matrix/federation/v2/send/txn-%2F1?", "origin": HUB, "destination": WEST,
            "content": {"pdus": [], "edus": []}}
    two = request_vector("two_headers", hub, send, "one header per key; the base fields are those of the first key")
    get = {"method": "GET", "uri": "/_matrix/federation/v1/make_join/%21Cross-Check_7~a.b%3Anorth.example/%40ben%2Fdesk%3D1%3Asouth.example%3A8449?ver=I.1&ver=2",
           "origin": SOUTH, "destination": HUB, "content": {}}
    bodyless = request_vector("bodyless_with_query", south, get, "a GET signs an empty object as content; the target is signed as sent")
    post = {"method": "POST", "uri": "/_matrix/federation/v1/user/keys/claim", "origin": WEST, "destination": SOUTH,
            "content": {"one_time_keys": {"@å:nowhere.example": {}, "\U0001f600": 1.50, "\ue000": [1e3]}}}
    forms = request_vector("header_forms", west, post)
    sig = forms["sig"]
    forms["also_accepted"] = [
        f'X-Matrix SIG="{sig}" , Key="ed25519:w" ,destination="{SOUTH}",ORIGIN={WEST}',
        f'x-matrix origin="west\\.example",destination="{SOUTH}",key="ed25519:w",signature="{sig}",sig="{sig}",later="a, \\"b\\""',
        f'X-Matrix   origin={WEST},destination="{SOUTH}",key="ed25519:w",signature="{sig}"',
    ]
    return [two, bodyless, forms]


def key_response(signer, old, notary=None):
    response = {
        "server_name": signer.server, "valid_until_ts": FIRST_TS + 43200000, "m.linearized": True,
        "verify_keys": {key_id: {"key": b64(ed25519_public(seed))} for key_id, seed in signer.seeds.items()},
        "old_verify_keys": {key_id: {"key": b64(ed25519_public(seed)), "expired_ts": FIRST_TS - 86400000}
                            for key_id, seed in old.seeds.items()},
    }
    message = object_bytes(response)
    for each in [signer] + ([notary] if notary else []):
        each.sign(response, message)
    return response


def generate(directory):
    hub, south, west = Signer(HUB, "n1", "N_2"), Signer(SOUTH, "0"), Signer(WEST, "w")
    signers = [hub, south, west]
    keys = {signer.server: signer.file_entry() for signer in signers}
    files = {
        "room.json": {"note": "one room with a hub and two participants", "keys": keys, "events": room_vectors(signers)},
        "canonical-json.json": {"note": "RFC 8785", "keys": {}, "canonical_json": canonical_vectors()},
        "requests.json": {"note": "request signatures, and the keys of a server with two current keys and an old one", "keys": keys,
                          "request_auth": request_vectors(hub, south, west),
                          "server_key_response": key_response(hub, Signer(HUB, "retired"))},
        "notary.json": {"note": "the same server's keys as a notary hands them on", "keys": keys,
                        "server_key_response": key_response(hub, Signer(HUB, "retired"), notary=west)},
    }
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name, document in files.items():
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        (target / name).write_text(text, encoding="utf-8")
        print(target / name)
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
