"""One validated configuration: defaults, then a TOML file, then the command line."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.engine.options import usable_cores
from dip_pipeline.errors import ConfigError, SensorError
from dip_pipeline.noise_kernel import kernel_asked
from dip_pipeline.sensor import NoiseChoice, SensorOverrides
from dip_pipeline.tiling import TileOptions

# A number that does not depend on the machine gives the same pixels on all machines with so many
# cores; more threads bring little on tiles of the usual size.
THREADS_BY_DEFAULT = 4


def _option(default: object, flag: str, text: str, **limits: Any) -> Any:  # noqa: ANN401
    """Declare a field: its default, its option on the command line, its help with the unit."""
    if not isinstance(default, str):  # text and choices
        limits["strict"] = True  # "3" and true are no numbers
    return Field(default, description=text, json_schema_extra={"flag": flag}, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TileSection(_Section):
    """How the frame is cut."""

    size_px: int = _option(256, "--tile", "Side of a tile, pixels.", ge=1)
    overlap_px: int = _option(
        32, "--overlap", "Width that neighbouring tiles share, pixels; under half a tile.", ge=0
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        TileOptions(self.size_px, self.overlap_px)
        return self


class NoiseSection(_Section):
    """The noise of the sensor; what is given here outranks the file's header."""

    law: NoiseChoice = _option(
        NoiseChoice.AUTO, "--noise", "Noise law; auto takes the best that the file supports."
    )
    sigma: float | None = _option(
        None, "--sigma", "Noise of a pixel, standard deviation, in the frame's unit.", gt=0
    )
    gain_e_per_dn: float | None = _option(None, "--gain", "Gain, electrons per DN.", gt=0)
    read_noise_e: float | None = _option(
        None, "--read-noise", "Read noise, standard deviation per pixel, electrons.", ge=0
    )
    pedestal_dn: float | None = _option(
        None, "--pedestal", "Bias level still in the data, DN; 0 for reduced frames."
    )
    saturation_dn: float | None = _option(
        None, "--saturation", "Level from which a pixel is saturated, DN.", gt=0
    )
    correlation: str = _option(
        "auto",
        "--noise-correlation",
        "Of the noise of neighbouring pixels, 0 to 0.7; white is 0, auto measures it on empty sky.",
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


class FitSection(_Section):
    """What is fitted, and how."""

    input: Literal["image", "code"] = _option(
        "image", "--input", "What the network sees: the frame itself, or a fixed random code."
    )
    scope: Literal["frame", "tile"] = _option(
        "frame", "--scope", "One network for the frame, or one for every tile."
    )
    network: Literal["auto", "unet", "hourglass"] = _option(
        "auto", "--network", "Network; auto takes the one that suits the input."
    )
    effort: Literal["fast", "normal", "best"] = _option(
        "normal", "--effort", "Time to spend on steps of the fit and on views averaged."
    )
    steps: int | None = _option(
        None, "--steps", "Steps of a fit at most; by default what the effort buys.", ge=1
    )
    prior: str | None = _option(
        None,
        "--prior",
        "Prior file of `dip fit`, applied instead of a fit; by default the frame has its own.",
        min_length=1,
    )
    any_optics: bool = _option(
        False,  # noqa: FBT003  (the default)
        "--any-optics",
        "Take a prior, or frames to fit one on, that differ in filter or pixel scale.",
    )
    flux_scale_px: float = _option(
        2.0,
        "--flux-scale",
        "Scale on which fluxes are put back, standard deviation, pixels; 0 for not at all.",
        ge=0,
    )
    seed: int = _option(0, "--seed", "Seed of all random numbers.", ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.prior is not None and (self.input, self.scope) != ("image", "frame"):
            raise ConfigError(
                f"--prior {self.prior} with --input {self.input}, --scope {self.scope}: a prior is "
                "for --input image, --scope frame; leave these out, or --prior"
            )
        return self


class WorkerSection(_Section):
    """What the work runs on. Of these only threads_per_fit changes pixels."""

    executor: ExecutorKind = _option(
        ExecutorKind.INLINE, "--executor", "This process alone, or processes of this machine."
    )
    workers: int | None = _option(
        None,
        "--workers",
        "Processes of the local executor; by default one a GPU, or cores / threads-per-fit.",
        ge=1,
    )
    threads_per_fit: int | None = _option(
        None,
        "--threads-per-fit",
        "CPU threads of one fit; changes the last bits of a result. "
        f"By default the cores at hand, {THREADS_BY_DEFAULT} at most.",
        ge=1,
    )
    device: str = _option(
        "auto",
        "--device",
        "Where fits run: auto (a GPU if there is one), cpu, cuda, or cuda:0, cuda:1, ...",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        WorkerOptions(self.executor, self.workers)
        return self


class RunConfig(_Section):
    """All that a user may decide about a run."""

    tiles: TileSection = TileSection()
    noise: NoiseSection = NoiseSection()
    fit: FitSection = FitSection()
    workers: WorkerSection = WorkerSection()

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a configuration file; ConfigError in one line for anything wrong with it."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); give a TOML file with --config"
            ) from error
        except ValueError as error:  # not TOML, or not UTF-8
            raise ConfigError(f"{path}: not a TOML file ({error})") from error
        return cls._from_document(document, source=path)

    def to_toml(self) -> str:
        """Write all options that have a value, as a file that `from_toml` reads."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def with_overrides(self, **values: object) -> Self:
        """Lay values over this configuration, by dotted name; None leaves what is here.

        >>> RunConfig().with_overrides(**{"tiles.size_px": 128, "fit.steps": None}).tiles.size_px
        128
        """
        document = self.model_dump()
        for name, value in values.items():
            if name not in OPTIONS:
                raise ConfigError(f"unknown option {name}{_suggestion(name)}")
            if value is not None:
                section, _, key = name.partition(".")
                document[section][key] = value
        return self._from_document(document)

    def pixel_key(self) -> dict[str, Any]:
        """Give what decides the pixels of the result, as JSON holds it: where it runs does not.

        The number of threads is in it, as it will be used, because it changes rounding. Of a
        prior its content counts, not its name: that is in the key of a run.
        """
        document = self.model_dump(mode="json", exclude={"fit": {"prior", "any_optics"}})
        del document["workers"]
        return {**document, "threads_per_fit": self.threads_per_fit}

    def digest(self) -> str:
        """Sha256, in hexadecimal digits, of the canonical JSON of `pixel_key`."""
        text = json.dumps(self.pixel_key(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def threads_per_fit(self) -> int:
        """CPU threads of one fit, given or by default."""
        return self.workers.threads_per_fit or min(THREADS_BY_DEFAULT, usable_cores())

    def tile_options(self) -> TileOptions:
        """Give the tiling room its options."""
        return TileOptions(self.tiles.size_px, self.tiles.overlap_px)

    def sensor_overrides(self) -> SensorOverrides:
        """Give what outranks the header."""
        return SensorOverrides(
            sigma_dn=self.noise.sigma,
            gain_e_per_dn=self.noise.gain_e_per_dn,
            read_noise_e=self.noise.read_noise_e,
            pedestal_dn=self.noise.pedestal_dn,
            saturation_dn=self.noise.saturation_dn,
        )

    def worker_options(self, devices: Sequence[str] = ("cpu",)) -> WorkerOptions:
        """Give the engine its options; `devices` are what workers.device came to be."""
        return WorkerOptions(
            self.workers.executor, self.workers.workers, self.threads_per_fit, tuple(devices)
        )

    @classmethod
    def _from_document(cls, document: Mapping[str, Any], source: Path | None = None) -> Self:
        prefix = "" if source is None else f"{source}: "
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(prefix + _in_one_line(error.errors()[0])) from error
        except ConfigError as error:
            raise ConfigError(f"{prefix}{error}") from error


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """What the command line needs to know of an option; `flag` is its name there."""

    flag: str
    help: str
    default: object
    kind: type  # bool, int, float or str
    choices: tuple[str, ...]  # empty where the value is free


def _option_info(field: FieldInfo) -> OptionInfo:
    extra = field.json_schema_extra
    kind = field.annotation
    choices: tuple[str, ...] = ()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        choices = tuple(choice.value for choice in kind)
    elif all(isinstance(value, str) for value in get_args(kind)):
        choices = get_args(kind)
    return OptionInfo(
        flag=str(extra["flag"]) if isinstance(extra, dict) else "",
        help=field.description or "",
        default=field.default.value if isinstance(field.default, StrEnum) else field.default,
        kind=next((k for k in (bool, int, float) if k in (kind, *get_args(kind))), str),
        choices=choices,
    )


# Every option by its dotted name; the command line, its help and the messages here read it.
OPTIONS: dict[str, OptionInfo] = {
    f"{section}.{name}": _option_info(field)
    for section, section_field in RunConfig.model_fields.items()
    for name, field in type(section_field.default).model_fields.items()
}


_NEEDS = {  # where pydantic's own words are short of a noun
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a name",
    "string_too_short": "a name",
    "string_pattern_mismatch": "auto, cpu, cuda, or cuda:0, cuda:1, ...",
}


def _in_one_line(error: ErrorDetails) -> str:
    """Say which option is wrong, what was given, what is needed."""
    name = ".".join(str(part) for part in error["loc"][:2])
    if error["type"] == "extra_forbidden":
        return f"unknown key {name}{_suggestion(name)}"
    if name not in OPTIONS:
        return f"{name} = {error['input']!r}: need a table of options, [{name}]"
    words = error["msg"].removeprefix("Input should be ")
    need = _NEEDS.get(error["type"], words.replace("greater than", "a number greater than"))
    return f"{name} ({OPTIONS[name].flag}) = {error['input']!r}: need {need}"


def _suggestion(name: str) -> str:
    """Name the nearest known key: of the same section, or of that name in another one."""
    section, _, key = name.rpartition(".")
    words = {info.flag.removeprefix("--"): known for known, info in OPTIONS.items()}
    words |= {known.rpartition(".")[2]: known for known in OPTIONS}
    here = {word: known for word, known in words.items() if known.startswith(f"{section}.")}
    if not section:
        here = {known: known for known in RunConfig.model_fields if known != key}
    for known_words, likeness in ((here, 0.6), (words, 0.8)):
        near = difflib.get_close_matches(key, known_words, n=1, cutoff=likeness)
        if near:
            return f"; did you mean {known_words[near[0]]}?"
    return f"; known are {', '.join(sorted(set(here.values())) or RunConfig.model_fields)}"
