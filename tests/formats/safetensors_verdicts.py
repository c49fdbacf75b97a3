# SPDX-License-Identifier: MIT
"""Which safetensors files are accepted: Lamina beside the reference, on damaged files.

Usage: python3 tests/formats/safetensors_verdicts.py PATH/TO/safetensors_verdict [--mutants 10000] [--seed 1]

Needs the reference (pip install safetensors). Files that the reference wrote, and headers made by hand, are
changed in one to three places: bits, bytes, cuts, insertions, and parts of the JSON header that are exchanged for
others. Lamina must accept what the reference accepts and refuse what it refuses. It is stricter in two things on
purpose, which the format forbids and the reference lets pass, and these are counted apart: a header that names
something twice, and one that does not begin with '{'.
"""
import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy
import safetensors
from safetensors.numpy import save

STRICTER = ("comes twice", "does not begin with '{'")
PARTS = ['"F32"', '"BF16"', '"U8"', '"F8_E4M3"', '"F4"', '"I64"', "0", "1", "2", "3", "4", "16", "-1", "1.0", "1e1",
         "-0", "18446744073709551615", "18446744073709551616", "9223372036854775808", "null", "true", '"x"', "[]",
         "{}", "[0,4]", "[1]", '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"a"', '"b"', ",", ":", "{",
         "}", "[", "]", " ", "\n", "\t", "\x00", '"\\u0000"', '"\\ud800"', "\ufeff", '{"k":"v"}', '{"k":1}']


def file_of(header, data):
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def seeds():
    rng = numpy.random.default_rng(0)
    tensors = {"a": rng.normal(size=(2, 2)).astype("float32"), "b": numpy.arange(3, dtype="int64"),
               "none": numpy.zeros((0, 2), "uint8")}
    entry = '{"dtype":"U8","shape":[4],"data_offsets":[%d,%d]}'
    return [save(tensors), save(tensors, {"format": "np", "note": "n"}), save({}), file_of("{}", 0),
            file_of('{"__metadata__":null}', 0),
            file_of('{"a":%s,"b":%s}  ' % (entry % (0, 4), entry % (4, 8)), 8),
            file_of('{"a":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2],"more":[1,{"x":null}]}}', 2),
            file_of('{"a":{"data_offsets":[0,0],"shape":[0,9223372036854775808],"dtype":"F64"}}', 0)]


def tokens(header):
    """The header cut into pieces that mean something, roughly."""
    pieces, word = [], ""
    for c in header:
        if c in '{}[]:,"':
            pieces += [word, c] if word else [c]
            word = ""
        else:
            word += c
    return pieces + ([word] if word else [])


def change(data, rng):
    """One damage."""
    data = bytearray(data)
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    kind = rng.choice(["bit", "byte", "cut", "insert", "delete", "length", "header", "header", "header", "header"])
    at = rng.randrange(len(data)) if data else 0
    if kind == "header" and 0 < size <= len(data) - 8:
        pieces = tokens(data[8:8 + size].decode(errors="replace"))
        where = rng.randrange(len(pieces))
        how = rng.randrange(3)
        if how == 0:
            pieces[where] = rng.choice(PARTS)
        elif how == 1:
            pieces.insert(where, rng.choice(PARTS + pieces))
        else:
            other = rng.randrange(len(pieces))
            pieces[where], pieces[other] = pieces[other], pieces[where]
        text = "".join(pieces).encode()
        return len(text).to_bytes(8, "little") + text + bytes(data[8 + size:])
    if kind == "length" and len(data) >= 8:
        data[:8] = max(0, size + rng.choice([-8, -2, -1, 1, 2, 8, 1 << 20, 1 << 63])).to_bytes(9, "little")[:8]
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = bytes([rng.randrange(256)])
    elif data and kind == "delete":
        del data[at]
    elif data and kind == "byte":
        data[at] = rng.randrange(256)
    elif data:
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def reference_verdict(data):
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        return str(error)
    return "accepted"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--mutants", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    originals = seeds()
    mutants = list(originals)
    while len(mutants) < args.mutants:
        data = rng.choice(originals)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            data = change(data, rng)
        mutants.append(data)
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, str(i)) for i in range(len(mutants))]
        for path, data in zip(paths, mutants):
            path.write_bytes(data)
        ours = subprocess.run([args.program], input="\n".join(map(str, paths)) + "\n", capture_output=True, text=True,
                              check=True, errors="replace").stdout.splitlines()
    if len(ours) != len(mutants):
        sys.exit(f"safetensors_verdicts: {len(ours)} verdicts for {len(mutants)} files")
    counts, differences = collections.Counter(), []
    for data, own in zip(mutants, ours):
        reference = reference_verdict(data)
        same = (own == "accepted") == (reference == "accepted")
        kind = "accepted" if same and own == "accepted" else "refused" if same else \
            "stricter" if any(reason in own for reason in STRICTER) else "different"
        counts[kind] += 1
        if kind == "different":
            differences.append({"file": repr(data), "lamina": own, "reference": reference})
    for difference in differences[:10]:
        print(json.dumps(difference, indent=2))
    print(f"safetensors {safetensors.__version__}, {len(mutants)} files: both accept {counts['accepted']}, both refuse "
          f"{counts['refused']}, only Lamina on purpose {counts['stricter']}, different {counts['different']}")
    sys.exit(1 if differences or counts["accepted"] < len(originals) else 0)


if __name__ == "__main__":
    main()
