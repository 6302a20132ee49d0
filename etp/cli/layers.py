"""The command that lists the layers of published models."""

from __future__ import annotations

import argparse
import json
from typing import Any

from etp.presets import LAYERS, Layer
from etp.problem import Problem


def add(commands: Any) -> None:
    """Add the command."""
    listed = commands.add_parser("layers", help="list the layers that published models run")
    listed.add_argument("--json", action="store_true")
    listed.set_defaults(run=_layers)


def _weights(problem: Problem) -> int:
    """Free weights of an edge, or of an element of a power: one for each path and channel."""
    if problem.kind == "power":
        return problem.size().paths * problem.channels
    copies = problem.copies()
    return sum(copies[ir1] for ir1, _, _ in problem.triples())


def _layers(options: argparse.Namespace) -> None:
    entries = [_described(layer) for layer in LAYERS.values()]
    if options.json:
        print(json.dumps(entries))
        return
    print(f"{'layer':18s}{'mode':6s}{'paths':>6s}{'weights':>9s}{'outputs':>9s}  irreps")
    for entry in entries:
        print(
            f"{entry['name']:18s}{entry['mode']:6s}{entry['paths']:6d}{entry['weights']:9d}"
            f"{entry['outputs']:9d}  {entry['nodes']} | {entry['edges']} | {entry['kept']}"
        )
    print("weights and outputs: numbers for each edge; irreps of nodes | of edges | kept")
    print("of a power: for each node, independent weights of an element; no edges")


def _described(layer: Layer) -> dict[str, Any]:
    problem = layer.problem()
    return {
        "name": layer.name,
        "mode": layer.mode,
        "nodes": layer.nodes,
        "edges": layer.edges,
        "kept": layer.outputs,
        "paths": problem.size().paths,
        "weights": _weights(problem),
        "outputs": problem.size().outputs,
    }
