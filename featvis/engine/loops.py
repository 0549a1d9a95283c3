"""Loops over arrays, compiled by Numba; `kernels.share` calls them, and imports this module when the first is needed.

Numba does not know bfloat16: such values come as their 16 bits. Loops run without Python's lock. `start` and `stop` are
the range of lines, or values, that a call works on.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""What LLVM may do; NaN and infinity stay what they are."""


def compiled(function: Callable[..., Any]) -> Any:
    """A function made of loops over arrays, compiled at its first call and kept on the disk for the next process.

    It is compiled anew when its own file changes, so it should call compiled functions of no other.
    """
    function = inspect.unwrap(function)  # a type checker at run time wraps it
    compile = partial(njit, nogil=True, error_model="numpy", fastmath=FAST_MATH)
    try:
        return compile(cache=True)(function)
    except RuntimeError:  # there is no folder to keep it in
        return compile()(function)


def _float_of_bits(typing: Any, bits: Any) -> Any:
    return types.float32(types.uint32), lambda context, b, signature, args: b.bitcast(args[0], ir.FloatType())


_float_of: Any = intrinsic(inspect.unwrap(_float_of_bits))


@compiled
def clip(start: int, stop: int, gradient: Any, output: Any, bound: Any) -> None:
    """A gradient through a ReLU, in place."""
    # Parts of arrays from 0 on: of other ranges the compiler does not see that they are never negative.
    own, seen = gradient[start:stop], output[start:stop]
    for i in range(own.size):
        own[i] = own[i] if (seen[i] > 0) & (seen[i] < bound) else 0


@compiled
def clipped(start: int, stop: int, gradient: Any, output: Any, bound: Any, found: Any) -> None:
    """The same, written elsewhere; were it `clip` with two arrays that may be one, it would not be vectorised."""
    own, seen, to = gradient[start:stop], output[start:stop], found[start:stop]
    for i in range(own.size):
        to[i] = own[i] if (seen[i] > 0) & (seen[i] < bound) else 0


