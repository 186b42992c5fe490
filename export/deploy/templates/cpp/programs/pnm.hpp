// Reads and writes binary PGM and PPM, so that the examples need no library for images.

#pragma once

#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "edgeunet/error.hpp"

namespace pnm {

/// Pixels (height, width, channels) of 8 or 16 bits; one of the two lists is empty.
struct Image {
    int height = 0, width = 0, channels = 0;
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint16_t> words;
};

/// Read a P5 (gray) or P6 (RGB) file.
inline Image read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    file >> kind;
    const auto number = [&file] {
        while ((file >> std::ws) && file.peek() == '#') {
            file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
        }
        int value = 0;
        file >> value;
        return value;
    };
    Image image;
    image.width = number();
    image.height = number();
    const int white = number();
    file.get();  // one white space ends the header
    const std::int64_t pixels = std::int64_t{image.width} * image.height;
    if (!file || (kind != "P5" && kind != "P6") || image.width < 1 || image.height < 1 ||
        pixels > (1 << 28) || (white != 255 && white != 65535)) {
        throw edgeunet::Error(path +
                              " is no binary PGM or PPM of 8 or 16 bits. Convert it, such as "
                              "with `convert IN.png -depth 8 OUT.ppm`.");
    }
    image.channels = kind == "P6" ? 3 : 1;
    const std::size_t values = static_cast<std::size_t>(pixels * image.channels);
    std::vector<std::uint8_t> raw(white == 255 ? values : 2 * values);
    if (!file.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(raw.size()))) {
        throw edgeunet::Error(path + " was cut off. Copy it again.");
    }
    if (white == 255) {
        image.bytes = std::move(raw);
        return image;
    }
    for (std::size_t i = 0; i < raw.size(); i += 2) {  // the high byte comes first
        image.words.push_back(static_cast<std::uint16_t>(raw[i] << 8 | raw[i + 1]));
    }
    return image;
}

/// Write 8 bits: gray (P5), or red, green, blue (P6) if there are three channels.
inline void write(const std::string& path, const Image& image) {
    std::ofstream file(path, std::ios::binary);
    file << (image.channels == 3 ? "P6\n" : "P5\n") << image.width << " " << image.height
         << "\n255\n";
    file.write(reinterpret_cast<const char*>(image.bytes.data()),
               static_cast<std::streamsize>(image.bytes.size()));
    if (!file.flush()) throw edgeunet::Error(path + " cannot be written. Is there room?");
}

}  // namespace pnm
