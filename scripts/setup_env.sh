#!/usr/bin/env bash
# Make .venv: the pinned dependencies, then the project itself without fetching anything more.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

[ -x .venv/bin/python ] || "$uv" venv --quiet --python "${PYTHON:->=3.11}" .venv
# Byte code is made here, once: the first start must not wait for it, and where PYTHONDONTWRITEBYTECODE is set
# (as in many containers) every process would compile all that it imports anew.
"$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements/dev.txt
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -m compileall -q src
