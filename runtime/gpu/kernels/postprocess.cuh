// Logits -> class ids and confidence, in one pass. Sizes are in pixels, arrays are contiguous. See
// launch.py.
#pragma once

#include <string.h>

#include "memory.cuh"
#include "pixels.cuh"

namespace {

constexpr int ROWS = 2;   // rows a thread: four need registers and halve the threads
constexpr int AHEAD = 2;  // classes whose logits are loaded before the first of them is compared

struct Thresholds {
    float of[MAX_CLASSES];
};

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

// Four logits as they were loaded. They stay words until they are compared: halves would be
// unpacked, and so waited for, before the next row is loaded.
template <typename T>
using Words = Pack<unsigned, QUAD * sizeof(T) / sizeof(unsigned), QUAD * sizeof(T)>;

// Logits of the mask's own size. There is little arithmetic here, so memory speed is the limit.
// WHOLE: one load a row.
template <bool WHOLE, typename T>
__device__ void load_tile(Words<T> (&loaded)[ROWS], const T* __restrict__ plane, int stride,
                          const Tile& tile) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const T* row = plane + min(tile.y + r, tile.height - 1) * stride;
        if constexpr (WHOLE) {
            loaded[r] = *reinterpret_cast<const Words<T>*>(row + tile.x);
        } else {
            Quad<T> values;
#pragma unroll
            for (int i = 0; i < QUAD; ++i) values.of[i] = row[min(tile.x + i, tile.width - 1)];
            memcpy(&loaded[r], &values, sizeof(values));
        }
    }
}

template <bool CONFIDENCE, typename T>
__device__ void enter_tile(Contest (&contests)[ROWS][QUAD], const Words<T> (&loaded)[ROWS],
                           int id) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        Quad<T> values;
        memcpy(&values, &loaded[r], sizeof(values));
#pragma unroll
        for (int i = 0; i < QUAD; ++i)
            enter<CONFIDENCE>(contests[r][i], as_float(values.of[i]), id);
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

// All open classes of one frame from `first` on. Loads of one class take longer than its
// comparisons, so those of AHEAD classes are on their way.
template <bool CONFIDENCE, bool WHOLE, typename T>
__device__ void hold_contests(Contest (&contests)[ROWS][QUAD], const T* __restrict__ planes,
                              const Gate& gate, const Thresholds& thresholds, int first,
                              const Sizes& sizes, const Tile& tile) {
    const size_t plane = static_cast<size_t>(sizes.height) * sizes.width;
    constexpr int ahead = WHOLE ? AHEAD : 1;
    Words<T> loaded[ahead][ROWS];
    int ids[ahead];
    int next = first;
    const auto load_next = [&](int place) {
        ids[place] = next;
        if (next >= gate.classes) return;
        load_tile<WHOLE, T>(loaded[place], planes + next * plane, sizes.width, tile);
        next = next_open(gate, thresholds, next + 1);
    };
#pragma unroll
    for (int i = 0; i < ahead; ++i) load_next(i);
    while (true) {
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
            if (ids[i] >= gate.classes) return;
            enter_tile<CONFIDENCE, T>(contests, loaded[i], ids[i]);
            load_next(i);
        }
    }
}

// The same for logits of another size than the mask's.
template <bool CONFIDENCE, typename T>
__device__ void hold_resampled_contests(Contest (&contests)[ROWS][QUAD],
                                        const T* __restrict__ planes, const Gate& gate,
                                        const Thresholds& thresholds, int first, const Sizes& sizes,
                                        const Divisors& divisors, const Tile& tile) {
    const size_t plane = static_cast<size_t>(sizes.height) * sizes.width;
    Tap rows[ROWS];
    Tap columns[QUAD];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        rows[r] = make_tap(min(tile.y + r, tile.height - 1), tile.height, sizes.covered_height,
                           divisors.rows);
    }
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        columns[i] = make_tap(min(tile.x + i, tile.width - 1), tile.width, sizes.covered_width,
                              divisors.columns);
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
                            const Thresholds& thresholds, const Sizes& sizes,
                            const Divisors& divisors) {
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
        if (sizes.covered_height != tile.height || sizes.covered_width != tile.width) {
            hold_resampled_contests<CONFIDENCE>(contests, planes, gate, thresholds, first, sizes,
                                                divisors, tile);
        } else if (tile.x + QUAD <= tile.width && sizes.width % QUAD == 0 &&
                   is_aligned(planes, sizeof(Quad<T>))) {  // then all rows of all planes are
            hold_contests<CONFIDENCE, true>(contests, planes, gate, thresholds, first, sizes, tile);
        } else {
            hold_contests<CONFIDENCE, false>(contests, planes, gate, thresholds, first, sizes,
                                             tile);
        }
    }

    const size_t frame = static_cast<size_t>(blockIdx.z) * tile.height * tile.width;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (tile.y + r >= tile.height) break;
        const size_t at = frame + static_cast<size_t>(tile.y + r) * tile.width + tile.x;
        Quad<unsigned char> values;
#pragma unroll
        for (int i = 0; i < QUAD; ++i)
            values.of[i] = static_cast<unsigned char>(contests[r][i].winner);
        store_quad(masks + at, values, tile.width - tile.x);
        if (CONFIDENCE) {
#pragma unroll
            for (int i = 0; i < QUAD; ++i) values.of[i] = confidence_of(contests[r][i]);
            store_quad(confidences + at, values, tile.width - tile.x);
        }
    }
}

}  // namespace
