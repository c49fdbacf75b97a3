// SPDX-License-Identifier: MIT
#include "nn/safetensors_header.h"

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace lamina::nn {

namespace {

using Json = nlohmann::json;

/// By rank.
constexpr FormatDType kDTypes[] = {
    {"BOOL", 8, {}},         {"F4", 4, {}},           {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},      {"U8", 8, DType::u8},    {"I8", 8, {}},
    {"F8_E5M2", 8, {}},      {"F8_E4M3", 8, {}},      {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},  {"F8_E5M2FNUZ", 8, {}},  {"I16", 16, {}},
    {"U16", 16, {}},         {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16},
    {"I32", 32, DType::i32}, {"U32", 32, {}},         {"F32", 32, DType::f32},
    {"C64", 64, {}},         {"F64", 64, DType::f64}, {"I64", 64, DType::i64},
    {"U64", 64, {}}};

[[noreturn]] void fail_header(const std::string& path, const std::string& what) {
  throw Error(cat("safetensors: ", path, ": ", what));
}

/// Takes the header apart as it is parsed. A JSON value would have lost a name that comes twice.
class HeaderParser final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderParser(SafetensorsHeader& header) : header_(header) {}

  /// What is wrong; empty after a parse that went well.
  const std::string& problem() const { return problem_; }

  bool null() override {
    if (at_ == At::ignored) return true;
    return (at_ == At::root && name_ == kSafetensorsMetadata) || refuse("null");
  }

  bool boolean(bool /*value*/) override { return at_ == At::ignored || refuse("a boolean"); }

  bool number_integer(number_integer_t value) override {
    return at_ == At::ignored || refuse(value == 0 ? "the number -0" : cat("the number ", value));
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::shape) {
      entry_.shape.push_back(value);
    } else if (at_ == At::offsets) {
      offsets_.push_back(value);
    } else {
      return at_ == At::ignored || refuse(cat("the number ", value));
    }
    return true;
  }

  bool number_float(number_float_t /*value*/, const string_t& text) override {
    return at_ == At::ignored || refuse(cat("the number ", text));
  }

  bool string(string_t& value) override {
    if (at_ == At::metadata) {
      header_.metadata[key_] = value;
    } else if (at_ == At::tensor && key_ == "dtype") {
      entry_.dtype = value;
    } else {
      return at_ == At::ignored || refuse(cat("the text \"", value, "\""));
    }
    return true;
  }

  bool binary(binary_t& /*value*/) override { return refuse("binary data"); }

  bool start_object(std::size_t /*elements*/) override {
    switch (at_) {
      case At::start:
        at_ = At::root;
        return true;
      case At::root:
        at_ = name_ == kSafetensorsMetadata ? At::metadata : At::tensor;
        entry_ = {};
        fields_ = {};
        return true;
      default:
        return open("an object");
    }
  }

  bool key(string_t& name) override {
    if (at_ == At::root) {
      name_ = name;
      const bool is_new = name == kSafetensorsMetadata ? !std::exchange(has_metadata_, true)
                                                       : header_.tensors.try_emplace(name).second;
      return is_new || say(cat("\"", name, "\" comes twice, expected once"));
    }
    if (at_ == At::ignored) return true;
    key_ = name;
    if (at_ == At::metadata) {
      return !header_.metadata.contains(name) ||
             say(cat("metadata \"", name, "\" comes twice, expected once"));
    }
    return !is_known_field() || fields_.emplace(name).second ||
           say(cat(name_, ": \"", name, "\" comes twice, expected once"));
  }

  bool end_object() override {
    if (at_ == At::ignored) return close();
    if (at_ == At::tensor) return end_tensor();
    at_ = at_ == At::metadata ? At::root : At::start;
    return true;
  }

  bool start_array(std::size_t /*elements*/) override {
    if (at_ == At::tensor && (key_ == "shape" || key_ == "data_offsets")) {
      at_ = key_ == "shape" ? At::shape : At::offsets;
      offsets_.clear();
      return true;
    }
    return open("an array");
  }

  bool end_array() override {
    if (at_ == At::ignored) return close();
    if (at_ == At::offsets) {
      if (offsets_.size() != 2) {
        return say(cat(name_, " has ", offsets_.size(), " data_offsets, expected 2"));
      }
      std::tie(entry_.begin, entry_.end) = std::pair(offsets_[0], offsets_[1]);
    }
    at_ = At::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& /*error*/) override {
    return say(cat("the header is not JSON at byte ", position, ", up to \"", token, "\""));
  }

 private:
  enum class At : std::uint8_t { start, root, metadata, tensor, shape, offsets, ignored };

  static constexpr int kMostNested =
      125;  // values in each other that are ignored, as in the reference

  bool say(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  /// A value that may not stand here; or, in a field that the format does not know, anything.
  bool refuse(const std::string& what) {
    if (at_ == At::tensor && !is_known_field()) return true;
    return say(cat(where(), " is ", what, ", expected ", expected()));
  }

  std::string where() const {
    switch (at_) {
      case At::metadata:
        return cat("metadata \"", key_, "\"");
      case At::tensor:
        return cat(name_, ": ", key_);
      case At::shape:
        return cat(name_, ": an extent");
      case At::offsets:
        return cat(name_, ": an offset");
      default:
        return name_;
    }
  }

  std::string_view expected() const {
    switch (at_) {
      case At::metadata:
        return "text";
      case At::tensor:
        return key_ == "dtype" ? "the name of a dtype" : "a list of numbers";
      case At::shape:
      case At::offsets:
        return "a whole number from 0";
      default:
        return "an object";
    }
  }

  bool is_known_field() const {
    return key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
  }

  bool open(const std::string& what) {
    if (at_ == At::tensor && !is_known_field()) {
      at_ = At::ignored;
      depth_ = 0;
    }
    if (at_ != At::ignored) return refuse(what);
    return ++depth_ <= kMostNested ||
           say(cat(name_, " has a field nested too deeply, expected at most ", kMostNested,
                   " levels"));
  }

  bool close() {
    if (--depth_ == 0) at_ = At::tensor;
    return true;
  }

  bool end_tensor() {
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!fields_.contains(field)) return say(cat(name_, " has no ", field, ", expected one"));
    }
    header_.tensors[name_] = std::move(entry_);
    at_ = At::root;
    return true;
  }

  SafetensorsHeader& header_;
  std::string problem_;
  At at_ = At::start;
  int depth_ = 0;
  bool has_metadata_ = false;
  std::string name_, key_;  // of the tensor, of its field
  TensorEntry entry_;
  std::set<std::string> fields_;
  std::vector<std::uint64_t> offsets_;
};

