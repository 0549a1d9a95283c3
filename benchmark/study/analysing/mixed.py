"""A mixed-effects logistic model: rows of right and wrong answers in, fixed effects with their covariance out.

logit P(right) = X b + a random intercept for each level of each grouping factor (participants, units), the intercepts
normal with mean 0. The likelihood is integrated over them by Laplace's approximation and maximised, as lme4's `glmer`
does (Bates et al. 2015; Breslow and Clayton 1993); `tests/benchmark/study/test_mixed.py` compares with it.

The Python libraries that fit such models were measured on simulated studies and set aside: the standard errors of
statsmodels' `BinomialBayesMixedGLM` are those of a factorised posterior (its 95 % intervals hold the truth in a third
to two thirds of 60 studies) or come from an optimiser that did not converge; GPBoost gives none where its Hessian is
not positive definite, in four of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special, stats
from threadpoolctl import threadpool_limits

from featvis.errors import UserError

Vector = NDArray[np.float64]
SMALLEST, LARGEST = -6.0, 3.0
"""Of the logarithm of a deviation: between e^-6, which is none, and e^3."""
STEPS, TOLERANCE = 50, 1e-10
STEP = 1e-4
"""Of the differences that the Hessian is made of."""


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        names: of the fixed effects.
        effects: their estimates, on the logit scale.
        covariance: of the estimates, from the Hessian of the approximate likelihood.
        deviations: of the random intercepts, a number a factor.
        loglikelihood: the approximate one.
        converged: whether the optimiser says so.
    """

    names: tuple[str, ...]
    effects: Vector
    covariance: Vector
    deviations: Vector
    loglikelihood: float
    converged: bool

    @property
    def errors(self) -> Vector:
        """Standard errors of the effects."""
        errors: Vector = np.sqrt(np.diag(self.covariance))
        return errors

    def contrast(self, weights: Sequence[float] | Vector) -> tuple[float, float, float]:
        """A weighted sum of the effects: its estimate, its standard error, and the two-sided p of Wald's test."""
        w = np.asarray(weights, dtype=float)
        value, error = float(w @ self.effects), float(np.sqrt(w @ self.covariance @ w))
        return value, error, float(2 * stats.norm.sf(abs(value) / error)) if error > 0 else float("nan")


