"""The generator: batches of units in, `Visualizations` out. Every method is a subclass of about fifty lines.

A step goes through the batch part by part, a part being as many units as share a micro-batch of views: it decodes
their canvases once, detaches them, pushes their views through the network, adds up the gradient of the scores with
respect to the canvases, sends it through the decoding, and moves the parameters. That gradient is also the
transparency map. The weights get none. Parts bound the memory, whatever the batch.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from featvis import engine
from featvis.canvas.chains import check
from featvis.canvas.parametrizations import Parametrization
from featvis.canvas.transforms import Transform, draw
from featvis.errors import UserError
from featvis.generators import passes
from featvis.generators.arguments import NotesArguments, public_name
from featvis.generators.state import Optimisation, Part, Visualizations, adam, even, finite
from featvis.limits import check_limit
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision, compute_dtype
from featvis.networks.loading import Source
from featvis.networks.objectives import Objective
from featvis.networks.units import Unit, groups, parse_units
from featvis.storage.hashing import config_hash

F = TypeVar("F", bound=Callable[..., Any])


def settled(method: F) -> F:
    """A generator's method, during which the network stays what it is at the beginning.

    Whether a module in memory was trained meanwhile takes a pass over its weights, and a wait for the GPU where it is
    on one: that is asked here, and not in each micro-batch.
    """

    @functools.wraps(method)
    def within(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.load_classifier()
        before, self._settled = self._settled, True
        try:
            return method(self, *args, **kwargs)
        finally:
            self._settled = before

    return cast(F, within)


class Generator(passes.Passes, metaclass=NotesArguments):
    """A method that makes an image for a unit.

    A subclass sets `self.parametrization` in `__init__` and says what views it takes (`transforms`) and how it moves
    (`optimizer`); see `featvis.generators.cbr` for the shortest one. Arguments that it got after images had been
    published with it stand in `unset`: they are no part of a configuration while they are null.

    Args:
        model: network, by alias, full timm tag, file in the weights directory, or `wrap:FILE`; from Python also any
            `torch.nn.Module` (see `featvis.networks.own.modules`) or a `Classifier`.
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        views: views of the canvas a step (the crops of MACO).
        lr: learning rate.
        seed: of all random streams.
        micro_batch: views that pass through the network together; None: 8 on the CPU, where up to four such parts run
            side by side, 128 elsewhere, 512 on a GPU of more than 40 GB. Bounds the memory, and is halved when that
            runs out.
        precision: of the network; `auto` takes bfloat16 where the hardware is fast at it.
        diversity: weight of what makes several images of a unit (`ladybug@0-3`) differ: less the likeness of their Gram
            matrices in a layer (Olah et al. 2017). They are then optimised together.
        diversity_layer: where; null: a block halfway.

    Raises:
        UserError: for a value outside of `LIMITS`.
    """

    parametrization: Parametrization
    sees: ClassVar[str] = "nothing"
    unset: ClassVar[tuple[str, ...]] = ()
    _arguments: dict[str, Any]

    def __init__(
        self,
        model: str | torch.nn.Module = "efficientnet_lite0",
        steps: int = 256,
        canvas: int | tuple[int, int] = 512,
        views: int = 1,
        lr: float = 0.05,
        seed: int = 0,
        micro_batch: int | None = None,
        precision: Precision = "auto",
        diversity: float = 0.0,
        diversity_layer: str | None = None,
    ) -> None:
        super().__init__()
        self.source = Source(model)
        self.save_hyperparameters({**self._arguments, "model": self.source.name})
        self.size = (canvas, canvas) if isinstance(canvas, int) else (int(canvas[0]), int(canvas[1]))
        self.model, self.steps, self.views, self.lr, self.seed = self.source.name, steps, views, lr, seed
        self.micro_batch, self.precision = micro_batch, precision
        self.diversity, self.diversity_layer = diversity, diversity_layer
        if diversity:
            self.together = "unit"
        for name, value in (("steps", steps), ("views", views), ("canvas", self.size[0]), ("canvas", self.size[1])):
            check_limit(name, value)
        if micro_batch is not None and micro_batch < 1:
            raise UserError(f"micro_batch must be at least 1, not {micro_batch}")
        if not lr > 0:
            raise UserError(f"lr must be above 0, not {lr}")
        # Not a submodule by assignment: the network is loaded when there is work, not when a config is parsed.
        self.classifier: Classifier | None = None
        self._settled = False
        # In a tuple, where torch does not take it for a submodule.
        self._known: tuple[Classifier, ...] = ()
        self._channels = 3
        self.listeners: list[Any] = []
        self._objectives: dict[Unit, Objective] = {}

    # --- what a method says ---------------------------------------------------------------------------------------

    def transforms(self, step: int) -> Sequence[Transform]:
        """The chain of transforms of a step; every view draws its own. Default: none, the whole canvas."""
        return []

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """The optimiser. Default: Adam."""
        return adam(parameters, self.lr)

    def start(self, units: list[Unit], streams: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """The parameters (B, ...) to begin with, and what stays fixed, of a batch of units."""
        return self.parametrization.init(streams)

    def in_channels(self, channels: int) -> Parametrization:
        """The parametrization for a network that does not take three channels. Default: the same, with as many."""
        return replace(cast(Any, self.parametrization), channels=channels)

    def rate(self, step: int) -> float | None:
        """The learning rate of a step. Default: None, the optimiser's own."""
        return None

    def penalty(self, canvas: Float[Tensor, "b c h w"], fixed: Tensor | None) -> Float[Tensor, b] | None:
        """What is taken off each canvas's score, on the canvas itself and not on its views. Default: nothing."""
        return None

    def project(self, parameters: Tensor, fixed: Tensor | None) -> None:
        """Put the parameters back, in place, to where they may be, after each step. Default: anywhere."""

    def finish(self, canvas: Float[Tensor, "b c h w"], fixed: Tensor | None) -> Float[Tensor, "b c h w"]:
        """The canvas that is written, from the last step's. Default: the same."""
        return canvas

    def seen(self, units: Sequence[Unit] = ()) -> str:
        """What the method may see besides the network for units; rows that see different things do not compete."""
        return self.sees

    def facts(self) -> dict[str, Any]:
        """What an image depends on besides the arguments: a file that is named by one counts by its content, here."""
        return {}

    def check_units(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for units that the method cannot make an image of. Default: it can of all."""

    def photographs(self, unit: Unit) -> tuple[int, ...]:
        """The digests of the real images that the method sees for a unit (`featvis.data.files.digest`)."""
        return ()

    def about(self, unit: Unit) -> dict[str, Any]:
        """Further facts of a unit's image file, JSON values."""
        return {}

    def forget(self) -> None:
        """Drop what was kept of a network; called when there is another one. Default: its objectives."""
        self._objectives = {}

    # --- what all methods share -----------------------------------------------------------------------------------

    def load_classifier(self) -> Classifier:
        """The network, loaded at the first call; a module in memory again when its weights have changed since.

        Within `optimise`, `config` and `visualize` it is the one of their beginning.
        """
        if self.classifier is None or (not self._settled and self.source.changed()):
            self.classifier = self.source.load(self.precision, self.device)
        if not any(known is self.classifier for known in self._known):
            self._known = (self.classifier,)
            self.forget()
        if self.classifier.channels != self._channels:
            self._channels = self.classifier.channels
            self.parametrization = self.in_channels(self._channels)
        return self.classifier

    def setup(self, stage: str) -> None:
        """Load the network before Lightning moves the module to its device; refuse a precision of the Trainer's."""
        if self._trainer is not None and (precision := str(self.trainer.precision)) not in ("32", "32-true"):
            raise UserError(
                f"--trainer.precision {precision} would round canvases; the network's is --model.precision "
                "(auto, float32 or bfloat16)"
            )
        self.load_classifier()
        self.check_transforms()

    def check_transforms(self) -> None:
        """Raise a UserError if the transforms leave nothing of the canvas."""
        try:
            check(self.transforms(0), self.size)
        except ValueError as error:
            raise UserError(f"--canvas {self.size[0]} is too small: {error}") from error

    @settled
    def config(self, device: torch.device | None = None) -> dict[str, Any]:
        """All that an image depends on besides its unit, as JSON values; `micro_batch` changes only rounding.

        Args:
            device: where it will run, which decides what the precision `auto` means; None: where it is.
        """
        classifier, facts = self.load_classifier(), self.facts()
        dtype = classifier.own_dtype or compute_dtype(self.source.asked(self.precision), device or self.device)
        left_out = {"micro_batch", "model", "precision", *facts}
        # What is off is no part of a configuration, so that older ones keep their hashes.
        left_out |= set() if self.diversity else {"diversity", "diversity_layer"}
        left_out |= {name for name in self.unset if self.hparams[name] is None}
        arguments = {k: v for k, v in self.hparams.items() if k not in left_out}
        if arguments.get("canvas") == (self.size[0],) * 2:
            # One way to write a square, the published one.
            arguments["canvas"] = self.size[0]
        return {
            "class_path": public_name(type(self)),
            "init_args": json.loads(json.dumps(arguments)),
            **facts,
            "model": classifier.name,
            "weights": classifier.weights_hash,
            **classifier.setting,
            "precision": str(dtype).removeprefix("torch."),
        }

    def config_hash(self, device: torch.device | None = None) -> str:
        """12 hex digits of the SHA-256 of `config`."""
        return config_hash(self.config(device))

    def predict_step(self, batch: list[Unit], batch_idx: int = 0, dataloader_idx: int = 0) -> Visualizations:
        """Optimise all units of a batch together."""
        # A Trainer predicts in inference mode unless told otherwise. Nobody's autocast may reach canvases and views,
        # whose convolutions take for ever in bfloat16 on a CPU.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            return self.optimise(batch)

    @settled
    def visualize(self, units: str) -> Visualizations:
        """The images of the units named by a text (see `featvis.networks.units`), without a Trainer."""
        classifier = self.load_classifier()
        found = parse_units(units, classifier)
        self.check_units(found)
        return self.to(classifier.device).predict_step(found)

    def transfer_batch_to_device(self, batch: list[Unit], device: torch.device, dataloader_idx: int) -> list[Unit]:
        """Units hold no tensor; there is nothing to move."""
        return batch

    def streams(self, units: Sequence[Unit]) -> list[torch.Generator]:
        """Each unit's own random stream, a function of (seed, unit) alone."""
        return [torch.Generator(self.device).manual_seed(unit.seed(self.seed)) for unit in units]

    @settled
    def optimise(self, units: list[Unit]) -> Visualizations:
        """The loop over the steps, from the beginning or from where a callback takes it up; groups stand together."""
        begin = time.perf_counter()
        units = [unit for group in groups(units, self.together) for unit in group]
        self.check_transforms()
        self._objectives = {unit: self.objective(unit) for unit in units}
        state = self.optimisation(units)
        self._tell("on_optimization_start", state)
        begin -= state.seconds
        while state.step < self.steps:
            score = self.step(state)
            state.seconds = time.perf_counter() - begin
            self._tell("on_optimization_step", state.step - 1, score, state)
        with torch.no_grad():
            made = [self.finish(self.parametrization.decode(p.parameters, p.fixed), p.fixed) for p in state.parts]
            # What the last step made has had no step after it to find it out.
            activations = torch.cat(
                [self._on_canvas(c, units[p.which]) for c, p in zip(made, state.parts, strict=True)]
            )
            canvas, alpha = torch.cat([c.cpu() for c in made]), state.alpha.cpu()
            whole = finite(canvas) & finite(alpha) & activations.isfinite().cpu()
        failed = state.failed.cpu()
        failed[~whole & (failed < 0)] = self.steps
        steps = {i: int(step) for i, step in enumerate(failed) if step >= 0}
        seconds = time.perf_counter() - begin
        silent = [i for i, seen in enumerate(alpha.flatten(1).any(1).tolist()) if self.steps and not seen]
        return Visualizations(units, canvas, alpha, state.scores.cpu(), activations.cpu(), steps, seconds, silent)

    def optimisation(self, units: list[Unit]) -> Optimisation:
        """A batch before its first step; the first thing that `optimise` does."""
        # What a classifier makes when it is first asked for is made here, where one thread asks.
        taps = frozenset().union(*(o.taps for o in self._objectives_of(units)), self.shared_taps())
        self.load_classifier().make_ready(taps)
        streams = self.streams(units)
        parameters, fixed = self.start(units, streams)
        count = len(units)
        return Optimisation(
            units,
            [Part.of(which, parameters, fixed, self.optimizer) for which in self._parts(units)],
            streams,
            alpha=torch.zeros(count, *self.size, device=self.device),
            scores=torch.zeros(self.steps, count, device=self.device),
            failed=torch.full((count,), -1, device=self.device),
        )

    def _parts(self, units: Sequence[Unit]) -> list[slice]:
        """How a batch is cut into parts: a group each, or as many units as share a micro-batch.

        On a CPU into two of each size, whatever its threads, then what is left.
        """
        count = len(units)
        if self.together is not None:
            sizes = [len(group) for group in groups(units, self.together)]
            return [slice(stop - size, stop) for size, stop in zip(sizes, itertools.accumulate(sizes), strict=True)]
        limit = max(1, self._micro_batch() // self.views)
        lanes = min(2, count) if self.device.type == "cpu" else 1
        shared = count // lanes * lanes
        sizes = [n for n in even(shared // lanes, limit) for _ in range(lanes)] + even(count - shared, limit)
        stops = list(itertools.accumulate(sizes))
        return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]

    def step(self, state: Optimisation) -> Float[Tensor, b]:
        """One step of the whole batch; its scores."""
        chain = self.transforms(state.step)
        if self.device.type == "cpu" and self.load_classifier().reentrant:
            engine.side_by_side(lambda part: self._advance(state, part, chain), state.parts)
        else:
            for part in state.parts:
                self._advance(state, part, chain)
        state.step += 1
        return state.scores[state.step - 1]

    def _advance(self, state: Optimisation, part: Part, chain: Sequence[Transform]) -> None:
        """One step of the units that go through the network together; no result of a GPU is looked at."""
        which = part.which
        units, streams = state.units[which], state.streams[which]
        with passes.stage("decode"):
            decoded = self.parametrization.decode(part.parameters, part.fixed)
            canvas = decoded.detach()
        with passes.stage("transforms"):
            frame = draw(chain, self.size, self.views, streams)
        gradient, score = self.ascend(canvas, units, frame, streams)
        with passes.stage("alpha"):
            state.scores[state.step, which] = score
            # The canvas too: oneDNN's ReLU makes 0 of a NaN.
            total = engine.add_magnitude(gradient, canvas, state.alpha[which])
            broken = ~(score.isfinite() & total.isfinite()) & (state.failed[which] < 0)
            state.failed[which].masked_fill_(broken, state.step)
            stopped = state.failed[which] >= 0
            # A look is cheaper than a pass over the gradient, where it is no waiting.
            if not engine.may_look(stopped) or bool(stopped.any()):
                gradient = gradient.masked_fill(stopped[:, None, None, None], 0)
        with passes.stage("decode"):
            plain = canvas.requires_grad_()
            if (penalty := self.penalty(plain, part.fixed)) is not None:
                gradient = gradient - torch.autograd.grad(penalty.sum(), plain)[0]
            (found,) = torch.autograd.grad(decoded, part.parameters, gradient)
        with passes.stage("optimiser"):
            # Optimisers go down unless told otherwise.
            up = all(group.get("maximize") for group in part.optimizer.param_groups)
            part.parameters.grad = (found if up else -found).contiguous()
            if (rate := self.rate(state.step)) is not None:
                for group in part.optimizer.param_groups:
                    group["lr"] = rate
            part.optimizer.step()
            part.parameters.grad = None
            with torch.no_grad():
                self.project(part.parameters, part.fixed)

    def _tell(self, hook: str, *what: Any) -> None:
        trainer = self._trainer
        for callback in [*self.listeners, *getattr(trainer, "callbacks", ())]:
            if (listener := getattr(callback, hook, None)) is not None:
                listener(trainer, self, *what)
