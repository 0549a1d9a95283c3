"""What a device is given to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from featvis.networks.devices import views_together


@pytest.mark.parametrize(("gigabytes", "expected"), [(16, 128), (40, 128), (80, 512)])
def test_a_large_gpu_gets_more_views_at_once(monkeypatch, gigabytes, expected):
    properties = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert views_together(torch.device("cuda")) == expected
    assert views_together(torch.device("mps")) == 128
