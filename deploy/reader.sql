-- A role that may read the tables and views, nothing of Pipeboard's own state, and write nothing. Run it once, as the role
-- in DATABASE_URL (it needs CREATEROLE) or as an administrator after SET ROLE; running it again changes nothing:
--     psql "$DATABASE_URL" -f deploy/reader.sql
-- Then give it to whoever reads: CREATE ROLE metabase LOGIN PASSWORD '...' IN ROLE pipeboard_reader;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pipeboard_reader') THEN
        CREATE ROLE pipeboard_reader NOLOGIN;
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS pipedrive;
CREATE SCHEMA IF NOT EXISTS bi;
GRANT USAGE ON SCHEMA pipedrive, bi TO pipeboard_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA pipedrive, bi TO pipeboard_reader;
-- What later syncs create, too.
ALTER DEFAULT PRIVILEGES IN SCHEMA pipedrive, bi GRANT SELECT ON TABLES TO pipeboard_reader;
