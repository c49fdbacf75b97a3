// SPDX-License-Identifier: MIT
// libFuzzer target: the header parser of safetensors files. Built and run by .ci/fuzz.
#include "core/error.h"
#include "nn/safetensors_header.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const lamina::nn::SafetensorsHeader header = lamina::nn::parse_safetensors(file, "file");
    std::uint64_t bytes = 0;
    for (const auto& [name, entry] : header.tensors) {
      if (entry.begin > entry.end || entry.end > size - header.data_start) std::abort();
      bytes += entry.end - entry.begin;
    }
    if (header.data_start + bytes != size) std::abort();
  } catch (const lamina::Error&) {  // refused
  }
  return 0;
}
