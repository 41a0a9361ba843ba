//! What manifests of Kubernetes have in common: names, volumes, limits, and where pods may be.

use serde_json::{Map, Value, json};

use crate::job::Job;
use crate::profile::KubernetesConfig;

pub(crate) fn metadata(config: &KubernetesConfig, job: &Job) -> Value {
    // The cluster adds what makes it one of its own.
    let mut metadata = json!({ "generateName": format!("{}-", label(&job.name)) });
    set(&mut metadata, "namespace", config.namespace.as_ref());
    if let Some(queue) = &config.queue {
        metadata["labels"] = json!({ "kueue.x-k8s.io/queue-name": queue });
    }
    metadata
}

/// A name as Kubernetes takes it: lowercase letters, digits and hyphens, with room for an ending.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(50).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "pipe".into() } else { label.to_owned() }
}

fn set(table: &mut Value, key: &str, value: Option<&String>) {
    if let Some(value) = value {
        table[key] = value.clone().into();
    }
}

pub(crate) fn environment(config: &KubernetesConfig) -> Vec<Value> {
    config.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

pub(crate) fn limits(config: &KubernetesConfig) -> Map<String, Value> {
    let mut limits = Map::new();
    limits.extend(config.gpus.map(|gpus| ("nvidia.com/gpu".to_owned(), gpus.into())));
    limits.extend(config.cpus.clone().map(|cpus| ("cpu".to_owned(), cpus.into())));
    limits.extend(config.memory.clone().map(|memory| ("memory".to_owned(), memory.into())));
    limits
}

/// Where a container sees its volumes, and what they are.
pub(crate) fn volumes(config: &KubernetesConfig) -> (Vec<Value>, Vec<Value>) {
    // Loaders' processes and collectives want more than the 64 MB that a container has by itself.
    let mut mounts = vec![json!({ "name": "shm", "mountPath": "/dev/shm" })];
    let mut volumes = vec![json!({ "name": "shm", "emptyDir": { "medium": "Memory" } })];
    for (number, (path, claim)) in config.volumes.iter().enumerate() {
        let name = format!("data-{number}");
        mounts.push(json!({ "name": name, "mountPath": path }));
        volumes.push(json!({ "name": name, "persistentVolumeClaim": { "claimName": claim } }));
    }
    (mounts, volumes)
}

impl KubernetesConfig {
    /// From where relative paths start.
    pub(crate) fn folder(&self, job: &Job) -> String {
        self.directory.clone().unwrap_or_else(|| job.from.display().to_string())
    }

    /// On which nodes a pod may be, and as whom.
    pub(crate) fn place(&self, pod: &mut Value) {
        if !self.node_selector.is_empty() {
            pod["nodeSelector"] = json!(self.node_selector);
        }
        set(pod, "serviceAccountName", self.service_account.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_cluster() {
        let names = ["Mask R-CNN, 2 GPUs!", "--", "digits", &"long".repeat(30)];
        let labels = names.map(label);
        assert_eq!(labels[..3], ["mask-r-cnn--2-gpus", "pipe", "digits"]);
        assert_eq!(labels[3].len(), 50);
    }
}
