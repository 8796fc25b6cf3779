"""/metrics: what is counted, who may read it, and that its size is bounded."""

import json
from dataclasses import replace

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from werkzeug.test import TestResponse

from ccapi import __version__, metrics, prometheus_multiproc
from ccapi.app import create_app
from ccapi.config import Config, Metrics
from ccapi.db import migrations
from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from tests import conftest
from tests.client import Client, assert_error, job


@pytest.fixture
def app(config: Config, database: Database) -> Flask:
    """Build an app that has no results of probes yet."""
    return conftest.serve(config, database)


def read(client: Client) -> TestResponse:
    return client.http.get("/metrics", headers={"Authorization": f"Bearer {client.token}"})


def parsed(response: TestResponse) -> list[Sample]:
    assert response.status_code == 200, response.text
    families = text_string_to_metric_families(response.text)
    return [sample for family in families for sample in family.samples]


def value(client: Client, name: str, **labels: str) -> float:
    values = [s.value for s in parsed(read(client)) if s.name == name and s.labels == labels]
    return values[0] if values else 0.0


@pytest.fixture(autouse=True)
def no_stale_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the database at every scrape: the tests do not want to wait."""
    monkeypatch.setattr("ccapi.service.metrics._TTL_SECONDS", -1)


def test_requests_are_counted_by_operation_and_status(admin: Client) -> None:
    labels = {"endpoint": "start_job", "status": "201"}
    before = value(admin, "ccapi_requests_total", **labels)
    admin.start()
    assert admin.send("PUT", "/start_job/", job(jobId=2)).status_code == 201
    assert value(admin, "ccapi_requests_total", **labels) == before + 2
    assert value(admin, "ccapi_request_seconds_count", endpoint="start_job") >= 2


def test_rejected_requests_are_counted_by_reason(admin: Client) -> None:
    before = value(admin, "ccapi_rejected_requests_total", reason="DuplicateJob")
    admin.start()
    assert admin.send("POST", "/start_job/", job()).status_code == 422
    assert value(admin, "ccapi_rejected_requests_total", reason="DuplicateJob") == before + 1


def test_lines_of_a_batch_are_counted_by_status(admin: Client) -> None:
    statuses = ("201", "400", "422")
    before = [value(admin, "ccapi_batch_lines_total", status=status) for status in statuses]
    start = json.dumps({"start": job()})
    admin.send("POST", "/batch/", "\n".join([start, start, "{}", "["]).encode())
    after = [value(admin, "ccapi_batch_lines_total", status=status) for status in statuses]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 2, 1]


def test_ignored_fields_are_counted_by_operation(admin: Client) -> None:
    labels = {"endpoint": "start_job"}
    before = value(admin, "ccapi_ignored_fields_total", **labels)
    admin.start(colour="blue", weight=5)
    admin.start(jobId=2, colour="blue")
    admin.start(jobId=3)
    assert value(admin, "ccapi_ignored_fields_total", **labels) == before + 3


def test_jobs_are_counted_by_cluster_and_state(admin: Client) -> None:
    failed = {"cluster": "fritz", "state": "failed"}
    before = value(admin, "ccapi_job_stops_total", **failed)
    for number in (1, 2):
        admin.start(jobId=number)
    admin.stop(jobId=1, jobState="failed")
    assert value(admin, "ccapi_jobs", cluster="fritz", state="running") == 1
    assert value(admin, "ccapi_job_stops_total", **failed) == before + 1
    assert value(admin, "ccapi_job_starts_total", cluster="fritz") >= 2


def test_archive_backlog_age_and_failures_are_exported(admin: Client, config: Config) -> None:
    before = value(admin, "ccapi_archive_failures_total")
    admin.start()
    assert value(admin, "ccapi_archive_pending") == 0
    (config.archive.root / "fritz").write_bytes(b"in the way")
    admin.stop()
    assert value(admin, "ccapi_archive_pending") == value(admin, "ccapi_archive_failed") == 1
    assert value(admin, "ccapi_archive_oldest_pending_seconds") > 1_000_000
    assert value(admin, "ccapi_archive_failures_total") == before + 1


def test_database_and_version_are_exported(admin: Client) -> None:
    assert value(admin, "ccapi_database_up") == 1
    assert value(admin, "ccapi_build_info", version=__version__) == 1
    assert value(admin, "ccapi_database_connection_held_seconds_count") > 0
    assert value(admin, "ccapi_database_connections_in_use") == 0


@pytest.mark.slow
def test_jobs_and_hostile_requests_add_no_series(admin: Client, database: Database) -> None:
    def visit(round_: int) -> None:
        admin.start(jobId=round_ + 1, user=f"user{round_}", project=f"p{round_}")
        for path in (f"/nothing/{round_}", f"/stop_job/{round_}", "/", "/start_job/"):
            for method in ("GET", "POST", "DELETE", f"X{round_}"):
                admin.send(method, path, b"")

    def series() -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {(s.name, frozenset(s.labels.items())) for s in parsed(read(admin))}

    visit(0)
    read(admin)
    before = series()
    for round_ in range(1, 4):
        visit(round_)
    with database.transaction() as conn:
        conn.execute("""
            INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster,
                              num_nodes, exclusive, monitoring_status, resources)
            SELECT n, 'fritz', 100 + n, 'user' || n, '', 'main', 4, 1, 1, '[]'
            FROM generate_series(1, 20000) AS n
            """)
    assert series() == before


def test_labels_have_no_job_user_or_token(admin: Client) -> None:
    admin.start(user="somebody")
    labels = {label for sample in parsed(read(admin)) for label in sample.labels}
    ours = {"endpoint", "status", "reason", "cluster", "state", "version", "le", "database"}
    of_python = {"generation", "implementation", "major", "minor", "patchlevel"}
    assert labels <= ours | of_python
    assert "somebody" not in read(admin).text
    assert admin.token not in read(admin).text


def test_clusters_beyond_the_first_100_share_a_label(admin: Client, database: Database) -> None:
    with database.transaction() as conn:
        conn.execute("""
            INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster,
                              num_nodes, exclusive, monitoring_status, resources)
            SELECT n, 'c' || n, 100 + n, 'u', '', 'main', 4, 1, 1, '[]'
            FROM generate_series(1, 300) AS n
            """)
    samples = [s for s in parsed(read(admin)) if s.name == "ccapi_jobs"]
    assert sum(s.value for s in samples) == 300
    assert len(samples) <= metrics.MAX_CLUSTERS + 1
    assert "other" in {s.labels["cluster"] for s in samples}
    metrics._cluster_labels = prometheus_multiproc.LabelLimiter(metrics.MAX_CLUSTERS)
    metrics.cluster_label.cache_clear()


@pytest.mark.parametrize("role", Role)
def test_every_valid_token_may_scrape(app: Flask, database: Database, role: Role) -> None:
    assert read(conftest.client(app, database, role)).status_code == 200


def test_scrape_needs_a_token(app: Flask) -> None:
    assert_error(app.test_client().get("/metrics"), 401, "no token")
    assert_error(read(Client(app.test_client(), "ccapi_" + 43 * "x")), 401, "unknown")


@pytest.mark.parametrize(("access", "status"), [("open", 200), ("off", 404), ("token", 401)])
def test_setting_controls_access(
    config: Config, database: Database, access: str, status: int
) -> None:
    app = conftest.serve(replace(config, metrics=Metrics(access)), database)
    assert app.test_client().get("/metrics").status_code == status


def test_known_token_may_scrape_without_the_database(
    config: Config, postgres: PrivatePostgres
) -> None:
    with Database(postgres.url).session() as conn:
        conn.execute("CREATE DATABASE gone")
    gone = Database(postgres.database_url("gone"), Limits(pool_timeout=0.1))
    migrations.migrate(gone)
    reader = conftest.client(conftest.serve(config, gone), gone, Role.READER)
    assert read(reader).status_code == 200
    with Database(postgres.url).session() as conn:
        conn.execute("DROP DATABASE gone WITH (FORCE)")
    failures = value(reader, "ccapi_database_failures_total")
    assert value(reader, "ccapi_database_up") == 0
    assert value(reader, "ccapi_database_failures_total") > failures
    assert_error(read(Client(reader.http, "ccapi_" + 43 * "x")), 503)
    gone.close()


def test_metrics_are_not_part_of_the_document(config: Config) -> None:
    paths = create_app(config).test_client().get("/api/openapi.json").get_json()["paths"]
    assert not [path for path in paths if "metrics" in path]
