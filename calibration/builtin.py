"""The built-in calibration set: generated scenes with the statistics of photographs. They need no download and no licence.

Each image is a dead-leaves scene (Ruderman 1997, "Origins of scaling in natural images"; Lee, Mumford & Huang 2001, "Occlusion models
for natural images"). Shapes whose radii follow a power law r^-3 hide one another. This gives the sharp edges, the smooth areas and the
1/f^2 power spectrum of photographs. Added are 1/f textures and shading on the leaves, a sky and a ground, clusters, light from one side,
a shallow depth of field, and the spread of colours in photographs.

An image depends on (version, seed, index, size) alone, and its bytes are the same on every machine. So the random numbers are PCG64's raw
words, whose stream NumPy guarantees (unlike that of Generator's methods). The arithmetic is on integers, or one correctly rounded
operation at a time (+ - * / sqrt on whole arrays): no sums of floats, no transcendental functions, no library resizing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np

from tfvit.errors import UsageError

VERSION = 1

_SCENE_PX = 448  # the smallest scene that is drawn; smaller images are scaled down from it
_OVERSAMPLING = 2  # scene pixels per image pixel at least: antialiasing
_BLOCK_PX = 16  # scenes are drawn in multiples of this, so that they can be halved for the blur
_KNEE, _TOE = 180.0, 30.0  # lights from the one up and shadows from the other down are compressed, as cameras do
_TILE_PX = 512  # side of the periodic texture
_MIN_RADIUS_PX = 2.5  # of a leaf in the scene
_STAMP_RADII_PX = (4.0, 7.0, 12.0)  # leaves up to these sizes are stamped all at once, larger ones one by one


def generate(index: int, size_px: int, seed: int = 0) -> np.ndarray:
    """One image of the set.

    Args:
        index: from 0; there is no last image.
        size_px: height and width.
        seed: another seed gives another set.

    Returns:
        [size_px, size_px, 3] uint8, RGB.

    Raises:
        UsageError: the index or seed is negative, or the size is below 1.
    """
    if index < 0 or seed < 0 or size_px < 1:
        raise UsageError(
            "no such built-in image",
            expected="index >= 0, seed >= 0 and size_px >= 1",
            received=f"index={index}, seed={seed}, size_px={size_px}",
            action="pass numbers in these ranges",
        )
    factor = max(_OVERSAMPLING, -(-_SCENE_PX // size_px))
    scene_px = -(-size_px * factor // _BLOCK_PX) * _BLOCK_PX
    draws = _Draws(VERSION, seed, index, size_px)
    scene = _scene(draws, scene_px)[: size_px * factor, : size_px * factor]
    return _finish(draws, _shrink(scene, factor))


_Shape = int | tuple[int, ...]


class _Draws:
    """Random numbers made from PCG64's raw words."""

    def __init__(self, *key: int) -> None:
        self._words = np.random.PCG64(np.random.SeedSequence(key))

    @overload
    def uniform(self, low: float = ..., high: float = ...) -> float: ...
    @overload
    def uniform(self, low: float, high: float, shape: _Shape) -> np.ndarray: ...
    def uniform(self, low: float = 0.0, high: float = 1.0, shape: _Shape | None = None) -> np.ndarray | float:
        """Uniform in [low, high)."""
        return self._drawn(low, high, shape)

    def _drawn(self, low: float, high: float, shape: _Shape | None) -> Any:
        count = 1 if shape is None else int(np.prod(shape))
        values = (self._words.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53 * (high - low) + low
        return float(values[0]) if shape is None else values.reshape(shape)

    @overload
    def bell(self) -> float: ...
    @overload
    def bell(self, shape: _Shape) -> np.ndarray: ...
    def bell(self, shape: _Shape | None = None) -> np.ndarray | float:
        """Bell-shaped: mean 0, standard deviation 1, within 3.5 (the sum of four uniform numbers)."""
        return (self._drawn(-1, 1, shape) + self._drawn(-1, 1, shape) + self._drawn(-1, 1, shape) + self._drawn(-1, 1, shape)) * 0.8660254

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    @overload
    def small(self, low: float, high: float) -> float: ...
    @overload
    def small(self, low: float, high: float, shape: _Shape) -> np.ndarray: ...
    def small(self, low: float, high: float, shape: _Shape | None = None) -> np.ndarray | float:
        """In [low, high), mostly near low: the cube of a uniform number."""
        share = self._drawn(0.0, 1.0, shape)
        return low + (high - low) * (share * share * share)

    @overload
    def integer(self, limit: int) -> int: ...
    @overload
    def integer(self, limit: int, shape: _Shape) -> np.ndarray: ...
    def integer(self, limit: int, shape: _Shape | None = None) -> np.ndarray | int:
        """0 to limit - 1."""
        values = self._drawn(0, limit, shape)
        return int(values) if shape is None else values.astype(np.int64)

    def bytes(self, count: int) -> np.ndarray:
        """[count] uint8."""
        return self._words.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]


