//! The plan: a pipeline as a checked graph. Pure: no disk, no device; every mistake is collected.
//!
//! - [`pipeline`]: the `[pipeline]` section
//! - [`plugins`]: the `[plugins]` section
//! - [`sweep`]: the `[sweep]` section; [`submit`]: `[submit.NAME]`
//! - [`lower`]: tables against schemas, every mistake at its place
//! - [`mention`]: what values of a table say of other nodes
//! - [`component`]: which component a table names, and whether its options fit
//! - [`nodes`]: the tables of nodes, with their components
//! - `retyped`: what nodes keep whose `type` an override changes
//! - [`edges`]: names of other nodes, resolved
//! - [`events`]: the `[[on]]` tables
//! - [`graph`]: the petgraph graph, cycles, order
//! - [`flow`]: what samples contain along the edges
//! - [`usage`]: which engines run by themselves, and what two use at once
//! - [`checks`]: rules about what is well-formed and hardly meant
//! - [`render`]: the plan as text, dot, mermaid, JSON
//! - [`message`](mod@message): wording

pub mod checks;
pub mod component;
pub mod edges;
pub mod events;
mod file;
pub mod flow;
pub mod graph;
mod left_out;
pub mod lower;
mod marks;
pub mod mention;
pub mod message;
mod names;
pub mod nodes;
pub mod pipeline;
pub mod plugins;
pub mod render;
mod retyped;
pub mod schema;
pub mod schema_file;
pub mod submit;
pub mod sweep;
pub mod usage;

use indexmap::IndexMap;
use serde_json::Value as Json;

pub use checks::section::Allowed;
pub use edges::{DataEdge, PropertyEdge};
pub use events::{Action, EventEdge, EventTarget};
pub use nodes::{CannotBuild, PlanNode};
pub use pipeline::PipelineConfig;
pub use sweep::SweepConfig;

use pipe_document::diagnostic::{Diagnostic, Diagnostics, Sources};
use pipe_document::{Document, PathSegment};
use pipe_vocab::refusal::LABELS_DIFFER;
use pipe_vocab::{Catalog, NodeId};

use crate::checks::data::Data;
use crate::checks::rules::CLASS_NAMES_DIFFER;
use crate::checks::view::View;
use crate::component::with_values;
use crate::file::File;
pub use crate::marks::Marks;

/// A pipeline as a checked graph.
pub struct Plan {
    /// The `[pipeline]` section.
    pub pipeline: PipelineConfig,
    /// The nodes, in the order of the file.
    pub nodes: IndexMap<NodeId, PlanNode>,
    /// Ports filled with other nodes.
    pub data_edges: Vec<DataEdge>,
    /// Options filled with other nodes' properties.
    pub property_edges: Vec<PropertyEdge>,
    /// Targets of events, in the order of the file.
    pub event_edges: Vec<EventEdge>,
    /// The nodes so that each comes after those that its ports name; among equals, in the order of the file.
    pub order: Vec<NodeId>,
    /// The engines that run by themselves, in the order of the file: those that no event runs.
    pub roots: Vec<NodeId>,
    /// Values that must never be shown: steps from the document's root.
    pub secrets: Vec<Vec<PathSegment>>,
    /// Rules that are let pass.
    pub allowed: Vec<Allowed>,
    /// The `[sweep]` section, of which a run knows nothing.
    pub sweep: Option<SweepConfig>,
    /// The profiles of `[submit.NAME]`, likewise.
    pub submit: IndexMap<String, pipe_submit::Profile>,
}

impl Plan {
    /// Checks a document. A plan comes back only where there are no errors; warnings may come with it.
    pub fn of(document: &Document, sources: &Sources, catalog: &Catalog) -> (Option<Plan>, Diagnostics) {
        let (plan, found, _) = Plan::with_marks(document, sources, catalog);
        (plan, found)
    }

