#!/usr/bin/env python3
"""The same work for Nabe, Synapse and a running eigen-server: messages of another server in one room.

    python3 -m venv venv && venv/bin/pip install matrix-synapse
    venv/bin/python benches/peers/bench.py --nabe target/release/nabe [--eigen-server http://localhost:3000 --eigen-pid PID] [--json]

Each server in turn, in the order that is printed: a room, a user of another server who joins it over federation, then messages of about 500 bytes, signed
beforehand. First in bulk, in transactions as full as the server takes them, until the last can be read; then one at a time, from sending it until a waiting
reader has it. Then the server is killed and its database counted. What cannot be compared is in the README beside this.

Exit status: 0 all servers did the work, 1 one did not, 2 one could not be had.
"""
import argparse
import json
import os
import pathlib
import platform
import ssl
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
try:
    from origin import Chain, Origin, Refused
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: run this by the Python that has Synapse (see --help)")
import servers
from servers import Eigen, Nabe, Synapse, Unavailable


def percentile(values, percent):
    """The measured value that so many in a hundred do not exceed."""
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def in_bulk(server, numbers, seconds):
    """Sends until all are sent or the time is over; then waits until the last can be read."""
    requests = []
    for start in range(0, len(numbers), server.batch):
        events = [server.events.message(number) for number in numbers[start:start + server.batch]]
        requests.append((len(events), events[-1]["content"]["body"], server.transaction(f"bulk{numbers[start]}", events)))
    before, begun, sent, waits = cpu(server), time.monotonic(), 0, []
    for count, body, request in requests:
        start = time.monotonic()
        check(server.line.send(*request))
        waits.append(time.monotonic() - start)
        sent, last = sent + count, body
        if time.monotonic() - begun > seconds:
            break
        if server.drops_what_waits:
            wait_until_readable(server, last)
    accepted = time.monotonic() - begun
    wait_until_readable(server, last)
    readable = time.monotonic() - begun
    return {"events": sent, "per_transaction": server.batch, "acknowledged_per_s": round(sent / accepted, 1),
            "readable_per_s": round(sent / readable, 1), "transaction_p50_ms": ms(percentile(waits, 50)),
            "transaction_p99_ms": ms(percentile(waits, 99)), "cpu_us_per_event": per_event(server, before, sent)}


def wait_until_readable(server, body):
    deadline = time.monotonic() + servers.PATIENCE_SECONDS
    while server.newest() != body:
        if time.monotonic() > deadline:
            raise Refused(f"{server.title}: a message that was acknowledged cannot be read")
        # Asking costs the server, too, so it is asked seldom.
        time.sleep(0.1)


def one_at_a_time(server, numbers, seconds):
    """From sending each message until a reader that waits for it has it."""
    events = [server.events.message(number) for number in numbers]
    requests = [(e["content"]["body"], server.transaction(f"one{n}", [e])) for n, e in zip(numbers, events)]
    times, acknowledged = [], []
    with server.reading() as wait:
        before, begun = cpu(server), time.monotonic()
        for body, request in requests:
            start = time.monotonic()
            check(server.line.send(*request))
            acknowledged.append(time.monotonic() - start)
            wait(body)
            times.append(time.monotonic() - start)
            if time.monotonic() - begun > seconds:
                break
        used = per_event(server, before, len(times))
    figures = {"events": len(times), "cpu_us_per_event": used}
    for name, values in (("acknowledged", acknowledged), ("read", times)):
        figures.update({f"{name}_p{p}_ms": ms(percentile(values, p)) for p in (50, 90, 99)})
    return figures


def check(answer):
    # Matrix: `pdus` with an error for each that failed. Linearized Matrix: `failed_pdus`.
    failed = answer.get("failed_pdus") or {k: v for k, v in (answer.get("pdus") or {}).items() if v.get("error")}
    if failed:
        raise Refused(f"events were refused: {str(failed)[:300]}")


def cpu(server):
    return None if server.pid is None else servers.cpu_seconds(server.pid)


def per_event(server, before, events):
    return None if before is None else round((servers.cpu_seconds(server.pid) - before) * 1e6 / events)


def ms(seconds):
    return round(seconds * 1000, 2)


