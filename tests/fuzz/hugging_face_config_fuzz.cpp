// SPDX-License-Identifier: MIT
// libFuzzer target: the parser of transformers' config.json. Built and run by .ci/fuzz.
#include "core/error.h"
#include "examples/gpt/hugging_face.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const lamina::gpt::GptConfig config =
        lamina::gpt::config_from_hugging_face({reinterpret_cast<const char*>(data), size});
    if (config.layers < 1 || config.heads < 1 || config.width % config.heads != 0 ||
        config.vocab < 1 || config.context < 2) {
      std::abort();
    }
  } catch (const lamina::Error&) {  // refused
  }
  return 0;
}
