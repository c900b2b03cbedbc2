"""What astronomers judge a restored frame by: noise, fluxes, errors, seams, pictures."""

from dip_pipeline.quality.assessment import Assessment, TruthFigures, assess
from dip_pipeline.quality.curves import Curve, draw_curves
from dip_pipeline.quality.evidence import Evidence, Truth
from dip_pipeline.quality.photometry import (
    SNR_BINS,
    FluxBias,
    FluxOffsets,
    bin_offsets,
    flux_bias,
    flux_offsets,
    join_offsets,
)
from dip_pipeline.quality.pictures import (
    error_figure,
    panel,
    save_figure,
    small_picture,
    write_pictures,
)
from dip_pipeline.quality.residuals import (
    Coverage,
    CoverageBin,
    ResidualNoise,
    chi_square,
    coverage,
    residual_noise,
)
from dip_pipeline.quality.seams import SeamDifference, SeamReport, seam_test

__all__ = [
    "SNR_BINS",
    "Assessment",
    "Coverage",
    "CoverageBin",
    "Curve",
    "Evidence",
    "FluxBias",
    "FluxOffsets",
    "ResidualNoise",
    "SeamDifference",
    "SeamReport",
    "Truth",
    "TruthFigures",
    "assess",
    "bin_offsets",
    "chi_square",
    "coverage",
    "draw_curves",
    "error_figure",
    "flux_bias",
    "flux_offsets",
    "join_offsets",
    "panel",
    "residual_noise",
    "save_figure",
    "seam_test",
    "small_picture",
    "write_pictures",
]
