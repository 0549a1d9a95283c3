"""What wheel and sdist hold: what git has, no more and no less, in one version, and not too much of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 15_000_000
"""Bytes that either may have."""


def tracked(*folders: str) -> set[str]:
    """Files that git has."""
    done = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True)
    return {name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()}


def problems(dist: Path) -> list[str]:
    """What is wrong with the files of a folder, a sentence each."""
    wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{dist} must hold one wheel and one sdist, not {[p.name for p in (*wheels, *sdists)]}"]
    found = []
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "featvis" / "__init__.py").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version is not None
    assert newest is not None
    if newest[1] != version[1]:
        found.append(f"the changelog's newest version is {newest[1]}, and featvis.__version__ is {version[1]}")
    for path in (wheels[0], sdists[0]):
        if f"featvis-{version[1]}" not in path.name:
            found.append(f"{path.name} is not of version {version[1]}")
        if path.stat().st_size > MOST:
            found.append(f"{path.name} has {path.stat().st_size} bytes, more than {MOST}")
    with zipfile.ZipFile(wheels[0]) as file:
        inside = {n for n in file.namelist() if not n.startswith(f"featvis-{version[1]}.dist-info/")}
    expected = tracked("featvis", "benchmark") | {f"featvis/{name}" for name in tracked("configs")}
    found += _difference(wheels[0].name, inside, expected)
    with tarfile.open(sdists[0]) as file:
        inside = {n.partition("/")[2] for n in file.getnames() if not n.endswith("/PKG-INFO")}
    return found + _difference(sdists[0].name, inside, tracked())


def _difference(name: str, inside: set[str], expected: set[str]) -> list[str]:
    found = [f"{name} lacks {missing}" for missing in sorted(expected - inside)]
    return found + [f"{name} holds {more}, which git does not have" for more in sorted(inside - expected)]


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "wheel and sdist hold what git has")
    sys.exit(bool(wrong))
