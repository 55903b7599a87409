"""Run the official client 3.3 as a user's script would, steered by JSON.

Standard input holds {"config": path of servicex.yaml, "stages": [[delivery, ...], ...]}. The deliveries of a
stage run at the same time, the stages one after another. Standard output gets a list of stages of answers.
Each delivery is {"cache", "format", "delivery", "samples": [{"name", "kind", "query", and what to ask}]},
where that is "files", "did", or "dataset" (a class of the client and its argument) with "n_files"; its answer
holds per sample either the files or URLs that came or the text of the exception that a user would see.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import time
from typing import Any

from servicex import Sample, ServiceXSpec, dataset, query
from servicex.servicex_client import ProgressBarFormat, deliver_async


def make_query(sample: dict[str, Any]) -> Any:
    """Build the client's own query object, so that the client makes the text that goes over the wire."""
    if sample["kind"] == "uproot-raw":
        return query.UprootRaw(sample["query"])
    if sample["kind"] == "python":
        return query.PythonFunction(sample["query"])
    if sample["kind"] == "qastle":
        func_adl = query.FuncADL_Uproot()
        func_adl.set_provided_qastle(sample["query"])
        return func_adl
    if sample["kind"] == "func_adl":
        # The tests' own text: operators applied to the client's query object.
        start = query.FuncADL_Uproot().FromTree(sample["tree"])
        for verb, body in sample["query"]:
            start = getattr(start, verb)(body)
        return start
    return sample["query"]


def make_sample(sample: dict[str, Any]) -> Sample:
    """Build one sample of the specification."""
    if "dataset" in sample:
        kind, name = sample["dataset"]
        source = getattr(dataset, kind)(name, num_files=sample["n_files"])
    elif "did" in sample:
        scheme, name = sample["did"].split("://", 1)
        source = dataset.GenericDataSet(scheme, name)
    else:
        source = dataset.FileList(sample["files"])
    return Sample(
        Name=sample["name"], Dataset=source, Query=make_query(sample), Codegen=sample.get("codegen")
    )


async def run_delivery(config: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Deliver once; gather what a user would get to see."""
    spec = ServiceXSpec(
        General={"OutputFormat": wanted["format"], "Delivery": wanted["delivery"]},
        Sample=[make_sample(sample) for sample in wanted["samples"]],
    )
    started = time.monotonic()
    answer: dict[str, Any] = {"delivered": {}, "errors": {}}
    try:
        delivered = await deliver_async(
            spec,
            config_path=config,
            cache_dir=wanted["cache"],
            fail_if_incomplete=wanted.get("fail_if_incomplete", True),
            progress_bar=ProgressBarFormat.none,
        )
    except Exception as error:  # noqa: BLE001  whatever the user would see
        answer["raised"] = f"{type(error).__name__}: {error}"
        delivered = {}
    for name, result in delivered.items():
        if result.valid():
            answer["delivered"][name] = list(result)
        else:
            try:
                list(result)
            except Exception as error:  # noqa: BLE001
                answer["errors"][name] = str(error)
    answer["seconds"] = time.monotonic() - started
    return answer


async def run(job: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run all stages."""
    return [
        list(await asyncio.gather(*(run_delivery(job["config"], wanted) for wanted in stage)))
        for stage in job["stages"]
    ]


def main() -> None:
    """Read the job, run it, print the answer; the client's messages go to standard error."""
    answer_to = sys.stdout
    sys.stdout = sys.stderr
    # Its messages as they are: a console would fold them and hide the addresses of links.
    logging.getLogger("servicex.query_core").handlers = [logging.StreamHandler(sys.stderr)]
    json.dump(asyncio.run(run(json.load(io.TextIOWrapper(sys.stdin.buffer)))), answer_to)


if __name__ == "__main__":
    main()
