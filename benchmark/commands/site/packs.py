"""The commands `featvis submit` and `featvis merge`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.arguments import check_out, split
from benchmark.checks import check_images
from featvis.errors import UserError


def submit(run: str, sender: str | None = None, out: str | None = None) -> int:
    """Pack the records and pictures of a run, with their hashes, for somebody's leaderboard.

    Args:
        run: folder of the run; its files are checked first, as `featvis verify --files-only` does.
        sender: who sends it, as the leaderboard shall name them.
        out: the file; default: submissions/<name of the run>.zip.
    """
    folder = Path(run)
    if not (folder / "records").is_dir():
        raise UserError(f"RUN {run} is not the folder of a run; `featvis run` prints it")
    if not (sender or "").strip():
        raise UserError("--sender is missing; say who sends it, for example --sender 'Vision Lab, Somewhere'")
    path = Path(out or f"submissions/{folder.resolve().name}.zip")
    check_out(path.parent)

    from benchmark.audit import verify
    from benchmark.site.packs import pack

    report = verify.verify(folder, {}, files_only=True)
    if report.problems:
        for text in report.problems:
            print(f"featvis: {text}", file=sys.stderr)
        return 1
    manifest = pack.write(folder, path, str(sender).strip())
    print(f"pack      {path}, {len(manifest.files)} files, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def merge(
    packs: str | None = None,
    records: str = "results/records",
    pictures: str = "runs/submitted",
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    check_only: bool = False,
) -> int:
    """Verify packs of `featvis submit`, scoring their pictures anew, and add the rows of those that hold.

    Args:
        packs: the files.
        records: folder of records that the rows are added to; what was verified goes to `submissions` beside it.
        pictures: folder of the submitted pictures, which `featvis site --runs` shows.
        data: the real images that they were scored with, where they were.
        frechet_data: as given to the run.
        spectrum_data: as given to the run.
        check_only: verify, and write nothing.
    """
    files = [Path(name) for name in split(packs)]
    if not files:
        raise UserError("PACK is missing; name the files that `featvis submit` made")
    for path in files:
        if not path.is_file():
            raise UserError(f"PACK {path} is not a file; `featvis submit` makes one")
    for flag, spec in (("--data", data), ("--frechet-data", frechet_data), ("--spectrum-data", spectrum_data)):
        check_images(spec, flag)
    check_out(Path(records))
    check_out(Path(pictures))

    from benchmark import launch
    from benchmark.site.packs import merge as merger

    launch.quiet()
    sets = {"data": data, "frechet_data": frechet_data, "spectrum_data": spectrum_data}
    outcome = merger.merge(files, Path(records), Path(pictures), sets, check_only)
    for text in outcome.merged:
        print(f"{'verified' if check_only else 'merged'}  {text}")
    for text in outcome.refused:
        print(f"featvis: {text}", file=sys.stderr)
    return 1 if outcome.refused else 0
