//! The floating-point type in which models compute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The floating-point type in which models compute; weights stay fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// Autocast to bfloat16.
    Bf16,
    /// Autocast to half, with a loss scaler.
    Fp16,
}
