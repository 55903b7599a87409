"""All settings, in one model: command line over environment over file over default."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from servicex_server.errors import ConfigurationError, InvalidRequest
from servicex_server.model import size
from servicex_server.model.compression import Compression, parse_compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.telemetry.machine import usable_cores

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches."""

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  compared, not bound
"""Addresses to listen on that stand for all of a machine's."""

_GRID_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_KUBERNETES_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"

SECRETS_DIR = "SERVICEX_SECRETS_DIR"
"""Environment variable with the folder of secrets."""


def _to_bytes(value: object) -> object:
    return size.parse_size(value) if isinstance(value, str) else value


Size = Annotated[
    int,
    BeforeValidator(
        _to_bytes,
        json_schema_input_type=Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=size.PATTERN)],
    ),
]
"""Bytes, also as `50GB` or `20 GiB`."""


class Settings(BaseSettings):
    """Settings of one server. Environment variables carry the prefix `SERVICEX_`."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICEX_", extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Others than loopback open the server.")
    port: int = Field(5000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    data_dir: Path = Field(
        Path("servicex-data"), description="Folder for the database, results, secrets and `servicex.yaml`."
    )
    database_url: SecretStr | None = Field(
        None,
        description="Database of a deployment, `postgresql://user:password@host:5432/name` (special "
        "characters of the password as %XX); default SQLite in the data folder.",
    )
    database_url_file: Path | None = Field(
        None, description="File with the `database_url`, unless that is given itself."
    )
    queue_url: SecretStr | None = Field(
        None, description="RabbitMQ, `amqp[s]://user:password@host/vhost`, between apps and workers."
    )
    queue_prefix: str = Field(
        "servicex",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="First part of the names of queues in RabbitMQ; another one for each deployment.",
    )
    store_url: str | None = Field(
        None, description="Where results are kept, `s3://bucket/prefix` or a folder that all processes share."
    )
    store_endpoint: str | None = Field(None, description="URL of the S3 server; default AWS.")
    store_region: str = Field("us-east-1", description="Region that S3 requests are signed for.")
    store_access_key: SecretStr | None = Field(
        None, description="Key for S3; default what the AWS tools would take."
    )
    store_secret_key: SecretStr | None = Field(None, description="Secret that belongs to it.")
    store_ca_file: Path | None = Field(
        None, description="Certificates to trust, for an S3 server of your own."
    )
    store_bulk_delete: bool = Field(
        True, description="Delete many objects in one call; off for S3 servers that cannot."
    )
    signing_secret: SecretStr | None = Field(
        None,
        description="Signs short access tokens, the same for all apps, 32 characters or more; default one "
        "that is made in the data folder.",
    )
    workers: int = Field(
        default_factory=usable_cores, ge=1, le=1024, description="Worker processes; default one per core."
    )
    worker_threads: int = Field(
        0, ge=0, le=1024, description="Threads that one worker reads a file with; 0 shares the cores evenly."
    )
    auth: bool = Field(True, description="Ask for the access token on every call.")
    token_lifetime_s: int = Field(
        21600,
        ge=1,
        le=31_536_000,
        description="Life of a short access token, as handed out by /token/refresh.",
    )
    public_url: str | None = Field(
        None, description="URL under which clients reach the server, if not the address they ask for."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Further host names that requests may be addressed to (comma-separated; `*` for any)."
    )
    local_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default_factory=lambda: (Path.cwd(),),
        description="Folders below which input files may be read (colon-separated); default the folder "
        "the server was started in.",
    )
    allowed_private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts at private or loopback addresses that inputs may come from (comma-separated).",
    )
    finders: Annotated[tuple[str, ...], NoDecode] = Field(
        ("cernopendata", "http", "https", "local", "rucio", "servicex", "static", "xrootd"),
        description="Schemes of data sets that this server looks up by itself (comma-separated).",
    )
    broker_finders: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Schemes of data sets whose finders are programs of their own, such as official ones, "
        "asked through RabbitMQ (comma-separated); they answer at `internal_port`.",
    )
    finder_broker_url: SecretStr | None = Field(
        None, description="RabbitMQ that those finders listen to; default `queue_url`."
    )
    default_scheme: str = Field(
        "rucio", pattern=r"^\w{1,64}$", description="Scheme of data sets that are named without one."
    )
    static_files: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Files of every data set with the scheme `static` (comma-separated)."
    )
    cernopendata_url: str = Field(
        "https://opendata.cern.ch", description="Where `cernopendata` data sets are looked up."
    )
    rucio_host: str | None = Field(
        None,
        description="URL of the Rucio server where `rucio` data sets are looked up; none, no such finder.",
    )
    rucio_auth_host: str | None = Field(
        None, description="URL where Rucio gives out tokens; default `rucio_host`."
    )
    rucio_account: str | None = Field(
        None, description="Account at Rucio; default the one that belongs to the identity."
    )
    rucio_auth_type: Literal["x509_proxy", "userpass", "oidc"] = Field(
        "x509_proxy",
        description="How this server proves to Rucio who it is: by its grid proxy (`x509_proxy_file`), by "
        "name and password, or by its bearer token (`bearer_token_file`).",
    )
    rucio_username: str | None = Field(None, description="Name for `userpass`.")
    rucio_password: SecretStr | None = Field(None, description="Password for `userpass`.")
    rucio_ca_file: Path | None = Field(
        None, description="Certificates to trust Rucio by, beside the system's and those of `x509_cert_dir`."
    )
    rucio_sites: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="RSEs whose replicas are read first, best first (comma-separated; `CERN-PROD_*`)."
    )
    rucio_schemes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("root", "davs", "https"),
        description="Protocols of replicas, better ones first (comma-separated); others are left out.",
    )
    rucio_site: str | None = Field(None, description="Site of the workers, as Rucio knows it.")
    rucio_latitude: float | None = Field(
        None,
        ge=-90,
        le=90,
        description="Where the workers are, in degrees: Rucio ranks close replicas first.",
    )
    rucio_longitude: float | None = Field(None, ge=-180, le=180, description="The other half of that.")
    rucio_logical_prefix: str | None = Field(
        None,
        description="Tell files as this and `scope:name` instead of by their replicas, for caches that ask "
        "Rucio themselves.",
    )
    lookup_max_age_s: float = Field(
        86400.0, ge=0, description="An earlier look-up of a data set is good for so long."
    )
    lookup_silence_s: float = Field(
        1800.0, gt=0, description="A look-up of which nothing was heard for so long has failed."
    )
    internal_host: str = Field(
        "127.0.0.1",
        description="Address on which finders and official sidecars report. Whoever reaches it is believed.",
    )
    internal_port: int = Field(0, ge=0, le=65535, description="Port for that; 0 for none.")
    internal_url: str | None = Field(
        None, description="URL under which finders reach that port, if not the address itself."
    )
    x509_proxy_file: Path | None = Field(
        None,
        description="Grid proxy that workers read storage with, for all users; default what `servicex-server "
        "proxy` keeps in the data folder, else X509_USER_PROXY.",
    )
    x509_cert_dir: Path | None = Field(
        None,
        description="Certificates of the grid's authorities; default X509_CERT_DIR or "
        "/etc/grid-security/certificates.",
    )
    bearer_token_file: Path | None = Field(
        None,
        description="Bearer token that workers read storage with, for all users; default BEARER_TOKEN_FILE. "
        "Shown to `grid_hosts` only.",
    )
    grid_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Storage that is shown the token, and the proxy over https (comma-separated; "
        "`*.example.org` for all below).",
    )
    proxy_vo: str | None = Field(
        None, pattern=_GRID_NAME, description="VO whose attributes `servicex-server proxy` asks for."
    )
    proxy_role: str | None = Field(None, pattern=_GRID_NAME, description="Role in that VO.")
    proxy_life_s: float = Field(
        96 * 3600.0, ge=60, description="Life of a new proxy; a VO's server may grant less."
    )
    proxy_renew_fraction: float = Field(
        0.5, gt=0, lt=1, description="A proxy is renewed after this part of its life."
    )
    proxy_warn_s: float = Field(
        86400.0,
        ge=0,
        description="A proxy that ends so soon is warned of; a short one in the last quarter of its life.",
    )
    proxy_secret: str | None = Field(
        None,
        pattern=_KUBERNETES_NAME,
        description="Kubernetes Secret that `servicex-server proxy` puts the proxy into, too (key `x509up`).",
    )
    proxy_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of `GET /metrics` of `servicex-server proxy`; 0 is off."
    )
    kubernetes_namespace: str | None = Field(
        None, pattern=_KUBERNETES_NAME, description="Namespace of Secrets; default the pod's own."
    )
    kubernetes_api: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Kubernetes API server that asks for no credentials, such as `kubectl proxy`; default "
        "the pod's own.",
    )
    read_connect_s: float = Field(
        10.0, gt=0, le=600, description="How long a worker waits for a connection to a site."
    )
    read_idle_s: float = Field(
        30.0, gt=0, le=3600, description="How long a worker waits for a site that is silent."
    )
    hedged_open_s: float = Field(
        0.0,
        ge=0,
        description="A replica that is not open by then gets company: the next one is opened too, and the "
        "first is read; 0 to try one after the other.",
    )
    verify_checksums: bool = Field(
        False, description="Read each input whole first, and compare its adler32 with the catalogue's."
    )
    xcache_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Caches (`root://xcache.example.org:1094//`, comma-separated) to read root:// inputs "
        "through; each file has its own.",
    )
    host_mount: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Folders on workers that hold what lies below a prefix "
        "(`root://eos.example.org//eos/=/eos/,/data=/mnt/data`); looked into first.",
    )
    preflight_files: int = Field(
        3, ge=0, le=10, description="Files on which a query is tried before fan-out; 0 switches that off."
    )
    preflight_wait_s: float = Field(
        20.0, ge=0, le=240, description="How long a submit waits for the query to be tried on the first file."
    )
    file_deadline_s: float = Field(3600.0, gt=0, description="Longest time for one attempt at one file.")
    drain_grace_s: float = Field(
        20.0,
        ge=0,
        description="A worker that is stopped (SIGTERM) gives its files so long to end; an app its answers.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts at one file before it counts as failed.")
    request_deadline_s: float = Field(
        7 * 86400.0, gt=0, description="Longest life of an unfinished request; then it ends with a reason."
    )
    result_cache: bool = Field(
        True,
        description="Keep results for whoever asks the same of the same files, and take such results.",
    )
    max_requests_per_user: int = Field(5000, ge=1, description="Unfinished requests that one user may have.")
    max_files_per_user: int = Field(
        500_000, ge=1, description="Files that unfinished requests of one user may still wait for."
    )
    worker_memory_bytes: Size = Field(
        4 * 2**30, ge=0, description="Memory each worker process may allocate; 0 for no limit."
    )
    compression: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Codec and level of results whose submitter names none, per format "
        "(`parquet=zstd:3+split,hdf5=gzip:6`).",
    )
    min_free_bytes: Size = Field(
        2**30,
        ge=0,
        description="Results are refused when less than this is free on the data folder's disk, new requests "
        "when less than twice as much.",
    )
    results_max_age_days: float = Field(
        30.0,
        ge=0,
        description="Requests and their results go so long after they ended; 0 keeps them for ever.",
    )
    results_max_bytes: Size = Field(
        0, ge=0, description="Results together take at most so much, or the oldest go; 0 for no such bound."
    )
    results_disk_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="On a local disk results take at most this share of what they and free space make up "
        "together, or the oldest go.",
    )
    python_generator: Literal["auto", "off"] = Field(
        "auto", description="Run users' own code (`python` queries): where a sandbox can be made, or never."
    )
    python_memory_bytes: Size = Field(
        2 * 2**30, ge=256 * 2**20, description="Memory that the code of a python query may use, per file."
    )
    python_time_s: float = Field(
        900.0, gt=0, description="Time that the code of a python query may take, per file."
    )
    python_input_bytes: Size = Field(
        10 * 2**30, ge=0, description="Largest remote file that is fetched whole for a python query."
    )
    max_body_bytes: Size = Field(32 * 2**20, ge=1024, description="Largest request body accepted.")
    event_streams: int = Field(
        1000, ge=1, le=100_000, description="Event streams open at once, of all users."
    )
    event_streams_per_user: int = Field(
        32, ge=1, le=100_000, description="Event streams open at once, of one user."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of `GET /metrics`, which asks for no token; 0 is off.",
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="The same for the worker process, which counts for itself."
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which metrics are told.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level logged."
    )
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")

    @field_validator("local_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator(
        "allowed_hosts",
        "allowed_private_hosts",
        "grid_hosts",
        "finders",
        "broker_finders",
        "static_files",
        "xcache_prefixes",
        "rucio_sites",
        "rucio_schemes",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("xcache_prefixes")
    @classmethod
    def _check_caches(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not prefix.startswith(("root://", "roots://")) for prefix in value):
            message = "each must start with root:// or roots://"
            raise ValueError(message)
        return value

    @field_validator("host_mount")
    @classmethod
    def _check_mounts(cls, value: dict[str, str]) -> dict[str, str]:
        if any(not prefix.strip("/") or not folder.startswith("/") for prefix, folder in value.items()):
            message = "each must be `prefix=/folder`, and the prefix more than `/`"
            raise ValueError(message)
        return value

    @field_validator("host_mount", mode="before")
    @classmethod
    def _split_mounts(cls, value: object) -> object:
        if isinstance(value, str):
            # A URL may hold the sign.
            pairs = (part.rpartition("=") for part in value.split(",") if part.strip())
            return {prefix.strip(): folder.strip() for prefix, _, folder in pairs}
        return value

    @field_validator("compression", mode="before")
    @classmethod
    def _split_compressions(cls, value: object) -> object:
        if isinstance(value, str):
            pairs = (part.partition("=") for part in value.split(",") if part.strip())
            return {name.strip(): codec.strip() for name, _, codec in pairs}
        return value

    @field_validator("compression")
    @classmethod
    def _check_compressions(cls, value: dict[str, str]) -> dict[str, str]:
        to_compressions(value)
        return value

    @field_validator("local_roots")
    @classmethod
    def _resolve_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser().resolve() for path in value)

    @field_validator("signing_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            message = "must have 32 characters or more"
            raise ValueError(message)
        return value

    @field_validator("public_url", "internal_url", "cernopendata_url", "rucio_host", "rucio_auth_host")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            message = "must start with http:// or https://"
            raise ValueError(message)
        return value.rstrip("/") if value is not None else None

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_database_url(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _read_secrets(self) -> Self:
        if self.database_url is None and self.database_url_file is not None:
            url = _read_secret("database_url_file", self.database_url_file)
            _check_database_url(url)
            self.database_url = SecretStr(url)
        return self

    @field_validator("x509_proxy_file", "x509_cert_dir", "bearer_token_file", "rucio_ca_file")
    @classmethod
    def _absolute_path(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _role_of_a_vo(self) -> Self:
        if self.proxy_role is not None and self.proxy_vo is None:
            message = "proxy_role is a role in a VO: set proxy_vo as well"
            raise ValueError(message)
        return self

    @field_validator("rucio_host", "rucio_auth_host")
    @classmethod
    def _check_rucio(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            message = "must hold no password: give rucio_username and rucio_password"
            raise ValueError(message)
        return value

    @field_validator("rucio_schemes")
    @classmethod
    def _check_schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [scheme for scheme in value if scheme not in {"root", "davs", "https", "dav", "http"}]
        if wrong or not value:
            message = "must be some of root, davs, https, dav, http: nothing else can be read"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _rucio_is_whole(self) -> Self:
        needs_password = self.rucio_auth_type == "userpass" and self.rucio_host is not None
        if needs_password and (self.rucio_username is None or self.rucio_password is None):
            message = "rucio_auth_type userpass needs rucio_username and rucio_password"
            raise ValueError(message)
        if (self.rucio_latitude is None) != (self.rucio_longitude is None):
            message = "rucio_latitude and rucio_longitude go together"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _absolute_data_dir(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the library's signature
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, the folder of secrets, then the file that `load` put aside."""
        flags = dict(init_settings())
        file = flags.pop("_file", {})
        return (
            InitSettingsSource(settings_cls, init_kwargs=flags),
            env_settings,
            file_secret_settings,
            InitSettingsSource(settings_cls, init_kwargs=file),
        )


