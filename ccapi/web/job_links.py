"""Links from a job's page to other programs of the site, by the settings' templates."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from ccapi.model.job import Job

Template = tuple[str, str]


def links_of(
    templates: Sequence[Template], job: Job, hosts: Sequence[str], now: int
) -> list[tuple[str, str]]:
    """Return the names and addresses of a job's links; what users wrote is percent-encoded."""
    end = now if job.stop_time is None else job.stop_time
    values: Mapping[str, str | int] = {
        "id": job.id or 0,
        "jobId": job.job_id,
        "cluster": job.cluster,
        "user": job.user_name,
        "project": job.project,
        "host": hosts[0],
        "hosts": "|".join(hosts),
        "from": job.start_time,
        "to": end,
        "from_ms": 1000 * job.start_time,
        "to_ms": 1000 * end,
    }
    encoded = {name: quote(str(value), safe="") for name, value in values.items()}
    return [(name, template.format_map(encoded)) for name, template in templates]
