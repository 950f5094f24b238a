#!/usr/bin/env bash
# base-image.sh: makes sure that the image our own images start from is there, and prints its name: pulled where a
# registry answers, a Debian 12 file system of the same name elsewhere.
set -euo pipefail
cd "$(dirname "$0")"
STAGE="base image"
# shellcheck source-path=SCRIPTDIR
. ./common.sh

./engine.sh
if ! have_image "$BASE_IMAGE"; then
  one_at_a_time base-image
  if ! have_image "$BASE_IMAGE" && ! pull "$BASE_IMAGE"; then
    [[ $BASE_IMAGE == debian:bookworm-slim ]] || fail "$BASE_IMAGE could not be pulled, and only debian:bookworm-slim can be made here"
    say "no registry hands out $BASE_IMAGE: making it with debootstrap"
    import_debian "$BASE_IMAGE" ca-certificates
  fi
  say "$BASE_IMAGE is there"
fi
echo "$BASE_IMAGE"
