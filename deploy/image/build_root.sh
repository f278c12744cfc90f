#!/usr/bin/env bash
# build_root.sh ROOT [PYTHON] makes the root file system of the image in the empty folder ROOT.
#
# It has this Python without its tests and tools, the libraries that it loads, discue with its pinned dependencies, and
# nothing else: no shell, no package manager. deploy/Dockerfile calls it, and so does the test of the image, which
# needs no container engine. With OTEL=1 or S3=1, it also has the extra otel or s3. Needs ldd, strip, and the certificates of
# certification authorities.
set -euo pipefail
umask 022

root=$1
python=$(realpath "$(command -v "${2:-python3}")")
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Paths in the image are those of this machine: the interpreter finds its modules by them.
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
library=$prefix/lib/$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "discue and its dependencies"
pip() { "$python" -m pip --disable-pip-version-check --quiet --no-cache-dir "$@"; }
"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes \
    -r "$source/requirements/build.txt"
"$work/build/bin/python" -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation \
    --wheel-dir "$work/wheels" "$source" "$source/clients/python"
export PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=1
pip install --ignore-installed --no-compile --only-binary :all: --require-hashes --prefix "$root$prefix" \
    -r "$source/requirements/runtime.txt"
for extra in ${OTEL:+otel} ${S3:+s3}; do
    pip install --ignore-installed --no-compile --only-binary :all: --require-hashes --prefix "$root$prefix" \
        -r "$source/requirements/$extra.txt"
done
pip install --ignore-installed --no-compile --no-deps --no-index --prefix "$root$prefix" "$work"/wheels/*.whl

echo "Python"
mkdir -p "$root$library" "$root$prefix/bin" "$work/library"
cp -p "$prefix/bin/$version" "$root$prefix/bin/"
(
    cd "$library"
    cp -a lib-dynload "$root$library/"
    # What a server never imports.
    find . \( -name __pycache__ -o -path ./site-packages -o -path ./lib-dynload -o -path './config-*' -o -path ./test \
        -o -path ./idlelib -o -path ./tkinter -o -path ./turtledemo -o -path ./turtle.py -o -path ./ensurepip \
        -o -path ./pydoc_data -o -path ./_pyrepl -o -path ./unittest -o -path ./venv -o -path ./wsgiref -o -path ./xmlrpc \
        -o -path ./curses -o -path ./dbm -o -path ./doctest.py -o -path ./pdb.py -o -path ./pickletools.py -o -path ./mailbox.py \
        -o -path ./imaplib.py -o -path ./poplib.py -o -path ./cProfile.py -o -path ./profile.py -o -path ./pstats.py \) -prune -o -type f -name '*.py' -print0 \
        | tar --null --files-from - --create --file - | tar --extract --directory "$work/library"
)
# Interfaces of the desktop and of terminals, tests, other formats of small databases, and encodings of East Asia: all
# texts of the service are UTF-8.
(
    cd "$root$library/lib-dynload"
    rm -rf __pycache__ _test*.so _ctypes_test.* xx*.so _xx*.so _interp*.so _lsprof.* _tkinter.* _curses* readline.* _dbm.* _gdbm.* _codecs_* _multibytecodec.*
)
# The root is read-only: what is not compiled now would be compiled at each start.
compiled() { "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"; }
# Python finds its own modules in an archive, too, where they take a sixth of the space.
compiled -b -s "$work/library" -p "$library" "$work/library"
find "$work/library" -name '*.py' -delete
"$python" -m zipfile --create "$root$prefix/lib/${version/./}.zip" "$work"/library/*
# Headers and tests of dependencies, and what only builds and type checkers read.
packages=$root$library/site-packages
find "$packages" -type d \( -name tests -o -name include -o -name sboms -o -name sqlite_extra_binaries \) -prune -exec rm -rf {} +
find "$packages" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete
find "$root$prefix/bin" -type f ! -name "$version" ! -name discue -delete
compiled -s "$root" "$packages/discue" "$packages/discue_client"
# Dependencies have no sources, like Python's own modules: that saves several MB.
compiled -b -x '/site-packages/discue(_client)?/' -s "$root" "$packages"
find "$packages" -name '*.py' ! -path "$packages/discue/*" ! -path "$packages/discue_client/*" -delete

echo "libraries"
find "$root$prefix" -type f \( -name '*.so' -o -name '*.so.*' -o -path "*/bin/$version" \) -print0 \
    | LD_LIBRARY_PATH="$prefix/lib" xargs -0 ldd 2>/dev/null \
    | grep -oE '(=> )?/[^ ]+ \(0x' | sed -E 's/^=> //; s/ \(0x$//' | sort -u \
    | grep -v "^$root" >"$work/libraries"
# The C library loads it when a thread is cancelled.
ldconfig -p 2>/dev/null | sed -nE 's/.*libgcc_s\.so\.1 .*=> (.*)/\1/p' | head -n 1 >>"$work/libraries"
while read -r each; do
    mkdir -p "$root$(dirname "$each")"
    cp -pL "$each" "$root$each"
done <"$work/libraries"

find "$root" -type f \( -name '*.so' -o -name '*.so.*' -o -path "*/bin/$version" \) -print0 \
    | xargs -0 strip --strip-unneeded

echo "configuration"
mkdir -p "$root/etc/ssl/certs" "$root/data" "$root/backup" "$root/tmp" "$root/proc" "$root/dev" "$root/usr/local/bin"
chmod 1777 "$root/tmp"
cp -pL /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
ln -sf certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
echo 'discue:x:10001:10001::/data:/sbin/nologin' >"$root/etc/passwd"
echo 'discue:x:10001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
[ "$prefix" = /usr/local ] || ln -s "$prefix/bin/discue" "$root/usr/local/bin/discue"
# A new volume takes over the owner of the folder that it is mounted on.
chown 10001:10001 "$root/data" "$root/backup"
