//! What a plan is read from.

use pipe_document::Document;
use pipe_document::diagnostic::Sources;
use pipe_vocab::Catalog;

/// A document, where its texts are, and the components that it may name.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    pub document: &'a Document,
    pub sources: &'a Sources,
    pub catalog: &'a Catalog,
}
