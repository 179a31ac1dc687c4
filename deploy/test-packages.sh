#!/bin/sh
# Installs the packages of test-packages.txt that are missing. Nothing of them runs as a service.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "No apt-get here: tests that need $(tr '\n' ' ' <"$(dirname "$0")/test-packages.txt")are skipped." >&2
    exit 0
fi
wanted=$(cat "$(dirname "$0")/test-packages.txt")
missing=""
known=""
for package in $wanted; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -z "$missing" ]; then exit 0; fi
as_root=""
if [ "$(id -u)" != 0 ]; then as_root="sudo"; fi
# Debian starts what it installs; a policy that says 101 (forbidden) keeps it from doing so.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -qq
for package in $missing; do
    if apt-cache show "$package" >/dev/null 2>&1; then known="$known $package"; else echo "apt has no $package here" >&2; fi
done
# shellcheck disable=SC2086 # words are packages
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $known
