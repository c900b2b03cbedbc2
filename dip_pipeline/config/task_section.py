"""The options that say what is made of a frame: one table of the configuration."""

from pydantic import field_validator

from dip_pipeline.config.sections import Section, option, whole_path
from dip_pipeline.task import Task

_FACTORS = {Task.SUPER_RESOLVE: 2}


class TaskSection(Section):
    """What is asked for. Files that are named here are data: their content counts, not the name."""

    name: Task = option(Task.DENOISE, "", "What is made of the frame.")
    factor: int | None = option(
        None,
        "--factor",
        "Pixels of the result for one of the input, along each axis; by default 2 for "
        "super-resolve, else 1; 4 at most.",
        ge=1,
        le=8,
    )
    psf: str | None = option(
        None,
        "--psf",
        "FITS image of the point spread function, on the pixels of the result, odd sides, sum 1; "
        "by default none.",
        min_length=1,
    )
    fwhm_px: float | None = option(
        None,
        "--fwhm",
        "Width of a Gaussian PSF at half its height, in pixels of the input, instead of --psf; "
        "by default none.",
        gt=0,
        le=64,
    )
    mask: str | None = option(
        None,
        "--mask",
        "Pixels to fill, where not 0: FILE or FILE[EXT] of the frame's shape; by default those "
        "that the file itself calls bad.",
        min_length=1,
    )
    denoise_known: bool = option(
        False,  # noqa: FBT003  (the default)
        "--denoise-known",
        "Denoise known pixels, too.",
    )
    guides: tuple[str, ...] = option(
        (),
        "--guide",
        "Image of the same sky with less noise: another band, a stack, a flash; may be given "
        "several times. By default none.",
    )
    exposures: tuple[str, ...] = option((), "", "Further exposures, to be combined with the first.")
    each: bool = option(
        False,  # noqa: FBT003  (the default)
        "--each",
        "Restore every exposure for itself, at its own epoch, guided by all others.",
    )

    @field_validator("psf", "mask")
    @classmethod
    def _in_full(cls, text: str | None) -> str | None:
        return None if text is None else whole_path(text)

    @field_validator("guides", "exposures", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("guides", "exposures")
    @classmethod
    def _all_in_full(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.strip() for text in texts):
            raise ValueError("an empty name; give a file")
        return tuple(whole_path(text) for text in texts)

    @property
    def factor_in_force(self) -> int:
        """What was asked for, or what the task has by default."""
        return self.factor or _FACTORS.get(self.name, 1)
