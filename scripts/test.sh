#!/usr/bin/env bash
# test.sh [--s3] [--long]   runs all tests and ends with the line "N passed, N failed, N skipped".
#
# --s3    runs only the tests of s3://, against the server that the environment names; test-s3.sh starts one.
# --long  runs the long tests too (those marked `#[ignore]`), with BACKY2_TEST_LONG=1 in the environment.
#
# A test that cannot run on this machine prints a line that begins with "skipped: " and its reason, and returns. It
# counts as skipped here, not as passed. Uses cargo-nextest when it is installed, else cargo test.
# Exit code: 0 when all tests passed, 1 when one failed or when none ran.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

long=no; s3=no
for argument; do
  case $argument in
    --long) long=yes ;;
    --s3) s3=yes ;;
    *) fail "usage: test.sh [--s3] [--long]" ;;
  esac
done
what=(--workspace)
skip=()
if [ "$s3" = yes ]; then
  what=(-p backy2-store -p backy2-engine -p backy2)
  for name in s3 s3_network s3_real scenario sim torture; do what+=(--test "$name"); done
  # Of simulation and torture only what runs in a bucket.
  skip=(--skip whatever_the_seed --skip one_seed_for_long --skip is_lost_whatever_runs)
fi
need_rust
export LC_ALL=C.UTF-8 CARGO_TERM_COLOR=never
[ "$long" = no ] || export BACKY2_TEST_LONG=1

# Clients that are tried with `backy2 nbd`.
want qemu-img=qemu-utils qemu-io=qemu-utils nbdinfo=libnbd-bin nbdcopy=libnbd-bin nbdsh=python3-libnbd nbdkit=nbdkit openssl=openssl
want nbdfuse=libnbd-bin fusermount3=fuse3
# What tries the files of `backy2 fuse`.
want fio=fio mkfs.ext4=e2fsprogs

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
passed=0; failed=0; ignored=0; status=0
: >"$results/skipped"

# count_libtest LOG: adds up the "test result:" lines of cargo test, and collects the tests that skipped themselves.
count_libtest() {
  local sums
  read -r -a sums < <(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) g += $(i-1) } }
    END { print p + 0, f + 0, g + 0 }' "$1")
  passed=$((passed + sums[0])); failed=$((failed + sums[1])); ignored=$((ignored + sums[2]))
  awk '/^ *(Running|Doc-tests) / { program = $2 " " $3 }
    /^successes:$/ { passed = 1; name = "" }
    /^failures:$/ { passed = 0; name = "" }
    /^---- .* stdout ----$/ { name = passed ? $2 : ""; next }
    name != "" && /^ *skipped: / { sub(/^ */, ""); print program " " name "\t" $0; name = "" }' "$1" >>"$results/skipped"
}

# count_junit FILE: the same for the report of cargo-nextest.
count_junit() {
  local sums
  read -r -a sums < <(awk '/<testcase / { n++; fresh = 1 } /<(failure|error)[ >]/ { f += fresh; fresh = 0 }
    END { print n + 0, f + 0 }' "$1")
  failed=$((failed + sums[1])); passed=$((passed + sums[0] - sums[1]))
  awk '/<testcase / { name = $0; sub(/.*<testcase name="/, "", name); sub(/".*/, "", name)
                      program = $0; sub(/.* classname="/, "", program); sub(/".*/, "", program) }
    /<(failure|error)[ >]/ { name = "" }
    name != "" && /(^|>|\.\.\.) *skipped: / { line = $0; sub(/.*skipped: /, "skipped: ", line); sub(/<.*/, "", line)
                      print program " " name "\t" line; name = "" }' "$1" >>"$results/skipped"
}

say "== tests"
if cargo nextest --version >/dev/null 2>&1; then
  arguments=(--locked "${what[@]}" --no-fail-fast --no-tests fail)
  [ "$long" = no ] || arguments+=(--run-ignored all --profile long)
  junit="target/nextest/$([ "$long" = yes ] && echo long || echo default)/junit.xml"
  rm -f "$junit"
  [ "$s3" = no ] || arguments+=(-- "${skip[@]}")
  cargo nextest run "${arguments[@]}" </dev/null 2>&1 | tee "$results/log" || status=1
  if [ -s "$junit" ]; then count_junit "$junit"; else status=1; note "cargo-nextest left no report at $junit."; fi
  ignored=$(sed -n 's/^ *Summary .* \([0-9][0-9]*\) skipped.*/\1/p' "$results/log" | tail -1)
  ignored=${ignored:-0}
else
  arguments=(--locked "${what[@]}" --no-fail-fast)
  [ "$s3" = yes ] || arguments+=(--lib --bins --tests)
  harness=(--show-output "${skip[@]}")
  [ "$long" = no ] || harness+=(--include-ignored)
  cargo test "${arguments[@]}" -- "${harness[@]}" </dev/null 2>&1 | tee "$results/log" || status=1
  count_libtest "$results/log"
fi

if [ "$s3" = no ]; then
  say "== examples in the documentation"
  cargo test --locked --workspace --no-fail-fast --doc -- --show-output </dev/null >"$results/doc" 2>&1 || { status=1; cat "$results/doc"; }
  grep '^test result:' "$results/doc" || true
  count_libtest "$results/doc"
fi

sort -u -o "$results/skipped" "$results/skipped"
unable=$(wc -l <"$results/skipped")
passed=$((passed - unable))
say
if [ "$unable" -gt 0 ]; then
  say "Could not run here:"
  awk -F '\t' '{ reason = $2; sub(/^skipped: /, "", reason); print "  " $1 ": " reason }' "$results/skipped"
fi
simulated=$(cat "$results/log" ${junit:+"$junit"} 2>/dev/null | grep -ho 'seed [0-9]*: .* versions checked' | sort -u || true)
if [ -n "$simulated" ]; then say "Simulated, with fresh seeds (again: make sim SEED=... JOBS=...):"; say "  ${simulated//$'\n'/$'\n'  }"; fi
[ "$ignored" -eq 0 ] || say "$ignored long tests were left out; make test-long runs them."
[ "$failed" -eq 0 ] && [ $((passed + unable)) -gt 0 ] || status=1
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || say "error: the tests did not build, or did not all run."
say "$passed passed, $failed failed, $((unable + ignored)) skipped"
exit "$status"
