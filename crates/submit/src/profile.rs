//! What `[submit.NAME]` says.

use std::collections::BTreeMap;

use pipe_vocab::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where jobs go and what they ask for.
#[derive(Debug, Clone)]
pub enum Profile {
    /// To SLURM.
    Slurm(SlurmConfig),
    /// To Kubernetes.
    Kubernetes(KubernetesConfig),
    /// A process of this machine that outlives the terminal.
    Local(LocalConfig),
}

/// Jobs for SLURM, by `sbatch`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmConfig {
    /// The partition.
    pub partition: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// Features that the nodes must have.
    pub constraint: Option<String>,
    /// Generic resources of each node, such as `gpu:a100:4`, where `gpus_per_node` does not say enough.
    pub gres: Option<String>,
    /// The time limit; a run that needs longer goes on in the same job, which is put into the queue again.
    pub time: Option<Duration>,
    /// Nodes.
    #[schemars(range(min = 1))]
    pub nodes: u32,
    /// Processes on each node, which share the batches; default one for each GPU, or one.
    #[schemars(range(min = 1))]
    pub tasks_per_node: Option<u32>,
    /// GPUs of each node.
    #[schemars(range(min = 1))]
    pub gpus_per_node: Option<u32>,
    /// Processor cores of each process.
    #[schemars(range(min = 1))]
    pub cpus_per_task: Option<u32>,
    /// Memory of each node, such as `64G`.
    pub memory: Option<String>,
    /// How long before the time limit the run is told to save a checkpoint and end.
    pub warning: Duration,
    /// Whether it then goes back into the queue, as after a pre-emption.
    pub requeue: bool,
    /// Modules to load, as `module load` names them.
    pub modules: Vec<String>,
    /// Lines of shell before the run, such as one that enters a virtual environment.
    pub setup: Vec<String>,
    /// Further options of `sbatch`, such as `--exclusive`.
    pub options: Vec<String>,
    /// Who starts the processes.
    pub launcher: Launcher,
    /// Variables of the environment.
    pub env: BTreeMap<String, String>,
    /// How `pipe` is called there.
    pub program: String,
}

/// Who starts the processes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// SLURM itself.
    Srun,
    /// One torchrun a node, which `srun` starts.
    Torchrun,
}

impl Default for SlurmConfig {
    fn default() -> SlurmConfig {
        SlurmConfig {
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            gres: None,
            time: None,
            nodes: 1,
            tasks_per_node: None,
            gpus_per_node: None,
            cpus_per_task: None,
            memory: None,
            warning: std::time::Duration::from_secs(120).into(),
            requeue: true,
            modules: Vec::new(),
            setup: Vec::new(),
            options: Vec::new(),
            launcher: Launcher::Srun,
            env: BTreeMap::new(),
            program: "pipe".into(),
        }
    }
}

/// A Job of Kubernetes, or a TrainJob of Kubeflow, by `kubectl`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// What the cluster is given.
    #[serde(default)]
    pub kind: Kind,
    /// Pods of a TrainJob.
    #[schemars(range(min = 1))]
    #[serde(default = "one")]
    pub nodes: u32,
    /// The ClusterTrainingRuntime of a TrainJob.
    #[serde(default = "torch")]
    pub runtime: String,
    /// The image, which has `pipe` and libtorch.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The folder in the image, or in a volume, from which the pipeline's relative paths start; default the one that is submitted from.
    #[serde(default)]
    pub directory: Option<String>,
    /// The namespace; default that of the context.
    #[serde(default)]
    pub namespace: Option<String>,
    /// GPUs of each pod.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub gpus: Option<u32>,
    /// Processor cores of the pod, such as `8` or `500m`.
    #[serde(default)]
    pub cpus: Option<String>,
    /// Memory of the pod, such as `64Gi`.
    #[serde(default)]
    pub memory: Option<String>,
    /// Claims of volumes by the folder at which they are seen; the run's folder must lie in one of them.
    #[serde(default)]
    pub volumes: BTreeMap<String, String>,
    /// Labels that the node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// The service account.
    #[serde(default)]
    pub service_account: Option<String>,
    /// The queue of Kueue.
    #[serde(default)]
    pub queue: Option<String>,
    /// How often a Job's pod that failed by no fault of the pipeline is started again.
    #[serde(default = "six")]
    pub retries: u32,
    /// How long a pod that is asked to end has to save a checkpoint.
    #[serde(default = "minute")]
    pub grace: Duration,
    /// Variables of the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How `pipe` is called in the image.
    #[serde(default = "pipe")]
    pub program: String,
}

/// What a cluster is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Job of one pod, in which the run starts its own processes.
    #[default]
    Job,
    /// A TrainJob of Kubeflow's trainer 2: pods in which torchrun starts a process for each GPU.
    TrainJob,
}

impl KubernetesConfig {
    /// What does not go together.
    ///
    /// # Errors
    /// With what to do.
    pub fn check(&self) -> Result<(), String> {
        match self.kind == Kind::Job && self.nodes > 1 {
            true => Err("a Job is one pod: `nodes` needs `kind = \"trainjob\"`".into()),
            false => Ok(()),
        }
    }
}

fn one() -> u32 {
    1
}

fn torch() -> String {
    "torch-distributed".into()
}

fn six() -> u32 {
    6
}

fn minute() -> Duration {
    std::time::Duration::from_secs(60).into()
}

fn pipe() -> String {
    "pipe".into()
}

/// A process of this machine that outlives the terminal.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Lines of shell before the run, such as one that enters a virtual environment.
    pub setup: Vec<String>,
    /// Variables of the environment.
    pub env: BTreeMap<String, String>,
}
