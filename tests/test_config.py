import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ccapi.config import Config, describe, load, masked
from ccapi.errors import StartupError
from ccapi.model.cluster import Cluster, Clusters

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
SECTIONS = ["server", "database", "archive", "jobs", "log"]
FRITZ = """
[[clusters]]
name = "fritz"
[[clusters.sub_clusters]]
name = "main"
nodes = "f[0101-0103], f0201"
[[clusters.sub_clusters]]
name = "spr"
nodes = "f[1-2]r[01-02]"
"""

NAME = "expected a name of at most 64 letters, digits, . _ and -, not starting with . _ or -"
NODES = "expected a node list such as f[0101-0188,0201]"
SECONDS = "expected seconds from 0.001 to 86400"
TABLES = "expected an array of tables (in the environment: JSON)"
WINDOW = "expected an integer from 0 to 2147483647"
MASKED = '"postgresql://u:********@h"'

Settings = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings() -> Settings:
    """Write a settings file and return its path, relative to the working directory."""

    def write(text: str) -> Path:
        path = Path("settings/site.toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def problems(path: Path | None = None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(StartupError) as caught:
        load(path, environ or {})
    return str(caught.value).split("\n")


# Where settings come from


def test_without_file_and_variables_the_defaults_are_in_force(tmp_path: Path) -> None:
    config = load(environ={})
    defaults = Config()
    assert config == dataclasses.replace(
        defaults,
        archive=dataclasses.replace(defaults.archive, root=tmp_path / "var/job-archive"),
    )
    assert set(config.sources.values()) == {"default"}


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = Config()
    assert config.server.max_body_bytes == 8 * 1024 * 1024
    assert config.database.url == "postgresql:///ccapi"
    assert config.database.pool_size == 4
    assert (config.database.connect_timeout, config.database.pool_timeout) == (3, 3)
    assert (config.database.statement_timeout, config.database.lock_timeout) == (10, 5)
    assert config.archive.root == Path("var/job-archive")
    assert config.jobs.duplicate_window == 60
    assert config.log.level == "INFO"
    assert not config.clusters


def test_a_file_overrides_the_defaults_and_the_environment_the_file(settings: Settings) -> None:
    path = settings("[jobs]\nduplicate_window = 5\n[database]\npool_size = 2\nlock_timeout = 1\n")
    config = load(path, {"CCAPI_JOBS_DUPLICATE_WINDOW": "7", "CCAPI_DATABASE_POOL_TIMEOUT": "0.5"})
    assert config.jobs.duplicate_window == 7
    assert config.database.pool_size == 2
    assert config.database.pool_timeout == 0.5
    assert isinstance(config.database.lock_timeout, float)
    assert config.sources["jobs.duplicate_window"] == "environment"
    assert config.sources["database.pool_size"] == "file"
    assert config.sources["log.level"] == "default"


def test_the_file_is_the_one_passed_else_the_variables_else_config_toml(settings: Settings) -> None:
    passed = settings("[log]\nlevel = 'DEBUG'")
    Path("named.toml").write_text("[log]\nlevel = 'WARNING'")
    Path("config.toml").write_text("[log]\nlevel = 'ERROR'")
    environ = {"CCAPI_CONFIG": "named.toml"}
    assert load(passed, environ).log.level == "DEBUG"
    assert load(None, environ).log.level == "WARNING"
    assert load(None, {}).log.level == "ERROR"


def test_the_sources_do_not_count_when_configs_are_compared(settings: Settings) -> None:
    path = settings("[log]\nlevel = 'DEBUG'")
    assert load(path, {}) == load(environ={"CCAPI_LOG_LEVEL": "DEBUG"})


def test_every_setting_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(environ={})
    for section in SECTIONS:
        for key, value in vars(getattr(config, section)).items():
            variable = f"CCAPI_{section}_{key}".upper()
            Path("url").write_text("postgresql:///x")
            text = "url" if value is None else str(value)
            assert load(environ={variable: text}).sources[f"{section}.{key}"] == "environment"


@pytest.mark.parametrize("name", ["CCAPI_PG_BIN", "PATH", "ccapi_log_level", "CCAPIX"])
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert load(environ={name: "whatever"}) == load(environ={})


def test_a_relative_path_starts_where_it_was_set(tmp_path: Path, settings: Settings) -> None:
    path = settings("[archive]\nroot = 'jobs'")
    assert load(path, {}).archive.root == tmp_path / "settings/jobs"
    assert load(path, {"CCAPI_ARCHIVE_ROOT": "jobs"}).archive.root == tmp_path / "jobs"
    assert load(path, {"CCAPI_ARCHIVE_ROOT": "/jobs"}).archive.root == Path("/jobs")


# The database's URL


def test_the_url_may_be_in_a_file_of_its_own(settings: Settings) -> None:
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


def test_url_and_url_file_in_one_source_are_refused(settings: Settings) -> None:
    both = "expected either url or url_file, got both"
    assert problems(settings("[database]\nurl = 'a'\nurl_file = 'b'")) == [
        f"settings/site.toml: database.url_file: {both}"
    ]
    assert problems(environ={"CCAPI_DATABASE_URL": "a", "CCAPI_DATABASE_URL_FILE": "b"}) == [
        f"environment: CCAPI_DATABASE_URL_FILE: {both}"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\n", "expected a line of text in UTF-8"),
        (b"geheim\npostgresql://db", "expected a line of text in UTF-8"),
        (b"\xff", "expected a line of text in UTF-8"),
    ],
)
def test_an_unusable_url_file_is_reported(
    tmp_path: Path, settings: Settings, content: bytes | None, reason: str
) -> None:
    path = settings("[database]\nurl_file = 'url'")
    if content is not None:
        Path("settings/url").write_bytes(content)
    where = f"settings/site.toml: database.url_file: {tmp_path}/settings/url"
    assert problems(path) == [f"{where}: {reason}"]