def _texture(draws: _Draws) -> np.ndarray:
    """Periodic 1/f noise, white noise of equal strength in every octave: [_TILE_PX, _TILE_PX] float32, standard deviation about 0.8."""
    total = np.zeros((4, 4), np.int32)
    while True:
        side = total.shape[0]
        total = total + (draws.bytes(side * side).reshape(side, side).astype(np.int32) - 128) * 16
        if side == _TILE_PX:
            return total.astype(np.float32) / np.float32(2600.0)
        total = _double(_double(total, 0, periodic=True), 1, periodic=True)


def _double(values: np.ndarray, axis: int, periodic: bool) -> np.ndarray:
    """Twice as long along `axis` (0 or 1), with each new value three quarters of the nearer old one and a quarter of the other."""
    places = np.arange(-1, values.shape[axis] + 1)
    places = places % values.shape[axis] if periodic else np.clip(places, 0, values.shape[axis] - 1)
    wide = np.take(values, places, axis)
    length = values.shape[axis]
    before, after = (np.take(wide, range(0, length), axis), np.take(wide, range(2, length + 2), axis))
    doubled = np.stack([3 * values + before, 3 * values + after], axis + 1).reshape(
        *values.shape[:axis], 2 * length, *values.shape[axis + 1 :]
    )
    return doubled >> 2 if doubled.dtype.kind == "i" else doubled * np.float32(0.25)


def _scene(draws: _Draws, scene_px: int) -> np.ndarray:
    """[scene_px, scene_px, 3] float32, 0..255 and somewhat beyond."""
    texture = _texture(draws)
    palette = _Palette(draws)
    horizon_px = draws.uniform(0.15, 0.85) * scene_px if draws.chance(0.55) else None
    # how full a scene is varies most between photographs: from one thing against the sky to foliage
    back, _ = _layer(draws, scene_px, palette, texture, draws.small(0.1, 3.0), horizon_px)
    focus = draws.uniform()
    if focus < 0.4:  # shallow depth of field: the background, or now and then something close to the lens, is out of focus
        front, cover = _layer(draws, scene_px, palette, texture, draws.small(0.15, 1.2), None)
        front = front * cover
        if focus < 0.32:
            back = _blur(back, 1 + draws.integer(4))
        else:
            level = 2 + draws.integer(2)
            front, cover = _blur(front, level), _blur(cover, level)
        back = back * (1 - cover) + front
    return back * _light(draws, scene_px)


class _Palette:
    """The colours of one image, [..., 3] RGB: those of the leaves, and one each for sky and ground."""

    def __init__(self, draws: _Draws) -> None:
        brightness = 105 + 24 * draws.bell()
        contrast = draws.uniform(34, 78)
        warmth = 13 + 11 * draws.bell()
        colourful = draws.small(0.3, 3.0)
        count = 3 + draws.integer(6)
        # along the opponent axes of photographs blue-yellow varies most, green-magenta least; few colours are strong
        strength = colourful * draws.small(0.25, 1.5, count)
        self.leaves = _colours(
            brightness + contrast * draws.bell(count), warmth + 41 * strength * draws.bell(count), strength * (22 * draws.bell(count) - 4)
        )
        sky = draws.small(0.0, 1.0)
        self.sky = _colours(brightness + 15 + 34 * draws.bell(), warmth - 60 * sky * colourful, 4 * draws.bell() - 6 * sky)
        self.ground = _colours(brightness - 12 + 30 * draws.bell(), warmth + 12 + 10 * draws.bell(), -9 * colourful * draws.uniform())


