// SPDX-License-Identifier: MIT
#include "examples/gpt/tokenizer_command.h"

#include "core/text.h"
#include "examples/gpt/bpe_trainer.h"
#include "examples/gpt/cache.h"
#include "examples/gpt/tokenizer_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

namespace lamina::gpt {

int make_tokenizer(const Options& options, Console& console) {
  if (options.text.empty() || options.out.empty()) {
    throw UsageError(cat("tokenizer: --", options.text.empty() ? "text" : "out",
                         " is not given, expected lamina-gpt tokenizer --text FILE... --out FILE"));
  }
  std::error_code ignored;
  if (std::filesystem::exists(options.out, ignored)) {
    throw UsageError(cat("--out ", options.out, " exists, expected a new file"));
  }
  const std::vector<std::filesystem::path> paths(options.text.begin(), options.text.end());
  const std::string text = data::read_text_files(paths);
  const data::Vocabulary vocabulary =
      data::Vocabulary::from_bpe(data::train_bpe(text, options.vocab));
  replace_file(options.out, data::tokenizer_json(vocabulary).dump(1) + "\n");
  const std::size_t tokens = vocabulary.encode(text).size();
  console.out << options.out << ": " << vocabulary.size() << " tokens; " << text.size()
              << " bytes of text are " << tokens << " tokens, "
              << fixed(static_cast<double>(text.size()) / static_cast<double>(tokens), 2)
              << " bytes each\n";
  return 0;
}

}  // namespace lamina::gpt
