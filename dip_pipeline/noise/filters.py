"""One noise law for the four filters of a raw mosaic: their skies are of unlike levels."""

from collections.abc import Sequence

from dip_pipeline.blind.correlation import SkyNoise
from dip_pipeline.blind.estimate import estimate_noise
from dip_pipeline.blind.sky import Window
from dip_pipeline.noise.agreement import scatter_of_plain
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor

# Of sigma, by which the sky of a filter may be off the law of all. Measured: 0.02 with the right
# law, 0.24 and more where red is scaled by 2 and blue by 1.5.
_OFF = 0.07


def law_of_filters(
    filters: Sequence[Sequence[Window]], sky: SkyNoise, sensor: Sensor, unit: str
) -> NoiseModel | None:
    """Estimate the law of a sensor from the skies behind all of its filters.

    filters : windows of each, those of the one in hand first; sky : noise of its own sky
    One filter's sky has one level, and its scatter alone does not tell how noise grows with light;
    the sky is brighter behind one filter than behind another. None where scatter does not grow, and
    where one of the filters gainsays: drivers may have scaled colours by unlike factors. A filter
    of too few pixels to tell (NaN) gainsays nothing.
    """
    if len(filters) < 2 or not sky.kernel.is_white:
        return None
    law = estimate_noise([w for own in filters for w in own], sky, sky.kernel, sensor, unit)
    if law is None or law.kind is not NoiseKind.POISSON_GAUSSIAN:
        return None
    off = [abs(scatter_of_plain(law, windows) - 1) > _OFF for windows in filters]
    return None if any(off) else law
