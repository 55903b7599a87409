#!/usr/bin/env bash
# Make .venv-spark: Spark, which the long tests let read our Parquet files. It needs a Java.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/find_uv.sh)

if ! command -v java >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends default-jre-headless >/dev/null || true
fi
if command -v java >/dev/null && "$uv" venv --quiet --clear --python '>=3.11,<3.14' .venv-spark &&
    "$uv" pip install --quiet --python .venv-spark/bin/python --require-hashes -r requirements/spark.txt; then
    exit 0
fi
rm -rf .venv-spark
echo "Spark cannot be installed here (it needs a Java, Debian package default-jre-headless); its test is skipped" >&2
[ "${CI:-}" != true ]
