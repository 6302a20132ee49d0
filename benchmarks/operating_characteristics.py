"""How often verdicts are wrong, and how often they find what is there.

Simulates boards with known truth in several kinds of machine noise, replays recorded timings, and
prints three tables: false alarms, power, and recorded copies of one call. Every simulated board has
a twin, as every run has. Times nothing.

    python benchmarks/operating_characteristics.py --boards 2000
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etp.measure.verdict import Board, Verdict

Array = NDArray[np.float64]
LOOKS = (15, 30, 60, 120, 240)
TRACES = Path(__file__).parents[1] / "tests" / "data" / "traces.npz"


def states(rng: np.random.Generator, order: Array, share: float, stay: float) -> Array:
    """A machine with two states that stays in each for several blocks, in measuring order."""
    rounds, columns = order.shape
    enter = share * (1 - stay) / (1 - share)
    draws, now = rng.random(rounds * columns), rng.random() < share
    course = np.empty(rounds * columns)
    for i, draw in enumerate(draws):
        now = draw < (stay if now else enter)
        course[i] = now
    placed: Array = np.take_along_axis(course.reshape(order.shape), order.astype(int), axis=1)
    return placed


def gauss(rng: np.random.Generator, order: Array) -> Array:
    """1 % noise and nothing else."""
    return 0.01 * rng.standard_normal(order.shape)


def typical(rng: np.random.Generator, order: Array) -> Array:
    """1 % noise, a slow state in a tenth of the blocks, one-sided spikes."""
    spikes = np.where(rng.random(order.shape) < 0.05, rng.exponential(0.3, order.shape), 0)
    return gauss(rng, order) + math.log(1.5) * states(rng, order, 0.1, 0.7) + spikes


def burst(rng: np.random.Generator, order: Array) -> Array:
    """A neighbour that takes the machine for a third of the time, with differing force."""
    force = rng.uniform(0.1, 0.9, order.shape)
    return gauss(rng, order) + force * states(rng, order, 0.33, 0.85)


def heavy(rng: np.random.Generator, order: Array) -> Array:
    """Tails of Student's t with two degrees of freedom, spikes and a slow state."""
    tails = 0.04 * rng.standard_t(2, order.shape)
    return typical(rng, order) + tails


def drift(rng: np.random.Generator, order: Array) -> Array:
    """25 % slower from start to end, and a slow wander between."""
    rounds, columns = order.shape
    wander = np.zeros(rounds * columns)
    steps = 0.005 * rng.standard_normal(rounds * columns)
    for i in range(1, len(wander)):
        wander[i] = 0.97 * wander[i - 1] + steps[i]
    course = (wander + np.linspace(0, math.log(1.25), len(wander))).reshape(rounds, columns)
    placed: Array = np.take_along_axis(course, order.astype(int), axis=1)
    return gauss(rng, order) + placed


def step(rng: np.random.Generator, order: Array) -> Array:
    """25 % slower from a random moment on."""
    when = (np.arange(len(order))[:, None] * order.shape[1] + order) > rng.random() * order.size
    slow: Array = math.log(1.25) * when
    return gauss(rng, order) + slow


def bimodal(rng: np.random.Generator, order: Array) -> Array:
    """Two clock states, 20 % apart."""
    return gauss(rng, order) + math.log(1.2) * states(rng, order, 0.4, 0.95)


def coarse(rng: np.random.Generator, order: Array) -> Array:
    """A clock whose steps are 1 % of what is timed."""
    ticks: Array = np.log(np.round(100 * np.exp(gauss(rng, order))) / 100)
    return ticks


def carry(rng: np.random.Generator, order: Array) -> Array:
    """Each product leaves the machine in a state that the next one feels: a true bias."""
    effect: Array = rng.normal(0, 0.02, (order.shape[1],))
    columns = np.argsort(order, axis=1).ravel()
    felt = effect[np.roll(columns, 1)].reshape(order.shape)
    placed: Array = np.take_along_axis(felt, order.astype(int), axis=1)
    return gauss(rng, order) + placed


def sensitive(rng: np.random.Generator, order: Array) -> Array:
    """Products suffer differently from the slow state: a bias, for the typical call decides."""
    reaction = rng.uniform(0.5, 1.5, order.shape[1])
    return gauss(rng, order) + math.log(1.5) * reaction * states(rng, order, 0.15, 0.8)


SHAPES: dict[str, Callable[[np.random.Generator, Array], Array]] = {
    shape.__name__: shape
    for shape in (
        gauss,
        typical,
        burst,
        heavy,
        drift,
        step,
        bimodal,
        coarse,
        carry,
        sensitive,
    )
}


def simulate(shape: str, rng: np.random.Generator, rounds: int, ratios: Sequence[float]) -> Array:
    """Block values in seconds, ``(rounds, columns)``, every round in a fresh random order."""
    order = rng.permuted(np.tile(np.arange(float(len(ratios))), (rounds, 1)), axis=1)
    times: Array = 1e-3 * np.exp(SHAPES[shape](rng, order)) * np.asarray(ratios)
    return times


