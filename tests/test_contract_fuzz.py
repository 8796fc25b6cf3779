"""Schemathesis sends thousands of requests that it makes from the contract."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import gunicorn

CONTRACT = Path(__file__).parent / "contract" / "clustercockpit-rest-api-0.2.0.yaml"
# On purpose, rules are stricter than the contract's, null means "not given", and PUT and PATCH
# work for existing clients although the contract does not list them.
EXCLUDED_CHECKS = (
    "negative_data_rejection,positive_data_acceptance,unsupported_method,allow_header_conformance"
)
MIN_CASES = 2_000


@pytest.mark.slow
def test_requests_of_the_contract_get_documented_answers(
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
        command += ["--header", f"X-Auth-Token: {token}", "--exclude-checks", EXCLUDED_CHECKS]
        command += ["--max-examples=150", "--workers=2", "--no-color", "--seed=1"]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
        )
    assert result.returncode == 0, result.stdout[-5000:]
    cases = re.search(r"(\d+) generated", result.stdout)
    assert cases is not None, result.stdout[-2000:]
    assert int(cases[1]) >= MIN_CASES, result.stdout[-2000:]
