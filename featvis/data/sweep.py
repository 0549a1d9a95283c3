"""One pass over an image set, cut into chunks: images by number in, one safetensors file a chunk out.

A chunk is dealt whole to a device and written when it is done, so a pass runs on all of Lightning's devices, a killed
one goes on with the chunks that lack a file, and neither changes a number: a chunk's batches are the same whoever makes
it.
Memory holds one chunk's results and the batches that the workers have read ahead, whatever the size of the set.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import safetensors
import torch
from jaxtyping import Float, Int, UInt8
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save as save_bytes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from featvis.data.files import fit
from featvis.data.sets import ImageSet
from featvis.errors import UserError
from featvis.storage import images
from featvis.storage.interrupt import check_starter, uninterrupted

BATCH = 32


@dataclass(frozen=True)
class Chunk:
    """Some images of a set, seen in this order.

    Attributes:
        name: of its file.
        rows: the images' numbers.
    """

    name: str
    rows: tuple[int, ...]


def chunks(rows: Sequence[int], size: int) -> list[Chunk]:
    """Chunks of `size` images, named by their place."""
    starts = range(0, len(rows), size)
    return [Chunk(f"{i:05d}", tuple(rows[s : s + size])) for i, s in enumerate(starts)]


@dataclass
class Batch:
    """Images of one chunk.

    Attributes:
        chunk: which one.
        last: whether it is the chunk's last batch.
        views: (N, 3, h, w), RGB, of the images that could be decoded.
        rows: (N,), their numbers.
        labels: (N,), their classes, -1 for none.
        digests: (N,), of their files.
        broken: (name, reason) of the others.
    """

    chunk: Chunk
    last: bool
    views: UInt8[Tensor, "n 3 h w"]
    rows: Int[Tensor, n]
    labels: Int[Tensor, n]
    digests: Int[Tensor, n]
    broken: list[tuple[str, str]]


class Job(ABC):
    """What is made of the images of a chunk.

    Attributes:
        title: for the progress bar.
        size: (h, w) to which images are resized (short side) and cropped (centre).
        facts: what the result depends on besides the images; a chunk's file carries them.
    """

    title: str
    size: tuple[int, int]
    facts: dict[str, str]

    @abstractmethod
    def start(self, chunk: Chunk) -> None:
        """A new chunk."""

    @abstractmethod
    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:
        """A batch of it, RGB in [0, 1], on the job's device."""

    @abstractmethod
    def finish(self) -> dict[str, Tensor]:
        """What the chunk's file holds."""

    def to(self, device: torch.device) -> None:  # noqa: B027 (a job without a network has nothing to move)
        """Move to a device."""


class RowsJob(Job):
    """A job that keeps something of each image: `see` appends to `found` what it keeps of a batch, by name."""

    def start(self, chunk: Chunk) -> None:
        """A new chunk."""
        self.found: list[dict[str, Tensor]] = []

    def finish(self) -> dict[str, Tensor]:
        """All rows, in the order of the images; empty where none could be decoded."""
        return {key: torch.cat([f[key] for f in self.found]) for key in self.found[0]} if self.found else {}


class Batches(Dataset):
    """The batches of some chunks; none crosses a chunk, and a batch is read and decoded by one worker."""

    def __init__(self, source: ImageSet, size: tuple[int, int], todo: Sequence[Chunk], batch: int) -> None:
        self.source, self.size, self.batch = source, size, batch
        self.places = [(chunk, start) for chunk in todo for start in range(0, len(chunk.rows), batch)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, j: int) -> Batch:
        chunk, start = self.places[j]
        views, rows, digests, broken = [], [], [], []
        for i in chunk.rows[start : start + self.batch]:
            try:
                image, digest = self.source.open(i)
            except OSError as error:
                broken.append((self.source.where(i), str(error)))
                continue
            views.append(np.asarray(fit(image, self.size)).transpose(2, 0, 1))
            rows.append(i)
            digests.append(digest)
        pixels = np.stack(views) if views else np.zeros((0, 3, *self.size), np.uint8)
        labels = [-1 if (label := self.source.labels[i]) is None else label for i in rows]
        return Batch(
            chunk=chunk,
            last=start + self.batch >= len(chunk.rows),
            views=torch.from_numpy(pixels),
            rows=torch.tensor(rows, dtype=torch.long),
            labels=torch.tensor(labels, dtype=torch.long),
            digests=torch.tensor(digests, dtype=torch.long),
            broken=broken,
        )


