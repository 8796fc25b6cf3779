import re
from datetime import UTC, datetime, timedelta

import pytest

from ccapi.db.pool import Database
from ccapi.model.token import Role, Scope, Token
from ccapi.service import tokens
from tests.cli.conftest import Command

SECRET = re.compile(r"ccapi_[A-Za-z0-9_-]{43}\n")
BAD_DURATIONS = ["", "90", "d", "0d", "-1d", "1.5h", "1y", "1D", " 1d", "1d ", "1d\n", "٣d",
                 "36501d", "999999999w", "9999999999s"]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoke tokens at once: no worker has them in its cache."""
    monkeypatch.setattr(tokens, "TOKEN_TTL_SECONDS", 0)


def listed(database: Database) -> Token:
    [token] = tokens.list_all(database)
    return token


@pytest.mark.parametrize("role", list(Role))
def test_create_prints_only_the_secret_on_standard_output(
    ccapi: Command, database: Database, role: Role
) -> None:
    status, out, err = ccapi("token", "create", "slurm", "--role", role.value)
    assert status == 0
    assert SECRET.fullmatch(out)
    assert out.strip() not in err
    assert "shown once" in err
    token = tokens.authenticate(database, out.strip())
    assert token is not None
    assert (token.name, token.role) == ("slurm", role)


def test_create_needs_a_role(ccapi: Command, database: Database) -> None:
    status, out, err = ccapi("token", "create", "slurm")
    assert (status, out) == (2, "")
    assert "--role" in err
    assert tokens.list_all(database) == []


@pytest.mark.parametrize("role", ["root", "ADMIN", ""])
def test_create_accepts_three_roles(ccapi: Command, database: Database, role: str) -> None:
    status, out, err = ccapi("token", "create", "slurm", "--role", role)
    assert (status, out) == (2, "")
    assert "reader" in err
    assert tokens.list_all(database) == []


def test_token_without_a_lifetime_does_not_expire(ccapi: Command, database: Database) -> None:
    ccapi("token", "create", "slurm", "--role", "writer")
    assert listed(database).expires_at is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("4w", timedelta(weeks=4)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_token_lifetime(ccapi: Command, database: Database, text: str, expected: timedelta) -> None:
    assert ccapi("token", "create", "slurm", "--role", "writer", "--expires", text).status == 0
    expires = listed(database).expires_at
    assert expires is not None
    assert abs(expires - datetime.now(UTC) - expected) < timedelta(seconds=20)


@pytest.mark.parametrize("text", BAD_DURATIONS, ids=ascii)
def test_invalid_duration_is_rejected(ccapi: Command, database: Database, text: str) -> None:
    status, out, err = ccapi("token", "create", "slurm", "--role", "writer", "--expires", text)
    assert (status, out) == (2, "")
    assert "use e.g. 12h, 90d or 4w" in err
    assert tokens.list_all(database) == []


def test_second_create_is_one_line_with_advice(ccapi: Command, database: Database) -> None:
    ccapi("token", "create", "slurm", "--role", "writer")
    assert ccapi("token", "create", "slurm", "--role", "writer") == (
        2, "", "ccapi: slurm has a valid token: use `ccapi token rotate slurm`\n"
    )  # fmt: skip
    assert listed(database)


@pytest.mark.parametrize("name", ["a b", "../x", "x" * 65, ""])
def test_invalid_name_is_one_line(ccapi: Command, name: str) -> None:
    status, out, err = ccapi("token", "create", name, "--role", "writer")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: a token's name has 1 to 64 letters")
    assert err.count("\n") == 1


def test_rotate_prints_a_second_valid_secret(ccapi: Command, database: Database) -> None:
    former = ccapi("token", "create", "slurm", "--role", "writer").out.strip()
    status, out, err = ccapi("token", "rotate", "slurm")
    assert status == 0
    assert SECRET.fullmatch(out)
    assert out.strip() not in err
    for secret in (former, out.strip()):
        token = tokens.authenticate(database, secret)
        assert token is not None
        assert token.role == Role.WRITER


@pytest.mark.parametrize(
    ("options", "former", "new"),
    [
        ([], timedelta(days=1), None),
        (["--grace", "2h"], timedelta(hours=2), None),
        (["--grace", "1w", "--expires", "90d"], timedelta(weeks=1), timedelta(days=90)),
    ],
    ids=["nothing said", "keep", "keep and expires"],
)
def test_former_token_stays_valid_for_a_while(
    ccapi: Command,
    database: Database,
    options: list[str],
    former: timedelta,
    new: timedelta | None,
) -> None:
    ccapi("token", "create", "slurm", "--role", "writer")
    assert ccapi("token", "rotate", "slurm", *options).status == 0
    for token, expected in zip(tokens.list_all(database), (former, new), strict=True):
        assert (token.expires_at is None) == (expected is None)
        if token.expires_at is not None and expected is not None:
            difference = token.expires_at - datetime.now(UTC) - expected
            assert abs(difference) < timedelta(seconds=20)


def test_invalid_keep_duration_is_rejected(ccapi: Command, database: Database) -> None:
    ccapi("token", "create", "slurm", "--role", "writer")
    assert ccapi("token", "rotate", "slurm", "--grace", "soon").status == 2
    assert listed(database).expires_at is None


@pytest.mark.parametrize("number", [1, 2])
def test_revoke_ends_and_counts_all_tokens(ccapi: Command, database: Database, number: int) -> None:
    secrets = [ccapi("token", "create", "slurm", "--role", "writer").out.strip()]
    secrets += [ccapi("token", "rotate", "slurm").out.strip() for _ in range(number - 1)]
    expected = "revoked 1 token of slurm\n" if number == 1 else "revoked 2 tokens of slurm\n"
    assert ccapi("token", "revoke", "slurm") == (0, expected, "")
    assert not any(tokens.authenticate(database, secret) for secret in secrets)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_name_without_a_token_is_one_line(ccapi: Command, command: str) -> None:
    assert ccapi("token", command, "nobody") == (
        2, "", "ccapi: nobody has no valid token: see `ccapi token list`\n"
    )  # fmt: skip


def test_list_has_every_token_and_no_secret(ccapi: Command, database: Database) -> None:
    today = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    former = ccapi("token", "create", "slurm", "--role", "writer").out.strip()
    secret = ccapi("token", "rotate", "slurm").out.strip()
    ccapi("token", "create", "dashboard", "--role", "reader")
    ccapi("token", "revoke", "dashboard")
    ccapi("token", "create", "operator", "--role", "admin", "--expires", "1h")
    with database.connection() as conn:
        conn.execute(
            "UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'operator'"
        )
    tokens.authenticate(database, secret)
    status, out, err = ccapi("token", "list")
    assert (status, err) == (0, "")
    header, *rows = out.splitlines()
    assert re.split(r"  +", header) == [
        "NAME", "ROLE", "STATUS", "CREATED (UTC)", "EXPIRES", "LAST USED", "ONLY"
    ]  # fmt: skip
    expected = [
        rf"dashboard +reader +revoked +{today} +never +never",
        rf"operator +admin +expired +{today} +{today} +never",
        rf"slurm +writer +valid +{today} +{today} +never",
        rf"slurm +writer +valid +{today} +never +{today}",
    ]
    assert len(rows) == len(expected)
    for row, pattern in zip(rows, expected, strict=True):
        assert re.fullmatch(pattern, row), row
        assert row.index(row.split()[1]) == header.index("ROLE")
    assert former not in out
    assert secret not in out


@pytest.mark.parametrize(
    ("options", "scope", "only"),
    [
        ([], Scope(), ""),
        (["--user", "alice"], Scope(users=("alice",)), "user=alice"),
        (
            ["--user", "alice", "--user", "bob"],
            Scope(users=("alice", "bob")),
            "user=alice user=bob",
        ),
        (["--project", ""], Scope(projects=("",)), "project="),
        (
            ["--user", "alice", "--project", "abcd200", "--project", "größe"],
            Scope(("alice",), ("abcd200", "größe")),
            "user=alice project=abcd200 project=größe",
        ),
    ],
    ids=["none", "user", "users", "no project", "both"],
)
def test_a_token_is_limited_to_users_and_projects(
    ccapi: Command, database: Database, options: list[str], scope: Scope, only: str
) -> None:
    created = ccapi("token", "create", "alice", "--role", "reader", *options)
    assert created.status == 0
    token = tokens.authenticate(database, created.out.strip())
    assert token is not None
    assert token.scope == scope
    header, row = ccapi("token", "list").out.splitlines()
    assert row[header.index("ONLY") :] == only


def test_rotation_keeps_the_limits(ccapi: Command, database: Database) -> None:
    ccapi("token", "create", "alice", "--role", "reader", "--user", "alice")
    token = tokens.authenticate(database, ccapi("token", "rotate", "alice").out.strip())
    assert token is not None
    assert token.scope == Scope(users=("alice",))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--user", ""), ("--user", "x" * 256), ("--user", "a\0b"), ("--project", "x" * 256)],
)
def test_a_bad_limit_is_one_line(
    ccapi: Command, database: Database, option: str, value: str
) -> None:
    status, out, err = ccapi("token", "create", "alice", "--role", "reader", option, value)
    assert (status, out) == (2, "")
    assert err.startswith(f"ccapi: a {option[2:]} must ")
    assert err.count("\n") == 1
    assert tokens.list_all(database) == []


def test_a_token_is_limited_to_a_cluster_that_exists(
    ccapi: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_CLUSTERS", '[{"name": "fritz"}]')
    create = ("token", "create", "slurm", "--role", "writer", "--cluster")
    status, out, err = ccapi(*create, "frtiz")
    assert (status, out, err) == (
        2, "", "ccapi: cluster: frtiz is unknown; the settings have fritz\n"
    )  # fmt: skip
    assert ccapi(*create, "fritz").status == 0
    [token] = tokens.list_all(database)
    assert (token.clusters, token.sees_metadata) == (["fritz"], True)


def test_a_reader_without_metadata_is_listed_so(ccapi: Command, database: Database) -> None:
    assert database
    ccapi("token", "create", "wall", "--role", "reader", "--without-metadata")
    assert ccapi("token", "list").out.endswith(" without-metadata\n")


@pytest.mark.usefixtures("database")
def test_list_without_tokens_is_its_header(ccapi: Command) -> None:
    status, out, _ = ccapi("token", "list")
    assert status == 0
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["create", "slurm", "--role", "writer"], ["rotate", "slurm"], ["revoke", "slurm"], ["list"]],
    ids=lambda arguments: arguments[0],
)
def test_unreachable_database_is_one_line(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", "postgresql:///ccapi?host=/nowhere")
    monkeypatch.setenv("CCAPI_DATABASE_POOL_TIMEOUT", "0.2")
    status, out, err = ccapi("token", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: the database does not answer: ")
    assert err.count("\n") == 1
