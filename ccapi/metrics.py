"""What the service counts."""

from prometheus_client import Counter

ARCHIVE_FAILURES = Counter(
    "ccapi_archive_failures", "Jobs that could not be written to the archive, per attempt."
)
UNKNOWN_HOSTS = Counter(
    "ccapi_unknown_hosts",
    "Hosts of started jobs that the settings do not list for their cluster.",
    ["cluster"],
)