class Images(lightning.LightningDataModule):
    """The batches of the chunks that lack a file, each chunk dealt whole to one device.

    Args:
        source: the images.
        job: what is made of them.
        todo: all chunks of the pass.
        folder: of the files.
        batch: images together.
        workers: processes that read and decode, for each device.
    """

    def __init__(
        self, source: ImageSet, job: Job, todo: Sequence[Chunk], folder: Path, batch: int = BATCH, workers: int = 0
    ) -> None:
        super().__init__()
        # There may be fewer chunks than devices.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.source, self.job, self.all, self.folder = source, job, list(todo), folder
        self.batch, self.workers = batch, workers
        self.missing: list[Chunk] = []
        self.todo: list[Chunk] = []

    def setup(self, stage: str) -> None:
        """Find out what is missing; the first process decides, so that all deal out the same chunks."""
        assert self.trainer is not None
        names = missing(self.folder, self.all, self.job.facts) if self.trainer.is_global_zero else []
        wanted = set(self.trainer.strategy.broadcast(names))
        self.missing = [c for c in self.all if c.name in wanted]
        self.todo = self.missing[self.trainer.global_rank :: self.trainer.world_size]

    def predict_dataloader(self) -> DataLoader:
        """The batches of this device's chunks, each read by one worker."""
        batches = Batches(self.source, self.job.size, self.todo, self.batch)
        return DataLoader(batches, batch_size=None, num_workers=self.workers, collate_fn=as_is)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the pixels, as bytes."""
        batch.views = batch.views.to(device, non_blocking=True)
        return batch


def as_is(batch: Any) -> Any:
    """A batch that is one already."""
    return batch


class Sweep(lightning.LightningModule):
    """Runs a job over the batches, and writes a file as each chunk ends.

    Args:
        job: what is made of the images.
        folder: of the files.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__()
        self.job, self.folder = job, folder
        self.broken: list[tuple[str, str]] = []
        self._chunk: Chunk | None = None
        self._seen = 0

    def setup(self, stage: str) -> None:
        """Move the job, which is no submodule: its network is shared and has nothing to be trained or saved."""
        self.job.to(self.trainer.strategy.root_device)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """See a batch; write the chunk's file after its last one.

        Raises:
            UserError: when the file cannot be written; what is finished stays.
        """
        check_starter()
        # Equal, not the same: batches come from workers.
        if self._chunk != batch.chunk:
            self._chunk, self.broken, self._seen = batch.chunk, [], 0
            self.job.start(batch.chunk)
        self.broken += batch.broken
        self._seen += len(batch.rows) + len(batch.broken)
        if len(batch.views):
            self.job.see(batch.views.float().div_(255), batch)
        if batch.last:
            if self._seen != len(batch.chunk.rows):
                raise RuntimeError(
                    f"chunk {batch.chunk.name} has {len(batch.chunk.rows)} images, of which {self._seen} came"
                )
            write(self.folder, batch.chunk, self.job.finish(), self.job.facts, self.broken)
            self._chunk = None


class _Bar(Callback):
    """A progress bar of images, on the first process; the others are taken to be as far."""

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        self.total = sum(len(c.rows) for c in data.all)
        finished = self.total - sum(len(c.rows) for c in data.missing)
        self.bar = tqdm(
            total=self.total, initial=finished, desc=data.job.title, unit="image", disable=trainer.global_rank > 0
        )

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *args: Any) -> None:
        self.bar.update(min(trainer.world_size * (len(batch.rows) + len(batch.broken)), self.total - self.bar.n))

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self.bar.close()


def run(
    source: ImageSet,
    job: Job,
    todo: Sequence[Chunk],
    folder: Path,
    trainer: dict[str, Any] | None = None,
    batch: int = BATCH,
    workers: int | None = None,
) -> None:
    """Make the chunks that are missing.

    Args:
        source: the images.
        job: what is made of them.
        todo: all chunks of the pass.
        folder: of the files.
        trainer: arguments of Lightning's Trainer (devices, num_nodes, strategy).
        batch: images together.
        workers: processes that read and decode, for each device; None: the cores, shared out.

    Raises:
        UserError: when a file cannot be written.
    """
    options: dict[str, Any] = {"accelerator": "auto", "devices": 1} | (trainer or {})
    devices = options["devices"]
    if devices == 1 and "strategy" not in options and not missing(folder, todo, job.facts):
        return
    if workers is None:
        # Starting workers takes seconds, which a small set does not repay.
        many = sum(len(c.rows) for c in todo) > 16 * batch
        workers = min(8, cores() // devices) if many else 0
    runner = lightning.Trainer(
        **options,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[_Bar()],
    )
    data = Images(source, job, todo, folder, batch, workers)
    runner.predict(Sweep(job, folder), datamodule=data, return_predictions=False)
    if torch.distributed.is_initialized():
        # What follows reads all chunks. Not in a hook: Lightning calls none where a device has no batch.
        torch.distributed.barrier()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        total.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        total.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write(
    folder: Path, chunk: Chunk, tensors: dict[str, Tensor], facts: dict[str, str], broken: Sequence[tuple[str, str]]
) -> None:
    """Write a chunk's file, with its facts, the digest of its content and the images that could not be decoded.

    Raises:
        UserError: when it cannot be written.
    """
    tensors = {k: v.cpu().contiguous() for k, v in tensors.items()}
    about = facts | {"rows": str(len(chunk.rows)), "sha256": _digest(tensors), "broken": json.dumps(list(broken))}
    # One entry: safetensors writes several in an order of its own, and the same facts shall give the same bytes.
    header = {"featvis": json.dumps(about, sort_keys=True)}
    try:
        with uninterrupted():
            images.write_atomic(folder / f"{chunk.name}.safetensors", save_bytes(tensors, metadata=header))
    except OSError as error:
        raise UserError(
            f"cannot write into {folder} ({error.strerror}); the finished parts are safe: make room and run the same "
            "command again"
        ) from error


def read(
    path: Path, facts: dict[str, str] | None = None, check: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """A chunk's tensors, mapped into memory and not read into it, and its facts; None where it is not whole.

    Args:
        path: of the file.
        facts: those that it must carry.
        check: compare the content with its digest, for which all of it is read once.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("featvis", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (safetensors.SafetensorError, OSError, ValueError):
        return None
    if any(about.get(k) != v for k, v in (facts or {}).items()):
        return None
    if check and about.get("sha256") != _digest(tensors):
        return None
    return tensors, about


def missing(folder: Path, todo: Sequence[Chunk], facts: dict[str, str]) -> list[str]:
    """The names of the chunks without a whole file."""
    names = []
    for chunk in todo:
        found = read(folder / f"{chunk.name}.safetensors", facts)
        if found is None or found[1].get("rows") != str(len(chunk.rows)):
            names.append(chunk.name)
    return names
