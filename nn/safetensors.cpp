// SPDX-License-Identifier: MIT
#include "nn/safetensors.h"

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/text.h"
#include "nn/safetensors_header.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <unistd.h>

namespace lamina::nn {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kOp = "safetensors";

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(cat(kOp, ": ", path, ": ", what));
}

[[noreturn]] void fail_system(const std::string& path, std::string_view action) {
  fail(path, cat(action, " failed: ", std::strerror(errno)));  // NOLINT(concurrency-mt-unsafe)
}

/// A file that is removed again unless it was committed to its final name.
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

}  // namespace

TensorReader::TensorReader(const std::string& path) : path_(path) {
  if (path.ends_with(".index.json")) {
    read_index(path);
  } else {
    add_file(path);
  }
}

TensorReader::~TensorReader() = default;

void TensorReader::add_file(const std::string& path) {
  files_.emplace_back(path, kOp);
  SafetensorsHeader header = parse_safetensors(files_.back().bytes(), path);
  for (const auto& [name, entry] : header.tensors)
    places_[name] = {files_.size() - 1, header.data_start};
  entries_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

void TensorReader::read_index(const std::string& path) {
  std::map<std::string, std::size_t> known;  // files by their name
  std::vector<SafetensorsHeader> headers;
  for (const auto& [name, shard] : parse_safetensors_index(MappedFile(path, kOp).bytes(), path)) {
    const auto [it, is_new] = known.try_emplace(shard, files_.size());
    if (is_new) {
      const std::string shard_path = (std::filesystem::path(path).parent_path() / shard).string();
      files_.emplace_back(shard_path, kOp);
      headers.push_back(parse_safetensors(files_.back().bytes(), shard_path));
    }
    const SafetensorsHeader& header = headers[it->second];
    const auto entry = header.tensors.find(name);
    if (entry == header.tensors.end()) {
      fail(path, cat("tensor ", name, " is said to be in ", shard, ", which does not hold it"));
    }
    entries_[name] = entry->second;
    places_[name] = {it->second, header.data_start};
  }
}

const TensorEntry& TensorReader::entry_of(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it != entries_.end()) return it->second;
  fail(path_, cat("there is no tensor ", name, ", expected one of the ", entries_.size(),
                  " that the file holds"));
}

const std::string& TensorReader::file_of(const std::string& name) const {
  (void)entry_of(name);
  return files_[places_.at(name).first].path();
}

Tensor TensorReader::read(const std::string& name) const {
  const TensorEntry& entry = entry_of(name);
  const auto& [file, data_start] = places_.at(name);
  const std::string& path = files_[file].path();
  const std::optional<DType> dtype = find_format_dtype(entry.dtype)->dtype;
  if (!dtype) fail(path, cat(name, " has dtype ", entry.dtype, ", which Lamina does not have"));
  if (entry.shape.size() > Shape::kMaxRank) {
    fail(path,
         cat(name, " has ", entry.shape.size(), " dimensions, expected at most ", Shape::kMaxRank));
  }
  std::vector<std::int64_t> extents;
  for (const std::uint64_t extent : entry.shape) {
    if (extent > INT64_MAX)
      fail(path, cat(name, " has extent ", extent, ", expected less than 2^63"));
    extents.push_back(static_cast<std::int64_t>(extent));
  }
  const Tensor host = empty(Shape(std::span<const std::int64_t>(extents)), *dtype);
  const std::string_view data =
      files_[file].bytes().substr(data_start + entry.begin, entry.end - entry.begin);
  if (!data.empty()) std::memcpy(host.data(), data.data(), data.size());
  return host;
}

TensorFile tensor_file(const NamedTensors& tensors, const std::string& path,
                       const Metadata& metadata) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& named : tensors)
    order.push_back(&named);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const int x = rank_of(format_dtype_of(a->second.dtype()));
    const int y = rank_of(format_dtype_of(b->second.dtype()));
    return x != y ? x > y : a->first < b->first;
  });
  nlohmann::ordered_json header;
  header[std::string(kSafetensorsMetadata)] = metadata;
  std::uint64_t offset = 0;
  for (const auto* named : order) {
    const auto& [name, tensor] = *named;
    if (name == kSafetensorsMetadata)
      fail(path, cat("a tensor is called ", name, ", which is taken"));
    if (header.contains(name)) {
      fail(path, cat("two tensors are called \"", name, "\", expected a name for each"));
    }
    const std::uint64_t end = offset + tensor.bytes();
    const std::span<const std::int64_t> extents = tensor.shape().extents();
    header[name] = {{"dtype", format_dtype_of(tensor.dtype()).name},
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
  if (text.size() > kMaxSafetensorsHeader) {
    fail(path,
         cat("the header takes ", text.size(), " bytes, expected at most ", kMaxSafetensorsHeader));
  }

  TensorFile file;
  for (std::size_t i = 0; i < kSafetensorsLengthBytes; ++i)
    file.header += static_cast<char>(text.size() >> (8 * i));
  file.header += text;
  for (const auto* named : order)
    file.tensors.push_back(named->second);
  return file;
}

void save_tensors(const NamedTensors& tensors, const std::string& path, const Metadata& metadata) {
  const TensorFile content = tensor_file(tensors, path, metadata);
  PendingFile file(path);
  file.write(content.header.data(), content.header.size());
  for (const Tensor& tensor : content.tensors) {
    const Tensor host = tensor.to(kCpu).contiguous();
    file.write(host.data(), host.bytes());
  }
  file.commit();
}

NamedTensors load_tensors(const std::string& path) {
  const TensorReader reader(path);
  NamedTensors tensors;
  for (const auto& [name, entry] : reader.entries())
    tensors.emplace_back(name, reader.read(name));
  return tensors;
}

}  // namespace lamina::nn
