// Resizes a plane: each output pixel is a weighted sum of a few source pixels, axis by axis.
//
// The weights are those of edgeunet's `data/resize.py`, where the sources of the filters are named.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "manifest.hpp"

namespace edgeunet::detail {

/// One axis: out[i] = sum of weights[i][j] * in[start[i] + j], j < count.
struct Taps {
    int count = 1;
    std::vector<int> start;
    std::vector<float> weights;
    std::vector<std::int32_t> fixed;  ///< the same in units of 2^-22, of filters that use those

    template <typename W>
    const W* of(int index) const {
        const std::size_t at = static_cast<std::size_t>(index) * static_cast<std::size_t>(count);
        if constexpr (std::is_same_v<W, float>)
            return weights.data() + at;
        else
            return fixed.data() + at;
    }
};

constexpr int fraction_bits = 22;

inline double triangle(double x) { return std::max(1.0 - std::abs(x), 0.0); }

/// Keys' cubic with a = -0.5.
inline double cubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

/// Pixel `low` and the next one, which counts `weight`; at the end only the last one counts.
inline void add_pair(Taps& taps, std::int64_t low, double weight, int source) {
    taps.count = std::min(source, 2);
    if (source == 1) {
        taps.start.push_back(0);
        taps.weights.push_back(1.0f);
    } else if (low >= source - 1) {
        taps.start.push_back(source - 2);
        taps.weights.insert(taps.weights.end(), {0.0f, 1.0f});
    } else {
        taps.start.push_back(static_cast<int>(low));
        taps.weights.push_back(static_cast<float>(1.0 - weight));
        taps.weights.push_back(static_cast<float>(weight));
    }
}

/// Half-pixel, clamped to the axis.
inline Taps bilinear_taps(int source, int target) {
    Taps taps;
    for (std::int64_t i = 0; i < target; ++i) {
        const std::int64_t unit = 2 * std::int64_t{target}, last = source - 1;
        const std::int64_t at =
            std::clamp<std::int64_t>((2 * i + 1) * source - target, 0, unit * last);
        add_pair(taps, at / unit, static_cast<double>(at % unit) / static_cast<double>(unit),
                 source);
    }
    return taps;
}

/// As OpenCV's INTER_AREA where an axis grows: two pixels, mixed by where their border is.
inline Taps enlarged_area_taps(int source, int target) {
    Taps taps;
    const double inverse = static_cast<double>(target) / source;
    for (int i = 0; i < target; ++i) {
        const double low = std::floor(i * (1.0 / inverse));
        const double high = static_cast<float>((i + 1) - (low + 1) * inverse);
        add_pair(taps, static_cast<std::int64_t>(low), high <= 0 ? 0 : high - std::floor(high),
                 source);
    }
    return taps;
}

/// As OpenCV's INTER_AREA where both axes shrink: the pixels that an output pixel covers, those at
/// its ends by the part that it covers.
inline Taps shrunk_area_taps(int source, int target) {
    constexpr double least = 1e-3;  // OpenCV leaves out a pixel that is covered by less
    const double scale = 1.0 / (static_cast<double>(target) / source);
    struct Cover {
        int begin, end;        // whole pixels
        double before, after;  // parts of the pixels around them
        double cell;

        int first() const { return begin - (before > least); }
        int last() const { return end + (after > least); }
    };
    std::vector<Cover> covers;
    Taps taps;
    for (int i = 0; i < target; ++i) {
        const double low = i * scale, high = low + scale;
        const int end = std::min(static_cast<int>(std::floor(high)), source - 1);
        const int begin = std::min(static_cast<int>(std::ceil(low)), end);
        covers.push_back({begin, end, begin - low, high - end, std::min(scale, source - low)});
        taps.count = std::max(taps.count, covers.back().last() - covers.back().first());
    }
    for (const Cover& each : covers) {
        const int start = std::min(each.first(), source - taps.count);
        taps.start.push_back(start);
        for (int at = start; at < start + taps.count; ++at) {
            double weight = at >= each.begin && at < each.end ? 1.0 : 0.0;
            if (at == each.begin - 1 && each.before > least) {
                weight = std::min(each.before, each.cell);
            } else if (at == each.end && each.after > least) {
                weight = std::min({each.after, 1.0, each.cell});
            }
            taps.weights.push_back(static_cast<float>(weight / each.cell));
        }
    }
    return taps;
}

/// A kernel that is widened by the scale if the axis shrinks. Each step rounds as Pillow's do.
inline Taps widened_taps(double (*kernel)(double), double support, int source, int target) {
    const double scale = static_cast<double>(source) / target;
    const double widening = std::max(scale, 1.0), reach = support * widening;
    const auto centre = [scale](int i) { return (i + 0.5) * scale; };
    const auto first = [&](int i) {
        return std::max(static_cast<int>(centre(i) - reach + 0.5), 0);
    };
    const auto end = [&](int i) {
        return static_cast<int>(std::min(centre(i) + reach + 0.5, static_cast<double>(source)));
    };
    Taps taps;
    for (int i = 0; i < target; ++i) taps.count = std::max(taps.count, end(i) - first(i));
    std::vector<double> values(static_cast<std::size_t>(taps.count));
    for (int i = 0; i < target; ++i) {
        const int start = std::min(first(i), source - taps.count);
        double total = 0;
        for (int j = 0; j < taps.count; ++j) {
            const int at = start + j;
            const bool inside = at >= first(i) && at < end(i);
            const double value = kernel((at - centre(i) + 0.5) * (1.0 / widening));
            values[static_cast<std::size_t>(j)] = inside ? value : 0.0;
            total += inside ? value : 0.0;
        }
        taps.start.push_back(start);
        for (const double value : values) {
            const double weight = value / total, units = weight * (1 << fraction_bits);
            taps.weights.push_back(static_cast<float>(weight));
            taps.fixed.push_back(static_cast<std::int32_t>(units + std::copysign(0.5, units)));
        }
    }
    return taps;
}

/// grows: whether this axis or the other one does; OpenCV's area is another filter then.
inline Taps taps_for(Filter filter, int source, int target, bool grows) {
    if (source == target) {
        Taps taps;
        for (int i = 0; i < target; ++i) taps.start.push_back(i);
        taps.weights.assign(static_cast<std::size_t>(target), 1.0f);
        taps.fixed.assign(static_cast<std::size_t>(target), 1 << fraction_bits);
        return taps;
    }
    switch (filter) {
        case Filter::bilinear: return bilinear_taps(source, target);
        case Filter::area:
            return grows ? enlarged_area_taps(source, target) : shrunk_area_taps(source, target);
        case Filter::pillow_bicubic: return widened_taps(cubic, 2.0, source, target);
        default: return widened_taps(triangle, 1.0, source, target);
    }
}

/// Resizes planes of one size to another. It holds no state: threads may share it.
class Resampler {
public:
    Resampler(Filter filter, Size source, Size target)
        : filter_(filter),
          source_(source),
          target_(target),
          rows_(taps_for(filter, source.height, target.height, grows())),
          columns_(taps_for(filter, source.width, target.width, grows())) {}

