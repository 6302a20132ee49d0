"""Products inside models: what is found, what is left and why, and the table of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from e3nn import o3
from torch import nn
from torch.nn.utils import parametrize

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


@pytest.mark.parametrize(
    "hook",
    ["_register_state_dict_hook", "register_state_dict_pre_hook",
     "register_load_state_dict_pre_hook", "register_load_state_dict_post_hook"],
)  # fmt: skip
def test_hooks_of_states_are_not_lost_either(hook):
    model = nn.ModuleList([o3.FullTensorProduct("1o", "1o")])
    getattr(model[0], hook)(lambda *given: None)
    assert "hooks" in etp.replace_in(model)[0].reason


class Plain(o3.FullyConnectedTensorProduct):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("2x1o", "1o", "2x0e")


class Extended(Plain):
    @property
    def strength(self) -> torch.Tensor:
        return self.weight.norm()


class Doubled(Plain):
    def forward(self, x, y, weight=None):
        return 2 * super().forward(x, y, weight)


class Halved(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def test_an_heir_is_taken_over_where_only_the_way_it_is_made_differs():
    model = nn.ModuleList([Plain(), Extended(), Doubled(), Plain()])
    parametrize.register_parametrization(model[3], "weight", Halved())
    x, y = torch.randn(5, 6), torch.randn(5, 3)
    before, names = [tp(x, y) for tp in model], list(model.state_dict())
    report = etp.replace_in(model)
    assert report.of("replaced") == ["0"]
    for row, lost in zip(report[1:], ("strength", "forward", "weight"), strict=True):
        assert f"{lost} of its own" in row.reason
    for tp, z in zip(model, before, strict=True):
        torch.testing.assert_close(tp(x, y), z)
    assert list(model.state_dict()) == names


def test_a_product_that_was_compiled_by_itself_is_left_and_a_model_around_it_is_not():
    alone = nn.ModuleList([torch.compile(Plain(), backend="eager")])  # type: ignore[list-item]
    assert "torch.compile" in etp.replace_in(alone)[0].reason
    whole: Any = torch.compile(nn.ModuleList([Plain()]), backend="eager")
    assert etp.replace_in(whole).of("replaced") == ["_orig_mod.0"]


def test_a_module_that_holds_itself_is_walked_once():
    model = Around(Plain())
    model.again = model
    assert etp.replace_in(model).of("replaced") == ["inside"]


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
    kept = nn.ModuleList([Around(Own())])
    kept[0].register_forward_hook(lambda *given: None)
    assert "hooks" in etp.replace_in(kept)[1].reason
    fusion_for(f"{__name__}.Around")(lambda module: module)
    assert etp.replace_in(kept).of("fused") == ["0"]
    assert not etp.replace_in(nn.ModuleList([Around(nn.ReLU())]), fuse=False)
