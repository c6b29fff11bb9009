#!/usr/bin/env bash
# vm-run.sh [--build-only] FOLDER 'COMMAND'   runs COMMAND as root in a throw-away Debian guest.
#
# The guest (qemu) has FOLDER mounted read-write on /mnt/shared, which is also the working directory; COMMAND's output is
# printed as it comes, its status is ours. It has device-mapper (thin, snapshot), nbd, loop, FUSE, ext4, xfs, a blank disk
# /dev/vdb, lvm2, nbd-client, nbdkit, libnbd-bin, fuse3. Nothing that is written outside FOLDER stays.
# Environment:
#   VM_CACHE     where the image is built once and kept [~/.cache/backy2-vm]
#   VM_PACKAGES  more Debian packages for the image (each set has an image of its own)
#   VM_MEM [1024] MiB   VM_CPUS [2]   VM_DISK [8G] size of /dev/vdb (sparse)
#   VM_TIMEOUT   seconds for boot and command together [900]
#   VM_ACCEL     kvm or tcg [kvm where the CPU has vmx or svm and /dev/kvm opens]
#   VM_FORWARD   TCP ports of the host's 127.0.0.1 that the guest reaches as host.testbed:PORT; no other network there
#   VM_ENV       names of variables to hand to COMMAND
#   VM_VERBOSE=1 prints how long it took, and the console when it fails
# Exit status: COMMAND's; 124 past VM_TIMEOUT; 125 when the guest or its image failed.
# shellcheck disable=SC1007,SC2054,SC2086,SC2317 # lists of words, lists of qemu's own, handlers
set -u
# shellcheck source=scripts/lib.sh
. "$(dirname "$(readlink -f "$0")")/../lib.sh"
PROG=$(basename "$0")
PATH=$PATH:/usr/sbin:/sbin
die() { printf '%s: error: %s\n' "$PROG" "$*" >&2; exit 125; }
BUILD=0
case ${1:-} in
  --build-only) BUILD=1; shift ;;
