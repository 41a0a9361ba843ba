//! Kubernetes: a Job, handed over by `kubectl`. Written and validated against the schemas, never tried on a cluster.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::job::Job;
use crate::profile::KubernetesConfig;
use crate::receipt::{Engine, Receipt};
use crate::shell::{line, said};

/// The file's name in the job's folder.
pub const FILE: &str = "job.yaml";

/// The manifest.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn manifest(config: &KubernetesConfig, job: &Job) -> Result<String> {
    // The cluster adds what makes it one of its own.
    let mut metadata = json!({ "generateName": format!("{}-", label(&job.name)) });
    set(&mut metadata, "namespace", config.namespace.as_ref());
    if let Some(queue) = &config.queue {
        metadata["labels"] = json!({ "kueue.x-k8s.io/queue-name": queue });
    }
    let mut spec = json!({
        "backoffLimit": config.retries,
        "podFailurePolicy": { "rules": [
            // A wrong file is as wrong the next time.
            { "action": "FailJob", "onExitCodes": { "containerName": "pipe", "operator": "In", "values": [2] } },
            // Ended with a checkpoint, from which the next pod goes on.
            { "action": "Ignore", "onExitCodes": { "containerName": "pipe", "operator": "In", "values": [130, 138, 143] } },
            { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        ] },
        "template": { "spec": pod(config, job) },
    });
    if let Some(array) = &job.array {
        let runs = array.sets.len();
        spec["completionMode"] = "Indexed".into();
        spec["completions"] = runs.into();
        spec["parallelism"] = array.at_most.map_or(runs, |number| number as usize).into();
    }
    let manifest = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec });
    serde_saphyr::to_string(&manifest).context("the job cannot be written as YAML")
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

fn pod(config: &KubernetesConfig, job: &Job) -> Value {
    let words = line(job.words().iter().map(String::as_str));
    let folder = crate::shell::quoted(&job.folder.display().to_string());
    let command = match &job.array {
        None => format!("exec {words} --out {folder}"),
        Some(array) => {
            let cases = array.sets.iter().enumerate().map(|(number, set)| {
                let set = crate::shell::quoted(set);
                format!("{number}) exec {words} --out {folder}/{number} --set {set} ;;")
            });
            format!("case \"$JOB_COMPLETION_INDEX\" in\n{}\nesac", cases.collect::<Vec<_>>().join("\n"))
        }
    };
    let mut limits = Map::new();
    limits.extend(config.gpus.map(|gpus| ("nvidia.com/gpu".to_owned(), gpus.into())));
    limits.extend(config.cpus.clone().map(|cpus| ("cpu".to_owned(), cpus.into())));
    limits.extend(config.memory.clone().map(|memory| ("memory".to_owned(), memory.into())));
    let claims =
        || config.volumes.iter().enumerate().map(|(number, (path, claim))| (format!("data-{number}"), path, claim));
    // Loaders' processes and collectives want more than the 64 MB that a container has by itself.
    let mut mounts = vec![json!({ "name": "shm", "mountPath": "/dev/shm" })];
    mounts.extend(claims().map(|(name, path, _)| json!({ "name": name, "mountPath": path })));
    let mut volumes = vec![json!({ "name": "shm", "emptyDir": { "medium": "Memory" } })];
    volumes.extend(
        claims().map(|(name, _, claim)| json!({ "name": name, "persistentVolumeClaim": { "claimName": claim } })),
    );
    let env: Vec<Value> = config.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let mut pod = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace.get().as_secs(),
        "containers": [{
            "name": "pipe",
            "image": config.image,
            "workingDir": config.directory.clone().unwrap_or_else(|| job.from.display().to_string()),
            "command": ["sh", "-c", command],
            "env": env,
            "resources": { "limits": limits },
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    if !config.node_selector.is_empty() {
        pod["nodeSelector"] = json!(config.node_selector);
    }
    set(&mut pod, "serviceAccountName", config.service_account.as_ref());
    pod
}

fn kubectl(namespace: Option<&String>) -> Command {
    let mut command = Command::new("kubectl");
    command.args(namespace.iter().map(|name| format!("--namespace={name}")));
    command
}

/// Hands the file in the job's folder to `kubectl`.
///
/// # Errors
/// When there is no `kubectl`, or the cluster refuses.
pub fn submit(config: &KubernetesConfig, job: &Job) -> Result<Receipt> {
    let told = said(
        kubectl(config.namespace.as_ref()).args(["create", "--output=name", "--filename"]).arg(job.own().join(FILE)),
    )?;
    let name = told.rsplit('/').next().unwrap_or_default().to_owned();
    ensure!(!name.is_empty(), "`kubectl` gave no job's name, but: {told}");
    Ok(Receipt { engine: Engine::Kubernetes, job: name, place: config.namespace.clone() })
}

/// Such as `Complete`, `Failed`, or how many pods are at work.
///
/// # Errors
/// When the cluster cannot be asked, or has forgotten the job.
pub fn state(receipt: &Receipt) -> Result<String> {
    let told = said(kubectl(receipt.place.as_ref()).args(["get", "job", &receipt.job, "--output=json"]))?;
    let job: Value = serde_json::from_str(&told).context("what `kubectl` says is no JSON")?;
    Ok(standing(&job["status"]))
}

/// What the status of a Job says.
fn standing(status: &Value) -> String {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held = conditions.iter().filter(|condition| condition["status"] == "True");
    let ended = held.filter_map(|condition| condition["type"].as_str());
    match ended.clone().find(|kind| ["Complete", "Failed", "Suspended"].contains(kind)) {
        Some(kind) => kind.to_owned(),
        None if status["active"].as_u64().unwrap_or(0) > 0 && status["ready"].as_u64() != Some(0) => "Running".into(),
        None => "Pending".into(),
    }
}

/// Deletes the Job: its pods are sent SIGTERM, upon which a run saves a checkpoint.
///
/// # Errors
/// When the cluster refuses.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    said(kubectl(receipt.place.as_ref()).args(["delete", "job", &receipt.job, "--wait=false"])).map(drop)
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

    #[test]
    fn the_status_of_a_job_is_a_word() {
        let of = |status: Value| standing(&status);
        assert_eq!(of(json!({})), "Pending");
        assert_eq!(of(json!({ "active": 1, "ready": 0 })), "Pending");
        assert_eq!(of(json!({ "active": 1, "ready": 1 })), "Running");
        let condition =
            |kind: &str, status: &str| json!({ "conditions": [{ "type": kind, "status": status }], "active": 1 });
        assert_eq!(of(condition("Failed", "True")), "Failed");
        assert_eq!(of(condition("Complete", "True")), "Complete");
        assert_eq!(of(condition("Suspended", "False")), "Running");
    }
}
