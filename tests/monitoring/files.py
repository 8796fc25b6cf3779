"""The alert rules, panels and queries of the files for Prometheus and Grafana."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
SLURM_RULES = DEPLOY / "prometheus" / "slurm.yml"
SCRAPING = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARD = DEPLOY / "grafana" / "ccapi.json"


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules."""
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels."""
    result: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return result


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every query of Prometheus, with the name of its rule or panel."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
