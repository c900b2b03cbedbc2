"""Errors of aperture sums on restored frames: what they are, and what two planes say of them.

    python -m benchmarks.apertures --seeds 1,3 --out benchmarks/results/apertures.json

Fields of 512 x 512 px without defects are restored. In circular apertures at stars, and anywhere,
the error of the sum (restored less true light) is held against the noise plane that `dip noise`
writes of the input, in quadrature (for correlated noise times NOISESUM), and against DIP_ERR in
quadrature, as if its pixels were independent, which they are not. Sums of the observed frame stand
beside. 1 is an error that is as large as told: the half-width that holds 68 % of the sums.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from photutils.aperture import CircularAperture

from benchmarks.fields import Field, FieldKind, draw, draw_without_defects
from benchmarks.machine import keep
from benchmarks.ours import run_config, with_dip, write_field
from benchmarks.restored import Settings
from dip_pipeline.noise_planes import write_noise_planes

Values = NDArray[np.float64]

RADII_PX = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
SNR_EDGES = (5.0, 10.0, 30.0, 100.0, np.inf)
KINDS = (FieldKind.CROWDED, FieldKind.GALAXIES, FieldKind.NEBULA, FieldKind.CORRELATED)
_ANYWHERE = 4000
_MARGIN_PX = 14.0
_FEWEST = 15
_HELD = 0.683


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums in apertures: errors of both frames, and what the planes say of them; frame's unit."""

    restored: Values
    observed: Values
    noise: Values
    dip_err: Values

    def of(self, which: NDArray[np.bool_]) -> "Sums":
        """Take some of them."""
        parts = self.restored, self.observed, self.noise, self.dip_err
        return Sums(*(part[which] for part in parts))

    @classmethod
    def joined(cls, several: list["Sums"]) -> "Sums":
        """Put those of several fields together."""
        names = ("restored", "observed", "noise", "dip_err")
        return cls(*(np.concatenate([getattr(each, name) for each in several]) for name in names))


def noise_plane(field: Field, settings: Settings) -> tuple[Values, float]:
    """Write the noise of a field as `dip noise` does; its plane, and NOISESUM."""
    with tempfile.TemporaryDirectory() as folder:
        source = write_field(field, Path(folder) / "field.fits")
        target = Path(folder) / "noise.fits"
        write_noise_planes(str(source), target, run_config(field, settings, {}))
        plane, header = fits.getdata(target, header=True)
        return np.asarray(plane, np.float64), float(header["NOISESUM"])


def sums_by_place(field: Field, settings: Settings) -> Iterator[tuple[tuple[str, float], Sums]]:
    """Restore a field and measure it: by place (anywhere, or S/N of the star) and radius."""
    restored = with_dip(field, settings)
    assert restored.error is not None
    sigma, factor = noise_plane(field, settings)
    off = [
        np.asarray(p, np.float64) - field.truth.level for p in (restored.science, field.observed)
    ]
    stars = field.truth.stars
    assert stars is not None
    for radius in RADII_PX:
        for name, places, flux in (
            ("anywhere", _anywhere(field), None),
            ("star", np.column_stack([stars["col"], stars["row"]]), stars["flux_dn"]),
        ):
            inside = np.all((places > _MARGIN_PX) & (places < len(sigma) - _MARGIN_PX), axis=1)
            aperture = CircularAperture(places[inside], radius)
            sums, noise = aperture.do_photometry(off[0], error=sigma)
            seen, dip_err = aperture.do_photometry(off[1], error=np.asarray(restored.error))
            own = Sums(sums, seen, factor * noise, dip_err)
            known = np.isfinite(noise) & np.isfinite(dip_err)
            if flux is None:
                yield (name, radius), own.of(known)
                continue
            snr = flux[inside] / noise
            for low, high in pairwise(SNR_EDGES):
                yield (_snr_words(low, high), radius), own.of(known & (snr >= low) & (snr < high))


def rows(kind: FieldKind, seeds: list[int], settings: Settings) -> list[dict[str, object]]:
    """Ratios of what errors are to what is told of them, all seeds together."""
    found: dict[tuple[str, float], list[Sums]] = defaultdict(list)
    for seed in seeds:
        # Defects would leave NaN in apertures; fields of correlated noise come without.
        drawn = draw if kind is FieldKind.CORRELATED else draw_without_defects
        for at, own in sums_by_place(drawn(kind, seed), settings):
            found[at].append(own)
    table: list[dict[str, object]] = []
    for (place, radius), several in found.items():
        sums = Sums.joined(several)
        if sums.restored.size < _FEWEST:
            continue
        table.append(
            {
                "field": str(kind),
                "place": place,
                "radius_px": radius,
                "apertures": int(sums.restored.size),
                "restored_over_noise": _width(sums.restored / sums.noise),
                "observed_over_noise": _width(sums.observed / sums.noise),
                "restored_over_dip_err": _width(sums.restored / sums.dip_err),
                "median_offset_in_noise": round(float(np.median(sums.restored / sums.noise)), 3),
            }
        )
    return table


def _anywhere(field: Field) -> Values:
    rng = np.random.default_rng(field.seed)
    return rng.uniform(_MARGIN_PX, len(field.observed) - _MARGIN_PX, (_ANYWHERE, 2))


def _snr_words(low: float, high: float) -> str:
    return f"star of S/N {low:g} to {high:g}" if np.isfinite(high) else f"star of S/N above {low:g}"


def _width(scores: Values) -> float:
    return round(float(np.quantile(np.abs(scores), _HELD)), 3)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,3")
    parser.add_argument("--fields", default=",".join(KINDS))
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings = Settings(effort=asked.effort, threads=asked.threads)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    table: list[dict[str, object]] = []
    for name in asked.fields.split(","):
        for row in rows(FieldKind(name), seeds, settings):
            print(
                f"{row['field']}, {row['place']}, r = {row['radius_px']} px ({row['apertures']}): "
                f"error over noise {row['restored_over_noise']:.2f} (observed frame "
                f"{row['observed_over_noise']:.2f}), over DIP_ERR "
                f"{row['restored_over_dip_err']:.2f}",
                flush=True,
            )
            table.append(row)
    if asked.out:
        keep(asked.out, "benchmarks.apertures", effort=asked.effort, seeds=seeds, rows=table)


if __name__ == "__main__":
    main()
