//! No text breaks the document phase.
