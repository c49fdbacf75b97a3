// SPDX-License-Identifier: MIT
// lamina-gpt inspect: each format is recognised by what is in it, and its numbers are right.
#include "core/tensor.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/event_file.h"
#include "examples/gpt/meta_pickle.h"
#include "examples/gpt/shard.h"
#include "nn/safetensors.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const std::string kHuggingFace = LAMINA_SOURCE_DIR "/tests/formats/gpt2";

/// What --json says of a file that nothing is wrong with.
Json inspected(const std::string& path, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"inspect", path, "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.errors;
  EXPECT_EQ(outcome.errors, "");
  Json json = Json::parse(outcome.out, nullptr, false);
  EXPECT_EQ(json.value("file", ""), path);
  EXPECT_EQ(json.value("faults", Json()), Json::array());
  return json;
}

/// The same with faults.
Json damaged(const std::string& path, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"inspect", path, "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.status, 1) << outcome.out;
  Json json = Json::parse(outcome.out, nullptr, false);
  EXPECT_EQ(json.value("faults", Json::array()).size(), 1U) << outcome.out;
  json["faults"].push_back("");  // there is a first one, whatever failed
  return json;
}

/// The text of a refusal.
std::string refused(const std::string& path) {
  const Outcome outcome = run({"inspect", path});
  EXPECT_EQ(outcome.status, 1) << outcome.out;
  EXPECT_EQ(outcome.out, "");
  return outcome.errors;
}

void flip_bit(const std::string& path, std::size_t at) {
  std::string content = content_of(path);
  content.at(at) = static_cast<char>(content.at(at) ^ 1);
  write(path, content);
}

Tensor filled(std::initializer_list<std::int64_t> shape, DType dtype) {
  const Tensor tensor =
      empty(Shape(std::span<const std::int64_t>(shape.begin(), shape.size())), dtype);
  tensor.fill(1.0);
  return tensor;
}

std::string safetensors_in(const TemporaryDirectory& directory, const std::string& name) {
  nn::save_tensors(
      {{"head.weight", filled({2, 3}, DType::bf16)}, {"bias", filled({5}, DType::f32)}},
      directory.file(name), {{"note", "a\x1b[31mb"}});
  return directory.file(name);
}

TEST(Inspect, PrintsATableOfTheTensorsOfASafetensorsFile) {
  const TemporaryDirectory directory;
  const std::string path = safetensors_in(directory, "some weights.safetensors");
  const Outcome outcome = run({"inspect", path});
  EXPECT_EQ(outcome.status, 0);
  const std::string bytes = std::to_string(fs::file_size(path));
  EXPECT_EQ(outcome.out, "file          " + path +
                             "\n"
                             "kind          safetensors file\n"
                             "bytes         " +
                             bytes + " (" + bytes +
                             " B)\n"
                             "parameters    11 (11)\n"
                             "tensor_count  2\n"
                             "tensor_bytes  32\n"
                             "dtypes        [\"BF16\",\"F32\"]\n"
                             "metadata\n"
                             "  note  a [31mb\n"  // without the escape
                             "tensors\n"
                             "  name         dtype  shape  bytes\n"
                             "  bias         F32    [5]       20\n"
                             "  head.weight  BF16   [2,3]     12\n"
                             "faults        none\n");
}

TEST(Inspect, SaysTheSameAsAJsonObject) {
  const TemporaryDirectory directory;
  const std::string path = safetensors_in(directory, "weights.safetensors");
  const Json json = inspected(path);
  EXPECT_EQ(json["bytes"], fs::file_size(path));
  EXPECT_EQ(json["parameters"], 11);
  EXPECT_EQ(json["metadata"]["note"], "a\x1b[31mb");
  EXPECT_EQ(json["tensors"][1],
            Json({{"name", "head.weight"}, {"dtype", "BF16"}, {"shape", {2, 3}}, {"bytes", 12}}));
}

