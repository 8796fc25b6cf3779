"""Large work beside the service's: in small batches, with a pause after each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

# What gunicorn gives a request, in seconds, before it kills the worker: a list of a million jobs
# is one, and so is a deletion.
LONGEST_REQUEST = 120

# So few jobs that to delete them takes some 3 ms: others who come meanwhile wait for a processor,
# and for what is written to be on the disk, no longer than that.
BATCH = 100
_PAUSE = 1.0


@contextmanager
def batch() -> Iterator[None]:
    """Do a batch within the block, then leave disk and processors to others as long as it took."""
    begun = time.monotonic()
    yield
    time.sleep((time.monotonic() - begun) * _PAUSE)
