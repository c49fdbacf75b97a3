// SPDX-License-Identifier: MIT
// libFuzzer target: the manifest.json of a directory of shards. Built and run by .ci/fuzz.
#include "core/error.h"
#include "examples/gpt/token_directory.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const data::Manifest manifest = data::parse_manifest(bytes);
    if (data::parse_manifest(data::manifest_text(manifest)) != manifest) std::abort();
  } catch (const Error&) {  // refused
  }
  return 0;
}
