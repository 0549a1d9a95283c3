"""What makes a CPU fast, behind one door; it knows nothing of the rest of featvis.

Each function here has PyTorch's own operations as its twin, for other devices and types, and takes them everywhere with
FEATVIS_ENGINE=torch, or where Numba (the extra `fast`) is not installed.

    to_rgb, stretch, phase_to_canvas, spectrum_to_image   parameters to canvases
    irfft2                                                the same transform on every device
    sample, may_look                                      canvases to views
    normalise, folded, frozen, attention                  views to what a network says of them
    add_magnitude, NAdam                                  gradients to transparency, and to new parameters
    side_by_side, prepare                                 threads and memory; only commands `prepare` a process
"""

from featvis.engine.decoding import phase_to_canvas, spectrum_to_image, stretch, to_rgb
from featvis.engine.fft import irfft2
from featvis.engine.fold import Folded, folded, frozen
from featvis.engine.kernels import add_magnitude, normalise
from featvis.engine.machine import prepare, side_by_side
from featvis.engine.nadam import NAdam
from featvis.engine.switch import on
from featvis.engine.transformers import attention
from featvis.engine.views import may_look, sample

__all__ = [
    "Folded",
    "NAdam",
    "add_magnitude",
    "attention",
    "folded",
    "frozen",
    "irfft2",
    "may_look",
    "normalise",
    "on",
    "phase_to_canvas",
    "prepare",
    "sample",
    "side_by_side",
    "spectrum_to_image",
    "stretch",
    "to_rgb",
]
