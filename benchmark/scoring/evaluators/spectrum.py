"""How far the mean magnitude spectrum of the images lies from that of natural ones (Fel et al. 2023, Figure 2)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import absent, give_data, measured, without
from featvis import metrics
from featvis.canvas.spectrum import magnitude, resize_spectrum
from featvis.data.files import fit, to_tensor

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement."""
    return [_of_bank(scorer, seen) if seen.banked else _of_pictures(scorer, seen)]


def _of_pictures(scorer: Scorer, seen: Seen) -> Measurement:
    if scorer.target.channels not in (1, 3):
        text = "Deviation of the mean magnitude spectrum from that of natural images."
        return absent(
            "spectrum_deviation", text, f"pictures of {scorer.target.channels} channels have no spectrum of RGB"
        )
    sizes = {p.image.size for p in seen.pictures}
    width, height = next(iter(sizes)) if len(sizes) == 1 else (scorer.plan.canvas[1], scorer.plan.canvas[0])
    r = resize_spectrum(scorer.spectra["magnitude"], (height, width))
    metric = metrics.SpectrumDeviation(r, width=width, facts={"reference": scorer.spectrum_source})
    for p in seen.pictures:
        metric.update(magnitude(to_tensor(fit(p.image, (height, width))))[None])
    return measured("spectrum_deviation", metric.result())


def _of_bank(scorer: Scorer, seen: Seen) -> Measurement:
    """A row of an embedded reference, which keeps the mean spectrum of the row `real` of its own classes alone."""
    size, spectra, bank = (scorer.plan.canvas[0], scorer.plan.canvas[1]), scorer.spectra, scorer.bank
    r = resize_spectrum(spectra["magnitude"], size)
    metric = metrics.SpectrumDeviation(r, width=size[1], facts={"reference": scorer.spectrum_source})
    own = seen.kind == "real" and bank is not None and set(bank.flat_classes) == set(scorer.classes.tolist())
    if bank is not None and own and "real" in spectra:
        metric.update(resize_spectrum(spectra["real"], size)[None])
        return dataclasses.replace(measured("spectrum_deviation", metric.result()), n=len(bank.flat_rows))
    why = f"the reference keeps no spectrum of these classes alone; {give_data(scorer)}, or make it with --flat"
    return without(measured("spectrum_deviation", metric.result()), why)
