#!/usr/bin/env bash
# run_root.sh ROOT DATA COMMAND...: become the command, as a container engine starts it: in the root file system, which it
# cannot write, with its own /data and /tmp, and without privileges. Call it in a mount namespace of its own.
set -euo pipefail
root=$1 data=$2
shift 2
mount --bind "$root" "$root"
mount --bind "$data" "$root/data"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for each in null zero random urandom; do
    touch "$root/dev/$each"
    mount --bind "/dev/$each" "$root/dev/$each"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=10001:10001 "$root" "$@"
