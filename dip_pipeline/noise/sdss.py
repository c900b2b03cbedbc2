"""Error plane of an SDSS frame: photons of light and sky, dark current and reading of its CCD.

    error = calibration * sqrt((image / calibration + sky) / gain + dark variance)

SDSS data model, file frame. Gain and dark variance are those of the CCD, by column of the camera
and filter; some changed with the run.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import (
    Frame,
    Pixels,
    PixelsOver,
    SdssCalibration,
    around,
    read_sdss_calibration,
)
from dip_pipeline.sensor.smooth_level import LEVEL_PX, level_for_noise

_FILTERS = "ugriz"

# Electrons per DN and dark variance (DN^2) by column of the camera, one to six; filters ugriz.
_GAIN = (
    (1.62, 3.32, 4.71, 5.165, 4.745),
    (1.595, 3.855, 4.6, 6.565, 5.155),
    (1.59, 3.845, 4.72, 4.86, 4.885),
    (1.6, 3.995, 4.76, 4.885, 4.775),
    (1.47, 4.05, 4.725, 4.64, 3.48),
    (2.17, 4.035, 4.895, 4.76, 4.69),
)
_DARK = (
    (9.61, 15.6025, 1.8225, 7.84, 0.81),
    (12.6025, 1.44, 1.0, 5.76, 1.0),
    (8.7025, 1.3225, 1.3225, 4.6225, 1.0),
    (12.6025, 1.96, 1.3225, 6.25, 9.61),
    (9.3025, 1.1025, 0.81, 7.84, 1.8225),
    (7.0225, 1.8225, 0.9025, 5.0625, 1.21),
)
# From these runs on: (column, filter) and the new number.
_GAIN_SINCE = (1100, {(2, "u"): 1.825})
_DARK_SINCE = (1500, {(2, "i"): 6.25, (4, "i"): 7.5625, (4, "z"): 12.6025, (5, "z"): 2.1025})


@dataclass(frozen=True, slots=True)
class SdssPixels(PixelsOver):
    """Pixels of an SDSS frame, with the error plane that its calibration gives."""

    path: Path
    shape: tuple[int, int]
    gain: float
    dark_variance: float

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region; its errors do not depend on what else is read."""
        wide, inner = around(rows, cols, self.shape, LEVEL_PX // 2)
        pixels = self.inner.read(*wide)
        known = _calibration(self.path, self.shape)
        scale, sky = known.calibration[cols], known.sky_of(rows, cols)

        def sigma_of(nanomaggies: NDArray[np.float64]) -> NDArray[np.float64]:
            dn = np.maximum(nanomaggies / scale + sky, 0.0)
            sigma: NDArray[np.float64] = scale * np.sqrt(dn / self.gain + self.dark_variance)
            return sigma

        level = level_for_noise(pixels.science, ~pixels.masked, inner, sigma_of)
        return replace(pixels.cut(inner), error=sigma_of(level).astype(np.float32))


def with_sdss_noise(frame: Frame) -> Frame:
    """Give an SDSS frame its error plane. Raises FrameError where its cards do not name the CCD."""
    run, column = (frame.header.get(keyword) for keyword in ("RUN", "CAMCOL"))
    band = str(frame.header.get("FILTER", "")).strip().lower()
    if not isinstance(run, int) or column not in range(1, 7) or band not in tuple(_FILTERS):
        raise FrameError(
            f"{frame.path}: RUN {run}, CAMCOL {column}, FILTER {band!r} name no CCD of SDSS; "
            "give a noise plane with --err, or --sigma"
        )
    gain, dark = numbers_of(run, int(str(column)), band)
    read_sdss_calibration(frame.path, frame.shape)
    return replace(
        frame,
        source=SdssPixels(frame.source, frame.path.absolute(), frame.shape, gain, dark),
        has_error_plane=True,
        noise_words=f"calibration and sky of the SDSS frame (gain {gain} e/DN, dark variance "
        f"{dark} DN^2 of CCD {band}{column})",
    )


def numbers_of(run: int, column: int, band: str) -> tuple[float, float]:
    """Gain in electrons per DN and dark variance in DN^2 of one CCD in one run."""
    place = _FILTERS.index(band)
    numbers = []
    for table, (since, changed) in ((_GAIN, _GAIN_SINCE), (_DARK, _DARK_SINCE)):
        number = table[column - 1][place]
        numbers.append(changed.get((column, band), number) if run >= since else number)
    return numbers[0], numbers[1]


@lru_cache(maxsize=4)
def _calibration(path: Path, shape: tuple[int, int]) -> SdssCalibration:
    return read_sdss_calibration(path, shape)
