#!/usr/bin/env bash
# Make .venv-finder: the library of the official DID finders, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

if "$uv" venv --quiet --clear --python 3.11 .venv-finder &&
    "$uv" pip install --quiet --python .venv-finder/bin/python --require-hashes -r requirements/finder.txt; then
    exit 0
fi
rm -rf .venv-finder
echo "servicex-did-finder-lib 3.2.0 cannot be installed here (on Python 3.11); its tests are skipped" >&2
[ "${CI:-}" != true ]
