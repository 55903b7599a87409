"""Data sets that the server knows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from servicex_server.api.context import Caller, Context
from servicex_server.api.schemas import DatasetDeleted, DatasetDetails, DatasetList, DatasetSummary
from servicex_server.errors import NotFound
from servicex_server.model.ids import DatasetId
from servicex_server.service import dataset as datasets

router = APIRouter(prefix="/servicex/datasets", tags=["datasets"])

_MAX_DIGITS = 18
"""Longer numbers do not fit a database's integer, so no data set has one."""


@router.get("")
async def list_datasets(
    context: Context,
    caller: Caller,
    did_finder: Annotated[str | None, Query(alias="did-finder")] = None,
    show_deleted: Annotated[str, Query(alias="show-deleted")] = "",
) -> DatasetList:
    """Known data sets; `show-deleted` with any value includes stale ones."""
    found = await datasets.list_datasets(
        context.services, caller, did_finder=did_finder or None, show_deleted=bool(show_deleted)
    )
    return DatasetList(datasets=[DatasetSummary.from_dataset(dataset) for dataset in found])


@router.get("/{number}")
async def get_dataset(number: str, context: Context, caller: Caller) -> DatasetDetails:
    """A data set with its files."""
    dataset, files = await datasets.get_dataset(context.services, caller, _dataset_id(number))
    return DatasetDetails.from_files(dataset, files)


@router.delete("/{number}")
async def delete_dataset(number: str, context: Context, caller: Caller) -> DatasetDeleted:
    """Marks a data set stale, so that the next submit looks it up again."""
    dataset_id = _dataset_id(number)
    await datasets.delete_dataset(context.services, caller, dataset_id)
    return DatasetDeleted(dataset_id=dataset_id)


def _dataset_id(number: str) -> DatasetId:
    if not (number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS):
        message = f"no data set {number!r}; data sets have numbers, GET /servicex/datasets lists them"
        raise NotFound(message)
    return DatasetId(int(number))
