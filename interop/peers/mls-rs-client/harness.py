#!/usr/bin/env python3
"""Lets OpenMLS and mls-rs share encrypted rooms over two Nabe servers, and compares what each has after every commit.

    python3 harness.py --nabe ../../../target/release/nabe --peer target/release/mls-rs-client [--results FILE]

It starts two Nabe servers on loopback in a temporary folder, drives OpenMLS through `nabe client --json` (one process per command) and
mls-rs through `mls-rs-client` (one process per device), and stops all of them at the end. Only the Python standard library is used.

Exit status: 0 every step held, 1 one did not.
"""
import argparse
import collections
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PATIENCE_SECONDS = 20
ALL_SECONDS = 110
# How often each stack commits while the other one does. A command of `nabe client` takes longer.
RACES = (3, 12)
HOLD_BACK_MS = 1500
OPENMLS, MLS_RS = "OpenMLS", "mls-rs"


class StepFailed(Exception):
    pass


class Server:
    """One Nabe, from an empty folder."""

    def __init__(self, binary, folder, dev_ca=None):
        self.binary, self.folder = binary, folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.name = f"localhost:{port}"
        self.url = f"https://{self.name}"
        command = [binary, "init", str(folder), "--server-name", self.name, "--dev-tls"]
        subprocess.run(command + (["--dev-ca", str(dev_ca)] if dev_ca else []), check=True, stdout=subprocess.DEVNULL)
        self.ca, self.token = folder / "ca.pem", folder / "provider.token"
        environment = dict(
            os.environ, NABE_LISTEN__ADDRESS=f"127.0.0.1:{port}", NABE_FEDERATION__ONLY_CA_FILES="true",
            NABE_FEDERATION__ALLOWED_IP_RANGES='["127.0.0.0/8", "::1/128"]', NABE_DELIVERY__RETRY_BASE_MS="50",
            NABE_DELIVERY__RETRY_MAX_MS="500", NABE_LOG__LEVEL="warn")
        # One user logs in with a token of his own that stands for one device, the others as a provider's users do.
        token = subprocess.run([binary, "user", "add", "--config", folder / "nabe.toml", "dave", "--device", "DAVE_MLSRS"],
                               check=True, capture_output=True, text=True, env=environment).stdout
        self.own_token = folder / "dave.token"
        self.own_token.write_text(token)
        self.log = open(folder / "nabe.log", "wb")
        self.process = subprocess.Popen([binary, "serve", "--config", str(folder / "nabe.toml")], env=environment,
                                        stdout=self.log, stderr=self.log)

    def wait(self):
        tls = ssl.create_default_context(cafile=str(self.ca))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return opener.open(f"{self.url}/_nabe/health/ready", timeout=5).close()
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise StepFailed(f"{self.name} does not answer: {error}") from error
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class OpenMlsDevice:
    """A device of `nabe client`, whose state is a folder."""
    stack = OPENMLS

    def __init__(self, server, localpart, folder, epochs):
        self.server, self.name, self.folder, self.epochs = server, localpart, folder, epochs
        self.user, self.device = f"@{localpart}:{server.name}", f"{localpart}_openmls".upper()
        self.lines = []
        self.run("login", "--server", server.url, "--device", self.device, "--ca", server.ca, "--user", self.user,
                 f"--provider-token={server.token.read_text().strip()}")

    def run(self, *arguments, fails=False):
        command = [self.server.binary, "client", "--state", str(self.folder), "--json", *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        self.lines += lines
        for line in lines:
            if line.get("notice") == "epoch":
                self.epochs.note(line["room"], line["epoch"], self, line["epoch_authenticator"], line["tree_hash"])
                self.epochs.commits.setdefault((line["room"], line["epoch"]), ((line["by"]["user"], line["by"]["device"]), False))
        if (ended.returncode != 0) != fails:
            raise StepFailed(f"{self.name}: nabe client {' '.join(map(str, arguments))}: {ended.stderr.strip()[-800:]}")
        return lines

    def create(self, name, invite):
        return next(line["room_id"] for line in self.run("room", "create", "--name", name, "--invite", invite) if "room_id" in line)

    def invite(self, room, user):
        self.run("room", "invite", room, user)

    def join(self, room, via):
        self.run("room", "join", room, "--via", via)

    def leave(self, room):
        self.run("room", "leave", room)

    def add(self, room, user):
        self.run("room", "add", room, user)

    def remove(self, room, user):
        # `kick` takes the user's devices out of the group, too.
        self.run("room", "kick", room, user)

    def update(self, room):
        self.run("update", room)

    def join_external(self, room):
        self.run("join-external", room)

    def send(self, room, text):
        self.run("send", room, text)

    def state(self, room):
        """Epoch, authenticator, tree hash and members; None outside the group."""
        try:
            lines = self.run("room", "info", room)
        except StepFailed as failure:
            # Its user joined with another device, and the Welcome for this one is still on its way.
            if "is not one of your rooms" in str(failure):
                return None
            raise
        for line in lines:
            if isinstance(line.get("room"), dict) and "epoch" in line:
                members = sorted([member["user_id"], member["device_id"]] for member in line["members"])
                return line["epoch"], line["epoch_authenticator"], line["tree_hash"], members
        return None

    def messages(self, room):
        """(sender, text) of what could be read, and the reasons for what could not."""
        self.run("sync")
        lines = [line for line in self.lines if line.get("room") == room]
        return ([(line["sender"], line["text"]) for line in lines if line.get("notice") == "message"],
                [line["text"] for line in lines if line.get("notice") == "undecryptable"])

    def stop(self):
        pass


class MlsRsDevice:
    """A device of `mls-rs-client`, which lives as long as its process."""
    stack = MLS_RS

    def __init__(self, server, localpart, binary, epochs):
        self.server, self.name, self.epochs = server, localpart, epochs
        self.user, self.device = f"@{localpart}:{server.name}", f"{localpart}_mlsrs".upper()
        credential = ["--token-file", server.own_token] if localpart == "dave" else ["--token-file", server.token, "--user", self.user]
        command = [binary, "--server", server.url, "--ca", server.ca, "--device", self.device, *credential]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines, self.answers, self.changed = [], collections.deque(), threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(lambda: any(line.get("notice") == "ready" for line in self.lines), "mls-rs-client is ready")

    def _read(self):
        for text in self.process.stdout:
            line = json.loads(text)
            with self.changed:
                (self.answers if "answer" in line else self.lines).append(line)
                if line.get("notice") == "epoch":
                    self.epochs.note(line["room"], line["epoch"], self, line["epoch_authenticator"], line["tree_hash"],
                                     line["members"])
                    self.epochs.commits[line["room"], line["epoch"]] = line["by"], line["external"]
                self.changed.notify_all()
        with self.changed:
            self.answers.append({"answer": "the process ended", "ok": False})
            self.changed.notify_all()

    def wait(self, is_so, what):
        with self.changed:
            if not self.changed.wait_for(is_so, PATIENCE_SECONDS):
                raise StepFailed(f"{self.name}: {what}: not within {PATIENCE_SECONDS} s; {self.lines[-5:]}")

    def do(self, verb, **arguments):
        self.process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self.process.stdin.flush()
        self.wait(lambda: self.answers, verb)
        answer = self.answers.popleft()
        if not answer["ok"]:
            raise StepFailed(f"{self.name}: {verb}: {answer['answer']}")
        return answer["answer"]

    def create(self, name, invite):
        return self.do("create", name=name, invite=[invite])["room"]

    def invite(self, room, user):
        self.do("invite", room=room, user=user)

    def join(self, room, via):
        self.do("join", room=room, via=[via])

    def leave(self, room):
        self.do("leave", room=room)

    def add(self, room, user):
        self.do("add", room=room, user=user)

    def remove(self, room, user):
        self.do("kick", room=room, user=user)
        self.do("remove", room=room, user=user)

    def update(self, room, hold_back_ms=0):
        self.do("update", room=room, hold_back_ms=hold_back_ms)

    def join_external(self, room):
        self.do("join_external", room=room)

    def send(self, room, text):
        self.do("send", room=room, text=text)

    def state(self, room):
        try:
            state = self.do("state", room=room)
        except StepFailed:
            return None
        return state["epoch"], state["epoch_authenticator"], state["tree_hash"], sorted(state["members"])

    def messages(self, room):
        with self.changed:
            lines = [line for line in self.lines if line.get("room") == room]
        texts = [(line["sender"], line["payload"]["content"]["m.text"][0]["body"]) for line in lines if line.get("notice") == "message"]
        return texts, [line["reason"] for line in lines if line.get("notice") == "undecryptable"]

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Epochs:
    """Which device saw which authenticator and tree hash in which epoch."""

    def __init__(self):
        self.seen, self.members, self.commits, self.lock = {}, {}, {}, threading.Lock()
        # The last epoch of each room in which all of its devices were asked. They may make another one before they are stopped.
        self.settled = {}

    def note(self, room, epoch, device, authenticator, tree_hash, members=None):
        with self.lock:
            self.seen.setdefault((room, epoch), {})[device.name] = (device.stack, authenticator, tree_hash)
            if members:
                self.members[room, epoch] = members

    def differing(self):
        return [key for key, devices in self.seen.items() if len({values[1:] for values in devices.values()}) != 1]

    def alone(self):
        """Epochs that only one stack stated although both were in the group."""
        both = lambda key: len({device.rsplit("_", 1)[1] for _, device in self.members.get(key, ())}) == 2
        return [key for key in sorted(self.seen) if self.is_settled(key) and len(self.stacks(key)) == 1 and both(key)]

    def is_settled(self, key):
        room, epoch = key
        return epoch <= self.settled[room]

    def stacks(self, key):
        return sorted({stack for stack, *_ in self.seen[key].values()})


class Story:
    def __init__(self, epochs):
        self.epochs, self.steps = epochs, []

    def step(self, name, ok, detail):
        self.steps.append((name, ok, detail))
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}", flush=True)
        if not ok:
            raise StepFailed(name)

    def until(self, what, probe):
        """Asks until there is an answer, but not for ever."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found, seen = probe()
            if found:
                return seen
            if time.monotonic() > deadline:
                raise StepFailed(f"{what}: not within {PATIENCE_SECONDS} s; last seen: {seen}")
            time.sleep(0.05)

    def agree(self, name, room, devices, at_least=0):
        """All devices come to the same epoch, and have the same authenticator and tree hash in it. Returns the epoch."""
        members = sorted([device.user, device.device] for device in devices)

        def probe():
            states = {}
            for device in devices:
                states[device.name] = state = device.state(room)
                if state:
                    self.epochs.note(room, state[0], device, *state[1:])
            if None in states.values():
                return False, states
            agreed = len({state[0] for state in states.values()}) == 1
            first = next(iter(states.values()))
            return agreed and first[0] >= at_least and all(state[3] == members for state in states.values()), states

        states = self.until(name, probe)
        epoch, authenticator, *_ = next(iter(states.values()))
        self.epochs.settled[room] = epoch
        same = len({state[1:3] for state in states.values()}) == 1
        stacks = " and ".join(sorted({device.stack for device in devices}))
        self.step(name, same, f"epoch {epoch}, authenticator {authenticator[:16]}… with {len(devices)} devices ({stacks})")
        return epoch

    def say(self, room, sender, readers):
        text = f"{sender.name} speaks {sender.stack}, {os.urandom(2).hex()}"
        sender.send(room, text)
        for reader in readers:
            def probe():
                read, unread = reader.messages(room)
                return (sender.user, text) in read, unread[-2:]
            self.until(f"{reader.name} reads {sender.name}", probe)
        self.step(f"{sender.stack} encrypts, {' and '.join(sorted({reader.stack for reader in readers}))} decrypts", True,
                  f"'{text}' read by {', '.join(reader.name for reader in readers)}")

    def cannot_read(self, room, sender, readers, removed):
        """A message after a device was removed from the group: its user is still in the room, so it gets the ciphertext."""
        before = len(removed.messages(room)[1])
        text = f"not for {removed.name}, {os.urandom(2).hex()}"
        sender.send(room, text)
        for reader in readers:
            def probe():
                read, unread = reader.messages(room)
                return (sender.user, text) in read, unread[-2:]
            self.until(f"{reader.name} reads {sender.name}", probe)

        def tried():
            read, unread = removed.messages(room)
            return len(unread) > before or (sender.user, text) in read, (read, unread)

        read, unread = self.until(f"{removed.name} tries to read", tried)
        self.step(f"the removed {removed.stack} device cannot read on", (sender.user, text) not in read, unread[-1])

    def publish(self, device, room, devices, epoch):
        """The newest GroupInfo becomes one of this stack, whoever else commits meanwhile: OpenMLS does so soon after it was added."""
        name = f"{device.stack} publishes a GroupInfo"
        while True:
            device.update(room)
            epoch = self.agree(name, room, devices, epoch + 1)
            (_, committer), _ = self.epochs.commits[room, epoch]
            if {one.device: one.stack for one in devices}[committer] == device.stack:
                return epoch

    def joined_with(self, room, device, publisher):
        """The external commit of `device` follows a commit, and so a GroupInfo, of `publisher`'s stack."""
        commits = {epoch: commit for (of, epoch), commit in self.epochs.commits.items() if of == room}
        joined = max(epoch for epoch, (by, external) in commits.items() if external and by[1] == device.device)
        before = commits[joined - 1][0][1]
        suffix = publisher.device.rsplit("_", 1)[1]
        self.step(f"{device.stack} has used a GroupInfo of {publisher.stack}", before.endswith(suffix),
                  f"epoch {joined - 1} by {before}, epoch {joined} by {device.device}")

    def race(self, room, openmls, mls_rs, devices, epoch):
        """Both commit at the same time, again and again. Every commit gets its epoch in the end."""
        def commit(device, often):
            for _ in range(often):
                device.update(room)

        with concurrent.futures.ThreadPoolExecutor() as both:
            late = both.submit(mls_rs.update, room, HOLD_BACK_MS)
            openmls.update(room)
            late.result()
        lost = sum(line.get("notice") == "lost_race" for line in mls_rs.lines)
        self.step("mls-rs loses a race and commits anew", lost, f"its first commit was held back {HOLD_BACK_MS} ms")
        epoch = self.agree("afterwards both commits have an epoch", room, devices, epoch + 2)
        before = [sum(line.get("notice") == "lost_race" for line in device.lines) for device in (openmls, mls_rs)]
        with concurrent.futures.ThreadPoolExecutor() as both:
            for done in [both.submit(commit, openmls, RACES[0]), both.submit(commit, mls_rs, RACES[1])]:
                done.result()
        after = [sum(line.get("notice") == "lost_race" for line in device.lines) for device in (openmls, mls_rs)]
        detail = f"{RACES[0]} commits by OpenMLS, {RACES[1]} by mls-rs; races lost and made anew: {after[0] - before[0]}, {after[1] - before[1]}"
        self.step("both commit at the same time", True, detail)
        return self.agree("afterwards all are in one epoch", room, devices, epoch + sum(RACES))

    def sees(self, device, room, user, membership):
        """mls-rs knows of a change of membership. (OpenMLS would act on it.)"""
        wanted = {"notice": "membership", "room": room, "user": user, "membership": membership}
        device.wait(lambda: wanted in device.lines, f"{user}: {membership}")


