"""The command `featvis tables`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import check_out
from featvis.errors import UserError


def tables(records: str = "results/records", out: str = "results") -> int:
    """Rebuild the tables (Markdown, CSV, LaTeX) and figures of a folder of records, and the README's block.

    Args:
        records: folder of record files.
        out: where `tables/` and `figures/` go.
    """
    if not Path(records).is_dir():
        raise UserError(
            f"--records {records} is not a folder; name one that holds records (`featvis run` makes <out>/records)"
        )
    check_out(Path(out))

    from benchmark.report import report

    report.published(Path(records), Path(out))
    return 0
