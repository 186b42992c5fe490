// Pre- and post-processing, in one pass each. Sizes are in pixels, arrays are contiguous. See
// launch.py.
#ifdef __CUDACC__  // the tests' host build has its own __half
#include <cuda_fp16.h>
#endif

#include "pixels.cuh"

namespace {

constexpr int QUAD = 4;           // adjacent pixels a thread: one store
constexpr int ROWS = 2;           // rows a thread: four need registers and halve the threads
constexpr int MAX_CLASSES = 256;  // masks are 8 bit
constexpr int MAX_CHANNELS = 64;  // of the net's input

// Tables are passed by value: they lie in constant memory, and no call waits for a copy.
struct Scaling {
    float gain[3];
    float shift[3];
    float padding[3];  // what lies outside of the frame
};

// The same for any channels. place: where each one of the net's is in a pixel of the frame.
struct Channels {
    float gain[MAX_CHANNELS];
    float shift[MAX_CHANNELS];
    float padding[MAX_CHANNELS];
    int place[MAX_CHANNELS];
};

// Sizes of a frame, of the net's input and of the frame within it, and where that begins.
struct Place {
    int frame_height;
    int frame_width;
    int height;
    int width;
    int fitted_height;
    int fitted_width;
    int top;
    int left;
};

struct Thresholds {
    float of[MAX_CLASSES];
};

struct Palette {
    unsigned char of[MAX_CLASSES][3];
};

// Loaded and stored as one vector.
template <typename T, int COUNT, int ALIGNMENT>
struct alignas(ALIGNMENT) Pack {
    T of[COUNT];
};

template <typename T>
using Quad = Pack<T, QUAD, QUAD * sizeof(T)>;

__device__ bool is_aligned(const void* address, size_t bytes) {
    return reinterpret_cast<size_t>(address) % bytes == 0;
}

__device__ float as_float(float value) { return value; }
__device__ float as_float(__half value) { return __half2float(value); }
__device__ void assign(float& target, float value) { target = value; }
__device__ void assign(__half& target, float value) { target = __float2half_rn(value); }

// Where a pixel of the net's input comes from.
struct Origin {
    bool covered;  // by the frame
    Tap row;
    Tap column;
};

__device__ Origin make_origin(int x, int y, const Place& place) {
    const int row = y - place.top;
    const int column = x - place.left;
    if (row < 0 || row >= place.fitted_height || column < 0 || column >= place.fitted_width) {
        return {false, {0, 0, 0.0f}, {0, 0, 0.0f}};
    }
    return {true, make_tap(row, place.fitted_height, place.frame_height),
            make_tap(column, place.fitted_width, place.frame_width)};
}

template <typename T>
__device__ void preprocess(const unsigned char* __restrict__ frames, T* __restrict__ images,
                           const Place& place, int order, const Scaling& scaling) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= place.width || y >= place.height) return;
    const Origin origin = make_origin(x, y, place);
    const unsigned char* frame =
        frames + static_cast<size_t>(blockIdx.z) * 3 * place.frame_height * place.frame_width;
    const int channels = order == GRAY ? 1 : 3;
    const size_t plane = static_cast<size_t>(place.height) * place.width;
    T* image = images + blockIdx.z * channels * plane + static_cast<size_t>(y) * place.width + x;
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        if (channel >= channels) break;
        float value = scaling.padding[channel];
        if (origin.covered) {
            value = sample(frame, place.frame_width, origin.row, origin.column, order, channel);
            value = value * scaling.gain[channel] + scaling.shift[channel];
        }
        assign(image[channel * plane], value);
    }
}

