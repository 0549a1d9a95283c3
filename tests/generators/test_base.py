"""The optimisation against plain autograd, and what must not change an image."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from places import ROOT
from torch import Tensor

from featvis.canvas.parametrizations import Pixel
from featvis.canvas.transforms import Noise, Transform, draw
from featvis.errors import UserError
from featvis.generators import AM, CBR, MACO, Fourier, Generator
from featvis.generators.arguments import _hints, class_at, fitted, public_path
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec, resolve
from featvis.networks.units import Unit, parse_units
from featvis.paths import CONFIGS

PRESETS = sorted((CONFIGS / "generator").glob("*.yaml"))


class Plain(Generator):
    """The whole canvas, its pixels, and plain gradient ascent: what autograd can be asked about directly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parametrization = Pixel(self.size, 0.5, min_max=False)

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.lr)


@pytest.fixture(params=["compiled", "torch"])
def either_engine(request, monkeypatch):
    """What is asked of a step is asked of both engines."""
    monkeypatch.setenv("FEATVIS_ENGINE", request.param)


@pytest.fixture(scope="module")
def low(classifier) -> Classifier:
    """The default network in bfloat16, made ready once: that takes long where the hardware does not know it."""
    return Classifier(classifier.net, resolve("efficientnet_lite0"), precision="bfloat16")


def ready(generator: Generator, classifier: Classifier) -> Generator:
    generator.classifier = classifier
    return generator


def units_of(classifier: Classifier, text: str) -> list[Unit]:
    return parse_units(text, classifier)


def first_gradient(generator: Generator, units: list[Unit]) -> Tensor:
    streams = generator.streams(units)
    parameters, fixed = generator.parametrization.init(streams)
    canvas = generator.parametrization.decode(parameters, fixed)
    frame = draw(generator.transforms(0), generator.size, generator.views, streams)
    return generator.ascend(canvas, units, frame, streams)[0]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.usefixtures("either_engine")
def test_one_step_is_what_autograd_says():
    # A network without kinks (GELU): at a kink float32 decides by chance, and gradients cannot be compared closely.
    torch.manual_seed(0)
    smooth = timm.create_model("vit_tiny_patch16_224", depth=3).eval()
    classifier = Classifier(smooth, ModelSpec("vit", "vit_tiny_patch16_224"), precision="float32")
    generator = ready(Plain(steps=1, canvas=48, lr=300.0, precision="float32"), classifier)
    units = units_of(classifier, "301,blocks.2:7")
    out = generator.predict_step(units)
    for i, unit in enumerate(units):
        start = (0.5 * torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(unit.seed(0))))[None]
        pixels = start.clone().requires_grad_()
        canvas = generator.parametrization.decode(pixels)
        canvas.retain_grad()
        # The whole canvas, bilinear, is what the empty chain of transforms must be.
        view = F.interpolate(canvas, (224, 224), mode="bilinear", align_corners=False)
        kept = {}
        handle = smooth.blocks[2].register_forward_hook(lambda m, a, o, kept=kept: kept.update(block=o))
        logits = smooth((view - 0.5) / 0.5)
        handle.remove()
        score = logits[0, 301] if unit.layer == "logits" else kept["block"][0, :, 7].mean()
        score.backward()
        expected = generator.parametrization.decode(start + 300.0 * pixels.grad)[0].detach()
        step, error = expected - canvas[0].detach(), out.canvas[i] - expected
        assert float(step.abs().max()) > 1e-2, "the step must be visible"
        assert float(error.norm() / step.norm()) < 1e-4
        assert float(out.scores[0, i]) == pytest.approx(float(score), abs=1e-5)
        alpha = canvas.grad[0].abs().mean(0)
        assert float((out.alpha[i] - alpha).norm() / alpha.norm()) < 1e-4


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: MACO(views=3, **k),
        lambda **k: Fourier(views=2, **k),
        lambda **k: CBR(views=2, chain="lucid5", **k),
    ],
    ids=["maco", "fourier", "cbr"],
)
def test_batch_size_and_micro_batch_do_not_change_the_first_gradient(classifier, make):
    settings = {"steps": 1, "canvas": 96, "precision": "float32"}
    units = units_of(classifier, "301,323,953")
    together = first_gradient(ready(make(**settings), classifier), units)
    for micro in (1, 4):
        other = first_gradient(ready(make(**settings, micro_batch=micro), classifier), units)
        assert relative(other, together) < 1e-5
    for i, unit in enumerate(units):
        alone = first_gradient(ready(make(**settings), classifier), [unit])
        assert relative(alone[0], together[i]) < 1e-5


