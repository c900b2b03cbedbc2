"""Which functions fit and restore a problem, by what is asked of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dip_pipeline.restoration.exposures.combining import (
    combined_unchanged,
    fit_combined_prior,
    restore_combined,
)
from dip_pipeline.restoration.exposures.epochs import (
    bind_epoch_prior,
    epoch_unchanged,
    fit_epoch_prior,
    restore_epoch,
)
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.hiding_restore import restore_by_hiding
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.priors.shared_prior import SharedPrior
from dip_pipeline.restoration.problem import (
    FitOptions,
    InputKind,
    Problem,
    Restored,
    StopReason,
)
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.restoration.scene.code import draw_scene
from dip_pipeline.restoration.scene.prior import ScenePrior, fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene, scene_unchanged
from dip_pipeline.task import Task

AnyPrior = Prior | ScenePrior


def bind_prior(shared: SharedPrior, *of_frame: Any, **more: Any) -> Prior:  # noqa: ANN401
    """Make a frame's prior of one of several frames; see `SharedPrior.bound_to`."""
    return shared.bound_to(*of_frame, **more)


class Way(NamedTuple):
    """How problems of one sort are fitted, restored, given back as they are; their prior.

    bind : how a prior of several frames is made that of one
    """

    fit: Callable[..., AnyPrior]
    restore: Callable[[Problem, Any], Restored]
    unchanged: Callable[[Problem, StopReason], Restored]
    prior: type[AnyPrior]
    bind: Callable[..., Prior] = bind_prior


def way_of(options: FitOptions, optics: Optics | None) -> Way:
    """Choose the way of problems with these options and optics.

    Exposures without a scene of their own are not combined, but restored at their own epochs.
    """
    if options.task is Task.COMBINE and optics is None:
        return Way(fit_epoch_prior, restore_epoch, epoch_unchanged, Prior, bind_epoch_prior)
    if options.task is Task.COMBINE:
        return Way(fit_combined_prior, restore_combined, combined_unchanged, Prior)
    if options.by_hiding:
        return Way(fit_prior, restore_by_hiding, unchanged, Prior)
    if optics is None:
        return Way(fit_prior, restore, unchanged, Prior)
    drawn = options.input is InputKind.CODE
    return Way(fit_scene_prior, draw_scene if drawn else restore_scene, scene_unchanged, ScenePrior)
