//! The `[plugins]` section: libraries that a pipeline needs, loaded before it is planned.

use std::path::Path;

use crate::diagnostic::{Diagnostic, Diagnostics, Sources};
use crate::document::{Document, PathSegment};
use crate::registry::plugins;

/// Loads every library that `[plugins] paths` names; relative to the file that wrote the path. What is no text there is the
/// plan's to report.
pub fn load_from(document: &Document, sources: &Sources) -> Diagnostics {
    let mut found = Diagnostics::new();
    let paths = document.root().get("plugins").and_then(|section| section.as_table()?.get("paths")?.as_array());
    for (index, node) in paths.into_iter().flatten().enumerate() {
        let pointer = ["plugins".into(), "paths".into(), PathSegment::Index(index)];
        let Some(path) = document.resolve_path(&pointer, sources) else { continue };
        if let Err(error) = plugins::load(Path::new(&path)) {
            let diagnostic = Diagnostic::error("plugin", format!("the plugin cannot be loaded: {error:#}"));
            let diagnostic = diagnostic.at(node.location.clone());
            let help =
                "`pipe plugin check LIB` says more; the path counts from the folder of the file that it stands in";
            found.push(node.origin.annotate(diagnostic.help(help)));
        }
    }
    found
}
