// Frames -> the net's input: resize, place and normalise in one pass. Sizes are in pixels, arrays
// are contiguous. See launch.py.
#pragma once

#include "memory.cuh"
#include "pixels.cuh"

namespace {

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

}  // namespace
