"""The servers that are compared, each with what a run needs of it.

`room()` makes a public room with a user of the server's own and has the load's user join it; `transaction(path, events)` is a signed request;
`newest()` is the body of the newest message that the owner can read; `wait_for(body)` waits, as a client of the server would, until it can be read;
`kept()` counts what the database has after the process was killed.
"""
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

from origin import EVENT_TYPE, KEY_ID, ROOT, Chain, Line, Lpdus, Refused, lm, now_ms, quoted

sys.path.insert(0, str(ROOT / "interop" / "peers" / "eigen-server"))
import harness  # noqa: E402

PATIENCE_SECONDS = 60


class Unavailable(Exception):
    """A server that cannot take part, and why."""


def cpu_seconds(pid):
    """User and system time of a process so far; Linux counts in hundredths of a second."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


class Served:
    """A server that is a process of ours."""

    pid = None
    process = None

    def start(self, command, folder, environment=None):
        self.log = pathlib.Path(folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        self.pid = self.process.pid

    def wait_until_ready(self, url, context=None):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2, context=context):
                    return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-1500:]
                    raise Unavailable(f"{self.title} did not start: {error}\n{tail}") from error
                time.sleep(0.1)

    def kill(self):
        """As a crash would."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None


class Client:
    """Requests of a user to its server, over one connection."""

    def __init__(self, address, context, headers):
        self.connection = http.client.HTTPSConnection(*address, context=context, timeout=90)
        self.headers = headers

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        self.connection.request(method, path, body=data, headers=headers)
        answer = self.connection.getresponse()
        read = answer.read()
        if answer.status != 200:
            raise Refused(f"{method} {path}: {answer.status} {read[:300]!r}")
        return json.loads(read)


class Nabe(Served):
    title = "Nabe"
    batch = 50
    drops_what_waits = False
    durable = True
    version_of = "room version I.1"

    def __init__(self, binary, folder, port, certificates, context):
        self.folder, self.port, self.context = pathlib.Path(folder), port, context
        self.name, self.ca = f"localhost:{port}", certificates / "ca.pem"
        shutil.copytree(certificates, self.folder)
        (self.folder / "nabe.toml").write_text(f"""
server_name = "{self.name}"
[listen]
address = "127.0.0.1:{port}"
tls_certificate = "tls.pem"
tls_key = "tls.key"
[federation]
ca_files = ["ca.pem"]
only_ca_files = true
allowed_ip_ranges = ["127.0.0.0/8", "::1/128"]
[client]
provider_token_file = "provider.token"
[limits]
requests_per_second = 1000000
burst = 1000000
[log]
level = "warn"
""")
        self.start([binary, "serve", "--config", "nabe.toml"], self.folder)
        self.wait_until_ready(f"https://localhost:{port}/_nabe/health/ready", context)
        version = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        self.version = version.removeprefix("nabe ")
        self.token = (self.folder / "provider.token").read_text().strip()
        self.headers = {"Authorization": f"Bearer {self.token}", "Nabe-User": f"@owner:{self.name}"}
        self.owner = Client(("localhost", port), context, self.headers)

    def room(self, origin):
        self.origin = origin
        self.room_id = self.owner.call("POST", "/_nabe/v1/rooms", {"join_rule": "public"})["room_id"]
        self.line = Line(origin, self.name, ("localhost", self.port), self.ca)
        user = quoted(origin.user)
        self.line.call("GET", f"/_matrix/federation/v1/make_join/{quoted(self.room_id)}/{user}?ver=I.1")
        self.events = Lpdus(origin, self.room_id, self.name)
        join = self.events.event("m.room.member", {"membership": "join"}, state_key=origin.user)
        self.line.call("POST", f"/_matrix/federation/v3/send_join/join-{os.urandom(6).hex()}", join)

    def transaction(self, number, events):
        return self.origin.request("PUT", f"/_matrix/federation/v2/send/{number}", self.name, {"pdus": events})

    def newest(self):
        page = self.owner.call("GET", f"/_nabe/v1/rooms/{quoted(self.room_id)}/events?dir=b&limit=1")
        return next((e["content"].get("body") for e in page["events"]), None)

    @contextlib.contextmanager
    def reading(self):
        """A stream of what happens, as a client has it open."""
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=90)
        connection.request("GET", "/_nabe/v1/stream", headers=self.headers)
        stream = connection.getresponse()
        bodies = queue.Queue()

        def read():
            with contextlib.suppress(Exception):
                while line := stream.readline():
                    if line.startswith(b"data:"):
                        event = json.loads(line[5:]).get("event") or {}
                        bodies.put(event.get("content", {}).get("body"))

        threading.Thread(target=read, daemon=True).start()
        yield lambda body: wait_in(bodies, body)

    def kept(self):
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "nabe.sqlite")) as database:
            rows = database.execute("SELECT body FROM events WHERE position IS NOT NULL AND body IS NOT NULL").fetchall()
        return sum(json.loads(body)["type"] == EVENT_TYPE for (body,) in rows)


