//! Engines: what one iteration does. The loop around it is [`crate::engine`].
