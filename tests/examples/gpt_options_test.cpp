// SPDX-License-Identifier: MIT
// The command line of lamina-gpt: presets, config files, flags, mistakes.
#include "examples/gpt/options.h"
#include "examples/gpt/shell_text.h"
#include "examples/gpt/suggestion.h"
#include "examples/gpt/training_step.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Options parse(std::initializer_list<std::string> arguments) {
  const std::vector<std::string> list(arguments);
  return parse_options(Command::train, list);
}

TEST(GptOptions, SuggestsTheOptionThatWasMeant) {
  const Outcome outcome = run({"train", "--stepz", "5"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.errors,
              HasSubstr("lamina-gpt: error: unknown option --stepz of train; did you "
                        "mean --steps"));
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1);
}

TEST(GptOptions, SuggestsTwoDashesWhereThereIsOne) {
  EXPECT_THAT(run({"train", "-steps", "5"}).errors,
              HasSubstr("unknown option -steps of train; did you mean --steps\n"));
  EXPECT_THAT(run({"train", "--batch", "2", "-heads=4"}).errors,  // with the h of -h
              HasSubstr("unknown option -heads of train; did you mean --heads\n"));
  EXPECT_THAT(run({"train", "-stepz", "5"}).errors,
              HasSubstr("unknown option -stepz of train; did you mean --steps;"));
  EXPECT_THAT(run({"train", "-x"}).errors, HasSubstr("unknown option -x of train; lamina-gpt"));
}

TEST(GptOptions, SuggestsTheOnlyOptionThatBeginsAlike) {
  EXPECT_THAT(run({"train", "--sample-tokens", "5"}).errors,
              HasSubstr("did you mean --sample-chars"));
  constexpr std::string_view kWords[] = {"eval-every", "eval-batches", "top-k"};
  EXPECT_EQ(closest("eval-tokens", kWords), "");  // one of two
  EXPECT_EQ(closest("top-p", kWords), "top-k");
}

TEST(GptOptions, QuotesWordsThatAShellWouldTakeApart) {
  for (const char* const plain : {"runs/toy-1", "a_b.txt", "/x=1,2:3@4%+"})
    EXPECT_EQ(shell_quoted(plain), plain);
  EXPECT_EQ(shell_quoted("my runs/a"), "'my runs/a'");
  EXPECT_EQ(shell_quoted("it's $HOME"), "'it'\\''s $HOME'");
  EXPECT_EQ(shell_quoted("~/a"), "'~/a'");
  EXPECT_EQ(shell_quoted(""), "''");
}

TEST(GptOptions, SuggestsTheCommandThatWasMeant) {
  const Outcome outcome = run({"trian"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("did you mean train"));
}

TEST(GptOptions, SuggestsTheChoiceThatWasMeant) {
  EXPECT_THAT(run({"train", "--preset", "toy_cpu"}).errors,
              AllOf(HasSubstr("toy-cpu, toy, gpt2"), HasSubstr("did you mean toy-cpu")));
}

TEST(GptOptions, RefusesValuesOutOfRange) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--steps", "0"},
      {"--steps", "1x"},
      {"--steps", ""},
      {"--batch", "-1"},
      {"--lr", "0"},
      {"--lr", "nan"},
      {"--dropout", "1"},
      {"--beta1", "1"},
      {"--heads", "5"},
      {"--dtype", "f64"},
      {"--device", "tpu"},
      {"--schedule", "step"},
      {"--steps"},
      {"file.txt"},
      {"-x"},
      {"--bias=maybe"},
      {"--min-lr", "0.5"},
      {"--text", "a", "--corpus", "easy"},
      {"--config", "none.json"},
      {"--device", "cuda:99"},
      {"--device", ""},
      {"--level", "byte"},
      {"--tokenizer", "tokenizer.json"},
      {"--tokenizer="},
      {"--text", "a", "--level", "byte", "--tokenizer", "tokenizer.json"},
      {"--random-tokens", "--text", "a"},
      {"--random-tokens", "--corpus", "easy"},
      {"--text"},
      {"--text", "--steps", "3"},
      {"--out="},
      {"--config="},
      {"--profile=1"},
      {"--profile=often"},
      {"--profile", "20"},
      {"--profile-depth", "-1"},
      {"--recompute=true"},
      {"--recompute="},
      {"--recompute=norm,"},
      {"--recompute", "norm"},
      {"--resume", "later"},
      {"--resume", "-1"},
      {"--resume", "3x"},
      {"--resume="},
      {"--resume", "3"},
      {"--keep", "0"},
      {"--keep-every", "-1"},
      {"--checkpoint-every", "-1"},
      {"--config", "/"}};
  for (const std::vector<std::string>& arguments : wrong) {
    std::vector<std::string> all = {"train", "--out", "/nonexistent/never_made"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Outcome outcome = run(all);
    EXPECT_EQ(outcome.status, 2) << arguments.front() << ": " << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr("lamina-gpt: error: "));
  }
}

