"""The pages of users, projects, hosts, clusters, statistics, and the search."""

import re
import time
from dataclasses import replace
from html import unescape
from urllib.parse import quote

import pytest

from ccapi.config import Config
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import Busy
from ccapi.model.cluster import Cluster, Clusters
from ccapi.model.statistics import Statistics, StatisticsQuery
from ccapi.model.token import Role, Scope
from ccapi.service import statistics, tokens
from tests import conftest
from tests.client import Client
from tests.web.conftest import MakeVisitor
from tests.web.visitor import Visitor, log_in, text

HOUR = 3600


def start(admin: Client, number: int, state: str = "", **fields: object) -> int:
    """Start a job two hours ago and, with a state, stop it an hour later."""
    begin = int(time.time()) - 2 * HOUR
    id_ = admin.start(jobId=number, startTime=begin, **fields)
    if state:
        admin.stop(jobId=number, jobState=state, stopTime=begin + HOUR)
    return id_


def test_user_has_totals_and_latest_jobs(admin: Client, visitor: Visitor) -> None:
    start(admin, 1, "completed", user="anna", project="p1", partition="main")
    start(admin, 2, "failed", user="anna", project="p2")
    start(admin, 3, user="bert")
    html = visitor.get("/users/anna")
    content = text(html)
    for words in (
        "User anna", "2 jobs", "2 node-hours", "50 % of 2 ended jobs failed",
        "p1 1 0 % 1.0", "main",
        "completed 1 50 %",
    ):  # fmt: skip
        assert words in content, words
    assert [*re.findall(r'class="row" id="job-\d+" href="/jobs/\d+">(\d+)<', html)] == ["2", "1"]
    assert "last=30d" in html
    assert "2 jobs" in text(visitor.get("/users/anna?last=24h"))


def test_project_has_its_users(admin: Client, visitor: Visitor) -> None:
    start(admin, 1, user="anna", project="p1")
    start(admin, 2, user="bert", project="p1")
    content = text(visitor.get("/projects/p1"))
    assert "Project p1" in content
    assert "Users" in content
    assert "bert 1 2.0" in content


@pytest.mark.parametrize("path", ["/users/nobody", "/projects/none", "/hosts/f9999", "/statistics"])
def test_nothing_is_an_answer(visitor: Visitor, path: str) -> None:
    assert "0 jobs" in text(visitor.get(path))


@pytest.mark.parametrize("name", ["a b", "ä<b>", "a%2Fb", "a?b#c", "a\\b", "'\"&", "..a", "+"])
def test_names_survive_the_way_through_addresses(
    admin: Client, visitor: Visitor, name: str
) -> None:
    start(admin, 1, user=name, project=name)
    html = visitor.get("/jobs")
    assert f'href="/users/{quote(name, safe="")}"' in html
    content = text(visitor.get(f"/users/{quote(name, safe='')}"))
    assert f"User {name}" in content
    assert "1 job " in content
    assert "1 job " in text(visitor.get(f"/projects/{quote(name, safe='')}"))


@pytest.mark.parametrize("name", [".", "..", "a/b", "/"])
def test_names_that_no_path_carries_lead_to_a_list(
    admin: Client, visitor: Visitor, name: str
) -> None:
    start(admin, 1, user=name)
    [address] = re.findall(r'href="(/jobs\?user=[^"]+)"', visitor.get("/jobs"))
    assert f"All jobs of user {name}" in text(visitor.get(unescape(address)))


def test_host_shows_its_failure_rate_beside_the_clusters(admin: Client, visitor: Visitor) -> None:
    for number in range(1, 5):
        start(admin, number, "failed" if number < 4 else "completed")
    for number in range(5, 9):
        start(admin, number, "completed", resources=[{"hostname": "f0102"}])
    start(admin, 9)
    report = {"cluster": "fritz", "nodes": [{"hostname": "f0101", "states": ["mixed"]}]}
    assert admin.send("POST", "/api/nodestate/", report).status_code == 201
    content = text(visitor.get("/hosts/f0101"))
    assert "75 % of 4 ended jobs failed" in content
    assert "75 % of the 4 jobs that ended here failed" in content
    assert "on all 2 hosts of fritz it is 38 % of 8." in content
    assert "stands out" not in content
    assert "Last reported state on fritz: mixed" in content.replace(" : ", ": ")
    now, before = content.partition("Now")[2].split("Before")
    assert re.search(r"\b9\b", now)
    assert re.search(r"\b4\b", before)


