#!/usr/bin/env python3
"""Lets OpenMLS and ts-mls share encrypted rooms over two Nabe servers, and compares what each has after every commit.

    python3 harness.py --nabe ../../../target/release/nabe [--node node] [--mls-rs PROGRAM] [--results FILE]

It starts two Nabe servers on loopback in a temporary folder, drives OpenMLS through `nabe client --json` (one process per command) and
ts-mls through `src/main.mjs` (one process per device), and stops all of them at the end. The servers, the devices, the comparisons and the
two stories are those of the mls-rs harness, with ts-mls in the place of mls-rs. With an mls-rs-client there is a third room, in which all
three stacks are. Only the Python standard library is used.

Exit status: 0 every step held, 1 one did not.
"""
import argparse
import collections
import datetime
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# Leaves nothing in the other peer's folder.
sys.dont_write_bytecode = True
_specification = importlib.util.spec_from_file_location("two_stacks", HERE.parent / "mls-rs-client" / "harness.py")
two_stacks = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(two_stacks)
StepFailed = two_stacks.StepFailed

ALL_SECONDS = 240
OPENMLS, MLS_RS, TS_MLS = two_stacks.OPENMLS, two_stacks.MLS_RS, "ts-mls"
# The ends of the devices' names.
STACKS = {"OPENMLS": OPENMLS, "MLSRS": MLS_RS, "TSMLS": TS_MLS}


class TsMlsDevice(two_stacks.MlsRsDevice):
    """A device of `ts-mls-client`, which lives as long as its process and takes the commands of `mls-rs-client`."""
    stack = TS_MLS

    def __init__(self, server, localpart, node, epochs):
        self.server, self.name, self.epochs = server, localpart, epochs
        self.user, self.device = f"@{localpart}:{server.name}", f"{localpart}_tsmls".upper()
        command = [node, HERE / "src" / "main.mjs", "--server", server.url, "--ca", server.ca, "--device", self.device,
                   "--token-file", server.token, "--user", self.user]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines, self.answers, self.changed = [], collections.deque(), threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(lambda: any(line.get("notice") == "ready" for line in self.lines), "ts-mls-client is ready")


class Epochs(two_stacks.Epochs):
    def unstated(self):
        """Epochs of which a stack that had a device in the group did not state the outcome."""
        for key, members in sorted(self.members.items()):
            missing = {STACKS[device.rsplit("_", 1)[1]] for _, device in members} - set(self.stacks(key))
            if missing and self.is_settled(key):
                yield key, missing


class Story(two_stacks.Story):
    # The first two stories are told of mls-rs; here they happen to this one.
    instead = {"an mls-rs": "a ts-mls", MLS_RS: TS_MLS}

    def step(self, name, ok, detail):
        for told, meant in self.instead.items():
            name, detail = name.replace(told, meant), detail.replace(told, meant)
        super().step(name, ok, detail)


def three_stacks(story, alice, bob, heidi, ivan, judy):
    """All three in one room; the hub is the ts-mls user's server. Each stack adds, joins by, reads and removes what the others made."""
    founders = [alice, bob, heidi]
    room = bob.create("three stacks", alice.user)
    alice.join(room, bob.server.name)
    story.sees(bob, room, alice.user, "join")
    bob.add(room, alice.user)
    story.agree("ts-mls founds a group and adds OpenMLS", room, [bob, alice])
    bob.invite(room, heidi.user)
    heidi.join(room, bob.server.name)
    alice.add(room, heidi.user)
    epoch = story.agree("OpenMLS adds mls-rs", room, founders)
    for device in founders:
        device.update(room)
        epoch = story.agree(f"{device.stack} commits new keys", room, founders, epoch + 1)

    everybody = founders
    for newcomer, publisher in ((ivan, bob), (judy, heidi)):
        epoch = story.publish(publisher, room, everybody, epoch)
        bob.invite(room, newcomer.user)
        newcomer.join(room, bob.server.name)
        newcomer.join_external(room)
        everybody = [*everybody, newcomer]
        epoch = story.agree(f"{newcomer.stack} joins externally", room, everybody, epoch + 1)
        story.joined_with(room, newcomer, publisher)
    for device in everybody:
        story.say(room, device, [other for other in everybody if other is not device])

    bob.remove(room, ivan.user)
    epoch = story.agree("ts-mls kicks an mls-rs user and removes the device", room, [alice, bob, heidi, judy], epoch + 1)
    judy.leave(room)
    story.sees(heidi, room, judy.user, "leave")
    heidi.do("remove", room=room, user=judy.user)
    epoch = story.agree("mls-rs removes the device of a ts-mls user who left", room, founders, epoch + 1)
    for device in founders:
        story.say(room, device, [other for other in founders if other is not device])
    story.agree("in the end, the three are in one epoch", room, founders, epoch)
    return room


