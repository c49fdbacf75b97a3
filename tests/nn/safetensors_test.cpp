// SPDX-License-Identifier: MIT
// The safetensors format: what is written, what is accepted, and what is refused and why.
#include "nn/safetensors.h"

#include "core/error.h"
#include "core/text.h"
#include "nn/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace lamina::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A file in memory: length, header, `data` zeros.
std::string file_of(const std::string& header, std::size_t data = 0) {
  std::string file;
  for (std::size_t i = 0; i < 8; ++i)
    file += static_cast<char>(header.size() >> (8 * i));
  return file + header + std::string(data, '\0');
}

std::string error_of(const std::string& file) {
  try {
    parse_safetensors(file, "model.safetensors");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SafetensorsHeader, SaysWhatTheFileHolds) {
  const std::string text =
      R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("__metadata__":{"format":"pt"},"a":{"shape":[],"data_offsets":[0,4],"dtype":"F32"}}  )";
  const SafetensorsHeader header = parse_safetensors(file_of(text, 16), "file");
  ASSERT_EQ(header.tensors.size(), 2U);
  const TensorEntry& a = header.tensors.at("a");
  EXPECT_EQ(a.dtype, "F32");
  EXPECT_THAT(a.shape, IsEmpty());
  EXPECT_EQ(a.begin, 0U);
  EXPECT_EQ(a.end, 4U);
  EXPECT_THAT(header.tensors.at("b").shape, ElementsAre(2U, 3U));
  EXPECT_EQ(header.metadata, (Metadata{{"format", "pt"}}));
  EXPECT_EQ(header.data_start, 8U + text.size());
}

TEST(SafetensorsHeader, AcceptsWhatTheFormatAllows) {
  const std::pair<std::string, std::size_t> files[] = {
      {"{}", 0},
      {"{}      ", 0},
      {R"({"__metadata__":null})", 0},
      {R"({"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}})", 0},
      {R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1},
      {R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3},
      {R"({"a":{"dtype":"BOOL","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":{"x":[1,{"y":null}],"z":-1.5}}})",
       1},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2}};
  for (const auto& [header, data] : files)
    EXPECT_EQ(error_of(file_of(header, data)), "accepted") << header;
}

TEST(SafetensorsHeader, RefusesEverythingElse) {
  const auto tensor = [](const std::string& rest) { return cat(R"({"a":{)", rest, "}}"); };

  struct Case {
    std::string file, why;
  };

  const Case cases[] = {
      {"", "0 bytes, expected at least 8"},
      {"abcdefg", "7 bytes, expected at least 8"},
      {std::string(16, '\xff'), "the header claims 18446744073709551615 bytes, expected at most 8"},
      {file_of("{}").substr(0, 9), "the header claims 2 bytes, expected at most 1"},
      {file_of(""), "does not begin with '{'"},
      {file_of(" {}"), "does not begin with '{'"},
      {file_of("[1, 2]"), "does not begin with '{'"},
      {file_of(std::string("{}\0", 3)), "holds a zero byte"},
      {file_of("{} x"), "not JSON at byte 4"},
      {file_of("{\"a\xff\":1}"), "not JSON at byte 4"},
      {file_of(R"({"a":)"), "not JSON"},
      {file_of(R"({"a":[1]})"), "a is an array, expected an object"},
      {file_of(R"({"a":null})"), "a is null, expected an object"},
      {file_of(R"({"a":"F32"})"), "a is the text \"F32\", expected an object"},
      {file_of(R"({"__metadata__":[]})"), "__metadata__ is an array, expected an object"},
      {file_of(R"({"__metadata__":{"k":1}})"), "metadata \"k\" is the number 1, expected text"},
      {file_of(R"({"__metadata__":{"k":{}}})"), "metadata \"k\" is an object, expected text"},
      {file_of(R"({"__metadata__":{"k":"1","k":"2"}})"), "metadata \"k\" comes twice"},
      {file_of(R"({"__metadata__":{},"__metadata__":{}})"), "\"__metadata__\" comes twice"},
      {file_of(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
               R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
               1),
       "\"a\" comes twice"},
      {file_of(tensor(R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])"), 1),
       "a: \"dtype\" comes twice"},
      {file_of(tensor(R"("dtype":"U8","shape":[1])"), 1), "a has no data_offsets"},
      {file_of(tensor(R"("dtype":"U8","data_offsets":[0,1])"), 1), "a has no shape"},
      {file_of(tensor(R"("shape":[1],"data_offsets":[0,1])"), 1), "a has no dtype"},
      {file_of(tensor(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"), 1),
       "a: dtype is the number 8, expected the name of a dtype"},
      {file_of(tensor(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), 4),
       "dtype f32, which the format does not know"},
      {file_of(tensor(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), 1),
       "a: shape is the number 1, expected a list of numbers"},
      {file_of(tensor(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1),
       "a: an extent is the number -1, expected a whole number from 0"},
      {file_of(tensor(R"("dtype":"U8","shape":[-0],"data_offsets":[0,0])")),
       "a: an extent is the number -0, expected a whole number from 0"},
      {file_of(tensor(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1),
       "a: an extent is the number 1.0"},
      {file_of(tensor(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1])"), 1),
       "a: an extent is the number 18446744073709551616"},
      {file_of(tensor(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), 1),
       "a: an extent is an array"},
      {file_of(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1),
       "a has 3 data_offsets, expected 2"},
      {file_of(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[true,1])"), 1),
       "a: an offset is a boolean"},
      {file_of(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2),
       "a lies at bytes 1 to 2, expected to begin at 0"},
      {file_of(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,2])"), 2),
       "a lies at bytes 0 to 2, expected 1 bytes by its dtype and shape"},
      {file_of(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 2),
       "the tensors cover 1 bytes of data, expected all 2"},
      {file_of(tensor(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), 1),
       "cover 2 bytes of data, expected all 1; the file was cut short"},
      {file_of(tensor(R"("dtype":"U8","shape":[2,18446744073709551614],"data_offsets":[0,1])"), 1),
       "the size of a overflows"},
      {file_of(tensor(R"("dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0])")),
       "the size of a overflows"},
      {file_of(tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), 1),
       "a has 12 bits of F4, expected whole bytes"},
      {file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
               6),
       "b lies at bytes 2 to 6, expected to begin at 4, where the tensor before ends"},
      {file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
               6),
       "b lies at bytes 5 to 6, expected to begin at 4"},
      {file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[1],"data_offsets":[4,2]}})",
               4),
       "b lies at bytes 4 to 2, expected an end behind the beginning"},
      {file_of(tensor(cat(R"("x":)", std::string(200, '['), std::string(200, ']'),
                          R"(,"dtype":"U8","shape":[1],"data_offsets":[0,1])")),
               1),
       "nested too deeply"}};
  for (const Case& c : cases) {
    const std::string error = error_of(c.file);
    EXPECT_THAT(error, HasSubstr(c.why)) << c.file;
    EXPECT_THAT(error, HasSubstr("safetensors: model.safetensors: ")) << c.file;
  }
}

