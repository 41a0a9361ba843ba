//! Variables: `[vars]`, the environment, and their use.

use insta::assert_snapshot;

use crate::World;

/// Ten variables, each an array of ten of the one before.
fn explosion() -> String {
    let lines = (1..10).map(|n| {
        let item = format!("\"${{v{}}}\", ", n - 1);
        format!("v{n} = [{}]\n", item.repeat(10))
    });
    format!("[vars]\nv0 = \"lol\"\n{}[a.b]\nc = \"${{v9}}\"\n", lines.collect::<String>())
}

#[test]
fn a_variable_made_of_itself() {
    let world =
        World::new("[vars]\na = \"${b}\"\nb = \"x/${c}\"\nc = \"${a}\"\nd = \"${d}\"\n[x.y]\nz = \"${a}${d}\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-cycle]: the variable is defined in terms of itself: `a` → `b` → `c` → `a`
     --> p.toml:4:6
      |
    4 | c = "${a}"
      |      ^^^^

    error[variable-cycle]: the variable is defined in terms of itself: `d` → `d`
     --> p.toml:5:6
      |
    5 | d = "${d}"
      |      ^^^^

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_variable_that_is_misspelt() {
    let world =
        World::new("[vars]\nimage_size = 512\n[transform.a]\nsize = \"${image_szie}\"\nother = \"${image_size}\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-unknown]: there is no variable `image_szie`
     --> p.toml:4:9
      |
    4 | size = "${image_szie}"
      |         ^^^^^^^^^^^^^
      |
      = help: did you mean `${image_size}`?

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_variable_that_nobody_defined() {
    let world = World::new("[dataset.a]\nroot = 'data/${split}/${HOME}'\n").env("HOME", "/home/me");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-unknown]: there is no variable `split`
     --> p.toml:2:14
      |
    2 | root = 'data/${split}/${HOME}'
      |              ^^^^^^^^
      |
      = help: define it: `split = …` under [vars]

    error[variable-unknown]: there is no variable `HOME`
     --> p.toml:2:23
      |
    2 | root = 'data/${split}/${HOME}'
      |                       ^^^^^^^
      |
      = help: for the environment, write ${env:HOME}

    error: p.toml: 2 errors
    "#);
}

#[test]
fn an_environment_variable_that_is_not_set() {
    let world = World::new("[dataset.a]\nroot = \"\\u00e9\\t${env:COCO_ROOT}/x\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-environment]: the environment variable `COCO_ROOT` is not set
     --> p.toml:2:17
      |
    2 | root = "\u00e9\t${env:COCO_ROOT}/x"
      |                 ^^^^^^^^^^^^^^^^
      |
      = help: set it, or give a default: ${env:COCO_ROOT:-default}

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_variable_that_is_never_closed() {
    let world = World::new("[vars]\na = 1\n[dataset.a]\nroot = \"\"\"\ndata/\\\n  ${a}/${a\"\"\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-unclosed]: this `${` is never closed
     --> p.toml:6:8
      |
    6 |   ${a}/${a"""
      |        ^^
      |
      = help: close it with `}`; for the characters themselves, write `$${`

    error: p.toml: 1 error
    "#);
}

#[test]
fn an_array_inside_a_text() {
    let world = World::new("[vars]\nsize = [1, 2]\n[dataset.a]\nroot = \"x/${size}\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-type]: `size` is an array, and cannot be part of a string
     --> p.toml:4:11
      |
    2 | size = [1, 2]
      |        ------ defined here
    3 | [dataset.a]
    4 | root = "x/${size}"
      |           ^^^^^^^
      |
      = help: only a string that is exactly "${size}" can take it

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_variable_that_nothing_uses() {
    let world = World::new("[vars]\ncoco = \"data\"\nunused = 3\n[dataset.a]\nroot = \"${coco}\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    warning[variable-unused]: the variable `unused` is never used
     --> p.toml:3:1
      |
    3 | unused = 3
      | ^^^^^^
      |
      = help: use it as "${unused}", or remove it

    warning: p.toml: 1 warning
    "#);
}

/// Each knows all before it: the chain costs the square of its length.
#[test]
fn a_long_chain_of_variables() {
    let chain = |length: usize| {
        let links: String = (1..length).map(|i| format!("v{i} = \"${{v{}}}\"\n", i - 1)).collect();
        World::new(&format!("[vars]\nv0 = \"a\"\n{links}[dataset.a]\nroot = \"${{v{}}}\"\n", length - 1)).mistakes()
    };
    assert_eq!(chain(100), "");
    assert!(chain(10_000).contains("variables expand to more than 8 MiB"));
}

#[test]
fn very_many_unused_variables() {
    let all: String = (0..20_000).map(|i| format!("v{i} = {i}\n")).collect();
    let mistakes = World::new(&format!("[vars]\n{all}")).mistakes();
    assert!(mistakes.contains("19900 more variables are never used"), "{mistakes}");
    assert!(mistakes.contains("the variable `v99` is never used") && !mistakes.contains("`v100`"), "{mistakes}");
}

/// One string with hundreds of thousands of mistakes.
#[test]
fn of_one_string_a_few_mistakes_are_told() {
    let mistakes = World::new(&format!("[dataset.a]\nroot = \"{}\"\n", "${a}".repeat(300_000))).mistakes();
    assert!(mistakes.ends_with("error: p.toml: 16 errors\n"), "{}", &mistakes[mistakes.len() - 80..]);
}

#[test]
fn variables_that_explode() {
    let world = World::new(&explosion());
    assert_snapshot!(world.mistakes(), @r#"
    error[variable-size]: variables expand to more than 8 MiB
     --> p.toml:8:7
      |
    8 | v6 = ["${v5}", "${v5}", "${v5}", "${v5}", "${v5}", "${v5}", "${v5}", "${v5}", "${v5}", "${v5}", ]
      |       ^^^^^^^

    error: p.toml: 1 error
    "#);
}
