"""The body of a submit: its wire names, what is allowed, and how a wrong one is answered."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from servicex_server.errors import InvalidRequest
from servicex_server.model.compression import CODECS, parse_compression
from servicex_server.model.kinds import ResultDestination, ResultFormat
from servicex_server.model.request import Submission


def _without_nul(value: object) -> object:
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(text, str) and "\0" in text for text in texts):
        message = "must not contain NUL characters"
        raise ValueError(message)
    return value


Text = Annotated[str, BeforeValidator(_without_nul)]


class TransformSubmission(BaseModel):
    """What to transform: a data set by its identifier, or a list of files.

    Further keys are ignored, also `image`, `workers` and `chunk-size`, which steer containers that a request
    does not have here.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    selection: Text = Field(min_length=1, description="The query, in the language of the code generator.")
    codegen: Text = Field(min_length=1, description="Name of the code generator; GET /servicex lists them.")
    did: Text | None = Field(None, description="Data set identifier; this or `file-list`.")
    file_list: Annotated[list[str], BeforeValidator(_without_nul)] | None = Field(
        None, alias="file-list", description="URLs or paths; this or `did`."
    )
    title: Text | None = None
    result_format: Text = Field(
        ResultFormat.PARQUET.value,
        alias="result-format",
        json_schema_extra={"enum": [kind.value for kind in ResultFormat]},
    )
    result_destination: Text = Field(
        ResultDestination.OBJECT_STORE.value,
        alias="result-destination",
        json_schema_extra={"enum": [ResultDestination.OBJECT_STORE.value]},
    )
    tree_name: Text | None = Field(
        None, alias="tree-name", description="Tree to read if the query names none."
    )
    compression: Text | None = Field(
        None,
        description="Codec and level of the results, such as `zstd:3`, in Parquet also `zstd:3+split`, which "
        "splits floats into streams of bytes; "
        + "; ".join(f"{kind.value}: {', '.join(codecs)}" for kind, codecs in CODECS.items()),
    )

    use_result_cache: bool = Field(
        True,
        alias="use-result-cache",
        description="Take results that earlier requests got for the same question on the same files.",
    )

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if bool(self.did) == bool(self.file_list):
            message = "give exactly one of 'did' and 'file-list', and not empty"
            raise ValueError(message)
        return self

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """The submission in a request body.

        Raises:
            InvalidRequest: names the key that is wrong and what is allowed.
        """
        try:
            sent = cls.model_validate_json(body)
        except ValidationError as error:
            wrong = "; ".join(
                _explain(part["loc"], part["msg"]) for part in error.errors(include_url=False)[:10]
            )
            message = f"the submission is malformed: {wrong}"
            raise InvalidRequest(message) from error
        result_format = _one_of(ResultFormat, "result-format", sent.result_format)
        compression = sent.compression
        return Submission(
            selection=sent.selection,
            codegen=sent.codegen,
            result_format=result_format,
            result_destination=_object_store(sent.result_destination),
            did=sent.did or None,
            files=tuple(sent.file_list) if sent.file_list else None,
            title=sent.title,
            tree_name=sent.tree_name,
            compression=parse_compression(compression, result_format) if compression is not None else None,
            uses_cache=sent.use_result_cache,
        )


def _explain(location: tuple[int | str, ...], text: str) -> str:
    place = ".".join(str(part) for part in location)
    return f"{place}: {text}" if place else text.removeprefix("Value error, ")


def _one_of(kind: type[ResultFormat], key: str, value: str) -> ResultFormat:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        message = f"{key} {value!r} is not offered; allowed: {allowed}"
        raise InvalidRequest(message) from None


def _object_store(value: str) -> ResultDestination:
    if value != ResultDestination.OBJECT_STORE.value:
        message = f"result-destination {value!r} is not offered here; allowed: object-store"
        raise InvalidRequest(message)
    return ResultDestination.OBJECT_STORE
