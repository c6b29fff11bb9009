#!/usr/bin/env bash
# fuse.sh IMAGE   measures reads through `backy2 fuse` against bindfs passing the restored image through, alternately in one run.
#
# Sequential: dd, 1 MiB at a time. Random: 4 KiB, 16 at once, by fio. Cold: a new mount; for bindfs past the page cache.
# Served: what the program has in memory, past the page cache of the mount. Cached: the kernel has it. Then the time from the
# command to the first byte, with 100 versions of the image made 100 GB large and no state. BACKY2: the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. scripts/bench/reads.sh
[ $# = 1 ] || fail "usage: fuse.sh IMAGE"
need bindfs=bindfs fio=fio
image=$(readlink -f "$1")
rounds=${ROUNDS:-3}
BACKY2=$(readlink -f "${BACKY2:-$(target_folder)/release/backy2}")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/fuse.XXXXXX")
finish() { umount -l "$work/mnt" 2>/dev/null || true; umount -l "$work/bind" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
mkdir "$work/mnt" "$work/bind" "$work/raw"
make_repository
backy2 -m backup "$image" image >/dev/null
backy2 restore image@latest "$work/raw/data" >/dev/null 2>&1

ours() { backy2 fuse --daemon --cache-size "$1" "$work/mnt" 2>/dev/null; file=$work/mnt/by_name/image/latest/data; }
theirs() { bindfs "$work/raw" "$work/bind"; file=$work/bind/data; }
stop() { umount "$1"; }
drop() { dd if="$work/raw/data" iflag=nocache count=0 status=none; }
sequential() { seconds dd if="$file" of=/dev/null bs=1M status=none "$@"; }
random() { seconds fio --name=r --filename="$file" --readonly --rw=randread --bs=4k --ioengine=libaio --iodepth=16 --direct=1 --number_ios="$1" --randseed=7; }

row "seconds" "backy2" "bindfs"
for round in $(seq "$rounds"); do
  ours 128MiB; a=$(sequential); b=$(sequential); stop "$work/mnt"
  drop; theirs; c=$(sequential); d=$(sequential); stop "$work/bind"
  row "$round sequential, cold" "$a" "$c"
  row "$round sequential, cached" "$b" "$d"
  ours 4GiB; sequential iflag=direct >/dev/null; a=$(sequential iflag=direct); b=$(random 20000); stop "$work/mnt"
  theirs; sequential iflag=direct >/dev/null; c=$(sequential iflag=direct); d=$(random 20000); stop "$work/bind"
  row "$round sequential, served" "$a" "$c"
  row "$round 20,000 random 4 KiB, served" "$b" "$d"
  ours 128MiB; a=$(random 5000); stop "$work/mnt"
  drop; theirs; c=$(random 5000); stop "$work/bind"
  row "$round 5,000 random 4 KiB, cold" "$a" "$c"
done

make_large_versions
for round in $(seq "$rounds"); do
  rm -rf "$work/state"
  begin=$(now); backy2 fuse --daemon "$work/mnt" 2>/dev/null
  dd if="$work/mnt/by_name/large/latest/data" of=/dev/null bs=4096 skip=256 count=1 status=none
  say_first_byte "$round" "$begin"
  stop "$work/mnt"
done
