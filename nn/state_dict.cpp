// SPDX-License-Identifier: MIT
#include "nn/state_dict.h"

#include "core/error.h"
#include "core/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <unistd.h>
#include <vector>

namespace lamina::nn {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;  // bytes; the limit of the reference reader
constexpr std::size_t kLengthBytes = 8;

struct Entry {
  DType dtype = DType::f32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct Header {
  std::map<std::string, Entry> entries;
  Metadata metadata;
  std::uint64_t data_start = 0;  // bytes from the start of the file
};

std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
  }
  return "";
}

std::optional<DType> parse_dtype(const std::string& name) {
  for (const DType dtype :
       {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    if (safetensors_name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(cat("safetensors: ", path, ": ", what));
}

[[noreturn]] void fail_system(const std::string& path, std::string_view action) {
  fail(path, cat(action, " failed: ", std::strerror(errno)));  // NOLINT(concurrency-mt-unsafe)
}

// A file that is removed again unless it was committed to its final name.
class PendingFile {
 public:
  explicit PendingFile(const std::string& path)
      : path_(path),
        temporary_(path + ".part"),
        descriptor_(open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail_system(temporary_, "opening for writing");
  }

  ~PendingFile() {
    if (descriptor_ >= 0) {
      close(descriptor_);
      unlink(temporary_.c_str());
    }
  }

  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  void write(const void* data, std::size_t bytes) const {
    const auto* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_system(temporary_, "writing");
      next += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }

  void commit() {
    if (fsync(descriptor_) != 0) fail_system(temporary_, "syncing");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_system(path_, "renaming");
    close(descriptor_);
    descriptor_ = -1;
    // The name is safe only when its folder is synced as well.
    const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
    const int folder_descriptor =
        open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_descriptor >= 0) {
      fsync(folder_descriptor);
      close(folder_descriptor);
    }
  }

 private:
  std::string path_, temporary_;
  int descriptor_;
};

Entry parse_entry(const std::string& path, const std::string& name, const Json& json,
                  std::uint64_t data_bytes) {
  try {
    Entry entry;
    const auto dtype_name = json.at("dtype").get<std::string>();
    const std::optional<DType> dtype = parse_dtype(dtype_name);
    if (!dtype) fail(path, cat(name, " has dtype ", dtype_name, ", which Lamina does not read"));
    entry.dtype = *dtype;
    const auto extents = json.at("shape").get<std::vector<std::int64_t>>();
    entry.shape = Shape(std::span<const std::int64_t>(extents));
    const auto offsets = json.at("data_offsets").get<std::vector<std::uint64_t>>();
    if (offsets.size() != 2) fail(path, cat(name, " has ", offsets.size(), " offsets, expected 2"));
    entry.begin = offsets[0];
    entry.end = offsets[1];
    const auto wanted = static_cast<std::uint64_t>(
        checked_mul(entry.shape.elements(), static_cast<std::int64_t>(size_of(entry.dtype))));
    if (entry.begin > entry.end || entry.end > data_bytes || entry.end - entry.begin != wanted) {
      fail(path, cat(name, " lies at bytes ", entry.begin, " to ", entry.end, ", expected ", wanted,
                     " bytes within ", data_bytes));
    }
    return entry;
  } catch (const Json::exception& error) {
    fail(path, cat("the header entry of ", name, " is malformed: ", error.what()));
  }
}

// The tensors must cover the data without holes or overlaps: what the format demands.
void expect_fully_indexed(const std::string& path, const Header& header, std::uint64_t data_bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& [name, entry] : header.entries)
    ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != covered) fail(path, cat("the tensors leave a hole or overlap at byte ", covered));
    covered = end;
  }
  if (covered != data_bytes) {
    fail(path, cat("the tensors cover ", covered, " bytes, expected all ", data_bytes));
  }
}