def _read_secret(name: str, path: Path) -> str:
    try:
        text = path.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        message = f"{name} cannot be read: {path}: {why}"
        raise ValueError(message) from error
    if not text:
        message = f"{name} names {path}, which is empty"
        raise ValueError(message)
    return text


def _check_database_url(url: str) -> None:
    if not url.startswith(("postgresql", "postgres:", "sqlite")):
        # Not quoted: what stands there may be a password.
        message = "the database URL must start with postgresql:// or sqlite:///"
        raise ValueError(message)


def to_compressions(texts: Mapping[str, str]) -> dict[ResultFormat, Compression]:
    """The compression of each format that the setting names.

    Raises:
        ValueError: no such format, or not one of its codecs.
    """
    try:
        kinds = {ResultFormat(name): text for name, text in texts.items()}
    except ValueError:
        message = f"formats are {', '.join(ResultFormat)}"
        raise ValueError(message) from None
    try:
        return {kind: parse_compression(text, kind) for kind, text in kinds.items()}
    except InvalidRequest as error:
        raise ValueError(error.message) from error


def load(config: Path | None = None, **flags: object) -> Settings:
    """Settings from the command line's flags (None means not given), the environment and a YAML file.

    Raises:
        ConfigurationError: names each setting that is wrong and why.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**({"_file": _read(config), "_secrets_dir": _secrets_dir()} | given))  # type: ignore[arg-type]  # checked by pydantic
    except ValidationError as error:
        wrong = "; ".join(
            _explain(str(e["loc"][0]) if e["loc"] else "", e["type"], e["msg"]) for e in error.errors()
        )
        message = f"settings are wrong: {wrong}; `servicex-server config docs` lists them all"
        raise ConfigurationError(message) from error


def _secrets_dir() -> str | None:
    """A folder with one file per setting, `servicex_database_url` say, as Kubernetes mounts its secrets.

    Raises:
        ConfigurationError: there is no such folder.
    """
    folder = os.environ.get(SECRETS_DIR)
    if folder and not Path(folder).is_dir():
        message = f"{SECRETS_DIR} names {folder}, which is no folder"
        raise ConfigurationError(message)
    return folder or None


def _explain(name: str, kind: str, problem: str) -> str:
    if kind != "extra_forbidden":
        problem = problem.removeprefix("Value error, ")
        return f"{name}: {problem}" if name else problem
    nearest = difflib.get_close_matches(name, Settings.model_fields, n=3)
    return f"there is no {name!r}" + (f", do you mean {' or '.join(nearest)}?" if nearest else "")


def looks_like(variable: str) -> str | None:
    """The variable of a setting that another one looks much like, which is none itself.

    Others that begin so mean something else: Kubernetes makes some for each service of such a name.
    """
    known = [f"SERVICEX_{name.upper()}" for name in Settings.model_fields] + [SECRETS_DIR]
    if not variable.startswith("SERVICEX_") or variable in known:
        return None
    return next(iter(difflib.get_close_matches(variable, known, n=1, cutoff=0.9)), None)


def _read(config: Path | None) -> dict[str, object]:
    if config is None:
        return {}
    try:
        content = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError) as error:
        # YAML's own words quote the line, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        why = error.strerror if isinstance(error, OSError) else f"{where}{getattr(error, 'problem', error)}"
        message = f"cannot read the configuration file {config}: {why}"
        raise ConfigurationError(message) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        message = f"{config} must hold `setting: value` lines"
        raise ConfigurationError(message)
    return {str(name).replace("-", "_"): value for name, value in content.items()}