TEST(GptOptions, ProfilesEveryFiftiethStepUnlessToldOtherwise) {
  EXPECT_EQ(parse({"--device", "cpu"}).profile, 0);
  EXPECT_EQ(parse({"--device", "cpu", "--profile"}).profile, 50);
  EXPECT_EQ(parse({"--profile", "--device", "cpu", "--profile-depth", "2"}).profile, 50);
  EXPECT_EQ(parse({"--device", "cpu", "--profile=20"}).profile, 20);
  EXPECT_EQ(parse({"--device", "cpu", "--profile=0"}).profile, 0);
  EXPECT_THAT(run({"train", "--help"}).out, HasSubstr("--profile [=N(=50)]"));
}

TEST(GptOptions, RecomputesBlocksUnlessToldWhat) {
  EXPECT_EQ(parse({"--device", "cpu"}).recompute, "none");
  EXPECT_EQ(parse({"--device", "cpu", "--recompute"}).recompute, "block");
  const GptConfig config = model_config(parse({"--device", "cpu", "--recompute=norm,gelu"}), 96);
  EXPECT_TRUE(config.recompute.norm && config.recompute.gelu && !config.recompute.block);
  EXPECT_THAT(run({"train", "--help"}).out, HasSubstr("--recompute [=LIST(=block)]"));
  EXPECT_THAT(run({"train", "--steps", "5", "--recompute", "norm"}).errors,
              HasSubstr("unexpected argument \"norm\" of train, expected options; did you mean "
                        "--recompute=norm"));
  EXPECT_THAT(run({"train", "--steps", "1", "--recompute=norm,gleu"}).errors,
              HasSubstr("--recompute is norm,gleu, expected none or some of norm, gelu, block with "
                        "commas between; did you mean gelu"));
  for (const std::string value : {"none,norm", "norm,", "", "BLOCK"}) {
    EXPECT_THAT(run({"train", "--steps", "1", "--recompute=" + value}).errors,
                HasSubstr(", expected none or some of norm, gelu, block with commas between"));
  }
}

TEST(GptOptions, RefusesHalfPrecisionOnTheCpu) {
  for (const std::string dtype : {"bf16", "f16"}) {
    EXPECT_THAT(run({"train", "--device", "cpu", "--dtype", dtype}).errors,
                HasSubstr("--dtype is " + dtype + " on cpu, expected f32"));
  }
}

TEST(GptOptions, ScalesTheLossInF16Only) {
  Options options = parse({"--device", "cpu"});
  EXPECT_EQ(optimizer_options(options).loss_scale.growth, 1.0F);
  EXPECT_EQ(optimizer_options(options).loss_scale.initial, 1.0F);
  options.dtype = "f16";
  EXPECT_EQ(compute_dtype(options), DType::f16);
  const kernels::LossScale scale = optimizer_options(options).loss_scale;
  EXPECT_EQ(scale.initial, 65536.0F);
  EXPECT_EQ(scale.growth, 2.0F);
  EXPECT_EQ(scale.backoff, 0.5F);
  EXPECT_EQ(scale.interval, 2000);
}

TEST(GptOptions, TakesThePresetOfTheDeviceByDefault) {
  const Options options = parse({"--device", "cpu"});
  EXPECT_EQ(options.preset, "toy-cpu");
  EXPECT_EQ(options.corpus, "easy");
  EXPECT_EQ(options.layers, 4);
  EXPECT_EQ(options.width, 128);
  EXPECT_EQ(options.context, 128);
  EXPECT_EQ(options.dtype, "f32");
}

TEST(GptOptions, HasTheHyperParametersOfNanoGptInToy) {
  const Options options = parse({"--preset", "toy", "--device", "cpu"});
  EXPECT_EQ(options.layers, 6);
  EXPECT_EQ(options.heads, 6);
  EXPECT_EQ(options.width, 384);
  EXPECT_EQ(options.context, 256);
  EXPECT_EQ(options.batch, 64);
  EXPECT_EQ(options.steps, 5000);
  EXPECT_EQ(options.warmup, 100);
  EXPECT_DOUBLE_EQ(options.dropout, 0.2);
  EXPECT_DOUBLE_EQ(options.lr, 1e-3);
  EXPECT_DOUBLE_EQ(options.min_lr, 1e-4);
  EXPECT_DOUBLE_EQ(options.beta2, 0.99);
  EXPECT_DOUBLE_EQ(options.weight_decay, 0.1);
  EXPECT_DOUBLE_EQ(options.clip, 1.0);
  EXPECT_FALSE(options.bias);
  EXPECT_EQ(options.eval_every, 250);
  EXPECT_EQ(options.eval_batches, 200);
}

TEST(GptOptions, HasTheSizesOfGpt2) {
  const std::int64_t sizes[][3] = {{12, 12, 768}, {24, 16, 1024}, {36, 20, 1280}, {48, 25, 1600}};
  const std::string names[] = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"};
  for (std::size_t i = 0; i < std::size(names); ++i) {
    const Options options = parse({"--preset", names[i], "--device", "cpu"});
    EXPECT_EQ(options.layers, sizes[i][0]);
    EXPECT_EQ(options.heads, sizes[i][1]);
    EXPECT_EQ(options.width, sizes[i][2]);
    EXPECT_EQ(options.context, 1024);
    EXPECT_LT(options.min_lr, options.lr);
  }
}