def _colours(luma: np.ndarray | float, blue_yellow: np.ndarray | float, green_magenta: np.ndarray | float) -> np.ndarray:
    """RGB [..., 3] of a lightness and two opponent axes, (1, 0, -1) and (1/2, -1, 1/2)."""
    return np.stack([luma + blue_yellow + green_magenta / 2, luma - green_magenta, luma - blue_yellow + green_magenta / 2], axis=-1)


@dataclasses.dataclass(frozen=True)
class _Leaves:
    """Leaves from the back to the front; every field is [leaves].

    Attributes:
        x, y, radius: in scene pixels; the radius is that of a disc of about the same area.
        aspect: length over radius.
        along_x, along_y: unit vector of the long axis.
        box: a rectangle instead of an ellipse.
        colour: index into the palette.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    aspect: np.ndarray
    along_x: np.ndarray
    along_y: np.ndarray
    box: np.ndarray
    colour: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, which: np.ndarray | int, dims: int = 0) -> _Leaves:
        """Some of the leaves, with `dims` axes of length one added to each field."""
        fields = (getattr(self, field.name)[which] for field in dataclasses.fields(self))
        return _Leaves(*(np.reshape(values, np.shape(values) + (1,) * dims) for values in fields))

    def reach(self) -> np.ndarray:
        """How far from its centre a leaf has pixels."""
        return self.radius * self.aspect * np.where(self.box, 1.26, 1.0)

    def inside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether scene pixels belong to the leaf: everything broadcasts."""
        dx, dy = x - self.x, y - self.y
        u = (dx * self.along_x + dy * self.along_y) / (self.radius * self.aspect)
        v = (dy * self.along_x - dx * self.along_y) / (self.radius / self.aspect)
        return np.where(self.box, np.maximum(np.abs(u), np.abs(v)) <= np.float32(0.886), u * u + v * v <= 1)


def _leaves(draws: _Draws, scene_px: int, colours: int, fullness: float, horizon_px: float | None) -> _Leaves:
    """A few large things, then leaves of every size, half of them in clusters of one colour."""
    smallest, largest = _MIN_RADIUS_PX, 0.4 * scene_px
    mean_area = 2 * np.pi * smallest**2 * 5.0  # of the density r^-3 between the two
    things, count = 2 + draws.integer(7), int(fullness * scene_px**2 / mean_area)
    count += things
    share = draws.uniform(0, 1, count)
    radius = smallest / np.sqrt(1 - share * (1 - (smallest / largest) ** 2))
    radius[:things] = draws.small(0.07, 0.42, things) * scene_px

    clusters = 6
    centre_x, centre_y = draws.uniform(0, scene_px, (2, clusters))
    spread = draws.uniform(0.04, 0.22, clusters) * scene_px
    cluster = draws.integer(clusters, count)
    clustered = (draws.uniform(0, 1, count) < draws.uniform(0.3, 1.0)) & (radius < 0.1 * scene_px)
    x = np.where(clustered, centre_x[cluster] + spread[cluster] * draws.bell(count), draws.uniform(0, scene_px, count))
    y = np.where(clustered, centre_y[cluster] + spread[cluster] * draws.bell(count), draws.uniform(0, scene_px, count))
    if horizon_px is not None:  # most of what is above it goes below
        above = (y < horizon_px) & (draws.uniform(0, 1, count) < 0.75)
        y = np.where(above, scene_px - y * ((scene_px - horizon_px) / horizon_px), y)
    colour = np.where(clustered & (draws.uniform(0, 1, count) < 0.7), cluster % colours, draws.integer(colours, count))

    aspect = np.sqrt(1 / (1 - draws.small(0.0, 0.92, count)))
    box = draws.uniform(0, 1, count) < draws.uniform(-0.2, 0.7)
    along_x, along_y = draws.uniform(-1, 1, count), draws.uniform(-1, 1, count)
    lean = draws.uniform(0.0, 1.0)  # things made by people stand upright, grass and grain lean one way
    aligned = draws.uniform(0, 1, count) < np.where(box, 0.8, 0.6 * lean)
    across = draws.uniform(0, 1, count) < 0.4
    along_x, along_y = np.where(aligned, across * 1.0 + 0.1 * along_x, along_x), np.where(aligned, 1.0 - across + 0.1 * along_y, along_y)
    if draws.chance(0.35):  # windows, bricks, tiles: one cluster is a grid of equal boxes
        grid = clustered & (cluster == 0)
        pitch = draws.uniform(0.04, 0.15) * scene_px
        x, y = np.where(grid, np.floor(x / pitch) * pitch, x), np.where(grid, np.floor(y / pitch) * pitch, y)
        radius = np.where(grid, pitch * draws.uniform(0.25, 0.55), radius)
        aspect = np.where(grid, draws.uniform(1.0, 1.4), aspect)
        box, along_x, along_y = box | grid, np.where(grid, 0.0, along_x), np.where(grid, 1.0, along_y)
    length = np.sqrt(along_x * along_x + along_y * along_y) + 1e-9
    x, y, radius, aspect, along_x, along_y = (
        values.astype(np.float32) for values in (x, y, radius, aspect, along_x / length, along_y / length)
    )
    return _Leaves(x, y, radius, aspect, along_x, along_y, box, colour)


