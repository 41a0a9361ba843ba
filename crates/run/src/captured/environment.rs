//! On what a run runs: variables that change what it does, the libraries in its process, the machine.

use std::collections::BTreeSet;
use std::fs::{self, File};

use object::Endianness;
use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};
use pipe_vocab::secret::sounds_secret;
use serde_json::{Map, Value, json};

use super::gpu::Gpus;

/// What the names of variables begin with that are kept: those of numerics, devices, allocators, launchers and of this program. Others may be
/// anyone's business.
const KEPT: [&str; 27] = [
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "CONDA_DEFAULT_ENV",
    "GOMP_",
    "KMP_",
    "LANG",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOCAL_",
    "MALLOC_",
    "MASTER_",
    "MKL_",
    "NCCL_",
    "NVIDIA_",
    "OMPI_COMM_WORLD_",
    "OMP_",
    "OPENBLAS_",
    "PIPE_",
    "PYTORCH_",
    "RANK",
    "SLURM_",
    "TORCH",
    "TZ",
    "VIRTUAL_ENV",
    "WORLD_SIZE",
    "XDG_CACHE_HOME",
];

/// `environment.json`.
pub(super) fn environment() -> Value {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let memory = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    });
    json!({
        "variables": variables(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))),
        "libraries": libraries(&read("/proc/self/maps").unwrap_or_default()),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "memory_bytes": memory,
        "gpus": Gpus::open().map(|gpus| gpus.about()),
    })
}

/// The builds of the libraries in it by the names of their files, as far as those of `other` say theirs, too.
pub(super) fn builds(environment: &Value, other: &Value) -> Value {
    let of = |library: &Value| {
        let name = library["path"].as_str()?.rsplit('/').next()?.to_owned();
        Some((name, library["build_id"].clone()))
    };
    let all =
        |of_these: &Value| of_these["libraries"].as_array().into_iter().flatten().filter_map(of).collect::<Map<_, _>>();
    let others = all(other);
    // One that is loaded when it is needed may come later.
    all(environment).into_iter().filter(|(name, _)| others.contains_key(name)).collect::<Map<_, _>>().into()
}

fn variables(all: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let kept = |(name, value): (String, String)| {
        let wanted = KEPT.iter().any(|begin| name.starts_with(begin)) && !sounds_secret(&name);
        wanted.then(|| (name, Value::String(value)))
    };
    let mut kept: Vec<(String, Value)> = all.filter_map(kept).collect();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    kept.into_iter().collect()
}

/// The program and the libraries in its memory but for the system's own: path, size, and the build ID, which is the linker's hash of what it
/// linked.
fn libraries(maps: &str) -> Vec<Value> {
    let file = |line: &str| {
        let path = line.splitn(6, char::is_whitespace).nth(5)?.trim_start();
        let own = path.starts_with('/') && !path.ends_with(" (deleted)") && line.contains(" r-xp ");
        let system = ["/lib", "/usr/lib"].iter().any(|folder| path.starts_with(folder))
            && !path.contains("cuda")
            && !path.contains("nvidia");
        (own && !system).then(|| path.to_owned())
    };
    let files: BTreeSet<String> = maps.lines().filter_map(file).collect();
    let said = |path: String| {
        let bytes = fs::metadata(&path).map(|data| data.len()).ok();
        json!({ "path": path, "bytes": bytes, "build_id": build_id(&path) })
    };
    files.into_iter().map(said).collect()
}

/// Reads only those parts of the file that say it: symbols are megabytes.
fn build_id(path: &str) -> Option<String> {
    let file = ReadCache::new(File::open(path).ok()?);
    let header = FileHeader64::<Endianness>::parse(&file).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, &file).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, &file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
                return Some(note.desc().iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_matter_are_kept_and_no_secret() {
        let all =
            [("OMP_NUM_THREADS", "2"), ("HOME", "/home/me"), ("PIPE_TOKEN", "abc"), ("CUDA_VISIBLE_DEVICES", "1")];
        let kept = variables(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        assert_eq!(Value::Object(kept), json!({ "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2" }));
    }

    #[test]
    fn this_program_has_a_build_id() {
        let all = libraries(&fs::read_to_string("/proc/self/maps").unwrap());
        let own = std::env::current_exe().unwrap();
        let own = all.iter().find(|file| file["path"] == own.to_str().unwrap()).unwrap();
        assert!(own["build_id"].as_str().is_some_and(|id| id.len() >= 16), "{own}");
        assert!(all.iter().any(|file| file["path"].as_str().unwrap().contains("libtorch_cpu")), "{all:?}");
    }
}