def measure(server, origin, arguments):
    server.room(origin)
    number, warm_up = 0, 50
    in_bulk(server, range(warm_up), arguments.seconds)
    number += warm_up
    bulk = in_bulk(server, range(number, number + arguments.events), arguments.seconds)
    number += arguments.events
    single = None
    if bulk["events"] == arguments.events or not isinstance(server.events, Chain):
        # A chain that was cut off cannot be gone on with.
        single = one_at_a_time(server, range(number, number + arguments.single), arguments.seconds)
    resident = None if server.pid is None else servers.resident_bytes(server.pid)
    sent = warm_up + bulk["events"] + (single["events"] if single else 0)
    server.kill()
    durable = (server.kept() == sent) if server.durable else False
    return {"server": server.title, "version": server.version, "wire": server.version_of, "bulk": bulk, "single": single,
            "resident_bytes": resident, "durable": durable, "echoed_to_the_sender": origin.received,
            "load_average": os.getloadavg()[0]}


def compare(arguments, folder):
    certificates = folder / "certificates"
    subprocess.run([arguments.nabe, "init", certificates, "--server-name", "localhost", "--dev-tls"], check=True,
                   stdout=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    pair = (certificates / "tls.pem", certificates / "tls.key")
    port = servers.harness.free_port
    makers = [(lambda: Nabe(arguments.nabe, folder / "nabe", port(), certificates, context), pair),
              (lambda: Synapse(sys.executable, folder / "synapse", port(), certificates, context), pair)]
    if arguments.eigen_server:
        makers.append((lambda: Eigen(arguments.eigen_server, arguments.eigen_pid), None))
    for make, certificate in makers:
        server, origin = None, Origin(certificate)
        try:
            server = make()
            print(f"{server.title} {server.version} …", file=sys.stderr, flush=True)
            yield measure(server, origin, arguments)
        finally:
            if server:
                server.kill()
            origin.stop()


def table(results, arguments):
    yield f"{arguments.events} messages of about 500 bytes in one room, then {arguments.single} one at a time; load average {os.getloadavg()[0]:.1f}"
    yield "| Server | CPU per event, bulk | acknowledged, readable per second | CPU, one at a time | acknowledged p50, p99 | read p50, p90, p99 | memory | on disk after a kill |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for r in results:
        bulk, one = r["bulk"], r["single"] or {}
        name = lambda key: one.get(key, "–")  # noqa: E731
        memory = "–" if r["resident_bytes"] is None else f"{r['resident_bytes'] / 2**20:.0f} MiB"
        yield (f"| {r['server']} {r['version']} ({r['wire']}; {bulk['per_transaction']} a transaction) | {micro(bulk['cpu_us_per_event'])} | "
               f"{bulk['acknowledged_per_s']}, {bulk['readable_per_s']} | {micro(one.get('cpu_us_per_event'))} | "
               f"{name('acknowledged_p50_ms')}, {name('acknowledged_p99_ms')} ms | "
               f"{name('read_p50_ms')}, {name('read_p90_ms')}, {name('read_p99_ms')} ms | {memory} | "
               f"{'all of it' if r['durable'] else 'nothing is kept' if r['server'] == Eigen.title else 'NOT ALL'} |")


def micro(value):
    return "–" if value is None else f"{value:,} µs"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nabe", required=True, type=lambda path: str(pathlib.Path(path).resolve()), help="the nabe binary, a release build")
    parser.add_argument("--eigen-server", metavar="URL", help="where one listens, started with ES_INSECURE_HTTP=true")
    parser.add_argument("--eigen-pid", type=int, metavar="PID", help="its process, for its CPU time and memory")
    parser.add_argument("--events", type=int, default=1000, help="messages in bulk (1000)")
    parser.add_argument("--single", type=int, default=100, help="messages one at a time (100)")
    parser.add_argument("--seconds", type=float, default=60, help="no message is sent later than this in either part (60)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    arguments = parser.parse_args()
    if min(arguments.events, arguments.single, arguments.seconds) < 1:
        parser.error("--events, --single and --seconds are at least 1")
    results, status = [], 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            for result in compare(arguments, pathlib.Path(folder)):
                results.append(result)
        except Unavailable as error:
            print(error, file=sys.stderr)
            status = 2
        except (Refused, servers.harness.StepFailed) as error:
            print(error, file=sys.stderr)
            status = 1
    if arguments.json:
        print(json.dumps({"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "results": results}))
    else:
        print("\n".join(table(results, arguments)))
    lost = [r["server"] for r in results if not r["durable"] and r["server"] != Eigen.title]
    return status or bool(lost)


if __name__ == "__main__":
    sys.exit(main())
