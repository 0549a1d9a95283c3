"""Suites: what their names of networks stand for."""

from __future__ import annotations

import pytest

from benchmark.suites.suite import resolve
from featvis.errors import UserError

VALUES = {"model": "vit", "units": "301", "methods": ["maco"], "frechet": "vit", "classifiers": []}


def test_the_hubs_prefixes_make_no_other_suite():
    prefixed = {
        "model": "hf-hub:timm/resnet50.a1_in1k",
        "frechet": "timm/a.b",
        "classifiers": ["timm/c.d", "wrap:e.yaml"],
    }
    plain = {"model": "resnet50.a1_in1k", "frechet": "a.b", "classifiers": ["c.d", "wrap:e.yaml"]}
    assert resolve(VALUES | prefixed, "s", {}) == resolve(VALUES | plain, "s", {}) == resolve(VALUES, "s", prefixed)


@pytest.mark.parametrize("key", ["model", "frechet", "classifiers"])
def test_somebody_elses_repository_is_refused_with_where_it_was_named(key):
    value = ["hf-hub:me/net"] if key == "classifiers" else "hf-hub:me/net"
    with pytest.raises(UserError, match=f"{key}.* hf-hub:me/net is a repository"):
        resolve(VALUES, "s", {key: value})
