# SPDX-License-Identifier: MIT
"""Draws the LayerNorm measurements of benchmarks/peers/layer_norm.py --sweep.

Usage: python3 benchmarks/plots/layer_norm.py RESULT.json [--out docs/kernels] [--rows 4096]

For each type with several row sizes in RESULT.json: layer_norm_<type>_bandwidth: GB/s over the row size, forward and forward +
backward; layer_norm_<type>_parts: backward alone and residual addition + forward; layer_norm_<type>_speedup:
how many times faster Lamina is than the fastest of the others. GB/s counts the bytes that must move (every
operand read once, every result written once); "copy" is the fastest copy of as many bytes. SVG, and PNG
where matplotlib is installed.
"""
import argparse
import json
import math
import pathlib
import sys
from dataclasses import dataclass

from canvas import Canvas

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from norm_results import add_earlier

# Okabe and Ito's colours, told apart with every kind of colour vision; grey is for what is no implementation.
COLORS = {"Lamina": "#d55e00", "torch.compile": "#0072b2", "Triton": "#009e73", "PyTorch eager": "#cc79a7",
          "Liger": "#56b4e9", "Quack": "#e69f00", "copy": "#707070"}
LABELS = {"lamina": "Lamina", "eager": "PyTorch eager", "compile": "torch.compile", "triton": "Triton",
          "liger": "Liger", "quack": "Quack"}
OP_TITLES = {"forward": "forward", "forward_backward": "forward + backward", "backward": "backward alone",
             "add_forward": "residual addition + forward"}
OP_COLORS = {"forward": "#d55e00", "forward_backward": "#0072b2", "backward": "#009e73", "add_forward": "#cc79a7"}
INK, FAINT, GRID = "#222222", "#5a5a5a", "#e4e4e4"
LINE_HEIGHT = 15.0  # between labels, pixels


@dataclass
class Series:
    label: str
    color: str
    points: list  # (row size, value), by row size
    width: float = 1.6
    dashes: tuple = None


@dataclass
class Panel:
    """The area of a plot, and the values at its edges; x is logarithmic."""
    left: float
    top: float
    width: float
    height: float
    x_range: tuple
    y_range: tuple

    def x(self, value):
        low, high = (math.log2(edge) for edge in self.x_range)
        return self.left + self.width * (math.log2(value) - low) / (high - low)

    def y(self, value):
        low, high = self.y_range
        return self.top + self.height * (1 - (value - low) / (high - low))


def spread(wanted, gap, low, high):
    """Positions near the wanted ones, in the same order, at least gap apart and within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def step_of(span):
    """A round distance between grid lines, of which span has about four to nine."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(power * factor for factor in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (power * factor) < 9)


def draw_panel(canvas, panel, title, unit, series, reference=None):
    """Axes, grid, the lines and a label at the end of each; reference: a value with an emphasised line."""
    bottom, right = panel.top + panel.height, panel.left + panel.width
    canvas.text(panel.left, panel.top - 28, title, size=15, bold=True)
    canvas.text(panel.left, panel.top - 10, unit, size=11.5, color=FAINT)
    low, high = panel.y_range
    step = step_of(high - low)
    for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1):
        value = i * step
        is_reference = reference is not None and math.isclose(value, reference)
        canvas.line([(panel.left, panel.y(value)), (right, panel.y(value))], FAINT if is_reference else GRID,
                    width=1.4 if is_reference else 1.0)
        text = f"{value:,.0f}" if step >= 1 else f"{value:.{max(1, -math.floor(math.log10(step)))}f}"
        canvas.text(panel.left - 8, panel.y(value) + 4, text, size=11.5, color=FAINT, align="right")
    for power in range(math.ceil(math.log2(panel.x_range[0])), math.floor(math.log2(panel.x_range[1])) + 1):
        x = panel.x(2 ** power)
        canvas.line([(x, bottom), (x, bottom + 5)], FAINT)
        text = f"{2 ** power // 1024}k" if power >= 10 else str(2 ** power)
        canvas.text(x, bottom + 19, text, size=11.5, color=FAINT, align="center")
    canvas.line([(panel.left, bottom), (right, bottom)], FAINT)
    canvas.text(panel.left + panel.width / 2, bottom + 40, "row size (elements)", size=11.5, color=FAINT,
                align="center")
    for one in series:
        points = [(panel.x(cols), panel.y(value)) for cols, value in one.points]
        canvas.line(points, one.color, one.width, one.dashes)
        if not one.dashes:
            for x, y in points:
                canvas.circle(x, y, 1.3 * one.width, one.color)
    ends = [panel.y(one.points[-1][1]) for one in series]
    for one, end, y in zip(series, ends, spread(ends, LINE_HEIGHT, panel.top, bottom)):
        last = panel.x(one.points[-1][0])
        canvas.line([(last + 5, end), (right + 14, y)], one.color, width=0.8)
        canvas.text(right + 18, y + 4, one.label, size=12, color=one.color, bold=one.label == "Lamina")


