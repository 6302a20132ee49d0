import json
import shlex
from collections import Counter

import pytest

from etp import presets
from etp.cli.main import main, parser
from etp.cli.problems import edges_of, problems
from etp.problem import Problem


@pytest.mark.parametrize("layer", presets.LAYERS.values(), ids=lambda layer: layer.name)
def test_a_layer_is_a_problem_that_its_own_command_describes(layer):
    problem = layer.problem(batch=50, neighbours=5)
    words = shlex.split(f"sweep {problem.command()}")
    assert problems(parser().parse_args(words), [None]) == [problem]
    assert presets.named(problem) == layer.name
    power = layer.mode == "power"
    assert problem.kind == ("power" if power else "convolution")
    assert problem.weights == ("shared" if power else "per-sample")


def test_a_layer_that_is_no_power_is_refused_as_one(capsys):
    assert main(["sweep", "--layer", "mace-medium", "--kind", "power"]) == 2
    assert "--layer must be one of mace-medium-power" in capsys.readouterr().err


def test_sizes_of_a_layer_are_those_of_its_paths():
    # 128 channels: 0e with 0e, 1o, 2e; 1o with 0e, 1o (to 0e and 2e), 2e and 3o.
    edge = presets.layer("mace-medium").problem("edge", batch=10)
    outputs = 128 * (1 + 3 + 5 + 3 + 1 + 5 + 3 + 5)
    assert edge.size().paths == 8
    assert edge.size().outputs == outputs
    assert edge.size().bytes == 4 * 10 * (128 * 4 + 16 + outputs)
    convolution = edge.at(kind="convolution", neighbours=5)
    assert convolution.size().bytes == 4 * (2 * 128 * 4 + 10 * 16 + 2 * outputs)


def test_the_layers_of_mace_are_what_mace_torch_builds():
    """Of a ScaleShiftMACE of mace-torch 0.3.16: the irreps of its ``conv_tp``, simplified."""
    made = {
        "mace-first": "128x0e+128x1o+128x2e+128x3o",
        "mace-medium-3o": "256x0e+384x1o+384x2e+256x3o",
        "mace-large": "384x0e+640x1o+640x2e+512x3o",
    }
    assert {
        made_of for name in ("mace-medium", "mace-large") for made_of in convolutions(name)
    } == {*made.values()}
    for name, out in made.items():
        assert outputs(presets.layer(name)) == out


def outputs(layer):
    """Irreps of a layer's messages, those of one kind together, as e3nn writes them."""
    problem, found = layer.problem("edge"), Counter[str]()
    copies = problem.copies()
    for ir1, _, ir3 in problem.triples():
        found[str(ir3)] += copies[ir1]
    return "+".join(f"{found[ir]}x{ir}" for ir in sorted(found))


def convolutions(name):
    """Outputs of every layer of a model."""
    return [outputs(layer) for layer, _ in presets.model(name).layers]


def test_what_layers_of_escn_and_uma_run_stands_beside_what_is_advised_for_any():
    usual = presets.advised("convolution", "mace-medium")
    assert presets.advised("convolution") == presets.advised("convolution", "no layer") == usual
    for name, lmax in (("uma-s", 2), ("uma-m", 4), ("escn-l6-m2", 6)):
        assert presets.advised("edge", name) == (*usual, "so2-linear", "so2-linear-2")
        assert presets.layer(name).problem().lmax == lmax


def test_an_unknown_layer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"layer must be one of mace-medium, .* got 'mace'"):
        presets.layer("mace")


def test_multiplicities_say_the_kind():
    assert Problem.of_irreps("8x0e+4x1o", "0e+1o").kind == "edge"
    assert Problem.of_irreps("8x0e+8x1o", "8x0e+8x1o").kind == "pair"
    assert Problem.of_irreps("0e+1o", "0e+1o").kind == "pair"
    assert Problem.of_irreps("0e+1o", "0e+1o", kind="convolution").kind == "convolution"


@pytest.mark.parametrize(
    ("irreps1", "irreps2", "kind", "said"),
    [
        ("8x0e+8x1o", "4x0e+4x1o", {}, "irreps2: must have multiplicity 1 .* uvu"),
        ("8x0e+8x1o", "8x0e+8x1o", {"kind": "edge"}, "irreps2 must have multiplicity 1 .* 0e"),
    ],
)
def test_multiplicities_of_no_kind_are_refused_with_the_mend(irreps1, irreps2, kind, said):
    with pytest.raises(ValueError, match=said):
        Problem.of_irreps(irreps1, irreps2, **kind)


def test_pairs_of_unlike_multiplicities_name_the_kind_that_takes_them():
    with pytest.raises(ValueError, match="kind 'edge'"):
        Problem("8x0e", "0e")


