// SPDX-License-Identifier: MIT
// A disk in memory with the least that POSIX promises. What was not synced can be lost by a power
// cut: of a file any part of its content, of a directory any choice of the changes to its names.
// Any operation can be made to fail, or to be the last before the power goes.
#pragma once

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "examples/gpt/disk.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// Ends the program that was writing: not an Error, so that nothing handles it.
struct PowerCut {};

class SimulatedDisk final : public Disk {
 public:
  /// full: this operation and all that follow.
  enum class Fault : std::uint8_t { none, error, full, power };

  explicit SimulatedDisk(std::uint64_t seed = 1) : generator_(seed) {}

  /// The next operation but `after` that changes something fails: half of a write is done by then.
  void fail_after(std::int64_t after, Fault fault) {
    left_ = after;
    fault_ = fault;
    has_failed_ = false;
  }

  bool has_failed() const { return has_failed_; }

  void repair() { fault_ = Fault::none; }

  /// Leaves what lasts, and of the rest what chance says.
  void cut_power() {
    cut(*root_);
    repair();
  }

  std::string& content(const fs::path& path) { return file(path).content; }

  void write(const fs::path& path, std::span<const std::string_view> pieces) override {
    std::string all;
    for (const std::string_view piece : pieces)
      all += piece;
    const auto store = [&](std::string_view bytes) {
      Node& parent = directory(path.parent_path());
      const std::string name = path.filename().string();
      const auto at = parent.names.find(name);
      if (at == parent.names.end()) change(parent, {"", name, std::make_shared<Node>()});
      file(path).content = bytes;
    };
    begin([&] { store(std::string_view(all).substr(0, all.size() / 2)); });
    store(all);
  }

  void read(const fs::path& path,
            const std::function<void(std::string_view)>& take) const override {
    take(file(path).content);
  }

  void make_directory(const fs::path& path) override {
    begin();
    Node& parent = directory(path.parent_path());
    const std::string name = path.filename().string();
    if (parent.names.contains(name)) return;
    const auto made = std::make_shared<Node>();
    made->is_directory = true;
    change(parent, {"", name, made});
  }

  void rename(const fs::path& from, const fs::path& to) override {
    begin();
    Node& parent = directory(from.parent_path());
    const auto at = parent.names.find(from.filename().string());
    if (at == parent.names.end()) throw Error(cat("no ", from.string()));
    const auto there = parent.names.find(to.filename().string());
    if (there != parent.names.end() && !there->second->names.empty()) {
      throw Error(cat(to.string(), " is not empty"));
    }
    change(parent, {at->first, to.filename().string(), at->second});
  }

  void remove(const fs::path& path) override {
    begin();
    Node& parent = directory(path.parent_path());
    const auto at = parent.names.find(path.filename().string());
    if (at == parent.names.end()) return;
    if (!at->second->names.empty()) throw Error(cat(path.string(), " is not empty"));
    change(parent, {at->first, "", nullptr});
  }

  void sync(const fs::path& path) override {
    begin();
    Node& node = *find(path);
    node.lasting_names = node.names;
    node.changes.clear();
    node.lasting_content = node.content;
  }

  std::vector<std::string> list(const fs::path& path) const override {
    std::vector<std::string> names;
    const std::shared_ptr<Node> node = look(path);
    if (!node) return names;
    for (const auto& [name, ignored] : node->names)
      names.push_back(name);
    return names;
  }

 private:
  struct Node;
  using Names = std::map<std::string, std::shared_ptr<Node>>;

  /// Of a directory's names, done as a whole or not at all.
  struct Change {
    std::string removed, added;
    std::shared_ptr<Node> node;
  };

  struct Node {
    bool is_directory = false;
    std::string content, lasting_content;
    Names names, lasting_names;
    std::vector<Change> changes;  // since the last sync
  };

  static void apply(Names& names, const Change& change) {
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.node;
  }

  static void change(Node& directory, const Change& change) {
    apply(directory.names, change);
    directory.changes.push_back(change);
  }

  std::shared_ptr<Node> look(const fs::path& path) const {
    std::shared_ptr<Node> node = root_;
    for (const fs::path& part : path.relative_path()) {
      const auto at = node->names.find(part.string());
      if (at == node->names.end()) return nullptr;
      node = at->second;
    }
    return node;
  }

  std::shared_ptr<Node> find(const fs::path& path) const {
    const std::shared_ptr<Node> node = look(path);
    if (!node) throw Error(cat("no ", path.string()));
    return node;
  }

  Node& file(const fs::path& path) const {
    Node& node = *find(path);
    if (node.is_directory) throw Error(cat(path.string(), " is a directory"));
    return node;
  }

  Node& directory(const fs::path& path) const { return *find(path); }

  void begin(const std::function<void()>& half = [] {}) {
    if (fault_ == Fault::none || left_-- > 0) return;
    half();
    has_failed_ = true;
    if (fault_ == Fault::power) throw PowerCut();
    if (fault_ == Fault::error) fault_ = Fault::none;
    throw Error("disk: No space left on device");
  }

  std::uint64_t draw(std::uint64_t below) {
    const PhiloxBlock block = philox_words(generator_.next(), 0);
    return (std::uint64_t{block.x} << 32U | block.y) % below;
  }

  void cut(Node& node) {
    if (!node.is_directory) {
      if (node.content != node.lasting_content) {
        switch (draw(4)) {
          case 0:  // nothing of it
            node.content = node.lasting_content;
            break;
          case 1:  // a part
            node.content.resize(draw(node.content.size() + 1));
            break;
          case 2:  // the length alone
            node.content.assign(node.content.size(), '\0');
            break;
          default:  // all
            break;
        }
      }
      node.lasting_content = node.content;
      return;
    }
    const std::uint64_t chance = draw(3);  // of a change to last: none, half, all
    Names names = node.lasting_names;
    for (const Change& change : node.changes) {
      const bool lasts = chance == 2 || (chance == 1 && draw(2) == 1);
      // What it builds on may be lost.
      const bool is_possible = change.removed.empty() || names.contains(change.removed);
      if (lasts && is_possible) apply(names, change);
    }
    node.names = node.lasting_names = names;
    node.changes.clear();
    for (const auto& [name, child] : node.names)
      cut(*child);
  }

  static std::shared_ptr<Node> new_root() {
    auto root = std::make_shared<Node>();
    root->is_directory = true;
    return root;
  }

  std::shared_ptr<Node> root_ = new_root();
  Generator generator_;
  std::int64_t left_ = 0;
  Fault fault_ = Fault::none;
  bool has_failed_ = false;
};

}  // namespace lamina::gpt
