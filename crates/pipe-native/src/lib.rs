//! The native layer: everything unsafe over libtorch that tch lacks.
