#!/usr/bin/env bash
# Install the Debian packages that some tests use: an XRootD server with what it needs for proxies and tokens, the
# commands that make VOMS proxies, PostgreSQL, RabbitMQ, and bubblewrap for the sandbox of python queries. Only where
# root and apt exist.
set -euo pipefail

packages=()
command -v xrootd >/dev/null || packages+=(xrootd-server xrootd-server-plugins)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || packages+=(postgresql)
command -v voms-proxy-init >/dev/null && command -v voms-proxy-fake >/dev/null || packages+=(voms-clients)
has_plugin() { compgen -G "/usr/lib/*/$1*.so" >/dev/null; }
has_plugin libXrdVoms || packages+=(xrootd-voms-plugins)
has_plugin libXrdAccSciTokens || packages+=(xrootd-scitokens-plugins)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages+=(rabbitmq-server)
command -v bwrap >/dev/null || packages+=(bubblewrap)
if [ ${#packages[@]} = 0 ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; then
        exit 0
    fi
fi
echo "missing here, so the tests that need it are skipped (Debian packages): ${packages[*]}" >&2
[ "${CI:-}" != true ]
