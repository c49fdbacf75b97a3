// SPDX-License-Identifier: MIT
// For tests of traces: the rules that viewers of the trace event format hold a file to. Perfetto
// does not draw slices that overlap in part, and drops arrows that begin or end outside of one.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace lamina::testing {

class ChromeTrace {
 public:
  using Json = nlohmann::json;
  using Track = std::pair<int, int>;  // process and thread

  /// Parses and checks; failures are the test's.
  explicit ChromeTrace(const std::string& text) : json_(Json::parse(text, nullptr, false)) {
    if (!json_.is_object() || !json_.contains("traceEvents")) {
      ADD_FAILURE() << "not a trace";
      return;
    }
    for (const Json& event : json_["traceEvents"])
      sort(event);
    check_names();
    check_slices();
    check_arrows();
  }

  /// Slices with this category, in the order of the file.
  std::vector<Json> slices(const std::string& category) const {
    std::vector<Json> found;
    for (const auto& [track, slices] : slices_) {
      for (const Json& slice : slices) {
        if (slice["cat"] == category) found.push_back(slice);
      }
    }
    return found;
  }

  const std::vector<Json>& counters() const { return counters_; }

  std::size_t arrows() const { return begins_.size(); }

  std::size_t events() const { return json_["traceEvents"].size(); }

  std::set<std::string> track_names() const {
    std::set<std::string> names;
    for (const auto& [track, name] : names_)
      names.insert(name);
    return names;
  }

  static std::int64_t ns(const Json& microseconds) {
    return std::llround(microseconds.get<double>() * 1e3);
  }

  static std::int64_t end_ns(const Json& slice) { return ns(slice["ts"]) + ns(slice["dur"]); }

 private:
  static Track track_of(const Json& event) { return {event["pid"], event["tid"]}; }

  void sort(const Json& event) {
    const auto phase = event.at("ph").get<std::string>();
    if (phase == "M") {
      if (event["name"] == "thread_name") names_[track_of(event)] = event["args"]["name"];
      if (event["name"] == "process_name") processes_.insert(event["pid"].get<int>());
      return;
    }
    EXPECT_GE(event.at("ts").get<double>(), 0.0) << event;
    EXPECT_FALSE(event.at("name").get<std::string>().empty()) << event;
    if (phase == "X") {
      EXPECT_GE(event.at("dur").get<double>(), 0.0) << event;
      slices_[track_of(event)].push_back(event);
    } else if (phase == "C") {
      for (const auto& [key, value] : event.at("args").items())
        EXPECT_TRUE(value.is_number_unsigned()) << event;
      counters_.push_back(event);
    } else if (phase == "s") {
      EXPECT_TRUE(begins_.emplace(event["id"], event).second) << "two arrows " << event;
    } else if (phase == "f") {
      EXPECT_EQ(event["bp"], "e") << event;
      EXPECT_TRUE(ends_.emplace(event["id"], event).second) << "two arrows " << event;
    } else {
      ADD_FAILURE() << "unknown phase " << event;
    }
  }

  void check_names() const {
    for (const auto& [track, slices] : slices_) {
      EXPECT_EQ(names_.count(track), 1U) << "track " << track.first << "/" << track.second;
      EXPECT_EQ(processes_.count(track.first), 1U);
    }
  }

  /// On a track, time goes on and each slice lies inside the ones that are open or after them.
  void check_slices() const {
    for (const auto& [track, slices] : slices_) {
      std::vector<std::int64_t> open;
      std::int64_t last = 0;
      for (const Json& slice : slices) {
        const std::int64_t start = ns(slice["ts"]), end = end_ns(slice);
        EXPECT_GE(start, last) << "out of order: " << slice;
        last = start;
        while (!open.empty() && open.back() <= start)
          open.pop_back();
        EXPECT_TRUE(open.empty() || end <= open.back()) << "overlaps in part: " << slice;
        open.push_back(end);
      }
    }
  }

  bool is_inside_a_slice(const Json& point) const {
    const auto found = slices_.find(track_of(point));
    if (found == slices_.end()) return false;
    for (const Json& slice : found->second) {
      if (ns(slice["ts"]) <= ns(point["ts"]) && ns(point["ts"]) <= end_ns(slice)) return true;
    }
    return false;
  }

  void check_arrows() const {
    EXPECT_EQ(begins_.size(), ends_.size());
    for (const auto& [id, begin] : begins_) {
      const auto end = ends_.find(id);
      if (end == ends_.end()) {
        ADD_FAILURE() << "no end of " << begin;
        continue;
      }
      EXPECT_LE(ns(begin["ts"]), ns(end->second["ts"])) << begin;
      EXPECT_EQ(begin["name"], end->second["name"]);
      EXPECT_EQ(begin["cat"], end->second["cat"]);
      EXPECT_TRUE(is_inside_a_slice(begin)) << begin;
      EXPECT_TRUE(is_inside_a_slice(end->second)) << end->second;
    }
  }

  Json json_;
  std::map<Track, std::string> names_;
  std::set<int> processes_;
  std::map<Track, std::vector<Json>> slices_;
  std::vector<Json> counters_;
  std::map<std::uint64_t, Json> begins_, ends_;
};

}  // namespace lamina::testing
