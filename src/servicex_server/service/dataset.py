"""The data sets this server knows."""

from __future__ import annotations

from servicex_server.db import dataset as datasets
from servicex_server.db.session import Transaction
from servicex_server.errors import Conflict, NotAllowed, NotFound
from servicex_server.model.ids import DatasetId
from servicex_server.model.request import Dataset, DatasetFile, Principal
from servicex_server.service.context import Services

_LARGEST_ID = 2**63 - 1


async def list_datasets(
    services: Services,
    principal: Principal,  # noqa: ARG001  data sets are everybody's
    *,
    did_finder: str | None = None,
    show_deleted: bool = False,
) -> list[Dataset]:
    """Known data sets, oldest first; file lists have the finder `user`."""
    return await services.db.read(datasets.list_datasets, did_finder=did_finder, with_stale=show_deleted)


async def get_dataset(
    services: Services,
    principal: Principal,  # noqa: ARG001
    dataset_id: DatasetId,
) -> tuple[Dataset, list[DatasetFile]]:
    """The data set and its files in order.

    Raises:
        NotFound: no such data set.
    """

    def find(transaction: Transaction) -> tuple[Dataset, list[DatasetFile]]:
        return _find(transaction, dataset_id), datasets.list_files(transaction, dataset_id)

    return await services.db.read(find)


async def delete_dataset(services: Services, principal: Principal, dataset_id: DatasetId) -> None:
    """Marks the data set stale, so that the next submit looks it up again; running requests keep it.

    Raises:
        NotFound: no such data set.
        NotAllowed: none of the caller's requests uses it, and they are no admin.
        Conflict: it is stale already.
    """

    was_marked = False

    def mark(transaction: Transaction) -> None:
        nonlocal was_marked
        dataset = _find(transaction, dataset_id)
        if not (principal.is_admin or datasets.is_used_by(transaction, dataset.id, principal.name)):
            message = (
                f"data set {dataset_id} is not used by any request of yours; only those who have one and "
                "admins may delete it"
            )
            raise NotAllowed(message)
        if datasets.mark_stale(transaction, dataset.id):
            was_marked = True
        elif not was_marked:  # else by a first run of this change, whose commit went unheard
            message = f"data set {dataset_id} is deleted already"
            raise Conflict(message)

    await services.db.write(mark)


def _find(transaction: Transaction, dataset_id: DatasetId) -> Dataset:
    dataset = None
    if 0 < dataset_id <= _LARGEST_ID:
        dataset = datasets.find_dataset(transaction, dataset_id)
    if dataset is None:
        message = f"there is no data set {dataset_id} on this server"
        raise NotFound(message)
    return dataset
