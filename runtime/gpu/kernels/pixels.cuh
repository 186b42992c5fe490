// The arithmetic of one pixel, for the GPU and for the tests' host build. Needs no CUDA headers.
//
// The masks must equal those of the CPU, so the code and not the compiler decides each rounding:
// nvcc runs with -fmad=false and g++ with -ffp-contract=off. A product and a sum round twice, as in
// numpy. `fmaf` rounds once, as in cv2 (with IPP, in the x86-64 wheels).
#pragma once

#include <math.h>
#include <stddef.h>

#ifdef __CUDACC__
#define PIXEL __host__ __device__ __forceinline__
#else
#define PIXEL inline
#endif

// Bilinear resizing ---------------------------------------------------------------------------

// One axis of a bilinear sample: lerp(source[low], source[high], weight). `high` is low + 1, except
// at the end.
struct Tap {
    int low;
    int high;
    float weight;
};

// Half-pixel: (target + 1/2) * source_size / target_size - 1/2, clamped to the first and
// last pixel.
//
// Computed in integers: a float coordinate has too few bits for its fraction, and doubles are slow
// on all but data-centre GPUs. Sizes must be below 2^15.
PIXEL Tap make_tap(int target, int target_size, int source_size) {
    const int denominator = 2 * target_size;
    const int numerator = (2 * target + 1) * source_size - target_size;
    const int last = source_size - 1;
    if (numerator <= 0) return {0, last > 0 ? 1 : 0, 0.0f};
    const int low = numerator / denominator;
    if (low >= last) return {last, last, 0.0f};
    const int rest = numerator - low * denominator;
    return {low, low + 1, static_cast<float>(rest) / static_cast<float>(denominator)};
}

PIXEL float lerp(float low, float high, float weight) { return fmaf(weight, high - low, low); }

// Frame -> net input --------------------------------------------------------------------------

enum ColorOrder { RGB = 0, BGR = 1, GRAY = 2 };

// Value of an RGB pixel in one channel of the net. Gray as in cv2: luma in 15-bit fixed point.
PIXEL float channel_value(const unsigned char* pixel, int order, int channel) {
    if (order == GRAY) {
        return static_cast<float>((9798 * pixel[0] + 19235 * pixel[1] + 3735 * pixel[2] + 16384) >>
                                  15);
    }
    return static_cast<float>(pixel[order == BGR ? 2 - channel : channel]);
}

// Between four values, first along rows, as in cv2.
PIXEL float bilinear(float upper_low, float upper_high, float lower_low, float lower_high,
                     float row, float column) {
    return lerp(lerp(upper_low, upper_high, column), lerp(lower_low, lower_high, column), row);
}

// One channel of a frame (H, W, 3), interpolated between four pixels.
PIXEL float sample(const unsigned char* frame, int width, Tap row, Tap column, int order,
                   int channel) {
    const unsigned char* upper = frame + static_cast<size_t>(3 * row.low) * width;
    const unsigned char* lower = frame + static_cast<size_t>(3 * row.high) * width;
    return bilinear(channel_value(upper + 3 * column.low, order, channel),
                    channel_value(upper + 3 * column.high, order, channel),
                    channel_value(lower + 3 * column.low, order, channel),
                    channel_value(lower + 3 * column.high, order, channel), row.weight,
                    column.weight);
}

// Resampling by tables: each pass is a weighted sum of source pixels.

// Weights of byte filters are in units of 2^-22, as Pillow's.
constexpr int FRACTION_BITS = 22;

PIXEL float add(float sum, float weight, float value) { return fmaf(weight, value, sum); }
PIXEL int add(int sum, int weight, int value) { return sum + weight * value; }

// The result of a pass. Byte filters round it, halves up, and clip it.
PIXEL float end_pass(float sum) { return sum; }
PIXEL int end_pass(int sum) {
    const int value = (sum + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

// Logits -> class -----------------------------------------------------------------------------

// The best class of a pixel so far. `sum` adds exp(logit - best) over the classes seen. It starts
// at 1, so that a class without rivals gets confidence 1.
struct Contest {
    float best;
    float sum;
    int winner;
};

PIXEL Contest open_contest(int first) { return {-INFINITY, 1.0f, first}; }

// Classes enter in ascending order, so the lower id wins between equal logits.
template <bool CONFIDENCE>
PIXEL void enter(Contest& contest, float logit, int id) {
    const bool better = logit > contest.best;
    if (CONFIDENCE) {
        const float share = expf(-fabsf(logit - contest.best));
        contest.sum = better ? contest.sum * share + 1.0f : contest.sum + share;
    }
    contest.best = better ? logit : contest.best;
    contest.winner = better ? id : contest.winner;
}

// Softmax of the winner; 255 means 1.
PIXEL unsigned char confidence_of(const Contest& contest) {
    return static_cast<unsigned char>(rintf(255.0f / contest.sum));
}

// Overlay -------------------------------------------------------------------------------------

// As cv2.addWeighted, which rounds the product of the tint first, then the sum.
PIXEL unsigned char blend(unsigned char value, unsigned char tint, float keep, float opacity) {
    const float mixed = rintf(fmaf(value, keep, tint * opacity));
    return static_cast<unsigned char>(fminf(fmaxf(mixed, 0.0f), 255.0f));
}
