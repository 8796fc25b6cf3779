"""A hub above two sites, made and kept by the commands of docs/scale.rst."""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator

import psycopg
import pytest

from ccapi.model.token import Role
from tests.client import START, job, stop
from tests.console import Block, steps
from tests.hub.away import kill_a_site
from tests.hub.federation import GUIDE, ROOT, Federation, Host, federation
from tests.replica.pair import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed"),
]
TAG = {"type": "quality", "name": "bad"}


@pytest.fixture(scope="module")
def made() -> Iterator[Federation]:
    with federation(2) as both:
        yield both


def start(site: Host, job_id: int, **fields: object) -> int:
    body = job(jobId=job_id, cluster=f"cluster{site.number}", **fields)
    status, answer = site.send("/start_job/", body)
    assert status == 201, answer
    id_: int = json.loads(answer)["id"]
    return id_


def test_hub_shows_the_jobs_of_all_sites_as_they_are(made: Federation) -> None:
    for site in made.sites:
        body = job(jobId=1, cluster=f"cluster{site.number}", tags=[TAG], metaData={"jobName": "x"})
        ids = [json.loads(site.send("/start_job/", body)[1])["id"]]
        ids += [start(site, number) for number in (2, 3, 4)]
        assert {id_ // 10**12 for id_ in ids} == {site.number}
        site.send("/stop_job/", stop(jobId=2, cluster=f"cluster{site.number}"))
        site.send(f"/tag_job/{ids[2]}", [TAG, {"type": "a", "name": f"of {site.number}"}])
        site.send(f"/delete_job/{ids[3]}", method="DELETE")
    made.await_equality()
    assert len(made.hub.jobs()) >= 6
    assert len(made.hub.jobs("tag=quality:bad")) == 4
    assert made.hub.jobs("tag=quality:bad") == made.union("tag=quality:bad")
    assert made.hub.jobs("host=f0101&name=x") == made.union("host=f0101&name=x")
    query = f"range={START}-{START + 86_400}&group-by=cluster"
    status, answer = made.hub.send(f"/stats/?{query}", role=Role.READER)
    assert status == 200, answer
    assert b"cluster1" in answer
    assert b"cluster2" in answer


def test_hub_changes_nothing_and_says_so(made: Federation) -> None:
    id_ = start(made.sites[0], 10)
    made.await_equality()
    before = made.hub.jobs()
    for path, body, method in (
        ("/start_job/", job(), "POST"),
        ("/stop_job/", stop(jobId=10, cluster="cluster1"), "POST"),
        (
            "/resize_job/",
            {"jobId": 10, "resizeTime": START + 60, "resources": [{"hostname": "f2"}]},
            "POST",
        ),
        (f"/tag_job/{id_}", [TAG], "POST"),
        (f"/tag_job/{id_}", [TAG], "DELETE"),
        (f"/edit_meta/{id_}", {"key": "a", "value": "b"}, "POST"),
        (f"/delete_job/{id_}", None, "DELETE"),
        ("/batch/", json.dumps({"start": job()}).encode(), "POST"),
    ):
        status, answer = made.hub.send(path, body, method=method)
        assert status == 403, (path, answer)
        assert "this is a hub" in json.loads(answer)["error"]
    assert made.hub.send(f"/{id_}/archive")[0] == 404
    for statement in (
        "DELETE FROM jobs",
        "INSERT INTO hosts VALUES ('x')",
        "DELETE FROM tags",
        "TRUNCATE node_states",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of a hub"):
            made.hub.server.run(statement)
    for command, answer_part in (
        ("jobs prune --older-than 1d", "a hub changes no jobs"),
        ("archive check", "a hub changes no jobs"),
        ("archive retry", "a hub has no archive"),
        ("reconcile --cluster cluster1 --apply", "a hub changes no jobs"),
        ("jobs list", "cluster1"),
    ):
        [output] = made.hub.run_blocks([Block(f"ccapi {command}", "")])
        assert answer_part in output, command
    assert made.hub.jobs() == before


def test_hub_makes_roll_ups_of_its_own(made: Federation) -> None:
    site, rollup = made.sites[0], Block("ccapi rollup", "")
    ids = [start(site, number) for number in (12, 13)]
    for number in (12, 13):
        site.send("/stop_job/", stop(jobId=number, cluster="cluster1"))
    made.await_equality()
    [output] = made.hub.run_blocks([rollup])
    assert int(output.removeprefix("summed up ").removesuffix(" days\n")) > 300
    query = f"/stats/?range={START - 9 * 86_400}-{START + 9 * 86_400}&cluster=cluster1"
    assert made.hub.send(query) == site.send(query)
    site.send(f"/delete_job/{ids[0]}", method="DELETE")
    made.await_equality()
    assert made.hub.send(query) == site.send(query)
    assert made.hub.run_blocks([rollup]) == ["summed up 1 day\n"]
    assert made.hub.send(query) == site.send(query)


def test_tokens_and_sessions_stay_at_their_site(made: Federation) -> None:
    published = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables"
    assert made.sites[0].sql(published) == (
        "archive_queue hosts job_corrections job_tags jobs node_states tags"
    )
    secret = made.sites[0].tokens[Role.ADMIN]
    own = made.hub.tokens[Role.READER]
    made.hub.tokens[Role.READER] = secret
    assert made.hub.send("/", role=Role.READER)[0] == 401
    made.hub.tokens[Role.READER] = own


def up(hub: Host) -> list[str]:
    address = f"{hub.url.removesuffix('/api/jobs')}/metrics"
    request = urllib.request.Request(address, headers={"X-Auth-Token": hub.tokens[Role.READER]})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    pairs = re.findall(r'ccapi_subscription_up{subscription="(.*)"} (.*)', text)
    return [f"{name} {value}" for name, value in pairs]


def test_hub_and_sites_are_watched(made: Federation) -> None:
    at_hub, at_site = GUIDE["Watch it"].split("On a site, ")
    made.hub.follow(at_hub)
    made.sites[0].follow(at_site)
    [check] = steps(at_hub)
    made.hub.sql("ALTER SUBSCRIPTION site1 DISABLE")
    assert made.hub.run_blocks([check]) == ["ccapi: subscription site1 is disabled\n"]
    wait_until(lambda: "site1 0.0" in up(made.hub), "the metric does not follow")
    made.hub.sql("ALTER SUBSCRIPTION site1 ENABLE")
    wait_until(lambda: up(made.hub) == ["site1 1.0", "site2 1.0"], "the metric does not follow")
    [output] = made.sites[0].run_blocks([check])
    assert output == "ok: settings, file modes, database and archive\n"


def test_a_cluster_of_two_sites_is_reported(made: Federation) -> None:
    ids = [
        json.loads(site.send("/start_job/", job(jobId=15, cluster="shared", startTime=number))[1])
        for number, site in enumerate(made.sites, START)
    ]
    made.await_equality()
    [output] = made.hub.run_blocks([Block("ccapi check", "")])
    assert output == "ccapi: cluster shared is at the sites 1, 2: rename it at all but one\n"
    for site, answer in zip(made.sites, ids, strict=True):
        site.send(f"/delete_job/{answer['id']}", method="DELETE")
    made.await_equality()


def test_lost_site_comes_back_with_all_changes_once(made: Federation) -> None:
    lost, other = made.sites
    start(lost, 20)
    made.await_equality()
    before = made.hub.jobs()
    lost.kill_server()
    start(other, 20)
    wait_until(lambda: len(made.hub.jobs()) == len(before) + 1, "the hub stops")
    lost.start_server()
    wait_until(lambda: lost.send("/")[0] == 200, "the site does not come back")
    for number in range(21, 40):
        start(lost, number)
    lost.send("/stop_job/", stop(jobId=20, cluster="cluster1"))
    made.await_equality()


def test_hub_is_away_and_gets_the_rest(made: Federation) -> None:
    made.hub.kill_server()
    for site in made.sites:
        start(site, 50)
    made.hub.start_server()
    wait_until(lambda: made.hub.send("/")[0] == 200, "the hub does not come back")
    made.await_equality()


def test_hub_is_upgraded_before_its_sites(made: Federation) -> None:
    site, late = made.sites
    new = made.hub.directory / "new"
    for name in ("ccapi", "sql"):
        shutil.copytree(ROOT / name, new / name)
    (new / "sql/migrations/0002_add_cooling.sql").write_text(
        "ALTER TABLE jobs ADD COLUMN cooling text NOT NULL DEFAULT 'air';"
    )
    cooling = "SELECT string_agg(DISTINCT cooling, ',') FROM jobs WHERE cluster = 'cluster1'"

    def upgrade(host: Host) -> None:
        [output] = host.run_blocks([Block("ccapi migrate", "")], PYTHONPATH=str(new))
        assert "applied 0002_add_cooling" in output

    upgrade(made.hub)
    start(site, 60)
    made.await_equality()
    assert made.hub.sql(cooling) == "air"
    upgrade(site)
    made.hub.follow("Upgrade", site)
    site.sql("UPDATE jobs SET cooling = 'water' WHERE job_id = 60")
    start(site, 61)
    made.await_equality()
    wait_until(lambda: made.hub.sql(cooling) == "air,water", "the new column does not arrive")
    # The other order only delays.
    late.sql("ALTER TABLE jobs ADD COLUMN noise integer")
    waiting = start(late, 62)
    start(site, 62)
    wait_until(lambda: len(made.hub.jobs()) == len(made.union()) - 1, "the other site waits")
    made.hub.sql("ALTER TABLE jobs ADD COLUMN noise integer")
    made.await_equality()
    assert waiting in made.hub.jobs()


def test_a_site_is_copied_again(made: Federation) -> None:
    again = made.sites[1]
    others = made.sites[0].jobs().keys()
    again.sql("INSERT INTO node_states VALUES ('new', 'n1', ARRAY['idle'], 0, 0, 0, 0)")
    again.sql("TRUNCATE jobs CASCADE")
    last = start(again, 70)
    wait_until(lambda: last in made.hub.jobs(), "the job does not arrive")
    assert others < made.hub.jobs().keys()
    made.hub.follow("Copy a site again, or remove it", again)
    made.await_copies()
    made.await_equality()


def test_hub_equals_the_union_after_a_kill_under_load() -> None:
    with federation(3) as made:
        kill_a_site(made, jobs=1500, seconds_away=1)
