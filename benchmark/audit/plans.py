"""What the records of a run were scored by: records in; the plan that they say, with what of it is here, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.records import record as records
from benchmark.records.record import Record
from benchmark.scoring import extractors
from benchmark.scoring.classes import settle
from benchmark.scoring.plan import Plan, Row, Sources, kind_of
from benchmark.scoring.recording import weights_of
from featvis.errors import Unreachable, UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.names import resolve
from featvis.networks.own.wrap import alias_of

FILES = {"inception": "Inception's weights", "words": "CLIP's words for the classes"}
"""What a record's weights have besides networks."""


def is_elsewhere(record: Record) -> bool:
    """Whether a record is of anyone's folder of pictures, which is not below the run's."""
    made = record.images is not None or record.config.get("generator") is not None
    return not made and record.method not in records.REFERENCES


def plan_of(
    run: Path, group: Sequence[Record], data: dict[str, str | None]
) -> tuple[Plan, Sources, dict[str, Classifier]]:
    """The plan that the records of a group were scored by, its real images and its networks.

    Raises:
        UserError: when the real images are not given, or are others; or the networks cannot be had.
    """
    first = next((r for r in group if r.budget is not None), group[0])
    said = first.config.get("evaluation") or {}
    target = load(first.given or first.alias, "float32")
    networks, unavailable = {first.alias: target, target.given: target}, dict[str, str]()
    sources = Sources()
    if said.get("data"):
        sources = Sources.open(data.get("data"), data.get("frechet_data"), data.get("spectrum_data"), target)
    for role, facts in (said.get("data") or {}).items():
        source = sources.of(role)
        if source is None:
            raise UserError(f"the real images of {first.suite} are not given: --data {facts['name']}")
        if source.fingerprint[:12] != facts["fingerprint"]:
            raise UserError(
                f"--data: {source.name} is not the set that {first.suite} was scored with "
                f"({facts['images']} images of {facts['name']}, fingerprint {facts['fingerprint']})"
            )
    observers = said.get("observers", [])
    for name in dict.fromkeys([*said.get("classifiers", []), said.get("frechet"), *observers]):
        if name not in networks:
            try:
                networks[name] = load(name, "float32")
            except Unreachable as error:
                unavailable[name] = error.reason
    rows = [
        Row(
            method=r.method,
            kind=kind_of(r),
            folder=r.images,
            preset=r.preset,
            config=r.config.get("generator"),
            config_hash=r.config_hash,
            transparency=bool((r.config.get("evaluation") or {}).get("transparency")),
        )
        for r in group
        if r.status == "done" and not is_elsewhere(r)
    ]
    # An older record does not say it: one of the methods' is as good a guess as any.
    canvas = said.get("canvas") or (list(first.budget.canvas) if first.budget is not None else [256, 256])
    given = {key: value if said.get("data") else None for key, value in data.items()}
    plan = Plan(
        out=str(run), suite=first.suite, model=first.alias, classifiers=list(said.get("classifiers", [])),
        frechet=str(said.get("frechet")), observers=list(observers), seed=int(said.get("seed", 0)),
        units=list(first.units), labels=list(first.labels), canvas=canvas, rows=rows,
        metrics=list(said.get("metrics") or []),
        data=given.get("data"), frechet_data=given.get("frechet_data"), spectrum_data=given.get("spectrum_data"),
        sets=sources.facts(), cache=str(run.parent / "reference"), unavailable=unavailable, given=target.given,
    )  # fmt: skip
    settle(plan, networks)
    found = dict[str, str]()
    if said.get("extractors"):
        found, missing = extractors.find(plan.metrics)
        plan.extractors = [name for name in said["extractors"] if name in found]
        plan.unavailable |= missing
    plan.unavailable |= _others(plan, networks, said.get("weights") or {}, weights_of(plan, networks, found))
    plan.extractors = [name for name in plan.extractors if name not in plan.unavailable]
    return plan, sources, networks


def _others(
    plan: Plan, networks: Mapping[str, Classifier], said: Mapping[str, str | None], here: Mapping[str, str | None]
) -> dict[str, str]:
    """What has other weights here than records say, and that, in words; not the target, which images are of.

    Args:
        plan: settled.
        networks: by the plan's names.
        said: hashes, as `weights_of` has them, of what the records were scored with; empty: older ones.
        here: the same of what is here.

    Returns:
        Sentences by the plan's names of networks, by what they are for files.
    """
    names = {networks[name].alias: name for name in plan.networks() if name in networks}
    found = {}
    for what, was in said.items():
        now = here.get(what)
        if was is None or now is None or was == now or names.get(what) == plan.model:
            continue
        text = f"another file of {FILES[what]}" if what in FILES else f"other weights of {what}"
        found[names.get(what, what)] = f"{text} here ({now}) than it was scored with ({was})"
    return found


def reasons(plan: Plan, networks: Mapping[str, Classifier]) -> dict[str, str]:
    """Why something of a plan computes nothing here, by what columns call it."""
    found: dict[str, str] = {}
    for name, reason in plan.unavailable.items():
        found |= dict.fromkeys(called(name, plan, networks), reason)
    return found


def gone(plan: Plan, networks: Mapping[str, Classifier], evaluation: Mapping[str, Any]) -> set[str]:
    """What computed nothing where records were scored, as they say themselves, by what columns call it.

    Args:
        plan: that they were scored by.
        networks: by its names.
        evaluation: the records' definition of scores.
    """
    found = {what for what, was in (evaluation.get("weights") or {}).items() if was is None}
    return found.union(*(called(name, plan, networks) for name in evaluation.get("unavailable") or []))


def called(name: str, plan: Plan, networks: Mapping[str, Classifier]) -> set[str]:
    """What columns may call a network of a plan: by its alias, or by its full tag."""
    network, names = networks.get(name), {name, alias_of(name)}
    if network is not None:
        return names | {network.alias, network.name}
    if name in plan.networks():
        with suppress(UserError):  # a name that means nothing here
            names.add(resolve(name).name)
    return names
