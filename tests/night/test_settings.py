"""Laws of frames restored with other settings: told as that, and not as odd figures."""

import math
import time
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.night.figure_table import FIGURES
from dip_pipeline.night.held_against import Numbers
from dip_pipeline.night.odd_frames import odd_frames
from dip_pipeline.night.settings import other_settings
from tests.night.test_odd_frames import alike, changed, night

NORMAL = {"fit.effort": "normal", "fit.steps": "none", "noise.law": "auto"}


def settled(frames, **others):
    """Give all frames the normal settings, and some by their numbers another value of one."""
    made = [frame._replace(settings=dict(NORMAL)) for frame in frames]
    for name, (numbers, value) in others.items():
        for number in numbers:
            key = name.replace("_", ".", 1)
            made[number] = made[number]._replace(settings=made[number].settings | {key: value})
    return made


@pytest.mark.parametrize("frames", [2, 3, 12])
def test_a_frame_of_another_effort_is_told_as_that_and_is_not_odd(frames):
    made = settled(night(frames, 3), fit_effort=([1], "fast"))
    made[1] = changed(made[1], residual_noise=2.0, chi_square=0.5, seconds=3.0, doubtful_share=9.0)
    assert other_settings(made) == {"f1.fits": "--effort fast (others normal)"}
    assert odd_frames(made) == ()


def test_what_settings_do_not_change_is_compared_all_the_same():
    made = settled(night(12, 3), fit_effort=([1], "fast"))
    made[1] = changed(made[1], residual_noise=2.0, sky=3.0, noise=2.0)
    (odd,) = odd_frames(made)
    assert {each.figure for each in odd.oddities} == {"sky", "noise"}


def test_noise_that_was_said_for_one_frame_is_no_odd_noise():
    made = settled(night(12, 3), noise_law=([4], "gaussian"))
    made[4] = changed(made[4], gain_e_per_dn=3.0, noise=2.0, law="sigma of the command")
    assert other_settings(made) == {"f4.fits": "--noise gaussian (others auto)"}
    assert odd_frames(made) == ()


def test_frames_of_the_same_other_settings_are_compared_with_each_other():
    made = settled(night(16, 4), fit_effort=(range(8), "fast"))
    for number in range(8):
        made[number] = changed(made[number], residual_noise=1.6)
    made[3] = changed(made[3], residual_noise=3.0)
    (odd,) = odd_frames(made)
    assert odd.source == "f3.fits"
    assert [each.figure for each in odd.oddities] == ["residual_noise"]


def test_of_two_halves_those_are_told_that_did_not_take_the_default():
    made = settled(night(8, 4), fit_effort=([0, 2, 5, 7], "best"))
    assert set(other_settings(made)) == {"f0.fits", "f2.fits", "f5.fits", "f7.fits"}
    made = settled(night(8, 4), fit_effort=([0, 2, 5, 6, 7], "best"))
    assert set(other_settings(made)) == {"f1.fits", "f3.fits", "f4.fits"}


def test_of_another_kind_any_settings_are_no_others():
    made = settled(night(8, 4), fit_effort=([1], "best"))
    made[1] = made[1]._replace(alike="V 60 s")
    assert other_settings(made) == {}


def test_options_that_one_product_does_not_know_of_are_no_difference():
    """Versions before had fewer; that of the method is told."""
    made = settled(night(6, 4), algorithm=(range(6), "36"))
    made[1] = made[1]._replace(settings={"fit.effort": "normal", "algorithm": "35"})
    assert other_settings(made) == {"f1.fits": "version of the method 35 (others 36)"}


@given(st.lists(st.floats(0.1, 10) | st.sampled_from([1.0, 2.0]), min_size=5, max_size=14))
def test_a_figure_is_held_against_median_and_scatter_of_the_others(values):
    frames = alike(len(values))
    for frame, value in zip(frames, values, strict=True):
        frame.values["star_fwhm_px"] = value
    told = {
        odd.source: next(each for each in odd.oddities if each.figure == "star_fwhm_px")
        for odd in odd_frames(frames)
    }
    for frame in frames:
        others = [math.log(f.values["star_fwhm_px"]) for f in frames if f is not frame]
        usual = median(others)
        spread = max(1.4826 * median(abs(number - usual) for number in others), 0.05)
        strength = (math.log(frame.values["star_fwhm_px"]) - usual) / spread
        assert (frame.source in told) == (strength >= 5 + 15 / len(others))
        if frame.source in told:
            assert told[frame.source].strength == pytest.approx(strength)
            assert told[frame.source].usual == pytest.approx(math.exp(usual))


@given(st.lists(st.floats(-10, 10) | st.sampled_from([1.0, 2.0]), min_size=2, max_size=9))
def test_median_and_scatter_are_those_of_the_others_alone(values):
    numbers = Numbers()
    for value in values:
        numbers.add(value)
    assert numbers.median(None) == median(values)
    for place, own in enumerate(values):
        others = values[:place] + values[place + 1 :]
        usual = numbers.median(own)
        assert (numbers.others(own), usual) == (len(others), median(others))
        assert numbers.spread(usual, own) == 1.4826 * median(abs(n - usual) for n in others)


def test_thousands_of_frames_are_compared_in_seconds():
    """Eight times as many take some eight times as long, not 64 times."""

    def seconds(frames):
        begun = time.process_time()
        odd_frames(frames)
        return time.process_time() - begun

    few, many = (settled(night(n, 2)) for n in (400, 3200))
    assert seconds(many) < 25 * min(seconds(few) for _ in range(3))


def test_what_depends_on_settings_is_said_of_every_figure():
    """A new figure is to say it: of sky and stars alone none changes them."""
    free = {name for name, kind in FIGURES.items() if not kind.settings}
    assert free == {"sky", "star_light", "star_fwhm_px", "star_axis_ratio"}
