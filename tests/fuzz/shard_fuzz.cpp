// SPDX-License-Identifier: MIT
// libFuzzer target: the header of a shard of tokens. Built and run by .ci/fuzz.
#include "core/error.h"
#include "examples/gpt/shard.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const data::ShardLayout layout = data::shard_layout(bytes, "x.bin");
    if (layout.start + layout.tokens * layout.id_bytes != size) std::abort();
  } catch (const Error&) {  // refused
  }
  return 0;
}
