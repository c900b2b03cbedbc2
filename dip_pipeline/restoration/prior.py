"""The prior of a frame (or of one tile): fitted networks, and what is known of their errors."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.crops import CropSource
from dip_pipeline.restoration.delivery import (
    Answers,
    Delivery,
    ask_networks,
    choose_restraint,
    deliver_code,
    finish,
)
from dip_pipeline.restoration.features import ANSWER_CHANNELS, FEATURE_CHANNELS
from dip_pipeline.restoration.fit_code import CODE_CHANNELS, fit_code_network
from dip_pipeline.restoration.fit_image import fit_image_network
from dip_pipeline.restoration.networks import build_network
from dip_pipeline.restoration.problem import (
    SMALLEST_SIDE_PX,
    FitOptions,
    FitReport,
    InputKind,
    NetworkKind,
    Problem,
    StopReason,
)
from dip_pipeline.restoration.regions import CrossFit, Region, SkyScale, measure_sky, prepare
from dip_pipeline.restoration.restraint import NO_RESTRAINT, Restraint
from dip_pipeline.restoration.stopping import StepHook, ignore_step
from dip_pipeline.restoration.uncertainty import ErrorTable, calibrate
from dip_pipeline.sensor import NoiseKind

_FORMAT = "dip-prior-1"
_DIGEST_BYTES = 32  # of SHA-256, at the end
_MOST_CALIBRATION_PIXELS = 2_000_000


@dataclass(frozen=True, slots=True)
class Prior:
    """Networks fitted to a frame, ready to be applied to any region of it.

    networks : two (cross-fitted halves) for the image input, one for the code input
    errors : error of restored pixels by predictor; None where the noise is not known
    restraint : where the observation is kept instead of the networks' image
    """

    input: InputKind
    network_kind: NetworkKind
    networks: tuple[nn.Module, ...]
    scale: SkyScale
    cross_fit: CrossFit
    seed: int
    report: FitReport
    errors: ErrorTable | None = None
    restraint: Restraint = NO_RESTRAINT

    def to_bytes(self) -> bytes:
        """Serialise as safetensors and its SHA-256; nothing in it is executed when read."""
        tensors = {
            f"{half}.{name}": value.contiguous().cpu()
            for half, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        record = {
            "format": _FORMAT,
            "input": self.input,
            "network": self.network_kind,
            "networks": len(self.networks),
            "scale": [self.scale.level, self.scale.sigma],
            "cross_fit": [self.cross_fit.block_px, self.cross_fit.guard_px],
            "seed": self.seed,
            "report": [
                self.report.steps,
                self.report.stop_reason.name,
                list(self.report.risks),
                list(self.report.notes),
            ],
            "errors": None
            if self.errors is None
            else [list(self.errors.knots), list(self.errors.errors)],
            "restraint": [list(self.restraint.knots), list(self.restraint.shares)],
        }
        payload = safetensors.torch.save(tensors, metadata={"record": json.dumps(record)})
        return payload + hashlib.sha256(payload).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Prior":
        """Read what `to_bytes` wrote. Raises RestorationError where it is something else."""
        payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        # safetensors itself does not notice a flipped bit in a weight.
        if hashlib.sha256(payload).digest() != digest:
            raise RestorationError(
                f"not a prior file, or a damaged one: the checksum of its {len(data)} bytes is "
                "wrong; remove it, and the prior is fitted again"
            )
        try:
            tensors = safetensors.torch.load(payload)
            size = int.from_bytes(payload[:8], "little")
            record = json.loads(json.loads(payload[8 : 8 + size])["__metadata__"]["record"])
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise RestorationError(f"not a prior file, or a damaged one: {error}") from error
        if record.get("format") != _FORMAT:
            raise RestorationError(f"prior of format {record.get('format')!r}: need {_FORMAT}")
        kind, input_kind = NetworkKind(record["network"]), InputKind(record["input"])
        networks = tuple(
            _load_network(kind, input_kind, tensors, half) for half in range(record["networks"])
        )
        steps, reason, risks, notes = record["report"]
        errors = record["errors"]
        return cls(
            input=input_kind,
            network_kind=kind,
            networks=networks,
            scale=SkyScale(*record["scale"]),
            cross_fit=CrossFit(*record["cross_fit"]),
            seed=record["seed"],
            report=FitReport(steps, StopReason[reason], tuple(risks), tuple(notes)),
            errors=None if errors is None else ErrorTable(tuple(errors[0]), tuple(errors[1])),
            restraint=Restraint(*(tuple(column) for column in record["restraint"])),
        )

    def on(self, device: str) -> "Prior":
        """Move the networks to a device; returns self."""
        for network in self.networks:
            network.to(device)
        return self

    def deliver(self, region: Region, options: FitOptions, *, seed: int) -> Delivery:
        """Restore a region and estimate, pixel by pixel, how wrong the result is."""
        if self.input is InputKind.IMAGE:
            return finish(self._ask(region, options, seed=seed), region, self.restraint, options)
        return deliver_code(
            self.networks[0], region, options, seed=self.seed, judged=self.errors is not None
        )

    def calibrated(self, regions: Sequence[Region], options: FitOptions) -> "Prior":
        """Apply the networks to their own regions: measure restraint and errors there."""
        used = _first_pixels(regions, _MOST_CALIBRATION_PIXELS)
        restraint = self.restraint
        if self.input is InputKind.IMAGE:
            answers = [
                self._ask(region, options, seed=self.seed + index)
                for index, region in enumerate(used)
            ]
            restraint = choose_restraint(answers, used)
            deliveries = [
                finish(answer, region, restraint, options)
                for answer, region in zip(answers, used, strict=True)
            ]
        else:
            deliveries = [self.deliver(region, options, seed=self.seed) for region in used]
        predictors, squares = [], []
        for delivery, region in zip(deliveries, used, strict=True):
            judged = region.trusted > 0
            predictors.append(delivery.predictor[judged].cpu().numpy())
            squares.append(delivery.squared_error[judged].cpu().numpy())
        table = calibrate(np.concatenate(predictors), np.concatenate(squares))
        return replace(self, errors=table, restraint=restraint)

    def _ask(self, region: Region, options: FitOptions, *, seed: int) -> Answers:
        shares = [
            self.cross_fit.share(half, region.origin, region.shape)
            for half in range(len(self.networks))
        ]
        return ask_networks(self.networks, shares, region, options, seed=seed)


def _first_pixels(regions: Sequence[Region], most: int) -> list[Region]:
    """As many regions as hold about that many pixels; at least one."""
    used, pixels = [], 0
    for region in regions:
        used.append(region)
        pixels += region.observed.numel()
        if pixels >= most:
            break
    return used


def fit_prior(
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Prior:
    """Fit the networks of a frame on some of its regions (all of it, where it is small).

    problems : the regions, of one frame, with the same options; shape : the frame's.
    Raises RestorationError where the regions are too small or hold nothing to fit.
    """
    first = problems[0]
    torch.set_num_threads(first.threads)
    shortest = min(min(problem.pixels.shape) for problem in problems)
    if shortest < SMALLEST_SIDE_PX:
        raise RestorationError(
            f"{shortest} px on the shorter side: need at least {SMALLEST_SIDE_PX} px for a fit"
        )
    scale = measure_sky(problems)
    regions = [prepare(problem, scale) for problem in problems]
    cross_fit = CrossFit.for_shape(shape)
    options = first.options
    known_noise = first.noise.kind is not NoiseKind.NONE
    if options.input is InputKind.IMAGE:
        networks, report = _fit_halves(regions, cross_fit, options, seed=seed, on_step=on_step)
    else:
        fitted = fit_code_network(
            regions, options, seed=seed, device=first.device, judged=known_noise, on_step=on_step
        )
        networks = (fitted.network,)
        report = FitReport(fitted.steps, fitted.stop_reason, (fitted.risk,))
    prior = Prior(
        input=options.input,
        network_kind=options.network_kind,
        networks=networks,
        scale=scale,
        cross_fit=cross_fit,
        seed=seed,
        report=report,
        errors=ErrorTable((0.0,), (1.0,)) if known_noise else None,
    )
    return prior.calibrated(regions, options) if known_noise else prior


def _fit_halves(
    regions: Sequence[Region],
    cross_fit: CrossFit,
    options: FitOptions,
    *,
    seed: int,
    on_step: StepHook,
) -> tuple[tuple[nn.Module, ...], FitReport]:
    """Fit each network on the blocks that the other one restores."""
    fits = []
    for half in (0, 1):
        shares = [cross_fit.share(half, region.origin, region.shape) for region in regions]
        rng = np.random.default_rng(np.random.SeedSequence([seed, half]))
        fit_on = CropSource(regions, [(share == 0).float() for share in shares], rng)
        judge_on = CropSource(regions, [(share == 1).float() for share in shares], rng)
        if fit_on.empty:
            raise RestorationError("no valid pixel in one half of the blocks: too few to fit on")
        fit_seed = int(np.random.SeedSequence([seed, half, 1]).generate_state(1)[0])
        fits.append(
            fit_image_network(
                fit_on,
                judge_on,
                options,
                seed=fit_seed,
                on_step=_of_half(on_step, half),
            )
        )
    reasons = [fitted.stop_reason for fitted in fits]
    reason = StopReason.DIVERGED if StopReason.DIVERGED in reasons else reasons[0]
    report = FitReport(
        steps=max(fitted.steps for fitted in fits),
        stop_reason=reason,
        risks=tuple(fitted.risk for fitted in fits),
    )
    return tuple(fitted.network.eval() for fitted in fits), report


def _of_half(on_step: StepHook, half: int) -> StepHook:
    """Tell of the steps of two fits as of one twice as long."""

    def told(step: int, steps: int, loss: Tensor) -> None:
        on_step(step + half * steps, 2 * steps, loss)

    return told


def _load_network(
    kind: NetworkKind, input_kind: InputKind, tensors: dict[str, Tensor], half: int
) -> nn.Module:
    image = input_kind is InputKind.IMAGE
    channels = (FEATURE_CHANNELS, ANSWER_CHANNELS) if image else (CODE_CHANNELS, 1)
    network = build_network(kind, *channels, seed=0)
    prefix = f"{half}."
    state = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise RestorationError(f"prior does not fit network {kind}: {error}") from error
    return network.eval()
