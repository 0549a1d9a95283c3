"""The commands beyond the benchmark's own: looking into layers, images, concepts and adversarial examples.

As in `benchmark.cli`, each is a typed function, from which its flags and its help are made.
"""

from __future__ import annotations
