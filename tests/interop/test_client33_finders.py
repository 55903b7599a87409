"""The official client and data sets that the server finds: on a web server, and among its own results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import uproot

from server_process import ServerProcess
from web_listing import Answer, apache_index, running_web

QUERY = [{"treename": "Events", "expressions": ["MET_pt"], "cut": "MET_pt > 20"}]


def ask_for(did: str, output_format: str) -> list[list[dict[str, Any]]]:
    """The stages of one delivery of a data set."""
    sample = {"name": "the sample", "did": did, "kind": "uproot-raw", "query": QUERY}
    return [[{"format": output_format, "delivery": "LocalCache", "samples": [sample]}]]


def test_a_skim_of_a_web_server_is_skimmed_again(
    samples: Path, tmp_path: Path, start_client33: Callable[..., Any]
) -> None:
    content = Answer((samples / "nano_dy.root").read_bytes(), "application/octet-stream")
    pages = {"/data/": apache_index("/data", ["a.root", "b.root"])}
    pages |= {f"/data/{name}.root": content for name in ("a", "b")}
    allowed = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    server = ServerProcess(tmp_path / "data", ("--workers", "1"), allowed, cwd=tmp_path)
    with running_web(pages) as url, server:
        first = start_client33(server.client_config, ask_for(f"{url}/data/*.root", "root-ttree")).wait()
        with server.client() as http:
            (entry,) = http.get("/servicex/transformation").json()["requests"]
        did = f"servicex://{entry['request_id']}"
        second = start_client33(server.client_config, ask_for(did, "root-ttree")).wait()
        refused = start_client33(server.client_config, ask_for(f"{did[:-4]}0000", "root-ttree")).wait()
    skims, again = (delivered(ran.answer[0][0]) for ran in (first, second))
    assert len(again) == 2
    assert again == skims, "all that was in it passes once more"
    assert "does not exist" in refused.messages + str(refused.answer)


def delivered(answer: dict[str, Any]) -> list[list[float]]:
    """What is in each of the files that the user has got."""
    columns = []
    for path in answer["delivered"]["the sample"]:
        with uproot.open(path) as file:
            columns.append(file["Events"]["MET_pt"].array().tolist())
    return columns
