# SPDX-License-Identifier: MIT
"""Tests the figures, the picture and the tables of a training step, without a GPU or a package.

Run: python3 tests/benchmarks/training_step_reports_test.py
"""
import importlib.util
import json
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from unittest import mock

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "plots")]


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


import gpt_cases
import gpt_floor
import readme

plots = load("plots/training_step.py", "plots_training_step")
training_step = load("training_step.py", "training_step")


def row(case, implementation, variant, ms, **more):
    return {**gpt_cases.result(case, implementation, variant, [ms] * 60, 1, 2**30, "command"), **more}


def document(rows):
    return {"machine": {"gpu": "GPU"}, "date": "2026-01-01", "commit": "0" * 40, "command": "command", "rows": rows}


ROWS = [row("gpt2_b16", "lamina", "graph", 25.0), row("gpt2_b16", "lamina", "eager", 26.0),
        row("gpt2_b16", "pytorch", "compile-flash", 31.0, torch="2.11"),
        row("gpt2_b16", "pytorch", "compile-cudnn", 30.0, torch="2.11"),
        gpt_cases.missing("gpt2_b16", "pytorch", "graphs-flash", "OutOfMemoryError: no")]

# Stands in for lamina-gpt: steps of 10 ms, after slow ones.
PROGRAM = """#!/usr/bin/env python3
import json, pathlib, sys
value = lambda name: sys.argv[sys.argv.index("--" + name) + 1]
folder = pathlib.Path(value("out"))
folder.mkdir()
steps, every = int(value("steps")), int(value("log-every"))
log = [{"event": "step", "step": i, "ms": 99.0 if i <= 20 else 10.0, "memory": 5, "skipped": 0}
       for i in range(1, steps + 1) if i == 1 or i % every == 0] + [{"event": "end", "graph_nodes": 7}]
(folder / "log.jsonl").write_text("\\n".join(map(json.dumps, log)))
"""


class Cases(unittest.TestCase):
    def test_parameters_are_those_of_gpt2(self):
        # Published: 124,439,808 and 1,557,611,200 with the positions.
        for name, total in (("gpt2_b16", 124_439_808), ("xl_b16", 1_557_611_200)):
            case = gpt_cases.CASES[name]
            self.assertEqual(case.parameters + case.context * case.width, total)

    def test_flops_follow_the_formula_of_palm(self):
        self.assertEqual(gpt_cases.CASES["gpt2_b16"].flops_per_token, 6 * 123_653_376 + 12 * 12 * 768 * 1024)

    def test_a_result_holds_median_spread_and_rates(self):
        result = gpt_cases.result("gpt2_b16", "lamina", "graph", [float(i) for i in range(100, 0, -1)], 5, 7, "c")
        self.assertEqual(result["ms"], {"median": 50.5, "p10": 11.0, "p90": 91.0, "intervals": 100, "steps": 500})
        self.assertEqual(result["tokens_per_second"], round(16384 / 0.0505))
        self.assertAlmostEqual(result["mfu_measured_peak"] / result["mfu_datasheet"], 989.5 / 796.0, delta=1e-3)


class Floor(unittest.TestCase):
    def test_products_are_six_flops_for_each_weight_and_token(self):
        case = gpt_cases.CASES["gpt2_b64"]
        weights = case.layers * 12 * case.width ** 2 + case.padded_vocab * case.width
        attention = 3.5 * case.layers * 2 * case.tokens * case.context * case.width
        flops = sum(part.flops for part in gpt_floor.parts(case))
        self.assertAlmostEqual(flops / (6 * weights * case.tokens + attention), 1.0, places=9)

    def test_a_part_is_bound_by_arithmetic_or_by_memory(self):
        self.assertAlmostEqual(gpt_floor.Part("", 796e9, 1e6).ms, 1.0)
        self.assertAlmostEqual(gpt_floor.Part("", 1e9, 4.3e9).ms, 1.0)
        loss = next(part for part in gpt_floor.parts(gpt_cases.CASES["gpt2_b64"]) if part.name.startswith("loss"))
        self.assertAlmostEqual(loss.ms, 2 * 65536 * 50304 * 2 / 4.3e9, places=6)


