"""Peers on JAX, under ``jax.jit`` and blocked on the result: e3nn-jax, e3j, e3x, cuEquivariance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Work = dict[str, Any]


def set_threads(count: int) -> None:
    """XLA takes as many threads as the process has cores, which the worker has limited."""


def forget() -> None:
    """Drop compiled functions of the last case."""
    jax.clear_caches()


def _call(
    function: Callable[[Any, Any], Any], work: Work, x: Any, y: Any, *, turned: bool = False
) -> Callable[[], tuple[Any, ...]]:
    """Compile forward, or forward and both gradients with the output as cotangent."""
    x1, x2 = (jnp.asarray(t.T.copy() if turned else t) for t in (x, y))

    def forward(a: Any, b: Any) -> tuple[Any, ...]:
        return (function(a, b),)

    def both(a: Any, b: Any) -> tuple[Any, ...]:
        z, back = jax.vjp(function, a, b)
        return z, *back(z)

    compiled = jax.jit(forward if work["direction"] == "forward" else both)

    def call() -> tuple[Any, ...]:
        outputs: tuple[Any, ...] = jax.block_until_ready(compiled(x1, x2))
        return outputs

    return call


def _e3nn_jax(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    import e3nn_jax as e3nn

    keep = None if work["keep"] is None else [ir for _, ir in e3nn.Irreps(work["keep"])]

    def function(a: Any, b: Any) -> Any:
        first, second = (
            e3nn.IrrepsArray(irreps, t)
            for irreps, t in ((work["irreps1"], a), (work["irreps2"], b))
        )
        return e3nn.tensor_product(first, second, filter_ir_out=keep).array

    return _call(function, work, x, y)


def _e3nn_jax_grid(work: Work, x: Any, y: Any, *, fft: bool) -> Callable[[], tuple[Any, ...]]:
    import e3nn_jax as e3nn

    lmax = work["lmax"]
    top = lmax if work["single_out"] else 2 * lmax
    total = 2 * lmax + top
    res_beta, res_alpha = total // 2 + 1, total + 1 + total % 2
    res_beta += res_beta % 2
    degrees = [lmax] if work["single_out"] else range(top + 1)
    out = e3nn.Irreps([(1, (l, (-1) ** l)) for l in degrees])

    def signal(irreps: str, t: Any) -> Any:
        return e3nn.to_s2grid(
            e3nn.IrrepsArray(irreps, t), res_beta, res_alpha, quadrature="gausslegendre",
            normalization="integral", fft=fft, p_val=1, p_arg=-1,
        )  # fmt: skip

    def function(a: Any, b: Any) -> Any:
        product = signal(work["irreps1"], a) * signal(work["irreps2"], b)
        return e3nn.from_s2grid(product, out, normalization="integral", fft=fft).array

    return _call(function, work, x, y)


def _e3j(work: Work, x: Any, y: Any, *, way: str, layout: str) -> Callable[[], tuple[Any, ...]]:
    import e3j

    e3j.config(tensor_product=way)
    first = layout == "TRAILING_CHANNELS"
    product = e3j.core.TensorProduct(
        (work["irreps1"], work["irreps2"]), work["keep"], layout=layout,
        mode="MAP" if first else "OUTER",
    )  # fmt: skip
    coef = product.coef.todense() if way == "DENSE" else None
    return _call(lambda a, b: product(a, b, coef), work, x, y, turned=first)


def _cue(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    import cuequivariance as cue
    import cuequivariance_jax as cuex

    keep = None if work["keep"] is None else [ir for _, ir in cue.Irreps("O3", work["keep"])]
    whole = cue.descriptors.full_tensor_product(
        cue.Irreps("O3", work["irreps1"]), cue.Irreps("O3", work["irreps2"]), keep
    )

    def function(a: Any, b: Any) -> Any:
        shape = jax.ShapeDtypeStruct((len(a), whole.outputs[0].dim), a.dtype)
        return cuex.segmented_polynomial(whole.polynomial, [a, b], [shape], method="naive")[0]

    return _call(function, work, x, y)


def _e3x_fused(work: Work, x: Any, y: Any) -> Callable[[], tuple[Any, ...]]:
    """Weighted, all degrees up to lmax: a single degree is padded with zeros."""
    import e3x

    lmax = work["lmax"]
    top = lmax if work["single_out"] else 2 * lmax
    module = e3x.nn.FusedTensor(max_degree=top, include_pseudotensors=True, cartesian_order=False)
    before = lmax * lmax if work["single_in"] else 0

    def widen(t: Any) -> Any:
        return jnp.pad(t, ((0, 0), (before, 0)))[:, None, :, None]

    few = (widen(jnp.asarray(t[:1])) for t in (x, y))
    weights = module.init(jax.random.PRNGKey(0), *few)

    def function(a: Any, b: Any) -> Any:
        z = module.apply(weights, widen(a), widen(b))
        if work["single_out"]:
            return z[:, 0 if lmax % 2 == 0 else 1, lmax * lmax :, 0]
        return z.reshape(len(a), -1)

    return _call(function, work, x, y)


OFFERS: dict[str, dict[str, Callable[[Work, Any, Any], Callable[[], tuple[Any, ...]]]]] = {
    "cg": {
        "e3nn-jax": _e3nn_jax,
        "e3j dense": partial(_e3j, way="DENSE", layout="LEADING_CHANNELS"),
        "e3j sparse": partial(_e3j, way="UNFUSED", layout="LEADING_CHANNELS"),
        "e3j sparse, feature-first": partial(_e3j, way="UNFUSED", layout="TRAILING_CHANNELS"),
        "cuequivariance-jax": _cue,
    },
    "gaunt": {
        "e3nn-jax grid": partial(_e3nn_jax_grid, fft=False),
        "e3nn-jax grid, FFT": partial(_e3nn_jax_grid, fft=True),
    },
    "matrix": {"e3x fused": _e3x_fused},
}
