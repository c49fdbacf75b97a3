/* SPDX-License-Identifier: MIT
 * lamina_kernels.h from C99: the header compiles, and mistakes are refused with a status and a
 * text. Needs no GPU: operands are checked before anything is asked of a device. */
#include "cuda_kernels/lamina_kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { kRows = 4, kCols = 8 };

/* Never read: a call that got that far would say LAMINA_CUDA_ERROR or LAMINA_NO_DEVICE. */
static double memory[16][kRows * kCols];

static int failures = 0;

static void expect(int holds, const char* what, const char* text) {
  if (holds) return;
  fprintf(stderr, "FAILED: %s; the last error is \"%s\"\n", what, text);
  ++failures;
}

static void expect_refused(int status, const char* text) {
  expect(status == LAMINA_INVALID_ARGUMENT && strstr(lamina_last_error(), text) != NULL, text,
         lamina_last_error());
}

static lamina_matrix matrix(int i, int32_t dtype) {
  lamina_matrix view;
  view.data = memory[i];
  view.stride = kCols;
  view.dtype = dtype;
  return view;
}

static lamina_vector vector(int i, int32_t dtype) {
  lamina_vector view;
  view.data = memory[i];
  view.dtype = dtype;
  return view;
}

static lamina_norm_args forward_args(void) {
  lamina_norm_args args = {.size = sizeof(args), .rows = kRows, .cols = kCols, .eps = 1e-5};
  args.x = matrix(0, LAMINA_BF16);
  args.y = matrix(1, LAMINA_BF16);
  args.weight = vector(2, LAMINA_F32);
  args.bias = vector(3, LAMINA_F32);
  return args;
}

static lamina_norm_args add_args(void) {
  lamina_norm_args args = forward_args();
  args.residual = matrix(4, LAMINA_F32);
  args.sum = matrix(5, LAMINA_F32);
  return args;
}

static lamina_norm_backward_args backward_args(void) {
  lamina_norm_backward_args args = {.size = sizeof(args), .rows = kRows, .cols = kCols};
  args.x = matrix(0, LAMINA_F16);
  args.dy = matrix(1, LAMINA_F16);
  args.weight = vector(2, LAMINA_F16);
  args.mean = (const float*)memory[3];
  args.rstd = (const float*)memory[4];
  args.dx = matrix(5, LAMINA_F16);
  args.dweight = vector(6, LAMINA_F32);
  args.dbias = vector(7, LAMINA_F32);
  return args;
}

