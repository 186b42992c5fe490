// What a manifest says of a net: its classes, and how a frame becomes its input.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"
#include "sha256.hpp"

namespace edgeunet {

/// Height and width, pixels.
struct Size {
    int height = 0;
    int width = 0;

    friend bool operator==(Size a, Size b) { return a.height == b.height && a.width == b.width; }
};

/// Rows and columns from `top`, `left` on.
struct Box {
    int top = 0;
    int left = 0;
    Size size;
};

/// How frames are resized; what each computes is in edgeunet's `data/resize.py`.
enum class Filter { bilinear, antialias, area, torchvision, pillow, pillow_bicubic };

/// How a frame lies in the net's input: over all of it, or with its aspect ratio kept.
enum class Resize { stretch, pad, pad_centre };

/// Type of a frame's values.
enum class Depth { uint8, uint16, int16, float32 };

/// The contents of manifest.json that are needed to run the net.
struct Manifest {
    std::string model;
    std::vector<std::string> classes;                  ///< names by class id
    std::vector<std::array<std::uint8_t, 3>> palette;  ///< red, green, blue by class id
    std::vector<float> gate;  ///< presence that opens a class, by class id; empty without a gate
    int max_batch = 1;
    std::map<std::string, std::string> files;  ///< SHA-256 by name

    Size input;                         ///< of the net
    Size logits;                        ///< of what it puts out
    std::vector<std::string> channels;  ///< in the net's order
    std::vector<float> gain, shift;     ///< image = value * gain + shift, by channel
    std::vector<float> padding;         ///< of the image where there is no frame, by channel
    Depth depth = Depth::uint8;
    Resize resize = Resize::stretch;
    Filter filter = Filter::bilinear;

    /// Read and check `folder`/manifest.json.
    static Manifest read(const std::filesystem::path& folder);

    /// Where a frame lies in the net's input.
    Box place(Size frame) const {
        if (resize == Resize::stretch) return {0, 0, input};
        const double scale = std::min(static_cast<double>(input.height) / frame.height,
                                      static_cast<double>(input.width) / frame.width);
        // Multiples of 8, so that the frame's edge is on a whole pixel of smaller logits too.
        const auto fitted = [scale](int side, int most) {
            return std::min(most,
                            std::max(8, 8 * static_cast<int>(std::nearbyint(side * scale / 8))));
        };
        Box box{0, 0, {fitted(frame.height, input.height), fitted(frame.width, input.width)}};
        if (resize == Resize::pad_centre) {
            box.top = (input.height - box.size.height) / 16 * 8;
            box.left = (input.width - box.size.width) / 16 * 8;
        }
        return box;
    }