TEST(Inspect, KnowsASafetensorsIndexAndItsShards) {
  const TemporaryDirectory directory;
  nn::save_tensors({{"a", filled({4}, DType::f32)}, {"b", filled({2, 2}, DType::f32)}},
                   directory.file("one.safetensors"));
  nn::save_tensors({{"c", filled({3}, DType::f16)}}, directory.file("two.safetensors"));
  const Json map = {
      {"weight_map",
       {{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}}}};
  const std::string index = write(directory.file("model.safetensors.index.json"), map.dump());
  const Json json = inspected(index);
  EXPECT_EQ(json["kind"], "safetensors index (*.index.json)");
  EXPECT_EQ(json["parameters"], 11);
  EXPECT_EQ(json["tensor_bytes"], 38);
  EXPECT_EQ(json["shards"], Json({{{"file", "one.safetensors"}, {"tensors", 2}, {"bytes", 32}},
                                  {{"file", "two.safetensors"}, {"tensors", 1}, {"bytes", 6}}}));
  EXPECT_EQ(json["tensors"][2]["shard"], "two.safetensors");
  EXPECT_THAT(refused(write(directory.file("map.json"), map.dump())), HasSubstr(".index.json"));
  fs::remove(directory.file("two.safetensors"));
  EXPECT_THAT(refused(index), HasSubstr("two.safetensors: opening for reading failed"));
}

TEST(Inspect, KnowsAHuggingFaceDirectory) {
  const TemporaryDirectory directory;
  const Json json = inspected(kHuggingFace);
  EXPECT_EQ(json["kind"], "directory of a Hugging Face model");
  EXPECT_EQ(json["import"], "possible");
  EXPECT_EQ(json["config"]["n_embd"], 16);
  EXPECT_EQ(json["model.safetensors"]["parameters"], 8400);
  EXPECT_FALSE(json["model.safetensors"].contains("tensors"));
  EXPECT_EQ(inspected(kHuggingFace + "/config.json")["config"], json["config"]);

  const std::string other = directory.file("llama");
  fs::create_directory(other);
  write(other + "/config.json", R"({"model_type": "llama"})");
  EXPECT_THAT(inspected(other)["import"], HasSubstr("refused: config.json: model_type"));
  write(other + "/tokenizer.json", "{}");
  EXPECT_THAT(damaged(other)["faults"][0], HasSubstr("tokenizer.json: "));
}

TEST(Inspect, KnowsARunAndItsCheckpoints) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("a run");
  ASSERT_EQ(train_tiny(out, {"--steps", "20", "--eval-every", "10", "--checkpoint-every", "10",
                             "--log-every", "4", "--metrics", "csv,tensorboard", "--profile=10"})
                .status,
            0);
  const std::vector<Json> log = timeless_log(out);
  const Json json = inspected(out, {"--check"});
  EXPECT_EQ(json["kind"], "run of lamina-gpt train");
  EXPECT_EQ(json["options"]["width"], 32);
  EXPECT_EQ(json["log"]["records"], log.size());
  EXPECT_EQ(json["log"]["events"], Json({{"start", 1}, {"step", 6}, {"eval", 2}, {"end", 1}}));
  EXPECT_EQ(json["log"]["first_step"], 1);
  EXPECT_EQ(json["log"]["last_step"], 20);
  EXPECT_EQ(json["log"]["best_val_loss"], log.back()["best_val_loss"]);
  EXPECT_EQ(json["log"]["best_step"], log.back()["best_step"]);
  Json last_loss;
  for (const Json& record : log)
    if (record["event"] == "step") last_loss = record["loss"];
  EXPECT_EQ(json["log"]["last_loss"], last_loss);
  EXPECT_EQ(json["profile"]["records"], 2);
  ASSERT_EQ(json["checkpoints"].size(), 2U);
  EXPECT_EQ(json["checkpoints"][0]["step"], 20);
  EXPECT_EQ(json["checkpoints"][0]["called"], "best, latest");
  EXPECT_EQ(json["checkpoints"][0]["state"], "intact");
  EXPECT_EQ(json["checkpoints"][1]["called"], "");
  EXPECT_EQ(inspected(out)["checkpoints"][0]["state"], "of the right size");
  EXPECT_EQ(inspected(out + "/checkpoints")["checkpoints"], inspected(out)["checkpoints"]);

  EXPECT_EQ(inspected(out + "/config.json")["options"], json["options"]);
  EXPECT_EQ(inspected(out + "/log.jsonl")["last_loss"], last_loss);
  EXPECT_EQ(inspected(out + "/profile.jsonl")["last_step"], 20);
  const Json steps = inspected(out + "/steps.csv"), evals = inspected(out + "/evals.csv");
  EXPECT_EQ(steps["kind"], "metrics of a run (steps.csv, evals.csv)");
  EXPECT_EQ(steps["rows"], 6);
  EXPECT_EQ(steps["last_step"], 20);
  EXPECT_EQ(evals["rows"], 2);
  EXPECT_EQ(evals["first_step"], 10);

  const std::string step = out + "/checkpoints/step_00000020";
  const Json checkpoint = inspected(step + "/", {"--check"});
  EXPECT_EQ(checkpoint["kind"], "checkpoint of a run");
  EXPECT_EQ(checkpoint["step"], 20);
  EXPECT_EQ(checkpoint["files"].size(), 3U);
  EXPECT_EQ(checkpoint["files"][0]["bytes"], fs::file_size(step + "/model.safetensors"));
  EXPECT_EQ(checkpoint["state"]["best_step"], 10);  // it was written before it was evaluated
  EXPECT_EQ(checkpoint["weights"]["metadata"]["step"], "20");
  EXPECT_EQ(inspected(step + "/state.json")["step"], 20);
  const Json manifest = inspected(step + "/MANIFEST");
  EXPECT_EQ(manifest["kind"], "MANIFEST of a checkpoint");
  EXPECT_EQ(manifest["step"], 20);
  ASSERT_EQ(manifest["files"].size(), 3U);
  for (const char* const key : {"file", "bytes", "crc32c"})
    EXPECT_EQ(manifest["files"][1][key], checkpoint["files"][1][key]);
  std::string torn = content_of(step + "/MANIFEST");
  torn.resize(torn.size() - 5);
  const Json cut = damaged(write(directory.file("torn"), torn));
  EXPECT_EQ(cut["step"], 20);
  EXPECT_THAT(cut["faults"][0], HasSubstr("torn is damaged"));

  fs::copy(step, directory.file("copy"));
  EXPECT_THAT(refused(directory.file("copy")), HasSubstr("expected the name step_"));
  flip_bit(step + "/optimizer.safetensors", 5000);
  EXPECT_EQ(inspected(step)["files"][1]["state"], "of the right size");
  EXPECT_EQ(damaged(step, {"--check"})["files"][1]["state"], "damaged");
  const Json faulty = damaged(out, {"--check"});
  EXPECT_EQ(faulty["checkpoints"][0]["state"], "damaged");
  EXPECT_EQ(faulty["checkpoints"][1]["state"], "intact");
  EXPECT_THAT(faulty["faults"][0], HasSubstr("optimizer.safetensors has the checksum "));
  fs::resize_file(step + "/optimizer.safetensors", 5000);
  EXPECT_THAT(damaged(step)["faults"][0], HasSubstr("has 5000 bytes, expected "));
  fs::remove(step + "/optimizer.safetensors");
  EXPECT_THAT(damaged(step)["faults"][0], HasSubstr("No such file"));
  write(step + "/MANIFEST", "x");
  EXPECT_THAT(damaged(step)["faults"][0], HasSubstr("MANIFEST is damaged"));
}

