import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from ccapi.db.pool import Database
from ccapi.model.token import TOKEN_TTL_SECONDS, Role
from ccapi.service import tokens
from ccapi.service.tokens import TokenError
from tests.client import Client, assert_error, at_once

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoke tokens at once: no worker has them in its cache."""
    monkeypatch.setattr(tokens, "TOKEN_TTL_SECONDS", 0)


def role_of(database: Database, secret: str) -> Role | None:
    token = tokens.authenticate(database, secret)
    return token.role if token else None


def is_valid(database: Database, secret: str) -> bool:
    return role_of(database, secret) is not None


def statuses(database: Database) -> list[str]:
    return [token.status(datetime.now(UTC)) for token in tokens.list_all(database)]


def let_pass(database: Database, time: timedelta) -> None:
    """Move all times of tokens into the past."""
    with database.connection() as conn:
        conn.execute(
            "UPDATE tokens SET created_at = created_at - %(by)s,"
            " expires_at = expires_at - %(by)s, last_used_at = last_used_at - %(by)s",
            {"by": time},
        )


def expiry(database: Database, name: str) -> list[timedelta | None]:
    """Return the remaining lifetimes of a name's tokens, the latest last, in full minutes."""
    matching = [token for token in tokens.list_all(database) if token.name == name]
    now = datetime.now(UTC)
    return [
        None if token.expires_at is None else _in_minutes(token.expires_at - now)
        for token in matching
    ]


def _in_minutes(time: timedelta) -> timedelta:
    return timedelta(minutes=round(time / timedelta(minutes=1)))


@pytest.mark.parametrize("role", list(Role))
def test_a_token_has_its_role(database: Database, role: Role) -> None:
    secret = tokens.create(database, "slurm", role)
    token = tokens.authenticate(database, secret)
    assert token is not None
    assert (token.name, token.role) == ("slurm", role)


def test_every_secret_is_new_and_long(database: Database) -> None:
    secrets = {tokens.create(database, f"client-{n}", Role.READER) for n in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith("ccapi_") and len(secret) == 49 for secret in secrets)


def test_the_database_holds_only_hashes(database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER)
    tokens.authenticate(database, secret)
    with database.connection() as conn:
        [(row,)] = conn.execute("SELECT tokens::text FROM tokens").fetchall()
        [(digest,)] = conn.execute("SELECT digest FROM tokens").fetchall()
    assert secret.removeprefix("ccapi_") not in row
    assert secret.encode().hex() not in row
    assert len(digest) == 32


@pytest.mark.parametrize(
    "present",
    [
        lambda secret: "",
        lambda secret: secret[:-1],
        lambda secret: secret + "x",
        lambda secret: secret[:-1] + ("a" if secret[-1] != "a" else "b"),
        lambda secret: secret.upper(),
        lambda secret: secret.removeprefix("ccapi_"),
        lambda secret: f" {secret}",
        lambda secret: secret + "\n",
        lambda secret: "ccapi_" + "é" * 43,
        lambda secret: "ccapi_" + "\0" * 43,
    ],
    ids=[
        "empty",
        "short",
        "long",
        "changed",
        "upper case",
        "no prefix",
        "blank",
        "newline",
        "not ASCII",
        "NUL",
    ],
)
def test_only_the_exact_secret_is_accepted(
    database: Database, present: Callable[[str], str]
) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER)
    assert tokens.authenticate(database, present(secret)) is None


@pytest.mark.parametrize("name", ["a", "slurm.prolog_1-x", "0", "x" * 64])
def test_plain_names_are_accepted(database: Database, name: str) -> None:
    assert is_valid(database, tokens.create(database, name, Role.READER))


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "é", "a\n", "a/b", "x" * 65])
def test_other_names_are_rejected(database: Database, name: str) -> None:
    with pytest.raises(TokenError, match="1 to 64"):
        tokens.create(database, name, Role.READER)
    assert tokens.list_all(database) == []


def test_create_rejects_a_name_with_a_valid_token(database: Database) -> None:
    first = tokens.create(database, "slurm", Role.WRITER)
    with pytest.raises(TokenError, match="ccapi token rotate slurm"):
        tokens.create(database, "slurm", Role.ADMIN)
    assert role_of(database, first) == Role.WRITER
    assert len(tokens.list_all(database)) == 1


def test_one_of_several_concurrent_creates_succeeds(database: Database) -> None:
    def create() -> bool:
        try:
            return bool(tokens.create(database, "slurm", Role.WRITER))
        except TokenError:
            return False

    assert sorted(at_once([create] * 6)) == [False] * 5 + [True]
    assert len(tokens.list_all(database)) == 1


def test_a_token_expires_after_its_lifetime(database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER, DAY)
    let_pass(database, DAY - timedelta(seconds=30))
    assert is_valid(database, secret)
    let_pass(database, timedelta(seconds=31))
    assert not is_valid(database, secret)
    assert statuses(database) == ["expired"]


def test_a_token_without_a_lifetime_does_not_expire(database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER)
    let_pass(database, 10_000 * DAY)
    assert is_valid(database, secret)
    assert expiry(database, "slurm") == [None]