class TrainingStep(unittest.TestCase):
    def run_with(self, text, name):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "program"
            program.write_text(text, encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            return training_step.measure(str(program), name, "graph", 60)

    def test_leaves_out_the_warm_up(self):
        for name, steps in (("toy", 300), ("gpt2_b16", 60)):
            measured = self.run_with(PROGRAM, name)
            ms = measured["ms"]
            self.assertEqual((ms["median"], ms["p90"], ms["steps"]), (10.0, 10.0, steps))
            self.assertEqual(measured["graph_nodes"], 7)

    def test_names_why_there_is_no_figure(self):
        row = self.run_with("#!/bin/sh\necho 'out of memory' >&2\nexit 3\n", "toy")
        self.assertEqual((row["ms"], row["missing"]), (None, "exit status 3: out of memory"))

    def test_a_run_that_was_cut_off_is_resumed(self):
        def resume(path, commit):
            argv = ["training_step.py", str(path), "program", "--cases", "toy", "--resume", "--commit", commit]
            measure = mock.Mock(side_effect=lambda program, name, variant, _: row(name, "lamina", variant, 9.0))
            with mock.patch.object(sys, "argv", argv), mock.patch.object(training_step, "measure", measure), \
                    mock.patch("builtins.print"):
                training_step.main()
            document = json.loads(path.read_text(encoding="utf-8"))
            self.assertEqual(document["command"].count("--resume"), 1)
            return {one["variant"]: one["ms"]["median"] for one in document["rows"]}

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "result.json"
            gpt_cases.write(path, [row("toy", "lamina", "graph", 3.0),
                                   gpt_cases.missing("toy", "lamina", "eager", "timed out")], "c")
            self.assertEqual(resume(path, "c"), {"graph": 3.0, "eager": 9.0})
            with self.assertRaisesRegex(SystemExit, "commit is c, expected d"):
                resume(path, "d")
            for text, reason in (("", "Expecting value"), ("{}", "commit is None, expected c")):
                broken = path.with_name("broken.json")
                broken.write_text(text, encoding="utf-8")
                with self.assertRaisesRegex(SystemExit, reason):
                    resume(broken, "c")
            self.assertEqual(resume(path.with_name("new.json"), "d"), {"graph": 9.0, "eager": 9.0})

    def test_refuses_too_few_steps_of_a_peer(self):
        done = subprocess.run([sys.executable, str(BENCHMARKS / "peers" / "gpt_step.py"), "x.json", "--steps", "10"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--steps is 10, expected at least 50", done.stderr)


class Reports(unittest.TestCase):
    def test_picture_shows_the_fastest_of_each_mode(self):
        svg = plots.draw(document(ROWS)).svg("title")
        xml.etree.ElementTree.fromstring(svg)
        for text in ("25.0 ms  Lamina", "30.0 ms  PyTorch compile", "GPT-2 124M, 16 x 1024", "PyTorch 2.11"):
            self.assertIn(text, svg)
        self.assertNotIn("31.0 ms", svg)

    def test_picture_of_nothing_is_refused(self):
        with self.assertRaises(SystemExit):
            plots.draw(document(ROWS[-1:]))

    def test_tables_compare_with_the_fastest_peer(self):
        faster = [row("gpt2_b16", "lamina", "graph", 20.0), row("gpt2_b16", "pytorch", "graphs-flash", 29.0)]
        with mock.patch.object(readme, "steps", return_value=[document(ROWS), document(faster), document(ROWS[:1])]):
            text, variants = readme.training_step(), readme.training_step_variants()
        self.assertIn("| **25.00 (25.00 to 25.00)** | 655 k |", text)  # of the first run
        self.assertIn("| 30.00 (30.00 to 30.00) compile-cudnn | 1.20 | 29.00 graphs-flash |", text)
        self.assertEqual(variants.count("| GPT-2 124M, 16 x 1024 | 0000000 |"), 3)
        self.assertIn("| pytorch graphs-flash |", variants.splitlines()[0])


if __name__ == "__main__":
    unittest.main()