class _Likelihood:
    """The negative logarithm of the approximate likelihood and its gradient."""

    def __init__(self, y: Vector, x: Vector, groups: NDArray[np.int64], sizes: Sequence[int]) -> None:
        self.y, self.x, self.sizes = y, x, list(sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        self.columns = groups + starts  # (n, factors): which intercepts a row has
        self.factor = np.repeat(np.arange(len(sizes)), sizes)
        self.total = int(sum(sizes))
        self.mode = np.zeros(self.total)
        pairs = [(k, m) for k in range(len(sizes)) for m in range(len(sizes))]
        self.pairs = [(k, m, self.columns[:, k] * self.total + self.columns[:, m]) for k, m in pairs]

    def _sums(self, rows: Vector) -> Vector:
        """Z' of a vector, or of each column of a matrix."""
        if rows.ndim == 2:
            return np.stack([self._sums(rows[:, j]) for j in range(rows.shape[1])], axis=1)
        found = np.zeros(self.total)
        for k in range(len(self.sizes)):
            found += np.bincount(self.columns[:, k], rows, self.total)
        return found

    def _curvature(self, weights: Vector, scale: Vector) -> Vector:
        found = np.zeros(self.total * self.total)
        for _, _, index in self.pairs:
            found += np.bincount(index, weights, self.total * self.total)
        matrix: Vector = found.reshape(self.total, self.total) * np.outer(scale, scale)
        matrix[np.diag_indices(self.total)] += 1
        return matrix

    def _state(self, u: Vector, fixed: Vector, scale: Vector) -> tuple[Vector, float]:
        eta = fixed + (u * scale)[self.columns].sum(1)
        # log(1 + exp(eta)) without overflow
        return eta, float(self.y @ eta - np.logaddexp(0, eta).sum() - u @ u / 2)

    def __call__(self, parameters: Vector) -> tuple[float, Vector]:
        count = self.x.shape[1]
        effects, logs = parameters[:count], parameters[count:]
        scale, fixed = np.exp(logs)[self.factor], self.x @ effects
        u = self.mode
        eta, height = self._state(u, fixed, scale)
        for _ in range(STEPS):
            p = special.expit(eta)
            slope = scale * self._sums(self.y - p) - u
            root = linalg.cho_factor(self._curvature(p * (1 - p), scale))
            step = linalg.cho_solve(root, slope)
            size = 1.0
            while True:
                new = u + size * step
                eta_new, height_new = self._state(new, fixed, scale)
                if height_new >= height - 1e-12 or size < 1e-6:
                    break
                size /= 2
            u, eta, height = new, eta_new, height_new
            if float(slope @ step) < TOLERANCE:
                break
        self.mode = u
        p = special.expit(eta)
        weights = p * (1 - p)
        root = linalg.cho_factor(self._curvature(weights, scale))
        inverse = linalg.cho_solve(root, np.eye(self.total))
        value = height - np.log(np.diag(root[0])).sum()
        return -value, -self._gradient(u, p, weights, scale, inverse)

    def _gradient(self, u: Vector, p: Vector, weights: Vector, scale: Vector, inverse: Vector) -> Vector:
        residual = self.y - p
        # How much each row's weight moves the logarithm of the determinant.
        scaled = inverse * np.outer(scale, scale)
        leverage = sum(scaled[self.columns[:, k], self.columns[:, m]] for k, m, _ in self.pairs)
        third = weights * (1 - 2 * p)
        pull = scale * self._sums(residual)
        factors = range(len(self.sizes))
        parts = (u * scale)[self.columns]
        # What each parameter does to eta while u stays, and what u does then.
        direct = np.column_stack([self.x, parts])
        moved = -scale[:, None] * self._sums(weights[:, None] * direct)
        for k in factors:
            moved[:, self.x.shape[1] + k] += np.where(self.factor == k, pull, 0.0)
        response = inverse @ moved
        total = direct + sum((response * scale[:, None])[self.columns[:, k]] for k in factors)
        gradient = direct.T @ residual - 0.5 * (leverage * third) @ total
        own = 1 - np.diag(inverse)
        for k in factors:
            gradient[self.x.shape[1] + k] -= own[self.factor == k].sum()
        return np.asarray(gradient)


# The matrices are small: further threads of the linear algebra's cost several times what they save.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit(y: Vector, x: Vector, groups: NDArray[np.int64], names: Sequence[str]) -> Fit:
    """Fit the model.

    Args:
        y: (n,) 0 or 1.
        x: (n, effects) the fixed effects' design, an intercept included.
        groups: (n, factors) the level of each grouping factor, whole numbers from 0.
        names: of the effects.

    Returns:
        The fit; where answers are all right or all wrong in a cell of the design, its effect runs away, and its
        standard error says so.

    Raises:
        UserError: for fewer rows than effects, or effects that cannot be told apart.
    """
    y, x = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    if len(y) <= x.shape[1] or np.linalg.matrix_rank(x) < x.shape[1]:
        raise UserError(
            f"the model's {x.shape[1]} effects cannot be told apart by {len(y)} answers: a cell may have none"
        )
    levels = [np.unique(groups[:, k], return_inverse=True) for k in range(groups.shape[1])]
    coded = np.stack([inverse for _, inverse in levels], axis=1).astype(np.int64)
    likelihood = _Likelihood(y, x, coded, [len(values) for values, _ in levels])
    count = x.shape[1]
    start = np.concatenate([np.zeros(count), np.full(groups.shape[1], np.log(0.5))])
    bounds = [(-15.0, 15.0)] * count + [(SMALLEST, LARGEST)] * groups.shape[1]
    found = optimize.minimize(
        likelihood,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6},
    )
    hessian = np.empty((len(start), len(start)))
    for i in range(len(start)):
        ends = []
        for sign in (1, -1):
            at = found.x.copy()
            at[i] += sign * STEP
            ends.append(likelihood(at)[1])
        hessian[i] = (ends[0] - ends[1]) / (2 * STEP)
    hessian = (hessian + hessian.T) / 2
    # A deviation at its end is held there: it has no curvature to share.
    free = [i for i in range(len(start)) if i < count or SMALLEST + 0.5 < found.x[i] < LARGEST - 0.1]
    inverse: Vector = np.asarray(np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True), dtype=np.float64)
    covariance = inverse[:count, :count]
    deviations = np.exp(found.x[count:])
    return Fit(tuple(names), found.x[:count], covariance, deviations, -float(found.fun), bool(found.success))
