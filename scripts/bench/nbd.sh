#!/usr/bin/env bash
# nbd.sh IMAGE   measures reads through `backy2 nbd` against qemu-nbd serving the restored image, alternately in one run.
#
# Sequential: nbdcopy to null:, one connection and four. Random: 4 KiB, 16 at once, by qemu-img bench, in steps that no
# read-ahead follows. Cold: a new server; for qemu-nbd past the page cache. Cached: the second time. Then the time from
# the command to the first byte, with 100 versions of the image made 100 GB large and no state. BACKY2: the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. scripts/bench/reads.sh
[ $# = 1 ] || fail "usage: nbd.sh IMAGE"
need nbdcopy=libnbd-bin nbdinfo=libnbd-bin qemu-nbd=qemu-utils qemu-img=qemu-utils
image=$(readlink -f "$1")
rounds=${ROUNDS:-3}
BACKY2=$(readlink -f "${BACKY2:-$(target_folder)/release/backy2}")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/nbd.XXXXXX")
server=''
finish() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
make_repository
backy2 -m backup "$image" image >/dev/null
backy2 restore image@latest "$work/raw" >/dev/null 2>&1
uri="nbd+unix:///?socket=$work/socket"

# start COMMAND..: starts a server and waits for its socket.
start() {
  rm -f "$work/socket"; "$@" >/dev/null 2>&1 & server=$!
  until [ -S "$work/socket" ]; do sleep 0.02; done
  sleep 0.2
}
stop() { kill "$server"; wait "$server" 2>/dev/null || true; server=''; }
ours() { start "$BACKY2" -c "$work/c.toml" nbd -u "$work/socket" --cache-size "$1" image@latest; }
theirs() { start qemu-nbd -t -r -e 8 -f raw --cache="$1" --aio=threads -k "$work/socket" "$work/raw"; }
sequential() { seconds nbdcopy --connections="$1" --requests=16 "$uri" null:; }
random() { seconds qemu-img bench -q -c "$1" -d 16 -s 4096 -S 41947136 -f raw "$uri"; }

row "seconds" "backy2" "qemu-nbd"
for round in $(seq "$rounds"); do
  for connections in 1 4; do
    ours 128MiB; a=$(sequential $connections); stop
    theirs none; b=$(sequential $connections); stop
    row "$round sequential, cold, $connections connections" "$a" "$b"
  done
  ours 4GiB; sequential 4 >/dev/null; a=$(sequential 1); c=$(sequential 4); e=$(random 20000); stop
  theirs writeback; sequential 4 >/dev/null; b=$(sequential 1); d=$(sequential 4); f=$(random 20000); stop
  row "$round sequential, cached, 1 connection" "$a" "$b"
  row "$round sequential, cached, 4 connections" "$c" "$d"
  row "$round 20,000 random 4 KiB, cached" "$e" "$f"
  ours 128MiB; a=$(random 5000); stop
  theirs none; b=$(random 5000); stop
  row "$round 5,000 random 4 KiB, cold" "$a" "$b"
done

make_large_versions
first_byte() {
  rm -rf "$work/state" "$work/socket"
  "$BACKY2" -c "$work/c.toml" nbd -u "$work/socket" large@latest >/dev/null 2>&1 & server=$!
  python3 - "$work/socket" <<'P'
import socket, struct, sys, time
while True:
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(sys.argv[1]); break
    except OSError: time.sleep(0.01)
def take(n):
    b = b""
    while len(b) < n: b += s.recv(n - len(b))
    return b
take(18); s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0)); take(10)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 1 << 20, 4096)); assert struct.unpack(">II", take(8))[1] == 0; take(8 + 4096)
P
}
for round in $(seq "$rounds"); do
  begin=$(now); first_byte
  say_first_byte "$round" "$begin"
  stop
done
