"""The load: a server of one user, which signs what it sends and acknowledges what it is sent.

It signs as Linearized Matrix has it (`Lpdus`: events without a place, the hub completes them) and as Matrix has it (`Chain`: each event names the
one before). What is hashed and how JSON becomes bytes is in `interop/crosscheck/lm_vectors.py`; only signing is by PyNaCl, which Synapse brings, since
the one there takes milliseconds for a signature.
"""
import hashlib
import http.client
import http.server
import json
import pathlib
import ssl
import sys
import threading
import time
import urllib.parse

import nacl.signing

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "interop" / "crosscheck"))
import lm_vectors as lm  # noqa: E402

KEY_ID = "ed25519:bench"
EVENT_TYPE = "m.room.message"
# Brings an event to about 500 bytes.
TEXT = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, lets it."


class Refused(Exception):
    """A server answered something else than was asked for."""


class Origin:
    """The server the load comes from. Keys and a sink, over TLS if it is given a certificate, and what its user sends."""

    def __init__(self, certificate=None):
        self.key = nacl.signing.SigningKey(hashlib.sha256(b"nabe benches/peers").digest())
        self.received = 0
        self.invites = {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.name = f"localhost:{self.server.server_address[1]}"
        self.user = f"@load:{self.name}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def sign(self, message):
        return lm.b64(self.key.sign(message).signature)

    def sign_object(self, obj):
        obj.setdefault("signatures", {})[self.name] = {KEY_ID: self.sign(lm.object_bytes(obj))}
        return obj

    def keys(self):
        return self.sign_object({
            "server_name": self.name, "valid_until_ts": now_ms() + 43_200_000, "m.linearized": True, "old_verify_keys": {},
            "verify_keys": {KEY_ID: {"key": lm.b64(bytes(self.key.verify_key))}}})

    def request(self, method, uri, destination, content=None):
        """A signed request: method, target, headers, body."""
        signed = {"method": method, "uri": uri, "origin": self.name, "destination": destination}
        signed["content"] = {} if content is None else content
        if content is None and destination in self.without_empty_content:
            del signed["content"]
        headers = {"Authorization": lm.x_matrix(signed, KEY_ID, self.sign(lm.canonical_bytes(signed))),
                   "Content-Type": "application/json"}
        return method, uri, headers, b"" if content is None else lm.canonical_bytes(content)

    # Matrix leaves `content` out of what is signed if there is no body; Linearized Matrix signs an empty object.
    without_empty_content = frozenset()


def handler(origin):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120

        def log_message(self, *_):
            pass

        def reply(self, value, status=200):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self):
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

        def do_GET(self):
            if self.path.startswith("/_matrix/key/v2/server"):
                return self.reply(origin.keys())
            if self.path.startswith("/_matrix/federation/v1/query/profile"):
                return self.reply({})
            return self.reply({"errcode": "M_UNRECOGNIZED", "error": "no such endpoint"}, 404)

        def do_PUT(self):
            body = self.body()
            if "/send/" not in self.path:
                return self.reply({"errcode": "M_UNRECOGNIZED", "error": "no such endpoint"}, 404)
            origin.received += len(body.get("pdus", []))
            return self.reply({"failed_pdus": {}})

        def do_POST(self):
            body = self.body()
            event = body.get("event")
            if "/invite/" not in self.path or not event:
                return self.reply({"errcode": "M_UNRECOGNIZED", "error": "no such endpoint"}, 404)
            event["signatures"][origin.name] = {KEY_ID: origin.sign(lm.signing_bytes(event))}
            origin.invites[event["room_id"]] = event
            return self.reply({"event": event, "pdu": event})

    return Handler


class Line:
    """A connection to a server that stays open, and signed requests over it."""

    def __init__(self, origin, destination, address, ca=None):
        self.origin, self.destination = origin, destination
        host, port = address
        context = ssl.create_default_context(cafile=ca) if ca else None
        self.connection = (http.client.HTTPSConnection(host, port, context=context, timeout=60) if ca
                           else http.client.HTTPConnection(host, port, timeout=60))

    def send(self, method, uri, headers, body):
        self.connection.request(method, uri, body=body, headers=headers)
        answer = self.connection.getresponse()
        read = answer.read()
        if answer.status != 200:
            raise Refused(f"{self.destination}: {method} {uri}: {answer.status} {read[:300]!r}")
        return json.loads(read)

    def call(self, method, uri, content=None):
        return self.send(*self.origin.request(method, uri, self.destination, content))


def now_ms():
    return int(time.time() * 1000)


def quoted(part):
    return urllib.parse.quote(part, safe="")


class Lpdus:
    """Events of Linearized Matrix as a participant makes them (LM #int-lpdu)."""

    def __init__(self, origin, room, hub):
        self.origin, self.room, self.hub = origin, room, hub

    def event(self, event_type, content, state_key=None, ts=None):
        event = {"type": event_type, "room_id": self.room, "sender": self.origin.user, "content": content,
                 "origin_server_ts": ts or now_ms(), "hub_server": self.hub}
        if state_key is not None:
            event["state_key"] = state_key
        event["hashes"] = {"lpdu": {"sha256": lm.lpdu_hash(event)}}
        event["signatures"] = {self.origin.name: {KEY_ID: self.origin.sign(lm.signing_bytes(event))}}
        return event

    def message(self, number):
        return self.event(EVENT_TYPE, {"msgtype": "m.text", "body": f"{number}: {TEXT}"}, ts=now_ms() + number)


class Chain:
    """Events of a Matrix room of version 10, each after the one before."""

    KEPT = ("type room_id sender state_key content hashes signatures depth prev_events prev_state auth_events origin "
            "origin_server_ts membership").split()

    def __init__(self, origin, room, auth_events, head, depth):
        self.origin, self.room, self.auth_events, self.head, self.depth = origin, room, auth_events, head, depth

    def complete(self, event):
        """Adds hash and signature; returns the event's ID."""
        event["hashes"] = {"sha256": lm.b64(hashlib.sha256(lm.canonical_bytes(lm.without(event, "unsigned"))).digest())}
        bare = {name: value for name, value in event.items() if name in self.KEPT}
        kept = ("membership", "join_authorised_via_users_server") if event["type"] == "m.room.member" else ()
        bare["content"] = {name: value for name, value in event["content"].items() if name in kept}
        message = lm.canonical_bytes(bare)
        event["signatures"] = {self.origin.name: {KEY_ID: self.origin.sign(message)}}
        return "$" + lm.b64_url(hashlib.sha256(message).digest())

    def message(self, number):
        self.depth += 1
        event = {"type": EVENT_TYPE, "room_id": self.room, "sender": self.origin.user, "depth": self.depth,
                 "content": {"msgtype": "m.text", "body": f"{number}: {TEXT}"}, "origin_server_ts": now_ms() + number,
                 "prev_events": [self.head], "auth_events": self.auth_events}
        self.head = self.complete(event)
        return event
