"""Short-lived tokens: what they carry, and what is refused."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.auth import AccessTokens, Audience
from servicex_server.errors import ConfigurationError, NotAuthenticated

SECRET = b"s" * 32


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def payload(token: str) -> dict[str, object]:
    """What a client reads without knowing the secret."""
    part = token.split(".")[1]
    content: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


def test_token_carries_the_claims_of_the_official_server() -> None:
    clock = Clock()
    claims = payload(AccessTokens(SECRET, clock=clock).issue("ann"))
    assert claims.keys() == {"fresh", "iat", "nbf", "jti", "type", "sub", "csrf", "exp"}
    assert claims["fresh"] is False
    assert (claims["type"], claims["sub"]) == ("access", "ann")
    assert claims["iat"] == claims["nbf"] == clock.now
    assert claims["exp"] == clock.now + 21600


@given(st.text(min_size=1, max_size=50).filter(lambda name: name.isprintable()))
def test_what_is_issued_verifies_as_the_same_name(name: str) -> None:
    tokens = AccessTokens(SECRET)
    assert tokens.verify(tokens.issue(name)).name == name


def test_token_ends_with_its_life() -> None:
    clock = Clock()
    tokens = AccessTokens(SECRET, 100, clock=clock)
    token = tokens.issue("ann")
    clock.now += 99
    assert tokens.verify(token).name == "ann"
    clock.now += 1
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.verify(token)


def test_a_token_that_was_seen_opens_no_more_than_before() -> None:
    tokens, others = AccessTokens(SECRET), AccessTokens(b"t" * 32)
    token = tokens.issue("ann")
    assert tokens.verify(token) == tokens.verify(token)
    with pytest.raises(NotAuthenticated, match="type"):
        tokens.verify(token, Audience.SESSION)
    for refused in (token[:-1], f"{token}x", others.issue("ann"), f"{token}\ud800"):
        for _ in range(2):
            with pytest.raises(NotAuthenticated, match="not one of"):
                tokens.verify(refused)
    for name in range(1100):
        tokens.verify(tokens.issue(str(name)))
    assert tokens.verify(token).name == "ann"


def test_clock_set_back_a_little_is_forgiven() -> None:
    clock = Clock()
    tokens = AccessTokens(SECRET, clock=clock)
    token = tokens.issue("ann")
    clock.now -= 30
    assert tokens.verify(token).name == "ann"
    clock.now -= 3600
    with pytest.raises(NotAuthenticated, match="not valid yet"):
        tokens.verify(token)


def test_session_does_not_open_what_an_access_token_opens() -> None:
    tokens = AccessTokens(SECRET)
    session = tokens.issue("ann", Audience.SESSION)
    assert tokens.verify(session, Audience.SESSION).name == "ann"
    with pytest.raises(NotAuthenticated, match="type"):
        tokens.verify(session)
    with pytest.raises(NotAuthenticated, match="type"):
        tokens.verify(tokens.issue("ann"), Audience.SESSION)


def foreign_tokens() -> dict[str, str]:
    good = {"sub": "ann", "type": "access", "exp": 4e9, "nbf": 0, "iat": 0}
    whole = {**good, "exp": 4_000_000_000}
    signed = jwt.encode(whole, SECRET, algorithm="HS256")
    header, body, signature = signed.split(".")
    return {
        "empty": "",
        "no token": "abc",
        "three empty parts": "..",
        "other secret": jwt.encode(whole, b"x" * 32, algorithm="HS256"),
        "other algorithm": jwt.encode(whole, b"s" * 64, algorithm="HS512"),
        "no algorithm": jwt.encode(whole, "", algorithm="none"),
        "tampered body": f"{header}.{body[:-2]}AA.{signature}",
        "no signature": f"{header}.{body}.",
        "no expiry": jwt.encode({"sub": "ann", "type": "access", "nbf": 0}, SECRET, algorithm="HS256"),
        "expiry is a text": jwt.encode({**whole, "exp": "never"}, SECRET, algorithm="HS256"),
        "expiry is a fraction": jwt.encode(good, SECRET, algorithm="HS256"),
        "refresh token": jwt.encode({**whole, "type": "refresh"}, SECRET, algorithm="HS256"),
        "no name": jwt.encode({"type": "access", "exp": 4_000_000_000, "nbf": 0}, SECRET, algorithm="HS256"),
        "very long": "a." * 10_000,
    }


@pytest.mark.parametrize("case", sorted(foreign_tokens()))
def test_foreign_token_is_refused(case: str) -> None:
    with pytest.raises(NotAuthenticated):
        AccessTokens(SECRET).verify(foreign_tokens()[case])


def test_weak_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="32"):
        AccessTokens(b"short")
    with pytest.raises(ConfigurationError, match="positive"):
        AccessTokens(SECRET, 0)


def test_secret_does_not_show() -> None:
    assert "ssss" not in repr(AccessTokens(SECRET))
