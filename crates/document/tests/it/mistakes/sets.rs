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
    error[variable-unused]: `--set vars.cocoo` does nothing: nothing uses this variable
     --> --set:1:6
      |
    1 | vars.cocoo=y
      |      ^^^^^
      |
      = help: did you mean `vars.coco`?

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_variable_of_the_command_line_that_does_nothing() {
    let text = "[vars]\nlr = 1\nroot = \"${name}\"\nname = \"x\"\n[optimizer.a]\nlr = \"${lr}\"\n[dataset.a]\nroot = \"${root}\"\n[profile.demo]\noptimizer.a.lr = 2\n";
    assert_snapshot!(World::new(text).profile("demo").set("vars.lr=3").mistakes(), @r#"
    error[variable-unused]: `--set vars.lr` does nothing: nothing uses this variable
     --> --set:1:6
      |
    1 | vars.lr=3
      |      ^^
      |
      = help: what used "${lr}" is overridden: set that key itself

    error: p.toml: 1 error
    "#);
    // Through another variable it has an effect.
    assert_snapshot!(World::new(text).profile("demo").set("vars.name=y").mistakes(), @"");
    assert_snapshot!(World::new(text).set("vars.batch_size=3").mistakes(), @r#"
    error[variable-unused]: `--set vars.batch_size` does nothing: nothing uses this variable
     --> --set:1:6
      |
    1 | vars.batch_size=3
      |      ^^^^^^^^^^
      |
      = help: use it in the file as "${batch_size}", or set the option itself

    error: p.toml: 1 error
    "#);
}

#[test]
fn unsetting_what_is_not_there() {
    let text = "unset = [\"model.a\", \"on.images\"]\n[model.net]\ntype = \"x\"\nweights = \"a\"\nsteps = [1]\n[[on]]\nname = \"images\"\n";
    let world = World::new(text)
        .set("model.net.wieghts=null")
        .set("model.net.hidden=null")
        .set("modl.net=null")
        .set("model.net.steps.0=null")
        .set("model.net.weights.a=null")
        .set("on.imges=null")
        .set("profile.x=null");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-unset]: there is no `model.a` to unset
     --> p.toml:1:10
      |
    1 | unset = ["model.a", "on.images"]
      |          ^^^^^^^^^
      |
      = help: nothing below this layer sets it; what is not set has its default

    error[invalid-unset]: there is no `on.images` to unset
     --> p.toml:1:21
      |
    1 | unset = ["model.a", "on.images"]
      |                     ^^^^^^^^^^^
      |
      = help: nothing below this layer sets it; what is not set has its default

    error[invalid-unset]: there is no `model.net.wieghts` to unset
     --> --set:1:1
      |
    1 | model.net.wieghts=null
      | ^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `model.net.weights`?

    error[invalid-unset]: there is no `model.net.hidden` to unset
     --> --set:1:1
      |
    1 | model.net.hidden=null
      | ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: nothing below this layer sets it; what is not set has its default

    error[invalid-unset]: there is no `modl.net` to unset
     --> --set:1:1
      |
    1 | modl.net=null
      | ^^^^^^^^^^^^^
      |
      = help: did you mean `model.net`?

    error[invalid-unset]: there is no `model.net.steps.0` to unset
     --> --set:1:1
      |
    1 | model.net.steps.0=null
      | ^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: `model.net.steps` is an array, which can only be replaced or unset as a whole

    error[invalid-unset]: there is no `model.net.weights.a` to unset
     --> --set:1:1
      |
    1 | model.net.weights.a=null
      | ^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: `model.net.weights` is a string, and has no keys

    error[invalid-unset]: there is no `on.imges` to unset
     --> --set:1:1
      |
    1 | on.imges=null
      | ^^^^^^^^^^^^^
      |
      = help: did you mean `images`?

    error[invalid-set]: `--set` cannot set `profile`
     --> --set:1:1
      |
    1 | profile.x=null
      | ^^^^^^^
      |
      = help: use `--profile NAME`

    error: p.toml: 9 errors
    "#);
}

#[test]
fn an_unset_that_is_none() {
    assert_snapshot!(World::new("unset = \"model.a\"\n[profile.demo]\nunset = [3, \"a b\", \"extends\"]\n").profile("demo").mistakes(), @r#"
    error[invalid-unset]: `unset` is a string, and must be a list
     --> p.toml:1:1
      |
    1 | unset = "model.a"
      | ^^^^^
      |
      = help: list the keys as strings: unset = ["model.net.weights", "on.images"]

    error[invalid-unset]: a key cannot be an integer
     --> p.toml:3:10
      |
    3 | unset = [3, "a b", "extends"]
      |          ^
      |
      = help: list the keys as strings: unset = ["model.net.weights", "on.images"]

    error[invalid-unset]: `a b` is not a key
     --> p.toml:3:13
      |
    3 | unset = [3, "a b", "extends"]
      |             ^^^^^
      |
      = help: list the keys as strings: unset = ["model.net.weights", "on.images"]

    error[invalid-unset]: `extends` cannot be unset
     --> p.toml:3:20
      |
    3 | unset = [3, "a b", "extends"]
      |                    ^^^^^^^^^

    error: p.toml: 4 errors
    "#);
}

#[test]
fn edges_that_are_not_there_or_twice() {
    let edge = "[[on]]\nname = \"a\"\n";
    assert_snapshot!(World::new(&format!("{edge}{edge}[[on]]\nname = \"${{x}}\"\n[vars]\nx = 1\n")).mistakes(), @r#"
    error[duplicate-name]: two event edges are named `a`
     --> p.toml:4:8
      |
    2 | name = "a"
      |        --- first here
    3 | [[on]]
    4 | name = "a"
      |        ^^^
      |
      = help: rename one of the two

    error[invalid-name]: the name of an event edge cannot use variables
     --> p.toml:6:8
      |
    6 | name = "${x}"
      |        ^^^^^^
      |
      = help: variables are resolved only after all edges are put together

    error: p.toml: 2 errors
    "#);
    let world = World::new(edge).set("on.b.every=3").set("on=[]").set("on.every=3");
    assert_snapshot!(world.mistakes(), @r#"
    error[unknown-edge]: there is no event edge named `b`
     --> --set:1:4
      |
    1 | on.b.every=3
      |    ^
      |
      = help: the named event edges are `a`

    error[invalid-set]: an empty list adds no event edge
     --> --set:1:1
      |
    1 | on=[]
      | ^^
      |
      = help: `--set on=null` removes all event edges, `--set on.NAME=null` removes one

    error[wrong-type]: `on` must be an array of tables, found a table
     --> --set:1:1
      |
    1 | on.every=3
      | ^^
      |
      = help: write `[[on]]`

    error: p.toml: 3 errors
    "#);
    assert_snapshot!(World::new("[[on]]\n").set("on.b.every=3").mistakes(), @r#"
    error[unknown-edge]: there is no event edge named `b`
     --> --set:1:4
      |
    1 | on.b.every=3
      |    ^
      |
      = help: no event edge has a name: give one its name with `name = "…"`

    error: p.toml: 1 error
    "#);
    assert_snapshot!(World::new(edge).set("on=3").mistakes(), @r#"
    error[cannot-merge]: `on` cannot become an integer
     --> --set:1:1
      |
    1 | on=3
      | ^^
      |
      = help: add edges with [[on]]

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_key_that_is_set_twice() {
    let world = World::new("[a.b]\nc = 1\n").set("a.b.c=2").set("a.b.c=3");
    assert_snapshot!(world.mistakes(), @r#"
    error[repeated-set]: `--set a.b.c` is given twice
     --> --set:1:1
      |
    1 | a.b.c=3
      | ^^^^^^^
      |
     ::: --set:1:1
      |
    1 | a.b.c=2
      | ------- first here
      |
      = help: leave one of the two away

    error: p.toml: 1 error
    "#);
}
