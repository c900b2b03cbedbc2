"""`dip verify` of one product and of a night of them."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.runs import ways
from tests.stand_in import any_prior, arithmetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two inputs, and their products."""
    from dip_pipeline.config import RunConfig
    from dip_pipeline.pipeline import restore_frame

    folder = tmp_path_factory.mktemp("night")
    config = RunConfig().with_overrides(**{"noise.sigma": 5.0, "workers.threads_per_fit": 1})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ways, "fit_prior", any_prior)
        patched.setattr(ways, "restore", arithmetic)
        for number, name in enumerate("ab"):
            pixels = np.random.default_rng(number).normal(100, 5, (40, 44)).astype("f4")
            fits.writeto(folder / f"{name}.fits", pixels)
            restore_frame(folder / f"{name}.fits", folder / f"{name}_dip.fits", config)
    return folder


@pytest.fixture
def broken(made, tmp_path):
    path = tmp_path / "broken_dip.fits"
    shutil.copy(made / "a_dip.fits", path)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[3, 3] += 1
    return path


def test_several_products_are_a_line_each_and_what_is_wrong_is_told_in_full(dip, made, broken):
    good = [made / "a_dip.fits", made / "b_dip.fits"]
    code, said, _ = dip("verify", *good, "--against", made)
    assert code == 0
    assert said.splitlines() == [*(f"{path}: ok" for path in good), "2 products: 2 ok, 0 wrong"]
    code, said, err = dip("verify", good[0], broken, made / "no_dip.fits")
    assert code == 1
    assert f"{broken}: WRONG\n" in said
    assert "no plane has the sha256" in said
    assert said.endswith("3 products: 1 ok, 2 wrong\n")
    assert (len(err.splitlines()), "no_dip.fits" in err) == (1, True)
    code, said, _ = dip("verify", *good, broken, "-q")
    assert (code, said.splitlines()[0]) == (1, f"{broken}: WRONG")


def test_inputs_are_found_in_a_folder_by_the_names_of_the_accounts(dip, made, tmp_path):
    code, said, _ = dip("verify", made / "a_dip.fits", "--against", made)
    assert code == 0
    assert "input" in said
    assert "not compared" not in said
    code, said, _ = dip("verify", made / "a.fits", "--against", made)
    assert (code, "account" in said) == (1, True)  # what is no product is told as such
    (tmp_path / "empty.fits").touch()
    code, _, err = dip("verify", tmp_path / "empty.fits", "--against", made)
    assert (code, "empty file" in err) == (1, True)
    code, _, err = dip("verify", made / "a_dip.fits", "--against", tmp_path)
    assert code == 1
    assert f"was made of a.fits, which is not in {tmp_path}" in err


def test_one_input_is_of_one_product(dip, made):
    both = made / "a_dip.fits", made / "b_dip.fits"
    code, said, err = dip("verify", *both, "--against", made / "a.fits")
    assert (code, said) == (2, "")
    assert "give the folder" in err


def test_to_programs_several_are_a_list_and_one_is_itself(dip, made):
    paths = [made / "a_dip.fits", made / "b_dip.fits"]
    told = json.loads(dip("verify", *paths, "--json")[1])
    assert [one["product"] for one in told] == [str(path) for path in paths]
    assert json.loads(dip("verify", paths[0], "--json")[1]) == told[0]
    code, said, _ = dip("verify", paths[0], made / "no.fits", "--json")
    one, other = json.loads(said)
    assert (code, one, other["ok"]) == (1, told[0], False)
    assert "no.fits: cannot be read" in other["error"]
