# shellcheck shell=bash
# shellcheck disable=SC2154 # the script that sources it sets work and image
# What the measurements of reads through a mount and a server share; to be sourced, with $work, $image and $BACKY2 set.

backy2() { "$BACKY2" -c "$work/c.toml" "$@"; }

# make_repository: a repository in $work whose key is a file.
make_repository() {
  printf 'repository = "%s/repository"\nstate_dir = "%s/state"\nkey_file = "%s/key"\n' "$work" "$work" "$work" >"$work/c.toml"
  (umask 077; head -c 32 /dev/urandom >"$work/key")
  backy2 init >/dev/null 2>&1
}

# make_large_versions: 100 versions called `large` of the image, made 100 GB large.
make_large_versions() {
  local number offset
  cp --sparse=always "$image" "$work/large"; truncate -s 100G "$work/large"
  backy2 -m backup "$work/large" large >/dev/null
  for number in $(seq 99); do
    offset=$((number * 5 * 1048576))
    head -c 1048576 /dev/urandom | dd of="$work/large" bs=1M seek=$((offset / 1048576)) conv=notrunc status=none
    printf '[{"offset": %s, "length": 1048576, "exists": "true"}]' "$offset" >"$work/hints"
    backy2 -m backup --audit 0 -r "$work/hints" "$work/large" large >/dev/null
  done
}

now() { date +%s.%N; }
# seconds COMMAND..: how long it takes.
seconds() { local begin; begin=$(now); "$@" >/dev/null; awk -v a="$begin" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }
row() { printf '%-34s %8s %8s\n' "$1" "$2" "$3"; }
# say_first_byte ROUND BEGIN: how long ago it began.
say_first_byte() { awk -v a="$2" -v b="$(now)" -v n="$1" 'BEGIN { printf "%s first byte, 100 versions, no state: %.2f s\n", n, b - a }'; }
