"""Requests as hooks and dashboards send them, through nginx; run on the machine itself.

Arguments: token, minimum number of requests, a file that ends it. Prints the number of answers by
status, as JSON; failed requests count under their error.
"""

import http.client
import json
import ssl
import sys
import threading
from collections import Counter
from pathlib import Path

NAME = "ccapi.example.org"
TLS = ssl.create_default_context(cafile="/etc/ccapi/tls/certificate.pem")
TOKEN, AT_LEAST, END = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
FIRST_JOB = 2_000_000
START = 1_700_000_000
counts: Counter[str] = Counter()
lock = threading.Lock()


def send(method: str, path: str, body: object = None) -> None:
    """Send a request on a connection of its own, and count its outcome."""
    connection = http.client.HTTPSConnection(NAME, timeout=60, context=TLS)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/api/jobs{path}", data, {"X-Auth-Token": TOKEN})
        response = connection.getresponse()
        json.loads(response.read())
        outcome = str(response.status)
    except (OSError, ValueError, http.client.HTTPException) as error:
        outcome = repr(error)
    finally:
        connection.close()
    with lock:
        counts[outcome] += 1


def live(number: int) -> None:
    """Let a job start, be listed and stop."""
    job = {"jobId": number, "user": "abcd100h", "cluster": "fritz", "startTime": START}
    send("POST", "/start_job/", {**job, "resources": [{"hostname": "f0101"}]})
    send("GET", "/?state=running&items-per-page=5")
    stop = {"jobId": number, "cluster": "fritz", "stopTime": START + 60, "jobState": "completed"}
    send("POST", "/stop_job/", stop)


def client(offset: int) -> None:
    """Send jobs until there were enough and the end has come."""
    number = FIRST_JOB + offset
    while counts.total() < AT_LEAST or not END.exists():
        live(number)
        number += 8


threads = [threading.Thread(target=client, args=(offset,)) for offset in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
