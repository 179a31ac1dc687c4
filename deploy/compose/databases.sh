#!/bin/sh
# Databases, roles and passwords as secrets/ and .env say. Runs by itself when the data folder of PostgreSQL is empty; again,
# which changes no more than differs, by hand: see "Rotating" in RUNBOOK.md. None of the roles is a superuser.
set -eu
account=${PIPEBOARD_ACCOUNT:-}
prefix=${account:+${account}_}

# password SECRET ROLE: what that secret says, if it is of that role
password() {
    found=$(sed -n "s|^postgresql://$2:\([A-Za-z0-9._~-]*\)@.*|\1|p" "/run/secrets/$1")
    if [ -z "$found" ]; then
        echo "secrets/$1 is not postgresql://$2:password@postgres:5432/pipeboard. Write it so, then run this script again." >&2
        exit 1
    fi
    echo "$found"
}
loader_password=$(password database_url "${prefix}pipeboard_loader")
reader_password=$(password reader_url "${prefix}pipeboard_reader")

as_administrator() { psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" "$@"; }

as_administrator --dbname=postgres <<'SQL'
SELECT 'CREATE ROLE metabase' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'metabase') \gexec
SELECT format('CREATE DATABASE %I', name) FROM unnest('{pipeboard,metabase}'::name[]) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE pipeboard, metabase FROM PUBLIC;
ALTER DATABASE metabase OWNER TO metabase;
SQL
PGOPTIONS="-c pipeboard.account=$account -c pipeboard.old_names_schema=${PIPEBOARD_OLD_NAMES_SCHEMA:-}" \
    as_administrator --dbname=pipeboard --file=/roles.sql
# On standard input, because a process list shows arguments; as a variable, so that no statement with it is logged.
as_administrator --dbname=postgres <<SQL
\set loader_password '$loader_password'
\set reader_password '$reader_password'
\set metabase_password \`cat /run/secrets/metabase_password\`
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
ALTER ROLE ${prefix}pipeboard_loader LOGIN PASSWORD :'loader_password';
ALTER ROLE ${prefix}pipeboard_reader LOGIN PASSWORD :'reader_password';
ALTER ROLE metabase LOGIN PASSWORD :'metabase_password';
SQL
