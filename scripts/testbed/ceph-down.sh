#!/bin/bash
# ceph-down.sh DIR [--purge]: stops what ceph-up.sh DIR started (by pid file);
# --purge also deletes DIR. Safe to call when nothing runs.
# shellcheck source=scripts/testbed/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
DIR='' PURGE=0
for a; do case $a in --purge) PURGE=1;; -*) die "unknown option $a";; *) DIR=$a;; esac; done
[ -n "$DIR" ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
[ -d "$DIR" ] || exit 0
DIR=$(readlink -f "$DIR")
[ -e "$DIR/ceph.conf" ] || [ ! -e "$DIR/run" ] || die "$DIR holds no ceph.conf: not a directory of ceph-up.sh"
for d in rgw mgr osd mon; do
    stop_pid "$DIR/run/$d.pid" "$DIR/ceph.conf" TERM 30
done
if [ $PURGE = 1 ]; then
    { [ -e "$DIR/ceph.conf" ] && [ -d "$DIR/mon.a" ]; } || die "$DIR is not a directory of ceph-up.sh: not deleted"
    rm -rf "$DIR"
fi
exit 0
