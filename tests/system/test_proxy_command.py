"""`servicex-server proxy`, `init`, `clear` and `check` as an administrator runs them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from grid_pki import (
    Pair,
    TestAuthority,
    VomsStandIn,
    fake_voms_proxy,
    make_voms_stand_in,
    require_voms,
)
from kubernetes_api import FakeApi, running_kubectl_proxy
from servicex_server.app.grid_checks import examine_grid
from servicex_server.app.settings import load
from servicex_server.grid.proxy import Proxy, load_proxy
from xrootd_server import free_port

WAIT_S = 20.0
PASSPHRASE = "open sesame street"


@dataclass
class Site:
    """A machine with a user's certificate and VOMS commands."""

    folder: Path
    authority: TestAuthority
    user: Pair
    voms: VomsStandIn
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def proxy(self) -> Path:
        return self.data / "grid" / "x509up"

    def environment(self) -> dict[str, str]:
        settings = {"data_dir": str(self.data), "proxy_vo": "atlas", **self.settings}
        return {
            **self.authority.environment(),
            "PATH": f"{self.voms.folder}{os.pathsep}{os.environ['PATH']}",
            **{f"SERVICEX_{name.upper()}": value for name, value in settings.items()},
        }

    def run(self, *arguments: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command to its end; `said` is its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "servicex_server", *arguments],
            input="" if said is None else said,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def check(self) -> dict[str, tuple[str, str]]:
        """Grade and detail of each finding."""
        flags: dict[str, object] = {"data_dir": self.data, "proxy_vo": "atlas", **self.settings}
        return {each.subject: (each.grade, each.detail) for each in examine_grid(load(None, **flags))}

    def found(self) -> Proxy:
        proxy = load_proxy(self.proxy)
        assert proxy is not None
        return proxy


@dataclass
class Keeping:
    """A `servicex-server proxy` that runs."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Returns when its log has these words so often."""
        end = time.monotonic() + WAIT_S
        while len(re.findall(words, self.log.read_text())) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                message = f"no {words!r} in the log:\n{self.log.read_text()}"
                raise AssertionError(message)
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    require_voms()
    return TestAuthority(tmp_path_factory.mktemp("grid") / "ca")


