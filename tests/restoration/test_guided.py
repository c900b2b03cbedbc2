"""Laws of guides: they help, and nothing that only they show is in the result."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.preparing.cutting import problems_key
from dip_pipeline.restoration.fits import fit_image
from dip_pipeline.restoration.priors.believing import belief
from dip_pipeline.restoration.priors.packets import fit_priors
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, Scope
from dip_pipeline.restoration.restore import restore
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.features import (
    FEATURE_CHANNELS,
    answer_channels,
    estimate,
    view,
)
from dip_pipeline.restoration.views.guide_planes import GuideScale, lay_out_guides, measure_guides
from dip_pipeline.restoration.views.misleading import Misleading
from dip_pipeline.restoration.views.regions import PixelNoise, measure_sky, prepare
from dip_pipeline.simulate import MoffatPsf, SceneOptions, draw_scene
from dip_pipeline.simulate.psf import add_star

SIGMA = 10.0
STEPS = 36
# Where neither the frame nor the guide has light: row, column, and S/N of a source there.
LONE = ((22.3, 30.6, 5.0), (104.2, 96.8, 20.0), (66.4, 21.1, 100.0), (24.7, 104.4, 1000.0))
ONLY_FRAME = ((64.2, 104.5, 30.0), (104.6, 28.3, 30.0))


def point(place):
    image = np.zeros((128, 128))
    add_star(image, place, 1.0, psf=MoffatPsf(), oversample=1)
    return image


def sources(places):
    return sum(
        snr * SIGMA / np.sqrt((point((row, col)) ** 2).sum()) * point((row, col))
        for row, col, snr in places
    )


def height(image, row, col):
    profile = point((row, col))
    return float((image * profile).sum() / (profile**2).sum() * profile.max())


@dataclass(frozen=True)
class Guided:
    """A crowded field under noise, guided by a deeper one; results by name."""

    truth: np.ndarray
    results: dict
    prior: Prior

    def residual(self, name):
        return float(np.sqrt(np.mean((self.results[name] - self.truth) ** 2))) / SIGMA


@pytest.fixture(scope="module")
def guided(problem, law):
    rng = np.random.default_rng(4)
    options = SceneOptions("crowded", shape=(128, 128), seed=2, saturated_star=False)
    scene = replace(draw_scene(options), nebula=None)
    stars = scene.stars
    for row, col, _ in (*LONE, *ONLY_FRAME):
        stars = stars[np.hypot(stars["row"] - row, stars["col"] - col) > 11]
    deep = replace(scene, stars=stars).signal()
    truth = 0.1 * deep + sources(ONLY_FRAME)
    observed = truth + SIGMA * rng.standard_normal(truth.shape)
    guide = deep + SIGMA * rng.standard_normal(truth.shape)

    def asked(*guides):
        planes = tuple(np.float32(one) for one in guides)
        options = FitOptions(steps=STEPS, effort=Effort.FAST)
        return problem(observed, law.gaussian(SIGMA), options=options, guides=planes)

    deceived = asked(guide + sources(LONE))
    prior = fit_prior([deceived], (128, 128), seed=5)
    results = {
        "deceived": restore(deceived, prior).science,
        "guided": restore(asked(guide), prior).science,
        "unguided": restore(asked()).science,
    }
    return Guided(truth, results, prior)


def test_a_guide_helps(guided):
    assert guided.residual("guided") < 0.9 * guided.residual("unguided")


@pytest.mark.parametrize("place", LONE, ids=[f"snr{snr:g}" for *_, snr in LONE])
def test_a_source_of_the_guide_alone_leaves_less_than_half_a_sigma(guided, place):
    row, col, _ = place
    left = (guided.results["deceived"] - guided.results["guided"]) / SIGMA
    near = left[int(row) - 6 : int(row) + 7, int(col) - 6 : int(col) + 7]
    assert np.abs(near).max() < 0.5
    assert abs(height(left, row, col)) < 0.5


def test_where_the_frame_is_bright_the_result_is_the_unguided_one_to_the_bit(guided):
    light = (guided.results["unguided"] - np.median(guided.truth)) / SIGMA
    bright = light > 60
    assert bright.sum() >= 3
    for name in ("guided", "deceived"):
        assert (guided.results[name][bright] == guided.results["unguided"][bright]).all()
        assert (guided.results[name] != guided.results["unguided"]).mean() > 0.5


@pytest.mark.parametrize("place", ONLY_FRAME)
def test_a_source_that_the_guide_does_not_show_stays(guided, place):
    row, col, _ = place
    sky = np.median(guided.truth)
    kept = height(guided.results["guided"] - sky, row, col)
    assert kept > 0.75 * height(guided.truth - sky, row, col)


@pytest.fixture
def small(problem, law):
    """A small problem whose guides are smoother copies of it."""

    def make(guides=1, shape=(40, 44), **more):
        rng = np.random.default_rng(3)
        light = 400 * np.exp(-((np.indices(shape) - 20) ** 2).sum(axis=0) / 8)
        planes = tuple(np.float32(light + rng.normal(7, 1, shape)) for _ in range(guides))
        pixels = light + rng.normal(100.0, 10.0, shape)
        more = {"options": FitOptions(steps=1, effort=Effort.FAST), **more}
        return problem(pixels, law.gaussian(10.0), guides=planes, **more)

    return make


def unlit(problem):
    """A frame that shows nothing, and knows nothing."""
    return np.zeros(problem.pixels.shape), np.full(problem.pixels.shape, 1e6)


def laid(problem):
    return prepare(problem, measure_sky([problem]))


def test_without_guides_a_network_sees_and_says_what_it_always_did():
    torch.manual_seed(1)
    frame, guides = torch.randn(2, 1, 16, 16), torch.randn(2, 4, 16, 16)
    noise = PixelNoise(torch.ones(1, 1, 16, 16), 0.0, 0.0)
    known, covariance = torch.ones(2, 1, 16, 16), torch.zeros(2, 33, 33)
    plain = view(frame, noise, known, covariance)
    seen = view(frame, noise, known, covariance, guides=guides)
    assert torch.equal(plain.features, seen.features[:, :FEATURE_CHANNELS])
    answer = torch.randn(2, answer_channels(4), 16, 16)
    answer[:, answer_channels(0) - 1 : -1] = 0  # no gain of anything that a guide adds
    alone = torch.cat([answer[:, : answer_channels(0) - 1], answer[:, -1:]], dim=1)
    assert torch.equal(estimate(answer, seen), estimate(alone, plain))


def test_what_is_unknown_of_a_guide_adds_nothing(small):
    asked = small()
    plane = asked.guides[0].copy()
    plane[:, :20] = np.nan
    region = laid(replace(asked, guides=(plane,)))
    seen = view(
        region.observed, region.noise, region.known, region.covariance, guides=region.guides
    )
    assert (seen.guided[..., :20] == 0).all()
    assert (seen.guided[..., 20:] != 0).any()
    restored = restore(replace(asked, guides=(plane,)))
    assert np.isfinite(restored.science).all()
    assert not restored.flags.any()


def test_a_guide_without_a_known_pixel_is_borne(small):
    asked = small()
    nothing = np.full_like(asked.pixels, np.nan)
    assert np.isfinite(restore(replace(asked, guides=(nothing,))).science).all()


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e15])
def test_the_unit_of_a_guide_and_its_sky_do_not_matter(small, unit):
    asked = small()
    plane = (asked.guides[0].astype(np.float64) * unit + 3 * unit).astype(np.float32)
    other = replace(asked, guides=(plane,))
    first, second = laid(asked).guides, laid(other).guides
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_a_constant_guide_has_a_scale(small):
    flat = np.full((40, 44), 3.0, np.float32)
    (scale,) = measure_guides([replace(small(), guides=(flat,))], unlit)
    assert scale == GuideScale(3.0, 1.0)


def test_a_guide_that_holds_the_frame_is_refused_and_any_other_is_not(problem, law):
    level = draw_scene(SceneOptions("crowded", shape=(128, 128), seed=4)).render()
    rng = np.random.default_rng(1)
    frame, *others = (level + rng.normal(0, 10.0, level.shape) for _ in range(4))

    def tried(guide):
        guides = (guide.astype(np.float32),)
        measure_sky([problem(frame, law.gaussian(10.0), guides=guides)])

    struck = frame.copy()
    struck[40, 50], struck[90, 20] = 3e38, 1e6
    for holds in (frame, 3.0 * frame + 50.0, (frame + others[0]) / 2, struck):
        with pytest.raises(RestorationError, match="guide 1: has the noise of the frame itself"):
            tried(holds)
    for fine in (*others, level, np.mean(others, axis=0), rng.normal(0, 1, level.shape), -level):
        tried(fine)


def test_guides_are_turned_with_the_frame(small):
    region = laid(small())
    region = replace(region, guides=torch.cat([region.observed, region.known], dim=1))
    source = CropSource([region], [torch.ones_like(region.known)], np.random.default_rng(1))
    batch = source.draw(12)
    assert torch.equal(batch.guides[:, :1], batch.observed)
    assert torch.equal(batch.guides[:, 1:], batch.known)


def test_misleading_shows_sources_where_they_are_not_or_nothing():
    guide = torch.zeros(1, 2, 96, 96)
    guide[:, 1] = 1
    guide[0, 0, 40, 50] = 1000.0
    misleading = Misleading([guide], np.random.default_rng(2))
    crops = [misleading.of(guide[..., :64, :64]) for _ in range(40)]
    blind = [crop for crop in crops if not crop[:, 1].any()]
    assert 0 < len(blind) < 20
    assert not any(crop.any() for crop in blind)
    lying = [crop for crop in crops if crop[:, 1].all() and (crop[:, 0] > 50).sum() > 1]
    assert len(lying) > 10
    assert guide[0, 0].count_nonzero() == 1  # its own is as it was


def test_a_prior_knows_its_number_of_guides(small):
    asked = small(guides=2)
    fitted = fit_prior([asked], (40, 44), seed=3)
    prior = Prior.from_bytes(fitted.to_bytes())
    first, second = (restore(asked, one) for one in (fitted, prior))
    assert first.science.tobytes() == second.science.tobytes()
    for guides in (0, 1, 3):
        with pytest.raises(RestorationError, match=f"{guides} guides for a prior fitted with 2"):
            restore(small(guides=guides), prior)


def test_guides_are_in_the_digest_of_a_problem(small):
    asked = small()
    other = replace(asked, guides=(asked.guides[0] + 1,))
    none = replace(asked, guides=())
    assert len({problems_key([one], (40, 44)) for one in (asked, other, none)}) == 3


@pytest.mark.slow
def test_guided_tiles_of_a_packet_are_what_they_are_alone(starry, monkeypatch):
    monkeypatch.setattr(fit_image, "_has_bfloat16", lambda _: False)  # which rounds by 0.03
    options = FitOptions(scope=Scope.TILE, steps=2, views=1, effort=Effort.FAST)
    tile = replace(starry, options=options)
    (prior, _) = fit_priors([tile, replace(tile, seed=9)])
    ours, theirs = restore(tile, prior).science, restore(tile).science
    assert np.abs(ours - theirs).max() / 10.0 < 0.02


def test_planes_of_guides_come_values_first(small):
    asked = small(guides=2)
    laid_out = lay_out_guides(asked, measure_guides([asked], unlit), unlit)
    assert laid_out.starry.shape == (1, 4, 40, 44)
    assert (laid_out.starry[:, 2:] == 1).all()


@pytest.fixture
def starry(problem, law):
    """Five stars that the frame shows well, its guide ten times as deep, one too faint to fit."""
    rng = np.random.default_rng(6)
    inner = slice(0, 64), slice(0, 64)
    at = (14.3, 14.2), (14.4, 47.1), (30.2, 30.4), (48.2, 15.4), (49.1, 48.3)
    light = sources([(*place, 600.0) for place in at])[inner]
    faint = sources([(30.2, 50.3, 80.0)])[inner]
    pixels = 0.1 * (light + faint) + rng.normal(100, SIGMA, light.shape)
    guide = light + faint + rng.normal(0, SIGMA, light.shape)
    return problem(pixels, law.gaussian(SIGMA), guides=(np.float32(guide),))


def test_stars_that_the_frame_shows_well_are_taken_off_it_and_its_guide(starry):
    region = laid(starry)
    assert len(region.shown_stars.places) == 5
    (values, known), (whole, _) = region.guides[0], region.starry_guides[0]
    near = region.shown_stars.light > 1
    assert float(whole.numpy()[near].max()) > 50
    assert float(values.numpy()[near].max()) < 5
    assert float(values[30, 50]) > 10
    assert (known == 1).all()
    again = region.with_shown_stars()
    assert torch.equal(again.guides, region.starry_guides)
    bare = region.without_guides()
    assert bare.guides is None
    assert bare.with_shown_stars().guides is None


def test_guided_stars_come_back_as_they_do_without_a_guide(starry):
    asked = replace(starry, options=FitOptions(steps=2, views=1, effort=Effort.FAST))
    guided, unguided = (restore(one).science for one in (asked, replace(asked, guides=())))
    places = laid(asked).shown_stars.places[:, [1, 2, 0]]
    assert len(places)
    for row, col, _ in places:
        middle = round(row), round(col)
        assert guided[middle] == unguided[middle]
        assert guided[middle] > 200


def test_where_no_guide_is_known_the_result_is_the_unguided_one_to_the_bit(starry):
    """With networks so poor that the observation contradicts much of what they say."""
    asked = replace(starry, options=FitOptions(steps=2, views=1, effort=Effort.FAST))
    unknown = np.full_like(asked.pixels, np.nan)
    guided, unguided = (
        restore(replace(asked, guides=guides)).science for guides in ((unknown,), ())
    )
    assert guided.tobytes() == unguided.tobytes()


@pytest.fixture
def ghostly(problem, law):
    """Dark sky, its guide a single source, and what a network draws that copies it."""
    noise = np.random.default_rng(5).normal(0, SIGMA, (128, 128))
    ghost = sources([(64.0, 64.0, 50.0)])
    asked = replace(problem(noise, law.gaussian(SIGMA)), guides=(ghost.astype(np.float32),))
    region = prepare(asked, measure_sky([asked]))
    return region, torch.from_numpy(ghost / SIGMA).float()[None, None]


def test_what_a_network_draws_of_the_guide_alone_goes_where_the_frame_contradicts_it(ghostly):
    """Whatever a network has learned: here one that copies the guide's source into dark sky."""
    region, drawn = ghostly
    share = belief(drawn, torch.zeros_like(drawn), region.observed, region)
    assert float(drawn.max()) > 5
    assert float((share * drawn).max()) < 1


