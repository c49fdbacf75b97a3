// SPDX-License-Identifier: MIT
#include "examples/gpt/hugging_face_commands.h"

#include "core/text.h"
#include "examples/gpt/hugging_face.h"
#include "examples/gpt/shell_text.h"
#include "nn/state_dict.h"

#include <filesystem>
#include <system_error>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

/// Throws UsageError when --out is missing or holds something.
void expect_new_out(const Options& options, std::string_view usage) {
  if (options.run.empty() || options.out.empty())
    throw UsageError(cat(usage.substr(0, 6), ": expected lamina-gpt ", usage));
  std::error_code error;
  const fs::path out = options.out;
  if (!fs::exists(out, error) || (fs::is_directory(out, error) && fs::is_empty(out, error))) return;
  throw UsageError(
      cat("--out ", options.out, " exists, expected a new place (nothing is ", "overwritten)"));
}

std::string model_text(Gpt& model, const CheckpointInfo& info) {
  const GptConfig& config = info.config;
  return cat(config.layers, " x ", config.width, ", ", config.heads, " heads, context ",
             config.context, ", ", config.vocab,
             " tokens: ", count_text(static_cast<double>(model.parameter_count())), " parameters");
}

}  // namespace

int import_model(const Options& options, Console& console) {
  expect_new_out(options, "import DIR --out FILE.safetensors");
  if (fs::path(options.out).extension() != ".safetensors" || fs::is_directory(options.out)) {
    throw UsageError(
        cat("--out is ", options.out, ", expected the name of a .safetensors file to write"));
  }
  const Checkpoint checkpoint = import_gpt2(options.run);
  nn::save_parameters(*checkpoint.model, options.out, metadata_of(checkpoint.info));
  console.out << options.out << ": " << model_text(*checkpoint.model, checkpoint.info) << '\n';
  if (checkpoint.info.vocabulary) {
    const std::string file = shell_quoted(options.out);
    console.out << "more    " << console.program << " sample " << file << ", " << console.program
                << " train --from " << file << " --text FILE\n";
  } else {
    console.out << "there is no tokenizer: without one the model takes no text\n";
  }
  return 0;
}

int export_model(const Options& options, Console& console) {
  expect_new_out(options, "export RUN --out DIR");
  const Checkpoint checkpoint = load_checkpoint(options.run);
  export_gpt2(*checkpoint.model, checkpoint.info, options.out);
  console.out << options.out << ": " << model_text(*checkpoint.model, checkpoint.info)
              << (checkpoint.info.vocabulary ? "" : "; there is no tokenizer") << '\n';
  return 0;
}

}  // namespace lamina::gpt
