//! Processes that each have an accelerator, and send each other gradients by NCCL.

use std::net::TcpListener;
use std::path::Path;

use pipe_stand_in::{library, nccl};

use crate::program::{Pipe, Said};

const MORE: &str = concat!(
    include_str!("../it/ranks_normed.toml"),
    r#"
[dataset.train]
limit = 180

[loader.train]
batch_size = 45

[engine.trainer]
max_epochs = 1
log_interval = 1
"#
);

/// Trains with two processes, each with a device of that name and with these libraries before the program.
fn two(pipe: &Pipe, device: &str, out: &str, libraries: &[&Path]) -> Vec<Said> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let preload = libraries.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let ranks = ["0", "1"].map(|rank| {
        let mut command = pipe.command(&["run", "ranks.toml", "--quiet", "--out", out]);
        command.envs([("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")]);
        command.envs([("PIPE_RANK_DEVICE", device), ("LD_PRELOAD", &preload), ("OMP_NUM_THREADS", "1")]);
        command.env("MASTER_PORT", port.to_string());
        std::thread::spawn(move || Said::of(&mut command))
    });
    ranks.into_iter().map(|rank| rank.join().expect("it runs")).collect()
}

#[test]
fn gradients_and_statistics_of_two_accelerators_are_those_of_two_cpus() {
    let pipe = Pipe::digits("ranks.toml", MORE);
    for (device, out, libraries) in [("auto", "gpus", &[library(), nccl()][..]), ("cpu", "cpus", &[])] {
        for said in two(&pipe, device, out, libraries) {
            assert_eq!(said.status, Some(0), "{device}: {}", said.stderr);
        }
    }
    assert!(pipe.json("gpus/run.json")["device"].as_str().is_some_and(|device| device.starts_with("mps")));
    let (gpus, cpus) = (pipe.scalars("gpus"), pipe.scalars("cpus"));
    assert!(cpus.len() > 4, "{cpus:?}");
    assert_eq!(gpus, cpus);
    let without = two(&pipe, "auto", "none", &[library()]);
    assert!(without.iter().all(|said| said.status == Some(1)));
    // The first one speaks.
    assert!(without[0].stderr.contains("NCCL cannot be opened"), "{}", without[0].stderr);
}