    /// Resize a plane, row by row from the top.
    ///
    /// row: gives a pointer to the first value of a source row. step: from a value to the next one.
    /// sink: takes the number of an output row, and its values.
    template <typename T, typename Row, typename Sink>
    void run(const Row& row, int step, const Sink& sink) const {
        if (filter_ != Filter::pillow && filter_ != Filter::pillow_bicubic) {
            give_all(Lines<T, float, Row>(*this, row, step), sink);
        } else if (rows_are_first()) {
            rows_first<T>(row, step, sink);
        } else {
            give_all(Lines<T, std::int32_t, Row>(*this, row, step), sink);
        }
    }

    /// The rows of a plane that is being resized, from the top. T: of its values; W: of the
    /// weights.
    template <typename T, typename W, typename Row>
    class Lines {
    public:
        Lines(const Resampler& owner, const Row& row, int step)
            : owner_(&owner),
              row_(row),
              step_(step),
              width_(static_cast<std::size_t>(owner.target_.width)),
              ring_(width_ * static_cast<std::size_t>(owner.rows_.count)),
              sums_(width_),
              line_(width_) {}

        /// The next row, valid until the next call.
        const float* next() {
            const Taps& rows = owner_->rows_;
            const int start = rows.start[static_cast<std::size_t>(next_)];
            for (done_ = std::max(done_, start); done_ < start + rows.count; ++done_) {
                owner_->shrink_row<T, W>(row_(done_), step_, slot(done_));
            }
            const W* weights = rows.of<W>(next_++);
            if (owner_->source_.height == owner_->target_.height) {
                std::copy_n(slot(start), width_, line_.data());
            } else if (rows.count == 2) {
                const W *above = slot(start), *below = slot(start + 1);
                const W first = weights[0], second = weights[1];
                float* line = line_.data();
                for (std::size_t x = 0; x < width_; ++x) {
                    line[x] = static_cast<float>(rounded(above[x] * first + below[x] * second));
                }
            } else {
                add_up(start, weights);
            }
            if (owner_->filter_ == Filter::torchvision) {
                for (float& value : line_) value = std::nearbyint(value);
            }
            return line_.data();
        }

