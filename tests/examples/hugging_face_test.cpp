// SPDX-License-Identifier: MIT
// GPT-2 as transformers stores it. tests/formats/gpt2 was made by tests/formats/hugging_face.py: a
// small random model, and what PyTorch computes from it.
#include "examples/gpt/hugging_face.h"

#include "core/text.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;

const std::string kFixture = LAMINA_SOURCE_DIR "/tests/formats/gpt2";

Tensors load(const std::string& path) {
  Tensors tensors;
  for (auto& [name, tensor] : nn::load_tensors(path))
    tensors[name] = tensor;
  return tensors;
}

/// Norm of the difference over the norm of what is expected.
double relative_error(const Tensor& actual, const Tensor& expected) {
  const std::vector<double> a = actual.to(DType::f64).contiguous().to_vector<double>();
  const std::vector<double> b = expected.to(DType::f64).contiguous().to_vector<double>();
  if (a.size() != b.size()) return INFINITY;
  double difference = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

/// The parameters' values or gradients by transformers' names, through an export of a model that
/// holds them.
Tensors exported(Gpt& model, bool gradients) {
  const TemporaryDirectory directory;
  Gpt copy(model.config);
  const auto from = model.named_parameters(), to = copy.named_parameters();
  for (std::size_t i = 0; i < from.size(); ++i)
    to[i].var->value().copy_from(gradients ? from[i].var->grad() : from[i].var->value());
  export_gpt2(copy, {.config = model.config, .vocabulary = {}, .preset = "", .corpus = ""},
              directory.file("out"));
  return load(directory.file("out/model.safetensors"));
}

TEST(HuggingFace, ModelTrainsAsInPyTorch) {
  const Tensors expected = load(kFixture + "/expected.safetensors");
  const Checkpoint checkpoint = import_gpt2(kFixture);
  Gpt& model = *checkpoint.model;
  model.eval();  // the config has no dropout either
  EXPECT_FALSE(checkpoint.info.vocabulary.has_value());
  EXPECT_EQ(model.config.vocab, 101);
  const Tensor padding = model.tokens.weight.value().slice(0, 101, 128).contiguous();
  EXPECT_THAT(padding.to_vector<float>(), ::testing::Each(0.0F));
  const Tensor &ids = expected.at("ids"), &targets = expected.at("targets");
  const Tensor logits = model(ids).value().slice(2, 0, 101).contiguous();
  EXPECT_LT(relative_error(logits, expected.at("logits")), 1e-5);

  nn::AdamW optimizer(model.parameters(), {.schedule = nn::schedule::constant(1e-2F, 0),
                                           .beta1 = 0.9F,
                                           .beta2 = 0.95F,
                                           .eps = 1e-3F,
                                           .weight_decay = 0.1F});
  int compared = 0;
  const auto compare = [&](const std::string& kind, const Tensors& ours, double limit) {
    for (const auto& [name, value] : ours) {
      EXPECT_LT(relative_error(value, expected.at(cat(kind, ".", name))), limit) << kind << name;
      ++compared;
    }
  };
  for (int step = 0; step < 10; ++step) {
    const Var loss = model.loss(ids, targets);
    backward(loss);
    if (step == 0) {
      EXPECT_LT(relative_error(loss.value(), expected.at("loss")), 1e-5);
      Tensors gradients = exported(model, true);
      compare("gradient", gradients, 1e-4);
    }
    optimizer.step();
    optimizer.zero_grad();
  }
  compare("trained", exported(model, false), 1e-5);
  EXPECT_EQ(compared, 2 * 28);
}

TEST(HuggingFace, ExportGivesTheImportedWeights) {
  const Checkpoint checkpoint = import_gpt2(kFixture);
  const Tensors before = load(kFixture + "/model.safetensors");
  const Tensors after = exported(*checkpoint.model, false);
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, value] : before)
    EXPECT_EQ(relative_error(after.at(name), value), 0.0) << name;
}

