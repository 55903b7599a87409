"""The data sets this server knows."""

from __future__ import annotations

from servicex_server.model.ids import DatasetId
from servicex_server.model.request import Dataset, DatasetFile, Principal
from servicex_server.service.context import Services


async def list_datasets(
    services: Services, principal: Principal, *, did_finder: str | None = None, show_deleted: bool = False
) -> list[Dataset]:
    """Known data sets, oldest first; file lists have the finder `user`."""
    raise NotImplementedError


async def get_dataset(
    services: Services, principal: Principal, dataset_id: DatasetId
) -> tuple[Dataset, list[DatasetFile]]:
    """The data set and its files in order.

    Raises:
        NotFound: no such data set.
    """
    raise NotImplementedError


async def delete_dataset(services: Services, principal: Principal, dataset_id: DatasetId) -> None:
    """Marks the data set stale, so that the next submit looks it up again; running requests keep it.

    Raises:
        NotFound: no such data set.
        Conflict: it is stale already.
    """
    raise NotImplementedError
