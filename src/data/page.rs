//! The page of `pipe data`: what the text says with pictures of it, and batches as the loaders make them.

use anyhow::Result;
use pipe_core::{Instance, Kind, NodeId, Which};
use pipe_plan::Plan;

use super::same::Same;
use super::summary::Summary;
use crate::page::Page;
use crate::partial::{Partial, port_of};
use crate::stages::{self, Drawing, class_names};

/// Classes that a chart shows.
const CHARTED: usize = 100;

/// Images of a batch that are drawn.
const DRAWN: usize = 4;

/// The page.
///
/// # Errors
/// A batch cannot be made.
pub(super) fn page(
    title: &str,
    summaries: &[(NodeId, Summary)],
    same: &[Same],
    plan: &Plan,
    partial: &Partial,
) -> Result<String> {
    let mut page = Page::new(title);
    for (id, summary) in summaries {
        page.section(&id.to_string());
        page.table(&summary.lines(0));
        let classes = summary.classes();
        if !classes.is_empty() {
            page.part("classes");
            page.bars(&classes[..classes.len().min(CHARTED)]);
            if let Some(more) = classes.len().checked_sub(CHARTED + 1) {
                page.text(&format!("… and {} more", more + 1));
            }
        }
        for (name, sizes) in summary.sizes() {
            page.part(&name);
            page.bars(&sizes);
        }
    }
    if !same.is_empty() {
        page.section("the same content");
        same.iter().for_each(|same| page.text(&same.to_string()));
    }
    for id in plan.nodes.keys().filter(|id| id.kind == Kind::Loader) {
        batch(&mut page, id, plan, partial)?;
    }
    Ok(page.finish())
}

/// The first batch of a loader, after every step.
fn batch(page: &mut Page, id: &NodeId, plan: &Plan, partial: &Partial) -> Result<()> {
    // One that cannot be built was told.
    let Ok(Instance::Loader(loader)) = partial.graph.node(id) else { return Ok(()) };
    let names = class_names(port_of(plan, id, Kind::Dataset), &partial.graph);
    let class = |label: i64| names.get(&label).cloned().unwrap_or_else(|| label.to_string());
    let drawing = Drawing { most: DRAWN, class: &class, numbered: false };
    let ways = stages::ways(&mut *loader.borrow_mut(), Which::Of { pass: 0, number: 0 }, &drawing)?;
    page.section(&format!("{id}: the first batch, after every step"));
    stages::show(&ways, page)
}
