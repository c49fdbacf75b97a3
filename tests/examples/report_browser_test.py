# SPDX-License-Identifier: MIT
"""Shows the report of a run in a browser, narrow and wide, light and dark.

Run: python3 tests/examples/report_browser_test.py LAMINA_GPT CHROMIUM [SCREENSHOT_FOLDER]
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

from report_browser import Browser

WINDOWS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
SKILLS = ("open", "plan", "noun", "syntax", "turn", "mention", "recall", "count", "agree", "rhyme")
HOSTILE = "</script></pre><img src=https://example.com/x onerror=document.title='taken'>\x1b\"'&"

# Text on the ground it stands on, elements as painted; WCAG 2.2, success criterion 1.4.3.
WORST_CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = color => rgb(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("h1,h2,h3,p,a,li,dt,dd,small,th,td,figcaption,summary,pre,text")) {
    if (element.closest(".dot") || element.matches(".skip") || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.matches("text") ? style.fill : style.color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, element.tagName + " " + element.textContent.slice(0, 40)];
  }
  return worst;
})()"""


def write_run(folder):
    """A run of 5,000 steps with every file, and texts that try to be markup."""
    lines = [{"event": "start", "preset": "toy", "parameters": 826112, "data": HOSTILE, "device": "cuda:0",
              "dtype": "bf16", "flops_per_token": 6e6, "machine": {"cpu": HOSTILE},
              "memory_plan": {"weights": 1e6, "activations": 5e7}}]
    for step in range(1, 5001):
        lines.append({"event": "step", "step": step, "loss": 0.17 + 4 * math.exp(-step / 300) + 0.01 * (step % 7),
                      "floor": 0.15, "tok_s": 1e6 + 1e4 * (step % 5), "ms": 5.0, "memory": 1e9})
        if step % 500 == 0:
            excess = 0.01 + 0.3 * math.exp(-step / 900)
            lines.append({"event": "eval", "step": step, "val_loss": 0.15 + excess, "val_sigma": 0.001, "floor": 0.15,
                          "excess": excess, "excess_sigma": 0.002,
                          "skills": {name: {"targets": 100 + i, "loss": 0.1 * i + excess, "floor": 0.1 * i}
                                     for i, name in enumerate(SKILLS)}})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event":"st')
    rows = [{"layer": f"blocks.{block}.{part}", "direction": direction, "kernel": "gemm", "calls": 1, "ms": 0.02 * scale,
             "bytes": 2e7, "flops": 1e8 * 10 ** (part == "mlp.up"), "live_bytes": 1}
            for block in range(12) for part, scale in (("norm_1", 1), ("attention.qkv", 3), ("mlp.up", 4))
            for direction in ("forward", "backward")]
    (folder / "profile.jsonl").write_text(json.dumps(
        {"step": 4950, "step_ms": 5.0, "profiled_ms": 5.1, "named_ms": 4.9, "peak_bytes": 1, "rows": rows,
         "ceilings": {"copy_gb_s": 4000.0, "matmul_tflop_s": 700.0, "dtype": "bf16"}}) + "\n")
    (folder / "config.json").write_text(json.dumps({"corpus": "standard", "steps": 5000, "note": HOSTILE}))
    (folder / "samples.txt").write_text(f"sample 1 of 2\n\n{HOSTILE}\n\nsample 2 of 2\n\nfine\n\n90.0% of 20 sentences\n")


class ReportInABrowser(unittest.TestCase):
    program = chromium = screenshots = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        run = pathlib.Path(cls.folder.name) / "run"
        run.mkdir()
        write_run(run)
        subprocess.run([cls.program, "report", str(run)], check=True, capture_output=True)
        cls.page = run / "report.html"
        cls.browser = Browser(cls.chromium)
        cls.addClassCleanup(cls.browser.close)

    def in_each_window(self, check):
        """Calls check(width, name of the window) on the page."""
        for width, scheme in WINDOWS:
            with self.subTest(width=width, scheme=scheme):
                self.browser.show(self.page, width, scheme)
                check(width, f"{scheme}-{width}")

    def test_loads_without_errors_and_asks_for_nothing(self):
        def check(*_):
            self.assertEqual(self.browser.seen("Log.entryAdded"), [])
            self.assertEqual(self.browser.seen("Runtime.exceptionThrown"), [])
            asked = [event["request"]["url"] for event in self.browser.seen("Network.requestWillBeSent")]
            self.assertEqual(asked, [self.page.resolve().as_uri()])
            self.assertEqual(self.browser.evaluate("document.title"), "run · Lamina report")
        self.in_each_window(check)

    def test_is_small(self):
        self.assertLess(self.page.stat().st_size, 2_000_000)

    def test_has_every_plot_at_a_size_to_be_seen(self):
        names = ["loss-plot", "excess-plot", "skills-plot", "speed-plot", "step-plot", "roofline-plot", "memory-plot",
                 "memory-plan"]

        def check(*_):
            plots = self.browser.evaluate(
                "[...document.querySelectorAll('svg[role=img]')].map(svg => [svg.querySelector('title').id,"
                " svg.getBoundingClientRect().width, svg.getBoundingClientRect().height])")
            self.assertEqual([name for name, *_ in plots], [name + "-title" for name in names])
            self.assertTrue(all(width > 200 and height >= 80 for _, width, height in plots), plots)
        self.in_each_window(check)

    def test_fits_the_window(self):
        self.in_each_window(lambda width, _: self.assertLessEqual(
            self.browser.evaluate("document.documentElement.scrollWidth"), width))

    def test_text_can_be_read_on_its_ground(self):
        def check(*_):
            ratio, where = self.browser.evaluate(WORST_CONTRAST)
            self.assertGreaterEqual(ratio, 4.5, where)
        self.in_each_window(check)

    def test_has_landmarks_headings_and_a_table_behind_every_plot(self):
        self.browser.show(self.page, 1280, "light")
        count = lambda selector: self.browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")
        for landmark in ("header", "nav[aria-label]", "main", "footer", "h1"):
            self.assertEqual(count(landmark), 1, landmark)
        self.assertEqual(self.browser.evaluate(
            "[...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')]"
            ".map(e => e.id)).size"), 0)  # ids are unique
        self.assertEqual(self.browser.evaluate(
            "[...document.querySelectorAll('[aria-labelledby]')].flatMap(e => e.getAttribute('aria-labelledby')"
            ".split(' ')).filter(id => !document.getElementById(id)?.textContent)"), [])
        # All but the memory plan, whose bars say their numbers.
        self.assertEqual(count("figure:has(svg[role=img]):not(:has(table))"), 1)
        self.assertEqual(count("nav a"), count("main > section"))

    def test_every_part_can_be_reached_by_keyboard(self):
        self.browser.show(self.page, 1280, "light")
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        self.assertEqual(self.browser.evaluate("document.activeElement.className"), "skip")
        self.assertGreaterEqual(self.browser.evaluate("document.activeElement.getBoundingClientRect().left"), 0)

    def test_can_be_photographed(self):
        def check(_, window):
            path = pathlib.Path(self.screenshots or self.folder.name) / f"report-{window}.png"
            self.browser.screenshot(path)
            self.assertGreater(path.stat().st_size, 50_000)  # not an empty page
        self.in_each_window(check)


if __name__ == "__main__":
    ReportInABrowser.program, ReportInABrowser.chromium, *folders = sys.argv[1:]
    ReportInABrowser.screenshots = folders[0] if folders else None
    unittest.main(argv=sys.argv[:1])
