// SPDX-License-Identifier: MIT
// What checkpoints ask of a file system, so that tests can put one in its place that fails or loses
// its power at any point.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// All throw Error with the path and the reason. Nothing lasts before a sync().
class Disk {
 public:
  virtual ~Disk() = default;

  /// A new file, or the whole content of one that exists: the pieces in order.
  virtual void write(const std::filesystem::path& path,
                     std::span<const std::string_view> pieces) = 0;

  /// Hands over the bytes of a file, piece by piece.
  virtual void read(const std::filesystem::path& path,
                    const std::function<void(std::string_view)>& take) const = 0;

  /// Nothing happens when it exists. Its parent does.
  virtual void make_directory(const std::filesystem::path& path) = 0;

  /// Within a directory. A file at `to` is replaced.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;

  /// A file, or an empty directory; nothing happens when it is not there.
  virtual void remove(const std::filesystem::path& path) = 0;

  /// The content of a file, or the names in a directory, last from here on.
  virtual void sync(const std::filesystem::path& path) = 0;

  /// The names in a directory, in any order; none when there is no such directory.
  virtual std::vector<std::string> list(const std::filesystem::path& path) const = 0;
};

/// The file system of this machine.
class SystemDisk final : public Disk {
 public:
  void write(const std::filesystem::path& path, std::span<const std::string_view> pieces) override;
  void read(const std::filesystem::path& path,
            const std::function<void(std::string_view)>& take) const override;
  void make_directory(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void sync(const std::filesystem::path& path) override;
  std::vector<std::string> list(const std::filesystem::path& path) const override;
};

}  // namespace lamina::gpt
