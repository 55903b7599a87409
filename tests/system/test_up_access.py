"""Closed by default: what a running server refuses, each through its public door."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import httpx
import pytest

from server_process import ServerProcess

QUERY = '[{"treename": "Events", "filter_name": ["event", "nMuon"]}]'


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(samples / "nano_dy.root", folder / "good.root")
    return folder


@pytest.fixture(scope="module")
def server(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    flags = ("--workers", "1", "--local-root", str(inputs))
    # Below the root, as it is for everybody who just types `servicex-server up`.
    data_dir = inputs / "servicex-data"
    # The first hop of the redirect test is allowed by name; 127.0.0.1 itself is not.
    environment = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "localhost"}
    with ServerProcess(data_dir, flags, environment) as running:
        yield running


def body(*files: str) -> dict[str, object]:
    return {
        "file-list": list(files),
        "selection": QUERY,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }


def refusal(server: ServerProcess, file: str) -> str:
    """The message with which a request for this file is refused."""
    with server.client() as client:
        answer = client.post("/servicex/transformation", json=body(file))
    assert answer.status_code == 400, answer.text
    return str(answer.json()["message"])


def finished(server: ServerProcess, *files: str, token: str | None = None) -> dict[str, object]:
    with server.client(token) as client:
        request_id = client.post("/servicex/transformation", json=body(*files)).json()["request_id"]
    return server.wait_complete(request_id, token)


@pytest.mark.parametrize("path", ["/servicex", "/servicex/transformation", "/servicex/datasets"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
def test_without_the_right_token_there_is_no_answer(
    server: ServerProcess, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.get(server.url + path, headers=headers)
    assert answer.status_code == 401
    assert "token" in answer.json()["message"]


def test_wrong_token_gets_no_access_token(server: ServerProcess) -> None:
    answer = httpx.post(server.url + "/token/refresh", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert isinstance(answer.json()["message"], str)


@pytest.mark.parametrize(
    "header", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}]
)
def test_foreign_origin_or_host_is_refused_even_with_the_token(
    server: ServerProcess, header: dict[str, str]
) -> None:
    with server.client() as client:
        answer = client.get("/servicex/transformation", headers=header)
    assert answer.status_code == 403
    assert isinstance(answer.json()["message"], str)


def test_path_outside_the_roots_is_refused(server: ServerProcess, inputs: Path) -> None:
    message = refusal(server, "/etc/passwd")
    assert "/etc/passwd" in message
    assert str(inputs) in message


def test_dotted_path_out_of_the_roots_is_refused(server: ServerProcess, inputs: Path) -> None:
    assert "/etc/passwd" in refusal(server, f"{inputs}/../../../../../../etc/passwd")


def test_symlink_out_of_the_roots_is_refused(server: ServerProcess, inputs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.root"
    shutil.copy(inputs / "good.root", outside)
    link = inputs / "link.root"
    link.symlink_to(outside)
    assert "link.root" in refusal(server, str(link))


def test_the_servers_own_folder_is_no_input(server: ServerProcess, inputs: Path) -> None:
    finished(server, str(inputs / "good.root"))
    result = next(path for path in server.data_dir.glob("store/objects/**/*") if path.is_file())
    link = inputs / "own.root"
    link.symlink_to(result)
    for path in (result, server.data_dir / "secret", server.client_config, link, "servicex-data/secret"):
        assert "except the server's own data folder" in refusal(server, str(path))


def test_a_missing_file_is_refused_at_once(server: ServerProcess, inputs: Path) -> None:
    assert "'gone.root' does not exist" in refusal(server, "gone.root")
    assert f"data set local://{inputs}/*.root" in refusal(server, f"{inputs}/*.root")


def test_what_is_no_root_file_is_refused_without_a_word_of_it(server: ServerProcess, inputs: Path) -> None:
    (inputs / "diary.txt").write_text("Dear diary, today I met the spectre of ROOT files")
    status = finished(server, "diary.txt")
    with server.client() as client:
        page = client.get(f"/servicex/transformation/{status['request_id']}/errors")
    assert "is not a ROOT file" in page.text
    assert "Dear" not in page.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/healthz",
        "http://[::1]:{port}/x.root",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0:{port}/x.root",
        "http://2130706433:{port}/x.root",
        "root://127.0.0.1//store/x.root",
        "gopher://127.0.0.1/x.root",
    ],
)
def test_url_to_this_machine_is_refused(server: ServerProcess, url: str) -> None:
    port = server.url.rpartition(":")[2]
    assert isinstance(refusal(server, url.format(port=port)), str)


def test_redirect_to_loopback_is_refused(server: ServerProcess) -> None:
    reached = threading.Event()

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/inner.root":
                reached.set()
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/inner.root")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815  the library's name

        def log_message(self, format: str, *args: object) -> None:
            pass

    redirecting = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=redirecting.serve_forever, daemon=True).start()
    try:
        status = finished(server, f"http://localhost:{redirecting.server_port}/outer.root")
        assert (status["files-completed"], status["files-failed"]) == (0, 1)
        with server.client() as client:
            results = client.get(f"/servicex/transformation/{status['request_id']}/results").json()["results"]
            page = client.get(f"/servicex/transformation/{status['request_id']}/errors").json()
        assert results[0]["transform_status"] == "failure"
        assert "127.0.0.1" in page["errors"][0]["info"]
        assert not reached.is_set()
    finally:
        redirecting.shutdown()
        redirecting.server_close()


def test_another_requests_key_opens_nothing(server: ServerProcess, inputs: Path) -> None:
    mine = finished(server, str(inputs / "good.root"))
    other = finished(server, str(inputs / "good.root"))
    s3 = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=mine["minio-access-key"],
        aws_secret_access_key=mine["minio-secret-key"],
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    assert s3.list_objects_v2(Bucket=mine["request_id"])["KeyCount"] == 1
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=other["request_id"])


def test_two_owners_do_not_see_each_other(server: ServerProcess, inputs: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "servicex_server", "token", "create", "bob", "--data-dir", server.data_dir],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    bob = made.stdout.strip()
    alices = finished(server, str(inputs / "good.root"))
    bobs = finished(server, str(inputs / "good.root"), token=bob)
    with server.client(bob) as client:
        assert client.get(f"/servicex/transformation/{alices['request_id']}").status_code in {403, 404}
        assert client.get(f"/servicex/transformation/{alices['request_id']}/cancel").status_code in {403, 404}
        assert client.delete(f"/servicex/transformation/{alices['request_id']}").status_code in {403, 404}
        listed = client.get("/servicex/transformation").json()["requests"]
    assert [request["request_id"] for request in listed] == [bobs["request_id"]]
    subprocess.run(
        [sys.executable, "-m", "servicex_server", "token", "revoke", "bob", "--data-dir", server.data_dir],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (
        httpx.post(server.url + "/token/refresh", headers={"Authorization": f"Bearer {bob}"}).status_code
        == 401
    )


def test_open_server_still_gives_a_client_with_a_token_a_decodable_one(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", ("--no-auth", "--workers", "1")) as running:
        assert httpx.get(running.url + "/servicex/transformation").status_code == 200
        answer = httpx.post(running.url + "/token/refresh", headers={"Authorization": "Bearer whatever"})
        assert answer.status_code == 200
        assert answer.json()["access_token"].count(".") == 2
        assert "token:" not in running.client_config.read_text()


def test_a_server_open_to_the_network_warns(tmp_path: Path) -> None:
    loud, quiet = (
        ServerProcess(tmp_path / name, ("--workers", "1", "--no-auth", "--host", host), cwd=tmp_path)
        for name, host in (("network", "0.0.0.0"), ("loopback", "127.0.0.1"))
    )
    for server in (loud, quiet):
        with server:
            assert httpx.get(f"{server.url}/servicex").status_code == 200
    assert "WARNING: open to the network" in loud.log.read_text()
    assert "answers requests to localhost alone" in loud.log.read_text()
    assert "WARNING" not in quiet.log.read_text()
