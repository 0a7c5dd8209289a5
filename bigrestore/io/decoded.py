"""Keep what was decoded last, within a budget, for many threads.

A format whose unit of decoding is larger than a tile (a strip, a whole PNG) would be decoded again for
every tile. The unit is decoded once, by the first thread that asks, while the others wait for it; the units
used longest ago are let go when the budget is spent. The budget is what a reader reports as resident.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Decoded(Generic[Item]):
    """A thread-safe cache that makes each thing once and holds at most `budget` of cost.

    The thing made last is always kept, even if it alone exceeds the budget.

    Parameters
    ----------
    budget : int
        What may be held, in the unit of the costs handed to `get`.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._spent = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Hashable, tuple[Future[Item], int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Item], cost: int) -> Item:
        """Return the thing under `key`, making it if nobody has.

        Raises
        ------
        Exception
            Whatever `make` raises, in every thread that waited for it; nothing is kept then.
        """
        with self._lock:
            held = self._items.get(key)
            if held is None:
                future: Future[Item] = Future()
                self._items[key] = (future, cost)
                self._spent += cost
                self._let_go()
            else:
                self._items.move_to_end(key)
        if held is not None:
            return held[0].result()
        try:
            thing = make()
        except BaseException as err:
            with self._lock:
                entry = self._items.get(key)
                if entry is not None and entry[0] is future:
                    del self._items[key]
                    self._spent -= cost
            future.set_exception(err)
            raise
        future.set_result(thing)
        return thing

    def _let_go(self) -> None:
        """Drop the things used longest ago until the budget is kept; the caller holds the lock."""
        while self._spent > self._budget and len(self._items) > 1:
            _, (_, cost) = self._items.popitem(last=False)
            self._spent -= cost
