#!/usr/bin/env bash
# Pin every dependency with its hashes. The files name no index, so they work behind any mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

pin() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate "$@"
}

pin pyproject.toml --extra xrootd --extra production --extra grid --group dev --output-file requirements/dev.txt
pin pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
pin requirements/client26.in --output-file requirements/client26.txt
pin requirements/finder.in --output-file requirements/finder.txt
pin requirements/rucio.in --output-file requirements/rucio.txt
pin requirements/spark.in --output-file requirements/spark.txt
pin requirements/uv.in --output-file requirements/uv.txt
pin pyproject.toml requirements/bench.in --group build --constraint requirements/dev.txt \
    --output-file requirements/bench.txt