esac
[ "$BUILD" = 1 ] || [ $# = 2 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2; }
CACHE=${VM_CACHE:-$HOME/.cache/backy2-vm}
VIRTIOFSD=/usr/lib/qemu/virtiofsd
need qemu-system-x86_64=qemu-system-x86 busybox=busybox-static cpio=cpio
[ -e "$VIRTIOFSD" ] || die "there is no $VIRTIOFSD: install qemu-system-common"
# qemu-system-x86 may take a newer qemu-utils off the machine.
need qemu-img=qemu-utils

PKGS="lvm2 thin-provisioning-tools nbd-client nbdkit libnbd-bin kmod e2fsprogs xfsprogs util-linux fdisk mount procps iproute2 fuse3 ca-certificates python3-minimal"
PKGS=$(printf '%s\n' $PKGS ${VM_PACKAGES:-} | sort -u | paste -sd, -)
IMG=$CACHE/$(printf '%s' "v1 $PKGS" | sha256sum | cut -c1-16)

build() {
    need mmdebstrap=mmdebstrap mke2fs=e2fsprogs depmod=kmod
    local w k m
    w=$(mktemp -d "$CACHE/build.XXXXXX") || die "cannot write under $CACHE"
    # shellcheck disable=SC2064
    trap "rm -rf '$w'" EXIT; trap 'exit 143' TERM INT
    note "building the guest image once, in $IMG"
    k=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | sort -V | tail -n 1)
    if [ -z "$k" ]; then
        apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1
        k=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | sort -V | tail -n 1)
    fi
    [ -n "$k" ] || die "apt knows no linux-image-cloud-amd64: run apt-get update"
    (cd "$w" && apt-get -q -o APT::Sandbox::User=root download "$k" >"$w/log" 2>&1) || { cat "$w/log" >&2; die "cannot download $k"; }
    local src=()
    mapfile -t src < <(find /etc/apt -maxdepth 2 -type f \( -name '*.list' -o -name '*.sources' \) -exec grep -lE 'debian-archive-keyring|^deb .*\bmain\b' {} +)
    [ ${#src[@]} -gt 0 ] || die "no Debian source found in /etc/apt"
    nice -n 5 mmdebstrap --mode=root --variant=essential --include="$PKGS" --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$w/root" "${src[@]}" >"$w/log" 2>&1 || { tail -n 20 "$w/log" >&2; die "mmdebstrap failed"; }
    dpkg-deb -x "$w/$k"_*.deb "$w/kernel" || die "cannot unpack $k"
    mv "$w/kernel/boot"/vmlinuz-* "$w/vmlinuz"
    mv "$w/kernel/lib/modules" "$w/root/lib/modules"
    m=$(ls "$w/root/lib/modules")
    depmod -b "$w/root" "$m" || die "depmod failed"
    mkdir -p "$w/root/mnt/shared" "$w/ird/bin" "$w/ird/mod"
    rm -rf "$w/root/etc/resolv.conf" "$w/root"/var/cache/apt/* "$w/root"/var/lib/apt/lists/*
    printf 'testbed\n' >"$w/root/etc/hostname"
    printf '127.0.0.1 localhost testbed\n10.0.2.100 host.testbed\n' >"$w/root/etc/hosts"
    # no udevd and no dmeventd in the guest: lvm makes the device nodes itself
    cat >"$w/root/etc/lvm/lvmlocal.conf" <<'C'
activation { udev_sync = 0  udev_rules = 0  monitoring = 0 }
devices { use_devicesfile = 0  obtain_device_list_from_udev = 0  external_device_info_source = "none" }
C
    # initramfs: static busybox and the few modules that reach the root disk
    cp "$(command -v busybox)" "$w/ird/bin/busybox"
    local f
    for f in $(modprobe -d "$w/root" -S "$m" --show-depends -a virtio_pci virtio_blk virtiofs virtio_console 2>/dev/null | awk '$1 == "insmod" && !s[$2]++ {print $2}'); do
        cp "$f" "$w/ird/mod/" && basename "$f" >>"$w/ird/mod/order"
    done
    grep -q virtiofs "$w/ird/mod/order" || die "the kernel $k has no virtiofs module"
    cat >"$w/ird/init" <<'C'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /r /s
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r m; do insmod "/mod/$m" || echo "testbed: insmod $m failed"; done </mod/order
i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
mount -t ext4 /dev/vda /r || { echo "testbed: no root disk"; poweroff -f; }
mount -t virtiofs shared /r/mnt/shared || { echo "testbed: virtiofs mount failed"; poweroff -f; }
mount -t tmpfs run /r/run; cp -r /cmd /r/run/testbed
umount /proc /sys; mount --move /dev /r/dev
exec switch_root /r /run/testbed/init
C
    chmod +x "$w/ird/init"
    sed -i 's|^#!/bin/busybox sh|#!/bin/busybox sh\nPATH=/bin|' "$w/ird/init"
    (cd "$w/ird" && find . | cpio -o -H newc --quiet >"$w/initrd") || die "cpio failed"
    truncate -s 3G "$w/root.img"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$w/root" "$w/root.img" || die "mke2fs failed"
    mkdir "$w/done" && mv "$w/vmlinuz" "$w/initrd" "$w/root.img" "$w/done/" && echo "$k $PKGS" >"$w/done/about"
    mv -T "$w/done" "$IMG" || die "cannot move the image to $IMG"
    rm -rf "$w"; trap - EXIT
    note "image built: $(du -sh "$IMG" | cut -f1), kernel $k"
}
mkdir -p "$CACHE" || die "cannot make $CACHE"
if [ ! -e "$IMG/about" ]; then
    exec 9>"$CACHE/lock"; flock -w 1800 9 || die "another build holds $CACHE/lock"
    [ -e "$IMG/about" ] || build
    exec 9>&-
fi
[ $BUILD = 0 ] || { echo "$IMG"; exit 0; }

[ -d "$1" ] || die "no such directory: $1"
SHARED=$(readlink -f "$1")
if [ -z "${VM_ACCEL:-}" ]; then
    # A /dev/kvm alone says little: PVM offers one that runs no stock kernel.
    if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -r /dev/kvm ] && [ -w /dev/kvm ]; then VM_ACCEL=kvm; else VM_ACCEL=tcg; fi
fi
case $VM_ACCEL in
kvm) ACC=(-accel kvm -cpu host);;
*) ACC=(-accel tcg,thread=multi,tb-size=256 -cpu max);;
esac

T=$(mktemp -d "${TMPDIR:-/tmp}/vmrun.XXXXXX") || die "mktemp"
QEMU= VFSD= C1= C2=
cleanup() {
    local p
    for p in $QEMU $VFSD; do kill -KILL "$p" 2>/dev/null; done
    for p in $C1 $C2; do kill "$p" 2>/dev/null; done
    rm -rf "$T"
}
trap cleanup EXIT
trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p "$T/c/cmd"
printf '%s\n' "$2" >"$T/c/cmd/cmd"
cat >"$T/c/cmd/init" <<'C'
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb DM_DISABLE_UDEV=1 TESTBED_VM=1
mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run/lock/lvm /run/lvm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd; for i in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${i%:*}" "/dev/${i#*:}"; done
mount -t cgroup2 cg /sys/fs/cgroup
hostname testbed; ip link set lo up
modprobe -a dm_mod loop fuse
for p in /sys/class/virtio-ports/*; do ln -s "/dev/${p##*/}" "/run/testbed/port.$(cat "$p/name")"; done
if [ -e /run/testbed/net ]; then
    modprobe virtio_net; for i in 1 2 3 4 5; do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.2; done
    ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
fi
. /run/testbed/env
exec 3>/run/testbed/port.rc
cut -d' ' -f1 /proc/uptime >&3
cd /mnt/shared
setsid bash -c "$(cat /run/testbed/cmd)" </dev/null >/run/testbed/port.out 2>/run/testbed/port.err 3>&-
rc=$?
cd /; sync; umount /mnt/shared
echo "rc=$rc" >&3
sync; echo o >/proc/sysrq-trigger; sleep 30
C
chmod +x "$T/c/cmd/init"
for v in ${VM_ENV:-}; do [ -z "${!v+x}" ] || printf 'export %s=%q\n' "$v" "${!v}"; done >"$T/c/cmd/env"
NET=()
if [ -n "${VM_FORWARD:-}" ]; then
    : >"$T/c/cmd/net"
    n=user,id=n,restrict=on
    for p in $VM_FORWARD; do n+=",guestfwd=tcp:10.0.2.100:$p-cmd:$(command -v busybox) nc 127.0.0.1 $p"; done
    NET=(-netdev "$n" -device virtio-net-pci,netdev=n,romfile=)
fi
{ cat "$IMG/initrd"; (cd "$T/c" && find cmd | cpio -o -H newc --quiet); } >"$T/initrd"
truncate -s "${VM_DISK:-8G}" "$T/scratch.img"
mkfifo "$T/out" "$T/err"; : >"$T/rc"
T0=$(date +%s.%N)
"$VIRTIOFSD" --socket-path="$T/vfs.sock" -o source="$SHARED" -o cache=auto -o sandbox=chroot -o xattr -f >"$T/vfs.log" 2>&1 &
VFSD=$!
for ((i = 0; i < 100; i++)); do [ -S "$T/vfs.sock" ] && break; kill -0 $VFSD 2>/dev/null || break; sleep 0.1; done
[ -S "$T/vfs.sock" ] || { cat "$T/vfs.log" >&2; die "virtiofsd did not start"; }
cat "$T/out" & C1=$!
cat "$T/err" >&2 & C2=$!
M=${VM_MEM:-1024}
qemu-system-x86_64 "${ACC[@]}" -machine q35,memory-backend=mem -object memory-backend-memfd,id=mem,size="${M}M",share=on -m "$M" -smp "${VM_CPUS:-2}" \
    -nodefaults -no-user-config -display none -no-reboot -serial file:"$T/console" \
    -kernel "$IMG/vmlinuz" -initrd "$T/initrd" -append "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on" \
    -drive file="$IMG/root.img",format=raw,if=none,id=d0,snapshot=on,cache=unsafe -device virtio-blk-pci,drive=d0 \
    -drive file="$T/scratch.img",format=raw,if=none,id=d1,cache=unsafe,discard=unmap -device virtio-blk-pci,drive=d1,serial=scratch \
    -chardev socket,id=vfs,path="$T/vfs.sock" -device vhost-user-fs-pci,chardev=vfs,tag=shared \
    -device virtio-serial-pci -chardev file,id=o,path="$T/out" -device virtserialport,name=out,chardev=o,nr=1 \
    -chardev file,id=e,path="$T/err" -device virtserialport,name=err,chardev=e,nr=2 \
    -chardev file,id=r,path="$T/rc" -device virtserialport,name=rc,chardev=r,nr=3 "${NET[@]}" >"$T/qemu.log" 2>&1 </dev/null &
QEMU=$!
END=$(( SECONDS + ${VM_TIMEOUT:-900} ))
while kill -0 $QEMU 2>/dev/null; do
    if grep -q '^rc=' "$T/rc"; then # the guest is done: a moment to power off
        for ((i = 0; i < 100; i++)); do kill -0 $QEMU 2>/dev/null || break; sleep 0.05; done
        break
    fi
    [ $SECONDS -lt $END ] || { kill -KILL $QEMU; wait $QEMU 2>/dev/null; QEMU=; note "no end after ${VM_TIMEOUT:-900} s"; [ -z "${VM_VERBOSE:-}" ] || tail -n 30 "$T/console" >&2; exit 124; }
    sleep 0.1
done
kill -KILL $QEMU 2>/dev/null; wait $QEMU 2>/dev/null; QEMU=
RC=$(sed -n 's/^rc=//p' "$T/rc" | tr -d '\r')
if [ -z "$RC" ]; then
    cat "$T/qemu.log" "$T/vfs.log" >&2; tail -n 40 "$T/console" >&2
    die "the guest ended without a status"
fi
wait $C1 $C2; C1= C2=
[ -z "${VM_VERBOSE:-}" ] || note "$VM_ACCEL: guest uptime at command start $(sed -n 1p "$T/rc") s; in all $(awk -v a="$T0" -v b="$(date +%s.%N)" 'BEGIN{printf "%.1f", b-a}') s"
exit "$RC"
