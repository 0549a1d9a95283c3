"""A live `torch.nn.Module` in, a `Classifier` out; the module is left exactly as it was found.

What is run is a copy that shares the module's weights and has structure, mode and hooks of its own, so that nothing
has to be put back. Wrappers are taken off first: DataParallel, torch.compile, the text half of CLIP.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision
from featvis.networks.names import ModelSpec
from featvis.networks.own.inputs import Numbers, describe
from featvis.networks.own.outputs import Sealed, is_sealed, plain


def classifier_of(
    net: nn.Module,
    precision: Precision = "auto",
    device: str | torch.device | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: int | Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Any = None,
) -> Classifier:
    """A frozen classifier of a module as it is now, which shares its weights; once they were trained, make another.

    Args:
        net: any network of images; its output: see `featvis.networks.own.outputs.logits_of`.
        precision: see `Generator`; a network of float64, half or bfloat16 weights computes in its own type unless
            float32 or bfloat16 is asked for.
        device: where to run; None: where its weights are.
        mean: of the channels of its input, RGB (or what it takes) in [0, 1]; one number is for all channels.
        std: their deviation.
        input_size: (h, w) or one side, in pixels.
        labels: a name a class.
        preprocess: what says mean, std and size instead: torchvision's transforms, a Hugging Face image processor, or
            a data config of timm's.

    Raises:
        UserError: when it cannot be copied or run, or what it takes is not known.

    Example:
        >>> from torch import nn
        >>> from featvis.networks.own.modules import classifier_of
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> classifier = classifier_of(net, mean=0.5, std=0.25, input_size=28, labels=("cat", "dog"))
        >>> classifier.channels, classifier.input_size, classifier.labels, net.training
        (1, (28, 28), ['cat', 'dog'], True)
    """
    found = unwrapped(net)
    sealed = is_sealed(found)
    with torch.no_grad():
        own = Sealed(copy.deepcopy(found).eval()) if sealed else twin(found)
    what = describe(found, mean, std, input_size, labels, preprocess, run=own)
    where = next((t.device for t in itertools.chain(found.parameters(), found.buffers())), torch.device("cpu"))
    cfg = getattr(found, "pretrained_cfg", None)
    alias = str((cfg or {}).get("architecture") or type(found).__name__.lower())
    name = f"{type(found).__module__}.{type(found).__qualname__}"
    spec = ModelSpec(alias, name, mean=what.mean, std=what.std, input_size=what.size, labels=what.labels, own="")
    made = Classifier(own if sealed else plain(own), spec, source="a module in memory", precision=precision)
    return made.to(where if device is None else device)


def unwrapped(net: nn.Module) -> nn.Module:
    """The module that does the work, inside of what torch, Lightning or CLIP put around it."""
    while True:
        inside = getattr(net, "_orig_mod", None)
        if inside is None and isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = net.module
        if inside is None and hasattr(net, "encode_image") and isinstance(getattr(net, "visual", None), nn.Module):
            inside = net.visual
        if not isinstance(inside, nn.Module):
            return net
        net = inside


def twin(net: nn.Module) -> nn.Module:
    """A copy in eval mode that shares a module's weights, without gradients of them, parametrizations or hooks.

    Hooks of `torch.nn.utils` (pruning, weight norm), which make weights, stay; anyone else's are left out, which a
    warning says: they belong to whoever set them, and are not for thousands of views.

    Raises:
        UserError: when it cannot be copied.
    """
    memo: dict[int, Any] = {}
    for parameter in net.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in net.buffers():
        # Some networks write to them in eval mode too.
        memo[id(buffer)] = buffer.detach().clone()
    for module in net.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo.setdefault(id(value), value.detach())
    try:
        made = copy.deepcopy(net, memo)
    except Exception as error:  # anyone's code may raise anything
        raise UserError(
            f"the network {type(net).__name__} cannot be copied ({' '.join(str(error).split()):.160}); give one that "
            "copy.deepcopy takes"
        ) from error
    if dropped := sum(_without_hooks(module) for module in made.modules()):
        warnings.warn(
            f"featvis: hooks on {type(net).__name__} ({dropped}) are not run for visualizations; what they change is "
            "not in the pictures", RuntimeWarning, stacklevel=2,
        )  # fmt: skip
    return baked(made.eval())


def _without_hooks(module: nn.Module) -> int:
    """Take hooks off that make no weights, and how many they were."""
    count = 0
    for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        hooks = cast("dict[int, Any]", getattr(module, name))
        for key, hook in list(hooks.items()):
            if not type(hook).__module__.startswith("torch.nn.utils"):
                del hooks[key]
                count += 1
    module._compiled_call_impl = None
    return count


def baked(net: nn.Module) -> nn.Module:
    """A network in eval mode, its parametrized weights computed once and for all."""
    for module in net.modules():
        if parametrize.is_parametrized(module):
            for name in list(cast(Any, module).parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return net.requires_grad_(False)


def version(net: nn.Module) -> tuple[int, tuple[str, ...]]:
    """Numbers that change when a module's weights or buffers are written to, as text: NaN is not equal to itself.

    Fused optimisers, and whoever writes to `.data`, do not count themselves in: so what is written is looked at too,
    which is a pass over all weights, and a wait for the device that they are on.
    """
    tensors = [t.detach() for t in itertools.chain(net.parameters(), net.buffers())]
    counted = sum(t._version for t in tensors if not t.is_inference())
    sizes = [t for t in tensors if t.is_floating_point() and t.numel()]
    norms = torch._foreach_norm(sizes) if sizes else ()
    # One wait, where all are on one device.
    devices = dict.fromkeys(n.device for n in norms)
    read = [torch.stack([n for n in norms if n.device == device]).tolist() for device in devices]
    return counted, tuple(repr(n) for values in read for n in values)
