#!/usr/bin/env bash
# run.sh   measures backy2 against the floors of this machine and against the peers that are installed (restic, borg)
#
# All in one run, on the same images, rounds outside and programs inside, so that a noisy minute hits all alike. Writes
# target/bench/results.tsv and prints Markdown. docs/performance.md explains the rows.
#
# Environment: IMAGES=FOLDER  images of make-images.sh (default target/bench/images; made when missing: root, 25 GiB)
#              WORK=FOLDER    where repositories and copies of the images lie (default /dev/shm when it has 18 GiB,
#                             so that the disk does not count; else target/bench/work)
#              ROUNDS=N       rounds (3); the table shows medians
#              TOOLS="..."    programs (backy2 restic borg, as far as installed)
#              STEPS="..."    steps (day0 again day1hint day1 day2 vm2 restore random zeros holes huge fragmented)
#              BACKY2=PROGRAM use this program instead of building one
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. scripts/bench/tools.sh
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
rounds=${ROUNDS:-3}
steps=${STEPS:-day0 again day1hint day1 day2 vm2 restore random zeros holes huge fragmented}
tools_file=$PWD/scripts/bench/tools.sh

need_rust
need /usr/bin/time=time zstd=zstd
target=$(target_folder)
cargo build --release --locked --quiet --package xtask
XTASK="$target/release/xtask"
if [ -z "${BACKY2:-}" ]; then
  cargo build --release --locked --package backy2
  BACKY2="$target/release/backy2"
fi
BACKY2=$(realpath "$BACKY2")
tools=()
for tool in ${TOOLS:-backy2 restic borg}; do
  if [ "$tool" = backy2 ] || has "$tool"; then tools+=("$tool"); else note "$tool is not installed and not measured."; fi
done

wants() { local step; for step in "$@"; do case " $steps " in *" $step "*) return 0 ;; esac; done; return 1; }
machine_steps=(day0 again day1hint day1 day2 vm2 restore)

mkdir -p "$target/bench"
images=${IMAGES:-$target/bench/images}
if wants "${machine_steps[@]}" random holes; then
  for image in day0 day1 day2 vm2 random sparse; do
    [ -e "$images/$image.img" ] || { note "$images/$image.img is not there."; scripts/bench/make-images.sh "$images"; break; }
  done
  images=$(realpath "$images")
fi
results="$target/bench/results.tsv"
[ ! -e "$results" ] || mv "$results" "$results.before"
printf 'tool\tround\tstep\twall_s\tuser_s\tsys_s\trss_kib\tstored_bytes\tadded_bytes\tstatus\tother_cpu_percent\n' >"$results"

room_mib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }'; }
memory_mib() { awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo; }
if [ -n "${WORK:-}" ]; then base=$WORK
elif [ "$(room_mib /dev/shm || echo 0)" -ge 18000 ] && [ "$(memory_mib)" -ge 18000 ]; then base=/dev/shm
else base="$target/bench"; note "too little memory for the work folder: the disk counts in all times."
fi
mkdir -p "$base"
need_space "$base" 15000
W=$(mktemp -d "$(realpath "$base")/backy2-bench.XXXXXX")
R="$W/repository" S="$W/source/disk.img"
export W R S BACKY2 XTASK
mkdir -p "$W/source" "$W/images"
leave() {
  ! mountpoint -q "$W/xfs" || umount "$W/xfs" || true
  rm -rf "$W"
}
trap leave EXIT
trap 'exit 130' INT TERM
say "Work folder: $W. Programs: ${tools[*]}. Rounds: $rounds."

bring() { [ -e "$W/images/$1.img" ] || cp --sparse=always "$images/$1.img" "$W/images/$1.img"; }
stored_bytes() { if [ -e "$R" ]; then du -sB1 "$R" | cut -f1; else echo 0; fi; }
busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }

# use IMAGE: makes it the source, with new times, and reads it into the page cache.
use() {
  bring "$1"
  ln -f "$W/images/$1.img" "$S"
  touch "$S"
  "$XTASK" floor hash "$S" >/dev/null
}