    /// Where a frame lies in the logits.
    Box covered(Size frame) const {
        const Box box = place(frame);
        const auto scaled = [](int at, int side, int whole) {
            return static_cast<int>(static_cast<std::int64_t>(at) * side / whole);
        };
        const int top = scaled(box.top, logits.height, input.height);
        const int left = scaled(box.left, logits.width, input.width);
        const int bottom = scaled(box.top + box.size.height, logits.height, input.height);
        const int right = scaled(box.left + box.size.width, logits.width, input.width);
        return {top, left, {bottom - top, right - left}};
    }
};

namespace detail {

constexpr int schema_version = 2;
constexpr int max_side = 1 << 26;
constexpr std::int64_t max_pixels = 1 << 26;
constexpr std::uintmax_t max_manifest_bytes = 4 << 20, max_file_bytes = std::uintmax_t{2} << 30;

/// A file of a folder, whole. It must lie there itself: a link may not lead out of the folder.
inline std::string read_file(const std::filesystem::path& folder, const std::string& name,
                             std::uintmax_t most) {
    std::error_code problem;
    const std::filesystem::path path = folder / name;
    const std::filesystem::path real = std::filesystem::canonical(path, problem);
    if (problem) throw ModelError(text(path.string(), " is missing. Copy the folder again."));
    if (real.parent_path() != std::filesystem::canonical(folder)) {
        throw ModelError(text(path.string(), " is a link that leaves the folder. Refused."));
    }
    const std::uintmax_t size = std::filesystem::file_size(real, problem);
    if (problem || size > most) {
        throw ModelError(text(path.string(), " is no file of at most ", most, " bytes."));
    }
    std::string content(static_cast<std::size_t>(size), '\0');
    std::ifstream file(real, std::ios::binary);
    if (!file.read(content.data(), static_cast<std::streamsize>(size))) {
        throw ModelError(text(path.string(), " cannot be read. Copy the folder again."));
    }
    return content;
}

/// A file that a manifest lists, compared with its hash there.
inline std::string read_checked(const std::filesystem::path& folder, const std::string& name,
                                const std::map<std::string, std::string>& hashes) {
    const auto wanted = hashes.find(name);
    if (wanted == hashes.end()) {
        throw ModelError(text((folder / "manifest.json").string(), " lists no hash for ", name,
                              ". Deploy the bundle again."));
    }
    std::string content = read_file(folder, name, max_file_bytes);
    const std::string found = Sha256::of(content);
    if (found == wanted->second) return content;
    throw ModelError(text((folder / name).string(), " has SHA-256 ", found.substr(0, 12),
                          "...; the manifest expects ", wanted->second.substr(0, 12),
                          "... The file is damaged or was changed: copy the folder again."));
}

/// The value of a name; a ModelError lists the names that there are.
template <typename T>
T named(const json::Value& value, const std::vector<std::pair<std::string_view, T>>& known) {
    std::string names;
    for (const auto& [name, found] : known) {
        if (value.text() == name) return found;
        names += names.empty() ? std::string(name) : ", " + std::string(name);
    }
    throw ModelError(text(value.place, " is \"", value.text(), "\"; this library knows ", names,
                          ". Use edgeunet's own runtime, or export the bundle with one of these."));
}

inline Size size_of(const json::Value& height, const json::Value& width) {
    const Size size{height.integer(1, max_side), width.integer(1, max_side)};
    if (std::int64_t{size.height} * size.width <= max_pixels) return size;
    throw ModelError(text(height.place, ": expected at most ", max_pixels, " pixels, got ",
                          size.height, "x", size.width));
}

/// Raises unless a list has one value for each of something.
inline void need_count(const json::Value& list, std::size_t wanted) {
    if (list.list().size() == wanted) return;
    throw ModelError(text(list.place, ": expected ", wanted, " values, got ", list.list().size()));
}

inline void read_input(const json::Value& input, Manifest& out) {
    for (const char* step : {"statistics", "window"}) {
        if (!input[step].is_null()) {
            throw ModelError(text("input.", step,
                                  " is set, which this library lacks. Use edgeunet's "
                                  "own runtime for this net."));
        }
    }
    out.input = size_of(input["height"], input["width"]);
    out.channels = input["channels"].texts();
    out.depth = named<Depth>(input["depth"], {{"uint8", Depth::uint8},
                                              {"uint16", Depth::uint16},
                                              {"int16", Depth::int16},
                                              {"float32", Depth::float32}});
    out.resize = named<Resize>(
        input["resize"],
        {{"stretch", Resize::stretch}, {"pad", Resize::pad}, {"pad_centre", Resize::pad_centre}});
    out.filter = named<Filter>(input["filter"], {{"bilinear", Filter::bilinear},
                                                 {"antialias", Filter::antialias},
                                                 {"area", Filter::area},
                                                 {"torchvision", Filter::torchvision},
                                                 {"pillow", Filter::pillow},
                                                 {"pillow_bicubic", Filter::pillow_bicubic}});
    if (out.filter >= Filter::torchvision && out.depth != Depth::uint8) {
        throw ModelError(
            "input.filter rounds to bytes, and input.depth is another. Export the "
            "bundle again.");
    }
    const std::size_t count = out.channels.size();
    need_count(input["levels"], 2);
    need_count(input["mean"], count);
    need_count(input["std"], count);
    const std::vector<double> levels = input["levels"].numbers();
    const std::vector<double> mean = input["mean"].numbers(), deviation = input["std"].numbers();
    const double range = levels[1] - levels[0];
    if (count < 1 || count > 64 || !(range > 0) ||
        *std::min_element(deviation.begin(), deviation.end()) <= 0) {
        throw ModelError(
            "input: expected 1 to 64 channels, ascending levels and a positive std. "
            "Export the bundle again.");
    }
    const json::Value& fill = input["fill"];
    // In the order and the precision of edgeunet's runtime, so that inputs are equal to the bit.
    const float offset = static_cast<float>(levels[0] / range);
    for (std::size_t i = 0; i < count; ++i) {
        const float spread = static_cast<float>(deviation[i]);
        out.gain.push_back(1.0f / (static_cast<float>(range) * spread));
        out.shift.push_back(-(offset + static_cast<float>(mean[i])) / spread);
        const float raw = fill.is_null() ? 0.0f : static_cast<float>(fill.number());
        out.padding.push_back(fill.is_null() ? 0.0f : raw * out.gain[i] + out.shift[i]);
    }
}

inline Manifest read_manifest(const json::Value& file) {
    if (const int version = file["schema_version"].integer(0, 1 << 20); version != schema_version) {
        throw ModelError(text("has schema version ", version, "; expected ", schema_version,
                              ". Deploy the bundle again, with the edgeunet that wrote it."));
    }
    Manifest out;
    out.model = file["model"].text();
    out.classes = file["classes"].texts();
    const std::size_t count = out.classes.size();
    if (count < 1 || count > 256) throw ModelError("classes: expected 1 to 256 names");
    need_count(file["palette"], count);
    for (const json::Value& colour : file["palette"].list()) {
        need_count(colour, 3);
        out.palette.push_back({});
        for (std::size_t i = 0; i < 3; ++i) {
            out.palette.back()[i] = static_cast<std::uint8_t>(colour.items[i].integer(0, 255));
        }
    }
    if (const json::Value& gate = file["gate"]; !gate.is_null()) {
        need_count(gate, count);
        for (const double threshold : gate.numbers()) {
            out.gate.push_back(static_cast<float>(threshold));
        }
    }
    out.max_batch = file["max_batch"].integer(1, 1024);
    need_count(file["logits_size"], 2);
    const std::vector<json::Value>& sides = file["logits_size"].list();
    out.logits = size_of(sides[0], sides[1]);
    const json::Value& files = file["files"];
    files.find("");  // raises unless it is an object
    for (std::size_t i = 0; i < files.keys.size(); ++i) {
        out.files[files.keys[i]] = files.items[i].text();
    }
    read_input(file["input"], out);
    return out;
}

}  // namespace detail

inline Manifest Manifest::read(const std::filesystem::path& folder) {
    const std::string name = "manifest.json";
    if (!std::filesystem::is_regular_file(folder / name)) {
        throw ModelError(detail::text(folder.string(), " is no model: it has no ", name,
                                      ". `edgeunet deploy BUNDLE --to cpp` writes one."));
    }
    const std::string content = detail::read_file(folder, name, detail::max_manifest_bytes);
    try {
        return detail::read_manifest(json::parse(content));
    } catch (const ModelError& error) {
        throw ModelError(detail::text((folder / name).string(), ": ", error.what()));
    }
}

}  // namespace edgeunet
