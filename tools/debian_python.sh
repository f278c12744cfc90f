#!/usr/bin/env bash
# debian_python.sh VERSION FOLDER: unpack a Python that this Debian does not have, such as 3.14, from the next release.
#
# Nothing is installed: FOLDER gets the interpreter with the C library and the other libraries that it was built for.
# Fails if the next release has no such version. Needs apt, dpkg-deb and patchelf.
set -eu

version=$1 folder=$2
for program in apt-get dpkg-deb patchelf; do
    command -v "$program" >/dev/null || { echo "Python $version needs $program to be unpacked." >&2; exit 1; }
done
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | sort -u | head -n 1)
[ -n "$mirror" ] || { echo "Python $version: apt has no mirror of Debian." >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder/apt/parts" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
touch "$folder/apt/status"
cat >"$folder/apt/parts/next.sources" <<END
Types: deb
URIs: $mirror
Suites: testing
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
# A state of its own, in which nothing is installed: all that the interpreter needs is fetched.
get() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$folder/apt/parts" \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::State::status="$folder/apt/status" \
        -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
get update
get --yes --no-install-recommends --download-only install "python$version" libstdc++6 >/dev/null
for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder"
done
rm -rf "$folder/apt"
loader=$(find "$folder/usr/lib" -name 'ld-linux*' | head -n 1)
# What it loads later looks for its libraries here, too.
patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$(dirname "$loader")" "$folder/usr/bin/python$version"
"$folder/usr/bin/python$version" -c 'import ssl, sqlite3, ctypes, zlib'
