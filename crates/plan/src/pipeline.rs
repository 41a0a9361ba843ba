//! The `[pipeline]` section: what holds for the whole run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::sync::OnceLock;

use super::lower::Lowering;
use crate::file::File;
use crate::marks::Marks;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, suggest};
use pipe_vocab::refusal::CODES;
use pipe_vocab::{Precision, schema_of};

/// What holds for the whole run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// The pipeline's name; run folders are called after it. The file's name when left out.
    #[schemars(extend("x-reload" = "hot"))]
    pub name: Option<String>,
    /// The seed of every random number.
    #[schemars(extend("x-reload" = "fixed"))]
    pub seed: u64,
    /// Where models run: `cpu`, `cuda`, `cuda:N`, or `auto` (CUDA where there is a GPU).
    #[schemars(extend("x-reload" = "fixed"), regex(pattern = r"^(auto|cpu|cuda(:\d+)?)$"))]
    pub device: String,
    /// One process on each of these devices, which share the batches: `0,1` or `all` for GPUs, `cpu:2` for two on the CPU. The same as
    /// `--devices`; not where torchrun or SLURM starts the processes.
    #[schemars(extend("x-reload" = "fixed"), regex(pattern = r"^(all|cpu:[1-9]\d*|\d+(\s*,\s*\d+)*)$"))]
    pub devices: Option<String>,
    /// Where several processes share the batches: whether batch normalization takes the statistics of the whole batch in training, not of each
    /// one's part (torch's `SyncBatchNorm`, on any device).
    #[schemars(extend("x-reload" = "fixed"))]
    pub sync_batch_norm: bool,
    /// Likewise: whether losses that are divided by what is in a batch (foreground, masks, keypoints, pixels that count, weights of classes) are
    /// divided by what is in the whole batch. Without it by what is in each one's part, as torchvision's under `DistributedDataParallel`.
    #[schemars(extend("x-reload" = "fixed"))]
    pub sync_loss_counts: bool,
    /// The type in which models compute; weights stay fp32.
    #[schemars(extend("x-reload" = "fixed"))]
    pub precision: Precision,
    /// Refuse operations whose results depend on thread timing, which on CUDA costs speed. On the CPU no results do; there, layers are
    /// evaluated in the very order of torchvision's, whose last digits are then the same, and that costs speed too.
    #[schemars(extend("x-reload" = "fixed"))]
    pub deterministic: bool,
    /// On an accelerator: whether the batches of the schedule that need most memory are tried before the first step, so that what does
    /// not fit is refused then.
    #[schemars(extend("x-reload" = "fixed"))]
    pub preflight: bool,
    /// Refusals that are to pass, by their codes: the same as `--accept CODE`.
    #[schemars(extend("x-reload" = "hot"))]
    pub accept: Vec<String>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig {
            name: None,
            seed: 0,
            device: "auto".into(),
            devices: None,
            sync_batch_norm: false,
            sync_loss_counts: false,
            precision: Precision::Fp32,
            deterministic: false,
            preflight: true,
            accept: Vec::new(),
        }
    }
}

/// The section's JSON schema.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(schema_of::<PipelineConfig>)
}

/// Whether a text names a device.
pub fn is_device(text: &str) -> bool {
    let index = |rest: &str| rest.strip_prefix(':').is_some_and(|n| n.parse::<u16>().is_ok());
    matches!(text, "auto" | "cpu" | "cuda") || text.strip_prefix("cuda").is_some_and(index)
}

/// Whether a text names devices, one for each process.
pub fn is_devices(text: &str) -> bool {
    let is_number = |text: &str| text.trim().parse::<u16>().is_ok();
    let is_some = |text: &str| text.parse::<u16>().is_ok_and(|count| count > 0);
    text == "all" || text.strip_prefix("cpu:").is_some_and(is_some) || text.split(',').all(is_number)
}

/// Reads the section; defaults where it is wrong.
pub(super) fn read(file: File<'_>, found: &mut Diagnostics) -> (PipelineConfig, Marks) {
    let Some(node) = file.document.root().get("pipeline") else { return (PipelineConfig::default(), Marks::default()) };
    let Some(table) = node.as_table() else {
        let message = format!("`pipeline` must be a table, found {}", super::message::found(&node.value));
        found.push(Diagnostic::error("wrong-type", message).at(node.location.clone()).help("write `[pipeline]`"));
        return (PipelineConfig::default(), Marks::default());
    };
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, schema(), vec!["pipeline".into()]);
    let json = lowering.table(table, &node.location, &[], "`[pipeline]`");
    let wrong = lowering.diagnostics.has_errors();
    found.extend(lowering.diagnostics);
    let mut config = PipelineConfig::default();
    if !wrong {
        match serde_json::from_value::<PipelineConfig>(json) {
            Ok(read) => config = read,
            Err(error) => {
                found.push(Diagnostic::error("invalid-option", error.to_string()).at(node.location.clone()));
            }
        }
    }
    if let Some(name) = config.name.as_deref().filter(|name| !is_folder_name(name)) {
        let at = table.get("name").map_or(&node.location, |name| &name.location);
        let message = format!("`{name}` cannot be the name of a folder, as the pipeline's name must");
        let help = "use letters, digits, `_`, `-` and `.`, at most 100, and no `.` at the start";
        found.push(Diagnostic::error("bad-name", message).at(at.clone()).help(help));
    }
    if let Some(devices) = config.devices.as_ref().filter(|devices| !is_devices(devices)) {
        let at = table.get("devices").map_or(&node.location, |devices| &devices.location);
        let message = format!("`{devices}` names no devices");
        found.push(Diagnostic::error("invalid-option", message).at(at.clone()).help("write 0,1 or all or cpu:2"));
    }
    if !is_device(&config.device) {
        let at = table.get("device").map_or(&node.location, |device| &device.location);
        let message = format!("`{}` is not a device", config.device);
        found.push(Diagnostic::error("unknown-choice", message).at(at.clone()).help("write auto, cpu, cuda or cuda:N"));
    }
    for (index, name) in config.accept.iter().enumerate().filter(|(_, name)| !is_code(name)) {
        let at = table.get("accept").and_then(|list| list.as_array()?.get(index)).unwrap_or(node);
        let names: Vec<&str> = CODES.iter().map(|code| code.name).collect();
        let help = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the codes are {}", super::message::list(&names)),
        };
        let message = format!("`{name}` is not the code of a refusal");
        found.push(Diagnostic::error("unknown-choice", message).at(at.location.clone()).help(help));
    }
    (config, Marks { secrets: lowering.secrets, typed: lowering.typed, dropped: Vec::new() })
}

/// Whether a run's folder can be called so: one step of a path, hidden neither from people nor by control characters.
fn is_folder_name(name: &str) -> bool {
    let fits = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
    !name.trim().is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(fits)
}

fn is_code(name: &str) -> bool {
    CODES.iter().any(|code| code.name == name)
}
