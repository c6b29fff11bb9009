# shellcheck shell=bash
# What the scripts of this folder share: messages, and the packages and tools that they need.
# Source it; it sets no options of its own.

say()  { printf '%s\n' "$*"; }
note() { printf 'note: %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND..: runs a command as root, through sudo when we are not; 1 when neither is possible.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then sudo "$@"
  else return 1
  fi
}

# has COMMAND: true when the command is there; looks into the sbin folders too, where mke2fs lives.
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

# need COMMAND=PACKAGE..: installs the Debian packages of those commands that are missing.
need() {
  local pair packages=() commands=()
  for pair in "$@"; do
    has "${pair%%=*}" || { commands+=("${pair%%=*}"); packages+=("${pair#*=}"); }
  done
  if [ ${#packages[@]} -gt 0 ]; then
    has apt-get || fail "missing: ${commands[*]}. Install what Debian calls: ${packages[*]}."
    note "installing from Debian: ${packages[*]}."
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600) log
    log=$(mktemp)
    if ! { as_root "${apt[@]}" update && as_root "${apt[@]}" install -y --no-install-recommends "${packages[@]}"; } </dev/null >"$log" 2>&1; then
      cat "$log" >&2; rm -f "$log"
      fail "missing: ${commands[*]}. Run as root: apt-get install ${packages[*]}"
    fi
    rm -f "$log"
  fi
}

# want COMMAND=PACKAGE..: the same for what is only good to have: says what is missing and goes on.
want() {
  (need "$@") || note "some tests will be skipped."
}

# need_rust: makes sure that cargo is there, and a linker and C compiler for the crates that hold C.
need_rust() {
  has cargo || { [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"; } \
    || fail "missing: cargo. Install Rust from https://rustup.rs; rust-toolchain.toml names the version."
  need cc=build-essential
}

# target_folder: where cargo puts what it builds.
target_folder() {
  cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# need_space FOLDER MIB: fails when the file system of the folder has less room than that.
need_space() {
  local free
  free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge "$2" ] || fail "$1 has $free MiB free, but $2 MiB are needed."
}

# mib FILE_OR_FOLDER: MiB that it takes on the disk, with one decimal.
mib() { du -sB1 "$1" | awk '{ printf "%.1f", $1 / 1048576 }'; }