TEST(Inspect, KnowsTokenShards) {
  const TemporaryDirectory directory;
  const std::uint16_t ids[] = {7, 300, 2, 9};
  const std::string bytes(reinterpret_cast<const char*>(ids), sizeof ids);
  const Json llmc = inspected(write(directory.file("odd name"), data::shard_header(4, 2) + bytes));
  EXPECT_EQ(llmc["format"], "llm.c");
  EXPECT_EQ(llmc["tokens"], 4);
  EXPECT_EQ(llmc["bytes_per_token"], 2);
  EXPECT_EQ(llmc["largest_id"], 300);
  EXPECT_EQ(
      inspected(write(directory.file("wide"), data::shard_header(2, 4) + bytes))["largest_id"],
      7 + (300 << 16));
  const Json bare = inspected(write(directory.file("train.bin"), bytes));
  EXPECT_THAT(bare["format"], HasSubstr("nanogpt"));
  EXPECT_EQ(bare["tokens"], 4);

  std::string many(2 * 5000, '\0');
  many[many.size() - 1] = 1;  // an id of 256 behind those that are looked at
  write(directory.file("train.bin"), many);
  EXPECT_EQ(inspected(directory.file("train.bin"))["largest_id"], 0);
  EXPECT_EQ(inspected(directory.file("train.bin"), {"--check"})["largest_id"], 256);

  EXPECT_THAT(refused(write(directory.file("cut.bin"), data::shard_header(5, 2) + bytes)),
              HasSubstr("expected 1034 (5 tokens"));
  EXPECT_THAT(refused(write(directory.file("odd.bin"), "abc")), HasSubstr("3 bytes, expected"));
  EXPECT_THAT(refused(write(directory.file("pytorch_model.bin"), "PK\3\4....")),
              HasSubstr("something else"));
}

