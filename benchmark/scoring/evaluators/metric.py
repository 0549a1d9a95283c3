"""A metric of one's own: a column that names a class, made without arguments and fed with what the column reads.

`reads` of a column, in the order of `update`'s arguments: `logits` (n, c), `pooled` (n, d) and `flat` (n, l) of the
target network, `labels` (n,), `ids` (n,), the digests of the files; or `canvas` (1, 3, H, W), RGB in [0, 1], with which
`update` is called image by image, whatever their sizes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from benchmark.records.columns import Column
from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import NO_CLASSES, absent, give_data, measured
from featvis.data.files import to_tensor
from featvis.errors import UserError

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement a column that names a class."""
    return [_one(scorer, seen, column) for column in scorer.wanted if column.evaluator == "metric"]


def _one(scorer: Scorer, seen: Seen, column: Column) -> Measurement:
    metric: Any = find(column)()
    if "labels" in column.reads and seen.labels is None:
        return absent(column.name, metric.text, NO_CLASSES)
    known: dict[str, Any] = {**seen.features.get(scorer.plan.model, {}), "labels": seen.labels, "ids": seen.ids}
    if seen.pictures:
        known["canvas"] = None
    if missing := [name for name in column.reads if name not in known]:
        return absent(column.name, metric.text, f"the reference keeps no {missing[0]}; {give_data(scorer)}")
    for inputs in _inputs(seen, column, known):
        metric.update(*inputs)
    return measured(column.name, metric.result())


def _inputs(seen: Seen, column: Column, known: dict[str, Any]) -> Iterator[list[Tensor]]:
    if "canvas" not in column.reads:
        yield [known[name] for name in column.reads]
        return
    for i, picture in enumerate(seen.pictures):
        yield [to_tensor(picture.image)[None] if name == "canvas" else known[name][i : i + 1] for name in column.reads]


def find(column: Column) -> Any:
    """The class that a column names.

    Raises:
        UserError: when it cannot be imported.
    """
    module, _, name = column.metric.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"the metric {column.name} names the class {column.metric}, which cannot be imported ({error})"
        ) from error
