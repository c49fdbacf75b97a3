// SPDX-License-Identifier: MIT
// A file in memory without being read: its pages come when they are looked at. It must not be cut
// short while it is mapped.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lamina {

class MappedFile {
 public:
  /// Throws Error, "`op`: `path`: ...", when it is not a regular file or cannot be read.
  MappedFile(std::string path, std::string_view op);
  ~MappedFile();

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }

  std::string_view bytes() const { return {start_, bytes_}; }

 private:
  std::string path_;
  const char* start_ = "";
  std::size_t bytes_ = 0;
};

}  // namespace lamina