TEST(Inspect, KnowsADirectoryOfTokens) {
  const TemporaryDirectory directory;
  const std::string text = write(directory.file("text.txt"), std::string(1000, 'a') + "bc\n");
  const std::string out = directory.file("shards");
  ASSERT_EQ(run({"prepare", "--text", text, "--out", out, "--shard-tokens", "500"}).status, 0);
  const Json json = inspected(out, {"--check"});
  EXPECT_EQ(json["kind"], "directory of token shards");
  EXPECT_EQ(json["train_tokens"], 902);
  EXPECT_EQ(json["validation_tokens"], 101);
  EXPECT_EQ(json["vocabulary_size"], 4);
  EXPECT_EQ(json["vocabulary"]["characters"], "\nabc");
  EXPECT_EQ(json["has_manifest"], true);
  ASSERT_EQ(json["shards"].size(), 3U);
  EXPECT_EQ(json["shards"][1], Json({{"file", "train_000001.bin"},
                                     {"part", "train"},
                                     {"tokens", 402},
                                     {"bytes", 1024 + 804},
                                     {"state", "intact"}}));
  EXPECT_EQ(inspected(out + "/manifest.json")["shards"][1]["tokens"], 402);
  EXPECT_EQ(inspected(out + "/tokenizer.json")["level"], "character");

  flip_bit(out + "/train_000001.bin", 1500);
  EXPECT_EQ(inspected(out)["shards"][1]["state"], "not checked");
  const Json faulty = damaged(out, {"--check"});
  EXPECT_EQ(faulty["shards"][1]["state"], "damaged");
  EXPECT_THAT(faulty["faults"][0], HasSubstr("train_000001.bin has another checksum"));
  fs::remove(out + "/train_000001.bin");
  EXPECT_THAT(refused(out), HasSubstr("train_000001.bin is missing"));
}

TEST(Inspect, KnowsVocabularies) {
  const TemporaryDirectory directory;
  const std::string merges = "#version: 0.2\na b\nab c\n";
  const Json bpe = inspected(write(directory.file("some merges"), merges));
  EXPECT_EQ(bpe["kind"], "merges.txt of a byte-pair tokenizer");
  EXPECT_EQ(bpe["tokens"], 259);
  EXPECT_EQ(bpe["merges"], 2);
  EXPECT_EQ(bpe["special_tokens"], Json({"<|endoftext|>"}));
  const std::string json = data::bpe_json(data::bpe_from_merges(merges, std::nullopt)).dump();
  fs::create_directory(directory.file("tokenizer"));
  const std::string tokenizer = write(directory.file("tokenizer/tokenizer.json"), json);
  const Json same = inspected(tokenizer);
  EXPECT_EQ(same["kind"], "tokenizer.json");
  EXPECT_EQ(same["tokens"], 259);
  EXPECT_EQ(inspected(directory.file("tokenizer"))["merges"], 2);
  EXPECT_EQ(inspected(write(directory.file("other name"), json))["merges"], 2);
  EXPECT_THAT(refused(write(tokenizer, json.substr(0, 200))), HasSubstr("is not JSON"));

  const data::Vocabulary letters = data::Vocabulary::from_text("cab", data::Level::character);
  const std::string pickle = data::meta_pickle(letters);
  const Json meta = inspected(write(directory.file("meta.pkl"), pickle));
  EXPECT_EQ(meta["kind"], "meta.pkl of nanoGPT");
  EXPECT_EQ(meta["tokens"], 3);
  EXPECT_EQ(meta["characters"], "abc");
  EXPECT_EQ(inspected(write(directory.file("vocabulary"), pickle))["kind"], meta["kind"]);
  EXPECT_THAT(refused(write(directory.file("meta.pkl"), pickle.substr(0, 60))),
              HasSubstr("meta.pkl: "));
}

