#!/bin/sh
# What a tag becomes, as outputs of a step of GitHub Actions: its version and the name of its image. A tag that is not the
# version of this commit becomes nothing.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
if [ "$GITHUB_REF_NAME" != "v$version" ]; then
    echo "The tag $GITHUB_REF_NAME is not v$version, as pyproject.toml says: set the version there, then tag that commit." >&2
    exit 1
fi
echo "version=$version"
echo "image=ghcr.io/$(echo "$GITHUB_REPOSITORY" | tr '[:upper:]' '[:lower:]')" # registries take no upper case
