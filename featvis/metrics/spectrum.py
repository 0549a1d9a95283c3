"""Spectrum deviation: whether the images hold the energy of natural images at every frequency."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.base import NO_IMAGE, Score
from featvis.metrics.functional.spectrum import require_reference, spectrum_deviation, spectrum_weights
from featvis.metrics.resampling import bootstrap, spectrum_statistic

# Spectra are large (3 MB at a canvas of 512), so at most this many sums are kept; up to as many images stay apart.
GROUPS = 64


class SpectrumDeviation(Score):
    """Deviation of the mean magnitude spectrum's shape from a reference: see `functional.spectrum_deviation`.

    The interval resamples images, or, past `GROUPS` of them, groups dealt in turn: on average the groups tell the
    same noise of the mean as the images do, and memory and time stay those of `GROUPS` spectra.

    Example:
        >>> import torch
        >>> from featvis.metrics import SpectrumDeviation
        >>> natural = torch.rand(3, 8, 5, generator=torch.Generator().manual_seed(0)) + 1
        >>> metric = SpectrumDeviation(natural)
        >>> metric.update(torch.stack([natural, 3 * natural]))
        >>> round(float(metric.compute()), 6), metric.count()
        (0.0, 2)
    """

    higher_is_better = False
    sums: list[Tensor]
    sizes: list[Tensor]

    def __init__(self, reference: Float[Tensor, "3 h k"], *, width: int | None = None, **kwargs: Any) -> None:
        """Take the reference.

        Args:
            reference: E|rfft2(image)| of natural images at the canvas size, in the space the spectra are taken in.
            width: of the canvas in pixels; even by default.
            **kwargs: of `Score`.

        Raises:
            UserError: for a reference that is not positive, or a width that does not fit.
        """
        require_reference(reference.shape, reference)
        weights = spectrum_weights(reference.shape[1], reference.shape[2], width=width)
        text = (
            "RMS over the channels and all frequencies but DC of log(mean magnitude spectrum of the images / "
            "reference), its mean removed; in nats."
        )
        super().__init__(text, **kwargs)
        self.reference, self.weights, self.width = reference, weights, width
        self.add_state("sums", default=[], dist_reduce_fx="cat")
        self.add_state("sizes", default=[], dist_reduce_fx="cat")

    def update(self, spectra: Float[Tensor, "n 3 h k"]) -> None:
        """Add a batch.

        Args:
            spectra: |rfft2(image)| of each image, of the reference's shape.

        Raises:
            UserError: for another shape than the reference's, or values that are not finite.
        """
        require_reference(spectra.shape[1:], self.reference)
        if not spectra.isfinite().all():
            raise UserError("the spectra hold values that are not finite")
        spectra = spectra.detach().double()
        sums, sizes = self._groups()
        new = spectra[: max(0, GROUPS - len(sizes))]
        if len(new):
            ones = torch.ones(len(new), dtype=torch.float64, device=spectra.device)
            sums, sizes = torch.cat([sums.to(new), new]), torch.cat([sizes.to(new), ones])
        rest = spectra[len(new) :]
        if len(rest):
            # Dealt by their place in the whole sequence, so that the batches in which they came leave no trace.
            groups = (torch.arange(len(rest), device=spectra.device) + int(sizes.sum())) % len(sizes)
            sums = sums.index_add(0, groups, rest)
            sizes = sizes.index_add(0, groups, torch.ones(len(rest), dtype=torch.float64, device=spectra.device))
        # Flat, so that a process without images can send the others an empty tensor of as many dimensions.
        self.sums, self.sizes = [sums.reshape(-1)], [sizes]

    def count(self) -> int:
        """Images seen."""
        return int(self._gathered(self.sizes).sum())

    def _groups(self) -> tuple[Tensor, Tensor]:
        return self._gathered(self.sums).reshape(-1, *self.reference.shape), self._gathered(self.sizes)

    def _value(self) -> Tensor:
        sums, sizes = self._groups()
        if not len(sizes):
            return torch.tensor(torch.nan, dtype=torch.float64)
        return spectrum_deviation(sums.sum(0) / sizes.sum(), self.reference, width=self.width)

    def _interval(self) -> tuple[float, float]:
        sums, sizes = self._groups()
        statistic = spectrum_statistic(sums.flatten(1), sizes, self.reference.double().reshape(-1), self.weights)
        low, high = bootstrap(
            statistic, len(sizes), resamples=self.resamples, seed=self.seed, centre=float(self._value())
        )
        return max(low, 0.0), max(high, 0.0)

    def _why_absent(self) -> str:
        return "the images hold no energy at some frequency" if self.count() else NO_IMAGE
