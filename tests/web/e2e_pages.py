"""The pages in a real chromium."""

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.web import hostile_job
from tests.web.chromium import PROGRAM, Window, chromium, window
from tests.web.site import Site, list_jobs, serve

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="needs Debian's package chromium")
MAX_GZIP_BYTES = 60_000
MAX_REQUESTS = 4
PAGES = (
    "/login", "/", "/jobs?state=running", "/jobs", "/jobs?user=nobody", "/clusters/demo",
    "/statistics?last=30d&group-by=user", "/search?q=nothing", "/jobs/0", "/hosts/f0101",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(postgres.url, tmp_path_factory.mktemp("site"), jobs=400) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def writer(site: Site) -> str:
    return site.token("writer", Role.WRITER)


@pytest.fixture(scope="module")
def reader(site: Site) -> str:
    return site.token("anna")


@pytest.fixture(scope="module")
def admin(site: Site) -> str:
    return site.token("otto", Role.ADMIN)


@pytest.fixture
def opened(browser: Browser, site: Site) -> Iterator[Window]:
    """A window at the login page; at the end it must be without complaints."""
    with window(browser, site.url) as new:
        new.open("/login")
        yield new
        assert new.complaints == []
        assert new.foreign_requests() == []


@pytest.fixture
def anna(opened: Window, reader: str) -> Window:
    opened.log_in(reader)
    return opened


@pytest.fixture
def otto(opened: Window, admin: str) -> Window:
    opened.log_in(admin)
    return opened


def start(site: Site, token: str, **fields: Any) -> int:
    """Start a job and return its database id."""
    number = time.monotonic_ns() // 1_000_000
    body = {
        "jobId": number,
        "user": "bert",
        "cluster": "fritz",
        "startTime": int(time.time()) - 60,
        "resources": [{"hostname": "f0101"}],
        **fields,
    }
    return int(site.send(token, "POST", "/jobs/start_job/", body)["id"])


def test_shared_address_shows_the_same_after_a_new_login(anna: Window, reader: str) -> None:
    page = anna.page
    anna.open("/jobs?state=running")
    page.fill("#filters [name=partition]", "singlenode")
    page.click("#filters button.main")
    page.wait_for_url("**/jobs?state=running&partition=singlenode")
    address, rows = anna.path, page.locator("a.row").all_inner_texts()
    assert rows
    page.click(".logout button")
    page.wait_for_url("**/login")
    anna.open(address)
    assert anna.path.startswith("/login?next=")
    anna.log_in(reader)
    assert anna.path == address
    assert page.locator("a.row").all_inner_texts() == rows


def test_every_page_is_reached_by_mouse(anna: Window) -> None:
    page = anna.page
    page.click("nav >> text=Jobs")
    page.click("a.row >> nth=0")
    page.wait_for_url("**/jobs/*")
    for part, address in (("users", "/users/"), ("projects", "/projects/"), ("hosts", "/hosts/")):
        page.click(f"main a[href^='/{part}/'] >> nth=0")
        page.wait_for_url(f"**{address}*")
        page.go_back()
    page.click("main a[href^='/clusters/']")
    page.wait_for_url("**/clusters/demo")
    page.click("nav >> text=Statistics")
    page.wait_for_url("**/statistics")
    page.click("nav >> text=Overview")
    page.wait_for_url(f"{anna.url}/")


def test_every_page_is_reached_by_keyboard(anna: Window, site: Site, writer: str) -> None:
    page, keys = anna.page, anna.page.keyboard
    id_ = start(site, writer, user="keyboard")
    anna.open("/")
    keys.press("u")
    page.wait_for_url("**/jobs?state=running")
    keys.press("j")
    keys.press("j")
    keys.press("k")
    first = page.locator("a.row >> nth=0").get_attribute("id")
    assert page.evaluate("document.activeElement.id") == first
    keys.press("n")
    if page.locator("a[rel=next]").count():
        page.wait_for_url("**cursor=**")
    anna.open("/jobs?user=keyboard")
    keys.press("j")
    keys.press("Enter")
    page.wait_for_url(f"**/jobs/{id_}")
    keys.press("/")
    keys.type("keyboard")
    keys.press("Enter")
    page.wait_for_url("**/users/keyboard")
    keys.press("?")
    assert page.locator("#keys").is_visible()
    keys.press("Escape")
    assert not page.locator("#keys").is_visible()
    keys.press("g")
    page.wait_for_url(f"{anna.url}/")


def test_every_link_of_the_head_is_reached_by_tab(anna: Window) -> None:
    page = anna.page
    for link, path in (("Jobs", "/jobs?state=running"), ("Statistics", "/statistics")):
        anna.open("/")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == link:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(f"{anna.url}{path}")


def test_job_of_1000_nodes_fits_and_prints(anna: Window, site: Site, writer: str) -> None:
    page = anna.page
    hosts = [{"hostname": f"n{number:04}"} for number in range(1, 1001)]
    id_ = start(site, writer, user="large", resources=hosts)
    for width in (400, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        anna.open(f"/jobs/{id_}")
        assert_harmless(anna)
    assert page.inner_text(".hosts") == "n[0001-1000]"
    page.emulate_media(media="print")
    assert not page.locator(".masthead").is_visible()
    assert page.locator("h1").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_numbers_of_a_chart_are_a_table(anna: Window) -> None:
    anna.open("/clusters/demo")
    chart = anna.page.locator("figure.chart >> nth=0")
    chart.locator("summary").focus()
    anna.page.keyboard.press("Enter")
    assert 1 < chart.locator("tbody tr").count() <= 12
    assert chart.locator("tbody tr >> nth=0").is_visible()


def test_live_rows_change_without_a_jump(anna: Window, site: Site, writer: str) -> None:
    page = anna.page
    for _ in range(30):
        start(site, writer, user="live")
    anna.open("/jobs?user=live&items-per-page=100")
    page.evaluate("window.isSamePage = true; scrollTo(0, 200)")
    page.keyboard.press("j")
    selected = page.evaluate("document.activeElement.id")
    position = page.evaluate("scrollY")
    id_ = start(site, writer, user="live", startTime=int(time.time()) - 7200)
    page.wait_for_selector(f"#job-{id_}", timeout=60_000)
    assert page.evaluate("window.isSamePage")
    assert page.evaluate("scrollY") == position
    assert page.evaluate("document.activeElement.id") == selected
    assert page.locator("tr.selected a.row").get_attribute("id") == selected


def test_tag_is_in_the_archive(otto: Window, site: Site, writer: str) -> None:
    id_ = start(site, writer, user="tagged")
    stop = {"jobState": "failed", "stopTime": int(time.time())}
    site.send(writer, "POST", f"/jobs/stop_job/{id_}", stop)
    otto.open(f"/jobs/{id_}")
    otto.page.fill("#tags [name=type]", "support")
    otto.page.fill("#tags [name=name]", "called the user")
    otto.page.click("#tags >> text=Add tag")
    otto.page.wait_for_selector("#tags .tag >> text=support: called the user")
    [file] = [
        file for file in site.archive.rglob("meta.json") if '"tagged"' in file.read_text("utf-8")
    ]
    assert json.loads(file.read_text())["tags"] == [{"type": "support", "name": "called the user"}]
    otto.page.click("#tags [aria-label^='Remove the tag']")
    otto.page.wait_for_selector("#tags >> text=No tags.")


def test_all_but_live_rows_works_without_javascript(
    browser: Browser, site: Site, admin: str, writer: str
) -> None:
    id_ = start(site, writer, user="plain")
    with window(browser, site.url, java_script_enabled=False) as plain:
        plain.open("/jobs")
        plain.log_in(admin)
        page = plain.page
        page.fill("#filters [name=user]", "plain")
        page.click("#filters button.main")
        assert plain.path == "/jobs?user=plain"
        page.click("a.row")
        assert plain.path == f"/jobs/{id_}"
        page.fill("#metadata [name=key]", "note")
        page.fill("#metadata [name=value]", "seen")
        page.click("#metadata >> text=Set")
        assert "seen" in page.inner_text("#metadata")
        page.fill("#search", "plain")
        page.press("#search", "Enter")
        assert plain.path == "/users/plain"
        plain.open("/jobs?items-per-page=5")
        page.click("text=Next")
        page.click("text=Previous")
        assert plain.path == "/jobs?items-per-page=5"
        page.click("summary >> text=State")
        page.check("text=failed")
        page.click("#filters button.main")
        assert "state=failed" in plain.path
        page.click("text=Log out")
        assert plain.path == "/login"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation(
    browser: Browser, site: Site, admin: str, scheme: str
) -> None:
    ids = [job["id"] for job in list_jobs(site, admin, "state=failed&cluster=demo")[:1]]
    ids += [job["id"] for job in list_jobs(site, admin, "state=running&cluster=demo")[:1]]
    user, project = (list_jobs(site, admin, "cluster=demo")[0][key] for key in ("user", "project"))
    pages = [*PAGES, *(f"/jobs/{id_}" for id_ in ids), f"/users/{user}", f"/projects/{project}"]
    with window(browser, site.url, color_scheme=scheme) as opened:
        opened.open("/login")
        violations = {"/login": report(opened)}
        opened.log_in(admin)
        for path in pages:
            opened.open(path)
            violations[path] = report(opened)
    assert (
        "\n".join(f"{path}: {item}" for path, items in violations.items() for item in items) == ""
    )


def report(opened: Window) -> list[str]:
    """Return what axe finds on a page."""
    # The script that axe adds is not one of ours; it is evaluated, not loaded.
    results = Axe().run(opened.page).response
    return [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for violation in results["violations"]
        for node in violation["nodes"]
    ]


@pytest.fixture(scope="module")
def hostile_jobs(site: Site, writer: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the id and the body of a job for each attack."""
    begin = int(time.time()) - 60
    bodies = [hostile_job.job(n, text, begin) for n, text in enumerate(hostile_job.ATTACKS)]
    return [
        (int(site.send(writer, "POST", "/jobs/start_job/", body)["id"]), body) for body in bodies
    ]


@pytest.mark.parametrize("number", range(len(hostile_job.ATTACKS)))
def test_stored_text_stays_text(
    otto: Window, hostile_jobs: list[tuple[int, dict[str, Any]]], number: int
) -> None:
    id_, body = hostile_jobs[number]
    text = body["user"]
    name = quote(text, safe="")
    paths = [f"/jobs/{id_}", f"/search?q={name}", f"/hosts/{body['resources'][0]['hostname']}"]
    if "/" not in text:
        paths += [f"/users/{name}", f"/projects/{name}"]
    otto.page.set_viewport_size({"width": 400, "height": 800})
    for path in reversed(paths):
        otto.open(path)
        assert_harmless(otto)
    plain = " ".join(text.split())
    assert plain in " ".join(otto.page.inner_text("main").split())
    # A search for text that is not printable is refused.
    otto.complaints[:] = [one for one in otto.complaints if "status of 400" not in one]


@pytest.mark.parametrize("width", [400, 1280])
def test_pages_stand_all_stored_texts_at_once(
    otto: Window, hostile_jobs: list[tuple[int, dict[str, Any]]], width: int
) -> None:
    otto.page.set_viewport_size({"width": width, "height": 800})
    for path in (
        "/jobs?cluster=fritz", "/clusters/fritz", "/", "/statistics?group-by=project",
        "/statistics?group-by=partition&group-by=user", f"/jobs/{hostile_jobs[6][0]}",
        f"/hosts/{'x' * 255}",
    ):  # fmt: skip
        otto.open(path)
        assert_harmless(otto)


def assert_harmless(opened: Window) -> None:
    """Check that no stored text ran, and that the page is not wider than its window."""
    assert "owned" not in str(opened.page.evaluate("document.title")).split(" ")[0]
    overflow = opened.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0, f"{opened.path[:100]} is {overflow} px too wide"


def test_first_load_is_small(browser: Browser, site: Site, reader: str) -> None:
    with window(browser, site.url) as first:
        first.open("/login")
        first.log_in(reader)
        session = first.page.context.storage_state()
    with window(browser, site.url, storage_state=session) as second:
        sizes: dict[str, int] = {}
        second.page.on(
            "response", lambda answer: sizes.update({answer.url: len(gzip.compress(answer.body()))})
        )
        second.open("/jobs?state=running")
        second.page.wait_for_load_state("networkidle")
    assert len(sizes) <= MAX_REQUESTS, sizes
    assert sum(sizes.values()) <= MAX_GZIP_BYTES, sizes


def test_limited_visitor_sees_only_his_jobs(browser: Browser, site: Site, writer: str) -> None:
    mine, other = start(site, writer, user="alice"), start(site, writer, user="bob")
    token = site.token("alice", scope=Scope(users=("alice",)))
    with window(browser, site.url) as opened:
        opened.open("/jobs")
        opened.log_in(token)
        assert opened.page.locator("a.row").count() == 1
        opened.open(f"/jobs/{mine}")
        assert "alice" in opened.page.inner_text("main")
        opened.open(f"/jobs/{other}")
        assert "no job has" in opened.page.inner_text("main")


def test_window_is_closed_by_a_revoked_token(browser: Browser, site: Site) -> None:
    token = site.token("leaver")
    with window(browser, site.url) as opened:
        opened.open("/jobs?state=running")
        opened.log_in(token)
        tokens.revoke(site.database, "leaver")
        opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        opened.page.wait_for_url("**/login?next=**")
