// How much of each frame of a film each class covers. Raw RGB frames come from FFmpeg:
//
//   ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | build/shares net/model 480 640

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "edgeunet.hpp"

int main(int count, char** arguments) try {
    if (count != 4) {
        std::cerr << "usage: shares MODEL HEIGHT WIDTH < FRAMES\n";
        return 2;
    }
    const edgeunet::Segmenter net(arguments[1]);
    const int height = std::atoi(arguments[2]), width = std::atoi(arguments[3]);
    std::vector<char> pixels(3 * static_cast<std::size_t>(height) *
                             static_cast<std::size_t>(width));
    while (std::cin.read(pixels.data(), static_cast<std::streamsize>(pixels.size()))) {
        const auto* data = reinterpret_cast<const unsigned char*>(pixels.data());
        const edgeunet::Mask mask = net(edgeunet::Frame(data, height, width));
        for (std::size_t id = 0; id < net.classes().size(); ++id) {
            const auto covered = std::count(mask.ids.begin(), mask.ids.end(), id);
            std::cout << net.classes()[id] << " " << 100 * covered / (height * width) << "% ";
        }
        std::cout << "\n";
    }
    return EXIT_SUCCESS;
} catch (const edgeunet::Error& error) {
    std::cerr << error.what() << "\n";
    return EXIT_FAILURE;
}
