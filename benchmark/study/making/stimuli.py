"""A study in, its folder out: trials.json with the answers, pictures without them, facts of how each was made."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.study.config import Study
from benchmark.study.making.occlusion import Occlusion, occlude
from benchmark.study.making.passes import Passes, as_bytes, ordered
from benchmark.study.making.pictures import References, Shelf
from benchmark.study.taking import store
from benchmark.study.trials import Kind, Trial, Trials, sealed, write
from featvis.data.sets import ImageSet, open_images
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.objectives import LOGITS
from featvis.networks.units import Unit, parse_units
from featvis.storage import images, locks
from featvis.storage.versions import versions

PICTURES = Path("page") / "pictures"


@dataclass(frozen=True)
class Candidate:
    """An image that was measured for a unit."""

    unit: Unit
    row: int
    found: Occlusion
    percentile: float


def make(name: str, study: Study, out: Path) -> Trials:
    """Everything that a study's folder lacks; the trials.

    Args:
        name: of the study.
        study: what its YAML says.
        out: the folder; what an earlier run measured there is not measured again.

    Raises:
        UserError: for units or images that there are not, fewer images than trials, or a method without pictures.
    """
    with locks.held(out):
        trials: list[Trial] = []
        models: dict[str, dict[str, str]] = {}
        left_out: dict[str, str] = {}
        shelf = Shelf(out / PICTURES)
        for number, given in enumerate(study.models):
            network = load(given, "float32", flag="models:")
            if network.channels != 3:
                raise UserError(f"models: {network.alias} sees {network.channels} channels, and people see three")
            source = open_images(str(study.data), network, role="frechet")
            units = parse_units(study.units, network, "units:")
            passes = Passes(network, source, out / "cache", study.side, study.stride, study.batch_size)
            made, missing = _of_network(study, network, units, passes, shelf, number, out)
            models[network.alias] = {"name": network.name, "weights": network.weights_hash, "source": source.name}
            left_out |= {f"{network.alias} {unit}": why for unit, why in missing.items()}
            trials += made
        for unit, why in left_out.items():
            print(f"featvis: {unit} is left out: {why}", file=sys.stderr)
        plain = json.loads(json.dumps(asdict(study)))
        # Where things lie on this machine is no part of a study.
        plain["data"] = Path(str(study.data)).name
        for condition in plain["conditions"].values():
            condition["folder"] = condition["folder"] and Path(condition["folder"]).name
        whole = sealed(
            Trials(
                study=name,
                seed=study.seed,
                conditions={key: c.label or key.replace("_", " ") for key, c in study.conditions.items()},
                models=models,
                trials=tuple(trials),
                exclude=asdict(study.exclude),
                left_out=left_out,
                made={"study": plain, "versions": versions()},
            )
        )
        _keep_answered(out, whole)
        facts = json.dumps(shelf.facts, indent=1, sort_keys=True, ensure_ascii=False)
        images.write_atomic(out / "facts.json", f"{facts}\n".encode())
        return write(whole, out)


def _keep_answered(out: Path, trials: Trials) -> None:
    """Refuse to replace trials that people have answered: their answers could not be read without them."""
    database = out / store.FILE
    if database.is_file():
        try:
            store.check_study(database, trials.hash)
        except UserError as error:
            raise UserError(
                f"{database} holds answers to the trials that are there, and what is asked for now makes others; name "
                "another folder with --out, or move that database away"
            ) from error


def _of_network(
    study: Study, network: Classifier, units: Sequence[Unit], passes: Passes, shelf: Shelf, number: int, out: Path
) -> tuple[list[Trial], dict[str, str]]:
    """The trials of a network, and the units that have none, with the reason."""
    wanted = _wanted(study, units, passes.source)
    by_image: dict[int, list[Unit]] = {}
    for unit, rows in wanted.items():
        for row in rows:
            by_image.setdefault(row, []).append(unit)
    found = passes.measure(by_image)
    live, left_out = {}, {}
    for unit, rows in wanted.items():
        # A copy of an image is that image: people would be asked the same twice.
        once = {passes.digest(row): row for row in rows if (unit.id, row) in found}
        measured = {row: found[unit.id, row] for row in once.values()}
        spread = float(np.std([one.whole for one in measured.values()])) if measured else 0.0
        moved = {row: one for row, one in measured.items() if one.gap > study.minimum_gap * spread}
        if len(moved) >= study.images:
            live[unit] = _ranked(unit, moved)
        elif len(measured) < study.images:
            raise UserError(
                f"{passes.source.name} has {len(measured)} images for {unit.id} ({unit.label}) of {network.alias}, "
                f"which needs {study.images} trials; lower images, or name more data"
            )
        else:
            left_out[unit.id] = f"the occluder changes its activation on {len(moved)} of {len(measured)} images"
    if not live:
        raise UserError(f"no unit of {network.alias} is changed by the occluder; name other units or another side")
    chosen: list[tuple[Kind, Candidate]] = [("trial", c) for ranked in live.values() for c in _spread(ranked, study)]
    chosen += _obvious(study, network, live, {id(c) for _, c in chosen}, passes.side)
    used: dict[str, set[int]] = {}
    for _, candidate in chosen:
        used.setdefault(candidate.unit.id, set()).add(candidate.row)
    shown = list({c.unit.id: c.unit for _, c in chosen}.values())
    sources = References(study, network, passes, out, shelf)
    references = {
        name: sources.of(name, shown, used) for name, condition in study.conditions.items() if condition.shows
    }
    trials, counts = [], dict.fromkeys(("trial", "catch", "practice", "example"), number)
    for kind, candidate in chosen:
        left: Literal["most", "least"] = "least" if counts[kind] % 2 else "most"
        counts[kind] += 1
        trials.append(_trial(kind, candidate, left, study, network, passes, shelf, references))
    return trials, left_out


def _wanted(study: Study, units: Sequence[Unit], source: ImageSet) -> dict[Unit, list[int]]:
    """The images that are measured for each unit."""
    found = {}
    for unit in units:
        own = source.rows.get(unit.index, []) if study.own and unit.layer == LOGITS else []
        rows = ordered(source, own or range(len(source)), study.seed, unit.id)
        found[unit] = rows[: study.candidates]
    return found


def _ranked(unit: Unit, moved: dict[int, Occlusion]) -> list[Candidate]:
    """A unit's images from the smallest gap to the largest."""
    order = sorted(moved, key=lambda row: (moved[row].gap, row))
    return [Candidate(unit, row, moved[row], (i + 0.5) / len(order)) for i, row in enumerate(order)]


