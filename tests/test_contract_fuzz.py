"""Schemathesis plays thousands of requests that it makes from the contract itself."""

import re
import subprocess
import sys
from pathlib import Path

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import gunicorn

CONTRACT = Path(__file__).parent / "contract" / "clustercockpit-rest-api-0.2.0.yaml"
# On purpose: rules stricter than the contract's, null as "not given", and PUT and PATCH for
# clients in the field, which the contract does not list.
LEFT_OUT = (
    "negative_data_rejection,positive_data_acceptance,unsupported_method,allow_header_conformance"
)
FEWEST_CASES = 2_000


def test_no_request_made_from_the_contract_meets_a_failure_or_an_undocumented_answer(
    config: Config, database: Database, tmp_path: Path
) -> None:
    token = tokens.create(database, "fuzz", Role.ADMIN)
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=2) as service:
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(CONTRACT)]
        command += ["--url", f"http://127.0.0.1:{service.port}/api"]
        command += ["--header", f"X-Auth-Token: {token}", "--exclude-checks", LEFT_OUT]
        command += ["--max-examples=150", "--workers=2", "--no-color", "--seed=1"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
        )
    assert done.returncode == 0, done.stdout[-5000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None, done.stdout[-2000:]
    assert int(cases[1]) >= FEWEST_CASES, done.stdout[-2000:]
