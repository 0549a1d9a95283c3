"""featvis: feature visualizations as Lightning modules, and the scores that make them comparable.

    import featvis
    out = featvis.visualize(net, "layer4:12-15, ladybug")    # net: any torch.nn.Module, a timm name, an alias
    out.save("pictures")
    featvis.layers(net)

The names below are all that a user needs; each is imported when it is first asked for: `import featvis` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featvis.errors import UserError as UserError
    from featvis.generators import AM as AM
    from featvis.generators import CBR as CBR
    from featvis.generators import MACO as MACO
    from featvis.generators import Attack as Attack
    from featvis.generators import Fourier as Fourier
    from featvis.generators import Generator as Generator
    from featvis.generators import Inversion as Inversion
    from featvis.networks.classifier import Classifier as Classifier
    from featvis.networks.objectives import Objective as Objective
    from featvis.networks.objectives import channel as channel
    from featvis.networks.objectives import direction as direction
    from featvis.networks.objectives import logit as logit
    from featvis.networks.objectives import match as match
    from featvis.networks.objectives import neuron as neuron
    from featvis.networks.objectives import objective as objective
    from featvis.pictures import Pictures as Pictures
    from featvis.visualization import classifier as classifier
    from featvis.visualization import layers as layers
    from featvis.visualization import visualize as visualize

__version__ = "0.2.0"

_WHERE = {
    "featvis.errors": ("UserError",),
    "featvis.generators": ("AM", "CBR", "MACO", "Attack", "Fourier", "Generator", "Inversion"),
    "featvis.networks.classifier": ("Classifier",),
    "featvis.networks.objectives": ("Objective", "channel", "direction", "logit", "match", "neuron", "objective"),
    "featvis.pictures": ("Pictures",),
    "featvis.visualization": ("classifier", "layers", "visualize"),
}
_PUBLIC = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module featvis has no attribute {name}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
