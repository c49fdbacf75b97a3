// SPDX-License-Identifier: MIT
// libFuzzer target: nanoGPT's meta.pkl. Built and run by .ci/fuzz.
#include "core/error.h"
#include "examples/gpt/meta_pickle.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const data::Vocabulary vocabulary = data::vocabulary_from_meta(bytes);
    if (data::vocabulary_from_meta(data::meta_pickle(vocabulary)) != vocabulary) std::abort();
  } catch (const Error&) {  // refused
  }
  return 0;
}
