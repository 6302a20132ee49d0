"""Results of pure functions, kept from one rerun to the next and shared by all sessions.

A page is made anew at every rerun, mostly from what it was made of before. What follows from the
same arguments is the same, whoever asks, so keeping it tells nobody anything: a visitor who may not
see some rows has no arguments to ask with. Arguments that have no hash (lists of rows, tables,
comparisons) count as the same only where they are the same object, and are never changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from threading import Lock, RLock
from typing import Any, ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Result = TypeVar("Result")


def kept(most: int) -> Callable[[Callable[Asked, Result]], Callable[Asked, Result]]:
    """Keep the last ``most`` results of a function; the longest unused goes first."""

    def decorate(function: Callable[Asked, Result]) -> Callable[Asked, Result]:
        # The arguments are kept too: an object's number is its own only while it lives.
        entries: OrderedDict[Hashable, tuple[tuple[object, ...], Result]] = OrderedDict()
        looking, working = Lock(), RLock()

        def known(key: Hashable) -> tuple[tuple[object, ...], Result] | None:
            with looking:
                entry = entries.get(key)
                if entry is not None:
                    entries.move_to_end(key)
                return entry

        @wraps(function)
        def wrapped(*args: Asked.args, **kwargs: Asked.kwargs) -> Result:
            given = (*args, *kwargs.values())
            key = (tuple(kwargs), *(_told(argument) for argument in given))
            entry = known(key)
            if entry is None:
                # One at a time: of many who ask at once, the first works and the others wait.
                with working:
                    entry = known(key)
                    if entry is None:
                        entry = (given, function(*args, **kwargs))
                        with looking:
                            entries[key] = entry
                            while len(entries) > most:
                                entries.popitem(last=False)
            return entry[1]

        wrapped.__dict__["kept"] = entries
        return wrapped

    return decorate


def _told(argument: Any) -> Hashable:
    """What tells an argument from others: its value, or that it is this very object."""
    try:
        hash(argument)
    except TypeError:
        return ("object", id(argument))
    # 1, 1.0 and True are equal, and are not written alike.
    return (type(argument), argument)
