"""The code input, watched from outside: where it stops, against the best along its way."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.fields import Field, Plane
from benchmarks.figures import residual_of
from benchmarks.ours import run_config, write_field
from benchmarks.restored import Restored, Settings, TracePoint
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import problem_source, resolve_noise
from dip_pipeline.restoration.fits import fit_code
from dip_pipeline.restoration.problem import Problem
from dip_pipeline.restoration.views.regions import Region, measure_sky, prepare

_CODE = {"fit.input": "code", "fit.flux_scale_px": 0.0}


def with_watched_code(field: Field, settings: Settings) -> Restored:
    """Fit the code's network to a whole field; the trace ends with the image that is kept."""
    problem = _problem(field, settings)
    torch.set_num_threads(settings.threads)
    scale = measure_sky([problem])
    region = prepare(problem, scale)
    watch = _Watch(field, region)
    with mock.patch.object(fit_code, "_judge", watch.judge):
        fit_code.fit_code_network(
            [region],
            problem.options,
            seed=field.seed,
            device=settings.device,
            judged=True,
        )
    return Restored(watch.image, watch.trace[-1].seconds, trace=tuple(watch.trace))


class _Watch:
    """Stands where a fit judges its running mean, and notes the true residual noise there.

    Of what would be delivered: stars that were taken off the frame are put back.
    """

    def __init__(self, field: Field, region: Region) -> None:
        self.trace: list[TracePoint] = []
        self.image: Plane = np.zeros_like(field.observed)
        self._field, self._scale = field, region.scale
        self._stars = region.stars
        self._judged = fit_code._judge  # the one place a fit can be seen from
        self._spent, self._since = 0.0, time.monotonic()

    def judge(self, network: nn.Module, sheets: Sequence[Any]) -> float:
        """Judge as the fit does; what is noted costs it no time."""
        risk = self._judged(network, list(sheets))
        self._spent += time.monotonic() - self._since
        with torch.no_grad():
            drawn = fit_code.picture(network, sheets[0].code, sheets[0].scale)
        values = (drawn + self._stars)[0, 0].double().cpu().numpy()
        self.image = (values * self._scale.sigma + self._scale.level).astype(np.float32)
        residual = residual_of(self._field, self.image, ~self._field.saturated)
        self.trace.append(TracePoint(self._spent, residual))
        self._since = time.monotonic()
        return risk


def _problem(field: Field, settings: Settings) -> Problem:
    config = run_config(field, settings, _CODE)
    with tempfile.TemporaryDirectory() as folder:
        frame = open_frame(write_field(field, Path(folder) / "field.fits"))
        source = problem_source(frame, resolve_noise(frame, config), config)
        rows, cols = field.observed.shape
        return source.problem((slice(0, rows), slice(0, cols)), seed=field.seed)
