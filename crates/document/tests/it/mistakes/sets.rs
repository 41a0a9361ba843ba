//! `--set` on the command line.

use insta::assert_snapshot;

use crate::World;

#[test]
fn a_set_without_a_value() {
    let world = World::new("").set("engine.trainer.max_epochs").set("a.b=").set("=3");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-set]: `--set` needs a key and a value with `=` between them
     --> --set:1:1
      |
    1 | engine.trainer.max_epochs
      | ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write it like `--set engine.trainer.max_epochs=2`

    error[invalid-set]: `--set` has no value
     --> --set:1:1
      |
    1 | a.b=
      | ^^^^
      |
      = help: for an empty string, write `key=''`

    error[invalid-set]: the key of `--set` is not a valid TOML key
     --> --set:1:1
      |
    1 | =3
      | ^^
      |
      = help: write it like `--set engine.trainer.max_epochs=2`

    error: p.toml: 3 errors
    "#);
}

#[test]
fn a_set_with_a_wrong_value() {
    let world = World::new("").set("a.b=[1, 2").set("a.c='x");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: unclosed array: expected `]`
     --> --set:1:10
      |
    1 | a.b=[1, 2
      |     -    ^
      |     |
      |     opened here

    error[syntax]: a string is never closed
     --> --set:1:5
      |
    1 | a.c='x
      |     ^^
      |
      = help: close it with '

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_set_of_what_cannot_be_set() {
    let world = World::new("").set("extends=a.toml").set("profile.x.seed=1").set("a..b=1");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-set]: `--set` cannot set `extends`
     --> --set:1:1
      |
    1 | extends=a.toml
      | ^^^^^^^
      |
      = help: set the parent in the file

    error[invalid-set]: `--set` cannot set `profile`
     --> --set:1:1
      |
    1 | profile.x.seed=1
      | ^^^^^^^
      |
      = help: use `--profile NAME`

    error[invalid-set]: the key of `--set` is not a valid TOML key
     --> --set:1:1
      |
    1 | a..b=1
      | ^^^^^^
      |
      = help: write it like `--set engine.trainer.max_epochs=2`

    error: p.toml: 3 errors
    "#);
}

#[test]
fn a_set_into_an_array() {
    let world = World::new("[transform.a]\nsteps = [1, 2]\n").set("transform.a.steps.0=3");
    assert_snapshot!(world.mistakes(), @r#"
    error[cannot-merge]: `transform.a.steps` is an array, which can only be replaced as a whole
     --> --set:1:13
      |
    1 | transform.a.steps.0=3
      |             ^^^^^
      |
     ::: p.toml:2:1
      |
    2 | steps = [1, 2]
      | ----- the array
      |
      = help: set the whole array: steps = [ … ]

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_set_that_makes_a_node_a_number() {
    let world = World::new("[engine.trainer]\nmax_epochs = 2\n").set("engine.trainer=3");
    assert_snapshot!(world.mistakes(), @r#"
    error[cannot-merge]: `engine.trainer` is a table, and cannot become an integer
     --> --set:1:8
      |
    1 | engine.trainer=3
      |        ^^^^^^^
      |
     ::: p.toml:1:9
      |
    1 | [engine.trainer]
      |         ------- the table
      |
      = help: set a key inside it

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_set_of_an_unknown_variable() {
    let world = World::new("[vars]\ncoco = \"x\"\n[dataset.a]\nroot = \"${coco}\"\n").set("vars.cocoo=y");
    assert_snapshot!(world.mistakes(), @r#"
    warning[variable-unused]: the variable `cocoo` is never used
     --> --set:1:6
      |
    1 | vars.cocoo=y
      |      ^^^^^
      |
      = help: did you mean `coco`?

    warning: p.toml: 1 warning
    "#);
}
