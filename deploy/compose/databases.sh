#!/bin/sh
# Runs once, when the data folder of PostgreSQL is empty: the role and database that Pipeboard works with, and Metabase's.
# Neither role is a superuser.
set -eu
psql --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
    --set=pipeboard_password="$PIPEBOARD_DATABASE_PASSWORD" --set=metabase_password="$METABASE_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE pipeboard LOGIN PASSWORD :'pipeboard_password';
CREATE DATABASE pipeboard OWNER pipeboard;
REVOKE ALL ON DATABASE pipeboard FROM PUBLIC;
CREATE ROLE metabase LOGIN PASSWORD :'metabase_password';
CREATE DATABASE metabase OWNER metabase;
REVOKE ALL ON DATABASE metabase FROM PUBLIC;
SQL
