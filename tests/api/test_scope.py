"""A token that is limited to users, projects or clusters sees no other jobs, anywhere."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from flask import Flask

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.client import START, Client, assert_error, job

USERS = ("anna", "bert", "carl")
PROJECTS = ("p1", "p2", "")
CLUSTERS = {"anna": "fritz", "bert": "woody", "carl": "fritz"}


@dataclass
class Limited:
    """A client with a limited token, and the ids of the jobs that it can see."""

    client: Client
    visible: set[int]
    hidden: set[int]


@pytest.fixture(
    params=[
        Scope(users=("anna",)),
        Scope(projects=("p1", "")),
        Scope(users=("anna", "carl"), projects=("p2",)),
        Scope(clusters=("fritz",)),
        *(
            pytest.param(scope, marks=pytest.mark.slow)
            for scope in (
                Scope(users=("anna", "bert")),
                Scope(projects=("p1",)),
                Scope(users=("nobody",)),
                Scope(clusters=("fritz", "woody"), projects=("p1",)),
            )
        ),
    ],
    ids=str,
)
def limited(
    request: pytest.FixtureRequest, app: Flask, database: Database, admin: Client
) -> Limited:
    """Jobs of each user in each project, running and finished, and a token for some of them."""
    scope: Scope = request.param
    visible: set[int] = set()
    hidden: set[int] = set()
    for number, (user, project, ends) in enumerate(product(USERS, PROJECTS, (False, True))):
        id_ = admin.start(
            jobId=1000 + number,
            user=user,
            cluster=CLUSTERS[user],
            project=project,
            resources=[{"hostname": f"f{number:04}"}],
            tags=[{"type": "a", "name": "b"}],
        )
        if ends:
            admin.stop(jobId=1000 + number)
        (visible if scope.includes(user, project, CLUSTERS[user]) else hidden).add(id_)
    secret = tokens.create(database, "limited", Role.ADMIN, scope=scope)
    return Limited(Client(app.test_client(), secret), visible, hidden)


def test_lists_and_totals_show_visible_jobs(limited: Limited, admin: Client) -> None:
    for query in (
        "", "state=running", "state=completed&state=running", "user=anna", "user=bert",
        "project=p1", "cluster=fritz", "tag=a:b", "host=f0003", "job-id=1004", "cursor=",
        f"start-time={START - 1}-{START + 1}", "num-nodes=1-4", "duration=1-99999999999",
    ):  # fmt: skip
        visible = {job["id"] for job in admin.list(f"{query}&items-per-page=1000")}
        visible &= limited.visible
        response = limited.client.send("GET", f"/?{query}&items-per-page=1000&total=true")
        body = response.get_json()
        assert {job["id"] for job in body["jobs"]} == visible, query
        assert body["total"] == len(visible), query
        csv = limited.client.send("GET", f"/?{query}&items-per-page=1000&format=csv&fields=id")
        assert {int(line) for line in csv.text.split()[1:]} == visible, query


def test_statistics_count_visible_jobs(limited: Limited) -> None:
    path = f"/stats/?range={START}-{START + 10_000}&group-by=user"
    assert limited.client.send("GET", path).get_json()["numJobs"] == len(limited.visible)


def test_used_nodes_are_those_of_visible_jobs(limited: Limited) -> None:
    answer = limited.client.send("GET", f"/used_nodes?ts={START + 10}").get_json()
    hosts = [host for hosts in answer["usedNodes"].values() for host in hosts]
    assert len(hosts) == len(limited.visible)


def test_hidden_job_does_not_exist(limited: Limited) -> None:
    client = limited.client
    meta = {"metaData": {"note": "x"}}
    tags = [{"type": "c", "name": "d"}]
    stop: dict[str, Any] = {"jobState": "failed", "stopTime": START + 7200}
    for id_ in limited.hidden:
        assert client.send("GET", f"/{id_}").status_code == 404
        assert client.send("POST", f"/tag_job/{id_}", tags).status_code == 404
        assert client.send("DELETE", f"/tag_job/{id_}", tags).status_code == 404
        assert client.send("PATCH", f"/edit_meta/{id_}", meta).status_code == 404
        assert client.send("PUT", f"/statistics/{id_}", {}).status_code == 404
        assert client.send("POST", f"/correct_job/{id_}", stop).status_code == 404
        assert_error(client.send("POST", f"/stop_job/{id_}", stop), 422, "no job has")
        assert_error(client.send("DELETE", f"/delete_job/{id_}"), 422, "no job has")
    for id_ in limited.visible:
        assert client.send("GET", f"/{id_}").status_code == 200


def test_jobs_are_selected_among_visible_ones(limited: Limited, admin: Client) -> None:
    for row in admin.list("items-per-page=1000"):
        is_visible = row["id"] in limited.visible
        body = {"jobId": row["jobId"], "payload": {"key": "note", "value": "x"}}
        response = limited.client.send("PATCH", "/edit_meta/", body)
        assert response.status_code == (200 if is_visible else 422)
        response = limited.client.send("DELETE", "/delete_job/", {"jobId": row["jobId"]})
        assert response.status_code == (200 if is_visible else 422)
    assert {job["id"] for job in admin.list("items-per-page=1000")} == limited.hidden


def test_deletion_by_time_keeps_hidden_jobs(limited: Limited, admin: Client) -> None:
    limited.client.send("DELETE", f"/delete_job_before/{START + 1}")
    assert {job["id"] for job in admin.list("items-per-page=1000")} == limited.hidden


def test_start_needs_a_job_in_scope(limited: Limited, database: Database) -> None:
    body = {"jobId": 5, "user": "dora", "cluster": "fritz", "startTime": START,
            "resources": [{"hostname": "f1"}]}  # fmt: skip
    response = limited.client.send("POST", "/start_job/", body)
    visible = response.status_code == 201
    assert visible or response.status_code == 403
    if visible:  # by a project, which is "" here
        [row] = limited.client.list("job-id=5")
        assert row["user"] == "dora"


def test_limited_token_cannot_reconcile_or_read_metrics(limited: Limited) -> None:
    body = {"cluster": "woody", "asOf": START + 10_000, "jobs": []}
    assert limited.client.send("POST", "/reconcile/", body).status_code == 403
    http, token = limited.client.http, limited.client.token
    assert http.get("/metrics", headers={"X-Auth-Token": token}).status_code == 403
    nodes = {"cluster": "woody", "nodes": []}
    response = http.post("/api/nodestate/", json=nodes, headers={"X-Auth-Token": token})
    assert response.status_code == 403


def test_a_token_of_a_cluster_serves_that_cluster_only(app: Flask, database: Database) -> None:
    secret = tokens.create(database, "slurm", Role.ADMIN, scope=Scope(clusters=("fritz",)))
    client = Client(app.test_client(), secret)
    for cluster, refused in (("fritz", False), ("woody", True)):
        started = client.send("POST", "/start_job/", job(cluster=cluster))
        assert started.status_code == (403 if refused else 201)
        body = {"cluster": cluster, "asOf": START + 10_000, "jobs": []}
        status = 403 if refused else 200
        assert client.send("POST", "/reconcile/", body).status_code == status
        nodes = {"cluster": cluster, "nodes": [{"hostname": "f1", "states": ["idle"]}]}
        status = 403 if refused else 201
        assert client.send("POST", "/api/nodestate/", nodes).status_code == status


def test_a_reader_without_metadata_sees_all_but_metadata(
    app: Flask, database: Database, writer: Client
) -> None:
    id_ = writer.start(metaData={"jobScript": "password=hunter2", "jobName": "x"})
    scope = Scope(sees_metadata=False)
    reader = Client(app.test_client(), tokens.create(database, "wall", Role.READER, scope=scope))
    for query in ("with-metadata=true", "fields=id,metaData", "format=csv&fields=id,metaData"):
        response = reader.send("GET", f"/?{query}")
        assert str(id_) in response.text
        assert "hunter2" not in response.text
    assert reader.send("GET", f"/{id_}").get_json().keys() >= {"id", "resources", "tags"}
    assert "metaData" not in reader.send("GET", f"/{id_}").get_json()
    assert "hunter2" in writer.send("GET", f"/{id_}").text
    headers = {"X-Auth-Token": reader.token}
    assert reader.http.get("/metrics", headers=headers).status_code == 200
    with pytest.raises(tokens.TokenError, match="only a reader"):
        tokens.create(database, "w", Role.WRITER, scope=scope)


def test_readers_with_different_scopes_share_no_response(
    app: Flask, database: Database, admin: Client, context: Context
) -> None:
    for number, user in enumerate(USERS):
        admin.start(jobId=1 + number, user=user)
    for user in USERS:
        secret = tokens.create(database, user, Role.READER, scope=Scope(users=(user,)))
        reader = Client(app.test_client(), secret)
        assert [job["user"] for job in reader.list()] == [user]


def test_rotated_token_keeps_its_scope(app: Flask, database: Database, admin: Client) -> None:
    admin.start(user="anna")
    admin.start(jobId=2, user="bert")
    tokens.create(database, "alice", Role.READER, scope=Scope(users=("anna",)))
    secret = tokens.rotate(database, "alice", grace=timedelta(0))
    assert [job["user"] for job in Client(app.test_client(), secret).list()] == ["anna"]
