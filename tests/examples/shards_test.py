# SPDX-License-Identifier: MIT
"""Shards of lamina-gpt prepare as nanoGPT and llm.c read them, and theirs as lamina-gpt does: with
Python's own pickle and array. Usage: shards_test.py LAMINA_GPT"""

import array
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop()
TEXT = "na\u00efve cats \U0001f600 sit\n" * 200


def ids_of(data):
    ids = array.array("H", data)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], check=False, capture_output=True, text=True)


class Shards(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        self.text = self.path("text.txt")
        with open(self.text, "w", encoding="utf-8", newline="") as file:
            file.write(TEXT)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def prepare(self, *arguments):
        done = run("prepare", "--text", self.text, "--out", self.path("out"), *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_nanogpt_reads_them(self):
        self.prepare("--format", "nanogpt")
        meta = pickle.loads(self.read("out", "meta.pkl"))
        self.assertEqual(sorted(meta), ["itos", "stoi", "vocab_size"])
        self.assertEqual(meta["vocab_size"], len(set(TEXT)))
        self.assertEqual({c: i for i, c in meta["itos"].items()}, meta["stoi"])
        ids = ids_of(self.read("out", "train.bin")) + ids_of(self.read("out", "val.bin"))
        self.assertEqual("".join(meta["itos"][i] for i in ids), TEXT)

    def test_llm_c_reads_them(self):
        self.prepare("--level", "byte", "--shard-tokens", "1500")
        text = b""
        manifest = json.loads(self.read("out", "manifest.json"))
        for shard in manifest["train"] + manifest["validation"]:
            data = self.read("out", shard["file"])
            header = struct.unpack("<256i", data[:1024])
            self.assertEqual(header, (20240520, 1, shard["tokens"]) + (0,) * 253)
            self.assertEqual(len(data), 1024 + 2 * shard["tokens"])
            self.assertLessEqual(shard["tokens"], 1500)
            text += bytes(ids_of(data[1024:]))
        self.assertGreater(len(manifest["train"]), 2)
        self.assertEqual(text.decode(), TEXT)

    def test_what_python_pickles_is_read(self):
        characters = sorted(set(TEXT))
        stoi = {c: i for i, c in enumerate(characters)}
        ids = [stoi[c] for c in TEXT]
        os.mkdir(self.path("theirs"))
        for name, part in (("train", ids[:3000]), ("val", ids[3000:])):
            with open(self.path("theirs", f"{name}.bin"), "wb") as file:
                file.write(struct.pack(f"<{len(part)}H", *part))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            with open(self.path("theirs", "meta.pkl"), "wb") as file:
                pickle.dump({"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}, file,
                            protocol=protocol)
            trained = run("train", "--preset", "toy-cpu", "--device", "cpu", "--data", self.path("theirs"), "--steps",
                          "1", "--layers", "1", "--width", "32", "--heads", "2", "--context", "16", "--batch", "2",
                          "--eval-batches", "1", "--samples", "1", "--sample-chars", "20", "--out",
                          self.path(f"run{protocol}"))
            self.assertEqual(trained.returncode, 0, trained.stderr)
            self.assertIn(f"3000 tokens in 1 shard to train on, {len(ids) - 3000} tokens in 1 shard to validate, "
                          f"{len(characters)} symbols", trained.stdout)

    def test_bad_ids_end_the_run(self):
        self.prepare("--level", "byte", "--format", "nanogpt")
        with open(self.path("out", "train.bin"), "r+b") as file:
            file.seek(200)
            file.write(struct.pack("<H", 256))
        trained = run("train", "--preset", "toy-cpu", "--device", "cpu", "--data", self.path("out"), "--steps", "200",
                      "--layers", "1", "--width", "32", "--heads", "2", "--context", "100", "--batch", "4", "--out",
                      self.path("run"))
        self.assertEqual(trained.returncode, 1)
        self.assertIn("train.bin: token 100 (byte 200) is 256, expected less than 256", trained.stderr)


unittest.main()
