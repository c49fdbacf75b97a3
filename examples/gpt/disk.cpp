// SPDX-License-Identifier: MIT
#include "examples/gpt/disk.h"

#include "core/error.h"
#include "core/text.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view action, const std::error_code& why) {
  throw Error(cat("disk: ", action, " ", path.string(), " failed: ", why.message()));
}

/// The reason is errno.
[[noreturn]] void fail(const fs::path& path, std::string_view action) {
  fail(path, action, {errno, std::generic_category()});
}

class OpenFile {
 public:
  OpenFile(const fs::path& path, int flags)
      : path_(path), descriptor_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail(path_, "opening");
  }

  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "writing");
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  /// Empty at the end.
  std::string_view read(std::span<char> to) const {
    for (;;) {
      const ssize_t count = ::read(descriptor_, to.data(), to.size());
      if (count >= 0) return {to.data(), static_cast<std::size_t>(count)};
      if (errno != EINTR) fail(path_, "reading");
    }
  }

  void sync() const {
    int status = fsync(descriptor_);
    while (status != 0 && errno == EINTR)
      status = fsync(descriptor_);
    // Some file systems have nothing to do for a directory, and say EINVAL.
    if (status != 0 && errno != EINVAL) fail(path_, "syncing");
  }

  /// A network file system tells here that the content did not arrive.
  void close() {
    if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail(path_, "closing");
  }

 private:
  fs::path path_;
  int descriptor_;
};

}  // namespace

void SystemDisk::write(const fs::path& path, std::span<const std::string_view> pieces) {
  OpenFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
  for (const std::string_view piece : pieces)
    file.write(piece);
  file.close();
}

void SystemDisk::read(const fs::path& path,
                      const std::function<void(std::string_view)>& take) const {
  const OpenFile file(path, O_RDONLY);
  std::vector<char> buffer(std::size_t{1} << 20U);
  for (std::string_view bytes = file.read(buffer); !bytes.empty(); bytes = file.read(buffer))
    take(bytes);
}

void SystemDisk::make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directory(path, error);
  if (error) fail(path, "making", error);
}

void SystemDisk::rename(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(from, "renaming", error);
}

void SystemDisk::remove(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) fail(path, "removing", error);
}

void SystemDisk::sync(const fs::path& path) {
  OpenFile(path, O_RDONLY).sync();
}

std::vector<std::string> SystemDisk::list(const fs::path& path) const {
  std::vector<std::string> names;
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(path, error))) return names;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) fail(path, "listing", error);
  return names;
}

}  // namespace lamina::gpt
