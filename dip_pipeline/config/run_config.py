"""One validated configuration: defaults, then a TOML file, then the command line."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args, get_origin

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dip_pipeline.config.sections import (
    SMALL_TILE_PX,
    THREADS_BY_DEFAULT,
    TILE_PX,
    FitSection,
    NoiseSection,
    OutputSection,
    ReadingSection,
    Section,
    TileSection,
    WorkerSection,
    nameless,
)
from dip_pipeline.config.task_section import TaskSection
from dip_pipeline.config.toml_file import read_toml
from dip_pipeline.engine import SchedulerPlace, WorkerOptions
from dip_pipeline.engine.options import usable_cores
from dip_pipeline.errors import ConfigError
from dip_pipeline.sensor import NoiseChoice, SensorOverrides
from dip_pipeline.task import Task
from dip_pipeline.tiling import TileOptions

if TYPE_CHECKING:
    from dip_pipeline.frames import Reading


_NAMES_OF_FILES: Any = {
    "fit": {"prior", "any_optics"},
    "task": {"psf", "mask", "guides", "exposures"},
}


class RunConfig(Section):
    """All that a user may decide about a run."""

    task: TaskSection = TaskSection()
    reading: ReadingSection = ReadingSection()
    tiles: TileSection = TileSection()
    noise: NoiseSection = NoiseSection()
    fit: FitSection = FitSection()
    output: OutputSection = OutputSection()
    workers: WorkerSection = WorkerSection()

    @model_validator(mode="after")
    def _tiles_can_be_cut(self) -> Self:
        self.tile_options()
        return self

    @model_validator(mode="after")
    def _planes_can_share(self) -> Self:
        may_share = self.may_share_planes or self.may_share_exposures
        if self.fit.planes == "together" and not may_share:
            raise ConfigError(
                "--planes together: only planes that are denoised, or exposures of combine --each, "
                "with --input image, --scope frame, without --prior and guides, share networks; "
                "leave one of these out"
            )
        return self

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a configuration file; ConfigError in one line for anything wrong with it."""
        document = read_toml(path, "a TOML file with --config")
        return cls.from_document(document, source=path)

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
        return self.from_document(document)

    def pixel_key(self) -> dict[str, Any]:
        """Give what decides the pixels of the result, as JSON holds it: where it runs does not.

        The number of threads is in it, as it will be used, because it changes rounding; so are the
        factor of finer pixels and the size of tiles. Of a prior and of other files their content
        counts, not their names: that is in the key of a run.
        """
        document = self.model_dump(mode="json", exclude=_NAMES_OF_FILES)
        del document["workers"]
        document["task"]["factor"] = self.task.factor_in_force
        document["tiles"]["size_px"] = self.tile_px
        for name in ("error", "flags"):
            document["reading"][name] = nameless(document["reading"][name])
        if self.fit.planes == "auto":
            del document["fit"]["planes"]  # as if there were no such option
        if not self.task.each:
            del document["task"]["each"]  # of no other task it decides anything
        else:  # exposures that contradict each other guide each other, or not
            document["fit"]["any_optics"] = self.fit.any_optics
        return {**document, "threads_per_fit": self.threads_per_fit}

    def digest(self) -> str:
        """Sha256, in hexadecimal digits, of the canonical JSON of `pixel_key`."""
        text = json.dumps(self.pixel_key(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def by_hiding(self) -> bool:
        """Whether holes are filled without a noise law, by hiding more pixels."""
        inpaints = self.task.name is Task.INPAINT and self.fit.input == "image"
        return inpaints and self.noise.law is NoiseChoice.NONE

    @property
    def by_drawing(self) -> bool:
        """Whether finer pixels are drawn from a code, without a noise law."""
        drawn = self.task.name is Task.SUPER_RESOLVE and self.fit.input == "code"
        return drawn and self.noise.law is NoiseChoice.NONE

    @property
    def scope_in_force(self) -> str:
        """What one network is fitted to: as asked; tiles, where nothing else is at hand."""
        return "tile" if self.by_hiding or self.by_drawing else self.fit.scope

    @property
    def may_share_planes(self) -> bool:
        """Whether planes of a cube may share networks: where these are a frame's own, of it alone.

        A task that restores a scene, or has guides, measures more on each frame than its noise.
        """
        alone = self.task.name is Task.DENOISE and not self.task.guides
        return alone and self._may_share

    @property
    def may_share_exposures(self) -> bool:
        """Whether exposures share networks, each of which is restored at its own epoch."""
        return self.task.name is Task.COMBINE and self.task.each and self._may_share

    @property
    def may_apply_prior(self) -> bool:
        """Whether a prior of other frames could be applied, and none is."""
        plain = self.task.name in (Task.DENOISE, Task.INPAINT) and not self.task.guides
        return plain and self._fits_frames

    @property
    def _may_share(self) -> bool:
        return self._fits_frames and self.fit.planes != "apart"

    @property
    def _fits_frames(self) -> bool:
        """Whether networks of the image input are fitted to whole frames."""
        own = self.fit.input == "image" and self.fit.prior is None
        return own and self.scope_in_force == "frame"

    @property
    def threads_per_fit(self) -> int:
        """CPU threads of one fit, given or by default."""
        return self.workers.threads_per_fit or min(THREADS_BY_DEFAULT, usable_cores())

    @property
    def tile_px(self) -> int:
        """Largest side of a tile, as asked or by default.

        The larger it is, the less is restored twice where tiles overlap and see each other.
        """
        own_pixels = self.task.name in (Task.DENOISE, Task.INPAINT)
        large = own_pixels and self.fit.input == "image" and self.scope_in_force == "frame"
        return self.tiles.size_px or (TILE_PX if large else SMALL_TILE_PX)

    def tile_options(self) -> TileOptions:
        """Give the tiling room its options.

        A network that is fitted to one tile gets as many pixels as it may; tiles that networks are
        only applied to are cut evenly, so that none is restored twice over.
        """
        evenly = self.scope_in_force == "frame"
        return TileOptions(self.tile_px, self.tiles.overlap_px, evenly=evenly)

    def frame_reading(self) -> "Reading":
        """Give the frames room what outranks the layout."""
        from dip_pipeline.frames import Reading  # astropy loads here, not at --help

        asked = self.reading
        return Reading(
            science=asked.science,
            error=asked.error,
            flags=asked.flags,
            bad_bits=asked.bad_bits,
            grow_px=asked.grow_px,
            strict=asked.strict,
            bayer=asked.bayer,
        )

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
        workers = self.workers
        place = None
        if workers.scheduler is not None or workers.scheduler_file is not None:
            place = SchedulerPlace(
                workers.scheduler, workers.scheduler_file, workers.insecure_cluster
            )
        return WorkerOptions(
            workers.executor_in_force,
            workers.workers,
            self.threads_per_fit,
            tuple(devices),
            scheduler=place,
            packet=workers.packet,
            dashboard=workers.dashboard,
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any], source: Path | None = None) -> Self:
        """Take tables of options; ConfigError, naming the source, for anything wrong with them."""
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
    several: bool = False  # whether it may be given more than once


def _option_info(field: FieldInfo) -> OptionInfo:
    extra = field.json_schema_extra
    kind = field.annotation
    choices: tuple[str, ...] = ()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        choices = tuple(choice.value for choice in kind)
    elif all(isinstance(value, str) for value in get_args(kind)):
        choices = get_args(kind)
    several = get_origin(kind) is tuple
    return OptionInfo(
        flag=str(extra["flag"]) if isinstance(extra, dict) else "",
        help=field.description or "",
        default=field.default.value if isinstance(field.default, StrEnum) else field.default,
        kind=next((k for k in (bool, int, float) if k in (kind, *get_args(kind))), str),
        choices=choices,
        several=several,
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
    "tuple_type": "a list of names",
    "model_type": "a table of options",
    "model_attributes_type": "a table of options",
    "string_too_short": "a name",
}
_PATTERNS = {  # of text that has to be of a form
    "device": "auto, cpu, cuda, or cuda:0, cuda:1, ...",
    "bayer": "none, or the letters of four filters, as RGGB",
}


def needed(error: ErrorDetails) -> str:
    """Say what a value needs to be, by what pydantic found wrong with it."""
    words = error["msg"].removeprefix("Input should be ")
    if error["type"] == "string_pattern_mismatch":
        words = _PATTERNS.get(str(error["loc"][-1]), words)
    return _NEEDS.get(error["type"], words.replace("greater than", "a number greater than"))


def _in_one_line(error: ErrorDetails) -> str:
    """Say which option is wrong, what was given, what is needed."""
    name = ".".join(str(part) for part in error["loc"][:2])
    if error["type"] == "extra_forbidden":
        meant = None if isinstance(error["input"], dict) or "." in name else key_of(name)
        return f"unknown key {name}{f'; did you mean {meant}?' if meant else _suggestion(name)}"
    if name not in OPTIONS:
        workflow = "; a workflow is run by dip run" if name == "task" else ""
        return f"{name} = {error['input']!r}: need a table of options, [{name}]{workflow}"
    flag = f" ({OPTIONS[name].flag})" if OPTIONS[name].flag else ""
    return f"{name}{flag} = {error['input']!r}: need {needed(error)}"


def key_of(word: str) -> str | None:
    """Dotted name of the option of that key, or flag; None where there is none.

    >>> key_of("steps"), key_of("gain"), key_of("knit")
    ('fit.steps', 'noise.gain_e_per_dn', None)
    """
    return _words().get(word)


def _words() -> dict[str, str]:
    words = {info.flag.removeprefix("--"): known for known, info in OPTIONS.items()}
    return words | {known.rpartition(".")[2]: known for known in OPTIONS}


def _suggestion(name: str) -> str:
    """Name the nearest known key: of the same section, or of that name in another one."""
    section, _, key = name.rpartition(".")
    words = _words()
    here = {word: known for word, known in words.items() if known.startswith(f"{section}.")}
    if not section:
        here = {known: known for known in RunConfig.model_fields if known != key}
    for known_words, likeness in ((here, 0.6), (words, 0.8)):
        near = difflib.get_close_matches(key, known_words, n=1, cutoff=likeness)
        if near:
            return f"; did you mean {known_words[near[0]]}?"
    return f"; known are {', '.join(sorted(set(here.values())) or RunConfig.model_fields)}"
