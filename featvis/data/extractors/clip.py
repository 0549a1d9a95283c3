"""Classes in words, as CLIP's text tower puts them: names in, unit vectors beside those of images out, kept in a file.

The text tower itself is not needed to score: `<network>.classes.safetensors`, beside the weights in the folder
FEATVIS_WEIGHTS, holds what it makes of the classes. `write_classes` makes that file, wherever a text tower can be had.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from jaxtyping import Float, Float32
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from featvis.errors import UserError
from featvis.networks.classes import Classes
from featvis.networks.classifier import Classifier
from featvis.networks.names import short
from featvis.storage import images

Encoder = Callable[[list[str]], Tensor]
"""Sentences to a text tower's embeddings (n, d)."""
Template = str | Callable[[str], str]
"""A sentence about a class: with `{}` where its name stands, or what makes it of the name."""


@dataclass(frozen=True)
class ClassTexts:
    """Classes in words.

    Attributes:
        text: (K, D), an embedding of unit length a class.
        classes: what they are.
        prompts: which sentences were taken, in words.
        path: of the file.
    """

    text: Float32[Tensor, "k d"]
    classes: Classes
    prompts: str
    path: Path


def classes_file(network: str) -> str:
    """What the file of a network's classes is called.

    Example:
        >>> from featvis.data.extractors.clip import classes_file
        >>> classes_file("clip_vitb16")
        'clip_vitb16.classes.safetensors'
    """
    return f"{network}.classes.safetensors"


def class_embeddings(
    encode: Encoder, names: Sequence[str], templates: Sequence[Template]
) -> Float32[Tensor, "k d"]:  # fmt: skip
    """A class a row: the mean direction of the sentences about it (Radford et al. 2021, section 3.1.4).

    Args:
        encode: the text tower, sentences to embeddings.
        names: of the classes.
        templates: a sentence each.

    Returns:
        Unit vectors.

    Raises:
        UserError: without a template, or for embeddings that are not one finite row a sentence.

    Example:
        >>> import torch
        >>> from featvis.data.extractors.clip import class_embeddings
        >>> lengths = lambda sentences: torch.tensor([[float(len(s)), 1.0] for s in sentences])
        >>> found = class_embeddings(lengths, ["cat", "horse"], ["a {}", "the {}"])
        >>> found.shape, [round(float(row.norm()), 3) for row in found]
        (torch.Size([2, 2]), [1.0, 1.0])
    """
    if not templates:
        raise UserError("templates is empty; give at least one sentence, for example 'a photo of a {}.'")
    rows = []
    for name in names:
        said = [t.format(name) if isinstance(t, str) else t(name) for t in templates]
        with torch.inference_mode():
            found = encode(said).double().cpu()
        if found.ndim != 2 or len(found) != len(said) or not found.isfinite().all():
            raise UserError(f"the text tower gives {tuple(found.shape)} for {len(said)} sentences about {name}")
        rows.append(nn.functional.normalize(nn.functional.normalize(found).mean(0), dim=0))
    return torch.stack(rows).float()


def write_classes(
    path: Path | str,
    encode: Encoder,
    names: Sequence[str],
    templates: Sequence[Template],
    synsets: Sequence[str] = (),
    prompts: str = "",
) -> Path:
    """Write the file of a network's classes.

    Args:
        path: where; `classes_file` says how it is called.
        encode: the text tower, sentences to embeddings.
        names: of the classes.
        templates: a sentence each.
        synsets: WordNet ids of the classes, in the order of the names; none: they are told by their names.
        prompts: which sentences these are, in words; by default their number and the first.

    Raises:
        UserError: for as many synsets as there are no names, or see `class_embeddings`.

    Example:
        >>> import torch
        >>> from featvis.data.extractors.clip import read_classes, write_classes
        >>> lengths = lambda sentences: torch.tensor([[float(len(s)), 1.0] for s in sentences])
        >>> path = write_classes("mine.classes.safetensors", lengths, ["cat", "horse"], ["a photo of a {}."])
        >>> read_classes(path).prompts
        '1 sentence: a photo of a cat.'
    """
    if synsets and len(synsets) != len(names):
        raise UserError(f"there are {len(names)} names and {len(synsets)} synsets; each class has one of both")
    text = class_embeddings(encode, names, templates)
    first = templates[0].format(names[0]) if isinstance(templates[0], str) else templates[0](names[0])
    said = prompts or f"{len(templates)} sentence{'s' * (len(templates) > 1)}: {first}{', …' * (len(templates) > 1)}"
    facts = {"labels": json.dumps(list(names)), "synsets": json.dumps(list(synsets)), "prompts": said}
    images.write_atomic(Path(path), save_bytes({"text": text}, metadata=facts))
    return Path(path)


def read_classes(path: Path | str) -> ClassTexts:
    """The classes in a file.

    Raises:
        UserError: for a file that is broken, or has no `text` of a finite row a class.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts, text = file.metadata() or {}, file.get_tensor("text").float()
        labels = tuple(str(label) for label in json.loads(facts.get("labels", "[]")))
        synsets = tuple(str(synset) for synset in json.loads(facts.get("synsets", "[]")))
        if text.ndim != 2 or {len(text)} != {len(names) for names in (labels, synsets) if names}:
            raise ValueError(f"text is {tuple(text.shape)} of {len(labels)} labels and {len(synsets)} synsets")
        if not text.isfinite().all() or not text.norm(dim=1).all():
            raise ValueError("text has a row without a direction")
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"the classes in {path} cannot be used ({short(error)}); make the file anew with "
            "featvis.data.extractors.clip.write_classes"
        ) from error
    return ClassTexts(
        nn.functional.normalize(text), Classes(len(text), synsets, labels), facts.get("prompts", "not said"), path
    )


@torch.no_grad()
def embeddings_of(network: Classifier, pooled: Float[Tensor, "n d"]) -> Float32[Tensor, "n e"]:
    """An extractor's output from its pooled features, as banks keep them: CLIP's projection into the space of its text.

    Args:
        network: the extractor.
        pooled: from `Classifier.features`, or a `Bank`.

    Returns:
        The same as its `logits`; of an extractor without a head (DINOv2) the pooled features.

    Raises:
        UserError: for a network whose head is not one layer.
    """
    head = network.net.get_classifier() if hasattr(network.net, "get_classifier") else None
    if not isinstance(head, nn.Identity | nn.Linear):
        raise UserError(f"{network.alias} has no linear layer at its end that would take pooled features to embeddings")
    return torch.cat([head(part.float().to(network.device)).float().cpu() for part in pooled.split(4096)])
