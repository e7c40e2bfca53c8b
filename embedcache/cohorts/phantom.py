"""Draws speckled, fan-shaped, ultrasound-like pictures of four fetal planes. Nothing is real.

A picture is made as a scanner makes one: reflectivity on a grid of beams and depths, times fully
developed speckle (the modulus of a complex Gaussian: Rayleigh, Wagner et al. 1983), shadows below
bone along each beam, attenuation, log compression, and scan conversion to the fan. So speckle
widens with depth, and machines differ by physics and not by a filter.

All arithmetic is float64, and the pixels are rounded at the very end: a platform's last digit does
not reach them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embedcache.images.source import Layout, RawImage

HEIGHT, WIDTH = 240, 320
PLANES = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax")

_DEPTHS, _BEAMS = 176, 104
#: Radius of a fetal cross-section, a share of the picture's height.
_RADIUS = 0.29

Grid = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """How one scanner shows the same body. Lengths are shares of the picture's height.

    Attributes:
        half_angle: of the fan, radians.
        apex: from the fan's centre to the skin.
        blur: beams that one scatterer spreads over, odd.
        decibels: dynamic range that becomes 0 to 255.
        gain: decibels added before compression.
        attenuation: decibels lost from top to bottom, after the machine's own correction.
        noise: electronic noise, as a share of full reflectivity.
    """

    half_angle: float
    apex: float
    blur: int
    decibels: float
    gain: float
    attenuation: float
    noise: float


@dataclass(frozen=True, slots=True)
class Phantom:
    """One drawn picture: a `Source` whose pixels are computed when it is read.

    Attributes:
        plane: index into `PLANES`.
        machine: what scans.
        patient: seed of all that one patient's pictures share.
        view: seed of this picture.
    """

    plane: int
    machine: Machine
    patient: tuple[int, ...]
    view: tuple[int, ...]

    def read(self) -> RawImage:
        """Draw it: grey, 8 bit, (240, 320)."""
        layout = Layout(shape=(HEIGHT, WIDTH), dtype="uint8", photometric="grey")
        return RawImage(draw(self).tobytes(), layout)


def draw(phantom: Phantom) -> NDArray[np.uint8]:
    """Draw the picture, (240, 320) uint8."""
    machine = phantom.machine
    body = np.random.default_rng(phantom.patient)
    view = np.random.default_rng(phantom.view)
    scene = _Scene(machine, body, view)
    _ANATOMY[phantom.plane](scene)
    gain = machine.gain + body.normal(0, 3) + view.normal(0, 1.5)
    return _scan_converted(_compressed(scene, gain, view), machine)


class _Scene:
    """Reflectivity and bone over (depth, beam), where the fetus lies, and how well it shows."""

    def __init__(self, machine: Machine, body: np.random.Generator, view: np.random.Generator):
        self.machine, self.view = machine, view
        self.x, self.y = _beams(machine)
        self.size = body.normal(1, 0.13) * view.normal(1, 0.05)
        self.turn = view.uniform(0, 2 * np.pi)
        self.clear = view.uniform(0.35, 1)
        self.at_x = body.normal(0, 0.05) + view.normal(0, 0.05)
        self.at_y = 0.55 + body.normal(0, 0.04) + view.normal(0, 0.03)
        self.bone = np.zeros_like(self.x)
        wall = 0.10 + abs(body.normal(0, 0.06))
        self.tissue = np.full_like(self.x, 0.16)
        self._mother(wall, body, view)

    def _mother(self, wall: float, body: np.random.Generator, view: np.random.Generator) -> None:
        """Skin, fat and muscle in layers; fluid; a placenta on one side or none."""
        waves = 0.012 * np.sin(9 * self.x + body.uniform(0, 6))
        layers = 0.25 + 0.2 * np.sin((self.y + waves) * body.uniform(60, 110))
        self.paint(layers, _soft(wall - self.y - waves, 0.02))
        fluid = self.radius(0, 0.5, 0.5 + 0.1 * view.random(), 0.38, 0.1)
        self.paint(body.uniform(0.012, 0.05), _soft(1.05 - fluid, 0.12))
        side = body.choice([-1.0, 0.0, 1.0])
        placenta = self.radius(0.55 * side, 0.45 + 0.2 * body.random(), 0.3, 0.22, 0.3)
        self.paint(0.3, _soft(1 - placenta, 0.5) * abs(side))

    def paint(self, tissue: float | Grid, share: Grid) -> None:
        """Lay tissue over what is there."""
        self.tissue += share * (tissue - self.tissue)

    def own(self, u: float, v: float) -> tuple[float, float]:
        """A point of the fetus' own axes in the picture's."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        scale = _RADIUS * self.size
        return self.at_x + scale * (u * cos - v * sin), self.at_y + scale * (u * sin + v * cos)

    def axes(self) -> tuple[Grid, Grid]:
        """Every grid point in the fetus' own axes; its body has about radius 1."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        dx, dy = (
            (self.x - self.at_x) / (_RADIUS * self.size),
            (self.y - self.at_y) / (_RADIUS * self.size),
        )
        return dx * cos + dy * sin, dy * cos - dx * sin

    def radius(self, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> Grid:
        """Distance from an ellipse's centre, 1 on its outline."""
        cos, sin = np.cos(turn), np.sin(turn)
        dx, dy = self.x - cx, self.y - cy
        return _far((dx * cos + dy * sin) / rx, (dy * cos - dx * sin) / ry)

    def organ(self, u: float, v: float, ru: float, rv: float, tissue: float) -> None:
        """An ellipse in the fetus' own axes."""
        x, y = self.own(u, v)
        q = self.radius(x, y, _RADIUS * self.size * ru, _RADIUS * self.size * rv, self.turn)
        self.paint(tissue, _soft(1 - q, 0.25) * self.clear)

    def spine(self, u: float, v: float) -> None:
        """Three centres of bone, which cast a shadow."""
        for du, dv in ((0.0, 0.0), (0.1, 0.09), (0.1, -0.09)):
            x, y = self.own(u + du, v + dv)
            self.bone += np.maximum(0, 1 - self.radius(x, y, 0.022, 0.018) ** 2)


