-- A role for Grafana's PostgreSQL source, or for another tool: it can read the two views, and nothing
-- else. Choose a password, and run this file on PostgreSQL's host as the user postgres:
--     psql -v ON_ERROR_STOP=1 --dbname=ccapi -f readonly-role.sql
-- If the tool runs on another host, pg_hba.conf needs a line for it:
--     hostssl  ccapi  grafana  grafana.example.org  scram-sha-256

CREATE ROLE grafana LOGIN PASSWORD 'change-me';
GRANT SELECT ON jobs_view, job_hosts_view TO grafana;
ALTER ROLE grafana SET statement_timeout = '30s';
