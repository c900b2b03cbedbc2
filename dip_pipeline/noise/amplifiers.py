"""Error plane of a frame whose amplifiers differ: numbers of each, light of the frame."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames import Frame, Pixels, PixelsOver, around
from dip_pipeline.sensor import Sensor
from dip_pipeline.sensor.noise_sigma import exposures_combined
from dip_pipeline.sensor.smooth_level import LEVEL_PX, level_for_noise


@dataclass(frozen=True, slots=True)
class AmplifierPixels(PixelsOver):
    """Pixels of another source, with an error plane made of the sensor's numbers."""

    shape: tuple[int, int]
    sensor: Sensor

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region; its errors do not depend on what else is read."""
        wide, inner = around(rows, cols, self.shape, LEVEL_PX // 2)
        pixels = self.inner.read(*wide)
        sigma = partial(self._sigma, rows=rows, cols=cols)
        level = level_for_noise(pixels.science, ~pixels.masked, inner, sigma)
        return replace(pixels.cut(inner), error=sigma(level).astype(np.float32))

    def _sigma(self, level: NDArray[np.float64], rows: slice, cols: slice) -> NDArray[np.float64]:
        """sqrt((max(level - pedestal + subtracted sky, 0) / gain + (read noise / gain)^2) / n).

        What is of no amplifier is overscan: no light, and the mean of their read noises.
        """
        sensor = self.sensor
        pedestal = sensor.pedestal_dn.value if sensor.pedestal_dn else 0.0
        sky = sensor.subtracted_sky_dn.value if sensor.subtracted_sky_dn else 0.0
        known = [(amp.gain, amp.read_noise) for amp in sensor.amplifiers if amp.read_noise]
        gain = np.full_like(level, np.mean([each.value for each, _ in known]))
        noise = np.full_like(level, np.mean([each.value for _, each in known]))
        zero = np.full_like(level, np.inf)
        for amp in sensor.amplifiers:
            if amp.section is None or amp.read_noise is None:
                continue
            part = tuple(
                slice(max(0, own.start - bound.start), max(0, own.stop - bound.start))
                for own, bound in zip(amp.section, (rows, cols), strict=True)
            )
            gain[part], noise[part] = amp.gain.value, amp.read_noise.value
            zero[part] = pedestal if amp.pedestal is None else amp.pedestal.value
        light = np.maximum(level - zero + sky, 0.0)
        variance = (light / gain + (noise / gain) ** 2) / exposures_combined(sensor)
        sigma: NDArray[np.float64] = np.sqrt(variance)
        return sigma


def with_amplifiers(frame: Frame, sensor: Sensor) -> Frame:
    """Give a frame the error plane of its amplifiers."""
    names = ", ".join(amp.name for amp in sensor.amplifiers)
    return replace(
        frame,
        source=AmplifierPixels(frame.source, frame.shape, sensor),
        has_error_plane=True,
        relative_noise=False,
        noise_words=f"cards of amplifiers {names}",
    )
