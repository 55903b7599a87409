#!/usr/bin/env bash
# Make .venv-rucio: a real Rucio server and its client, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

if "$uv" venv --quiet --clear --python 3.11 .venv-rucio &&
    "$uv" pip install --quiet --python .venv-rucio/bin/python --require-hashes -r requirements/rucio.txt; then
    exit 0
fi
rm -rf .venv-rucio
echo "Rucio cannot be installed here (on Python 3.11); its tests are skipped" >&2
[ "${CI:-}" != true ]
