"""The two ports of the station: how proxies are made, and where they are put."""

from __future__ import annotations

from typing import Protocol


class ProxyMaker(Protocol):
    """Makes proxies from a user's certificate."""

    def make(self, passphrase: bytes | None) -> bytes:
        """A new proxy, as the content of a file.

        Raises:
            CredentialError: it cannot be made now; the text says why.
        """
        ...


class ProxyPlace(Protocol):
    """Where workers find the proxy. What is there stays until something else takes its place."""

    def read(self) -> bytes | None:
        """What is there, if anything.

        Raises:
            CredentialError: that cannot be told now.
        """
        ...

    def write(self, proxy: bytes) -> None:
        """Puts it there, at once and whole.

        Raises:
            CredentialError: it could not be done; what was there is still there.
        """
        ...