def play(story, folder, arguments, running):
    """Starts everything and tells the stories. Returns the names of the rooms."""
    nabe, epochs = os.path.realpath(arguments.nabe), story.epochs
    a = two_stacks.Server(nabe, folder / "a")
    running.append(a)
    b = two_stacks.Server(nabe, folder / "b", dev_ca=folder / "a")
    running.append(b)
    for server in (a, b):
        server.wait()

    def openmls(server, name):
        return two_stacks.OpenMlsDevice(server, name, folder / f"{name}.device", epochs)

    def ts_mls(server, name):
        device = TsMlsDevice(server, name, arguments.node, epochs)
        running.append(device)
        return device

    alice, carol, erin = (openmls(a, name) for name in ("alice", "carol", "erin"))
    bob, dave, frank = (ts_mls(b, name) for name in ("bob", "dave", "frank"))
    other = openmls(b, "frank")
    other.name = "frank's other device"
    rooms = {
        two_stacks.openmls_founds(story, alice, bob, carol, dave, erin): "OpenMLS founds",
        two_stacks.mls_rs_founds(story, alice, frank, other): "ts-mls founds",
    }
    watched = [bob, dave, frank]
    if arguments.mls_rs:
        story.instead = {}
        heidi, ivan = (two_stacks.MlsRsDevice(a, name, arguments.mls_rs, epochs) for name in ("heidi", "ivan"))
        judy = ts_mls(a, "judy")
        running += [heidi, ivan]
        watched += [heidi, ivan, judy]
        rooms[three_stacks(story, alice, bob, heidi, ivan, judy)] = "three stacks"

    differing = epochs.differing()
    story.step("one authenticator and one tree hash in every epoch", not differing,
               f"{len(epochs.seen)} epochs, {len(differing)} of them with two")
    unstated = [f"{rooms[room]} {epoch}: {missing}" for (room, epoch), missing in epochs.unstated()]
    shared = sum(len(epochs.stacks(key)) > 1 for key in epochs.seen)
    story.step("every epoch was stated by every stack in it", not unstated, f"{shared} epochs of several stacks; {unstated or 'none missing'}")
    problems = [line for device in watched for line in device.lines if line.get("notice") == "problem"]
    story.step("no client found anything to complain about", not problems, f"{problems or 'no problem'}")
    return rooms


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nabe", required=True, help="the nabe binary")
    parser.add_argument("--node", default="node", help="the node.js program")
    parser.add_argument("--mls-rs", help="the mls-rs-client binary, for the room of three stacks")
    parser.add_argument("--results", help="also write what was seen to this Markdown file")
    arguments = parser.parse_args()

    def too_long(*_):
        raise StepFailed(f"not done after {ALL_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(ALL_SECONDS)
    story, running, rooms, failed = Story(Epochs()), [], {}, False
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            rooms = play(story, pathlib.Path(folder), arguments, running)
        except (StepFailed, subprocess.SubprocessError, OSError) as error:
            failed = True
            print(f"FAIL {type(error).__name__}: {error}", file=sys.stderr)
            for server in running[:2]:
                sys.stderr.write(pathlib.Path(server.log.name).read_text()[-3000:])
        finally:
            signal.alarm(0)
            for one in reversed(running):
                one.stop()
    held = sum(ok for _, ok, _ in story.steps)
    print(f"{held} held, {'1 did not' if failed else '0 did not'}, {time.monotonic() - begun:.0f} s")
    if arguments.results and not failed:
        write_results(pathlib.Path(arguments.results), arguments, story, rooms)
    return 1 if failed else 0


def versions(arguments):
    def output(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    installed = json.loads((HERE / "package-lock.json").read_text())["packages"]
    openmls = two_stacks.locked(HERE.parents[2] / "Cargo.lock", "openmls")
    mls_rs = two_stacks.locked(HERE.parent / "mls-rs-client" / "Cargo.lock", "mls-rs")
    return (f"{output(arguments.nabe, '--version')} with OpenMLS {openmls}, ts-mls {installed['node_modules/ts-mls']['version']} on node.js "
            f"{output(arguments.node, '--version')}" + (f", and mls-rs {mls_rs} in the third room" if arguments.mls_rs else ""))


def write_results(path, arguments, story, rooms):
    epochs = story.epochs
    lines = [
        "# ts-mls", "",
        f"Last run {datetime.date.today()}: {versions(arguments)}, cipher suite 1: {len(story.steps)} steps held, 0 did not.", "",
        "Written by `interop/peers/ts-mls-client/harness.py`; the README beside it says what is started and how, and where ts-mls deviates "
        "from RFC 9420.", "",
        "| Step | Seen |", "|---|---|",
        *(f"| {name} | {detail} |" for name, _, detail in story.steps), "",
        "## Every epoch", "",
        "One line for each commit that a device stated the outcome of. Everybody who stated it stated the same.", "",
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
