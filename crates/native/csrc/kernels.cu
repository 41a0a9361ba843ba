// Kernels for NVIDIA GPUs, compiled where they run, by NVRTC: the program is built without CUDA.
//
// Compiled without contraction to fused multiply-adds, so that an overlap is the same number as on the CPU.

// The overlap of two boxes x1, y1, x2, y2, in the order of torchvision's `box_iou` and `nms`.
__device__ __forceinline__ float overlap(float4 a, float4 b) {
  const float inter = fmaxf(fminf(a.z, b.z) - fmaxf(a.x, b.x), 0.f) * fmaxf(fminf(a.w, b.w) - fmaxf(a.y, b.y), 0.f);
  return inter / ((a.z - a.x) * (a.w - a.y) + (b.z - b.x) * (b.w - b.y) - inter);
}

constexpr int TILE = 64;

// Greedy suppression within groups, a block of threads each. Boxes of a group lie together, best first; `keys` ascend, and a
// negative one is of boxes that do not count. A box stays unless one that stays before it overlaps it by more than `threshold`.
// Launched with as many blocks as there are boxes: those that are not the first of their group have nothing to do.
extern "C" __global__ void suppress(const float4* boxes, const long long* keys, long long count, float threshold, bool* keep) {
  const long long start = blockIdx.x;
  const long long key = keys[start];
  if (key < 0) {
    if (threadIdx.x == 0) keep[start] = false;
    return;
  }
  if (start > 0 && keys[start - 1] == key) return;
  // The end of the group, by bisection.
  long long end = start + 1, beyond = count;
  while (end < beyond) {
    const long long middle = end + (beyond - end) / 2;
    if (keys[middle] == key) end = middle + 1; else beyond = middle;
  }
  for (long long i = start + threadIdx.x; i < end; i += blockDim.x) keep[i] = true;
  __shared__ float4 tile[TILE];
  __shared__ unsigned long long over[TILE];  // which later boxes of the tile each one overlaps
  __shared__ unsigned alive[TILE / 32];
  __shared__ unsigned long long stays;
  for (long long base = start; base < end; base += TILE) {
    const int here = min((long long)TILE, end - base);
    __syncthreads();
    if (threadIdx.x < here) tile[threadIdx.x] = boxes[base + threadIdx.x];
    __syncthreads();
    if (threadIdx.x < here) {
      unsigned long long bits = 0;
      for (int j = threadIdx.x + 1; j < here; ++j)
        if (overlap(tile[threadIdx.x], tile[j]) > threshold) bits |= 1ull << j;
      over[threadIdx.x] = bits;
    }
    if (threadIdx.x < TILE) {
      const unsigned word = __ballot_sync(0xffffffff, threadIdx.x < here && keep[base + threadIdx.x]);
      if (threadIdx.x % 32 == 0) alive[threadIdx.x / 32] = word;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long left = alive[0] | (unsigned long long)alive[1] << 32;
      for (int j = 0; j < here; ++j)
        if (left >> j & 1) left &= ~over[j];
      stays = left;
    }
    __syncthreads();
    const unsigned long long kept = stays;
    if (threadIdx.x < here) keep[base + threadIdx.x] = kept >> threadIdx.x & 1;
    for (long long i = base + TILE + threadIdx.x; i < end; i += blockDim.x) {
      if (!keep[i]) continue;
      const float4 box = boxes[i];
      for (int j = 0; j < here; ++j)
        if ((kept >> j & 1) && overlap(tile[j], box) > threshold) {
          keep[i] = false;
          break;
        }
    }
  }
}

// The largest of a warp's numbers, known to its first thread.
__device__ __forceinline__ int widest(int value) {
  for (int step = 16; step > 0; step /= 2) value = max(value, __shfl_down_sync(0xffffffff, value, step));
  return value;
}

// For each of `count` boxes the truth of `truths` that overlaps it most, the first of equals, in `of`, and the overlap in `best`; for
// each truth the largest overlap, as the bits of a float that is not negative, in `most`, which begins as zeros.
extern "C" __global__ void best_truths(
    const float4* truth, long long truths, const float4* boxes, long long count, float* best, long long* of, int* most) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const float4 box = i < count ? boxes[i] : make_float4(0.f, 0.f, -1.f, -1.f);
  float found = -1.f;
  long long which = 0;
  for (long long t = 0; t < truths; ++t) {
    const float value = i < count ? overlap(truth[t], box) : 0.f;
    if (value > found) {
      found = value;
      which = t;
    }
    // The largest of the warp; a number that is not negative is ordered as its bits are.
    const int bits = widest(value > 0.f ? __float_as_int(value) : 0);
    if (most && threadIdx.x % 32 == 0 && bits > most[t]) atomicMax(&most[t], bits);
  }
  if (i < count) {
    best[i] = found;
    of[i] = which;
  }
}

// Which truth each box belongs to: `of` where its overlap is at least `high`, −1 where it is below `low`, −2 between; with `most`, also
// `of` where the box overlaps any truth as much as no other box does.
extern "C" __global__ void match(
    const float4* truth, long long truths, const float4* boxes, long long count, const float* best, const long long* of,
    const int* most, float low, float high, long long* matches) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= count) return;
  long long match = best[i] < low ? -1 : best[i] < high ? -2 : of[i];
  if (most && match < 0) {
    const float4 box = boxes[i];
    for (long long t = 0; t < truths; ++t)
      if (overlap(truth[t], box) == __int_as_float(most[t])) {
        match = of[i];
        break;
      }
  }
  matches[i] = match;
}
