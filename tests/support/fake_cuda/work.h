// What streams hold: copies, and kernels with their arguments.
#pragma once

#include "memory.h"

namespace {

void enqueue(Stream& stream, Work work) {
    if (stream.capturing)
        stream.captured.push_back(std::move(work));
    else
        stream.queue.push_back(std::move(work));
}

void run(Stream& stream, uint64_t until = 0) {
    while (!stream.queue.empty()) {
        const auto work = std::move(stream.queue.front());
        stream.queue.pop_front();
        work.run();
        if (until != 0 && work.mark == until) return;
    }
}

Result copy(const char* call, Handle handle, Address to, bool (*target)(Address, size_t),
            Address from, bool (*source)(Address, size_t), size_t bytes) {
    const auto stream = find(machine().streams, handle);
    if (stream == nullptr) return misuse(INVALID_HANDLE, "%s: not one of the streams", call);
    const auto valid = [=] { return target(to, bytes) && source(from, bytes); };
    if (!valid())
        return misuse(INVALID_VALUE, "%s: not page-locked, or not in one block of memory", call);
    if (to < from + bytes && from < to + bytes)
        return misuse(INVALID_VALUE, "%s: source and target overlap", call);
    enqueue(*stream, {[=] {
                if (!valid()) misuse(SUCCESS, "%s: the memory was freed before the copy ran", call);
                else memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
            }});
    return SUCCESS;
}

// Kernels

// "double" is for tests of the driver alone: it doubles bytes.
bool find_parameters(Kernel& kernel) {
    if (kernel.name == "double") {
        kernel.parameters = {{8, 8}, {4, 4}};
        return true;
    }
    size_t sizes[32], alignments[32];
    const int count = host_parameters == nullptr
                          ? -1
                          : host_parameters(kernel.name.c_str(), 32, sizes, alignments);
    for (int i = 0; i < count; ++i) kernel.parameters.push_back({sizes[i], alignments[i]});
    return count >= 0;
}

using Values = std::vector<std::vector<char>>;

// Addresses are large numbers of eight bytes. They must lie in memory of the device.
void check_addresses(const Kernel& kernel, const Values& values) {
    for (size_t i = 0; i < values.size(); ++i) {
        Address value = 0;
        if (values[i].size() == sizeof value) memcpy(&value, values[i].data(), sizeof value);
        if (value >> 32 != 0 && !on_device(value, 1))
            misuse(SUCCESS, "%s: argument %zu is no address of the device", kernel.name.c_str(), i);
    }
}

void run_kernel(const Kernel& kernel, const unsigned* grid, const unsigned* block, Values& values) {
    check_addresses(kernel, values);
    if (kernel.name == "double") {
        unsigned char* bytes;
        int count;
        memcpy(&bytes, values[0].data(), sizeof bytes);
        memcpy(&count, values[1].data(), sizeof count);
        for (int i = 0; i < count; ++i) bytes[i] *= 2;
        return;
    }
    std::vector<void*> places;
    std::vector<int> sizes;
    for (auto& value : values) {
        places.push_back(value.data());
        sizes.push_back(static_cast<int>(value.size()));
    }
    const auto count = static_cast<int>(places.size());
    if (host_launch(kernel.name.c_str(), grid, block, count, places.data(), sizes.data()) != 0)
        misuse(SUCCESS, "%s: wrong arguments", kernel.name.c_str());
}

// The arguments, from the two ways to pass them: a pointer to each, or all packed into a buffer.
bool take_arguments(const Kernel& kernel, void** pointers, void** extra, Values& values) {
    const char* buffer = nullptr;
    size_t given = 0, end = 0;
    for (int i = 0; extra != nullptr && extra[i] != nullptr; i += 2) {
        if (extra[i] == reinterpret_cast<void*>(1)) buffer = static_cast<const char*>(extra[i + 1]);
        if (extra[i] == reinterpret_cast<void*>(2)) given = *static_cast<size_t*>(extra[i + 1]);
    }
    size_t index = 0;
    for (const auto& [size, alignment] : kernel.parameters) {
        const char* start = buffer;
        if (buffer == nullptr) {
            start = static_cast<const char*>(pointers[index++]);
        } else {
            const size_t at = (end + alignment - 1) / alignment * alignment;
            start += at;
            end = at + size;
            if (end > given) return false;
        }
        values.emplace_back(start, start + size);
    }
    return end == given;
}

}  // namespace
