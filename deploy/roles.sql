-- Three roles, none of them a superuser, each with no more rights than it needs:
--     pipeboard_owner    owns the schemas and may do everything inside them; for people who look after the database
--     pipeboard_loader   makes, changes and fills tables in these schemas and makes no other; for DATABASE_URL
--     pipeboard_reader   reads pipedrive and bi, also what later syncs create, and nothing of Pipeboard's own state
-- Run it once as an administrator (a superuser, or a role with CREATEROLE that may create schemas here); running it again
-- changes nothing:
--     psql "$ADMIN_URL" -f deploy/roles.sql
--     psql "$ADMIN_URL" -c "ALTER ROLE pipeboard_loader LOGIN" -c "\password pipeboard_loader"
--     psql "$ADMIN_URL" -c "CREATE ROLE metabase LOGIN IN ROLE pipeboard_reader" -c "\password metabase"
-- Tables that another role made before: REASSIGN OWNED BY that_role TO pipeboard_loader.
-- With PIPEBOARD_ACCOUNT=acme, roles and schemas of that company, acme_pipeboard_loader and so on:
--     PGOPTIONS="-c pipeboard.account=acme" psql "$ADMIN_URL" -f deploy/roles.sql
-- With PIPEBOARD_OLD_NAMES_SCHEMA=antes, that schema besides: PGOPTIONS="-c pipeboard.old_names_schema=antes".
-- PostgreSQL lets everybody who may connect make temporary tables (and before version 15 any table in the schema public).
-- This takes those two rights from PUBLIC: whoever else needs them in this database gets them by a GRANT.
DO $$
DECLARE
    prefix text := coalesce(nullif(pg_catalog.current_setting('pipeboard.account', true), '') || '_', '');
    owner_role name := prefix || 'pipeboard_owner';
    loader_role name := prefix || 'pipeboard_loader';
    reader_role name := prefix || 'pipeboard_reader';
    old_names name := nullif(pg_catalog.current_setting('pipeboard.old_names_schema', true), '');
    read_places name[] := array_remove(ARRAY[prefix || 'pipedrive', prefix || 'bi', old_names], NULL);
    role name;
    place name;
BEGIN
    FOREACH role IN ARRAY ARRAY[owner_role, loader_role, reader_role] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    -- The owner may do whatever the loader may, and whoever runs this acts for the owner.
    EXECUTE format('GRANT %I TO %I', loader_role, owner_role);
    IF NOT pg_catalog.pg_has_role(owner_role, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', owner_role);
    END IF;
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', pg_catalog.current_database(), loader_role);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), reader_role);

    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', pg_catalog.current_database());
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;

    FOREACH place IN ARRAY read_places || ARRAY[prefix || 'pipeboard', 'dagster']::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = place) THEN
            EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', place, owner_role);
        END IF;
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', place, loader_role);
    END LOOP;

    FOREACH place IN ARRAY read_places LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', place, reader_role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', place, reader_role);
        -- What the loader creates later, and what whoever runs this creates, where that is the role in DATABASE_URL.
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I', loader_role, place, reader_role);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO %I', place, reader_role);
    END LOOP;
END $$;
