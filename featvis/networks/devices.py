"""Where a network runs, and in which type it computes there."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from featvis.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device: tensor cores, or AMX / AVX512-BF16 on the CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type in which a network computes on a device."""
    if precision == "auto":
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def own_dtype(net: nn.Module) -> torch.dtype | None:
    """The type of most weights of a network; None where it is float32, or there are none."""
    counts: dict[torch.dtype, int] = {}
    for parameter in net.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    found = max(counts, key=lambda dtype: counts[dtype], default=torch.float32)
    return None if found == torch.float32 else found


def in_float32(net: nn.Module) -> nn.Module:
    """A copy of a network whose weights are float32; the network keeps its own."""
    return copy.deepcopy(net).float()


def device_text(device: torch.device, precision: str) -> str:
    """A device and what a network computes in there, in words.

    Example:
        >>> import torch
        >>> from featvis.networks.devices import device_text
        >>> device_text(torch.device("mps"), "float32")
        'mps (float32)'
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return (
        f"{device} ({precision})" if device.type != "cpu" else f"cpu ({torch.get_num_threads()} threads, {precision})"
    )


def views_together(device: torch.device) -> int:
    """How many views pass through a network together where nobody says: what a device is fast at, and has room for.

    A step of MACO takes a quarter less with 512 than with 128 on an H200 (docs/speed.md), and 21 GB instead of 6.

    Example:
        >>> import torch
        >>> from featvis.networks.devices import views_together
        >>> views_together(torch.device("cpu"))
        8
    """
    if device.type == "cpu":
        return 8
    large = device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory > 40e9
    return 512 if large else 128


def usable(device: str | torch.device) -> torch.device:
    """A device by name.

    Raises:
        UserError: for one that is not here.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError):  # as torch has it of unknown names, missing drivers and numbers
        here = dict.fromkeys(("cpu", default_device().type))
        raise UserError(f"device must be {' or '.join(here)} on this machine, not {str(device)!r:.60}") from None


def default_device() -> torch.device:
    """The device that Lightning's `auto` takes."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
