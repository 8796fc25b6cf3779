import re
from pathlib import Path

import pytest

from ccapi.config import Config, load, to_toml
from tests.config.support import (
    EXAMPLE,
    FRITZ,
    SECTIONS,
    Settings,
)


def test_dump_has_each_key_once_with_its_source(settings: Settings) -> None:
    path = settings("[jobs]\nduplicate_window = 5" + FRITZ)
    text = to_toml(load(path, {"CCAPI_LOG_LEVEL": "DEBUG"}))
    assert "duplicate_window = 5  # file\n" in text
    assert 'level = "DEBUG"  # environment\n' in text
    assert "lock_timeout = 5.0  # default\n" in text
    assert 'name = "fritz"  # file\n' in text
    assert 'nodes = "f[0101-0103,0201]"\n' in text
    assert text.count("level") == 1


@pytest.mark.parametrize("clusters", ["", FRITZ, FRITZ + "[[clusters]]\nname = 'woody'"])
def test_dump_loads_to_the_same_settings(settings: Settings, clusters: str) -> None:
    root = 'a "quoted" \\ ümlaut \N{SNOWMAN} \N{ROCKET}'
    config = load(settings(clusters), {"CCAPI_ARCHIVE_ROOT": root, "CCAPI_DATABASE_POOL_SIZE": "9"})
    assert load(settings(to_toml(config)), {}) == config


def test_dump_has_the_url_file_and_its_url(settings: Settings) -> None:
    Path("url").write_text("postgresql://u:geheim@db/x")
    config = load(environ={"CCAPI_DATABASE_URL_FILE": "url"})
    assert '# url = "postgresql://u:********@db/x"  # environment\n' in to_toml(config)
    assert load(settings(to_toml(config)), {}) == config


def test_settings_without_sources_can_be_dumped() -> None:
    assert "pool_size = 4  # default\n" in to_toml(Config())


# The example


def test_example_has_the_defaults() -> None:
    defaults = load(environ={})
    Path("config.toml").write_bytes(EXAMPLE.read_bytes())
    example = load(environ={})
    assert example == defaults
    optional = {"clusters", "database.replica_url", "database.replica_url_file"}
    assert {key for key, source in example.sources.items() if source == "default"} == optional


def test_commented_parts_of_the_example_are_valid(settings: Settings) -> None:
    text = re.sub(r"^#(?=[\[a-z])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    without_urls = re.sub(r"^(replica_)?url = .*$", "", text, flags=re.MULTILINE)
    Path("url").write_text("postgresql:///ccapi")
    Path("replica-url").write_text("postgresql:///replica")
    config = load(settings(without_urls.replace("/etc/ccapi/database-", "../")), {})
    assert (config.database.url, config.database.replica_url) == (
        "postgresql:///ccapi", "postgresql:///replica"
    )  # fmt: skip
    assert config.clusters.names == ("fritz", "woody")
    assert config.clusters.sub_cluster("fritz", ["f0188"]) == "main"


def test_example_has_every_setting_with_its_variable() -> None:
    text = EXAMPLE.read_text()
    for section in SECTIONS:
        part = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0]
        for key in vars(getattr(Config(), section)):
            assert re.search(rf"^#?{key} = ", part, re.MULTILINE), f"{section}.{key}"
            assert f"CCAPI_{section}_{key}\n".upper() in part
    assert "CCAPI_CLUSTERS" in text
