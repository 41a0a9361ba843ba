//! Rules: what is well-formed and hardly meant. Each has a name, under which `[checks] allow` lets it pass.
//!
//! - [`rule`]: what a rule is; [`rules`]: the table of all
//! - [`section`]: the `[checks]` section
//! - [`view`]: questions to the graph and to what components say of themselves; [`timeline`]: how often things happen
//! - [`data`]: what is known of datasets once their indexes are open
//! - the rest: the rules by topic
//!
//! Rules of the graph run when a plan is made. Rules of the data, and those of the graph that know more with the data, run when
//! datasets are open: `pipe check --data`, dry runs, the start of a run.

mod batches;
pub mod data;
mod evaluation;
mod labels;
mod learning;
mod models;
mod normalization;
mod reach;
pub mod rule;
pub mod rules;
mod schedules;
mod secrets;
pub(crate) mod section;
mod tags;
mod timeline;
pub(crate) mod unused;
pub(crate) mod view;
mod watching;

use pipe_document::diagnostic::{Diagnostic, Diagnostics};

use rule::{Findings, Phase, Rule};
use rules::RULES;
use section::Allowed;
use view::View;

/// Applies the rules that need no more than the graph.
pub(crate) fn apply(view: &View<'_>, allowed: &mut [Allowed], found: &mut Diagnostics) {
    run(view, allowed, found, |rule| rule.phase != Phase::Data);
    report_unused(allowed, found, |rule| rule.phase == Phase::Graph);
}

/// Applies the rules that need the data; what the graph alone has shown is not said again.
pub(crate) fn apply_to_data(view: &View<'_>, allowed: &mut [Allowed], found: &mut Diagnostics) {
    run(view, allowed, found, |rule| rule.phase != Phase::Graph);
    report_unused(allowed, found, |rule| rule.phase != Phase::Graph);
}

fn run(view: &View<'_>, allowed: &mut [Allowed], found: &mut Diagnostics, which: impl Fn(&Rule) -> bool) {
    for rule in RULES.iter().filter(|rule| which(rule)) {
        let mut findings = Findings { rule, found: Vec::new() };
        (rule.check)(view, &mut findings);
        match allowed.iter_mut().find(|allowed| allowed.rule.name == rule.name) {
            Some(allowed) => allowed.fired |= !findings.found.is_empty(),
            None => found.extend(findings.found),
        }
    }
}

fn report_unused(allowed: &[Allowed], found: &mut Diagnostics, which: impl Fn(&Rule) -> bool) {
    let unused = allowed.iter().filter(|allowed| allowed.own && !allowed.fired && which(allowed.rule));
    for Allowed { rule, location, .. } in unused {
        let message = format!("nothing breaks the rule `{}`, so it need not be allowed", rule.name);
        found.push(Diagnostic::warning(rules::UNUSED_ALLOW, message).at(location.clone()).help("remove it"));
    }
}
