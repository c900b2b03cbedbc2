"""Products of a folder are named as they are, each once."""

from dip_pipeline.night.products import products_in


def test_a_product_is_told_by_its_own_name_and_not_by_that_of_a_link(tmp_path):
    """What a torn one needs is done to the file."""
    (tmp_path / "m31_dip.fits").touch()
    (tmp_path / "latest_dip.fits").symlink_to("m31_dip.fits")
    assert products_in([tmp_path]) == [tmp_path / "m31_dip.fits"]
