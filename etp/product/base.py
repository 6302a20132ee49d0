"""The one interface: a tensor product is a set of weighted paths plus an algorithm.

A product *claims* its paths, ``z[l3] += c(l1, l2, l3) * (x[l1] . y[l2] . wigner_3j(l1, l2, l3))``,
through :meth:`TensorProduct.coefficient`; its :meth:`TensorProduct.multiply` computes them. The
measures in :mod:`etp.measure` hold the two against each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from etp import irreps as irreps_module
from etp.e3 import o3
from etp.irreps import Layout, Meeting
from etp.kernels.modes import autocasting
from etp.kernels.tables import TableModule
from etp.maths.layout import channel_index, distinct, output_index
from etp.problem import Kind, Weights
from etp.product import applicability, kinds, weighting
from etp.product.chunks import in_chunks
from etp.product.graph import check_nodes
from etp.product.inputs import (
    are_rows,
    as_filter,
    batch_shape,
    check_inputs,
    common_channels,
    nothing,
    promoted,
)
from etp.product.path import Cost as Cost
from etp.product.path import Path as Path
from etp.product.path import dense_macs as dense_macs
from etp.product.weighting import Per, Split, Weighting, of_second, scaled


class TensorProduct(TableModule, metaclass=kinds.Kinds):
    """Bilinear equivariant map of two sets of irreps; base class of every product.

    Multiplicities are channels: channel u of input 1 meets channel u of input 2. Where input 2 has
    one channel and input 1 others, the class gives an :class:`etp.product.edge.EdgeProduct` of the
    same algorithm. The product works in the dtype of its inputs; its tables are kept in float64 and
    cast last. Under autocast inputs of different dtypes are promoted to the wider one, and nothing
    else changes.

    Args:
        irreps_in1: First input, every irrep with the same multiplicity C.
        irreps_in2: Second input, same multiplicity.
        filter_ir_out: Irreps to keep in the output; None keeps all that can be reached.

    Attributes:
        name: Name in the command line and in addresses (class attribute, the only one needed).
        title: Name for people; the name where none is given (class attribute).
        reference: Where the algorithm comes from (class attribute).
        channels: The common multiplicity C.
        kind: How channels meet.
        layout: Order within the blocks of features.
        keep: Output irreps asked for, None for all.
        weights_per: What its free weights scale: each path, each degree, or each order of a pair of
            degrees along a direction (class attribute).
        rule: Name in :mod:`etp.product.applicability` of what the irreps must satisfy
            (class attribute).
        approximate: Whether it may miss what it claims: its errors are shown beside its time, but
            do not keep it from being timed (class attribute).
        bilinear: Whether both inputs are free; False where one is made from a direction.
        as_table: Whether its edge product is best evaluated as a table of coefficients.
        broadcasts: Whether :meth:`multiply_shared` reads each row of input 2 only once.
        kinds: Kinds of operation that it can do (class attribute).
        weighting: Its free weights: what each scales and how coefficients depend on them.
        paths: Claimed paths of one channel, in the order of the output.
        irreps_out: One copy per path where ``keeps_paths``, one per irrep where not; times C.

    Raises:
        IrrepsError: If an input is not valid, or multiplicities differ.
        ValueError: If no path is left, naming the irreps and the rule that removed them.

    Examples:
        >>> import torch
        >>> from etp import products
        >>> tp = products.get("cg-sparse")("4x0e+4x1o", "4x0e+4x1o", filter_ir_out="1o")
        >>> tp.channels, str(tp.irreps_out), tp.weight_numel
        (4, '8x1o', 8)
        >>> tp(torch.randn(10, 16), torch.randn(10, 16)).shape
        torch.Size([10, 24])
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    group: ClassVar[str] = "O(3)"
    keeps_paths: ClassVar[bool] = False
    weights_per: ClassVar[Per] = "degree"
    rule: ClassVar[str | None] = None
    approximate: ClassVar[bool] = False
    bilinear: ClassVar[bool] = True
    as_table: ClassVar[bool] = False
    broadcasts: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = ("pair", "edge", "convolution")
    kind: Meeting = "pair"
    layout: Layout = "mul_ir"

    def __init_subclass__(cls, **rest: Any) -> None:
        """Paths that are kept apart have weights of their own, unless a class says otherwise."""
        super().__init_subclass__(**rest)
        if vars(cls).get("keeps_paths") and "weights_per" not in vars(cls):
            cls.weights_per = "path"

    def __init__(
        self,
        irreps_in1: str | o3.Irreps,
        irreps_in2: str | o3.Irreps,
        *,
        filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep] | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in1 = irreps_module.parse(irreps_in1, "irreps_in1")
        self.irreps_in2 = irreps_module.parse(irreps_in2, "irreps_in2")
        self.channels = common_channels(self.irreps_in1, self.irreps_in2)
        if (reason := self.applies(self.irreps_in1, self.irreps_in2)) is not None:
            raise ValueError(f"{self.name} does not apply to these irreps: {reason}")
        self.irs_in1 = distinct(self.irreps_in1)
        self.irs_in2 = distinct(self.irreps_in2)
        self.keep = None if filter_ir_out is None else as_filter(filter_ir_out)
        self.lmax_in1 = max(ir.l for ir in self.irs_in1)
        self.lmax_in2 = max(ir.l for ir in self.irs_in2)
        candidates = self.candidates()
        self.lmax_out = max((ir_out.l for _, _, ir_out in candidates), default=0)
        claimed = (Path(*triple, self.coefficient(*triple)) for triple in candidates)
        self.paths = tuple(
            sorted((path for path in claimed if path.coefficient != 0.0), key=lambda p: p.ir_out)
        )
        if not self.paths:
            raise ValueError(self._why_empty(candidates))
        self.irs_out: tuple[o3.Irrep, ...] = (
            tuple(path.ir_out for path in self.paths)
            if self.keeps_paths
            else tuple(sorted({path.ir_out for path in self.paths}))
        )
        self.irreps_out = o3.Irreps([(self.channels, ir) for ir in self.irs_out]).simplify()
        self._register_layouts()
        self.weighting = Weighting(self, [list(self.split(*path[:3])) for path in self.paths])

    @abstractmethod
    def coefficient(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> float:
        """Return the claimed coefficient of a path relative to ``wigner_3j``; 0 if there is none.

        Called once the inputs' irreps and ``lmax_out`` are known.

        Args:
            ir_in1: Irrep of input 1.
            ir_in2: Irrep of input 2.
            ir_out: Irrep of the output.
        """

    @abstractmethod
    def multiply(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Multiply one channel: (N, dim1) and (N, dim2) to (N, dim_out).

        Components are those of ``irs_in1``, ``irs_in2`` and ``irs_out``, in that order.
        """

    def candidates(self) -> list[tuple[o3.Irrep, o3.Irrep, o3.Irrep]]:
        """Triples that the selection rules allow and the filter keeps."""
        return [
            (ir1, ir2, ir_out)
            for ir1 in self.irs_in1
            for ir2 in self.irs_in2
            for ir_out in self.couple(ir1, ir2)
            if self.keep is None or ir_out in self.keep
        ]

    def macs(self) -> int:
        """Multiply-adds of :meth:`multiply` for one sample; by default :func:`dense_macs`."""
        return dense_macs(self.paths)

    def run_macs(self) -> int:
        """Multiply-adds of what runs on the product's device, where a kernel needs others."""
        return self.macs()

    def split(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep, ir_out: o3.Irrep) -> Iterator[Split]:
        """Pieces of a path's coefficient that have factors of their own; by default there is one.

        Only for products whose weights are per degree.

        Args:
            ir_in1: Irrep of input 1.
            ir_in2: Irrep of input 2.
            ir_out: Irrep of the output.
        """
        yield Split(0, 0, 0, self.coefficient(ir_in1, ir_in2, ir_out))

    def multiply_weighted(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """:meth:`multiply` with weights (G, factors), row n of the inputs using row n mod G.

        Args:
            x1: (N, dim1), one channel.
            x2: (N, dim2).
            weights: (G, factors), where G divides N.
        """
        spread = self.weighting.spread
        if self.weights_per == "degree":
            x1 = scaled(x1, spread(weights, "in1"))
            x2 = scaled(x2, spread(of_second(weights, x1, x2), "in2"))
        return scaled(self.multiply(x1, x2), spread(weights, "out"))

    def multiply_shared(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """Multiply (E * U, dim1) and (E, dim2): each row of input 2 meets U rows of input 1.

        By default input 2 is copied U times. A product that ``broadcasts`` makes what it needs of
        input 2 once. Weights are as in :meth:`multiply_weighted`, U or E * U rows; factors of
        input 2 are the same in all U.

        Args:
            x1: (E * U, dim1), one channel.
            x2: (E, dim2).
            weights: U or E * U rows of factors, or None.
        """
        if not self.broadcasts:
            x2 = x2.repeat_interleave(x1.shape[0] // x2.shape[0], dim=0)
        if weights is None:
            return self.multiply(x1, x2)
        return self.multiply_weighted(x1, x2, weights)

    def convolve(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        senders: Tensor,
        receivers: Tensor,
        num_nodes: int,
    ) -> Tensor:
        """Add up edge products by receiver; by default chunk by chunk.

        Arguments are those of :class:`etp.product.convolution.Convolution`, checked but for the
        numbers of nodes; there is at least one edge.

        Args:
            x: (nodes, irreps_in1.dim).
            y: (E, irreps_in2.dim).
            weights: (E, weight_numel), (weight_numel,) or None.
            senders: (E,).
            receivers: (E,).
            num_nodes: Rows of the output.

        Raises:
            ValueError: If a node is not there.
        """
        check_nodes(x, senders, receivers, num_nodes)
        return in_chunks(self, x, y, weights, senders, receivers, num_nodes)

    def second_macs(self) -> int:
        """Those of :meth:`macs` that need input 2 only: an edge product does them once an edge."""
        return 0

    def weight_macs(self) -> int:
        """Multiply-adds that weights add for one sample and channel."""
        return sum(self._dims) if self.weights_per == "degree" else self._dims[2]

    @classmethod
    def applies(cls, irreps_in1: str | o3.Irreps, irreps_in2: str | o3.Irreps) -> str | None:
        """Why this product cannot multiply these irreps; None if it can.

        Examples:
            >>> from etp import products
            >>> products.get("cg-sparse").applies("0e+1o", "0e+1o") is None
            True
        """
        return applicability.reason(cls.rule, str(irreps_in1), str(irreps_in2))

    @classmethod
    def edge_class(cls) -> type[TensorProduct]:
        """Class of this algorithm's edge products."""
        edges: type[TensorProduct] = kinds.EDGES["table" if cls.as_table else "groups"]
        return edges

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this product cannot run here, with the mend; None if it can."""
        return None

    def couple(self, ir_in1: o3.Irrep, ir_in2: o3.Irrep) -> Iterator[o3.Irrep]:
        """Labels of the output irreps that two input irreps could reach."""
        yield from ir_in1 * ir_in2

    @override
    def forward(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """Multiply features of shape (..., irreps_in1.dim) and (..., irreps_in2.dim).

        Args:
            x1: First input.
            x2: Second input.
            weights: Shape (weight_numel,) where shared, (..., weight_numel) where each sample has
                its own: a number for each of ``weighting.factors`` and channel, channels fastest.
                None is all ones.

        Leading axes broadcast. Returns shape (..., irreps_out.dim).

        Raises:
            ValueError: If a shape, dtype or device does not fit; the message says what must hold.
        """
        if autocast := autocasting(self._device.type):
            x1, x2, weights = promoted(x1, x2, weights)
        if (
            not autocast
            and are_rows(x1, x2, self._widths, self._device)
            and (weights is None or weighting.fit(weights, x1, self.weight_numel))
        ):
            return self.multiply_channels(x1, x2, weights)
        irreps = (self.irreps_in1, self.irreps_in2)
        check_inputs((x1, x2), irreps, self._widths, self._device)
        if weights is not None:
            weighting.check(weights, x1, self.weight_numel)
        batch = batch_shape(x1, x2, weights)
        if not autocast:
            return self._multiply_batch(x1, x2, weights, batch)
        # The product works in the dtype of its inputs: autocast would take digits from its maps.
        with torch.autocast(self._device.type, enabled=False):
            return self._multiply_batch(x1, x2, weights, batch)

    def _multiply_batch(
        self, x1: Tensor, x2: Tensor, weights: Tensor | None, batch: torch.Size
    ) -> Tensor:
        if 0 in batch:
            # Transforms refuse empty batches.
            return x1.new_zeros(*batch, self._widths[2]) + nothing(x1, x2, weights)
        x1, x2 = _as_rows(x1, batch), _as_rows(x2, batch)
        if weights is not None and weights.numel() > self.weight_numel:
            weights = _as_rows(weights, batch)
        z = self.multiply_channels(x1, x2, weights)
        return z if len(batch) == 1 else z.reshape(*batch, self._widths[2])

    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        """Multiply (N, irreps_in1.dim) and (N, irreps_in2.dim) to (N, irreps_out.dim).

        By default :meth:`multiply` on each channel's components, gathered and put back. A kernel
        that reads features as they lie saves both copies. Weights are (N, weight_numel), or any
        shape of weight_numel numbers for all samples.

        Args:
            x1: (N, irreps_in1.dim).
            x2: (N, irreps_in2.dim).
            weights: As above, or None.
        """
        if self._as_they_lie and weights is None:
            return self.multiply(x1, x2)
        rows1 = self._to_channels(x1, "layout1", self._dims[0])
        rows2 = self._to_channels(x2, "layout2", self._dims[1])
        z = (
            self.multiply(rows1, rows2)
            if weights is None
            else self.multiply_weighted(rows1, rows2, self.weighting.rows(weights, x1.shape[:1]))
        )
        return self._from_channels(z)

    def cost(self, batch: int, itemsize: int, weights: Weights = "none") -> Cost:
        """Multiply-adds and minimal bytes of one call on ``batch`` samples.

        Args:
            batch: Samples in a call.
            itemsize: Bytes of a number: 4 in float32.
            weights: Whether there are weights, and whether each sample has its own.

        Examples:
            >>> from etp import products
            >>> products.get("cg-sparse")("0e+1o", "0e+1o").cost(batch=10, itemsize=4).bytes
            960
        """
        numbers = (self.irreps_in1.dim + self.irreps_in2.dim + self.irreps_out.dim) * batch
        macs = self.run_macs()
        if weights != "none":
            macs += self.weight_macs()
            numbers += self.weight_numel * (batch if weights == "per-sample" else 1)
        return Cost(macs * batch * self.channels, numbers * itemsize)

    @property
    def weight_counts(self) -> tuple[int, ...]:
        """Weights of each factor: one for each channel that it scales."""
        return (self.channels,) * len(self.weighting.factors)

    @property
    def weight_numel(self) -> int:
        """Weights of all factors."""
        return sum(self.weight_counts)

    def weight_places(self) -> Tensor:
        """Where the weights hold each channel's factors: (channels, factors)."""
        count = len(self.weighting.factors)
        return torch.arange(count * self.channels).reshape(count, self.channels).T

    @property
    def per_edge(self) -> TensorProduct:
        """The bilinear map itself: of a convolution that of one edge."""
        return self

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"{self.irreps_in1} x {self.irreps_in2} -> {self.irreps_out}"

    def _why_empty(self, candidates: list[Any]) -> str:
        if candidates:
            paths = ", ".join(f"{a} x {b} -> {c}" for a, b, c in candidates)
            return (
                f"{self.name} has no path for irreps_in1={self.irreps_in1}, irreps_in2="
                f"{self.irreps_in2}: it cannot couple {paths} (coefficient 0). Choose a product "
                "that reaches these paths, such as cg-dense, or other irreps."
            )
        wanted = "+".join(map(str, sorted(self.keep or ())))
        return "filter_ir_out leaves no path. " + irreps_module.why_empty(
            str(self.irreps_in1), str(self.irreps_in2), wanted
        )

    def _register_layouts(self) -> None:
        """Index features of C channels as C rows of one-channel features, and back."""
        # Plain numbers: the compiler cannot guard e3nn's irreps.
        self._dims = tuple(
            sum(ir.dim for ir in irs) for irs in (self.irs_in1, self.irs_in2, self.irs_out)
        )
        self._widths = tuple(dim * self.channels for dim in self._dims)
        for name, irreps, irs in (
            ("layout1", self.irreps_in1, self.irs_in1),
            ("layout2", self.irreps_in2, self.irs_in2),
        ):
            index = channel_index(irreps, irs)
            identity = torch.equal(index, torch.arange(len(index)))
            if not identity:
                self.register_buffer(name, index, persistent=False)
        if self.channels > 1:
            out = output_index(self.irs_out, self.channels)
            self.register_buffer("layout_out", out, persistent=False)
        self._as_they_lie = not self._buffers

    def _to_channels(self, x: Tensor, layout: str, dim: int) -> Tensor:
        index = self.optional_index(layout)
        if index is not None:
            x = x.index_select(-1, index)
        return x if x.ndim == 2 and x.shape[1] == dim else x.reshape(-1, dim)

    def _from_channels(self, z: Tensor) -> Tensor:
        index = self.optional_index("layout_out")
        if index is None:
            return z
        return z.reshape(-1, len(index)).index_select(-1, index)


def _as_rows(x: Tensor, batch: torch.Size) -> Tensor:
    """(..., dim) as (N, dim); views that change nothing still cost autograd a node each."""
    if x.shape[:-1] == batch and x.ndim == 2:
        return x
    return x.expand(*batch, -1).reshape(-1, x.shape[-1])
