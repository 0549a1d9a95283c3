"""Batch norms folded into the convolutions before them: a frozen network in, the same function, faster, out.

In eval mode a batch norm is a fixed affine map a channel, which the convolution's own weights can carry (Jacob et al.
2018, section 3.2). The ReLU that follows goes into the same operation, and convolutions that feed only one another
into one module.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featvis.engine.convolutions import (
    ACTIVATIONS,
    CONVOLUTION,
    FrozenChain,
    FrozenConv2d,
    copied,
    freeze_convolutions,
)
from featvis.engine.switch import say_once

ERRORS = (AttributeError, RuntimeError, TypeError)
"""What a module may raise that is not what it was."""

TOLERANCE = 1e-3
"""Largest deviation of a copy's output, relative to the output's largest value."""


class Folded:
    """What a folded network computes, and nothing more.

    Its blocks have other channels than the network's, so no layer of it can be had, hooked or read.
    """

    def __init__(self, net: nn.Module) -> None:
        # In a function, where nobody finds modules.
        self._run = lambda x: cast(Tensor, net(x))

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        """The network's output, in the type of its weights."""
        return self._run(x)


def folded(net: nn.Module, example: Tensor, dtype: torch.dtype, freeze: bool = True) -> Folded | None:
    """A network in eval mode as a faster function of its normalised input; see `fold_batch_norms`.

    Args:
        net: the network; left as it is.
        example: an input (N, C, h, w), to see what feeds what and to check the result.
        dtype: of the weights, and of the inputs that it will get.
        freeze: see `fold_batch_norms`.

    Returns:
        The function, or None where it would be no faster or not the same; the latter is said in a warning.
    """
    found = fold_batch_norms(net, example, freeze=freeze)
    if found is None:
        return None
    found = found.to(dtype)
    if dtype != example.dtype:
        # Nobody's autocast is around it: what the network makes of its own in another type does not meet these weights.
        try:
            _tried(found, example.to(dtype))
        except ERRORS as error:
            say_once(
                f"batch norms of {type(net).__name__} are computed one by one in {dtype}, which is slower: "
                f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
            )
            return None
    return Folded(found)


def frozen(net: nn.Module, example: Tensor) -> nn.Module | None:
    """A network layer by layer and name by name, with faster gradients of its input (`freeze_convolutions`).

    Args:
        net: the network; left as it is.
        example: an input (N, C, h, w), to check the result.

    Returns:
        The copy, which shares the network's weights and has none of its hooks; or None where it is not the same, which
        a warning says.
    """
    if (expected := _response(net, example)) is None:
        return None
    found = freeze_convolutions(net)
    if reason := _difference(expected, found, example):
        say_once(f"gradients through layers of {type(net).__name__} are PyTorch's own, which are slower: {reason}")
        return None
    # Moved to where it is: the kernels of the comparison, in its type, are not kept.
    return found.to(example.device)


def fold_batch_norms(net: nn.Module, example: Tensor, freeze: bool = True) -> nn.Module | None:
    """A copy of a network in eval mode with each batch norm, and a ReLU after it, in the convolution that feeds it.

    Args:
        net: the network; left as it is.
        example: an input (N, C, h, w), to see what feeds what and to check the result.
        freeze: make `FrozenConv2d` of the convolutions, which take the ReLUs in.

    Returns:
        The copy, or None where there is nothing to fold or, which a warning says, the copy is not the same function.
    """
    # Another thread may be in the network itself.
    chains = _chains(copied(net), example)
    if not chains or (expected := _response(net, example)) is None:
        return None
    last = reason = ""
    # Something else may read what a norm puts out: then the ReLUs must stay where they are.
    for relus, frozen in ((True, True), (False, True), (False, False)) if freeze else ((False, False),):
        found = _fold(net, chains, relus, frozen)
        if not (reason := _difference(expected, found, example)):
            if freeze and not frozen:
                say_once(f"convolutions of {type(net).__name__} are PyTorch's own, which are slower: {last}")
            linked = _link(found, example) if frozen else found
            whole = linked is not found and not _difference(expected, linked, example)
            return linked if whole else found
        last = reason
    say_once(f"batch norms of {type(net).__name__} are computed one by one, which is slower: {reason}")
    return None


def _fold(net: nn.Module, chains: list[tuple[str, str, str | None]], relus: bool, freeze: bool) -> nn.Module:
    # Hooks are not copied; the convolution of one is left as it is.
    hooked = frozenset(n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and not FrozenConv2d.can_be(m))
    folded = copied(net, share=False)
    modules = dict(folded.named_modules())
    for conv_name, norm_name, act_name in chains:
        conv, norm = modules[conv_name], modules[norm_name]
        fused = fuse_conv_bn_eval(conv, norm)
        # timm's norm layers also hold the dropout and the activation that follow.
        held = [m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(m, nn.Module)]
        held = [m for m in held if not isinstance(m, nn.Identity)]
        after = held + ([modules[act_name]] if act_name else [])
        if relus and len(after) == 1 and type(after[0]) in ACTIVATIONS and conv_name not in hooked:
            fused, held = FrozenConv2d(fused, after[0]), []
            if act_name:
                _replace(folded, act_name, nn.Identity())
        _replace(folded, conv_name, fused)
        _replace(folded, norm_name, nn.Sequential(*held) if held else nn.Identity())
    return freeze_convolutions(folded, hooked) if freeze else folded


