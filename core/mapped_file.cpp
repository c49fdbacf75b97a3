// SPDX-License-Identifier: MIT
#include "core/mapped_file.h"

#include "core/error.h"
#include "core/text.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace lamina {

MappedFile::MappedFile(std::string path, std::string_view op) : path_(std::move(path)) {
  const auto fail = [&](std::string_view what) { throw Error(cat(op, ": ", path_, ": ", what)); };
  const auto fail_system = [&](std::string_view action, int error) {
    fail(cat(action, " failed: ", std::strerror(error)));  // NOLINT(concurrency-mt-unsafe)
  };
  // Opening a pipe without O_NONBLOCK would wait for a writer.
  const int descriptor = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_system("opening for reading", errno);

  struct stat status {};

  const bool is_file = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  bytes_ = is_file ? static_cast<std::size_t>(status.st_size) : 0;
  void* start = nullptr;
  if (bytes_ > 0) start = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  close(descriptor);
  if (!is_file) fail("not a regular file, expected one");
  if (start == MAP_FAILED) fail_system("mapping", error);
  if (bytes_ > 0) start_ = static_cast<const char*>(start);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      start_(std::exchange(other.start_, "")),
      bytes_(std::exchange(other.bytes_, 0)) {}

MappedFile::~MappedFile() {
  if (bytes_ > 0) munmap(const_cast<char*>(start_), bytes_);
}

}  // namespace lamina
