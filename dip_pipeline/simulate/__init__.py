"""Frames with their truth, drawn from a seed: for the sample data, tests and benchmarks.

>>> from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate
>>> frame = simulate(SceneOptions("nebula", shape=(64, 96), seed=3), DetectorOptions(defects=False))
>>> frame.observed_dn.shape
(64, 96)
"""

from dip_pipeline.simulate.detector import DataQuality, DetectorOptions, expose, noise_kernel
from dip_pipeline.simulate.extended import GALAXY
from dip_pipeline.simulate.frame import Card, Simulation, observe, simulate
from dip_pipeline.simulate.psf import MoffatPsf
from dip_pipeline.simulate.scene import STAR, Scene, SceneKind, SceneOptions, draw_scene

__all__ = [
    "GALAXY",
    "STAR",
    "Card",
    "DataQuality",
    "DetectorOptions",
    "MoffatPsf",
    "Scene",
    "SceneKind",
    "SceneOptions",
    "Simulation",
    "draw_scene",
    "expose",
    "noise_kernel",
    "observe",
    "simulate",
]
