import math

import pytest
import torch

from dip_pipeline.restoration.fits import fit_image
from dip_pipeline.restoration.fits.fit_image import fit_image_network
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.problem import FitOptions, StopReason


@pytest.fixture
def tries(monkeypatch):
    """Make the tries of a fit end with the risks that are asked for."""

    def end_with(*risks):
        left = list(risks)

        def fit_once(*arguments, **more):
            risk = left.pop(0)
            reason = StopReason.STEP_LIMIT if math.isfinite(risk) else StopReason.DIVERGED
            return Fitted(torch.nn.Identity(), 1, reason, risk)

        monkeypatch.setattr(fit_image, "_fit_once", fit_once)
        fitted = fit_image_network(None, None, FitOptions(), seed=1)
        return fitted.risk, len(risks) - len(left)

    return end_with


def test_a_good_fit_is_not_tried_again(tries):
    assert tries(0.2, 0.1, 0.1) == (0.2, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 9.0])
def test_a_bad_fit_is_tried_again(tries, bad):
    assert tries(bad, 0.3, 0.1) == (0.3, 2)


def test_of_bad_fits_the_best_counts(tries):
    assert tries(3.0, math.nan, 2.0) == (2.0, 3)
    assert tries(2.0, 3.0, math.nan) == (2.0, 3)


@pytest.mark.parametrize("matrix_unit", [True, False])
def test_a_processor_answers_in_bfloat16_where_it_has_a_matrix_unit(monkeypatch, matrix_unit):
    """Without one it is slower than float32, though it is there."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix_unit)
    layer = torch.nn.Conv2d(1, 1, 3)
    found = []
    layer.register_forward_hook(lambda *given: found.append(given[-1].dtype))
    answer = fit_image.quick_answer(layer, torch.ones(1, 1, 8, 8))
    assert found == [torch.bfloat16 if matrix_unit else torch.float32]
    assert answer.dtype == torch.float32
