#!/usr/bin/env python3
"""MIMI content (draft-ietf-mimi-content-08) a second time, to check the first: codec, message IDs, franking, sealing; and message
status reports (draft-mahy-mimi-message-status-01).

    mimi_content.py generate DIRECTORY   write content.json, the same every time
    mimi_content.py status DIRECTORY     write status.json, the same every time
    mimi_content.py check FILE...        recompute everything that such files state
    mimi_content.py id SENDER ROOM FILE  the message ID of an encoded message

Nothing but Python 3 is needed; Ed25519 is that of lm_vectors.py beside this file. The form of the files is described in drafts/README.md.
"""

import hashlib
import hmac
import json
import os
import struct
import sys

from lm_vectors import ed25519_public, ed25519_sign

# --- writing -----------------------------------------------------------------------------------------------------------


def head(major, number):
    """The head of an item in its shortest form."""
    major <<= 5
    if number < 24:
        return bytes([major | number])
    for info, form, limit in ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32), (27, ">Q", 1 << 64)):
        if number < limit:
            return bytes([major | info]) + struct.pack(form, number)
    raise ValueError(number)


class Raw(bytes):
    """An item that is encoded already."""


def item(value):
    """A value as a CBOR item: lists are arrays, maps are sorted by their encoded keys."""
    if isinstance(value, Raw):
        return bytes(value)
    if value is None:
        return b"\xf6"
    if value is False:
        return b"\xf4"
    if value is True:
        return b"\xf5"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return head(3, len(data)) + data
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(item, value))
    if isinstance(value, dict):
        pairs = sorted((item(key), item(entry)) for key, entry in value.items())
        return head(5, len(value)) + b"".join(key + entry for key, entry in pairs)
    raise TypeError(value)


FIELDS = ["salt", "replaces", "topicId", "expires", "inReplyTo", "mimiExtensions", "nestedPart"]


def single(text="a fish", disposition=1, language="", content_type="text/plain;charset=utf-8"):
    content = text if isinstance(text, bytes) else text.encode()
    return [disposition, language, 1, content_type, content]


def multi(semantics, parts, disposition=1, language=""):
    return [disposition, language, 3, semantics, parts]


def external(disposition=6, language="", **fields):
    values = {"contentType": "", "url": "https://files.example/x", "expires": 0, "size": 0, "encAlg": 0, "key": b"",
              "nonce": b"", "aad": b"", "hashAlg": 0, "contentHash": b"", "description": "", "filename": ""}
    assert set(fields) <= set(values)
    return [disposition, language, 2, *(values | fields).values()]


class Message:
    """The seven fields of a message, with the offset at which each begins."""

    def __init__(self, sender="mimi://a.example/u/alice", room="mimi://a.example/r/fish", **fields):
        self.sender, self.room = sender, room
        values = {"salt": bytes(range(16)), "replaces": None, "topicId": b"", "expires": None, "inReplyTo": None,
                  "mimiExtensions": {1: sender, 2: room}, "nestedPart": single()}
        assert set(fields) <= set(values)
        self.items = [item((values | fields)[name]) for name in FIELDS]

    def bytes(self):
        return b"\x87" + b"".join(self.items)

    def offset(self, field):
        return 1 + sum(map(len, self.items[: FIELDS.index(field)]))


# --- reading -----------------------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, offset, rule):
        super().__init__(offset, rule)
        self.offset, self.rule = offset, rule


KINDS = ["an unsigned integer", "a negative integer", "a byte string", "a text string", "an array", "a map", "a tag"]