def _spread(ranked: Sequence[Candidate], study: Study) -> list[Candidate]:
    """Those that become trials: the middles of as many equal parts of the ranks."""
    step = len(ranked) / study.images
    return [ranked[int((i + 0.5) * step)] for i in range(study.images)]


def _obvious(
    study: Study, network: Classifier, live: dict[Unit, list[Candidate]], taken: set[int], side: int
) -> list[tuple[Kind, Candidate]]:
    """Catch trials, practice and an example: the largest gaps of what is left, before all where no squares overlap.

    Gaps of units of different layers are on different scales, so each is compared with the median of its layer.
    """
    kinds: list[Kind] = ["example"] if study.practice else []
    kinds += ["practice" for _ in range(study.practice)]
    kinds += ["catch" for _ in range(study.catch)]
    layers: dict[str, list[float]] = {}
    for unit, ranked in live.items():
        layers.setdefault(unit.layer, []).extend(c.found.gap for c in ranked)
    left = [c for ranked in live.values() for c in ranked if id(c) not in taken]
    scale = {layer: float(np.median(gaps)) for layer, gaps in layers.items()}
    left.sort(key=lambda c: (not c.found.apart(side), -c.found.gap / scale[c.unit.layer], c.unit.id, c.row))
    if len(left) < len(kinds):
        raise UserError(
            f"{network.alias}: {len(kinds)} more images are needed for catch trials, practice and an example, and "
            f"{len(left)} are left; raise candidates, or lower catch or practice"
        )
    # The most obvious are the catch trials: whoever looks gets them right.
    return list(zip(reversed(kinds), left, strict=False))


def _trial(
    kind: Kind, candidate: Candidate, left: Literal["most", "least"], study: Study, network: Classifier, passes: Passes,
    shelf: Shelf, references: dict[str, dict[str, tuple[str, ...]]],
) -> Trial:  # fmt: skip
    unit, found = candidate.unit, candidate.found
    image, digest = as_bytes(passes.source, candidate.row, network.input_size)
    name = passes.source.where(candidate.row)
    pictures = {"image": shelf.put_bytes(image, {"image": name})}
    for which, corner in (("most", found.most), ("least", found.least)):
        facts = {"image": name, "corner": list(corner), "side": passes.side}
        pictures[which] = shelf.put_bytes(occlude(image, corner, passes.side), facts)
    text = f"{study.seed}/{network.alias}/{unit.id}/{digest:016x}/{kind}"
    return Trial(
        id=f"t{hashlib.sha256(text.encode()).hexdigest()[:10]}",
        kind=kind,
        model=network.alias,
        unit=unit.id,
        label=unit.label,
        image=name,
        digest=f"{digest:016x}",
        side=passes.side,
        most=found.most,
        least=found.least,
        activation={"whole": found.whole, "most": found.highest, "least": found.lowest},
        gap=found.gap,
        percentile=candidate.percentile,
        left=left,
        pictures=pictures,
        references={name: found[unit.id] for name, found in references.items()},
    )
