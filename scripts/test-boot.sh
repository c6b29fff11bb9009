#!/usr/bin/env bash
# test-boot.sh   boots a Debian from a backup of it, over NBD, to its login prompt; then moves it to a disk of its own.
#
# 1. makes an image with Debian, once, in ~/.cache/backy2-vm (BOOT_CACHE), and backs it up;
# 2. serves the backup with `backy2 nbd --writable`, and boots a VM from it: it writes, the backup stays as it is;
# 3. boots again with the export as the backing file of a qcow2, and has qemu copy it over (block-stream) meanwhile; when
#    that is done, the server is stopped, and the VM goes on;
# 4. compares the backup with the image.
# Minutes long without KVM. BACKY2: the program to try, else the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
CACHE=${BOOT_CACHE:-$HOME/.cache/backy2-vm}
TIMEOUT=${BOOT_TIMEOUT:-900}
need qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils mmdebstrap=mmdebstrap mke2fs=e2fsprogs python3=python3-minimal
PATH=$PATH:/usr/sbin:/sbin
BACKY2=$(readlink -f "${BACKY2:-$(target_folder)/debug/backy2}")
[ -x "$BACKY2" ] || { need_rust; cargo build --locked --package backy2; }

image=$CACHE/boot-1
if [ ! -e "$image/done" ]; then
  say "== making a Debian image, once, in $image"
  mkdir -p "$CACHE"; rm -rf "$image"; mkdir "$image"
  sources=()
  mapfile -t sources < <(find /etc/apt -maxdepth 2 -type f \( -name '*.list' -o -name '*.sources' \) -exec grep -lE 'debian-archive-keyring|^deb .*\bmain\b' {} +)
  # shellcheck disable=SC2016 # mmdebstrap's own shell expands them
  as_root mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
    --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,kmod,e2fsprogs,login,procps \
    --customize-hook='echo backup-boot > "$1/etc/hostname"' --customize-hook='chroot "$1" passwd -d root' \
    --customize-hook='echo "/dev/vda / ext4 errors=remount-ro 0 1" > "$1/etc/fstab"' \
    "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$image/root" "${sources[@]}" </dev/null >"$image/log" 2>&1 \
    || { tail -n 20 "$image/log" >&2; fail "mmdebstrap failed."; }
  cp "$image"/root/boot/vmlinuz-* "$image/vmlinuz"; cp "$image"/root/boot/initrd.img-* "$image/initrd"
  truncate -s 2G "$image/disk.img"
  as_root mke2fs -q -t ext4 -d "$image/root" "$image/disk.img"
  as_root rm -rf "$image/root"
  touch "$image/done"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/boot.XXXXXX")
