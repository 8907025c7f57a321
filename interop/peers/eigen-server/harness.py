#!/usr/bin/env python3
"""Lets a Nabe server and a running eigen-server form a room, both ways, and compares the event IDs.

    python3 harness.py --eigen http://localhost:3000 --nabe ../../../target/release/nabe [--commit HASH] [--results FILE]

It starts one Nabe of its own (plain HTTP on loopback: eigen-server speaks nothing else) in a temporary folder and stops it
at the end. eigen-server must be running already; its repository, `matrix-org/eigen-server`, says how (with
`ES_INSECURE_HTTP=true`, which its README does not mention). Only the Python standard library is used.

Exit status: 0 every step held, 1 one did not, 2 a server could not be reached.
"""
import argparse
import base64
import datetime
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOM_VERSION = "org.matrix.i-d.ralston-mimi-linearized-matrix.02"
# The packet numbers of eigen-server's own client protocol.
LOGIN, CREATE_ROOM, ROOM_JOINED, INVITE, ROOM_INVITED, JOIN, ERROR, SEND, EVENT = range(9)
PATIENCE_SECONDS = 15


class Unreachable(Exception):
    pass


class StepFailed(Exception):
    pass


class EigenUser:
    """One WebSocket client of eigen-server (RFC 6455, text frames only)."""

    def __init__(self, base_url, localpart):
        url = urllib.parse.urlsplit(base_url)
        try:
            self.socket = socket.create_connection((url.hostname, url.port or 80), timeout=5)
        except OSError as error:
            raise Unreachable(f"{base_url}: {error}") from error
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET /client?preferredLocalpart={localpart} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise Unreachable(f"{base_url}: no WebSocket: {head[:80]!r}")
        self.packets = []
        self.user_id = self.wait(lambda p: p["type"] == LOGIN, "login")["userId"]

    def _fill(self):
        chunk = self.socket.recv(65536)
        if not chunk:
            raise Unreachable("eigen-server closed the WebSocket")
        self.buffer += chunk

    def _take(self, count):
        while len(self.buffer) < count:
            self._fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _frame(self):
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
        return first & 0x0F, self._take(length)

    def _write(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | opcode]) + (
            bytes([0x80 | length]) if length < 126 else
            bytes([0x80 | 126]) + struct.pack(">H", length) if length < 65536 else
            bytes([0x80 | 127]) + struct.pack(">Q", length))
        self.socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def send(self, **packet):
        self._write(1, json.dumps(packet).encode())

    def wait(self, matches, what, patience=PATIENCE_SECONDS):
        """The first packet, seen already or still to come, that `matches`."""
        deadline = time.monotonic() + patience
        while True:
            for packet in self.packets:
                if matches(packet):
                    return packet
            left = deadline - time.monotonic()
            if left <= 0:
                errors = [p.get("message") for p in self.packets if p["type"] == ERROR]
                raise StepFailed(f"eigen-server never showed: {what}; its errors: {errors}")
            self.socket.settimeout(left)
            try:
                opcode, payload = self._frame()
            except TimeoutError:
                continue
            if opcode == 9:
                self._write(10, payload)
            elif opcode == 1:
                self.packets.append(json.loads(payload))

    def wait_event(self, body):
        return self.wait(
            lambda p: p["type"] == EVENT and p["event"].get("content", {}).get("body") == body, f"message {body!r}")["event"]


