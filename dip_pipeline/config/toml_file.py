"""TOML as it is found on disk: with or without a byte-order mark, or no TOML at all."""

import tomllib
from pathlib import Path
from typing import Any

from dip_pipeline.errors import ConfigError


def read_toml(path: Path, wanted: str) -> dict[str, Any]:
    """Read a TOML file; ConfigError in one line, with what was wanted, where it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give {wanted}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file ({error}); save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
