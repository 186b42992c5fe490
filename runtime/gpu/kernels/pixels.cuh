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

// Divides without a division by a number that the host knows, from 1 to 2^16: see `_divisors` in
// launch.py.
//
// multiplier, shift: 2^(31 + bits) / number, rounded up, and bits - 1, where 2^bits is the first
// power of two that is not below the number. inverse: 1 / number.
struct Divisor {
    unsigned multiplier;
    int shift;
    float inverse;
};

// Of twice the target's height and width.
struct Divisors {
    Divisor rows;
    Divisor columns;
};

PIXEL unsigned multiply_high(unsigned one, unsigned other) {
    return static_cast<unsigned>(static_cast<unsigned long long>(one) * other >> 32);
}

// floor(numerator / number), for 0 <= numerator < 2^31. The multiplier is too large by less than 1,
// so the quotient by less than numerator / 2^(31 + bits) < 1 / number, which never reaches the next
// integer.
PIXEL int divide(int numerator, const Divisor& divisor) {
    return static_cast<int>(multiply_high(static_cast<unsigned>(numerator), divisor.multiplier) >>
                            divisor.shift);
}

// rest / number, rounded as IEEE asks, for 0 <= rest <= number. What the first quotient leaves
// takes fewer than 24 bits, so `left` is exact, and the sum is right to 2^-45 before it is rounded.
// The quotient of two integers up to 2^16 is never that close to the middle between two floats.
PIXEL float fraction(int rest, int number, const Divisor& divisor) {
    const float quotient = static_cast<float>(rest) * divisor.inverse;
    const float left = fmaf(-quotient, static_cast<float>(number), static_cast<float>(rest));
    return fmaf(left, divisor.inverse, quotient);
}

// One axis of a bilinear sample: lerp(source[low], source[high], weight).
struct Tap {
    int low;
    int high;
    float weight;
};

// Half-pixel: (target + 1/2) * source_size / target_size - 1/2, clamped to the first and last
// pixel, and `low` to `most` in addition. `target` may lie outside, by up to 4.
//
// Computed in integers: a float coordinate has too few bits for its fraction, and doubles are slow
// on all but data-centre GPUs. Sizes are at most 32,000. `divisor` divides by 2 * target_size.
PIXEL Tap make_tap_up_to(int most, int target, int target_size, int source_size,
                         const Divisor& divisor) {
    const int denominator = 2 * target_size;
    const int last = source_size - 1;
    const int centre = (2 * target + 1) * source_size - target_size;
    const int numerator = min(max(centre, 0), last * denominator);
    const int low = min(divide(numerator, divisor), most);
    const int rest = numerator - low * denominator;
    return {low, min(low + 1, last), fraction(rest, denominator, divisor)};
}

// At the end, `low` and `high` are both the last pixel, with a weight of 0.
PIXEL Tap make_tap(int target, int target_size, int source_size, const Divisor& divisor) {
    return make_tap_up_to(source_size - 1, target, target_size, source_size, divisor);
}

// At the end, they are the last two pixels, with a weight of 1: `high` is low + 1 everywhere. Equal
// to `make_tap` for integers, whose differences are exact. There must be two pixels.
PIXEL Tap make_pair(int target, int target_size, int source_size, const Divisor& divisor) {
    return make_tap_up_to(source_size - 2, target, target_size, source_size, divisor);
}

PIXEL float lerp(float low, float high, float weight) { return fmaf(weight, high - low, low); }

// Frame -> net input --------------------------------------------------------------------------

// The luma of an RGB pixel as in cv2: in 15-bit fixed point.
PIXEL float luma_of(const unsigned char* pixel) {
    return static_cast<float>((9798 * pixel[0] + 19235 * pixel[1] + 3735 * pixel[2] + 16384) >> 15);
}

// Between four values, first along rows, as in cv2.
PIXEL float bilinear(float upper_low, float upper_high, float lower_low, float lower_high,
                     float row, float column) {
    return lerp(lerp(upper_low, upper_high, column), lerp(lower_low, lower_high, column), row);
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

// Video -> RGB --------------------------------------------------------------------------------

// Where samples of chroma lie: in the middle of their 2 x 2 pixels, or beside the first of them.
struct Siting {
    int rows_centred;
    int columns_centred;
};

// The luma of black, and factors of luma and of the two planes of chroma, in units of 2^-20 and of
// 2^-24: see `_colours` in surfaces.py.
struct Colours {
    Siting siting;
    int black;
    int luma;
    int v_in_red;
    int u_in_green;
    int v_in_green;
    int u_in_blue;
};

// U and V, in units of 1/16.
struct Chroma {
    int u;
    int v;
};

// The two samples that a pixel lies between, in a row or a column, and four times the near one's
// weight.
struct ChromaTap {
    int near;
    int far;
    int weight;
};

PIXEL ChromaTap make_chroma_tap(int pixel, int samples, int centred) {
    const int near = pixel / 2, odd = pixel % 2;
    const int far = centred != 0 && odd == 0 ? near - 1 : near + 1;
    return {near, min(max(far, 0), samples - 1), centred != 0 ? 3 : 4 - 2 * odd};
}

PIXEL int mix(int near, int beside, int below, int across, const ChromaTap& rows,
              const ChromaTap& columns) {
    return rows.weight * (columns.weight * near + (4 - columns.weight) * beside) +
           (4 - rows.weight) * (columns.weight * below + (4 - columns.weight) * across);
}

PIXEL unsigned char rounded(int value) {
    const int level = (value + (1 << 19)) >> 20;
    return static_cast<unsigned char>(level < 0 ? 0 : level > 255 ? 255 : level);
}

// Sums stay below 2^30 in every colour space.
PIXEL void store_rgb(unsigned char* target, int luma, const Chroma& chroma,
                     const Colours& colours) {
    const int gray = (luma - colours.black) * colours.luma;
    const int u = chroma.u - 16 * 128, v = chroma.v - 16 * 128;
    target[0] = rounded(gray + v * colours.v_in_red);
    target[1] = rounded(gray - u * colours.u_in_green - v * colours.v_in_green);
    target[2] = rounded(gray + u * colours.u_in_blue);
}