def test_no_representation_shows_the_password(settings: Settings) -> None:
    config = load(settings("[database]\nurl = 'postgresql://ccapi:geheim@db/ccapi'"), {})
    assert "geheim" not in repr(config)
    assert "geheim" not in describe(config)
    assert 'url = "postgresql://ccapi:********@db/ccapi"  # file' in describe(config)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql:///ccapi", "postgresql:///ccapi"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u:X@h1:1,h2:2/d", "postgresql://u:********@h1:1,h2:2/d"),
        ("postgresql://u:X?X@[::1]:5432/d", "postgresql://u:********@[::1]:5432/d"),
        ("postgres://h/d?password=X&a=b@c", "postgres://h/d?password=********&a=b@c"),
        ("postgresql://h/d?a=b&sslpassword=X", "postgresql://h/d?a=b&sslpassword=********"),
        ("host=h password=X dbname=d", "host=h password=******** dbname=d"),
        (r"password = 'X \' X' host=h", "password = ******** host=h"),
        (r"password=X\ X host=h", "password=******** host=h"),
        ("password=X://X host=h", "password=******** host=h"),
        ("host=h sslpassword='X X", "host=h sslpassword=********"),
        ("host=h require_auth=none", "host=h require_auth=none"),
    ],
)
def test_secrets_in_a_url_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("password", ["X@X", "X/X", "X?X/X", "1/X"])
def test_a_url_that_libpq_would_read_otherwise_is_masked_as_a_whole(password: str) -> None:
    assert masked(f"postgresql://u:{password}@h/d") == "postgresql://********"


def test_masking_takes_no_time_on_a_hostile_url() -> None:
    assert masked("postgresql://h/d?" + "a=" * 5000 + "&!") == "postgresql://********"


# What is wrong


