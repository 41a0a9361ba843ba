//! Kubernetes: a Job, or a TrainJob of Kubeflow, handed over by `kubectl`. Written and validated against the schemas, never tried on a cluster.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::job::Job;
use crate::manifest::{environment, limits, metadata, volumes};
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
