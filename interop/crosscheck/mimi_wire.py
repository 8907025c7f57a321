#!/usr/bin/env python3
"""Test vectors for the structs of MIMI, by a second implementation.

Everything here is written from the drafts (mimi-protocol, mimi-room-policy, mls-extensions, mls-ratchet-tree-options,
mls-semiprivatemessage) and from RFC 9420, 9180, 8032, 7748 and 5869, with nothing but the standard library, so that it shares no
code and no dependency with the Rust workspace. (Ed25519 is that of lm_vectors.py, beside this file.)

    mimi_wire.py check FILE...     read and write every struct, and recompute every refusal, signature and sealing the files state
    mimi_wire.py generate DIR      write this project's own vector files into DIR (the output is deterministic)

`check` prints one line per failure; its last line is `N passed, N failed`; the exit status is 1 if any entry failed and 2 if a
file could not be read. The file format is described in drafts/README.md.
"""

import hashlib
import hmac
import json
import pathlib
import re
import sys

from lm_vectors import ed25519_public, ed25519_sign, ed25519_verify

# --- Reading and writing: RFC 9420 section 2.1 --------------------------------------------------------------------


class Broken(Exception):
    """An input that is no encoding: at which byte, in which field, by which rule."""

    def __init__(self, offset, rule, field=""):
        super().__init__(f"byte {offset}, field {field}: {rule}")
        self.offset, self.rule, self.field = offset, rule, field


class Reader:
    def __init__(self, data):
        self.data, self.at, self.end, self.leaves = data, 0, len(data), []

    def left(self):
        return self.end - self.at

    def take(self, count):
        if count > self.left():
            raise Broken(self.at, "truncated")
        taken = self.data[self.at:self.at + count]
        self.at += count
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def length(self):
        start = self.at
        width = {0: 1, 1: 2, 2: 4, 3: 8}[self.number(1) >> 6]
        self.at = start
        if width == 8:
            raise Broken(start, "reserved-length")
        if width > self.left():
            raise Broken(start, "truncated")
        value = self.number(width) & ((1 << (8 * width - 2)) - 1)
        if len(write_length(value)) != width:
            raise Broken(start, "not-minimal")
        if value > self.left():
            raise Broken(start, "truncated")
        return value

    def leaf(self, place, value):
        path, start = place
        self.leaves.append([path, start, self.at - start, value])


def write_length(value):
    for width, tag in ((1, 0), (2, 1), (4, 2)):
        if value < 1 << (8 * width - 2):
            return (value | tag << (8 * width - 2)).to_bytes(width, "big")
    raise ValueError("too long for a vector")


def vector_of(content):
    return write_length(len(content)) + content


class Number:
    def __init__(self, size):
        self.size = size

    def write(self, value):
        return value.to_bytes(self.size, "big")

    def read(self, reader, place):
        value = reader.number(self.size)
        reader.leaf(place, str(value))
        return value


class Enum:
    """Numbers with names. `selects`: what is not among these decides about something undefined. `closed`: there are no others."""

    def __init__(self, size, names, selects=None, closed=False):
        self.size, self.names, self.selects, self.closed = size, names, selects, closed

    def write(self, value):
        return value.to_bytes(self.size, "big")

    def read(self, reader, place):
        start = reader.at
        value = reader.number(self.size)
        if self.closed and value not in self.names:
            raise Broken(start, "not-in-enumeration")
        if self.selects is not None and value not in self.selects:
            raise Broken(start, "unknown-selector")
        name = self.names.get(value)
        reader.leaf(place, f"{value} {name}" if name else str(value))
        return value


class Bool:
    def write(self, value):
        return bytes([int(value)])

    def read(self, reader, place):
        start = reader.at
        value = reader.number(1)
        if value > 1:
            raise Broken(start, "not-boolean")
        reader.leaf(place, "true" if value else "false")
        return bool(value)


class Fixed:
    def __init__(self, size):
        self.size = size

    def write(self, value):
        assert len(value) == self.size
        return value

    def read(self, reader, place):
        value = reader.take(self.size)
        reader.leaf(place, value.hex())
        return value


class Opaque:
    def write(self, value):
        return vector_of(value)

    def read(self, reader, place):
        value = reader.take(reader.length())
        reader.leaf(place, value.hex())
        return value


class Rest:
    """Everything up to the end, which nothing is known about."""

    def write(self, value):
        return value

    def read(self, reader, place):
        value = reader.take(reader.left())
        reader.leaf(place, value.hex())
        return value


class Text:
    """UTF-8. `nul`: null characters may be in it; `most`: its limit in bytes; `uri`: it is empty or looks like a URI."""

    def __init__(self, nul=True, most=None, uri=False):
        self.nul, self.most, self.uri = nul, most, uri

    def write(self, value):
        return vector_of(value.encode())

    def read(self, reader, place):
        start = reader.at
        data = reader.take(reader.length())
        try:
            value = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken(reader.at - len(data) + error.start, "not-utf8") from None
        if self.most is not None and len(data) > self.most:
            raise Broken(start, "too-long")
        if not self.nul and "\0" in value:
            raise Broken(reader.at - len(data) + data.index(0), "nul")
        if self.uri and data and not is_uri(value):
            raise Broken(start, "not-uri")
        reader.leaf(place, value)
        return value


def is_uri(text):
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", text) is not None


class Optional:
    def __init__(self, inner):
        self.inner = inner

    def write(self, value):
        return b"\0" if value is None else b"\1" + self.inner.write(value)

    def read(self, reader, place):
        start = reader.at
        present = reader.number(1)
        if present > 1:
            raise Broken(start, "not-presence")
        if not present:
            reader.leaf(place, "absent")
            return None
        return self.inner.read(reader, place)


class Vector:
    def __init__(self, inner):
        self.inner = inner

    def write(self, value):
        return vector_of(b"".join(self.inner.write(item) for item in value))

    def read(self, reader, place):
        length = reader.length()
        outer, reader.end = reader.end, reader.at + length
        items = []
        while reader.left():
            items.append(step(reader, self.inner, f"{place[0]}[{len(items)}]"))
        reader.end = outer
        return items


class Concatenated:
    """One or more values, one after the other to the end."""

    def __init__(self, inner):
        self.inner = inner

    def write(self, value):
        return b"".join(self.inner.write(item) for item in value)

    def read(self, reader, place):
        items = []
        while not items or reader.left():
            items.append(step(reader, self.inner, f"{place[0]}[{len(items)}]"))
        return items


class Struct:
    """Fields (name, type, when, check): `when` says whether the field is there given those before it, `check` names the rule it breaks."""

    def __init__(self, *fields):
        self.fields = [tuple(field) + (None,) * (4 - len(field)) for field in fields]

    def write(self, value):
        return b"".join(kind.write(value[name]) for name, kind, when, _ in self.fields if when is None or when(value))

    def read(self, reader, place):
        value = {}
        for name, kind, when, check in self.fields:
            if when is not None and not when(value):
                continue
            path = f"{place[0]}.{name}" if place[0] else name
            start = reader.at
            value[name] = step(reader, kind, path)
            rule = check and check(value)
            if rule:
                raise Broken(start, rule, path)
        return value


def step(reader, kind, path):
    """Reads a field or item; what breaks inside and has no field yet breaks in this one."""
    try:
        return kind.read(reader, (path, reader.at))
    except Broken as broken:
        broken.field = broken.field or path
        raise


def read(name, data):
    """The value and its leaves."""
    reader = Reader(data)
    value = TYPES[name].read(reader, ("", 0))
    if reader.left():
        raise Broken(reader.at, "trailing-bytes")
    return value, reader.leaves


def write(name, value):
    return TYPES[name].write(value)


U8, U16, U32, U64, BOOL = Number(1), Number(2), Number(4), Number(8), Bool()
OPAQUE, TEXT, REST = Opaque(), Text(), Rest()
IDENTIFIER, URI, NUL_FREE = Text(most=1024), Text(most=1024, uri=True), Text(nul=False)


def is_(name, *values):
    return lambda fields: fields[name] in values


def is_not(name, *values):
    return lambda fields: fields[name] not in values


def not_empty(name):
    return lambda fields: None if fields[name] else "empty"


# --- MLS: RFC 9420, mls-extensions, mls-ratchet-tree-options, mls-semiprivatemessage -------------------------------

VERSION_NAMES = {1: "mls10"}
VERSION = Enum(2, VERSION_NAMES)
SUITE = Enum(2, {
    1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", 2: "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
    3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", 4: "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448",
    5: "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", 6: "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448",
    7: "MLS_256_DHKEMP384_AES256GCM_SHA384_P384"})
WIRE_FORMAT_NAMES = {1: "mls_public_message", 2: "mls_private_message", 3: "mls_welcome", 4: "mls_group_info", 5: "mls_key_package",
                     0xf001: "mls_semiprivate_message"}
WIRE_FORMAT = Enum(2, WIRE_FORMAT_NAMES)
CONTENT_NAMES = {1: "application", 2: "proposal", 3: "commit"}
CONTENT = Enum(1, CONTENT_NAMES)
CONTENT_SELECTS = Enum(1, CONTENT_NAMES, selects=CONTENT_NAMES)
PROPOSAL_TYPE = Enum(2, {1: "add", 2: "update", 3: "remove", 4: "psk", 5: "reinit", 6: "external_init", 7: "group_context_extensions",
                         8: "app_data_update", 9: "app_ephemeral", 10: "self_remove"})
EXTENSION_TYPE = Enum(2, {1: "application_id", 2: "ratchet_tree", 3: "required_capabilities", 4: "external_pub", 5: "external_senders",
                          6: "app_data_dictionary", 7: "supported_wire_formats", 8: "required_wire_formats",
                          0xf008: "external_receivers", 0xf009: "ratchet_tree_source_domains"})
CREDENTIAL_TYPE = Enum(2, {1: "basic", 2: "x509", 3: "multi", 4: "weak-multi", 0xf001: "pseudonymous"})
COMPONENT = Enum(2, {
    1: "app_components", 2: "safe_aad", 3: "content_media_types", 4: "last_resort_key_package", 5: "app_ack", 0x20: "frank_aad",
    0x21: "franking_agent", 0x22: "participant_list", 0x23: "room_metadata", 0x24: "mls_operational_policy", 0x25: "roles_list",
    0x26: "preauth_list", 0x27: "base_room_policy", 0x28: "status_notification_policy", 0x29: "join_link_policy", 0x2a: "join_links",
    0x2b: "link_preview_policy", 0x2c: "asset_policy", 0x2d: "logging_policy", 0x2e: "chat_history_policy", 0x2f: "bot_policy",
    0x30: "message_expiration_policy"})

CREDENTIAL = Struct(
    ("credential_type", CREDENTIAL_TYPE),
    ("identity", OPAQUE, is_("credential_type", 1)),
    ("certificates", Vector(Struct(("cert_data", OPAQUE))), is_("credential_type", 2)),
    ("content", OPAQUE, is_not("credential_type", 1, 2)))
EXTENSION = Struct(("extension_type", EXTENSION_TYPE), ("extension_data", OPAQUE))
EXTENSIONS = Vector(EXTENSION)
CAPABILITIES = Struct(
    ("versions", Vector(VERSION)), ("cipher_suites", Vector(SUITE)), ("extensions", Vector(EXTENSION_TYPE)),
    ("proposals", Vector(PROPOSAL_TYPE)), ("credentials", Vector(CREDENTIAL_TYPE)))
REQUIRED_CAPABILITIES = Struct(
    ("extension_types", Vector(EXTENSION_TYPE)), ("proposal_types", Vector(PROPOSAL_TYPE)),
    ("credential_types", Vector(CREDENTIAL_TYPE)))
SOURCE_NAMES = {1: "key_package", 2: "update", 3: "commit"}
LEAF_NODE = Struct(
    ("encryption_key", OPAQUE), ("signature_key", OPAQUE), ("credential", CREDENTIAL), ("capabilities", CAPABILITIES),
    ("leaf_node_source", Enum(1, SOURCE_NAMES, selects=SOURCE_NAMES)),
    ("lifetime", Struct(("not_before", U64), ("not_after", U64)), is_("leaf_node_source", 1)),
    ("parent_hash", OPAQUE, is_("leaf_node_source", 3)),
    ("extensions", EXTENSIONS), ("signature", OPAQUE))
