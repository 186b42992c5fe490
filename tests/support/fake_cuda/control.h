// What tests call: settings, counts, and work of the host.
#pragma once

#include "work.h"

API void fake_begin(const char* name, int major, int minor, int integrated, int devices,
                    size_t capacity) {
    Call call;
    auto made = std::make_unique<Machine>();
    made->name = name;
    made->major = major;
    made->minor = minor;
    made->integrated = integrated != 0;
    made->capacity = capacity;
    made->contexts.resize(static_cast<size_t>(devices));
    machines.push_back(std::move(made));
}

API void fake_end() {
    Call call;
    ended.push_back(std::move(machines.back()));
    machines.pop_back();
}

API int fake_set(const char* setting, int value) {
    Call call;
    const std::string name = setting;
    if (name == "lost") machine().lost = value != 0;
    else if (name == "uncapturable") machine().uncapturable = value != 0;
    else if (name == "init") machine().init = value;
    else if (name == "version") machine().version = value;
    else return INVALID_VALUE;
    return SUCCESS;
}

API long long fake_count(const char* what) {
    Call call;
    forget(0);
    const auto& here = machine();
    const std::string name = what;
    if (name == "memory") return static_cast<long long>(used(here.memory));
    if (name == "pinned") return static_cast<long long>(used(here.pinned));
    if (name == "mapped") return static_cast<long long>(used(here.pinned, true));
    if (name == "streams") return static_cast<long long>(here.streams.size());
    if (name == "events") return static_cast<long long>(here.events.size());
    if (name == "modules") return static_cast<long long>(here.modules.size());
    if (name == "graphs") return static_cast<long long>(here.graphs.size());
    if (name == "executables") return static_cast<long long>(here.executables.size());
    if (name == "pushed") return here.pushed;
    if (name == "abandoned") return here.abandoned;
    if (name == "launched") return here.launched;
    if (name == "misuse") return static_cast<long long>(here.misuse.size());
    long long sum = 0;
    if (name == "retained")
        for (const auto& each : here.contexts) sum += each.retained;
    else if (name == "queued")
        for (const auto& [handle, stream] : here.streams)
            sum += static_cast<long long>(stream->queue.size());
    else return -1;
    return sum;
}

API const char* fake_misuse(int index) {
    return machine().misuse.at(static_cast<size_t>(index)).c_str();
}

API void fake_kernels(decltype(host_launch) launch, decltype(host_parameters) parameters) {
    host_launch = launch;
    host_parameters = parameters;
}

// Queue a function, as a library that runs on the GPU does.
API int fake_enqueue(Handle handle, void (*function)(long), long key) {
    ON_DEVICE;
    FIND(stream, streams, handle);
    enqueue(*stream, {[=] { function(key); }});
    return SUCCESS;
}

// For calls that only the linker asks for.
API int fake_unsupported(const char* name) {
    return misuse(NOT_SUPPORTED, "%s: not simulated", name);
}
