"""A visitor of the pages without a browser: opens pages, and sends their forms."""

import re
from dataclasses import dataclass
from html import unescape

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Visitor:
    """A visitor with a session, and the token of it."""

    http: FlaskClient
    token: str

    def get(self, path: str, status: int = 200) -> str:
        """Open a page and return its HTML."""
        response = self.http.get(path)
        assert response.status_code == status, response.text
        return response.text

    def form_token(self) -> str:
        """Return the token of this session's forms."""
        match = re.search(r'name="form_token" value="(\w+)"', self.get("/jobs"))
        assert match
        return match[1]

    def post(self, path: str, **fields: str) -> TestResponse:
        """Send a form of a page."""
        data = {"form_token": self.form_token(), **fields}
        return self.http.post(path, data=data, headers=SAME_ORIGIN)


def log_in(app: Flask, token: str, base_url: str = "http://localhost") -> Visitor:
    """Log in with a token, as a browser does."""
    http = app.test_client()
    response = http.post("/login", data={"token": token}, headers=SAME_ORIGIN, base_url=base_url)
    assert response.status_code == 303, response.text
    return Visitor(http, token)


def rows(html: str) -> list[list[str]]:
    """Return the texts of the cells of the last table in a page, without its head."""
    body = html.rpartition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [text(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in body.split("</tr>")[:-1]
    ]


def text(html: str) -> str:
    """Return the visible text of HTML."""
    plain = re.sub(r"<(title|script)>.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(plain).split())