def directed(verdicts: Sequence[Verdict]) -> bool:
    """Whether any verdict claims a direction."""
    return any(v.word in ("faster", "slower") for v in verdicts)


def false_alarms(boards: int, products: int) -> None:
    """Share of boards of equal products with a wrong interval, and with a wrong word, by look."""
    print(f"\nFalse alarms, {products} equal products: any interval without 1 (any direction), %")
    print(f"{'shape':10}" + "".join(f"{n:>14}" for n in LOOKS))
    for shape in SHAPES:
        counts = np.zeros((2, len(LOOKS)))
        for seed in range(boards):
            ratios = [1.0] * (products + 1)
            times = simulate(shape, np.random.default_rng(seed), LOOKS[-1], ratios)
            board = Board(products, twin=(0, products))
            seen = [board.look(times[:n]) for n in LOOKS]
            wrong = [any(v.low > 0 or v.high < 0 for v in vs) for vs in seen]
            counts[0] += np.maximum.accumulate(wrong)
            counts[1] += np.maximum.accumulate([directed(vs) for vs in seen])
        cells = [f"{100 * a / boards:.1f} ({100 * b / boards:.1f})" for a, b in counts.T]
        print(f"{shape:10}" + "".join(f"{cell:>14}" for cell in cells))


def power(boards: int) -> None:
    """Share of true differences called at the first look, coverage and half-width."""
    ratios = (1.01, 1.02, 1.05, 1.1)
    print(
        f"\nPower at the first look, one pair, ratios {ratios}, %; coverage and half-width at 1.02"
    )
    for shape in SHAPES:
        for n in LOOKS[:4]:
            called, covered, widths = [], 0, []
            for ratio in ratios:
                slower = 0
                for seed in range(boards):
                    times = simulate(shape, np.random.default_rng(seed), n, [1.0, ratio, 1.0])
                    (v,) = Board(2, twin=(0, 2)).look(times)
                    slower += v.word == "slower"
                    if ratio == 1.02:
                        covered += v.low <= math.log(ratio) <= v.high
                        widths.append((v.high - v.low) / 2)
                called.append(f"{100 * slower / boards:.0f}")
            print(
                f"{shape:10} n={n:<4} {'/'.join(called):>16}   coverage "
                f"{100 * covered / boards:5.1f} %   half-width {100 * np.median(widths):.1f} %"
            )


def asked(boards: int) -> None:
    """Share of open pairs that are settled at the number of rounds asked for."""
    print("\nOpen pairs that asked for more rounds and were settled there, true ratio 1.015, %")
    for shape in SHAPES:
        settled, total = 0, 0
        for seed in range(boards):
            times = simulate(shape, np.random.default_rng(seed), 240, [1.0, 1.015, 1.0])
            board = Board(2, twin=(0, 2))
            (v,) = board.look(times[:30])
            if v.needed is not None:
                total += 1
                settled += board.look(times[: v.needed])[0].word not in ("open", "too few")
        share = f"{100 * settled / total:.0f} of {total}" if total else "none asked"
        print(f"{shape:10} {share:>14}")


def recorded() -> None:
    """Pairs of recorded copies of one call that were called different after four looks."""
    print("\nRecorded copies of one call, windows of 120 rounds, four looks, 28 pairs each")
    with np.load(TRACES) as data:
        for key in sorted(k for k in data if k.startswith("aa8")):
            times = np.asarray(data[key], dtype=float)
            windows = [times[i : i + 120] for i in range(0, len(times) - 119, 120)]
            wrong = excluded = same = 0
            for window in windows:
                board = Board(8)
                seen = [v for n in LOOKS[:4] for v in board.look(window[:n])]
                wrong += directed(seen)
                excluded += any(v.low > 0 or v.high < 0 for v in seen)
                same += sum(v.word == "same" for v in board.verdicts)
            print(
                f"{key.removesuffix('__blocks_us'):16} {len(windows)} boards: {wrong} with a "
                f"direction, {excluded} with an interval without 1, "
                f"{100 * same / (28 * len(windows)):.0f} % of the pairs called same"
            )


def instances() -> None:
    """Equal calls built apart in fresh processes: placement in memory differs, words must not."""
    with np.load(TRACES) as data:
        runs = np.asarray(data["instances__blocks_us"], dtype=float)
    pairs = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    verdicts = [Board(6, pairs=[pair]).look(run)[0] for run in runs for pair in pairs]
    excluded = sum(v.low > 0 or v.high < 0 for v in verdicts)
    wrong = sum(directed([v]) for v in verdicts)
    print(
        f"\nInstances in {len(runs)} processes, {len(verdicts)} pairs looked at once each: "
        f"{excluded} intervals without 1, {wrong} directions"
    )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--boards", type=int, default=200, help="simulated boards per cell")
    boards = parser.parse_args().boards
    false_alarms(boards, 2)
    false_alarms(boards, 6)
    power(boards)
    asked(boards)
    recorded()
    instances()


if __name__ == "__main__":
    main()