class Nabe:
    """A Nabe of our own, driven through its client API as a provider backend."""

    def __init__(self, binary, port, eigen_name, folder):
        self.name = f"localhost:{port}"
        self.base = f"http://127.0.0.1:{port}"
        subprocess.run([binary, "init", folder, "--server-name", self.name], check=True, stdout=subprocess.DEVNULL)
        config = pathlib.Path(folder, "nabe.toml")
        config.write_text(f"""
server_name = "{self.name}"
[listen]
address = "127.0.0.1:{port}"
plain_http = true
[federation]
allowed_ip_ranges = ["127.0.0.0/8", "::1/128"]
[client]
provider_token_file = "provider.token"
[delivery]
retry_base_ms = 200
[[peer]]
names = ["{eigen_name}"]
insecure_http = true
omit_empty_content = true
body_in_transaction_key = true
""")
        self.token = pathlib.Path(folder, "provider.token").read_text().strip()
        self.log = open(pathlib.Path(folder, "nabe.log"), "wb")
        self.process = subprocess.Popen([binary, "serve", "--config", str(config)], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.base}/_nabe/health/ready", timeout=2).read()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Unreachable(f"Nabe did not start: {error}; see {self.log.name}") from error
                time.sleep(0.1)

    def call(self, method, path, user, body=None):
        request = urllib.request.Request(
            f"{self.base}/_nabe/v1{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Nabe-User": user, "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise StepFailed(f"Nabe: {method} {path}: {error.code} {error.read().decode()}") from error

    def room(self, room, suffix=""):
        return f"/rooms/{urllib.parse.quote(room, safe='')}{suffix}"

    def history(self, room, user):
        events, position = [], None
        while True:
            query = "?dir=b&limit=100" + (f"&from={position}" if position is not None else "")
            page = self.call("GET", self.room(room, f"/events{query}"), user)
            events += page["events"]
            position = page.get("next")
            if position is None or not page["events"]:
                return events

    def wait(self, found, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            value = found()
            if value:
                return value
            time.sleep(0.1)
        raise StepFailed(f"Nabe never showed: {what}")

    def wait_message(self, room, user, body):
        return self.wait(
            lambda: next((e for e in self.history(room, user) if e["content"].get("body") == body), None),
            f"message {body!r}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def exchange(nabe, nabe_user, eigen, room, step):
    """Two messages each way; each must have one event ID on both sides."""
    for number in (1, 2):
        body = f"from Nabe, {number}"
        sent = nabe.call("POST", nabe.room(room, "/events"), nabe_user, {"type": "m.room.message", "content": {"body": body}})
        seen = eigen.wait_event(body)
        ours = nabe.wait_message(room, nabe_user, body)
        step(f"{body!r} reaches eigen-server under the same event ID",
             seen["event_id"] == ours["event_id"], f"{ours['event_id']}, answered {sent['status']}")
    for number in (1, 2):
        body = f"from eigen-server, {number}"
        eigen.send(type=SEND, roomId=room, eventType="m.room.message", content={"body": body})
        ours = nabe.wait_message(room, nabe_user, body)
        seen = eigen.wait_event(body)
        step(f"{body!r} reaches Nabe under the same event ID", seen["event_id"] == ours["event_id"],
             ours["event_id"])
        # eigen-server's transaction IDs collide within one millisecond.
        time.sleep(0.01)


def nabe_hub(nabe, eigen, step):
    alice = f"@alice:{nabe.name}"
    room = nabe.call("POST", "/rooms", alice, {"room_version": ROOM_VERSION, "name": "Nabe is the hub"})["room_id"]
    step("Nabe creates a room", True, room)
    nabe.call("POST", nabe.room(room, "/invite"), alice, {"user_id": eigen.user_id})
    eigen.wait(lambda p: p["type"] == ROOM_INVITED and p["roomId"] == room, "the invite")
    step("eigen-server countersigns and shows the invite", True, eigen.user_id)
    eigen.send(type=JOIN, targetRoomId=room)
    eigen.wait(lambda p: p["type"] == ROOM_JOINED and p["roomId"] == room, "its own join")
    members = nabe.call("GET", nabe.room(room, "/members"), alice)["members"]
    joined = {m["user_id"] for m in members if m["membership"] == "join"}
    step("eigen-server's user joins by make_join and send_join", eigen.user_id in joined, ", ".join(sorted(joined)))
    exchange(nabe, alice, eigen, room, step)


def eigen_hub(nabe, eigen, eigen_url, step):
    bob = f"@bob:{nabe.name}"
    known = {p.get("roomId") for p in eigen.packets}
    nabe.call("GET", "/whoami", bob)
    eigen.send(type=CREATE_ROOM)
    room = eigen.wait(lambda p: p["type"] == ROOM_JOINED and p["roomId"] not in known, "the new room")["roomId"]
    step("eigen-server creates a room", True, room)
    eigen.send(type=INVITE, targetRoomId=room, targetUserId=bob)
    nabe.wait(lambda: [i for i in nabe.call("GET", "/rooms", bob)["invites"] if i["room_id"] == room], "the invite")
    step("Nabe countersigns and shows the invite", True, bob)
    nabe.call("POST", nabe.room(room, "/join"), bob, {})
    members = nabe.call("GET", nabe.room(room, "/members"), bob)["members"]
    step("Nabe's user joins by make_join and send_join",
         bob in {m["user_id"] for m in members if m["membership"] == "join"}, f"{len(members)} members")
    exchange(nabe, bob, eigen, room, step)
    with urllib.request.urlopen(f"{eigen_url}/dump/{urllib.parse.quote(room, safe='')}", timeout=5) as response:
        dump = json.load(response)
    theirs = set(event_ids(dump))
    ours = [event["event_id"] for event in nabe.history(room, bob)]
    missing = [event_id for event_id in ours if event_id not in theirs]
    step("every event ID Nabe holds is in the hub's own dump", bool(theirs) and not missing,
         f"{len(ours)} events here, {len(theirs)} there, missing {missing}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def event_ids(value):
    """Event IDs anywhere in the dump that stand under a key of that name."""
    if isinstance(value, dict):
        if isinstance(value.get("event_id"), str):
            yield value["event_id"]
        for key, inner in value.items():
            if isinstance(key, str) and key.startswith("$"):
                yield key
            yield from event_ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from event_ids(inner)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eigen", required=True, help="where eigen-server listens, such as http://localhost:3000")
    parser.add_argument("--nabe", required=True, help="the nabe binary")
    parser.add_argument("--port", type=int, help="the port of our own Nabe; a free one if absent, which makes it a server "
                        "that eigen-server has not seen before (it remembers the keys of the others for an hour)")
    parser.add_argument("--commit", default="not stated", help="eigen-server's commit, for the results")
    parser.add_argument("--results", help="also write what was seen to this Markdown file")
    arguments = parser.parse_args()
    eigen_name = urllib.parse.urlsplit(arguments.eigen).netloc

    steps = []

    def step(name, ok, detail=""):
        steps.append((name, ok, detail))
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}", flush=True)

    nabe = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            nabe = Nabe(arguments.nabe, arguments.port or free_port(), eigen_name, folder)
            for story, run in (
                ("Nabe hub, eigen-server participant", lambda user: nabe_hub(nabe, user, step)),
                ("eigen-server hub, Nabe participant", lambda user: eigen_hub(nabe, user, arguments.eigen, step)),
            ):
                print(f"-- {story}")
                try:
                    run(EigenUser(arguments.eigen, f"user{os.urandom(3).hex()}"))
                except StepFailed as failure:
                    step(story, False, str(failure))
        except Unreachable as error:
            print(f"unreachable: {error}", file=sys.stderr)
            return 2
        finally:
            if nabe:
                nabe.stop()
                if not steps or not all(ok for _, ok, _ in steps):
                    sys.stderr.write(pathlib.Path(nabe.log.name).read_text()[-6000:])
    failed = sum(not ok for _, ok, _ in steps)
    print(f"{len(steps) - failed} passed, {failed} failed")
    if arguments.results:
        write_results(pathlib.Path(arguments.results), arguments, steps, failed)
    return 1 if failed else 0


def write_results(path, arguments, steps, failed):
    version = subprocess.run([arguments.nabe, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    lines = [
        "# eigen-server", "",
        f"Last run {datetime.date.today()}: {version} with eigen-server commit `{arguments.commit}`: "
        f"{len(steps) - failed} steps held, {failed} did not.", "",
        "Written by `interop/peers/eigen-server/harness.py`; the settings it needs are in the README beside it.", "",
        "| Step | Seen | |", "|---|---|---|",
        *(f"| {name} | {'held' if ok else '**did not hold**'} | `{detail}` |" for name, ok, detail in steps), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
