//! The launcher of the Python wheel: it finds the environment's torch, or says which one is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::program::{Pipe, Said};
use pipe_test_support::skip;

const LAUNCHER: &str = include_str!("../../xtask/src/wheel/launcher.py");

/// An environment with the launcher, and packages of these versions.
struct Environment(Pipe);

impl Environment {
    fn with(packages: &[(&str, &str)]) -> Environment {
        let pipe = Pipe::new();
        fs::create_dir_all(pipe.path("site/pipe_runner/bin")).expect("a folder");
        pipe.write("site/pipe_runner/__init__.py", LAUNCHER);
        for (package, version) in packages {
            let folder = pipe.path("site").join(package);
            fs::create_dir_all(folder.join("lib")).expect("a folder");
            fs::write(folder.join("version.py"), format!("__version__ = '{version}'\n")).expect("a file");
        }
        Environment(pipe)
    }

    /// In place of the program a script of a shell.
    fn program(self, script: &str) -> Environment {
        let path = self.0.path("site/pipe_runner/bin/pipe");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        self
    }

    fn site(&self) -> PathBuf {
        self.0.path("site")
    }

    /// As pip's script for the command does it; nothing where there is no Python.
    fn start(&self, arguments: &[&str]) -> Option<Said> {
        let version = Command::new("python3").arg("--version").output().ok()?;
        let mut command = Command::new("python3");
        // Without the packages of the system.
        command.args(["-S", "-c", "import sys; from pipe_runner import main; sys.exit(main())"]).args(arguments);
        command.current_dir(self.0.folder()).env("PYTHONPATH", self.site()).env("LD_LIBRARY_PATH", "/of/the/user");
        version.status.success().then(|| Said::of(command.env_remove("PIPE_TORCHVISION")))
    }
}

/// What is said, without the machine's own paths.
fn plain(environment: &Environment, said: &Said) -> String {
    let python = said.stderr.split("help: ").nth(1).and_then(|help| help.split(" -m pip").next()).unwrap_or_default();
    said.stderr.replace(&environment.site().display().to_string(), "SITE").replace(python, "PYTHON")
}

#[test]
fn the_program_gets_the_libraries_its_arguments_and_its_place() {
    let environment = Environment::with(&[("torch", "2.11.1+cu130"), ("torchvision", "0.26.0")])
        .program("echo \"$LD_LIBRARY_PATH|$PIPE_TORCHVISION|$#|$2|$$\"; exit 7");
    let Some(said) = environment.start(&["run", "two words"]) else { return skip!("there is no python3") };
    let site = environment.site().display().to_string();
    let shown: Vec<&str> = said.stdout.trim().split('|').collect();
    assert_eq!(said.status, Some(7), "{said:?}");
    assert_eq!(shown[..4], [&*format!("{site}/torch/lib:/of/the/user"), "", "2", "two words"], "{said:?}");
    let killed = Environment::with(&[("torch", "2.11.0"), ("torchvision", "0.26.0")]).program("kill -TERM $$");
    assert_eq!(killed.start(&[]).expect("as before").status, None, "it is the process itself that a signal ends");
}

#[test]
fn cuda_and_a_torchvision_of_elsewhere_are_found() {
    let environment =
        Environment::with(&[("torch", "2.11.0+cu130")]).program("echo \"$LD_LIBRARY_PATH|$PIPE_TORCHVISION\"");
    let (site, more) = (environment.site(), environment.0.path("more"));
    fs::create_dir_all(more.join("torchvision")).expect("a folder");
    fs::write(more.join("torchvision/version.py"), "__version__ = '0.26.0'\n").expect("a file");
    fs::write(site.join("torch/lib/libtorch_cuda.so"), "").expect("a file");
    fs::create_dir_all(site.join("nvidia/cu13/lib")).expect("a folder");
    let path = std::env::join_paths([&site, &more]).expect("no colon");
    let mut command = Command::new("python3");
    command.args(["-S", "-c", "from pipe_runner import main; main()"]).env("PYTHONPATH", path);
    if Command::new("python3").arg("--version").output().is_err() {
        return skip!("there is no python3");
    }
    let said = Said::of(command.env_remove("LD_LIBRARY_PATH").env_remove("PIPE_TORCHVISION"));
    let (site, more) = (site.display(), more.display());
    assert_eq!(said.stdout, format!("{site}/torch/lib:{site}/nvidia/cu13/lib|{more}/torchvision\n"), "{said:?}");
}

#[test]
fn what_does_not_fit_is_said_once() {
    let cases: [&[(&str, &str)]; 3] =
        [&[], &[("torch", "2.9.1+cpu"), ("torchvision", "0.26.0")], &[("torch", "2.11.0"), ("torchvision", "0.27.0")]];
    let mut all = String::new();
    for packages in cases {
        let environment = Environment::with(packages).program("echo started");
        let Some(said) = environment.start(&["run"]) else { return skip!("there is no python3") };
        assert_eq!((said.status, said.stdout.as_str()), (Some(2), ""), "{said:?}");
        all += &plain(&environment, &said);
    }
    insta::assert_snapshot!(all);
}
