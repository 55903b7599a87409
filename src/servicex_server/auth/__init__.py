"""Who is calling: access tokens, sessions of browsers, and the gate that every call passes.

In: an Authorization header or a session cookie. Out: a `Principal`, or `NotAuthenticated`.
Knows neither HTTP framework nor database: the two questions it has about stored principals come as callables.
"""

from __future__ import annotations

from servicex_server.auth.gate import Gate
from servicex_server.auth.tokens import AccessTokens, Audience, Claims

__all__ = ["AccessTokens", "Audience", "Claims", "Gate"]
