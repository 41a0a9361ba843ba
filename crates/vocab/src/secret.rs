//! Texts that are never shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// Whether a word of the name, between `_`, `-` and changes of case, is one that names a secret.
pub fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 10] =
        ["token", "secret", "password", "passwd", "passphrase", "key", "apikey", "credential", "credentials", "auth"];
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.iter().any(|word| WORDS.contains(&word.as_str()))
}

/// A token or password in a component's configuration. It is read like any text, most often as `"${env:NAME}"`; `pipe show`,
/// the run's folder and messages have `<secret>` in its place.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<secret>")
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-secret": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in ["WANDB_API_KEY", "token", "hfToken", "DB-PASSWORD", "AWS_SECRET_ACCESS_KEY", "key"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["keypoints", "MAX_TOKENS", "monkey", "COCO_ROOT", "", "keyboard_layout"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
