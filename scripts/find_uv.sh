#!/usr/bin/env bash
# Print the path of uv: the machine's own, else one that pip fetches into .cache/bootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
bootstrap=.cache/bootstrap

if own=$(command -v uv) && "$own" --version >/dev/null 2>&1; then
    printf '%s\n' "$own"
    exit 0
fi
if [ ! -x "$bootstrap/bin/uv" ]; then
    python=${PYTHON:-python3}
    rm -rf "$bootstrap"
    if ! "$python" -m venv "$bootstrap" >/dev/null 2>&1; then
        # Debian splits venv off.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq >&2
            apt-get install -y -qq --no-install-recommends python3-venv >&2
            "$python" -m venv --clear "$bootstrap" >&2
        else
            echo "neither uv nor Python's venv is here: install one of them (on Debian: python3-venv)" >&2
            exit 1
        fi
    fi
    "$bootstrap/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r requirements/uv.txt >&2
fi
printf '%s\n' "$PWD/$bootstrap/bin/uv"
