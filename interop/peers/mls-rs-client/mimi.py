#!/usr/bin/env python3
"""Lets OpenMLS and mls-rs share rooms of MIMI over two Nabe providers, and compares what each has after every commit.

    python3 mimi.py --nabe NABE --openmls MIMI_LINES --peer MLS_RS_CLIENT [--results FILE]

It starts two providers on loopback in a temporary folder, which speak MIMI to each other over mutual TLS, and drives one process per client
by lines of JSON: OpenMLS by `crates/nabe/examples/mimi_lines.rs`, mls-rs by `mls-rs-client --mimi`. Only the Python standard library is used.

Exit status: 0 every step held, 1 one did not.
"""
import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from harness import MLS_RS, OPENMLS, PATIENCE_SECONDS, StepFailed, locked

ALL_SECONDS = 110
RACES = 4
HOLD_BACK_MS = 1500
ROOMS = ["mimi://a.localhost/r/clubhouse", "mimi://b.localhost/r/attic"]
BEGIN, END = "<!-- begin: MIMI -->", "<!-- end: MIMI -->"
HOW_FAR = """### How far mls-rs goes

By what an application may set, mls-rs alone does this: key packages with the capabilities that rooms require (`extension_type`,
`custom_proposal_types`) and the components in leaves; Welcome and external commit with a tree from elsewhere; SafeAAD, as authenticated
data; messages, with franks; commits of RFC 9420's own proposals, both ways. It ends at the first AppDataUpdate, which every change of participants contains.
The steps with a client \"without any translation\" show Welcome, messages, new keys and the end; external commits, Adds and Removes were run with the translation
only. What is beyond that takes the files in `src/mimi`:

| What stands in the way | Where, in mls-rs 0.55.4 and mls-rs-core 0.27.0 | What is done |
|---|---|---|
| A proposal of a new type is written as type and `opaque data<V>`; AppDataUpdate, AppEphemeral and SelfRemove have no such length. They are read as something else, or not at all | `CustomDecoder` in `group/proposal.rs`, with exceptions for two types of RCS | `frame.rs` translates messages at the edge. `crypto.rs` is a `CryptoProvider` that puts what is hashed, signed and authenticated back into the draft's form. It works in all that the steps show; but it is beside mls-rs, not by it |
| Its SelfRemove (feature `self_remove_proposal`) has the number 0xF003 and not 0x000A | `ProposalType::SELF_REMOVE` in `mls-rs-core/src/group/proposal_type.rs` | not used. SelfRemove is a custom proposal, and its effect a Remove that is not transmitted |
| It knows no effect of an AppDataUpdate | | `rules.rs`: `MlsRules::filter_proposals` adds a GroupContextExtensions proposal with `ProposalSource::Local`, which is not transmitted. Group context, transcript and epoch secrets agree with OpenMLS's |
| Whoever joins by an external commit may not change extensions, even so | `proposer_can_propose` in `group/proposal_filter/filtering.rs` | the local proposal names member 0 as its sender, which nothing contradicts |
| What is pending is kept without its order, in which several updates of one component count | `ProposalCache` in `group/proposal_cache.rs`: a `HashMap` | `rules.rs` sorts by the order of the room's log |
| Who may send a proposal of a new type is not checked | `filter_out_invalid_proposers`, the same file as above | good here: an AppDataUpdate by the hub as external sender passes. Who may what is for the hub to enforce |
| A commit with a GroupContextExtensions proposal needs a path, even with a local one; an AppDataUpdate needs none. A commit of AppDataUpdates and Adds without a path would be refused with `CommitMissingPath` | `path_update_required` in `group/message_processor.rs` | nothing can be done from outside. OpenMLS in Nabe's client always sends a path. Read in the source, not run |
| Wire formats are a closed list: no semi-private messages | `WireFormat` in `group/framing.rs` | nothing. Nabe has none, either. Read in the source, not run |

Not tried: AppEphemeral, joining codes and preauthorization, changes of components other than the participant list by mls-rs, other cipher suites, X.509, reports,
files, and keeping groups beyond the life of the process.

Something else came out. By the draft, an AppDataUpdate leaves the dictionary at its place among the context's extensions. OpenMLS 0.9.2 puts it last, and the hub with it: it refuses
the commits of whoever does not (\"the GroupInfo is not of the epoch\"). It does not show where the dictionary is last from the beginning, as Nabe's clients put it. In the room that mls-rs founds it is first,
and mls-rs does as OpenMLS does.
"""


