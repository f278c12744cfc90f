#!/usr/bin/env bash
# build.sh COMMIT: build the wheel of an earlier commit in this folder, in place of the one that is there.
#
# The same commit gives the same bytes. Needs the pinned requirements of the tests: run it with their Python first in PATH.
set -euo pipefail
umask 022

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
commit=$(git -C "$folder" rev-parse --verify "$1^{commit}")
number=$(git -C "$folder" rev-list --count "$commit")
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

top=$(git -C "$folder" rev-parse --show-toplevel)
git -C "$top" archive "$commit" | tar --extract --directory "$source"
# No version was published at this commit: the number of the commit tells its program from a release.
sed --in-place "s/^__version__ = \"\(.*\)\"/__version__ = \"\1.dev$number\"/" "$source/discue/__init__.py"
SOURCE_DATE_EPOCH=$(git -C "$folder" log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
rm -f "$folder"/*.whl
python -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation --no-index \
    --wheel-dir "$folder" "$source"
sha256sum "$folder"/*.whl | sed "s#$folder/##"
