"""What may be read, decided from the location alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servicex_server.errors import SourceMissing, SourceRefused, SourceUnavailable
from servicex_server.source import address
from servicex_server.source.local import LocalSource
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN, SourcePolicy, check


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.root").write_bytes(b"root....")
    (tmp_path / "secret.root").write_bytes(b"root....")
    return folder


@pytest.fixture
def policy(root: Path) -> SourcePolicy:
    return SourcePolicy(local_roots=(root,))


@pytest.mark.parametrize(
    "form", ["{root}/x.root", "file://{root}/x.root", "file://localhost{root}/x.root", "x.root"]
)
def test_a_file_below_a_root_is_read_in_every_spelling(form: str, root: Path, policy: SourcePolicy) -> None:
    assert check(policy, form.format(root=root)) == str(root / "x.root")


def test_relative_paths_are_looked_up_below_each_root(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "in").mkdir(parents=True)
    (other / "in" / "y.root").touch()
    policy = SourcePolicy(local_roots=(root, other))
    assert check(policy, "in/y.root") == str(other / "in" / "y.root")


@pytest.mark.parametrize(
    "location",
    [
        "{root}/../secret.root",
        "../secret.root",
        "{root}/link/secret.root",
        "{root}/link.root",
        "link.root",
        "file://{root}/%2e%2e/secret.root",
        "{root}-sibling/x.root",
        "/etc/passwd",
        "/proc/self/environ",
    ],
)
def test_paths_that_lead_out_of_the_roots_are_refused(
    location: str, root: Path, policy: SourcePolicy
) -> None:
    (root / "link").symlink_to(root.parent)
    (root / "link.root").symlink_to(root.parent / "secret.root")
    with pytest.raises(SourceRefused, match=f"local roots: {root}"):
        check(policy, location.format(root=root))


def test_a_root_that_is_itself_a_link_serves_what_lies_behind(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    policy = SourcePolicy(local_roots=(tmp_path / "alias",))
    assert check(policy, str(tmp_path / "alias" / "x.root")) == str(root / "x.root")


def test_a_link_swapped_in_after_the_check_does_not_open(root: Path, policy: SourcePolicy) -> None:
    checked = check(policy, "x.root")
    (root / "x.root").unlink()
    (root / "x.root").symlink_to(root.parent / "secret.root")
    with pytest.raises(SourceRefused):
        LocalSource(checked, policy)


def test_a_folder_swapped_for_a_link_after_the_check_does_not_open(root: Path, policy: SourcePolicy) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "secret.root").touch()
    checked = check(policy, "sub/secret.root")
    (root / "sub").rename(root / "gone")
    (root / "sub").symlink_to(root.parent)
    with pytest.raises(SourceRefused, match="not below"):
        LocalSource(checked, policy)


def test_forbidden_folders_below_a_root_are_refused_by_every_path(root: Path) -> None:
    own = root / "own"
    (own / "store").mkdir(parents=True)
    (own / "store" / "result").touch()
    (root / "alias").symlink_to(own)
    (root / "result.root").symlink_to(own / "store" / "result")
    policy = SourcePolicy(local_roots=(root,), forbidden_folders=(root / "alias",))
    for path in ("own/store/result", f"{own}/store/result", "alias/store/result", "result.root", "own"):
        with pytest.raises(SourceRefused, match="except the server's own data folder"):
            check(policy, path)
    assert check(policy, "x.root") == str(root / "x.root")
    (root / "own-sibling").touch()
    assert check(policy, "own-sibling") == str(root / "own-sibling")


def test_a_forbidden_folder_swapped_in_after_the_check_does_not_open(root: Path) -> None:
    (root / "own").mkdir()
    (root / "own" / "x.root").touch()
    (root / "sub").mkdir()
    (root / "sub" / "x.root").touch()
    policy = SourcePolicy(local_roots=(root,), forbidden_folders=(root / "own",))
    checked = check(policy, "sub/x.root")
    (root / "sub").rename(root / "gone")
    (root / "sub").symlink_to(root / "own")
    with pytest.raises(SourceRefused, match="not below"):
        LocalSource(checked, policy)


def test_nothing_local_is_read_without_roots() -> None:
    with pytest.raises(SourceRefused, match=r"none are configured \(setting `local_roots` of this server"):
        check(SourcePolicy(), "/etc/passwd")


def test_folders_and_pipes_are_refused(root: Path, policy: SourcePolicy) -> None:
    os.mkfifo(root / "pipe.root")
    for name in (".", "pipe.root"):
        with pytest.raises(SourceRefused, match="not a regular file"):
            open_source(name, policy)


def test_a_missing_file_is_no_reason_to_try_again(policy: SourcePolicy) -> None:
    with pytest.raises(SourceMissing, match="No such file"):
        open_source("no.root", policy)


@pytest.mark.parametrize(
    "location", ["", "a\nb", "a\x00b", "ftp://host/x", "s3://b/k", "data://x", "file://other/x"]
)
def test_other_locations_are_refused_with_what_is_allowed(location: str, policy: SourcePolicy) -> None:
    with pytest.raises(SourceRefused, match=r"allowed is .*file:///?"):
        check(policy, location)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://localhost:8000/x",
        "http://LOCALHOST./x",
        "https://sub.localhost/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://0.0.0.0/x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://169.254.169.254/latest",
        "http://10.1.2.3/x",
        "http://192.168.0.1/x",
        "http://100.64.0.1/x",
        "http://[fe80::1]/x",
        "http://[fd00::1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://224.0.0.1/x",
        "root://127.0.0.1//x",
        "root://user@localhost//x",
    ],
)
def test_urls_into_private_networks_are_refused(url: str, policy: SourcePolicy) -> None:
    with pytest.raises(SourceRefused, match="loopback, link-local, private or reserved"):
        check(policy, url)


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8/x", "https://example.org/x.root", "root://eos.example.org//store/x"]
)
def test_urls_to_the_open_internet_pass(url: str, policy: SourcePolicy) -> None:
    assert check(policy, url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http:///x",
        "http://host:port/x",
        "http://host:65536/x",
        "http://[::1/x",
        "http://1.1.1.1\\@127.0.0.1/x",
        "http://a@1.1.1.1@127.0.0.1/x",
        "http://127.0.0%2e1/x",
        "root://1.1.1.1",
        "root://1.1.1.1#@127.0.0.1:1094//x",
        "root://1.1.1.1?@127.0.0.1:1094//x",
        "root://1.1.1.1\\@127.0.0.1:1094//x",
        "root://a@1.1.1.1@127.0.0.1:1094//x",
        "root://a:b@1.1.1.1//x",
        "root://1.1.1.1,127.0.0.1//x",
        "root://1.1.1.1 //x",
        "root://\u0661.1.1.1//x",
    ],
)
def test_urls_without_a_usable_host_are_refused(url: str, policy: SourcePolicy) -> None:
    with pytest.raises(SourceRefused, match="not a URL with a usable host"):
        check(policy, url)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        (
            "ROOT://me@EOS.example.org:1094//store/x?a=b#c@d",
            "root://me@eos.example.org:1094//store/x?a=b#c@d",
        ),
        ("root://[2001:DB8:1::1]/x", None),
        ("root://[2606:4700::1111]:1094//x", "root://[2606:4700::1111]:1094//x"),
    ],
)
def test_root_urls_are_put_together_from_what_was_checked(
    url: str, normal: str | None, policy: SourcePolicy
) -> None:
    if normal is None:
        with pytest.raises(SourceRefused, match="private or reserved"):
            check(policy, url)
    else:
        assert check(policy, url) == normal


def test_the_operator_can_open_private_hosts() -> None:
    policy = SourcePolicy(allowed_private_hosts=("localhost", "10.0.0.0/8", "127.0.0.3"))
    for url in ("http://localhost/x", "http://10.2.3.4/x", "http://127.0.0.3/x"):
        assert check(policy, url) == url
    for url in ("http://127.0.0.2/x", "http://192.168.1.1/x", "http://a.localhost/x"):
        with pytest.raises(SourceRefused):
            check(policy, url)


def test_the_callers_own_process_reads_what_the_caller_may_read(root: Path) -> None:
    assert check(CALLERS_OWN, str(root.parent / "secret.root"))
    assert check(CALLERS_OWN, "http://127.0.0.1/x")
    with pytest.raises(SourceRefused):
        check(CALLERS_OWN, "ftp://host/x")


def test_messages_hold_no_credentials(policy: SourcePolicy) -> None:
    for url in ("http://me:s3cret@127.0.0.1/x?token=s3cret", "ftp://me:s3cret@host/x?token=s3cret"):
        with pytest.raises(SourceRefused) as caught:
            check(policy, url)
        assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_names_are_checked_by_what_they_resolve_to(host: str) -> None:
    with pytest.raises(SourceRefused):
        address.resolve(host, 80, ())
    assert address.resolve(host, 80, ("127.0.0.0/8", "::1"))


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(SourceUnavailable, match="does not resolve"):
        address.resolve("no-such-host.invalid", 80, ("*",))
