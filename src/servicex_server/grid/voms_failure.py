"""Why `voms-proxy-init` made no proxy: what matters of its words, and what to do about it. Pure.

The C++ command (2.x) and the Java one (3.x) say the same things in other words, among lines that say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MOST_CHARACTERS = 400
_NOISE = re.compile(
    r"your identity|your proxy is valid|creating (temporary )?proxy|function:|enter grid pass|"
    r"remote voms server contacted|voms server \S+ returned the following|use --debug|proxy not found|"
    r"user's request for voms attributes",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"none of the contacted servers|of returning a valid ac", re.IGNORECASE)
"""What is said after every failure, whatever the reason."""
_LIBRARY = re.compile(r":?error:[0-9A-F]{8}:.*", re.IGNORECASE)
"""OpenSSL's errors with their numbers and places in its source; a line in words follows."""

_ADVICE = (
    (
        r"unknown to this vo|not a member",
        "register the certificate with the VO {vo}, or set another `proxy_vo`",
    ),
    (r"suspended", "the membership in {vo} is suspended; its managers, or signing its rules again, end that"),
    (
        r"unable to satisfy|not authorized to request",
        "the member does not hold what was asked for; see `proxy_role`, or ask the managers of {vo}",
    ),
    (
        r"voms server for .* not known|cannot find file or dir",
        (
            "is `proxy_vo` {vo} spelt right? Its servers must be listed in /etc/vomses, as packages such as "
            "wlcg-voms-atlas do"
        ),
    ),
    (
        r"issuer|verif|self.signed|unknown ca|untrusted|no trusted",
        (
            "the certificates of the authorities (`x509_cert_dir`) or the VO's entry in "
            "/etc/grid-security/vomsdir are missing or old"
        ),
    ),
    (
        r"contacting|connect|handshake|timed out|unreachable|endpoints failed|resolve",
        (
            "are the servers in /etc/vomses the VO's present ones, and does the network let this machine "
            "reach their ports?"
        ),
    ),
)
"""By what is said; the first that fits counts, so that a reason goes before the failure that it causes."""


def explain_failure(said: str, vo: str) -> str:
    """What the command said, on one line, and what to do.

    >>> explain_failure("Your identity: /CN=x\\nError: cms: User unknown to this VO.\\nFunction: \\n", "cms")
    'cms: User unknown to this VO; register the certificate with the VO cms, or set another `proxy_vo`'
    """
    lines = list(dict.fromkeys(_iter_lines(said)))
    reasons = [line for line in lines if not _SUMMARY.search(line)] or lines
    told = "; ".join(reasons)
    if len(told) > _MOST_CHARACTERS:
        told = told[:_MOST_CHARACTERS] + "…"
    for pattern, advice in _ADVICE:
        if re.search(pattern, told, re.IGNORECASE):
            return f"{told}; {advice.format(vo=vo)}"
    return told or "it said nothing"


def _iter_lines(said: str) -> Iterator[str]:
    for line in said.splitlines():
        printable = "".join(character if character.isprintable() else " " for character in line)
        # Rows of dots are its way to say that it is at work.
        words = " ".join(_LIBRARY.sub("", re.sub(r"\.{4,}", "", printable)).split()).strip(".! ")
        words = words.removeprefix("Error: ")
        if words and not _NOISE.match(words):
            yield words
