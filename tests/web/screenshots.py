"""Take the screenshots of docs/pages.rst: `python -m tests.web.screenshots [DIRECTORY]`."""

import sys
import tempfile
from pathlib import Path

from ccapi.embedded import private_postgres
from ccapi.model.token import Role
from tests.web.chromium import chromium, window
from tests.web.site import list_jobs, serve

ROOT = Path(__file__).resolve().parents[2]
_JOBS = 20_000
_WIDE, _NARROW = {"width": 1280, "height": 800}, {"width": 400, "height": 800}


def main() -> None:
    """Write each page as a PNG, wide and narrow, light and dark."""
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "screenshots"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ccapi-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            private_postgres(directory / "postgresql") as postgres,
            serve(postgres.url, directory, _JOBS) as site,
            chromium() as browser,
        ):
            token = site.token("anna", Role.ADMIN)
            [job, *_] = list_jobs(site, token, "state=running&cluster=demo&num-nodes=2-16")
            pages = {
                "overview": "/",
                "jobs": "/jobs?state=running",
                "job": f"/jobs/{job['id']}",
                "user": f"/users/{job['user']}?last=30d",
                "host": f"/hosts/{job['resources'][0]['hostname']}?last=30d",
                "statistics": "/statistics?last=30d&group-by=user",
                "login": "/login",
                "filters": "/jobs?state=failed&state=timeout&num-nodes=2-8&last=7d",
                "empty": "/jobs?user=nobody",
            }
            for scheme in ("light", "dark"):
                for size, viewport in (("", _WIDE), ("-narrow", _NARROW)):
                    with window(
                        browser, site.url, color_scheme=scheme, viewport=viewport
                    ) as opened:
                        opened.open("/login")
                        opened.log_in(token)
                        for page, path in pages.items():
                            opened.open(path)
                            opened.page.wait_for_load_state("networkidle")
                            file = target / f"{page}{size}-{scheme}.png"
                            opened.page.screenshot(path=file)
                            print(file)


if __name__ == "__main__":
    main()
