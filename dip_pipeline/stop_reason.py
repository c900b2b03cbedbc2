"""Why a fit ends."""

from enum import StrEnum


class StopReason(StrEnum):
    """Why a fit ended, in words a user can act on."""

    STEP_LIMIT = "all steps done"
    JUDGED_RISK = "the judged risk stopped falling; the best weights were kept"
    RUNNING_VARIANCE = "the image began to follow the noise; its calmest step was kept"
    NO_DATA = "no valid pixel in the tile: nothing to restore; tile written unchanged"
    NOT_FITTED = "too little in the tile to fit a network to; tile written unchanged"
    WORKER_LOST = "the tile's worker process died three times; tile written unchanged"
    DIVERGED = (
        "the fit diverged: check the noise model, give more --steps or another --seed; "
        "tile written unchanged"
    )
    SCENE_DIVERGED = (
        "the fit diverged: the PSF is not that of the frame's stars (too wide?) or the noise model "
        "is wrong; give the stars' own (dip psf measures it); tile written unchanged"
    )

    @property
    def diverged(self) -> bool:
        """Whether the fit came to nothing, so that one with another seed may not."""
        return self in (StopReason.DIVERGED, StopReason.SCENE_DIVERGED)