Header read_header(std::ifstream& file, const std::string& path) {
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::uint64_t>(file.tellg());
  file.seekg(0);
  std::array<unsigned char, kLengthBytes> raw{};
  if (!file.read(reinterpret_cast<char*>(raw.data()), kLengthBytes)) {
    fail(path, cat("the file has ", size, " bytes, expected at least 8"));
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;)
    length = length << 8U | raw[i];
  if (length > kMaxHeader || length > size - kLengthBytes) {
    fail(path,
         cat("the header claims ", length, " bytes, expected at most ",
             std::min(kMaxHeader, size - kLengthBytes), "; not a safetensors file, or cut short"));
  }
  std::string text(length, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(length))) fail_system(path, "reading");

  Header header;
  header.data_start = kLengthBytes + length;
  const std::uint64_t data_bytes = size - header.data_start;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(path, "the header is not a JSON object");
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      header.entries[name] = parse_entry(path, name, value, data_bytes);
      continue;
    }
    if (!value.is_object()) fail(path, "__metadata__ is not an object");
    for (const auto& [key, text_value] : value.items()) {
      if (text_value.is_string()) header.metadata[key] = text_value.get<std::string>();
    }
  }
  expect_fully_indexed(path, header, data_bytes);
  return header;
}

std::ifstream open_for_reading(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_system(path, "opening for reading");
  return file;
}

Tensor read_tensor(std::ifstream& file, const std::string& path, const std::string& name,
                   std::uint64_t data_start, const Entry& entry) {
  const Tensor host = empty(entry.shape, entry.dtype);
  file.seekg(static_cast<std::streamoff>(data_start + entry.begin));
  if (!file.read(static_cast<char*>(host.data()), static_cast<std::streamsize>(host.bytes()))) {
    fail(path, cat("reading ", name, " failed: the file ends early"));
  }
  return host;
}

}  // namespace

void save_tensors(const NamedTensors& tensors, const std::string& path, const Metadata& metadata) {
  Json header = Json::object();
  header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::uint64_t end = offset + tensor.bytes();
    const std::span<const std::int64_t> extents = tensor.shape().extents();
    header[name] = {{"dtype", safetensors_name(tensor.dtype())},
                    {"shape", std::vector<std::int64_t>(extents.begin(), extents.end())},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    fail(path, cat("a name or the metadata is not UTF-8: ", error.what()));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned

  PendingFile file(path);
  std::array<unsigned char, kLengthBytes> length{};
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length[i] = static_cast<unsigned char>(text.size() >> (8 * i));
  }
  file.write(length.data(), kLengthBytes);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor host = tensor.to(kCpu).contiguous();
    file.write(host.data(), host.bytes());
  }
  file.commit();
}

NamedTensors load_tensors(const std::string& path) {
  std::ifstream file = open_for_reading(path);
  const Header header = read_header(file, path);
  NamedTensors tensors;
  for (const auto& [name, entry] : header.entries) {
    tensors.emplace_back(name, read_tensor(file, path, name, header.data_start, entry));
  }
  return tensors;
}

void save_parameters(Module& module, const std::string& path, const Metadata& metadata) {
  NamedTensors tensors;
  for (const auto& [name, var] : module.named_parameters())
    tensors.emplace_back(name, var->value());
  save_tensors(tensors, path, metadata);
}

Metadata load_parameters(Module& module, const std::string& path) {
  std::ifstream file = open_for_reading(path);
  Header header = read_header(file, path);
  const std::vector<NamedParameter> parameters = module.named_parameters();
  for (const auto& [name, var] : parameters) {
    const auto it = header.entries.find(name);
    if (it == header.entries.end()) {
      fail(path,
           cat("parameter ", name, " ", var->shape(), " is missing; the file is of another model"));
    }
    if (it->second.shape != var->shape()) {
      fail(path, cat(name, " has shape ", it->second.shape, ", expected ", var->shape(),
                     " (the shape of the model's parameter)"));
    }
  }
  if (header.entries.size() != parameters.size()) {
    for (const auto& [name, var] : parameters)
      header.entries.erase(name);
    fail(path, cat("tensor ", header.entries.begin()->first,
                   " is in the file, but the model has no such parameter"));
  }

  std::vector<Tensor> values;
  for (const auto& [name, var] : parameters) {
    values.push_back(read_tensor(file, path, name, header.data_start, header.entries.at(name)));
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].var->value().copy_from(values[i]);
  }
  return header.metadata;
}

Metadata read_metadata(const std::string& path) {
  std::ifstream file = open_for_reading(path);
  return read_header(file, path).metadata;
}

}  // namespace lamina::nn
