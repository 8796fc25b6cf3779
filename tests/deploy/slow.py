"""Clients that send half a request and wait, and one beside them; run on the machine itself.

Argument: a token. Prints the seconds that the one waited, how many others still had their
connection then, and the statuses that they got when they had sent the rest, as JSON.
"""

import http.client
import json
import socket
import ssl
import sys
import time
from collections import Counter

NAME = "ccapi.example.org"
TLS = ssl.create_default_context(cafile="/etc/ccapi/tls/certificate.pem")
CLIENTS = 40
TOKEN = sys.argv[1]


def halves(number: int) -> tuple[bytes, bytes]:
    """Write a start of a job, and cut it in two."""
    job = {"jobId": number, "user": "abcd100h", "cluster": "slow", "startTime": 1_700_000_000}
    body = json.dumps({**job, "resources": [{"hostname": "s0101"}]}).encode()
    head = f"POST /api/jobs/start_job/ HTTP/1.1\r\nHost: {NAME}\r\nX-Auth-Token: {TOKEN}\r\n"
    text = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    return text[:-20], text[-20:]


def begin(number: int) -> ssl.SSLSocket:
    """Connect and send the first half."""
    connection = TLS.wrap_socket(socket.create_connection((NAME, 443)), server_hostname=NAME)
    connection.sendall(halves(number)[0])
    return connection


def is_open(connection: ssl.SSLSocket) -> bool:
    """Return whether the server still waits."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:
        return True
    return False


def end(number: int, connection: ssl.SSLSocket) -> int:
    """Send the second half, and return the status of the answer."""
    connection.settimeout(60)
    connection.sendall(halves(number)[1])
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status


waiting = {number: begin(number) for number in range(1, CLIENTS + 1)}
time.sleep(1)
begun = time.monotonic()
beside = http.client.HTTPSConnection(NAME, timeout=60, context=TLS)
beside.request("GET", "/api/jobs/?items-per-page=1", headers={"X-Auth-Token": TOKEN})
assert beside.getresponse().status == 200
seconds = time.monotonic() - begun
still = sum(map(is_open, waiting.values()))
statuses = Counter(end(number, connection) for number, connection in waiting.items())
print(json.dumps({"seconds": seconds, "open": still, "statuses": statuses}))
