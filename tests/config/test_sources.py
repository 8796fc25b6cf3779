import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from ccapi.config import Config, load, mask, to_toml
from tests.config.support import (
    SECTIONS,
    URL,
    Settings,
    problems,
)


def test_defaults_without_file_and_variables(tmp_path: Path) -> None:
    config = load(environ={})
    defaults = Config()
    assert config == dataclasses.replace(
        defaults,
        archive=dataclasses.replace(defaults.archive, root=tmp_path / "var/job-archive"),
    )
    assert set(config.sources.values()) == {"default"}


def test_defaults_are_those_of_the_documentation() -> None:
    config = Config()
    assert config.server.max_body_bytes == 8 * 1024 * 1024
    assert (config.server.unknown_fields, config.server.used_nodes_open_to) == ("ignore", ())
    assert config.database.url == "postgresql:///ccapi"
    assert config.database.pool_size == 4
    assert (config.database.connect_timeout, config.database.pool_timeout) == (3, 3)
    assert (config.database.statement_timeout, config.database.lock_timeout) == (10, 5)
    assert config.archive.root == Path("var/job-archive")
    assert config.jobs.duplicate_window == 60
    assert config.log.level == "INFO"
    assert not config.clusters


def test_environment_overrides_file_overrides_defaults(settings: Settings) -> None:
    path = settings("[jobs]\nduplicate_window = 5\n[database]\npool_size = 2\nlock_timeout = 1\n")
    config = load(path, {"CCAPI_JOBS_DUPLICATE_WINDOW": "7", "CCAPI_DATABASE_POOL_TIMEOUT": "0.5"})
    assert config.jobs.duplicate_window == 7
    assert config.database.pool_size == 2
    assert config.database.pool_timeout == 0.5
    assert isinstance(config.database.lock_timeout, float)
    assert config.sources["jobs.duplicate_window"] == "environment"
    assert config.sources["database.pool_size"] == "file"
    assert config.sources["log.level"] == "default"


def test_path_of_the_file(settings: Settings) -> None:
    passed = settings("[log]\nlevel = 'DEBUG'")
    Path("named.toml").write_text("[log]\nlevel = 'WARNING'")
    Path("config.toml").write_text("[log]\nlevel = 'ERROR'")
    environ = {"CCAPI_CONFIG": "named.toml"}
    assert load(passed, environ).log.level == "DEBUG"
    assert load(None, environ).log.level == "WARNING"
    assert load(None, {}).log.level == "ERROR"


def test_sources_do_not_count_in_comparisons(settings: Settings) -> None:
    path = settings("[log]\nlevel = 'DEBUG'")
    assert load(path, {}) == load(environ={"CCAPI_LOG_LEVEL": "DEBUG"})


def test_every_setting_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(environ={})
    for section in SECTIONS:
        for key, value in vars(getattr(config, section)).items():
            variable = f"CCAPI_{section}_{key}".upper()
            Path("url").write_text("postgresql:///x")
            missing = "postgresql:///y" if key == "replica_url" else "url"
            text = missing if value is None else str(value)
            text = text.lower() if isinstance(value, bool) else text
            assert load(environ={variable: text}).sources[f"{section}.{key}"] == "environment"


@pytest.mark.parametrize("name", ["CCAPI_PG_BIN", "PATH", "ccapi_log_level", "CCAPIX"])
def test_variables_of_other_programs_are_ignored(name: str) -> None:
    assert load(environ={name: "whatever"}) == load(environ={})


def test_relative_path_starts_at_its_source(tmp_path: Path, settings: Settings) -> None:
    path = settings("[archive]\nroot = 'jobs'")
    assert load(path, {}).archive.root == tmp_path / "settings/jobs"
    assert load(path, {"CCAPI_ARCHIVE_ROOT": "jobs"}).archive.root == tmp_path / "jobs"
    assert load(path, {"CCAPI_ARCHIVE_ROOT": "/jobs"}).archive.root == Path("/jobs")


