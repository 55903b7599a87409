"""The gate: which credentials make whom."""

from __future__ import annotations

import pytest

from servicex_server.auth import AccessTokens, Audience, Gate
from servicex_server.errors import NotAuthenticated
from servicex_server.model.request import ANYONE, Principal

SECRET = b"s" * 32
ANN = Principal("ann")
BOSS = Principal("boss", is_admin=True)


class Directory:
    """Holders of long-lived tokens, as a database would know them."""

    def __init__(self) -> None:
        self.holders = {"ann-token": ANN, "boss.token.dotted": BOSS}
        self.lookups = 0

    async def by_token(self, token: str) -> Principal | None:
        return self.holders.get(token)

    async def by_name(self, name: str) -> Principal | None:
        self.lookups += 1
        return next((holder for holder in self.holders.values() if holder.name == name), None)


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def gate(directory: Directory, now: list[float]) -> Gate:
    return Gate(
        AccessTokens(SECRET),
        is_open=False,
        find_by_token=directory.by_token,
        find_by_name=directory.by_name,
        clock=lambda: now[0],
    )


async def test_long_lived_token_opens_directly(gate: Gate) -> None:
    assert await gate.authenticate("Bearer ann-token") == ANN
    assert await gate.authenticate("bearer  boss.token.dotted ") == BOSS


async def test_access_token_opens_with_the_rights_of_its_holder(gate: Gate) -> None:
    token = await gate.refresh("Bearer boss.token.dotted")
    assert await gate.authenticate(f"Bearer {token}") == BOSS


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic ann-token", "ann-token", "Bearer nobody", "Bearer a.b.c"]
)
async def test_everything_else_is_refused(gate: Gate, header: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        await gate.authenticate(header)
    with pytest.raises(NotAuthenticated):
        await gate.refresh(header)


async def test_access_token_cannot_make_a_new_one(gate: Gate) -> None:
    token = await gate.refresh("Bearer ann-token")
    with pytest.raises(NotAuthenticated):
        await gate.refresh(f"Bearer {token}")


async def test_access_token_of_a_revoked_holder_stops_working(
    gate: Gate, directory: Directory, now: list[float]
) -> None:
    token = await gate.refresh("Bearer ann-token")
    await gate.authenticate(f"Bearer {token}")
    del directory.holders["ann-token"]
    now[0] += 10
    with pytest.raises(NotAuthenticated, match="no longer"):
        await gate.authenticate(f"Bearer {token}")


async def test_holder_is_not_looked_up_for_every_call(gate: Gate, directory: Directory) -> None:
    token = await gate.refresh("Bearer ann-token")
    for _ in range(10):
        await gate.authenticate(f"Bearer {token}")
    assert directory.lookups == 1


async def test_session_opens_pages_and_nothing_else(gate: Gate) -> None:
    session = await gate.sign_in(" ann-token\n")
    assert await gate.authenticate_session(session) == ANN
    with pytest.raises(NotAuthenticated):
        await gate.authenticate(f"Bearer {session}")
    access = await gate.refresh("Bearer ann-token")
    for wrong in (None, "", "ann-token", access):
        with pytest.raises(NotAuthenticated):
            await gate.authenticate_session(wrong)


async def test_sign_in_needs_a_known_token(gate: Gate) -> None:
    for wrong in ("", "nobody", "x" * 100_000):
        with pytest.raises(NotAuthenticated):
            await gate.sign_in(wrong)


async def test_only_a_long_lived_token_is_handed_back(gate: Gate) -> None:
    assert await gate.holds_token("Bearer ann-token") == "ann-token"
    assert await gate.holds_token(None) is None
    access = await gate.refresh("Bearer ann-token")
    assert await gate.holds_token(f"Bearer {access}") is None


async def test_open_gate_lets_everybody_in_and_still_issues_tokens(directory: Directory) -> None:
    tokens = AccessTokens(SECRET)
    gate = Gate(tokens, is_open=True, find_by_token=directory.by_token, find_by_name=directory.by_name)
    for header in (None, "Bearer whatever", "nonsense"):
        assert await gate.authenticate(header) == ANYONE
        assert tokens.verify(await gate.refresh(header)).name == ANYONE.name
    assert await gate.authenticate_session(None) == ANYONE
    assert tokens.verify(await gate.sign_in(""), Audience.SESSION).name == ANYONE.name