def rows_of(document, dtype, op, rows):
    """The measured rows of a line, by row size."""
    return sorted((row for row in document["rows"]
                   if (row["dtype"], row["op"], row["rows"]) == (dtype, op, rows)), key=lambda row: row["cols"])


def dtypes_of(document, rows):
    """The types that were measured at several row sizes: one point is no line."""
    cols = {}
    for row in document["rows"]:
        if row["rows"] == rows:
            cols.setdefault(row["dtype"], set()).add(row["cols"])
    return sorted(dtype for dtype, found in cols.items() if len(found) > 1)


def bandwidth_series(rows):
    """Copy first and Lamina last, so that it is drawn over the others."""
    def gigabytes_per_second(row, timing):
        return row["cols"], row["least_bytes"] / timing["median"] / 1e3

    lines = [Series("copy", COLORS["copy"], [gigabytes_per_second(row, row["copy"]) for row in rows], 1.4, (5, 4))]
    for name in ("eager", "liger", "quack", "compile", "triton", "lamina"):
        points = [gigabytes_per_second(row, row["us"][name]) for row in rows if row["us"].get(name)]
        if points:
            lines.append(Series(LABELS[name], COLORS[LABELS[name]], points, 3.0 if name == "lamina" else 1.6))
    return lines


def speedup_points(rows):
    """(row size, time of the fastest other / time of Lamina)."""
    points = []
    for row in rows:
        others = [timing["median"] for name, timing in row["us"].items() if timing and name != "lamina"]
        if others and row["us"].get("lamina"):
            points.append((row["cols"], min(others) / row["us"]["lamina"]["median"]))
    return points


def column_range(lines):
    columns = [cols for line in lines for cols, _ in line.points]
    return min(columns), max(max(columns), 2 * min(columns))


def draw_caption(canvas, document, dtype, rows):
    machine = document["machine"]
    lines = [f"{machine['gpu']}, {rows} rows, {dtype}, operands not in cache, device time, median of "
             f"{document['rows'][0]['copy']['replays']} replays.",
             f"PyTorch {machine['torch']}, driver {machine['driver']}, {document['date']}, "
             f"commit {document['commit'][:10]}: {document['command'].split(' ')[1]}"]
    if document.get("earlier"):
        lines.append(document["earlier"].replace("`", ""))
    for i, line in enumerate(lines):
        canvas.text(16, canvas.height - 12 - 16 * (len(lines) - 1 - i), line, size=10.5, color=FAINT)


def draw_bandwidth(document, dtype, ops, rows):
    """One panel for each op; None if nothing of them was measured."""
    found = [(op, bandwidth_series(measured)) for op in ops if (measured := rows_of(document, dtype, op, rows))]
    if not found:
        return None
    top_value = max(value for _, lines in found for line in lines for _, value in line.points)
    step = step_of(top_value)
    canvas = Canvas(60 + 510 * len(found), 466)
    for i, (op, lines) in enumerate(found):
        panel = Panel(left=62 + 510 * i, top=72, width=340, height=290, x_range=column_range(lines),
                      y_range=(0.0, math.ceil(top_value / step) * step))
        draw_panel(canvas, panel, f"LayerNorm {OP_TITLES[op]}", "GB/s, higher is better", lines)
    draw_caption(canvas, document, dtype, rows)
    return canvas


def draw_speedup(document, dtype, rows):
    lines = [Series(OP_TITLES[op], OP_COLORS[op], points, 2.2) for op in OP_TITLES
             if (points := speedup_points(rows_of(document, dtype, op, rows)))]
    if not lines:
        return None
    values = [value for line in lines for _, value in line.points]
    canvas = Canvas(800, 466)
    panel = Panel(left=62, top=72, width=520, height=290, x_range=column_range(lines),
                  y_range=(min(0.8, math.floor(min(values) * 5) / 5), max(1.4, math.ceil(max(values) * 5) / 5)))
    draw_panel(canvas, panel, "Lamina against the fastest other implementation at each size",
               "times faster (1.0: as fast)", lines, reference=1.0)
    draw_caption(canvas, document, dtype, rows)
    return canvas


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "kernels")
    parser.add_argument("--rows", type=int, default=4096)
    args = parser.parse_args()
    document = json.loads(args.result.read_text(encoding="utf-8"))
    before = args.result.with_name(f"{args.result.stem}_earlier.json")
    if before.exists():
        document["earlier"] = add_earlier(document, json.loads(before.read_text(encoding="utf-8")), before.name)
    for dtype in dtypes_of(document, args.rows):
        pictures = {
            "bandwidth": draw_bandwidth(document, dtype, ("forward", "forward_backward"), args.rows),
            "parts": draw_bandwidth(document, dtype, ("backward", "add_forward"), args.rows),
            "speedup": draw_speedup(document, dtype, args.rows),
        }
        for name, canvas in pictures.items():
            if canvas:
                for path in canvas.save(args.out / f"layer_norm_{dtype}_{name}", f"LayerNorm {dtype}: {name}"):
                    print(path)


if __name__ == "__main__":
    main()
