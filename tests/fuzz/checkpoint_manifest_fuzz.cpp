// SPDX-License-Identifier: MIT
// libFuzzer target: the MANIFEST of a checkpoint, given its checksum so that its lines are read.
// Built and run by .ci/fuzz.
#include "examples/gpt/checkpoint_store.h"
#include "examples/gpt/crc32c.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina::gpt;
  constexpr std::int64_t kStep = 7;
  std::string text(reinterpret_cast<const char*>(data), size);
  std::array<char, 10> sum{};
  std::snprintf(sum.data(), sum.size(), "%08x\n", crc32c(text));
  text += sum.data();
  const auto files = parse_manifest(kStep, text);
  if (!files) return 0;  // of another step
  for (const FileRecord& file : *files)
    if (file.name.empty() || file.checksum.empty()) std::abort();
  if (parse_manifest(kStep + 1, text)) std::abort();
  char& changed = text[text.size() * (text.size() % 7) / 7];
  changed = static_cast<char>(changed ^ 1);
  if (parse_manifest(kStep, text)) std::abort();  // one bit is enough to tell
  return 0;
}
