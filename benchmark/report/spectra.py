"""Mean magnitude spectra of image sets, in NumPy on arrays (H, W, 3) in [0, 1] (Fel et al. 2023, Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.report.drawing import figure_of, save, tidy
from benchmark.report.figures import Array, _short, colours, rgb
from benchmark.report.tables import method_order
from featvis.canvas.matrix import RECORRELATE
from featvis.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def decorrelate(rgb: Array) -> Array:
    """Colour-decorrelated channels (..., 3) of RGB values (..., 3) in [0, 1]: `rgb @ M^-1`, as `canvas = x @ M`."""
    return np.asarray(rgb, dtype=np.float64) @ np.linalg.inv(np.array(RECORRELATE))


def mean_magnitude(images: Iterable[Array]) -> Array:
    """The mean magnitude spectrum of an image set: |rfft2| of each decorrelated channel, averaged over the images.

    Args:
        images: arrays (H, W, 3) in [0, 1], all of one size; read one at a time.

    Returns:
        (3, H, W//2+1), not normalised by the number of pixels; row and column k are k cycles per image.

    Raises:
        UserError: there is no image, or sizes differ.
    """
    total, count = np.zeros(0), 0
    for image in images:
        spectrum = np.abs(np.fft.rfft2(decorrelate(image).transpose(2, 0, 1)))
        if count and spectrum.shape != total.shape:
            raise UserError("A mean spectrum needs images of one size; these differ.")
        total = total + spectrum if count else spectrum
        count += 1
    if not count:
        raise UserError("A mean spectrum needs at least one image.")
    return total / count


def full_plane(half: Array, width: int) -> Array:
    """The whole plane of a real image's magnitudes, zero frequency in the middle.

    Args:
        half: (H, W//2+1) as rfft2 gives it.
        width: W, which the half alone does not tell (even or odd).

    Returns:
        (H, W); row H//2, column W//2 is zero frequency.
    """
    # The other half is |F(-u, -v)| = |F(u, v)|: the interior columns, mirrored in both directions.
    mirrored = np.roll(half[::-1], 1, axis=0)[:, 1 : (width + 1) // 2][:, ::-1]
    return np.fft.fftshift(np.concatenate([half, mirrored], axis=1))


def radial_average(half: Array, width: int) -> tuple[Array, Array]:
    """The mean magnitude at each distance from zero frequency, over the whole plane.

    Args:
        half: (H, W//2+1) as rfft2 gives it.
        width: W.

    Returns:
        Frequencies 1 .. min(H, W)//2 in cycles per image, and the mean over all (u, v) whose distance rounds to each.
    """
    plane = full_plane(half, width)
    height = plane.shape[0]
    v, u = np.arange(height) - height // 2, np.arange(width) - width // 2
    ring = np.rint(np.hypot(v[:, None], u[None, :])).astype(np.int64)
    sums, counts = np.bincount(ring.ravel(), plane.ravel()), np.bincount(ring.ravel())
    frequencies = np.arange(1, min(height, width) // 2 + 1)
    return frequencies.astype(np.float64), sums[frequencies] / counts[frequencies]


def read_rgb(paths: Iterable[Path | str]) -> Iterable[Array]:
    """The images of files, one at a time: (H, W, 3) in [0, 1], alpha ignored."""
    for path in paths:
        picture = rgb(Path(path))
        if picture is None:
            raise UserError(f"There is no image {path}.")
        yield picture / 255.0


def spectra(
    images: Mapping[str, Iterable[Path | str | Array]],
    reference: Array | Path | str | None,
    path: Path | str,
    called: str = "natural",
) -> list[Path]:
    """Fel et al. 2023, Figure 2: each method's mean log-magnitude spectrum, and all radial averages in one plot.

    Magnitudes are divided by the number of pixels before they are drawn, so that canvases of different sizes compare.

    Args:
        images: method name to image files or arrays (H, W, 3) in [0, 1]; a method without images is left out.
        reference: the natural spectrum (3, H, W//2+1), as an array or an .npz that holds it; None: not drawn.
        path: the figure.
        called: what the natural spectrum is called.

    Returns:
        The files written; none where there is nothing to draw.
    """
    from matplotlib.ticker import MaxNLocator

    planes: dict[str, tuple[Array, int]] = {}
    if reference is not None:
        natural = _reference(reference)
        planes["natural"] = _display(natural, _reference_width(natural))
    for method, sources in sorted(images.items(), key=lambda item: method_order(item[0])):
        items = [source if isinstance(source, np.ndarray) else next(iter(read_rgb([source]))) for source in sources]
        if items:
            planes[method] = _display(mean_magnitude(items), items[0].shape[1])
    if not planes:
        return []
    columns = min(len(planes), 3)
    lines = math.ceil(len(planes) / columns)
    height = max(1.75 * lines + 0.75, 3.2)
    figure = figure_of(1.75 * columns + 4.9, height)
    left, right = figure.subfigures(1, 2, width_ratios=[1.75 * columns + 0.9, 4.0], squeeze=False)[0]
    maps = left.subplots(lines, columns, squeeze=False)
    left.subplots_adjust(left=0.02, right=0.84, top=0.86, bottom=0.04, wspace=0.08, hspace=0.3)
    # Zero frequency is the mean colour: far above the rest, and not what the figure is about.
    logs = {name: np.log10(np.maximum(full_plane(half, width), 1e-12)) for name, (half, width) in planes.items()}
    spread = np.concatenate([log.ravel() for log in logs.values()])
    low, high = np.percentile(spread, [1, 99.9])
    for axis in maps.flat:
        axis.set_axis_off()
    for axis, (name, log) in zip(maps.flat, logs.items(), strict=False):
        rows, cols = log.shape
        # Pixel edges in cycles per image: equal frequencies take equal room whatever the canvas.
        extent = (-(cols // 2) - 0.5, cols - cols // 2 - 0.5, rows - rows // 2 - 0.5, -(rows // 2) - 0.5)
        drawn = axis.imshow(log, vmin=low, vmax=high, cmap="magma", extent=extent, interpolation="antialiased")
        axis.set_title(_short(called if name == "natural" else name, 20), fontsize=9)
    left.suptitle("Mean magnitude spectrum", fontsize=9, x=0.43, y=0.975)
    bar = left.colorbar(drawn, cax=left.add_axes((0.87, 0.12, 0.022, 0.68)))
    bar.set_label("log₁₀ magnitude per pixel", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.outline.set_visible(False)
    _radial(right.subplots(), planes, called)
    right.subplots_adjust(left=0.19, right=0.97, top=0.86, bottom=0.15)
    return [save(figure, Path(path), "spectra")]


def _radial(axis: Axes, planes: Mapping[str, tuple[Array, int]], called: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    palette = colours(planes)
    for name, (half, width) in planes.items():
        natural = name == "natural"
        frequencies, means = radial_average(half, width)
        axis.loglog(
            frequencies,
            means,
            color=palette[name],
            lw=2.2 if natural else 1.6,
            ls=(0, (4, 2)) if natural else "-",
            label=called if natural else name,
        )
    axis.set_xlabel("spatial frequency (cycles per image)", fontsize=9)
    axis.set_ylabel("magnitude per pixel", fontsize=9)
    axis.set_title("Radial average", fontsize=9)
    tidy(axis)
    axis.xaxis.set_major_locator(LogLocator(2, numticks=12))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(color="#E4E4E4", lw=0.6)
    axis.legend(frameon=False, fontsize=8.5, handlelength=2.2)


def _display(magnitude: Array, width: int) -> tuple[Array, int]:
    """Channel mean of (3, H, W//2+1), per pixel, and the width W."""
    return magnitude.mean(axis=0) / (magnitude.shape[1] * width), width


def _reference(source: Array | Path | str) -> Array:
    if isinstance(source, np.ndarray):
        array = source
    else:
        with np.load(source, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                array = file
            else:
                names = [name for name in file.files if file[name].ndim == 3 and file[name].shape[0] == 3]
                if len(names) != 1:
                    raise UserError(
                        f"{source} must hold one array of shape (3, H, W//2+1); it holds {', '.join(file.files)}."
                    )
                array = file[names[0]]
    if array.ndim != 3 or array.shape[0] != 3:
        raise UserError(f"A reference spectrum has shape (3, H, W//2+1), not {array.shape}.")
    return np.asarray(array, dtype=np.float64)


def _reference_width(magnitude: Array) -> int:
    """W of a half spectrum: a square image's, where the shape allows one, else the even width."""
    height, columns = magnitude.shape[1:]
    return height if height // 2 + 1 == columns else 2 * (columns - 1)