KEY_PACKAGE = Struct(
    ("version", VERSION), ("cipher_suite", SUITE), ("init_key", OPAQUE), ("leaf_node", LEAF_NODE), ("extensions", EXTENSIONS),
    ("signature", OPAQUE))
HPKE_CIPHERTEXT = Struct(("kem_output", OPAQUE), ("ciphertext", OPAQUE))
PSK_NAMES = {1: "external", 2: "resumption", 3: "application"}
PSK_ID = Struct(
    ("psktype", Enum(1, PSK_NAMES, selects=PSK_NAMES)),
    ("usage", U8, is_("psktype", 2)), ("psk_group_id", OPAQUE, is_("psktype", 2)), ("psk_epoch", U64, is_("psktype", 2)),
    ("component_id", COMPONENT, is_("psktype", 3)), ("psk_id", OPAQUE, is_("psktype", 1, 3)), ("psk_nonce", OPAQUE))
REINIT = Struct(("group_id", OPAQUE), ("version", VERSION), ("cipher_suite", SUITE), ("extensions", EXTENSIONS))
OPERATION_NAMES = {1: "update", 2: "remove"}
APP_DATA_UPDATE = Struct(
    ("component_id", COMPONENT), ("op", Enum(1, OPERATION_NAMES, selects=OPERATION_NAMES)), ("update", OPAQUE, is_("op", 1)))
APP_EPHEMERAL = Struct(("component_id", COMPONENT), ("data", OPAQUE))
PROPOSAL = Struct(
    ("proposal_type", PROPOSAL_TYPE),
    ("key_package", KEY_PACKAGE, is_("proposal_type", 1)), ("leaf_node", LEAF_NODE, is_("proposal_type", 2)),
    ("removed", U32, is_("proposal_type", 3)), ("psk", PSK_ID, is_("proposal_type", 4)), ("reinit", REINIT, is_("proposal_type", 5)),
    ("kem_output", OPAQUE, is_("proposal_type", 6)), ("extensions", EXTENSIONS, is_("proposal_type", 7)),
    ("app_data_update", APP_DATA_UPDATE, is_("proposal_type", 8)), ("app_ephemeral", APP_EPHEMERAL, is_("proposal_type", 9)),
    ("content", OPAQUE, is_not("proposal_type", *range(1, 11))))
BY_NAMES = {1: "proposal", 2: "reference"}
PROPOSAL_OR_REF = Struct(
    ("type", Enum(1, BY_NAMES, selects=BY_NAMES)), ("proposal", PROPOSAL, is_("type", 1)), ("reference", OPAQUE, is_("type", 2)))
UPDATE_PATH = Struct(
    ("leaf_node", LEAF_NODE),
    ("nodes", Vector(Struct(("encryption_key", OPAQUE), ("encrypted_path_secret", Vector(HPKE_CIPHERTEXT))))))
COMMIT = Struct(("proposals", Vector(PROPOSAL_OR_REF)), ("path", Optional(UPDATE_PATH)))
GROUP_CONTEXT = Struct(
    ("version", VERSION), ("cipher_suite", SUITE), ("group_id", OPAQUE), ("epoch", U64), ("tree_hash", OPAQUE),
    ("confirmed_transcript_hash", OPAQUE), ("extensions", EXTENSIONS))
GROUP_INFO = Struct(
    ("group_context", GROUP_CONTEXT), ("extensions", EXTENSIONS), ("confirmation_tag", OPAQUE), ("signer", U32), ("signature", OPAQUE))
WELCOME = Struct(
    ("cipher_suite", SUITE), ("secrets", Vector(Struct(("new_member", OPAQUE), ("encrypted_group_secrets", HPKE_CIPHERTEXT)))),
    ("encrypted_group_info", OPAQUE))
SENDER_NAMES = {1: "member", 2: "external", 3: "new_member_proposal", 4: "new_member_commit"}
SENDER = Struct(
    ("sender_type", Enum(1, SENDER_NAMES, selects=SENDER_NAMES)),
    ("leaf_index", U32, is_("sender_type", 1)), ("sender_index", U32, is_("sender_type", 2)))
FRAMED_CONTENT = Struct(
    ("group_id", OPAQUE), ("epoch", U64), ("sender", SENDER), ("authenticated_data", OPAQUE), ("content_type", CONTENT_SELECTS),
    ("application_data", OPAQUE, is_("content_type", 1)), ("proposal", PROPOSAL, is_("content_type", 2)),
    ("commit", COMMIT, is_("content_type", 3)))
PUBLIC_MESSAGE = Struct(
    ("content", FRAMED_CONTENT), ("signature", OPAQUE),
    ("confirmation_tag", OPAQUE, lambda fields: fields["content"]["content_type"] == 3),
    ("membership_tag", OPAQUE, lambda fields: fields["content"]["sender"]["sender_type"] == 1))
PRIVATE_MESSAGE = Struct(
    ("group_id", OPAQUE), ("epoch", U64), ("content_type", CONTENT_SELECTS), ("authenticated_data", OPAQUE),
    ("encrypted_sender_data", OPAQUE), ("ciphertext", OPAQUE))
SEMI_PRIVATE_MESSAGE = Struct(
    ("group_id", OPAQUE), ("epoch", U64),
    ("content_type", CONTENT_SELECTS, None, lambda fields: "content-type" if fields["content_type"] == 1 else None),
    ("authenticated_data", OPAQUE), ("partial_context_hash", OPAQUE),
    ("keys_for_external_receivers",
     Vector(Struct(("external_receiver_ref", OPAQUE), ("encrypted_keys_and_nonces", HPKE_CIPHERTEXT)))),
    ("framed_content_tbs_hash", OPAQUE), ("encrypted_sender_data", OPAQUE), ("ciphertext", OPAQUE))
MLS_MESSAGE = Struct(
    ("version", Enum(2, VERSION_NAMES, selects=VERSION_NAMES)),
    ("wire_format", Enum(2, WIRE_FORMAT_NAMES, selects=WIRE_FORMAT_NAMES)),
    ("public_message", PUBLIC_MESSAGE, is_("wire_format", 1)), ("private_message", PRIVATE_MESSAGE, is_("wire_format", 2)),
    ("welcome", WELCOME, is_("wire_format", 3)), ("group_info", GROUP_INFO, is_("wire_format", 4)),
    ("key_package", KEY_PACKAGE, is_("wire_format", 5)), ("semiprivate_message", SEMI_PRIVATE_MESSAGE, is_("wire_format", 0xf001)))
NODE_NAMES = {1: "leaf", 2: "parent"}
NODE = Struct(
    ("node_type", Enum(1, NODE_NAMES, selects=NODE_NAMES)), ("leaf_node", LEAF_NODE, is_("node_type", 1)),
    ("parent_node", Struct(("encryption_key", OPAQUE), ("parent_hash", OPAQUE), ("unmerged_leaves", Vector(U32))), is_("node_type", 2)))
RATCHET_TREE = Vector(Optional(NODE))
TREE_NAMES = {1: "full", 2: "httpsUri", 3: "outOfBand", 4: "distributionService"}
RATCHET_TREE_OPTION = Struct(
    ("representation", Enum(1, TREE_NAMES, selects=TREE_NAMES)), ("ratchet_tree", RATCHET_TREE, is_("representation", 1)),
    ("ratchet_tree_url", TEXT, is_("representation", 2)), ("tree_signature", OPAQUE, is_("representation", 2, 3)))
PARTIAL_GROUP_INFO = Struct(
    ("ratchet_tree_presence", Enum(1, {0: "no_ratchet_tree", 1: "present", 2: "removed", 3: "added"})),
    ("group_info_extensions", EXTENSIONS), ("signature", OPAQUE))
EXTERNAL_SENDER = Struct(("signature_key", OPAQUE), ("credential", CREDENTIAL))
BINDING = Struct(("cipher_suite", SUITE), ("credential", CREDENTIAL), ("credential_key", OPAQUE), ("signature", OPAQUE))


class Rising(Vector):
    """Entries in rising order of component."""

    def read(self, reader, place):
        length = reader.length()
        outer, reader.end = reader.end, reader.at + length
        items = []
        while reader.left():
            path, start = f"{place[0]}[{len(items)}]", reader.at
            items.append(step(reader, self.inner, path))
            if len(items) > 1:
                before, this = items[-2]["component_id"], items[-1]["component_id"]
                if before >= this:
                    raise Broken(start, "duplicate" if before == this else "unsorted", path)
        reader.end = outer
        return items


DICTIONARY = Struct(("component_data", Rising(Struct(("component_id", COMPONENT), ("data", OPAQUE)))))
SAFE_AAD = Struct(("aad_items", Rising(Struct(("component_id", COMPONENT), ("aad_item_data", OPAQUE)))))
MEDIA_TYPE = Struct(
    ("media_type", TEXT), ("parameters", Vector(Struct(("parameter_name", TEXT), ("parameter_value", TEXT)))))
WIRE_FORMATS = Struct(("wire_formats", Vector(WIRE_FORMAT)))


def no_tree(name):
    return lambda fields: "extension" if any(e["extension_type"] == 2 for e in fields[name]["extensions"]) else None


def content_of(message):
    fmt = message["wire_format"]
    return {1: lambda: message["public_message"]["content"]["content_type"], 2: lambda: message["private_message"]["content_type"],
            0xf001: lambda: message["semiprivate_message"]["content_type"]}.get(fmt, lambda: None)()


def handshake(name, *contents):
    def check(fields):
        message = fields[name]
        if message["wire_format"] not in (1, 0xf001):
            return "wire-format"
        return None if content_of(message) in contents else "content-type"
    return check


class Proposals(Vector):
    """Public or semi-private messages with a proposal each."""

    def read(self, reader, place):
        inner = self.inner

        class Checked:
            @staticmethod
            def read(reader, place):
                start = reader.at
                value = inner.read(reader, place)
                rule = handshake("it", 2)({"it": value})
                if rule:
                    raise Broken(start, rule, place[0])
                return value

        return Vector(Checked).read(reader, place)


# --- MIMI: the protocol -------------------------------------------------------------------------------------------

PROTOCOL = Enum(1, {1: "mls10"})
MLS10, OTHER = is_("protocol", 1), is_not("protocol", 1)
FRANK = Struct(("server_frank", Fixed(32)), ("franking_signature_ciphersuite", SUITE), ("franking_integrity_signature", OPAQUE))
FRANKING_CONTEXT = Struct(("sender_uri", IDENTIFIER), ("room_uri", IDENTIFIER), ("accepted_timestamp", U64))

KEY_MATERIAL_REQUEST = Struct(
    ("protocol", PROTOCOL), ("requesting_user", IDENTIFIER), ("target_user", IDENTIFIER), ("room_id", IDENTIFIER),
    ("acceptable_ciphersuites", Vector(SUITE), MLS10, not_empty("acceptable_ciphersuites")),
    ("required_capabilities", REQUIRED_CAPABILITIES, MLS10), ("requester_signature_key", OPAQUE, MLS10),
    ("requester_credential", CREDENTIAL, MLS10), ("key_material_request_signature", OPAQUE, MLS10), ("rest", REST, OTHER))
CLIENT_KEY_MATERIAL = Struct(
    ("client_status", Enum(1, {0: "success", 1: "keyMaterialExhausted", 2: "nothingCompatible"})), ("client_uri", IDENTIFIER),
    ("key_package", KEY_PACKAGE, is_("client_status", 0)), ("client_capabilities", Optional(CAPABILITIES), is_("client_status", 2)))
KEY_MATERIAL_RESPONSE = Struct(
    ("protocol", PROTOCOL),
    ("user_status", Enum(1, {0: "success", 1: "partialSuccess", 2: "incompatibleProtocol", 3: "noCompatibleMaterial", 4: "userUnknown",
                             5: "noConsent", 6: "noConsentForThisRoom", 7: "userDeleted"})),
    ("user_uri", IDENTIFIER),
    ("clients", Vector(CLIENT_KEY_MATERIAL), None,
     lambda fields: "not-empty" if fields["clients"] and fields["user_status"] in (2, 4, 5, 6, 7) else None))

