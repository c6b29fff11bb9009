# shellcheck shell=bash
# How the benchmark drives each program. Sourced by run.sh, and by the child shell that runs one step.
#
# Each program has  NAME_init, NAME_backup VOLUME, NAME_restore VOLUME FILE, and perhaps NAME_hinted VOLUME HINTS.
# They use: R the repository's folder, S the source's path, W the work folder. Sources have a stable path and fresh
# times, so that no program can skip a file by its time stamp: a block device has none.

backy2_run() {
  BACKY2_PASSPHRASE_FILE="$W/passphrase" BACKY2_STATE_DIR="$W/state" XDG_CONFIG_HOME="$W/none" HOME="$W/none" \
    "$BACKY2" -c "$W/backy2.toml" "$@"
}
backy2_init() {
  mkdir -p "$R" "$W/state"
  printf 'benchmark\n' >"$W/passphrase"
  chmod 600 "$W/passphrase"
  printf 'repository = "file://%s"\nstate_dir = "%s"\n' "$R" "$W/state" >"$W/backy2.toml"
  backy2_run init
}
backy2_backup()  { backy2_run backup "file://$S" "$1"; }
backy2_hinted()  { backy2_run backup -r "$2" "file://$S" "$1"; }
# Without audit: what a made-up version says of unchanged blocks cannot be checked.
backy2_unaudited() { backy2_run backup --audit 0 -r "$2" "file://$S" "$1"; }
backy2_restore() { backy2_run restore "$1@latest" "file://$2"; }

restic_run()     { RESTIC_PASSWORD=benchmark RESTIC_CACHE_DIR="$W/state" restic -q -r "$R" "$@"; }
restic_init()    { restic_run init --repository-version 2; }
restic_backup()  { restic_run backup --tag "$1" --compression auto --host bench "$S"; }
restic_restore() { rm -rf "$W/out"; restic_run restore --tag "$1" latest --target "$W/out" && mv "$W/out$S" "$2"; }

# Fixed chunks of 4 MiB and --sparse: its fastest way, and the one that its manual advises for disk images.
borg_run() {
  BORG_PASSPHRASE=benchmark BORG_BASE_DIR="$W/state" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes \
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes borg "$@"
}
borg_init()    { borg_run init -e repokey-blake2 "$R"; }
borg_backup()  { borg_run create -C zstd,1 --chunker-params fixed,4194304 --sparse "$R::$1-$(date +%s%N)" "$S"; }
borg_restore() {
  local archive
  archive=$(borg_run list --short --last 1 --glob-archives "$1-*" "$R")
  rm -rf "$W/out"; mkdir "$W/out"
  (cd "$W/out" && borg_run extract --sparse "$R::$archive") && mv "$W/out$S" "$2"
}

# The floors: the least work that the step could be.
floor_compress()   { zstd -q -f -1 "-T$(nproc)" "$W/dense" -o "$W/floor.out"; }
floor_random()     { zstd -q -f -1 "-T$(nproc)" "$S" -o "$W/floor.out"; }
floor_hash()       { "$XTASK" floor hash "$S"; }
floor_zeros()      { "$XTASK" floor zeros "$S"; }
floor_decompress() { "$XTASK" floor decompress "$W/frames" "$W/restored.img"; }
