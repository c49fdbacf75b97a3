// SPDX-License-Identifier: MIT
// libFuzzer target: the parser of merges.txt and, behind a zero byte, of vocab.json. Built and run
// by .ci/fuzz.
#include "core/error.h"
#include "examples/gpt/bpe_files.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = text.find('\0');
  std::optional<std::string_view> vocab;
  if (zero != std::string_view::npos) vocab = text.substr(zero + 1);
  try {
    const data::Bpe bpe = data::bpe_from_merges(text.substr(0, zero), vocab);
    if (bpe.decode(bpe.encode(text)) != text) std::abort();
  } catch (const Error&) {  // refused
  }
  return 0;
}
