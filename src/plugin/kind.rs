//! The kinds of components that a plugin can have.

use clap::ValueEnum;

/// Kinds of components that a plugin can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PluginKind {
    /// Changes samples.
    Transform,
    /// Gives samples.
    Dataset,
    /// A network with its losses.
    Model,
    /// Numbers computed over an evaluation.
    Metric,
    /// Called on events.
    Handler,
    /// Takes records.
    Sink,
    /// Drives a learning rate.
    Scheduler,
    /// Changes parameters.
    Optimizer,
}

impl PluginKind {
    /// The source of a plugin to start from.
    pub fn source(self) -> &'static str {
        match self {
            PluginKind::Transform => include_str!("templates/transform.rs"),
            PluginKind::Dataset => include_str!("templates/dataset.rs"),
            PluginKind::Model => include_str!("templates/model.rs"),
            PluginKind::Metric => include_str!("templates/metric.rs"),
            PluginKind::Handler => include_str!("templates/handler.rs"),
            PluginKind::Sink => include_str!("templates/sink.rs"),
            PluginKind::Scheduler => include_str!("templates/scheduler.rs"),
            PluginKind::Optimizer => include_str!("templates/optimizer.rs"),
        }
    }

    /// As on the command line and in pipelines.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginKind::Transform => "transform",
            PluginKind::Dataset => "dataset",
            PluginKind::Model => "model",
            PluginKind::Metric => "metric",
            PluginKind::Handler => "handler",
            PluginKind::Sink => "sink",
            PluginKind::Scheduler => "scheduler",
            PluginKind::Optimizer => "optimizer",
        }
    }
}