def _rasterize(leaves: _Leaves, scene_px: int) -> np.ndarray:
    """Which leaf is seen where: [scene_px, scene_px] int32, 0 where there is none, otherwise the leaf's number + 2."""
    labels = np.zeros((scene_px, scene_px), np.int32)
    reach = leaves.reach()
    pixels = np.arange(scene_px, dtype=np.float32)
    smaller = 0.0
    for limit in _STAMP_RADII_PX:
        chosen = np.flatnonzero((reach > smaller) & (reach <= limit))
        smaller = limit
        some = leaves.take(chosen, dims=2)
        steps = np.arange(-int(limit) - 1, int(limit) + 2, dtype=np.float32)
        columns, rows = np.floor(some.x) + steps[None, None, :], np.floor(some.y) + steps[None, :, None]
        seen = some.inside(columns, rows)
        seen &= (columns >= 0) & (columns < scene_px) & (rows >= 0) & (rows < scene_px)
        numbers = np.broadcast_to((chosen + 2)[:, None, None], seen.shape)[seen]
        stamped = np.zeros(scene_px * scene_px, np.int32)
        places = (rows.astype(np.int32) * scene_px + columns.astype(np.int32))[seen]
        stamped[places] = numbers  # they rise: of several leaves the front one stays
        labels = np.maximum(labels, stamped.reshape(labels.shape))
    for i in np.flatnonzero(reach > smaller):
        leaf = leaves.take(int(i))
        left, right = max(0, int(leaf.x - reach[i])), min(scene_px, int(leaf.x + reach[i]) + 2)
        top, bottom = max(0, int(leaf.y - reach[i])), min(scene_px, int(leaf.y + reach[i]) + 2)
        if left < right and top < bottom:
            region = labels[top:bottom, left:right]
            inside = leaf.inside(pixels[None, left:right], pixels[top:bottom, None])
            np.maximum(region, inside * np.int32(i + 2), out=region)
    return labels


