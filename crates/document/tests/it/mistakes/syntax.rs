//! What is not TOML, and names that are none.

use insta::assert_snapshot;

use crate::World;

#[test]
fn an_unclosed_string() {
    let world = World::new("[pipeline]\nname = \"demo\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: a string is never closed
     --> p.toml:2:8
      |
    2 | name = "demo
      |        ^^^^^
      |
      = help: close it with "

    error: p.toml: 1 error
    "#);
}

#[test]
fn an_unclosed_multi_line_string() {
    let world = World::new("[pipeline]\nname = \"\"\"demo\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: a string is never closed
     --> p.toml:2:8
      |
    2 | name = """demo
      |        ^^^
      |
      = help: close it with """

    error: p.toml: 1 error
    "#);
}

#[test]
fn an_unclosed_array_does_not_hide_what_follows() {
    let world = World::new("[transform.a]\nsteps = [\n  { type = \"x\" },\n\n[loader.a]\nbatch_size = yes\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: unclosed array: expected `]`
     --> p.toml:3:18
      |
    2 | steps = [
      |         - opened here
    3 |   { type = "x" },
      |                  ^

    error[syntax]: a string needs quotes around it
     --> p.toml:6:14
      |
    6 | batch_size = yes
      |              ^^^
      |
      = help: write `true`

    error: p.toml: 2 errors
    "#);
}

#[test]
fn an_unclosed_inline_table() {
    let world = World::new("[transform.a]\nsize = { h = 1, w = 2\n\n[loader.a]\nworkers = 1\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: unclosed inline table: expected `}`
     --> p.toml:2:22
      |
    2 | size = { h = 1, w = 2
      |        - opened here ^

    error: p.toml: 1 error
    "#);
}

#[test]
fn an_unclosed_header() {
    let world = World::new("[model.a\ntype = \"x\"\n[model.b]\ntype = \n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: unclosed table: expected `]`
     --> p.toml:1:9
      |
    1 | [model.a
      | --------^
      | |
      | opened here

    error[syntax]: the key has no value
     --> p.toml:4:8
      |
    4 | type = 
      |        ^
      |
      = help: write a value after `=`, or remove the key

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_text_without_quotes() {
    let world = World::new("[pipeline]\ndevice = cuda\nname = None\nwatch = True\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: a string needs quotes around it
     --> p.toml:2:10
      |
    2 | device = cuda
      |          ^^^^
      |
      = help: put quotes around it: "cuda"

    error[syntax]: a string needs quotes around it
     --> p.toml:3:8
      |
    3 | name = None
      |        ^^^^
      |
      = help: TOML has no null: remove the key to leave it at its default; a key that a parent sets is removed by unset = ["KIND.NAME.KEY"] at the top

    error[syntax]: a string needs quotes around it
     --> p.toml:4:9
      |
    4 | watch = True
      |         ^^^^
      |
      = help: write `true`

    error: p.toml: 3 errors
    "#);
}

#[test]
fn a_variable_without_quotes() {
    let world = World::new("[vars]\nn = 1\n[loader.a]\nworkers = ${n}\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: a string needs quotes around it
     --> p.toml:4:11
      |
    4 | workers = ${n}
      |           ^
      |
      = help: put quotes around it: "${name}"

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_key_without_value() {
    let world = World::new("[loader.a]\nshuffle\nworkers =\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: the key has no `=` and no value
     --> p.toml:2:8
      |
    2 | shuffle
      |        ^
      |
      = help: write `key = value`, one per line

    error[syntax]: the key has no value
     --> p.toml:3:10
      |
    3 | workers =
      |          ^
      |
      = help: write a value after `=`, or remove the key

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_key_with_a_space() {
    let world = World::new("[loader.a]\nbatch size = 4\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: the key has no `=` and no value
     --> p.toml:2:7
      |
    2 | batch size = 4
      |       ^
      |
      = help: write `key = value`, one per line

    error: p.toml: 1 error
    "#);
}

#[test]
fn two_values_on_a_line() {
    let world = World::new("[loader.a]\nworkers = 4 batch_size = 2\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: there is more on the line than one value
     --> p.toml:2:11
      |
    2 | workers = 4 batch_size = 2
      |           ^^^^^^^^^^^^
      |
      = help: write one `key = value` per line

    error: p.toml: 1 error
    "#);
}

#[test]
fn numbers_that_are_none() {
    let world =
        World::new("[optimizer.a]\nlr = 0.0.1\nmomentum = .9\nsteps = 012\nbig = 99999999999999999999\nhuge = 1e999\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: invalid float
     --> p.toml:2:9
      |
    2 | lr = 0.0.1
      |         ^^

    error[syntax]: a number needs digits on both sides of the decimal point
     --> p.toml:3:12
      |
    3 | momentum = .9
      |            ^
      |
      = help: write 0.9 for .9 and 1.0 for 1.

    error[syntax]: unexpected leading zero
     --> p.toml:4:9
      |
    4 | steps = 012
      |         ^

    error[syntax]: the integer does not fit in 64 bits
     --> p.toml:5:7
      |
    5 | big = 99999999999999999999
      |       ^^^^^^^^^^^^^^^^^^^^

    error[syntax]: the number is too large
     --> p.toml:6:8
      |
    6 | huge = 1e999
      |        ^^^^^

    error: p.toml: 5 errors
    "#);
}

#[test]
fn a_missing_comma() {
    let world = World::new("[metric.a]\niou_types = [\"bbox\" \"segm\"]\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: missing comma between array elements: expected `,`
     --> p.toml:2:21
      |
    2 | iou_types = ["bbox" "segm"]
      |                     ^

    error: p.toml: 1 error
    "#);
}

#[test]
fn an_escape_that_is_none() {
    let world = World::new("[dataset.a]\nroot = \"C:\\data\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: invalid escape sequence after this backslash
     --> p.toml:2:12
      |
    2 | root = "C:\data"
      |            ^
      |
      = help: write `\\` for a backslash, or put the string in single quotes

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_date_that_is_none() {
    let world = World::new("[pipeline]\nstarted = 2026-13-41\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: not a date or time: invalid date, expected month between 01 and 12
     --> p.toml:2:11
      |
    2 | started = 2026-13-41
      |           ^^^^^^^^^^

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_key_set_twice() {
    let world = World::new("[optimizer.a]\nlr = 0.1\nmomentum = 0.9\nlr = 0.2\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[duplicate-key]: the key `lr` is defined twice
     --> p.toml:4:1
      |
    2 | lr = 0.1
      | -- first defined here
    3 | momentum = 0.9
    4 | lr = 0.2
      | ^^
      |
      = help: keep one, or merge the two

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_table_defined_twice() {
    let world = World::new("[model.a]\ntype = \"x\"\n\n[loader.a]\nworkers = 1\n\n[model.a]\ntype = \"y\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[duplicate-key]: the table `a` is defined twice
     --> p.toml:7:8
      |
    1 | [model.a]
      |        - first defined here
    ...
    7 | [model.a]
      |        ^
      |
      = help: keep one, or merge the two

    error[duplicate-key]: the key `type` is defined twice
     --> p.toml:8:1
      |
    2 | type = "x"
      | ---- first defined here
    ...
    8 | type = "y"
      | ^^^^
      |
      = help: keep one, or merge the two

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_dotted_key_into_a_table_with_a_header() {
    let world = World::new("[a.b]\nx = 1\n[a]\nb.y = 2\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[duplicate-key]: the table `b` is defined twice
     --> p.toml:4:1
      |
    1 | [a.b]
      |    - first defined here
    ...
    4 | b.y = 2
      | ^
      |
      = help: keep one, or merge the two

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_value_that_is_also_a_table() {
    let world = World::new("[model]\na = 1\n[model.a]\ntype = \"x\"\n[model.a.b]\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[duplicate-key]: `a` is both an integer and a table
     --> p.toml:3:8
      |
    2 | a = 1
      | - first set here
    3 | [model.a]
      |        ^
      |
      = help: rename one of the two

    error[duplicate-key]: `a` is an integer, so nothing can be set inside it
     --> p.toml:5:8
      |
    2 | a = 1
      | - set here
    ...
    5 | [model.a.b]
      |        ^

    error: p.toml: 2 errors
    "#);
}

#[test]
fn one_event_table_and_many() {
    let world = World::new("[on]\nevent = \"a:b\"\n[[on]]\nevent = \"c:d\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[wrong-type]: `on` must be an array of tables, found a table
     --> p.toml:1:2
      |
    1 | [on]
      |  ^^
      |
      = help: write `[[on]]`

    error[duplicate-key]: `on` is both one table and, by `[[on]]`, several
     --> p.toml:3:3
      |
    1 | [on]
      |  -- first set here
    2 | event = "a:b"
    3 | [[on]]
      |   ^^
      |
      = help: rename one of the two

    error: p.toml: 2 errors
    "#);
}

#[test]
fn nesting_without_end() {
    let world = World::new(&format!("a = {}\n", "[".repeat(70)));
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: nested deeper than 64 levels
     --> p.toml:1:69
      |
    1 | a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
      |                                                                     ^

    error[syntax]: unclosed array: expected `]`
     --> p.toml:1:75
      |
    1 | a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
      |                                                                    -      ^
      |                                                                    |
      |                                                                    opened here

    error: p.toml: 2 errors
    "#);
}

#[test]
fn dotted_keys_without_end() {
    let world = World::new(&format!("{}z = 1\n", "a.".repeat(70)));
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: nested deeper than 64 levels
     --> p.toml:1:141
      |
    1 | ...a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.z = 1
      |                                                                    ^

    error: p.toml: 1 error
    "#);
}

#[test]
fn names_that_are_none() {
    let world = World::new(
        "[dataset.a]\na = \"${}\"\nb = \"${a b}\"\nc = \"${x:-3}\"\nd = \"${evn:HOME}\"\ne = \"${env:HOME:x}\"\n",
    );
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-name]: a name is missing
     --> p.toml:2:8
      |
    2 | a = "${}"
      |        ^
      |
      = help: write ${name}, with a name of [vars]

    error[variable-name]: `a b` is not a valid variable name
     --> p.toml:3:8
      |
    3 | b = "${a b}"
      |        ^^^
      |
      = help: names consist of letters, digits, `_` and `-`

    error[variable-name]: `x:-3` is not a valid variable name
     --> p.toml:4:8
      |
    4 | c = "${x:-3}"
      |        ^^^^
      |
      = help: only the environment has defaults: ${env:x:-3}

    error[variable-name]: `evn:HOME` is not a valid variable name
     --> p.toml:5:8
      |
    5 | d = "${evn:HOME}"
      |        ^^^^^^^^
      |
      = help: write ${env:HOME}

    error[variable-name]: unexpected `:` after the name
     --> p.toml:6:16
      |
    6 | e = "${env:HOME:x}"
      |                ^
      |
      = help: a default follows `:-`, as in ${env:NAME:-default}

    error: p.toml: 5 errors
    "#);
}

#[test]
fn a_date_where_a_table_should_be() {
    let world = World::new("profile.demo = 2026-11-23\n[vars]\nd = 10:30\n[a.b]\nc = \"at ${d}\"\n").profile("demo");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-profile]: the profile `demo` is a date
     --> p.toml:1:9
      |
    1 | profile.demo = 2026-11-23
      |         ^^^^
      |
      = help: a profile is a table: [profile.demo]

    error: p.toml: 1 error
    "#);
}
