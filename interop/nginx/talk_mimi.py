"""What other providers see of a MIMI provider behind an nginx that ends TLS or passes it through: talk_mimi.py ends|passes PORT BACKEND CA PEER.

PORT is nginx's, BACKEND Nabe's, CA the authority of all certificates, PEER the folder of b.localhost. Prints one line per check; exit status 1
if one failed.
"""

import http.client
import json
import pathlib
import socket
import ssl
import sys
import time
import urllib.parse

PATIENCE_SECONDS = 30
HOST = "a.localhost"


class Tls(http.client.HTTPSConnection):
    """Connects to loopback, whatever the name, and sends something before TLS if it is told to."""

    first = b""

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        plain.sendall(self.first)
        self.sock = self._context.wrap_socket(plain, server_hostname=HOST)


def main(mode, port, backend, ca, peer):
    peer = pathlib.Path(peer)
    pem = (peer / "tls.pem").read_text()
    escaped = urllib.parse.quote(pem)
    failed = 0

    def tls(certificate, at=port):
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(peer / "tls.pem", peer / "tls.key")
        return Tls(HOST, at, context=context, timeout=PATIENCE_SECONDS)

    def plain(source):
        return http.client.HTTPConnection("127.0.0.1", backend, timeout=PATIENCE_SECONDS, source_address=(source, 0))

    def ask(connection, method, target, headers=None, body=None):
        connection.request(method, target, body=body, headers=dict({"Host": HOST}, **(headers or {})))
        response = connection.getresponse()
        return response.status, response.read()

    def check(what, got, expected):
        nonlocal failed
        failed += got != expected
        print(f"ok   {what}" if got == expected else f"FAIL {what}: expected {expected!r}, got {got!r}")

    known = "/.well-known/mimi-protocol-directory"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            status, directory = ask(tls(False), "GET", known)
            if status == 200 or time.monotonic() > deadline:
                break
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    check("everybody reads the directory", status, 200)
    directory = json.loads(directory)
    room = f"mimi%3A%2F%2F{HOST}%2Fr%2Fnowhere"

    def submit(connection, provider="b.localhost", forged=None, body=b"\0", endpoint="submitMessage"):
        headers = {"From": f"mimi@{provider}", "Content-Type": "application/mimi-protocol"}
        if forged:
            headers[forged] = escaped
        template = directory[endpoint]
        target = template[len(f"https://{HOST}") : template.index("{")] + room
        try:
            return ask(connection, "POST", target, headers, body)[0]
        except (ssl.SSLError, ConnectionError) as error:
            return type(error).__name__

    check("nobody gets in without a certificate", submit(tls(False)), 401)
    check("a header of the caller's own does not stand in for one", submit(tls(False), forged="X-Client-Cert"), 401)
    check("nor does one that nginx might take for it", submit(tls(False), forged="X_Client_Cert"), 401)
    # Nonsense gets one of the protocol's own answers: who hears it got in.
    check("a provider gets in with its certificate", submit(tls(True)), 200)
    check("also if it sends such a header", submit(tls(True), forged="X-Client-Cert"), 200)
    check("in its own name alone", submit(tls(True), provider="c.localhost"), 403)
    check("a body of 2 MB arrives", submit(tls(True), endpoint="update", body=bytes(2_000_000)), 400)
    if mode == "ends":
        check("the header is believed from the proxy", submit(plain("127.0.0.1"), forged="X-Client-Cert"), 200)
        check("and from no other address", submit(plain("127.0.0.2"), forged="X-Client-Cert"), 401)
    else:
        direct = tls(True, backend)
        check("past the proxy nobody gets in, whatever the certificate", isinstance(submit(direct), str), True)
        direct = tls(True, backend)
        direct.first = b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n"
        check("but with the header that it sends", submit(direct), 200)
        through = tls(True)
        through.first = direct.first
        check("who sends that header to the proxy is not served", isinstance(submit(through), str), True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]) else 0)
