# SPDX-License-Identifier: Apache-2.0
"""Line plots with logarithmic axes, as SVG."""

import html
import math

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#8d6a9f", "#b58b00", "#555555")


def tick_text(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def decades(low, high):
    """Powers of ten around LOW to HIGH."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0 ** exponent for exponent in range(first, max(last, first + 1) + 1)]


class Axis:
    def __init__(self, values, begin, end):
        self.ticks = decades(min(values), max(values))
        self.begin, self.end = begin, end

    def place(self, value):
        low, high = math.log10(self.ticks[0]), math.log10(self.ticks[-1])
        part = (math.log10(value) - low) / (high - low)
        return self.begin + part * (self.end - self.begin)


def text(x, y, words, anchor="middle", extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>'
            f'{html.escape(words)}</text>')


def frame(x_axis, y_axis, title, x_label, y_label):
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12" fill="#222">')
    yield f"<title>{html.escape(title)}</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield text(LEFT, 22, title, "start", 'font-size="15" font-weight="bold"')
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#e4e4e4"/>'
        yield text(x, bottom + 18, tick_text(tick))
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e4e4e4"/>'
        yield text(LEFT - 8, y + 4, tick_text(tick), "end")
    yield text((LEFT + right) / 2, HEIGHT - 12, x_label)
    yield text(0, 0, y_label, extra=f'transform="translate(18 {(TOP + bottom) / 2}) rotate(-90)"')


def lines(title, x_label, y_label, series):
    """SERIES are (name, [(x, y), ...]); only positive values can be shown."""
    series = [(name, [(x, y) for x, y in points if x > 0 and y > 0]) for name, points in series]
    series = [(name, points) for name, points in series if points]
    x_axis = Axis([x for _, points in series for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = Axis([y for _, points in series for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = list(frame(x_axis, y_axis, title, x_label, y_label))
    for index, (name, points) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>')
        y = TOP + 14 + 20 * index
        parts.append(f'<path d="M{WIDTH - RIGHT + 14} {y - 4}h22" stroke="{colour}" '
                     'stroke-width="3"/>')
        parts.append(text(WIDTH - RIGHT + 42, y, name, "start"))
    return "\n".join(parts) + "\n</svg>\n"