class Synapse(Served):
    title = "Synapse"
    batch = 50
    # It acknowledges before it has checked authorization and stored the event in the room, and drops most of what waits for that if more than
    # a hundred do.
    drops_what_waits = True
    durable = True
    version_of = "room version 10"

    def __init__(self, python, folder, port, certificates, context):
        self.folder, self.port, self.context = pathlib.Path(folder), port, context
        self.name, self.ca = f"localhost:{port}", certificates / "ca.pem"
        self.folder.mkdir()
        asked = subprocess.run([python, "-c", "import importlib.metadata as m; print(m.version('matrix-synapse'))"],
                               capture_output=True, text=True)
        if asked.returncode:
            raise Unavailable(f"{python} has no Synapse: `python3 -m venv V && V/bin/pip install matrix-synapse`, then run this by V/bin/python")
        self.version = asked.stdout.strip()
        self.secret = os.urandom(16).hex()
        no_limit = {"per_second": 1_000_000, "burst_count": 1_000_000}
        config = {
            "server_name": self.name, "report_stats": False, "pid_file": str(self.folder / "pid"),
            "listeners": [{"port": port, "tls": True, "type": "http", "bind_addresses": ["127.0.0.1"],
                           "resources": [{"names": ["client", "federation"]}]}],
            "tls_certificate_path": str(certificates / "tls.pem"), "tls_private_key_path": str(certificates / "tls.key"),
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "homeserver.db")}},
            "signing_key": f"ed25519 bench {lm.b64(os.urandom(32))}", "media_store_path": str(self.folder / "media"),
            "registration_shared_secret": self.secret, "macaroon_secret_key": os.urandom(16).hex(),
            "trusted_key_servers": [], "federation_verify_certificates": False,
            "ip_range_whitelist": ["127.0.0.0/8", "::1/128"], "federation_ip_range_blacklist": [],
            "presence": {"enabled": False}, "log_config": str(self.folder / "log.yaml"),
            "rc_message": no_limit, "rc_joins": {"local": no_limit, "remote": no_limit}, "rc_joins_per_room": no_limit,
            "rc_federation": {"window_size": 1000, "sleep_limit": 1_000_000, "sleep_delay": 0, "reject_limit": 1_000_000,
                              "concurrent": 100}}
        # JSON is YAML.
        (self.folder / "homeserver.yaml").write_text(json.dumps(config))
        (self.folder / "log.yaml").write_text(json.dumps({
            "version": 1, "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"level": "WARNING", "handlers": ["console"]}, "disable_existing_loggers": False}))
        self.start([python, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"], self.folder)
        self.wait_until_ready(f"https://localhost:{port}/health", context)
        self.owner = Client(("localhost", port), context, {"Authorization": f"Bearer {self.register('owner')}"})

    def register(self, name):
        path = "/_synapse/admin/v1/register"
        client = Client(("localhost", self.port), self.context, {})
        nonce, password = client.call("GET", path)["nonce"], os.urandom(8).hex()
        parts = [nonce, name, password, "notadmin"]
        mac = hmac.new(self.secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password, "admin": False, "mac": mac}
        return client.call("POST", path, body)["access_token"]

    def room(self, origin):
        origin.without_empty_content = frozenset([self.name])
        self.origin = origin
        new = {"preset": "public_chat", "room_version": "10"}
        self.room_id = self.owner.call("POST", "/_matrix/client/v3/createRoom", new)["room_id"]
        self.line = Line(origin, self.name, ("localhost", self.port), self.ca)
        room, user = quoted(self.room_id), quoted(origin.user)
        template = self.line.call("GET", f"/_matrix/federation/v1/make_join/{room}/{user}?ver=10")["event"]
        join = {name: value for name, value in template.items() if name not in ("hashes", "signatures", "unsigned")}
        join["origin_server_ts"] = now_ms()
        chain = Chain(origin, self.room_id, [], None, join["depth"])
        event_id = chain.complete(join)
        self.line.call("PUT", f"/_matrix/federation/v2/send_join/{room}/{quoted(event_id)}", join)
        state = self.owner.call("GET", f"/_matrix/client/v3/rooms/{room}/state")
        ids = {(e["type"], e["state_key"]): e["event_id"] for e in state}
        wanted = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", origin.user)]
        chain.auth_events, chain.head = [ids[key] for key in wanted], event_id
        self.events = chain

    def transaction(self, number, events):
        content = {"origin": self.origin.name, "origin_server_ts": now_ms(), "pdus": events}
        return self.origin.request("PUT", f"/_matrix/federation/v1/send/{number}", self.name, content)

    def newest(self):
        page = self.owner.call("GET", f"/_matrix/client/v3/rooms/{quoted(self.room_id)}/messages?dir=b&limit=1")
        return next((e["content"].get("body") for e in page["chunk"]), None)

    @contextlib.contextmanager
    def reading(self):
        """A sync that waits, as a client has it open."""
        room_filter = json.dumps({"room": {"rooms": [self.room_id], "timeline": {"limit": 50}}, "presence": {"types": []}})
        path = f"/_matrix/client/v3/sync?filter={quoted(room_filter)}"
        since = self.owner.call("GET", f"{path}&timeout=0")["next_batch"]
        bodies, stop = queue.Queue(), threading.Event()
        client = Client(("localhost", self.port), self.context, self.owner.headers)

        def read(since):
            while not stop.is_set():
                answer = client.call("GET", f"{path}&timeout=5000&since={quoted(since)}")
                since = answer["next_batch"]
                joined = answer.get("rooms", {}).get("join", {}).get(self.room_id, {})
                for event in joined.get("timeline", {}).get("events", []):
                    bodies.put(event["content"].get("body"))

        thread = threading.Thread(target=read, args=(since,), daemon=True)
        thread.start()
        try:
            yield lambda body: wait_in(bodies, body)
        finally:
            stop.set()
            thread.join(10)

    def kept(self):
        with contextlib.closing(sqlite3.connect(self.folder / "homeserver.db")) as database:
            query = "SELECT count(*) FROM events WHERE type = ? AND rejection_reason IS NULL AND room_id = ?"
            return database.execute(query, (EVENT_TYPE, self.room_id)).fetchone()[0]


class Eigen:
    """A running eigen-server; what it speaks is plain HTTP, and who reads there has a WebSocket."""

    title = "eigen-server"
    # A transaction in which one event fails is refused as a whole, and it was made for one.
    batch = 1
    drops_what_waits = False
    durable = False
    version_of = f"room version {harness.ROOM_VERSION.rsplit('.', 1)[1]}, plain HTTP"
    process = None
    UNSTABLE = f"/_matrix/federation/unstable/{harness.ROOM_VERSION}"

    def __init__(self, url, pid):
        self.url, self.pid, self.version = url, pid, "running instance"
        self.name = urllib.parse.urlsplit(url).netloc
        try:
            self.owner = harness.EigenUser(url, f"owner{os.urandom(3).hex()}")
        except harness.Unreachable as error:
            raise Unavailable(str(error)) from error

    def room(self, origin):
        origin.without_empty_content = frozenset([self.name])
        self.origin = origin
        self.owner.send(type=harness.CREATE_ROOM)
        self.room_id = self.owner.wait(lambda p: p["type"] == harness.ROOM_JOINED, "the new room")["roomId"]
        self.owner.send(type=harness.INVITE, targetRoomId=self.room_id, targetUserId=origin.user)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.room_id not in origin.invites:
            if time.monotonic() > deadline:
                raise Refused("eigen-server invited nobody")
            time.sleep(0.05)
        url = urllib.parse.urlsplit(self.url)
        self.line = Line(origin, self.name, (url.hostname, url.port or 80))
        path = f"/_matrix/federation/v1/make_join/{quoted(self.room_id)}/{quoted(origin.user)}"
        self.line.call("GET", f"{path}?ver={harness.ROOM_VERSION}")
        self.events = Lpdus(origin, self.room_id, self.name)
        join = self.events.event("m.room.member", {"membership": "join"}, state_key=origin.user)
        self.line.call("POST", f"{self.UNSTABLE}/send_join/{os.urandom(6).hex()}", join)
        self.owner.packets.clear()

    def transaction(self, number, events):
        return self.origin.request("PUT", f"{self.UNSTABLE}/send/{number}", self.name, {"pdus": events, "edus": []})

    def newest(self):
        """What the WebSocket has brought by now."""
        with contextlib.suppress(harness.StepFailed):
            while True:
                self.owner.wait(lambda _: False, "nothing", 0.02)
        events = [p["event"] for p in self.owner.packets if p["type"] == harness.EVENT]
        return events[-1]["content"].get("body") if events else None

    @contextlib.contextmanager
    def reading(self):
        self.owner.packets.clear()

        def wait(body):
            self.owner.wait_event(body)
            self.owner.packets.clear()

        yield wait

    def kill(self):
        """Nothing: it is not ours to end, and keeps nothing on disk."""


def wait_in(bodies, wanted):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while bodies.get(timeout=max(0.01, deadline - time.monotonic())) != wanted:
        pass
