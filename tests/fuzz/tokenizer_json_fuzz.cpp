// SPDX-License-Identifier: MIT
// libFuzzer target: the parser of tokenizer.json. What it accepts must keep a text, and come back
// from its own file. Built and run by .ci/fuzz.
#include "core/error.h"
#include "core/json.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/tokenizer_file.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lamina;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::optional<data::Vocabulary> vocabulary;
  try {
    vocabulary = data::vocabulary_from_tokenizer(parse_json(text, "tokenizer"));
  } catch (const Error&) {  // refused
    return 0;
  }
  try {
    if (vocabulary->decode(vocabulary->encode(text)) != text) std::abort();
  } catch (const Error&) {  // a character or byte without a token
  }
  const nlohmann::json again = data::tokenizer_json(*vocabulary);
  if (!(data::vocabulary_from_tokenizer(again) == *vocabulary)) std::abort();
  return 0;
}
