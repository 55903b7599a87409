#!/usr/bin/env bash
# Make .venv-client26: the old line of the official client, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

if "$uv" venv --quiet --clear --python 3.11 .venv-client26 &&
    "$uv" pip install --quiet --python .venv-client26/bin/python --require-hashes -r requirements/client26.txt; then
    exit 0
fi
rm -rf .venv-client26
echo "servicex 2.6.2 cannot be installed here (it needs Python 3.11); its tests are skipped" >&2
[ "${CI:-}" != true ]
