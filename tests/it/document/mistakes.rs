//! One test a mistake: the text of a pipeline, and all that the user sees of what is wrong with it.

use insta::assert_snapshot;

use super::World;

/// Ten variables, each an array of ten of the one before.
fn explosion() -> String {
    let lines = (1..10).map(|n| {
        let item = format!("\"${{v{}}}\", ", n - 1);
        format!("v{n} = [{}]\n", item.repeat(10))
    });
    format!("[vars]\nv0 = \"lol\"\n{}[a.b]\nc = \"${{v9}}\"\n", lines.collect::<String>())
}

#[test]
fn a_file_that_is_not_there() {
    assert_snapshot!(World::default().mistakes(), @"");
}

#[test]
fn an_unclosed_string() {
    let world = World::new("[pipeline]\nname = \"demo\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_unclosed_multi_line_string() {
    let world = World::new("[pipeline]\nname = \"\"\"demo\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_unclosed_array_does_not_hide_what_follows() {
    let world = World::new("[transform.a]\nsteps = [\n  { type = \"x\" },\n\n[loader.a]\nbatch_size = yes\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_unclosed_inline_table() {
    let world = World::new("[transform.a]\nsize = { h = 1, w = 2\n\n[loader.a]\nworkers = 1\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_unclosed_header() {
    let world = World::new("[model.a\ntype = \"x\"\n[model.b]\ntype = \n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_text_without_quotes() {
    let world = World::new("[pipeline]\ndevice = cuda\nname = None\nwatch = True\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_without_quotes() {
    let world = World::new("[vars]\nn = 1\n[loader.a]\nworkers = ${n}\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_key_without_value() {
    let world = World::new("[loader.a]\nshuffle\nworkers =\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_key_with_a_space() {
    let world = World::new("[loader.a]\nbatch size = 4\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn two_values_on_a_line() {
    let world = World::new("[loader.a]\nworkers = 4 batch_size = 2\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn numbers_that_are_none() {
    let world =
        World::new("[optimizer.a]\nlr = 0.0.1\nmomentum = .9\nsteps = 012\nbig = 99999999999999999999\nhuge = 1e999\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_missing_comma() {
    let world = World::new("[metric.a]\niou_types = [\"bbox\" \"segm\"]\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_escape_that_is_none() {
    let world = World::new("[dataset.a]\nroot = \"C:\\data\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_date_that_is_none() {
    let world = World::new("[pipeline]\nstarted = 2026-13-41\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_key_set_twice() {
    let world = World::new("[optimizer.a]\nlr = 0.1\nmomentum = 0.9\nlr = 0.2\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_table_defined_twice() {
    let world = World::new("[model.a]\ntype = \"x\"\n\n[loader.a]\nworkers = 1\n\n[model.a]\ntype = \"y\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_dotted_key_into_a_table_with_a_header() {
    let world = World::new("[a.b]\nx = 1\n[a]\nb.y = 2\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_value_that_is_also_a_table() {
    let world = World::new("[model]\na = 1\n[model.a]\ntype = \"x\"\n[model.a.b]\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn one_event_table_and_many() {
    let world = World::new("[on]\nevent = \"a:b\"\n[[on]]\nevent = \"c:d\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn nesting_without_end() {
    let world = World::new(&format!("a = {}\n", "[".repeat(70)));
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn dotted_keys_without_end() {
    let world = World::new(&format!("{}z = 1\n", "a.".repeat(70)));
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_parent_that_is_not_there() {
    let world = World::new("extends = \"bass.toml\"\n[pipeline]\nseed = 1\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn parents_in_a_circle() {
    let world = World::new("extends = \"b.toml\"\n")
        .file("b.toml", "extends = \"c.toml\"\n")
        .file("c.toml", "\nextends = \"./p.toml\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_parent_that_is_no_text() {
    let world = World::new("extends = [\"a.toml\", \"b.toml\"]\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_parent_named_by_a_variable() {
    let world = World::new("extends = \"${base}.toml\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_mistake_in_a_parent() {
    let world = World::new("extends = \"base/b.toml\"\n[loader.a]\nworkers = oops\n")
        .file("base/b.toml", "[loader.a]\nbatch_size = nope\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_profile_that_is_misspelt() {
    let world =
        World::new("[profile.demo]\nvars.x = 1\n[profile.fast]\nvars.x = 2\n[vars]\nx = 0\n[a.b]\nc = \"${x}\"\n")
            .profile("dmeo");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_profile_where_there_are_none() {
    let world = World::new("[pipeline]\nseed = 1\n").profile("demo");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn profiles_that_are_none() {
    let world = World::new("[profile]\nquick = true\n[profile.demo]\nextends = \"x.toml\"\n").profile("demo");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_section_that_is_no_table() {
    let world = World::new("vars = 3\nprofile = []\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_without_a_value() {
    let world = World::new("").set("engine.trainer.max_epochs").set("a.b=").set("=3");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_with_a_wrong_value() {
    let world = World::new("").set("a.b=[1, 2").set("a.c='x");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_of_what_cannot_be_set() {
    let world = World::new("").set("extends=a.toml").set("profile.x.seed=1").set("a..b=1");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_into_an_array() {
    let world = World::new("[transform.a]\nsteps = [1, 2]\n").set("transform.a.steps.0=3");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_that_makes_a_node_a_number() {
    let world = World::new("[engine.trainer]\nmax_epochs = 2\n").set("engine.trainer=3");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_set_of_an_unknown_variable() {
    let world = World::new("[vars]\ncoco = \"x\"\n[dataset.a]\nroot = \"${coco}\"\n").set("vars.cocoo=y");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_made_of_itself() {
    let world =
        World::new("[vars]\na = \"${b}\"\nb = \"x/${c}\"\nc = \"${a}\"\nd = \"${d}\"\n[x.y]\nz = \"${a}${d}\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_that_is_misspelt() {
    let world =
        World::new("[vars]\nimage_size = 512\n[transform.a]\nsize = \"${image_szie}\"\nother = \"${image_size}\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_that_nobody_defined() {
    let world = World::new("[dataset.a]\nroot = 'data/${split}/${HOME}'\n").env("HOME", "/home/me");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_environment_variable_that_is_not_set() {
    let world = World::new("[dataset.a]\nroot = \"\\u00e9\\t${env:COCO_ROOT}/x\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_that_is_never_closed() {
    let world = World::new("[vars]\na = 1\n[dataset.a]\nroot = \"\"\"\ndata/\\\n  ${a}/${a\"\"\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn names_that_are_none() {
    let world = World::new(
        "[dataset.a]\na = \"${}\"\nb = \"${a b}\"\nc = \"${x:-3}\"\nd = \"${evn:HOME}\"\ne = \"${env:HOME:x}\"\n",
    );
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn an_array_inside_a_text() {
    let world = World::new("[vars]\nsize = [1, 2]\n[dataset.a]\nroot = \"x/${size}\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn a_variable_that_nothing_uses() {
    let world = World::new("[vars]\ncoco = \"data\"\nunused = 3\n[dataset.a]\nroot = \"${coco}\"\n");
    assert_snapshot!(world.mistakes(), @"");
}

#[test]
fn variables_that_explode() {
    let world = World::new(&explosion());
    assert_snapshot!(world.mistakes(), @"");
}
