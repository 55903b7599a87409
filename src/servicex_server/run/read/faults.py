"""Whatever a reader trips over in a broken file becomes one kind of error that names the place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from servicex_server.errors import ResourceExhausted, ServicexError, SourceCorrupt


@contextlib.contextmanager
def reading(location: str, what: str) -> Iterator[None]:
    """Turns the many errors of a decoder into SourceCorrupt; ours and missing packages pass unchanged."""
    try:
        yield
    except (ServicexError, ImportError):
        raise
    except MemoryError as error:
        message = f"{location}: not enough memory to read {what}"
        raise ResourceExhausted(message) from error
    except Exception as error:  # decoders raise whatever the bytes lead them to
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        message = f"{location}: cannot read {what}: {reason or type(error).__name__}"
        raise SourceCorrupt(message) from error
