"""Where the pixels of one exposure lie on another: affine maps, fitted to pairs of places."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float64]
"""(n, 2), row and column of each place, whole numbers at the middles of pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Pixel p = (row, col) of an exposure lies at matrix @ p + shift_px of the reference."""

    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    shift_px: tuple[float, float] = (0.0, 0.0)

    @property
    def is_shift(self) -> bool:
        """Whether the exposure is neither turned nor stretched."""
        return self.matrix == ((1.0, 0.0), (0.0, 1.0))

    @property
    def scale(self) -> float:
        """Pixels of the reference along a side of one of the exposure's."""
        return float(np.sqrt(abs(np.linalg.det(np.asarray(self.matrix)))))

    def rounded(self) -> "Geometry":
        """Leave out digits that mean nothing: 1e-4 px, and as much over a thousand pixels.

        Triangles of stars are tried in an order that chance decides; what comes of it may differ
        in the last digits, and must not decide pixels.
        """
        (a, b), (c, d) = (tuple(round(value, 7) for value in row) for row in self.matrix)
        row, col = (round(value, 4) for value in self.shift_px)
        return Geometry(((a, b), (c, d)), (row, col))

    def after(self, first: "Geometry") -> "Geometry":
        """Do another geometry first, then this one."""
        matrix = np.asarray(self.matrix) @ np.asarray(first.matrix)
        row, col = (
            np.asarray(self.matrix) @ np.asarray(first.shift_px) + np.asarray(self.shift_px)
        ).tolist()
        (a, b), (c, d) = matrix.tolist()
        return Geometry(((a, b), (c, d)), (row, col))

    def to_reference(self, places: Places) -> Places:
        """Places of the exposure as places of the reference."""
        mapped: Places = places @ np.asarray(self.matrix).T + np.asarray(self.shift_px)
        return mapped

    def to_exposure(self, places: Places) -> Places:
        """Places of the reference as places of the exposure."""
        inverse = np.linalg.inv(np.asarray(self.matrix))
        mapped: Places = (places - np.asarray(self.shift_px)) @ inverse.T
        return mapped


def fit_affine(places: Places, reference: Places) -> Geometry:
    """Fit a map with six numbers by least squares; three pairs or more that are on no line."""
    design = np.column_stack([places, np.ones(len(places))])
    solution = np.linalg.lstsq(design, reference, rcond=None)[0]
    (a, c), (b, d), (row, col) = solution.tolist()
    return Geometry(((a, b), (c, d)), (row, col))


def fit_similarity(places: Places, reference: Places, weights: NDArray[np.float64]) -> Geometry:
    """Fit a turn, a stretch and a shift by weighted least squares; two pairs or more.

    With u = row + i col the map is u' = z u + w; z and w are complex.
    """
    source, target = (found[:, 0] + 1j * found[:, 1] for found in (places, reference))
    middle, aim = (np.average(u, weights=weights) for u in (source, target))
    moved = source - middle
    z = np.sum(weights * moved.conj() * (target - aim)) / np.sum(weights * np.abs(moved) ** 2)
    w = aim - z * middle
    return Geometry(
        ((float(z.real), float(-z.imag)), (float(z.imag), float(z.real))),
        (float(w.real), float(w.imag)),
    )


def fit_shift(places: Places, reference: Places, weights: NDArray[np.float64]) -> Geometry:
    """Fit a shift alone by the weighted mean."""
    row, col = np.average(reference - places, axis=0, weights=weights).tolist()
    return Geometry(shift_px=(row, col))