class Reader:
    """Reads items one after the other and refuses what is not deterministic."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def head(self):
        at, data = self.at, self.data
        if at >= len(data):
            raise Refused(at, "ends 1 bytes early")
        major, info = data[at] >> 5, data[at] & 31
        if info < 24:
            self.at += 1
            return at, major, info, info
        if info == 31 and major not in (0, 1, 6):
            raise Refused(at, "indefinite length")
        if info > 27:
            raise Refused(at, "not CBOR")
        width = 1 << (info - 24)
        digits = data[at + 1 : at + 1 + width]
        if len(digits) < width:
            raise Refused(at, f"ends {width - len(digits)} bytes early")
        number = int.from_bytes(digits, "big")
        self.at += 1 + width
        if major == 7:
            self.simple(at, info, digits, number)
        elif number < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
            raise Refused(at, "number not in its shortest form")
        return at, major, info, number

    @staticmethod
    def simple(at, info, digits, number):
        if info == 24:
            if number < 32:
                raise Refused(at, "not CBOR")
            return
        value = struct.unpack({25: ">e", 26: ">f", 27: ">d"}[info], digits)[0]
        if value != value:
            if digits != b"\x7e\x00":
                raise Refused(at, "a NaN other than F97E00")
            return
        for shorter in {25: [], 26: [">e"], 27: [">e", ">f"]}[info]:
            try:
                if struct.unpack(shorter, struct.pack(shorter, value))[0] == value:
                    raise Refused(at, "floating point number not in its shortest form")
            except OverflowError:
                pass

    def kind(self, at):
        first = self.data[at]
        if first >> 5 < 7:
            return KINDS[first >> 5]
        named = {0xF4: "a boolean", 0xF5: "a boolean", 0xF6: "null"}
        return named.get(first, "a floating point number" if 0xF9 <= first <= 0xFB else "a simple value")

    def expect(self, major):
        at, found, _, number = self.head()
        if found != major:
            raise Refused(at, f"is {self.kind(at)}, must be {KINDS[major]}")
        return at, number

    def unsigned(self, maximum=(1 << 64) - 1):
        at, number = self.expect(0)
        if number > maximum:
            raise Refused(at, f"more than {maximum}")
        return number

    def take(self, at, length):
        rest = len(self.data) - self.at
        if length > rest:
            raise Refused(at, f"ends {length - rest} bytes early")
        self.at += length
        return self.data[self.at - length : self.at]

    def bytes(self, length=None):
        at, found = self.expect(2)
        data = self.take(at, found)
        if length is not None and found != length:
            raise Refused(at, f"has {found} bytes, must have {length}")
        return data

    def text(self):
        at, length = self.expect(3)
        return self.utf8(at, length)

    def utf8(self, at, length):
        try:
            return self.take(at, length).decode()
        except UnicodeDecodeError:
            raise Refused(at, "text is not UTF-8") from None

    def array(self, length=None):
        at, found = self.expect(4)
        if length is not None and found != length:
            raise Refused(at, f"has {found} elements, must have {length}")
        return found

    def key(self, last, extension):
        """A key of a map, after `last` in bytewise order."""
        at, major, _, number = self.head()
        value = None
        if major in (0, 1):
            if number > (1 << 53) - 1 - major:
                raise Refused(at, "integer key beyond 2^53 - 1")
            value = number if major == 0 else -1 - number
        elif major == 3:
            value = self.utf8(at, number)
            if extension and not value:
                raise Refused(at, "empty")
            if extension and number > 255:
                raise Refused(at, "longer than 255 bytes")
        elif major == 2 and not extension:
            self.take(at, number)
        else:
            kinds = "an integer or a text string" if extension else "an integer, a text string or a byte string"
            raise Refused(at, f"is {self.kind(at)}, must be {kinds}")
        encoded = self.data[at : self.at]
        if last is not None and encoded == last:
            raise Refused(at, "key twice in one map")
        if last is not None and encoded < last:
            raise Refused(at, "key out of order")
        return encoded, value

    def value(self, level):
        at, major, _, number = self.head()
        if major in (4, 5, 6) and level > 4:
            raise Refused(at, "more than 4 levels deep")
        if major == 2:
            self.take(at, number)
        elif major == 3:
            self.utf8(at, number)
        elif major == 4:
            for _ in range(number):
                self.value(level + 1)
        elif major == 5:
            last = None
            for _ in range(number):
                last, _ = self.key(last, extension=False)
                self.value(level + 1)
        elif major == 6:
            inner = self.at
            self.value(level + 1)
            if number in (2, 3):
                if self.data[inner] >> 5 != 2:
                    raise Refused(inner, f"is {self.kind(inner)}, must be a byte string")
                bigint = Reader(self.data[inner : self.at]).bytes()
                if len(bigint) <= 8 or bigint[0] == 0:
                    raise Refused(inner, "bigint that fits a shorter form")
        return at

    def id(self):
        at = self.at
        if self.data[at : at + 1] == b"\xf6":
            self.at += 1
            return None
        value = self.bytes(32)
        if value[0] != 1:
            raise Refused(at, f"message ID with unknown hash algorithm {value[0]}")
        return value


def read_part(reader, level, count):
    at = reader.at
    length = reader.array()
    if level > 4:
        raise Refused(at, "more than 4 levels deep")
    if count[0] == 1024:
        raise Refused(at, "more than 1024 parts")
    count[0] += 1
    if length < 3:
        raise Refused(at, f"has {length} elements, must have 3")
    reader.unsigned(255)
    reader.text()
    cardinality_at = reader.at
    cardinality = reader.unsigned()
    if cardinality > 3:
        raise Refused(cardinality_at, f"unknown cardinality {cardinality}")
    expected = (3, 5, 15, 5)[cardinality]
    if length != expected:
        raise Refused(at, f"has {length} elements, must have {expected}")
    cardinalities = [cardinality]
    if cardinality == 1:
        reader.text()
        reader.bytes()
    elif cardinality == 2:
        read_external(reader)
    elif cardinality == 3:
        at = reader.at
        semantics = reader.unsigned()
        if semantics > 2:
            raise Refused(at, f"unknown part semantics {semantics}")
        at = reader.at
        parts = reader.array()
        if parts < 2:
            raise Refused(at, "fewer than 2 parts")
        for _ in range(parts):
            cardinalities += read_part(reader, level + 1, count)
    return cardinalities


def read_external(reader):
    reader.text()
    reader.text()
    reader.unsigned((1 << 32) - 1)
    reader.unsigned()
    cipher = reader.unsigned((1 << 16) - 1)
    values = []
    for _ in range(3):
        values.append((reader.at, reader.bytes()))
    if cipher == 0:
        for at, value in values:
            if value:
                raise Refused(at, "must be empty where no algorithm is named")
    elif cipher in (1, 2):
        for (at, value), length in zip(values, (16 * cipher, 12)):
            if len(value) != length:
                raise Refused(at, f"has {len(value)} bytes, must have {length}")
    algorithm = reader.unsigned(255)
    at = reader.at
    digest = reader.bytes()
    if algorithm == 0 and digest:
        raise Refused(at, "must be empty where no algorithm is named")
    if algorithm == 1 and len(digest) != 32:
        raise Refused(at, f"has {len(digest)} bytes, must have 32")
    reader.text()
    reader.text()


def read_message(data):
    """What a message says that other functions need; raises `Refused`."""
    reader = Reader(data)
    reader.array(7)
    said = {"salt": reader.bytes(16), "replaces": reader.id()}
    at = reader.at
    if len(reader.bytes()) > 4096:
        raise Refused(at, "longer than 4096 bytes")
    if data[reader.at : reader.at + 1] == b"\xf6":
        reader.at += 1
    else:
        reader.array(2)
        at, _, _, _ = reader.head()
        if data[at] not in (0xF4, 0xF5):
            raise Refused(at, f"is {reader.kind(at)}, must be a boolean")
        reader.unsigned((1 << 32) - 1)
    said["inReplyTo"] = reader.id()
    at, entries = reader.expect(5)
    said["extensions"], last = {}, None
    for _ in range(entries):
        last, key = reader.key(last, extension=True)
        at = reader.value(2)
        if key in (1, 2):
            if data[at] >> 5 != 3:
                raise Refused(at, f"is {reader.kind(at)}, must be a text string")
            said["extensions"][key] = Reader(data[at : reader.at]).text()
    said["disposition"] = data[reader.at + 1]
    said["parts"] = read_part(reader, 1, [0])
    if reader.at != len(data):
        raise Refused(reader.at, f"{len(data) - reader.at} bytes follow")
    return said


def intent(said):
    empty = said["parts"] == [0]
    if said["replaces"]:
        return "delete" if empty else "edit"
    if empty:
        return "nothing"
    if said["inReplyTo"]:
        return "reaction" if said["disposition"] == 2 else "reply"
    return "post"


# --- AES-GCM (FIPS 197, SP 800-38D) ------------------------------------------------------------------------------------


def times_x(byte):
    return byte << 1 ^ 0x11B if byte & 0x80 else byte << 1


def aes_tables():
    """The S-box, from powers of 3 and their inverses."""
    power, value = [], 1
    for _ in range(255):
        power.append(value)
        value ^= times_x(value)
    box = [0] * 256
    for byte in range(256):
        inverse = power[-power.index(byte) % 255] if byte else 0
        box[byte] = 0x63
        for shift in range(5):
            box[byte] ^= (inverse << shift | inverse >> 8 - shift) & 0xFF
    return box


SBOX = aes_tables()


def aes_keys(key):
    words, constant = [key[at : at + 4] for at in range(0, len(key), 4)], 1
    count = len(words)
    for at in range(count, 4 * (count + 7)):
        word = words[-1]
        if at % count == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times_x(constant)
        elif count > 6 and at % count == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(xor(words[at - count], word))
    return [b"".join(words[at : at + 4]) for at in range(0, len(words), 4)]


def xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right))


def aes(keys, block):
    state = xor(block, keys[0])
    for number, key in enumerate(keys[1:], 2):
        state = bytes(SBOX[state[(at + 4 * (at % 4)) % 16]] for at in range(16))
        if number < len(keys):
            mixed = b""
            for at in range(0, 16, 4):
                column, total = state[at : at + 4], 0
                for byte in column:
                    total ^= byte
                mixed += bytes(byte ^ total ^ times_x(byte ^ column[(row + 1) % 4]) for row, byte in enumerate(column))
            state = mixed
        state = xor(state, key)
    return state


def ghash(subkey, data):
    subkey, total = int.from_bytes(subkey, "big"), 0
    for at in range(0, len(data), 16):
        total ^= int.from_bytes(data[at : at + 16], "big")
        product, factor = 0, subkey
        for bit in range(127, -1, -1):
            if total >> bit & 1:
                product ^= factor
            factor = factor >> 1 ^ (0xE1 << 120 if factor & 1 else 0)
        total = product
    return total.to_bytes(16, "big")


def aes_gcm(key, nonce, aad, content):
    """Ciphertext and tag, for a nonce of 12 octets."""
    keys = aes_keys(key)
    stream = b"".join(aes(keys, nonce + struct.pack(">I", 2 + at)) for at in range(-(-len(content) // 16)))
    ciphertext = xor(content, stream)
    padded = b"".join(data + bytes(-len(data) % 16) for data in (aad, ciphertext))
    lengths = struct.pack(">QQ", 8 * len(aad), 8 * len(ciphertext))
    tag = ghash(aes(keys, bytes(16)), padded + lengths)
    return ciphertext + xor(tag, aes(keys, nonce + struct.pack(">I", 1)))


# --- what is computed from messages ------------------------------------------------------------------------------------


def message_id(sender, room, data, lengths=True):
    uris = b""
    for uri in (sender.encode(), room.encode()):
        uris += (struct.pack(">H", len(uri)) if lengths else b"") + uri
    salt = read_message(data)["salt"]
    return b"\x01" + hashlib.sha256(uris + data + salt).digest()[:31]


def vector(data):
    """A vector of RFC 9420 with its length."""
    for limit, form, mark in ((1 << 6, ">B", 0), (1 << 14, ">H", 0x4000), (1 << 30, ">I", 0x80000000)):
        if len(data) < limit:
            return struct.pack(form, len(data) | mark) + data
    raise ValueError("too long")


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def frank(entry):
    """All values of an entry of `franking`, from its first seven."""
    data = bytes.fromhex(entry["cbor"])
    said = read_message(data)
    framed = vector(b"application/mimi-content") + vector(b"") + vector(data) if entry["framed"] else data
    tag = mac(said["salt"], framed)
    context = vector(said["extensions"][1].encode()) + vector(said["extensions"][2].encode())
    context += struct.pack(">Q", entry["accepted"])
    server_frank = mac(bytes.fromhex(entry["hub_key"]), tag + context)
    tbs = server_frank + struct.pack(">H", entry["cipher_suite"]) + context
    signed = vector(b"MLS 1.0 FrankingIntegrityTBS") + vector(tbs)
    seed = bytes.fromhex(entry["seed"])
    return {"tag": tag.hex(), "context": context.hex(), "server_frank": server_frank.hex(), "signed": signed.hex(),
            "public": ed25519_public(seed).hex(), "signature": ed25519_sign(seed, signed).hex()}


def sealed(entry):
    key, nonce, aad, content = (bytes.fromhex(entry[name]) for name in ("key", "nonce", "aad", "content"))
    ciphertext = aes_gcm(key, nonce, aad, content)
    return {"ciphertext": ciphertext.hex(), "sha256": hashlib.sha256(ciphertext).hexdigest()}


# --- the files ---------------------------------------------------------------------------------------------------------

ID_A, ID_B = (bytes([1]) + bytes([fill]) * 31 for fill in (0xAA, 0xBB))


def messages():
    bob, room = "mimi://b.example/u/bob", "mimi://a.example/r/fish"
    reactions = [single(text, 2) for text in ("❤", "🥳", "🤞")]
    words = [single(f"<p>{word} <img src='cid:{5 * n}@local.invalid'></p>", 1, tag, "text/html;charset=utf-8")
             for n in (1, 2) for tag, word in (("en", "fish"), ("fr", "poisson"))]
    picture = [[4, "", 1, f"image/{kind}", kind.encode()] for kind in ("gif", "png")]
    nested = multi(0, [multi(2, [multi(0, words[:2]), picture[0]]), multi(2, [multi(0, words[2:]), picture[1]])])
    sealed_file = external(contentType="image/png", size=22, encAlg=1, key=b"k" * 16, nonce=b"n" * 12, hashAlg=1,
                           contentHash=b"h" * 32, description="a fish", filename="fish.png", expires=2000000000)
    extensions = {1: bob, 2: room, 256: [[b"\x12\x34", Raw(b"\xd8\x20" + item("http://example.com"))], [3, -7]],
                  -1: {b"k": None, 5: True, "t": Raw(b"\xf9\x3e\x00")}, "org.example.x": Raw(b"\xfb" + struct.pack(">d", 1.1)),
                  "b": Raw(b"\xc2\x49\x01" + bytes(8))}
    yield "text", Message()
    yield "markdown", Message(nestedPart=single("__fish__", content_type="text/markdown;variant=GFM-MIMI"))
    yield "no extensions", Message(mimiExtensions={})
    yield "reply in a topic", Message(bob, room, inReplyTo=ID_A, topicId=ID_B)
    yield "edit of a reply", Message(bob, room, replaces=ID_B, inReplyTo=ID_A)
    yield "delete", Message(bob, room, replaces=ID_B, nestedPart=[1, "", 0])
    yield "nothing", Message(nestedPart=[1, "", 0])
    yield "reaction", Message(bob, room, inReplyTo=ID_A, nestedPart=reactions[0])
    yield "three reactions", Message(bob, room, inReplyTo=ID_A, nestedPart=multi(2, reactions, 2))
    yield "unlike", Message(bob, room, replaces=ID_B, inReplyTo=ID_A, nestedPart=[2, "", 0])
    yield "absolute expiry, the last moment there is", Message(expires=[False, (1 << 32) - 1])
    yield "relative expiry", Message(expires=[True, 60])
    yield "sealed file", Message(nestedPart=sealed_file)
    yield "link to a session", Message(nestedPart=external(7, description="Join", url="https://example.com/join/1"))
    yield "unknown cipher and hash", Message(nestedPart=external(encAlg=29, key=b"k", nonce=b"", aad=b"a", hashAlg=200,
                                                                 contentHash=b"x", size=(1 << 64) - 1))
    yield "unknown disposition", Message(nestedPart=single(disposition=200))
    yield "unknown media type and language", Message(nestedPart=single(b"\xff\xfe", 1, "x-klingon,??", "chess/move"))
    yield "choice of four texts, four levels", Message(nestedPart=nested)
    yield "extensions of every kind, four levels", Message(bob, room, mimiExtensions=extensions)
    yield "largest and smallest integer keys", Message(mimiExtensions={(1 << 53) - 1: 0, -(1 << 53) + 1: 0})
    yield "longest topic and text key", Message(topicId=b"t" * 4096, mimiExtensions={"k" * 255: None})
    yield "1024 parts", Message(nestedPart=multi(2, [[1, "", 0]] * 1023))
    yield "URIs whose border shifts", Message("mimi://a.example/u/al", "icemimi://a.example/r/fish", mimiExtensions={})
    yield "long URIs", Message("mimi://a.example/u/" + "a" * 300, "mimi://a.example/r/" + "r" * 300)


def refused():
    """Name, bytes, offset, field."""
    good = Message()
    data = good.bytes()
    yield "nothing", b"", 0, "mimiContent"
    yield "a map", b"\xa0", 0, "mimiContent"
    yield "six fields", b"\x86" + data[1:], 0, "mimiContent"
    yield "an array in a longer form", b"\x98\x07" + data[1:], 0, "mimiContent"
    yield "an array of indefinite length", b"\x9f" + data[1:] + b"\xff", 0, "mimiContent"
    yield "a byte follows", data + b"\x00", len(data), "mimiContent"
    yield "cut in the text", data[:-3], len(data) - 7, "nestedPart.content"

    def field(name, field, value, delta=0, path=""):
        message = Message(**{field: value})
        return name, message.bytes(), message.offset(field) + delta, field + path

    yield field("salt of 15 bytes", "salt", bytes(15))
    yield field("salt of 17 bytes", "salt", bytes(17))
    yield field("salt as text", "salt", "x" * 16)
    yield field("salt whose length lies", "salt", Raw(b"\x5b" + b"\xff" * 8))
    yield field("salt of indefinite length", "salt", Raw(b"\x5f\x50" + bytes(16) + b"\xff"))
    yield field("ID of 31 bytes", "replaces", ID_A[:31])
    yield field("ID by an unknown hash", "inReplyTo", b"\x09" + ID_A[1:])
    yield field("ID that is false", "replaces", False)
    yield field("topic too long", "topicId", bytes(4097))
    yield field("topic as text", "topicId", "fish")
    yield field("expiry of one element", "expires", [True])
    yield field("expiry relative to 1", "expires", [1, 60], 1, ".relative")
    yield field("expiry after 2106", "expires", [False, 1 << 32], 2, ".time")
    yield field("expiry in the past of the epoch", "expires", [False, -1], 2, ".time")
    yield field("expiry in a longer form", "expires", Raw(b"\x82\xf4\x18\x17"), 2, ".time")
    yield field("expiry as a floating point number", "expires", Raw(b"\x82\xf4\xf9\x3c\x00"), 2, ".time")
    yield field("extensions as an array", "mimiExtensions", [])
    yield field("extensions whose count lies", "mimiExtensions", Raw(b"\xbb" + b"\xff" * 8 + b"\x03\x00"), 11, "[1]")
    yield field("key twice", "mimiExtensions", Raw(b"\xa2\x03\x00\x03\x01"), 3, "[1]")
    yield field("keys out of order", "mimiExtensions", Raw(b"\xa2\x04\x00\x03\x00"), 3, "[1]")
    yield field("keys in the order of their lengths", "mimiExtensions", Raw(b"\xa2\x20\x00\x19\x01\x00\x00"), 3, "[1]")
    yield field("key as bytes", "mimiExtensions", Raw(b"\xa1\x41\x00\x00"), 1, "[0]")
    yield field("key of no bytes", "mimiExtensions", Raw(b"\xa1\x60\x00"), 1, "[0]")
    yield field("key of 256 bytes", "mimiExtensions", {"k" * 256: 0}, 1, "[0]")
    yield field("key 2^53", "mimiExtensions", {1 << 53: 0}, 1, "[0]")
    yield field("key -2^53", "mimiExtensions", {-(1 << 53): 0}, 1, "[0]")
    yield field("sender as bytes", "mimiExtensions", {1: b"x"}, 2, "[1]")
    yield field("value that is no UTF-8", "mimiExtensions", {3: Raw(b"\x61\xff")}, 2, "[3]")
    yield field("float in a longer form", "mimiExtensions", {3: [Raw(b"\xfa\x3f\xc0\x00\x00")]}, 3, "[3][0]")
    yield field("double that fits a single", "mimiExtensions", {3: Raw(b"\xfb" + struct.pack(">d", 1 + 2**-20))}, 2, "[3]")
    yield field("another NaN", "mimiExtensions", {3: Raw(b"\xf9\x7e\x01")}, 2, "[3]")
    yield field("NaN in a longer form", "mimiExtensions", {3: Raw(b"\xfa\x7f\xc0\x00\x00")}, 2, "[3]")
    yield field("bigint that fits", "mimiExtensions", {3: Raw(b"\xc2\x48" + b"\xff" * 8)}, 3, "[3]")
    yield field("simple value in a longer form", "mimiExtensions", {3: Raw(b"\xf8\x14")}, 2, "[3]")
    yield field("reserved head", "mimiExtensions", {3: Raw(b"\x1c")}, 2, "[3]")
    yield field("break without a beginning", "mimiExtensions", {3: Raw(b"\xff")}, 2, "[3]")
    yield field("five levels of extensions", "mimiExtensions", {3: [[[[]]]]}, 5, "[3][0][0][0]")
    yield field("tag at the fifth level", "mimiExtensions", {3: [[{0: Raw(b"\xd8\x20\x60")}]]}, 6, "[3][0][0][0]")
    yield field("float as key in an extension", "mimiExtensions", {3: Raw(b"\xa1\xf9\x3c\x00\x00")}, 3, "[3][0]")
    yield field("key twice in an extension", "mimiExtensions", {3: Raw(b"\xa2\x60\x00\x60\x00")}, 5, "[3][1]")

    part = single()
    yield field("part of two elements", "nestedPart", [1, ""])
    yield field("null part of five elements", "nestedPart", [1, "", 0, "", b""])
    yield field("single part of three elements", "nestedPart", [1, "", 1])
    yield field("disposition 256", "nestedPart", single(disposition=256), 1, ".disposition")
    yield field("disposition in a longer form", "nestedPart", [Raw(b"\x18\x01"), "", 0], 1, ".disposition")
    yield field("language as null", "nestedPart", [1, None, 0], 2, ".language")
    yield field("language that is no UTF-8", "nestedPart", [1, Raw(b"\x62\xc3\x28"), 0], 2, ".language")
    yield field("cardinality 4", "nestedPart", [1, "", 4], 3, ".cardinality")
    yield field("content as text", "nestedPart", [1, "", 1, "text/plain", "x"], 15, ".content")
    yield field("unknown semantics", "nestedPart", multi(3, [part, part]), 4, ".partSemantics")
    yield field("one part", "nestedPart", multi(0, [part]), 5, ".parts")
    wrong = multi(0, [part, [1, "", 9]])
    yield field("unknown cardinality inside", "nestedPart", wrong, 6 + len(item(part)) + 3, ".parts[1].cardinality")
    bomb = [1, "", 0]
    for _ in range(4):
        bomb = multi(2, [bomb, bomb])
    yield field("five levels of parts", "nestedPart", bomb, 24, ".parts[0]" * 4)
    bomb = b"\x85\x01\x60\x03\x02\x82" * 1000
    yield field("a thousand levels of parts", "nestedPart", Raw(bomb), 24, ".parts[0]" * 4)
    yield field("1025 parts", "nestedPart", multi(2, [[1, "", 0]] * 1024), 8 + 4 * 1023, ".parts[1023]")

    def outside(name, field, **fields):
        body = external(**fields)
        at = 4 + sum(map(len, map(item, body[3 : 3 + EXTERNAL.index(field)])))
        message = Message(nestedPart=body)
        return name, message.bytes(), message.offset("nestedPart") + at, f"nestedPart.{field}"

    yield outside("URL as bytes", "url", url=b"https://x")
    yield outside("external expiry after 2106", "expires", expires=1 << 32)
    yield outside("encAlg 65536", "encAlg", encAlg=1 << 16)
    yield outside("key without algorithm", "key", key=b"k")
    yield outside("additional data without algorithm", "aad", aad=b"k")
    yield outside("AES-128-GCM with a key of 32 bytes", "key", encAlg=1, key=b"k" * 32, nonce=b"n" * 12)
    yield outside("AES-128-GCM with a nonce of 16 bytes", "nonce", encAlg=1, key=b"k" * 16, nonce=b"n" * 16)
    yield outside("hash without algorithm", "contentHash", contentHash=b"h")
    yield outside("SHA-256 of 31 bytes", "contentHash", hashAlg=1, contentHash=b"h" * 31)
    yield outside("hashAlg 256", "hashAlg", hashAlg=256)


EXTERNAL = ["contentType", "url", "expires", "size", "encAlg", "key", "nonce", "aad", "hashAlg", "contentHash",
            "description", "filename"]


def refusal(data):
    try:
        read_message(data)
    except Refused as error:
        return error
    return None


def read_status(data):
    """The pairs of a message status report; raises `Refused`."""
    reader = Reader(data)
    length = reader.array()
    if length > 4096:
        raise Refused(0, "more than 4096")
    report = []
    for _ in range(length):
        reader.array(2)
        at, name = reader.at, reader.bytes(32)
        if name[0] != 1:
            raise Refused(at, f"message ID with unknown hash algorithm {name[0]}")
        report.append([name, reader.unsigned(255)])
    if reader.at != len(data):
        raise Refused(reader.at, f"{len(data) - reader.at} bytes follow")
    return report


def status_refusal(data):
    try:
        read_status(data)
    except Refused as error:
        return error
    return None


def status_reports():
    """Name and pairs."""
    yield "about nothing", []
    yield "read", [[ID_A, 2]]
    names = ["unread", "delivered", "read", "expired", "deleted", "hidden", "error"]
    yield "each status that has a name", [[b"\x01" + bytes([number]) * 31, number] for number in range(len(names))]
    yield "numbers without a name", [[ID_A, 7], [ID_A, 23], [ID_A, 24], [ID_A, 255]]
    yield "one message twice", [[ID_A, 1], [ID_A, 2]]
    yield "many messages", [[b"\x01" + number.to_bytes(31, "big"), 2] for number in range(30)]


def status_refused():
    """Name, bytes, offset, field."""
    whole, one = "MessageStatusReport", [ID_A, 2]
    good = item([one])
    yield "nothing", b"", 0, whole
    yield "a map", b"\xa0", 0, whole
    yield "a pair without a list", item(one), 1, "[0]"
    yield "a length in a longer form", b"\x98\x01" + good[1:], 0, whole
    yield "an indefinite length", b"\x9f" + good[1:] + b"\xff", 0, whole
    yield "a length that lies", b"\x82" + good[1:], len(good), "[1]"
    yield "more than anybody sends", b"\x99\x10\x01", 0, whole
    yield "a byte follows", good + b"\x00", len(good), whole
    yield "an entry of one element", item([[ID_A]]), 1, "[0]"
    yield "an entry of three elements", item([[ID_A, 2, 0]]), 1, "[0]"
    yield "an ID of 31 bytes", item([[ID_A[:31], 2]]), 2, "[0].messageId"
    yield "an ID that is null", item([[None, 2]]), 2, "[0].messageId"
    yield "an ID by an unknown hash", item([one, [b"\x09" + ID_A[1:], 2]]), 1 + len(item(one)) + 1, "[1].messageId"
    yield "status 256", item([[ID_A, 256]]), 2 + 34, "[0].status"
    yield "a status below zero", item([[ID_A, -1]]), 2 + 34, "[0].status"
    yield "a status as text", item([[ID_A, "read"]]), 2 + 34, "[0].status"
    yield "a status in a longer form", item([[ID_A, Raw(b"\x18\x02")]]), 2 + 34, "[0].status"
    yield "cut in an ID", good[:20], 2, "[0].messageId"


def generate_status(directory):
    out = {"note": "written by interop/crosscheck/mimi_content.py; all bytes are hexadecimal", "status": [], "status_refused": []}
    for name, report in status_reports():
        assert read_status(item(report)) == report, name
        entries = [[ident.hex(), status] for ident, status in report]
        out["status"].append({"name": name, "cbor": item(report).hex(), "entries": entries})
    for name, data, offset, field in status_refused():
        error = status_refusal(data)
        assert error and error.offset == offset, (name, offset, error)
        refused_entry = {"name": name, "cbor": data.hex(), "offset": offset, "field": field, "rule": error.rule}
        out["status_refused"].append(refused_entry)
    with open(os.path.join(directory, "status.json"), "w", encoding="utf-8") as file:
        json.dump(out, file, ensure_ascii=False, indent=1)
        file.write("\n")


def generate(directory):
    out = {"note": "written by interop/crosscheck/mimi_content.py; all bytes are hexadecimal"}
    out["messages"] = []
    for name, message in messages():
        data = message.bytes()
        said = read_message(data)
        out["messages"].append({
            "name": name, "cbor": data.hex(), "sender": message.sender, "room": message.room,
            "id": message_id(message.sender, message.room, data).hex(),
            "id_draft_07": message_id(message.sender, message.room, data, lengths=False).hex(),
            "intent": intent(said), "cardinalities": said["parts"] if len(said["parts"]) < 100 else None})
    out["refused"] = []
    for name, data, offset, field in refused():
        error = refusal(data)
        assert error and error.offset == offset, (name, offset, error)
        out["refused"].append({"name": name, "cbor": data.hex(), "offset": offset, "field": field, "rule": error.rule})
    report = [[ID_A, 2], [ID_B, 0], [ID_A, 200]]
    out["status"] = [{"name": "read, unread, and something new", "cbor": item(report).hex(),
                      "entries": [[name.hex(), status] for name, status in report]}]
    secret, nonce = b"a secret of the group", b"nonce 1"
    out["salts"] = [{"secret": secret.hex(), "nonce": nonce.hex(), "salt": mac(secret, nonce)[:16].hex()}]
    out["external"] = []
    for name, size, aad, content in (("a fish", 16, b"", b"a fish"), ("nothing", 16, b"", b""),
                                     ("with additional data", 16, b"extension", b"a fish"),
                                     ("AES-256-GCM", 32, b"", b"a fish")):
        entry = {"name": name, "key": bytes(range(size)).hex(), "nonce": bytes(range(12)).hex(), "aad": aad.hex(),
                 "content": content.hex()}
        out["external"].append(entry | sealed(entry))
    out["franking"] = []
    for framed in (False, True):
        bob = Message("mimi://b.example/u/bob", "mimi://a.example/r/fish")
        entry = {"name": "with content framing" if framed else "bare", "cbor": bob.bytes().hex(), "framed": framed,
                 "accepted": 1790000000000, "hub_key": bytes(range(32)).hex(), "seed": bytes(range(32, 64)).hex(),
                 "cipher_suite": 3 if framed else 1}
        out["franking"].append(entry | frank(entry))
    with open(os.path.join(directory, "content.json"), "w", encoding="utf-8") as file:
        json.dump(out, file, ensure_ascii=False, indent=1)
        file.write("\n")


def check(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    count = failed = 0

    def same(name, what, found, stated):
        nonlocal failed
        if found != stated:
            failed += 1
            print(f"{path}: {name}: {what} is {found}, not {stated}")

    for entry in vectors.get("messages", []):
        count += 1
        data, name = bytes.fromhex(entry["cbor"]), entry["name"]
        same(name, "refusal", refusal(data), None)
        same(name, "id", message_id(entry["sender"], entry["room"], data).hex(), entry["id"])
        same(name, "id of -07", message_id(entry["sender"], entry["room"], data, False).hex(), entry["id_draft_07"])
        same(name, "intent", intent(read_message(data)), entry["intent"])
        if entry["cardinalities"] is not None:
            same(name, "cardinalities", read_message(data)["parts"], entry["cardinalities"])
    for entry in vectors.get("refused", []):
        count += 1
        error = refusal(bytes.fromhex(entry["cbor"]))
        same(entry["name"], "refusal", error and (error.offset, error.rule), (entry["offset"], entry["rule"]))
    for entry in vectors.get("status", []):
        count += 1
        report = [[bytes.fromhex(name), status] for name, status in entry["entries"]]
        same(entry["name"], "report", item(report).hex(), entry["cbor"])
        same(entry["name"], "refusal", status_refusal(bytes.fromhex(entry["cbor"])), None)
    for entry in vectors.get("status_refused", []):
        count += 1
        error = status_refusal(bytes.fromhex(entry["cbor"]))
        same(entry["name"], "refusal", error and (error.offset, error.rule), (entry["offset"], entry["rule"]))
    for entry in vectors.get("salts", []):
        count += 1
        salt = mac(bytes.fromhex(entry["secret"]), bytes.fromhex(entry["nonce"]))[:16].hex()
        same("salt", "salt", salt, entry["salt"])
    for member, recompute in (("external", sealed), ("franking", frank)):
        for entry in vectors.get(member, []):
            count += 1
            for what, value in recompute(entry).items():
                same(entry["name"], what, value, entry[what])
    print(f"{path}: {count} entries, {failed} failed")
    return failed


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "generate":
        generate(arguments[1])
    elif len(arguments) == 2 and arguments[0] == "status":
        generate_status(arguments[1])
    elif len(arguments) >= 2 and arguments[0] == "check":
        return 1 if sum(map(check, arguments[1:])) else 0
    elif len(arguments) == 4 and arguments[0] == "id":
        with open(arguments[3], "rb") as file:
            print(message_id(arguments[1], arguments[2], file.read()).hex())
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
