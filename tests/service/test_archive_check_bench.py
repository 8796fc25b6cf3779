"""The measurement of `ccapi archive check`, with few jobs: half pruned, all packed, ten faults."""

import pytest

from bench import archive_check
from ccapi.context import Context
from ccapi.embedded import PrivatePostgres


@pytest.mark.slow
def test_ten_faults_among_packed_and_pruned_jobs_are_named(
    context: Context, postgres: PrivatePostgres
) -> None:
    archive_check.build(context, 3000)
    clean = archive_check.check(postgres.url, context.archive_root)
    assert (clean.status, clean.findings) == (0, [])
    faults = archive_check.plant_faults(context)
    spoilt = archive_check.check(postgres.url, context.archive_root)
    assert spoilt.status == 1
    assert sorted(spoilt.findings) == sorted(faults)
    assert len(faults) == 10
