// SPDX-License-Identifier: MIT
#include "nn/state_dict.h"

#include "nn/nn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace lamina::nn {
namespace {

using ::testing::HasSubstr;

class StateDict : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() / cat("lamina_", info->name(), "_", getpid());
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "model.safetensors";
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Writes a file with this header and `data_bytes` zeros.
  void write_file(const std::string& header, std::size_t data_bytes) const {
    std::ofstream file(path_, std::ios::binary);
    for (std::size_t i = 0; i < 8; ++i)
      file.put(static_cast<char>(header.size() >> (8 * i)));
    file << header << std::string(data_bytes, '\0');
  }

  std::string load_error(Module& module) const {
    try {
      load_parameters(module, path_);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::filesystem::path folder_, path_;
};

TEST_F(StateDict, RestoresParametersAndMetadata) {
  Mlp a(4);
  Mlp b(4);
  save_parameters(a, path_, {{"step", "12"}});
  EXPECT_EQ(load_parameters(b, path_).at("step"), "12");
  EXPECT_EQ(read_metadata(path_).at("step"), "12");
  EXPECT_EQ(a.up.weight.value().to_vector<float>(), b.up.weight.value().to_vector<float>());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}),
            1);  // nothing else left
}

TEST_F(StateDict, ConvertsTheDtype) {
  Linear a(3, 2);
  save_parameters(a, path_);
  Linear b(3, 2);
  b.to(kCpu, DType::f64);
  load_parameters(b, path_);
  EXPECT_EQ(a.weight.value().to_vector<float>(), b.weight.value().to_vector<float>());
}

TEST_F(StateDict, LeavesTheModelAsItWasWhenTheFileIsOfAnother) {
  Linear wide(3, 4);
  save_parameters(wide, path_);
  Linear model(3, 2);
  const std::vector<float> before = model.weight.value().to_vector<float>();
  EXPECT_THAT(load_error(model), HasSubstr("weight has shape [4, 3], expected [2, 3]"));
  Linear without_bias(3, 4, {.bias = false});
  EXPECT_THAT(load_error(without_bias), HasSubstr("bias is in the file"));
  save_parameters(without_bias, path_);
  Linear with_bias(3, 4);
  EXPECT_THAT(load_error(with_bias), HasSubstr("bias [4] is missing"));
  EXPECT_EQ(model.weight.value().to_vector<float>(), before);
}

TEST_F(StateDict, RefusesDamagedFiles) {
  Linear model(3, 4, {.bias = false});
  EXPECT_THAT(load_error(model), HasSubstr("No such file"));
  const std::string good = R"({"weight":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]}})";
  write_file(good, 48);
  EXPECT_EQ(load_error(model), "no error");
  write_file(good, 47);
  EXPECT_THAT(load_error(model), HasSubstr("cover 48 bytes of data, expected all 47"));
  write_file(R"({"weight":{"dtype":"F8_E4M3","shape":[4,3],"data_offsets":[0,12]}})", 12);
  EXPECT_THAT(load_error(model), HasSubstr("F8_E4M3"));
}

TEST_F(StateDict, ReadsAModelOfSeveralFiles) {
  Linear model(3, 4), other(3, 4);
  save_tensors({{"weight", model.weight.value()}}, (folder_ / "1.safetensors").string());
  save_tensors({{"bias", full({4}, 2.0)}}, (folder_ / "2.safetensors").string());
  path_ = folder_ / "model.safetensors.index.json";
  std::ofstream(path_) << R"({"weight_map":{"weight":"1.safetensors","bias":"2.safetensors"}})";
  EXPECT_EQ(load_error(other), "no error");
  EXPECT_EQ(other.weight.value().to_vector<float>(), model.weight.value().to_vector<float>());
  EXPECT_EQ(other.bias.value().to_vector<float>(), std::vector<float>(4, 2.0F));
  EXPECT_TRUE(read_metadata(path_).empty());

  Linear untouched(3, 4);
  const std::vector<float> before = untouched.weight.value().to_vector<float>();
  std::filesystem::resize_file(folder_ / "2.safetensors", 40);
  EXPECT_THAT(load_error(untouched), HasSubstr("2.safetensors"));
  EXPECT_EQ(untouched.weight.value().to_vector<float>(), before);
}

TEST_F(StateDict, KeepsTheOldFileWhenWritingFails) {
  Linear model(3, 4);
  EXPECT_THROW(save_parameters(model, folder_ / "missing" / "model.safetensors"), Error);
  save_parameters(model, path_);
  std::filesystem::create_directory(path_.string() +
                                    ".part");  // the temporary name cannot be opened
  EXPECT_THROW(save_parameters(model, path_), Error);
  EXPECT_EQ(load_error(model), "no error");
}

}  // namespace
}  // namespace lamina::nn
