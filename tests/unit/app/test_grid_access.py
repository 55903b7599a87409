"""Where the server's identity comes from, and that it reaches workers without default places."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from servicex_server.app import executor, ports
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import load
from servicex_server.errors import ConfigurationError
from servicex_server.grid.access import GridAccess
from servicex_server.grid.export import allowed_methods, export
from servicex_server.grid.place import write_private
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import PreflightDone, PreflightUnit
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.reading import Reading
from servicex_server.store.protocol import Store

GRID = ("X509_USER_PROXY", "X509_CERT_DIR", "BEARER_TOKEN_FILE", "BEARER_TOKEN")
XROOTD = ("XrdSecGSICREATEPROXY", "XrdSecGSIUSERCERT", "XrdSecGSIUSERKEY")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*GRID, *XROOTD, *(name for name in os.environ if name.startswith("SERVICEX_"))):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)


def test_settings_over_data_folder_over_environment(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    own = ports.grid_access(load(data_dir=tmp_path), data, {})
    assert (own.proxy_file, own.token_file, own.hosts) == (tmp_path / "grid" / "x509up", None, ())
    theirs = {
        "X509_USER_PROXY": "/their/proxy",
        "BEARER_TOKEN_FILE": "/their/token",
        "SERVICEX_GRID_HOSTS": "*",
    }
    found = ports.grid_access(load(data_dir=tmp_path), data, theirs)
    assert (found.proxy_file, found.token_file) == (Path("/their/proxy"), Path("/their/token"))
    write_private(data.proxy, b"made by our own command")
    assert ports.grid_access(load(data_dir=tmp_path), data, theirs).proxy_file == data.proxy
    settings = load(
        data_dir=tmp_path, x509_proxy_file=Path("/p"), bearer_token_file="/t", grid_hosts="a.test, b.test"
    )
    found = ports.grid_access(settings, data, theirs)
    assert (found.proxy_file, found.token_file) == (Path("/p"), Path("/t"))
    assert found.hosts == ("a.test", "b.test")
    assert not found.is_callers


def test_a_role_needs_a_vo() -> None:
    with pytest.raises(ConfigurationError, match="set proxy_vo as well"):
        load(proxy_role="production")
    for wrong in ("two words", "-out", "atlas:/x", ""):
        with pytest.raises(ConfigurationError, match="proxy_vo"):
            load(proxy_vo=wrong)


def test_the_identity_reaches_a_workers_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        data_dir=tmp_path, x509_proxy_file=tmp_path / "p", x509_cert_dir=tmp_path, grid_hosts=("a.test",)
    )
    data = DataDir(tmp_path)
    seen: list[SourcePolicy] = []

    def looked(
        unit: PreflightUnit, policy: SourcePolicy, _reading: Reading, *, store: Store
    ) -> PreflightDone:
        assert store.scratch_folder().is_relative_to(tmp_path)
        seen.append(policy)
        return PreflightDone(unit.request_id)

    monkeypatch.setattr(executor, "preflight_unit", looked)
    arguments = msgspec.msgpack.decode(msgspec.msgpack.encode(ports.executor(settings, data).kwargs))
    unit = PreflightUnit(RequestId("r"), (("a.root",),), "uproot-raw", "[]", ResultFormat.PARQUET)
    executor.build(**arguments)(unit)
    assert [policy.grid for policy in seen] == [ports.grid_access(settings, data)]
    assert os.environ["X509_CERT_DIR"] == str(tmp_path)


def test_the_client_is_told_what_there_is_at_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_USER_PROXY", "/somebody's")
    monkeypatch.setenv("BEARER_TOKEN", "somebody's")
    proxy, token = tmp_path / "proxy", tmp_path / "token"
    access = GridAccess(
        proxy_file=proxy, token_file=token, hosts=("door.test",), private_folder=tmp_path / "own"
    )
    always = "krb5,sss,unix,host,pwd"
    export(access)
    assert not {"X509_USER_PROXY", "BEARER_TOKEN", "BEARER_TOKEN_FILE"} & set(os.environ)
    assert allowed_methods(access, "door.test") == always
    write_private(proxy, b"p")
    write_private(token, b"t")
    export(access)
    assert os.environ["X509_USER_PROXY"] == str(proxy)
    assert os.environ["BEARER_TOKEN_FILE"] == str(token)
    assert allowed_methods(access, "door.test") == f"{always},gsi,ztn"
    assert allowed_methods(access, "other.test") == f"{always},gsi"
    token.unlink()
    export(access)
    assert allowed_methods(access, "door.test") == f"{always},gsi"


def test_what_a_group_may_read_is_copied_again_when_it_changes(tmp_path: Path) -> None:
    proxy = tmp_path / "x509up"
    access = GridAccess(proxy_file=proxy, private_folder=tmp_path / "own")
    for content in (b"one", b"another"):
        proxy.write_bytes(content)
        proxy.chmod(0o440)
        export(access)
        copy = Path(os.environ["X509_USER_PROXY"])
        assert copy == tmp_path / "own" / "x509up"
        assert (copy.read_bytes(), copy.stat().st_mode & 0o777) == (content, 0o600)
        proxy.chmod(0o640)


def test_a_callers_own_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X509_USER_PROXY", "/mine")
    mine = GridAccess(is_callers=True)
    export(mine)
    assert os.environ["X509_USER_PROXY"] == "/mine"
    assert allowed_methods(mine, "anywhere.test") is None
