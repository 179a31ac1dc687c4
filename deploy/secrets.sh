#!/bin/sh
# Makes the files in secrets/ that compose.yaml hands to containers; what is there already stays as it is. Files, because
# variables are shown by `docker inspect`. The folder is closed to other users; the files are read by users of containers.
set -eu
cd "$(dirname "$0")"

# setting NAME: as Compose reads it, from the environment or .env, there with or without quotes and a comment behind it.
setting() {
    found=$(printenv "$1" || true)
    if [ -z "$found" ] && [ -e .env ]; then
        found=$(sed -n "s/^[[:space:]]*$1=[\"']\{0,1\}\([^\"'#]*\).*/\1/p" .env | tail -n 1 | sed 's/[[:space:]]*$//')
    fi
    printf '%s\n' "$found"
}

folder=$(setting SECRETS)
folder=${folder:-./secrets}
umask 022
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME VALUE: the file NAME, unless there is one. Written aside first: what is interrupted leaves none.
keep() {
    [ -e "$folder/$1" ] || { printf '%s\n' "$2" >"$folder/.$1" && mv "$folder/.$1" "$folder/$1"; }
}

# login FILE NAME WHAT: who may do WHAT; the password is told once, and only its hash is kept.
login() {
    [ ! -e "$folder/$1" ] || return 0
    password=$(random)
    hash=$(printf '%s\n' "$password" | docker run --rm --interactive caddy:2 caddy hash-password)
    keep "$1" "$2 $hash"
    echo "$3: name $2, password $password (not shown again)"
}

if [ ! -e "$folder/pipedrive_api_key" ]; then
    if [ -t 0 ]; then
        printf 'Pipedrive API token of a global admin (your name > Company settings > Personal preferences > API): '
        stty -echo && trap 'stty echo' EXIT
    fi
    read -r key
    [ -n "$key" ] || { echo "No API token was given; nothing is made." >&2 && exit 2; }
    keep pipedrive_api_key "$key"
    [ ! -t 0 ] || echo
fi
keep postgres_password "$(random)"
account=$(setting PIPEBOARD_ACCOUNT)
account=${account:+${account}_}
keep database_url "postgresql://${account}pipeboard_loader:$(random)@postgres:5432/pipeboard"
keep reader_url "postgresql://${account}pipeboard_reader:$(random)@postgres:5432/pipeboard"
keep redis_url "redis://:$(random)@redis:6379/0"
keep metabase_password "$(random)"
keep grafana_password "$(random)"
keep pipeboard_alert_urls ""
login operators operator "May start runs"
login readers reader "May only look"