def _response(net: nn.Module, example: Tensor) -> tuple[Tensor, Tensor] | None:
    """A network's output for an example, and the gradient of the sum of its squares; None where there is none."""
    try:
        return _tried(net, example)
    except ERRORS:
        return None  # the network as it is says so itself


def _tried(net: nn.Module, example: Tensor) -> tuple[Tensor, Tensor]:
    x = example.detach().requires_grad_()
    with torch.enable_grad():
        y = net(x)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
    return y.detach(), gradient


def _difference(expected: tuple[Tensor, Tensor], made: nn.Module, example: Tensor) -> str:
    """In what a copy is not the same function as its network; empty where it is.

    But for a deviation of the output relative to its largest value, and of a tenth of the gradient's length: a few
    ReLUs at their kink turn with the last bit.
    """
    (y, gradient) = expected
    try:
        other, other_gradient = _tried(made, example)
    except ERRORS as error:
        return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
    if not (y - other).abs().max() <= TOLERANCE * y.abs().max().clamp_min(1e-3):
        return "the output would be another"
    if not (gradient - other_gradient).norm() <= 0.1 * gradient.norm().clamp_min(1e-6):
        return "the gradient would be another"
    return ""


def _chains(net: nn.Module, example: Tensor) -> list[tuple[str, str, str | None]]:
    """Names of a convolution, the batch norm that takes its output, and the ReLU that takes the norm's if one does.

    Only modules that run once; that nothing else reads what is between them is for the check of the output to find.
    """
    # What convolutions, and norms after them, put out, by its id and by how often it was written to: something may have
    # been added to it in place. The tensor is kept too, as an id may be given anew.
    made: dict[tuple[int, int], tuple[str, Tensor]] = {}
    normed: dict[tuple[int, int], tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}
    acts: dict[str, str] = {}
    runs: dict[str, int] = {}
    names = {module: name for name, module in net.named_modules()}

    def before(module: nn.Module, inputs: Any) -> None:
        # Ahead of the module's work, which may be in place.
        name = names[module]
        runs[name] = runs.get(name, 0) + 1
        if not inputs or not isinstance(inputs[0], Tensor):
            return
        key = (id(inputs[0]), inputs[0]._version)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and key in made:
            pairs[name] = made[key][0]
        elif type(module) in ACTIVATIONS and key in normed:
            acts[normed[key][0]] = name

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        key = (id(output), output._version)
        if isinstance(module, nn.Conv2d):
            made[key] = (names[module], output)
        elif names[module] in pairs:
            normed[key] = (names[module], output)

    watched = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d) or type(m) in ACTIVATIONS]
    handles = [m.register_forward_pre_hook(before) for m in watched]
    handles += [m.register_forward_hook(after) for m in watched]
    try:
        with torch.no_grad():
            net(example)
    finally:
        for handle in handles:
            handle.remove()
    once = {name for name, count in runs.items() if count == 1}
    found = [(conv, norm, acts.get(norm)) for norm, conv in pairs.items() if {conv, norm} <= once]
    return [(conv, norm, act if act in once else None) for conv, norm, act in found]


def _link(net: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network whose frozen convolutions that feed one another, and nothing else, are `FrozenChain`s."""
    runs = _rows(net, example)
    if not runs:
        return net
    linked = freeze_convolutions(net)
    modules = dict(linked.named_modules())
    for names in runs:
        chain = FrozenChain([cast(FrozenConv2d, modules[name]) for name in names])
        for name in names:
            _replace(linked, name, nn.Identity() if name != names[0] else chain)
    return linked


def _rows(net: nn.Module, example: Tensor) -> list[list[str]]:
    """Names of frozen convolutions, in rows of two or more, each of which takes what the one before put out.

    Autograd's graph tells: nothing else has to do with what is between, as far as gradients go. What does without is
    for the check of the output to find.
    """
    x = example.detach().requires_grad_()
    with torch.enable_grad():
        todo = [net(x).grad_fn]
    after: dict[Any, list[Any]] = {}
    seen = set(todo)
    while todo:
        node = todo.pop()
        for before, _ in node.next_functions:
            if before is not None:
                after.setdefault(before, []).append(node)
                if before not in seen:
                    seen.add(before)
                    todo.append(before)
    names = {module: name for name, module in net.named_modules()}
    conv_of: dict[Any, Any] = {node: cast(Any, node).convs[0] for node in seen if isinstance(node, CONVOLUTION)}
    runs = Counter(conv_of.values())
    once = {node for node, conv in conv_of.items() if runs[conv] == 1}
    following = {node: after[node][0] for node in once if len(after.get(node, [])) == 1 and after[node][0] in once}
    rows = []
    for node in set(following) - set(following.values()):
        row = [node]
        while row[-1] in following:
            row.append(following[row[-1]])
        rows.append([names[conv_of[n]] for n in row])
    return rows


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
