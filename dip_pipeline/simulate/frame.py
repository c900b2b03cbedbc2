"""A simulated frame with its truth, and the header cards that describe it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.simulate.detector import DataQuality, DetectorOptions, expose
from dip_pipeline.simulate.scene import Scene, SceneKind, SceneOptions, draw_scene

Card = tuple[str, object, str]  # keyword, value, comment

EXPOSURE_S = 120.0
PIXEL_SCALE_ARCSEC = 0.4
FIELD_CENTRE_DEG = (279.1, 33.03)  # right ascension, declination
POSITION_ANGLE_DEG = 7.0


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """An observed frame and everything that is true of it; all images are (rows, cols).

    observed_dn : float32, as read out
    truth_dn : float32, noiseless, with sky and pedestal, without defects, never clipped
    signal_dn : float32, noiseless light of the sources alone
    sigma_true_dn : float32, sqrt((truth - pedestal) / gain + (read noise / gain)^2)
    flags : uint8, bits of DataQuality; 0 is a good pixel
    stars : row, col, flux_dn of the stars in the frame, brightest first
    """

    observed_dn: NDArray[np.float32]
    truth_dn: NDArray[np.float32]
    signal_dn: NDArray[np.float32]
    sigma_true_dn: NDArray[np.float32]
    flags: NDArray[np.uint8]
    stars: NDArray[np.void]
    scene: Scene
    detector: DetectorOptions

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Pixels with any DataQuality bit."""
        masked: NDArray[np.bool_] = self.flags != 0
        return masked

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Pixels at or above saturation."""
        bits = self.flags & np.uint8(DataQuality.SATURATED)
        saturated: NDArray[np.bool_] = bits != 0
        return saturated

    def header_cards(self) -> tuple[Card, ...]:
        """Cards of a science header: object, time, sensor, world coordinates, origin."""
        return (*_observation_cards(self), *_sensor_cards(self.detector), *_wcs_cards(self))


def simulate(
    scene: SceneOptions | None = None, detector: DetectorOptions | None = None
) -> Simulation:
    """Draw a scene and expose a detector to it; the same options give the same pixels."""
    return observe(draw_scene(scene or SceneOptions()), detector)


def observe(scene: Scene, detector: DetectorOptions | None = None) -> Simulation:
    """Expose a detector to a scene that is already drawn: other noise, other sensor, same sky."""
    detector = detector or DetectorOptions()
    signal_dn = scene.signal()
    level_dn = signal_dn + scene.options.sky_dn + detector.pedestal_dn
    seed = scene.options.seed if detector.seed is None else detector.seed
    kind = list(SceneKind).index(SceneKind(scene.options.kind))
    rng = np.random.default_rng([seed, kind, 0xD37EC])  # apart from the stream of the scene
    observed_dn, flags = expose(level_dn, detector, rng, fwhm_px=scene.options.psf.fwhm_px)
    return Simulation(
        observed_dn=observed_dn,
        truth_dn=level_dn.astype(np.float32),
        signal_dn=signal_dn.astype(np.float32),
        sigma_true_dn=detector.sigma_dn(level_dn).astype(np.float32),
        flags=flags,
        stars=scene.stars_inside(),
        scene=scene,
        detector=detector,
    )


def _observation_cards(simulation: Simulation) -> tuple[Card, ...]:
    options = simulation.scene.options
    return (
        ("OBJECT", f"simulated {options.kind} field", "what was drawn"),
        ("TELESCOP", "simulated", "no telescope saw this"),
        ("INSTRUME", "dip_pipeline.simulate", "what drew it"),
        ("FILTER", "r", "filter"),
        ("DATE-OBS", "2026-03-14T03:14:15.000", "start of exposure, UTC"),
        ("MJD-OBS", 61113.13489583, "[d] start of exposure, UTC"),
        ("EXPTIME", EXPOSURE_S, "[s] exposure time"),
        ("BUNIT", "adu", "unit of the pixels"),
        ("SIMSEED", options.seed, "seed of the scene"),
        ("SIMFWHM", options.psf.fwhm_px, "[pix] true width of the Moffat PSF"),
        ("SIMBETA", options.psf.beta, "true beta of the Moffat PSF"),
        ("SIMSKY", options.sky_dn, "[adu] true sky level"),
    )


def _sensor_cards(detector: DetectorOptions) -> tuple[Card, ...]:
    cards: tuple[Card, ...] = (
        ("GAIN", detector.gain_e_per_dn, "[electron/adu] gain"),
        ("RDNOISE", detector.read_noise_e, "[electron] read noise"),
        ("SATURATE", detector.saturation_dn, "[adu] saturation level"),
    )
    if detector.pedestal_dn:
        cards += (("PEDESTAL", detector.pedestal_dn, "[adu] bias level in the pixels"),)
    return cards


def _wcs_cards(simulation: Simulation) -> tuple[Card, ...]:
    rows, cols = simulation.observed_dn.shape
    scale_deg = PIXEL_SCALE_ARCSEC / 3600
    angle = np.radians(POSITION_ANGLE_DEG)
    cos_deg, sin_deg = float(scale_deg * np.cos(angle)), float(scale_deg * np.sin(angle))
    return (
        ("PIXSCALE", PIXEL_SCALE_ARCSEC, "[arcsec/pix] pixel scale"),
        ("WCSAXES", 2, "number of world axes"),
        ("CTYPE1", "RA---TAN", "gnomonic projection"),
        ("CTYPE2", "DEC--TAN", "gnomonic projection"),
        ("CUNIT1", "deg", ""),
        ("CUNIT2", "deg", ""),
        ("CRVAL1", FIELD_CENTRE_DEG[0], "[deg] right ascension at the reference pixel"),
        ("CRVAL2", FIELD_CENTRE_DEG[1], "[deg] declination at the reference pixel"),
        ("CRPIX1", (cols + 1) / 2, "[pix] reference pixel"),
        ("CRPIX2", (rows + 1) / 2, "[pix] reference pixel"),
        ("CD1_1", -cos_deg, "[deg/pix]"),
        ("CD1_2", sin_deg, "[deg/pix]"),
        ("CD2_1", sin_deg, "[deg/pix]"),
        ("CD2_2", cos_deg, "[deg/pix]"),
        ("RADESYS", "ICRS", "frame of the world coordinates"),
    )
