//! Kubernetes: a Job, or a TrainJob of Kubeflow, handed over by `kubectl`. Written and validated against the schemas, never tried on a cluster.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::job::Job;
use crate::profile::{Kind, KubernetesConfig};
use crate::receipt::{Engine, Receipt};
use crate::shell::{line, said};
use crate::trainjob;

/// The file's name in the job's folder.
pub const FILE: &str = "job.yaml";

/// The manifest.
///
/// # Errors
/// When it cannot be written as YAML, or not of such a job.
pub fn manifest(config: &KubernetesConfig, job: &Job) -> Result<String> {
    let manifest = match config.kind {
        Kind::Job => job_manifest(config, job),
        Kind::TrainJob => trainjob::manifest(config, job)?,
    };
    serde_saphyr::to_string(&manifest).context("the job cannot be written as YAML")
}

fn job_manifest(config: &KubernetesConfig, job: &Job) -> Value {
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
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(config, job), "spec": spec })
}

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
    let (mounts, volumes) = volumes(config);
    let mut pod = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace.get().as_secs(),
        "containers": [{
            "name": "pipe",
            "image": config.image,
            "workingDir": config.folder(job),
            "command": ["sh", "-c", command],
            "env": environment(config),
            "resources": { "limits": limits(config) },
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    config.place(&mut pod);
    pod
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
    let name = told.rsplit('/').next().unwrap_or_default();
    ensure!(!name.is_empty(), "`kubectl` gave no job's name, but: {told}");
    let job = match config.kind {
        Kind::Job => name.to_owned(),
        Kind::TrainJob => format!("{}/{name}", trainjob::RESOURCE),
    };
    Ok(Receipt::new(Engine::Kubernetes, job, config.namespace.clone()))
}

/// What a job is to `kubectl`, and its name.
fn named(receipt: &Receipt) -> (&str, &str) {
    receipt.job.split_once('/').unwrap_or(("job", &receipt.job))
}

/// Such as `Complete`, `Failed`, or how many pods are at work.
///
/// # Errors
/// When the cluster cannot be asked, or has forgotten the job.
pub fn state(receipt: &Receipt) -> Result<String> {
    let (resource, name) = named(receipt);
    let told = said(kubectl(receipt.place.as_ref()).args(["get", resource, name, "--output=json"]))?;
    let job: Value = serde_json::from_str(&told).context("what `kubectl` says is no JSON")?;
    Ok(standing(&job["status"]))
}

/// What the status of a Job says, or of a TrainJob, which has those of its jobs.
fn standing(status: &Value) -> String {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held = conditions.iter().filter(|condition| condition["status"] == "True");
    let ended = held.filter_map(|condition| condition["type"].as_str());
    match ended.clone().find(|kind| ["Complete", "Failed", "Suspended"].contains(kind)) {
        Some(kind) => kind.to_owned(),
        None if status["jobsStatus"].as_array().into_iter().flatten().any(works) || works(status) => "Running".into(),
        None => "Pending".into(),
    }
}

/// Whether pods are at work.
fn works(status: &Value) -> bool {
    status["active"].as_u64().unwrap_or(0) > 0 && status["ready"].as_u64() != Some(0)
}

/// Deletes the Job: its pods are sent SIGTERM, upon which a run saves a checkpoint.
///
/// # Errors
/// When the cluster refuses.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    let (resource, name) = named(receipt);
    said(kubectl(receipt.place.as_ref()).args(["delete", resource, name, "--wait=false"])).map(drop)
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
        assert_eq!(of(json!({ "jobsStatus": [{ "name": "node", "active": 1, "ready": 1 }] })), "Running");
        assert_eq!(of(json!({ "jobsStatus": [{ "name": "node", "active": 1, "ready": 0 }] })), "Pending");
    }
}
