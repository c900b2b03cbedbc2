"""SDSS frames: sky-subtracted, in nanomaggies; the file holds what turns them back into counts."""

from dip_pipeline.frames.layouts.chip import Chip, FitsView

SDSS_FRAME = "SDSS frame"


class SdssFrame:
    """Image, calibration vector, table of the sky (SDSS data model, file frame).

    It has no noise plane: that is computed of the calibration, the sky and the camera's numbers.
    """

    name = SDSS_FRAME

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Read the primary image."""
        if len(view.hdus) < 3:
            return ()
        image, calibration, sky = view.hdus[:3]
        fits = (
            len(image.shape) == 2
            and calibration.shape == image.shape[-1:]
            and sky.kind == "table"
            and {"RUN", "CAMCOL", "FILTER"} <= set(view.primary)
            and view.text("BUNIT").startswith("NANOMAGG")
        )
        return (Chip(image),) if fits and view.science in ((), (image,)) else ()
