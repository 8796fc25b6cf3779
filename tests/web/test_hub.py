"""A hub refuses every change, in the API and on the pages."""

from dataclasses import replace

import pytest
from flask import Flask

from ccapi.context import Context
from tests.client import Client
from tests.web.visitor import Visitor, text


@pytest.fixture
def job_of_hub(app: Flask, context: Context, admin: Client) -> int:
    """A job of a registry that is a hub from now on."""
    id_ = admin.start(tags=[{"type": "a", "name": "b"}])
    admin.stop()
    app.extensions["ccapi"] = replace(context, is_hub=True)
    return id_


def test_every_operation_that_changes_is_refused(
    app: Flask, admin: Client, job_of_hub: int
) -> None:
    changes = [
        (method, rule.rule.replace("<id>", str(job_of_hub)).replace("<ts>", "1"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    ]
    assert len(changes) > 15
    for method, path in changes:
        response = admin.send(method, path, {})
        assert response.status_code == 403, path
        assert response.get_json()["error"].startswith("this is a hub")


@pytest.mark.usefixtures("job_of_hub")
def test_readers_of_a_hub_are_answered(admin: Client) -> None:
    assert len(admin.list()) == 1
    assert admin.send("GET", "/stats/?range=1-86400").status_code == 200
    response = admin.send("GET", "/archive?cluster=fritz&jobId=123000&startTime=1700000000")
    assert response.status_code == 404
    assert "a hub has no archive" in response.get_json()["error"]


def test_page_of_a_job_has_no_forms(admin_visitor: Visitor, job_of_hub: int) -> None:
    page = f"/jobs/{job_of_hub}"
    html = admin_visitor.get(page)
    for form in ("/tag", "/untag", "/meta", "/correct"):
        assert f'action="{page}{form}"' not in html
        response = admin_visitor.post(f"{page}{form}", type="a", name="b", key="k", value="v")
        assert response.status_code == 403
        assert "this is a hub" in text(response.text)
