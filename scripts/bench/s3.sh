#!/usr/bin/env bash
# s3.sh IMAGE   measures a bucket of a Ceph RGW that it starts: IMAGE up and down by backy2, rclone copy and restic, alternately
# in one run, each down from an empty state; requests as the server's log counts them. Then 100 versions, of which 99 have
# one change of 64 KiB, with hints: the time to list them, and to the first restored byte, without state.
#
# BACKY2: the program. OTHER: another build of it, measured beside. ROUNDS: 2, for the first part. CEPH: a folder of ceph-up.sh --rgw that runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
[ $# = 1 ] || fail "usage: s3.sh IMAGE"
need rclone=rclone restic=restic curl=curl python3=python3-minimal
image=$(readlink -f "$1")
rounds=${ROUNDS:-2}
BACKY2=$(readlink -f "${BACKY2:-$(target_folder)/release/backy2}")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/s3.XXXXXX")
ceph=${CEPH:-$work/ceph}
finish() { [ -n "${CEPH:-}" ] || scripts/testbed/ceph-down.sh "$ceph" --purge || true; rm -rf "$work"; }
trap finish EXIT
[ -n "${CEPH:-}" ] || scripts/testbed/ceph-up.sh "$ceph" --rgw >/dev/null
# shellcheck source=/dev/null
. "$ceph/env"
unset CEPH_CONF AWS_CA_BUNDLE
export no_proxy='*' RESTIC_PASSWORD=x RCLONE_CONFIG=/dev/null
bucket=bench$RANDOM$RANDOM
curl -sSf --aws-sigv4 aws:amz:us-east-1:s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
  -X PUT "$S3_ENDPOINT/$bucket"
head -c 32 /dev/urandom >"$work/key"; chmod 600 "$work/key"

# Requests that the server has answered up to now, whatever came of them.
requests() { sleep 0.3; grep -c ' beast: ' "$ceph/log/rgw.log"; }
# measure NAME COMMAND..: prints a row: seconds, requests, MiB resident.
measure() {
  local name=$1 before; shift
  before=$(requests)
  /usr/bin/time -f '%e %M' -o "$work/time" "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; fail "$name"; }
  awk -v name="$name" -v requests=$(($(requests) - before)) '{ printf "| %s | %.1f | %d | %d |\n", name, $1, requests, $2 / 1024 }' "$work/time"
}
# configure WHICH: a configuration with a state of its own.
configure() {
  printf 'repository = "s3://%s/%s"\ns3_endpoint = "%s"\ns3_access_key_id = "%s"\ns3_secret_access_key = "%s"\nstate_dir = "%s"\nkey_file = "%s"\n' \
    "$bucket" "$1" "$S3_ENDPOINT" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$work/state" "$work/key" >"$work/$1.toml"
}
fresh() { rm -rf "$work/state" "$work/restored"; }
restored() { cmp "$image" "$1" && rm -rf "$work/restored"; }

remote=":s3,provider=Ceph,env_auth=true,endpoint='$S3_ENDPOINT':$bucket/rclone"
say "load $(cut -d ' ' -f 1-3 /proc/loadavg)"
say '| what | seconds | requests | MiB resident |'
say '|---|--:|--:|--:|'
programs=("$BACKY2"); [ -z "${OTHER:-}" ] || programs+=("$OTHER")
for round in $(seq "$rounds"); do
  for program in "${programs[@]}"; do
    which="r$round$(basename "$program")"; configure "$which"; fresh
    "$program" -c "$work/$which.toml" init >/dev/null 2>&1
    measure "$(basename "$program") up" "$program" -c "$work/$which.toml" backup "$image" image; fresh
    measure "$(basename "$program") down" "$program" -c "$work/$which.toml" restore image@latest "$work/restored"; restored "$work/restored"
  done
  mkdir -p "$work/restored"
  measure "rclone up" rclone copyto "$image" "$remote$round/image"
  measure "rclone down" rclone copyto "$remote$round/image" "$work/restored/image"; restored "$work/restored/image"
  repository="s3:$S3_ENDPOINT/$bucket/restic$round"
  restic --no-cache -q -r "$repository" init >/dev/null
  measure "restic up" restic --no-cache -q -r "$repository" backup "$image"; mkdir -p "$work/restored"
  measure "restic down" restic --no-cache -q -r "$repository" restore latest --target "$work/restored"; restored "$work/restored$image"
  say "load $(cut -d ' ' -f 1-3 /proc/loadavg)"
done

which=many; configure "$which"; rm -rf "$work/state"
"$BACKY2" -c "$work/$which.toml" init >/dev/null 2>&1
cp "$image" "$work/changing"
"$BACKY2" -c "$work/$which.toml" -m backup "$work/changing" image >/dev/null
for version in $(seq 99); do
  at=$((version * 7 * 1048576))
  dd if=/dev/urandom of="$work/changing" bs=64K count=1 seek="$at" oflag=seek_bytes conv=notrunc status=none
  printf '[{"offset":%s,"length":65536,"exists":true}]' "$at" \
    | "$BACKY2" -c "$work/$which.toml" -m backup --audit 0 -r - "$work/changing" image >/dev/null
done
uid=$("$BACKY2" -c "$work/$which.toml" -ms ls -f uid | tail -n 1)
for _ in 1 2 3; do
  for program in "${programs[@]}"; do
    fresh; measure "$(basename "$program") ls of 100, no state" "$program" -c "$work/$which.toml" ls
    for named in image@latest "$uid"; do
      fresh; before=$(requests); start=$(date +%s.%N)
      "$program" -c "$work/$which.toml" restore "$named" "$work/restored" >/dev/null 2>&1 & job=$!
      until [ -e "$work/restored" ] && [ "$(stat -c %b "$work/restored")" -gt 0 ]; do sleep 0.01; done
      end=$(date +%s.%N)
      wait "$job"
      say "| $(basename "$program") first byte of $([ "$named" = "$uid" ] && echo a uid || echo a name), no state | $(awk -v a="$start" -v b="$end" 'BEGIN { printf "%.1f", b - a }') | $(($(requests) - before)) in all | |"
    done
  done
done
say "load $(cut -d ' ' -f 1-3 /proc/loadavg)"
