"""Large jobs: what a job may have at most, and lists of them, which are read by bytes."""

import http.client
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.model import rules
from ccapi.model.token import Role
from tests import conftest
from tests.client import Client, assert_error, assert_nothing_written, job
from tests.processes import gunicorn

MIB = 2**20
SCRIPT = "x" * rules.MAX_META_VALUE_LENGTH
TAGS = [{"type": "a", "name": f"{number}"} for number in range(rules.MAX_TAGS)]
COPY = """
    INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, num_nodes,
                      exclusive, monitoring_status, resources, meta_data)
    SELECT job_id + n, cluster, start_time, user_name, project, sub_cluster, num_nodes,
           exclusive, monitoring_status, resources, meta_data
    FROM jobs, generate_series(1, 19) AS n
    """


def large_job(hosts: int = 1_600) -> dict[str, Any]:
    """Return a job that nearly fills a body: many hosts with 512 threads, and a long script."""
    threads = [*range(512)]
    nodes = [{"hostname": f"f{host:05}", "hwthreads": threads} for host in range(hosts)]
    return job(resources=nodes, metaData={"jobScript": SCRIPT})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metaData": {"jobScript": f"{SCRIPT}x"}}, "metaData.jobScript"),
        ({"tags": [*TAGS, {"type": "a", "name": "b"}]}, "tags: must have at most 1000"),
        ({"resources": [{"hostname": "f1", "hwthreads": [0] * 65_537}]}, "at most 65536"),
        ({"resources": [{"hostname": "f1", "accelerators": ["0"] * 1_025}]}, "at most 1024"),
        ({"resources": [{"hostname": "f1", "accelerators": ["0" * 256]}]}, "255 characters"),
        ({"resources": [{"hostname": "f1", "configuration": "c" * 4_097}]}, "4096 characters"),
        (
            {"resources": [{"hostname": f"f{number}"} for number in range(100_001)]},
            "at most 100000 hosts",
        ),
    ],
)
def test_more_than_a_job_may_have_is_400(
    writer: Client, database: Database, changes: dict[str, Any], words: str
) -> None:
    assert_error(writer.send("POST", "/start_job/", job(**changes)), 400, words)
    assert_nothing_written(database)


def test_what_a_job_may_have_is_accepted(writer: Client) -> None:
    id_ = writer.start(metaData={"jobScript": SCRIPT}, tags=TAGS)
    listed = writer.read(id_)
    assert listed["metaData"] == {"jobScript": SCRIPT}
    assert len(listed["tags"]) == rules.MAX_TAGS


@pytest.mark.slow
def test_20000_nodes_of_512_threads_are_accepted(config: Config, database: Database) -> None:
    del database  # It is emptied afterwards.
    generous = Database(config.database.url, Limits(statement_timeout=120))
    large = replace(config, server=replace(config.server, max_body_bytes=64 * MIB))
    writer = conftest.client(conftest.serve(large, generous), generous, Role.WRITER)
    assert writer.send("POST", "/start_job/", large_job(20_000)).status_code == 201
    [listed] = writer.list()
    assert len(listed["resources"]) == 20_000
    assert listed["resources"][-1]["hwthreads"] == [*range(512)]
    generous.close()


def test_a_job_has_at_most_1000_tags(writer: Client) -> None:
    id_ = writer.start(tags=TAGS)
    assert_error(writer.send("POST", f"/tag_job/{id_}", [{"type": "b", "name": "c"}]), 400, "1000")
    assert len(writer.read(id_)["tags"]) == rules.MAX_TAGS
    assert writer.send("POST", f"/tag_job/{id_}", TAGS[:1]).status_code == 200


def test_edits_do_not_add_metadata_without_end(writer: Client) -> None:
    id_ = writer.start(metaData={"a": SCRIPT})
    path = f"/edit_meta/{id_}"
    assert writer.send("POST", path, {"metaData": {"b": SCRIPT}}).status_code == 200
    assert_error(writer.send("POST", path, {"metaData": {"c": "x"}}), 400, "metaData", "8388608")
    assert writer.send("POST", path, {"metaData": {"c": "x", "b": None}}).status_code == 200


@pytest.mark.parametrize("query", ["", "items-per-page=60", "format=csv&items-per-page=1000"])
def test_page_of_large_jobs_is_complete(writer: Client, query: str) -> None:
    for number in range(5):
        meta_data = {"jobScript": f"{number}" * (MIB // 2)} if number % 2 else {}
        writer.start(jobId=number + 1, startTime=1_700_000_000 + number, metaData=meta_data)
    fields = "fields=jobId,metaData,resources"
    response = writer.send("GET", f"/?with-metadata=true&{fields}&{query}")
    if "csv" in query:
        lines = response.text.splitlines()
        assert [line.partition(",")[0] for line in lines] == ["jobId", *"54321"]
        assert all(number * (MIB // 2) in response.text for number in "13")
        return
    jobs = response.get_json()["jobs"]
    assert [listed["jobId"] for listed in jobs] == [5, 4, 3, 2, 1]
    scripts = [listed.get("metaData", {}).get("jobScript", "")[:1] for listed in jobs]
    assert scripts == ["", "3", "", "1", ""]
    assert all(listed["resources"] == [{"hostname": "f0101"}] for listed in jobs)


def test_page_of_large_jobs_has_its_cursor(writer: Client) -> None:
    for number in range(5):
        meta_data = {"jobScript": "x" * (MIB // 2)}
        writer.start(jobId=number + 1, startTime=1_700_000_000 + number, metaData=meta_data)
    path = "/?with-metadata=true&items-per-page=4&fields=jobId,metaData"
    page = writer.send("GET", f"{path}&cursor=").get_json()
    assert [listed["jobId"] for listed in page["jobs"]] == [5, 4, 3, 2]
    rest = writer.send("GET", f"{path}&cursor={page['nextCursor']}").get_json()
    assert [listed["jobId"] for listed in rest["jobs"]] == [1]
    assert rest["nextCursor"] == ""


@pytest.mark.slow
def test_list_of_large_jobs_needs_little_memory(
    config: Config, database: Database, writer: Client, tmp_path: Path
) -> None:
    assert writer.send("POST", "/start_job/", large_job()).status_code == 201
    with database.session() as conn:
        conn.execute(COPY)
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=1) as service:
        [worker] = service.workers()
        assert read(service.port, writer.token, "fields=jobId") > 0
        before = peak_memory(worker)
        for items in (20, 1_000):
            query = f"items-per-page={items}&with-metadata=true"
            assert read(service.port, writer.token, query) > 20 * 7 * MIB
        growth = peak_memory(worker) - before
    print(f"grew by {growth / 1e6:.1f} MB")
    assert growth < 100_000_000


def read(port: int, token: str, query: str) -> int:
    """Read a list, and return its length in bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/api/jobs/?{query}", headers={"X-Auth-Token": token})
    response = connection.getresponse()
    length = 0
    while data := response.read(MIB):
        length += len(data)
    connection.close()
    return length


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