@compiled
def interleave(
    start: int, stop: int, planes: Any, down: int, across: int, top: int, left: int, output: Any, has_output: bool,
    bound: Any, found: Any,
) -> None:  # fmt: skip
    """Planes beside one another, line by line, and through a ReLU."""
    _, height, width, channels = found.shape
    for number in range(start, stop):
        image, i = number // height, number % height
        row, to, seen = (i + top) // down, found[image, i], output[image, i]
        for b in range(across):
            number_of_plane = (i + top) % down * across + b
            plane = planes[number_of_plane if len(planes) > 1 else 0]
            skip = 0 if len(planes) > 1 else number_of_plane * channels
            # The first pixel of the row that is on this plane, and its place there.
            j = (b - left) % across
            column = (j + left) // across
            if row < plane.shape[1]:
                given = plane[image, row]
                for k in range(column, min(plane.shape[2], column + (width - 1 - j) // across + 1)):
                    if has_output:
                        for c in range(channels):
                            inside = (seen[j, c] > 0) & (seen[j, c] < bound)
                            to[j, c] = given[k, skip + c] if inside else 0
                    else:
                        for c in range(channels):
                            to[j, c] = given[k, skip + c]
                    j += across
            while j < width:
                to[j] = 0
                j += across


@compiled
def sums_of_lines(start: int, stop: int, x: Any, mean: Any, squared: bool, sums: Any) -> None:
    """Of each line, less a mean, squared or not."""
    for i in range(start, stop):
        line, total = x[i], np.float32(0)
        if squared:
            for j in range(line.size):
                total += (line[j] - mean) * (line[j] - mean)
        else:
            for j in range(line.size):
                total += line[j]
        sums[i] = total


@compiled
def unstandardise(
    start: int, stop: int, x: Any, mean: Any, inverse: Any, mean_of_gradient: Any, mean_of_product: Any, gradient: Any
) -> None:
    """A gradient less what moves the mean or the deviation of an image, in place."""
    for i in range(start, stop):
        line, own = x[i], gradient[i]
        for j in range(own.size):
            own[j] = (own[j] - mean_of_gradient - (line[j] - mean) * inverse * mean_of_product) * inverse


@compiled
def to_rgb(start: int, stop: int, x: Any, mean: Any, inverse: Any, colors: Any, canvas: Any) -> None:
    """Colour and sigmoid of a standardised image."""
    for i in range(start, stop):
        one, two, three = x[0, i], x[1, i], x[2, i]
        for c in range(3):
            a, b, d, to = colors[0, c] * inverse, colors[1, c] * inverse, colors[2, c] * inverse, canvas[c, i]
            for j in range(to.size):
                to[j] = 1 / (1 + exp(-(a * (one[j] - mean) + b * (two[j] - mean) + d * (three[j] - mean))))


@compiled
def from_rgb(
    start: int, stop: int, gradient: Any, canvas: Any, x: Any, mean: Any, inverse: Any, colors: Any, found: Any,
    sums: Any,
) -> None:  # fmt: skip
    """The gradient of that, and its lines' sums."""
    width = x.shape[2]
    red, green, blue = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(start, stop):
        total, product = np.float32(0), np.float32(0)
        for c, to in ((0, red), (1, green), (2, blue)):
            given, shown = gradient[c, i], canvas[c, i]
            for j in range(width):
                to[j] = given[j] * shown[j] * (1 - shown[j])
        for c in range(3):
            a, b, d, to, own = colors[c, 0], colors[c, 1], colors[c, 2], found[c, i], x[c, i]
            for j in range(width):
                to[j] = a * red[j] + b * green[j] + d * blue[j]
            for j in range(width):
                total += to[j]
            for j in range(width):
                product += to[j] * (own[j] - mean)
        sums[i, 0], sums[i, 1] = total, product * inverse


@compiled
def sin_cos(x: Any) -> Any:
    """Sine and cosine to float32's precision, by Cephes's polynomials (Moshier 1989, sinf.c)."""
    # In double precision what is left after whole quarters of a turn is right for large angles too.
    quarters = np.rint(np.float64(x) * (2 / math.pi))
    r = np.float32(np.float64(x) - quarters * (math.pi / 2))
    z = r * r
    s = ((np.float32(-1.9515295891e-4) * z + np.float32(8.3321608736e-3)) * z - np.float32(1.6666654611e-1)) * z * r + r
    c = (np.float32(2.443315711809948e-5) * z - np.float32(1.388731625493765e-3)) * z + np.float32(4.166664568298827e-2)
    c = c * z * z - np.float32(0.5) * z + np.float32(1)
    quarter = np.int64(quarters)
    if quarter & 1:
        s, c = c, s
    return -s if quarter & 2 else s, -c if (quarter + 1) & 2 else c


@compiled
def exp(x: Any) -> Any:
    """e to the power of x, to float32's precision, by Cephes's polynomial (Moshier 1989, expf.c); x is cut at +-87."""
    # Not min and max, which would make a number of a NaN.
    x = np.float32(-87) if x < -87 else x
    x = np.float32(87) if x > 87 else x
    n = np.rint(x * np.float32(1.44269504088896341))
    x = x - n * np.float32(0.693359375)
    x = x + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4) * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1)
    return y * _float_of(np.uint32((np.int32(n) + np.int32(127)) << np.int32(23)))


@compiled
def polar(
    start: int, stop: int, phase: Any, mean: Any, factor: Any, fixed: Any, has_fixed: bool, magnitude: Any,
    spectrum: Any,
) -> None:  # fmt: skip
    """Phases and magnitudes to a spectrum."""
    width = phase.shape[1]
    angle, sine, cosine = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(start, stop):
        line, length, to = phase[i], magnitude[i], spectrum[i]
        for j in range(width):
            angle[j] = (line[j] - mean) * factor
        if has_fixed:
            more = fixed[i]
            for j in range(width):
                angle[j] += more[j]
        for j in range(width):
            sine[j], cosine[j] = sin_cos(angle[j])
        # A loop of its own, or else the compiler makes no vectors of the one before.
        for j in range(width):
            to[j, 0] = length[j] * cosine[j]
            to[j, 1] = length[j] * sine[j]


@compiled
def turn(
    start: int, stop: int, change: Any, spectrum: Any, phase: Any, mean: Any, inverse: Any, std: float, middle: int,
    found: Any, sums: Any,
) -> None:  # fmt: skip
    """The gradient of that, and its lines' sums."""
    width = phase.shape[1]
    for i in range(start, stop):
        total, product = np.float32(0), np.float32(0)
        d, z, line, to = change[i], spectrum[i], phase[i], found[i]
        # Turning a phase by an angle adds i * spectrum * angle. A bin stands for itself and for its mirror image, but
        # for those of the columns 0 and W/2, which are their own.
        for j in range(width):
            to[j] = (d[j, 1] * z[j, 0] - d[j, 0] * z[j, 1]) * np.float32(2 * std)
        to[0] *= np.float32(0.5)
        for j in range(middle, width):
            to[j] *= np.float32(0.5)
        for j in range(width):
            total += to[j]
        for j in range(width):
            product += to[j] * (line[j] - mean)
        sums[i, 0], sums[i, 1] = total, product * inverse


