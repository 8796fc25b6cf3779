"""Jobs get tags, and lose them."""

from collections.abc import Sequence

from ccapi.model.job import Job, Tag
from ccapi.repository import tags
from ccapi.service import amending
from ccapi.service.registry import Registry


def tag(registry: Registry, id_: int, wanted: Sequence[Tag]) -> Job:
    """Give a job tags, all or none, and return it; one that it has already is left alone.

    Raises UnknownJob, and ArchiveError when its file cannot be written.
    """
    return amending.amend(registry, id_, lambda conn: tags.attach(conn, id_, wanted))


def untag(registry: Registry, id_: int, unwanted: Sequence[Tag]) -> Job:
    """Take tags from a job and return it; one that it does not have is passed over.

    Raises UnknownJob, and ArchiveError when its file cannot be written.
    """
    return amending.amend(registry, id_, lambda conn: tags.detach(conn, id_, unwanted))