server=''; vm=''
finish() {
  [ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

say "== backing it up"
printf 'repository = "%s/repository"\nstate_dir = "%s/state"\nkey_file = "%s/key"\n' "$work" "$work" "$work" >"$work/c.toml"
(umask 077; head -c 32 /dev/urandom >"$work/key")
backy2() { "$BACKY2" -c "$work/c.toml" "$@"; }
backy2 init >/dev/null 2>&1
backy2 -m backup "$image/disk.img" debian
socket=$work/nbd
serve() {
  "$BACKY2" -c "$work/c.toml" nbd --writable -u "$socket" debian@latest 2>"$work/nbd.log" & server=$!
  for _ in $(seq 100); do [ -S "$socket" ] && return; sleep 0.1; done
  cat "$work/nbd.log" >&2; fail "the server did not start."
}
stop_server() {
  kill "$server"; wait "$server" || { cat "$work/nbd.log" >&2; fail "the server failed."; }
  server=''
  ! grep -E '^(warning|error)' "$work/nbd.log" || fail "the server complained."
}
accel=tcg,thread=multi
! { grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; } || accel=kvm

# boot DRIVE: starts a VM; its console is a log and a socket, its monitor a socket.
boot() {
  rm -f "$work/console" "$work/qmp" "$work/tty"
  qemu-system-x86_64 -accel "$accel" -m 768 -smp 2 -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$image/vmlinuz" -initrd "$image/initrd" -append 'root=/dev/vda rw console=ttyS0 quiet systemd.log_level=warning' \
    -drive "$1,if=none,id=disk,discard=unmap" -device virtio-blk-pci,drive=disk -device virtio-rng-pci \
    -chardev "socket,id=tty,path=$work/tty,server=on,wait=off,logfile=$work/console" -serial chardev:tty \
    -qmp "unix:$work/qmp,server=on,wait=off" >"$work/qemu.log" 2>&1 </dev/null & vm=$!
}
# await TEXT: waits until the console shows it.
await() {
  local end=$((SECONDS + TIMEOUT))
  until grep -aq "$1" "$work/console" 2>/dev/null; do
    kill -0 "$vm" 2>/dev/null || { cat "$work/qemu.log" >&2; tail -n 30 "$work/console" >&2; fail "the VM has ended."; }
    [ $SECONDS -lt $end ] || { tail -n 30 "$work/console" >&2; fail "no '$1' within $TIMEOUT seconds."; }
    sleep 0.5
  done
}
# tell LINE..: types lines at the console.
tell() { python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
for line in sys.argv[2:]:
    s.send((line + "\n").encode()); time.sleep(3)' "$work/tty" "$@"; }
# monitor JSON..: sends commands to qemu and prints the answers.
monitor() { python3 -c 'import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
f.readline()
for command in ["{\"execute\": \"qmp_capabilities\"}"] + sys.argv[2:]:
    f.write(command + "\n"); f.flush()
    while True:
        answer = json.loads(f.readline())
        if "event" not in answer: break
    if "error" in answer: sys.exit(answer["error"]["desc"])
print(json.dumps(answer["return"]))' "$work/qmp" "$@"; }
halt() {
  tell 'sync; echo o > /proc/sysrq-trigger'
  for _ in $(seq 240); do kill -0 "$vm" 2>/dev/null || break; sleep 0.5; done
  kill -KILL "$vm" 2>/dev/null || true; wait "$vm" 2>/dev/null || true; vm=''
}

say "== booting from the export"
serve
begin=$SECONDS
boot "file=nbd+unix:///?socket=$socket,format=raw"
await 'login:'
say "login prompt after $((SECONDS - begin)) s"
tell root 'dd if=/dev/urandom of=/root/file bs=1M count=8 && sync && cat /root/file | md5sum > /dev/null && echo it-"writes"'
await 'it-writes'
halt
stop_server

say "== booting now, copying later"
serve
qemu-img create -q -f qcow2 -F raw -b "nbd+unix:///?socket=$socket" "$work/disk.qcow2"
boot "file=$work/disk.qcow2,format=qcow2"
await 'login:'
monitor '{"execute": "block-stream", "arguments": {"job-id": "move", "device": "disk"}}' >/dev/null
begin=$SECONDS
while [ "$(monitor '{"execute": "query-block-jobs"}')" != '[]' ]; do
  [ $((SECONDS - begin)) -lt "$TIMEOUT" ] || fail "the copy does not end."
  sleep 1
done
say "copied over in $((SECONDS - begin)) s while the VM was running"
stop_server
tell root 'echo 3 > /proc/sys/vm/drop_caches; find /usr -type f -exec cat {} + > /dev/null && echo it-goes-"on"'
await 'it-goes-on'
halt
qemu-img info "$work/disk.qcow2" | grep -q 'backing file:' && fail "the disk still needs the backup."
qemu-img check -q "$work/disk.qcow2"
qemu-img convert -f qcow2 -O raw "$work/disk.qcow2" "$work/moved.img"
e2fsck -fy "$work/moved.img" >/dev/null || [ $? -le 1 ] || fail "the file system of the VM is damaged."

say "== the backup is what it was"
serve
qemu-img compare -f raw -F raw "$image/disk.img" "nbd+unix:///?socket=$socket"
stop_server
say "All well."
