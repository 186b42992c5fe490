// The program `check`. With the word `api` and a model: what its golden frames do not reach; with
// `prepare`: the net's input for them.

#define main check_main
#include "programs/check.cpp"
#undef main

#include <fstream>
#include <functional>
#include <thread>

namespace {

int failures = 0;

void expect(bool right, const std::string& what) {
    if (right) return;
    ++failures;
    std::cout << what << "\n";
}

/// A call that must throw an error of this library with a text.
void refused(const std::function<void()>& call, const std::string& text) {
    try {
        call();
    } catch (const edgeunet::Error& error) {
        const std::string said = error.what();
        expect(said.find(text) != std::string::npos,
               "expected \"" + text + "\", got \"" + said + "\"");
        return;
    }
    expect(false, "accepted, expected \"" + text + "\"");
}

std::vector<std::uint8_t> noise(int height, int width, int channels) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width * channels));
    unsigned state = 7;
    for (std::uint8_t& value : pixels) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<std::uint8_t>(state >> 24);
    }
    return pixels;
}

void frames_that_do_not_fit(const edgeunet::Segmenter& net) {
    const std::vector<std::uint8_t> pixels = noise(8, 8, 5);
    const std::vector<std::uint16_t> deep(8 * 8 * 3);
    const std::uint8_t* data = pixels.data();
    refused([&] { net(Frame(data, 0, 8)); }, "frame is 0x8x3; expected height x width x channels");
    refused([&] { net(Frame(data, 8, -1)); }, "frame is 8x-1x3");
    refused([&] { net(Frame(data, 8, 8, 0)); }, "frame is 8x8x0");
    refused([&] { net(Frame(data, 8, 8, 5)); },
            "frame has 5 channels; expected 3, red, green, blue");
    refused([&] { net(Frame(data, 8, 8, 3, 23)); },
            "rows of 23 bytes; expected a multiple of 1, at "
            "least 24");
    refused([&] { net(Frame(deep.data(), 8, 8)); }, "frame is uint16; the net takes uint8");
    refused([&] { net(Frame(static_cast<std::uint8_t*>(nullptr), 8, 8)); }, "without data");
}

void options_that_do_not_fit(const std::string& model) {
    refused([&] { edgeunet::Segmenter net(model, {-1, ""}); }, "got -1 threads");
    refused([&] { edgeunet::Segmenter net(model, {1, "fp16"}); }, "holds no graph fp16");
}

void frames_of_several_sizes_at_once(const edgeunet::Segmenter& net) {
    const std::vector<std::uint8_t> pixels = noise(40, 60, 3);
    std::vector<Frame> frames;
    for (int i = 0; i < 9; ++i) frames.emplace_back(pixels.data(), 40 - i, 20 + i);
    const std::vector<Mask> masks = net(frames);
    expect(masks.size() == frames.size(), "a mask is missing");
    for (std::size_t i = 0; i < masks.size(); ++i) {
        const Mask alone = net(frames[i]);
        expect(alone.height == 40 - static_cast<int>(i), "a mask has another size");
        expect(alone.ids == masks[i].ids, "a batch gives another mask");
    }
    expect(net(std::vector<Frame>{}).empty(), "masks of no frames");
}

void rows_with_a_gap(const edgeunet::Segmenter& net) {
    const std::vector<std::uint8_t> pixels = noise(20, 30, 3);
    std::vector<std::uint8_t> close;
    for (std::size_t row = 0; row < 20; ++row) {
        const auto start = pixels.begin() + static_cast<std::ptrdiff_t>(row * 90);
        close.insert(close.end(), start, start + 60);
    }
    const Mask mask = net(Frame(pixels.data(), 20, 20, 3, 90));
    expect(mask.ids == net(Frame(close.data(), 20, 20)).ids, "a gap between rows is read");
    expect(mask(3, 4) == mask.ids[3 * 20 + 4], "a pixel is found elsewhere");
}

void several_threads(const edgeunet::Segmenter& net) {
    const std::vector<std::uint8_t> pixels = noise(33, 47, 3);
    const Frame frame(pixels.data(), 33, 47);
    const Mask wanted = net(frame);
    std::vector<Mask> found(4);
    std::vector<std::thread> threads;
    for (Mask& mask : found) {
        threads.emplace_back([&] {
            for (int i = 0; i < 5; ++i) mask = net(frame);
        });
    }
    for (std::thread& each : threads) each.join();
    for (const Mask& mask : found) expect(mask.ids == wanted.ids, "threads disturb each other");
}

void json_of_all_kinds() {
    namespace json = edgeunet::json;
    const json::Value value = json::parse(
        "\xEF\xBB\xBF {\"a\": [1, -2.5e1, true, false, null], \"\\u00e9\\ud83d\\ude00\\n\": "
        "\"\\\\\"} ");
    expect(value["a"].items[1].number() == -25, "-2.5e1 is another number");
    expect(value["a"].items[2].truth && !value["a"].items[3].truth, "true or false is another");
    expect(value["a"].items[4].is_null(), "null is another");
    expect(value["\xC3\xA9\xF0\x9F\x98\x80\n"].text() == "\\", "escapes are others");
    for (const char* text :
         {"", "{", "[1,]", "[1 2]", "{\"a\" 1}", "{a: 1}", "\"\\x\"", "\"\\u12g4\"", "\"\\", "nul",
          "1.2.3", "\"\n\"", "1 2", "--1", "1e999"}) {
        refused([&] { json::parse(text); }, "is no JSON: ");
    }
}

void known_hashes() {
    using edgeunet::detail::Sha256;
    expect(Sha256::of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
           "the hash of abc");
    for (const std::size_t size : {0u, 55u, 56u, 63u, 64u, 119u, 1000u}) {
        std::cout << "sha256 " << size << " " << Sha256::of(std::string(size, 'x')) << "\n";
    }
}

/// The net's input for golden frames, as raw FP32.
void prepare(const std::string& model, const std::string& golden, const std::string& target) {
    const edgeunet::Manifest net = edgeunet::Manifest::read(model);
    const Golden held(golden);
    std::vector<float> image(net.channels.size() * static_cast<std::size_t>(net.input.height) *
                             static_cast<std::size_t>(net.input.width));
    std::ofstream file(target, std::ios::binary);
    for (const Frame& frame : views(held, net.depth)) {
        edgeunet::detail::prepare(frame, net, image.data());
        file.write(reinterpret_cast<const char*>(image.data()),
                   static_cast<std::streamsize>(image.size() * sizeof(float)));
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    if (what == "prepare") return prepare(arguments[2], arguments[3], arguments[4]), EXIT_SUCCESS;
    if (what != "api") return check_main(count, arguments);
    edgeunet::Segmenter first(arguments[2], {1, ""});
    const edgeunet::Segmenter net = std::move(first);
    frames_that_do_not_fit(net);
    options_that_do_not_fit(arguments[2]);
    frames_of_several_sizes_at_once(net);
    rows_with_a_gap(net);
    several_threads(net);
    json_of_all_kinds();
    known_hashes();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
