//! Integration tests, one binary.

mod detection;