GROUP_INFO_OPTION = Struct(
    ("representation", Enum(1, {1: "full", 2: "partial"}, selects=(1, 2))),
    ("group_info", GROUP_INFO, is_("representation", 1), no_tree("group_info")),
    ("partial_group_info", PARTIAL_GROUP_INFO, is_("representation", 2)))
BY_COMMIT = lambda fields: content_of(fields["proposal_or_commit"]) == 3
BY_PROPOSAL = lambda fields: content_of(fields["proposal_or_commit"]) == 2
UPDATE_REQUEST = Struct(
    ("proposal_or_commit", MLS_MESSAGE, None, handshake("proposal_or_commit", 2, 3)),
    ("welcome", Optional(WELCOME), BY_COMMIT), ("group_info_option", GROUP_INFO_OPTION, BY_COMMIT),
    ("ratchet_tree_option", RATCHET_TREE_OPTION, BY_COMMIT), ("more_proposals", Proposals(MLS_MESSAGE), BY_PROPOSAL))
UPDATE_RESPONSE = Struct(
    ("response_code", Enum(1, {0: "success", 1: "wrongEpoch", 2: "notAllowed", 3: "invalidProposal"})), ("error_description", TEXT),
    ("accepted_timestamp", U64, is_("response_code", 0)), ("current_epoch", U64, is_("response_code", 1)),
    ("invalid_proposals", Vector(OPAQUE), is_("response_code", 3)), ("rest", REST, is_not("response_code", 0, 1, 2, 3)))


def app_message(fields):
    message = fields["app_message"]
    if message["wire_format"] != 2:
        return "wire-format"
    return None if content_of(message) == 1 else "content-type"


SUBMIT_REQUEST = Struct(
    ("protocol", PROTOCOL), ("app_message", MLS_MESSAGE, MLS10, app_message), ("sending_uri", IDENTIFIER, MLS10), ("rest", REST, OTHER))
SUBMIT_RESPONSE = Struct(
    ("protocol", PROTOCOL), ("status_code", Enum(1, {0: "accepted", 1: "notAllowed", 2: "epochTooOld"}), MLS10),
    ("accepted_timestamp", U64, lambda fields: fields.get("status_code") == 0),
    ("frank", Optional(FRANK), lambda fields: fields.get("status_code") == 0),
    ("current_epoch", U64, lambda fields: fields.get("status_code") == 2),
    ("rest", REST, lambda fields: fields.get("status_code") not in (0, 1, 2)))


def fanned_out(fields):
    message = fields["message"]
    if message["wire_format"] in (4, 5):
        return "wire-format"
    if message["wire_format"] == 3:
        return None
    return None if (content_of(message) == 1) == (message["wire_format"] == 2) else "content-type"


FANOUT = Struct(
    ("timestamp", U64), ("message", MLS_MESSAGE, None, fanned_out),
    ("frank", Optional(FRANK), lambda fields: content_of(fields["message"]) == 1),
    ("ratchet_tree_option", RATCHET_TREE_OPTION, lambda fields: fields["message"]["wire_format"] == 3),
    ("more_proposals", Proposals(MLS_MESSAGE), lambda fields: content_of(fields["message"]) == 2),
    ("external_proposals", Proposals(MLS_MESSAGE), lambda fields: content_of(fields["message"]) == 3))

GROUP_INFO_REQUEST = Struct(
    ("protocol", PROTOCOL), ("cipher_suite", SUITE, MLS10), ("requesting_signature_key", OPAQUE, MLS10),
    ("requesting_credential", CREDENTIAL, MLS10), ("group_info_public_key", OPAQUE, MLS10), ("joining_code", OPAQUE, MLS10),
    ("signature", OPAQUE, MLS10), ("rest", REST, OTHER))
GRANTED = is_("status", 1)
GROUP_INFO_RESPONSE = Struct(
    ("version", PROTOCOL), ("room_id", IDENTIFIER), ("status", Enum(1, {1: "success", 2: "notAuthorized", 3: "noSuchRoom"})),
    ("cipher_suite", SUITE, GRANTED), ("hub_sender", EXTERNAL_SENDER, GRANTED),
    ("encrypted_groupinfo_and_tree", HPKE_CIPHERTEXT, GRANTED), ("signature", OPAQUE, GRANTED))
GROUP_INFO_TBE = Struct(
    ("group_info", GROUP_INFO, None, no_tree("group_info")), ("ratchet_tree_option", RATCHET_TREE_OPTION),
    ("pending_proposals", Vector(Struct(("proposal", MLS_MESSAGE, None, handshake("proposal", 2)), ("hub_accepted_time", U64)))))

CONSENT_SCOPE = (("requester_uri", IDENTIFIER), ("target_uri", IDENTIFIER), ("room_id", Optional(IDENTIFIER)))
CONSENT_ENTRY = Struct(
    ("consent_operation", Enum(1, {0: "cancel", 1: "request", 2: "grant", 3: "revoke"})), *CONSENT_SCOPE,
    ("client_key_packages", Vector(KEY_PACKAGE), is_("consent_operation", 2)), ("consent_extensions", DICTIONARY))
QUERY_ELEMENT = Struct(
    ("search_type", Enum(1, {1: "handle", 2: "nick", 3: "email", 4: "phone", 5: "partialName", 6: "wholeProfile", 7: "oidcStdClaim",
                             8: "vcardField"})),
    ("claim_name", TEXT, is_("search_type", 7)), ("property_name", TEXT, is_("search_type", 8)), ("search_value", TEXT))
PROFILE = Struct(
    ("stable_uri", IDENTIFIER),
    ("fields", Vector(Struct(("field_source", Enum(1, {7: "oidcStdClaim", 8: "vcardField"})), ("field_name", TEXT),
                             ("field_value", OPAQUE)))))
ABUSE_REPORT = Struct(
    ("reporting_user", IDENTIFIER), ("alleged_abuser_uri", IDENTIFIER), ("reason_code", Enum(1, {0: "reserved"})), ("note", TEXT),
    ("messages", Vector(Struct(("message_content", OPAQUE), ("frank", FRANK), ("accepted_timestamp", U64)))),
    ("abuse_extensions", DICTIONARY))
USER_ROLE = Struct(("user", IDENTIFIER), ("role_index", U32))

# --- MIMI: the room policy ----------------------------------------------------------------------------------------

CAPABILITY = Enum(2, {
    0x0000: "canAddParticipant", 0x0001: "canRemoveParticipant", 0x0002: "canAddOwnClient", 0x0003: "canRemoveOwnClient",
    0x0004: "canOpenJoin", 0x0005: "canJoinIfPreauthorized", 0x0006: "canRemoveSelf", 0x0007: "canCreateJoinCode",
    0x0008: "canDeleteJoinCode", 0x0009: "canUseJoinCode", 0x000a: "canBan", 0x000b: "canUnBan", 0x000c: "canKick", 0x000d: "canKnock",
    0x000e: "canAcceptKnock", 0x000f: "canChangeUserRole", 0x0010: "canChangeOwnRole", 0x0011: "canCreateSubgroup",
    0x0100: "canSendMessage", 0x0101: "canReceiveMessage", 0x0102: "canCopyMessage", 0x0103: "canReportAbuse",
    0x0104: "canReplyToMessage", 0x0105: "canReactToMessage", 0x0106: "canEditReaction", 0x0107: "canDeleteOwnReaction",
    0x0108: "canDeleteOtherReaction", 0x0109: "canEditOwnMessage", 0x010a: "canDeleteOwnMessage", 0x010b: "canDeleteOtherMessage",
    0x010c: "canStartTopic", 0x010d: "canReplyInTopic", 0x010e: "canEditOwnTopic", 0x010f: "canEditOtherTopic",
    0x0110: "canSendDirectMessage", 0x0111: "canTargetMessage", 0x0200: "canUploadImage", 0x0201: "canUploadAudio",
    0x0202: "canUploadVideo", 0x0203: "canUploadAttachment", 0x0204: "canDownloadImage", 0x0205: "canDownloadAudio",
    0x0206: "canDownloadVideo", 0x0207: "canDownloadAttachment", 0x0208: "canSendLink", 0x0209: "canSendLinkPreview",
    0x020a: "canFollowLink", 0x020b: "canCopyLink", 0x0300: "canChangeRoomName", 0x0301: "canChangeRoomDescription",
    0x0302: "canChangeRoomAvatar", 0x0303: "canChangeRoomSubject", 0x0304: "canChangeRoomMood", 0x0380: "canChangeOwnName",
    0x0381: "canChangeOwnPresence", 0x0382: "canChangeOwnMood", 0x0383: "canChangeOwnAvatar", 0x0400: "canStartCall",
    0x0401: "canJoinCall", 0x0402: "canSendAudio", 0x0403: "canReceiveAudio", 0x0404: "canSendVideo", 0x0405: "canReceiveVideo",
    0x0406: "canShareScreen", 0x0407: "canViewSharedScreen", 0x0500: "canCreateRoom", 0x0501: "canDestroyRoom",
    0x0502: "canChangeRoomMembershipStyle", 0x0503: "canChangeRoleDefinitions", 0x0504: "canChangePreauthorizedUserList",
    0x0505: "canChangeOtherPolicyAttribute", 0x0600: "canChangeMlsOperationalPolicies", 0x0601: "canSendMLSReinitProposal",
    0x0602: "canSendMLSUpdateProposal", 0x0603: "canSendMLSPSKProposal", 0x0604: "canSendMLSExternalProposal",
    0x0605: "canSendMLSExternalCommit"})
ROLE = Struct(
    ("role_index", U32), ("role_name", TEXT), ("role_description", TEXT), ("role_capabilities", Vector(CAPABILITY)),
    ("minimum_participants_constraint", U32), ("maximum_participants_constraint", Optional(U32)),
    ("minimum_active_participants_constraint", U32), ("maximum_active_participants_constraint", Optional(U32)),
    ("authorized_role_changes", Vector(Struct(("from_role_index", U32), ("target_role_indexes", Vector(U32))))))
PRE_AUTH = Struct(
    ("preauthorized_entries", Vector(Struct(
        ("claimset", Vector(Struct(
            ("claim_id", Struct(("credential_type", CREDENTIAL_TYPE), ("id", OPAQUE))), ("claim_value", OPAQUE)))),
        ("target_role", ROLE)))))
OPTIONALITY = Enum(1, {0: "optional", 1: "required", 2: "forbidden"}, closed=True)
EXTENDED_CAPABILITIES = Struct(
    ("versions", Vector(VERSION)), ("cipher_suites", Vector(SUITE)), ("extensions", Vector(EXTENSION_TYPE)),
    ("proposals", Vector(PROPOSAL_TYPE)), ("credentials", Vector(CREDENTIAL_TYPE)), ("wire_formats", WIRE_FORMATS),
    ("component_ids", Vector(COMPONENT)), ("safe_aad_types", Vector(COMPONENT)), ("media_types", Vector(MEDIA_TYPE)),
    ("content_types", Vector(CONTENT)))
MIN_DEFAULT_MAX = Struct(("minimum_time", U64), ("default_time", U64), ("maximum_time", U64))
OPERATIONAL = Struct(
    ("mandatory_capabilities", EXTENDED_CAPABILITIES), ("default_capabilities", EXTENDED_CAPABILITIES),
    ("forbidden_capabilities", EXTENDED_CAPABILITIES), ("handshake_formats", WIRE_FORMATS), ("external_proposal_allowed", BOOL),
    ("external_commit_allowed", BOOL),
    ("pending_proposal_policy", Struct(
        ("pending_proposal_strategy", Enum(1, {0: "unspecified", 1: "immediate_commit", 2: "random_delay"})),
        ("minimum_delay_ms", U64, is_("pending_proposal_strategy", 2)), ("maximum_delay_ms", U64, is_("pending_proposal_strategy", 2)),
        ("id_of_strategy_params", COMPONENT, is_not("pending_proposal_strategy", 0, 1, 2)))),
    ("leaf_node_update_time", MIN_DEFAULT_MAX),
    ("app_message_policy", Struct(("epoch_tolerance", U8), ("pad_to_size", U16), ("max_generations_skipahead", U32))),
    ("max_kp_lifetime", U64), ("max_credential_lifetime", U64), ("resumption_psk_lifetime", U64),
    ("sender_nonce_keypair_lifetime", MIN_DEFAULT_MAX), ("max_keypairs", U32), ("buffer_incoming_message_time", MIN_DEFAULT_MAX),
    ("max_buffered_messages", U32))
