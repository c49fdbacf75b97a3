# SPDX-License-Identifier: MIT
"""Tests what turns LayerNorm measurements into pictures, tables and verdicts, without a GPU or a package.

Run: python3 tests/benchmarks/layer_norm_reports_test.py
"""
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from unittest import mock

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks"


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


sys.path.append(str(BENCHMARKS / "plots"))
plots = load("plots/layer_norm.py", "plots_layer_norm")
ncu = load("ncu/layer_norm.py", "ncu_layer_norm")
readme = load("readme.py", "readme")


def timing(us):
    return {"median": us, "p20": us, "p80": us, "calls_per_graph": 100, "replays": 15}


def measured(op, cols, ours, others, rows=4096):
    return {"op": op, "dtype": "bf16", "rows": rows, "cols": cols, "least_bytes": 4 * rows * cols, "sets": 4,
            "cold": True, "copy": timing(0.95 * ours), "us": {"lamina": timing(ours), **others}, "missing": {}}


def document(rows):
    return {"machine": {"gpu": "GPU", "torch": "2", "driver": "1"}, "date": "2026-01-01", "commit": "0" * 40,
            "command": "python3 benchmarks/peers/layer_norm.py RESULT.json", "rows": rows}


class Plots(unittest.TestCase):
    def test_labels_keep_their_order_and_distance(self):
        placed = plots.spread([10.0, 11.0, 300.0, 9.0], gap=15, low=0, high=300)
        self.assertEqual(sorted(range(4), key=lambda i: placed[i]), [3, 0, 1, 2])
        gaps = [b - a for a, b in zip(sorted(placed), sorted(placed)[1:])]
        self.assertGreaterEqual(min(gaps), 15)
        self.assertLessEqual(max(placed), 300)

    def test_grid_has_few_round_steps(self):
        for span in (0.4, 0.9, 1.0, 1.81, 3.0, 99.0, 1700.0, 4210.0):
            self.assertGreaterEqual(span / plots.step_of(span), 3.6)
            self.assertLess(span / plots.step_of(span), 9)

    def test_speedup_is_against_the_fastest_other_that_was_measured(self):
        row = measured("forward", 1024, 10.0, {"eager": timing(30.0), "triton": timing(12.0), "quack": None})
        self.assertEqual(plots.speedup_points([row]), [(1024, 1.2)])
        self.assertEqual(plots.speedup_points([measured("forward", 1024, 10.0, {"quack": None})]), [])

    def test_pictures_are_well_formed_and_name_what_was_measured(self):
        rows = [measured(op, cols, 10.0, {"eager": timing(20.0), "triton": None})
                for op in plots.OP_TITLES for cols in (256, 1024)]
        canvas = plots.draw_bandwidth(document(rows), "bf16", ("forward", "forward_backward"), 4096)
        texts = [node.text for node in xml.etree.ElementTree.fromstring(canvas.svg("a < b"))]
        self.assertIn("PyTorch eager", texts)
        self.assertNotIn("Triton", texts)
        self.assertIn("a < b", texts)
        self.assertIsNone(plots.draw_bandwidth(document(rows), "f32", ("forward",), 4096))
        self.assertIn("backward alone", plots.draw_speedup(document(rows), "bf16", 4096).svg("speed-up"))

    def test_a_type_of_one_size_gets_no_picture(self):
        rows = [measured("forward", cols, 10.0, {}) for cols in (256, 1024)]
        rows += [dict(measured("forward", 1024, 10.0, {}), dtype="f16"), measured("forward", 1024, 10.0, {}, rows=1)]
        self.assertEqual(plots.dtypes_of(document(rows), 4096), ["bf16"])
        self.assertEqual(plots.dtypes_of(document(rows), 1), [])

    def test_one_size_can_be_drawn(self):
        rows = [measured("forward", 1024, 10.0, {"eager": timing(20.0)})]
        xml.etree.ElementTree.fromstring(plots.draw_speedup(document(rows), "bf16", 4096).svg("one"))