def test_host_that_fails_too_often_stands_out(admin: Client, visitor: Visitor) -> None:
    for number in range(1, 9):
        user = "ab"[number % 2]
        start(admin, number, "failed", user=user, resources=[{"hostname": "bad"}])
    for number in range(10, 40):
        start(admin, number, "completed", resources=[{"hostname": f"f{number}"}])
    assert "This host stands out." in text(visitor.get("/hosts/bad"))
    assert "bad 8 8 100 % 0" in text(visitor.get("/clusters/fritz"))


@pytest.mark.parametrize("name", ["a b", "%00", "a%2Fb", "x" * 256])
def test_malformed_host_is_404(visitor: Visitor, name: str) -> None:
    assert visitor.http.get(f"/hosts/{name}").status_code == 404


def test_cluster_has_users_and_trouble(admin: Client, visitor: Visitor) -> None:
    start(admin, 1, user="anna", walltime=60)
    content = text(visitor.get("/clusters/fritz"))
    for words in ("Cluster fritz", "1 running job", "1 node in use", "anna 1 2.0", "Overdue jobs"):
        assert words in content, words


def test_overview_counts_idle_nodes(config: Config, database: Database) -> None:
    fritz = Cluster.of("fritz", {"main": ["f0101", "f0102", "f0103", "f0104"]})
    app = conftest.serve(replace(config, clusters=Clusters((fritz,))), database)
    admin = conftest.client(app, database, Role.ADMIN)
    for number in (1, 2):
        start(admin, number)
    visitor = log_in(app, tokens.create(database, "anna", Role.READER))
    content = text(visitor.get("/"))
    assert "2 running jobs 1 node in use of 4" in content
    assert "3 idle" in content
    assert "main 4 1" in text(visitor.get("/clusters/fritz"))


def test_overview_counts_the_nodes_of_nodestate(admin: Client, visitor: Visitor) -> None:
    start(admin, 1)
    nodes = [{"hostname": name, "states": ["idle"]} for name in ("f0101", "f0102", "f0103")]
    report = {"cluster": "fritz", "nodes": nodes}
    assert admin.send("POST", "/api/nodestate/", report).status_code == 201
    assert "1 node in use of 3" in text(visitor.get("/"))


def test_chart_counts_a_shared_node_once_and_has_a_table(admin: Client, visitor: Visitor) -> None:
    for number in (1, 2, 3):
        start(admin, number, user="anna", resources=[{"hostname": "f1"}], numHwthreads=8)
    html = visitor.get("/users/anna?last=24h")
    assert 'aria-label="Nodes in use: at most 1, now 1"' in html
    assert 'aria-label="Threads of running jobs: at most 24, now 24"' in html
    assert "GPUs of running jobs" not in html
    assert "6 node-hours on 1 node" in text(html)
    table = text(html.partition('<details class="numbers">')[2].partition("</details>")[0])
    assert re.fullmatch(r"Numbers From Nodes in use, at most( \S+ \d\d:\d\d 0)+ \S+ \S+ 1", table)


