#!/bin/sh
# Redis with the password that redis_url gives; on standard input, because a process list shows arguments.
set -eu
password=$(sed -n 's|^redis://[^:]*:\([A-Za-z0-9._~-]*\)@.*|\1|p' /run/secrets/redis_url)
[ -n "$password" ] || { echo "secrets/redis_url holds no password; it looks like redis://:password@redis:6379/0" >&2 && exit 1; }
exec redis-server - <<CONFIG
requirepass $password
maxmemory 128mb
maxmemory-policy allkeys-lru
save ""
protected-mode yes
bind 0.0.0.0
CONFIG