    /// Gives an option of a node a value, under the ranges and checks that hold in the file; a property that the option named
    /// is read no more.
    ///
    /// # Errors
    /// Why the value is refused.
    pub fn set_option(&mut self, node: &NodeId, option: &[PathSegment], value: Json) -> Result<(), String> {
        let Some(found) = self.nodes.get_mut(node) else { return Err(format!("there is no node {node}")) };
        let (config, checked) = with_values(found.descriptor, &found.config, &[(option, value)])?;
        (found.config, found.component) = (config, Some(checked));
        self.property_edges.retain(|edge| edge.to != *node || edge.option != option);
        Ok(())
    }

    /// The rules that need the data; what is among the findings `before` is not said again.
    pub fn check_data(&self, document: &Document, data: &Data, before: &Diagnostics) -> Diagnostics {
        let mut allowed = self.allowed.clone();
        let edges = (&self.data_edges[..], &self.property_edges[..]);
        let mut view = View::new(&self.nodes, edges, &self.event_edges, document);
        view.data = Some(data);
        let mut found = Diagnostics::new();
        checks::apply_to_data(&view, &mut allowed, &mut found);
        let told = |one: &Diagnostic| before.iter().any(|other| other.code == one.code && other.primary == one.primary);
        // The refusal of a run speaks of the same thing.
        let accepted = |one: &Diagnostic| {
            one.code == CLASS_NAMES_DIFFER && self.pipeline.accept.iter().any(|code| *code == LABELS_DIFFER.name)
        };
        found.into_iter().filter(|one| !told(one) && !accepted(one)).collect()
    }

    /// Checks a document and says, also where there are errors, what its components know of its values.
    pub fn with_marks(document: &Document, sources: &Sources, catalog: &Catalog) -> (Option<Plan>, Diagnostics, Marks) {
        let mut found = Diagnostics::new();
        let file = File { document, sources, catalog };
        let (pipeline, mut marks) = pipeline::read(file, &mut found);
        plugins::check(file, &mut found);
        let mut allowed = checks::section::read(file, &mut found);
        let read = nodes::read(file, &mut found);
        let sweep = sweep::read(file, &read, &mut found);
        let submit = submit::read(file, &mut found);
        marks.secrets.extend(read.secrets);
        marks.typed.extend(read.typed);
        marks.dropped.extend(read.dropped);
        let resolved = edges::resolve(&read.nodes, &read.unreadable, &read.mentions, &mut found);
        let event_edges = events::read(file, &read.nodes, &read.unreadable, &mut found);
        let order = graph::order(&read.nodes, &resolved, &mut found);
        graph::check_event_cycles(&event_edges, &mut found);
        let left_out = flow::check(&read.nodes, &resolved.data, &event_edges, &mut found);
        edges::check_values(&read.nodes, &read.unreadable, &resolved, &event_edges, &left_out, &mut found);
        if !graph::check_value_cycles(&resolved.values, &mut found) {
            edges::check_value_order(&resolved, &event_edges, &mut found);
        }
        usage::check_sharing(&read.nodes, &resolved.data, &event_edges, &mut found);
        // What is unused is known only where every name is: a misspelt reference would call its target unused.
        if !found.has_errors() {
            let edges = (&resolved.data[..], &resolved.properties[..]);
            let view = View::new(&read.nodes, edges, &event_edges, document);
            checks::unused::set_in_vain(&view, &mut found);
            checks::apply(&view, &mut allowed, &mut found);
        }
        if found.has_errors() {
            return (None, found, marks);
        }
        let roots = usage::roots(&read.nodes, &event_edges);
        let plan = Plan {
            pipeline,
            nodes: read.nodes,
            data_edges: resolved.data,
            property_edges: resolved.properties,
            event_edges,
            order,
            roots,
            secrets: marks.secrets.clone(),
            allowed,
            sweep,
            submit,
        };
        (Some(plan), found, marks)
    }
}
