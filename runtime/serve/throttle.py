"""Slows down whoever tries tokens."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)
# Wrong tokens that cost no time: people mistype. After that, seconds for each.
_FREE, _EVERY = 5, 1.0
# Seconds that a token may wait until it is compared.
_LONGEST = 10.0
# Clients that are remembered. The one that tried least recently is forgotten first.
_CLIENTS = 1024
# Seconds between two warnings about a client.
_QUIET = 10.0


class TooManyTokens(Exception):  # noqa: N818  # becomes an answer
    """As many tokens of the client wait as may."""


@dataclass
class _Client:
    """free_at: when all its attempts are paid for. wrong: tokens since the last warning."""

    free_at: float = 0.0
    wrong: int = 0
    warned_at: float = float("-inf")


class Throttle:
    """Lets each client try `_FREE` tokens at once, and one in `_EVERY` seconds after that.

    Right tokens cost nothing, but wait like all others: an answer that came sooner would tell that
    a token is right.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def attempt(self, network: str) -> float:
        """Count an attempt.

        Returns:
            Seconds to wait before the token is compared.

        Raises:
            TooManyTokens: the wait would be too long.
        """
        now = self._clock()
        client = self._clients.get(network) or _Client()
        paid = max(client.free_at, now)
        wait = paid - now - (_FREE - 1) * _EVERY
        if wait > _LONGEST:
            raise TooManyTokens
        client.free_at = paid + _EVERY
        self._clients[network] = client
        self._clients.move_to_end(network)
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return max(0.0, wait)

    def was_right(self, network: str) -> None:
        """Take back the last attempt."""
        if (client := self._clients.get(network)) is not None:
            client.free_at -= _EVERY

    def was_wrong(self, network: str) -> None:
        """Write to the log, from time to time."""
        client, now = self._clients.get(network) or _Client(), self._clock()
        client.wrong += 1
        if now - client.warned_at >= _QUIET:
            count = "a wrong token" if client.wrong == 1 else f"{client.wrong} wrong tokens"
            _log.warning("%s from %s", count, network)
            client.wrong, client.warned_at = 0, now