TEST(SafetensorsHeader, AFlippedBitIsRefusedOrStaysWithinTheData) {
  const std::string good = file_of(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                                   R"("b":{"dtype":"I64","shape":[3],"data_offsets":[16,40]}})",
                                   40);
  ASSERT_EQ(error_of(good), "accepted");
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < 8 * (good.size() - 40); ++bit) {
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      // Another name, dtype or order of extents of as many bytes.
      const SafetensorsHeader header = parse_safetensors(flipped, "file");
      for (const auto& [name, entry] : header.tensors) {
        std::uint64_t elements = 1;
        for (const std::uint64_t extent : entry.shape)
          elements *= extent;
        const bool is_wide = entry.dtype.ends_with("64");
        EXPECT_LE(entry.end, 40U);
        EXPECT_EQ(entry.end - entry.begin, elements * (is_wide ? 8 : 4)) << entry.dtype;
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 7 * (good.size() - 40));  // of 8 bits a byte
}

TEST(SafetensorsHeader, AFileThatWasCutOrGrewIsRefused) {
  const std::string good =
      file_of(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_NE(error_of(good.substr(0, size)), "accepted") << size;
  EXPECT_NE(error_of(good + '\0'), "accepted");
}

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ =
        std::filesystem::temp_directory_path() / cat("lamina_st_", info->name(), "_", getpid());
    std::filesystem::create_directories(folder_);
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }

  static std::string error_of_reading(const std::string& file, const std::string& tensor = "") {
    try {
      const TensorReader reader(file);
      if (!tensor.empty()) reader.read(tensor);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::filesystem::path folder_;
};

TEST_F(Safetensors, ComesBackAsItWasSaved) {
  const NamedTensors saved = {{"small", from_vector<std::uint8_t>({1, 2, 3}, {3})},
                              {"deep", from_vector<double>({1.5, -2.0}, {1, 2, 1})},
                              {"none", zeros({0, 4})},
                              {"one", full({}, 7.0, DType::i64)},
                              {"half", from_vector<float>({0.5F, 3.0F}, {2}).to(DType::bf16)}};
  save_tensors(saved, path("t"), {{"key", "value"}});
  EXPECT_EQ(TensorReader(path("t")).metadata(), (Metadata{{"key", "value"}}));
  const NamedTensors loaded = load_tensors(path("t"));
  ASSERT_EQ(loaded.size(), saved.size());
  for (const auto& [name, tensor] : saved) {
    const auto it = std::find_if(loaded.begin(), loaded.end(),
                                 [&](const auto& named) { return named.first == name; });
    ASSERT_NE(it, loaded.end()) << name;
    EXPECT_EQ(it->second.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(it->second.shape(), tensor.shape()) << name;
    EXPECT_EQ(it->second.to(DType::f64).to_vector<double>(),
              tensor.to(DType::f64).to_vector<double>())
        << name;
  }
}

TEST_F(Safetensors, EveryTensorIsAlignedInTheFile) {
  save_tensors({{"b", zeros({3}, DType::u8)},
                {"z", zeros({1}, DType::f64)},
                {"c", zeros({3}, DType::f16)},
                {"a", zeros({3}, DType::f32)},
                {"d", zeros({1}, DType::f32)}},
               path("t"));
  std::ifstream file(path("t"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const SafetensorsHeader header = parse_safetensors(bytes, "t");
  EXPECT_EQ(header.data_start % 8, 0U);
  EXPECT_EQ(header.tensors.at("z").begin, 0U);
  EXPECT_EQ(header.tensors.at("a").begin, 8U);
  EXPECT_EQ(header.tensors.at("d").begin, 20U);
  EXPECT_EQ(header.tensors.at("c").begin, 24U);
  EXPECT_EQ(header.tensors.at("b").begin, 30U);
}

TEST_F(Safetensors, RefusesToWriteWhatItWouldNotRead) {
  EXPECT_THROW(save_tensors({{"a", zeros({1})}, {"a", zeros({2})}}, path("t")), Error);
  try {
    save_tensors({{"__metadata__", zeros({1})}}, path("t"));
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("a tensor is called __metadata__, which is taken"));
  }
  EXPECT_THROW(save_tensors({{"a\xff", zeros({1})}}, path("t")), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(Safetensors, ReadsTheRestOfAFileWithADtypeThatLaminaHasNot) {
  const std::string file = write(
      "t", file_of(R"({"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]},)"
                   R"("b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]},)"
                   R"("c":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[10,11]},)"
                   R"("e":{"dtype":"U8","shape":[0,9223372036854775808],"data_offsets":[11,11]},)"
                   R"("f":{"dtype":"U8","shape":[0,2305843009213693952,2305843009213693952],)"
                   R"("data_offsets":[11,11]}})",
                   11));
  const TensorReader reader(file);
  EXPECT_EQ(reader.read("b").to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{0, 0}));
  EXPECT_THAT(error_of_reading(file, "a"),
              HasSubstr("a has dtype C64, which Lamina does not have"));
  EXPECT_THAT(error_of_reading(file, "c"), HasSubstr("c has 7 dimensions, expected at most 6"));
  EXPECT_THAT(error_of_reading(file, "d"),
              HasSubstr("there is no tensor d, expected one of the 5 that the file holds"));
  EXPECT_THAT(error_of_reading(file, "e"),
              HasSubstr("e has extent 9223372036854775808, expected less than 2^63"));
  EXPECT_EQ(reader.read("f").elements(), 0);
}

