"""Whose rights opened an input file, and so who may see what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AccessKind(StrEnum):
    """How far a right to read reaches."""

    PUBLIC = "public"
    """Nobody was asked who he is."""
    SERVICE = "service"
    """The deployment's own identity: files below its roots, its proxy. All its users read with it."""
    USER = "user"
    """Credentials that one user brought."""


@dataclass(frozen=True, slots=True)
class AccessDomain:
    """Those who may share a result.

    >>> str(PUBLIC), str(AccessDomain.of_user("marie"))
    ('public', 'user:marie')
    """

    kind: AccessKind
    user: str = ""

    @classmethod
    def of_user(cls, user: str) -> AccessDomain:
        """The domain of one user's credentials."""
        return cls(AccessKind.USER, user)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.user}" if self.kind is AccessKind.USER else self.kind.value


PUBLIC = AccessDomain(AccessKind.PUBLIC)
SERVICE = AccessDomain(AccessKind.SERVICE)
