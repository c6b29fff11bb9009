#!/usr/bin/env bash
# test-s3.sh [--long]   runs the tests of s3:// against a real Ceph RGW, and ends like test.sh. --long: tortures it for ten minutes
# instead of one, and simulates more.
#
# It starts a cluster of one node below a folder for temporary files (scripts/testbed/ceph-up.sh; as root it installs
# the Debian packages that it needs), makes a bucket, and takes all down again.
#
# BACKY2_TEST_S3_ENDPOINT and BACKY2_TEST_S3_{BUCKET,ACCESS_KEY_ID,SECRET_ACCESS_KEY} in the environment name another
# server (http://address:port); then nothing is started. The tests leave their objects in the bucket, below test-*.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

cluster=
if [ -z "${BACKY2_TEST_S3_ENDPOINT:-}" ]; then
  need curl=curl
  cluster=$(mktemp -d /tmp/backy2-rgw.XXXXXX)
  trap 'scripts/testbed/ceph-down.sh "$cluster" --purge' EXIT
  install=(); [ "$(id -u)" != 0 ] || install=(--install)
  say "== starting Ceph"
  scripts/testbed/ceph-up.sh "$cluster" "${install[@]}" --rgw >/dev/null
  # shellcheck source=/dev/null
  . "$cluster/env"
  export BACKY2_TEST_S3_ENDPOINT=$S3_ENDPOINT BACKY2_TEST_S3_BUCKET=backy2-test
  export BACKY2_TEST_S3_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID BACKY2_TEST_S3_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
  curl --silent --show-error --fail --noproxy '*' --aws-sigv4 aws:amz:us-east-1:s3 --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" --request PUT "$S3_ENDPOINT/$BACKY2_TEST_S3_BUCKET" \
    || fail "the bucket could not be made."
  unset CEPH_CONF CEPH_POOL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION S3_ENDPOINT
fi
scripts/test.sh --s3 "$@"
