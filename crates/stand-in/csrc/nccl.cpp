// A stand-in for NCCL beside that for the device: ranks are processes of one machine, which meet in a file. As with NCCL, what is asked for is carried out
// on its stream, and fails where ranks ask for different things.
#include "stand_in.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ATen/ops/from_blob.h>

namespace {

constexpr size_t kRoom = size_t{1} << 27;
constexpr int kInvalid = 4;

struct Asked {
  size_t count;
  int type, op, root;
};

struct Meeting {
  std::atomic<int> came, round;
  Asked asked[8];
};

struct Comm {
  int rank, size;
  Meeting* meeting;
  uint8_t* rooms;
  int error = 0;

  uint8_t* room(int of) const {
    return rooms + of * kRoom;
  }

  void meet() const {
    const int round = meeting->round;
    if (++meeting->came == size) {
      meeting->came = 0;
      ++meeting->round;
    }
    while (meeting->round == round) {
      sched_yield();
    }
  }
};

at::ScalarType type_of(int number) {
  const at::ScalarType types[] = {
      at::kChar, at::kByte, at::kInt, at::kInt, at::kLong, at::kLong, at::kHalf, at::kFloat, at::kDouble, at::kBFloat16};
  return types[number];
}

// With a root its data, otherwise the sum, in the ranks' order.
int carry_out(Comm& comm, void* data, const Asked& asked) {
  const auto type = type_of(asked.type);
  const auto bytes = asked.count * c10::elementSize(type);
  if (bytes > kRoom) {
    return kInvalid;
  }
  std::memcpy(comm.room(comm.rank), data, bytes);
  comm.meeting->asked[comm.rank] = asked;
  comm.meet();
  int code = 0;
  for (int rank = 0; rank < comm.size; ++rank) {
    const auto& other = comm.meeting->asked[rank];
    if (other.count != asked.count || other.type != asked.type || other.root != asked.root) {
      code = kInvalid;
    }
  }
  if (code == 0 && asked.root >= 0) {
    std::memcpy(data, comm.room(asked.root), bytes);
  } else if (code == 0) {
    const auto of = [&](void* at) { return at::from_blob(at, {static_cast<int64_t>(asked.count)}, type); };
    auto sum = of(comm.room(0)).clone();
    for (int rank = 1; rank < comm.size; ++rank) {
      sum.add_(of(comm.room(rank)));
    }
    std::memcpy(data, sum.data_ptr(), bytes);
  }
  comm.meet();
  return code;
}

int queue(void* handle, void* data, const Asked& asked, void* stream) {
  auto& comm = *static_cast<Comm*>(handle);
  stand_in::put_off_on(reinterpret_cast<int64_t>(stream) - 1, [&comm, data, asked] {
    if (const int code = carry_out(comm, data, asked)) {
      comm.error = code;
    }
  });
  return 0;
}

} // namespace

struct UniqueId {
  char bytes[128];
};

STAND_IN_EXPORT int ncclGetUniqueId(UniqueId* out) {
  std::memset(out->bytes, 0, sizeof out->bytes);
  std::snprintf(out->bytes, sizeof out->bytes, "/dev/shm/stand_in_%d_XXXXXX", getpid());
  const int file = mkstemp(out->bytes);
  return file < 0 ? 2 : close(file);
}

STAND_IN_EXPORT int ncclCommInitRank(void** out, int size, UniqueId id, int rank) {
  const int file = open(id.bytes, O_RDWR);
  const size_t length = 4096 + size * kRoom;
  if (file < 0 || size > 8 || ftruncate(file, static_cast<off_t>(length)) != 0) {
    return 2;
  }
  auto* place = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (place == MAP_FAILED) {
    return 2;
  }
  auto* comm = new Comm{rank, size, static_cast<Meeting*>(place), static_cast<uint8_t*>(place) + 4096};
  comm->meet();
  unlink(id.bytes);
  *out = comm;
  return 0;
}

STAND_IN_EXPORT int ncclAllReduce(const void*, void* data, size_t count, int type, int op, void* comm, void* stream) {
  return queue(comm, data, {count, type, op, -1}, stream);
}

STAND_IN_EXPORT int ncclBroadcast(const void*, void* data, size_t count, int type, int root, void* comm, void* stream) {
  return queue(comm, data, {count, type, 0, root}, stream);
}

STAND_IN_EXPORT int ncclCommGetAsyncError(void* comm, int* out) {
  *out = static_cast<Comm*>(comm)->error;
  return 0;
}

STAND_IN_EXPORT int ncclCommAbort(void*) {
  return 0;
}

STAND_IN_EXPORT const char* ncclGetErrorString(int code) {
  return code == kInvalid ? "invalid argument" : "unhandled system error";
}
