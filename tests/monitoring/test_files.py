"""Alert rules and dashboard ask for what the service exports, and for all of it."""

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from ccapi import errors
from ccapi.http import errors as answers
from tests.client import Client
from tests.monitoring import files


def exported(app: Flask, token: str) -> Iterator[str]:
    response = app.test_client().get("/metrics", headers={"X-Auth-Token": token})
    for family in text_string_to_metric_families(response.text):
        # Only a single process exports times of creation.
        if family.name.startswith("ccapi_") and not family.name.endswith("_created"):
            yield from {
                "counter": [f"{family.name}_total"],
                "histogram": [f"{family.name}_bucket"],
                "info": [f"{family.name}_info"],
            }.get(family.type, [family.name])


def queried() -> set[str]:
    # The sender of Slurm's events has metrics of its own: see slurm/test_status.py.
    pattern = re.compile(r"ccapi_(?!slurm_)\w+")
    return {name for _, text in files.expressions() for name in pattern.findall(text)}


def test_exported_and_queried_metrics_are_the_same(app: Flask, reader: Client) -> None:
    names = set(exported(app, reader.token))
    assert queried() - names == set()
    assert names - queried() == set()


def test_every_operation_that_an_alert_names_exists(app: Flask) -> None:
    known = {rule.endpoint.rpartition(".")[2] for rule in app.url_map.iter_rules()}
    for _, text in files.expressions():
        for names in re.findall(r'endpoint!?=~?"([^"]+)"', text):
            assert set(names.split("|")) <= known


def test_every_reason_that_an_alert_names_exists() -> None:
    for _, text in files.expressions():
        for names in re.findall(r'reason=~?"([^"]+)"', text):
            assert all(getattr(errors, name) in answers._STATUS for name in names.split("|"))


@pytest.mark.parametrize("rule", files.alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert len(rule["annotations"]["summary"]) > 10
    assert len(rule["annotations"]["description"]) > 30


def test_the_dashboard_has_no_panel_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in files.panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