// Frames (H, W, frame_channels) of any depth.
template <typename F, typename T>
__device__ void preprocess_channels(const F* __restrict__ frames, T* __restrict__ images,
                                    const Place& place, int frame_channels, int channels,
                                    const Channels& table) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= place.width || y >= place.height) return;
    const Origin origin = make_origin(x, y, place);
    const size_t frame_row = static_cast<size_t>(frame_channels) * place.frame_width;
    const F* frame = frames + blockIdx.z * frame_row * place.frame_height;
    const F* upper = frame + origin.row.low * frame_row;
    const F* lower = frame + origin.row.high * frame_row;
    const int low = origin.column.low * frame_channels;
    const int high = origin.column.high * frame_channels;
    const size_t plane = static_cast<size_t>(place.height) * place.width;
    T* image = images + blockIdx.z * channels * plane + static_cast<size_t>(y) * place.width + x;
    for (int channel = 0; channel < channels; ++channel) {
        float value = table.padding[channel];
        if (origin.covered) {
            const int at = table.place[channel];
            value = bilinear(upper[low + at], upper[high + at], lower[low + at], lower[high + at],
                             origin.row.weight, origin.column.weight);
            value = value * table.gain[channel] + table.shift[channel];
        }
        assign(image[channel * plane], value);
    }
}

// Tables of a filter, one after the other, all of 32 bit: the first source row of each of `height`
// rows, the first source column of each of `width` columns, (height, row_taps) weights of rows, and
// (column_taps, width) weights of columns. Threads side by side read weights side by side.
struct Tables {
    const int* at;
    int row_taps;
    int column_taps;
    int rows_first;
};

// One pass for one output pixel: `count` weights, and the steps from one to the next and from one
// source pixel to the next.
template <typename Weight>
struct Pass {
    const Weight* weights;
    int count;
    int weight_step;
    int pixel_step;
};

// A channel of a pixel; gray is computed from 8-bit RGB only.
template <typename F>
__device__ float value_at(const F* pixel, int place, bool) {
    return static_cast<float>(pixel[place]);
}
__device__ float value_at(const unsigned char* pixel, int place, bool luma) {
    return luma ? channel_value(pixel, GRAY, 0) : static_cast<float>(pixel[place]);
}

// Frames (H, W, frame_channels) by tables, whose weights are floats, or integers for byte filters.
// Both passes run at once: what the first one sums up for an output pixel, its neighbours sum up
// again, but no buffer lies between the passes.
template <typename Weight, typename F, typename T>
__device__ void resample(const F* __restrict__ frames, T* __restrict__ images, const Place& place,
                         const Tables& tables, int frame_channels, bool luma, int channels,
                         const Channels& table) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= place.width || y >= place.height) return;
    const size_t plane = static_cast<size_t>(place.height) * place.width;
    T* image = images + blockIdx.z * channels * plane + static_cast<size_t>(y) * place.width + x;
    const int row = y - place.top;
    const int column = x - place.left;
    if (row < 0 || row >= place.fitted_height || column < 0 || column >= place.fitted_width) {
        for (int channel = 0; channel < channels; ++channel) {
            assign(image[channel * plane], table.padding[channel]);
        }
        return;
    }
    const int* first_columns = tables.at + place.fitted_height;
    const Weight* weights = reinterpret_cast<const Weight*>(first_columns + place.fitted_width);
    const Pass<Weight> rows = {weights + row * tables.row_taps, tables.row_taps, 1,
                               frame_channels * place.frame_width};
    const Pass<Weight> columns = {weights + place.fitted_height * tables.row_taps + column,
                                  tables.column_taps, place.fitted_width, frame_channels};
    const Pass<Weight> inner = tables.rows_first != 0 ? rows : columns;
    const Pass<Weight> outer = tables.rows_first != 0 ? columns : rows;
    const size_t first_row = static_cast<size_t>(blockIdx.z) * place.frame_height + tables.at[row];
    const F* corner =
        frames + (first_row * place.frame_width + first_columns[column]) * frame_channels;
    for (int channel = 0; channel < channels; ++channel) {
        Weight sum = 0;
        for (int i = 0; i < outer.count; ++i) {
            const F* pixel = corner + static_cast<size_t>(i) * outer.pixel_step;
            Weight part = 0;
            for (int j = 0; j < inner.count; ++j, pixel += inner.pixel_step) {
                const float value = value_at(pixel, table.place[channel], luma);
                part = add(part, inner.weights[j * inner.weight_step], static_cast<Weight>(value));
            }
            sum = add(sum, outer.weights[i * outer.weight_step], end_pass(part));
        }
        const float value = static_cast<float>(end_pass(sum));
        assign(image[channel * plane], value * table.gain[channel] + table.shift[channel]);
    }
}