@pytest.mark.parametrize(
    ("value", "shown"),
    [("'four'", '"four"'), ("'4'", '"4"'), ("true", "true"), ("4.0", "4.0"), ("0", "0")],
)
def test_a_wrong_value_is_reported_with_file_key_expected_and_found(
    settings: Settings, value: str, shown: str
) -> None:
    assert problems(settings(f"[database]\npool_size = {value}")) == [
        f"settings/site.toml: database.pool_size: expected an integer of at least 1, got {shown}"
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *(("0", "0"), ("-1", "-1"), ("0.0001", "0.0001"), ("86401", "86401")),
        *(("nan", "NaN"), ("inf", "Infinity"), ("'3'", '"3"'), ("false", "false")),
    ],
)
def test_a_timeout_that_is_none_is_refused(settings: Settings, value: str, shown: str) -> None:
    assert problems(settings(f"[database]\nlock_timeout = {value}")) == [
        f"settings/site.toml: database.lock_timeout: {SECONDS}, got {shown}"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url = ['a']", "url: expected a line of text, got an array"),
        ("url = {a = 1}", "url: expected a line of text, got a table"),
        ("url = ''", 'url: expected a line of text, got ""'),
        (r'url = "a\nb"', r'url: expected a line of text, got "a\nb"'),
        ("url_file = 2026-01-31", 'url_file: expected a path, got "2026-01-31"'),
        ("url_file = 'postgresql://u:X@h'", f"url_file: expected a path, got {MASKED}"),
        ("pol_size = 4", "pol_size: unknown key; did you mean pool_size?"),
        (r'"\n" = 4', r'"\n": unknown key; known are ' + ", ".join(vars(Config().database))),
    ],
)
def test_the_database_section_is_checked(settings: Settings, text: str, problem: str) -> None:
    assert problems(settings(f"[database]\n{text}")) == [f"settings/site.toml: database.{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "server.max_body_bytes = 9",
            "server.max_body_bytes: expected an integer of at least 1024",
        ),
        ("jobs.duplicate_window = -1", f"jobs.duplicate_window: {WINDOW}"),
        ("jobs.duplicate_window = 2147483648", f"jobs.duplicate_window: {WINDOW}"),
        ("log.level = 'info'", "log.level: expected one of DEBUG, INFO, WARNING, ERROR"),
        ("archive.root = ''", "archive.root: expected a path"),
        ("server = 5", "server: expected a table"),
        ("[sever]", "sever: unknown key; did you mean server?"),
    ],
)
def test_every_section_is_checked(settings: Settings, text: str, problem: str) -> None:
    [found] = problems(settings(text))
    assert found.partition(", got")[0] == f"settings/site.toml: {problem}"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DATABASE_POOL_SIZE", "four", 'expected an integer of at least 1, got "four"'),
        ("DATABASE_POOL_SIZE", "", 'expected an integer of at least 1, got ""'),
        ("DATABASE_POOL_SIZE", "null", "expected an integer of at least 1, got nothing"),
        ("DATABASE_LOCK_TIMEOUT", "1e999", f"{SECONDS}, got Infinity"),
        ("DATABASE_URL", "", 'expected a line of text, got ""'),
        ("DATABSE_URL", "x", "unknown variable; did you mean CCAPI_DATABASE_URL?"),
        ("CLUSTERS", "[{", TABLES + ', got "[{"'),
        ("CLUSTERS", "[" * 10**6, f'{TABLES}, got "{"[" * 56}...'),
        ("CLUSTERS", "[1]", "expected a table, got 1"),
    ],
)
def test_a_wrong_variable_is_reported(name: str, text: str, problem: str) -> None:
    index = "[0]" if text == "[1]" else ""
    assert problems(environ={f"CCAPI_{name}": text}) == [
        f"environment: CCAPI_{name}{index}: {problem}"
    ]


def test_all_problems_are_reported_at_once(settings: Settings) -> None:
    path = settings("[server]\nmax_body_bytes = 1\n[jobs]\nwindow = 2\n[log]\nlevel = 3")
    found = problems(path, {"CCAPI_LOG_LEVEL": "loud", "CCAPI_DATABASE_POOL_SIZE": "-1"})
    assert {problem.split(": ")[1] for problem in found} == {
        "server.max_body_bytes",
        "jobs.window",
        "log.level",
        "CCAPI_DATABASE_POOL_SIZE",
        "CCAPI_LOG_LEVEL",
    }


