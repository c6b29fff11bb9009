#!/bin/bash
# A real one-node Ceph cluster (mon + osd, optionally mgr and radosgw) as plain
# processes on 127.0.0.1, all its data under DIR.
#   ceph-up.sh DIR [--install] [--mgr] [--rgw [PORT]] [--store bluestore|memstore]
#                  [--size BYTES(K|M|G)] [--pool NAME]
# Prints `export ...` lines (also kept in DIR/env). Calling it again is safe:
# it starts what is not running, and keeps the data.
# shellcheck source=scripts/testbed/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
set -eo pipefail
usage() { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }

DIR='' INSTALL=0 MGR=0 RGW=0 RGW_PORT='' STORE=bluestore SIZE=20G POOL=rbd
while [ $# -gt 0 ]; do
    case $1 in
    --install) INSTALL=1;;
    --mgr) MGR=1;;
    --rgw) RGW=1; case ${2:-} in ''|*[!0-9]*) ;; *) RGW_PORT=$2; shift;; esac;;
    --store) STORE=${2:?}; shift;;
    --size) SIZE=${2:?}; shift;;
    --pool) POOL=${2:?}; shift;;
    -*) usage;;
    *) [ -z "$DIR" ] || usage; DIR=$1;;
    esac
    shift
done
[ -n "$DIR" ] || usage
case $STORE in bluestore|memstore) ;; *) usage;; esac
SIZE=$(numfmt --from=iec "$SIZE") || die "--size: not a size"

need $INSTALL "ceph-mon ceph-osd ceph rbd ceph-authtool monmaptool /usr/lib/python3/dist-packages/rbd*.so" "ceph-mon ceph-osd ceph-common python3-rbd"
[ $MGR = 0 ] || need $INSTALL "ceph-mgr" "ceph-mgr"
[ $RGW = 0 ] || need $INSTALL "radosgw radosgw-admin" "radosgw"

mkdir -p "$DIR"; DIR=$(readlink -f "$DIR")
CONF=$DIR/ceph.conf LOG=$DIR/log
mkdir -p "$DIR/run" "$DIR/mon.a" "$DIR/osd.0" "$DIR/mgr.x" "$DIR/rgw" "$LOG"
exec 9>"$DIR/lock"
flock -w 180 9 || die "another ceph-up.sh holds $DIR/lock"
export CEPH_CONF=$CONF
unset CEPH_ARGS CEPH_KEYRING || true
T0=$(date +%s.%N)

# q SECONDS CMD...: run with a limit, log kept, error shown.
q() {
    local t=$1; shift
    timeout -k 5 "$t" "$@" >>"$LOG/setup.log" 2>&1 9>&- || {
        local rc=$?
        tail -n 15 "$LOG/setup.log" >&2
        die "failed (exit $rc): $*   [more in $LOG]"
    }
}