// The pixels of one post-processing thread: QUAD columns from x on, ROWS rows from y on.
struct Tile {
    int x;
    int y;
    int height;
    int width;
};

// One row of logits at the columns of a tile.
template <typename T>
__device__ void resample_row(const T* __restrict__ row, const Tap (&columns)[QUAD],
                             float (&values)[QUAD]) {
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        values[i] =
            lerp(as_float(row[columns[i].low]), as_float(row[columns[i].high]), columns[i].weight);
    }
}

// Logits of the mask's own size, with one vector load a row. There is little arithmetic here, so
// memory speed is the limit.
template <bool CONFIDENCE, typename T>
__device__ void enter_plane(Contest (&contests)[ROWS][QUAD], const T* __restrict__ plane,
                            int stride, const Tile& tile, int id) {
    const bool whole =
        tile.x + QUAD <= tile.width && stride % QUAD == 0 && is_aligned(plane, sizeof(Quad<T>));
    Quad<T> loaded[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const T* row = plane + min(tile.y + r, tile.height - 1) * stride;
        if (whole) {
            loaded[r] = *reinterpret_cast<const Quad<T>*>(row + tile.x);
        } else {
#pragma unroll
            for (int i = 0; i < QUAD; ++i) loaded[r].of[i] = row[min(tile.x + i, tile.width - 1)];
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int i = 0; i < QUAD; ++i)
            enter<CONFIDENCE>(contests[r][i], as_float(loaded[r].of[i]), id);
    }
}

// Logits of another size. A row that two mask rows share is resampled once. `step` is the same in
// the whole warp, so the branch does not diverge.
template <bool CONFIDENCE, typename T>
__device__ void enter_resampled_plane(Contest (&contests)[ROWS][QUAD], const T* __restrict__ plane,
                                      int stride, const Tap (&rows)[ROWS],
                                      const Tap (&columns)[QUAD], int id) {
    float above[QUAD];
    float below[QUAD];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const Tap& row = rows[r];
        const int step = r == 0 ? 2 : row.low - rows[r - 1].low;
        if (step != 0) {
            if (step == 1) {
#pragma unroll
                for (int i = 0; i < QUAD; ++i) above[i] = below[i];
            } else {
                resample_row(plane + row.low * stride, columns, above);
            }
            resample_row(plane + row.high * stride, columns, below);
        }
#pragma unroll
        for (int i = 0; i < QUAD; ++i) {
            enter<CONFIDENCE>(contests[r][i], lerp(above[i], below[i], row.weight), id);
        }
    }
}

__device__ void store_quad(unsigned char* __restrict__ plane, const Quad<unsigned char>& values,
                           const Tile& tile, int y) {
    unsigned char* target = plane + static_cast<size_t>(y) * tile.width + tile.x;
    if (tile.x + QUAD <= tile.width && is_aligned(target, QUAD)) {
        *reinterpret_cast<Quad<unsigned char>*>(target) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        if (tile.x + i < tile.width) target[i] = values.of[i];
    }
}

// The gate's output for one frame. Without presence every class is open.
struct Gate {
    const void* presence;
    size_t offset;
    bool is_half;
    int classes;
};

__device__ bool is_open(const Gate& gate, const Thresholds& thresholds, int id) {
    if (gate.presence == nullptr) return true;
    const size_t index = gate.offset + id;
    const float presence = gate.is_half ? as_float(static_cast<const __half*>(gate.presence)[index])
                                        : static_cast<const float*>(gate.presence)[index];
    return presence >= thresholds.of[id];
}

// The first open class from `id` on, or the number of classes. A warp does not diverge here.
__device__ int next_open(const Gate& gate, const Thresholds& thresholds, int id) {
    while (id < gate.classes && !is_open(gate, thresholds, id)) ++id;
    return id;
}

// Sizes of a frame's logits, of the part of them that covers the frame, and of its mask.
struct Sizes {
    int height;
    int width;
    int covered_height;
    int covered_width;
    int mask_height;
    int mask_width;
};

