#!/usr/bin/env bash
# Install the Debian packages that some tests use: an XRootD server. Only where root and apt exist.
set -euo pipefail

if command -v xrootd >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends xrootd-server xrootd-server-plugins \
        >/dev/null; then
        exit 0
    fi
fi
echo "no XRootD server here; the tests that need one are skipped (Debian: xrootd-server xrootd-server-plugins)" >&2
[ "${CI:-}" != true ]
