// The kernels, one for each type of the net's inputs and outputs. See launch.py.
#include "memory.cuh"
#include "pixels.cuh"
#include "postprocess.cuh"
#include "preprocess.cuh"
#include "surfaces.cuh"

#define PREPROCESS(NAME, T)                                                                     \
    extern "C" __global__ void NAME(const unsigned char* frames, T* images, const Place place,  \
                                    const Divisors divisors, int luma, const Scaling scaling) { \
        if (luma != 0) {                                                                        \
            preprocess<1>(frames, images, place, divisors, scaling);                            \
        } else {                                                                                \
            preprocess<COLOURS>(frames, images, place, divisors, scaling);                      \
        }                                                                                       \
    }

#define PREPROCESS_CHANNELS(NAME, F, T)                                                           \
    extern "C" __global__ void NAME(const F* frames, T* images, const Place place,                \
                                    const Divisors divisors, int frame_channels, int luma,        \
                                    int channels, const Channels table) {                         \
        preprocess_channels(frames, images, place, divisors, frame_channels, luma != 0, channels, \
                            table);                                                               \
    }

#define RESAMPLE(NAME, WEIGHT, F, T)                                                         \
    extern "C" __global__ void NAME(const F* frames, T* images, const Place place,           \
                                    const Tables tables, int frame_channels, int luma,       \
                                    int channels, const Channels table) {                    \
        resample<WEIGHT>(frames, images, place, tables, frame_channels, luma != 0, channels, \
                         table);                                                             \
    }

#define POSTPROCESS(NAME, T, CONFIDENCE)                                                    \
    extern "C" __global__ void NAME(const T* logits, const int* rows, const void* presence, \
                                    unsigned char* masks, unsigned char* confidences,       \
                                    int presence_is_half, int classes, const Sizes sizes,   \
                                    const Divisors divisors, const Thresholds thresholds) { \
        const Gate gate = {presence, static_cast<size_t>(blockIdx.z) * classes,             \
                           presence_is_half != 0, classes};                                 \
        postprocess<CONFIDENCE>(logits, rows, masks, confidences, gate, thresholds, sizes,  \
                                divisors);                                                  \
    }

PREPROCESS(preprocess_float32, float)
PREPROCESS(preprocess_float16, __half)
PREPROCESS_CHANNELS(preprocess_uint8_float32, unsigned char, float)
PREPROCESS_CHANNELS(preprocess_uint8_float16, unsigned char, __half)
PREPROCESS_CHANNELS(preprocess_uint16_float32, unsigned short, float)
PREPROCESS_CHANNELS(preprocess_uint16_float16, unsigned short, __half)
PREPROCESS_CHANNELS(preprocess_int16_float32, short, float)
PREPROCESS_CHANNELS(preprocess_int16_float16, short, __half)
PREPROCESS_CHANNELS(preprocess_float32_float32, float, float)
PREPROCESS_CHANNELS(preprocess_float32_float16, float, __half)
RESAMPLE(resample_bytes_float32, int, unsigned char, float)
RESAMPLE(resample_bytes_float16, int, unsigned char, __half)
RESAMPLE(resample_uint8_float32, float, unsigned char, float)
RESAMPLE(resample_uint8_float16, float, unsigned char, __half)
RESAMPLE(resample_uint16_float32, float, unsigned short, float)
RESAMPLE(resample_uint16_float16, float, unsigned short, __half)
RESAMPLE(resample_int16_float32, float, short, float)
RESAMPLE(resample_int16_float16, float, short, __half)
RESAMPLE(resample_float32_float32, float, float, float)
RESAMPLE(resample_float32_float16, float, float, __half)
POSTPROCESS(postprocess_float32, float, false)
POSTPROCESS(postprocess_float16, __half, false)
POSTPROCESS(postprocess_confidence_float32, float, true)
POSTPROCESS(postprocess_confidence_float16, __half, true)

struct Palette {
    unsigned char of[MAX_CLASSES][3];
};

// Treats frames and masks as one row of pixels, QUAD a thread. `out` may be `frames`.
extern "C" __global__ void overlay(const unsigned char* frames, const unsigned char* masks,
                                   unsigned char* out, long long pixels, float keep, float opacity,
                                   const Palette palette) {
    using Pixels = Pack<unsigned char, 3 * QUAD, QUAD>;
    const long long begin = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * QUAD;
    if (begin >= pixels) return;
    const int count = static_cast<int>(min(pixels - begin, static_cast<long long>(QUAD)));
    const unsigned char* source = frames + 3 * begin;
    unsigned char* target = out + 3 * begin;
    const bool whole = count == QUAD && is_aligned(source, QUAD) && is_aligned(target, QUAD);

    Pixels values;
    if (whole) values = *reinterpret_cast<const Pixels*>(source);
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        if (i >= count) break;
        const unsigned char* colour = palette.of[masks[begin + i]];
        const bool visible = (colour[0] | colour[1] | colour[2]) != 0;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const unsigned char value = whole ? values.of[3 * i + c] : source[3 * i + c];
            values.of[3 * i + c] = visible ? blend(value, colour[c], keep, opacity) : value;
        }
    }
    if (whole) {
        *reinterpret_cast<Pixels*>(target) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < 3 * QUAD; ++i) {
        if (i < 3 * count) target[i] = values.of[i];
    }
}

// A thread for each pixel of the upright frame, (height, width, 3) without gaps.
extern "C" __global__ void upright_rgb(unsigned char* out, const Surface surface, const Turn turn,
                                       const Colours colours) {
    const int height = turn.swapped != 0 ? surface.width : surface.height;
    const int width = turn.swapped != 0 ? surface.height : surface.width;
    const int row = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (row >= height || column >= width) return;
    const int turned_row = turn.down != 0 ? height - 1 - row : row;
    const int turned_column = turn.across != 0 ? width - 1 - column : column;
    const int y = turn.swapped != 0 ? turned_column : turned_row;
    const int x = turn.swapped != 0 ? turned_row : turned_column;
    store_rgb(out + 3 * (static_cast<size_t>(row) * width + column),
              surface.luma[static_cast<size_t>(y) * surface.luma_pitch + x],
              chroma_at(surface, y, x, colours.siting), colours);
}