def test_a_syntax_error_is_reported_with_its_line(settings: Settings) -> None:
    [problem] = problems(settings("[log]\nlevel = \n"))
    assert re.fullmatch(r"settings/site.toml: not valid TOML: .*line 2.*", problem)


@pytest.mark.parametrize("text", ["a = " + "[" * 10**5, "a = " + "9" * 5000])
def test_toml_that_python_cannot_hold_is_a_problem_too(settings: Settings, text: str) -> None:
    [problem] = problems(settings(text))
    assert problem.startswith("settings/site.toml: not valid TOML: ")


def test_a_file_that_is_not_text_is_reported() -> None:
    Path("config.toml").write_bytes(b"\xff")
    [problem] = problems()
    assert problem.startswith("config.toml: not valid TOML: 'utf-8' codec")


def test_a_file_that_cannot_be_read_is_reported() -> None:
    assert problems(Path("no.toml")) == ["no.toml: cannot be read: No such file or directory"]
    assert problems(environ={"CCAPI_CONFIG": "/"}) == ["/: cannot be read: Is a directory"]
    Path("config.toml").symlink_to("gone.toml")
    assert problems() == ["config.toml: cannot be read: No such file or directory"]


# Clusters


def test_node_lists_are_expanded(settings: Settings) -> None:
    clusters = load(settings(FRITZ), {}).clusters
    main = dict.fromkeys(["f0101", "f0102", "f0103", "f0201"], "main")
    spr = dict.fromkeys(["f1r01", "f1r02", "f2r01", "f2r02"], "spr")
    assert clusters == Clusters((Cluster("fritz", main | spr),))


def test_clusters_in_the_environment_replace_those_of_the_file(settings: Settings) -> None:
    path = settings(FRITZ)
    alex = [{"name": "alex", "sub_clusters": [{"name": "a100", "nodes": "a[1-2]"}]}, {"name": "x"}]
    config = load(path, {"CCAPI_CLUSTERS": json.dumps(alex)})
    assert config.clusters.names == ("alex", "x")
    assert config.clusters.sub_cluster("alex", ["a2"]) == "a100"
    assert config.sources["clusters"] == "environment"
    assert not load(path, {"CCAPI_CLUSTERS": "[]"}).clusters


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ("@all", NODES + ', got "@all"'),
        ("f1,@*", NODES + ', got "f1,@*"'),
        ("", NODES + ', got ""'),
        ("f[1-", NODES + ', got "f[1-"'),
        ("f[5-1]", 'expected nodes, got "f[5-1]": bad range: "invalid values in range : "5-1""'),
        ("f[1-2][3-4]", 'expected nodes, got "f[1-2][3-4]": illegal reopening bracket: "[3-4]"'),
        ("f[0-999999],g", "expected at most 1,000,000 nodes, got 1,000,001"),
        ("f[1-999999999]", "expected at most 1,000,000 nodes, got 999,999,999"),
        ("f[1-9999]r[1-9999]", "expected at most 1,000,000 nodes, got 99,980,001"),
    ],
)
def test_a_bad_node_list_is_reported(settings: Settings, nodes: str, problem: str) -> None:
    sub_cluster = f"{{name = 'main', nodes = '{nodes}'}}"
    path = settings(f"clusters = [{{name = 'fritz', sub_clusters = [{sub_cluster}]}}]")
    where = "settings/site.toml: clusters[0].sub_clusters[0].nodes"
    assert problems(path) == [f"{where}: {problem}"]


