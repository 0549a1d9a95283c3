"""The command `featvis study make`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import check_out
from benchmark.checks import check_images, check_method, check_networks


def make(
    study: str, data: str | None = None, out: str = "runs/study", units: str | None = None, seed: int | None = None
) -> int:
    """Build a human study: trials under an occluder, references, and the page to put on any static host. Resumes.

    Writes <out>/trials.json, with the right answers, which is not for publication, and <out>/page, which is.

    Args:
        study: a YAML file, or a name in configs/study (imagenette, paper).
        data: natural images, as `featvis run --data` takes them; of several splits the held-out one.
        out: folder of the study.
        units: of each network; default: what the file says.
        seed: of every choice; default: what the file says.
    """
    from benchmark.study import config
    from featvis.errors import UserError

    name, said = config.read(study, data=data, units=units, seed=seed)
    if said.data is None:
        raise UserError("--data is missing; name a folder of natural images (one folder a class), or imagenette")
    check_networks(said.models, "models:")
    check_networks(said.observers, "observers:")
    check_images(said.data, "--data")
    for key, condition in said.conditions.items():
        if condition.method is not None:
            check_method(condition.method, condition.options or {})
        if condition.folder is not None and "{model}" not in condition.folder:
            check_images(condition.folder, f"conditions.{key}.folder")
    check_out(Path(out))

    from benchmark import launch
    from benchmark.study.making import observers, stimuli
    from benchmark.study.taking.publish import publish, size

    launch.quiet()
    trials = stimuli.make(name, said, Path(out))
    page = publish(said, trials, Path(out))
    scores = observers.observe(said, trials, Path(out))
    observers.write(scores, Path(out))
    shown = trials.shown()
    print(f"trials    {len(shown)} of {len({(t.model, t.unit) for t in shown})} units: {Path(out) / 'trials.json'}")
    print(f"page      {page} ({size(page) / 1e6:.1f} MB), for any static host, or: featvis study serve {out}")
    print(observers.text(scores, trials))
    return 0