    private:
        const Resampler* owner_;
        Row row_;
        int step_, next_ = 0, done_ = 0;
        std::size_t width_;
        // The rows that an output row reads: each source row is resampled once at most.
        std::vector<W> ring_, sums_;
        std::vector<float> line_;

        W* slot(int y) {
            return ring_.data() + width_ * static_cast<std::size_t>(y % owner_->rows_.count);
        }

        void add_up(int start, const W* weights) {
            std::fill(sums_.begin(), sums_.end(), W{0});
            for (int j = 0; j < owner_->rows_.count; ++j) {
                const W* values = slot(start + j);
                for (std::size_t x = 0; x < width_; ++x) sums_[x] += values[x] * weights[j];
            }
            for (std::size_t x = 0; x < width_; ++x) {
                line_[x] = static_cast<float>(rounded(sums_[x]));
            }
        }
    };

private:
    Filter filter_;
    Size source_, target_;
    Taps rows_, columns_;

    bool grows() const { return source_.height < target_.height || source_.width < target_.width; }

    /// The order counts where each pass rounds. Pillow takes the one with less work.
    bool rows_are_first() const {
        const std::int64_t rows = source_.height - target_.height;
        return rows > std::max<std::int64_t>(0, 2 * std::int64_t{source_.width - target_.width});
    }

    template <typename Source, typename Sink>
    void give_all(Source lines, const Sink& sink) const {
        for (int y = 0; y < target_.height; ++y) sink(y, lines.next());
    }

    static float rounded(float sum) { return sum; }

    static std::int32_t rounded(std::int32_t sum) {
        return std::clamp((sum + (1 << (fraction_bits - 1))) >> fraction_bits, 0, 255);
    }

    /// A row of the source's width becomes one of the target's.
    template <typename T, typename W>
    void shrink_row(const T* values, int step, W* out) const {
        const int count = columns_.count;
        const W* weights = columns_.of<W>(0);
        if (count == 1 && source_.width == target_.width) {
            for (int x = 0; x < target_.width; ++x) {
                out[x] = static_cast<W>(values[static_cast<std::ptrdiff_t>(x) * step]);
            }
        } else if (count == 2) {
            for (int x = 0; x < target_.width; ++x, weights += 2) {
                const std::size_t index = static_cast<std::size_t>(x);
                const T* at = values + static_cast<std::ptrdiff_t>(columns_.start[index]) * step;
                out[x] = rounded(static_cast<W>(at[0]) * weights[0] +
                                 static_cast<W>(at[step]) * weights[1]);
            }
        } else {
            for (int x = 0; x < target_.width; ++x, weights += count) {
                const std::size_t index = static_cast<std::size_t>(x);
                const T* at = values + static_cast<std::ptrdiff_t>(columns_.start[index]) * step;
                W sum = 0;
                for (int j = 0; j < count; ++j) {
                    sum += static_cast<W>(at[static_cast<std::ptrdiff_t>(j) * step]) * weights[j];
                }
                out[x] = rounded(sum);
            }
        }
    }

    template <typename T, typename Row, typename Sink>
    void rows_first(const Row& row, int step, const Sink& sink) const {
        std::vector<std::int32_t> sums(static_cast<std::size_t>(source_.width));
        std::vector<std::int32_t> resized(static_cast<std::size_t>(target_.width));
        std::vector<float> line(resized.size());
        for (int y = 0; y < target_.height; ++y) {
            const int start = rows_.start[static_cast<std::size_t>(y)];
            const std::int32_t* weights = rows_.of<std::int32_t>(y);
            std::fill(sums.begin(), sums.end(), 0);
            for (int j = 0; j < rows_.count; ++j) {
                const T* values = row(start + j);
                for (std::int32_t& sum : sums) {
                    sum += static_cast<std::int32_t>(*values) * weights[j];
                    values += step;
                }
            }
            for (std::int32_t& sum : sums) sum = rounded(sum);
            shrink_row<std::int32_t, std::int32_t>(sums.data(), 1, resized.data());
            std::copy(resized.begin(), resized.end(), line.begin());
            sink(y, line.data());
        }
    }
};

}  // namespace edgeunet::detail
