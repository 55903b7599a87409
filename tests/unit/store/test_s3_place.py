"""Where an S3 store is, and who we are to it: what is refused, and that secrets are never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from servicex_server.errors import ConfigurationError
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.backends.s3.credential import S3Credential, find_credentials
from servicex_server.store.backends.s3.place import S3Place
from servicex_server.store.backends.s3.signing import disposition, sign_url
from servicex_server.store.open import open_store

SECRET = "wJalr/secret+key"
KEYS = {"access_key_id": "AKID", "secret_access_key": SECRET}


def test_a_url_names_bucket_and_prefix() -> None:
    assert S3Place.from_url("s3://results") == S3Place("results")
    assert S3Place.from_url("s3://results/a/b/") == S3Place("results", "a/b")
    assert str(S3Place("results", "a", endpoint="https://s3.example.org")) == (
        "s3://results/a at https://s3.example.org"
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: S3Place.from_url("https://results"), "write s3://bucket"),
        (lambda: S3Place.from_url("s3://"), "write s3://bucket"),
        (lambda: S3Place.from_url("s3://results?x=1"), "write s3://bucket"),
        (lambda: S3Place.from_url(f"s3://AKID:{SECRET[:5]}@results/a"), "no credentials"),
        (lambda: S3Place("no"), "name of a bucket"),
        (lambda: S3Place("results", "a//b"), "prefix"),
        (lambda: S3Place("results", "../b"), "prefix"),
        (lambda: S3Place("results", endpoint="s3.example.org"), "https://host:port"),
        (lambda: S3Place("results", endpoint=f"https://AKID:{SECRET[:5]}@example.org"), "no credentials"),
        (lambda: S3Place("results", public_endpoint="ftp://example.org"), "https://host:port"),
    ],
)
def test_what_cannot_be_right_is_refused_without_showing_secrets(
    make: Callable[[], S3Place], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        make()
    assert SECRET[:5] not in str(caught.value)


def test_urls_of_objects() -> None:
    place = S3Place("results", "a b", endpoint="https://s3.example.org:9000/")
    assert place.object_url("x/é+~.root") == "https://s3.example.org:9000/results/a%20b/x/%C3%A9%2B~.root"
    in_host = S3Place("results", endpoint="https://s3.example.org", is_path_style=False)
    assert in_host.object_url("x") == "https://results.s3.example.org/x"
    assert S3Place("results", region="eu-west-1", is_path_style=False).object_url("x") == (
        "https://results.s3.eu-west-1.amazonaws.com/x"
    )
    outside = place.with_changes(public_endpoint="https://data.example.org", region=None)
    assert outside.object_url("x", public=True) == "https://data.example.org/results/a%20b/x"
    assert outside.object_url("x").startswith("https://s3.example.org:9000/")


def test_a_prefix_counts_for_the_length_of_keys() -> None:
    key = "/".join(["x" * 200] * 5)
    assert S3Place("results").full_key(key) == key
    with pytest.raises(ValueError, match="with its prefix"):
        S3Place("results", "p" * 30).full_key(key)


def test_credentials_come_from_arguments_files_or_the_environment(tmp_path: Path) -> None:
    given = find_credentials(access_key_id="AKID", secret_access_key=SECRET, session_token="t")
    assert given() == S3Credential("AKID", SECRET, "t")
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text("AKID\n")
    secret.write_text(SECRET + "\n")
    from_files = find_credentials(access_key_file=key, secret_key_file=secret)
    assert from_files() == S3Credential("AKID", SECRET)
    secret.write_text("another")
    assert from_files().secret_access_key == "another", "a changed secret is read again"
    environment = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "t"}
    assert find_credentials(environment=environment)() == S3Credential("AKID", SECRET, "t")


def test_credentials_are_never_shown() -> None:
    assert SECRET not in repr(S3Credential("AKID", SECRET, SECRET))


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="both an access key id and a secret"):
        find_credentials(access_key_id="AKID")
    with pytest.raises(ConfigurationError, match="both a file"):
        find_credentials(access_key_file=tmp_path)
    with pytest.raises(ConfigurationError, match=r"missing cannot be read: No such file"):
        find_credentials(access_key_file=tmp_path / "missing", secret_key_file=tmp_path / "missing")
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(ConfigurationError, match=r"empty is empty"):
        find_credentials(access_key_file=empty, secret_key_file=empty)


def test_the_aws_files_are_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert find_credentials()() == S3Credential("AKID", SECRET)
    file.write_text("")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="needs credentials: set them"):
        find_credentials()()


async def test_a_folder_opens_without_obstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for url in (str(tmp_path / "a b"), f"file://{tmp_path}/a%20b", f"file://localhost{tmp_path}/a%20b"):
        store = open_store(url, min_free_bytes=0)
        assert isinstance(store, LocalStore)
        assert store.scratch_folder() == tmp_path / "a b" / "scratch"
    with pytest.raises(ConfigurationError, match=r"pip install 'servicex-server\[production\]'"):
        open_store("s3://results", scratch=tmp_path)


def test_urls_that_name_no_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="kind 'gs'; use /folder"):
        open_store("gs://results")
    with pytest.raises(ConfigurationError, match="names no folder of this machine"):
        open_store("file://elsewhere/folder")
    with pytest.raises(ConfigurationError, match="needs a local scratch folder"):
        open_store("s3://results", **KEYS)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot use the scratch folder"):
        open_store("s3://results", scratch=tmp_path / "file" / "scratch", **KEYS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["plain.root", 'quote".root', "back\\slash", "new\nline", "µ→e.parquet"])
def test_no_file_name_breaks_out_of_its_header(name: str) -> None:
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


def test_a_signature_lasts_as_long_as_asked() -> None:
    credential = S3Credential("AKID", SECRET, "token")
    url = sign_url("GET", "https://h/b/k", {}, credential=credential, region="eu-west-1", expires_s=60)
    assert "X-Amz-Expires=60" in url
    assert "%2Feu-west-1%2Fs3%2F" in url
    assert "X-Amz-Security-Token=token" in url
    assert "secret" not in url
