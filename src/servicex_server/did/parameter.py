"""Parameters behind the `?` of a data set, for finders that have none of their own."""

from __future__ import annotations

from servicex_server.errors import BadDatasetName
from servicex_server.model.did import PARAMETERS, Did
from servicex_server.plan.pattern import nearest


def refuse_others(did: Did) -> None:
    """Returns if the data set has none but the parameters that every data set may have.

    A misspelt `files` would else be taken for nothing, and the whole data set be worked on.

    Raises:
        BadDatasetName: it has another one; the text names those that are allowed.
    """
    if not did.parameters:
        return
    name = did.parameters[0][0]
    near = nearest(name, PARAMETERS, limit=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    message = (
        f"the data set {did.text[:200]!r} has the parameter {name[:40]!r}, which the {did.scheme} finder "
        f"does not know; allowed: {', '.join(PARAMETERS)}{hint}"
    )
    raise BadDatasetName(message)
