"""The page's colours as numbers: its palette, contrast (WCAG 2.2), and how it looks to every kind of sight."""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.render.html.html import render_html
from tests.sample_report import full_report

# Machado, Oliveira, Fernandes 2009, severity 1.0: how linear RGB looks without one kind of cone.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}

Colour = tuple[float, float, float]


def palette(scheme: int) -> dict[str, Colour]:
    """Colour variables of the page: the first block is light, the second dark."""
    blocks = re.findall(r"(--page:.*?)color-scheme", render_html(full_report()), re.DOTALL)
    found = re.findall(r"--([\w-]+): #(\w\w)(\w\w)(\w\w);", blocks[scheme])
    return {name: (int(r, 16) / 255, int(g, 16) / 255, int(b, 16) / 255) for name, r, g, b in found}


def rgb(css: str) -> Colour:
    red, green, blue = (int(float(part)) / 255 for part in re.findall(r"[\d.]+", css)[:3])
    return red, green, blue


def linear(colour: Colour) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    value = np.array(colour)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: Colour, other: Colour) -> float:
    """WCAG contrast ratio."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    high, low = sorted((float(linear(one) @ weights), float(linear(other) @ weights)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(
    colour: Colour, sight: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """CIELAB (D65) of a colour as seen."""
    seen = np.clip(sight @ linear(colour), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
