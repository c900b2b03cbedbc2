"""Laws of frames that are unlike the others of their night: found, and nothing else is."""

import json
import math

import numpy as np
import pytest

from dip_pipeline.batch.batch import BatchReport, FrameResult, Job
from dip_pipeline.batch.summary import Summary
from dip_pipeline.cli.task_command import describe
from dip_pipeline.errors import ExitCode
from dip_pipeline.night.fields import Pointing
from dip_pipeline.night.figure_table import FIGURES
from dip_pipeline.night.odd_frames import FrameFigures, kinds, odd_frames
from tests.cli.conftest import report

USUAL = {
    "sky": 200.0,
    "star_light": 8600.0,
    "star_fwhm_px": 3.5,
    "star_axis_ratio": 1.04,
    "gain_e_per_dn": 1.9,
    "noise": 10.6,
    "residual_noise": 0.32,
    "chi_square": 0.72,
    "flux_change_in_noise": 0.0,
    "masked_share": 0.004,
    "doubtful_share": 0.01,
    "seconds": 60.0,
}
# As measured on simulated nights, and the sky of a real one: standard deviations, of the logarithm
# where ratios count.
SCATTER = {
    "sky": 16.0,
    "star_light": 0.05,
    "star_fwhm_px": 0.05,
    "star_axis_ratio": 0.015,
    "gain_e_per_dn": 0.0,
    "noise": 0.03,
    "residual_noise": 0.06,
    "chi_square": 0.02,
    "flux_change_in_noise": 0.004,
    "masked_share": 0.001,
    "doubtful_share": 0.003,
    "seconds": 0.1,
}


