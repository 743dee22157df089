"""When a token is fetched anew."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import pytest

from oplogbridge import Unavailable
from oplogbridge_sinks.kafka.tokens import ClientCredentials
from services.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider

LIFETIME_SECONDS = 100.0


class Clock:
    now_seconds = 1000.0

    def __call__(self) -> float:
        return self.now_seconds


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as provider:
        provider.lifetime_seconds = LIFETIME_SECONDS
        yield provider


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(provider: IdentityProvider, clock: Clock) -> ClientCredentials:
    tls = ssl.create_default_context()
    return ClientCredentials(
        provider.token_url, CLIENT_ID, CLIENT_SECRET, None, tls=tls, timeout_seconds=5, clock=clock
    )


async def test_a_token_is_used_for_four_fifths_of_its_life(
    provider: IdentityProvider, clock: Clock, tokens: ClientCredentials
) -> None:
    first = await tokens.valid()
    clock.now_seconds += 0.79 * LIFETIME_SECONDS
    assert await tokens.valid() == first
    clock.now_seconds += 0.02 * LIFETIME_SECONDS
    assert await tokens.valid() == provider.issued[1]
    assert len(provider.issued) == 2


async def test_connections_that_are_made_together_share_a_fetch(
    provider: IdentityProvider, tokens: ClientCredentials
) -> None:
    assert set(await asyncio.gather(*[tokens.valid() for _ in range(10)])) == set(provider.issued)
    assert len(provider.issued) == 1


async def test_a_provider_that_is_down_does_not_matter_before_the_token_expires(
    provider: IdentityProvider, clock: Clock, tokens: ClientCredentials
) -> None:
    first = await tokens.valid()
    provider.stop()
    clock.now_seconds += 0.99 * LIFETIME_SECONDS
    assert await tokens.valid() == first
    clock.now_seconds += 0.02 * LIFETIME_SECONDS
    with pytest.raises(Unavailable, match="is the identity provider up"):
        await tokens.valid()