TEST(HuggingFace, CommandsMakeAModelThatTrainsSamplesAndEvaluates) {
  const TemporaryDirectory directory;
  const std::string text = directory.file("text.txt"), made = directory.file("made"),
                    out = directory.file("out"), file = directory.file("model.safetensors"),
                    trained = directory.file("trained");
  {
    std::ofstream stream(text);
    for (int i = 0; i < 300; ++i)
      stream << "caf\xc3\xa9 number " << i << "\n";
  }
  ASSERT_EQ(train_tiny(made, {"--text", text, "--steps", "3", "--bias=false"}).status, 0);
  const Outcome exporting = run({"export", made, "--out", out});
  ASSERT_EQ(exporting.status, 0) << exporting.errors;
  const Outcome importing = run({"import", out, "--out", file});
  ASSERT_EQ(importing.status, 0) << importing.errors;
  EXPECT_THAT(importing.out, HasSubstr("2 x 32, 2 heads, context 32"));
  EXPECT_EQ(load_checkpoint(file).info.vocabulary, load_checkpoint(made).info.vocabulary);

  const std::vector<std::string> sampling = {"--prompt", "caf\xc3\xa9", "--sample-chars", "30"};
  const auto sampled = [&](const std::string& run_or_file) {
    std::vector<std::string> arguments = {"sample", run_or_file, "--device", "cpu"};
    arguments.insert(arguments.end(), sampling.begin(), sampling.end());
    return run(arguments).out;
  };
  EXPECT_EQ(sampled(file), sampled(made));  // the same model
  EXPECT_EQ(run({"eval", file, "--text", text, "--eval-batches", "1"}).status, 0);
  const Outcome training =
      run({"train", "--device", "cpu", "--from", file, "--text", text, "--steps", "2", "--batch",
           "4", "--lr", "1e-9", "--eval-batches", "1", "--samples", "0", "--out", trained});
  ASSERT_EQ(training.status, 0) << training.errors;
  EXPECT_THAT(training.out, HasSubstr("2 x 32, 2 heads, context 32"));
  EXPECT_EQ(sampled(trained), sampled(file));  // it began with these weights
  EXPECT_THAT(run({"train", "--from", file, "--text", text, "--layers", "3"}).errors,
              HasSubstr("--from and --layers are both given"));
  EXPECT_THAT(run({"train", "--from", file, "--corpus", "easy", "--device", "cpu"}).errors,
              HasSubstr("has another vocabulary than the built-in corpus"));
  EXPECT_THAT(run({"export", made, "--out", out}).errors, HasSubstr("nothing is overwritten"));
  EXPECT_THAT(run({"import", out, "--out", directory.file("new")}).errors,
              HasSubstr("expected the name of a .safetensors file"));
  EXPECT_THAT(run({"import", kFixture, "--out", directory.file("bare.safetensors")}).out,
              HasSubstr("there is no tokenizer"));
  EXPECT_THAT(run({"sample", directory.file("bare.safetensors")}).errors,
              HasSubstr("or imported without a tokenizer"));
  EXPECT_THAT(run({"import", "--help"}).out, HasSubstr("lamina-gpt import DIR"));
  EXPECT_THAT(run({"import", out}).errors, HasSubstr("import DIR --out FILE"));
}

