"""A real oauth2-proxy, and a small provider of OpenID Connect in front of which it stands."""

import base64
import json
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.processes import free_port, wait_for

PROGRAM = shutil.which("oauth2-proxy")
CLIENT = "ccapi"
_LOGIN = """<!DOCTYPE html><title>Provider</title><form method="get" action="/enter">
<input type="hidden" name="query" value="{query}">
<input name="user"><input name="groups"><button>Enter</button></form>"""


class Provider(ThreadingHTTPServer):
    """A provider that believes everybody; what people say of themselves is in its tokens."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.key = directory / "key.pem"
        self.people: dict[str, dict[str, Any]] = {}
        _openssl("genrsa", "-out", str(self.key), "2048")

    def sign(self, claims: dict[str, Any]) -> str:
        """Return claims as a JSON web token."""
        head = {"alg": "RS256", "kid": "1", "typ": "JWT"}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = _openssl("dgst", "-sha256", "-sign", str(self.key), stdin=text.encode())
        return f"{text}.{_base64(signature)}"

    def public_key(self) -> dict[str, str]:
        """Return the key as oauth2-proxy reads it."""
        output = _openssl("rsa", "-in", str(self.key), "-modulus", "-noout").decode()
        modulus = bytes.fromhex(output.strip().partition("=")[2])
        key = {"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig"}
        return {**key, "n": _base64(modulus), "e": _base64((65537).to_bytes(3, "big"))}


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        issuer = self.server.issuer
        match url.path:
            case "/.well-known/openid-configuration":
                self._send_json(
                    {
                        "issuer": issuer,
                        "authorization_endpoint": f"{issuer}/authorize",
                        "token_endpoint": f"{issuer}/token",
                        "jwks_uri": f"{issuer}/keys",
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )
            case "/keys":
                self._send_json({"keys": [self.server.public_key()]})
            case "/authorize":
                page = _LOGIN.format(query=url.query.replace("&", "&amp;"))
                self._send(200, page.encode(), "text/html")
            case "/enter":
                asked = {name: values[0] for name, values in parse_qs(query["query"]).items()}
                code = secrets.token_hex(8)
                self.server.people[code] = {**query, "nonce": asked.get("nonce", "")}
                answer = urlencode({"code": code, "state": asked["state"]})
                self.send_response(302)
                self.send_header("Location", f"{asked['redirect_uri']}?{answer}")
                self.end_headers()
            case _:
                self._send(404, b"", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        person = self.server.people[parse_qs(body)["code"][0]]
        now = int(time.time())
        claims = {
            "iss": self.server.issuer,
            "sub": f"id of {person['user']}",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 3600,
            "nonce": person["nonce"],
            "email": f"{person['user']}@example.org",
            "preferred_username": person["user"],
            "groups": person.get("groups", "").split(),
        }
        tokens = {"id_token": self.server.sign(claims), "access_token": "x", "expires_in": 3600}
        self._send_json({**tokens, "token_type": "Bearer"})

    def _send_json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def oauth2_proxy(directory: Path, site_url: str, options: Sequence[str] = ()) -> Iterator[int]:
    """Run oauth2-proxy for a site, with a provider; yield its port."""
    assert PROGRAM is not None
    port = free_port()
    with Provider(directory) as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        command = [
            PROGRAM,
            "--provider=oidc",
            f"--oidc-issuer-url={provider.issuer}",
            f"--client-id={CLIENT}",
            "--client-secret=secret",
            f"--redirect-url={site_url}/oauth2/callback",
            "--email-domain=*",
            "--insecure-oidc-allow-unverified-email=true",
            f"--cookie-secret={secrets.token_hex(16)}",
            "--cookie-secure=false",
            f"--http-address=127.0.0.1:{port}",
            "--reverse-proxy=true",
            "--set-xauthrequest=true",
            "--trusted-proxy-ip=127.0.0.1",
            *options,
        ]
        with (directory / "oauth2-proxy.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/ping")
            yield port
        finally:
            process.terminate()
            process.wait()
            provider.shutdown()
            thread.join()


def _openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, check=True
    ).stdout


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