def openmls_founds(story, alice, bob, carol, dave, erin):
    """The hub is the OpenMLS user's server."""
    room = alice.create("OpenMLS founds", bob.user)
    bob.join(room, alice.server.name)
    alice.add(room, bob.user)
    epoch = story.agree("OpenMLS founds a group and adds mls-rs by Welcome", room, [alice, bob])
    story.say(room, alice, [bob])
    story.say(room, bob, [alice])
    bob.update(room)
    epoch = story.agree("mls-rs commits new keys", room, [alice, bob], epoch + 1)
    alice.update(room)
    epoch = story.agree("OpenMLS commits new keys", room, [alice, bob], epoch + 1)

    alice.invite(room, carol.user)
    carol.join(room, alice.server.name)
    story.sees(bob, room, carol.user, "join")
    bob.add(room, carol.user)
    epoch = story.agree("mls-rs adds OpenMLS by Welcome", room, [alice, bob, carol], epoch + 1)
    story.say(room, carol, [alice, bob])

    epoch = story.publish(alice, room, [alice, bob, carol], epoch)
    alice.invite(room, dave.user)
    dave.join(room, alice.server.name)
    dave.join_external(room)
    epoch = story.agree("mls-rs joins externally", room, [alice, bob, carol, dave], epoch + 1)
    story.joined_with(room, dave, alice)
    story.say(room, dave, [alice, bob, carol])
    story.say(room, alice, [bob, carol, dave])

    epoch = story.publish(bob, room, [alice, bob, carol, dave], epoch)
    bob.invite(room, erin.user)
    erin.join(room, alice.server.name)
    erin.join_external(room)
    epoch = story.agree("OpenMLS joins externally", room, [alice, bob, carol, dave, erin], epoch + 1)
    story.joined_with(room, erin, bob)
    story.say(room, erin, [alice, bob, carol, dave])
    story.say(room, dave, [alice, bob, carol, erin])

    epoch = story.race(room, alice, bob, [alice, bob, carol, dave, erin], epoch)

    alice.remove(room, dave.user)
    epoch = story.agree("OpenMLS kicks an mls-rs user and removes the device", room, [alice, bob, carol, erin], epoch + 1)
    erin.leave(room)
    story.sees(bob, room, erin.user, "leave")
    bob.do("remove", room=room, user=erin.user)
    epoch = story.agree("mls-rs removes the device of an OpenMLS user who left", room, [alice, bob, carol], epoch + 1)
    story.say(room, bob, [alice, carol])
    story.agree("in the end, all are in one epoch", room, [alice, bob, carol], epoch)
    return room


