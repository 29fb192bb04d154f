"""Training data of our own: the two-moons set, which the same arguments reproduce point for point."""

import math
import random


def make_moons(n_samples: int = 100, noise: float = 0.1, seed: int = 1337) -> tuple[list[list[float]], list[int]]:
    """Draw two interleaving half circles, the classic set that no straight line separates.

    The upper moon is the half circle of radius 1 around (0, 0), the lower one the half circle of radius 1 around
    (1, 0.5), opening upwards. Both are sampled at equal angles, blurred and shuffled. The same arguments give the same
    points in the same order; Python's global ``random`` is left alone.

    Args:
        n_samples: number of points in all, at least 2; an odd one falls to the lower moon.
        noise: standard deviation of the Gaussian added to every coordinate, in units of the radius; 0 for none.
        seed: picks the noise and the order of the points.

    Returns:
        ``(X, y)``: ``X`` has shape (n_samples, 2), a list of ``[x, y]`` coordinates as floats, in units of the radius,
        within about [-1, 2] by [-0.5, 1]; ``y`` has shape (n_samples,), +1 for the lower moon and -1 for the upper.

    Raises:
        TypeError: ``n_samples`` or ``seed`` is not an int, ``noise`` is not a number.
        ValueError: ``n_samples`` is below 2, ``noise`` is negative, infinite or NaN.

    Source: the shape is that of ``sklearn.datasets.make_moons``; the random stream is not.
    """
    if not isinstance(n_samples, int) or isinstance(n_samples, bool):
        raise TypeError(f"n_samples must be an int, got {n_samples!r} ({type(n_samples).__name__})")
    if n_samples < 2:
        raise ValueError(f"n_samples must be at least 2, one point for each moon, got {n_samples}")
    if not isinstance(noise, int | float):
        raise TypeError(f"noise must be a number, got {noise!r} ({type(noise).__name__})")
    if not 0.0 <= noise < math.inf:
        raise ValueError(f"noise is a standard deviation: it must be finite and not negative, got {noise}")
    if not isinstance(seed, int):
        raise TypeError(f"seed must be an int, got {seed!r} ({type(seed).__name__})")

    generator = random.Random(seed)
    n_upper = n_samples // 2
    n_lower = n_samples - n_upper
    points = [(math.cos(t), math.sin(t), -1) for t in _half_circle(n_upper)]
    points += [(1.0 - math.cos(t), 0.5 - math.sin(t), 1) for t in _half_circle(n_lower)]
    generator.shuffle(points)
    X = [[x + generator.gauss(0.0, noise), y + generator.gauss(0.0, noise)] for x, y, _ in points]
    return X, [label for _, _, label in points]


def _half_circle(n: int) -> list[float]:
    """``n`` equally spaced angles from 0 to pi, in radians, both ends included."""
    return [math.pi * i / max(n - 1, 1) for i in range(n)]