class Provider:
    """One Nabe that speaks MIMI, from an empty folder."""

    def __init__(self, binary, parent, domain, ca_of=None):
        self.binary, self.domain, self.folder = binary, domain, parent / domain
        with socket.create_server(("127.0.0.1", 0)) as client, socket.create_server(("127.0.0.1", 0)) as mimi:
            self.port, self.mimi = client.getsockname()[1], mimi.getsockname()[1]
        command = [binary, "init", self.folder, "--server-name", domain, "--mimi", domain, "--dev-tls"]
        subprocess.run(command + (["--dev-ca", ca_of.folder] if ca_of else []), check=True, stdout=subprocess.DEVNULL)
        self.ca, self.token = self.folder / "ca.pem", self.folder / "provider.token"
        self.url = f"https://localhost:{self.port}"
        tls = ssl.create_default_context(cafile=str(self.ca))
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))

    def start(self, others):
        peers = ", ".join(f'"{other.domain}" = "127.0.0.1:{other.mimi}"' for other in others)
        environment = dict(
            os.environ, NABE_LISTEN__ADDRESS=f"127.0.0.1:{self.port}", NABE_MIMI__ADDRESS=f"127.0.0.1:{self.mimi}",
            NABE_MIMI__ONLY_CA_FILES="true", NABE_MIMI__OVERRIDES=f"{{ {peers} }}", NABE_DELIVERY__RETRY_BASE_MS="50",
            NABE_DELIVERY__RETRY_MAX_MS="500", NABE_LOG__LEVEL="warn")
        self.log = open(self.folder / "nabe.log", "wb")
        self.process = subprocess.Popen([self.binary, "serve", "--config", self.folder / "nabe.toml"], env=environment,
                                        stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.opener.open(f"{self.url}/_nabe/health/ready", timeout=5).close()
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise StepFailed(f"{self.domain} does not answer: {error}") from error
            time.sleep(0.05)

    def grant(self, target, requester):
        """A user of this provider lets another user add them to any room: a `ConsentEntry` (MIMI #convey-explicit-consent)."""
        uri = lambda text: bytes([len(text)]) + text.encode()
        entry = bytes([2]) + uri(requester.user) + uri(target.user) + b"\0" + b"\0" + b"\0"
        headers = {"authorization": f"Bearer {self.token.read_text().strip()}", "nabe-user": target.account,
                   "content-type": "application/octet-stream"}
        request = urllib.request.Request(f"{self.url}/_nabe/v1/mimi/consent", data=entry, headers=headers)
        self.opener.open(request, timeout=PATIENCE_SECONDS).close()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Client:
    """A client of either stack: a process that obeys lines of JSON."""

    def __init__(self, provider, stack, binary, localpart, device, folder, options=()):
        self.stack, self.provider, self.room = stack, provider, ROOMS[0]
        self.name, self.alone = f"{localpart}'s {device.lower()}", "--alone" in options
        self.account, self.user = f"@{localpart}:{provider.domain}", f"mimi://{provider.domain}/u/{localpart}"
        self.client = f"mimi://{provider.domain}/d/{localpart}/{device}"
        command = [binary, "--server", provider.url, "--ca", provider.ca, "--token-file", provider.token, "--user", self.account]
        command += (["--client", self.client, "--state", folder / f"{localpart}-{device}"] if stack == OPENMLS
                    else ["--mimi", self.client, *options])
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines, self.answers, self.changed = [], [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self._wait(lambda: any(line.get("notice") == "ready" for line in self.lines), "is ready")

    def _read(self):
        for text in self.process.stdout:
            line = json.loads(text)
            with self.changed:
                (self.answers if "answer" in line else self.lines).append(line)
                self.changed.notify_all()
        with self.changed:
            self.answers.append({"answer": "the process ended", "ok": False})
            self.changed.notify_all()

    def _wait(self, is_so, what):
        with self.changed:
            if not self.changed.wait_for(is_so, PATIENCE_SECONDS):
                raise StepFailed(f"{self.name}: {what}: not within {PATIENCE_SECONDS} s; {self.lines[-5:]}")

    def do(self, verb, **arguments):
        self.process.stdin.write(json.dumps({"do": verb, "room": self.room, **arguments}) + "\n")
        self.process.stdin.flush()
        self._wait(lambda: self.answers, verb)
        answer = self.answers.pop(0)
        if not answer["ok"]:
            raise StepFailed(f"{self.name}: {verb}: {answer['answer']}; {self.problems()[-3:]}")
        return answer["answer"]

    def problems(self):
        return [line for line in self.lines if line.get("notice") == "problem"]

    def lost_races(self):
        return sum(line.get("notice") == "lost_race" for line in self.lines)

    def stop(self):
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Story:
    def __init__(self):
        self.steps, self.epochs, self.said = [], {}, 0

    def step(self, name, ok, detail):
        self.steps.append((name, ok, detail))
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}", flush=True)
        if not ok:
            raise StepFailed(name)

    def until(self, what, probe):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found, seen = probe()
            if found:
                return seen
            if time.monotonic() > deadline:
                raise StepFailed(f"{what}: not within {PATIENCE_SECONDS} s; last seen: {seen}")
            time.sleep(0.05)

    def agree(self, name, clients, at_least=0, participants=None, among=()):
        """These clients, and nobody else but those who are lost `among` them, are in one epoch, with one authenticator, tree hash and participant list. Returns the epoch."""
        members = sorted(client.client for client in [*clients, *among])

        def probe():
            states = {client.name: client.do("state") for client in clients}
            for client in clients:
                state = states[client.name]
                if state:
                    seen = self.epochs.setdefault((client.room, state["epoch"]), {})
                    seen[client.name] = (client.stack, state["epoch_authenticator"], state["tree_hash"])
            if None in states.values():
                return False, states
            first = next(iter(states.values()))
            alike = all(state["epoch"] == first["epoch"] and sorted(state["members"]) == members and state["pending"] == 0
                        for state in states.values())
            return alike and first["epoch"] >= at_least, states

        states = list(self.until(name, probe).values())
        state = states[0]
        same = all(one[key] == state[key] for one in states for key in ("epoch_authenticator", "tree_hash", "participants"))
        if participants:
            same = same and sorted(user for user, _ in state["participants"]) == sorted(participants)
        stacks = " and ".join(sorted({client.stack for client in clients}))
        self.step(name, same, f"epoch {state['epoch']}, authenticator {state['epoch_authenticator'][:16]}…, "
                              f"{len(clients)} clients ({stacks}), {len(state['participants'])} participants")
        return state["epoch"]

    def say(self, sender, readers):
        self.said += 1
        text = f"{sender.name} on {sender.stack}, {self.said}"
        sender.do("send", text=text)
        for reader in readers:
            def probe():
                said = reader.do("messages")
                return [sender.user, text, "genuine"] in said["read"], said
            self.until(f"{reader.name} reads {sender.name}", probe)
        self.step(f"{sender.stack} speaks, {' and '.join(sorted({reader.stack for reader in readers}))} read and verify the frank", True,
                  f"'{text}' read by {', '.join(reader.name for reader in readers)}")


def openmls_founds(story, make):
    """The hub is the OpenMLS user's provider, and the policy is one of the draft's."""
    alice, carol = make("a", OPENMLS, "alice", "PHONE"), make("a", OPENMLS, "carol", "PHONE")
    bob, dave = make("b", MLS_RS, "bob", "PHONE"), make("b", MLS_RS, "dave", "PHONE")
    erin, alone = make("b", OPENMLS, "erin", "PHONE"), make("b", MLS_RS, "grace", "PHONE", "--alone")
    everybody = [alice, bob, carol, dave, erin, alone]
    for target in everybody:
        for requester in everybody:
            if requester is not target:
                target.provider.grant(target, requester)

    alice.do("create", name="Clubhouse")
    alice.do("add", user=bob.user)
    epoch = story.agree("OpenMLS adds mls-rs: AppDataUpdate and Add by value, Welcome", [alice, bob], 1, [alice.user, bob.user])
    story.say(alice, [bob])
    story.say(bob, [alice])
    bob.do("update")
    epoch = story.agree("mls-rs commits new keys", [alice, bob], epoch + 1)
    alice.do("update")
    epoch = story.agree("OpenMLS commits new keys", [alice, bob], epoch + 1)

    alice.do("add", user=alone.user)
    epoch = story.agree("mls-rs without any translation is added by Welcome", [alice, bob, alone], epoch + 1)
    story.say(alice, [bob, alone])
    story.say(alone, [alice, bob])
    alone.do("update")
    epoch = story.agree("so, it commits new keys", [alice, bob, alone], epoch + 1)
    alice.do("update")
    epoch = story.agree("and follows commits without AppDataUpdate", [alice, bob, alone], epoch + 1)
    bob.do("add", user=carol.user)
    epoch = story.agree("mls-rs (with it, as always from here on) adds OpenMLS: AppDataUpdate and Add by value, Welcome", [alice, bob, carol], epoch + 1,
                        among=[alone])
    stuck = alone.do("state")["epoch"]
    story.step("mls-rs without the translation cannot follow that", stuck == epoch - 1 and alone.problems(),
               f"it stays in epoch {stuck}: {(alone.problems() or [{}])[-1].get('reason')}")
    alice.do("remove", user=alone.user)
    epoch = story.agree("OpenMLS removes it", [alice, bob, carol], epoch + 1, [alice.user, bob.user, carol.user])
    alone.stop()
    bob.do("add", user=dave.user)
    epoch = story.agree("mls-rs adds mls-rs", [alice, bob, carol, dave], epoch + 1)
    alice.do("set_role", user=bob.user, role=3)
    epoch = story.agree("OpenMLS changes a role: an AppDataUpdate alone", [alice, bob, carol, dave], epoch + 1)
    bob.do("set_role", user=dave.user, role=3)
    epoch = story.agree("mls-rs changes a role: an AppDataUpdate alone", [alice, bob, carol, dave], epoch + 1)
    story.say(carol, [alice, bob, dave])
    story.say(dave, [alice, bob, carol])

    laptop = make("b", MLS_RS, "bob", "LAPTOP")
    laptop.do("join")
    epoch = story.agree("mls-rs joins by an external commit, a further client", [alice, bob, carol, dave, laptop], epoch + 1)
    tablet = make("a", OPENMLS, "carol", "TABLET")
    tablet.do("join")
    epoch = story.agree("OpenMLS joins by an external commit, a further client", [alice, bob, carol, dave, laptop, tablet], epoch + 1)
    story.say(laptop, [alice, bob, carol, dave, tablet])
    story.say(tablet, [alice, bob, carol, dave, laptop])

    six = [alice, bob, carol, dave, laptop, tablet]
    with concurrent.futures.ThreadPoolExecutor() as both:
        late = both.submit(bob.do, "update", hold_back_ms=HOLD_BACK_MS)
        carol.do("update")
        late.result()
    story.step("mls-rs loses a race and commits anew", bob.lost_races() == 1, f"its first commit was held back {HOLD_BACK_MS} ms")
    epoch = story.agree("afterwards both commits have an epoch", six, epoch + 2)
    with concurrent.futures.ThreadPoolExecutor() as both:
        for done in [both.submit(lambda one=one: [one.do("update") for _ in range(RACES)]) for one in (carol, bob)]:
            done.result()
    epoch = story.agree(f"both commit at the same time, {RACES} times; every commit gets an epoch", six, epoch + 2 * RACES)

    carol.do("leave")
    story.until("bob hears that carol leaves", lambda: ((state := bob.do("state"))["pending"] == 3, state))
    bob.do("tend")
    epoch = story.agree("OpenMLS leaves by SelfRemove, Remove and AppDataUpdate; mls-rs commits them by reference",
                        [alice, bob, dave, laptop], epoch + 1, [alice.user, bob.user, dave.user])
    dave.do("leave")
    story.until("alice hears that dave leaves", lambda: ((state := alice.do("state"))["pending"] == 2, state))
    alice.do("tend")
    epoch = story.agree("mls-rs leaves by SelfRemove and AppDataUpdate; OpenMLS commits them by reference", [alice, bob, laptop], epoch + 1,
                        [alice.user, bob.user])
    story.until("dave is out", lambda: ((state := dave.do("state")) is None, state))
    story.step("mls-rs sees that its own SelfRemove was committed", True, "it is in no group")

    bob.do("add", user=erin.user)
    epoch = story.agree("mls-rs adds OpenMLS of its own provider", [alice, bob, laptop, erin], epoch + 1)
    erin.do("leave")
    story.until("bob hears that erin leaves", lambda: ((state := bob.do("state"))["pending"] == 2, state))
    watch = make("b", MLS_RS, "bob", "WATCH")
    watch.do("join")
    after = lambda: ((state := watch.do("state"))["pending"] == 1, state)
    story.until("the hub proposes anew what the external commit made void", after)
    bob.do("tend")
    epoch = story.agree("mls-rs joins by an external commit with a SelfRemove by reference, and commits what the hub proposes as external sender",
                        [alice, bob, laptop, watch], epoch + 2, [alice.user, bob.user])

    bob.do("add", user=carol.user)
    epoch = story.agree("mls-rs adds both clients of an OpenMLS user", [alice, bob, laptop, watch, carol, tablet], epoch + 1)
    bob.do("remove", user=carol.user)
    epoch = story.agree("mls-rs removes them: AppDataUpdate and Removes", [alice, bob, laptop, watch], epoch + 1, [alice.user, bob.user])
    story.say(watch, [alice, bob, laptop])
    story.say(alice, [bob, laptop, watch])
    alice.do("add", user=dave.user, role=3)
    epoch = story.agree("an mls-rs client that had left comes back by Welcome", [alice, bob, laptop, watch, dave], epoch + 1)
    alice.do("remove", user=bob.user)
    story.agree("OpenMLS removes all clients of an mls-rs user", [alice, dave], epoch + 1, [alice.user, dave.user])
    for client in (bob, laptop, watch):
        story.until(f"{client.name} is out", lambda: ((state := client.do("state")) is None, state))
    story.step("mls-rs sees that it was removed", True, "none of the three clients is in the group")
    story.say(dave, [alice])
    return alice, carol, erin, dave


def mls_rs_founds(story, make, alice, carol, erin, dave):
    """The hub is the mls-rs user's provider, and the policy is the client's own."""
    frank = make("b", MLS_RS, "frank", "PHONE")
    everybody = [alice, carol, erin, dave, frank]
    for client in everybody:
        client.room = ROOMS[1]
        if client is not frank:
            client.provider.grant(client, frank)
            frank.provider.grant(frank, client)
    frank.do("create", name="Attic")
    frank.do("add", user=alice.user)
    epoch = story.agree("mls-rs founds a room, whose first commit is an AppDataUpdate with an Add", [frank, alice], 1, [alice.user, frank.user])
    story.say(frank, [alice])
    story.say(alice, [frank])
    alice.do("add", user=dave.user)
    epoch = story.agree("OpenMLS adds mls-rs there", [frank, alice, dave], epoch + 1)
    frank.do("set_role", user=alice.user, role=4)
    epoch = story.agree("mls-rs gives an OpenMLS user a role", [frank, alice, dave], epoch + 1)
    alice.do("leave")
    story.until("frank hears that alice leaves", lambda: ((state := frank.do("state"))["pending"] == 2, state))
    frank.do("add", user=erin.user)
    epoch = story.agree("OpenMLS leaves, and mls-rs commits that by reference together with an AppDataUpdate and an Add of its own",
                        [frank, dave, erin], epoch + 1, [frank.user, dave.user, erin.user])
    story.say(erin, [frank, dave])
    frank.do("leave")
    story.until("dave hears that frank leaves", lambda: ((state := dave.do("state"))["pending"] == 2, state))
    dave.do("tend")
    story.agree("mls-rs leaves, and mls-rs commits it", [dave, erin], epoch + 1, [dave.user, erin.user])
    story.say(dave, [erin])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nabe", required=True, help="the nabe binary")
    parser.add_argument("--openmls", required=True, help="the mimi_lines binary")
    parser.add_argument("--peer", required=True, help="the mls-rs-client binary")
    parser.add_argument("--results", help="also write what was seen into this Markdown file")
    arguments = parser.parse_args()

    def too_long(*_):
        raise StepFailed(f"not done after {ALL_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(ALL_SECONDS)
    story, clients, providers, failure = Story(), [], {}, None
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            a = Provider(os.path.realpath(arguments.nabe), folder, "a.localhost")
            b = Provider(os.path.realpath(arguments.nabe), folder, "b.localhost", a)
            providers = {"a": a, "b": b}
            a.start([b])
            b.start([a])

            def make(at, stack, localpart, device, *options):
                binary = arguments.openmls if stack == OPENMLS else arguments.peer
                client = Client(providers[at], stack, binary, localpart, device, folder, options)
                clients.append(client)
                return client

            alice, carol, erin, dave = openmls_founds(story, make)
            mls_rs_founds(story, make, alice, carol, erin, dave)
            differing = [epoch for epoch, seen in story.epochs.items() if len({values[1:] for values in seen.values()}) != 1]
            both = [epoch for epoch, seen in story.epochs.items() if len({values[0] for values in seen.values()}) == 2]
            story.step("one authenticator and one tree hash in every epoch that was compared", not differing and both,
                       f"{len(story.epochs)} epochs were stated, {len(both)} of them by both stacks, {len(differing)} differently")
            problems = [(client.name, line) for client in clients if not client.alone for line in client.problems()]
            story.step("with it, mls-rs found nothing to complain about", not problems, f"{problems or 'no problem'}")
        except (StepFailed, subprocess.SubprocessError, OSError) as error:
            failure = f"{type(error).__name__}: {error}"
            print(f"FAIL {failure}", file=sys.stderr)
            for provider in providers.values():
                if (log := provider.folder / "nabe.log").exists():
                    sys.stderr.write(f"{provider.domain}:\n{log.read_text()[-2000:]}")
        finally:
            signal.alarm(0)
            for one in [*clients, *providers.values()]:
                if hasattr(one, "process"):
                    one.stop()
    held = sum(bool(ok) for _, ok, _ in story.steps)
    print(f"{held} held, {'1 did not' if failure else '0 did not'}, {time.monotonic() - begun:.0f} s")
    if arguments.results and not failure:
        write_results(pathlib.Path(arguments.results), arguments.nabe, story)
    return 1 if failure else 0


def write_results(path, nabe, story):
    """Puts a section of its own into the file, or a new one in its place. What people wrote stays."""
    here = pathlib.Path(__file__).resolve().parent
    version = subprocess.run([nabe, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    peers, product = here / "Cargo.lock", here.parents[2] / "Cargo.lock"
    lines = [
        BEGIN, "## MIMI", "",
        f"Last run {datetime.date.today()}: {version} with OpenMLS {locked(product, 'openmls')}, and mls-rs {locked(peers, 'mls-rs')}: "
        f"{len(story.steps)} steps held, 0 did not. Written by `mimi.py`, beside the other script.", "", HOW_FAR,
        "### What was seen", "",
        "| Step | Seen |", "|---|---|", *(f"| {name} | {detail} |" for name, _, detail in story.steps), END, ""]
    text = path.read_text() if path.exists() else "# mls-rs\n\n"
    if BEGIN in text:
        before, rest = text.split(BEGIN, 1)
        after = rest.split(END, 1)[1].lstrip("\n")
        text = before.rstrip("\n") + ("\n\n" + after if after else "\n")
    head, mark, tail = text.partition("## Every epoch")
    path.write_text(head.rstrip("\n") + "\n\n" + "\n".join(lines) + (f"\n{mark}{tail}" if mark else ""))


if __name__ == "__main__":
    sys.exit(main())
