"""A real chromium, driven by playwright; its console, its requests and its CSP reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PROGRAM = Path("/usr/bin/chromium")
_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 60_000


@dataclass
class Window:
    """A page of the browser, what it complained of, and what it asked for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a page of the site."""
        self.page.goto(self.url + path)

    def log_in(self, token: str) -> None:
        """Log in with a token, on the page that asks for it."""
        self.page.fill("#token", token)
        self.page.press("#token", "Enter")
        self.page.wait_for_selector(".logout")

    @property
    def path(self) -> str:
        """Return the address of the page, below the site's."""
        return str(self.page.url).removeprefix(self.url)

    def foreign_requests(self) -> list[str]:
        """Return the requests that left the site."""
        return [one for one in self.requests if not one.startswith((self.url, "data:"))]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=[*_OPTIONS])
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, url: str, **options: Any) -> Iterator[Window]:
    """Open a window without cookies; the options are those of playwright's new_context."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    opened = Window(page, url)
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: opened.requests.append(request.url))
    yield opened
    context.close()
