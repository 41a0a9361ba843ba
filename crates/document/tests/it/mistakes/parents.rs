//! Files, their parents and their profiles.

use insta::assert_snapshot;

use crate::World;

#[test]
fn a_file_that_is_not_there() {
    assert_snapshot!(World::default().mistakes(), @r#"
    error[unreadable-file]: cannot read `p.toml`: there is no such file

    error: 1 error
    "#);
}

#[test]
fn a_parent_that_is_not_there() {
    let world = World::new("extends = \"bass.toml\"\n[pipeline]\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[unreadable-file]: cannot read the parent `bass.toml`: there is no such file
     --> p.toml:1:11
      |
    1 | extends = "bass.toml"
      |           ^^^^^^^^^^^
      |
      = help: the path is relative to the folder of this file

    error: p.toml: 1 error
    "#);
}

#[test]
fn parents_in_a_circle() {
    let world = World::new("extends = \"b.toml\"\n")
        .file("b.toml", "extends = \"c.toml\"\n")
        .file("c.toml", "\nextends = \"./p.toml\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[extends-cycle]: `extends` is circular: p.toml → b.toml → c.toml → p.toml
     --> c.toml:2:11
      |
    2 | extends = "./p.toml"
      |           ^^^^^^^^^^

    error: p.toml: 1 error
    "#);
}

/// Whoever writes a pipeline may not be allowed to read what it extends: only that it is no pipeline is told.
#[test]
fn a_parent_that_is_no_pipeline() {
    let world = |text: &str| World::new("extends = \"/etc/shadow\"\n[pipeline]\nseed = 1\n").file("/etc/shadow", text);
    assert_snapshot!(world("root:$6$hash:19000:0:::\n").mistakes(), @r#"
    error[invalid-extends]: the parent `/etc/shadow` is no pipeline
     --> p.toml:1:11
      |
    1 | extends = "/etc/shadow"
      |           ^^^^^^^^^^^^^
      |
      = help: it has none of the tables of one, such as [pipeline], [vars] or [model.NAME]

    error: p.toml: 1 error
    "#);
    for secret in ["password = \"hash\"\n", "[registry]\ntoken = \"hash\"\n[profile.dev]\nx = 1\n"] {
        let mistakes = world(secret).mistakes();
        assert!(mistakes.contains("is no pipeline") && !mistakes.contains("hash"), "{mistakes}");
    }
    for fine in ["", "# nothing yet\n", "[profile.demo]\nvars.a = 1\n", "extends = \"none.toml\"\n"] {
        let world = World::new("extends = \"base.toml\"\n[pipeline]\nseed = 1\n").file("base.toml", fine);
        assert!(!world.mistakes().contains("is no pipeline"), "{fine}");
    }
}

#[test]
fn a_parent_that_is_no_text() {
    let world = World::new("extends = [\"a.toml\", \"b.toml\"]\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-extends]: `extends` is an array
     --> p.toml:1:11
      |
    1 | extends = ["a.toml", "b.toml"]
      |           ^^^^^^^^^^^^^^^^^^^^
      |
      = help: give one file: extends = "base.toml"

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_parent_named_by_a_variable() {
    let world = World::new("extends = \"${base}.toml\"\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-extends]: `extends` cannot use variables
     --> p.toml:1:11
      |
    1 | extends = "${base}.toml"
      |           ^^^^^^^^^^^^^^
      |
      = help: variables are resolved only after all parents are loaded

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_mistake_in_a_parent() {
    let world = World::new("extends = \"base/b.toml\"\n[loader.a]\nworkers = oops\n")
        .file("base/b.toml", "[loader.a]\nbatch_size = nope\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[syntax]: a string needs quotes around it
     --> p.toml:3:11
      |
    3 | workers = oops
      |           ^^^^
      |
      = help: put quotes around it: "oops"

    error[syntax]: a string needs quotes around it
     --> base/b.toml:2:14
      |
    2 | batch_size = nope
      |              ^^^^
      |
      = help: put quotes around it: "nope"

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_profile_that_is_misspelt() {
    let world =
        World::new("[profile.demo]\nvars.x = 1\n[profile.fast]\nvars.x = 2\n[vars]\nx = 0\n[a.b]\nc = \"${x}\"\n")
            .profile("dmeo");
    assert_snapshot!(world.mistakes(), @r#"
    error[unknown-profile]: there is no profile `dmeo`
     |
     = help: did you mean `demo`? the profiles are `demo`, `fast`

    error: p.toml: 1 error
    "#);
}

#[test]
fn a_profile_where_there_are_none() {
    let world = World::new("[pipeline]\nseed = 1\n").profile("demo");
    assert_snapshot!(world.mistakes(), @r#"
    error[unknown-profile]: there is no profile `demo`
     |
     = help: this pipeline has no profiles

    error: p.toml: 1 error
    "#);
}

#[test]
fn profiles_that_are_none() {
    let world = World::new("[profile]\nquick = true\n[profile.demo]\nextends = \"x.toml\"\n").profile("demo");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-profile]: the profile `quick` is a boolean
     --> p.toml:2:1
      |
    2 | quick = true
      | ^^^^^
      |
      = help: a profile is a table: [profile.quick]

    error[invalid-profile]: a profile cannot set `extends`
     --> p.toml:4:1
      |
    4 | extends = "x.toml"
      | ^^^^^^^

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_section_that_is_no_table() {
    let world = World::new("vars = 3\nprofile = []\n");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-section]: `vars` is an integer, and must be a table
     --> p.toml:1:1
      |
    1 | vars = 3
      | ^^^^
      |
      = help: write [vars]

    error[invalid-section]: `profile` is an array, and must be a table
     --> p.toml:2:1
      |
    2 | profile = []
      | ^^^^^^^
      |
      = help: write [profile]

    error: p.toml: 2 errors
    "#);
}

#[test]
fn a_profile_of_a_parent_that_is_missing_may_be_there() {
    let world = World::new("extends = [\"a.toml\"]\n[a.b]\nc = 1\n").profile("demo");
    assert_snapshot!(world.mistakes(), @r#"
    error[invalid-extends]: `extends` is an array
     --> p.toml:1:11
      |
    1 | extends = ["a.toml"]
      |           ^^^^^^^^^^
      |
      = help: give one file: extends = "base.toml"

    error: p.toml: 1 error
    "#);
}
