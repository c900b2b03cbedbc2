"""The options of a run, one table each: name, default, limits, flag and help in one place."""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.errors import ConfigError, SensorError
from dip_pipeline.sensor import NoiseChoice
from dip_pipeline.sensor.noise_kernel import kernel_asked

# A number that does not depend on the machine gives the same pixels on all machines with so many
# cores; more threads bring little on tiles of the usual size.
THREADS_BY_DEFAULT = 4
TILE_PX = 512
SMALL_TILE_PX = 256  # a network of its own takes time, finer pixels and exposures take memory
_PLANE = re.compile(r"((?:\w+:)?)(.+?)((?:\[[^\[\]]*\])?)", re.DOTALL)  # form, file, [EXT]


def option(default: object, flag: str, text: str, **limits: Any) -> Any:  # noqa: ANN401
    """Declare a field: its default, its option on the command line, its help with the unit."""
    if not isinstance(default, str):  # text and choices
        limits["strict"] = True  # "3" and true are no numbers
    return Field(default, description=text, json_schema_extra={"flag": flag}, **limits)


class Section(BaseModel):
    """A table of options: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TileSection(Section):
    """How the frame is cut."""

    size_px: int | None = option(
        None,
        "--tile",
        f"Largest side of a tile, pixels; {TILE_PX} by default where the networks of a frame are "
        f"applied to its own pixels, else {SMALL_TILE_PX}.",
        ge=1,
    )
    overlap_px: int = option(
        32, "--overlap", "Width that neighbouring tiles share, pixels; under half a tile.", ge=0
    )


class ReadingSection(Section):
    """What is read of a file; what is given here outranks its layout."""

    science: str | None = option(
        None,
        "--sci",
        "HDU to restore, or name of HDUs: SCI, SCI,2 or 1; by default what the layout says.",
        min_length=1,
    )
    error: str | None = option(
        None,
        "--err",
        "Noise plane: an HDU, another file, or none; in front of it its form may stand, sigma:, "
        "variance:, ivar: or weight:. By default what the layout says.",
        min_length=1,
    )
    flags: str | None = option(
        None,
        "--dq",
        "Flag plane: an HDU, another file, or none; by default what the layout says.",
        min_length=1,
    )
    bad_bits: str | None = option(
        None,
        "--bad-bits",
        "Flags that make a pixel bad, names or numbers with a comma between them; by default "
        "those of the instrument, or all.",
        min_length=1,
    )
    bayer: str | None = option(
        None,
        "--bayer",
        "Colour filters of a raw mosaic, row by row, as RGGB; or none. By default what the card "
        "BAYERPAT says and the pixels do not contradict.",
        pattern="^([RGBCMYWE]{4}|none)$",
    )
    find_cosmics: bool = option(
        False,  # noqa: FBT003  (the default)
        "--find-cosmics",
        "Look for cosmic rays and hot pixels (L.A.Cosmic) and take them as bad.",
    )
    grow_px: int = option(0, "--grow", "By how many pixels masks grow.", ge=0, le=64)
    strict: bool = option(
        False,  # noqa: FBT003  (the default)
        "--strict",
        "Refuse to guess: an unknown noise, pedestal or unit, a wrong check sum.",
    )

    @field_validator("error", "flags")
    @classmethod
    def _file_in_full(cls, text: str | None) -> str | None:
        """Name a file by its whole path: workers, and `dip finish`, may stand in another folder."""
        found = _PLANE.fullmatch(text or "")
        if found is None or not Path(found.group(2)).is_file():
            return text
        return f"{found.group(1)}{Path(found.group(2)).absolute()}{found.group(3)}"


def nameless(plane: str | None) -> str | None:
    """Leave the name of a file out of what names a plane of it: its content counts.

    >>> [nameless(text) for text in ("ivar:/night/w.fits[2]", "variance:VAR", "none")]
    ['ivar:FILE[2]', 'variance:VAR', 'none']
    """
    found = _PLANE.fullmatch(plane or "")
    if found is None or not Path(found.group(2)).is_absolute():
        return plane
    return f"{found.group(1)}FILE{found.group(3)}"


def whole_path(text: str) -> str:
    """Name a FILE or FILE[EXT] by its whole path: workers may stand in another folder."""
    if Path(text).exists():
        return str(Path(text).absolute())
    found = re.fullmatch(r"(.+)(\[[^\[\]]*\])", text, re.DOTALL)
    if found is None or not Path(found.group(1)).exists():
        return text
    return f"{Path(found.group(1)).absolute()}{found.group(2)}"


class NoiseSection(Section):
    """The noise of the sensor; what is given here outranks the file's header."""

    law: NoiseChoice = option(
        NoiseChoice.AUTO, "--noise", "Noise law; auto takes the best that the file supports."
    )
    sigma: float | None = option(
        None, "--sigma", "Noise of a pixel, standard deviation, in the frame's unit.", gt=0
    )
    gain_e_per_dn: float | None = option(
        None, "--gain", "Gain, electrons per DN (data number).", gt=0
    )
    read_noise_e: float | None = option(
        None, "--read-noise", "Read noise, standard deviation per pixel, electrons.", ge=0
    )
    pedestal_dn: float | None = option(
        None, "--pedestal", "Bias level still in the data, DN; 0 for reduced frames."
    )
    saturation_dn: float | None = option(
        None, "--saturation", "Level from which a pixel is saturated, DN.", gt=0
    )
    correlation: str = option(
        "auto",
        "--noise-correlation",
        "Correlation of the noise of neighbouring pixels: auto measures it on empty sky, white is "
        "none, or a number from 0 to 0.7.",
    )

    @field_validator("correlation", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return f"{value:g}" if number else value

    @model_validator(mode="after")
    def _correlation_can_be_used(self) -> Self:
        try:
            kernel_asked(self.correlation)
        except SensorError as error:
            raise ConfigError(f"noise.correlation (--noise-correlation): {error}") from error
        return self


class FitSection(Section):
    """What is fitted, and how."""

    input: Literal["image", "code"] = option(
        "image", "--input", "What the network sees: the frame itself, or a fixed random code."
    )
    scope: Literal["frame", "tile"] = option(
        "frame", "--scope", "Networks fitted to the whole frame, or one to every tile."
    )
    planes: Literal["auto", "together", "apart"] = option(
        "auto",
        "--planes",
        "How planes of a cube are denoised: together, by one pair of networks for all of an HDU, "
        "or apart, each by its own; auto: together where there are 4 and more. So with exposures "
        "of combine --each.",
    )
    network: Literal["auto", "unet", "hourglass"] = option(
        "auto", "--network", "Network; auto takes the one that suits the input."
    )
    effort: Literal["fast", "normal", "best"] = option(
        "normal", "--effort", "Time to spend on steps of the fit and on views averaged."
    )
    steps: int | None = option(
        None, "--steps", "Steps of a fit at most; by default what the effort buys.", ge=1
    )
    prior: str | None = option(
        None,
        "--prior",
        "File of `dip fit`, applied instead of a fit, for denoise and inpaint; by default the "
        "frame has networks of its own.",
        min_length=1,
    )
    any_optics: bool = option(
        False,  # noqa: FBT003  (the default)
        "--any-optics",
        "Take a prior, frames to fit one on, or exposures, that differ in filter or pixel scale; "
        "exposures also where they contradict each other.",
    )
    flux_scale_px: float = option(
        2.0,
        "--flux-scale",
        "Scale on which fluxes are put back, standard deviation, pixels; 0 for not at all.",
        ge=0,
        le=64,
    )
    seed: int = option(0, "--seed", "Seed of all random numbers.", ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.prior is not None and (self.input, self.scope) != ("image", "frame"):
            raise ConfigError(
                f"--prior {self.prior} with --input {self.input}, --scope {self.scope}: a prior is "
                "for --input image, --scope frame; leave these out, or --prior"
            )
        return self


class OutputSection(Section):
    """How the result is stored."""

    quantize_sigma: float = option(
        0.25,
        "--quantize-sigma",
        "Step in which a compressed output (.fz) is stored, in units of the input's noise; "
        "0 stores it exactly.",
        ge=0,
        le=4,
    )


class WorkerSection(Section):
    """What the work runs on. Of these only threads_per_fit changes pixels."""

    executor: ExecutorKind = option(
        ExecutorKind.INLINE,
        "--executor",
        "This process alone, processes of this machine, or workers of Dask.",
    )
    workers: int | None = option(
        None,
        "--workers",
        "Processes of the local executor; by default one a GPU, or cores / threads-per-fit.",
        ge=1,
    )
    threads_per_fit: int | None = option(
        None,
        "--threads-per-fit",
        "CPU threads of one fit; changes the last bits of a result. "
        f"By default the cores at hand, {THREADS_BY_DEFAULT} at most.",
        ge=1,
        le=1024,
    )
    scheduler: str | None = option(
        None,
        "--scheduler",
        "Address of a Dask scheduler whose workers are to be used, such as tls://host:8786; "
        "by default none.",
        min_length=1,
    )
    scheduler_file: str | None = option(
        None,
        "--scheduler-file",
        "File of `dask scheduler --scheduler-file`, instead of an address; by default none.",
        min_length=1,
    )
    insecure_cluster: bool = option(
        False,  # noqa: FBT003  (the default)
        "--insecure-cluster",
        "Connect without encryption to a scheduler on another machine.",
    )
    packet: int | None = option(
        None,
        "--packet",
        "Tiles that a GPU fits at once, with --scope tile; halved where its memory runs out. "
        "By default 16; a CPU fits one.",
        ge=1,
    )
    dashboard: bool = option(
        False,  # noqa: FBT003  (the default)
        "--dashboard",
        "Show how the workers of --executor local do in a browser of this machine (needs bokeh).",
    )
    device: str = option(
        "auto",
        "--device",
        "Where fits run: auto (a GPU if there is one), cpu, cuda, or cuda:0, cuda:1, ...",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = [name for name in (self.scheduler, self.scheduler_file) if name is not None]
        if len(named) > 1 or (named and self.executor is ExecutorKind.LOCAL):
            raise ConfigError(
                f"--executor {self.executor}, --scheduler {named[0]}: give one place to run; "
                "either --scheduler, or --scheduler-file, or --executor local"
            )
        WorkerOptions(self.executor_in_force, self.workers)
        return self

    @property
    def executor_in_force(self) -> ExecutorKind:
        """What was asked; a scheduler that is named is meant to be used."""
        named = self.scheduler is not None or self.scheduler_file is not None
        return ExecutorKind.DASK if named else self.executor