std::string error_of_config(const Json& change) {
  Json config = {{"model_type", "gpt2"}};
  config.update(change);
  try {
    config_from_hugging_face(config.dump());
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(HuggingFace, ConfigHasTheDefaultsOfGpt2) {
  const GptConfig config = config_from_hugging_face(R"({"model_type": "gpt2"})");
  EXPECT_EQ(config.layers, 12);
  EXPECT_EQ(config.heads, 12);
  EXPECT_EQ(config.width, 768);
  EXPECT_EQ(config.context, 1024);
  EXPECT_EQ(config.vocab, 50257);
  EXPECT_EQ(config.dropout, 0.1);
}

TEST(HuggingFace, ConfigNamesTheVariantThatIsNotImplemented) {
  EXPECT_EQ(error_of_config({{"n_inner", 3072}, {"activation_function", "gelu_pytorch_tanh"}}),
            "no error");
  EXPECT_THAT(error_of_config({{"model_type", "llama"}}),
              HasSubstr("config.json: model_type is \"llama\", expected \"gpt2\""));
  EXPECT_THAT(error_of_config({{"activation_function", "gelu"}}),
              HasSubstr("activation_function is \"gelu\", expected \"gelu_new\""));
  EXPECT_THAT(error_of_config({{"n_inner", 3000}}), HasSubstr("n_inner is 3000, expected null or"));
  EXPECT_THAT(error_of_config({{"layer_norm_epsilon", 1e-6}}), HasSubstr("layer_norm_epsilon"));
  EXPECT_THAT(error_of_config({{"scale_attn_weights", false}}), HasSubstr("expected true"));
  for (const char* key :
       {"scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"}) {
    EXPECT_THAT(error_of_config({{key, true}}), HasSubstr(cat(key, " is true, expected false")));
  }
  EXPECT_THAT(error_of_config({{"tie_word_embeddings", false}}), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(error_of_config({{"embd_pdrop", 0.2}}), HasSubstr("that of resid_pdrop, 0.1"));
  EXPECT_THAT(error_of_config({{"attn_pdrop", 1.0}}), HasSubstr("a number in [0, 1)"));
  EXPECT_THAT(error_of_config({{"n_head", 5}}), HasSubstr("n_head is 5, expected a divisor of"));
  EXPECT_THAT(error_of_config({{"n_layer", 0}}), HasSubstr("n_layer is 0"));
  EXPECT_THAT(error_of_config({{"n_embd", "x"}}), HasSubstr("n_embd is \"x\""));
  EXPECT_THROW(config_from_hugging_face("[]"), Error);
  EXPECT_THROW(config_from_hugging_face(R"({"model_type": "gpt2", "model_type": "gpt2"})"), Error);
}

/// Imports the fixture with changed tensors, and says what that throws.
template <class Change>
std::string error_with(Change change) {
  const TemporaryDirectory directory;
  fs::copy_file(kFixture + "/config.json", directory.file("config.json"));
  Tensors tensors = load(kFixture + "/model.safetensors");
  change(tensors);
  nn::save_tensors({tensors.begin(), tensors.end()}, directory.file("model.safetensors"));
  try {
    import_gpt2(directory.file(""));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(HuggingFace, ImportTakesMasksAndATiedHead) {
  EXPECT_EQ(error_with([](Tensors& tensors) {
              tensors["transformer.h.0.attn.bias"] = empty({1, 1, 12, 12}, DType::u8);
              tensors["transformer.h.1.attn.masked_bias"] = empty({}, DType::f32);
              tensors["lm_head.weight"] = tensors["transformer.wte.weight"];
            }),
            "no error");
}

TEST(HuggingFace, ImportListsTheTensorsThatDoNotFit) {
  EXPECT_THAT(
      error_with([](Tensors& tensors) {
        tensors.erase("transformer.ln_f.bias");
        tensors["transformer.h.2.ln_1.bias"] = empty({16}, DType::f32);
        tensors["transformer.wpe.weight"] = empty({13, 16}, DType::f32);
        tensors["transformer.h.0.mlp.c_fc.weight"] = empty({64, 16}, DType::f32);
        tensors["transformer.h.0.mlp.c_fc.bias"] = empty({64}, DType::i32);
      }),
      AllOf(HasSubstr("missing: ln_f.bias;"), HasSubstr("unexpected: transformer.h.2.ln_1.bias;"),
            HasSubstr("h.0.mlp.c_fc.weight [64, 16] instead of [16, 64]"),
            HasSubstr("wpe.weight [13, 16] instead of [12, 16]"),
            HasSubstr("h.0.mlp.c_fc.bias I32 instead of F32")));
  EXPECT_THAT(error_with([](Tensors& tensors) {
                tensors["lm_head.weight"] = empty({101, 16}, DType::f32);
                tensors["lm_head.weight"].fill(1.0);
              }),
              HasSubstr("lm_head.weight of"));
  EXPECT_THAT(error_with([](Tensors& tensors) {
                tensors["wte.weight"] = tensors["transformer.wte.weight"];
              }),
              HasSubstr("expected one of them"));
}

TEST(HuggingFace, ImportSaysWhatIsMissing) {
  const TemporaryDirectory directory;
  const auto error = [&] {
    return run({"import", directory.file(""), "--out", "/no/x.safetensors"}).errors;
  };
  EXPECT_THAT(error(), HasSubstr("has no config.json"));
  fs::copy_file(kFixture + "/config.json", directory.file("config.json"));
  EXPECT_THAT(error(), HasSubstr("neither model.safetensors nor"));
  std::ofstream(directory.file("pytorch_model.bin")) << "pickle";
  EXPECT_THAT(error(), HasSubstr("save_pretrained() it again"));
  fs::copy_file(kFixture + "/model.safetensors", directory.file("model.safetensors"));
  std::ofstream(directory.file("merges.txt")) << "a b\n";
  EXPECT_THAT(error(), HasSubstr("has 258 tokens, expected vocab_size 101"));
}

}  // namespace
}  // namespace lamina::gpt