TEST(GptOptions, ValuesComeFromPresetThenConfigThenFlags) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("run.json");
  std::ofstream(path)
      << R"({"preset": "toy", "steps": 77, "batch": 5, "text": ["a.txt", "b.txt"]})";
  const Options options = parse({"--config", path, "--batch", "6", "--device", "cpu"});
  EXPECT_EQ(options.preset, "toy");
  EXPECT_EQ(options.layers, 6);  // of the preset
  EXPECT_EQ(options.steps, 77);  // of the file
  EXPECT_EQ(options.batch, 6);   // of the flag
  EXPECT_THAT(options.text, ::testing::ElementsAre("a.txt", "b.txt"));
}

TEST(GptOptions, ConfigOfARunIsAConfigFile) {
  const TemporaryDirectory directory;
  const Options first = parse({"--preset", "toy", "--device", "cpu", "--steps", "9"});
  const std::string path = directory.file("config.json");
  std::ofstream(path) << to_json(first, Command::train);
  const Options second = parse({"--config", path});
  EXPECT_EQ(to_json(first, Command::train), to_json(second, Command::train));
}

TEST(GptOptions, RefusesAnUnknownKeyOfAConfigFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("run.json");
  std::ofstream(path) << R"({"step": 77})";
  EXPECT_THAT(run({"train", "--config", path}).errors, HasSubstr("did you mean"));
}

TEST(GptOptions, SaysWhichOptionOfAConfigFileWasMeant) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("run.json");
  std::ofstream(path) << R"({"stepz": 77})";
  EXPECT_THAT(run({"train", "--config", path}).errors,
              HasSubstr(path + ": unknown option stepz of train; did you mean steps;"));
}

TEST(GptOptions, RefusesConfigFilesThatSayNothingUseful) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("run.json");
  for (const char* text :
       {R"({"steps": [1, 2]})", R"({"steps": null})", R"({"config": "x.json"})",
        R"({"text": ["a"], "corpus": "easy"})", R"({"text": [["a"]]})", R"({"text": {"a": "b"}})",
        R"({"steps": 1, "steps": 2})", R"({"out": ""})", R"([1])", "{"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(run({"train", "--device", "cpu", "--config", path}).status, 2) << text;
  }
}

TEST(GptOptions, DataOfFlagsCountsMoreThanThatOfTheConfigFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("run.json");
  std::ofstream(path) << R"({"text": ["a.txt"]})";
  const Options builtin = parse({"--config", path, "--corpus", "standard", "--device", "cpu"});
  EXPECT_EQ(builtin.corpus, "standard");
  EXPECT_TRUE(builtin.text.empty());
  std::ofstream(path) << R"({"corpus": "standard"})";
  const Options own = parse({"--config", path, "--text", "b.txt", "--device", "cpu"});
  EXPECT_EQ(own.corpus, "");
  EXPECT_THAT(own.text, ::testing::ElementsAre("b.txt"));
}

TEST(GptOptions, LearningRateAloneLowersTheOneAtTheEnd) {
  EXPECT_DOUBLE_EQ(parse({"--device", "cpu", "--lr", "1e-5"}).min_lr, 1e-6);
  EXPECT_DOUBLE_EQ(parse({"--device", "cpu", "--lr", "1e-1"}).min_lr, 2e-4);
  EXPECT_THROW(parse({"--device", "cpu", "--lr", "1e-5", "--min-lr", "1e-4"}), UsageError);
}

TEST(GptOptions, NamesTheSwitchWithAWrongValue) {
  EXPECT_THAT(run({"train", "--bias=maybe"}).errors, HasSubstr("--bias is maybe"));
}

TEST(GptOptions, SaysWhereRunStands) {
  const Outcome outcome = run({"eval", "--device", "cpu", "--text", "a.txt", "run"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("put RUN before --text"));
}

TEST(GptOptions, TextTakesSeveralFiles) {
  const Options options = parse({"--text", "a,b.txt", "c.txt", "--steps", "3", "--device", "cpu"});
  EXPECT_THAT(options.text, ::testing::ElementsAre("a,b.txt", "c.txt"));
  EXPECT_EQ(options.steps, 3);
  EXPECT_TRUE(options.corpus.empty());
}

TEST(GptOptions, HelpNamesDefaultsAndUnits) {
  for (const char* command : {"train", "sample", "eval", "doctor"}) {
    const Outcome outcome = run({command, "--help"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.out, HasSubstr("--device"));
  }
  EXPECT_THAT(run({"train", "--help"}).out,
              AllOf(HasSubstr("--time-limit SECONDS"), HasSubstr("toy 5000"),
                    HasSubstr("toy 0.0001; gpt2 6e-05)"), Not(HasSubstr("999"))));
  EXPECT_EQ(run({"--version"}).out.rfind("lamina-gpt ", 0), 0U);
  EXPECT_EQ(run({}).status, 2);
}

}  // namespace
}  // namespace lamina::gpt