if [ ! -e "$DIR/initialised" ]; then
    [ ! -e "$CONF" ] || "$(dirname "$0")/ceph-down.sh" "$DIR" 9>&- || true
    rm -rf "$DIR"/{mon.a,osd.0,mgr.x,rgw,run}; mkdir -p "$DIR"/{mon.a,osd.0,mgr.x,rgw,run}
    rm -f "$DIR"/{keyring,monmap,env,s3.env,rgw.port}
    FSID=$(cat /proc/sys/kernel/random/uuid)
    { read -r P1; read -r P2; } < <(free_ports 2)
    ASOK="$DIR/run/\$name.asok"; [ ${#DIR} -le 80 ] || ASOK=
    cat >"$CONF" <<C
[global]
fsid = $FSID
mon_host = [v2:127.0.0.1:$P1,v1:127.0.0.1:$P2]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
keyring = $DIR/keyring
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
log_to_stderr = false
err_to_stderr = true
run_dir = $DIR/run
debug_rocksdb = 0
[client]
admin_socket =
log_file =
[mon]
mon_data = $DIR/mon.a
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_osd_full_ratio = 0.97
mon_osd_backfillfull_ratio = 0.96
mon_osd_nearfull_ratio = 0.95
mon_memory_autotune = false
rocksdb_cache_size = 33554432
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_cluster_log_to_file = false
[mgr]
mgr_data = $DIR/mgr.x
mgr_initial_modules =
[osd]
osd_data = $DIR/osd.0
osd_objectstore = $STORE
memstore_device_bytes = $SIZE
bluestore_block_size = $SIZE
bluestore_block_create = true
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_cache_autotune = false
bluestore_cache_size = 100663296
bluestore_cache_kv_ratio = 0.3
bluestore_cache_meta_ratio = 0.5
bdev_enable_discard = false
osd_memory_target = 939524096
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_crush_update_on_start = true
osd_fast_shutdown = $(if [ "$STORE" = memstore ]; then echo false; else echo true; fi)
osd_map_cache_size = 20
[mon.a]
log_file = $LOG/mon.log
pid_file = $DIR/run/mon.pid
admin_socket = $ASOK
[mgr.x]
log_file = $LOG/mgr.log
pid_file = $DIR/run/mgr.pid
admin_socket = $ASOK
[osd.0]
log_file = $LOG/osd.log
pid_file = $DIR/run/osd.pid
admin_socket = $ASOK
keyring = $DIR/osd.0/keyring
C
    umask 077
    q 20 ceph-authtool --create-keyring "$DIR/keyring" --gen-key -n mon. --cap mon 'allow *'
    q 20 ceph-authtool "$DIR/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *'
    umask 022
    q 20 monmaptool --create --clobber --addv a "[v2:127.0.0.1:$P1,v1:127.0.0.1:$P2]" --fsid "$FSID" "$DIR/monmap"
    q 60 ceph-mon -c "$CONF" -i a --mkfs --monmap "$DIR/monmap" --keyring "$DIR/keyring"
fi

# start NAME PIDFILE CMD...: daemons detach by themselves; fd 9 (the lock) is not passed on.
start() {
    local n=$1; shift
    pid_is "$DIR/run/$n.pid" "$CONF" >/dev/null && return 0
    rm -f "$DIR/run/$n.pid"
    q 120 "$@"
    local i
    for ((i = 0; i < 100; i++)); do
        pid_is "$DIR/run/$n.pid" "$CONF" >/dev/null && return 0
        sleep 0.1
    done
    tail -n 15 "$LOG/$n.log" >&2 || true
    die "$n did not start; see $LOG/$n.log"
}

start mon ceph-mon -c "$CONF" -i a
q 60 ceph --connect-timeout 50 mon stat

if [ ! -e "$DIR/initialised" ]; then
    UUID=$(cat /proc/sys/kernel/random/uuid)
    KEY=$(ceph-authtool --gen-print-key)
    printf '{"cephx_secret": "%s"}\n' "$KEY" >"$DIR/new.json"
    q 30 ceph --connect-timeout 20 osd new "$UUID" -i "$DIR/new.json"
    rm -f "$DIR/new.json"
    (umask 077; printf '[osd.0]\n\tkey = %s\n' "$KEY" >"$DIR/osd.0/keyring")
    q 120 ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid "$UUID"
fi
start osd ceph-osd -c "$CONF" -i 0

if [ $MGR = 1 ]; then
    [ -s "$DIR/mgr.x/keyring" ] ||
        q 30 ceph --connect-timeout 20 auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' mds 'allow *' -o "$DIR/mgr.x/keyring"
    grep -qF "$DIR/mgr.x/keyring" "$CONF" || sed -i "s|^\[mgr\.x\]\$|&\nkeyring = $DIR/mgr.x/keyring|" "$CONF"
    start mgr ceph-mgr -c "$CONF" -i x
fi

# One osd command at a time is slow (a Python start each): do the rest through one process.
cat >"$DIR/run/setup.py" <<'P'
import json, rados, rbd, sys, time
conf, pool = sys.argv[1:3]
c = rados.Rados(conffile=conf); c.connect(timeout=30)
def mon(**kw):
    r, out, err = c.mon_command(json.dumps(dict(kw, format="json")), b"")
    if r: raise SystemExit("%s: %s %s" % (kw["prefix"], r, err))
    return json.loads(out) if out else None
end = time.time() + 60
while mon(prefix="osd stat")["num_up_osds"] < 1:
    if time.time() > end: raise SystemExit("osd.0 is not up after 60 s")
    time.sleep(0.2)
if mon(prefix="osd dump")["require_osd_release"] != "pacific":
    mon(prefix="osd require-osd-release", release="pacific")
if pool not in c.list_pools():
    mon(prefix="osd pool create", pool=pool, pg_num=8, pgp_num=8)
with c.open_ioctx(pool) as io:
    rbd.RBD().pool_init(io, True)   # waits until the pool serves writes
    io.write_full("setup.probe", b"x"); assert io.read("setup.probe") == b"x"; io.remove_object("setup.probe")
c.shutdown()
P
q 150 /usr/bin/python3 "$DIR/run/setup.py" "$CONF" "$POOL"
: >"$DIR/initialised"

if [ $RGW = 1 ]; then
    if ! pid_is "$DIR/run/rgw.pid" "$CONF" >/dev/null; then
        [ -n "$RGW_PORT" ] || RGW_PORT=$(cat "$DIR/rgw.port" 2>/dev/null || free_ports 1)
        [ -s "$DIR/rgw/keyring" ] ||
            q 30 ceph --connect-timeout 20 auth get-or-create client.rgw.x mon 'allow rwx' osd 'allow rwx' -o "$DIR/rgw/keyring"
        if ! grep -q '^\[client\.rgw\.x\]' "$CONF"; then
            cat >>"$CONF" <<C
[client.rgw.x]
keyring = $DIR/rgw/keyring
rgw_data = $DIR/rgw
log_file = $LOG/rgw.log
pid_file = $DIR/run/rgw.pid
rgw_frontends = beast endpoint=127.0.0.1:$RGW_PORT
rgw_thread_pool_size = 32
rgw_enable_ops_log = false
rgw_enable_usage_log = false
rgw_run_sync_thread = false
rgw_cache_enabled = true
C
        else
            sed -i "s|^rgw_frontends = .*|rgw_frontends = beast endpoint=127.0.0.1:$RGW_PORT|" "$CONF"
        fi
        echo "$RGW_PORT" >"$DIR/rgw.port"
        start rgw radosgw -c "$CONF" -n client.rgw.x
        for ((i = 0; ; i++)); do
            /usr/bin/python3 -c 'import sys,urllib.request as u; u.urlopen("http://127.0.0.1:%s/" % sys.argv[1], timeout=5)' "$RGW_PORT" 2>/dev/null && break
            [ $i -lt 200 ] || { tail -n 15 "$LOG/rgw.log" >&2; die "radosgw does not answer on 127.0.0.1:$RGW_PORT"; }
            pid_is "$DIR/run/rgw.pid" "$CONF" >/dev/null || { tail -n 15 "$LOG/rgw.log" >&2; die "radosgw ended (port $RGW_PORT taken?)"; }
            sleep 0.2
        done
    fi
    RGW_PORT=$(cat "$DIR/rgw.port")
    if [ ! -s "$DIR/s3.env" ]; then
        AK=CEPHTESTACCESSKEY0 SK=secretForLoopbackOnly00000000000000000000
        timeout 60 radosgw-admin user info --uid backy2test >/dev/null 2>&1 9>&- ||
            q 60 radosgw-admin user create --uid backy2test --display-name backy2test --access-key "$AK" --secret-key "$SK" --max-buckets 1000
        printf 'export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport AWS_DEFAULT_REGION=us-east-1\n' "$AK" "$SK" >"$DIR/s3.env"
    fi
    printf 'export S3_ENDPOINT=http://127.0.0.1:%s\n' "$RGW_PORT" | cat "$DIR/s3.env" - >"$DIR/env.s3"
fi

{
    echo "export CEPH_CONF=$CONF"
    echo "export CEPH_POOL=$POOL"
    if pid_is "$DIR/run/rgw.pid" "$CONF" >/dev/null; then cat "$DIR/env.s3"; fi
} >"$DIR/env"
note "up in $(awk -v a="$T0" -v b="$(date +%s.%N)" 'BEGIN{printf "%.1f", b-a}') s; stop with ceph-down.sh $DIR"
cat "$DIR/env"
