# SPDX-License-Identifier: MIT
"""Draws the training steps of benchmarks/training_step.py.

Usage: python3 benchmarks/plots/training_step.py RESULT.json [--out docs]

training_step_speed: for each case, the share of the measured peak of matrix products that the model's FLOPs
reach (PaLM's formula), for Lamina and for each mode of PyTorch with the faster of its attentions; the text
beside a bar is the time of a step. SVG, and PNG where matplotlib is installed.
"""
import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from canvas import Canvas
from gpt_cases import CASES, MEASURED_TFLOPS, TITLES

# As in plots/layer_norm.py: Okabe and Ito's colours.
STYLES = {("lamina", "graph"): ("Lamina", "#d55e00"), ("lamina", "eager"): ("Lamina eager", "#e69f00"),
          ("lamina", "recompute"): ("Lamina recompute", "#f0c48a"),
          ("pytorch", "graphs"): ("PyTorch reduce-overhead", "#0072b2"),
          ("pytorch", "compile"): ("PyTorch compile", "#56b4e9"), ("pytorch", "eager"): ("PyTorch eager", "#cc79a7")}
INK, FAINT, GRID = "#222222", "#5a5a5a", "#e4e4e4"
LEFT, WIDTH, TOP = 230, 520, 76  # of the area with bars, pixels
BAR, GAP, GROUP_GAP = 15, 3, 20


def style_of(row):
    """The key of STYLES that a row is drawn as."""
    return row["implementation"], row["variant"].split("-")[0]


def bars_of(document, case):
    """[(style, row)] in the order of STYLES: the fastest row of each style."""
    fastest = {}
    for row in document["rows"]:
        if row["case"] != case or row["ms"] is None:
            continue
        key = style_of(row)
        if key not in fastest or row["ms"]["median"] < fastest[key]["ms"]["median"]:
            fastest[key] = row
    return [(key, fastest[key]) for key in STYLES if key in fastest]


def draw(document):
    groups = [(case, bars) for case in CASES if (bars := bars_of(document, case))]
    if not groups:
        sys.exit("plots: RESULT.json has no measured row, expected at least one")
    height = TOP + sum(len(bars) * (BAR + GAP) + GROUP_GAP for _, bars in groups) + 66
    canvas = Canvas(LEFT + WIDTH + 170, height)
    top_share = max(row["mfu_measured_peak"] for _, bars in groups for _, row in bars)
    full = max(0.2, -(-top_share // 0.1) * 0.1)  # the next 10 %
    canvas.text(16, 28, "GPT-2 training step", size=15, bold=True)
    canvas.text(16, 46, f"model FLOPs (PaLM) as a share of {MEASURED_TFLOPS:.0f} TFLOP/s, the measured peak; "
                "the text is the time of a step", size=11.5, color=FAINT)
    bottom = height - 66
    for tenth in range(round(full * 10) + 1):
        x = LEFT + WIDTH * tenth / 10 / full
        canvas.line([(x, TOP - 8), (x, bottom)], GRID)
        canvas.text(x, bottom + 16, f"{10 * tenth} %", size=11.5, color=FAINT, align="center")
    y = TOP
    for case, bars in groups:
        canvas.text(16, y + 12, TITLES[case], size=12, bold=True)
        for key, row in bars:
            label, color = STYLES[key]
            end = LEFT + WIDTH * row["mfu_measured_peak"] / full
            canvas.line([(LEFT, y + BAR / 2), (end, y + BAR / 2)], color, width=BAR)
            canvas.text(end + 6, y + 12, f"{row['ms']['median']:.1f} ms  {label}", size=11,
                        color=INK, bold=key == ("lamina", "graph"))
            y += BAR + GAP
        y += GROUP_GAP
    versions = {row["torch"] for row in document["rows"] if "torch" in row}
    canvas.text(16, height - 20, f"{document['machine']['gpu']}, {document['date']}, commit {document['commit'][:10]}"
                + "".join(f", PyTorch {version}" for version in sorted(versions)), size=10.5, color=FAINT)
    return canvas


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs")
    args = parser.parse_args()
    canvas = draw(json.loads(args.result.read_text(encoding="utf-8")))
    for path in canvas.save(args.out / "training_step_speed", "GPT-2 training step"):
        print(path)


if __name__ == "__main__":
    main()