def test_edges_go_by_factors_of_ten():
    assert edges_of("1000:100000") == [1000, 10000, 100000]
    assert edges_of("500:6000") == [500, 5000]
    assert edges_of("70") == [70]


@pytest.mark.parametrize("text", ["x", "10:1", "0", "1:", "1:10:100"])
def test_bad_edges_are_refused(text):
    with pytest.raises(ValueError, match="--edges must"):
        edges_of(text)


def test_the_list_holds_every_layer(capsys):
    assert main(["layers"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in presets.LAYERS)


def test_a_layer_and_irreps_are_refused(capsys):
    assert main(["sweep", "--layer", "e3tools", "--irreps1", "0e", "--irreps2", "0e"]) == 2
    assert "either --layer, or" in capsys.readouterr().err


def test_a_printed_tensor_product_is_a_layer():
    (layer,) = presets.read(
        "TensorProduct(8x0e+8x1o x 1x0e+1x1o -> 16x0e+8x1o+8x1e | 40 paths | 40 weights)"
    )
    assert (layer.nodes, layer.edges, layer.outputs) == ("8x0e+8x1o", "1x0e+1x1o", "0e+1o+1e")
    assert layer.mode == "uvu"
    whole = "FullyConnectedTensorProduct(8x0e x 1x0e -> 4x0e | 32 paths | 32 weights)"
    assert presets.read(whole)[0].mode == "uvw"


def test_a_printed_product_of_e3nn_is_read():
    from e3nn import o3

    tp = o3.FullyConnectedTensorProduct("4x0e+2x1o", "1x0e+1x1o", "4x0e+4x1e")
    (layer,) = presets.read(str(tp))
    assert layer.problem("edge").size().paths == 3


def test_the_configuration_of_a_mace_gives_its_convolutions():
    first, second = presets.read(
        '{"hidden_irreps": "128x0e+128x1o", "max_ell": 3, "num_interactions": 2, "correlation": 3}'
    )
    assert (first.nodes, second.nodes) == ("128x0e", "128x0e+128x1o")
    assert first.edges == second.edges == "0e+1o+2e+3o"
    names = [presets.named(layer.problem()) for layer in (first, second)]
    assert names == ["mace-first", "mace-medium-3o"]
    large = presets.read('{"num_channels": 128, "max_L": 2, "max_ell": 3, "num_interactions": 3}')
    assert [outputs(layer) for layer in large] == [
        outputs(presets.layer(name)) for name in ("mace-first", "mace-large", "mace-large")
    ]


def test_pseudoscalars_let_a_mace_keep_both_parities():
    _, second = presets.read('{"hidden_irreps": "8x1o+4x0e+4x0o", "max_ell": 1}')
    assert second.outputs == "0e+0o+1e+1o"
    assert presets.read('{"hidden_irreps": "8x1o+4x0e+4x0o", "max_ell": 1}')[0].nodes == "4x0e"


def test_the_configuration_of_a_nequip_gives_its_convolutions():
    layers = presets.read('{"num_features": 32, "l_max": 2, "parity": true, "num_layers": 4}')
    assert len(layers) == 4
    assert layers[0].nodes == "32x0e"
    lips = presets.layer("nequip-lips").problem()
    assert layers[1].problem().at(irreps1=lips.irreps1) == lips


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("foo", "paste what print shows"),
        ("[1]", "paste what print shows"),
        ("{}", "must have hidden_irreps"),
        ('{"hidden_irreps": "x", "max_ell": 3}', "hidden_irreps.*not an irrep"),
        ('{"hidden_irreps": "8x1o", "max_ell": 3}', "hidden_irreps must have 0e"),
        ('{"max_L": -1}', "max_L must be a whole number from 0 to 11"),
        ('{"hidden_irreps": "8x0e", "max_ell": 99}', "max_ell must be a whole number"),
        ('{"num_features": 1e999, "l_max": 2}', "num_features must be"),
        ("TensorProduct(8x0e x 8x1o -> 8x1o)", "irreps2 must have multiplicity 1"),
        ("[" * 10000, "paste what print shows"),
        ("x" * 100000, "characters"),
    ],
)
def test_what_describes_no_layer_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        presets.read(text)


def test_advice_without_a_layer_names_the_layers(capsys):
    assert main(["advise"]) == 2
    assert "--layer must be one of mace-medium" in capsys.readouterr().err


def test_advice_of_the_command_line_is_of_what_it_measured(capsys):
    words = ["--irreps1", "4x0e+4x1o", "--irreps2", "0e+1o", "--batch", "20", "--budget", "0.1"]
    assert main(["advise", *words, "--products", "e3nn,cg-sparse", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["products"] == ["cg-sparse", None, None]
    assert set(said["median_s"]) == {"e3nn", "cg-sparse"}