def _brain(scene: _Scene) -> None:
    """An oval skull, the broken midline, the cavum, two dark thalami, a bright plexus."""
    view = scene.view
    u, v = scene.axes()
    q = _far(u / 1.12, v / (0.86 + view.normal(0, 0.05)))
    scene.paint(0.11, _soft(1 - q, 0.1))
    scene.bone += (0.15 + 0.65 * scene.clear) * _line(q - 1, 0.05)
    line = _line(v, 0.03) * (np.abs(u) < 0.95) * (np.abs(u - 0.45) > 0.14)
    scene.paint(0.75, line * scene.clear)
    scene.organ(-0.05, 0.16, 0.24, 0.13, 0.05)
    scene.organ(-0.05, -0.16, 0.24, 0.13, 0.05)
    scene.organ(-0.6, view.choice([-0.3, 0.3]), 0.26, 0.12, 0.4)
    scene.paint(0.6, _line(np.abs(v) - 0.06, 0.025) * (np.abs(u - 0.45) < 0.1))


def _abdomen(scene: _Scene) -> None:
    """A round wall of soft tissue, liver, the stomach, the umbilical vein's hook, the spine."""
    view = scene.view
    u, v = scene.axes()
    q = _far(u / (1.0 + view.normal(0, 0.06)), v / 0.95)
    scene.paint(0.24, _soft(1 - q, 0.08))
    scene.paint(0.55, _line(q - 1, 0.06))
    scene.organ(-0.1, view.choice([-0.48, 0.48]), 0.24, 0.17, 0.02)
    hook = _far(u - 0.25, v)
    scene.paint(0.03, _line(hook - 0.3, 0.07) * (v > -0.1) * (u > 0) * scene.clear)
    scene.spine(-0.78, 0)
    ribs = _line(q - 0.95, 0.05) * (np.sin(9 * np.arctan2(v, u)) > 0.6) * (np.abs(u) < 0.75)
    scene.bone += view.uniform(0, 0.5) * scene.clear * ribs


def _thorax(scene: _Scene) -> None:
    """A round wall with ribs, lungs, a heart of four dark chambers, the spine."""
    view = scene.view
    u, v = scene.axes()
    q = _far(u / 0.98, v / (0.92 + view.normal(0, 0.06)))
    scene.paint(0.2, _soft(1 - q, 0.08))
    scene.paint(0.5, _line(q - 1, 0.06))
    side = view.choice([-1.0, 1.0])
    scene.organ(0.2, 0.2 * side, 0.56, 0.46, 0.36)
    for du, dv in ((0.2, 0.17), (0.2, -0.17), (-0.2, 0.14), (-0.2, -0.14)):
        scene.organ(0.2 + du, 0.2 * side + dv, 0.18, 0.13, 0.02)
    scene.spine(-0.78, 0)
    ribs = _line(q - 0.93, 0.05) * (np.sin(9 * np.arctan2(v, u)) > 0.5) * (np.abs(u) < 0.8)
    scene.bone += view.uniform(0.1, 0.8) * scene.clear * ribs


