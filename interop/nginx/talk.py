"""What a client sees of a Nabe behind nginx: talk.py PORT CA TOKEN. Prints one line per check; exit status 1 if one failed."""

import http.client
import json
import pathlib
import ssl
import sys
import time

PATIENCE_SECONDS = 30


def context(ca, protocols=("http/1.1",), version=None):
    tls = ssl.create_default_context(cafile=ca)
    tls.set_alpn_protocols(list(protocols))
    if version:
        tls.minimum_version = tls.maximum_version = version
    return tls


def main(port, ca, token_file):
    token = pathlib.Path(token_file).read_text().strip()
    user = {"Authorization": f"Bearer {token}", "Nabe-User": f"@alice:localhost:{port}"}
    failed = 0

    def connect():
        return http.client.HTTPSConnection("localhost", port, context=context(ca), timeout=PATIENCE_SECONDS)

    def ask(method, target, headers=None, body=None):
        connection = connect()
        connection.request(method, target, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()

    def code(answer):
        status, body = answer
        try:
            body = json.loads(body)
        except ValueError:
            return status, body[:80]
        return status, body.get("errcode") or body.get("error", {}).get("code")

    def check(what, got, expected):
        nonlocal failed
        failed += got != expected
        print(f"ok   {what}" if got == expected else f"FAIL {what}: expected {expected!r}, got {got!r}")

    def handshake(**settings):
        import socket

        with socket.create_connection(("localhost", port), PATIENCE_SECONDS) as plain:
            with context(ca, **settings).wrap_socket(plain, server_hostname="localhost") as stream:
                return stream.version(), stream.selected_alpn_protocol()

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = ask("GET", "/_nabe/health/ready")
            if answer[0] == 200 or time.monotonic() > deadline:
                break
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    check("the server is ready behind the proxy", answer[0], 200)
    check("TLS 1.3 and HTTP/2", handshake(protocols=("h2", "http/1.1")), ("TLSv1.3", "h2"))
    try:
        older = handshake(version=ssl.TLSVersion.TLSv1_2)
    except (ssl.SSLError, ConnectionError):
        older = None
    check("nothing older than TLS 1.3", older, None)

    # What the proxy must leave as it is, by what Nabe makes of it: 401 is an endpoint that wants a signature, 404 is none.
    template = "/_matrix/federation/v1/make_join/%21r%3Ah.example/%40a%2Fb%3Ap.example?ver=I.1"
    check("an escaped slash stays escaped", code(ask("GET", template)), (401, "M_FORBIDDEN"))
    check("a bare one stays bare", code(ask("GET", template.replace("%2F", "/"))), (404, "M_UNRECOGNIZED"))
    check("slashes are not merged", code(ask("GET", "//_matrix/key/v2/server")), (404, "M_UNRECOGNIZED"))
    check("nor dropped from the end", code(ask("GET", "/_matrix/key/v2/server/")), (404, "M_UNRECOGNIZED"))
    check("dots are not resolved", code(ask("GET", "/x/../_matrix/key/v2/server")), (404, "M_UNRECOGNIZED"))

    check("a client is let in", ask("GET", "/_nabe/v1/whoami", user)[0], 200)
    long = dict(user, **{"Last-Event-ID": "A" * 100_000})
    check("a long stream token arrives", code(ask("GET", "/_nabe/v1/stream", long)), (400, "bad_request"))
    large = json.dumps({"type": "org.example.x", "content": {"x": "x" * 7_000_000}})
    json_type = dict(user, **{"Content-Type": "application/json"})
    room = f"/_nabe/v1/rooms/%21x%3Alocalhost%3A{port}/events"
    check("a body of 7 MB arrives", code(ask("POST", room, json_type, large))[0] in (403, 404, 413), True)

    stream = connect()
    stream.request("GET", "/_nabe/v1/stream", headers=user)
    events = stream.getresponse()
    check("the stream begins at once", (events.status, events.readline()[:3] != b""), (200, True))
    status, created = ask("POST", "/_nabe/v1/rooms", json_type, json.dumps({"name": "behind nginx"}))
    check("a room is created", status, 200)
    room_id = json.loads(created).get("room_id", "?")
    seen = False
    begun = time.monotonic()
    while not seen and time.monotonic() - begun < PATIENCE_SECONDS:
        seen = room_id.encode() in events.readline()
    check("what happens is on the stream before the connection ends", seen, True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]), sys.argv[2], sys.argv[3]) else 0)
