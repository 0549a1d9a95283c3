"""DINOv2 and CLIP with random weights of their layout, in a weights folder; and what a ViT computes, written anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
TAGS = {
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "clip_vitl14_336": "vit_large_patch14_clip_quickgelu_336.openai",
}
DINO = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


def put(folder: Path, alias: str, side: int, seed: int = 0) -> dict[str, NDArray]:
    """Write a narrow and shallow network of an alias's layout, with weights of order 1; its tensors."""
    folder.mkdir(exist_ok=True)
    kwargs = SMALL | {"img_size": side}
    net = timm.create_model(TAGS[alias].partition(".")[0], pretrained=False, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            parameter.copy_(1 + 0.2 * noise if "norm" in name and name.endswith("weight") else 0.3 * noise)
    facts = {
        "create_kwargs": json.dumps(kwargs),
        "input_size": json.dumps([3, side, side]),
        "architecture": TAGS[alias],
    }
    safetensors.torch.save_file(net.state_dict(), folder / f"{alias}.safetensors", metadata=facts)
    return {k: v.double().numpy() for k, v in net.state_dict().items()}


def pixels(image: Image.Image, side: int) -> NDArray:
    """A square picture as (3, side, side) in [0, 1], resized by Pillow."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64).transpose(2, 0, 1) / 255


def vit(state: dict[str, NDArray], images: NDArray, mean: tuple, std: tuple, heads: int = 2) -> NDArray:
    """The normalised CLS token of a ViT, float64: DINOv2's where the tensors have layer scales, else CLIP's.

    The activation is the GELU in DINOv2 (Oquab et al. 2023) and x sigmoid(1.702 x) in CLIP (Radford et al.
    2021), whose tokens are normalised before the first block too.
    """
    clip = "norm_pre.weight" in state
    eps = 1e-5 if clip else 1e-6
    x = (images - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    weight = state["patch_embed.proj.weight"]
    n, side = len(x), weight.shape[-1]
    grid = x.shape[-1] // side
    patches = x.reshape(n, 3, grid, side, grid, side).transpose(0, 2, 4, 1, 3, 5).reshape(n, grid * grid, -1)
    tokens = patches @ weight.reshape(len(weight), -1).T + state.get("patch_embed.proj.bias", 0)
    tokens = np.concatenate([np.tile(state["cls_token"], (n, 1, 1)), tokens], 1) + state["pos_embed"]

    def norm(x: NDArray, name: str) -> NDArray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: NDArray, name: str) -> NDArray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def activation(x: NDArray) -> NDArray:
        from scipy.special import erf

        return x / (1 + np.exp(-1.702 * x)) if clip else x * (1 + erf(x / np.sqrt(2))) / 2

    if clip:
        tokens = norm(tokens, "norm_pre")
    width = tokens.shape[-1]
    for i in range(sum(k.endswith("attn.qkv.weight") for k in state)):
        block = f"blocks.{i}"
        qkv = linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = qkv.reshape(n, -1, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        out = linear(mixed.transpose(0, 2, 1, 3).reshape(n, -1, width), f"{block}.attn.proj")
        tokens = tokens + out * state.get(f"{block}.ls1.gamma", 1)
        hidden = activation(linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
        tokens = tokens + linear(hidden, f"{block}.mlp.fc2") * state.get(f"{block}.ls2.gamma", 1)
    return norm(tokens, "norm")[:, 0]
