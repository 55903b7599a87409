"""The attributes that a VOMS server signs into a proxy: VO, groups and roles.

The format is an attribute certificate (https://www.rfc-editor.org/rfc/rfc5755) in an extension of the proxy,
with the names in one attribute (https://www.ogf.org/documents/GFD.182.pdf). Storage checks the signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from servicex_server.grid.der import Element, parse_elements

EXTENSION = "1.3.6.1.4.1.8005.100.100.5"
"""Object identifier of the extension."""

_NAMES = bytes.fromhex("2b06010401be45646404")
"""Object identifier 1.3.6.1.4.1.8005.100.100.4 of the attribute, as DER."""

_GENERALIZED_TIME, _OID, _OCTETS, _SEQUENCE, _SET, _AUTHORITY, _URI = 0x18, 0x06, 0x04, 0x30, 0x31, 0xA0, 0x86


@dataclass(frozen=True, slots=True)
class Attributes:
    """What one VO says of the proxy's owner.

    Attributes:
        vo: the VO's name.
        names: groups and roles, `/atlas/Role=production/Capability=NULL`.
    """

    vo: str
    names: tuple[str, ...]
    expires_at: datetime


def parse_attributes(extension: bytes) -> list[Attributes]:
    """The attribute certificates in the extension's value.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        (sequences,) = parse_elements(extension)
        certificates = [
            certificate
            for inner in parse_elements(sequences.content)
            for certificate in parse_elements(inner.content)
        ]
        return [_parse_certificate(certificate) for certificate in certificates]
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        message = "the VOMS attributes cannot be read"
        raise ValueError(message) from error


def _parse_certificate(certificate: Element) -> Attributes:
    fields = parse_elements(parse_elements(certificate.content)[0].content)
    times = next(times for field in fields if (times := _times(field)) is not None)
    vo, names = next(found for field in fields for found in _find_names(field))
    return Attributes(vo, names, times)


def _times(field: Element) -> datetime | None:
    """The end of the validity, if the field is that."""
    if field.tag != _SEQUENCE:
        return None
    times = parse_elements(field.content)
    if [each.tag for each in times] != [_GENERALIZED_TIME] * 2:
        return None
    return datetime.strptime(times[1].content.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _find_names(field: Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    if field.tag != _SEQUENCE:
        return
    for attribute in parse_elements(field.content):
        parts = parse_elements(attribute.content) if attribute.tag == _SEQUENCE else []
        if [part.tag for part in parts] != [_OID, _SET] or parts[0].content != _NAMES:
            continue
        authority, values = parse_elements(parse_elements(parts[1].content)[0].content)
        uri = next(part for part in parse_elements(authority.content) if part.tag == _URI)
        names = [value.content.decode() for value in parse_elements(values.content) if value.tag == _OCTETS]
        yield uri.content.decode().partition("://")[0], tuple(names)
