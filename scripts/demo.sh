#!/usr/bin/env bash
# demo.sh   backs up a real disk image, changes it, backs it up again with hints, restores both versions, compares.
#
# The image is an ext4 file system of 8 GiB (sparse) with at least 1 GiB of this machine's own Debian files from /usr.
# Everything happens in a folder of its own, target/demo, which is removed at the end; no configuration of yours is read
# or changed. Needs no root, except to install missing Debian packages.
#
# Environment: KEEP=1  keep the folder and say where it is
#              DEMO_FOLDER=FOLDER  work there instead (must not exist yet)
#              BACKY2=PROGRAM  use this program instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
export LC_ALL=C.UTF-8
readonly DATA_MIB=1100 CHANGE_MIB=50 NEEDED_MIB=5000

need_rust
need mke2fs=e2fsprogs debugfs=e2fsprogs
PATH="$PATH:/usr/sbin:/sbin"

say "== Building backy2"
target=$(target_folder)
if [ -z "${BACKY2:-}" ]; then
  cargo build --release --locked --package backy2
  BACKY2="$target/release/backy2"
fi
BACKY2=$(realpath "$BACKY2")
cargo build --release --locked --quiet --package xtask

folder=${DEMO_FOLDER:-$target/demo}
if [ -e "$folder" ]; then
  [ -e "$folder/made-by-the-demo" ] || fail "$folder exists and is not an earlier demo. Remove it, or set DEMO_FOLDER."
  rm -rf "$folder"
fi
mkdir -p "$folder"
folder=$(realpath "$folder")
touch "$folder/made-by-the-demo"
finish() {
  local status=$?
  if [ "${KEEP:-0}" = 1 ]; then say "Kept: $folder"; else rm -rf "$folder"; fi
  [ "$status" = 0 ] || say "The demo FAILED (exit code $status)." >&2
}
trap finish EXIT
need_space "$folder" "$NEEDED_MIB"

sources=(/usr "$(rustc --print sysroot)" "${CARGO_HOME:-$HOME/.cargo}/registry/src" "$target/release/deps")
cd "$folder"

# The demo's own configuration and state: nothing of yours is touched.
export HOME="$folder/home" XDG_CONFIG_HOME="$folder/home/.config" XDG_STATE_HOME="$folder/home/.state" TMPDIR="$folder"
export BACKY2_STATE_DIR="$folder/state" BACKY2_PASSPHRASE_FILE="$folder/passphrase"
mkdir -p home state store
cat >backy2.toml <<TOML
repository = "file://$folder/store"
state_dir = "$folder/state"
TOML
(umask 077; head -c 24 /dev/urandom | base64 >passphrase)

rows=()
milliseconds() { date +%s%3N; }

bold='' plain=''
[ ! -t 1 ] || { bold=$'\033[1m'; plain=$'\033[0m'; }
exec 3>&1

