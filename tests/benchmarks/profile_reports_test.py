# SPDX-License-Identifier: MIT
"""Tests what is made of profile.jsonl, with a program that stands in for lamina-gpt.

Run: python3 tests/benchmarks/profile_reports_test.py
"""
import json
import pathlib
import stat
import sys
import tempfile
import unittest
from unittest import mock

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import profile_overhead
import step_profile

# Steps of 10 ms, slow ones at the beginning; a sampled step takes 10.5 ms and a log interval 0.02 % more.
PROGRAM = """#!/usr/bin/env python3
import json, pathlib, sys
value = lambda name: sys.argv[sys.argv.index("--" + name) + 1]
every = next((int(word[10:]) for word in sys.argv if word.startswith("--profile=")), 0)
folder = pathlib.Path(value("out"))
folder.mkdir()
steps = int(value("steps"))
log_every = int(value("log-every")) if "--log-every" in sys.argv else 10
log = [{"event": "step", "step": i, "ms": 99.0 if i < 150 else 10.002 if every else 10.0}
       for i in range(log_every, steps + 1, log_every)] + [{"event": "end", "weights": WEIGHTS}]
(folder / "log.jsonl").write_text("\\n".join(map(json.dumps, log)))
row = {"layer": "head", "direction": "forward", "kernel": "gemm", "calls": 1, "ms": 6.0}
rows = [row, {**row, "layer": "norm", "kernel": "layer_norm", "ms": 1.0, "calls": 2}, {**row, "layer": "up", "ms": 2.9}]
if every:
    samples = [{"step": i, "step_ms": 10.0, "profiled_ms": 99.0 if i == every else 10.5, "named_ms": 9.9, "rows": rows}
               for i in range(every, steps + 1, every)]
    (folder / "profile.jsonl").write_text("\\n".join(map(json.dumps, samples)))
"""


class Profile(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.program = pathlib.Path(folder.name) / "program"
        self.write('"0x1"')
        silent = mock.patch("builtins.print")
        silent.start()
        self.addCleanup(silent.stop)

    def write(self, weights):
        self.program.write_text(PROGRAM.replace("WEIGHTS", weights), encoding="utf-8")
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def test_a_step_is_added_up_by_kernel_and_direction(self):
        row = step_profile.profile(str(self.program), "gpt2-16")
        self.assertEqual(row["samples"], 9)
        self.assertEqual(list(row["kernels"]), ["gemm forward", "layer_norm forward"])
        self.assertAlmostEqual(row["kernels"]["gemm forward"]["ms"], 8.9)
        self.assertAlmostEqual(row["kernels"]["gemm forward"]["calls"], 2)
        self.assertEqual((row["ms_of_norms"], row["ms_of_kernels"]), (1.0, 9.9))
        self.assertEqual(row["ms_per_step_without_profile"], 10.0)

    def test_a_case_is_a_preset_or_one_with_a_batch(self):
        for case, options in (("gpt2", "--preset gpt2 --device"), ("toy", "--preset toy --device"),
                              ("gpt2-medium-16", "--preset gpt2-medium --device")):
            command = step_profile.profile(str(self.program), case)["command"]
            self.assertIn(options, command)
            self.assertEqual("--batch 16" in command, case.endswith("-16"))

    def test_overhead_compares_runs_with_and_without(self):
        row = profile_overhead.measure(str(self.program), "gpt2_b16", "cuda", 50, 2)
        self.assertAlmostEqual(row["amortised"]["median"], 0.0002, places=6)
        self.assertEqual(row["amortised"]["count"], 2)
        self.assertAlmostEqual(row["sampled_step"]["median"], 0.05)
        self.assertEqual(row["sampled_step"]["count"], 16)  # without the warm-up
        self.assertAlmostEqual(row["from_samples"], 0.001)
        self.assertAlmostEqual(row["coverage"]["median"], 0.99)
        self.assertEqual((row["step_ms"]["median"], row["kernels_per_step"]), (10.0, 4))
        self.assertTrue(row["same_weights"])
        json.dumps(row)

    def test_overhead_says_when_the_profile_changes_weights(self):
        self.write('"0x2" if every else "0x1"')
        self.assertFalse(profile_overhead.measure(str(self.program), "toy", "cuda", 50, 1)["same_weights"])


if __name__ == "__main__":
    unittest.main()
