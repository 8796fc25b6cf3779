"""PostgreSQL: pool, replica, migrations and the named queries."""
