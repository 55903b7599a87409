"""What proxies, tokens and certificates say, and who the server is by them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from grid_pki import Pair, TestAuthority, fake_voms_proxy, require_voms
from servicex_server.errors import CredentialError
from servicex_server.grid.access import GridAccess, callers_access
from servicex_server.grid.certificate import UserFiles, load_certificate, open_key
from servicex_server.grid.identity import explain_refusal, service_identity
from servicex_server.grid.maker import PlainProxy, ProxyWish, VomsProxyInit, checked
from servicex_server.grid.proxy import load_proxy, parse_proxy
from servicex_server.grid.token import find_authorization, parse_token, read_token
from servicex_server.grid.voms import parse_attributes
from xrootd_server import free_port

HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def voms_proxy(
    authority: TestAuthority, jane: Pair, voms_server: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    require_voms()
    path = tmp_path_factory.mktemp("proxy") / "x509up"
    fake_voms_proxy(authority, jane, voms_server, path, role="production", life_s=7200)
    return path


def make_token(path: Path, **claims: object) -> Path:
    path.write_text(jwt.encode(claims, "a secret of no less than 32 bytes") + "\n")
    return path


def test_a_voms_proxy_tells_whose_it_is_and_until_when(voms_proxy: Path, jane: Pair) -> None:
    proxy = load_proxy(voms_proxy)
    assert proxy is not None
    assert (proxy.subject, proxy.vo) == (jane.subject, "atlas")
    assert proxy.names == ("/atlas/Role=production/Capability=NULL", "/atlas/Role=NULL/Capability=NULL")
    assert timedelta(minutes=115) < proxy.expires_at - datetime.now(UTC) <= 2 * HOUR
    assert str(proxy).startswith(f"{jane.subject} of VO atlas, until 20")


def test_no_file_is_no_proxy(empty: Path) -> None:
    assert load_proxy(empty) is None
    assert service_identity(GridAccess(proxy_file=empty, token_file=empty)) is None


def test_what_is_no_proxy_is_refused(voms_proxy: Path, jane: Pair, mary: Pair, tmp_path: Path) -> None:
    pem = voms_proxy.read_bytes()
    key = jane.key.read_bytes()
    for content, words in (
        (b"", "not a proxy"),
        (b"garbage", "not a proxy"),
        (pem[: len(pem) // 3], "not a proxy"),
        (jane.cert.read_bytes(), "it holds no private key"),
        (jane.cert.read_bytes() + key, "not a proxy, but a certificate"),
        (mary.cert.read_bytes() + key, "its key does not belong to its first certificate"),
    ):
        with pytest.raises(CredentialError, match=words):
            parse_proxy(content)
    broken = tmp_path / "x509up"
    broken.write_bytes(b"garbage")
    with pytest.raises(CredentialError, match="x509up: not a proxy"):
        service_identity(GridAccess(proxy_file=broken))


@pytest.mark.parametrize("cut", [0, 1, 5, 40, 200, -1])
def test_cut_attributes_are_an_error_and_no_crash(voms_proxy: Path, cut: int) -> None:
    from cryptography import x509  # noqa: PLC0415

    (first, *_) = x509.load_pem_x509_certificates(voms_proxy.read_bytes())
    extension = next(each for each in first.extensions if each.oid.dotted_string.endswith(".100.100.5"))
    whole = extension.value.public_bytes()
    assert parse_attributes(whole)[0].vo == "atlas"
    with pytest.raises(ValueError, match=r"DER|attributes|unpack"):
        parse_attributes(whole[:cut])


def test_a_plain_proxy_is_one_for_openssl_and_for_us(
    authority: TestAuthority, mary: Pair, tmp_path: Path
) -> None:
    wish = ProxyWish(life_s=3600)
    pem = PlainProxy(UserFiles(mary.cert.parent), wish).make(b"open sesame")
    proxy = checked(pem, wish)
    assert (proxy.subject, proxy.vo) == (mary.subject, None)
    assert timedelta(minutes=58) < proxy.expires_at - datetime.now(UTC) <= HOUR
    file = tmp_path / "proxy"
    file.write_bytes(pem)
    command = ["openssl", "verify", "-allow_proxy_certs", "-CApath", str(authority.cert_dir)]
    subprocess.run([*command, "-untrusted", str(mary.cert), str(file)], check=True, stdout=subprocess.DEVNULL)


def test_a_proxy_does_not_outlive_its_certificate(authority: TestAuthority, jane: Pair) -> None:
    wish = ProxyWish(life_s=365 * 86400)
    proxy = checked(PlainProxy(UserFiles(jane.cert.parent), wish).make(None), wish)
    assert proxy.expires_at == load_certificate(UserFiles(jane.cert.parent)).expires_at


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [(b"wrong", "the passphrase is wrong"), (None, "give it on the standard input"), (b"", "standard input")],
)
def test_a_wrong_passphrase_is_told_without_it(mary: Pair, passphrase: bytes | None, words: str) -> None:
    user = load_certificate(UserFiles(mary.cert.parent))
    with pytest.raises(CredentialError, match=words) as caught:
        open_key(user, passphrase)
    assert "wrong'" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_wrong_files_are_told(authority: TestAuthority, jane: Pair, mary: Pair, tmp_path: Path) -> None:
    files = UserFiles(tmp_path)
    with pytest.raises(CredentialError, match=r"usercert\.pem.*servicex-server init"):
        load_certificate(files)
    files.cert.write_bytes(mary.cert.read_bytes())
    files.key.write_bytes(jane.key.read_bytes())
    with pytest.raises(CredentialError, match="is not the key of the certificate"):
        open_key(load_certificate(files), None)
    old = authority.issue("Old User", days=-1)
    with pytest.raises(CredentialError, match="expired on"):
        load_certificate(UserFiles(old.cert.parent)).require_valid()


def test_the_real_command_tells_what_it_misses(
    authority: TestAuthority, mary: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_voms()
    monkeypatch.setenv("X509_VOMS_DIR", str(authority.voms_dir))
    servers = tmp_path / "vomses"
    servers.write_text(f'"atlas" "127.0.0.1" "{free_port()}" "/DC=test/CN=voms" "atlas"\n')
    servers.chmod(0o644)
    monkeypatch.setenv("VOMS_USERCONF", str(servers))
    for vo, words in (
        ("nosuch", "VOMS Server for nosuch not known.*`proxy_vo` nosuch spelt right.*/etc/vomses"),
        ("atlas", "(?i)(failed|connect).*does the network let this machine reach"),
    ):
        wish = ProxyWish(vo=vo, cert_dir=authority.cert_dir)
        with pytest.raises(CredentialError, match=words) as caught:
            VomsProxyInit(UserFiles(mary.cert.parent), wish).make(b"open sesame")
        for noise in ("sesame", "Function", "identity", "....", "\n"):
            assert noise not in str(caught.value)


def test_wishes_that_are_not_granted(voms_proxy: Path) -> None:
    pem = voms_proxy.read_bytes()
    checked(pem, ProxyWish(vo="atlas", role="production"))
    with pytest.raises(CredentialError, match="of the VO atlas, not of cms"):
        checked(pem, ProxyWish(vo="cms"))
    with pytest.raises(CredentialError, match="lacks the role admin; it has /atlas/Role=production"):
        checked(pem, ProxyWish(vo="atlas", role="admin"))


def test_the_identity_names_no_secret_and_outlives_renewals(
    authority: TestAuthority, jane: Pair, voms_server: Pair, voms_proxy: Path, tmp_path: Path
) -> None:
    token = make_token(tmp_path / "token", iss="https://iam.test/", sub="robot", exp=1)
    access = GridAccess(proxy_file=voms_proxy, token_file=token)
    identity = service_identity(access)
    assert identity == f"x509 {jane.subject} VO atlas + token https://iam.test/ robot"
    fake_voms_proxy(authority, jane, voms_server, tmp_path / "next")
    make_token(token, iss="https://iam.test/", sub="robot", exp=2)
    assert service_identity(GridAccess(proxy_file=tmp_path / "next", token_file=token)) == identity


def test_a_token_of_nobody_is_no_identity(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("opaque")
    with pytest.raises(CredentialError, match="does not say whose token it is"):
        service_identity(GridAccess(token_file=token))


@pytest.mark.parametrize("text", ["", "a.b.c", "no jwt", "a.W10.c", "a.eyJleHAiOjFlOTl9.c", "x" * 300])
def test_any_text_is_some_token(text: str) -> None:
    assert parse_token(text).issuer is None


def test_a_token_is_one_word(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content, found in (("", None), ("  abc\n", "abc")):
        file.write_text(content)
        assert read_token(file) == found
    for content in ("two words", "line\nline", "x" * 70_000, "snö"):
        file.write_text(content)
        with pytest.raises(CredentialError, match="holds no bearer token"):
            read_token(file)


def test_only_hosts_that_are_named_see_the_token(tmp_path: Path) -> None:
    file = make_token(tmp_path / "token", sub="robot")
    access = GridAccess(token_file=file, hosts=("door.example.org", "*.cern.test"))
    for url in ("https://door.example.org/f", "https://eos.cern.test:8443/f", "https://DOOR.example.org./f"):
        assert find_authorization(access, url) == read_token(file), url
    for url in (
        "http://door.example.org/f",
        "https://example.org/f",
        "https://cern.test/f",
        "https://evil.test/door.example.org",
        "https://door.example.org@evil.test/",
        "https://evilcern.test/",
    ):
        assert find_authorization(access, url) is None, url
    assert find_authorization(GridAccess(token_file=file), "https://door.example.org/f") is None


def test_a_refusal_is_explained(voms_proxy: Path, tmp_path: Path, empty: Path) -> None:
    proxy = load_proxy(voms_proxy)
    assert proxy is not None
    before, after = proxy.expires_at - HOUR, proxy.expires_at + HOUR
    access = GridAccess(proxy_file=voms_proxy)
    assert explain_refusal(access, "door.test", before) == (
        f"; the proxy of this server is that of {proxy}",
        False,
    )
    words, is_passing = explain_refusal(access, "door.test", after)
    assert is_passing
    assert "EXPIRED" in words
    token = make_token(tmp_path / "token", iss="i", sub="s", exp=before.timestamp())
    words, is_passing = explain_refusal(GridAccess(token_file=token, hosts=("*",)), "door.test", after)
    assert is_passing
    assert "bearer token EXPIRED" in words
    words, _ = explain_refusal(GridAccess(token_file=token), "door.test", after)
    assert "not shown to door.test" in words
    words, is_passing = explain_refusal(GridAccess(proxy_file=empty), "door.test")
    assert (str(empty) not in words, is_passing) == (True, False), "paths are the operator's"


def test_the_callers_own_access() -> None:
    access = callers_access({"X509_USER_PROXY": "/p", "SERVICEX_GRID_HOSTS": "a.test, *.b.test"})
    assert access.is_callers
    assert (access.proxy_file, access.token_file) == (Path("/p"), None)
    assert access.hosts == ("a.test", "*.b.test")