def _layer(
    draws: _Draws, scene_px: int, palette: _Palette, texture: np.ndarray, fullness: float, horizon_px: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Leaves in their colours, before a sky and a ground.

    Returns:
        colours, [scene_px, scene_px, 3] float32; cover, [scene_px, scene_px, 1] float32: 1 on leaves, otherwise 0.
    """
    leaves = _leaves(draws, scene_px, len(palette.leaves), fullness, horizon_px)
    labels = _ragged(_rasterize(leaves, scene_px), texture, draws)
    rows, columns = np.arange(scene_px, dtype=np.int32)[:, None], np.arange(scene_px, dtype=np.int32)[None, :]
    if horizon_px is not None:
        hills = texture[draws.integer(_TILE_PX)][columns & (_TILE_PX - 1)]
        skyline = horizon_px + hills * draws.small(0.0, 0.12) * scene_px + (columns - scene_px / 2) * draws.uniform(-0.06, 0.06)
        labels[(labels == 0) & (rows > skyline)] = 1

    # number 0 is the sky, 1 the ground, the leaves follow: each has a colour, shading across it, and a texture of its own grain
    count = len(leaves) + 2
    colour = np.concatenate([palette.sky[None], palette.ground[None], palette.leaves[leaves.colour]])
    colour = colour + 14 * draws.bell(count)[:, None] + 5 * draws.bell((count, 3))
    half = np.full(2, scene_px / 2)
    centre_x, centre_y = np.concatenate([half, leaves.x]), np.concatenate([half, leaves.y])
    radius = np.maximum(np.concatenate([half, leaves.radius]), 8)
    shade_x, shade_y = 0.2 * draws.bell(count) / radius, (0.2 * draws.bell(count) - 0.06) / radius
    shade_0 = 1 - shade_x * centre_x - shade_y * centre_y
    grain = draws.small(0.02, 0.45, count)
    grain[0] = draws.small(0.0, 0.2)
    shift_x, shift_y = draws.integer(_TILE_PX, count), draws.integer(_TILE_PX, count)
    stretch_x, stretch_y = 1 + draws.integer(3, count), 1 + draws.integer(3, count)

    def seen(values: np.ndarray) -> np.ndarray:
        return np.take(values.astype(np.float32 if values.dtype.kind == "f" else np.int32), labels, axis=0)

    across, down = columns * seen(stretch_x) + seen(shift_x), rows * seen(stretch_y) + seen(shift_y)
    light = texture.ravel()[(down & (_TILE_PX - 1)) * _TILE_PX + (across & (_TILE_PX - 1))] * seen(grain)
    light = light + (seen(shade_x) * columns.astype(np.float32) + seen(shade_y) * rows.astype(np.float32) + seen(shade_0))
    image = seen(colour) * np.maximum(light, np.float32(0.05))[..., None]
    return image, (labels > 0).astype(np.float32)[..., None]


def _ragged(labels: np.ndarray, texture: np.ndarray, draws: _Draws) -> np.ndarray:
    """Outlines as nature makes them: every pixel shows what lies a few pixels beside it, by the texture."""
    amount = draws.small(0.0, 14.0)
    side = labels.shape[0]
    places = np.arange(side, dtype=np.int32)
    first, second = ((places + draws.integer(_TILE_PX)) & (_TILE_PX - 1) for _ in range(2))
    steps = np.floor(texture * np.float32(amount)).astype(np.int32)
    rows = np.clip(places[:, None] + steps[second][:, first], 0, side - 1)
    columns = np.clip(places[None, :] + steps[first][:, second], 0, side - 1)
    return np.take(labels.ravel(), rows * side + columns)


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor blocks, one correctly rounded addition at a time."""
    rows = image[0::factor]
    for i in range(1, factor):
        rows = rows + image[i::factor]
    columns = rows[:, 0::factor]
    for i in range(1, factor):
        columns = columns + rows[:, i::factor]
    return columns / np.float32(factor * factor)


def _blur(image: np.ndarray, level: int) -> np.ndarray:
    """Out of focus: scaled down by 2^level and back up."""
    small = _shrink(image, 2**level)
    for _ in range(level):
        small = _double(_double(small, 0, periodic=False), 1, periodic=False)
    return small


def _light(draws: _Draws, scene_px: int) -> np.ndarray:
    """Light falling off across the image. [scene_px, scene_px, 1] float32 around 1."""
    along = np.arange(scene_px) / scene_px - 0.5
    tilt_x, tilt_y = 0.25 * draws.bell(), 0.25 * draws.bell() - 0.1
    light = 1 + tilt_x * along[None, :] + tilt_y * along[:, None]
    return light.astype(np.float32)[..., None]


def _finish(draws: _Draws, image: np.ndarray) -> np.ndarray:
    """Sensor noise, and 8 bits."""
    noise = draws.bytes(image.size).reshape(image.shape).astype(np.float32) - np.float32(127.5)
    image = image + noise * np.float32(draws.uniform(0.0, 0.03))
    image = _bend(image, _KNEE, 45.0)
    image = 255 - _bend(255 - image, 255 - _TOE, 20.0)
    return np.clip(np.floor(image + np.float32(0.5)), 0, 255).astype(np.uint8)


def _bend(values: np.ndarray, start: float, beyond: float) -> np.ndarray:
    """A smooth limit: unchanged up to `start`, then ever flatter towards 255 + `beyond`."""
    room = np.float32(255 + beyond - start)
    over = np.maximum(values - np.float32(start), 0)
    return np.minimum(values, np.float32(start)) + room * over / (over + room)