@compiled
def _taps(first: float, step: float, count: int, size: int, border: bool) -> Any:
    """The two lines of a canvas of `size` between which each line of a view lies, and the weights of both: (N, 2) each.

    The two follow one another, or are the same, at the edge.
    """
    place, weight = np.empty((count, 2), np.int64), np.empty((count, 2), np.float32)
    for i in range(count):
        at = first + step * i
        if border:
            at = min(max(at, 0.0), size - 1.0)
        before = math.floor(at)
        for k in range(2):
            line = before + k
            place[i, k] = min(max(line, 0), size - 1)
            weight[i, k] = 1 - abs(at - line) if 0 <= line < size else 0
    return place, weight


@compiled
def upright(start: int, stop: int, canvas: Any, first: Any, step: Any, border: bool, views: Any) -> None:
    """Views, a row after the other."""
    _, channels, height, width = canvas.shape
    rows, columns = views.shape[2], views.shape[3]
    each = len(views) // len(canvas)
    # An even and an odd row of the canvas, at the view's columns, and which they are.
    kept, which = np.empty((2, columns), np.float32), np.empty(2, np.int64)
    for number in range(start, stop):
        view, c = number // channels, number % channels
        down, down_weight = _taps(first[view, 0], step[view, 0], rows, height, border)
        across, across_weight = _taps(first[view, 1], step[view, 1], columns, width, border)
        which[:] = -1
        for i in range(rows):
            for k in range(2):
                line = down[i, k]
                if which[line % 2] != line:
                    which[line % 2] = line
                    source, to = canvas[view // each, c, line], kept[line % 2]
                    for j in range(columns):
                        to[j] = across_weight[j, 0] * source[across[j, 0]] + across_weight[j, 1] * source[across[j, 1]]
            one, other, to = kept[down[i, 0] % 2], kept[down[i, 1] % 2], views[view, c, i]
            a, b = down_weight[i, 0], down_weight[i, 1]
            for j in range(columns):
                to[j] = a * one[j] + b * other[j]


@compiled
def upright_gradient(start: int, stop: int, gradient: Any, first: Any, step: Any, border: bool, found: Any) -> None:
    """The gradient of that."""
    _, channels, height, width = found.shape
    rows, columns = gradient.shape[2], gradient.shape[3]
    each = len(gradient) // len(found)
    # The gradient at the canvas's rows and the view's columns; which columns of the view read a column of the canvas.
    sums = np.empty((height, columns), np.float32)
    counts = np.empty(width, np.int64)
    for number in range(start, stop):
        unit, c = number // channels, number % channels
        found[unit, c] = 0
        for view in range(unit * each, unit * each + each):
            down, down_weight = _taps(first[view, 0], step[view, 0], rows, height, border)
            across, across_weight = _taps(first[view, 1], step[view, 1], columns, width, border)
            top, bottom, left, right = down.min(), down.max() + 1, across.min(), across.max() + 1
            sums[top:bottom] = 0
            for i in range(rows):
                given = gradient[view, c, i]
                for k in range(2):
                    factor, to = down_weight[i, k], sums[down[i, k]]
                    if factor != 0:
                        for j in range(columns):
                            to[j] += factor * given[j]
            # Each column of the canvas adds up what read it, as many as the one that most did; the rest count nothing.
            counts[:] = 0
            for j in range(columns):
                for k in range(2):
                    counts[across[j, k]] += across_weight[j, k] != 0
            most = counts[left:right].max()
            source, share_of = np.zeros((most, right - left), np.int64), np.zeros((most, right - left), np.float32)
            for j in range(columns):
                for k in range(2):
                    x, factor = across[j, k], across_weight[j, k]
                    if factor != 0:
                        counts[x] -= 1
                        source[counts[x], x - left], share_of[counts[x], x - left] = j, factor
            for i in range(top, bottom):
                line, to = sums[i], found[unit, c, i, left:right]
                for k in range(most):
                    at, factors = source[k], share_of[k]
                    for x in range(to.size):
                        to[x] += factors[x] * line[at[x]]
