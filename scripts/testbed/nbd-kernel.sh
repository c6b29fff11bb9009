#!/usr/bin/env bash
# nbd-kernel.sh   tries `backy2 nbd` with the kernel's client, as root in a guest of vm-run.sh. BACKY2: the program.
#
# A file system on a version is checked, mounted read-only and, over an overlay, read-write: by nbd-client and by
# --connect. The version stays as it is.
set -euo pipefail
BACKY2=${BACKY2:-./backy2}
check() { printf '%s\n' "== $*"; }
trap 'dmesg | tail -n 20; cat log' ERR
work=$(mktemp -d)
mount -t tmpfs tmp "$work"; cd "$work"
modprobe nbd nbds_max=4 max_part=0
printf 'repository = "%s/repository"\nstate_dir = "%s/state"\nkey_file = "%s/key"\n' "$work" "$work" "$work" >c.toml
(umask 077; head -c 32 /dev/urandom >key)
backy2() { "$BACKY2" -c c.toml "$@"; }
server=''
# serve ARGUMENT..: starts the server and waits until it says that it serves or is connected.
serve() {
  "$BACKY2" -c c.toml nbd "$@" 2>log & server=$!
  for _ in $(seq 100); do grep -qE 'Serving|is connected' log && return; sleep 0.1; done
  cat log; exit 1
}
stop() { kill "$server"; wait "$server" || { cat log; exit 1; }; server=''; }

check "make a file system and back it up"
truncate -s 96M image; mke2fs -q -t ext4 image
mkdir mnt; mount -o loop image mnt; cp -r /usr/lib/modules/*/kernel/fs /usr/bin/python3* mnt/; (cd mnt && find . -type f -exec md5sum {} + >../sums); umount mnt
backy2 init >/dev/null 2>&1; backy2 -m backup image fs

check "nbd-client, read-only, two connections"
serve -u "$work/socket" fs@latest
nbd-client -unix "$work/socket" -N fs@latest -C 2 /dev/nbd0 -R
cmp /dev/nbd0 image
e2fsck -fn /dev/nbd0
mount -o ro,noload /dev/nbd0 mnt; (cd mnt && md5sum --quiet -c ../sums); umount mnt
! dd if=/dev/zero of=/dev/nbd0 bs=4096 count=1 conv=fsync 2>/dev/null || exit 1
nbd-client -d /dev/nbd0
stop

check "--connect, with an overlay: write, trim, flush"
serve --overlay kept --connect /dev/nbd1 fs@latest
e2fsck -fp /dev/nbd1
mount -o discard /dev/nbd1 mnt
rm -r mnt/fs; for i in $(seq 20); do head -c 2M /dev/urandom >"mnt/file$i"; done; sync
(cd mnt && md5sum file* >../new); rm mnt/file1 mnt/file2; sed -i '/file[12]$/d' new
fstrim -v mnt; umount mnt
e2fsck -fn /dev/nbd1
! "$BACKY2" -c c.toml nbd --connect /dev/nbd1 fs@latest 2>second || exit 1
grep -q 'connected already' second
stop
[ ! -e /sys/block/nbd1/pid ]

check "the overlay is there again"
serve --overlay kept --connect /dev/nbd2 fs@latest
e2fsck -fn /dev/nbd2
mount -o ro /dev/nbd2 mnt; (cd mnt && md5sum --quiet -c ../new); umount mnt
nbd-client -d /dev/nbd2
wait "$server"; server=''

check "the version is what it was"
backy2 restore fs@latest restored 2>/dev/null
cmp restored image
printf 'All well.\n'
