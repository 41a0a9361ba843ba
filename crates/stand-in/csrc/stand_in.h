// What the files of the stand-in share. See src/lib.rs for what it is.
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#define STAND_IN_EXPORT extern "C" __attribute__((visibility("default")))

namespace stand_in {

inline const c10::Device kDevice(c10::kMPS, 0);

// What is told of: the numbers are those of `Kind` in src/lib.rs.
enum class Kind : int { wait = 0, pageable_upload = 1 };

// Tells whoever listens (stand_in_observe) of something that costs time on a GPU.
void tell(Kind kind, const char* op);

// Streams. Work that is put off waits in its stream's queue; `finish` carries it out, in its order.
int64_t current_stream();
void put_off(std::function<void()> work);
void put_off_on(int64_t stream, std::function<void()> work);
void finish(int64_t stream);

// Whether memory is of the pinned allocator, at any place of a block.
bool is_pinned(const void* data);

// NaN in every floating type, -1 in the integers: what memory holds that nobody has written.
void poison(void* data, size_t bytes);

c10::Allocator* device_allocator();
c10::Allocator* pinned_allocator();

}  // namespace stand_in