def night(frames, seed, *, drift=0.0):
    """Records of a steady night; drift : of the sky from the first frame to the last, relative."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(frames):
        values = {
            name: usual * math.exp(SCATTER[name] * rng.normal())
            if FIGURES[name].ratio
            else usual + SCATTER[name] * rng.normal()
            for name, usual in USUAL.items()
        }
        values["sky"] *= 1 + drift * number / frames
        made.append(FrameFigures(f"f{number}.fits", "R 60 s", values, "gain and read noise"))
    return made


def changed(frame, law=None, **factors):
    values = dict(frame.values) | {n: frame.values[n] * by for n, by in factors.items()}
    return frame._replace(values=values, law=frame.law if law is None else law)


def test_steady_nights_have_no_odd_frames():
    """200 nights of 5 to 40 frames: not one in a hundred of them has a word said of it."""
    sizes = [5, 6, 8, 12, 20, 40]
    told = [bool(odd_frames(night(sizes[seed % 6], seed, drift=0.5))) for seed in range(200)]
    assert sum(told) <= 2


@pytest.mark.parametrize(
    ("factors", "figure"),
    [
        ({"star_light": 0.4, "sky": 1.2}, "star_light"),  # clouds
        ({"star_axis_ratio": 1.8, "star_fwhm_px": 1.5}, "star_axis_ratio"),
        ({"sky": 2.2, "noise": 1.4}, "sky"),
        ({"gain_e_per_dn": 2.0, "noise": 0.7, "chi_square": 0.5}, "gain_e_per_dn"),
    ],
)
def test_clouds_trails_twilight_and_a_wrong_gain_are_found(factors, figure):
    found = 0
    for seed in range(50):
        frames = night(12, seed)
        frames[7] = changed(frames[7], **factors)
        odd = {each.source: {one.figure for one in each.oddities} for each in odd_frames(frames)}
        assert {*odd} <= {"f7.fits"}
        found += figure in odd.get("f7.fits", ())
    assert found >= 45


def test_four_frames_alike_are_too_few_to_judge_a_fifth_of_another_kind():
    frames = night(5, 1)
    frames[2] = changed(frames[2], sky=5.0)
    assert [each.source for each in odd_frames(frames)] == ["f2.fits"]
    assert odd_frames(frames[:4]) == ()
    assert odd_frames([*frames[:2], frames[2]._replace(alike="V 60 s"), *frames[3:]]) == ()


def test_a_sky_that_was_taken_away_is_judged_in_its_noise():
    """About zero no share of a level says anything."""
    frames = [changed(frame, sky=0.0) for frame in night(10, 3)]
    assert odd_frames(frames) == ()
    frames[4].values["sky"] = 10.0  # a noise of its pixels
    assert odd_frames(frames) == ()
    frames[4].values["sky"] = 60.0
    assert [each.source for each in odd_frames(frames)] == ["f4.fits"]


def test_a_noise_law_from_elsewhere_is_told():
    frames = night(6, 5)
    frames[3] = changed(frames[3], law="estimated from the frame")
    (odd,) = odd_frames(frames)
    assert odd.source == "f3.fits"
    assert "noise law 'estimated from the frame' (others 'gain and read noise')" in str(odd)
    json.dumps(odd.facts(), allow_nan=False)  # as a summary writes it


def test_a_frame_that_is_only_better_is_not_odd():
    frames = night(12, 8)
    frames[6] = changed(frames[6], seconds=0.05, residual_noise=0.3, star_fwhm_px=0.5)
    assert odd_frames(frames) == ()


def test_figures_that_are_missing_or_no_numbers_say_nothing():
    frames = night(8, 6)
    for name in FIGURES:
        frames[2].values[name] = None
        frames[5].values[name] = math.nan
    assert odd_frames(frames) == ()


def test_an_odd_frame_is_in_the_last_lines_and_in_the_summary_and_changes_no_exit_code(tmp_path):
    frames = night(9, 7)
    frames[1] = changed(frames[1], sky=2.5)
    job = Job("f1.fits", tmp_path / "f1_dip.fits")
    results = (FrameResult(job, report(job.source, job.target)),)
    whole = BatchReport(results, odd=odd_frames(frames))
    (line,) = [each for each in describe(whole).splitlines() if "unlike" in each]
    assert line.startswith("f1.fits: unlike 8 others of the same kind: sky level ")
    assert "(median " in line
    assert "twilight" in line
    summary = Summary(tmp_path / "summary.json", tmp_path / "w.toml", [job], ())
    summary.write(whole.exit_code, odd=whole.odd)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["exit_code"] == ExitCode.OK
    assert told["unlike_the_others"][0]["source"] == "f1.fits"
    assert told["unlike_the_others"][0]["oddities"][0]["figure"] == "sky"


def alike(frames):
    return [FrameFigures(f"f{n}.fits", "R 60 s", dict(USUAL), "cards") for n in range(frames)]


def test_among_few_frames_one_must_be_farther_off_to_be_odd():
    """Where a figure does not scatter by 7 of its least spreads: too few of 4 others, not of 20."""
    for frames, told in ((5, ()), (21, ("f1.fits",))):
        made = alike(frames)
        made[1] = changed(made[1], star_fwhm_px=math.exp(7 * 0.05))
        assert tuple(each.source for each in odd_frames(made)) == told


def test_what_three_others_alone_have_measured_and_laws_of_several_sources_tell_nothing():
    made = alike(8)
    made[1] = changed(made[1], star_fwhm_px=9.0)
    for frame in made[5:]:
        frame.values["star_fwhm_px"] = None
    assert [each.source for each in odd_frames(made)] == ["f1.fits"]
    made[4].values["star_fwhm_px"] = None
    assert odd_frames(made) == ()
    mixed = [changed(frame, law=f"law {n}") for n, frame in enumerate(alike(8))]
    assert odd_frames(mixed) == ()


def test_the_three_oddest_figures_are_told_as_they_are_the_oddest_first():
    made = alike(9)
    factors = {"star_fwhm_px": 2.0, "star_light": 9.0, "masked_share": 30.0, "noise": 1e3}
    made[1] = changed(made[1], **factors)
    (odd,) = odd_frames(made)
    strengths = [each.strength for each in odd.oddities]
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) == 4
    assert {each.figure: each.usual for each in odd.oddities} == {
        name: pytest.approx(USUAL[name]) for name in factors
    }
    assert "share of filled pixels 12.00% (median 0.40%)" in str(odd)
    assert str(odd).count("(median ") == 3


def test_exposure_times_part_where_they_make_a_step():
    """Shutters are no clocks: no time is on the edge of a bin."""
    times = [1199.9, 1200.0, 1200.1, 5.002, 5.004, 5.0, 30.0, 31.0, None, None, 0.0]
    frames = [
        FrameFigures(str(n), "R", dict(USUAL), exposure_s=time) for n, time in enumerate(times)
    ]
    found = sorted([int(frame.source) for frame in kind] for kind in kinds(frames))
    assert found == [[0, 1, 2], [3, 4, 5], [6], [7], [8, 9], [10]]


def fields(seed, *, pointed):
    """Four fields of eight frames, of unlike stars; in one of them a frame is under clouds."""
    rng = np.random.default_rng(seed)
    frames = night(32, seed)
    bright = np.exp(0.7 * rng.normal(size=4))
    for n, frame in enumerate(frames):
        frame.values["star_light"] *= bright[n // 8] * (0.3 if n == 5 else 1.0)
        if pointed:
            frames[n] = frame._replace(pointing=Pointing(40.0 * (n // 8), 89.0, 0.1))
    return frames


def test_fields_hide_no_clouds_and_are_not_odd_beside_each_other():
    found = [{odd.source for odd in odd_frames(fields(n, pointed=True))} for n in range(60)]
    assert sum("f5.fits" in odd for odd in found) >= 57
    assert sum(bool(odd - {"f5.fits"}) for odd in found) <= 1
    blind = [{odd.source for odd in odd_frames(fields(n, pointed=False))} for n in range(60)]
    assert sum("f5.fits" in odd for odd in blind) < 30  # or the made-up nights show nothing


def test_where_most_of_a_night_is_under_clouds_the_clear_frames_are_called_so():
    frames = night(20, 3)
    for frame in frames[:14]:
        frame.values["star_light"] *= 0.4
    odd = odd_frames(frames)
    assert {each.source for each in odd} == {f"f{n}.fits" for n in range(14, 20)}
    assert all("clearer than the others (clouds in those)" in str(each) for each in odd)
