"""The job registry of an HPC site: ClusterCockpit's REST API 0.2.0 on PostgreSQL."""

__version__ = "1.0.0"
