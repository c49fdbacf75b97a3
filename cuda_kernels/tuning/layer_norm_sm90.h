// SPDX-License-Identifier: MIT
// Policies of the row kernels, measured in
//   NVIDIA H200, 2026-11-21, commit adf642d
//   NVIDIA H200, 2026-11-21, commit a672d7824e
//   NVIDIA H200, 2026-11-23, commit 4dfd6ecd6f
// Written by benchmarks/kernels/layer_norm_sweep --header: run it again, do not edit. The
// entry of a problem is the first of its types and operands with as many columns and rows.
// Each was measured cold at its own number of columns; the narrower ones back to the entry
// before are within 1 % of their best with it. "rule" and "next": how much longer the rule
// of thumb and the runner-up take.
#pragma once

#include "cuda_kernels/tuning/row_policy.h"

namespace lamina::kernels::tuning {

// clang-format off
// element bytes, stream bytes, has residual, has tail, columns and rows up to, policy
inline constexpr TunedRow kForwardSm90[] = {
    {2, 2, false, false, 256, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                // 256 rows: 1.65 us, 161 GB/s, 85 % of copy, rule 1.02x
    {2, 2, false, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                // 256 rows: 1.82 us, 291 GB/s, 82 % of copy, the rule
    {2, 2, false, false, 768, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                // 256 rows: 1.95 us, 405 GB/s, 81 % of copy, rule 1.16x
    {2, 2, false, false, 1280, 512, {RowVariant::held, 1, 512, 1, 0, 0}},               // 256 rows: 2.18 us, 605 GB/s, 75 % of copy, rule 1.21x
    {2, 2, false, false, 4096, 512, {RowVariant::held, 2, 512, 1, 0, 0}},               // 256 rows: 3.11 us, 1356 GB/s, 76 % of copy, rule 1.11x
    {2, 2, false, false, 12288, 512, {RowVariant::held, 3, 512, 1, 0, 0}},              // 256 rows: 5.82 us, 2169 GB/s, 78 % of copy, rule 1.02x
    {2, 2, false, false, 16384, 512, {RowVariant::held, 4, 512, 1, 0, 0}},              // 256 rows: 7.16 us, 2354 GB/s, 77 % of copy, the rule
    {2, 2, false, false, 24576, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},          // 256 rows: 11.20 us, 2256 GB/s, 68 % of copy, rule 1.18x
    {2, 2, false, false, 32768, 512, {RowVariant::cluster, 4, 512, 2, 3, 1}},           // 256 rows: 13.35 us, 2523 GB/s, 69 % of copy, rule 1.24x
    {2, 2, false, false, 65536, 512, {RowVariant::cluster, 4, 512, 4, 3, 1}},           // 256 rows: 24.94 us, 2701 GB/s, 72 % of copy, the rule
    {2, 2, false, false, 128, 8192, {RowVariant::held, 1, 128, 1, 0, 0}},               // 4096 rows: 2.01 us, 1062 GB/s, 91 % of copy, the rule
    {2, 2, false, false, 512, 8192, {RowVariant::held, 2, 256, 1, 0, 0}},               // 4096 rows: 3.59 us, 2348 GB/s, 93 % of copy, rule 1.04x
    {2, 2, false, false, 768, 8192, {RowVariant::held, 3, 512, 1, 0, 0}},               // 4096 rows: 4.57 us, 2764 GB/s, 98 % of copy, rule 1.07x
    {2, 2, false, false, 1024, 8192, {RowVariant::held, 4, 64, 1, 0, 0}},               // 4096 rows: 5.69 us, 2953 GB/s, 96 % of copy, rule 1.00x
    {2, 2, false, false, 1280, 8192, {RowVariant::held, 3, 512, 1, 0, 0}},              // 4096 rows: 7.72 us, 2720 GB/s, 85 % of copy, rule 1.11x
    {2, 2, false, false, 2560, 8192, {RowVariant::held, 4, 128, 1, 0, 0}},              // 4096 rows: 13.10 us, 3206 GB/s, 92 % of copy, the rule
    {2, 2, false, false, 3072, 8192, {RowVariant::held, 3, 256, 1, 0, 0}},              // 4096 rows: 14.41 us, 3496 GB/s, 98 % of copy, rule 1.02x
    {2, 2, false, false, 64, 16384, {RowVariant::held, 1, 256, 1, 0, 0}},               // 8192 rows: 1.97 us, 1099 GB/s, 92 % of copy, rule 1.00x
    {2, 2, false, false, 256, 16384, {RowVariant::held, 2, 256, 1, 0, 0}},              // 8192 rows: 3.57 us, 2369 GB/s, 95 % of copy, rule 1.15x
    {2, 2, false, false, 384, 16384, {RowVariant::held, 3, 512, 1, 0, 0}},              // 8192 rows: 4.61 us, 2743 GB/s, 99 % of copy, rule 1.16x
    {2, 2, false, false, 512, 16384, {RowVariant::held, 4, 512, 1, 0, 0}},              // 8192 rows: 5.91 us, 2850 GB/s, 93 % of copy, rule 1.03x
    {2, 2, false, false, 768, 16384, {RowVariant::held, 3, 64, 1, 0, 0}},               // 8192 rows: 8.11 us, 3110 GB/s, 93 % of copy, rule 1.09x
    {2, 2, false, false, 1024, 16384, {RowVariant::held, 4, 64, 1, 0, 0}},              // 8192 rows: 10.67 us, 3152 GB/s, 86 % of copy, rule 1.00x
    {2, 2, false, false, 1280, 16384, {RowVariant::held, 3, 64, 1, 0, 0}},              // 8192 rows: 13.20 us, 3183 GB/s, 91 % of copy, rule 1.11x
    {2, 2, false, false, 1600, 16384, {RowVariant::held, 4, 512, 1, 0, 0}},             // 8192 rows: 15.83 us, 3317 GB/s, 92 % of copy, rule 1.00x
    {2, 2, false, false, 256, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 65536 rows: 18.53 us, 3651 GB/s, 97 % of copy, rule 1.16x
    {2, 2, false, false, 384, kAnyRows, {RowVariant::held, 3, 128, 1, 0, 0}},           // 65536 rows: 26.41 us, 3831 GB/s, 100 % of copy, rule 1.12x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 32768 rows: 18.56 us, 3629 GB/s, 97 % of copy, the rule
    {2, 2, false, false, 768, kAnyRows, {RowVariant::held, 3, 64, 1, 0, 0}},            // 32768 rows: 26.20 us, 3852 GB/s, 101 % of copy, rule 1.07x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},          // 16384 rows: 18.40 us, 3654 GB/s, 97 % of copy, the rule
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},          // 16384 rows: 24.24 us, 3467 GB/s, 93 % of copy, rule 1.11x
    {2, 2, false, false, 4096, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},          // 4096 rows: 18.63 us, 3605 GB/s, 93 % of copy, the rule
    {2, 2, false, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},         // 4096 rows: 67.81 us, 3960 GB/s, 95 % of copy, the rule
    {2, 2, false, false, 24576, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 0}},     // 2048 rows: 60.84 us, 3311 GB/s, 80 % of copy, rule 1.20x
    {2, 2, false, false, 32768, kAnyRows, {RowVariant::held, 4, 1024, 1, 0, 0}},        // 2048 rows: 74.04 us, 3627 GB/s, 87 % of copy, rule 1.25x
    {2, 2, false, false, 49152, kAnyRows, {RowVariant::ring, 0, 512, 1, 2, 1}},         // 2048 rows: 135.23 us, 2979 GB/s, 71 % of copy, the rule
    {2, 2, false, false, 65536, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 1}},      // 2048 rows: 160.37 us, 3349 GB/s, 80 % of copy, the rule
    {2, 2, true, false, 256, 512, {RowVariant::held, 1, 128, 1, 0, 0}},                 // 256 rows: 1.81 us, 291 GB/s, 82 % of copy, the rule
    {2, 2, true, false, 512, 512, {RowVariant::held, 2, 128, 1, 0, 0}},                 // 256 rows: 1.98 us, 532 GB/s, 82 % of copy, the rule
    {2, 2, true, false, 768, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                 // 256 rows: 2.13 us, 739 GB/s, 79 % of copy, rule 1.05x
    {2, 2, true, false, 1024, 512, {RowVariant::held, 4, 128, 1, 0, 0}},                // 256 rows: 2.39 us, 881 GB/s, 76 % of copy, the rule
    {2, 2, true, false, 4096, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 3.93 us, 2138 GB/s, 85 % of copy, rule 1.00x
    {2, 2, true, false, 5120, 512, {RowVariant::held, 3, 256, 1, 0, 0}},                // 256 rows: 4.48 us, 2347 GB/s, 90 % of copy, rule 1.02x
    {2, 2, true, false, 6144, 512, {RowVariant::held, 4, 512, 1, 0, 0}},                // 256 rows: 5.04 us, 2504 GB/s, 90 % of copy, rule 1.00x
    {2, 2, true, false, 10240, 512, {RowVariant::held, 3, 512, 1, 0, 0}},               // 256 rows: 7.89 us, 2662 GB/s, 83 % of copy, rule 1.00x
    {2, 2, true, false, 32768, 512, {RowVariant::streamed, 0, 512, 1, 0, 0}},           // 256 rows: 21.94 us, 3065 GB/s, 82 % of copy, rule 1.03x
    {2, 2, true, false, 65536, 512, {RowVariant::cluster, 4, 512, 4, 3, 1}},            // 256 rows: 41.40 us, 3248 GB/s, 85 % of copy, the rule
    {2, 2, true, false, 128, 8192, {RowVariant::held, 1, 512, 1, 0, 0}},                // 4096 rows: 2.60 us, 1625 GB/s, 91 % of copy, rule 1.05x
    {2, 2, true, false, 512, 8192, {RowVariant::held, 2, 256, 1, 0, 0}},                // 4096 rows: 5.57 us, 3020 GB/s, 99 % of copy, rule 1.06x
    {2, 2, true, false, 768, 8192, {RowVariant::held, 1, 512, 1, 0, 0}},                // 4096 rows: 8.06 us, 3128 GB/s, 94 % of copy, rule 1.02x
    {2, 2, true, false, 3072, 8192, {RowVariant::held, 2, 256, 1, 0, 0}},               // 4096 rows: 26.24 us, 3838 GB/s, 101 % of copy, rule 1.02x
    {2, 2, true, false, 64, 16384, {RowVariant::held, 1, 512, 1, 0, 0}},                // 8192 rows: 2.58 us, 1652 GB/s, 92 % of copy, rule 1.05x
    {2, 2, true, false, 1600, 16384, {RowVariant::held, 2, 256, 1, 0, 0}},              // 8192 rows: 27.18 us, 3860 GB/s, 101 % of copy, rule 1.02x
    {2, 2, true, false, 128, kAnyRows, {RowVariant::held, 3, 128, 1, 0, 0}},            // 131072 rows: 34.81 us, 3886 GB/s, 101 % of copy, rule 1.01x
    {2, 2, true, false, 512, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},            // 32768 rows: 34.38 us, 3911 GB/s, 102 % of copy, the rule
    {2, 2, true, false, 3072, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},           // 8192 rows: 49.81 us, 4044 GB/s, 105 % of copy, rule 1.01x
    {2, 2, true, false, 10240, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},          // 4096 rows: 82.27 us, 4080 GB/s, 97 % of copy, rule 1.00x
    {2, 2, true, false, 16384, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 129.86 us, 4135 GB/s, 98 % of copy, the rule
    {2, 2, true, false, 32768, kAnyRows, {RowVariant::held, 4, 1024, 1, 0, 0}},         // 2048 rows: 135.24 us, 3971 GB/s, 94 % of copy, rule 1.05x
    {2, 2, true, false, 65536, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 1}},       // 2048 rows: 284.16 us, 3780 GB/s, 89 % of copy, the rule
    {4, 4, false, false, 128, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                // 256 rows: 1.59 us, 166 GB/s, 88 % of copy, rule 1.03x
    {4, 4, false, false, 256, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 1.76 us, 300 GB/s, 85 % of copy, rule 1.01x
    {4, 4, false, false, 384, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                // 256 rows: 1.91 us, 414 GB/s, 83 % of copy, rule 1.04x
    {4, 4, false, false, 512, 512, {RowVariant::held, 4, 128, 1, 0, 0}},                // 256 rows: 2.01 us, 524 GB/s, 81 % of copy, the rule
    {4, 4, false, false, 2048, 512, {RowVariant::held, 2, 512, 1, 0, 0}},               // 256 rows: 3.07 us, 1374 GB/s, 77 % of copy, rule 1.29x
    {4, 4, false, false, 3072, 512, {RowVariant::held, 3, 512, 1, 0, 0}},               // 256 rows: 3.68 us, 1718 GB/s, 78 % of copy, rule 1.19x
    {4, 4, false, false, 4096, 512, {RowVariant::held, 4, 512, 1, 0, 0}},               // 256 rows: 4.28 us, 1966 GB/s, 78 % of copy, rule 1.02x
    {4, 4, false, false, 5120, 512, {RowVariant::held, 3, 512, 1, 0, 0}},               // 256 rows: 5.06 us, 2081 GB/s, 79 % of copy, rule 1.06x
    {4, 4, false, false, 6144, 512, {RowVariant::held, 4, 512, 1, 0, 0}},               // 256 rows: 5.58 us, 2264 GB/s, 81 % of copy, rule 1.20x
    {4, 4, false, false, 10240, 512, {RowVariant::held, 8, 512, 1, 0, 0}},              // 256 rows: 8.20 us, 2566 GB/s, 80 % of copy, the rule
    {4, 4, false, false, 16384, 512, {RowVariant::cluster, 4, 512, 2, 4, 1}},           // 256 rows: 12.42 us, 2713 GB/s, 74 % of copy, rule 1.08x
    {4, 4, false, false, 20480, 512, {RowVariant::cluster, 4, 512, 4, 3, 2}},           // 256 rows: 15.77 us, 2670 GB/s, 76 % of copy, rule 1.13x
    {4, 4, false, false, 32768, 512, {RowVariant::cluster, 8, 512, 2, 3, 1}},           // 256 rows: 23.10 us, 2916 GB/s, 78 % of copy, the rule
    {4, 4, false, false, 65536, 512, {RowVariant::cluster, 8, 512, 4, 3, 1}},           // 256 rows: 41.60 us, 3239 GB/s, 85 % of copy, the rule
    {4, 4, false, false, 128, 8192, {RowVariant::held, 2, 256, 1, 0, 0}},               // 4096 rows: 2.43 us, 1738 GB/s, 97 % of copy, rule 1.09x
    {4, 4, false, false, 384, 8192, {RowVariant::held, 3, 256, 1, 0, 0}},               // 4096 rows: 4.39 us, 2872 GB/s, 102 % of copy, rule 1.00x
    {4, 4, false, false, 512, 8192, {RowVariant::held, 4, 128, 1, 0, 0}},               // 4096 rows: 5.45 us, 3086 GB/s, 101 % of copy, the rule
    {4, 4, false, false, 1024, 8192, {RowVariant::held, 2, 128, 1, 0, 0}},              // 4096 rows: 9.65 us, 3481 GB/s, 96 % of copy, rule 1.15x
    {4, 4, false, false, 1600, 8192, {RowVariant::held, 4, 128, 1, 0, 0}},              // 4096 rows: 14.40 us, 3644 GB/s, 101 % of copy, rule 1.13x
    {4, 4, false, false, 64, 16384, {RowVariant::held, 2, 128, 1, 0, 0}},               // 8192 rows: 2.41 us, 1767 GB/s, 98 % of copy, rule 1.14x
    {4, 4, false, false, 256, 16384, {RowVariant::held, 4, 128, 1, 0, 0}},              // 8192 rows: 5.50 us, 3062 GB/s, 100 % of copy, rule 1.08x
    {4, 4, false, false, 384, 16384, {RowVariant::held, 3, 64, 1, 0, 0}},               // 8192 rows: 7.89 us, 3197 GB/s, 96 % of copy, rule 1.03x
    {4, 4, false, false, 512, 16384, {RowVariant::held, 4, 64, 1, 0, 0}},               // 8192 rows: 10.32 us, 3258 GB/s, 89 % of copy, rule 1.01x
    {4, 4, false, false, 768, 16384, {RowVariant::held, 2, 128, 1, 0, 0}},              // 8192 rows: 13.64 us, 3696 GB/s, 103 % of copy, rule 1.12x
    {4, 4, false, false, 512, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},           // 16384 rows: 18.01 us, 3734 GB/s, 99 % of copy, the rule
    {4, 4, false, false, 1024, kAnyRows, {RowVariant::held, 2, 512, 1, 0, 0}},          // 8192 rows: 17.45 us, 3849 GB/s, 99 % of copy, rule 1.09x
    {4, 4, false, false, 1600, kAnyRows, {RowVariant::held, 4, 128, 1, 0, 0}},          // 8192 rows: 26.69 us, 3931 GB/s, 103 % of copy, rule 1.06x
    {4, 4, false, false, 2560, kAnyRows, {RowVariant::held, 3, 256, 1, 0, 0}},          // 4096 rows: 22.00 us, 3815 GB/s, 102 % of copy, rule 1.06x
    {4, 4, false, false, 5120, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},          // 4096 rows: 42.41 us, 3958 GB/s, 97 % of copy, rule 1.02x
    {4, 4, false, false, 16384, kAnyRows, {RowVariant::held, 8, 512, 1, 0, 0}},         // 4096 rows: 133.20 us, 4032 GB/s, 95 % of copy, the rule
    {4, 4, false, false, 20480, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 2}},      // 2048 rows: 93.82 us, 3578 GB/s, 85 % of copy, rule 1.13x
    {4, 4, false, false, 32768, kAnyRows, {RowVariant::cluster, 8, 512, 2, 3, 1}},      // 2048 rows: 142.60 us, 3767 GB/s, 89 % of copy, the rule
    {4, 4, false, false, 65536, kAnyRows, {RowVariant::cluster, 8, 512, 4, 3, 1}},      // 2048 rows: 287.21 us, 3740 GB/s, 96 % of copy, the rule
    {4, 4, true, false, 128, 512, {RowVariant::held, 1, 256, 1, 0, 0}},                 // 256 rows: 1.72 us, 306 GB/s, 86 % of copy, rule 1.01x
    {4, 4, true, false, 384, 512, {RowVariant::held, 3, 128, 1, 0, 0}},                 // 256 rows: 2.03 us, 779 GB/s, 83 % of copy, rule 1.03x
    {4, 4, true, false, 512, 512, {RowVariant::held, 4, 128, 1, 0, 0}},                 // 256 rows: 2.19 us, 960 GB/s, 83 % of copy, the rule
    {4, 4, true, false, 1024, 512, {RowVariant::held, 2, 256, 1, 0, 0}},                // 256 rows: 2.79 us, 1509 GB/s, 85 % of copy, rule 1.21x
    {4, 4, true, false, 6144, 512, {RowVariant::held, 3, 512, 1, 0, 0}},                // 256 rows: 8.71 us, 2896 GB/s, 87 % of copy, rule 1.05x
    {4, 4, true, false, 8192, 512, {RowVariant::cluster, 4, 512, 1, 3, 1}},             // 256 rows: 11.10 us, 3030 GB/s, 83 % of copy, rule 1.06x
    {4, 4, true, false, 16384, 512, {RowVariant::cluster, 4, 512, 2, 3, 1}},            // 256 rows: 20.06 us, 3352 GB/s, 89 % of copy, rule 1.12x
    {4, 4, true, false, 32768, 512, {RowVariant::cluster, 4, 512, 4, 3, 1}},            // 256 rows: 38.52 us, 3491 GB/s, 91 % of copy, rule 1.22x
    {4, 4, true, false, 65536, 512, {RowVariant::cluster, 4, 512, 8, 3, 1}},            // 256 rows: 71.63 us, 3755 GB/s, 97 % of copy, rule 1.22x
    {4, 4, true, false, 128, 8192, {RowVariant::held, 2, 128, 1, 0, 0}},                // 4096 rows: 3.52 us, 2392 GB/s, 95 % of copy, rule 1.07x
    {4, 4, true, false, 512, 8192, {RowVariant::held, 4, 128, 1, 0, 0}},                // 4096 rows: 9.79 us, 3433 GB/s, 94 % of copy, the rule
    {4, 4, true, false, 1600, 8192, {RowVariant::held, 2, 512, 1, 0, 0}},               // 4096 rows: 26.90 us, 3900 GB/s, 102 % of copy, rule 1.08x
    {4, 4, true, false, 128, 16384, {RowVariant::held, 3, 128, 1, 0, 0}},               // 8192 rows: 5.45 us, 3093 GB/s, 102 % of copy, rule 1.12x
    {4, 4, true, false, 512, 16384, {RowVariant::held, 4, 128, 1, 0, 0}},               // 8192 rows: 18.05 us, 3722 GB/s, 99 % of copy, the rule
    {4, 4, true, false, 768, 16384, {RowVariant::held, 2, 512, 1, 0, 0}},               // 8192 rows: 25.93 us, 3885 GB/s, 102 % of copy, rule 1.07x
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::held, 2, 128, 1, 0, 0}},           // 8192 rows: 33.75 us, 3979 GB/s, 98 % of copy, rule 1.09x
    {4, 4, true, false, 6144, kAnyRows, {RowVariant::held, 3, 512, 1, 0, 0}},           // 4096 rows: 97.02 us, 4151 GB/s, 99 % of copy, rule 1.02x
    {4, 4, true, false, 8192, kAnyRows, {RowVariant::held, 4, 512, 1, 0, 0}},           // 4096 rows: 128.95 us, 4164 GB/s, 98 % of copy, rule 1.03x
    {4, 4, true, false, 16384, kAnyRows, {RowVariant::held, 4, 1024, 1, 0, 0}},         // 4096 rows: 256.74 us, 4183 GB/s, 106 % of copy, rule 1.00x
    {4, 4, true, false, 32768, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 1}},       // 2048 rows: 275.42 us, 3900 GB/s, 91 % of copy, rule 1.19x
    {4, 4, true, false, 65536, kAnyRows, {RowVariant::cluster, 4, 512, 8, 3, 1}},       // 2048 rows: 539.68 us, 3980 GB/s, 94 % of copy, rule 1.26x
};

inline constexpr TunedRow kBackwardSm90[] = {
    {2, 2, false, false, 64, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                 // 256 rows: 3.36 us, 30 GB/s, 39 % of copy, rule 1.06x
    {2, 2, false, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 1}},                // 256 rows: 3.78 us, 105 GB/s, 38 % of copy, rule 1.00x
    {2, 2, false, false, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 4}},                // 256 rows: 4.06 us, 195 GB/s, 39 % of copy, rule 1.09x
    {2, 2, false, false, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 3}},               // 256 rows: 4.60 us, 344 GB/s, 37 % of copy, rule 1.14x
    {2, 2, false, false, 2048, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},               // 256 rows: 5.65 us, 559 GB/s, 37 % of copy, the rule
    {2, 2, false, false, 6144, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 9.51 us, 997 GB/s, 39 % of copy, rule 1.00x
    {2, 2, false, false, 10240, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},           // 256 rows: 12.95 us, 1219 GB/s, 41 % of copy, rule 1.07x
    {2, 2, false, false, 12288, 512, {RowVariant::cluster, 2, 512, 4, 3, 2}},           // 256 rows: 13.74 us, 1379 GB/s, 44 % of copy, rule 1.08x
    {2, 2, false, false, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},           // 256 rows: 22.39 us, 2256 GB/s, 63 % of copy, rule 1.05x
    {2, 2, false, false, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},           // 256 rows: 37.29 us, 2710 GB/s, 71 % of copy, rule 1.01x
    {2, 2, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 32768 rows: 29.67 us, 3402 GB/s, 89 % of copy, rule 1.13x
    {2, 2, false, false, 768, kAnyRows, {RowVariant::ring, 3, 128, 1, 2, 2}},           // 32768 rows: 43.18 us, 3503 GB/s, 91 % of copy, rule 1.04x
    {2, 2, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 16384 rows: 30.22 us, 3335 GB/s, 88 % of copy, the rule
    {2, 2, false, false, 1280, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 16384 rows: 38.60 us, 3263 GB/s, 85 % of copy, rule 1.07x
    {2, 2, false, false, 2048, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 8192 rows: 31.76 us, 3172 GB/s, 84 % of copy, the rule
    {2, 2, false, false, 2560, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 8192 rows: 37.33 us, 3373 GB/s, 89 % of copy, rule 1.09x
    {2, 2, false, false, 3072, kAnyRows, {RowVariant::ring, 3, 384, 1, 2, 1}},          // 8192 rows: 43.99 us, 3434 GB/s, 90 % of copy, rule 1.05x
    {2, 2, false, false, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 4096 rows: 56.35 us, 3574 GB/s, 87 % of copy, the rule
    {2, 2, false, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 4, 1}},      // 4096 rows: 103.39 us, 3896 GB/s, 92 % of copy, the rule
    {2, 2, false, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},      // 2048 rows: 111.30 us, 3620 GB/s, 86 % of copy, rule 1.00x
    {2, 2, false, false, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},      // 2048 rows: 224.70 us, 3586 GB/s, 84 % of copy, rule 1.00x
    {2, 2, true, false, 64, 512, {RowVariant::ring, 1, 128, 1, 2, 4}},                  // 256 rows: 3.40 us, 39 GB/s, 39 % of copy, rule 1.06x
    {2, 2, true, false, 256, 512, {RowVariant::ring, 1, 256, 1, 2, 4}},                 // 256 rows: 3.83 us, 138 GB/s, 39 % of copy, rule 1.00x
    {2, 2, true, false, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 2}},                 // 256 rows: 4.17 us, 253 GB/s, 39 % of copy, rule 1.08x
    {2, 2, true, false, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 3}},                // 256 rows: 4.79 us, 440 GB/s, 38 % of copy, rule 1.14x
    {2, 2, true, false, 2048, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                // 256 rows: 6.00 us, 701 GB/s, 39 % of copy, the rule
    {2, 2, true, false, 6144, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                // 256 rows: 10.44 us, 1210 GB/s, 43 % of copy, rule 1.17x
    {2, 2, true, false, 8192, 512, {RowVariant::cluster, 1, 512, 4, 3, 2}},             // 256 rows: 12.41 us, 1356 GB/s, 44 % of copy, rule 1.15x
    {2, 2, true, false, 16384, 512, {RowVariant::cluster, 1, 512, 4, 3, 1}},            // 256 rows: 17.25 us, 1950 GB/s, 53 % of copy, rule 1.13x
    {2, 2, true, false, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},            // 256 rows: 26.21 us, 2568 GB/s, 69 % of copy, rule 1.05x
    {2, 2, true, false, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},            // 256 rows: 42.41 us, 3174 GB/s, 83 % of copy, rule 1.03x
    {2, 2, true, false, 256, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},            // 65536 rows: 37.56 us, 3587 GB/s, 93 % of copy, the rule
    {2, 2, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 16384 rows: 38.20 us, 3517 GB/s, 92 % of copy, the rule
    {2, 2, true, false, 1600, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 16384 rows: 56.16 us, 3736 GB/s, 95 % of copy, rule 1.01x
    {2, 2, true, false, 3072, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},           // 8192 rows: 53.84 us, 3741 GB/s, 97 % of copy, rule 1.04x
    {2, 2, true, false, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 72.89 us, 3684 GB/s, 88 % of copy, the rule
    {2, 2, true, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},       // 4096 rows: 136.50 us, 3934 GB/s, 93 % of copy, rule 1.01x
    {2, 2, true, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},       // 2048 rows: 136.35 us, 3939 GB/s, 93 % of copy, rule 1.01x
    {2, 2, true, false, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},       // 2048 rows: 258.39 us, 4157 GB/s, 105 % of copy, rule 1.01x
    {2, 2, true, true, 128, 512, {RowVariant::ring, 1, 128, 1, 2, 2}},                  // 256 rows: 3.94 us, 67 GB/s, 36 % of copy, rule 1.00x
    {2, 2, true, true, 256, 512, {RowVariant::ring, 1, 64, 1, 2, 4}},                   // 256 rows: 4.11 us, 128 GB/s, 36 % of copy, rule 1.01x
    {2, 2, true, true, 512, 512, {RowVariant::ring, 1, 128, 1, 2, 3}},                  // 256 rows: 4.44 us, 238 GB/s, 37 % of copy, rule 1.08x
    {2, 2, true, true, 1024, 512, {RowVariant::ring, 1, 256, 1, 2, 3}},                 // 256 rows: 5.08 us, 415 GB/s, 36 % of copy, rule 1.33x
    {2, 2, true, true, 1280, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},                 // 256 rows: 5.83 us, 451 GB/s, 33 % of copy, rule 1.04x
    {2, 2, true, true, 1600, 512, {RowVariant::ring, 1, 512, 1, 2, 1}},                 // 256 rows: 6.31 us, 521 GB/s, 34 % of copy, rule 1.03x
    {2, 2, true, true, 3072, 512, {RowVariant::ring, 1, 384, 1, 2, 1}},                 // 256 rows: 8.04 us, 785 GB/s, 36 % of copy, rule 1.59x
    {2, 2, true, true, 4096, 512, {RowVariant::ring, 1, 512, 1, 2, 1}},                 // 256 rows: 9.39 us, 896 GB/s, 36 % of copy, rule 1.49x
    {2, 2, true, true, 6144, 512, {RowVariant::cluster, 1, 512, 2, 3, 1}},              // 256 rows: 11.35 us, 1112 GB/s, 39 % of copy, rule 1.24x
    {2, 2, true, true, 8192, 512, {RowVariant::cluster, 1, 256, 4, 3, 1}},              // 256 rows: 13.53 us, 1244 GB/s, 41 % of copy, rule 1.20x
    {2, 2, true, true, 16384, 512, {RowVariant::cluster, 1, 512, 4, 3, 1}},             // 256 rows: 18.28 us, 1841 GB/s, 50 % of copy, rule 1.18x
    {2, 2, true, true, 32768, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},             // 256 rows: 28.69 us, 2346 GB/s, 63 % of copy, rule 1.05x
    {2, 2, true, true, 65536, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},             // 256 rows: 45.69 us, 2946 GB/s, 77 % of copy, rule 1.03x
    {2, 2, true, true, 256, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},             // 65536 rows: 38.13 us, 3533 GB/s, 92 % of copy, the rule
    {2, 2, true, true, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},             // 32768 rows: 39.40 us, 3413 GB/s, 89 % of copy, rule 1.00x
    {2, 2, true, true, 768, kAnyRows, {RowVariant::ring, 3, 256, 1, 2, 1}},             // 32768 rows: 55.81 us, 3612 GB/s, 93 % of copy, rule 1.03x
    {2, 2, true, true, 1024, kAnyRows, {RowVariant::ring, 1, 256, 1, 2, 2}},            // 16384 rows: 39.56 us, 3396 GB/s, 89 % of copy, rule 1.04x
    {2, 2, true, true, 1600, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 16384 rows: 58.62 us, 3580 GB/s, 91 % of copy, rule 1.01x
    {2, 2, true, true, 2048, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},            // 8192 rows: 40.05 us, 3354 GB/s, 88 % of copy, rule 1.04x
    {2, 2, true, true, 8192, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 4096 rows: 75.90 us, 3538 GB/s, 84 % of copy, the rule
    {2, 2, true, true, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},        // 4096 rows: 138.11 us, 3888 GB/s, 92 % of copy, rule 1.01x
    {2, 2, true, true, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},        // 2048 rows: 138.64 us, 3874 GB/s, 91 % of copy, rule 1.01x
    {2, 2, true, true, 65536, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},        // 2048 rows: 260.08 us, 4130 GB/s, 105 % of copy, rule 1.00x
    {4, 4, false, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                // 256 rows: 4.09 us, 97 GB/s, 35 % of copy, rule 1.00x
    {4, 4, false, false, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 1}},                // 256 rows: 4.24 us, 187 GB/s, 37 % of copy, rule 1.00x
    {4, 4, false, false, 512, 512, {RowVariant::ring, 2, 128, 1, 3, 2}},                // 256 rows: 4.51 us, 350 GB/s, 37 % of copy, rule 1.08x
    {4, 4, false, false, 1280, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},               // 256 rows: 6.00 us, 659 GB/s, 38 % of copy, rule 1.27x
    {4, 4, false, false, 1600, 512, {RowVariant::ring, 2, 512, 1, 2, 2}},               // 256 rows: 6.36 us, 776 GB/s, 40 % of copy, rule 1.23x
    {4, 4, false, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},               // 256 rows: 7.90 us, 1200 GB/s, 47 % of copy, rule 1.15x
    {4, 4, false, false, 4096, 512, {RowVariant::cluster, 2, 256, 2, 3, 2}},            // 256 rows: 9.02 us, 1400 GB/s, 50 % of copy, rule 1.16x
    {4, 4, false, false, 5120, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},            // 256 rows: 10.88 us, 1452 GB/s, 48 % of copy, rule 1.12x
    {4, 4, false, false, 10240, 512, {RowVariant::cluster, 2, 512, 4, 3, 2}},           // 256 rows: 15.77 us, 2003 GB/s, 57 % of copy, rule 1.02x
    {4, 4, false, false, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},           // 256 rows: 19.91 us, 2538 GB/s, 71 % of copy, rule 1.10x
    {4, 4, false, false, 20480, 512, {RowVariant::cluster, 4, 512, 4, 3, 1}},           // 256 rows: 23.58 us, 2679 GB/s, 72 % of copy, the rule
    {4, 4, false, false, 65536, 512, {RowVariant::cluster, 4, 512, 8, 3, 1}},           // 256 rows: 58.55 us, 3452 GB/s, 89 % of copy, the rule
    {4, 4, false, false, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 16384 rows: 29.09 us, 3466 GB/s, 91 % of copy, the rule
    {4, 4, false, false, 768, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 16384 rows: 40.82 us, 3702 GB/s, 96 % of copy, rule 1.06x
    {4, 4, false, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},          // 8192 rows: 29.22 us, 3448 GB/s, 91 % of copy, rule 1.10x
    {4, 4, false, false, 2048, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},          // 4096 rows: 29.91 us, 3367 GB/s, 84 % of copy, rule 1.08x
    {4, 4, false, false, 2560, kAnyRows, {RowVariant::ring, 4, 384, 1, 2, 1}},          // 4096 rows: 37.23 us, 3382 GB/s, 89 % of copy, rule 1.03x
    {4, 4, false, false, 4096, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 2}},       // 4096 rows: 53.49 us, 3765 GB/s, 91 % of copy, rule 1.06x
    {4, 4, false, false, 5120, kAnyRows, {RowVariant::ring, 4, 512, 1, 2, 1}},          // 4096 rows: 66.98 us, 3759 GB/s, 97 % of copy, the rule
    {4, 4, false, false, 6144, kAnyRows, {RowVariant::cluster, 2, 512, 2, 4, 1}},       // 4096 rows: 78.66 us, 3841 GB/s, 91 % of copy, rule 1.08x
    {4, 4, false, false, 10240, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 2}},      // 4096 rows: 135.66 us, 3711 GB/s, 88 % of copy, rule 0.99x
    {4, 4, false, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 4, 1}},      // 4096 rows: 193.46 us, 4164 GB/s, 98 % of copy, rule 1.10x
    {4, 4, false, false, 20480, kAnyRows, {RowVariant::cluster, 4, 512, 4, 3, 1}},      // 2048 rows: 132.30 us, 3806 GB/s, 90 % of copy, the rule
    {4, 4, false, false, 65536, kAnyRows, {RowVariant::cluster, 4, 512, 8, 3, 1}},      // 2048 rows: 404.98 us, 3979 GB/s, 101 % of copy, the rule
    {4, 4, true, false, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                 // 256 rows: 4.15 us, 127 GB/s, 36 % of copy, rule 1.00x
    {4, 4, true, false, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                 // 256 rows: 4.29 us, 246 GB/s, 38 % of copy, the rule
    {4, 4, true, false, 512, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                 // 256 rows: 4.66 us, 451 GB/s, 39 % of copy, rule 1.09x
    {4, 4, true, false, 1024, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                // 256 rows: 5.56 us, 756 GB/s, 42 % of copy, rule 1.36x
    {4, 4, true, false, 1280, 512, {RowVariant::ring, 2, 384, 1, 2, 1}},                // 256 rows: 6.36 us, 828 GB/s, 41 % of copy, rule 1.25x
    {4, 4, true, false, 1600, 512, {RowVariant::ring, 2, 512, 1, 3, 1}},                // 256 rows: 6.82 us, 964 GB/s, 43 % of copy, rule 1.20x
    {4, 4, true, false, 3072, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                // 256 rows: 8.87 us, 1422 GB/s, 50 % of copy, rule 1.18x
    {4, 4, true, false, 4096, 512, {RowVariant::ring, 2, 512, 1, 3, 1}},                // 256 rows: 10.15 us, 1657 GB/s, 54 % of copy, rule 1.18x
    {4, 4, true, false, 6144, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},             // 256 rows: 13.55 us, 1863 GB/s, 56 % of copy, rule 1.10x
    {4, 4, true, false, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},            // 256 rows: 24.46 us, 2752 GB/s, 73 % of copy, rule 1.65x
    {4, 4, true, false, 32768, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},            // 256 rows: 40.09 us, 3358 GB/s, 88 % of copy, rule 4.02x
    {4, 4, true, false, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 2}},           // 256 rows: 172.38 us, 1562 GB/s, 40 % of copy, rule 1.49x
    {4, 4, true, false, 1024, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},           // 8192 rows: 36.95 us, 3635 GB/s, 95 % of copy, rule 1.06x
    {4, 4, true, false, 1280, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},           // 8192 rows: 44.90 us, 3738 GB/s, 97 % of copy, rule 1.07x
    {4, 4, true, false, 4096, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},           // 4096 rows: 69.55 us, 3861 GB/s, 92 % of copy, rule 1.02x
    {4, 4, true, false, 8192, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},        // 4096 rows: 133.74 us, 4015 GB/s, 95 % of copy, rule 1.01x
    {4, 4, true, false, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 3, 1}},       // 4096 rows: 261.95 us, 4100 GB/s, 96 % of copy, rule 1.82x
    {4, 4, true, false, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},       // 2048 rows: 258.16 us, 4161 GB/s, 105 % of copy, rule 4.96x
    {4, 4, true, false, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 2}},      // 2048 rows: 1805.09 us, 1190 GB/s, 30 % of copy, rule 1.21x
    {4, 4, true, true, 128, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                  // 256 rows: 4.85 us, 109 GB/s, 31 % of copy, rule 1.04x
    {4, 4, true, true, 256, 512, {RowVariant::ring, 2, 256, 1, 2, 1}},                  // 256 rows: 5.06 us, 208 GB/s, 32 % of copy, rule 1.00x
    {4, 4, true, true, 512, 512, {RowVariant::ring, 2, 128, 1, 2, 2}},                  // 256 rows: 5.11 us, 412 GB/s, 35 % of copy, rule 1.13x
    {4, 4, true, true, 1024, 512, {RowVariant::ring, 2, 256, 1, 2, 2}},                 // 256 rows: 5.96 us, 707 GB/s, 40 % of copy, rule 1.57x
    {4, 4, true, true, 1280, 512, {RowVariant::ring, 2, 384, 1, 3, 1}},                 // 256 rows: 6.83 us, 770 GB/s, 38 % of copy, rule 1.42x
    {4, 4, true, true, 1600, 512, {RowVariant::ring, 2, 512, 1, 2, 1}},                 // 256 rows: 8.01 us, 821 GB/s, 37 % of copy, rule 1.24x
    {4, 4, true, true, 2048, 512, {RowVariant::ring, 2, 256, 1, 2, 1}},                 // 256 rows: 7.52 us, 1120 GB/s, 45 % of copy, rule 1.39x
    {4, 4, true, true, 3072, 512, {RowVariant::ring, 2, 512, 1, 3, 1}},                 // 256 rows: 9.37 us, 1348 GB/s, 48 % of copy, rule 1.27x
    {4, 4, true, true, 6144, 512, {RowVariant::cluster, 2, 512, 2, 3, 1}},              // 256 rows: 14.31 us, 1764 GB/s, 53 % of copy, rule 1.15x
    {4, 4, true, true, 16384, 512, {RowVariant::cluster, 2, 512, 4, 3, 1}},             // 256 rows: 25.04 us, 2688 GB/s, 72 % of copy, rule 1.87x
    {4, 4, true, true, 32768, 512, {RowVariant::cluster, 2, 512, 8, 3, 1}},             // 256 rows: 41.47 us, 3246 GB/s, 85 % of copy, rule 4.90x
    {4, 4, true, true, 65536, 512, {RowVariant::streamed, 0, 512, 1, 0, 2}},            // 256 rows: 213.57 us, 1261 GB/s, 32 % of copy, rule 1.49x
    {4, 4, true, true, 512, kAnyRows, {RowVariant::ring, 2, 256, 1, 2, 2}},             // 16384 rows: 37.59 us, 3574 GB/s, 94 % of copy, the rule
    {4, 4, true, true, 1280, kAnyRows, {RowVariant::ring, 2, 384, 1, 2, 1}},            // 8192 rows: 46.13 us, 3639 GB/s, 95 % of copy, rule 1.09x
    {4, 4, true, true, 4096, kAnyRows, {RowVariant::ring, 2, 512, 1, 2, 1}},            // 4096 rows: 70.79 us, 3793 GB/s, 91 % of copy, rule 1.03x
    {4, 4, true, true, 8192, kAnyRows, {RowVariant::cluster, 2, 512, 2, 3, 1}},         // 4096 rows: 134.00 us, 4007 GB/s, 94 % of copy, rule 1.03x
    {4, 4, true, true, 16384, kAnyRows, {RowVariant::cluster, 2, 512, 4, 4, 1}},        // 4096 rows: 263.30 us, 4079 GB/s, 96 % of copy, rule 2.03x
    {4, 4, true, true, 32768, kAnyRows, {RowVariant::cluster, 2, 512, 8, 3, 1}},        // 2048 rows: 259.87 us, 4133 GB/s, 105 % of copy, rule 5.83x
    {4, 4, true, true, 65536, kAnyRows, {RowVariant::streamed, 0, 512, 1, 0, 2}},       // 2048 rows: 2343.74 us, 917 GB/s, 23 % of copy, rule 1.19x
};
// clang-format on

}  // namespace lamina::kernels::tuning
