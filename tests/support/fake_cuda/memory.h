// Memory of the device and page-locked memory, by address.
#pragma once

#include "machine.h"

namespace {

bool holds(const Blocks& blocks, Address start, size_t bytes, bool mapped_only = false) {
    auto after = blocks.upper_bound(start);
    if (after == blocks.begin()) return false;
    const auto& [first, block] = *--after;
    return start + bytes <= first + block.bytes && (block.mapped || !mapped_only);
}

bool on_device(Address start, size_t bytes) {
    return holds(machine().memory, start, bytes) || holds(machine().pinned, start, bytes, true);
}

bool page_locked(Address start, size_t bytes) { return holds(machine().pinned, start, bytes); }

size_t used(const Blocks& blocks, bool mapped_only = false) {
    size_t sum = 0;
    for (const auto& [start, block] : blocks)
        if (block.mapped || !mapped_only) sum += block.bytes;
    return sum;
}

Address allocate(Blocks& blocks, size_t bytes, bool mapped) {
    auto* start = static_cast<unsigned char*>(
        aligned_alloc(ALIGNMENT, (bytes + GUARD + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
    memset(start, FRESH, bytes);
    memset(start + bytes, BEHIND, GUARD);
    const auto address = reinterpret_cast<Address>(start);
    blocks[address] = {bytes, mapped};
    return address;
}

bool all(const unsigned char* start, size_t bytes, unsigned char value) {
    for (size_t i = 0; i < bytes; ++i)
        if (start[i] != value) return false;
    return true;
}

// Freed memory stays for a while, so that whoever uses it meets FREED, or is found out by it.
void forget(size_t kept) {
    auto& freed = machine().freed;
    size_t bytes = 0;
    for (const auto& each : freed) bytes += each.second;
    while (bytes > kept) {
        auto* start = reinterpret_cast<unsigned char*>(freed.front().first);
        if (!all(start, freed.front().second, FREED))
            misuse(SUCCESS, "memory was written after it had been freed");
        bytes -= freed.front().second;
        free(start);
        freed.pop_front();
    }
}

Result release(Blocks& blocks, Address address, const char* call) {
    const auto found = blocks.find(address);
    if (found == blocks.end()) return misuse(INVALID_VALUE, "%s: not there", call);
    const auto bytes = found->second.bytes;
    auto* start = reinterpret_cast<unsigned char*>(address);
    if (!all(start + bytes, GUARD, BEHIND))
        misuse(SUCCESS, "memory was written behind its %zu bytes", bytes);
    memset(start, FREED, bytes);
    machine().freed.emplace_back(address, bytes);
    blocks.erase(found);
    forget(KEPT);
    return machine().lost ? LAUNCH_FAILED : SUCCESS;
}

// The last context takes along what it still holds.
void abandon() {
    auto& here = machine();
    for (const auto& each : here.contexts)
        if (each.retained > 0) return;
    here.abandoned += static_cast<int64_t>(
        here.memory.size() + here.pinned.size() + here.streams.size() + here.events.size() +
        here.modules.size() + here.graphs.size() + here.executables.size());
    while (!here.memory.empty()) release(here.memory, here.memory.begin()->first, "");
    while (!here.pinned.empty()) release(here.pinned, here.pinned.begin()->first, "");
    here.streams.clear();
    here.events.clear();
    here.modules.clear();
    here.graphs.clear();
    here.executables.clear();
}

}  // namespace
