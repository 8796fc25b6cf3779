"""Sessions begin with a token or a link, and end with the token."""

import re
from collections.abc import Collection
from urllib.parse import unquote

import pytest
from flask import Flask

from ccapi.db.pool import Database
from ccapi.http.cache import MAX_UNKNOWN_TOKENS, Caches, TTLCache
from ccapi.model.token import Role, Scope, ValidToken
from ccapi.service import sessions, tokens
from tests.client import Client
from tests.web.conftest import MakeVisitor
from tests.web.visitor import SAME_ORIGIN, Visitor, log_in

JOBS = "/jobs?user=a&state=running"
LOGIN = "/login?next=%2Fjobs%3Fuser%3Da%26state%3Drunning"


def test_page_without_a_session_leads_to_the_login_and_back(app: Flask, database: Database) -> None:
    http = app.test_client()
    response = http.get(JOBS)
    assert (response.status_code, response.headers["Location"]) == (303, LOGIN)
    [action] = re.findall(r'method="post" action="([^"]+)"', http.get(LOGIN).text)
    assert unquote(action) == unquote(LOGIN)
    token = tokens.create(database, "anna", Role.READER)
    response = http.post(LOGIN, data={"token": f" {token}\n"}, headers=SAME_ORIGIN)
    assert (response.status_code, response.headers["Location"]) == (303, JOBS)
    assert "anna" in http.get(JOBS).text


@pytest.mark.parametrize(
    ("base_url", "cookie"),
    [
        ("http://localhost", r"ccapi=[\w-]{43}; Max-Age=43200; HttpOnly; Path=/; SameSite=Lax"),
        (
            "https://localhost",
            r"__Host-ccapi=[\w-]{43}; Max-Age=43200; Secure; HttpOnly; Path=/; SameSite=Lax",
        ),
    ],
)
def test_cookie(app: Flask, database: Database, base_url: str, cookie: str) -> None:
    data = {"token": tokens.create(database, "anna", Role.READER)}
    response = app.test_client().post("/login", data=data, headers=SAME_ORIGIN, base_url=base_url)
    value = re.sub(r"Expires=[^;]+; ", "", response.headers["Set-Cookie"])
    assert re.fullmatch(cookie, value)


@pytest.mark.parametrize("token", ["", "nonsense", "ccapi_" + "x" * 43, "\0", "ß" * 10_000])
def test_invalid_token_is_refused(app: Flask, token: str) -> None:
    http = app.test_client()
    response = http.post("/login", data={"token": token}, headers=SAME_ORIGIN)
    assert response.status_code == 403
    assert "unknown, expired or revoked" in response.text
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/a b",
        "",
    ],
)
def test_login_leads_to_no_other_site(app: Flask, database: Database, path: str) -> None:
    token = tokens.create(database, "anna", Role.READER)
    response = app.test_client().post(
        "/login", query_string={"next": path}, data={"token": token}, headers=SAME_ORIGIN
    )
    assert response.headers["Location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_forms_of_other_sites_are_refused(
    app: Flask, visitor: Visitor, headers: dict[str, str]
) -> None:
    data = {"token": visitor.token, "form_token": visitor.form_token()}
    assert app.test_client().post("/login", data=data, headers=headers).status_code == 403
    assert visitor.http.post("/logout", data=data, headers=headers).status_code == 403
    visitor.get("/jobs")


def test_form_of_an_old_browser_is_accepted(visitor: Visitor) -> None:
    data = {"form_token": visitor.form_token()}
    headers = {"Origin": "http://localhost"}
    assert visitor.http.post("/logout", data=data, headers=headers).status_code == 303


def test_form_of_another_session_is_refused(make_visitor: MakeVisitor) -> None:
    anna, bert = make_visitor(name="anna"), make_visitor(name="bert")
    for form_token in ("", bert.form_token()):
        data = {"form_token": form_token}
        assert anna.http.post("/logout", data=data, headers=SAME_ORIGIN).status_code == 403
    anna.get("/jobs")


def test_logout_ends_the_session(app: Flask, visitor: Visitor) -> None:
    cookie = visitor.http.get_cookie("ccapi")
    assert cookie is not None
    response = visitor.post("/logout")
    assert (response.status_code, response.headers["Location"]) == (303, "/login")
    visitor.get("/jobs", 303)
    app.extensions["ccapi_caches"] = Caches(0)
    thief = app.test_client()
    thief.set_cookie("ccapi", cookie.value)
    assert thief.get("/jobs").status_code == 303


def test_session_ends_with_its_token(database: Database, visitor: Visitor) -> None:
    visitor.get("/jobs")
    tokens.revoke(database, "anna")  # waits for the caches of tokens
    visitor.get("/jobs", 303)


def test_session_ends_after_12_hours(app: Flask, database: Database, visitor: Visitor) -> None:
    for moved, status in (("11:59", 200), ("00:01", 303)):
        with database.connection() as conn:
            conn.execute(f"UPDATE sessions SET expires_at = expires_at - interval '{moved}'")
        app.extensions["ccapi_caches"] = Caches(0)
        visitor.get("/jobs", status)


