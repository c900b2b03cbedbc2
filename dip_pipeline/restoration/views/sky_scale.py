"""Level and scatter of a frame's sky: the scale that networks see it on."""

from dataclasses import dataclass

from dip_pipeline.restoration.noise import twinning
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.guide_planes import GuideScale


@dataclass(frozen=True, slots=True)
class SkyScale:
    """Level and scatter of the sky, in the frame's unit: networks see (pixel - level) / sigma.

    covariance : of pixels by lag, (33, 33), of asinh of the light; holes are filled by it
    star : shape of the frame's stars; None where they do not agree on one
    guides : level and noise of each guide
    twin : whether a twin stands beside the frame
    """

    level: float
    sigma: float
    covariance: tuple[tuple[float, ...], ...]
    star: StarShape | None = None
    guides: tuple[GuideScale, ...] = ()
    twin: bool = False

    @property
    def guide_planes(self) -> int:
        """Planes that guides, or a twin, are laid out in."""
        return twinning.PLANES if self.twin else 2 * len(self.guides)
