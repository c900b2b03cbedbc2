"""Laws of TOML files: what is none is refused in one line that says what to do."""

import pytest

from dip_pipeline.config.toml_file import read_toml
from dip_pipeline.errors import ConfigError


def test_a_file_of_any_editor_is_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbf[fit]\r\n\tsteps = 4\r\n")
    assert read_toml(path, "a file") == {"fit": {"steps": 4}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# schön".encode("latin-1"), "save it as UTF-8"),
        ("[fit]".encode("utf-16"), "save it as UTF-8"),
        (b"[fit", "not a TOML file"),
        (b"[fit]\n[fit]\n", "twice"),
        (None, "give a workflow"),
    ],
)
def test_what_is_no_toml_is_told_in_one_line_with_the_file(tmp_path, content, said):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path, "a workflow")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
