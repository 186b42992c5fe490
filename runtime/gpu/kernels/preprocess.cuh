// Frames -> the net's input: resize, place and normalise in one pass. Sizes are in pixels, arrays
// are contiguous. See launch.py.
#pragma once

#include "memory.cuh"
#include "pixels.cuh"

namespace {

constexpr int COLOURS = 3;  // of a frame of bytes, in the order red, green, blue

// Tables are passed by value: they lie in constant memory, and no call waits for a copy.
struct Scaling {
    float gain[COLOURS];
    float shift[COLOURS];
    float padding[COLOURS];  // what lies outside of the frame
    int plane[COLOURS];      // where a colour is in the net's input
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

__device__ bool is_within(int index, int size) {
    return static_cast<unsigned>(index) < static_cast<unsigned>(size);
}

// Where an item of an array is. Its number and size are of 32 bits, as a frame's bytes are: GPUs
// have one instruction for such a product, and need several for one of 64 bits.
template <typename T>
__device__ T* item(T* first, unsigned number, unsigned size) {
    return first + static_cast<size_t>(number) * size;
}

__device__ void load(const unsigned char* pixel, float (&values)[COLOURS]) {
#pragma unroll
    for (int c = 0; c < COLOURS; ++c) values[c] = static_cast<float>(pixel[c]);
}
__device__ void load(const unsigned char* pixel, float (&values)[1]) { values[0] = luma_of(pixel); }

// Two pixels side by side.
template <int COUNT>
__device__ void load_pair(const unsigned char* pixel, float (&left)[COUNT], float (&right)[COUNT]) {
    load(pixel, left);
    load(pixel + COLOURS, right);
}

// Frames (H, W, 3) of bytes, W at least 2, with four pixels of a row a thread. COUNT: of the net's
// channels, 3 colours or the luma.
template <int COUNT, typename T>
__device__ void preprocess(const unsigned char* __restrict__ frames, T* __restrict__ images,
                           const Place& place, const Divisors& divisors, const Scaling& scaling) {
    const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * QUAD;
    const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= place.width || y >= place.height) return;
    float values[COUNT][QUAD];
#pragma unroll
    for (int c = 0; c < COUNT; ++c) {
#pragma unroll
        for (int i = 0; i < QUAD; ++i) values[c][i] = scaling.padding[c];
    }

    const int row = y - place.top;
    const int first = x - place.left;
    if (is_within(row, place.fitted_height) && first < place.fitted_width && first + QUAD > 0) {
        const Tap tap = make_tap(row, place.fitted_height, place.frame_height, divisors.rows);
        const unsigned stride = COLOURS * place.frame_width;
        const unsigned char* frame = item(frames, blockIdx.z, stride * place.frame_height);
        const unsigned char* upper = item(frame, tap.low, stride);
        const unsigned char* lower = item(frame, tap.high, stride);
#pragma unroll
        for (int i = 0; i < QUAD; ++i) {
            const bool covered = is_within(first + i, place.fitted_width);
            const Tap column =
                make_pair(first + i, place.fitted_width, place.frame_width, divisors.columns);
            float corners[4][COUNT];
            load_pair(item(upper, column.low, COLOURS), corners[0], corners[1]);
            load_pair(item(lower, column.low, COLOURS), corners[2], corners[3]);
#pragma unroll
            for (int c = 0; c < COUNT; ++c) {
                const float value = bilinear(corners[0][c], corners[1][c], corners[2][c],
                                             corners[3][c], tap.weight, column.weight);
                if (covered) values[c][i] = value * scaling.gain[c] + scaling.shift[c];
            }
        }
    }

    const unsigned plane = place.height * place.width;
    T* image = images + (y * place.width + x);
#pragma unroll
    for (int c = 0; c < COUNT; ++c) {
        Quad<T> quad;
#pragma unroll
        for (int i = 0; i < QUAD; ++i) assign(quad.of[i], values[c][i]);
        store_quad(item(image, blockIdx.z * COUNT + scaling.plane[c], plane), quad,
                   place.width - x);
    }
}

// A channel of a pixel; gray is computed from 8-bit RGB only.
template <typename F>
__device__ float value_at(const F* pixel, int place, bool) {
    return static_cast<float>(pixel[place]);
}
__device__ float value_at(const unsigned char* pixel, int place, bool luma) {
    return luma ? luma_of(pixel) : static_cast<float>(pixel[place]);
}

// Frames (H, W, frame_channels) of any depth and size, with a pixel a thread.
template <typename F, typename T>
__device__ void preprocess_channels(const F* __restrict__ frames, T* __restrict__ images,
                                    const Place& place, const Divisors& divisors,
                                    int frame_channels, bool luma, int channels,
                                    const Channels& table) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= place.width || y >= place.height) return;
    const int row = y - place.top;
    const int column = x - place.left;
    const bool covered =
        is_within(row, place.fitted_height) && is_within(column, place.fitted_width);
    const Tap vertical =
        make_tap(covered ? row : 0, place.fitted_height, place.frame_height, divisors.rows);
    const Tap horizontal =
        make_tap(covered ? column : 0, place.fitted_width, place.frame_width, divisors.columns);
    const size_t stride = static_cast<size_t>(frame_channels) * place.frame_width;
    const F* frame = frames + blockIdx.z * stride * place.frame_height;
    const F* upper = frame + vertical.low * stride;
    const F* lower = frame + vertical.high * stride;
    const int low = horizontal.low * frame_channels;
    const int high = horizontal.high * frame_channels;
    const size_t plane = static_cast<size_t>(place.height) * place.width;
    T* image = images + blockIdx.z * channels * plane + static_cast<size_t>(y) * place.width + x;
    for (int channel = 0; channel < channels; ++channel) {
        float value = table.padding[channel];
        if (covered) {
            const int at = table.place[channel];
            value = bilinear(value_at(upper + low, at, luma), value_at(upper + high, at, luma),
                             value_at(lower + low, at, luma), value_at(lower + high, at, luma),
                             vertical.weight, horizontal.weight);
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
    if (!is_within(row, place.fitted_height) || !is_within(column, place.fitted_width)) {
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

}  // namespace
