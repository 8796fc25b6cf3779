"""Take screenshots of the pages: `python -m tests.web.screenshots [--all] [DIRECTORY]`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ccapi.embedded import private_postgres
from ccapi.model.token import Role
from tests.web.chromium import Window, chromium, window
from tests.web.site import list_jobs, serve

_DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
_JOBS = 20_000
_WIDE, _NARROW = {"width": 1200, "height": 675}, {"width": 390, "height": 780}
# Those that docs/pages.rst and README.rst show; --all takes every page, wide and narrow.
_SHOWN = {
    "overview-light.png", "overview-dark.png", "jobs-light.png", "job-dark.png", "host-light.png",
    "statistics-light.png", "jobs-narrow-dark.png",
}  # fmt: skip


def main() -> None:
    """Write the pages as PNGs."""
    takes_all = "--all" in sys.argv
    [target, *_] = [Path(one) for one in sys.argv[1:] if one != "--all"] or [_DIRECTORY]
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
                            if takes_all or f"{page}{size}-{scheme}.png" in _SHOWN:
                                opened.open(path)
                                opened.page.wait_for_load_state("networkidle")
                                _take(opened, target / f"{page}{size}-{scheme}.png")


def _take(opened: Window, file: Path) -> None:
    """Take a screenshot, and make it a third as large if pngquant is installed."""
    opened.page.screenshot(path=file)
    if program := shutil.which("pngquant"):
        command = [program, "--force", "--skip-if-larger", "--output", str(file), "64", str(file)]
        subprocess.run(command, check=False)
    print(f"{file}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
