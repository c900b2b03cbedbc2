"""What an estimate of squared errors lacks where noise is skewed and grows with the light."""

from torch import Tensor

from dip_pipeline.restoration.views.regions import Region


def lacking_of(
    region: Region, restored: Tensor, sigma: Tensor, noise: Tensor, error: Tensor
) -> Tensor:
    """How far Stein's estimate falls short of a squared error, from a rehearsal; noisy alone.

        ((f - y) / s)^2 - ((f - y) / s_f)^2 + k (n^2 - 1) e,    y = x + s n,  f(y) = x + s e

    restored, sigma : x, the noiseless image of the rehearsal, and s, its noise
    noise, error : n and e; all planes (1, 1, rows, cols), returned in units of sigma squared

    A restoration answers light that stands out by more than a hole of the same depth: what it makes
    of a pixel's noise grows with the square of it. By that s_f, the noise at the restored level,
    is too large where (f - y)^2 is. And of noise of skewness k, as that of photons, Stein's lemma
    E[n e] = E[e'] is the first term of a series in cumulants (Barbour 1986, Probab. Theory Relat.
    Fields 72, 289): the next is k/2 E[e''], and E[e''] = E[(n^2 - 1) e] under Gaussian draws.
    """
    made = restored + sigma * error
    squares = (error - noise) ** 2
    by_result = squares * (sigma / region.noise.judging_sigma(made)) ** 2
    return squares - by_result + _skewness(region, sigma) * (noise**2 - 1) * error


def _skewness(region: Region, sigma: Tensor) -> Tensor | float:
    """Third moment of each pixel's noise over sigma cubed.

    Of noise that is a sum over many pixels it is small. Networks that were fitted to few counts,
    split one by one, answer these as they are: nothing was found to be lacking.
    """
    noise = region.noise
    if noise.root is not None or noise.counted:
        return 0.0
    dark = noise.floor - noise.slope * region.stars.clamp(min=0.0)
    return noise.slope * (sigma**2 - dark).clamp(min=0.0) / sigma**3
