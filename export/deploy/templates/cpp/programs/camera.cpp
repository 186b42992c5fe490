// camera MODEL SOURCE [FILM]: segments a film, an image or a camera (its number), by OpenCV.
//
// Shows the classes in their colours over the picture, until a key is pressed; with FILM it writes
// that instead, such as out.avi.

#include <cstdlib>
#include <iostream>
#include <string>

#include <opencv2/highgui.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "edgeunet.hpp"

namespace {

cv::Mat overlay(const edgeunet::Segmenter& net, const cv::Mat& picture) {
    cv::Mat rgb;
    cv::cvtColor(picture, rgb, cv::COLOR_BGR2RGB);
    const edgeunet::Mask mask = net(edgeunet::Frame(rgb.data, rgb.rows, rgb.cols, 3, rgb.step));
    cv::Mat coloured(picture.size(), CV_8UC3);
    for (int row = 0; row < mask.height; ++row) {
        for (int column = 0; column < mask.width; ++column) {
            const auto& colour = net.manifest().palette[mask(row, column)];
            coloured.at<cv::Vec3b>(row, column) = {colour[2], colour[1], colour[0]};
        }
    }
    cv::addWeighted(picture, 0.5, coloured, 0.5, 0, coloured);
    return coloured;
}

void run(const std::string& model, const std::string& source, const std::string& film) {
    const edgeunet::Segmenter net(model);
    cv::VideoCapture capture;
    const bool is_number = source.find_first_not_of("0123456789") == std::string::npos;
    if (is_number ? !capture.open(std::stoi(source)) : !capture.open(source)) {
        throw edgeunet::Error(source +
                              " cannot be opened. Pass a film, an image or a camera's number.");
    }
    cv::VideoWriter writer;
    int frames = 0;
    for (cv::Mat picture; capture.read(picture); ++frames) {
        const cv::Mat shown = overlay(net, picture);
        if (film.empty()) {
            cv::imshow("edgeunet", shown);
            if (cv::waitKey(1) >= 0) break;
            continue;
        }
        if (frames == 0) {
            const double rate = capture.get(cv::CAP_PROP_FPS);
            writer.open(film, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), rate > 0 ? rate : 25,
                        shown.size());
        }
        if (!writer.isOpened()) throw edgeunet::Error(film + " cannot be written. Name an .avi.");
        writer.write(shown);
    }
    std::cout << frames << " frames\n";
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3 || count > 4) {
        std::cerr << "usage: camera MODEL SOURCE [FILM]\n";
        return 2;
    }
    try {
        run(arguments[1], arguments[2], count == 4 ? arguments[3] : "");
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
