"""Old jobs leave the database when the archive has them."""

from collections.abc import Iterator

from ccapi.model.job import Place
from ccapi.repository import pruning
from ccapi.repository.pruning import OldJobs
from ccapi.service import pace
from ccapi.service.registry import Registry


def count(registry: Registry, before: int) -> OldJobs:
    """Count the jobs that started before a time, by what keeps them."""
    with registry.database.session() as conn:
        return pruning.count(conn, before)


def prune(registry: Registry, before: int, *, unarchived_too: bool = False) -> Iterator[int]:
    """Delete finished jobs that started before a time; yield how many after each batch.

    Only archived ones, unless told otherwise; running ones never. Each batch is a
    statement, so that others do not wait and an end in the middle keeps what was done.
    """
    place = Place(0, 0)
    while True:
        with pace.batch(), registry.database.statement() as conn:
            batch = pruning.prune(conn, before, place, pace.BATCH, unarchived_too=unarchived_too)
        if batch is None:
            return
        yield batch.deleted
        place = batch.place
