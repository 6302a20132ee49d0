"""Whose turn it is on a device: owners one after the other, each owner's jobs in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etp.results.jobs import Job


def in_turn(waiting: Sequence[Job], served: Mapping[str, float]) -> list[Job]:
    """Order in which waiting jobs run: round robin over owners, not first come.

    Args:
        waiting: Jobs in the order in which they came.
        served: When each owner's last job began; owners that are missing were never served.
    """
    by_owner: dict[str, list[Job]] = {}
    for job in waiting:
        by_owner.setdefault(job.owner, []).append(job)
    # A stable sort: among owners never served, who came first.
    owners = sorted(by_owner, key=lambda owner: served.get(owner, float("-inf")))
    rounds = max(map(len, by_owner.values()), default=0)
    return [
        by_owner[owner][turn]
        for turn in range(rounds)
        for owner in owners
        if turn < len(by_owner[owner])
    ]
