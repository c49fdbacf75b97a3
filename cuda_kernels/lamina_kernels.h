/* SPDX-License-Identifier: MIT
 *
 * The row kernels of Lamina as C functions (liblamina_kernels): LayerNorm and RMSNorm, forward and
 * backward, with the residual stream and dropout fused in. C99; usable from any language that can
 * call C. See docs/kernels/c_api.md.
 *
 * A call queues work on a CUDA stream and returns. It does not allocate device memory, does not
 * synchronise and leaves the caller's current device as it was, so it can be captured in a CUDA
 * graph. Operands are device memory of `device` and must stay valid until the work is done. The
 * same call gives the same bits every time on one type of GPU.
 *
 * Set args.size to sizeof(args) and everything that is not used to zero:
 *
 *   lamina_norm_args args = {.size = sizeof(args), .rows = rows, .cols = cols, .eps = 1e-5};
 *   args.x = (lamina_matrix){x, cols, LAMINA_BF16};
 *   args.y = (lamina_matrix){y, cols, LAMINA_BF16};
 *   args.weight = (lamina_vector){weight, LAMINA_F32};
 *   if (lamina_layer_norm(&args, device, stream) != LAMINA_OK) fputs(lamina_last_error(), stderr);
 */
#ifndef LAMINA_KERNELS_H
#define LAMINA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LAMINA_API __attribute__((visibility("default")))
#else
#define LAMINA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a call returns. lamina_last_error() has the text of every value but LAMINA_OK. */
enum {
  LAMINA_OK = 0,
  LAMINA_INVALID_ARGUMENT = 1, /* an operand is missing or does not fit; nothing was queued */
  LAMINA_NO_DEVICE = 2,        /* the device does not exist; nothing was queued */
  LAMINA_CUDA_ERROR = 3,       /* the CUDA runtime refused a call or a launch */
  LAMINA_INTERNAL_ERROR = 4    /* a defect of the library */
};

/* Element types. */
enum { LAMINA_F32 = 0, LAMINA_F16 = 1, LAMINA_BF16 = 2 };

/* What happens to the values that a gradient's memory holds. */
enum { LAMINA_OVERWRITE = 0, LAMINA_ACCUMULATE = 1 };

/* [rows, cols] of its call; the elements of a row are adjacent. data is NULL when it is not given.
 * data is aligned to its element; with 16 bytes and a stride of a multiple of 16 bytes it is
 * faster. */
typedef struct lamina_matrix {
  void* data;
  int64_t stride; /* elements from one row to the next, >= cols */
  int32_t dtype;
} lamina_matrix;

/* [cols] of its call, contiguous. data is NULL when it is not given. */
typedef struct lamina_vector {
  void* data;
  int32_t dtype;
} lamina_vector;

/* sum = residual + dropout(x), rounded to its dtype   (sum = x without a residual)
 * y = (sum - mean) * rstd * weight + bias, row by row; rstd = 1 / sqrt(variance + eps)
 * RMSNorm: y = sum * rstd * weight; rstd = 1 / sqrt(mean(sum^2) + eps); mean and bias stay NULL.
 *
 * With T the dtype of y: the stream (residual and sum, or x without a residual) has T, or F32 when
 * T has 16 bits. x has T with a residual. weight and bias have T or F32. Moments are computed in
 * f32. sum may be the memory of residual, with the same stride; no other output may overlap an
 * operand. */
typedef struct lamina_norm_args {
  size_t size;            /* sizeof(lamina_norm_args) */
  int64_t rows, cols;     /* >= 0; with no elements nothing is done */
  lamina_matrix x;        /* in */
  lamina_matrix residual; /* in, may be NULL */
  lamina_matrix sum;      /* out, NULL exactly when residual is */
  lamina_matrix y;        /* out */
  lamina_vector weight;   /* in, may be NULL (ones) */
  lamina_vector bias;     /* in, may be NULL (zeros) */
  float* mean;            /* [rows], out, may be NULL */
  float* rstd;            /* [rows], out, may be NULL */
  double eps;             /* >= 0, finite */
  float drop_p;           /* in [0, 1): probability of dropping an element of x, rounded to a
                             multiple of 2^-16 below 1; needs a residual */
  uint64_t seed, offset; /* of dropout's mask: Philox4x32-10, a function of these, row and column */
} lamina_norm_args;

