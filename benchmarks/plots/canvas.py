# SPDX-License-Identifier: MIT
"""A picture of lines, rectangles, circles and text, saved as SVG without any package, or as PNG by matplotlib.

Coordinates are pixels from the upper left corner. Colours are "#rrggbb".
"""
import html
import pathlib

FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
ANCHORS = {"left": "start", "center": "middle", "right": "end"}


class Canvas:
    def __init__(self, width, height, background="#ffffff"):
        self.width, self.height, self.background = width, height, background
        self.items = []  # drawn in this order

    def line(self, points, color, width=1.0, dashes=None):
        """Through points; dashes: lengths on, off, ..."""
        self.items.append(("line", points, color, width, dashes))

    def circle(self, x, y, radius, color):
        self.items.append(("circle", x, y, radius, color))

    def text(self, x, y, text, size=12.0, color="#222222", align="left", bold=False, angle=0):
        """y is the baseline; angle is in degrees, counter-clockwise."""
        self.items.append(("text", x, y, text, size, color, align, bold, angle))

    def svg(self, title):
        lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                 f'viewBox="0 0 {self.width} {self.height}" font-family="{FONT}" role="img">',
                 "<!-- SPDX-License-Identifier: MIT -->",
                 f"<title>{html.escape(title)}</title>",
                 f'<rect width="100%" height="100%" fill="{self.background}"/>']
        lines += [getattr(self, "_svg_" + item[0])(*item[1:]) for item in self.items]
        return "\n".join([*lines, "</svg>", ""])

    @staticmethod
    def _svg_line(points, color, width, dashes):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{",".join(f"{length:g}" for length in dashes)}"' if dashes else ""
        return (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dash} '
                f'stroke-linejoin="round"/>')

    @staticmethod
    def _svg_circle(x, y, radius, color):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}"/>'

    @staticmethod
    def _svg_text(x, y, text, size, color, align, bold, angle):
        turn = f' transform="rotate({-angle} {x:.1f} {y:.1f})"' if angle else ""
        weight = ' font-weight="bold"' if bold else ""
        return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{color}" '
                f'text-anchor="{ANCHORS[align]}"{weight}{turn}>{html.escape(text)}</text>')

    def save(self, path, title):
        """Writes path.svg, and path.png where matplotlib can be imported. Returns what was written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written = [path.with_name(path.name + ".svg")]
        written[0].write_text(self.svg(title), encoding="utf-8")
        try:
            import matplotlib
        except ImportError:
            return written
        matplotlib.use("Agg")
        written.append(path.with_name(path.name + ".png"))
        self._save_png(written[1])
        return written

    def _save_png(self, path: pathlib.Path):
        from matplotlib import pyplot
        dots = 100  # per inch; a point of matplotlib is 1/72 inch
        points = 72 / dots
        figure = pyplot.figure(figsize=(self.width / dots, self.height / dots), facecolor=self.background)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0))
        axes.axis("off")
        for order, (kind, *item) in enumerate(self.items):
            if kind == "line":
                corners, color, width, dashes = item
                style = (0, [length / width for length in dashes]) if dashes else "solid"
                axes.plot(*zip(*corners), color=color, linewidth=width * points, linestyle=style, zorder=order,
                          solid_joinstyle="round")
            elif kind == "circle":
                x, y, radius, color = item
                axes.add_patch(pyplot.Circle((x, y), radius, color=color, linewidth=0, zorder=order))
            else:
                x, y, text, size, color, align, bold, angle = item
                axes.text(x, y, text, fontsize=size * points, color=color, ha=align, va="baseline", zorder=order,
                          fontweight="bold" if bold else "normal", rotation=angle, rotation_mode="anchor")
        figure.savefig(path, dpi=2 * dots, metadata={"Software": None})
        pyplot.close(figure)