# measure TOOL STEP FUNCTION ARGUMENT..: runs a function of tools.sh in a shell of its own, and adds a line of results.
measure() {
  local tool=$1 step=$2 before ticks status=0 after
  shift 2
  before=$(stored_bytes)
  ticks=$(busy_ticks)
  # shellcheck disable=SC2016  # the inner shell expands it
  /usr/bin/time -q -o "$W/time" -f '%e %U %S %M' \
    timeout -k 10 1800 bash -c '. "$1"; shift; "$@"' - "$tools_file" "$@" >"$W/log" 2>&1 </dev/null || status=$?
  ticks=$(($(busy_ticks) - ticks))
  after=$(stored_bytes)
  awk -v tool="$tool" -v round="$round" -v step="$step" -v after="$after" -v added=$((after - before)) \
    -v status="$status" -v ticks="$ticks" -v cores="$(nproc)" -v hertz="$(getconf CLK_TCK)" 'END {
      other = (ticks / hertz - $2 - $3) / ($1 + 0.01) / cores * 100
      OFS = "\t"; print tool, round, step, $1, $2, $3, $4, after, added, status, int(other < 0 ? 0 : other > 100 ? 100 : other) }' \
    "$W/time" | tee -a "$results"
  if [ "$status" != 0 ]; then note "$tool $step: exit code $status: $(tail -n 3 "$W/log")"; fi
  return 0
}
fresh() {
  rm -rf "$R" "$W/state" "$W/out"
  ("${1}_init") >"$W/log" 2>&1 </dev/null || fail "$1 init: $(tail -n 3 "$W/log")"
}
# aside / back: keeps a copy of repository and state, and goes back to it.
aside() { rm -rf "$W/aside"; mkdir "$W/aside"; cp -a "$R" "$W/state" "$W/aside/"; }
back()  { rm -rf "$R" "$W/state"; mv "$W/aside/"* "$W/"; }

floors() {
  if wants day0; then
    bring day0
    [ -e "$W/dense" ] || "$XTASK" floor dense "$W/images/day0.img" "$W/dense" >/dev/null
    measure floor day0 floor_compress
    rm -f "$W/floor.out" "$W/dense"
  fi
  if wants again; then use day0; measure floor again floor_hash; fi
  if wants restore; then
    bring day1
    "$XTASK" floor compress "$W/images/day1.img" "$W/frames" 16384 >/dev/null
    measure floor restore floor_decompress
    rm -f "$W/restored.img"
    "$XTASK" floor compress "$W/images/day1.img" "$W/frames" >/dev/null
    measure floor-1MiB restore floor_decompress
    rm -f "$W/restored.img" "$W/frames"
  fi
}

machines() {
  local tool=$1
  fresh "$tool"
  use day0
  measure "$tool" day0 "${tool}_backup" vm1
  if wants again; then use day0; measure "$tool" again "${tool}_backup" vm1; fi
  if wants day1hint && [ "$(type -t "${tool}_hinted")" = function ]; then
    aside
    use day1
    measure "$tool" day1hint "${tool}_hinted" vm1 "$images/hints-0-1.json"
    back
  fi
  if wants day1 || wants restore || wants day2; then use day1; measure "$tool" day1 "${tool}_backup" vm1; fi
  if wants restore; then
    measure "$tool" restore "${tool}_restore" vm1 "$W/restored.img"
    cmp "$W/restored.img" "$W/images/day1.img" || fail "$tool restored something else than was backed up."
    rm -rf "$W/restored.img" "$W/out"
  fi
  if wants day2; then use day2; measure "$tool" day2 "${tool}_backup" vm1; fi
  if wants vm2; then use vm2; measure "$tool" vm2 "${tool}_backup" vm2; fi
}

# single IMAGE STEP FLOOR: an image of its own, into fresh repositories; the copy is removed afterwards.
single() {
  local tool
  use "$1"
  [ "$3" = - ] || measure floor "$2" "$3"
  rm -f "$W/floor.out"
  for tool in "${tools[@]}"; do
    # 100 GiB of holes take most peers minutes; only those that skip holes are asked.
    if [ "$2" = holes ] && [ "$tool" = restic ]; then continue; fi
    fresh "$tool"
    use "$1"
    measure "$tool" "$2" "${tool}_backup" "$1"
    rm -rf "$R"
  done
  rm -f "$S" "$W/images/$1.img"
}

