"""How finely a compressed output is stored: as the noise of its input demands, and no finer."""

from pathlib import Path

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import Frame, Pixels, output_kind
from dip_pipeline.preparing.planning import fit_options, fit_windows
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_at

_QUIET_SHARE = 10.0  # percent of the pixels may have a noise below the one that the step is of


def storage_step(
    target: Path, frame: Frame, noise: NoiseModel, config: RunConfig, *, share: float = 1.0
) -> float | None:
    """Step of the stored pixels, unit of the frame; None where they are to be stored exactly.

    share : what a pixel of the result has of the number in its pixel of the frame

    That is where the name does not ask for compression, where the configuration says so, where
    known pixels are to stay as they are, and where the noise of the input is not known.
    """
    steps = config.output.quantize_sigma
    exact = steps == 0 or fit_options(config).keep_known
    if output_kind(target) != "tiles" or exact or noise.kind is NoiseKind.NONE:
        return None
    step = steps * share * _quiet_sigma(frame, noise)
    return step if np.isfinite(step) and step > 0 else None


def _quiet_sigma(frame: Frame, noise: NoiseModel) -> float:
    """Noise of the frame where it is low: the tenth percentile over the windows of the fit."""
    if noise.sigma is not None and not noise.from_error_plane and noise.kind == "gaussian":
        return noise.sigma.value
    sigmas = []
    for window in fit_windows(frame.shape, seed=0):
        pixels = frame.read(*window)
        good = pixels.science[~pixels.masked]
        if good.size:
            sigmas.append(_low(pixels, noise))
    return float(np.median(sigmas)) if sigmas else float("nan")


def _low(pixels: Pixels, noise: NoiseModel) -> float:
    if noise.from_error_plane and pixels.error is not None:
        return float(np.percentile(pixels.error[~pixels.masked], _QUIET_SHARE))
    return sigma_at(noise, float(np.percentile(pixels.science[~pixels.masked], _QUIET_SHARE)))