# show COMMAND..: prints a command the way one would type it, and runs it.
show() {
  local words
  printf -v words '%q ' "$@"
  words=${words//"$BACKY2"/backy2}
  words=${words//"$target/release/xtask"/cargo xtask}
  printf '\n%s$ %s%s\n' "$bold" "${words% }" "$plain" >&3
  "$@"
}

# step WHAT COMMAND..: the same, and keeps seconds and what the store grew by for the table at the end.
step() {
  local what=$1 began before
  shift
  before=$(du -sB1 store | cut -f1)
  began=$(milliseconds)
  show "$@"
  rows+=("$(printf '%s\t%s\t%s' "$what" "$(($(milliseconds) - began))" "$(($(du -sB1 store | cut -f1) - before))")")
}
backy() { step "$1" "$BACKY2" -c backy2.toml "${@:2}"; }
look() { show "$BACKY2" -c backy2.toml "$@"; }

# uid NAME: the whole uid of the newest version of that name.
uid() { "$BACKY2" -c backy2.toml -m -s ls -f uid "$1" | tail -n 1; }

# choose MIB FOLDER..: readable files of these folders until they have that size; skips huge ones and odd names.
choose() {
  local mib=$1
  shift
  { find "$@" -xdev \( -path /usr/local -o -path '*/.git' \) -prune -o -type f -readable -size -200M -printf '%s\t%p\n' 2>/dev/null || true; } |
    awk -F '\t' -v mib="$mib" 'NF == 2 && $2 ~ /^[A-Za-z0-9_.+\/-]+$/ && sum < mib * 1048576 { sum += $1; print $2 }'
}

say; say "== A disk image: ext4, 8 GiB, with files of this machine"
choose "$DATA_MIB" "${sources[@]}" >files.txt
mkdir tree
tar -C / --verbatim-files-from --ignore-failed-read -T files.txt -cf - 2>/dev/null | tar -C tree --no-same-owner -xf - || true
data_mib=$(du -sm tree | cut -f1)
[ "$data_mib" -ge 100 ] || fail "could not collect files for the image."
[ "$data_mib" -ge 1024 ] || note "this machine has only $data_mib MiB of files to show; the demo goes on with them."
truncate -s 8G monday.img
show mke2fs -q -t ext4 -F -L demo -E root_owner=0:0 -d tree monday.img
# The change needs files of its own: some of those that the image has already, twisted, so that they are new.
mkdir new
choose "$CHANGE_MIB" tree | awk '{ print NR "\t" $0 }' >new.txt
while IFS=$'\t' read -r number path; do tr 'a-zA-Z' 'b-zaB-ZA' <"$path" >"new/$number"; done <new.txt
head -n 40 files.txt >overwritten.txt
rm -rf tree
say "$(mib monday.img) MiB of data in $(($(stat -c %s monday.img) >> 30)) GiB."

say; say "== Monday: a repository, and the first backup"
backy "init" init
backy "first backup" backup "file://$folder/monday.img" demo --snapshot-name monday
monday=$(uid demo)
look ls

say; say "== Tuesday: the image has changed"
cp --sparse=always --reflink=auto monday.img tuesday.img
{
  printf 'mkdir /added\ncd /added\n'
  while IFS=$'\t' read -r number _; do printf 'write new/%s %s\n' "$number" "$number"; done <new.txt
  while read -r path; do printf 'cd %s\nrm %s\nwrite new/1 %s\n' "${path%/*}" "${path##*/}" "${path##*/}"; done <overwritten.txt
} >changes.txt
show debugfs -w -f changes.txt tuesday.img >changes.log 2>&1 || fail "debugfs: $(tail -n 1 changes.log)"
! grep -v -e '^debugfs' -e '^Allocated inode: ' -e '^$' changes.log || fail "debugfs could not change the image."
say "$(wc -l <new.txt) files written, $(wc -l <overwritten.txt) replaced."
say "The hints: what changed, as \`rbd diff --format json\` would say it for a Ceph image."
show "$target/release/xtask" hints monday.img tuesday.img >hints.json
rm -rf new
mv monday.img monday.reference && mv tuesday.img monday.img    # a disk keeps its name

say; say "== Tuesday: the second backup reads only what the hints name"
backy "second backup, with hints" backup -r hints.json "file://$folder/monday.img" demo --snapshot-name tuesday
tuesday=$(uid demo)
if [ -z "$monday" ] || [ -z "$tuesday" ] || [ "$monday" = "$tuesday" ]; then fail "the two versions are not there."; fi
look ls
look stats

# compare VERSION DAY REFERENCE: restores, compares with the image as it was, checks the file system.
compare() {
  backy "restore $2" restore "$1" "file://$folder/restored.img"
  show cmp restored.img "$3" || fail "what was restored is not what was backed up."
  say "Equal, bit for bit. $(mib restored.img) MiB on the disk."
  show e2fsck -fn restored.img >e2fsck.log 2>&1 || fail "e2fsck: $(tail -n 3 e2fsck.log)"
  rm -f restored.img
}
say; say "== At three in the morning: both versions come back"
compare "$tuesday" "Tuesday" monday.img
mv monday.reference reference.img
compare "$monday" "Monday" reference.img

say; say "== What happened"
printf '%-28s %9s %14s\n' step seconds "store grew MiB"
for row in "${rows[@]}"; do
  IFS=$'\t' read -r what took grew <<<"$row"
  awk -v w="$what" -v t="$took" -v g="$grew" 'BEGIN { printf "%-28s %9.1f %14.1f\n", w, t / 1000, g / 1048576 }'
done
printf '%-28s %9s %14s\n' "image: data, store" "$(mib reference.img)" "$(mib store)"
say "Both versions were restored bit for bit."