FAKE_NCU = '''#!/bin/sh
[ "$1" = --version ] && { echo "Version 1"; exit; }
echo "==PROF== Connected"
echo '"ID","Kernel Name","dram__bytes_read.sum","dram__bytes_write.sum"'
echo '"","","byte","byte"'
i=0
while [ $i -lt 12 ]; do
  echo "\\"$i\\",\\"void row_norm::backward<4>(int, float)\\",\\"$READ\\",\\"33,570,816\\""
  echo "\\"$i\\",\\"void row_norm::add_partials(int)\\",\\"0\\",\\"0\\""
  i=$((i + 1))
done
'''


class Ncu(unittest.TestCase):
    def run_with(self, script, **environment):
        """Exit status, output and JSON of the check on 4096 x 4096 bf16 backward with that ncu."""
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "ncu"
            program.write_text(script, encoding="utf-8")
            program.chmod(0o755)
            result = pathlib.Path(folder) / "result.json"
            path = {"PATH": folder + os.pathsep + os.environ["PATH"], **environment}
            arguments = ["layer_norm.py", "bench", str(result), "--ops", "backward", "--shapes", "4096x4096"]
            with mock.patch.dict(os.environ, path), mock.patch.object(sys, "argv", arguments), \
                    contextlib.redirect_stdout(io.StringIO()) as output:
                status = ncu.main()
            return status, output.getvalue(), json.loads(result.read_text()) if result.exists() else None

    def test_accepts_the_least_bytes(self):
        status, _, found = self.run_with(FAKE_NCU, READ="67,174,400")
        self.assertEqual(status, 0)
        self.assertEqual(found["rows"][0]["kernels_per_call"], 2)
        self.assertAlmostEqual(found["rows"][0]["ratio"], 1.0, places=3)

    def test_refuses_a_twentieth_more(self):
        status, output, _ = self.run_with(FAKE_NCU, READ="72,300,000")
        self.assertEqual(status, 1)
        self.assertIn("expected within 3%", output)

    def test_says_that_counters_are_not_permitted(self):
        status, output, _ = self.run_with("#!/bin/sh\necho '==ERROR== ERR_NVGPUCTRPERM - no permission'\nexit 1\n")
        self.assertEqual(status, 77)
        self.assertIn("ERR_NVGPUCTRPERM", output)

    def test_refuses_output_without_kernels(self):
        with self.assertRaisesRegex(SystemExit, "0 kernels were counted"):
            self.run_with("#!/bin/sh\necho 'No kernels were profiled'\n")


class Tuning(unittest.TestCase):
    def test_what_was_measured_is_looked_up_in_its_own_entry(self):
        path = BENCHMARKS / "results/nvidia-h200/layer_norm_tuning.json"
        problems = json.loads(path.read_text(encoding="utf-8"))["problems"]
        kind = ("pass", "cols", "element_bytes", "stream_bytes", "has_residual", "has_tail")
        limits = {}  # kind: rows that were measured, up to how many they stand
        for problem in problems:
            limits.setdefault(tuple(problem[key] for key in kind), []).append(
                (problem["rows"], problem["max_rows"] or float("inf")))
        self.assertTrue(limits)
        for sizes in limits.values():
            sizes.sort()
            for (_, limit), (rows, _) in zip(sizes, sizes[1:]):
                self.assertLess(limit, rows, sizes)


