"""Laws of what is left of products: in a folder it is told, whatever its format and its damage."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from tests.cli.test_report import CONFIG, as_it_is, product


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_is)
    yield
    close_files()


@pytest.fixture
def made(tmp_path):
    """A folder with a FITS product and a Zarr one."""
    folder = product(tmp_path, 1).parent
    restore_frame(str(tmp_path / "f1.fits"), folder / "z_dip.zarr", CONFIG)
    return folder


def chunk(group, name):
    return next(p for p in (group / name).rglob("*") if p.is_file() and p.name != "zarr.json")


def without_account(group):
    root = json.loads((group / "zarr.json").read_text())
    del root["attributes"]["DIP_PROV"]
    (group / "zarr.json").write_text(json.dumps(root))


def emptied(group):
    shutil.rmtree(group)
    group.mkdir()


DAMAGE = {
    "no root": lambda group: (group / "zarr.json").unlink(),
    "torn root": lambda group: os.truncate(group / "zarr.json", 3000),
    "empty root": lambda group: os.truncate(group / "zarr.json", 0),
    "no account": without_account,
    "no science": lambda group: shutil.rmtree(group / "science"),
    "no flags": lambda group: shutil.rmtree(group / "DIP_FLAG"),
    "torn array": lambda group: os.truncate(group / "science" / "zarr.json", 1),
    "no chunk": lambda group: chunk(group, "science").unlink(),
    "no chunk of errors": lambda group: chunk(group, "DIP_ERR").unlink(),
    "no chunk of flags": lambda group: chunk(group, "DIP_FLAG").unlink(),
    "torn chunk": lambda group: os.truncate(chunk(group, "science"), 100),
    "nothing left": emptied,
    "link to nowhere": lambda group: [shutil.rmtree(group), group.symlink_to("unmounted.zarr")],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_zarr_product_in_a_folder_is_told(dip, made, tmp_path, damage):
    DAMAGE[damage](made / "z_dip.zarr")
    code, out, err = dip("report", made, "-o", tmp_path / "night.html", "--no-pictures")
    assert code == 1
    assert out.startswith("2 frames, 1 that cannot be read -> ")
    (line,) = err.splitlines()
    assert "z_dip.zarr" in line
    page = (tmp_path / "night.html").read_text("utf-8")
    assert line.removeprefix("dip: error: ") in page.replace("&#39;", "'").replace("&#34;", '"')


@pytest.mark.parametrize("name", ["f1_dip.fits", "z_dip.zarr"])
def test_what_is_left_of_a_torn_product_is_no_product(dip, made, name, monkeypatch):
    assert dip("status", made)[:2] == (0, f"{made}: 2 products\n")
    torn = made / name
    (os.truncate(torn, 4000) if torn.is_file() else DAMAGE["torn root"](torn))
    code, out, _ = dip("status", made)
    assert code == 1
    assert out.splitlines() == [
        f"{made}: 1 product, 1 torn",
        f"  {torn}: torn: its account is not there, or cannot be read; dip verify tells more",
    ]
    assert dip("status", torn) == (1, f"{out.splitlines()[1].strip()}\n", "")
    monkeypatch.chdir(made)
    assert dip("status", ".")[1].startswith(".: 1 product, 1 torn\n")


def test_groups_that_are_no_products_are_passed_over(dip, made, tmp_path):
    assert dip("convert", tmp_path / "f1.fits", "-o", made / "input.zarr")[0] == 0
    (made / "empty.zarr").mkdir()
    (made / "gone.zarr").symlink_to("nowhere.zarr")
    (made / "gone.fits").symlink_to("nowhere.fits")
    (made / "empty.fits").touch()
    os.mkfifo(made / "pipe_dip.fits")
    (made / "folder_dip.fits").mkdir()
    code, out, _ = dip("report", made, "-o", tmp_path / "night.html", "--no-pictures")
    assert (code, out.partition(" -> ")[0]) == (0, "2 frames")


@pytest.mark.parametrize("what", ["empty", "link", "forbidden"])
def test_a_file_that_by_its_name_alone_is_a_product_is_told(dip, made, tmp_path, what, monkeypatch):
    path = made / "f2_dip.fits"
    if what == "link":
        path.symlink_to("unmounted/f2_dip.fits")
    else:
        path.touch()
    if what == "forbidden":
        real = Path.open

        def locked(self, *args, **more):
            if self.name == path.name:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **more)

        path.write_text("x")
        monkeypatch.setattr(Path, "open", locked)
    code, out, err = dip("report", made, "-o", tmp_path / "night.html", "--no-pictures")
    assert code == 1
    assert out.startswith("3 frames, 1 that cannot be read -> ")
    assert f"{path.name}: " in err
    again = ("report", made, "-o", tmp_path / "night.html", "--no-pictures", "--overwrite")
    assert dip(*again)[1] == out
    assert dip("report", path, "-o", path, "--overwrite")[0] == 1
    assert os.path.lexists(path)