@pytest.mark.parametrize(
    ("clusters", "problem"),
    [
        ("[{}]", f"[0].name: {NAME}, got nothing"),
        ("[{name = '../x'}]", f'[0].name: {NAME}, got "../x"'),
        ("[{name = 1}]", f"[0].name: {NAME}, got 1"),
        ("[1]", "[0]: expected a table, got 1"),
        ("1", f": {TABLES}, got 1"),
        ("[{name = 'a'}, {name = 'b'}, {name = 'a'}]", ': expected each name once, got "a"'),
        ("[{name = 'a', nodes = 'f1'}]", "[0].nodes: unknown key; known are name, sub_clusters"),
        (
            "[{name = 'a', sub_clusters = [{name = 'm'}]}]",
            f"[0].sub_clusters[0].nodes: {NODES}, got nothing",
        ),
        (
            "[{name = 'a', sub_clusters = [{name = 'm', nodes = 'a'}, {name = 'm', nodes = 'b'}]}]",
            '[0].sub_clusters: expected each name once, got "m"',
        ),
        (
            "[{name = 'a', sub_clusters = [{name = 'm', nodes = 'a'}, {name = 'n', nodes = 'a'}]}]",
            "[0].sub_clusters: expected each node in one sub-cluster, a is in both m and n",
        ),
    ],
)
def test_a_bad_cluster_is_reported(settings: Settings, clusters: str, problem: str) -> None:
    assert problems(settings(f"clusters = {clusters}")) == [
        f"settings/site.toml: clusters{problem}"
    ]


# describe()


def test_a_description_names_each_key_once_with_its_source(settings: Settings) -> None:
    path = settings("[jobs]\nduplicate_window = 5" + FRITZ)
    text = describe(load(path, {"CCAPI_LOG_LEVEL": "DEBUG"}))
    assert "duplicate_window = 5  # file\n" in text
    assert 'level = "DEBUG"  # environment\n' in text
    assert "lock_timeout = 5.0  # default\n" in text
    assert 'name = "fritz"  # file\n' in text
    assert 'nodes = "f[0101-0103,0201]"\n' in text
    assert text.count("level") == 1


@pytest.mark.parametrize("clusters", ["", FRITZ, FRITZ + "[[clusters]]\nname = 'woody'"])
def test_a_description_loads_to_the_same_settings(settings: Settings, clusters: str) -> None:
    root = 'a "quoted" \\ ümlaut \N{SNOWMAN} \N{ROCKET}'
    config = load(settings(clusters), {"CCAPI_ARCHIVE_ROOT": root, "CCAPI_DATABASE_POOL_SIZE": "9"})
    assert load(settings(describe(config)), {}) == config


def test_a_description_keeps_the_url_file_and_shows_what_it_says(settings: Settings) -> None:
    Path("url").write_text("postgresql://u:geheim@db/x")
    config = load(environ={"CCAPI_DATABASE_URL_FILE": "url"})
    assert '# url = "postgresql://u:********@db/x"  # environment\n' in describe(config)
    assert load(settings(describe(config)), {}) == config


def test_settings_made_without_load_can_be_described() -> None:
    assert "pool_size = 4  # default\n" in describe(Config())


# The example


def test_the_example_holds_the_defaults() -> None:
    defaults = load(environ={})
    Path("config.toml").write_bytes(EXAMPLE.read_bytes())
    example = load(environ={})
    assert example == defaults
    assert {key for key, source in example.sources.items() if source == "default"} == {"clusters"}


def test_the_commented_parts_of_the_example_are_valid(settings: Settings) -> None:
    text = re.sub(r"^#(?=[\[a-z])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    without_url = re.sub(r"^url = .*$", "", text, flags=re.MULTILINE)
    Path("url").write_text("postgresql:///ccapi")
    config = load(settings(without_url.replace("/etc/ccapi/database-url", "../url")), {})
    assert config.clusters.names == ("fritz", "woody")
    assert config.clusters.sub_cluster("fritz", ["f0188"]) == "main"


def test_the_example_has_every_setting_with_its_variable() -> None:
    text = EXAMPLE.read_text()
    for section in SECTIONS:
        part = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0]
        for key in vars(getattr(Config(), section)):
            assert re.search(rf"^#?{key} = ", part, re.MULTILINE), f"{section}.{key}"
            assert f"CCAPI_{section}_{key}\n".upper() in part
    assert "CCAPI_CLUSTERS" in text
