"""A cache of decoded units within a memory budget, for many threads.

Some formats decode more than a tile at once (a strip, a whole PNG), and would decode it again for every tile. The
first thread that asks decodes the unit, the others wait for it; beyond the budget the least recently used units are
dropped. A reader reports the budget as resident memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Decoded(Generic[Item]):
    """A thread-safe cache: each item is made once, and all hold at most `budget` of cost.

    The thing made last is always kept, even if it alone exceeds the budget.

    Parameters
    ----------
    budget : int
        Limit of the total cost, in the unit given to `get`.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._spent = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Hashable, tuple[Future[Item], int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Item], cost: int) -> Item:
        """Return the thing under `key`, making it if it is missing.

        Raises
        ------
        Exception
            Any error of `make`, in every waiting thread; nothing is kept then.
        """
        with self._lock:
            held = self._items.get(key)
            if held is None:
                future: Future[Item] = Future()
                self._items[key] = (future, cost)
                self._spent += cost
                while self._spent > self._budget and len(self._items) > 1:
                    _, (_, dropped) = self._items.popitem(last=False)
                    self._spent -= dropped
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
