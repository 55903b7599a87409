"""Where a setting's value comes from, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from servicex_server.app.oversight import find_oversights
from servicex_server.app.settings import Settings, load
from servicex_server.cli import app
from servicex_server.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SERVICEX_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("port: 7001\nmax-attempts: 7\nhost: 10.0.0.1\n")
    return path


def test_flag_over_environment_over_file_over_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().port == 5000
    assert load(file).port == 7001
    monkeypatch.setenv("SERVICEX_PORT", "7002")
    assert load(file).port == 7002
    assert load(file, port=7003).port == 7003
    assert load(file, port=None).port == 7002, "a flag that is not given says nothing"
    settings = load(file, port=7003)
    assert (settings.host, settings.max_attempts, settings.workers >= 1) == ("10.0.0.1", 7, True)


def test_an_empty_variable_says_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICEX_PORT", "")
    assert load(file).port == 7001


def test_local_roots_are_separated_by_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "b")
    monkeypatch.setenv("SERVICEX_LOCAL_ROOTS", f"{tmp_path / 'a'}:{tmp_path / 'link'}:")
    assert load().local_roots == (tmp_path / "a", tmp_path / "b")
    assert load(local_roots=(tmp_path / "c",)).local_roots == (tmp_path / "c",)


def test_by_default_the_root_is_the_folder_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load()
    assert settings.local_roots == (tmp_path,)
    assert settings.data_dir == tmp_path / "servicex-data"


def test_a_file_may_list_roots(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"local_roots: [{tmp_path / 'a'}, {tmp_path / 'b'}]\n")
    assert load(path).local_roots == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("workrs: 3", "there is no 'workrs', do you mean workers"),
        ("frobnicate: 3", "there is no 'frobnicate'; `servicex-server config docs` lists them all"),
        ("port: 70000", "port: .*65535"),
        ("port: many", "port: .*integer"),
        (
            "results_max_bytes: 50 gigs",
            "results_max_bytes: .*'50 gigs' is no size; allowed are bytes, or .*50GB",
        ),
        ("results_max_bytes: 1.5", "results_max_bytes: .*integer"),
        ("results_max_bytes: -1GB", "results_max_bytes: .*is no size"),
        ("python_memory_bytes: 1kB", "python_memory_bytes: .*greater than or equal to 268435456"),
        ("public_url: example.org", "public_url: .*must start with http"),
        ("- 1", "must hold `setting: value` lines"),
        ("a: [", "cannot read the configuration file"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1000000", 10**6),
        ("50GB", 50 * 10**9),
        ("20 GiB", 20 * 2**30),
        ("1.5 tb", 1_500_000_000_000),
        (" 512 MiB ", 512 * 2**20),
        ("0", 0),
        ("0.1B", 1),  # 0 would be no bound
    ],
)
def test_sizes_may_have_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, n_bytes: int
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"min-free-bytes: {text}\n")
    assert load(path).min_free_bytes == n_bytes
    monkeypatch.setenv("SERVICEX_RESULTS_MAX_BYTES", text)
    assert load().results_max_bytes == n_bytes
    schema = Settings.model_json_schema()["properties"]["min_free_bytes"]
    jsonschema.validate(text.strip(), schema)
    jsonschema.validate(n_bytes, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(f"{text}!", schema)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.yaml: No such file"):
        load(tmp_path / "no.yaml")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").touch()
    assert load(tmp_path / "settings.yaml").port == 5000


def test_commands_take_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"data-dir: {tmp_path / 'elsewhere'}\n")
    result = CliRunner().invoke(app, ["db", "upgrade", "--config", str(path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "elsewhere" / "servicex.db").exists()


def test_the_table_and_the_schema_name_every_setting() -> None:
    table = CliRunner().invoke(app, ["config", "docs"]).stdout
    schema = CliRunner().invoke(app, ["config", "schema"]).stdout
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` | `SERVICEX_{name.upper()}` |" in table
        assert str(field.description) in table
        assert f'"{name}": {{' in schema


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"rucio_host": "rucio.example"}, "must start with http"),
        ({"rucio_host": "https://jane:hunter2@rucio.example"}, "must hold no password"),
        ({"rucio_host": "https://rucio.example", "rucio_auth_type": "userpass"}, "needs rucio_username"),
        ({"rucio_schemes": "root,gsiftp"}, "nothing else can be read"),
        ({"rucio_latitude": 46.2}, "go together"),
    ],
)
def test_wrong_settings_of_rucio_are_told(flags: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(None, **flags)
    assert "hunter2" not in str(caught.value)


def test_variables_that_look_like_settings_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVICEX_RESULT_MAX_BYTES", "1GB")
    # As Kubernetes makes them for a service of that name.
    monkeypatch.setenv("SERVICEX_APP_SERVICE_HOST", "10.0.0.1")
    told = [
        oversight.text
        for oversight in find_oversights(load(data_dir=tmp_path), is_one_of_several=False)
        if oversight.subject == "setting"
    ]
    assert told == ["SERVICEX_RESULT_MAX_BYTES is none, do you mean SERVICEX_RESULTS_MAX_BYTES?"]
