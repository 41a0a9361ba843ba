/* An empty shared library. build.rs makes it under the names that torchvision's libraries list as needed but use nothing
   of, where libtorch has no such library (libtorch.so and libtorch_cuda.so in the layout without CUDA). */
