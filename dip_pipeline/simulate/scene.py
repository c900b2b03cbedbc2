"""What is in the sky, apart from how it is sampled: one Scene can be drawn on any grid."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ConfigError
from dip_pipeline.simulate.extended import GALAXY, Nebula, add_galaxy, draw_nebula
from dip_pipeline.simulate.psf import MoffatPsf, add_star

STAR = np.dtype([("row", "f8"), ("col", "f8"), ("flux_dn", "f8")])
BRIGHT_STAR_DN = 4e6  # saturates a 16-bit detector over about 20 pixels
MARGIN_PX = 12  # sources are drawn this far beyond the frame: their wings reach into it


class SceneKind(StrEnum):
    """The kinds of sky that can be drawn."""

    CROWDED = "crowded"  # a crowded star field around a loose cluster
    GALAXIES = "galaxies"  # galaxies and stars behind faint cirrus
    NEBULA = "nebula"  # filaments, low surface brightness, some stars


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """What to draw; the same options give the same scene.

    shape : (rows, cols) of the frame in nominal pixels
    sky_dn : level of the empty sky, DN per nominal pixel
    saturated_star : whether one star far above any detector's range is in the field
    """

    kind: SceneKind | str = SceneKind.CROWDED
    shape: tuple[int, int] = (512, 512)
    seed: int = 0
    sky_dn: float = 200.0
    psf: MoffatPsf = field(default_factory=MoffatPsf)
    saturated_star: bool = True

    def __post_init__(self) -> None:
        if self.kind not in set(SceneKind):
            kinds = ", ".join(SceneKind)
            raise ConfigError(f"scene kind {self.kind!r}: need one of {kinds}")
        if min(self.shape) < 1:
            raise ConfigError(f"scene shape {self.shape}: need at least one row and one column")
        if not (np.isfinite(self.sky_dn) and self.sky_dn >= 0):
            raise ConfigError(f"sky_dn={self.sky_dn:g}: need zero or a positive level")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Sources and background of a field, free of any pixel grid.

    stars : dtype STAR, galaxies : dtype GALAXY; positions in nominal pixels, whole numbers at
    pixel centres; some lie just outside the frame.
    """

    options: SceneOptions
    stars: NDArray[np.void]
    galaxies: NDArray[np.void]
    nebula: Nebula | None = None

    def signal(self, oversample: int = 1) -> NDArray[np.float64]:
        """Noiseless light of all sources in each (fine) pixel, without the sky, DN.

        oversample : fine pixels per nominal pixel and axis. Sums over oversample x oversample
        fine pixels give the nominal frame again.
        """
        rows, cols = self.options.shape
        image = np.zeros((rows * oversample, cols * oversample))
        for star in self.stars:
            place = (float(star["row"]), float(star["col"]))
            flux_dn = float(star["flux_dn"])
            add_star(image, place, flux_dn, psf=self.options.psf, oversample=oversample)
        for galaxy in self.galaxies:
            add_galaxy(image, galaxy, psf=self.options.psf, oversample=oversample)
        if self.nebula is not None:
            image += self.nebula.render(self.options.shape, oversample)
        return image

    def render(self, oversample: int = 1) -> NDArray[np.float64]:
        """Noiseless level of each (fine) pixel, sky included, DN."""
        return self.signal(oversample) + self.options.sky_dn / oversample**2

    def stars_inside(self) -> NDArray[np.void]:
        """Stars whose centres lie in the frame, brightest first."""
        rows, cols = self.options.shape
        inside = (np.abs(self.stars["row"] - (rows - 1) / 2) <= (rows - 1) / 2) & (
            np.abs(self.stars["col"] - (cols - 1) / 2) <= (cols - 1) / 2
        )
        found = self.stars[inside]
        return found[np.argsort(-found["flux_dn"], kind="stable")]


def draw_scene(options: SceneOptions) -> Scene:
    """Draw the sources of a scene from its seed."""
    kind = SceneKind(options.kind)
    rng = np.random.default_rng([options.seed, list(SceneKind).index(kind)])
    stars, galaxies, nebula = RECIPES[kind](options, rng)
    if options.saturated_star:
        place = rng.uniform(0.15, 0.85, 2) * options.shape
        stars = np.append(stars, np.array([(*place, BRIGHT_STAR_DN)], dtype=STAR))
    return Scene(options, stars, galaxies, nebula)


Sources = tuple[NDArray[np.void], NDArray[np.void], Nebula | None]


