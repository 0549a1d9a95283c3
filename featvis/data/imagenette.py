"""Imagenette, fetched: nothing in; a folder with the splits `train` and `val` of ten ImageNet classes out.

The archive is fastai's (https://github.com/fastai/imagenette, release 2: 9469 + 3925 images). It is downloaded once,
checked by its SHA-256, and kept in the cache of the user; what was interrupted goes on where it was. The variable
`FEATVIS_IMAGENETTE` names a mirror, and behind `#sha256=` the checksum of another archive than the three that fastai
publishes.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from filelock import FileLock

from featvis.errors import UserError, full_disk
from featvis.storage.fetch import NotFetched, fetch

NAME = "imagenette"
"""What `--data` says for it."""
VARIABLE = "FEATVIS_IMAGENETTE"
SOURCE = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
ARCHIVES = {
    "imagenette2-320.tgz": (341663724, "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"),
    "imagenette2-160.tgz": (99003388, "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5"),
    "imagenette2.tgz": (1557161267, "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd"),
}
"""Bytes and SHA-256 of fastai's archives, as the data set `frgfm/imagenette` of the Hugging Face hub gives them."""
SPLITS = ("train", "val")


def source(flag: str = "--data") -> tuple[str, str, int | None]:
    """Where the archive is: its address, SHA-256, and size in bytes or None.

    Raises:
        UserError: when `FEATVIS_IMAGENETTE` is no address, or one whose checksum nobody knows.
    """
    given = os.environ.get(VARIABLE) or SOURCE
    url, _, fragment = given.partition("#")
    if not re.match(r"https?://[^/]+/.", url):
        raise UserError(
            f"{VARIABLE}={given} is no address of an archive; write for example http://mirror/{SOURCE.rpartition('/')[2]}"
        )
    if fragment:
        checksum = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
        if checksum is None:
            raise UserError(f"{VARIABLE}={given}: what follows the # must be sha256= and 64 hex digits")
        return url, checksum[1].lower(), None
    name = url.partition("?")[0].rpartition("/")[2]
    if name not in ARCHIVES:
        raise UserError(
            f"{VARIABLE}={given}: {flag} {NAME} takes an archive by its checksum alone; name one of "
            f"{', '.join(ARCHIVES)}, or write the checksum behind the address: #sha256=..."
        )
    size, sha256 = ARCHIVES[name]
    return url, sha256, size


def cache() -> Path:
    """The folder that archives are unpacked into: `featvis` in the user's cache (`XDG_CACHE_HOME`)."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "featvis"


def place(spec: str, flag: str = "--data") -> Path:
    """The folder that a text names: one that is there, else that of the images where it says `imagenette`.

    Raises:
        UserError: see `folder`.
    """
    found = Path(spec)
    return folder(flag) if spec == NAME and not found.is_dir() else found


def folder(flag: str = "--data") -> Path:
    """The folder of the images; fetched and unpacked unless it is there.

    Args:
        flag: the option that named it, for messages.

    Raises:
        UserError: when the archive cannot be had within seconds of silence, is not the one expected, or cannot be kept.
    """
    url, sha256, size = source(flag)
    home = cache()
    unpacked = home / f"{NAME}-{sha256[:12]}"
    if unpacked.is_dir():
        return _inside(unpacked, flag)
    archive = home / f"{NAME}-{sha256[:12]}.tgz"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{NAME}-{sha256[:12]}.lock"):
            if not unpacked.is_dir():
                fetch(url, archive, sha256=sha256, size=size, title=NAME)
                _unpack(archive, unpacked, flag)
                archive.unlink()
    except NotFetched as error:
        raise UserError(
            f"{flag} {NAME}: the archive cannot be fetched ({error}); what has arrived is kept: run the same command "
            f"again, name a mirror in {VARIABLE}, or a folder with images of your own"
        ) from error
    except OSError as error:
        if full_disk(error):
            raise
        raise UserError(
            f"{flag} {NAME}: {home} cannot be written ({error.strerror}); name a folder that can in XDG_CACHE_HOME"
        ) from error
    return _inside(unpacked, flag)


def _unpack(archive: Path, place: Path, flag: str) -> None:
    """Unpack an archive; the folder is there whole or not at all."""
    for stale in place.parent.glob(f".{place.name}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)  # of a process that was killed
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    try:
        with tarfile.open(archive) as tar:
            # Refuses what would lie outside of the folder, links that lead out of it, and devices.
            tar.extractall(temporary, filter="data")
        _inside(temporary, flag)
        temporary.chmod(0o755)
        temporary.replace(place)
    except (tarfile.TarError, EOFError, UserError) as error:
        archive.unlink()
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{flag} {NAME}: the archive cannot be unpacked ({error}); name another in {VARIABLE}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _inside(place: Path, flag: str) -> Path:
    """The folder of an unpacked archive that has the splits: itself, or the only one in it."""
    for found in (place, *sorted(p for p in place.iterdir() if p.is_dir())):
        if all((found / split).is_dir() for split in SPLITS):
            return found
    raise UserError(
        f"{flag} {NAME}: the archive holds no folder with {' and '.join(SPLITS)}; name Imagenette in {VARIABLE}"
    )