# xfs BYTES: makes the source a sparse file of that size, on a file system that can.
xfs() {
  rm -f "$W/xfs.img"; truncate -s 4G "$W/xfs.img"; mkdir -p "$W/xfs"
  mkfs.xfs -q "$W/xfs.img"
  mount -o loop "$W/xfs.img" "$W/xfs"
  S="$W/xfs/disk.img"
  truncate -s "$1" "$S"
}
no_xfs() {
  umount "$W/xfs"
  rm -rf "$R" "$W/xfs.img"
  S="$W/source/disk.img"
}

# huge: 1 GiB changed, with hints, in a volume of 10 GB and in one of 200 TB, sparse files on a file system that can.
huge() {
  local size name
  if [ "$(id -u)" != 0 ] || ! has mkfs.xfs; then
    say "skipped: the 200 TB volume needs root and xfsprogs."
    return
  fi
  for size in 10G:small 200T:huge; do
    name=${size#*:}
    xfs "${size%:*}"
    fresh backy2
    measure backy2 "$name-empty" backy2_backup volume
    "$XTASK" sample islands "$S" 1024 changed
    "$XTASK" hints - "$S" >"$W/hints.json"
    measure backy2 "$name" backy2_hinted volume "$W/hints.json"
    no_xfs
  done
}

# fragmented: the same on top of a version whose map says that all of the volume is allocated, in pieces of 1 to 16
# blocks, and in single blocks; 1 GiB in 1,024 runs, and in 65,536 blocks far from each other.
fragmented() {
  local size bytes name piece sample round
  if [ "$(id -u)" != 0 ] || ! has mkfs.xfs; then
    say "skipped: the fragmented volumes need root and xfsprogs."
    return
  fi
  cargo test --locked --quiet --package backy2-engine --lib --no-run
  for piece in 16 1; do
    for size in 9932111872:small 199999983976448:huge; do
      bytes=${size%:*} name=${size#*:}
      xfs "$bytes"
      fresh backy2
      BACKY2_FRAGMENTED_REPOSITORY=$R BACKY2_FRAGMENTED_STATE="$W/state" BACKY2_FRAGMENTED_PASSPHRASE=benchmark \
        BACKY2_FRAGMENTED_BYTES=$bytes BACKY2_FRAGMENTED_PIECE=$piece \
        cargo test --locked --quiet --package backy2-engine --lib fragmented -- --ignored >"$W/log" 2>&1 ||
        fail "the fragmented version could not be made: $(tail -n 3 "$W/log")"
      for sample in islands lone; do
        if [ "$sample" = islands ]; then "$XTASK" sample islands "$S" 1024 changed
        else
          truncate -s 0 "$S"; truncate -s "$bytes" "$S"
          "$XTASK" sample lone "$S" 65536 lone
        fi
        "$XTASK" hints - "$S" >"$W/hints.json"
        for round in $(seq "$rounds"); do
          cp -al "$R" "$W/repository.kept"; cp -a "$W/state" "$W/state.kept"
          measure backy2 "$name-$piece-$sample" backy2_unaudited volume "$W/hints.json"
          rm -rf "$R" "$W/state"; mv "$W/repository.kept" "$R"; mv "$W/state.kept" "$W/state"
        done
      done
      no_xfs
    done
  done
}

if wants "${machine_steps[@]}"; then
  for round in $(seq "$rounds"); do
    floors
    for tool in "${tools[@]}"; do machines "$tool"; rm -rf "$R" "$W/state"; done
  done
fi
round=1
rm -rf "$W/images"; mkdir "$W/images"
if wants random; then single random random floor_random; fi
if wants zeros; then head -c 2G /dev/zero >"$W/images/zeros.img"; single zeros zeros floor_zeros; fi
if wants holes; then single sparse holes -; fi
if wants huge && [ "${tools[0]}" = backy2 ]; then huge; fi
if wants fragmented && [ "${tools[0]}" = backy2 ]; then fragmented; fi

if wants day2 && wants vm2; then
  say "Computing what 16 KiB blocks have to take."
  "$XTASK" floor study "$images"/{day0,day1,day2,vm2}.img >"$target/bench/study.tsv"
else
  : >"$target/bench/study.tsv"
fi
scripts/bench/table.sh "$results" "$target/bench/study.tsv" | tee "$target/bench/results.md"
say; say "Raw figures: $results"
