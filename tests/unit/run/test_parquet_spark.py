"""Our Parquet files as Spark sees them.

`make test-long` makes an environment for Spark; SERVICEX_TEST_SPARK_PYTHON names the Python of another one
(3.5 and 4.0 were tried).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.encode import ParquetOptions
from servicex_server.run.write.encode.options import Compression
from servicex_server.run.write.parquet import ParquetWriter

N_ROWS = 1200
OWN_ENVIRONMENT = Path(__file__).parents[3] / ".venv-spark" / "bin" / "python"

READ = """
import json
import sys

from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .getOrCreate()
)
found = []
for path in sys.argv[2:]:
    for vectorized in ("true", "false"):
        spark.conf.set("spark.sql.parquet.enableVectorizedReader", vectorized)
        found.append([row.asDict(recursive=True) for row in spark.read.parquet(path).collect()])
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


def table() -> ak.Array:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=3 * N_ROWS)
    counts = np.resize([3, 0, 7, 1, 4], N_ROWS)
    few = np.resize(np.arange(-300, 300) / 64, counts.sum()).astype("f4")
    thirds = N_ROWS // 3
    return ak.zip(
        {
            "double": numbers[:N_ROWS],
            "float": numbers[:N_ROWS].astype("f4"),
            "jagged": ak.unflatten(rng.normal(size=counts.sum()).astype("f4"), counts),
            "quantised": ak.unflatten(few, counts),
            "int": rng.integers(-(2**31), 2**31, N_ROWS).astype("i4"),
            "long": rng.integers(-(2**62), 2**62, N_ROWS),
            "byte": rng.integers(0, 256, N_ROWS).astype("u1"),
            "unsigned": rng.integers(0, 2**32, N_ROWS).astype("u4"),
            "flag": rng.integers(0, 2, N_ROWS).astype(np.bool_),
            "word": ak.Array(["one", "two", "žluť"] * thirds),
            "line": ak.Array([f"line {number}" for number in range(N_ROWS)]),
            "nested": ak.Array([[[1, 2], []], [], [[3]]] * thirds),
            "record": ak.Array([{"a": 1, "b": [1.5]}, {"a": 2, "b": []}] * (N_ROWS // 2)),
            "maybe": ak.Array([1, None, 3] * thirds),
            "maybes": ak.Array([[1, None], [], [None]] * thirds),
            "fixed": ak.from_regular(ak.Array(numbers[: 2 * N_ROWS].reshape(-1, 2))),
        },
        depth_limit=1,
    )


def write(path: Path, array: ak.Array, compression: Compression) -> None:
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    options = ParquetOptions(compression=compression, page_values=500)
    writer = ParquetWriter(path, options)
    writer.begin(BoundOutput("in", "out", (), (), nothing, schema_of(array)), array[:0])
    writer.write(writer.encode(array))
    writer.finish()


@pytest.fixture(scope="module")
def python() -> str:
    python = os.environ.get("SERVICEX_TEST_SPARK_PYTHON") or str(OWN_ENVIRONMENT)
    if not Path(python).exists():
        message = "Spark is missing; `make test-long` installs it where there is a Java"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return python


@pytest.mark.long
def test_spark_reads_what_was_written(python: str, tmp_path: Path) -> None:
    array = table()
    codecs: tuple[Compression, ...] = ("none", "snappy", "gzip", "lz4_raw", "zstd")
    paths = [tmp_path / f"{codec}.parquet" for codec in codecs]
    for codec, path in zip(codecs, paths, strict=True):
        write(path, array, codec)
    command = [python, "-c", READ, str(tmp_path / "found.json"), *map(str, paths)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, timeout=300, env=environment, cwd=tmp_path)
    for found in json.loads((tmp_path / "found.json").read_text(encoding="utf-8")):
        assert found == ak.to_list(array)
