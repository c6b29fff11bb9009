#!/usr/bin/env bash
# lint.sh   everything that can be said about the sources without running them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
need_rust

say "== formatting";    cargo fmt --all --check
say "== clippy";        cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
say "== house rules";   cargo xtask tidy
say "== documentation"; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
if cargo deny --version >/dev/null 2>&1; then
  say "== licences and sources"; cargo deny --log-level error check bans licenses sources
else
  note "cargo-deny is not installed: licences and sources were not checked."
fi
if has shellcheck; then
  say "== shell scripts"; shellcheck -x scripts/*.sh scripts/bench/*.sh scripts/testbed/*.sh .ci/run
else
  note "shellcheck is not installed: the shell scripts were not checked."
fi
say "All clean."
