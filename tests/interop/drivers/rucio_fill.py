"""Fill a Rucio server with the content that comes as JSON on standard input, through Rucio's own client."""

from __future__ import annotations

import json
import sys
from typing import Any

from rucio.client import Client

SCOPE, RSE, AWAY = "test", "TEST_DISK", "AWAY_DISK"


def fill(client: Any, content: dict[str, Any]) -> None:
    """All in one scope and at one site, with the files as data sets, and data sets as containers."""
    client.add_scope("root", SCOPE)
    for rse, host in ((RSE, content["host"]), (AWAY, "away.example")):
        client.add_rse(rse, deterministic=False)
        everywhere = {"read": 1, "write": 1, "delete": 1}
        protocol = {
            "scheme": "root",
            "hostname": host,
            "port": content["port"],
            "prefix": "//store",
            "impl": "rucio.rse.protocols.xrootd.Default",
            "domains": {"lan": everywhere, "wan": everywhere | {"third_party_copy_read": 1}},
        }
        client.add_protocol(rse, protocol)
    files = {file["name"]: _to_file(file, content["port"]) for file in content["files"]}
    for rse in (RSE, AWAY):
        there = [file for file in files.values() if ("away.example" in file["pfn"]) == (rse == AWAY)]
        for start in range(0, len(there), 500):
            client.add_replicas(rse, there[start : start + 500])
    client.update_rse(AWAY, {"availability_read": False})
    for name, members in content["datasets"].items():
        client.add_dataset(SCOPE, name)
        for start in range(0, len(members), 500):
            client.attach_dids(SCOPE, name, [files[member] for member in members[start : start + 500]])
    for name, members in content["containers"].items():
        client.add_container(SCOPE, name)
        client.attach_dids(SCOPE, name, [{"scope": SCOPE, "name": member} for member in members])


def _to_file(file: dict[str, Any], port: int) -> dict[str, Any]:
    entry = {
        "scope": SCOPE,
        "name": file["name"],
        "bytes": file["size_bytes"],
        "adler32": file["adler32"],
        "pfn": file["pfn"] or f"root://away.example:{port}//store/{file['name']}",
    }
    if file["n_events"] is not None:
        entry["meta"] = {"events": file["n_events"]}
    return entry


if __name__ == "__main__":
    job = json.load(sys.stdin)
    fill(
        Client(
            rucio_host=job["url"],
            auth_host=job["url"],
            account="root",
            auth_type="userpass",
            creds={"username": job["username"], "password": job["password"]},
            ca_cert=job["ca_file"],
        ),
        job,
    )