def test_micro_batch_halves_when_the_memory_runs_out(classifier):
    units = units_of(classifier, "301,323")
    settings = {"steps": 1, "canvas": 96, "views": 6, "precision": "float32"}
    expected = first_gradient(ready(MACO(**settings, micro_batch=2), classifier), units)
    small = copy.copy(classifier)
    sizes = []

    def little_memory(x: Tensor, layers: frozenset[str]) -> dict[str, Tensor]:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return classifier.activations(x, layers)

    object.__setattr__(small, "activations", little_memory)
    generator = ready(MACO(**settings, micro_batch=12), small)
    found = first_gradient(generator, units)
    # The same views with the same noise, whatever it took to get them through.
    assert relative(found, expected) < 1e-5
    assert max(sizes) == 12
    assert generator.micro_batch == 1 or generator.micro_batch == 3
    assert sum(s for s in sizes if s <= 2) == 12

    object.__setattr__(small, "activations", lambda x, layers: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(UserError, match="one view does not fit"):
        first_gradient(ready(MACO(**settings), small), units)


def test_other_errors_are_not_taken_for_a_lack_of_memory(classifier):
    broken = copy.copy(classifier)

    def fail(x: Tensor, layers: frozenset[str]) -> dict[str, Tensor]:
        raise RuntimeError("shapes do not match")

    object.__setattr__(broken, "activations", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        first_gradient(ready(Plain(steps=1, canvas=32), broken), units_of(classifier, "301"))


def test_a_unit_is_a_function_of_seed_and_unit(classifier):
    def image(units: str, seed: int = 0) -> Tensor:
        generator = ready(MACO(steps=2, canvas=64, views=1, seed=seed, precision="float32"), classifier)
        return generator.predict_step(units_of(classifier, units)).canvas

    alone = image("323")[0]
    assert torch.equal(alone, image("323")[0])
    # Neighbours change only the rounding inside the network; a phase without a gradient to speak of may turn by it.
    assert float((alone - image("301,323")[1]).abs().mean()) < 0.005
    assert float((alone - image("323", seed=1)[0]).abs().mean()) > 0.05
    assert float((alone - image("301")[0]).abs().mean()) > 0.05


def test_ascent_raises_the_score(classifier):
    generator = ready(MACO(steps=12, canvas=96, views=2, crop_side=(0.9, 0.6), phase_offset=True), classifier)
    out = generator.predict_step(units_of(classifier, "301,985"))
    # Whatever the rounding: far above what noise gives.
    noise = torch.rand(16, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        usual = classifier(classifier.preprocess(noise))[:, [301, 985]]
    assert (out.scores[-3:].mean(0) > out.scores[:3].mean(0) + 1).all()
    assert (out.activations > usual.mean(0) + 3 * usual.std(0)).all()


def test_weights_get_no_gradient_and_the_network_is_left_as_found(classifier):
    before = {k: v.clone() for k, v in classifier.net.state_dict().items()}
    generator = ready(Fourier(steps=2, canvas=64), classifier)
    generator.train()
    generator.predict_step(units_of(classifier, "blocks.1:3"))
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert all(torch.equal(v, before[k]) for k, v in classifier.net.state_dict().items())
    assert not any(m._forward_hooks for m in classifier.net.modules())
    assert not classifier.net.training


@pytest.mark.usefixtures("either_engine")
def test_works_inside_inference_mode(classifier):
    generator = ready(Fourier(steps=1, canvas=64), classifier)
    with torch.inference_mode():
        out = generator.predict_step(units_of(classifier, "301"))
    assert float(out.alpha.sum()) > 0


@pytest.mark.usefixtures("either_engine")
def test_a_unit_that_is_not_finite_fails_alone(classifier):
    class Breaks(Plain):
        broken = 0

        def ascend(self, canvas, units, frame, streams):
            gradient, score = super().ascend(canvas, units, frame, streams)
            if units[0].index == 301:
                if Breaks.broken == 2:
                    gradient[0], score[0] = torch.nan, torch.nan
                Breaks.broken += 1
            return gradient, score

    units = units_of(classifier, "301,323")
    settings = {"steps": 4, "canvas": 48, "lr": 5.0, "precision": "float32"}
    broken = ready(Breaks(**settings), classifier).predict_step(units)
    whole = ready(Plain(**settings), classifier).predict_step(units)
    assert broken.failed == {0: 2}
    assert torch.equal(broken.canvas[1], whole.canvas[1])
    assert torch.equal(broken.alpha[1], whole.alpha[1])
    assert broken.canvas.isfinite().all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_canvas_that_is_not_finite_is_noticed_though_the_network_makes_nothing_of_it(classifier, low, precision):
    """oneDNN's ReLU takes NaN for 0, so that neither the score nor its gradient need tell."""
    same = {"float32": classifier, "bfloat16": low}[precision]
    generator = ready(Fourier(steps=4, canvas=48, precision=precision), same)
    units = units_of(classifier, "301,323")
    state = generator.optimisation(units)
    generator.step(state)
    with torch.no_grad():
        state.parts[0].parameters[0].fill_(torch.nan)
    for _ in range(2):
        generator.step(state)
    assert state.failed.tolist() == [1, -1]


@pytest.mark.parametrize(
    "same", [{"lr": 1}, {"lr": 1.0}, {"canvas": (64, 64)}, {"canvas": [64, 64], "noise_normal": 0}]
)
def test_one_configuration_has_one_hash_however_it_is_written(classifier, same):
    few = {"steps": 3, "canvas": 64, "views": 2, "precision": "float32"}
    config = ready(MACO(**{**few, **same}), classifier).config()
    plain = ready(MACO(**few, lr=1.0, noise_normal=0.0), classifier).config()
    assert json.dumps(config, sort_keys=True) == json.dumps(plain, sort_keys=True)
    assert json.dumps([plain["init_args"][name] for name in ("canvas", "lr")]) == "[64, 1.0]"
    assert ready(MACO(**{**few, "canvas": (64, 48)}), classifier).config()["init_args"]["canvas"] == [64, 48]


def test_arguments_of_committed_records_stay_as_they_are_written():
    seen = set()
    for path in sorted((ROOT / "results" / "records").rglob("*.json")):
        config = json.loads(path.read_text())["config"]
        made = config.get("generator") if isinstance(config, dict) else None
        for name, value in ((made or {}).get("init_args") or {}).items():
            hint = _hints(class_at(public_path(made["class_path"])))[name]
            assert json.dumps(fitted(name, value, hint)) == json.dumps(value), (path.name, name)
            seen.add(name)
    assert {"lr", "canvas", "crop_side", "noise_normal"} <= seen


def test_config_hash_tells_configurations_apart(classifier):
    def of(**changes) -> str:
        return ready(MACO(**{"steps": 3, "canvas": 64, "views": 2} | changes), classifier).config_hash()

    base = of()
    assert base == of()
    assert base == of(micro_batch=3)
    changes: Sequence[dict] = [
        {"steps": 4}, {"canvas": 65}, {"views": 3}, {"seed": 1}, {"lr": 0.5}, {"crop_side": (1.0, 0.25)},
        {"phase_std": None}, {"phase_offset": True}, {"noise_uniform": 0.2}, {"precision": "float32"},
    ]  # fmt: skip
    if of(precision="float32") == base:  # where bfloat16 is not fast, auto is float32
        changes = [c for c in changes if "precision" not in c]
    hashes = [of(**change) for change in changes]
    assert len({base, *hashes}) == len(changes) + 1
    assert ready(Fourier(steps=3, canvas=64, views=2), classifier).config_hash() not in {base, *hashes}


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_opens_with_its_command_and_is_parsed(path: Path):
    from benchmark.suites.methods import build
    from benchmark.suites.suite import Suite

    text = path.read_text()
    first, second, third = text.splitlines()[:3]
    assert first.startswith(f"# featvis generate --config configs/generator/{path.name} ")
    assert second.startswith("# Cost: ")
    assert third.startswith("# Expect: ")
    suite = Suite(model="efficientnet_lite0", units="301", methods={})
    generator, preset, _ = build(path.stem, {}, suite, {})
    assert preset == path.stem
    said = yaml.safe_load(text)["model"]["init_args"]
    for key, value in said.items():
        found = generator.hparams[key]
        assert (list(found) if isinstance(found, tuple) else found) == value


def test_presets_are_those_of_the_literature():
    """The table of the MACO presets (Fel et al. 2023; Xplique; Horama), value by value."""
    from benchmark.suites.methods import build
    from benchmark.suites.suite import Suite

    def of(name: str) -> dict:
        return dict(build(name, {}, Suite(model="efficientnet_lite0", units="301", methods={}), {})[0].hparams)

    maco, paper, xplique, horama = of("maco"), of("maco_paper"), of("maco_xplique"), of("maco_horama")
    assert (maco["steps"], maco["canvas"], maco["views"], maco["lr"]) == (256, 512, 32, 1.0)
    assert (maco["phase_std"], paper["phase_std"]) == (1.0, None)
    assert {k: v for k, v in maco.items() if k not in ("phase_std", "phase_offset")} == {
        k: v for k, v in paper.items() if k not in ("phase_std", "phase_offset")
    }
    assert (maco["crop_side"], maco["crop_spread"], maco["noise_uniform"]) == ((0.25, 0.25), 0.1, 0.1)
    assert (xplique["crop_side"], xplique["crop_spread"], xplique["crop_centre"]) == ((0.5, 0.05), 0.05, "normal")
    assert (xplique["noise_normal"], xplique["noise_uniform"]) == (0.08, 0.04)
    low, high = (horama["crop_side"][0] - horama["crop_spread"], horama["crop_side"][0] + horama["crop_spread"])
    assert (low, high) == (pytest.approx(0.25), pytest.approx(0.30))
    assert (horama["steps"], horama["canvas"], horama["views"]) == (1000, 1280, 6)
    # horama.maco(noise=0.05, values_range=(-2.5, 2.5)): N(0, .05) and U(-.025, .025) on pixels that span 5, ours 1.
    noise = Noise(horama["noise_normal"], horama["noise_uniform"])
    assert draw([noise], (8, 8), 1, [torch.Generator()]).noise == pytest.approx((0.05 / 5, 0.025 / 5))
    fourier, lucid = of("fourier"), of("fourier_lucid")
    assert (fourier["decay"], fourier["chain"], fourier["min_max"], fourier["steps"]) == (0.85, "xplique11", True, 256)
    assert (lucid["decay"], lucid["chain"], lucid["min_max"], lucid["steps"]) == (1.0, "lucid5", False, 512)


def test_crop_side_falls_linearly():
    generator = MACO(steps=5, canvas=64, views=1, crop_side=(1.0, 0.2), crop_spread=0.0)
    sides = []
    for step in range(5):
        chain: Sequence[Transform] = generator.transforms(step)
        sides.append(chain[0].side)
    assert sides == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize(("make", "least"), [(MACO, 0.8), (Fourier, 0.3)])
def test_bfloat16_follows_float32_over_the_first_steps(classifier, low, make, least):
    """On canvases of 20 steps in float32: the score within .5 (it rises by 2), the gradient's cosine above `least`.

    Fourier's canvases are the harder ones: their gradients are small at first, and cancel out in the network.
    """
    exact, rough = (ready(make(steps=20, canvas=96, views=2), net) for net in (classifier, low))
    units = units_of(classifier, "301,323")
    state = exact.optimisation(units)
    cosines, differences = [], []
    for step in range(20):
        if step not in (0, 19):  # bfloat16 is slow where the hardware does not know it
            exact.step(state)
            continue
        with torch.no_grad():
            canvas = torch.cat([exact.parametrization.decode(p.parameters, p.fixed) for p in state.parts])
        before = [stream.get_state() for stream in state.streams]
        found = []
        for method in (exact, rough):
            for stream, kept in zip(state.streams, before, strict=True):
                stream.set_state(kept)
            frame = draw(method.transforms(step), method.size, method.views, state.streams)
            found.append(method.ascend(canvas, units, frame, state.streams))
        for stream, kept in zip(state.streams, before, strict=True):
            stream.set_state(kept)
        exact.step(state)
        (a, score), (b, other) = found
        cosines += F.cosine_similarity(a.flatten(1), b.flatten(1)).tolist()
        differences += (score - other).abs().tolist()
    assert min(cosines) > least
    assert sum(cosines) / len(cosines) > (1 + least) / 2 - 0.15
    assert max(differences) < 0.5
    assert float(state.scores[19].mean() - state.scores[0].mean()) > 1


class Turned(Pixel):
    """Parameters that lie in memory in another order than their axes."""

    def init(self, generators):
        parameters, fixed = super().init(generators)
        return parameters.contiguous(memory_format=torch.channels_last), fixed


def test_parameters_in_any_layout_move_alike(classifier):
    made = []
    for kind in (Pixel, Turned):
        method = ready(Plain(steps=3, canvas=32, lr=0.1), classifier)
        method.parametrization = kind((32, 32), 0.5, min_max=False)
        made.append(method.predict_step(units_of(classifier, "301,323")).canvas)
    assert torch.allclose(*made, atol=1e-4)


class Squares(Pixel):
    """A decoding whose derivative needs the parameters themselves, as anyone's may."""

    def decode(self, parameters, fixed=None):
        return parameters.square().sigmoid()


@pytest.mark.usefixtures("either_engine")
def test_parts_of_a_batch_move_without_touching_each_other(classifier):
    made = {}
    for size in (1, 4):
        method = ready(Plain(steps=2, canvas=32, lr=0.1, micro_batch=size), classifier)
        method.parametrization = Squares((32, 32), 0.5, min_max=False)
        made[size] = method.predict_step(units_of(classifier, "301,323,555,1"))
    assert torch.allclose(made[1].canvas, made[4].canvas, atol=1e-4)


@pytest.mark.parametrize("method", [MACO, Fourier, CBR, AM])
def test_both_engines_take_the_same_first_step(classifier, monkeypatch, method):
    """The score, and the gradient in the way that no rounding at a kink changes much."""
    made = {}
    for name in ("compiled", "torch"):
        monkeypatch.setenv("FEATVIS_ENGINE", name)
        generator = ready(method(steps=1, canvas=64, views=2, precision="float32"), classifier)
        made[name] = generator.predict_step(units_of(classifier, "301,blocks.3:5"))
    ours, theirs = made.values()
    assert torch.allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-3)
    assert (F.cosine_similarity(ours.alpha.flatten(1), theirs.alpha.flatten(1)) > 0.99).all()
