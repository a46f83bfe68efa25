"""The figures as text."""

from __future__ import annotations

from collections.abc import Sequence

from dozencloud.guestbench.results import (
    LATENCY,
    Figure,
    Result,
    clock,
    counters,
    restless,
    size_text,
)

SAME = 0.05
"""Closer than this, two figures are called the same: machines vary by as much from run to run."""

BUSY = "  restless: half of its figures vary by more than ±10%. Repeat it when the host is idle."


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def compared(ratio: float) -> str:
    """How a machine does that is `ratio` times as fast as the baseline."""
    if abs(ratio - 1) < SAME:
        return "same"
    times, word = (ratio, "faster") if ratio > 1 else (1 / ratio, "slower")
    return f"{times:.1f}x {word}" if times < 10 else f"{times:.0f}x {word}"


def title(figure: Figure) -> str:
    """What a row is called."""
    if figure.measure.name == LATENCY:
        return f"{figure.measure.title}, {size_text(figure.parameter)}"
    return figure.measure.title


def plain(results: Sequence[Result], baseline: Result) -> str:
    """Everything in columns; each machine beside the baseline."""
    others = [result for result in results if result is not baseline]
    head = ["", "unit", baseline.machine.name]
    for other in others:
        head += [other.machine.name, ""]
    rows = [head, *(_row(figure, others) for figure in (*baseline.plain, *baseline.latencies))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_notes(results, baseline), ""])


def _row(figure: Figure, others: Sequence[Result]) -> list[str]:
    row = [title(figure), str(figure.measure.unit), _cell(figure)]
    for other in others:
        same = other.figure(figure.measure.name, figure.parameter)
        row += [_cell(same), compared(same.faster_than(figure))] if same else ["-", ""]
    return row


def _cell(figure: Figure) -> str:
    return f"{number(figure.best)} ±{figure.spread / 2:.0%}"


def _notes(results: Sequence[Result], baseline: Result) -> list[str]:
    lines = [
        "The best of all samples; ± is half of the range of their middle half, against the median.",
        "M/s: millions a second.",
    ]
    if len(results) > 1:
        lines.append(f"Compared with {baseline.machine.name}.")
    for result in results:
        lines += [
            "",
            f"{result.machine.name}: {result.machine.line}",
            f"  clock: {clock(result)}",
            f"  performance counters: {counters(result)}",
            *([BUSY] if restless(result) else []),
            *(f"  left out: {what}" for what in result.left_out),
        ]
    return lines
