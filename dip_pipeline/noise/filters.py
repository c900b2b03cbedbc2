"""One noise law for the four filters of a raw mosaic: their skies are of unlike levels."""

from collections.abc import Sequence

from dip_pipeline.blind.correlation import SkyNoise
from dip_pipeline.blind.estimate import estimate_noise, slope_of_scatter
from dip_pipeline.blind.sky import Window
from dip_pipeline.noise.agreement import hold_against_sky
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor
from dip_pipeline.sensor.noise_sigma import variance_line

_SLOPE_ERRORS = 3.0  # by which a filter's own slope may be off


def law_of_filters(
    own: Sequence[Window],
    others: Sequence[Window],
    sky: SkyNoise,
    sensor: Sensor,
    unit: str,
) -> NoiseModel | None:
    """Estimate the law of a sensor from the skies behind all of its filters.

    own : windows of one filter; others : of those beside it; sky : noise of its own sky
    One filter's sky has one level, and its scatter alone does not tell how noise grows with light;
    the sky is brighter behind one filter than behind another. None where scatter does not grow, and
    where the filter's own pixels gainsay: drivers may have scaled colours by unlike factors.
    """
    if not others or not sky.kernel.is_white:
        return None
    law = estimate_noise([*own, *others], sky, sky.kernel, sensor, unit)
    if law is None or law.kind is not NoiseKind.POISSON_GAUSSIAN:
        return None
    held = hold_against_sky(law, own, sky)
    slope, error = slope_of_scatter(own, sky, sky.kernel)
    off = abs(slope - variance_line(law).slope)
    return law if held.agrees and off <= _SLOPE_ERRORS * error else None
