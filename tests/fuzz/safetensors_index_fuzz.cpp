// SPDX-License-Identifier: MIT
// libFuzzer target: the parser of an index of safetensors files. Built and run by .ci/fuzz.
#include "core/error.h"
#include "nn/safetensors_header.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (const auto& [tensor, file] : lamina::nn::parse_safetensors_index(text, "index")) {
      if (file.empty() || file == ".." || file.find('/') != std::string::npos ||
          file.find('\0') != std::string::npos) {
        std::abort();  // it could lie in another folder
      }
    }
  } catch (const lamina::Error&) {  // refused
  }
  return 0;
}