/// Bytes of a tensor by its dtype and shape.
std::uint64_t bytes_of(const std::string& path, const std::string& name, const TensorEntry& entry) {
  const FormatDType* const dtype = find_format_dtype(entry.dtype);
  if (dtype == nullptr) {
    fail_header(path, cat(name, " has dtype ", entry.dtype, ", which the format does not know"));
  }
  std::uint64_t bits = 1;
  const auto multiply = [&](std::uint64_t by) {
    if (__builtin_mul_overflow(bits, by, &bits)) {
      fail_header(path, cat("the size of ", name, " overflows, expected less than 2^64 bits"));
    }
  };
  for (const std::uint64_t extent : entry.shape)
    multiply(extent);
  multiply(static_cast<std::uint64_t>(dtype->bits));
  if (bits % 8 != 0) {
    fail_header(path, cat(name, " has ", bits, " bits of ", entry.dtype, ", expected whole bytes"));
  }
  return bits / 8;
}

/// Each tensor has the bytes that it needs, and together they cover the data without holes or
/// overlaps.
void expect_fully_indexed(const std::string& path, const SafetensorsHeader& header,
                          std::uint64_t data_bytes) {
  std::vector<std::tuple<std::uint64_t, std::uint64_t, const std::string*>> ranges;
  for (const auto& [name, entry] : header.tensors)
    ranges.emplace_back(entry.begin, entry.end, &name);
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t covered = 0;
  for (const auto& [begin, end, name] : ranges) {
    const std::string place = cat(*name, " lies at bytes ", begin, " to ", end);
    if (begin != covered) {
      fail_header(path, cat(place, ", expected to begin at ", covered,
                            ", where the tensor before ends (no holes, no overlap)"));
    }
    if (end < begin) fail_header(path, cat(place, ", expected an end behind the beginning"));
    const std::uint64_t wanted = bytes_of(path, *name, header.tensors.at(*name));
    if (end - begin != wanted) {
      fail_header(path, cat(place, ", expected ", wanted, " bytes by its dtype and shape"));
    }
    covered = end;
  }
  if (covered != data_bytes) {
    fail_header(path, cat("the tensors cover ", covered, " bytes of data, expected all ",
                          data_bytes, covered > data_bytes ? "; the file was cut short" : ""));
  }
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;)
    value = value << 8U | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

const FormatDType* find_format_dtype(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                         [&](const auto& known) { return known.name == name; });
  return found != std::end(kDTypes) ? found : nullptr;
}

const FormatDType& format_dtype_of(DType dtype) {
  return *std::find_if(std::begin(kDTypes), std::end(kDTypes),
                       [&](const auto& known) { return known.dtype == dtype; });
}

int rank_of(const FormatDType& dtype) {
  return static_cast<int>(&dtype - std::begin(kDTypes));
}

SafetensorsHeader parse_safetensors(std::string_view file, const std::string& path) {
  if (file.size() < kSafetensorsLengthBytes) {
    fail_header(path, cat("the file has ", file.size(), " bytes, expected at least 8"));
  }
  const std::uint64_t length = little_endian(file.substr(0, kSafetensorsLengthBytes));
  const std::uint64_t most =
      std::min<std::uint64_t>(kMaxSafetensorsHeader, file.size() - kSafetensorsLengthBytes);
  if (length > most) {
    fail_header(path, cat("the header claims ", length, " bytes, expected at most ", most,
                          "; not a safetensors file, or cut short"));
  }
  const std::string_view text = file.substr(kSafetensorsLengthBytes, length);
  if (text.empty() || text.front() != '{')
    fail_header(path, "the header does not begin with '{', as it must");
  // The parser takes a zero for the end.
  if (text.find('\0') != std::string_view::npos)
    fail_header(path, "the header holds a zero byte, expected text filled up with spaces");

  SafetensorsHeader header;
  header.data_start = kSafetensorsLengthBytes + length;
  HeaderParser parser(header);
  if (!Json::sax_parse(text, &parser)) fail_header(path, parser.problem());
  expect_fully_indexed(path, header, file.size() - header.data_start);
  return header;
}

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& path) {
  const Json index = parse_json(text, cat("safetensors: ", path, ": the index"));
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object()) {
    fail_header(path, "the index has no object \"weight_map\", expected one (tensor to file)");
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, value] : weight_map->items()) {
    if (!value.is_string()) {
      fail_header(path, cat("the file of ", name, " is not text, expected a file's name"));
    }
    const auto& file = value.get_ref<const std::string&>();
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      fail_header(
          path, cat("the file of ", name, " is \"", file, "\", expected a name without a folder"));
    }
    files.emplace(name, file);
  }
  return files;
}

}  // namespace lamina::nn
