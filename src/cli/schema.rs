//! `pipe schema`.

use anyhow::Result;

use super::Status;
use crate::registry::schema::pipeline_schema;

/// Prints the JSON schema of pipeline files.
///
/// # Errors
/// When standard output is closed.
pub fn print() -> Result<Status> {
    super::print(&(serde_json::to_string_pretty(&pipeline_schema())? + "\n"))
}