DOWNLOAD = Enum(1, {0: "direct", 1: "hubProxy", 2: "ohttp"})
ASSET_POLICY = Struct(
    ("asset_upload_location", Enum(1, {0: "unspecified", 1: "localProvider", 2: "hub"})),
    ("upload_domains", Vector(Struct(("provider", TEXT), ("asset_upload_destinations", Vector(TEXT))))),
    ("download_privacy", Struct(("allowed_download_types", Vector(DOWNLOAD)), ("forbidden_download_types", Vector(DOWNLOAD)),
                                ("default_download_type", DOWNLOAD))),
    ("max_image", U64), ("max_audio", U64), ("max_video", U64), ("max_attachment", U64), ("forbidden_media_types", Vector(MEDIA_TYPE)),
    ("permitted_media_types", Optional(Vector(MEDIA_TYPE))))


def never_required(fields):
    return "not-in-enumeration" if fields["autodetect_hyperlinks_in_text"] == 1 else None


LINK = Struct(("join_link", OPAQUE))
TYPES = {
    "KeyMaterialRequest": KEY_MATERIAL_REQUEST, "KeyMaterialResponse": KEY_MATERIAL_RESPONSE,
    "UpdateRequest": UPDATE_REQUEST, "UpdateRoomResponse": UPDATE_RESPONSE,
    "SubmitMessageRequest": SUBMIT_REQUEST, "SubmitMessageResponse": SUBMIT_RESPONSE,
    "FanoutMessages": Concatenated(FANOUT), "FanoutMessage": FANOUT,
    "GroupInfoRequest": GROUP_INFO_REQUEST, "GroupInfoResponse": GROUP_INFO_RESPONSE, "GroupInfoRatchetTreeTBE": GROUP_INFO_TBE,
    "ConsentEntry": CONSENT_ENTRY, "ConsentScope": Struct(*CONSENT_SCOPE),
    "IdentifierRequest": Struct(("query_elements", Vector(QUERY_ELEMENT)), ("id_request_extensions", DICTIONARY)),
    "IdentifierResponse": Struct(
        ("response_code", Enum(1, {0: "success", 1: "notFound", 2: "ambiguous", 3: "forbidden", 4: "unsupportedField"})),
        ("uri", Vector(IDENTIFIER)), ("found_profiles", Vector(PROFILE)), ("id_response_extensions", DICTIONARY)),
    "AbuseReport": ABUSE_REPORT,
    "IdentifierUri": IDENTIFIER, "Uri": URI,
    "Frank": FRANK, "ServerFrankingContext": FRANKING_CONTEXT,
    "FrankingIntegrityTBS": Struct(("server_frank", Fixed(32)), ("franking_signature_ciphersuite", SUITE), ("context", FRANKING_CONTEXT)),
    "FrankAAD": Struct(("franking_tag", Fixed(32))),
    "FrankingAgentData": Struct(("franking_signature_key", OPAQUE), ("credential", CREDENTIAL)),
    "PseudonymousCredential": Struct(("client_pseudonym", IDENTIFIER), ("user_pseudonym", IDENTIFIER), ("signature_public_key", OPAQUE),
                                     ("identity_link_ciphertext", OPAQUE)),
    "PseudonymousCredentialTBS": Struct(
        ("client_pseudonym", IDENTIFIER), ("user_pseudonym", IDENTIFIER), ("signature_public_key", OPAQUE)),
    "IdentityLinkTBE": Struct(("pseudonymous_credential_signature", OPAQUE), ("client_credential", CREDENTIAL)),
    "ParticipantListData": Struct(("participants", Vector(USER_ROLE))),
    "ParticipantListUpdate": Struct(
        ("changed_role_participants", Vector(Struct(("user_index", U32), ("role_index", U32)))), ("removed_indices", Vector(U32)),
        ("added_participants", Vector(USER_ROLE))),
    "RoomMetaData": Struct(
        ("room_uri", URI), ("room_name", NUL_FREE),
        ("room_descriptions", Vector(Struct(("media_type", TEXT), ("language_tag", TEXT), ("description_content", OPAQUE)))),
        ("room_avatar", URI), ("room_subject", NUL_FREE), ("room_mood", NUL_FREE)),
    "OperationalParameters": OPERATIONAL, "Role": ROLE, "RoleData": Struct(("roles", Vector(ROLE))), "PreAuthData": PRE_AUTH,
    "BaseRoomPolicy": Struct(
        ("fixed_membership", BOOL), ("parent_dependant", BOOL), ("parent_room", Vector(URI)), ("multi_device", BOOL),
        ("max_clients", Optional(U32)), ("max_users", Optional(U32)), ("pseudonyms_allowed", BOOL), ("persistent_room", BOOL),
        ("discoverable", BOOL), ("policy_component_ids", Vector(COMPONENT))),
    "StatusNotificationPolicy": Struct(("delivery_notifications", OPTIONALITY), ("read_receipts", OPTIONALITY)),
    "JoinLinkPolicy": Struct(("on_request", BOOL), ("join_link", URI), ("multiuser", BOOL), ("expiration", U32)),
    "JoinLinksData": Struct(("join_links", Vector(LINK))),
    "JoinLinksUpdate": Struct(("removed_indices", Vector(U32)), ("added_links", Vector(LINK))),
    "LinkPreviewPolicy": Struct(
        ("autodetect_hyperlinks_in_text", OPTIONALITY, None, never_required), ("send_link_previews", OPTIONALITY),
        ("automatic_link_previews", OPTIONALITY), ("link_preview_proxy_use", OPTIONALITY),
        ("link_preview_proxy", Vector(URI), is_not("link_preview_proxy_use", 2), not_empty("link_preview_proxy"))),
    "AssetPolicy": ASSET_POLICY,
    "LoggingPolicy": Struct(
        ("logging", OPTIONALITY), ("logging_clients", Vector(URI), is_not("logging", 2)),
        ("machine_readable_policy", URI, is_not("logging", 2)), ("human_readable_policy", URI, is_not("logging", 2))),
    "HistoryPolicy": Struct(
        ("history_sharing", OPTIONALITY), ("roles_that_can_share", Vector(U32), is_not("history_sharing", 2)),
        ("automatically_share", BOOL, is_not("history_sharing", 2)), ("max_time_period", U32, is_not("history_sharing", 2))),
    "BotPolicy": Struct(("allowed_bots", Vector(Struct(
        ("name", TEXT), ("description", TEXT), ("homepage", URI), ("local_client_bot", BOOL), ("bot_role_index", U32),
        ("can_target_message_in_group", BOOL), ("per_user_content", BOOL))))),
    "MessageExpiration": Struct(
        ("expiring_messages", OPTIONALITY), ("min_expiration_duration", U32, is_not("expiring_messages", 2)),
        ("max_expiration_duration", U32, is_not("expiring_messages", 2)),
        ("default_expiration_duration", Optional(U32), is_not("expiring_messages", 2))),
    "AppDataDictionary": DICTIONARY, "AppDataUpdate": APP_DATA_UPDATE, "AppEphemeral": APP_EPHEMERAL,
    "AppAck": Struct(("received_ranges", Vector(Struct(("sender", U32), ("first_generation", U32), ("last_generation", U32))))),
    "SafeAAD": SAFE_AAD, "ComponentsList": Struct(("component_ids", Vector(COMPONENT))), "WireFormats": WIRE_FORMATS,
    "MediaTypeList": Struct(("media_type_list", Vector(MEDIA_TYPE), None, not_empty("media_type_list"))),
    "ApplicationFraming": Struct(("media_type", MEDIA_TYPE), ("inner_application_content", OPAQUE)),
    "MLSMessage": MLS_MESSAGE, "PublicMessage": PUBLIC_MESSAGE, "PrivateMessage": PRIVATE_MESSAGE, "Commit": COMMIT,
    "SemiPrivateMessage": SEMI_PRIVATE_MESSAGE,
    "PerMessageKeyAndNonces": Struct(("key", OPAQUE), ("nonce", OPAQUE), ("reuse_guard", Fixed(4)), ("sender_leaf_index", U32)),
    "SemiPrivateMessageContext": Struct(("group_id", OPAQUE), ("epoch", U64), ("partial_context_hash", OPAQUE)),
    "ExternalReceiver": Struct(("external_receiver_public_key", OPAQUE), ("credential", CREDENTIAL)),
    "Proposal": PROPOSAL, "KeyPackage": KEY_PACKAGE, "LeafNode": LEAF_NODE, "Credential": CREDENTIAL,
    "MultiCredential": Struct(("bindings", Vector(BINDING))), "ExternalSender": EXTERNAL_SENDER,
    "CredentialBindingTBS": Struct(("cipher_suite", SUITE), ("credential", CREDENTIAL), ("credential_key", OPAQUE), ("signature_key", OPAQUE)),
    "RequiredCapabilities": REQUIRED_CAPABILITIES, "GroupContext": GROUP_CONTEXT, "GroupInfo": GROUP_INFO, "Welcome": WELCOME,
    "HPKECiphertext": HPKE_CIPHERTEXT, "RatchetTree": RATCHET_TREE, "PartialGroupInfo": PARTIAL_GROUP_INFO,
    "RatchetTreeOption": RATCHET_TREE_OPTION,
}

# --- Labels: RFC 9420 sections 5.1.2 and 5.1.3 --------------------------------------------------------------------


def labelled(label, content):
    return vector_of(b"MLS 1.0 " + label.encode()) + vector_of(content)


# --- HPKE with X25519, HKDF-SHA256 and AES-128-GCM: RFC 9180, RFC 7748, RFC 5869, FIPS 197, SP 800-38D --------------

FIELD = 2**255 - 19


