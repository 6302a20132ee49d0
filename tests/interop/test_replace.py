"""Products inside models: what is found, what is left and why, and the table of it."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import nn

import etp
from etp.interop import ConvertedProduct, fusion_for, replace, replacement_for

pytestmark = pytest.mark.filterwarnings("ignore")


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = o3.Linear("2x1o", "2x1o")
        self.product = o3.FullTensorProduct("2x1o", "1o")
        self.other = o3.TensorProduct("2x1o", "3x1o", "3x0e", [(0, 0, 0, "uvv", True)])
        self.nothing = None


def test_every_product_has_a_row_and_a_reason_where_it_is_left():
    model = nn.Sequential(nn.ReLU(), Layer())
    report = etp.replace_in(model)
    assert [row[:3] for row in report] == [
        ("1.linear", "e3nn Linear", "left"),
        ("1.product", "e3nn FullTensorProduct", "replaced"),
        ("1.other", "e3nn TensorProduct", "left"),
    ]
    assert isinstance(model[1].product, ConvertedProduct)
    lines = str(report).splitlines()
    assert lines[0].split() == ["module", "what", "became", "reason"]
    assert "a linear map" in lines[1]
    assert lines[2].endswith("replaced")
    assert "mode 'uvv'" in lines[3]
    assert [row.became for row in etp.replace_in(model)] == ["left", "replaced", "left"]
    assert "no product" in str(etp.replace_in(nn.ReLU()))


def test_a_product_that_is_shared_stays_shared():
    product = o3.FullyConnectedTensorProduct("2x1o", "1o", "2x0e")
    inner = nn.ModuleList([product, product])
    model = nn.ModuleDict({"a": product, "b": inner})
    report = etp.replace_in(model)
    assert len(report) == 1
    assert all(made is model["a"] for made in inner)
    assert model["a"].weight is product.weight


def test_what_would_be_lost_is_left():
    model = nn.ModuleList([o3.FullTensorProduct("1o", "1o") for _ in range(2)])
    model[0].register_forward_hook(lambda *given: None)
    assert "hooks" in etp.replace_in(model)[0].reason
    (row,) = etp.replace_in(o3.FullTensorProduct("1o", "1o"))
    assert "etp.from_e3nn" in row.reason
    scripted = nn.ModuleList([torch.jit.script(nn.Linear(2, 2))])
    assert "TorchScript" in etp.replace_in(scripted)[0].reason
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got str"):
        etp.replace_in("model")  # type: ignore[arg-type]


class Own(nn.Module):
    """A class of a package that etp need not import."""


class Around(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside


def test_classes_are_registered_by_name_and_serve_what_inherits(monkeypatch):
    monkeypatch.setattr(replace, "_REPLACEMENTS", dict(replace._REPLACEMENTS))
    monkeypatch.setattr(replace, "_FUSIONS", {})
    replacement_for(f"{__name__}.Own")(lambda module: nn.Identity())

    @fusion_for(f"{__name__}.Around")
    def _fuse(module: nn.Module) -> nn.Module:
        if not isinstance(module.inside, nn.Identity):
            raise ValueError("its inside was not replaced")
        return module.inside

    class Heir(Own):
        pass

    model = nn.ModuleList([Around(Heir()), Around(nn.ReLU())])
    report = etp.replace_in(model)
    assert [(row.path, row.became, row.reason) for row in report] == [
        ("0.inside", "replaced", ""),
        ("0", "fused", ""),
        ("1", "left", "its inside was not replaced"),
    ]
    assert isinstance(model[0], nn.Identity)
    assert not etp.replace_in(nn.ModuleList([Around(nn.ReLU())]), fuse=False)