@pytest.fixture(autouse=True)
def _own_account_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("X509_USER_PROXY", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def user(authority: TestAuthority) -> Pair:
    return authority.issue("Jane Analyst", passphrase=PASSPHRASE.encode())


@pytest.fixture(scope="module")
def voms_server(authority: TestAuthority) -> Pair:
    return authority.found_vo()


@pytest.fixture
def site(authority: TestAuthority, user: Pair, voms_server: Pair, tmp_path: Path) -> Site:
    stand_in = make_voms_stand_in(authority, voms_server, tmp_path / "bin")
    return Site(tmp_path, authority, user, stand_in)


@pytest.fixture
def keep(site: Site) -> Iterator[Callable[..., Keeping]]:
    started: list[subprocess.Popen[str]] = []

    def start(passphrase: str = PASSPHRASE) -> Keeping:
        log = site.folder / f"proxy{len(started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "servicex_server", "proxy", "--cert-dir", str(site.user.cert.parent)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=site.environment(),
                text=True,
            )
        assert process.stdin is not None
        process.stdin.write(passphrase + "\n")
        process.stdin.close()
        started.append(process)
        return Keeping(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_proxy_is_kept_fresh_while_renewals_fail(site: Site, keep: Callable[..., Keeping]) -> None:
    port = free_port()
    site.settings |= {"proxy_metrics_port": str(port), "proxy_renew_fraction": "0.001"}
    keeping = keep()
    keeping.wait_for("proxy.renewed")
    assert site.proxy.stat().st_mode & 0o777 == 0o600
    first = site.found()
    assert (first.subject, first.vo) == (site.user.subject, "atlas")
    numbers = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    expiry = re.search(r"^servicex_proxy_expiry_timestamp_seconds (\S+)$", numbers, re.MULTILINE)
    assert expiry is not None
    assert float(expiry[1]) == first.expires_at.timestamp()
    assert 'servicex_proxy_renewals_total{outcome="renewed"} 1.0' in numbers
    assert keeping.stop() == 0
    assert site.found() == first, "the proxy outlives its keeper"
    assert site.check()["grid proxy"][0] == "ok"

    site.voms.fail("None of the contacted servers for atlas were capable of returning a valid AC")
    site.settings["proxy_renew_fraction"] = "0.000001"
    keeping = keep()
    keeping.wait_for(r"proxy\.kept: .*None of the contacted servers")
    assert site.found() == first
    keeping.stop()
    site.voms.fail(None)
    keeping = keep()
    keeping.wait_for("proxy.renewed")
    assert site.found() != first
    for log in site.folder.glob("proxy*.log"):
        assert "sesame" not in log.read_text()


def test_one_shot_tells_what_is_wrong(site: Site) -> None:
    cert_dir = str(site.user.cert.parent)
    for said, words in (("wrong\n", "the passphrase is wrong"), ("", "give it on the standard input")):
        done = site.run("proxy", "--once", "--cert-dir", cert_dir, said=said)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
    done = site.run("proxy", "--once", "--cert-dir", cert_dir, said=PASSPHRASE + "\n")
    assert done.returncode == 0, done.stderr
    assert f"made a proxy: {site.user.subject} of VO atlas" in done.stdout
    kept = site.proxy.read_bytes()
    site.voms.fail(
        'Contacting  voms2.cern.ch:15001 [/CN=x] "atlas" Failed\n\nError: atlas: User unknown to this VO.\n'
        "\n\nNone of the contacted servers for atlas were capable\nof returning a valid AC for the user.\n"
    )
    done = site.run("proxy", "--once", "--cert-dir", cert_dir, said=PASSPHRASE + "\n")
    assert done.returncode == 1
    assert "atlas: User unknown to this VO; register the certificate with the VO atlas" in done.stderr
    site.voms.fail(None)
    site.settings["proxy_vo"] = "nosuch"
    done = site.run("proxy", "--once", "--cert-dir", cert_dir, said=PASSPHRASE + "\n")
    assert done.returncode == 1
    assert "VOMS Server for nosuch not known" in done.stderr
    assert site.proxy.read_bytes() == kept
    assert not any("sesame" in call for call in site.voms.calls())


def test_a_role_is_asked_for_and_granted(site: Site) -> None:
    site.settings["proxy_role"] = "production"
    done = site.run("proxy", "--once", "--cert-dir", str(site.user.cert.parent), said=PASSPHRASE + "\n")
    assert done.returncode == 0, done.stderr
    assert site.found().names[0] == "/atlas/Role=production/Capability=NULL"
    assert "-voms atlas:/atlas/Role=production" in site.voms.calls()[-1]


def test_without_the_command_a_vo_is_refused_in_words(site: Site, tmp_path: Path) -> None:
    environment = {**site.environment(), "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "servicex_server", "proxy", "--once"]
    done = subprocess.run(
        [*command, "--cert-dir", str(site.user.cert.parent)],
        input=PASSPHRASE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs the command voms-proxy-init, not installed here (package voms-clients" in done.stderr


def test_certificates_are_installed_used_and_removed(site: Site) -> None:
    source = str(site.user.cert.parent)
    done = site.run("init", "--cert-dir", source, said="wrong\n")
    assert done.returncode == 1
    assert not (site.data / "grid").exists()
    done = site.run("init", "--cert-dir", source, said=PASSPHRASE + "\n")
    assert done.returncode == 0, done.stderr
    assert f"installed in {site.data / 'grid'}: {site.user.subject}, until 20" in done.stdout
    modes = {path.name: path.stat().st_mode & 0o777 for path in (site.data / "grid").iterdir()}
    assert modes == {"usercert.pem": 0o600, "userkey.pem": 0o600}
    assert (site.data / "grid").stat().st_mode & 0o777 == 0o700
    assert "ENCRYPTED" in (site.data / "grid" / "userkey.pem").read_text(), "the passphrase still protects it"
    assert site.run("proxy", "--once", said=PASSPHRASE + "\n").returncode == 0
    findings = site.check()
    assert findings["grid certificate"][0] == "ok"
    assert findings["grid proxy"][0] == "ok"
    done = site.run("clear")
    assert done.stdout.count("removed ") == 3
    assert list((site.data / "grid").iterdir()) == []
    assert site.run("clear").stdout == "there was nothing to remove\n"
    done = site.run("proxy", "--once", said=PASSPHRASE + "\n")
    assert (done.returncode, "servicex-server init" in done.stderr) == (1, True)


def test_the_advice_of_init_makes_what_it_needs(site: Site) -> None:
    folder = site.folder / "mine"
    folder.mkdir()
    done = site.run("init", "--cert-dir", str(folder))
    assert done.returncode == 1
    assert f"cannot read {folder / 'usercert.pem'}: No such file or directory" in done.stderr
    assert "servicex-server init" not in done.stderr
    secret = f"pass:{PASSPHRASE}"
    pair = ["-in", str(site.user.cert), "-inkey", str(site.user.key), "-passin", secret, "-passout", secret]
    subprocess.run(["openssl", "pkcs12", "-export", *pair, "-out", "cert.p12"], cwd=folder, check=True)
    first, second, third = re.findall("`(.*?)`", done.stderr)
    for command, more in ((first, ["-passin", secret]), (second, pair[-4:]), (third, [])):
        subprocess.run([*shlex.split(command), *more], cwd=folder, check=True)
    done = site.run("init", "--cert-dir", str(folder), said=PASSPHRASE + "\n")
    assert done.returncode == 0, done.stderr
    assert site.user.subject in done.stdout


def test_check_tells_of_a_proxy_and_token_that_end(
    site: Site, authority: TestAuthority, voms_server: Pair
) -> None:
    assert site.run("check").returncode == 0
    findings = site.check()
    assert not {"grid proxy", "grid certificate", "bearer token"} & set(findings)
    plain = authority.issue("Robot")
    site.proxy.parent.mkdir(parents=True, mode=0o700)
    fake_voms_proxy(authority, plain, voms_server, site.proxy, life_s=600)
    token = site.folder / "token"
    token.write_text("opaque")
    site.settings["bearer_token_file"] = str(token)
    findings = site.check()
    grade, detail = findings["grid proxy"]
    assert (grade, plain.subject in detail) == ("warning", True)
    assert "does `servicex-server proxy` run" in detail
    grade, detail = findings["bearer token"]
    assert (grade, "shown to nobody" in detail) == ("warning", True)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    with running_kubectl_proxy(tmp_path) as running:
        yield running


def test_secrets_of_a_cluster(site: Site, api: FakeApi) -> None:
    site.settings |= {
        "kubernetes_api": f"http://127.0.0.1:{api.port}",
        "kubernetes_namespace": "analysis",
        "proxy_secret": "x509-proxy",
    }
    source = str(site.user.cert.parent)
    done = site.run("init", "--cert-dir", source, "--namespace", "analysis", said=PASSPHRASE + "\n")
    assert done.returncode == 0, done.stderr
    values = api.values("grid-certs-secret")
    assert set(values) == {"usercert.pem", "userkey.pem", "passphrase"}
    # As a pod mounts it, with the passphrase as standard input.
    mounted = site.folder / "mounted"
    mounted.mkdir()
    for name, content in values.items():
        (mounted / name).write_bytes(content)
    said = (mounted / "passphrase").read_text()
    done = site.run("proxy", "--once", "--cert-dir", str(mounted), said=said)
    assert done.returncode == 0, done.stderr
    assert api.values("x509-proxy")["x509up"] == site.proxy.read_bytes()
    done = site.run("clear", "--namespace", "analysis")
    assert (done.returncode, api.secrets) == (0, {})
    api.fault = 403
    done = site.run("init", "--cert-dir", source, "--namespace", "analysis", said=PASSPHRASE + "\n")
    assert done.returncode == 1
    assert "Kubernetes refuses to PATCH Secret grid-certs-secret in namespace analysis: 403" in done.stderr
