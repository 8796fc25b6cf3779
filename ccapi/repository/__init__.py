"""PostgreSQL: functions take a connection first, run one named query, and never commit."""
