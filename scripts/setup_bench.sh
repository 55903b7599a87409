#!/usr/bin/env bash
# Make .venv-bench: the project and the peers that it is measured against. ROOT alone takes 600 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)
python=.venv-bench/bin/python

if "$uv" venv --quiet --clear --python '>=3.11,<3.14' .venv-bench &&
    "$uv" pip install --quiet --python "$python" --require-hashes -r requirements/bench.txt &&
    "$uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .; then
    exit 0
fi
rm -rf .venv-bench
echo "not all peers can be installed here (ROOT needs Linux and Python 3.11 to 3.13); those are left out" >&2
[ "${CI:-}" != true ]
