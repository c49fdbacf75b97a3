// SPDX-License-Identifier: MIT
// The word lists of the generated corpus (examples/gpt/scenes.h). A preset uses the first words of
// a list; the order is part of the corpus, and a changed word changes the pinned hash of its test.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lamina::data::words {

inline constexpr std::array<std::string_view, 24> kNames = {
    "Ada",  "Bram", "Cora", "Dov",  "Edda", "Finn", "Greta", "Hugo", "Ines", "Jude", "Kaia", "Leif",
    "Mara", "Nils", "Opal", "Pell", "Rhea", "Sven", "Tess",  "Ulla", "Vida", "Wren", "Yara", "Zeb"};

inline constexpr std::array<std::string_view, 20> kAdjectives = {
    "red",    "blue",    "green",  "amber",   "ivory",  "brass",   "silver",
    "broken", "tiny",    "heavy",  "painted", "wooden", "crooked", "golden",
    "rusty",  "striped", "folded", "hollow",  "empty",  "old"};

inline constexpr std::array<std::string_view, 28> kObjects = {
    "lantern", "kettle",  "basket",  "ladder",   "hammer", "mirror", "candle",
    "blanket", "whistle", "bucket",  "compass",  "ribbon", "teapot", "barrel",
    "saddle",  "pillow",  "feather", "violin",   "needle", "anchor", "drum",
    "clock",   "map",     "key",     "umbrella", "apron",  "oar",    "inkwell"};

inline constexpr std::array<std::string_view, 16> kPlaces = {
    "mill",   "harbor", "orchard", "chapel", "bakery",  "stable",  "attic", "garden",
    "market", "cellar", "tower",   "bridge", "kitchen", "library", "forge", "boathouse"};

/// Things that are counted; the plural of each adds an s.
inline constexpr std::array<std::string_view, 10> kThings = {
    "apple", "pear", "coin", "shell", "button", "egg", "plum", "acorn", "marble", "candle"};

/// kNumbers[i] spells i.
inline constexpr std::array<std::string_view, 13> kNumbers = {
    "zero",  "one",   "two",  "three", "four",   "five",  "six",
    "seven", "eight", "nine", "ten",   "eleven", "twelve"};

/// The time in a scene's header, and the greeting that goes with it.
inline constexpr std::array<std::string_view, 4> kTimes = {"dawn", "noon", "dusk", "night"};
inline constexpr std::array<std::string_view, 4> kGreetings = {"morning", "day", "evening",
                                                               "night"};

inline constexpr int kRhymeClassSize = 4;

/// Words i and j rhyme when i / kRhymeClassSize == j / kRhymeClassSize.
inline constexpr std::array<std::string_view, 24> kRhymes = {
    "stone", "bone",  "alone",  "thrown", "sea",  "tree",  "free",  "me",
    "light", "night", "bright", "white",  "rain", "lane",  "grain", "again",
    "bell",  "well",  "tell",   "shell",  "door", "floor", "more",  "shore"};

/// round(10000 * (rank + 2)^-0.7): the weight of a word at its rank in a list, as an integer so
/// that every probability is an exact fraction on every platform.
inline constexpr std::array<std::uint32_t, 28> kRankWeights = {
    6156, 4635, 3789, 3241, 2853, 2561, 2333, 2148, 1995, 1866, 1756, 1661, 1577, 1502,
    1436, 1376, 1322, 1273, 1228, 1187, 1149, 1114, 1081, 1051, 1022, 996,  970,  947};

}  // namespace lamina::data::words
