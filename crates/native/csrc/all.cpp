// The shim as one piece: see build.rs.
#include "kernels.cpp"
#include "ops.cpp"
#include "optim.cpp"
#include "profile.cpp"
#include "roi_align.cpp"
#include "roi_align_ordered.cpp"
#include "runtime.cpp"
#include "script.cpp"
