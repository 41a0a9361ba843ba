//! Kubeflow's trainer, version 2: a TrainJob of several pods, in each of which torchrun starts the processes. The runtime of the cluster tells it by
//! variables (`PET_…`) who the others are. Written and checked against the models of Kubeflow's own package, never tried on a cluster.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::job::Job;
use crate::manifest::{environment, limits, metadata, volumes};
use crate::profile::KubernetesConfig;
use crate::shell::{line, quoted};

/// What such a job is to `kubectl`.
pub const RESOURCE: &str = "trainjob";

/// The manifest.
///
/// # Errors
/// When several runs are wanted.
pub(crate) fn manifest(config: &KubernetesConfig, job: &Job) -> Result<Value> {
    ensure!(job.array.is_none(), "a TrainJob is one run: submit each by itself, or with `kind = \"job\"`");
    let words = line(job.words().iter().map(String::as_str));
    let folder = quoted(&job.folder.display().to_string());
    let from = quoted(&config.folder(job));
    let (mounts, volumes) = volumes(config);
    // What the trainer lets no one set but by a patch of the runtime's pods, which it calls `node`.
    let mut pod = json!({
        "terminationGracePeriodSeconds": config.grace.get().as_secs(),
        "containers": [{ "name": "node", "volumeMounts": mounts }],
        "volumes": volumes,
    });
    config.place(&mut pod);
    let patch = json!({ "template": { "spec": { "replicatedJobs": [
        { "name": "node", "template": { "spec": { "template": { "spec": pod } } } },
    ] } } });
    Ok(json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(config, job),
        "spec": {
            "runtimeRef": { "name": config.runtime },
            "trainer": {
                "image": config.image,
                "command": ["sh", "-c", format!("cd {from} && exec torchrun --no-python {words} --out {folder}")],
                "env": environment(config),
                "numNodes": config.nodes,
                "numProcPerNode": config.gpus.unwrap_or(1),
                "resourcesPerNode": { "limits": limits(config) },
            },
            "runtimePatches": [{ "manager": "pipe/submit", "trainingRuntimeSpec": patch }],
        },
    }))
}
