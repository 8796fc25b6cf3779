"""People log in at a real oauth2-proxy, in a real chromium, through the nginx that we deploy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bench.deployed_site import nginx, run_site
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from tests import conftest
from tests.processes import free_port
from tests.web import login_proxy
from tests.web.chromium import PROGRAM, Window, chromium, window

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="needs Debian's package chromium"),
    pytest.mark.skipif(login_proxy.PROGRAM is None, reason="oauth2-proxy is not installed"),
    pytest.mark.skipif(nginx() is None, reason="nginx is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def url(config: Config, database: Database, tmp_path: Path) -> Iterator[str]:
    """Return the address of a site with a job of anna and one of root."""
    admin = conftest.client(conftest.serve(config, database), database, Role.ADMIN)
    for number, user in enumerate(("anna", "root"), 1):
        admin.start(jobId=number, user=user)
    port = free_port()
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_WEB_USER_HEADER": "X-Remote-User",
        "CCAPI_WEB_GROUPS_HEADER": "X-Remote-Groups",
        "CCAPI_WEB_ADMIN_GROUPS": "hpc-admins",
    }
    address = f"http://127.0.0.1:{port}"
    with login_proxy.oauth2_proxy(tmp_path, address) as proxy:
        options = ("--login-proxy", f"127.0.0.1:{proxy}")
        edits = {"server_tokens off;": f"server_tokens off; listen 127.0.0.1:{port};"}
        with run_site(settings, workers=1, readers=1, options=options, edits=edits):
            yield address


def sign_in(opened: Window, user: str, groups: str = "") -> None:
    """Sign in at the provider, to which the proxy's page leads."""
    opened.page.click("button[type=submit]")
    opened.page.fill("[name=user]", user)
    opened.page.fill("[name=groups]", groups)
    opened.page.press("[name=user]", "Enter")


def test_person_sees_her_jobs_on_the_page_that_she_asked_for(browser: Browser, url: str) -> None:
    with window(browser, url) as opened:
        opened.open("/jobs?state=running&user=anna")
        sign_in(opened, "anna")
        opened.page.wait_for_selector("#list")
        assert opened.path == "/jobs?state=running&user=anna"
        assert opened.page.inner_text(".who") == "anna reader"
        opened.open("/jobs")
        assert opened.page.locator("a.row").all_inner_texts() == ["1"]
        opened.open("/oauth2/sign_out")
        assert opened.path == "/"
        opened.open("/jobs")
        assert opened.page.locator("#list").count() == 0


def test_client_cannot_forge_the_header(browser: Browser, url: str) -> None:
    forged = {"X-Remote-User": "root", "X-Remote-Groups": "hpc-admins"}
    with window(browser, url, extra_http_headers=forged) as opened:
        opened.open("/jobs")
        assert opened.page.locator("#list").count() == 0
        sign_in(opened, "anna")
        opened.page.wait_for_selector("#list")
        assert opened.page.locator("a.row").all_inner_texts() == ["1"]


def test_admin_of_a_group_tags_a_job_of_another(browser: Browser, url: str) -> None:
    with window(browser, url) as opened:
        opened.open("/jobs")
        sign_in(opened, "otto", "staff hpc-admins")
        opened.page.click("a.row >> text=1")
        opened.page.fill("#tags [name=type]", "support")
        opened.page.fill("#tags [name=name]", "called")
        opened.page.click("#tags >> text=Add tag")
        opened.page.wait_for_selector("#tags .tag >> text=support: called")


def test_live_rows_pass_the_proxy(browser: Browser, url: str) -> None:
    with window(browser, url) as opened:
        opened.open("/jobs")
        sign_in(opened, "anna")
        opened.page.wait_for_selector("#list")
        with opened.page.expect_response("**/jobs/rows**") as answer:
            opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert answer.value.status == 200
