#!/bin/sh
# Runs once, when the data folder of PostgreSQL is empty: the role and database that Pipeboard works with, and Metabase's.
# Neither role is a superuser.
set -eu
password=$(sed -n 's|^postgresql://pipeboard:\([A-Za-z0-9._~-]*\)@.*|\1|p' /run/secrets/database_url)
[ -n "$password" ] || { echo "secrets/database_url is not postgresql://pipeboard:password@postgres:5432/pipeboard" >&2 && exit 1; }
# On standard input, because a process list shows arguments.
psql --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres <<SQL
\set pipeboard_password '$password'
\set metabase_password \`cat /run/secrets/metabase_password\`
CREATE ROLE pipeboard LOGIN PASSWORD :'pipeboard_password';
CREATE DATABASE pipeboard OWNER pipeboard;
REVOKE ALL ON DATABASE pipeboard FROM PUBLIC;
CREATE ROLE metabase LOGIN PASSWORD :'metabase_password';
CREATE DATABASE metabase OWNER metabase;
REVOKE ALL ON DATABASE metabase FROM PUBLIC;
SQL
