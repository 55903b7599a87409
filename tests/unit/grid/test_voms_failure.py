"""What `voms-proxy-init` says when it fails, as it does, and what an administrator reads."""

from __future__ import annotations

import pytest

from servicex_server.grid.voms_failure import explain_failure

SUMMARY = "None of the contacted servers for atlas were capable\nof returning a valid AC for the user.\n"


@pytest.mark.parametrize(
    ("said", "start", "advice"),
    [
        (
            "Your identity: /CN=x\nCannot find file or dir: /etc/vomses\nVOMS Server for atlas not known!\n",
            "Cannot find file or dir: /etc/vomses; VOMS Server for atlas not known; ",
            "/etc/vomses, as packages such as wlcg-voms-atlas do",
        ),
        (
            "VOMS server for VO atlas is not known! Check your vomses configuration.\n",
            "VOMS server for VO atlas is not known! Check your vomses configuration; ",
            "`proxy_vo` atlas spelt right",
        ),
        (
            f'Creating temporary proxy ......... Done\nContacting  h:1 [/CN=x] "atlas" Failed\n\n{SUMMARY}',
            'Contacting h:1 [/CN=x] "atlas" Failed; ',
            "does the network let this machine reach",
        ),
        (
            'Contacting  h:1 [/CN=x] "atlas" Failed\n\nError: Error during SSL handshake:error:04000066:'
            "object identifier routines::oid exists:../crypto/objects/obj_dat.c:716\noid exists\nFunction: \n"
            + SUMMARY,
            'Contacting h:1 [/CN=x] "atlas" Failed; Error during SSL handshake; oid exists; ',
            "does the network let this machine reach",
        ),
        (
            f'Contacting  h:1 [/CN=x] "atlas" Failed\n\nError: atlas: User unknown to this VO.\n\n{SUMMARY}',
            'Contacting h:1 [/CN=x] "atlas" Failed; atlas: User unknown to this VO; ',
            "register the certificate with the VO atlas",
        ),
        (
            (
                "Remote VOMS server contacted.\n\nVOMS server h:2 returned the following errors:"
                f"\natlas: Unable to satisfy G/atlas/Role=king Request!\n{SUMMARY}"
                "User's request for VOMS attributes could not be fulfilled.\n"
            ),
            "atlas: Unable to satisfy G/atlas/Role=king Request; ",
            "see `proxy_role`",
        ),
        (
            "Your proxy is valid until Fri Jul 31 2026\nError: verify failed.\nCannot verify AC signature!\n",
            "verify failed; Cannot verify AC signature; ",
            "`x509_cert_dir`",
        ),
        (SUMMARY, "None of the contacted servers for atlas were capable", "valid AC for the user"),
        ("Function: \n", "it said nothing", ""),
    ],
)
def test_the_reason_is_told_with_what_to_do(said: str, start: str, advice: str) -> None:
    told = explain_failure(said, "atlas")
    assert told.startswith(start)
    assert advice in told
    assert "\n" not in told


def test_a_long_story_is_bounded() -> None:
    assert len(explain_failure("x" * 10_000 + "\n" + "y" * 10_000, "atlas")) < 600