def test_networks_are_separated_by_commas(settings: Settings) -> None:
    text = "10.0.0.7, 10.1.0.0/16,fd00::/8"
    networks = load(settings(f"[server]\nused_nodes_open_to = '{text}'"), {}).server
    expected = (ip_network("10.0.0.7"), ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert networks.used_nodes_open_to == expected
    assert 'used_nodes_open_to = "10.0.0.7/32, 10.1.0.0/16, fd00::/8"' in to_toml(
        load(environ={"CCAPI_SERVER_USED_NODES_OPEN_TO": text})
    )


# The database's URL


def test_url_from_a_file(settings: Settings) -> None:
    path = settings("[database]\nurl_file = 'url'")
    Path("settings/url").write_text("postgresql://db/ccapi\n")
    config = load(path, {})
    assert config.database.url == "postgresql://db/ccapi"
    assert config.sources["database.url"] == "file"


def test_url_and_url_file_override_each_other_across_sources(settings: Settings) -> None:
    with_file = settings("[database]\nurl_file = 'does-not-exist'")
    config = load(with_file, {"CCAPI_DATABASE_URL": "postgresql:///x"})
    assert (config.database.url, config.database.url_file) == ("postgresql:///x", None)
    Path("url").write_text("postgresql:///y")
    with_url = settings("[database]\nurl = 'postgresql:///x'")
    assert load(with_url, {"CCAPI_DATABASE_URL_FILE": "url"}).database.url == "postgresql:///y"


def test_url_and_url_file_in_one_source_are_rejected(settings: Settings) -> None:
    both = "expected either url or url_file, got both"
    assert problems(settings("[database]\nurl = 'host=a'\nurl_file = 'b'")) == [
        f"settings/site.toml: database.url_file: {both}"
    ]
    assert problems(environ={"CCAPI_DATABASE_URL": "host=a", "CCAPI_DATABASE_URL_FILE": "b"}) == [
        f"environment: CCAPI_DATABASE_URL_FILE: {both}"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\n", f"{URL}, and nothing else"),
        (b"geheim\npostgresql://db", f"{URL}, and nothing else"),
        (b"\xff", f"{URL}, and nothing else"),
    ],
)
def test_unusable_url_file_is_reported(
    tmp_path: Path, settings: Settings, content: bytes | None, reason: str
) -> None:
    path = settings("[database]\nurl_file = 'url'")
    if content is not None:
        Path("settings/url").write_bytes(content)
    where = f"settings/site.toml: database.url_file: {tmp_path}/settings/url"
    [problem] = problems(path)
    assert problem.startswith(f"{where}: {reason}")


@pytest.mark.parametrize("name", ["url", "replica_url"])
def test_no_representation_has_the_password(settings: Settings, name: str) -> None:
    config = load(settings(f"[database]\n{name} = 'postgresql://ccapi:geheim@db/ccapi'"), {})
    assert "geheim" not in repr(config)
    assert "geheim" not in to_toml(config)
    assert f'\n{name} = "postgresql://ccapi:********@db/ccapi"  # file' in to_toml(config)
    assert config.secret_files == (Path("settings/site.toml"),)


def test_replica_url_from_a_file(settings: Settings) -> None:
    path = settings("[database]\nreplica_url_file = 'url'")
    Path("settings/url").write_text("postgresql://u:geheim@replica/ccapi\n")
    config = load(path, {})
    assert config.database.replica_url == "postgresql://u:geheim@replica/ccapi"
    assert config.secret_files == (Path("settings/url").absolute(),)
    assert "geheim" not in to_toml(config)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql:///ccapi", "postgresql:///ccapi"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u:X@h1:1,h2:2/d", "postgresql://u:********@h1:1,h2:2/d"),
        ("postgresql://u:XX@[::1]:5432/d", "postgresql://u:********@[::1]:5432/d"),
        ("postgres://h/d?password=X&a=b", "postgres://h/d?password=********&a=********"),
        ("postgresql://h/d?sslpassword=X&port=1", "postgresql://h/d?sslpassword=********&port=1"),
        ("host=h password=X dbname=d", "host=h password=******** dbname=d"),
        (r"password = 'X \' X' host=h", "password = ******** host=h"),
        (r"password=X\ X host=h", "password=******** host=h"),
        ("password=X://X host=h", "password=******** host=h"),
        ("host=h sslpassword='X X", "********"),
        ("host=h require_auth=none", "host=h require_auth=none"),
    ],
)
def test_secrets_in_a_url_are_masked(url: str, masked: str) -> None:
    assert mask(url) == masked


@pytest.mark.parametrize("password", ["X@X", "X/X", "X?X/X", "1/X"])
def test_ambiguous_url_is_masked_entirely(password: str) -> None:
    assert mask(f"postgresql://u:{password}@h/d") == "********"


def test_masking_of_a_hostile_url_is_fast() -> None:
    assert mask("postgresql://h/d?" + "a=" * 5000 + "&!") == "********"
