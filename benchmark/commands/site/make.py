"""The command `featvis site`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.arguments import check_out, command_line, split, without_places
from benchmark.checks import check_budget, check_images, check_method, check_models
from featvis.errors import UserError

if TYPE_CHECKING:
    from benchmark.site.model import Site


def site(
    model: str | None = None,
    data: str | None = None,
    classes: str | None = None,
    layers: str | None = None,
    methods: str = "maco_coarse_to_fine",
    seeds: int = 2,
    channels: int = 12,
    concepts: int = 10,
    concept_layer: str | None = None,
    images: int = 100,
    steps: int | None = None,
    crops: int | None = None,
    canvas: int | None = None,
    batch_size: int = 10,
    seed: int = 0,
    records: str | None = None,
    runs: str | None = None,
    title: str = "Lens",
    address: str = "",
    render_only: bool = False,
    out: str = "runs/site",
) -> int:
    """Make a site of networks' classes, concepts, units and layers, and of records, for any static host. Resumes.

    Writes <out>, which is the site, and <out>-work, with images, concepts and activations, which is no part of it.

    Args:
        model: networks, separated by commas; default: none, a leaderboard alone.
        data: real images, as `featvis concepts --data` takes them; without, there are no concepts and no patches.
        classes: `301,323` or names, `ladybug`; default: no class pages.
        layers: whose channels get pages, by name (`featvis layers MODEL`), separated by commas; each network takes
            those that it has.
        methods: presets of configs/generator; the first is that of concepts and previews.
        seeds: visualizations of a class by each method.
        channels: of each layer that are visualized; all of them have a page.
        concepts: of each class.
        concept_layer: of the concepts; of several, separated by commas, a network takes the first that it has;
            default: its last layer with positions whose activations are not negative.
        images: of each class that are looked at, the first ones.
        steps: optimisation steps.
        crops: views a step.
        canvas: side of the canvas in pixels.
        batch_size: units optimised together.
        seed: of everything random.
        records: folder of record files for the leaderboard, results/records say; default: no leaderboard.
        runs: folder of the run that the records are of, for their pictures.
        title: of the site.
        address: under which it will be published, https://lab.example/lens/, for previews of its pages.
        render_only: make the pages anew from the data in <out>, without any network.
        out: folder of the site.
    """
    for flag, place in (("--records", records), ("--runs", runs)):
        if place is not None and not Path(place).is_dir():
            raise UserError(f"{flag} {place} is not a folder; name one, or leave {flag} out")
    if address and not address.startswith(("https://", "http://")):
        raise UserError(f"--address {address} is no address of a site; write it as https://lab.example/lens/")
    check_out(Path(out))
    flags = {
        "data": data, "classes": classes, "layers": layers, "methods": methods, "seeds": seeds, "channels": channels,
        "concepts": concepts, "concept_layer": concept_layer, "images": images, "steps": steps, "crops": crops,
        "canvas": canvas, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    if not render_only:
        _check(model, records, flags)
    from benchmark.site.model import Site, check_folder, write

    missing: list[str] = []
    if render_only:
        check_folder(Path(out), None)
    else:
        place = address and address.rstrip("/") + "/"
        command = without_places(command_line("site", flags, *([model] if model else [])))
        about = Site(title, (), "", command, place, ())
        if model is None:
            check_folder(Path(out), ())
            write(Path(out), about)
        else:
            missing = _make(split(model), flags, about, Path(out))

    from benchmark.site.rendering.render import render

    count = render(Path(out), None if records is None else Path(records), None if runs is None else Path(runs))
    print(f"site      {Path(out) / 'index.html'}, {count} pages, for any static host")
    if missing:
        named = ", ".join(missing[:3]) + ", …" * (len(missing) > 3)
        what = "1 picture is" if len(missing) == 1 else f"{len(missing)} pictures are"
        print(f"featvis: {what} missing from the site ({named}); the same command tries again", file=sys.stderr)
    return 1 if missing else 0


def _check(model: str | None, records: str | None, flags: dict[str, Any]) -> None:
    """Refuse what can be known to be wrong without torch."""
    if model is None and records is None:
        raise UserError("MODEL is missing; name a network, efficientnet_lite0 say, or a leaderboard's --records")
    if model is None:
        return
    check_models(model)
    if not flags["classes"] and not flags["layers"]:
        raise UserError("--classes and --layers are missing; name some of either, for example --classes ladybug,tiger")
    if not split(flags["methods"]):
        raise UserError("--methods is empty; name a preset, for example maco")
    for method in split(flags["methods"]):
        check_method(method)
    for name, low in (("seeds", 1), ("channels", 0), ("concepts", 1), ("images", 1)):
        if flags[name] < low:
            raise UserError(f"--{name} must be at least {low}, not {flags[name]}")
    check_budget(steps=flags["steps"], views=flags["crops"], canvas=flags["canvas"], batch_size=flags["batch_size"])
    check_images(flags["data"], "--data")


def _make(models: list[str], flags: dict[str, Any], about: Site, out: Path) -> list[str]:
    """Compute the data of a site of networks; which pictures it lacks, in words."""
    from benchmark import launch
    from benchmark.site.making import run
    from benchmark.site.making.options import Options
    from featvis.storage.locks import held

    launch.quiet()
    options = Options(
        classes=flags["classes"], layers=tuple(split(flags["layers"])), methods=tuple(split(flags["methods"])),
        budget={"steps": flags["steps"], "views": flags["crops"], "canvas": flags["canvas"]},
        concept_layers=tuple(split(flags["concept_layer"])),
        **{k: flags[k] for k in ("seeds", "channels", "concepts", "images", "batch_size", "seed")},
    )  # fmt: skip
    work = out.with_name(f"{out.name}-work")
    with held(work):
        return run.make(run.subjects(models, flags["data"]), options, about, out, work)
