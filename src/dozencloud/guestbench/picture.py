"""The figures as a picture: how many times as fast, and latency over size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from dozencloud.drawing import CHARACTER, MARGIN, WIDTH, add, finished, page, swatch
from dozencloud.guestbench.results import Figure, Result, size_text
from dozencloud.guestbench.table import compared, number, title

LEFT, RIGHT = 200, 120  # px; left of the axes the names, right of them room for short labels
BAR, GAP, BETWEEN = 14, 3, 12  # px; height of a bar, below it, between two measures
CURVES = 360  # px; height of the latency chart
MANY = 5000  # an axis over more than this has marks at powers of ten only

STYLE = """
.part { font-size: 14px; font-weight: 600 } .one { stroke: #7b8794 }
.curve { fill: none; stroke-width: 2 }
.bar0, .dot0 { fill: #5f6c7b } .curve0 { stroke: #5f6c7b }
.bar1, .dot1 { fill: #d9480f } .curve1 { stroke: #d9480f }
.bar2, .dot2 { fill: #1c7ed6 } .curve2 { stroke: #1c7ed6 }
.bar3, .dot3 { fill: #2b8a3e } .curve3 { stroke: #2b8a3e }
.bar4, .dot4 { fill: #9c36b5 } .curve4 { stroke: #9c36b5 }
@media (prefers-color-scheme: dark) {
.bar0, .dot0 { fill: #98a4b3 } .curve0 { stroke: #98a4b3 }
.bar1, .dot1 { fill: #ff922b } .curve1 { stroke: #ff922b }
.bar2, .dot2 { fill: #4dabf7 } .curve2 { stroke: #4dabf7 }
.bar3, .dot3 { fill: #69db7c } .curve3 { stroke: #69db7c }
.bar4, .dot4 { fill: #da77f2 } .curve4 { stroke: #da77f2 }
}
"""
COLOURS = 5


def svg(results: Sequence[Result], baseline: Result) -> str:
    """The baseline is grey; the others have colours, which repeat after four."""
    return _Picture(results, baseline).draw()


class _Scale:
    """A logarithmic axis: values from `low` to `high` lie from `begin` to `end` (px)."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.high = math.log(low), math.log(high)
        self.begin, self.end = begin, end

    def __call__(self, value: float) -> float:
        part = (math.log(value) - self.low) / (self.high - self.low)
        return round(self.begin + part * (self.end - self.begin), 1)


class _Picture:
    def __init__(self, results: Sequence[Result], baseline: Result) -> None:
        self.baseline = baseline
        self.others = [result for result in results if result is not baseline]
        self.all = [baseline, *self.others]

    def draw(self) -> str:
        names = [result.machine.name for result in self.all]
        machines = " and ".join(names) if len(names) < 3 else f"{len(names)} machines"
        root = page(f"dozen bench: {machines}", self.describe(), STYLE)
        y = self.legend(root, 60)
        if self.others:
            y = self.bars(root, y + 30)
        return finished(root, self.curves(root, y + 30) + 16)

    def describe(self) -> str:
        """For those who cannot see it."""
        name = self.baseline.machine.name
        sentences = []
        for other in self.others:
            said = [f"{title(f)} {compared(r)}" for f, r in self.ratios(other)]
            sentences.append(f"{other.machine.name} against {name}: {', '.join(said)}.")
        for result in self.all:
            steps = [f"{size_text(f.parameter)} {number(f.best)} ns" for f in result.latencies]
            sentences.append(f"Memory latency of {result.machine.name}: {', '.join(steps)}.")
        return " ".join(sentences)

    def ratios(self, other: Result) -> list[tuple[Figure, float]]:
        """Figures that both have, and how many times as fast `other` is."""
        both = ((f, other.figure(f.measure.name, f.parameter)) for f in self.baseline.plain)
        return [(figure, same.faster_than(figure)) for figure, same in both if same]

    def colour(self, result: Result) -> int:
        number = self.all.index(result)
        return number if number < COLOURS else 1 + (number - 1) % (COLOURS - 1)

    def legend(self, root: ElementTree.Element, y: int) -> int:
        """A line for each machine; returns the bottom."""
        for result in self.all:
            swatch(root, f"bar{self.colour(result)}", MARGIN, y)
            line = result.machine.line
            most = int((WIDTH - 2 * MARGIN - 26) / CHARACTER) - len(result.machine.name)
            line = line if len(line) <= most else line[: max(most - 1, 0)] + "…"
            label = add(root, "text", f"{result.machine.name}  ", x=MARGIN + 26, y=y)
            add(label, "tspan", line, css="quiet")
            y += 19
        return y

    def bars(self, root: ElementTree.Element, top: int) -> int:
        """For each measure a bar for each machine, from 1 to the left or to the right."""
        name = self.baseline.machine.name
        add(root, "text", f"How fast, against {name}", css="part", x=MARGIN, y=top)
        ratios = {id(other): dict(self.ratios(other)) for other in self.others}
        every = [ratio for some in ratios.values() for ratio in some.values()]
        low = min([0.5, *every]) / 1.1
        high = max([2.0, *every]) * 1.1
        scale = _Scale(low, high, LEFT + 90, WIDTH - RIGHT)
        figures = self.baseline.plain
        row = len(self.others) * (BAR + GAP) + BETWEEN
        first = top + 34
        bottom = first + row * len(figures)
        for tick in _ticks(low, high):
            css = "one" if tick == 1 else "grid"
            add(root, "line", css=css, x1=scale(tick), x2=scale(tick), y1=first - 8, y2=bottom)
            text = "same" if tick == 1 else f"{tick:g}x" if tick > 1 else f"1/{1 / tick:g}"
            add(root, "text", text, css="quiet middle", x=scale(tick), y=first - 13)
        for number_, figure in enumerate(figures):
            y = first + row * number_
            middle = y + (row - BETWEEN) / 2 + 3
            add(root, "text", title(figure), x=MARGIN, y=middle)
            for place, other in enumerate(self.others):
                if figure in ratios[id(other)]:
                    self.bar(root, other, ratios[id(other)][figure], scale, y + place * (BAR + GAP))
        return bottom

    def bar(
        self, root: ElementTree.Element, other: Result, ratio: float, scale: _Scale, y: float
    ) -> None:
        begin, end = sorted((scale(1), scale(ratio)))
        add(
            root,
            "rect",
            css=f"bar{self.colour(other)}",
            x=begin,
            y=y,
            width=max(round(end - begin, 1), 2.5),
            height=BAR,
            rx=2.5,
        )
        right = ratio >= 1
        x = end + 6 if right else begin - 6
        add(root, "text", compared(ratio), css="halo" if right else "halo end", x=x, y=y + 11.5)

    def curves(self, root: ElementTree.Element, top: int) -> int:
        """Latency of a load over the size of what is loaded from, both logarithmic."""
        add(
            root,
            "text",
            "Memory latency: each load waits for the one before",
            css="part",
            x=MARGIN,
            y=top,
        )
        figures = [figure for result in self.all for figure in result.latencies]
        if len({figure.parameter for figure in figures}) < 2:
            add(root, "text", "Not enough was measured.", css="quiet end", x=MARGIN, y=top + 22)
            return top + 30
        sizes = sorted({figure.parameter for figure in figures})
        low = min(figure.best for figure in figures) / 1.3
        high = max(figure.best for figure in figures) * 1.3
        upper, lower = top + 20, top + 20 + CURVES
        across = _Scale(sizes[0], sizes[-1], MARGIN + 62, WIDTH - RIGHT)
        up = _Scale(low, high, lower, upper)
        for tick in _ticks(low, high):
            add(root, "line", css="grid", x1=across.begin, x2=across.end, y1=up(tick), y2=up(tick))
            add(root, "text", f"{tick:g} ns", css="quiet end", x=across.begin - 8, y=up(tick) + 4)
        for size in sizes:
            add(root, "line", css="grid", x1=across(size), x2=across(size), y1=upper, y2=lower)
            add(root, "text", size_text(size), css="quiet middle", x=across(size), y=lower + 17)
        for result in self.all:
            if result.latencies:
                self.curve(root, result, across, up)
        return lower + 24

    def curve(self, root: ElementTree.Element, result: Result, across: _Scale, up: _Scale) -> None:
        colour = self.colour(result)
        points = [(across(f.parameter), up(f.best), f) for f in result.latencies]
        path = " L".join(f"{x} {y}" for x, y, _ in points)
        group = add(root, "g")
        add(group, "path", css=f"curve curve{colour}", d=f"M{path}")
        for x, y, figure in points:
            dot = add(group, "circle", css=f"dot{colour}", cx=x, cy=y, r=3.5)
            text = f"{size_text(figure.parameter)}: {number(figure.best)} ns"
            add(dot, "title", f"{result.machine.name}, {text}")
        x, y, figure = points[-1]
        add(group, "text", f"{number(figure.best)} ns", css="halo", x=x + 8, y=y + 4)


def _ticks(low: float, high: float) -> list[float]:
    """1, 10, 100 ...; where these are few also 2 and 5."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < MANY else (1,)
    some = [step * 10.0**exponent for exponent in exponents for step in steps]
    return [tick for tick in some if low <= tick <= high]
