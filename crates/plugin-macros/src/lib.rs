//! `#[config]`, re-exported by `pipe-plugin`: an author depends on no crate but that one.

use proc_macro::TokenStream;

/// Makes a struct or enum (part of) a configuration: it can be read, written and described, unknown keys are errors, and
/// serde and schemars are those of `pipe-plugin`. Their field attributes (`#[serde(default)]`, `#[schemars(range(min = 0))]`)
/// work as usual.
#[proc_macro_attribute]
pub fn config(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return "compile_error!(\"`config` takes no arguments\");".parse().unwrap_or_default();
    }
    let attributes = "
        #[derive(Debug, Clone, ::pipe_plugin::serde::Serialize, ::pipe_plugin::serde::Deserialize,
            ::pipe_plugin::schemars::JsonSchema)]
        #[serde(crate = \"::pipe_plugin::serde\", deny_unknown_fields)]
        #[schemars(crate = \"::pipe_plugin::schemars\")]
    ";
    let mut output: TokenStream = attributes.parse().unwrap_or_default();
    output.extend(item);
    output
}
