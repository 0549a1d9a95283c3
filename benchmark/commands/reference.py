"""The command `featvis reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from benchmark.arguments import WandbMode, check_out, split, wandb_mode, weights_line
from benchmark.checks import check_budget, check_images, check_networks
from featvis.errors import UserError


def reference(
    data: str | None = None,
    models: str | None = None,
    spectrum: bool = False,
    devices: int = 1,
    role: Literal["bank", "frechet", "spectrum"] = "bank",
    flat: str | None = None,
    source: str | None = None,
    pack: str | None = None,
    out: str = "runs/reference",
    wandb: WandbMode | None = None,
    dry_run: bool = False,
) -> int:
    """Compute what runs compare with, once: the features of real images in networks, and their natural spectrum.

    A run does the same where it is missing. Killed, the command goes on from where it was.

    Args:
        data: the images: a folder, hfds/NAME:SPLIT, wds/FOLDER:SPLIT or imagenette (see `featvis run --help`).
        models: networks, separated by commas, whose pooled features, predictions and logits are kept.
        spectrum: compute the mean magnitude spectrum too (decorrelated, canvas of 512).
        devices: GPUs, or processes where there is none. Under torchrun or srun the launcher says it.
        role: what the images are for, which chooses the split where the data has several and none is named.
        flat: classes (301,ladybug) whose flattened last block goes into the pack; a run needs none stored.
        source: what the images are, in words, for the pack.
        pack: folder for a copy small enough to be embedded into a package (a folder of some thousand images).
        out: the cache; the folder `reference` beside the runs.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
        dry_run: print how many images there are, and the time and the space expected after timing some; write nothing.
    """
    if data is None:
        raise UserError("--data is missing; name a folder of images (one folder a class), or imagenette, to fetch it")
    check_images(data, "--data")
    check_out(Path(out))
    mode = wandb_mode(wandb)
    check_budget(devices=devices)
    check_networks(split(models), "--models")
    if not split(models) and not spectrum:
        raise UserError("there is nothing to do; give --models, --spectrum or both")
    if pack is not None and data.startswith(("hfds/", "wds/")):
        raise UserError(f"--pack is of a folder of images, which --data {data} is not; name one, or leave --pack out")
    if flat is not None and pack is None:
        raise UserError("--flat needs --pack: flattened features are kept in packs alone")
    if flat is not None and not split(models):
        raise UserError("--flat needs --models: the classes are theirs")

    from benchmark import launch
    from benchmark.running.dry_run import passes_text
    from benchmark.scoring import references
    from benchmark.scoring.packs import pack as pack_of
    from benchmark.suites.job import check_devices
    from benchmark.tracking import log_reference
    from featvis.data.sets import FolderImages, check_decodable, open_images
    from featvis.networks.loading import load
    from featvis.networks.units import parse_classes

    launch.quiet()
    check_devices(devices)
    networks = [load(m, "float32", flag="--models") for m in split(models)]
    classes = parse_classes(flat, networks[0], "--flat") if flat else []
    found = open_images(data, networks[0] if networks else references.imagenet_synsets(), role)
    check_decodable(found)
    if launch.rank() == 0:
        for text in (found.describe(), *map(weights_line, networks)):
            print(text, flush=True)
    if dry_run:
        print(passes_text(references.costs(found, networks, spectrum)))
        return 0
    wanted = list(zip(split(models), networks, strict=True))
    whose = networks[0].given if networks else None
    tasks: list[tuple[references.Task, Any]] = [
        (references.Task("bank", data, role, out, name, target=whose), network) for name, network in wanted
    ]
    tasks += [(references.Task("spectrum", data, role, out, target=whose), None)] if spectrum else []
    if devices > 1 or launch.world() is not None:
        references.make([task for task, _ in tasks], devices)
    else:
        for task, network in tasks:
            references.perform(task, found, network)
    if launch.rank() == 0:
        print(f"in {references.folder_of(found, Path(out))}")
        if pack is not None:
            assert isinstance(found, FolderImages)
            pack_of(found, networks, classes, Path(out), Path(pack), source)
        if mode != "disabled":
            # What has been made is read, and not made again.
            made = {task.model or task.kind: references.perform(task, found, network) for task, network in tasks}
            log_reference(mode, Path(out), found, made)
    return 0
