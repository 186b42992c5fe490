// A decoder's surface -> an upright RGB frame.
#pragma once

#include "pixels.cuh"

// A surface in NV12: a plane of luma (height, width), then one of U and V side by side, each for
// 2 x 2 pixels. Pitches are bytes from one row to the next. Sides are even.
struct Surface {
    const unsigned char* luma;
    const unsigned char* chroma;
    int luma_pitch;
    int chroma_pitch;
    int height;
    int width;
};

// How a surface becomes upright: rows and columns are swapped first, then turned round.
struct Turn {
    int swapped;
    int down;
    int across;
};

namespace {

// U and V of the pixel (row, column), bilinear. At the edges the last sample goes on.
__device__ Chroma chroma_at(const Surface& surface, int row, int column, const Siting& siting) {
    const ChromaTap rows = make_chroma_tap(row, surface.height / 2, siting.rows_centred);
    const ChromaTap columns = make_chroma_tap(column, surface.width / 2, siting.columns_centred);
    const size_t pitch = surface.chroma_pitch;
    const unsigned char* near = surface.chroma + rows.near * pitch;
    const unsigned char* far = surface.chroma + rows.far * pitch;
    const int at = 2 * columns.near, beside = 2 * columns.far;
    return {mix(near[at], near[beside], far[at], far[beside], rows, columns),
            mix(near[at + 1], near[beside + 1], far[at + 1], far[beside + 1], rows, columns)};
}

}  // namespace
