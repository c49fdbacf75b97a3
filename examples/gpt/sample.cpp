// SPDX-License-Identifier: MIT
#include "examples/gpt/sample.h"

#include "core/text.h"
#include "examples/gpt/bpe.h"
#include "examples/gpt/utf8.h"

#include <algorithm>

namespace lamina::gpt {

namespace {

/// How a sample starts.
struct Start {
  std::vector<std::int32_t> tokens;
  std::string text;  // theirs, without those that are no text
};

Start start_of(const data::Vocabulary& vocabulary, const std::string& prompt) {
  if (!prompt.empty()) return {vocabulary.encode(prompt), prompt};
  if (vocabulary == data::Vocabulary::builtin()) {
    return {vocabulary.encode(data::Scenes::kPrompt), std::string(data::Scenes::kPrompt)};
  }
  if (vocabulary.bpe() != nullptr && !vocabulary.bpe()->parts().special.empty()) {
    return {{vocabulary.bpe()->parts().special.front()}, ""};  // the end of another text
  }
  if (vocabulary.level() == data::Level::byte) return {vocabulary.encode("\n"), "\n"};
  const std::vector<std::int32_t> first = {0};  // without a newline: the first symbol
  return {first, vocabulary.decode(first)};
}

bool is_special(const data::Vocabulary& vocabulary, std::int32_t token) {
  if (vocabulary.bpe() == nullptr) return false;
  const std::vector<std::int32_t>& special = vocabulary.bpe()->parts().special;
  return std::find(special.begin(), special.end(), token) != special.end();
}

/// Bytes at the end of `text` that begin a character of UTF-8 without ending it.
std::size_t unfinished_bytes(std::string_view text) {
  for (std::size_t count = 1; count <= std::min<std::size_t>(3, text.size()); ++count) {
    const auto byte = static_cast<unsigned char>(text[text.size() - count]);
    if (byte >= 0xC0) {
      const std::size_t wanted = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
      return wanted > count ? count : 0;
    }
    if (byte < 0x80) return 0;
  }
  return 0;
}

/// The text of one sample while it is written.
class TextOfSample {
 public:
  TextOfSample(std::string start, const TextOptions& options)
      : options_(options), text_(std::move(start)), prompt_(text_.size()) {
    for (const std::string& stop : options.stop)
      longest_stop_ = std::max(longest_stop_, stop.size());
  }

  /// false when the sample ends before the end of `more`.
  bool append(const std::string& more) {
    const std::size_t overlap = longest_stop_ > 0 ? longest_stop_ - 1 : 0;
    const std::size_t from = std::max(prompt_, text_.size() - std::min(text_.size(), overlap));
    text_ += more;
    std::size_t end = std::string::npos;
    for (const std::string& stop : options_.stop)
      end = std::min(end, text_.find(stop, from));
    if (end != std::string::npos) text_.resize(end);
    return end == std::string::npos;
  }

  /// Tells on_text what is certain to stay; with `is_over`, all.
  void tell(std::size_t sample, bool is_over) {
    if (!options_.on_text) return;
    std::size_t end = text_.size();
    if (!is_over) {
      const std::size_t held = longest_stop_ > 0 ? longest_stop_ - 1 : 0;
      end = std::max(std::min(prompt_, end), end - std::min(end, held));
      end -= unfinished_bytes(std::string_view(text_).substr(0, end));
    }
    if (end <= told_) return;
    options_.on_text(sample, std::string_view(text_).substr(told_, end - told_));
    told_ = end;
  }

  const std::string& text() const { return text_; }

 private:
  const TextOptions& options_;
  std::string text_;
  std::size_t prompt_, told_ = 0, longest_stop_ = 0;
};

}  // namespace

std::int64_t sample_length(std::int64_t asked, const std::string& corpus, std::int64_t context) {
  if (asked > 0) return asked;
  return corpus.empty() ? 1000 : context - 1;  // the prompt takes one position
}

std::vector<std::string> generate_text(Gpt& model, const data::Vocabulary& vocabulary,
                                       const std::string& prompt, const SampleOptions& options,
                                       const TextOptions& text_options) {
  if (std::find(text_options.stop.begin(), text_options.stop.end(), "") !=
      text_options.stop.end()) {
    throw Error("sample: a stop text is empty, expected some text (it would end every sample)");
  }
  const Start start = start_of(vocabulary, prompt);
  std::vector<TextOfSample> samples(static_cast<std::size_t>(options.count),
                                    TextOfSample(start.text, text_options));
  SampleOptions by_token = options;
  by_token.take = [&](std::size_t i, std::int32_t token, float log_prob) {
    if (is_special(vocabulary, token)) return false;
    const bool goes_on = samples[i].append(vocabulary.decode({&token, 1}));
    samples[i].tell(i, !goes_on);
    return (!options.take || options.take(i, token, log_prob)) && goes_on;
  };
  generate(model, start.tokens, by_token);
  std::vector<std::string> texts;
  for (TextOfSample& sample : samples) {
    sample.tell(texts.size(), true);
    texts.push_back(sample.text());
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

std::string heading(std::size_t sample, std::size_t count) {
  return cat("sample ", sample + 1, " of ", count, "\n\n");
}

std::string verdict_text(const std::vector<std::string>& samples, const std::string& corpus) {
  return corpus.empty() || samples.empty() ? "" : judge(samples, corpus).text() + "\n";
}

std::string samples_text(const std::vector<std::string>& samples, const std::string& corpus) {
  std::string text;
  for (std::size_t i = 0; i < samples.size(); ++i)
    text += cat(heading(i, samples.size()), samples[i], "\n\n");
  return text + verdict_text(samples, corpus);
}

}  // namespace lamina::gpt
