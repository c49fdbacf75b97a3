# SPDX-License-Identifier: MIT
"""lamina-gpt profile from outside: its memory file is read back with pickle and held to what
https://pytorch.org/memory_viz needs. Usage: profile_files_test.py LAMINA_GPT"""

import io
import json
import os
import pickle
import pickletools
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop()

# What the viewer's unpickle() knows (torch/utils/viz/MemoryViz.js).
OPCODES = set("PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
              "SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 "
              "TUPLE2 TUPLE3 LIST DICT MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET".split())
ACTIONS = {"alloc", "free_requested", "free_completed", "segment_alloc", "segment_free", "oom", "snapshot"}


class NoGlobals(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"names {module}.{name}")


class ProfileFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.memory = os.path.join(cls.directory.name, "memory.pickle")
        cls.trace = os.path.join(cls.directory.name, "trace.json")
        command = [PROGRAM, "profile", "--preset", "toy-cpu", "--device", "cpu", "--layers", "2", "--width", "32",
                   "--heads", "2", "--context", "32", "--batch", "4", "--steps", "2", "--memory", cls.memory,
                   "--trace", cls.trace]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(cls.memory, "rb") as file:
            cls.bytes = file.read()
        cls.snapshot = NoGlobals(io.BytesIO(cls.bytes)).load()
        cls.events = cls.snapshot["device_traces"][0]

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def test_uses_what_the_viewer_reads(self):
        self.assertLessEqual({code.name for code, _, _ in pickletools.genops(self.bytes)}, OPCODES)

    def test_blocks_tile_their_segments(self):
        self.assertTrue(self.snapshot["segments"])
        for segment in self.snapshot["segments"]:
            address = segment["address"]
            for block in segment["blocks"]:
                self.assertEqual(block["address"], address)
                self.assertIn(block["state"], {"active_allocated", "active_pending_free", "inactive"})
                self.assertLessEqual(block["requested_size"], block["size"])
                address += block["size"]
            self.assertEqual(address, segment["address"] + segment["total_size"])
            active = [block for block in segment["blocks"] if block["state"] != "inactive"]
            self.assertEqual(segment["active_size"], sum(block["size"] for block in active))
            self.assertLess(segment["address"], 2**53)

    def test_events_lead_to_the_blocks(self):
        live, reserved, time = {}, {}, 0
        for event in self.events[:-1]:
            self.assertIn(event["action"], ACTIONS)
            self.assertGreaterEqual(event["time_us"], time)
            time = event["time_us"]
            address, size = event["addr"], event["size"]
            if event["action"] == "alloc":
                self.assertNotIn(address, live)
                live[address] = size
            elif event["action"] == "free_completed" and live.get(address) == size:
                del live[address]
            elif event["action"] == "segment_alloc":
                reserved[address] = size
            elif event["action"] == "segment_free":
                del reserved[address]
        blocks = {block["address"]: block["size"] for segment in self.snapshot["segments"]
                  for block in segment["blocks"] if block["state"] == "active_allocated"}
        self.assertEqual(live, blocks)
        self.assertEqual(sum(reserved.values()), sum(s["total_size"] for s in self.snapshot["segments"]))

    def test_a_free_follows_its_request_at_once(self):
        """The viewer then draws one event."""
        for first, second in zip(self.events, self.events[1:]):
            if first["action"] == "free_requested":
                self.assertEqual((second["action"], second["addr"]), ("free_completed", first["addr"]))

    def test_frames_name_op_layer_and_direction(self):
        names = {(frame["filename"], frame["name"]) for event in self.events for frame in event.get("frames", [])}
        for expected in [("forward", "weights"), ("forward", "fill @ gradients"), ("forward", "fill @ optimizer")]:
            self.assertIn(expected[0], {direction for direction, name in names if expected[1] in name}, sorted(names))
        self.assertTrue(any(direction == "backward" and name.endswith("@ blocks.1.mlp.up") for direction, name in names))
        self.assertTrue(any(name == "layer_norm @ blocks.0.norm_1" for _, name in names), sorted(names))
        of_steps = [event for event in self.events if event["action"] == "alloc" and
                    event["category"] in ("blocks", "backward")]
        named = [event for event in of_steps if " @ " in event["frames"][0]["name"]]
        self.assertGreater(len(named), 0.9 * len(of_steps))

    def test_categories_include_the_one_that_the_viewer_needs(self):
        categories = {event["category"] for event in self.events}
        self.assertLessEqual({"weights", "gradients", "optimizer", "blocks", "backward", "unknown"}, categories)

    def test_the_trace_is_json(self):
        with open(self.trace, encoding="utf-8") as file:
            trace = json.load(file)
        steps = [event["name"] for event in trace["traceEvents"] if event.get("cat") == "step"]
        self.assertEqual(steps, ["step 1", "step 2"])


if __name__ == "__main__":
    unittest.main()
