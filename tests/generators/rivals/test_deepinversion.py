"""DeepInversion against hooks set here and NumPy; groups that are never cut, and what is said where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import network
from torch import nn

from featvis.errors import UserError
from featvis.generators import DeepInversion
from featvis.networks.own.modules import classifier_of
from featvis.networks.units import cut, parse_units

UNITS = "cat,dog@0-2,fox"


def made(tiny, **options):
    return DeepInversion(**{"model": tiny, "group": 3, "steps": 3, "canvas": 16, "roll": 3, **options})


def statistics(tiny, images: torch.Tensor, relative: bool) -> float:
    """The loss over the inputs of the batch norms, which hooks set here see, in float64."""
    total, handles = [], []

    def see(module, args) -> None:
        x = args[0].detach().double().numpy()
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        m, v = module.running_mean.double().numpy(), module.running_var.double().numpy()
        scale = (np.linalg.norm(np.sqrt(v)), np.linalg.norm(v)) if relative else (1, 1)
        total.append(np.linalg.norm(mean - m) / scale[0] + np.linalg.norm(variance - v) / scale[1])

    for module in tiny.net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(see))
    with torch.no_grad():
        tiny.net((images - 0.5) / 0.25)
    for handle in handles:
        handle.remove()
    assert len(total) == 2
    return float(sum(total))


@pytest.mark.parametrize("relative", [True, False])
def test_the_score_is_cross_entropy_and_the_statistics_of_the_whole_group(tiny, relative):
    generator = made(tiny, relative=relative, statistics=0.7, steps=1, roll=0)
    units = parse_units("cat,dog,fox", tiny)
    generator.chain = []
    state = generator.optimisation(units)
    canvas = generator.parametrization.decode(state.parts[0].parameters.detach(), None)
    score = generator.step(state)
    with torch.no_grad():
        logits = tiny(canvas).double().numpy()
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), [0, 1, 2]]
    assert np.allclose(score.numpy(), -entropy - 0.7 * statistics(tiny, canvas, relative), rtol=1e-4)


def test_the_penalty_is_the_norms_of_neighbours_and_the_canvas(tiny):
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    a = x.double().numpy()
    pairs = ((a[:, :, 1:], a[:, :, :-1]), (a[..., 1:], a[..., :-1]), (a[:, :, 1:, 1:], a[:, :, :-1, :-1]),
             (a[:, :, 1:, :-1], a[:, :, :-1, 1:]))  # fmt: skip
    expected = [0.1 * sum(np.linalg.norm((p - q)[i]) for p, q in pairs) + 0.2 * np.linalg.norm(a[i]) for i in range(2)]
    assert np.allclose(made(tiny, tv=0.1, l2=0.2).penalty(x, None).numpy(), expected, rtol=1e-5)


def test_a_group_is_one_pass_and_its_images_depend_on_its_members_alone(tiny):
    together = made(tiny, micro_batch=1).visualize(UNITS)
    assert [u.id for u in together.units] == ["0", "1", "1@1", "1@2", "2"]
    first, second = (made(tiny).visualize(text) for text in ("cat,dog@0-1", "dog@2,fox"))
    assert torch.equal(together.canvas, torch.cat([first.canvas, second.canvas])), "whatever shares the batch"
    assert not torch.equal(made(tiny).visualize("cat,dog").canvas[0], first.canvas[0]), "others, another image"
    by_unit = made(tiny, group="unit").visualize("dog@0,cat,dog@1-2")
    assert [u.id for u in by_unit.units] == ["1", "1@1", "1@2", "0"]


def test_batches_hold_whole_groups(tiny):
    units = parse_units("cat@0-2,dog@0-2,fox", tiny)
    sizes = [[u.id for u in batch] for batch in cut(units, 4, "unit")]
    assert sizes == [["0", "0@1", "0@2"], ["1", "1@1", "1@2", "2"]]
    assert [len(batch) for batch in cut(units, 2, 3)] == [3, 3, 1]
    assert [len(batch) for batch in cut(units, 4)] == [4, 3]


def test_it_comes_nearer_to_the_statistics_and_the_classes(tiny):
    out = made(tiny, steps=12).visualize("cat,dog,fox")
    assert bool((out.scores[-1] > out.scores[0]).all())


def test_what_it_cannot_do_is_said_in_a_sentence(tiny, monkeypatch):
    for net, options, units, words in (
        (network(norm=False), {}, "cat", "reads the statistics of batch norms, and tiny has none"),
        (tiny, {}, "4:1", "4:1 is a unit of a layer"),
        (tiny, {"group": 0}, "cat", "group must be at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            made(net, **options).visualize(units)
    scores = DeepInversion._scores

    def small(self, canvas, *rest):
        if len(canvas) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return scores(self, canvas, *rest)

    monkeypatch.setattr(DeepInversion, "_scores", small)
    with pytest.raises(UserError, match="a group of 3 images does not fit into the memory, 1 would; take"):
        made(tiny).visualize("cat,dog,fox")


class Parts(nn.Module):
    """Batch norms of vectors, of tokens, and of all tokens of all images as if each were one (LeViT)."""

    def __init__(self):
        super().__init__()
        self.conv, self.tokens, self.parts = nn.Conv2d(3, 6, 4, 4), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.vectors, self.head = nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.tokens(self.conv(x).flatten(2)).transpose(1, 2)
        x = self.parts(x.flatten(0, 1)).view_as(x).relu().mean(1)
        return self.head(self.vectors(x))


def test_batch_norms_of_vectors_count_and_those_of_parts_of_images_do_not():
    torch.manual_seed(0)
    net = classifier_of(Parts(), "float32", mean=0.5, std=0.25, input_size=16)
    generator = made(net, steps=1, statistics=0.7, relative=False)
    generator.chain = []
    assert sorted(generator.running()) == ["tokens[moments]", "vectors[moments]"]
    units = parse_units("0,1,2", net)
    state = generator.optimisation(units)
    canvas = generator.parametrization.decode(state.parts[0].parameters.detach(), None)
    seen = []
    handles = [m.register_forward_pre_hook(lambda m, a: seen.append(a[0])) for m in (net.net.tokens, net.net.vectors)]
    with torch.no_grad():
        logits = net.net((canvas - 0.5) / 0.25).double().numpy()
    for handle in handles:
        handle.remove()
    tokens, vectors = (x.double().numpy() for x in seen)
    off = sum(
        np.linalg.norm(x.mean(axes)) + np.linalg.norm(x.var(axes) - 1) for x, axes in ((tokens, (0, 2)), (vectors, 0))
    )
    entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), [0, 1, 2]]
    assert np.allclose(generator.step(state).numpy(), -entropy - 0.7 * off, rtol=1e-4)