def test_where_no_guide_is_known_none_is_believed(ghostly):
    region, _ = ghostly
    guides = region.guides.clone()
    guides[:, 1:, :, :40] = 0
    region = replace(region, guides=guides)
    nothing = torch.zeros_like(region.observed)
    share = belief(nothing, nothing, region.observed, region)
    assert (share[..., :38] == 0).all()
    assert float(share[..., 60:].mean()) > 0.9


def test_a_source_that_the_frame_misses_is_not_in_the_planes_of_its_guide(problem, law):
    rng = np.random.default_rng(6)
    places = [(row, col, 300.0) for row in (20.3, 60.1, 100.4) for col in (20.2, 60.4, 100.1)]
    light = sources(places)
    pixels = 0.1 * light + rng.normal(100, SIGMA, light.shape)
    guide = light + sources([(40.2, 80.3, 400.0)]) + rng.normal(0, SIGMA, light.shape)
    asked = replace(problem(pixels, law.gaussian(SIGMA)), guides=(np.float32(guide),))
    scale = measure_sky([asked])
    values, known = prepare(asked, scale).guides[0]
    assert 0.08 < scale.guides[0].ratio < 0.15
    assert (known == 1).all()
    assert float(values[34:47, 74:87].abs().max()) < 4
    assert float(values[60, 60]) > 50
