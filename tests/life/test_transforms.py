"""Each product under PyTorch's transforms: the answer of finite differences, or an error."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, jvp, vmap

from etp import products
from tests.life import reference
from tests.life.reference import Question


@pytest.fixture(params=products.names())
def question(request: pytest.FixtureRequest) -> Question:
    name = request.param
    try:
        return reference.ask(name)
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    except ValueError as refused:
        if name != "openequivariance":  # its convolution has no pair form
            raise
        pytest.skip(str(refused))


# PyTorch scripts its own forward derivatives when they are first asked for.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_a_tangent_is_that_of_finite_differences(question):
    tangent = jvp(question.product, question.inputs, question.tangents())[1]
    assert reference.differs(tangent, reference.tangent(question)) is None


def test_gradients_are_those_of_finite_differences(question):
    slopes = grad(question.energy, argnums=(0, 1))(*question.inputs)
    answers = dict(zip(reference.NAMES, slopes, strict=False))
    assert reference.differs(answers, reference.gradients(question)) is None


def test_samples_of_a_vmap_are_those_of_the_batch(question):
    mapped = vmap(question.product)(*question.inputs)
    assert reference.differs(mapped, reference.output(question)) is None


def test_a_call_in_inference_mode_leaves_a_product_that_trains(question):
    with torch.inference_mode():
        question.product(*question.inputs)
    inputs = question.fresh()
    question.energy(*inputs).backward()
    answers = {name: x.grad for name, x in zip(reference.NAMES, inputs, strict=False)}
    assert reference.differs(answers, reference.gradients(question)) is None


def test_an_input_changed_after_the_call_gives_no_wrong_gradient(question):
    inputs = question.fresh()
    used = [x.clone() for x in inputs]
    energy = question.energy(*used)
    with torch.no_grad():
        for x in used:
            x.add_(1)
    try:
        energy.backward()
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return
    answers = {name: x.grad for name, x in zip(reference.NAMES, inputs, strict=False)}
    assert reference.differs(answers, reference.gradients(question)) is None