/* One wrong member of a call that is right otherwise. */
#define EXPECT_REFUSED(op, type, make, change, text)   \
  do {                                                 \
    type args = make();                                \
    change;                                            \
    expect_refused(lamina_##op(&args, 0, NULL), text); \
  } while (0)
#define FORWARD(change, text) \
  EXPECT_REFUSED(layer_norm, lamina_norm_args, forward_args, change, text)
#define ADD(change, text) EXPECT_REFUSED(layer_norm, lamina_norm_args, add_args, change, text)
#define BACKWARD(change, text) \
  EXPECT_REFUSED(layer_norm_backward, lamina_norm_backward_args, backward_args, change, text)
#define RMS(change, text) EXPECT_REFUSED(rms_norm, lamina_norm_args, rms_args, change, text)
#define RMS_BACKWARD(change, text) \
  EXPECT_REFUSED(rms_norm_backward, lamina_norm_backward_args, rms_backward_args, change, text)

static void refuses_wrong_forward_operands(void) {
  expect_refused(lamina_layer_norm(NULL, 0, NULL), "layer_norm: args is NULL");
  FORWARD(args.size = 8, "layer_norm: args.size is 8, expected");
  FORWARD(args.rows = -1, "rows is -1 and cols is 8, expected 0 or more");
  FORWARD(args.x.data = NULL, "layer_norm: x is NULL");
  FORWARD(args.y.data = NULL, "layer_norm: y is NULL");
  FORWARD(args.x.stride = 7, "x has a stride of 7, expected at least 8 (cols)");
  FORWARD(args.y.dtype = 7, "y has the dtype code 7, expected LAMINA_F32 (0)");
  FORWARD(args.x.dtype = LAMINA_F16, "x has dtype f16, expected bf16 or f32 (the dtype of y");
  FORWARD(args.weight.dtype = LAMINA_F16, "weight has dtype f16, expected bf16 or f32");
  FORWARD((args.x.dtype = LAMINA_F32, args.y.dtype = LAMINA_F32, args.bias.dtype = LAMINA_F16),
          "bias has dtype f16, expected f32 (the dtype of y)");
  FORWARD(args.weight.data = (char*)memory[2] + 2, "expected a multiple of 4 (bytes of an element");
  FORWARD(args.eps = -1.0, "eps is -1, expected 0 or a positive number");
  FORWARD(args.eps = NAN, "eps is nan");
  FORWARD(args.eps = INFINITY, "eps is inf");
  FORWARD(args.y.data = args.x.data, "y is the memory of x, expected its own");
  FORWARD((args.mean = (float*)memory[6], args.rstd = args.mean), "rstd is the memory of mean");
  FORWARD(args.drop_p = 0.5F, "drop_p is 0.5 without a residual");
  FORWARD(args.sum = matrix(5, LAMINA_BF16), "sum is given without residual");
  ADD(args.sum.data = NULL, "residual is given without sum");
  ADD(args.drop_p = 1.0F, "drop_p is 1, expected a probability in [0, 1)");
  ADD(args.x.dtype = LAMINA_F32, "x has dtype f32, expected bf16 (the dtype of y");
  ADD(args.sum.dtype = LAMINA_BF16, "sum has dtype bf16, expected f32 (the dtype of residual)");
  ADD((args.sum.data = args.residual.data, args.sum.stride = 16),
      "sum is the memory of residual with stride 16 and dtype f32, expected 8 and f32");
}

static void refuses_wrong_backward_operands(void) {
  BACKWARD(args.mean = NULL, "layer_norm_backward: mean is NULL");
  BACKWARD(args.rstd = NULL, "layer_norm_backward: rstd is NULL");
  BACKWARD(args.x.dtype = LAMINA_BF16, "x has dtype bf16, expected f16 or f32 (the dtype of dy");
  BACKWARD(args.dx.dtype = LAMINA_F32, "dx has dtype f32, expected f16 (the dtype of x)");
  BACKWARD(args.dsum = matrix(8, LAMINA_F32), "dsum has dtype f32, expected f16");
  BACKWARD(args.dx_drop = matrix(8, LAMINA_F32), "dx_drop has dtype f32, expected f16");
  BACKWARD(args.dweight.dtype = LAMINA_BF16, "dweight has dtype bf16, expected f16 or f32");
  BACKWARD(args.dbias.dtype = LAMINA_F16,
           "dbias has dtype f16, expected f32 (the dtype of dweight)");
  BACKWARD(args.dbias_write = 2, "dbias_write is 2, expected LAMINA_OVERWRITE (0)");
  BACKWARD(args.dx.data = args.x.data, "dx is the memory of x, expected its own");
  BACKWARD((args.dx.data = args.dy.data, args.dx_write = LAMINA_ACCUMULATE),
           "dx is the memory of dy, expected its own");
  BACKWARD(args.drop_p = NAN, "drop_p is nan");
}

static lamina_norm_args rms_args(void) {
  lamina_norm_args args = {.size = sizeof(args), .rows = kRows, .cols = kCols, .eps = 1e-5};
  args.x = matrix(0, LAMINA_F32);
  args.y = matrix(1, LAMINA_F16);
  args.weight = vector(2, LAMINA_F16);
  return args;
}

static lamina_norm_backward_args rms_backward_args(void) {
  lamina_norm_backward_args args = {.size = sizeof(args), .rows = kRows, .cols = kCols};
  args.x = matrix(0, LAMINA_F32);
  args.dy = matrix(1, LAMINA_F16);
  args.rstd = (const float*)memory[3];
  args.dx = matrix(4, LAMINA_F32);
  args.dweight = vector(5, LAMINA_F16);
  return args;
}

static void refuses_wrong_rms_norm_operands(void) {
  RMS(args.size = 0, "rms_norm: args.size is 0, expected");
  RMS(args.x.data = NULL, "rms_norm: x is NULL");
  RMS(args.eps = -1.0, "rms_norm: eps is -1");
  RMS(args.weight.dtype = LAMINA_BF16, "weight has dtype bf16, expected f16 or f32");
  RMS(args.bias = vector(5, LAMINA_F16), "rms_norm: bias is given, expected NULL");
  RMS(args.mean = (float*)memory[5], "rms_norm: mean is given, expected NULL");
  RMS(args.drop_p = 0.5F, "rms_norm: drop_p is 0.5 without a residual");
  RMS((args.x.dtype = LAMINA_F16, args.residual = matrix(4, LAMINA_F32)),
      "rms_norm: residual is given without sum");
  RMS_BACKWARD(args.dbias = vector(6, LAMINA_F16), "rms_norm_backward: dbias is given");
  RMS_BACKWARD(args.rstd = NULL, "rms_norm_backward: rstd is NULL");
  RMS_BACKWARD(args.dx.data = args.dy.data, "dx is the memory of dy with stride 8 and dtype f32");
  RMS_BACKWARD(args.dweight_write = -1, "dweight_write is -1");
}

static void accepts_calls_without_elements(void) {
  lamina_norm_args forward = {.size = sizeof(forward), .rows = 0, .cols = kCols};
  lamina_norm_backward_args backward = {.size = sizeof(backward), .rows = kRows, .cols = 0};
  int64_t bytes = -1;
  expect(lamina_layer_norm(&forward, 0, NULL) == LAMINA_OK, "no rows", lamina_last_error());
  expect(lamina_layer_norm_backward(&backward, 0, NULL) == LAMINA_OK, "no columns",
         lamina_last_error());
  expect(
      lamina_layer_norm_backward_workspace_bytes(&backward, 0, &bytes) == LAMINA_OK && bytes == 0,
      "no columns need no workspace", lamina_last_error());
}

static void refuses_wrong_places(void) {
  const lamina_norm_args forward = forward_args();
  const lamina_norm_backward_args backward = backward_args();
  const int missing[] = {-1, 1 << 20};
  for (int i = 0; i < 2; ++i) {
    expect(lamina_layer_norm(&forward, missing[i], NULL) == LAMINA_NO_DEVICE &&
               strstr(lamina_last_error(), "layer_norm: device is ") != NULL,
           "a device that does not exist", lamina_last_error());
  }
  expect_refused(lamina_layer_norm_backward_workspace_bytes(&backward, 0, NULL), "bytes is NULL");
}

int main(void) {
  expect(strcmp(lamina_last_error(), "") == 0, "no error at first", lamina_last_error());
  expect(strcmp(lamina_version(), LAMINA_EXPECTED_VERSION) == 0, lamina_version(), "");
  refuses_wrong_forward_operands();
  refuses_wrong_backward_operands();
  refuses_wrong_rms_norm_operands();
  accepts_calls_without_elements();
  refuses_wrong_places();
  return failures == 0 ? 0 : 1;
}
