"""Runs restorations in processes of their own, which may be killed; started by tests.

Reads a request a line, JSON: source, target, folder of the undisturbed prior, options, fault. Each
is run in a fork, so that nothing has to be imported again; the answer is its exit status, and -9
where it was killed. The restoration is a stand-in that follows from the problem and the prior.
"""

import json
import os
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import faults
from dip_pipeline.errors import DipError
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import prior_work, ways
from tests.stand_in import arithmetic


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(request))
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict) -> int:
    prior = Path(request["prior"])
    if prior.exists():  # fitted once for all: fits have tests of their own
        prior_work.fit_frame_prior = lambda *_: prior.read_bytes()
    ways.restore = _restore
    os.environ.pop(faults.VARIABLE, None)
    if request["fault"]:
        os.environ[faults.VARIABLE] = request["fault"]
    try:
        config = RunConfig().with_overrides(**request["options"])
        restore_frame(request["source"], Path(request["target"]), config)
    except (DipError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        return 1
    return 0


def _restore(problem, prior):
    restored = arithmetic(problem, prior)
    if prior is None:
        return restored
    trace = np.float32(zlib.crc32(prior.to_bytes()) % 997)
    return replace(restored, science=restored.science + trace)


if __name__ == "__main__":
    main()
