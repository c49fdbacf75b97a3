// SPDX-License-Identifier: MIT
// Files of named tensors in the safetensors format: 8 bytes little-endian header length, a JSON
// header with dtype, shape and byte range per name, then the data. Read as strictly as the format
// demands: what is accepted has one meaning. Format: https://github.com/huggingface/safetensors.
#pragma once

#include "core/mapped_file.h"
#include "core/tensor.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lamina::nn {

/// Free text that travels in the file's "__metadata__".
using Metadata = std::map<std::string, std::string>;

/// Tensors with their names; load_tensors() gives them sorted by name.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// What a header says of a tensor.
struct TensorEntry {
  std::string dtype;  // the format's name: "F32", "BF16"; also of those that Lamina has not
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

/// The tensors of a file, or of several: `path` is a file, or an index (*.index.json) that says
/// which file beside it holds which tensor. Files are mapped, and must not be cut short while this
/// lives; replacing one by renaming another to its name, as save_tensors() does, is safe.
class TensorReader {
 public:
  /// Checks the headers of all files. Throws Error.
  explicit TensorReader(const std::string& path);
  ~TensorReader();
  TensorReader(const TensorReader&) = delete;
  TensorReader& operator=(const TensorReader&) = delete;

  /// By name; of several files, those that the index names.
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }

  /// The path of the file that holds a tensor. Throws Error for an unknown name.
  const std::string& file_of(const std::string& name) const;

  /// Of the file; empty for an index.
  const Metadata& metadata() const { return metadata_; }

  /// A copy on the CPU. Throws Error for an unknown name, for a dtype that Lamina has not, and for
  /// more dimensions than a Shape holds.
  Tensor read(const std::string& name) const;

 private:
  void add_file(const std::string& path);
  void read_index(const std::string& path);
  const TensorEntry& entry_of(const std::string& name) const;

  std::string path_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::pair<std::size_t, std::uint64_t>> places_;  // file, data_start
  Metadata metadata_;
  std::vector<MappedFile> files_;
};

/// Writes tensors, those of wide dtypes first and by name among equals, so that each is aligned in
/// the file. The file appears whole or not at all: it is written beside its place, synced and
/// renamed. Throws Error with the path and the system's reason, and for a name that comes twice.
void save_tensors(const NamedTensors& tensors, const std::string& path,
                  const Metadata& metadata = {});

/// What save_tensors() writes, for programs that do the writing: `header`, and then the bytes of
/// each of `tensors`.
struct TensorFile {
  std::string header;
  std::vector<Tensor> tensors;
};

/// `path` is for the texts of errors. Throws Error for a name that comes twice.
TensorFile tensor_file(const NamedTensors& tensors, const std::string& path,
                       const Metadata& metadata = {});

/// Reads all tensors of a file, or of an index, to the CPU. Throws Error for a damaged one.
NamedTensors load_tensors(const std::string& path);

}  // namespace lamina::nn
