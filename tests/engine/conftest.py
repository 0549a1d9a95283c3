"""The engine's tests hold its compiled half against its twins, whichever of them the others run with."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATVIS_ENGINE", "compiled")
        yield
