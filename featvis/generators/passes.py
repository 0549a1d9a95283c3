"""A step's views through the network: canvases, units and frames in; the gradient and the score of each canvas out.

What a unit is scored by is its objective on its own views. A method may add what the views of a group do together
(`shared`), and what a term reads of the same views of another canvas (`beside`): of a photograph, say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import lightning
import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from featvis.canvas.sampling import render
from featvis.canvas.transforms import Frame
from featvis.errors import UserError
from featvis.generators.state import halves, out_of_memory
from featvis.networks.classifier import Classifier
from featvis.networks.devices import views_together
from featvis.networks.layers import stages, tap
from featvis.networks.objectives import Objective
from featvis.networks.units import Together, Unit, base_of

stage: Callable[[str], AbstractContextManager[Any]] = record_function
"""Marks what the time goes to: decode, transforms, network, alpha, optimiser; seen by PyTorch's profiler."""
BESIDE = "beside/"
"""Before a tap: it reads the same view of the canvas `beside` the unit's own."""


def likeness(activation: Float[Tensor, "n p c"], names: Sequence[str]) -> Float[Tensor, "b v"]:
    """How alike each view of a unit's image is to the same view of the unit's other images; 0 where there is none.

    The mean cosine of their Gram matrices over the channels (Olah et al. 2017, "Diversity"; as in neural style
    transfer, they say which channels are active together, and not where).

    Args:
        activation: of the views, image by image.
        names: of the unit of each image.
    """
    gram = torch.einsum("npc,npd->ncd", activation, activation).flatten(1)
    rows = (gram / gram.norm(dim=1, keepdim=True).clamp_min(1e-12)).unflatten(0, (len(names), -1))
    others = torch.tensor([[i != j and a == b for j, b in enumerate(names)] for i, a in enumerate(names)]).to(rows)
    return torch.einsum("ivd,jvd,ij->iv", rows, rows, others) / others.sum(1, keepdim=True).clamp_min(1)


