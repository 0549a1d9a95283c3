"""Attention by matrix products, against softmax(q k^T / sqrt d) v in float64 and a real network in float32."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import to_tensor

from featvis import engine
from featvis.engine import switch, transformers
from featvis.networks.loading import load


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=stream).bfloat16() for shape in shapes]


def by_hand(q, k, v, scale):
    """In float64, by autograd: the output, and the gradients of the sum of its squares."""
    q, k, v = (t.double().requires_grad_() for t in (q, k, v))
    out = (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v
    return [out.detach(), *torch.autograd.grad(out.square().sum(), (q, k, v))]


def ours(q, k, v, **more):
    q, k, v = (t.clone().requires_grad_() for t in (q, k, v))
    with engine.attention("cpu", torch.bfloat16):
        out = F.scaled_dot_product_attention(q, k, v, **more)
    assert "_Attention" in repr(out.grad_fn.next_functions) + repr(out.grad_fn)
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), (q, k, v))]


def near(found, want, tolerance=0.03):
    for a, b in zip(found, want, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.double() - b).norm() <= tolerance * b.norm() + 1e-3


@given(
    seed=st.integers(0, 99),
    batch=st.sampled_from([(1,), (3,), (2, 3)]),
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    scale=st.sampled_from([None, 0.2]),
    kept=st.sampled_from([0, transformers.KEPT]),
)
def test_it_is_attention(seed, batch, sizes, scale, kept):
    n, m, d, e = sizes
    q, k, v = drawn(seed, (*batch, n, d), (*batch, m, d), (*batch, m, e))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers, "KEPT", kept)
        found = ours(q, k, v, **({} if scale is None else {"scale": scale}))
    near(found, by_hand(q, k, v, scale or d**-0.5))


def test_heads_that_lie_apart_in_memory_and_other_types_under_autocast():
    (qkv,) = drawn(0, (2, 7, 3, 4, 8))  # as a projection puts them out
    near(ours(*qkv.permute(2, 0, 3, 1, 4)), by_hand(*qkv.permute(2, 0, 3, 1, 4), 8**-0.5))
    q, k, v = (t.float().requires_grad_() for t in qkv.permute(2, 0, 3, 1, 4))
    with torch.autocast("cpu", torch.bfloat16), engine.attention("cpu", torch.bfloat16):
        out = F.scaled_dot_product_attention(q, k, v)
    gradients = torch.autograd.grad(out.float().square().sum(), (q, k, v))
    assert {g.dtype for g in gradients} == {torch.float32}
    want = by_hand(*qkv.permute(2, 0, 3, 1, 4), 8**-0.5)
    near([out.detach(), *(g.bfloat16() for g in gradients)], want)


@pytest.mark.parametrize("case", ["mask", "causal", "dropout", "float32", "constants", "no gradient", "switched off"])
def test_all_else_is_pytorchs(case):
    q, k, v = drawn(0, *[(2, 5, 8)] * 3)
    more = {"mask": {"attn_mask": torch.ones(5, 5).tril().bool()}, "causal": {"is_causal": True}}.get(case, {})
    if case == "dropout":
        more = {"dropout_p": 0.5}
    if case == "float32":
        q, k, v = q.float(), k.float(), v.float()
    q.requires_grad_(case != "constants")
    off = switch.without(*(["attention"] if case == "switched off" else []))
    torch.manual_seed(0)
    with off, engine.attention("cpu", torch.bfloat16), torch.set_grad_enabled(case != "no gradient"):
        found = F.scaled_dot_product_attention(q, k, v, **more)
    assert "_Attention" not in repr(found.grad_fn)
    torch.manual_seed(0)
    assert torch.equal(found, F.scaled_dot_product_attention(q, k, v, **more))


def test_where_it_could_not_be_faster_no_operation_is_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr(transformers, "_Ours", lambda: looked.append(1) or nullcontext())
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16), ("mps", torch.bfloat16)):
        with engine.attention(device, dtype):
            pass
    with torch.no_grad(), engine.attention("cpu", torch.bfloat16):
        pass
    assert not looked
    with engine.attention("cpu", torch.bfloat16):
        pass
    assert looked == [1]


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "vit_tiny_patch16_224"])
def test_a_real_transformer_has_the_gradient_that_it_has_in_float32(zoo, sample, name, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(zoo))
    network = load(name, "bfloat16")
    paths = [next(folder.iterdir()) for folder in sorted(sample.iterdir())[250::250]]
    pictures = torch.stack([to_tensor(Image.open(p).convert("RGB").resize((224, 224))) for p in paths])
    classes = 250 * torch.arange(1, 4)

    def gradient(of) -> torch.Tensor:
        x = pictures.clone().requires_grad_()
        (found,) = torch.autograd.grad(of(x).gather(1, classes[:, None]).sum(), x)
        return found.double().flatten(1)

    exact, attended = gradient(network.in_precision("float32")), gradient(network)
    with switch.without("attention"):
        pytorchs = gradient(network)
    assert not torch.equal(attended, pytorchs), "the part is in use"
    cosines, before = (F.cosine_similarity(g, exact, dim=1) for g in (attended, pytorchs))
    assert cosines.min() > 0.9
    # What bfloat16 costs is no more than with PyTorch's own attention, give or take.
    assert (1 - cosines < 3 * (1 - before) + 0.01).all()