def _femur(scene: _Scene) -> None:
    """A bright, slightly bowed shaft in the soft tissue of a thigh, and its shadow."""
    view = scene.view
    # A femur is measured lying across the beams.
    scene.turn = view.normal(0, 0.4) + np.pi * view.integers(2)
    u, v = scene.axes()
    thigh = _far(u / 1.25, v / 0.55)
    scene.paint(0.22, _soft(1 - thigh, 0.12))
    scene.paint(0.45, _line(thigh - 1, 0.06))
    half = 0.75 + view.normal(0, 0.06)
    bow = v - 0.12 * (u / half) ** 2
    shaft = _line(bow, 0.07) * _soft(half - np.abs(u), 0.1)
    scene.bone += (0.1 + 0.9 * scene.clear) * shaft


_ANATOMY = (_abdomen, _brain, _femur, _thorax)


def _far(across: Grid, along: Grid) -> Grid:
    """Distance from the origin; several times faster than `np.hypot`, which guards overflow."""
    squared: Grid = across * across + along * along
    return np.sqrt(squared)


def _soft(inside: Grid, width: float) -> Grid:
    """1 well inside, 0 well outside, a ramp between."""
    return np.clip(0.5 + inside / width, 0, 1)


def _line(distance: Grid, width: float) -> Grid:
    """1 on a line, 0 farther from it than its width."""
    return np.maximum(0, 1 - (distance / width) ** 2)


def _compressed(scene: _Scene, gain: float, view: np.random.Generator) -> Grid:
    """Speckle, shadows, attenuation and log compression: 0 to 255 over (depth, beam)."""
    machine = scene.machine
    shadow = np.exp(-0.2 * np.cumsum(scene.bone, axis=0)) + 0.04
    # Tissue is never even: patches a few centimetres wide.
    waves = view.uniform(7, 15, 2), view.uniform(0, 6, 2)
    patch = np.sin(waves[0][0] * scene.x + waves[1][0]) * np.sin(
        waves[0][1] * scene.y + waves[1][1]
    )
    echo = (scene.tissue * (1 + 0.4 * patch) + 2.5 * scene.bone) * shadow
    blur = np.ones(machine.blur) / np.sqrt(machine.blur)
    wave = view.standard_normal((2, _DEPTHS, _BEAMS + machine.blur - 1))
    spread = sum(wave[:, :, k : k + _BEAMS] * blur[k] for k in range(machine.blur))
    envelope = _far(spread[0], spread[1]) / np.sqrt(2)
    lost = np.linspace(0, machine.attenuation, _DEPTHS)[:, None]
    signal = echo * envelope * 10 ** (-lost / 20) + machine.noise
    grey: Grid = 255 * (20 * np.log10(signal) + gain + machine.decibels) / machine.decibels
    return grey


@lru_cache(maxsize=16)
def _beams(machine: Machine) -> tuple[Grid, Grid]:
    """Across and down of every (depth, beam), from the top centre, in picture heights."""
    angle = np.linspace(-machine.half_angle, machine.half_angle, _BEAMS)
    radius = machine.apex + np.linspace(0, 1, _DEPTHS)[:, None]
    top = machine.apex * np.cos(machine.half_angle)
    return radius * np.sin(angle), radius * np.cos(angle) - top


@lru_cache(maxsize=16)
def _converter(machine: Machine) -> tuple[NDArray[np.intp], NDArray[np.intp], Grid]:
    """Pixels inside the fan, the grid's point up left of each, and the weights of its four."""
    deep = 1 + machine.apex * (1 - np.cos(machine.half_angle))
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT * deep
    across -= WIDTH / HEIGHT * deep / 2
    down += machine.apex * np.cos(machine.half_angle)
    row = (np.hypot(across, down) - machine.apex) * (_DEPTHS - 1)
    column = (np.arctan2(across, down) / machine.half_angle + 1) / 2 * (_BEAMS - 1)
    inside = (row >= 0) & (row < _DEPTHS - 1) & (column >= 0) & (column < _BEAMS - 1)
    row, column = row[inside], column[inside]
    y, x = row.astype(np.intp), column.astype(np.intp)
    dy, dx = row - y, column - x
    weight = np.stack([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx])
    return np.flatnonzero(inside), y * _BEAMS + x, weight


def _scan_converted(grid: Grid, machine: Machine) -> NDArray[np.uint8]:
    """Lay (depth, beam) out as the fan, bilinear, black around it."""
    pixel, corner, weight = _converter(machine)
    flat = grid.ravel()
    value = sum(
        weight[k] * flat[corner + step] for k, step in enumerate((0, 1, _BEAMS, _BEAMS + 1))
    )
    picture = np.zeros(HEIGHT * WIDTH, np.uint8)
    picture[pixel] = np.rint(np.clip(value, 0, 255))
    return picture.reshape(HEIGHT, WIDTH)