class Passes(lightning.LightningModule):
    """What a generator does with the network; `Generator` has the rest.

    Attributes:
        together: which units are optimised together, see `featvis.networks.units.groups`; None: each alone.
        views: of the canvas a step.
        micro_batch: views that pass through the network together, or None.
        diversity: weight of the likeness of a unit's images, and the layer at which it is taken; None: one halfway.
    """

    together: Together = None
    views: int
    micro_batch: int | None
    diversity: float = 0.0
    diversity_layer: str | None = None
    _objectives: dict[Unit, Objective]

    if TYPE_CHECKING:

        def load_classifier(self) -> Classifier:
            """The network; `Generator` loads it."""

    def diversity_at(self) -> str:
        """The layer at which the images of a unit shall differ.

        Raises:
            UserError: for one that the network lacks.
        """
        network = self.load_classifier()
        if self.diversity_layer is not None:
            return network.layer(self.diversity_layer).name
        blocks = stages(network.measured(), 3)
        if not blocks:
            raise UserError(f"{network.alias} has no layer with positions at which images could differ")
        return blocks[len(blocks) // 2]

    # --- what a method says ---------------------------------------------------------------------------------------

    def objective(self, unit: Unit) -> Objective:
        """What is maximised for a unit. Default: what the unit says."""
        return unit.objective

    def beside(self, units: Sequence[Unit]) -> Float[Tensor, "b c h w"] | None:
        """A canvas beside each unit's own, of whose same views terms read `beside/<tap>`. Default: none."""
        return None

    def shared_taps(self) -> frozenset[str]:
        """What `shared` reads of the network. Default: what diversity does, where it is asked for."""
        return frozenset({tap(self.diversity_at(), ":")} if self.diversity else ())

    def shared(
        self, activations: Mapping[str, Tensor], units: Sequence[Unit]
    ) -> Float[Tensor, "b v"] | Float[Tensor, ""]:  # fmt: skip
        """What is added to each view's score of what the views of a whole group do together. Default: diversity.

        Args:
            activations: of all units' views, unit by unit.
            units: of the group.
        """
        if not self.diversity:
            return torch.zeros(())
        alike = likeness(activations[tap(self.diversity_at(), ":")], [base_of(unit.id) for unit in units])
        return -self.diversity * alike

    # --- what all methods share -----------------------------------------------------------------------------------

    def ascend(
        self, canvas: Float[Tensor, "b c h w"], units: list[Unit], frame: Frame, streams: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, b]]:
        """The gradient of each unit's mean score with respect to its canvas, and the score, over all views of a step.

        Views go through the network `micro_batch` at a time. When the memory runs out the micro-batch is halved, for
        good, and the views at hand are tried again with the noise that they had. A group is never cut.

        Raises:
            UserError: when even one view does not fit, or a group.
        """
        gradient: Tensor | None = None
        score = torch.zeros(len(units), device=canvas.device)
        todo = list(reversed(self._chunks(len(units))))
        while todo:
            chunk = todo.pop()
            which, views = chunk
            states = [g.get_state() for g in streams[which]]
            try:
                g, s = self._scores(canvas[which], units[which], frame.select(which, views), streams[which])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                size = (which.stop - which.start) * (views.stop - views.start)
                if size == 1:
                    raise UserError(
                        "one view does not fit into the memory; lower --canvas or take a smaller --model"
                    ) from error
                # Another part may have found out that it must be less.
                self.micro_batch = min(self._micro_batch(), size // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                if self.together is not None:
                    raise self._too_large(canvas, units, frame, streams) from error
                for stream, state in zip(streams[which], states, strict=True):
                    stream.set_state(state)
                todo += halves(chunk)
                continue
            score[which] += s
            if len(g) == len(canvas) and gradient is None:
                gradient = g
            else:
                gradient = torch.zeros_like(canvas) if gradient is None else gradient
                gradient[which] += g
        assert gradient is not None
        return gradient, score

    def _micro_batch(self) -> int:
        return self.micro_batch or views_together(self.device)

    def _too_large(
        self, canvas: Float[Tensor, "b c h w"], units: list[Unit], frame: Frame, streams: Sequence[torch.Generator]
    ) -> UserError:
        """What to say where the views of a group are too many for the memory: how many images would not be."""
        fits = len(units) // 2
        while fits:
            one = slice(0, fits)
            try:
                self._scores(canvas[one], units[one], frame.select(one, slice(0, self.views)), streams[one])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                fits //= 2
            else:
                break
        room = f"{fits} would" if fits else "not even one would"
        return UserError(
            f"a group of {len(units)} images does not fit into the memory, {room}; take smaller groups, a smaller "
            "--canvas or a smaller --model"
        )

    def _chunks(self, batch: int) -> list[tuple[slice, slice]]:
        """Micro-batches, unit by unit and view by view: whole units while they fit, else some views of one."""
        if self.together is not None:
            return [(slice(0, batch), slice(0, self.views))]
        limit = self._micro_batch()
        if limit >= self.views:
            n = limit // self.views
            return [(slice(i, min(i + n, batch)), slice(0, self.views)) for i in range(0, batch, n)]
        cuts = [slice(v, min(v + limit, self.views)) for v in range(0, self.views, limit)]
        return [(slice(i, i + 1), views) for i in range(batch) for views in cuts]

    def _scores(
        self, canvas: Float[Tensor, "b c h w"], units: list[Unit], frame: Frame, streams: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, b]]:
        classifier = self.load_classifier()
        canvas = canvas.detach().requires_grad_()
        with stage("transforms"):
            views = render(canvas, frame, classifier.input_size, streams)
        with stage("network"):
            seen = views.detach().requires_grad_()
            other = self._read_beside(units, lambda c: render(c, frame, classifier.input_size))
            score = self._by_unit(seen, units, frame.matrix.shape[1], other).sum(1) / self.views
            (gradient,) = torch.autograd.grad(score.sum(), seen)
        with stage("transforms"):
            (gradient,) = torch.autograd.grad(views, canvas, gradient)
        return gradient, score.detach()

    def _by_unit(
        self,
        views: Float[Tensor, "n c h w"],
        units: list[Unit],
        each: int,
        other: Mapping[str, Tensor],
        alone: bool = False,
    ) -> Float[Tensor, "b v"]:
        """Each unit's objective on its own views, and, unless `alone`, what the views of all of them do together."""
        objectives = self._objectives_of(units)
        together = frozenset() if alone else self.shared_taps()
        taps = frozenset().union(*(o.taps for o in objectives), together)
        own = frozenset(t for t in taps if not t.startswith(BESIDE))
        found = {**self.load_classifier().activations(views, own), **other}
        rows = [o({k: a[i * each : (i + 1) * each] for k, a in found.items()}) for i, o in enumerate(objectives)]
        scores = torch.stack(rows)
        return scores + self.shared(found, units).to(scores) if together else scores

    def maximises(self, unit: Unit) -> bool:
        """Whether what is maximised for a unit is its own activation, and not something else that is to excite it."""
        return self._objectives_of([unit])[0] == unit.objective

    def _objectives_of(self, units: Sequence[Unit]) -> list[Objective]:
        return [self._objectives.get(unit) or self.objective(unit) for unit in units]

    @torch.no_grad()
    def _read_beside(self, units: list[Unit], look: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What the terms read of the canvases beside the units' own, which `look` makes views of."""
        taps = frozenset().union(*(o.taps for o in self._objectives_of(units)))
        wanted = frozenset(t.removeprefix(BESIDE) for t in taps if t.startswith(BESIDE))
        if not wanted or (canvas := self.beside(units)) is None:
            return {}
        found = self.load_classifier().activations(look(canvas), wanted)
        return {BESIDE + t: a for t, a in found.items()}

    def _on_canvas(self, canvas: Float[Tensor, "b c h w"], units: list[Unit]) -> Float[Tensor, b]:
        """The objective on the whole canvas, a unit's own: what its group does together is no activation of it.

        A group's canvases are looked at together; any other one by one on a CPU, where it says the same whatever the
        batch, and as many as share a micro-batch where one by one would leave the device idle.
        """
        whole = self.load_classifier().preprocess
        count = 1 if self.device.type == "cpu" else self._micro_batch()
        count = count if self.together is None else len(units)
        cuts = [slice(i, i + count) for i in range(0, len(units), count)]
        return torch.cat(
            [self._by_unit(whole(canvas[c]), units[c], 1, self._read_beside(units[c], whole), True)[:, 0] for c in cuts]
        )