TEST_F(Safetensors, RefusesWhatIsNoFile) {
  EXPECT_THAT(error_of_reading(path("missing")), HasSubstr("No such file"));
  EXPECT_THAT(error_of_reading(folder_.string()), HasSubstr("not a regular file"));
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of_reading(path("pipe")), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of_reading(write("empty", "")), HasSubstr("0 bytes"));
  ASSERT_EQ(mkfifo(path("pipe.index.json").c_str(), 0600), 0);
  EXPECT_THAT(error_of_reading(path("pipe.index.json")), HasSubstr("not a regular file"));
}

TEST_F(Safetensors, AnIndexStandsForItsFiles) {
  save_tensors({{"a", full({2}, 1.0)}, {"unused", zeros({1})}}, path("one.safetensors"));
  save_tensors({{"b", full({3}, 2.0)}}, path("two.safetensors"));
  const std::string index =
      write("model.safetensors.index.json", R"({"metadata":{"total_size":20},"weight_map":)"
                                            R"({"a":"one.safetensors","b":"two.safetensors"}})");
  const NamedTensors tensors = load_tensors(index);
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].second.to_vector<float>(), std::vector<float>(2, 1.0F));
  EXPECT_EQ(tensors[1].second.to_vector<float>(), std::vector<float>(3, 2.0F));

  const auto error = [&](const std::string& content) {
    return error_of_reading(write("bad.index.json", content));
  };
  EXPECT_THAT(error("[]"), HasSubstr("no object \"weight_map\""));
  EXPECT_THAT(error("{"), HasSubstr("the index is not JSON"));
  EXPECT_THAT(error(R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})"),
              HasSubstr("the index has \"a\" twice"));
  EXPECT_THAT(error(R"({"weight_map":{"a":1}})"), HasSubstr("the file of a is not text"));
  for (const char* name : {"../one.safetensors", "/one.safetensors", "..", ".", "", "x\\\\y"}) {
    EXPECT_THAT(error(cat(R"({"weight_map":{"a":")", name, R"("}})")),
                HasSubstr("expected a name without a folder"))
        << name;
  }
  EXPECT_THAT(error(R"({"weight_map":{"a":"three.safetensors"}})"), HasSubstr("No such file"));
  EXPECT_THAT(error(R"({"weight_map":{"b":"one.safetensors"}})"),
              HasSubstr("tensor b is said to be in one.safetensors, which does not hold it"));
}

}  // namespace
}  // namespace lamina::nn
