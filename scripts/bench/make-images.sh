#!/usr/bin/env bash
# make-images.sh FOLDER [SIZE]   builds the disk images that the benchmark backs up
#
#   day0.img       Debian on ext4 with a 512 MiB database file and some logs; SIZE (8G) virtual
#   day1.img       day0 after a day of use: packages, edited files, log growth, 5000 random page writes in the database
#   day2.img       day1 after another such day, with a package purged
#   vm2.img        the same base on another file system, with other packages and another database
#   random.img     2 GiB that do not compress
#   sparse.img     100 GiB virtual, 64 islands of 1 MiB that do not compress
#   hints-0-1.json hints-1-2.json   what changed, as `rbd diff --format json` prints it
#
# Needs root (loop mounts), a Debian mirror, and 25 GiB. What is done already is not done again. Seeds are fixed, but
# packages and time stamps move on: compare ratios and sizes across machines, not checksums.
#
# Environment: MIRROR=URL  the Debian mirror (default: the one that this machine uses)
#              SUITE=NAME  the Debian release in the images (default: bookworm)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
. scripts/lib.sh
[ $# -ge 1 ] || fail "usage: make-images.sh FOLDER [SIZE]"
size=${2:-8G}
mkdir -p "$1"
folder=$(realpath "$1")
mount_point="$folder/mnt"
database_mib=512 database_pages=5000
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive
PATH="$PATH:/usr/sbin:/sbin"

[ "$(id -u)" = 0 ] || fail "making the images mounts them: run it as root."
need_rust
need mmdebstrap=mmdebstrap mke2fs=e2fsprogs
cargo build --release --locked --quiet --package xtask
xtask="$(target_folder)/release/xtask"

is_done() { [ -e "$folder/.done-$1" ]; }
set_done() { touch "$folder/.done-$1"; say "$1 is done."; }

leave() {
  local below
  for below in dev proc sys ''; do
    ! mountpoint -q "$mount_point/$below" || umount "$mount_point/$below" || true
  done
}
trap leave EXIT

suite=${SUITE:-bookworm}
mirror=${MIRROR:-$(sed -n 's|^URIs: *\([^ ]*/debian\)/\{0,1\}$|\1|p; s|^deb  *\(http[^ ]*/debian\)/\{0,1\} .*|\1|p' \
  /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1 || true)}
mirror=${mirror:-http://deb.debian.org/debian}
base_packages=linux-image-amd64,systemd-sysv,openssh-server,apt-utils,locales,vim,less,man-db,python3,perl,git
base_packages+=,build-essential,rsyslog,cron,sudo,curl,ca-certificates,iproute2,nginx-light,sqlite3,logrotate,tzdata

mount_image() { mkdir -p "$mount_point"; mount -o loop,noatime,discard "$1" "$mount_point"; }
unmount_image() { sync -f "$mount_point"; umount "$mount_point"; }

# new_machine IMAGE UUID: a fresh file system with the base in it, mounted.
new_machine() {
  if [ ! -s "$folder/base.tar" ]; then
    mmdebstrap --format=tar --variant=standard --include="$base_packages" --aptopt='Apt::Install-Recommends "false"' \
      "$suite" "$folder/base.tar.part" "deb $mirror $suite main" >"$folder/mmdebstrap.log" 2>&1 ||
      fail "mmdebstrap: $(tail -n 1 "$folder/mmdebstrap.log")"
    mv "$folder/base.tar.part" "$folder/base.tar"
  fi
  rm -f "$1"
  truncate -s "$size" "$1"
  mke2fs -q -t ext4 -F -U "$2" -E "hash_seed=$2,lazy_itable_init=0" -L root "$1"
  mount_image "$1"
  tar -C "$mount_point" --numeric-owner --xattrs -xpf "$folder/base.tar"
  mkdir -p "$mount_point/srv/db" "$mount_point/home/dev" "$mount_point/var/log/nginx"
}

# in_machine LOG COMMAND..: runs a command inside the mounted image.
in_machine() {
  local log=$1 status=0
  shift
  mount -t proc proc "$mount_point/proc"
  mount -t sysfs sys "$mount_point/sys"
  mount --bind /dev "$mount_point/dev"
  cp -L /etc/resolv.conf "$mount_point/etc/resolv.conf" 2>/dev/null || true
  printf '#!/bin/sh\nexit 101\n' >"$mount_point/usr/sbin/policy-rc.d"
  chmod 755 "$mount_point/usr/sbin/policy-rc.d"
  # How apt reaches the mirror here (a proxy, perhaps) holds inside too.
  apt-config dump | grep -iE '^Acquire::https?::' >"$mount_point/etc/apt/apt.conf.d/99bench" || true
  chroot "$mount_point" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive \
    "http_proxy=${http_proxy:-}" "https_proxy=${https_proxy:-}" "$@" >>"$log" 2>&1 || status=$?
  rm -f "$mount_point/etc/apt/apt.conf.d/99bench" "$mount_point/usr/sbin/policy-rc.d"
  umount "$mount_point/dev" "$mount_point/sys" "$mount_point/proc"
  [ "$status" = 0 ] || fail "in the image, exit code $status: $*; see $log."
}

install_in() { in_machine "$1" apt-get -qq update; in_machine "$1" apt-get -qq -y --no-install-recommends install "${@:2}"; }

# day_of_use SEED: what a day leaves behind.
day_of_use() {
  local work="$mount_point/home/dev/work-$1"
  "$xtask" sample update "$mount_point/srv/db/main.db" "$database_pages" "$1"
  "$xtask" sample log "$mount_point/var/log/nginx/access.log" 60000 "$1"
  printf '10.0.0.7 host-%s\n' "$1" >>"$mount_point/etc/hosts"
  mkdir -p "$work"
  cp -r "$mount_point/usr/share/perl5/." "$work/"
  find "$work" -name '*.pm' | sort | awk 'NR % 3 == 0' | while read -r file; do echo "# $1" >>"$file"; done
}

if ! is_done day0; then
  new_machine "$folder/day0.img" 11111111-1111-4111-8111-111111111111
  "$xtask" sample database "$mount_point/srv/db/main.db" "$database_mib" vm1
  "$xtask" sample log "$mount_point/var/log/nginx/access.log" 400000 vm1
  unmount_image; set_done day0
fi
if ! is_done day1; then
  cp --sparse=always "$folder/day0.img" "$folder/day1.img"
  mount_image "$folder/day1.img"
  install_in "$folder/day1.log" redis-server python3-requests tcpdump strace htop
  day_of_use day1
  unmount_image; set_done day1
fi
if ! is_done day2; then
  cp --sparse=always "$folder/day1.img" "$folder/day2.img"
  mount_image "$folder/day2.img"
  in_machine "$folder/day2.log" apt-get -qq -y purge tcpdump
  install_in "$folder/day2.log" postgresql php-cli
  day_of_use day2
  rm -rf "$mount_point/home/dev/work-day1"
  unmount_image; set_done day2
fi
if ! is_done vm2; then
  new_machine "$folder/vm2.img" 22222222-2222-4222-8222-222222222222
  install_in "$folder/vm2.log" mariadb-server golang-go apache2
  "$xtask" sample database "$mount_point/srv/db/main.db" "$((database_mib / 4))" vm2
  "$xtask" sample log "$mount_point/var/log/nginx/access.log" 200000 vm2
  unmount_image; set_done vm2
fi
if ! is_done synth; then
  "$xtask" sample random "$folder/random.img" 2048 random
  rm -f "$folder/sparse.img"
  truncate -s 100G "$folder/sparse.img"
  "$xtask" sample islands "$folder/sparse.img" 64 sparse
  set_done synth
fi
if ! is_done hints; then
  "$xtask" hints "$folder/day0.img" "$folder/day1.img" >"$folder/hints-0-1.json"
  "$xtask" hints "$folder/day1.img" "$folder/day2.img" >"$folder/hints-1-2.json"
  set_done hints
fi
