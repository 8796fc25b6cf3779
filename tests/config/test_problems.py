import json
import re
from pathlib import Path

import pytest

from ccapi.config import Config, load
from ccapi.model.cluster import Cluster, Clusters
from tests.config.support import (
    FRITZ,
    MASKED,
    NAME,
    NETWORKS,
    NODES,
    SECONDS,
    TABLES,
    URL,
    WINDOW,
    Settings,
    problems,
)


@pytest.mark.parametrize(
    ("value", "reported"),
    [("'four'", '"four"'), ("'4'", '"4"'), ("true", "true"), ("4.0", "4.0"), ("0", "0")],
)
def test_invalid_value_is_reported_with_file_and_key(
    settings: Settings, value: str, reported: str
) -> None:
    where = "settings/site.toml: database.pool_size"
    assert problems(settings(f"[database]\npool_size = {value}")) == [
        f"{where}: expected an integer from 1 to 10000, got {reported}"
    ]


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        *(("0", "0"), ("-1", "-1"), ("0.0001", "0.0001"), ("86401", "86401")),
        *(("nan", "NaN"), ("inf", "Infinity"), ("'3'", '"3"'), ("false", "false")),
    ],
)
def test_invalid_timeout_is_rejected(settings: Settings, value: str, reported: str) -> None:
    assert problems(settings(f"[database]\nlock_timeout = {value}")) == [
        f"settings/site.toml: database.lock_timeout: {SECONDS}, got {reported}"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url = ['a']", f"url: {URL}, got an array"),
        ("url = {a = 1}", f"url: {URL}, got a table"),
        ("url = ''", f'url: {URL}, got ""'),
        (r'url = "a\nb"', f'url: {URL}, got "********"'),
        ("url_file = 2026-01-31", 'url_file: expected a path, got "2026-01-31"'),
        ("url_file = 'postgresql://u:X@h'", f"url_file: expected a path, got {MASKED}"),
        ("pol_size = 4", "pol_size: unknown key; did you mean pool_size?"),
        (r'"\n" = 4', r'"\n": unknown key; use one of ' + ", ".join(vars(Config().database))),
    ],
)
def test_database_section_is_checked(settings: Settings, text: str, problem: str) -> None:
    assert problems(settings(f"[database]\n{text}")) == [f"settings/site.toml: database.{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "server.max_body_bytes = 9",
            "server.max_body_bytes: expected an integer from 1024 to 1073741824",
        ),
        ("server.unknown_fields = 'drop'", "server.unknown_fields: expected one of ignore, refuse"),
        ("server.used_nodes_open_to = 'localhost'", f"server.used_nodes_open_to: {NETWORKS}"),
        ("server.used_nodes_open_to = '10.0.0.1/8'", f"server.used_nodes_open_to: {NETWORKS}"),
        ("server.used_nodes_open_to = ['::1']", f"server.used_nodes_open_to: {NETWORKS}"),
        ("jobs.duplicate_window = -1", f"jobs.duplicate_window: {WINDOW}"),
        ("jobs.duplicate_window = 2147483648", f"jobs.duplicate_window: {WINDOW}"),
        ("log.level = 'info'", "log.level: expected one of DEBUG, INFO, WARNING, ERROR"),
        ("archive.root = ''", "archive.root: expected a path"),
        ("server = 5", "server: expected a table"),
        ("[sever]", "sever: unknown key; did you mean server?"),
    ],
)
def test_every_section_is_checked(settings: Settings, text: str, problem: str) -> None:
    [line] = problems(settings(text))
    assert line.partition(", got")[0] == f"settings/site.toml: {problem}"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DATABASE_POOL_SIZE", "four", 'expected an integer from 1 to 10000, got "four"'),
        ("DATABASE_POOL_SIZE", "", 'expected an integer from 1 to 10000, got ""'),
        ("DATABASE_POOL_SIZE", "null", "expected an integer from 1 to 10000, got nothing"),
        ("DATABASE_LOCK_TIMEOUT", "1e999", f"{SECONDS}, got Infinity"),
        ("DATABASE_URL", "", f'{URL}, got ""'),
        ("DATABSE_URL", "x", "unknown variable; did you mean CCAPI_DATABASE_URL?"),
        ("CLUSTERS", "[{", TABLES + ', got "[{"'),
        ("CLUSTERS", "[" * 10**6, f'{TABLES}, got "{"[" * 56}...'),
        ("CLUSTERS", "[1]", "expected a table, got 1"),
    ],
)
def test_invalid_variable_is_reported(name: str, text: str, problem: str) -> None:
    index = "[0]" if text == "[1]" else ""
    assert problems(environ={f"CCAPI_{name}": text}) == [
        f"environment: CCAPI_{name}{index}: {problem}"
    ]


def test_all_problems_are_reported_at_once(settings: Settings) -> None:
    path = settings("[server]\nmax_body_bytes = 1\n[jobs]\nwindow = 2\n[log]\nlevel = 3")
    lines = problems(path, {"CCAPI_LOG_LEVEL": "loud", "CCAPI_DATABASE_POOL_SIZE": "-1"})
    assert {problem.split(": ")[1] for problem in lines} == {
        "server.max_body_bytes",
        "jobs.window",
        "log.level",
        "CCAPI_DATABASE_POOL_SIZE",
        "CCAPI_LOG_LEVEL",
    }


def test_syntax_error_is_reported_with_its_line(settings: Settings) -> None:
    [problem] = problems(settings("[log]\nlevel = \n"))
    assert re.fullmatch(r"settings/site.toml: not valid TOML: .*line 2.*", problem)


@pytest.mark.parametrize("text", ["a = " + "[" * 10**5, "a = " + "9" * 5000])
def test_toml_beyond_pythons_limits_is_reported(settings: Settings, text: str) -> None:
    [problem] = problems(settings(text))
    assert problem.startswith("settings/site.toml: not valid TOML: ")


def test_binary_file_is_reported() -> None:
    Path("config.toml").write_bytes(b"\xff")
    [problem] = problems()
    assert problem.startswith("config.toml: not valid TOML: 'utf-8' codec")


def test_unreadable_file_is_reported() -> None:
    hint = "see that it exists, and that the service's user may read it"
    missing = f"cannot be read: No such file or directory; {hint}"
    assert problems(Path("no.toml")) == [f"no.toml: {missing}"]
    environ = {"CCAPI_CONFIG": "/"}
    assert problems(environ=environ) == [f"/: cannot be read: Is a directory; {hint}"]
    Path("config.toml").symlink_to("gone.toml")
    assert problems() == [f"config.toml: {missing}"]


# Clusters


def test_node_lists_are_expanded(settings: Settings) -> None:
    clusters = load(settings(FRITZ), {}).clusters
    main = dict.fromkeys(["f0101", "f0102", "f0103", "f0201"], "main")
    spr = dict.fromkeys(["f1r01", "f1r02", "f2r01", "f2r02"], "spr")
    assert clusters == Clusters((Cluster("fritz", main | spr),))


def test_clusters_of_the_environment_override_the_file(settings: Settings) -> None:
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
def test_invalid_node_list_is_reported(settings: Settings, nodes: str, problem: str) -> None:
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
        ("[{name = 'a', nodes = 'f1'}]", "[0].nodes: unknown key; use one of name, sub_clusters"),
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
def test_invalid_cluster_is_reported(settings: Settings, clusters: str, problem: str) -> None:
    assert problems(settings(f"clusters = {clusters}")) == [
        f"settings/site.toml: clusters{problem}"
    ]