def x25519(scalar, u):
    """The Montgomery ladder."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    k = int.from_bytes(k, "little")
    x1 = int.from_bytes(u, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for bit in range(254, -1, -1):
        this = k >> bit & 1
        if swap ^ this:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = this
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % FIELD, c * b % FIELD, a * a % FIELD, b * b % FIELD
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % FIELD, x1 * (da - cb) ** 2 % FIELD
        x2, z2 = aa * bb % FIELD, e * (aa + 121665 * e) % FIELD
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, FIELD - 2, FIELD) % FIELD).to_bytes(32, "little")


X25519_BASE = (9).to_bytes(32, "little")


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def expand(prk, info, length):
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def labeled_extract(suite, salt, label, ikm):
    return extract(salt or bytes(32), b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite, prk, label, info, length):
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def key_schedule(shared, info):
    suite = b"HPKE" + bytes([0, 0x20, 0, 1, 0, 1])
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    return labeled_expand(suite, secret, b"key", context, 16), labeled_expand(suite, secret, b"base_nonce", context, 12)


def kem_secret(dh, kem_output, public):
    suite = b"KEM" + bytes([0, 0x20])
    prk = labeled_extract(suite, b"", b"eae_prk", dh)
    return labeled_expand(suite, prk, b"shared_secret", kem_output + public, 32)


def hpke_seal(ephemeral, public, info, plaintext):
    kem_output = x25519(ephemeral, X25519_BASE)
    key, nonce = key_schedule(kem_secret(x25519(ephemeral, public), kem_output, public), info)
    return kem_output, gcm_seal(key, nonce, plaintext)


def hpke_open(private, kem_output, info, ciphertext):
    public = x25519(private, X25519_BASE)
    key, nonce = key_schedule(kem_secret(x25519(private, kem_output), kem_output, public), info)
    return gcm_open(key, nonce, ciphertext)


def aes_tables():
    box, p, q = [0] * 256, 1, 1
    while True:
        p = p ^ (p << 1 & 0xff) ^ (0x1b if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xff
        q ^= 0x09 if q & 0x80 else 0
        rotated = [q << n & 0xff | q >> (8 - n) for n in range(5)]
        box[p] = rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = aes_tables()


def double(byte):
    return byte << 1 & 0xff ^ (0x1b if byte & 0x80 else 0)


def aes_round_keys(key):
    words, constant = [list(key[i:i + 4]) for i in range(0, 16, 4)], 1
    while len(words) < 44:
        word = list(words[-1])
        if len(words) % 4 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = double(constant)
        words.append([a ^ b for a, b in zip(word, words[-4])])
    return [sum(words[i:i + 4], []) for i in range(0, 44, 4)]


def aes_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for number in range(1, 11):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < 10:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column:column + 4]
                every = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[i] ^ every ^ double(a[i] ^ a[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[number])]
    return bytes(state)


def gcm_multiply(x, y):
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xe1 << 120 if x & 1 else 0)
    return product


def gcm(key, nonce, data, encrypt):
    """The other text and the tag; no additional data."""
    keys = aes_round_keys(key)
    h = int.from_bytes(aes_block(keys, bytes(16)), "big")
    stream = b"".join(aes_block(keys, nonce + (n + 2).to_bytes(4, "big")) for n in range((len(data) + 15) // 16))
    other = bytes(a ^ b for a, b in zip(data, stream))
    ciphertext = other if encrypt else data
    tag = 0
    for at in range(0, len(ciphertext), 16):
        tag = gcm_multiply(tag ^ int.from_bytes(ciphertext[at:at + 16].ljust(16, b"\0"), "big"), h)
    tag = gcm_multiply(tag ^ 8 * len(ciphertext), h)
    mask = aes_block(keys, nonce + b"\0\0\0\1")
    return other, (tag ^ int.from_bytes(mask, "big")).to_bytes(16, "big")


def gcm_seal(key, nonce, plaintext):
    ciphertext, tag = gcm(key, nonce, plaintext, True)
    return ciphertext + tag


def gcm_open(key, nonce, sealed):
    plaintext, tag = gcm(key, nonce, sealed[:-16], False)
    return plaintext if hmac.compare_digest(tag, sealed[-16:]) else None


# --- Checking -----------------------------------------------------------------------------------------------------


class Mismatch(Exception):
    """A statement in a vector file that is not true."""


def expect(what, stated, computed):
    if stated != computed:
        raise Mismatch(f"{what}: stated {stated!r}, computed {computed!r}")


def unhex(entry, name):
    return bytes.fromhex(entry[name])


def check_struct(entry):
    data = unhex(entry, "hex")
    value, leaves = read(entry["type"], data)
    expect("fields", entry["fields"], leaves)
    expect("hex", entry["hex"], write(entry["type"], value).hex())
    for end in range(len(data)):
        try:
            shorter, _ = read(entry["type"], data[:end])
        except Broken as broken:
            if broken.offset > end:
                raise Mismatch(f"the error of the first {end} bytes lies beyond them") from None
            continue
        # Only what has no length of its own can be cut: a batch between messages, and what nothing is known about.
        if "rest" not in shorter and entry["type"] != "FanoutMessages":
            raise Mismatch(f"the first {end} bytes read, too")


def check_refused(entry):
    try:
        read(entry["type"], unhex(entry, "hex"))
    except Broken as broken:
        expect("where", [entry["offset"], entry["field"], entry["rule"]], [broken.offset, broken.field, broken.rule])
        return
    raise Mismatch("it is read")


def check_signature(entry):
    seed, payload = unhex(entry, "seed"), labelled(entry["label"], unhex(entry, "content"))
    expect("public", entry["public"], ed25519_public(seed).hex())
    expect("signature", entry["signature"], ed25519_sign(seed, payload).hex())
    if not ed25519_verify(unhex(entry, "public"), payload, unhex(entry, "signature")):
        raise Mismatch("the signature does not hold")
    if "struct" in entry:
        value, _ = read(entry["type"], unhex(entry, "struct"))
        expect("content", entry["content"], to_be_signed(entry["type"], value).hex())


def check_sealed(entry):
    info = labelled(entry["label"], unhex(entry, "context"))
    opened = hpke_open(unhex(entry, "private"), unhex(entry, "kem_output"), info, unhex(entry, "ciphertext"))
    expect("plaintext", entry["plaintext"], None if opened is None else opened.hex())
    read(entry["type"], unhex(entry, "plaintext"))


CHECKS = {"structs": check_struct, "refused": check_refused, "signatures": check_signature, "sealed": check_sealed}


def check(files):
    passed = failed = 0
    for name in files:
        try:
            document = json.loads(pathlib.Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for group, entries in document.items():
            if group == "note":
                continue
            for entry in entries:
                try:
                    CHECKS[group](entry)
                    passed += 1
                except (Mismatch, Broken, KeyError, ValueError) as error:
                    failed += 1
                    print(f"{name}: {group}: {entry.get('name')}: FAILED: {error}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def to_be_signed(name, value):
    """What the signature inside a struct covers."""
    kind = TYPES[name]
    if name == "GroupInfoRequest":
        head = Struct(*kind.fields[:5]).write(value)
        return head + (Optional(OPAQUE).write(value["joining_code"] or None))
    signature = {"KeyMaterialRequest": "key_material_request_signature"}.get(name, "signature")
    before = [field for field in kind.fields if field[0] not in (signature, "rest")]
    return Struct(*before).write(value)


# --- This project's own vectors -----------------------------------------------------------------------------------

ALICE, BOB, CATHY = "mimi://a.example/u/alice", "mimi://b.example/u/bob", "mimi://c.example/u/cathy"
ROOM, HUB = "mimi://a.example/r/clubhouse", "mimi://a.example"
TIME = 1764547200123


def basic(identity):
    return {"credential_type": 1, "identity": identity.encode()}


def filled(byte, count):
    return bytes([byte]) * count


def capabilities():
    return {"versions": [1], "cipher_suites": [1, 0x4a4a], "extensions": [6], "proposals": [8, 10], "credentials": [1]}


def leaf(identity, source):
    components = write("ComponentsList", {"component_ids": [1, 0x22]})
    dictionary = write("AppDataDictionary", {"component_data": [{"component_id": 1, "data": components}]})
    return {"encryption_key": filled(0xe1, 32), "signature_key": filled(0x51, 32), "credential": basic(identity),
            "capabilities": capabilities(), "leaf_node_source": source, "lifetime": {"not_before": 1764547200, "not_after": 1767225600},
            "parent_hash": filled(0x9a, 32), "extensions": [{"extension_type": 6, "extension_data": dictionary}],
            "signature": filled(0x52, 64)}


def key_package(identity):
    return {"version": 1, "cipher_suite": 1, "init_key": filled(0x1a, 32), "leaf_node": leaf(identity, 1), "extensions": [],
            "signature": filled(0x53, 64)}


def context(epoch, extensions=()):
    return {"version": 1, "cipher_suite": 1, "group_id": b"mimi://a.example/g/clubhouse", "epoch": epoch, "tree_hash": filled(0x7e, 32),
            "confirmed_transcript_hash": filled(0xc7, 32), "extensions": list(extensions)}


def group_info(extensions=()):
    return {"group_context": context(8), "extensions": list(extensions), "confirmation_tag": filled(0xcf, 32), "signer": 2,
            "signature": filled(0x54, 64)}


def public(sender, content_type, content):
    name = {2: "proposal", 3: "commit"}[content_type]
    return {"version": 1, "wire_format": 1, "public_message": {
        "content": {"group_id": b"mimi://a.example/g/clubhouse", "epoch": 7, "sender": sender, "authenticated_data": b"\0",
                    "content_type": content_type, name: content},
        "signature": filled(0x55, 64), "confirmation_tag": filled(0xcf, 32), "membership_tag": filled(0x3b, 32)}}


MEMBER, EXTERNAL, JOINER = {"sender_type": 1, "leaf_index": 2}, {"sender_type": 2, "sender_index": 0}, {"sender_type": 4}


def private(content_type=1, aad=b"\0"):
    return {"version": 1, "wire_format": 2, "private_message": {
        "group_id": b"mimi://a.example/g/clubhouse", "epoch": 7, "content_type": content_type, "authenticated_data": aad,
        "encrypted_sender_data": filled(0xed, 28), "ciphertext": filled(0xc1, 96)}}


def sealed_box(byte):
    return {"kem_output": filled(byte, 32), "ciphertext": filled(byte ^ 0xff, 48)}


def welcome():
    return {"cipher_suite": 1, "secrets": [{"new_member": filled(0x4b, 32), "encrypted_group_secrets": sealed_box(0x31)}],
            "encrypted_group_info": filled(0x32, 80)}


def semi_private(content_type=3):
    return {"group_id": b"mimi://a.example/g/clubhouse", "epoch": 7, "content_type": content_type, "authenticated_data": b"\0",
            "partial_context_hash": filled(0x33, 32),
            "keys_for_external_receivers": [{"external_receiver_ref": filled(0x34, 32), "encrypted_keys_and_nonces": sealed_box(0x35)}],
            "framed_content_tbs_hash": filled(0x36, 32), "encrypted_sender_data": filled(0x37, 28), "ciphertext": filled(0x38, 60)}


def tree():
    return [{"node_type": 1, "leaf_node": leaf("mimi://a.example/d/alice/1", 3)}, None,
            {"node_type": 2, "parent_node": {"encryption_key": filled(0xe2, 32), "parent_hash": b"", "unmerged_leaves": [2, 3]}},
            {"node_type": 1, "leaf_node": leaf("mimi://b.example/d/bob/1", 2)}]


def list_update():
    return {"changed_role_participants": [{"user_index": 1, "role_index": 1}], "removed_indices": [2],
            "added_participants": [{"user": CATHY, "role_index": 2}]}


def remove(leaf_index):
    return {"proposal_type": 3, "removed": leaf_index}


def said_by(sender):
    """MIMI content: a fish."""
    text = lambda words: (bytes([0x60 + len(words)]) if len(words) < 24 else bytes([0x78, len(words)])) + words.encode()
    return (bytes.fromhex("8750") + bytes(range(16)) + bytes.fromhex("f640f6f6a201") + text(sender) + b"\2" + text(ROOM)
            + bytes.fromhex("85016001") + text("text/plain;charset=utf-8") + b"\x46a fish")


def add_and_update():
    update = {"proposal_type": 8, "app_data_update": {"component_id": 0x22, "op": 1, "update": write("ParticipantListUpdate", list_update())}}
    return {"proposals": [
        {"type": 1, "proposal": {"proposal_type": 1, "key_package": key_package("mimi://c.example/d/cathy/1")}},
        {"type": 1, "proposal": update}, {"type": 2, "reference": filled(0x4f, 32)}],
        "path": {"leaf_node": leaf("mimi://a.example/d/alice/1", 3),
                 "nodes": [{"encryption_key": filled(0xe3, 32), "encrypted_path_secret": [sealed_box(0x39), sealed_box(0x3a)]}]}}


def external_commit():
    return {"proposals": [{"type": 1, "proposal": {"proposal_type": 6, "kem_output": filled(0x3c, 32)}}],
            "path": {"leaf_node": leaf("mimi://c.example/d/cathy/1", 3), "nodes": []}}


def frank():
    return {"server_frank": bytes(range(32)), "franking_signature_ciphersuite": 1, "franking_integrity_signature": filled(0x56, 64)}


def role(index, name, capabilities_, changes, most=None, active=None):
    return {"role_index": index, "role_name": name, "role_description": "", "role_capabilities": capabilities_,
            "minimum_participants_constraint": 0, "maximum_participants_constraint": most, "minimum_active_participants_constraint": 0,
            "maximum_active_participants_constraint": active,
            "authorized_role_changes": [{"from_role_index": a, "target_role_indexes": b} for a, b in changes]}


def extended(**given):
    empty = {name: [] for name in ("versions", "cipher_suites", "extensions", "proposals", "credentials", "component_ids",
                                   "safe_aad_types", "media_types", "content_types")}
    return {**empty, "wire_formats": {"wire_formats": []}, **given}


def times(*values):
    return dict(zip(("minimum_time", "default_time", "maximum_time"), values))


def operational(policy):
    return {"mandatory_capabilities": extended(versions=[1], cipher_suites=[1], extensions=[6], proposals=[8, 10], credentials=[1],
                                               wire_formats={"wire_formats": [1, 2]}, component_ids=[1, 0x22], safe_aad_types=[0x20],
                                               media_types=[plain_text()], content_types=[1, 2, 3]),
            "default_capabilities": extended(), "forbidden_capabilities": extended(extensions=[0xf0f0]),
            "handshake_formats": {"wire_formats": [1, 0xf001]}, "external_proposal_allowed": True, "external_commit_allowed": False,
            "pending_proposal_policy": policy, "leaf_node_update_time": times(1, 2, 3),
            "app_message_policy": {"epoch_tolerance": 1, "pad_to_size": 512, "max_generations_skipahead": 1000},
            "max_kp_lifetime": 7776000, "max_credential_lifetime": 31536000, "resumption_psk_lifetime": 86400,
            "sender_nonce_keypair_lifetime": times(4, 5, 6), "max_keypairs": 100, "buffer_incoming_message_time": times(7, 8, 9),
            "max_buffered_messages": 50}


def plain_text():
    return {"media_type": "text/plain", "parameters": [{"parameter_name": "charset", "parameter_value": "UTF-8"}]}


def media(name):
    return {"media_type": name, "parameters": []}


NO_EXTENSIONS = {"component_data": []}
SOME_EXTENSIONS = {"component_data": [{"component_id": 0x8001, "data": b"\1"}, {"component_id": 0x8002, "data": b""}]}


def endpoint_values():
    request = {"protocol": 1, "requesting_user": ALICE, "target_user": BOB, "room_id": ROOM, "acceptable_ciphersuites": [1, 2, 0x4a4a],
               "required_capabilities": {"extension_types": [6], "proposal_types": [8], "credential_types": [1]},
               "requester_signature_key": filled(0x51, 32), "requester_credential": basic("mimi://a.example/d/alice/1"),
               "key_material_request_signature": filled(0x57, 64)}
    yield "keyMaterial, request", "KeyMaterialRequest", request
    yield "keyMaterial, request outside of a room", "KeyMaterialRequest", {**request, "room_id": ""}
    yield "keyMaterial, request by an unknown protocol", "KeyMaterialRequest", {**request, "protocol": 2, "rest": b"who knows"}
    client = {"client_status": 0, "client_uri": "mimi://b.example/d/bob/1", "key_package": key_package("mimi://b.example/d/bob/1")}
    clients = [client, {"client_status": 1, "client_uri": "mimi://b.example/d/bob/2"},
               {"client_status": 2, "client_uri": "mimi://b.example/d/bob/3", "client_capabilities": None},
               {"client_status": 2, "client_uri": "mimi://b.example/d/bob/4", "client_capabilities": capabilities()}]
    response = {"protocol": 1, "user_status": 1, "user_uri": BOB, "clients": clients}
    yield "keyMaterial, some clients have key packages", "KeyMaterialResponse", response
    yield "keyMaterial, all clients have key packages", "KeyMaterialResponse", {**response, "user_status": 0, "clients": [client]}
    for status in (2, 3, 4, 5, 6, 7, 200):
        yield f"keyMaterial, status {status}", "KeyMaterialResponse", {**response, "user_status": status, "clients": []}

    commit = {"proposal_or_commit": public(MEMBER, 3, add_and_update()), "welcome": welcome(),
              "group_info_option": {"representation": 1, "group_info": group_info([{"extension_type": 4, "extension_data": vector_of(filled(0x3d, 32))}])},
              "ratchet_tree_option": {"representation": 1, "ratchet_tree": tree()}}
    partial = {"ratchet_tree_presence": 0, "group_info_extensions": [{"extension_type": 4, "extension_data": vector_of(filled(0x3d, 32))}],
               "signature": filled(0x54, 64)}
    yield "update, a commit", "UpdateRequest", commit
    yield "update, a commit with a partial GroupInfo, the tree left to the hub", "UpdateRequest", {
        **commit, "welcome": None, "group_info_option": {"representation": 2, "partial_group_info": partial},
        "ratchet_tree_option": {"representation": 4}}
    yield "update, a proposal with another", "UpdateRequest", {
        "proposal_or_commit": public(MEMBER, 2, {"proposal_type": 10}), "more_proposals": [public(MEMBER, 2, remove(3))]}
    yield "update, a semi-private proposal", "UpdateRequest", {
        "proposal_or_commit": {"version": 1, "wire_format": 0xf001, "semiprivate_message": semi_private(2)}, "more_proposals": []}
    for value in ({"response_code": 0, "error_description": "", "accepted_timestamp": TIME},
                  {"response_code": 1, "error_description": "stale epoch", "current_epoch": 7},
                  {"response_code": 2, "error_description": "n\u00f6"},
                  {"response_code": 3, "error_description": "", "invalid_proposals": [filled(0x4f, 32), b""]},
                  {"response_code": 9, "error_description": "new", "rest": b"\1\2\3"}):
        yield f"update, response {value['response_code']}", "UpdateRoomResponse", value

    yield "submitMessage, request", "SubmitMessageRequest", {"protocol": 1, "app_message": private(aad=frank_aad()), "sending_uri": ALICE}
    yield "submitMessage, request by an unknown protocol", "SubmitMessageRequest", {"protocol": 7, "rest": b"who knows"}
    yield "submitMessage, accepted and franked", "SubmitMessageResponse", {
        "protocol": 1, "status_code": 0, "accepted_timestamp": TIME, "frank": frank()}
    yield "submitMessage, accepted", "SubmitMessageResponse", {"protocol": 1, "status_code": 0, "accepted_timestamp": TIME, "frank": None}
    yield "submitMessage, not allowed", "SubmitMessageResponse", {"protocol": 1, "status_code": 1}
    yield "submitMessage, epoch too old", "SubmitMessageResponse", {"protocol": 1, "status_code": 2, "current_epoch": 7}
    yield "submitMessage, unknown status", "SubmitMessageResponse", {"protocol": 1, "status_code": 3, "rest": b"\1"}
    yield "submitMessage, response by an unknown protocol", "SubmitMessageResponse", {"protocol": 2, "rest": b""}

    fanned = {"an application message": {"timestamp": TIME, "message": private(), "frank": frank()},
              "an application message without a frank": {"timestamp": TIME, "message": private(), "frank": None},
              "a Welcome": {"timestamp": TIME, "message": {"version": 1, "wire_format": 3, "welcome": welcome()},
                            "ratchet_tree_option": {"representation": 1, "ratchet_tree": tree()}},
              "a proposal": {"timestamp": TIME, "message": public(EXTERNAL, 2, remove(3)), "more_proposals": [public(EXTERNAL, 2, remove(4))]},
              "an external commit": {"timestamp": TIME, "message": public(JOINER, 3, external_commit()),
                                     "external_proposals": [public(EXTERNAL, 2, remove(3))]},
              "a semi-private commit": {"timestamp": TIME, "message": {"version": 1, "wire_format": 0xf001, "semiprivate_message": semi_private()},
                                        "external_proposals": []}}
    for name, value in fanned.items():
        yield f"notify, {name}", "FanoutMessage", value
    yield "notify, two messages in one body", "FanoutMessages", [fanned["an application message"], fanned["a proposal"]]

    request = {"protocol": 1, "cipher_suite": 1, "requesting_signature_key": filled(0x51, 32),
               "requesting_credential": basic("mimi://c.example/d/cathy/2"), "group_info_public_key": filled(0x3e, 32),
               "joining_code": b"", "signature": filled(0x58, 64)}
    yield "groupInfo, request", "GroupInfoRequest", request
    yield "groupInfo, request with a code", "GroupInfoRequest", {**request, "joining_code": b"let me in"}
    yield "groupInfo, request by an unknown protocol", "GroupInfoRequest", {"protocol": 2, "rest": b"\xff"}
    yield "groupInfo, success", "GroupInfoResponse", {
        "version": 1, "room_id": ROOM, "status": 1, "cipher_suite": 1,
        "hub_sender": {"signature_key": filled(0x51, 32), "credential": basic(HUB)}, "encrypted_groupinfo_and_tree": sealed_box(0x40),
        "signature": filled(0x59, 64)}
    for status in (2, 3, 9):
        yield f"groupInfo, status {status}", "GroupInfoResponse", {"version": 1, "room_id": ROOM, "status": status}
    yield "groupInfo, what is sealed", "GroupInfoRatchetTreeTBE", {
        "group_info": group_info(), "ratchet_tree_option": {"representation": 1, "ratchet_tree": tree()},
        "pending_proposals": [{"proposal": public(MEMBER, 2, {"proposal_type": 10}), "hub_accepted_time": TIME}]}

    scope = {"requester_uri": ALICE, "target_uri": BOB, "room_id": None}
    yield "consent, a scope", "ConsentScope", scope
    yield "consent, a scope with a room", "ConsentScope", {**scope, "room_id": ROOM}
    for operation in (0, 1, 3, 9):
        yield f"consent, operation {operation}", "ConsentEntry", {
            **scope, "consent_operation": operation, "consent_extensions": NO_EXTENSIONS}
    yield "consent, a grant for a room with extensions", "ConsentEntry", {
        **scope, "room_id": ROOM, "consent_operation": 2, "client_key_packages": [key_package("mimi://b.example/d/bob/1")],
        "consent_extensions": SOME_EXTENSIONS}

    elements = [{"search_type": kind, "search_value": value} for kind, value in (
        (1, "im:alice.smith@a.example"), (2, "alice.smith"), (3, "asmith@a.example"), (4, "+12125551212"), (5, "mat"), (6, "x"), (77, ""))]
    elements += [{"search_type": 7, "claim_name": "given_name", "search_value": "Alice"},
                 {"search_type": 8, "property_name": "ORG", "search_value": "Caf\u00e9"}]
    yield "identifierQuery, request", "IdentifierRequest", {"query_elements": elements, "id_request_extensions": SOME_EXTENSIONS}
    profile = {"stable_uri": BOB, "fields": [{"field_source": 8, "field_name": "FN", "field_value": b"Bob"},
                                             {"field_source": 7, "field_name": "picture", "field_value": b"\xff"}]}
    yield "identifierQuery, success", "IdentifierResponse", {
        "response_code": 0, "uri": [BOB], "found_profiles": [profile], "id_response_extensions": NO_EXTENSIONS}
    for code in (1, 2, 3, 4, 99):
        yield f"identifierQuery, code {code}", "IdentifierResponse", {
            "response_code": code, "uri": [], "found_profiles": [], "id_response_extensions": NO_EXTENSIONS}

    message = {"message_content": said_by(BOB), "frank": frank(), "accepted_timestamp": TIME}
    report = {"reporting_user": ALICE, "alleged_abuser_uri": BOB, "reason_code": 0, "note": "spam", "messages": [message],
              "abuse_extensions": NO_EXTENSIONS}
    yield "reportAbuse, a report", "AbuseReport", report
    yield "reportAbuse, an anonymous report without messages", "AbuseReport", {**report, "reporting_user": "", "messages": [], "note": ""}

    yield "an identifier", "IdentifierUri", ALICE
    yield "no identifier", "IdentifierUri", ""
    yield "an identifier of 64 bytes", "IdentifierUri", "mimi://a.example/u/" + "x" * 45
    yield "a URI", "Uri", "https://a.example/picture.png?size=2#x"
    yield "a frank", "Frank", frank()
    franking = {"sender_uri": ALICE, "room_uri": ROOM, "accepted_timestamp": TIME}
    yield "what a frank vouches for", "ServerFrankingContext", franking
    yield "what a franking agent signs", "FrankingIntegrityTBS", {
        "server_frank": bytes(range(32)), "franking_signature_ciphersuite": 1, "context": franking}
    yield "a pseudonym", "PseudonymousCredential", {
        "client_pseudonym": "mimi://a.example/d/5f3c", "user_pseudonym": "mimi://a.example/u/9d0b", "signature_public_key": filled(0x51, 32),
        "identity_link_ciphertext": filled(0x41, 70)}
    yield "what ties a pseudonym to its owner", "PseudonymousCredentialTBS", {
        "client_pseudonym": "mimi://a.example/d/5f3c", "user_pseudonym": "mimi://a.example/u/9d0b", "signature_public_key": filled(0x51, 32)}
    yield "the link of a pseudonym", "IdentityLinkTBE", {
        "pseudonymous_credential_signature": filled(0x5a, 64), "client_credential": basic("mimi://a.example/d/alice/1")}


def frank_aad():
    return write("SafeAAD", {"aad_items": [{"component_id": 0x20, "aad_item_data": bytes(range(32))}]})


def component_values():
    yield "a franking tag", "FrankAAD", {"franking_tag": bytes(range(32))}
    yield "a franking agent", "FrankingAgentData", {"franking_signature_key": filled(0x51, 32), "credential": basic(HUB)}
    yield "participants", "ParticipantListData", {
        "participants": [{"user": ALICE, "role_index": 4}, {"user": BOB, "role_index": 2}, {"user": CATHY, "role_index": 1}]}
    yield "no participants", "ParticipantListData", {"participants": []}
    yield "participants change", "ParticipantListUpdate", list_update()
    yield "metadata", "RoomMetaData", {
        "room_uri": ROOM, "room_name": "Clubhouse \u2615",
        "room_descriptions": [{"media_type": "", "language_tag": "en", "description_content": b"Our club"},
                              {"media_type": "text/markdown", "language_tag": "de", "description_content": b"*Unser* Klub"}],
        "room_avatar": "https://a.example/club.png", "room_subject": "", "room_mood": "calm"}
    for policy in ({"pending_proposal_strategy": 0}, {"pending_proposal_strategy": 1},
                   {"pending_proposal_strategy": 2, "minimum_delay_ms": 100, "maximum_delay_ms": 5000},
                   {"pending_proposal_strategy": 3, "id_of_strategy_params": 0x8001}):
        yield f"operational policy, strategy {policy['pending_proposal_strategy']}", "OperationalParameters", operational(policy)
    member = role(2, "member", [0x0000, 0x0002, 0x0100, 0x0101, 0xf123], [(0, [2]), (2, [0, 3])])
    banned = role(1, "banned", [], [], active=0)
    yield "a role", "Role", member
    yield "roles", "RoleData", {"roles": [role(0, "no_role", [0x0009], [(0, [2])], active=0), banned, member, role(9, "chef \u2605", [0x0501], [], most=1)]}
    yield "a role for each capability", "RoleData", {"roles": [role(3, "all", sorted(CAPABILITY.names), [])]}
    yield "preauthorization", "PreAuthData", {"preauthorized_entries": [
        {"claimset": [{"claim_id": {"credential_type": 2, "id": bytes.fromhex("0603551d11")}, "claim_value": b"a.example"},
                      {"claim_id": {"credential_type": 1, "id": b""}, "claim_value": HUB.encode()}], "target_role": member},
        {"claimset": [], "target_role": banned}]}
    base = {"fixed_membership": False, "parent_dependant": False, "parent_room": [], "multi_device": True, "max_clients": None,
            "max_users": None, "pseudonyms_allowed": False, "persistent_room": True, "discoverable": True,
            "policy_component_ids": [0x25, 0x26, 0x8001]}
    yield "base policy", "BaseRoomPolicy", base
    yield "base policy of a direct message in a parent room", "BaseRoomPolicy", {
        **base, "fixed_membership": True, "parent_dependant": True, "parent_room": [ROOM], "max_clients": 10, "max_users": 2}
    yield "receipts", "StatusNotificationPolicy", {"delivery_notifications": 1, "read_receipts": 2}
    yield "join link policy", "JoinLinkPolicy", {"on_request": True, "join_link": "https://a.example/join", "multiuser": False, "expiration": 3600}
    yield "join links", "JoinLinksData", {"join_links": [{"join_link": b"https://a.example/j/1"}, {"join_link": b""}]}
    yield "join links change", "JoinLinksUpdate", {"removed_indices": [0], "added_links": [{"join_link": b"https://a.example/j/2"}]}
    preview = {"autodetect_hyperlinks_in_text": 0, "send_link_previews": 1, "automatic_link_previews": 2}
    yield "link previews without a proxy", "LinkPreviewPolicy", {**preview, "link_preview_proxy_use": 2}
    yield "link previews through a proxy", "LinkPreviewPolicy", {
        **preview, "link_preview_proxy_use": 1, "link_preview_proxy": ["https://p.example/"]}
    assets = {"asset_upload_location": 1, "upload_domains": [{"provider": "a.example", "asset_upload_destinations": ["assets.a.example"]},
                                                             {"provider": "b.example", "asset_upload_destinations": []}],
              "download_privacy": {"allowed_download_types": [1, 2], "forbidden_download_types": [0], "default_download_type": 2},
              "max_image": 1, "max_audio": 2, "max_video": 3, "max_attachment": 2**64 - 1, "forbidden_media_types": [media("application/x-sh")],
              "permitted_media_types": None}
    yield "assets of any type but one", "AssetPolicy", assets
    yield "assets of two types", "AssetPolicy", {**assets, "permitted_media_types": [media("image/png"), plain_text()]}
    yield "logging", "LoggingPolicy", {"logging": 1, "logging_clients": ["mimi://a.example/u/logger"], "machine_readable_policy": "",
                                       "human_readable_policy": "https://a.example/logging"}
    yield "no logging", "LoggingPolicy", {"logging": 2}
    yield "history", "HistoryPolicy", {"history_sharing": 0, "roles_that_can_share": [2, 4], "automatically_share": True, "max_time_period": 86400}
    yield "no history", "HistoryPolicy", {"history_sharing": 2}
    yield "bots", "BotPolicy", {"allowed_bots": [{
        "name": "Butler", "description": "serves", "homepage": "https://bots.example/", "local_client_bot": False, "bot_role_index": 5,
        "can_target_message_in_group": True, "per_user_content": False}]}
    yield "expiration", "MessageExpiration", {"expiring_messages": 1, "min_expiration_duration": 60, "max_expiration_duration": 604800,
                                              "default_expiration_duration": 3600}
    yield "expiration without a default", "MessageExpiration", {
        "expiring_messages": 0, "min_expiration_duration": 0, "max_expiration_duration": 60, "default_expiration_duration": None}
    yield "no expiration", "MessageExpiration", {"expiring_messages": 2}


def mls_values():
    yield "a dictionary", "AppDataDictionary", SOME_EXTENSIONS
    yield "an update of a component", "AppDataUpdate", {"component_id": 0x22, "op": 1, "update": write("ParticipantListUpdate", list_update())}
    yield "a component is removed", "AppDataUpdate", {"component_id": 0x2a, "op": 2}
    yield "something in passing", "AppEphemeral", {"component_id": 5, "data": b"\0"}
    yield "an acknowledgement", "AppAck", {"received_ranges": [{"sender": 2, "first_generation": 0, "last_generation": 7}]}
    yield "a SafeAAD with a franking tag", "SafeAAD", {"aad_items": [{"component_id": 0x20, "aad_item_data": bytes(range(32))},
                                                                    {"component_id": 0x8001, "aad_item_data": b"x"}]}
    yield "an empty SafeAAD", "SafeAAD", {"aad_items": []}
    yield "components", "ComponentsList", {"component_ids": [0x2a2a, 1, 0x22, 0xffff]}
    yield "wire formats", "WireFormats", {"wire_formats": [1, 2, 0x7777]}
    yield "media types", "MediaTypeList", {"media_type_list": [media("application/mimi-content"), plain_text()]}
    yield "framed content", "ApplicationFraming", {"media_type": media("application/mimi-content"), "inner_application_content": said_by(ALICE)}
    yield "framed content of the default type", "ApplicationFraming", {"media_type": media(""), "inner_application_content": b""}
    yield "a commit by a member", "MLSMessage", public(MEMBER, 3, add_and_update())
    yield "an external commit", "MLSMessage", public(JOINER, 3, external_commit())
    yield "a proposal by the hub", "MLSMessage", public(EXTERNAL, 2, remove(3))
    yield "a proposal to be added", "MLSMessage", public({"sender_type": 3}, 2, {"proposal_type": 1, "key_package": key_package("mimi://c.example/d/cathy/1")})
    yield "a private message", "MLSMessage", private(aad=frank_aad())
    yield "a Welcome in a message", "MLSMessage", {"version": 1, "wire_format": 3, "welcome": welcome()}
    yield "a GroupInfo in a message", "MLSMessage", {"version": 1, "wire_format": 4, "group_info": group_info()}
    yield "a key package in a message", "MLSMessage", {"version": 1, "wire_format": 5, "key_package": key_package("mimi://b.example/d/bob/1")}
    yield "a semi-private message in a message", "MLSMessage", {"version": 1, "wire_format": 0xf001, "semiprivate_message": semi_private()}
    yield "a public message by itself", "PublicMessage", public(EXTERNAL, 2, remove(3))["public_message"]
    yield "a public commit by itself", "PublicMessage", public(JOINER, 3, external_commit())["public_message"]
    yield "a private message by itself", "PrivateMessage", private(aad=frank_aad())["private_message"]
    yield "a Commit", "Commit", add_and_update()
    yield "a Commit of nothing", "Commit", {"proposals": [], "path": None}
    yield "a semi-private message", "SemiPrivateMessage", semi_private(2)
    yield "what opens a semi-private message", "PerMessageKeyAndNonces", {
        "key": filled(1, 16), "nonce": filled(2, 12), "reuse_guard": filled(3, 4), "sender_leaf_index": 4}
    yield "what those keys are bound to", "SemiPrivateMessageContext", {
        "group_id": b"mimi://a.example/g/clubhouse", "epoch": 7, "partial_context_hash": filled(0x33, 32)}
    yield "an external receiver", "ExternalReceiver", {"external_receiver_public_key": filled(0x42, 32), "credential": basic(HUB)}
    nonce = filled(9, 32)
    for name, value in (
            ("add", {"proposal_type": 1, "key_package": key_package("mimi://b.example/d/bob/1")}),
            ("update", {"proposal_type": 2, "leaf_node": leaf("mimi://b.example/d/bob/1", 2)}), ("remove", remove(5)),
            ("an external PSK", {"proposal_type": 4, "psk": {"psktype": 1, "psk_id": b"id", "psk_nonce": nonce}}),
            ("a resumption PSK", {"proposal_type": 4, "psk": {"psktype": 2, "usage": 1, "psk_group_id": b"g", "psk_epoch": 6, "psk_nonce": nonce}}),
            ("a component's PSK", {"proposal_type": 4, "psk": {"psktype": 3, "component_id": 0x8001, "psk_id": b"id", "psk_nonce": nonce}}),
            ("reinit", {"proposal_type": 5, "reinit": {"group_id": b"g2", "version": 1, "cipher_suite": 2, "extensions": []}}),
            ("external init", {"proposal_type": 6, "kem_output": filled(0x3c, 32)}),
            ("new extensions", {"proposal_type": 7, "extensions": [{"extension_type": 0x0a0a, "extension_data": b""}]}),
            ("app data update", {"proposal_type": 8, "app_data_update": {"component_id": 0x2a, "op": 2}}),
            ("app ephemeral", {"proposal_type": 9, "app_ephemeral": {"component_id": 5, "data": b"\0"}}),
            ("self remove", {"proposal_type": 10}), ("an unknown type", {"proposal_type": 0x0a0a, "content": b"\1"})):
        yield f"a proposal: {name}", "Proposal", value
    yield "a key package", "KeyPackage", key_package("mimi://b.example/d/bob/1")
    for source in SOURCE_NAMES:
        yield f"a leaf from {SOURCE_NAMES[source]}", "LeafNode", leaf("mimi://b.example/d/bob/1", source)
    yield "a basic credential", "Credential", basic("mimi://b.example/d/bob/1")
    yield "certificates", "Credential", {"credential_type": 2, "certificates": [{"cert_data": filled(0x30, 70)}, {"cert_data": b"\x30"}]}
    yield "an unknown credential", "Credential", {"credential_type": 0x7777, "content": b"\1"}
    yield "a multi-credential", "MultiCredential", {"bindings": [{
        "cipher_suite": 1, "credential": basic("alice@corp.example"), "credential_key": filled(0x51, 32), "signature": filled(0x5b, 64)}]}
    yield "what ties a credential to a leaf", "CredentialBindingTBS", {
        "cipher_suite": 1, "credential": basic("alice@corp.example"), "credential_key": filled(0x51, 32), "signature_key": filled(0x5d, 32)}
    yield "an external sender", "ExternalSender", {"signature_key": filled(0x51, 32), "credential": basic(HUB)}
    yield "required capabilities", "RequiredCapabilities", {"extension_types": [6], "proposal_types": [8, 9, 10], "credential_types": [1]}
    yield "a GroupContext", "GroupContext", context(8, [{"extension_type": 6, "extension_data": write("AppDataDictionary", SOME_EXTENSIONS)}])
    yield "a GroupInfo", "GroupInfo", group_info()
    yield "a GroupInfo with the tree inside", "GroupInfo", group_info([{"extension_type": 2, "extension_data": write("RatchetTree", tree())}])
    yield "a Welcome", "Welcome", welcome()
    yield "something sealed", "HPKECiphertext", sealed_box(0x43)
    yield "a tree", "RatchetTree", tree()
    yield "a partial GroupInfo", "PartialGroupInfo", {"ratchet_tree_presence": 2, "group_info_extensions": [], "signature": filled(0x54, 64)}
    yield "a tree at a URL", "RatchetTreeOption", {"representation": 2, "ratchet_tree_url": "https://a.example/t", "tree_signature": filled(0x5c, 64)}
    yield "a tree by another way", "RatchetTreeOption", {"representation": 3, "tree_signature": filled(0x5c, 64)}
    yield "a tree that the server has", "RatchetTreeOption", {"representation": 4}


def struct_entries(values):
    entries = []
    for name, kind, value in values:
        data = write(kind, value)
        _, leaves = read(kind, data)
        entries.append({"name": name, "type": kind, "hex": data.hex(), "fields": leaves})
    return entries


def refused_entry(name, kind, data):
    try:
        read(kind, data)
    except Broken as broken:
        return {"name": name, "type": kind, "hex": data.hex(), "offset": broken.offset, "field": broken.field, "rule": broken.rule}
    raise AssertionError(f"{name} is read")


HAND_MADE = [
    ("a length of 5 in two bytes", "IdentifierUri", "40056162636465"),
    ("a length of 5 in four bytes", "IdentifierUri", "800000056162636465"),
    ("a length of eight bytes", "IdentifierUri", "c0000000000000056162636465"),
    ("a length that lies", "ParticipantListData", "bfffffff"),
    ("a URI that is too long", "IdentifierUri", "4401" + "61" * 1025),
    ("a URI that is no UTF-8", "IdentifierUri", "0361ff62"),
    ("a surrogate in a text", "UpdateRoomResponse", "0203eda080"),
    ("a null character in a name", "RoomMetaData", "0003610062000000" + "00"),
    ("a room named by no URI", "RoomMetaData", "056120622063" + "0000000000"),
    ("a boolean of 2", "BaseRoomPolicy", "02"),
    ("a presence octet of 2", "MessageExpiration", "00" + "00000001" + "00000002" + "02"),
    ("an Optionality of 3", "StatusNotificationPolicy", "0003"),
    ("detecting links is required", "LinkPreviewPolicy", "01000002"),
    ("no proxy for previews", "LinkPreviewPolicy", "0000000100"),
    ("no acceptable suite", "KeyMaterialRequest", "01000000" + "00" + "000000" + "00" + "000100" + "00"),
    ("clients without consent", "KeyMaterialResponse", "010500" + "03010161"),
    ("a dictionary out of order", "AppDataDictionary", "06" + "002300" + "002200"),
    ("a component twice", "AppDataDictionary", "06" + "002200" + "002200"),
    ("a SafeAAD item twice", "SafeAAD", "06" + "002000" + "002000"),
    ("a SafeAAD with a tail", "SafeAAD", "0000"),
    ("a franking tag of 31 bytes", "FrankAAD", "00" * 31),
    ("a franking tag with a length", "FrankAAD", "20" + "00" * 32),
    ("no media types", "MediaTypeList", "00"),
    ("an operation that is not known", "AppDataUpdate", "00220300"),
    ("an invalid operation", "AppDataUpdate", "002200"),
    ("another version of MLS", "MLSMessage", "00020001"),
    ("a wire format that is not known", "MLSMessage", "00010006"),
    ("a sender that is not known", "MLSMessage", "00010001" + "00" + "00" * 8 + "05"),
    ("content that is not known", "MLSMessage", "00010002" + "00" + "00" * 8 + "04"),
    ("application data in a semi-private message", "SemiPrivateMessage", "00" + "00" * 8 + "01"),
    ("a representation of the tree that is not known", "RatchetTreeOption", "05"),
    ("a node that is not known", "RatchetTree", "020103"),
    ("no message to fan out", "FanoutMessages", ""),
]


def refused_entries(values):
    entries = [refused_entry(name, kind, bytes.fromhex(data)) for name, kind, data in HAND_MADE]
    message = lambda value: MLS_MESSAGE.write(value)
    time = U64.write(TIME)
    proposal, commit = message(public(MEMBER, 2, remove(3))), message(public(MEMBER, 3, external_commit()))
    group_info_message = message({"version": 1, "wire_format": 4, "group_info": group_info()})
    inside = GROUP_INFO.write(group_info([{"extension_type": 2, "extension_data": b"\0"}]))
    entries += [refused_entry(*each) for each in (
        ("a handshake in a private message", "UpdateRequest", message(private(2)) + b"\0"),
        ("an application message as an update", "UpdateRequest", message(private()) + b"\0"),
        ("a commit among more proposals", "UpdateRequest", proposal + vector_of(commit)),
        ("a GroupInfo with the tree inside", "UpdateRequest", commit + b"\0\1" + inside + b"\4"),
        ("a GroupInfo of a representation that is not known", "UpdateRequest", commit + b"\0\3"),
        ("a public message as a submission", "SubmitMessageRequest", b"\1" + proposal + b"\0"),
        ("a private commit as a submission", "SubmitMessageRequest", b"\1" + message(private(3)) + b"\0"),
        ("a GroupInfo fanned out", "FanoutMessage", time + group_info_message),
        ("a private commit fanned out", "FanoutMessage", time + message(private(3))),
        ("a sealed tree inside a GroupInfo", "GroupInfoRatchetTreeTBE", inside + b"\4\0"),
        ("a pending commit", "GroupInfoRatchetTreeTBE",
         GROUP_INFO.write(group_info()) + b"\4" + vector_of(commit + time)))]
    for name, kind, value in values:
        data = write(kind, value)
        if name.endswith("unknown protocol") or "rest" in (value if isinstance(value, dict) else {}) or kind == "FanoutMessages":
            continue
        for what, broken in (("cut in half", data[:len(data) // 2]), ("cut by a byte", data[:-1]), ("and a byte", data + b"\0")):
            entries.append(refused_entry(f"{name}, {what}", kind, broken))
    return entries


def signature_entries():
    seed = bytes(range(32))
    public_key = ed25519_public(seed)

    def signed(name, kind, label, value, field="signature"):
        content = to_be_signed(kind, value)
        signature = ed25519_sign(seed, labelled(label, content))
        return {"name": name, "type": kind, "suite": 1, "label": label, "content": content.hex(), "seed": seed.hex(),
                "public": public_key.hex(), "signature": signature.hex(), "struct": write(kind, {**value, field: signature}).hex()}

    request = {"protocol": 1, "requesting_user": ALICE, "target_user": BOB, "room_id": ROOM, "acceptable_ciphersuites": [1],
               "required_capabilities": {"extension_types": [6], "proposal_types": [8], "credential_types": [1]},
               "requester_signature_key": public_key, "requester_credential": basic("mimi://a.example/d/alice/1")}
    ask = {"protocol": 1, "cipher_suite": 1, "requesting_signature_key": public_key,
           "requesting_credential": basic("mimi://c.example/d/cathy/2"), "group_info_public_key": filled(0x3e, 32), "joining_code": b""}
    answer = {"version": 1, "room_id": ROOM, "status": 1, "cipher_suite": 1,
              "hub_sender": {"signature_key": public_key, "credential": basic(HUB)}, "encrypted_groupinfo_and_tree": sealed_box(0x40)}
    entries = [
        signed("a request for key packages", "KeyMaterialRequest", "KeyMaterialRequestTBS", request, "key_material_request_signature"),
        signed("a request for a GroupInfo", "GroupInfoRequest", "GroupInfoRequestTBS", ask),
        signed("a request for a GroupInfo with a code", "GroupInfoRequest", "GroupInfoRequestTBS", {**ask, "joining_code": b"let me in"}),
        signed("an answer with a GroupInfo", "GroupInfoResponse", "GroupInfoResponseTBS", answer),
        signed("a GroupInfo", "GroupInfo", "GroupInfoTBS", group_info())]
    franking = {"sender_uri": ALICE, "room_uri": ROOM, "accepted_timestamp": TIME}
    alone = [
        ("a frank", "FrankingIntegrityTBS", write("FrankingIntegrityTBS", {
            "server_frank": bytes(range(32)), "franking_signature_ciphersuite": 1, "context": franking})),
        ("a pseudonym", "PseudonymousCredentialTBS", IDENTIFIER.write("mimi://a.example/d/5f3c") + IDENTIFIER.write("mimi://a.example/u/9d0b")
         + OPAQUE.write(filled(0x51, 32))),
        ("a credential binding", "CredentialBindingTBS", SUITE.write(1) + CREDENTIAL.write(basic("alice@corp.example"))
         + OPAQUE.write(public_key) + OPAQUE.write(filled(0x51, 32)))]
    for name, label, content in alone:
        entries.append({"name": name, "suite": 1, "label": label, "content": content.hex(), "seed": seed.hex(), "public": public_key.hex(),
                        "signature": ed25519_sign(seed, labelled(label, content)).hex()})
    return entries


def sealed_entries():
    private_key, ephemeral = hashlib.sha256(b"the recipient").digest(), hashlib.sha256(b"the sender").digest()
    tbe = {"group_info": group_info(), "ratchet_tree_option": {"representation": 4},
           "pending_proposals": [{"proposal": public(MEMBER, 2, {"proposal_type": 10}), "hub_accepted_time": TIME}]}
    keys = {"key": filled(1, 16), "nonce": filled(2, 12), "reuse_guard": filled(3, 4), "sender_leaf_index": 4}
    bound = {"group_id": b"mimi://a.example/g/clubhouse", "epoch": 7, "partial_context_hash": filled(0x33, 32)}
    entries = []
    for name, kind, label, value, bound_to in (
            ("what a joiner needs", "GroupInfoRatchetTreeTBE", "GroupInfo and ratchet_tree encryption", tbe, ROOM.encode()),
            ("the keys of a semi-private message", "PerMessageKeyAndNonces", "SemiPrivateMessageReceiver", keys,
             write("SemiPrivateMessageContext", bound))):
        plaintext = write(kind, value)
        kem_output, ciphertext = hpke_seal(ephemeral, x25519(private_key, X25519_BASE), labelled(label, bound_to), plaintext)
        entries.append({"name": name, "type": kind, "suite": 1, "label": label, "context": bound_to.hex(), "private": private_key.hex(),
                        "plaintext": plaintext.hex(), "kem_output": kem_output.hex(), "ciphertext": ciphertext.hex()})
    return entries


def generate(directory):
    endpoints, components, mls = list(endpoint_values()), list(component_values()), list(mls_values())
    files = {
        "endpoints.json": {"note": "bodies of requests and responses, and what they are made of", "structs": struct_entries(endpoints)},
        "components.json": {"note": "the room's state and policy", "structs": struct_entries(components)},
        "mls.json": {"note": "the MLS that MIMI carries", "structs": struct_entries(mls)},
        "refused.json": {"note": "what is no encoding, and where it breaks", "refused": refused_entries(endpoints + components + mls)},
        "labels.json": {"note": "signatures and sealing with a label", "signatures": signature_entries(), "sealed": sealed_entries()},
    }
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name, document in files.items():
        lines = [" " + json.dumps("note") + ": " + json.dumps(document.pop("note"))]
        for group, entries in document.items():
            rows = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries)
            lines.append(f" {json.dumps(group)}: [\n{rows}\n ]")
        (target / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
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
