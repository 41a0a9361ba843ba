//! What documents resolve to.
