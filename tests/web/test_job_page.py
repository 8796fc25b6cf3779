"""The page of one job, and its forms."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest

from ccapi.config import Config
from ccapi.config.settings import Web
from ccapi.config.validators import LINKS, Links
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.token import Role
from tests import conftest
from tests.client import START, Client, full_job
from tests.web.conftest import MakeVisitor
from tests.web.visitor import SAME_ORIGIN, Visitor, log_in, text


def test_page_shows_what_is_known(admin: Client, visitor: Visitor) -> None:
    body = full_job(metaData={"jobName": "größe", "jobScript": "#!/bin/sh\nsrun x\n"})
    id_ = admin.send("POST", "/start_job/", body).get_json()["id"]
    html = visitor.get(f"/jobs/{id_}")
    content = text(html)
    for words in (
        "Job 123000 größe running", "User abcd100h", "Project abcd200", "Cluster fritz",
        "Sub-cluster main",
        "Partition main", "Nodes 1 exclusive", "Threads 20", "4 per core", "GPUs 2",
        "Memory 128,000 MB", "Submitted 2023-11-14 22:12", "waited 1 min",
        "Started 2023-11-14 22:13", "of 1 d", "a: b", "flops_any 2.5 0 3 GF/s", "srun x",
    ):  # fmt: skip
        assert words in content, words
    assert "Add tag" not in html


def test_stopped_job(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(walltime=7200)
    admin.stop()
    content = text(visitor.get(f"/jobs/{id_}"))
    assert "ran 1 h of 2 h" in content
    assert f"Archived: fritz/123/000/{START}/meta.json" in content


def test_nodes_are_folded(admin: Client, visitor: Visitor) -> None:
    hosts = [f"f{number:04}" for number in (101, 102, 103, 205)] + ["login", "g1"]
    id_ = admin.start(resources=[{"hostname": host, "hwthreads": [0, 1, 2, 5]} for host in hosts])
    content = text(visitor.get(f"/jobs/{id_}"))
    assert "f[0101-0103,0205],g1,login" in content
    assert "f0102 0-2,5" in content


def test_limit_beyond_all_times_is_never(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(walltime=2**63 - 1)
    assert "limit never" in text(visitor.get(f"/jobs/{id_}"))


def test_other_jobs_on_shared_nodes(admin: Client, visitor: Visitor) -> None:
    def run(number: int, begin: int, end: int, **fields: object) -> int:
        id_ = admin.start(jobId=number, startTime=START + begin, exclusive=0, **fields)
        if end:
            admin.stop(jobId=number, stopTime=START + end)
        return id_

    id_ = run(1, 1000, 2000)
    run(2, 0, 999)
    run(3, 0, 1000)
    run(4, 1500, 1600)
    run(5, 1900, 0)
    run(6, 2001, 3000)
    run(7, 1500, 1600, resources=[{"hostname": "f0102"}])
    html = visitor.get(f"/jobs/{id_}").partition('id="neighbours"')[2].partition("</section>")[0]
    assert re.findall(r'class="row" id="job-\d+" href="/jobs/\d+">(\d)<', html) == ["5", "4", "3"]
    exclusive = admin.start(jobId=8, startTime=START + 1500)
    assert "neighbours" not in visitor.get(f"/jobs/{exclusive}")


def test_links_to_other_programs(config: Config, database: Database) -> None:
    links = Links(
        [
            ("Grafana", "https://g.example/d?host={host}&from={from_ms}&to={to_ms}"),
            ("All of the user", "/x/{user}"),
        ]
    )
    app = conftest.serve(replace(config, web=Web(job_links=links)), database)
    admin = conftest.client(app, database, Role.ADMIN)
    id_ = admin.start(user="a/b&c<d>")
    admin.stop()
    html = log_in(app, admin.token).get(f"/jobs/{id_}")
    begin, end = 1000 * START, 1000 * (START + 3600)
    address = f"https://g.example/d?host=f0101&amp;from={begin}&amp;to={end}"
    assert f'<a href="{address}" rel="noreferrer">Grafana</a>' in html
    assert '<a href="/x/a%2Fb%26c%3Cd%3E" rel="noreferrer">All of the user</a>' in html


@pytest.mark.parametrize(
    "links", ["Grafana", "Grafana javascript:x", "https://x", "A https://x/{nonsense}", "A /{", 7]
)
def test_wrong_link_stops_the_start(links: object) -> None:
    assert not LINKS.is_valid(links)


@pytest.mark.parametrize("id_", ["0", "7", "x", "-1", "9" * 30, "1e3", "²"])
def test_unknown_job_is_404(visitor: Visitor, id_: str) -> None:
    assert "no job has the database id" in visitor.get(f"/jobs/{id_}", 404)


def test_json_is_that_of_the_api(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(metaData={"a": "b"})
    page = json.loads(visitor.get(f"/jobs/{id_}?format=json"))
    assert page == admin.send("GET", f"/{id_}").get_json()


def test_corrections_and_who_made_them(admin: Client, admin_visitor: Visitor) -> None:
    id_ = admin.start()
    admin.stop()
    response = admin_visitor.post(
        f"/jobs/{id_}/correct", state="timeout", stop_time="2023-11-15T00:00:00"
    )
    assert response.headers["Location"] == f"/jobs/{id_}#history"
    assert admin.read(id_)["jobState"] == "timeout"
    content = text(admin_visitor.get(f"/jobs/{id_}"))
    assert "otto completed 2023-11-14 23:13 timeout 2023-11-15 00:00" in content


def test_tag_is_in_the_archive(context: Context, admin: Client, admin_visitor: Visitor) -> None:
    id_ = admin.start()
    admin.stop()
    response = admin_visitor.post(f"/jobs/{id_}/tag", type="support", name="größe <1>")
    assert response.headers["Location"] == f"/jobs/{id_}#tags"
    file = context.archive_root / "fritz/123/000" / str(START) / "meta.json"
    assert json.loads(file.read_text())["tags"] == [{"type": "support", "name": "größe <1>"}]
    assert "support: größe <1>" in unescape(admin_visitor.get(f"/jobs/{id_}"))
    admin_visitor.post(f"/jobs/{id_}/untag", type="support", name="größe <1>")
    assert json.loads(file.read_text())["tags"] == []


def test_metadata_is_set_and_removed(admin: Client, admin_visitor: Visitor) -> None:
    id_ = admin.start(metaData={"jobName": "rotor"})
    admin_visitor.post(f"/jobs/{id_}/meta", key="note", value="a\r\nb")
    assert admin.read(id_)["metaData"] == {"jobName": "rotor", "note": "a\nb"}
    admin_visitor.post(f"/jobs/{id_}/meta", key="note", value="")
    assert admin.read(id_)["metaData"] == {"jobName": "rotor"}


@pytest.mark.parametrize(
    ("form", "fields", "words"),
    [
        ("tag", {"type": "", "name": "x"}, "type: must be a string of 1 to 255"),
        ("tag", {"type": "x"}, "name: must be a string"),
        ("tag", {"type": "x", "name": "a\0b"}, "NUL"),
        ("untag", {"type": "x" * 256, "name": "x"}, "type: must be a string"),
        ("meta", {"key": "", "value": "x"}, "key: must be a string"),
        ("meta", {"key": "x", "value": "\0"}, "NUL"),
        ("correct", {"state": "running"}, "state: must be completed or"),
        ("correct", {"state": "failed", "stop_time": "soon"}, "stop time: must be a time"),
        ("correct", {"state": "failed", "stop_time": "2001-01-01T00:00"}, "before startTime"),
    ],
)
def test_wrong_form_is_explained(
    admin: Client, admin_visitor: Visitor, form: str, fields: dict[str, str], words: str
) -> None:
    id_ = admin.start()
    admin.stop()
    before = admin.read(id_)
    response = admin_visitor.post(f"/jobs/{id_}/{form}", **fields)
    assert response.status_code == 400
    assert words in unescape(response.text)
    assert admin.read(id_) == before


FORMS = {
    "tag": {"type": "a", "name": "b"},
    "untag": {"type": "a", "name": "b"},
    "meta": {"key": "a", "value": "b"},
    "correct": {"state": "failed"},
}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(Role.READER, set()), (Role.WRITER, {"tag", "meta"}), (Role.ADMIN, {*FORMS})],
)
def test_roles_of_forms_are_those_of_the_api(
    admin: Client, make_visitor: MakeVisitor, role: Role, allowed: set[str]
) -> None:
    id_ = admin.start(tags=[{"type": "a", "name": "b"}])
    admin.stop()
    visitor = make_visitor(role)
    html = visitor.get(f"/jobs/{id_}")
    assert {*re.findall(rf'action="/jobs/{id_}/(\w+)"', html)} == allowed
    for form, fields in FORMS.items():
        status = visitor.post(f"/jobs/{id_}/{form}", **fields).status_code
        assert status == (303 if form in allowed else 403)


@pytest.mark.parametrize("form", FORMS)
def test_forms_need_their_token(
    database: Database, admin: Client, admin_visitor: Visitor, form: str
) -> None:
    id_ = admin.start(tags=[{"type": "a", "name": "b"}])
    admin.stop()
    before = admin.read(id_)
    for token, headers in (("", SAME_ORIGIN), ("x", SAME_ORIGIN), (admin_visitor.form_token(), {})):
        data = {"form_token": token, **FORMS[form]}
        foreign = headers or {"Sec-Fetch-Site": "cross-site"}
        response = admin_visitor.http.post(f"/jobs/{id_}/{form}", data=data, headers=foreign)
        assert response.status_code == 403
    assert admin.read(id_) == before
