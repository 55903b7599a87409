"""The rewrites of a bound expression, in their order. Each gives the same rows at less cost."""

from __future__ import annotations

from collections.abc import Callable

from servicex_server.plan.rewrites.push_row_masks import push_row_masks
from servicex_server.plan.typed import Builder, Typed

RULES: tuple[Callable[[Typed, Builder], Typed], ...] = (push_row_masks,)


def optimize(value: Typed, build: Builder) -> Typed:
    """The value after all rewrites."""
    for rule in RULES:
        value = rule(value, build)
    return value
