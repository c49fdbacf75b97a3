// SPDX-License-Identifier: MIT
#include "examples/gpt/sample.h"

#include "core/random.h"
#include "core/text.h"
#include "examples/gpt/bpe.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace lamina::gpt {

namespace {

/// Contexts grow in steps of this: few shapes of matrix products, and what follows the last token
/// does not matter to a causal model.
constexpr std::int64_t kContextStep = 32;

/// Draws with probability proportional to exp(logit / temperature) among the top k.
std::int32_t draw(std::span<const float> logits, const SampleOptions& options, double uniform) {
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  const auto is_nan = [](float logit) { return std::isnan(logit); };
  const bool has_nan = std::any_of(logits.begin(), logits.end(), is_nan);
  if (has_nan || !std::isfinite(*likeliest)) {
    throw Error(cat("sample: the largest logit is ", has_nan ? "nan" : "infinite",
                    ", expected a finite value (some weights of the model are not finite)"));
  }
  if (options.temperature <= 0.0) return static_cast<std::int32_t>(likeliest - logits.begin());
  float least = -std::numeric_limits<float>::infinity();
  const auto size = static_cast<std::int64_t>(logits.size());
  if (options.top_k > 0 && options.top_k < size) {
    std::vector<float> sorted(logits.begin(), logits.end());
    const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(options.top_k - 1);
    std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
    least = *kth;
  }
  std::vector<double> cumulative;
  double sum = 0.0;
  for (const float logit : logits) {
    const auto distance = static_cast<double>(logit) - static_cast<double>(*likeliest);
    if (logit >= least) sum += std::exp(distance / options.temperature);
    cumulative.push_back(sum);
  }
  const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * sum);
  return static_cast<std::int32_t>(std::min<std::int64_t>(at - cumulative.begin(), size - 1));
}

}  // namespace

std::int64_t sample_length(std::int64_t asked, const std::string& corpus, std::int64_t context) {
  if (asked > 0) return asked;
  return corpus.empty() ? 1000 : context - 1;  // the prompt takes one position
}

std::vector<std::vector<std::int32_t>> generate(Gpt& model, std::span<const std::int32_t> prompt,
                                                const SampleOptions& options) {
  if (prompt.empty()) throw Error("sample: the prompt is empty, expected at least one token");
  const auto count = static_cast<std::size_t>(options.count);
  std::vector<std::vector<std::int32_t>> samples(count, {prompt.begin(), prompt.end()});
  if (samples.empty()) return samples;
  const bool was_training = model.is_training();
  model.eval();
  const NoGrad no_grad;
  const Device device = model.tokens.weight.device();
  for (std::int64_t step = 0; step < options.length; ++step) {
    if (options.is_stopped && options.is_stopped()) break;
    const auto length = static_cast<std::int64_t>(samples.front().size());
    const std::int64_t seen = std::min(length, model.config.context);
    const std::int64_t time =
        std::min((seen + kContextStep - 1) / kContextStep * kContextStep, model.config.context);
    std::vector<std::int32_t> ids(count * static_cast<std::size_t>(time), 0);
    for (std::size_t i = 0; i < count; ++i) {
      std::copy(samples[i].end() - seen, samples[i].end(),
                ids.begin() + static_cast<std::ptrdiff_t>(i) * time);
    }
    const Var logits = model(from_vector(ids, {options.count, time}, device));
    const Tensor last =
        logits.value().slice(1, seen - 1, seen).slice(2, 0, model.config.vocab).contiguous();
    const std::vector<float> values = last.to_vector<float>();
    const PhiloxRegion region{options.seed, static_cast<std::uint64_t>(step)};
    for (std::size_t i = 0; i < count; ++i) {
      const auto vocab = static_cast<std::size_t>(model.config.vocab);
      const std::span<const float> row = std::span(values).subspan(i * vocab, vocab);
      samples[i].push_back(draw(row, options, uniform_at(region, i)));
    }
  }
  model.train(was_training);
  return samples;
}

std::vector<std::string> generate_text(Gpt& model, const data::Vocabulary& vocabulary,
                                       const std::string& prompt, const SampleOptions& options) {
  std::vector<std::int32_t> start = {0};  // without a newline: the first symbol
  std::size_t hidden = 0;                 // tokens of the start that are no text
  if (!prompt.empty()) {
    start = vocabulary.encode(prompt);
  } else if (vocabulary == data::Vocabulary::builtin()) {
    start = vocabulary.encode(data::Scenes::kPrompt);
  } else if (vocabulary.bpe() != nullptr && !vocabulary.bpe()->parts().special.empty()) {
    start = {vocabulary.bpe()->parts().special.front()};  // the end of another text
    hidden = start.size();
  } else if (vocabulary.level() == data::Level::byte) {
    start = vocabulary.encode("\n");
  }
  std::vector<std::string> texts;
  for (const auto& tokens : generate(model, start, options)) {
    texts.push_back(vocabulary.decode(std::span(tokens).subspan(hidden)));
  }
  return texts;
}

data::SampleReport judge(const std::vector<std::string>& samples, const std::string& preset) {
  const data::Scenes scenes(data::SceneOptions::preset(preset));
  data::SampleReport all;
  for (const std::string& sample : samples) {
    const data::SampleReport one = scenes.judge(sample);
    all.sentences += one.sentences;
    all.grammatical += one.grammatical;
    all.recalls += one.recalls;
    all.recalls_correct += one.recalls_correct;
    all.sums += one.sums;
    all.sums_correct += one.sums_correct;
    all.rhymes += one.rhymes;
    all.rhymes_kept += one.rhymes_kept;
  }
  return all;
}

std::string samples_text(const std::vector<std::string>& samples, const std::string& corpus) {
  std::string text;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    text += cat("sample ", i + 1, " of ", samples.size(), "\n\n", samples[i], "\n\n");
  }
  if (!corpus.empty() && !samples.empty()) text += judge(samples, corpus).text() + "\n";
  return text;
}

}  // namespace lamina::gpt