LAMINA_API int lamina_layer_norm(const lamina_norm_args* args, int device, void* stream);
LAMINA_API int lamina_rms_norm(const lamina_norm_args* args, int device, void* stream);

/* With g = dy * weight and h = (x - mean) * rstd:
 *   dx = rstd * (g - mean(g) - h * mean(g * h)) + dsum
 *        (RMSNorm: with a mean of 0 and without mean(g); mean and dbias stay NULL)
 *   dx_drop = dropout'(dx): the gradient of the x of a forward pass with drop_p > 0
 *   dweight = sum over rows of dy * h;  dbias = sum over rows of dy
 *   column_sum = sum over rows of dx_drop (of dx without one): the bias gradient of a linear layer
 *                whose output was that x
 * Any subset of the outputs. dx, dweight and dbias follow their writes; dx_drop and column_sum are
 * overwritten, from this call's dx alone.
 *
 * With T the dtype of dy: dx_drop has T; the stream (x, dsum and dx) has T, or F32 when T has 16
 * bits; weight has T or F32; dweight and dbias have one dtype, F32 or that of weight (T without a
 * weight). dx may be the memory of dy or dsum, with the same stride and dtype, if it is
 * overwritten; no other output may overlap an operand. */
typedef struct lamina_norm_backward_args {
  size_t size;           /* sizeof(lamina_norm_backward_args) */
  int64_t rows, cols;    /* >= 0; without rows the sums over rows are zero */
  lamina_matrix x;       /* in: what was normalised, the sum of the forward pass */
  lamina_matrix dy;      /* in */
  lamina_matrix dsum;    /* in, may be NULL: gradient that reached the sum elsewhere */
  lamina_vector weight;  /* in, may be NULL */
  const float* mean;     /* [rows], in */
  const float* rstd;     /* [rows], in */
  lamina_matrix dx;      /* out, may be NULL */
  lamina_matrix dx_drop; /* out, may be NULL */
  lamina_vector dweight; /* out, may be NULL */
  lamina_vector dbias;   /* out, may be NULL */
  float* column_sum;     /* [cols], out, may be NULL */
  int32_t dx_write, dweight_write, dbias_write; /* LAMINA_OVERWRITE or LAMINA_ACCUMULATE */
  float drop_p;                                 /* as in the forward pass */
  uint64_t seed, offset;
  void* workspace;         /* scratch memory, aligned to 16 bytes; NULL when none is needed */
  int64_t workspace_bytes; /* >= what the function below says */
} lamina_norm_backward_args;

LAMINA_API int lamina_layer_norm_backward(const lamina_norm_backward_args* args, int device,
                                          void* stream);
LAMINA_API int lamina_rms_norm_backward(const lamina_norm_backward_args* args, int device,
                                        void* stream);

/* Sets *bytes to what the same call needs; depends on every member but workspace and
 * workspace_bytes, which are not read. Queues nothing. */
LAMINA_API int lamina_layer_norm_backward_workspace_bytes(const lamina_norm_backward_args* args,
                                                          int device, int64_t* bytes);
LAMINA_API int lamina_rms_norm_backward_workspace_bytes(const lamina_norm_backward_args* args,
                                                        int device, int64_t* bytes);

/* What this thread's last call that failed said; "" before the first. Valid until the next failure
 * in this thread. */
LAMINA_API const char* lamina_last_error(void);

/* "0.1.0": the version of the library. */
LAMINA_API const char* lamina_version(void);

#ifdef __cplusplus
}
#endif

#endif
