"""Whose classes: what would compare a network's own classes with others' is taken out of a plan, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.scoring.plan import Plan
from featvis.errors import UserError
from featvis.networks.classes import Classes
from featvis.networks.classifier import Classifier
from featvis.networks.units import classes_of


def settle(plan: Plan, networks: Mapping[str, Classifier]) -> None:
    """Leave only judges in a plan that know the target's classes, by synset or by label.

    The others are `foreign`, and `unavailable` if they cannot take the pictures. Where the network whose features stand
    in for Inception's is one of them, and there are real images of the target's own classes, the next judge stands in,
    or else the target itself.

    Args:
        plan: changed.
        networks: those that can be had, by the plan's names.

    Raises:
        UserError: for two networks of one's own whose files have the same name, or two judges of one tag whose weights
            are not the same.
    """
    target, wanted = networks[plan.model], classes_of(plan.units)
    plan.classifiers = [plan.model if n == plan.given else n for n in plan.classifiers]
    plan.observers = [plan.model if n == plan.given else n for n in plan.observers]
    plan.frechet = plan.model if plan.frechet == plan.given else plan.frechet
    _once(plan, networks)
    own = Classes.of(target)
    called: dict[str, Classifier] = {}
    for network in networks.values():
        if called.setdefault(network.alias, network) is not network:
            both = f"{called[network.alias].given} and {network.given}"
            raise UserError(f"{both} would both be called {network.alias} in tables; rename one of the files")
    foreign: dict[str, str] = {}
    for name in dict.fromkeys((*plan.classifiers, plan.frechet)):
        other = networks.get(name)
        if other is None or other is target or own.shared(Classes.of(other), wanted):
            continue
        missing = [i for i in wanted if own.counterpart(i, Classes.of(other)) is None]
        which = f" ({', '.join(target.labels[i] for i in missing[:3])}{', …' * (len(missing) > 3)})" if missing else ""
        foreign[name] = (
            f"{other.alias} and {target.alias} do not share their classes{which}, by synset or by label, so what the "
            "one sees says nothing of the other's"
        )
    unfit: dict[str, str] = {}
    if target.channels not in (1, 3):
        others = {n: networks[n] for n in plan.networks() if n in networks}
        unfit = {
            n: f"{other.alias} takes {other.channels} channels, the pictures have {target.channels}"
            for n, other in others.items()
            if other is not target
        }
    # One whose weights are not to be had has no substitute: its columns say so.
    unable = {*foreign, *unfit}
    if plan.frechet in unable and plan.data is not None:
        plan.frechet = next((n for n in plan.classifiers if n in networks and n not in unable), plan.model)
    plan.unavailable |= unfit
    plan.foreign |= {name: reason for name, reason in foreign.items() if name in plan.networks()}


def _once(plan: Plan, networks: Mapping[str, Classifier]) -> None:
    """Have a network that is asked for by two names, its alias and its tag, by the first alone: its columns are one."""
    first: dict[tuple[str, str], str] = {}
    tags: dict[str, str] = {}
    same: dict[str, str] = {}
    for name in plan.networks():
        network = networks.get(name)
        # Columns of networks of one's own are called by their files.
        if network is None or network.given != network.alias:
            continue
        # A file in the weights directory may say the architecture alone.
        same[name] = first.setdefault((network.name.partition(".")[0], network.weights_hash), name)
        known = tags.setdefault(network.name, same[name])
        if known != same[name] and {name, known} <= {plan.model, *plan.classifiers}:
            raise UserError(
                f"{known} and {name} are both {network.name}, with other weights, and would have one column; leave one "
                "of them out of the classifiers"
            )
    plan.classifiers = list(dict.fromkeys(same.get(n, n) for n in plan.classifiers))
    plan.observers = list(dict.fromkeys(same.get(n, n) for n in plan.observers))
    plan.frechet = same.get(plan.frechet, plan.frechet)