class Readme(unittest.TestCase):
    def test_table_names_the_fastest_other(self):
        rows = [measured(op, 768, 8.0, {"eager": timing(20.0), "compile": timing(9.0), "quack": None}, rows=8192)
                for op in ("forward", "add_forward", "forward_backward")]
        with mock.patch.object(readme, "load", return_value=document(rows)):
            text = readme.layer_norm()
        cell = "**8.0** / 9.0 torch.compile"
        self.assertIn(f"| bf16 8192 x 768 | {cell} | {cell} | {cell} | 95% |", text)

    def test_an_implementation_that_is_missing_has_the_time_of_an_earlier_run(self):
        now, earlier = (document([measured("forward", 768, 8.0, others, rows=8192)])
                        for others in ({"eager": timing(20.0)}, {"eager": timing(5.0), "liger": timing(9.0)}))
        now["unavailable"] = {"liger": "No module", "quack": "No module"}
        earlier |= {"implementations": {"eager": "", "liger": ""}, "commit": "1" * 40}
        with mock.patch.object(readme, "load", side_effect=lambda name: earlier if "earlier" in name else now):
            text = readme.layer_norm()
        self.assertIn("**8.0** / 9.0 Liger", text)
        self.assertIn("(liger: `layer_norm_peers_earlier.json`, commit 1111111111)", text)
        other = {**earlier, "machine": {**earlier["machine"], "driver": "another"}}
        for before in (other, FileNotFoundError()):
            now["rows"] = [measured("forward", 768, 8.0, {"eager": timing(20.0)}, rows=8192)]
            with mock.patch.object(readme, "load", side_effect=[now, before]):
                self.assertIn("**8.0** / 20.0 PyTorch", readme.layer_norm())

    def test_lists_what_is_slower_than_the_fastest_other_beyond_the_spread(self):
        def beside(op, ours, theirs):
            return measured(op, 768, ours, {"eager": timing(2 * ours), "triton": {**timing(theirs), "p80": theirs + 0.5}})
        rows = [beside("forward", 10.0, 9.8), beside("add_forward", 10.0, 9.0), beside("backward", 10.0, 11.0)]
        tuning = {"problems": [{"pass": "forward", "rows": 4096, "cols": 768, "element_bytes": 2, "has_residual": True,
                                "has_tail": False, "points": [["a", 9.5], ["b", 9.7]]}]}
        with mock.patch.object(readme, "load", side_effect=lambda name: tuning if "tuning" in name else document(rows)):
            text = readme.layer_norm_slower()
        self.assertIn("| residual + forward | bf16 4096 x 768 | 10.00 (10.00 to 10.00) | 9.00 (9.00 to 9.50) Triton | 11.1 % | "
                      "peers | 9.50 of 2 |", text)
        self.assertNotIn("| forward |", text)
        self.assertNotIn("| backward |", text)
        self.assertIn("2 of 6 cases", text)

    def test_says_which_targets_are_met(self):
        shapes = [tuple(target[:3]) for target in readme.NORM_TARGETS]
        rows = [{**measured(op, cols, us, {}, rows=m), "dtype": dtype, "us": {"lamina": timing(us)}}
                for dtype, m, cols in shapes for op, us in (("forward", 8.2), ("add_forward", 37.0), ("forward_backward", 300.0))]
        bench = document([{**row, "us": row["us"]["lamina"]["median"]} for row in rows])
        with mock.patch.object(readme, "load", side_effect=lambda name: document(rows) if "peers" in name else bench):
            text = readme.layer_norm_targets()
        self.assertIn("| bf16 8192 x 768 | forward | 8.2 | 8.20, met | 8.20, met |", text)
        self.assertIn("| f32 4096 x 4096 | forward + backward | 90 | **300.00, 233.3 % over** |", text)

    def test_shares_below_the_target_are_bold(self):
        rows = [{"op": op, "dtype": "bf16", "rows": 4096, "cols": cols, "us": 10.0, "percent_of_copy": 90.0, "bytes": 4e7}
                for op, cols in (("forward", 4096), ("forward", 32768), ("backward", 4096), ("add_forward", 4096))]
        with mock.patch.object(readme, "load", side_effect=lambda name: document([] if "f32" in name else rows)):
            lines = readme.layer_norm_shares().splitlines()
        self.assertEqual(lines[2].split(" | ")[1:5], ["**10.00, 90.0 %**", "10.00, 90.0 %", "", "10.00, 90.0 %"])
        self.assertEqual(lines[3].split(" | ")[1], "10.00, 90.0 %")

    def test_writes_the_parts_between_their_marks_only(self):
        begin = "<!-- results, written by benchmarks/readme.py -->\n"
        with mock.patch.dict(readme.PARTS, results=lambda: "new"):
            self.assertEqual(readme.generate(f"a\n{begin}old\n{readme.END}\nb\n"), f"a\n{begin}new\n{readme.END}\nb\n")


if __name__ == "__main__":
    unittest.main()