def mls_rs_founds(story, alice, frank, other):
    """The hub is the mls-rs user's server. `other` is a second device of the same user, on OpenMLS."""
    room = frank.create("mls-rs founds", alice.user)
    alice.join(room, frank.server.name)
    story.sees(frank, room, alice.user, "join")
    frank.add(room, alice.user)
    epoch = story.agree("mls-rs founds a group and adds OpenMLS by Welcome", room, [alice, frank])
    story.say(room, frank, [alice])
    story.say(room, alice, [frank])
    epoch = story.race(room, alice, frank, [alice, frank], epoch)

    frank.add(room, frank.user)
    epoch = story.agree("mls-rs adds its own user's OpenMLS device", room, [alice, frank, other], epoch + 1)
    story.say(room, other, [alice, frank])
    frank.do("remove", room=room, user=other.user, device=other.device)
    epoch = story.agree("mls-rs removes that device", room, [alice, frank], epoch + 1)
    story.cannot_read(room, alice, [frank], other)

    frank.add(room, frank.user)
    epoch = story.agree("mls-rs adds it again", room, [alice, frank, other], epoch + 1)
    other.run("device", "remove", frank.device, "--room", room)
    epoch = story.agree("OpenMLS removes the mls-rs device", room, [alice, other], epoch + 1)
    story.cannot_read(room, alice, [other], frank)
    frank.join_external(room)
    epoch = story.agree("mls-rs comes back by an external commit", room, [alice, frank, other], epoch + 1)
    story.say(room, frank, [alice, other])
    story.agree("in the end, all are in one epoch again", room, [alice, frank, other], epoch)
    return room


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nabe", required=True, help="the nabe binary")
    parser.add_argument("--peer", required=True, help="the mls-rs-client binary")
    parser.add_argument("--results", help="also write what was seen to this Markdown file")
    arguments = parser.parse_args()
    nabe = os.path.realpath(arguments.nabe)

    def too_long(*_):
        raise StepFailed(f"not done after {ALL_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(ALL_SECONDS)
    epochs, running, failure = Epochs(), [], None
    story = Story(epochs)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            a = Server(nabe, folder / "a")
            running.append(a)
            b = Server(nabe, folder / "b", dev_ca=folder / "a")
            running.append(b)
            for server in (a, b):
                server.wait()

            def openmls(server, name):
                return OpenMlsDevice(server, name, folder / f"{name}.device", epochs)

            def mls_rs(server, name):
                device = MlsRsDevice(server, name, arguments.peer, epochs)
                running.append(device)
                return device

            alice, carol, erin = (openmls(a, name) for name in ("alice", "carol", "erin"))
            bob, dave, frank = (mls_rs(b, name) for name in ("bob", "dave", "frank"))
            other = openmls(b, "frank")
            other.name = "frank's other device"
            rooms = {
                openmls_founds(story, alice, bob, carol, dave, erin): "OpenMLS founds",
                mls_rs_founds(story, alice, frank, other): "mls-rs founds",
            }
            differing = epochs.differing()
            both = [key for key in epochs.seen if len(epochs.stacks(key)) == 2]
            story.step("one authenticator and one tree hash in every epoch", not differing,
                       f"{len(epochs.seen)} epochs, {len(differing)} of them with two")
            alone = [f"{rooms[room]} {epoch}" for room, epoch in epochs.alone()]
            story.step("every epoch with devices of both was stated by both", not alone, f"{len(both)} epochs; {alone or 'none missing'}")
            problems = [line for device in (bob, dave, frank) for line in device.lines if line.get("notice") == "problem"]
            story.step("mls-rs found nothing to complain about", not problems, f"{problems or 'no problem'}")
        except (StepFailed, subprocess.SubprocessError, OSError) as error:
            failure, rooms = f"{type(error).__name__}: {error}", {}
            print(f"FAIL {failure}", file=sys.stderr)
            for server in running[:2]:
                sys.stderr.write(pathlib.Path(server.log.name).read_text()[-3000:])
        finally:
            signal.alarm(0)
            for one in reversed(running):
                one.stop()
    held = sum(ok for _, ok, _ in story.steps)
    print(f"{held} held, {'1 did not' if failure else '0 did not'}, {time.monotonic() - begun:.0f} s")
    if arguments.results and not failure:
        write_results(pathlib.Path(arguments.results), nabe, story, rooms)
    return 1 if failure else 0


def locked(lock, name):
    text = lock.read_text()
    return re.search(rf'name = "{name}"\nversion = "([^"]+)"', text)[1]


def write_results(path, nabe, story, rooms):
    here = pathlib.Path(__file__).resolve().parent
    version = subprocess.run([nabe, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    peers, product = here / "Cargo.lock", here.parents[2] / "Cargo.lock"
    epochs = story.epochs
    lines = [
        "# mls-rs", "",
        f"Last run {datetime.date.today()}: {version} with OpenMLS {locked(product, 'openmls')}, and mls-rs {locked(peers, 'mls-rs')} "
        f"with mls-rs-crypto-rustcrypto {locked(peers, 'mls-rs-crypto-rustcrypto')}, cipher suite 1: {len(story.steps)} steps held, 0 did not.", "",
        "Written by `interop/peers/mls-rs-client/harness.py`; the README beside it says what is started and how.", "",
        "| Step | Seen |", "|---|---|",
        *(f"| {name} | {detail} |" for name, _, detail in story.steps), "",
        "## Every epoch", "",
        "One line for each commit that an mls-rs or OpenMLS device stated the outcome of. Everybody who stated it stated the same.", "",
        "| Room | Epoch | Committed by | Epoch authenticator | Stated by |", "|---|---|---|---|---|"]
    for (room, epoch), devices in sorted(epochs.seen.items(), key=lambda item: (list(rooms).index(item[0][0]), item[0][1])):
        by, external = epochs.commits.get((room, epoch), (None, False))
        committer = f"{by[1]}{', external' if external else ''}" if by else "not told"
        stated = ", ".join(f"{name} ({stack})" for name, (stack, *_) in sorted(devices.items()))
        authenticator = next(iter(devices.values()))[1]
        lines.append(f"| {rooms[room]} | {epoch} | {committer} | `{authenticator[:32]}…` | {stated} |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
