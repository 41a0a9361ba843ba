//! The `[plugins]` section: libraries that a pipeline needs, opened before it is planned.

use std::path::{Path, PathBuf};

use pipe_document::diagnostic::{Diagnostic, Diagnostics, Sources};
use pipe_document::{Document, Node, PathSegment};
use pipe_vocab::Catalog;

/// The libraries that `[plugins] paths` names, each with its node; relative to the file that wrote the path. What is no
/// string there is the plan's to report.
pub fn paths<'d>(document: &'d Document, sources: &Sources) -> Vec<(PathBuf, &'d Node)> {
    let nodes = document.root().get("plugins").and_then(|section| section.as_table()?.get("paths")?.as_array());
    let nodes = nodes.into_iter().flatten().enumerate();
    let resolved = nodes.filter_map(|(index, node)| {
        let pointer = ["plugins".into(), "paths".into(), PathSegment::Index(index)];
        Some((document.resolve_path(&pointer, sources)?.into(), node))
    });
    resolved.collect()
}

/// Opens every library that the document names and adds its components to the catalog.
pub fn load_from(document: &Document, sources: &Sources, catalog: &mut Catalog) -> Diagnostics {
    let mut found = Diagnostics::new();
    for (path, node) in paths(document, sources) {
        let path: &Path = &path;
        if let Err(error) = super::load(path).and_then(|loaded| loaded.add_to(catalog)) {
            let diagnostic = Diagnostic::error("plugin", format!("the plugin cannot be loaded: {error:#}"));
            let diagnostic = diagnostic.at(node.location.clone());
            let help =
                "`pipe plugin check LIB` says more; the path counts from the folder of the file that it stands in";
            found.push(node.origin.annotate(diagnostic.help(help)));
        }
    }
    found
}
