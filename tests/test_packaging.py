"""Laws of what is installed: typed, whole, and the same from either archive."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Early patches of Python 3.11 do not know it.
UNPACKED_SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def built(project: Path, kind: str, folder: Path) -> Path:
    """Build an archive of a project, without installing anything."""
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (archive,) = folder.iterdir()
    return archive


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return contents(built(ROOT, "wheel", tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_package_alone_and_says_that_it_is_typed(wheel):
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"dip_pipeline"}
    assert "dip_pipeline/py.typed" in wheel
    package = ROOT / "dip_pipeline"
    needed = {path for kind in ("*.py", "*.html") for path in package.rglob(kind)}
    assert len([path for path in needed if path.suffix == ".html"]) == 1
    assert {str(path.relative_to(ROOT)) for path in needed} <= set(wheel)


def test_the_source_archive_is_small_and_builds_the_same_wheel(wheel, tmp_path):
    archive = built(ROOT, "sdist", tmp_path / "sdist")
    assert archive.stat().st_size < 1 << 20
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "unpacked", **UNPACKED_SAFELY)
    (project,) = (tmp_path / "unpacked").iterdir()
    assert contents(built(project, "wheel", tmp_path / "again")) == wheel
    read_beside = (
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docs/guide.md",
        "workflows/nightly.toml",
    )
    assert [name for name in read_beside if not (project / name).exists()] == []
