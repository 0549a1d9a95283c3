"""The door of the engine: the choice, what happens without Numba, and copies of a network that nobody else is in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings

import pytest
import timm
import torch
from torch import nn

from featvis import choice, engine
from featvis.engine import onednn, switch
from featvis.engine.convolutions import FrozenConv2d
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec
from featvis.storage.versions import versions


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_the_engine_is_one_of_two(monkeypatch):
    for name, expected in (("", "compiled"), ("compiled", "compiled"), ("torch", "torch")):
        monkeypatch.setenv("FEATVIS_ENGINE", name)
        assert choice.chosen() == expected
        assert versions()["engine"] == expected
    monkeypatch.setenv("FEATVIS_ENGINE", "fast")
    with pytest.raises(UserError, match="FEATVIS_ENGINE=fast is no engine.* compiled .* torch"):
        choice.chosen()


def test_the_choice_and_the_versions_need_neither_torch_nor_numba():
    done = run(
        "import sys; from featvis.storage.versions import versions; versions();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba')))"
    )
    assert done.returncode == 0, done.stderr


WITHOUT_NUMBA = """
import sys, warnings
sys.modules["numba"] = None
import torch
from featvis import engine
from featvis.storage.versions import versions
assert versions()["engine"] == "torch (no numba)"
x = torch.rand(2, 3, 8, 9).requires_grad_()
colors = torch.eye(3)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        assert torch.allclose(engine.to_rgb(x, colors), x.sigmoid(), atol=1e-6)
        engine.NAdam([x]).step()
print(*[str(w.message) for w in said], sep="\\n")
"""


def test_without_numba_everything_works_and_says_so_once():
    done = run(WITHOUT_NUMBA)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "featvis[fast]" in done.stdout


def test_numba_is_imported_when_a_loop_is_needed_and_not_before():
    done = run(
        "import sys, torch; from featvis import engine; assert 'numba' not in sys.modules;"
        "engine.to_rgb(torch.rand(1, 3, 4, 4), torch.eye(3)); assert 'numba' in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def small() -> Classifier:
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv2_035").eval()
    return Classifier(net, ModelSpec("m", "mobilenetv2_035", input_size=(64, 64)), precision="float32")


def test_copies_have_no_hooks_and_what_is_hooked_stays_a_convolution():
    classifier = small()
    seen = []
    handle = classifier.net.conv_stem.register_forward_hook(lambda m, a, o: seen.append("hook"))
    frozen = classifier.frozen()
    assert frozen is not classifier.net
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in frozen.modules())
    assert not isinstance(frozen.conv_stem, FrozenConv2d)
    assert isinstance(frozen.conv_head, FrozenConv2d)
    seen.clear()
    x = torch.rand(1, 3, 64, 64)
    frozen(x)
    assert classifier._folded() is not None
    classifier(x)
    seen_by_making = len(seen)
    classifier(x)
    assert len(seen) == seen_by_making
    handle.remove()


def test_a_hook_that_changes_what_a_network_says_is_not_lost():
    classifier = small()
    handle = classifier.net.conv_head.register_forward_hook(lambda m, a, o: o * 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert classifier.frozen() is classifier.net
        assert classifier._folded() is None
    handle.remove()


def test_one_thread_makes_a_copy_while_another_reads_layers():
    """The copy has none of the reader's hooks on it, which would end the reader's own passes through it early."""
    classifier = small()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = {k: classifier.activations(x, frozenset({k}))[k] for k in ("blocks.1", "blocks.5")}
    inside, made = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def wait(module, args) -> None:
        if not made.is_set() and threading.current_thread() is reader:
            inside.set()
            assert made.wait(60)

    def read() -> None:
        try:
            with torch.no_grad():
                # Its hooks are on the network while the other copies it.
                classifier.activations(x, frozenset({"blocks.1"}))
            for layer in ("blocks.5", "blocks.1", "blocks.5"):
                y = x.clone().requires_grad_()
                found = classifier.activations(y, frozenset({layer}))[layer]
                assert torch.allclose(found, expected[layer], atol=1e-4)
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    handle = classifier.net.conv_stem.register_forward_pre_hook(wait)
    reader.start()
    assert inside.wait(60)
    frozen = classifier.frozen()
    made.set()
    reader.join()
    handle.remove()
    assert not errors, errors
    assert frozen is not classifier.net
    assert not any(m._forward_hooks for m in frozen.modules())


def test_a_folded_network_is_a_function_without_layers():
    classifier = small()
    folded = classifier._folded()
    assert isinstance(folded, engine.Folded)
    assert not isinstance(folded, nn.Module)
    assert not any(isinstance(v, nn.Module) for v in vars(folded).values())
    assert not hasattr(classifier, "fast")
    assert set(dict(classifier.named_children())) == {"net"}


def test_another_pytorch_is_noticed_and_its_own_operations_are_taken(monkeypatch):
    """As if an upgrade had taken the private operation away."""
    onednn.works.cache_clear()
    switch.say_once.cache_clear()
    conv = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    frozen, x = FrozenConv2d(conv, nn.ReLU()), torch.rand(1, 4, 8, 8)
    expected = conv(x).relu()
    try:
        with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            patch.setattr(onednn, "convolution", lambda *a: torch.ops.mkldnn._no_such_convolution)
            for _ in range(2):
                assert torch.allclose(frozen(x), expected, atol=1e-6)
        (warning,) = [str(w.message) for w in said]
        assert "oneDNN" in warning
        assert "_no_such_convolution" in warning
        assert torch.__version__ in warning
    finally:
        onednn.works.cache_clear()
        switch.say_once.cache_clear()
    assert torch.allclose(frozen(x), expected, atol=1e-5)


def test_a_network_that_cannot_be_folded_says_why_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(0.5)

        def forward(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    switch.say_once.cache_clear()
    net, x = Twice().eval(), torch.rand(1, 3, 16, 16)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            assert engine.folded(net, x, torch.float32) is None
    assert ["Twice" in str(w.message) and "the output would be another" in str(w.message) for w in said] == [True]


def test_only_commands_change_the_process(classifier, monkeypatch):
    from featvis.engine import machine
    from featvis.generators import MACO

    changed = []
    monkeypatch.setattr(machine, "_prepared", False)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: changed.append("threads"))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    method = MACO(steps=1, canvas=32, views=1, micro_batch=1)
    method.classifier = classifier
    method.visualize("1,2,3")
    assert changed == []
    assert not machine._prepared
    assert torch.backends.cudnn.allow_tf32
    engine.prepare()
    assert changed == []
    assert machine._prepared
    # What is said to be in float32 is.
    assert not torch.backends.cudnn.allow_tf32
