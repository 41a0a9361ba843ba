//! Values from the environment: of the type that is wanted, with defaults as a shell means them.

use super::program::{Pipe, Said};

const MORE: &str = r#"
[vars]
size = "${env:CASE_SIZE:-16}"

[loader.train]
batch_size = "${size}"
shuffle = "${env:CASE_SHUFFLE:-true}"

[optimizer.sgd]
lr = "${env:CASE_LR:-0.05}"

[pipeline]
seed = "${env:CASE_SEED:-7}"
name = "${env:CASE_NAME:-16}"
"#;

fn run(pipe: &Pipe, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    Said::of(pipe.command(arguments).envs(variables.iter().copied()))
}

#[test]
fn a_variable_is_of_the_type_that_is_wanted() {
    let pipe = Pipe::digits("env.toml", MORE);
    let variables = [("CASE_SIZE", "32"), ("CASE_LR", "1e-2"), ("CASE_SHUFFLE", "false"), ("CASE_SEED", "")];
    let said = run(&pipe, &["run", "env.toml", "--quiet", "--out", "run"], &variables);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let kept = pipe.read("run/pipeline.toml");
    for line in ["batch_size = 32", "shuffle = false", "lr = 0.01", "seed = 7", "name = \"16\""] {
        assert!(kept.lines().any(|kept| kept.trim() == line), "{line}: {kept}");
    }
    // What the run keeps needs no environment.
    pipe.ok(&["run", "run", "--quiet", "--out", "again"]);

    let wrong = run(&pipe, &["check", "env.toml"], &[("CASE_SIZE", "many"), ("CASE_LR", "0.1.2")]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("it comes from the environment: set the variable to an integer"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("quotes"), "{}", wrong.stderr);
}
