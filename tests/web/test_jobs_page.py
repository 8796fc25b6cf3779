"""The list of jobs: the filter is the address, in the API's words."""

import re
import time
from html import unescape

import pytest
from flask import Flask

from ccapi.http.cache import Caches
from ccapi.model.token import Role
from tests.client import START, Client
from tests.web.conftest import MakeVisitor
from tests.web.visitor import Visitor, rows, text


def sentence(html: str) -> str:
    """Return what the page says of its filter."""
    [match] = re.findall(r"<strong>(.*?)</strong>", html)
    return unescape(match)


def test_live_rows_are_cached_longer_than_a_page(
    app: Flask, admin: Client, visitor: Visitor
) -> None:
    app.extensions["ccapi_caches"] = caches = Caches(60)
    caches.response_ttl = 0
    admin.start(jobId=1)
    rows = visitor.get("/jobs/rows?state=running")
    id_ = admin.start(jobId=2)
    assert visitor.get("/jobs/rows?state=running") == rows
    assert f'id="job-{id_}"' in visitor.get("/jobs?state=running")
    assert f'id="job-{id_}"' in visitor.get("/jobs/rows?state=running")


def test_row_of_a_job(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(
        project="abcd200",
        partition="main",
        walltime=36_000,
        numAcc=4,
        startTime=int(time.time()) - 3600,
        metaData={"jobName": "rotor"},
        tags=[{"type": "support", "name": "checked"}],
    )
    html = visitor.get("/jobs?state=running")
    [row] = rows(html)
    job_id, name, user, project, cluster, partition, nodes, gpus, start, ran, state = row
    assert (job_id, name, user, project, cluster) == (
        "123000", "rotor checked", "abcd100h", "abcd200", "fritz",
    )  # fmt: skip
    assert (partition, nodes, gpus, state) == ("main", "f0101", "4", "running")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", start)
    assert ran == "1 h"
    assert "10 % of the limit of 10 h" in html
    assert f'href="/jobs/{id_}"' in html


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "All jobs"),
        ("state=running", "Running jobs"),
        ("state=failed&state=out_of_memory", "Failed or out of memory jobs"),
        ("user=a_b&cluster=fritz", "All jobs of user a_b on cluster fritz"),
        ("project=", "All jobs of project (none)"),
        ("tag=a:b&host=f0101", "All jobs with tag a:b on host f0101"),
        ("last=24h", "All jobs started in the last 24 hours"),
        ("start-time=1700000000-", "All jobs started from 2023-11-14 22:13 UTC"),
        ("stop-time=-1700000000", "All jobs ended until 2023-11-14 22:13 UTC"),
        ("not-state=completed&not-user=a", "All jobs not completed not of user a"),
        ("name=rotor", "All jobs named rotor"),
        ("wait=3600-", "All jobs that waited for 1 h or more"),
        (
            f"start-time={START}-{START + 60}",
            "All jobs started from 2023-11-14 22:13 until 2023-11-14 22:14 UTC",
        ),
        ("duration=-60", "All jobs that ran for up to 1 min"),
        ("num-nodes=65-", "All jobs on 65 or more nodes"),
        ("num-nodes=1-1", "All jobs on 1 node"),
    ],
)
def test_filter_is_described(visitor: Visitor, query: str, expected: str) -> None:
    html = visitor.get(f"/jobs?{query}")
    assert sentence(html) == expected
    assert "No jobs match." in html