def _crowded(options: SceneOptions, rng: np.random.Generator) -> Sources:
    field_stars = _draw_stars(options, 7.0, rng)
    cluster = _draw_stars(options, 3.0, rng)
    # A loose cluster: the scatter of each axis is a sixth of the frame, off the centre.
    for axis, size in (("row", options.shape[0]), ("col", options.shape[1])):
        cluster[axis] = rng.normal(rng.uniform(0.4, 0.6) * size, size / 6, cluster.size)
    unresolved = draw_nebula(options.shape, 12.0, filaments=0.2, psf=options.psf, rng=rng)
    return np.concatenate([field_stars, cluster]), np.zeros(0, GALAXY), unresolved


def _galaxies(options: SceneOptions, rng: np.random.Generator) -> Sources:
    stars = _draw_stars(options, 1.5, rng)
    galaxies = np.concatenate([_draw_galaxies(options, 0.6, rng), _grand_spiral(options, rng)])
    cirrus = draw_nebula(options.shape, 12.0, filaments=0.35, psf=options.psf, rng=rng)
    return stars, galaxies, cirrus


def _nebula(options: SceneOptions, rng: np.random.Generator) -> Sources:
    nebula = draw_nebula(options.shape, 260.0, filaments=0.85, psf=options.psf, rng=rng)
    return _draw_stars(options, 1.2, rng), _draw_galaxies(options, 0.05, rng), nebula


RECIPES: dict[SceneKind, Callable[[SceneOptions, np.random.Generator], Sources]] = {
    SceneKind.CROWDED: _crowded,
    SceneKind.GALAXIES: _galaxies,
    SceneKind.NEBULA: _nebula,
}


def _draw_stars(
    options: SceneOptions, per_thousand_px: float, rng: np.random.Generator
) -> NDArray[np.void]:
    """Stars spread evenly, their numbers above a flux falling as flux ** -0.65."""
    rows, cols = _positions(options, per_thousand_px, rng)
    stars = np.zeros(rows.size, STAR)
    stars["row"], stars["col"] = rows, cols
    stars["flux_dn"] = _power_law(30.0, 1e5, 0.65, rows.size, rng)
    return stars


def _draw_galaxies(
    options: SceneOptions, per_thousand_px: float, rng: np.random.Generator
) -> NDArray[np.void]:
    """Galaxies spread evenly; brighter ones larger, with scatter."""
    rows, cols = _positions(options, per_thousand_px, rng)
    galaxies = np.zeros(rows.size, GALAXY)
    galaxies["row"], galaxies["col"] = rows, cols
    flux_dn = _power_law(300.0, 1e5, 0.6, rows.size, rng)
    galaxies["flux_dn"] = flux_dn
    scatter = np.exp(0.35 * rng.standard_normal(rows.size))
    galaxies["radius_px"] = np.clip(2.2 * (flux_dn / 1000) ** 0.3 * scatter, 1.0, 14.0)
    galaxies["sersic_n"] = rng.choice([0.6, 1.0, 1.0, 1.5, 2.5, 4.0], rows.size)
    galaxies["ellipticity"] = rng.uniform(0.0, 0.7, rows.size)
    galaxies["angle_rad"] = rng.uniform(0.0, np.pi, rows.size)
    return galaxies


def _grand_spiral(options: SceneOptions, rng: np.random.Generator) -> NDArray[np.void]:
    """One large spiral, a disc and a bulge, in frames that have room for it."""
    size = min(options.shape)
    if size < 128:
        return np.zeros(0, GALAXY)
    row, col = rng.uniform(0.3, 0.7, 2) * options.shape
    angle = rng.uniform(0.0, np.pi)
    radius_px = size / 17
    disc_dn = 180.0 * radius_px**2
    disc = (row, col, disc_dn, radius_px, 0.9, 0.35, angle, 0.75)
    bulge = (row, col, 0.08 * disc_dn, radius_px / 8, 2.0, 0.15, angle, 0.0)
    return np.array([disc, bulge], dtype=GALAXY)


def _positions(
    options: SceneOptions, per_thousand_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    height, width = (size + 2 * MARGIN_PX for size in options.shape)
    count = rng.poisson(per_thousand_px * height * width / 1000)
    rows = rng.uniform(-MARGIN_PX - 0.5, height - MARGIN_PX - 0.5, count)
    return rows, rng.uniform(-MARGIN_PX - 0.5, width - MARGIN_PX - 0.5, count)


def _power_law(
    low: float, high: float, slope: float, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Values between low and high whose number above x falls as x ** -slope."""
    share = rng.uniform(size=count)
    values: NDArray[np.float64] = (low**-slope + share * (high**-slope - low**-slope)) ** (
        -1 / slope
    )
    return values
