"""Schemathesis for PROPERTIES_MINUTES: requests that follow or violate the contract.

`make fuzz` runs this; the suite has the short form test_contract_fuzz.
"""

import re
import subprocess
import sys
from pathlib import Path

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import gunicorn
from tests.properties.duration import part_seconds
from tests.test_contract_fuzz import CONTRACT, EXCLUDED_CHECKS


def test_requests_for_and_against_the_contract_do_not_fail(
    config: Config, database: Database, tmp_path: Path
) -> None:
    seconds = max(30, round(part_seconds()))
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        # gunicorn and nginx themselves reject longer addresses, and not in JSON.
        "GUNICORN_CMD_ARGS": "--limit-request-line=0",
    }
    token = tokens.create(database, "fuzz", Role.ADMIN)
    with gunicorn(settings, tmp_path, workers=2) as service:
        workers = service.workers()
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(CONTRACT)]
        command += ["--url", f"http://127.0.0.1:{service.port}/api", "--workers=2", "--no-color"]
        command += ["--header", f"X-Auth-Token: {token}", "--exclude-checks", EXCLUDED_CHECKS]
        command += ["--mode=all", "--max-examples=2000", f"--max-time={seconds}"]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=2 * seconds + 600,
            check=False,
        )
        assert service.workers() == workers
    assert result.returncode == 0, result.stdout[-5000:]
    log = (tmp_path / "gunicorn.log").read_text("utf-8", "replace")
    assert token not in log
    assert "Traceback" not in log, log[-5000:]
    print(re.findall(r".*generated.*", result.stdout))