TEST(Inspect, CountsTheRecordsOfLogs) {
  const TemporaryDirectory directory;
  const std::string log = R"({"event":"start","preset":"toy"}
{"event":"step","step":1,"loss":4.5}
{"event":"eval","step":10,"val_loss":3.5}
{"event":"step","step":20,"loss":3.25}
{"event":"eval","step":20,"val_loss":3.75}
{"event":"step","step":30,"lo)";
  const Json json = inspected(write(directory.file("old log"), log));
  EXPECT_EQ(json["kind"], "log.jsonl of a run");
  EXPECT_EQ(json["records"], 5);
  EXPECT_EQ(json["lines_left_out"], 1);
  EXPECT_EQ(json["first_step"], 1);
  EXPECT_EQ(json["last_step"], 20);
  EXPECT_EQ(json["last_loss"], 3.25);
  EXPECT_EQ(json["best_val_loss"], 3.5);
  EXPECT_EQ(json["best_step"], 10);
  EXPECT_EQ(json["events"], Json({{"start", 1}, {"step", 2}, {"eval", 2}}));
  const Json torn = inspected(write(directory.file("log.jsonl"), "{\"event\":\"sta"));
  EXPECT_EQ(torn["records"], 0);
  EXPECT_EQ(torn["lines_left_out"], 1);
  EXPECT_EQ(torn["last_step"], Json());
}

TEST(Inspect, CountsTheRowsOfMetrics) {
  const TemporaryDirectory directory;
  const Json json =
      inspected(write(directory.file("old table"), "step,loss,lr\n1,4.5,\n20,nan,1e-3\n30,3.2"));
  EXPECT_EQ(json["columns"], "step,loss,lr");
  EXPECT_EQ(json["rows"], 2);
  EXPECT_EQ(json["lines_left_out"], 1);
  EXPECT_EQ(json["first_step"], 1);
  EXPECT_EQ(json["last_step"], 20);
  const Json torn = inspected(write(directory.file("evals.csv"), "step\nx\n1,2\n"));
  EXPECT_EQ(torn["rows"], 0);
  EXPECT_EQ(torn["lines_left_out"], 2);
  EXPECT_EQ(torn["last_step"], Json());
}

TEST(Inspect, CountsTheTokensOfLogProbs) {
  const TemporaryDirectory directory;
  const Json json =
      inspected(write(directory.file("some log"), R"({"sample":1,"token":7,"text":"a","log_prob":-1}
{"sample":2,"token":9,"text":"\"traceEvents\\\"","log_prob":-0.5}
{"sample":"x","token":9,"log_prob":-0.5}
{"sample":2,"tok)"));
  EXPECT_EQ(json["kind"], "log-probabilities of lamina-gpt sample");
  EXPECT_EQ(json["tokens"], 2);
  EXPECT_EQ(json["samples"], 2);
  EXPECT_EQ(json["mean_log_prob"], -0.75);
  EXPECT_EQ(json["lines_left_out"], 1);
}

TEST(Inspect, CountsTheRecordsOfEventFilesAndTheirChecksums) {
  const TemporaryDirectory directory;
  const std::vector<Scalar> scalars = {{"train/loss", 1.5}};
  const std::string record = event_record(1.7e9, 3, scalars);
  const std::string path = write(directory.file("events"), record + record + record);
  const Json json = inspected(path, {"--check"});
  EXPECT_EQ(json["kind"], "TensorBoard event file");
  EXPECT_EQ(json["records"], 3);
  EXPECT_EQ(json["bytes_cut_off"], 0);
  for (const std::size_t left : {record.size() - 1, std::size_t{14}, std::size_t{1}}) {
    write(path, record + record + record.substr(0, left));
    EXPECT_EQ(inspected(path)["records"], 2);
    EXPECT_EQ(inspected(path)["bytes_cut_off"], left);
  }
  write(path, record + record + record);
  flip_bit(path, record.size() + 20);  // data of the second record
  EXPECT_EQ(inspected(path)["records"], 3);
  EXPECT_THAT(damaged(path, {"--check"})["faults"][0],
              HasSubstr("record 1 (byte " + std::to_string(record.size()) + "): the checksum of"));
  flip_bit(path, 2 * record.size());  // length of the third
  EXPECT_EQ(damaged(path)["records"], 2);
}

TEST(Inspect, NamesWhatOtherProgramsOpen) {
  const TemporaryDirectory directory;
  const std::string trace = directory.file("t"), memory = directory.file("m");
  const Outcome made =
      run({"profile", "--device", "cpu", "--layers", "1", "--width", "16", "--heads", "1",
           "--context", "8", "--batch", "2", "--trace", trace, "--memory", memory});
  ASSERT_EQ(made.status, 0) << made.errors;
  EXPECT_THAT(inspected(trace)["kind"], HasSubstr("https://ui.perfetto.dev"));
  EXPECT_THAT(inspected(memory)["kind"], HasSubstr("https://pytorch.org/memory_viz"));
}

TEST(Inspect, RefusesWhatItDoesNotKnowAndListsWhatItDoes) {
  const TemporaryDirectory directory;
  const auto knows_files = AllOf(HasSubstr("is a file of something else"),
                                 HasSubstr("safetensors file"), HasSubstr("tokenizer.json"));
  EXPECT_THAT(refused(write(directory.file("a b.txt"), "some text")), knows_files);
  EXPECT_THAT(refused(write(directory.file("other.json"), R"({"name": 1})")), knows_files);
  EXPECT_THAT(refused(write(directory.file("list.json"), "[1, 2]")), knows_files);
  EXPECT_THAT(refused(write(directory.file("blank"), " \n")), knows_files);
  EXPECT_THAT(refused(write(directory.file("pickle"), "\x80\x02}.")), knows_files);
  EXPECT_THAT(refused(write(directory.file("broken.json"), "{\"name\": ")), HasSubstr("not JSON"));
  EXPECT_THAT(refused(write(directory.file("empty.safetensors"), "")), HasSubstr(" is empty"));
  EXPECT_THAT(refused(directory.file("nothing")), HasSubstr("No such file"));
  EXPECT_THAT(refused(""), HasSubstr("No such file"));
  fs::create_directory(directory.file("folder"));
  EXPECT_THAT(refused(directory.file("folder")),
              AllOf(HasSubstr("is a directory of something else"), HasSubstr("checkpoint of a run"),
                    HasSubstr("directory of token shards")));
  ASSERT_EQ(mkfifo(directory.file("pipe").c_str(), 0600), 0);
  EXPECT_THAT(refused(directory.file("pipe")), HasSubstr("not a regular file"));
}

TEST(Inspect, SaysWhereASafetensorsFileIsDamaged) {
  const TemporaryDirectory directory;
  const std::string whole = content_of(safetensors_in(directory, "w.safetensors"));
  for (const char* const name : {"cut.safetensors", "cut"})  // by its name, by its content
    EXPECT_THAT(refused(write(directory.file(name), whole.substr(0, whole.size() - 1))),
                HasSubstr("the file was cut short"));
  EXPECT_THAT(refused(write(directory.file("text.safetensors"), "no tensors")),
              HasSubstr("safetensors: "));
  EXPECT_EQ(inspected(write(directory.file("model.bin"), whole))["kind"], "safetensors file");
}

/// Rights of a user who is not root.
class Unprivileged {
 public:
  Unprivileged() { is_root_ = geteuid() == 0 && seteuid(65534) == 0; }

  ~Unprivileged() {
    if (is_root_ && seteuid(0) != 0) ADD_FAILURE() << "still unprivileged";
  }

  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  bool is_root_ = false;
};

TEST(Inspect, SaysThatAFileMayNotBeRead) {
  const TemporaryDirectory directory;
  fs::permissions(directory.file(""), fs::perms(0755));
  const std::string file = safetensors_in(directory, "w.safetensors");
  const std::string folder = directory.file("folder");
  fs::create_directory(folder);
  fs::permissions(file, fs::perms::none);
  fs::permissions(folder, fs::perms::none);
  {
    const Unprivileged user;
    for (const std::string& path : {file, folder})
      EXPECT_THAT(refused(path), HasSubstr("Permission denied")) << path;
  }
  fs::permissions(folder, fs::perms(0755));
}

TEST(Inspect, GoesOnAfterAFileThatItCannotRead) {
  const TemporaryDirectory directory;
  const std::string path = safetensors_in(directory, "w.safetensors"),
                    other = directory.file("none");
  const Outcome outcome = run({"inspect", other, path, "--json", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("lamina-gpt: error: inspect: " + other));
  std::istringstream lines(outcome.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count)
    EXPECT_EQ(Json::parse(line)["file"], path);
  EXPECT_EQ(count, 2);
  EXPECT_THAT(run({"inspect", path, path}).out, HasSubstr("none\n\nfile "));
}

TEST(Inspect, IsUsedWithAFile) {
  EXPECT_EQ(run({"inspect"}).status, 2);
  EXPECT_THAT(run({"inspect"}).errors, HasSubstr("lamina-gpt inspect FILE..."));
  const Outcome unknown = run({"inspect", "x", "--jsonn"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("did you mean --json"));
  EXPECT_THAT(run({"inspekt"}).errors, HasSubstr("did you mean inspect"));
  EXPECT_THAT(run({"inspect", "--help"}).out,
              AllOf(HasSubstr("inspect FILE... [OPTIONS]"), HasSubstr("--check"),
                    Not(HasSubstr("--device"))));
  EXPECT_THAT(run({"help"}).out, HasSubstr("\n  inspect "));
}

}  // namespace
}  // namespace lamina::gpt