@pytest.mark.parametrize(
    "query",
    [
        "state=running", "state=completed&state=running", "user=a", "cluster=fritz", "host=f1",
        "project=p", "num-nodes=2-3", "user=a&user=b", "not-user=a", "name=ro",
        "job-id=3", "user=a&state=running",
        f"start-time={START}-{START + 2}", "tag=a:b", "page=2&items-per-page=2",
    ],
)  # fmt: skip
def test_page_lists_what_the_api_lists(admin: Client, visitor: Visitor, query: str) -> None:
    for number in range(1, 7):
        hosts = [{"hostname": f"f{n}"} for n in range(number % 3 + 1)]
        admin.start(
            jobId=number,
            startTime=START + number,
            user="ab"[number % 2],
            project="pq"[number // 2 % 2],
            resources=hosts,
            metaData={"jobName": "rotor"},
            tags=[{"type": "a", "name": "b"}] if number == 2 else [],
        )
        if number > 3:
            admin.stop(jobId=number)
    listed = [str(job["jobId"]) for job in admin.list(query)]
    assert listed
    assert [row[0] for row in rows(visitor.get(f"/jobs?{query}"))] == listed
    assert [row[0] for row in rows(visitor.get(f"/jobs/rows?{query}"))] == listed


def test_last_hours_move_with_time(admin: Client, visitor: Visitor) -> None:
    now = int(time.time())
    admin.start(jobId=1, startTime=now - 60)
    admin.start(jobId=2, startTime=now - 25 * 3600)
    assert [row[0] for row in rows(visitor.get("/jobs?last=24h"))] == ["1"]
    assert [row[0] for row in rows(visitor.get("/jobs?last=7d"))] == ["1", "2"]


def test_form_leads_to_a_tidy_address(visitor: Visitor) -> None:
    fields = {"filter": "1", "state": ["running", "failed"], "user": " anna ", "project": ""}
    response = visitor.http.get("/jobs", query_string=fields)
    assert response.headers["Location"] == "/jobs?state=running&state=failed&user=anna"
    fields = {"filter": "1", "from": "2023-11-14T22:13:20", "to": "", "last": "6h"}
    response = visitor.http.get("/jobs", query_string=fields)
    assert response.headers["Location"] == f"/jobs?start-time={START}-"
    assert 'name="from" value="2023-11-14T22:13:20"' in visitor.get(response.headers["Location"])


def test_form_has_the_values_of_the_address(visitor: Visitor) -> None:
    html = visitor.get("/jobs?state=failed&user=a&user=b&array-job-id=7&num-nodes=3-5")
    assert re.search(r'value="failed" checked', html)
    assert 'name="user" value="a"' in html
    assert '<input type="hidden" name="user" value="b">' in html
    assert '<input type="hidden" name="array-job-id" value="7">' in html
    assert "<option selected>3-5</option>" in html


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/jobs?usr=a", "usr: is unknown"),
        ("/jobs?state=lost", "state: must be running or completed"),
        ("/jobs?start-time=9-1", "FROM not after TO"),
        ("/jobs?last=1y", "last: must be 6h or 24h or 7d or 30d"),
        ("/jobs?last=6h&start-time=1-2", "cannot be combined with start-time"),
        ("/jobs?items-per-page=101", "must be at most 100 on a page"),
        ("/jobs/rows?items-per-page=101", "must be at most 100 on a page"),
        ("/jobs?filter=1&from=yesterday", "from: must be a time such as"),
        ("/jobs?cursor=x", "must be the nextCursor"),
        ("/?x=1", "x: is unknown"),
    ],
)
def test_wrong_query_is_explained(visitor: Visitor, path: str, words: str) -> None:
    html = visitor.get(path, 400)
    assert "Bad Request" in html
    assert words in unescape(html)


def test_next_and_previous_page(admin: Client, visitor: Visitor) -> None:
    for number in range(1, 6):
        admin.start(jobId=number, startTime=START + number)
    pages = ["/jobs?items-per-page=2"]
    for _ in range(2):
        pages.append(link(visitor.get(pages[-1]), "next"))
    listed = [[row[0] for row in rows(visitor.get(page))] for page in pages]
    assert listed == [["5", "4"], ["3", "2"], ["1"]]
    last = visitor.get(pages[-1])
    assert 'rel="next"' not in last
    second = visitor.get(link(last, "prev"))
    assert [row[0] for row in rows(second)] == ["3", "2"]
    assert [row[0] for row in rows(visitor.get(link(second, "prev")))] == ["5", "4"]


def link(html: str, rel: str) -> str:
    """Return the address of the next or previous page."""
    [address] = re.findall(rf'<a rel="{rel}" href="([^"]+)"', html)
    return unescape(address)


def test_total_is_counted_on_request(admin: Client, visitor: Visitor) -> None:
    for number in range(1, 4):
        admin.start(jobId=number)
    html = visitor.get("/jobs?items-per-page=2")
    [address] = re.findall(r'<a href="([^"]+)">count</a>', html)
    assert "All jobs : 3" in text(visitor.get(unescape(address)))


def test_csv_and_json_are_those_of_the_api(admin: Client, visitor: Visitor) -> None:
    admin.start()
    html = visitor.get("/jobs?user=abcd100h")
    addresses = [unescape(one) for one in re.findall(r'<a href="([^"]+)">(?:CSV|JSON)</a>', html)]
    csv, json = map(visitor.http.get, addresses)
    assert csv.content_type.startswith("text/csv")
    assert csv.text.startswith("id,jobId,user")
    assert json.get_json() == admin.send("GET", "/?user=abcd100h").get_json()


@pytest.mark.parametrize("query", ["", "&sort=start-time", "&sort=-wait"])
def test_link_to_csv_is_accepted(admin: Client, visitor: Visitor, query: str) -> None:
    admin.start()
    html = visitor.get(f"/jobs?state=running{query}")
    [address] = re.findall(r'href="(/jobs\?[^"]*format=csv[^"]*)"', html)
    assert "jobId" in visitor.get(unescape(address))


def test_rows_are_shared_by_readers_of_the_same_jobs(
    app: Flask, admin: Client, make_visitor: MakeVisitor
) -> None:
    anna, bert = make_visitor(name="anna"), make_visitor(name="bert")
    otto = make_visitor(Role.ADMIN, name="otto")
    app.extensions["ccapi_caches"] = Caches(60)
    assert "No jobs match." in anna.get("/jobs?state=running")
    admin.start()
    assert "No jobs match." in bert.get("/jobs/rows?state=running")
    assert "123000" in otto.get("/jobs/rows?state=running")
    assert "bert" in bert.get("/jobs?state=running")
    assert "anna" not in bert.get("/jobs?state=running")
