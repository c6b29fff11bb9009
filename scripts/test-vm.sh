#!/usr/bin/env bash
# test-vm.sh   tries what needs a kernel of its own (or would endanger this one), in a throw-away guest; minutes without KVM.
# BACKY2: the program to try, else the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
BACKY2=${BACKY2:-$(target_folder)/debug/backy2}
[ -x "$BACKY2" ] || { need_rust; cargo build --locked --package backy2; }
shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT
cp "$BACKY2" "$shared/backy2"
cp scripts/testbed/nbd-kernel.sh "$shared/"
say "== the kernel's client of NBD"
scripts/testbed/vm-run.sh "$shared" 'BACKY2=/mnt/shared/backy2 ./nbd-kernel.sh'