// All open classes of one frame from `first` on.
template <bool CONFIDENCE, typename T>
__device__ void hold_contests(Contest (&contests)[ROWS][QUAD], const T* __restrict__ planes,
                              const Gate& gate, const Thresholds& thresholds, int first,
                              const Sizes& sizes, const Tile& tile) {
    const size_t plane = static_cast<size_t>(sizes.height) * sizes.width;
    if (sizes.covered_height == tile.height && sizes.covered_width == tile.width) {
        for (int id = first; id < gate.classes; id = next_open(gate, thresholds, id + 1)) {
            enter_plane<CONFIDENCE>(contests, planes + id * plane, sizes.width, tile, id);
        }
        return;
    }
    Tap rows[ROWS];
    Tap columns[QUAD];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        rows[r] = make_tap(min(tile.y + r, tile.height - 1), tile.height, sizes.covered_height);
    }
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        columns[i] = make_tap(min(tile.x + i, tile.width - 1), tile.width, sizes.covered_width);
    }
    for (int id = first; id < gate.classes; id = next_open(gate, thresholds, id + 1)) {
        enter_resampled_plane<CONFIDENCE>(contests, planes + id * plane, sizes.width, rows, columns,
                                          id);
    }
}

template <bool CONFIDENCE, typename T>
__device__ void postprocess(const T* __restrict__ logits, const int* __restrict__ rows,
                            unsigned char* __restrict__ masks,
                            unsigned char* __restrict__ confidences, const Gate& gate,
                            const Thresholds& thresholds, const Sizes& sizes) {
    const Tile tile = {static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * QUAD,
                       static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y) * ROWS,
                       sizes.mask_height, sizes.mask_width};
    if (tile.x >= tile.width || tile.y >= tile.height) return;

    int first = next_open(gate, thresholds, 0);
    const bool contested = next_open(gate, thresholds, first + 1) < gate.classes;
    if (first == gate.classes) first = 0;  // all closed: the background
    Contest contests[ROWS][QUAD];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int i = 0; i < QUAD; ++i) contests[r][i] = open_contest(first);
    }
    const int row = rows == nullptr ? static_cast<int>(blockIdx.z) : rows[blockIdx.z];
    if (contested && row >= 0) {  // else only one class is left, whatever its logits
        const T* planes =
            logits + static_cast<size_t>(row) * gate.classes * sizes.height * sizes.width;
        hold_contests<CONFIDENCE>(contests, planes, gate, thresholds, first, sizes, tile);
    }

    const size_t frame = static_cast<size_t>(blockIdx.z) * tile.height * tile.width;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (tile.y + r >= tile.height) break;
        Quad<unsigned char> values;
#pragma unroll
        for (int i = 0; i < QUAD; ++i)
            values.of[i] = static_cast<unsigned char>(contests[r][i].winner);
        store_quad(masks + frame, values, tile, tile.y + r);
        if (CONFIDENCE) {
#pragma unroll
            for (int i = 0; i < QUAD; ++i) values.of[i] = confidence_of(contests[r][i]);
            store_quad(confidences + frame, values, tile, tile.y + r);
        }
    }
}

}  // namespace

// A kernel for each type of the net's inputs and outputs ----------------------------------------

#define PREPROCESS(NAME, T)                                                                  \
    extern "C" __global__ void NAME(const unsigned char* frames, T* images, const Place place, \
                                    int order, const Scaling scaling) {                      \
        preprocess(frames, images, place, order, scaling);                                   \
    }

#define PREPROCESS_CHANNELS(NAME, F, T)                                                \
    extern "C" __global__ void NAME(const F* frames, T* images, const Place place,     \
                                    int frame_channels, int channels,                  \
                                    const Channels table) {                            \
        preprocess_channels(frames, images, place, frame_channels, channels, table);   \
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
                                    const Thresholds thresholds) {                          \
        const Gate gate = {presence, static_cast<size_t>(blockIdx.z) * classes,             \
                           presence_is_half != 0, classes};                                 \
        postprocess<CONFIDENCE>(logits, rows, masks, confidences, gate, thresholds, sizes); \
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
