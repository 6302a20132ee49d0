"""The command that says which product a layer should use."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from etp import presets
from etp.analysis.advice import advice
from etp.analysis.comparison import Comparison, comparisons
from etp.analysis.model import (
    MeasuredLayer,
    ModelTime,
    largest_batch,
    largest_batches,
    model_times,
    whole_of,
)
from etp.cli import values
from etp.cli.problems import add_options, problems, product_names, question
from etp.cli.terminal import Progress, table
from etp.presets import Layer, Model
from etp.problem import Kind
from etp.results.rows import Row
from etp.run.devices import free_bytes
from etp.text import bytes_text, count_text, ratio_text, time_text

ROUNDS, BUDGET_S = 30, 12.0
NOTES = {
    "uvw": "Timed are the edge products of this layer, not the linear maps behind them.",
    "so2": "Timed is what this layer does channel by channel. Its matrices mix channels too: all "
    "edges share them, so that they can run at the nodes, as etp.SO2Convolution does.",
}
"""What to know of the layers of a mode."""


def add(commands: Any) -> None:
    """Add the command."""
    advised = commands.add_parser(
        "advise", help="which product for a layer: the same, faster; the same reach; the fastest"
    )
    add_options(advised, several=False)
    advised.add_argument(
        "--products", metavar="A,B,...", help=f"default: {','.join(presets.ADVISED)}"
    )
    advised.add_argument("--model", metavar="NAME", help=f"one of {', '.join(presets.MODELS)}")
    advised.add_argument(
        "--share",
        type=values.share,
        help="of a forward that these layers take now, from 0 to 1; of a training step with "
        "--direction backward (--model)",
    )
    advised.add_argument(
        "--budget", type=values.seconds, default=BUDGET_S, help="seconds of rounds"
    )
    advised.add_argument("--json", action="store_true")
    advised.set_defaults(run=_advise)


def available(names: tuple[str, ...], kind: Kind = "pair") -> tuple[str, ...]:
    """Those of some products, or powers, that can run here."""
    from etp.run.case.case import makers

    known = makers(kind)
    return tuple(name for name in names if known.get(name).unavailable() is None)


def _advise(options: argparse.Namespace) -> None:
    if options.model:
        _advise_model(options)
        return
    if options.share is not None:
        raise ValueError("--share is of a model: give --model too")
    if not (options.layer or options.setting or options.irreps1 or options.irreps2):
        raise ValueError(
            f"--layer must be one of {', '.join(presets.LAYERS)}; or give --irreps1 and --irreps2"
        )
    given = options.products
    (problem,), names = question(
        options,
        lambda: [None],
        lambda kind, layer: (
            product_names(given, kind) if given else available(presets.advised(kind, layer), kind)
        ),
    )
    comparison, rows = compared(problem, names, options.budget)
    said = advice(comparison)
    if options.json:
        timed = {entry.product: entry.typical_s for entry in comparison.timed}
        print(
            json.dumps(
                {
                    "problem": problem.as_dict(),
                    "baseline": comparison.baseline,
                    "sentences": list(said.sentences),
                    "products": list(said.products),
                    "median_s": timed,
                }
            )
        )
        return
    name = presets.named(problem)
    layer = None if name is None else presets.layer(name)
    power = problem.kind == "power"
    for line in (*said.sentences, *([] if power else _notes(layer, said.products[0]))):
        print(line)
    print()
    absent = [] if power else _absent(options.products)
    print("\n".join([*table(comparison), *_fitting(comparison), *absent]))
    for row in rows:
        if row.measure == "runtime" and row.status != "ok":
            print(f"{row.product}: {row.reason}")


def _advise_model(options: argparse.Namespace) -> None:
    model = presets.model(options.model)
    share = model.share_of(options.direction) if options.share is None else options.share
    if options.layer or options.setting or options.irreps1 or options.irreps2:
        raise ValueError("--model gives the layers: leave --layer, --setting and irreps out")
    names = product_names(options.products) if options.products else available(presets.ADVISED)
    # As with --layer: no model runs its layers as pairs, or without weights for each edge.
    options.kind = "convolution" if options.kind == "pair" else options.kind
    options.weights = "per-sample" if options.weights == "none" else options.weights
    parts = []
    for layer, count in model.layers:
        options.irreps1, options.irreps2, options.filter_out = (
            layer.nodes,
            layer.edges,
            layer.outputs,
        )
        (problem,) = problems(options, [None])
        parts.append(MeasuredLayer(layer.name, count, compared(problem, names, options.budget)[0]))
    times = model_times(parts)
    memory = free_bytes(parts[0].comparison.problem.device)
    fitting = largest_batches(parts, memory)
    if options.json:
        made = [
            asdict(total)
            | {
                "gain": None if share is None else total.gain(share),
                "largest_batch": fitting.get(total.product),
            }
            for total in times
        ]
        of = {"share": share, "share_of": whole_of(options.direction)}
        print(json.dumps({"model": model.name} | of | {"products": made}))
        return
    lines = _model_lines(model, parts, times, share)
    print("\n".join([*lines, *_fits("edges", fitting, memory), *_absent(options.products)]))


def _model_lines(
    model: Model, parts: list[MeasuredLayer], times: list[ModelTime], share: float | None
) -> Iterator[str]:
    """The layers added up, product by product."""
    heads = "".join(f"{f'{part.repeats} x {part.name}':>20s}" for part in parts)
    whole = whole_of(parts[0].comparison.problem.direction)
    speed = f"× {parts[0].comparison.baseline}"
    yield f"{'product':24s}{'all layers':>12s}{speed:>16s}{heads}{f'{whole} gains':>15s}"
    for total in times:
        shares = "".join(f"{f'{100 * own:.0f} %':>20s}" for own in total.shares)
        gain = "" if share is None else ratio_text(total.gain(share))
        yield (
            f"{total.product:24s}{time_text(total.seconds):>12s}{ratio_text(1 / total.ratio):>16s}"
            f"{shares}{gain:>15s}"
        )
    if share is None:
        yield (
            f"What a {whole} gains: give --share, the share of a {whole} that these layers take "
            f"now; none of {model.name} was measured."
        )
    else:
        measured = share == model.share_of(parts[0].comparison.problem.direction)
        known = f" (measured: {model.share_source})" if measured else ""
        yield (
            f"A {whole} gains what is said where these layers take {100 * share:.0f} % of "
            f"it{known}; at most {ratio_text(1 / (1 - share)) if share < 1 else 'without bound'}."
        )


def _fitting(comparison: Comparison) -> Iterator[str]:
    """How many edges fit into what is free on the device, product by product."""
    memory = free_bytes(comparison.problem.device)
    if memory is None:
        return
    fitting = {
        entry.product: largest
        for entry in comparison.timed
        if (largest := largest_batch(comparison, entry, memory)) is not None
    }
    of = {"pair": "samples", "power": "nodes"}.get(comparison.problem.kind, "edges")
    yield from _fits(of, fitting, memory)


def _fits(unit: str, fitting: dict[str, int], memory: int | None) -> Iterator[str]:
    if fitting and memory is not None:
        listed = ", ".join(f"{name} {count_text(largest)}" for name, largest in fitting.items())
        yield f"Largest batch ({unit}) in the {bytes_text(memory)} free here: {listed}"


def _absent(asked: str | None) -> Iterator[str]:
    """Engines that people would otherwise pick and that have no row, each with why."""
    if asked:
        return
    from etp import products

    for name in presets.ADVISED:
        if (reason := products.get(name).unavailable()) is not None:
            yield f"{name}: {reason}"
    for name, words in presets.ENGINES.items():
        yield f"{name}: {words}"


def compared(problem: Any, names: tuple[str, ...], budget: float) -> tuple[Comparison, list[Row]]:
    """Compare products on a problem; the first that can be timed is the baseline."""
    from etp.cli.commands import measured
    from etp.run.case import Case

    case = Case(problem, names, names[0], ROUNDS, budget)
    progress = Progress(presets.named(problem) or problem.irreps1)
    rows = list(measured(case, 1, progress))
    progress.done()
    (comparison,) = comparisons(rows, names[0])
    return comparison, rows


def _notes(layer: Layer | None, same: str | None) -> list[str]:
    notes = []
    if same is not None:
        notes.append("In a model of e3nn's products: report = etp.replace_in(model)")
    if layer is not None and layer.mode in NOTES:
        notes.append(NOTES[layer.mode])
    return notes