def test_many_jobs_count_each_for_a_shared_node(
    admin: Client, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.web.totals._MAX_DISTINCT_JOBS", 1)
    for number in (1, 2):
        start(admin, number, user="anna")
    label = "Nodes of running jobs; a shared node counts for each: at most 2, now 2"
    assert f'aria-label="{label}"' in visitor.get("/users/anna")


def test_busy_server_counts_each_for_a_shared_node(
    admin: Client, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(admin, 1)
    compute = statistics.compute

    def refuse_distinct(context: Context, query: StatisticsQuery) -> Statistics:
        if query.with_distinct:
            raise Busy("all are busy")
        return compute(context, query)

    monkeypatch.setattr(statistics, "compute", refuse_distinct)
    assert "a shared node counts for each" in visitor.get("/")


class TestStatistics:
    def test_groups(self, admin: Client, visitor: Visitor) -> None:
        start(admin, 1, "completed", user="anna")
        start(admin, 2, "completed", user="bert", resources=[{"hostname": f"f{n}"} for n in "123"])
        content = text(visitor.get("/statistics?last=24h&group-by=user"))
        assert "All jobs that ran in the last 24 hours" in content
        assert (
            "By user User Jobs Failed Node-hours Share bert 1 0 % 3.0 75 % anna 1 0 % 1.0 25 %"
            in content
        )

    def test_histograms_and_waits(self, admin: Client, visitor: Visitor) -> None:
        begin = int(time.time()) - 2 * HOUR
        for number in (1, 2, 3):
            start(admin, number, "completed", submitTime=begin - 300)
        content = text(visitor.get("/statistics?last=24h"))
        assert "5 min median wait" in content
        assert re.search(r"Duration Duration Jobs Share 34 min 8 s to 1 h 8 min \S* ?3", content)
        assert "Wait in the queue" in content

    def test_csv_and_json_are_those_of_the_api(self, admin: Client, visitor: Visitor) -> None:
        start(admin, 1, user="anna")
        html = visitor.get("/statistics?group-by=user")
        csv, json = (
            visitor.http.get(unescape(address))
            for address in re.findall(r'<a href="([^"]+)">(?:CSV|JSON)</a>', html)
        )
        assert csv.text.splitlines()[0] == "user,numJobs,nodeHours,coreHours,gpuHours"
        assert json.get_json()["groups"][0]["user"] == "anna"

    def test_wrong_query_is_explained(self, visitor: Visitor) -> None:
        assert "group-by: must be" in unescape(visitor.get("/statistics?group-by=x", 400))
        path = "/statistics?last=6h&range=1-2"
        assert "cannot be combined with range" in unescape(visitor.get(path, 400))


class TestSearch:
    @pytest.fixture(autouse=True)
    def _jobs(self, admin: Client) -> None:
        self.ids = [
            start(admin, 1, user="anna", project="p1", metaData={"jobName": "rotor 7"}),
            start(admin, 2, user="p1", cluster="a"),
            start(admin, 2, user="bert", cluster="b"),
        ]

    @pytest.mark.parametrize(
        ("text_", "address"),
        [
            ("2", "/jobs?job-id=2"),
            (" anna ", "/users/anna"),
            ("f0101", "/hosts/f0101"),
            ("rot", "/jobs?name=rot"),
        ],
    )
    def test_it_leads_there(self, visitor: Visitor, text_: str, address: str) -> None:
        response = visitor.http.get("/search", query_string={"q": text_})
        assert (response.status_code, response.headers["Location"]) == (303, address)

    def test_single_job_is_opened(self, visitor: Visitor) -> None:
        response = visitor.http.get("/search?q=1")
        assert response.headers["Location"] == f"/jobs/{self.ids[0]}"

    def test_several_meanings_are_listed(self, visitor: Visitor) -> None:
        content = text(visitor.get("/search?q=p1"))
        assert "User p1 Project p1" in content

    @pytest.mark.parametrize("q", ["", "nothing", "9" * 40, "\0", "%", "<b>", "x" * 300, "\u202e"])
    def test_nothing_is_an_answer(self, visitor: Visitor, q: str) -> None:
        response = visitor.http.get("/search", query_string={"q": q})
        assert response.status_code == 200
        assert "<b>" not in text(response.text) or q == "<b>"

    def test_limited_visitor_finds_visible_jobs_only(self, make_visitor: MakeVisitor) -> None:
        bert = make_visitor(scope=Scope(users=("bert",)), name="bert")
        for q in ("1", "anna", "p1", "rot"):
            assert bert.http.get(f"/search?q={q}").status_code == 200
        assert bert.http.get("/search?q=2").headers["Location"] == f"/jobs/{self.ids[2]}"
