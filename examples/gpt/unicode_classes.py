# SPDX-License-Identifier: MIT
"""Writes unicode_classes.h: the code points of the Unicode categories L and N.

Usage: python3 examples/gpt/unicode_classes.py > examples/gpt/unicode_classes.h

Needs Unicode 16, which tiktoken and tokenizers have as well: Python 3.14, or `pip install unicodedata2==16.0.0`.
"""
import sys
import unicodedata

if unicodedata.unidata_version != "16.0.0":
    import unicodedata2 as unicodedata
if unicodedata.unidata_version != "16.0.0":
    sys.exit(f"unicode_classes: Unicode is {unicodedata.unidata_version}, expected 16.0.0")

HEADER = """// SPDX-License-Identifier: MIT
// Made by unicode_classes.py: letters and numbers of Unicode {version} as ranges of code points.
#pragma once

#include <cstdint>

namespace lamina::data {{

struct CodePointRange {{
  std::uint32_t first, last;
}};
"""


def ranges(category):
    found = []
    for point in range(0x110000):
        if unicodedata.category(chr(point))[0] != category:
            continue
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def table(name, category):
    lines, line = [], "  "
    for first, last in ranges(category):
        entry = f"{{{first:#x}, {last:#x}}},"
        if len(line) + len(entry) > 100:
            lines.append(line.rstrip())
            line = "  "
        line += entry + " "
    body = "\n".join(lines + [line.rstrip()])
    return f"\n// clang-format off\ninline constexpr CodePointRange {name}[] = {{\n{body}\n}};\n// clang-format on\n"


sys.stdout.write(HEADER.format(version=unicodedata.unidata_version) + table("kLetters", "L") +
                 table("kNumbers", "N") + "\n}  // namespace lamina::data\n")