@pytest.mark.parametrize("ended", ["expired", "revoked"])
def test_a_name_with_an_ended_token_gets_a_new_one(database: Database, ended: str) -> None:
    former = tokens.create(database, "slurm", Role.WRITER, DAY)
    if ended == "expired":
        let_pass(database, 2 * DAY)
    else:
        tokens.revoke(database, "slurm")
    secret = tokens.create(database, "slurm", Role.READER)
    assert not is_valid(database, former)
    assert role_of(database, secret) == Role.READER
    assert statuses(database) == [ended, "valid"]


def test_both_tokens_are_valid_after_a_rotation(database: Database) -> None:
    former = tokens.create(database, "slurm", Role.WRITER)
    secret = tokens.rotate(database, "slurm", grace=DAY)
    assert secret != former
    assert role_of(database, former) == role_of(database, secret) == Role.WRITER
    assert expiry(database, "slurm") == [DAY, None]
    let_pass(database, DAY)
    assert not is_valid(database, former)
    assert is_valid(database, secret)


def test_at_most_two_tokens_are_valid(database: Database) -> None:
    secrets = [tokens.create(database, "slurm", Role.WRITER)]
    secrets += [tokens.rotate(database, "slurm", grace=DAY) for _ in range(3)]
    assert [is_valid(database, secret) for secret in secrets] == [False, False, True, True]
    assert statuses(database) == ["revoked", "revoked", "valid", "valid"]


def test_two_tokens_remain_after_concurrent_rotations(database: Database) -> None:
    tokens.create(database, "slurm", Role.WRITER)
    rotated = at_once([partial(tokens.rotate, database, "slurm", grace=DAY)] * 5)
    assert sum(is_valid(database, secret) for secret in rotated) == 2
    assert statuses(database).count("valid") == 2


def test_a_rotation_does_not_prolong_the_former_token(database: Database) -> None:
    tokens.create(database, "slurm", Role.WRITER, timedelta(hours=1))
    tokens.rotate(database, "slurm", 90 * DAY, grace=DAY)
    assert expiry(database, "slurm") == [timedelta(hours=1), 90 * DAY]


def test_a_rotation_does_not_change_other_names(database: Database) -> None:
    other = tokens.create(database, "dashboard", Role.READER)
    tokens.create(database, "slurm", Role.WRITER)
    for _ in range(3):
        tokens.rotate(database, "slurm", grace=DAY)
    tokens.revoke(database, "slurm")
    assert is_valid(database, other)
    assert expiry(database, "dashboard") == [None]


def test_revoke_ends_all_tokens_of_a_name(database: Database) -> None:
    secrets = [tokens.create(database, "slurm", Role.WRITER)]
    secrets.append(tokens.rotate(database, "slurm", grace=DAY))
    assert tokens.revoke(database, "slurm") == 2
    assert not any(is_valid(database, secret) for secret in secrets)
    assert statuses(database) == ["revoked", "revoked"]


@pytest.mark.parametrize(
    "change",
    [partial(tokens.rotate, name="slurm", grace=DAY), partial(tokens.revoke, name="slurm")],
    ids=["rotate", "revoke"],
)
@pytest.mark.parametrize("has_revoked", [False, True], ids=["never had one", "revoked"])
def test_a_name_without_a_valid_token_is_an_error(
    database: Database, change: Callable[[Database], object], *, has_revoked: bool
) -> None:
    if has_revoked:
        tokens.create(database, "slurm", Role.WRITER)
        tokens.revoke(database, "slurm")
    with pytest.raises(TokenError, match=r"slurm has no valid token.*ccapi token list"):
        change(database)
    assert "valid" not in statuses(database)


def test_the_list_has_the_last_use_of_a_token(database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER)
    assert tokens.list_all(database)[0].last_used_at is None
    tokens.authenticate(database, secret)
    used_at = tokens.list_all(database)[0].last_used_at
    assert used_at is not None
    assert abs(datetime.now(UTC) - used_at) < timedelta(seconds=30)


def test_the_last_use_is_recorded_once_a_minute(database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.WRITER)
    tokens.authenticate(database, secret)
    first = tokens.list_all(database)[0].last_used_at
    tokens.authenticate(database, secret)
    assert tokens.list_all(database)[0].last_used_at == first
    let_pass(database, timedelta(minutes=2))
    tokens.authenticate(database, secret)
    later = tokens.list_all(database)[0].last_used_at
    assert first is not None
    assert later is not None
    assert later > first


def test_a_revoked_token_is_rejected_by_the_service(
    reader: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TOKEN_TTL_SECONDS", TOKEN_TTL_SECONDS)
    assert reader.list() == []
    tokens.revoke(database, "test-reader")
    assert_error(reader.send("GET", "/"), 401, "revoked")


def test_secrets_never_appear_in_a_log(
    writer: Client, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rotated = tokens.rotate(database, "test-writer", grace=DAY)
    writer.start()
    writer.send("POST", "/start_job/", b"{")
    writer.send("GET", "/nowhere")
    writer.send("GET", "/", headers={"Authorization": f"Bearer {rotated}"})
    tokens.revoke(database, "test-writer")
    writer.send("POST", "/stop_job/", {})
    logging.getLogger("ccapi").warning("the log works")
    assert "the log works" in caplog.text
    assert not any(secret[6:] in caplog.text for secret in (writer.token, rotated))