def test_session_sees_what_its_token_sees(database: Database) -> None:
    scope = Scope(("a",), ("b",), ("c",), sees_metadata=False)
    token = tokens.authenticate(database, tokens.create(database, "anna", Role.READER, scope=scope))
    assert token is not None
    digest = tokens.digest(sessions.begin(database, token))
    session = sessions.authenticate(database, [digest])[digest]
    assert session.scope == token.scope == scope


def test_open_pages_share_the_look_up_of_their_sessions(
    app: Flask, make_visitor: MakeVisitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitors = [make_visitor(name=name) for name in ("anna", "bert", "carl")]
    app.extensions["ccapi_caches"] = caches = Caches(0)
    look_ups = []
    authenticate = sessions.authenticate

    def count(database: Database, digests: Collection[bytes]) -> dict[bytes, ValidToken]:
        look_ups.append(len(digests))
        return authenticate(database, digests)

    monkeypatch.setattr(sessions, "authenticate", count)
    for expected in ([1, 1, 1], [1, 1, 1, 3]):
        caches.tokens = TTLCache(60, 1_000)
        for visitor in visitors:
            visitor.get("/jobs")
        assert look_ups == expected


def test_ended_session_is_not_looked_up_with_others(
    app: Flask, database: Database, make_visitor: MakeVisitor
) -> None:
    anna, bert = make_visitor(name="anna"), make_visitor(name="bert")
    app.extensions["ccapi_caches"] = caches = Caches(0)
    for visitor in (anna, bert):
        visitor.get("/jobs")
    tokens.revoke(database, "bert")
    anna.get("/jobs")
    bert.get("/jobs", 303)
    caches.tokens = TTLCache(60, 1_000)
    anna.get("/jobs")
    assert len(caches.recent_sessions.list()) == 1
    bert.get("/jobs", 303)


def test_name_is_metadata(admin: Client, make_visitor: MakeVisitor) -> None:
    admin.start(metaData={"jobName": "rotor"})
    assert "rotor" in make_visitor().get("/jobs")
    assert "rotor" not in make_visitor(scope=Scope(sees_metadata=False), name="bert").get("/jobs")


def test_new_session_deletes_expired_ones(app: Flask, database: Database, visitor: Visitor) -> None:
    with database.connection() as conn:
        conn.execute("UPDATE sessions SET expires_at = now()")
    log_in(app, visitor.token)
    with database.connection() as conn:
        assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_secrets_are_not_stored(database: Database, visitor: Visitor) -> None:
    cookie = visitor.http.get_cookie("ccapi")
    assert cookie is not None
    with database.connection() as conn:
        [stored] = conn.execute("SELECT digest FROM sessions").fetchone() or [b""]
    assert stored == tokens.digest(cookie.value)


def test_guesses_of_sessions_and_links_are_limited(
    app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visitor.http.get("/jobs").status_code == 200
    monkeypatch.setattr("ccapi.http.cache.time.monotonic", lambda: 1_000.0)
    app.extensions["ccapi_caches"].unknown_tokens._second = 1_000
    app.extensions["ccapi_caches"].unknown_tokens._count = MAX_UNKNOWN_TOKENS
    stranger = app.test_client()
    stranger.set_cookie("ccapi", "x" * 43)
    for path in ("/jobs", "/login?code=x", "/metrics"):
        response = stranger.get(path, headers={"X-Auth-Token": "x"})
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    assert visitor.http.get("/jobs").status_code == 200


def test_live_rows_without_a_session_reload_the_page(app: Flask, database: Database) -> None:
    del database
    response = app.test_client().get("/jobs/rows", headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Refresh"]) == (401, "true")


class TestLink:
    @pytest.fixture
    def link(self, database: Database) -> str:
        secret = tokens.create(database, "anna", Role.READER)
        token = tokens.authenticate(database, secret)
        assert token is not None
        return f"/login?code={sessions.make_link(database, token)}"

    def test_it_begins_one_session(self, app: Flask, link: str) -> None:
        http = app.test_client()
        response = http.get(link)
        assert (response.status_code, response.headers["Location"]) == (303, "/")
        assert http.get("/jobs").status_code == 200
        again = app.test_client().get(link)
        assert "Set-Cookie" not in again.headers
        assert "used before" in again.text

    @pytest.mark.parametrize(
        "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}]
    )
    def test_only_a_person_may_open_it(
        self, app: Flask, link: str, headers: dict[str, str]
    ) -> None:
        assert "Set-Cookie" not in app.test_client().get(link, headers=headers).headers
        assert "Set-Cookie" in app.test_client().get(link).headers

    def test_a_preview_does_not_use_it(self, app: Flask, link: str) -> None:
        assert "Set-Cookie" not in app.test_client().head(link).headers
        assert "Set-Cookie" in app.test_client().get(link).headers

    def test_it_is_not_a_session(self, app: Flask, link: str) -> None:
        http = app.test_client()
        http.set_cookie("ccapi", link.partition("=")[2])
        assert http.get("/jobs").status_code == 303

    def test_it_expires(self, app: Flask, database: Database, link: str) -> None:
        with database.connection() as conn:
            conn.execute("UPDATE sessions SET expires_at = now()")
        assert "Set-Cookie" not in app.test_client().get(link).headers
