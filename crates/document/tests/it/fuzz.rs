//! No text breaks the document phase: nothing panics, everything ends, and what can be read can be written and read again.
//!
//! Whatever is generated goes the whole way: load, render as text and JSON, show, write, and read what was written.

use pipe_document::KeyOrValue;
use proptest::prelude::*;

use super::{World, parse_pointer};

const PIPELINE: &str = r#"extends = "base.toml"
unset = ["transform.train.old", "on.late", 'on."first".every']
[pipeline]
name = "fuzz"
[vars]
root = "${env:ROOT:-data/${name}}"
name = "x"
size = [1, 2.5, { a = "${name}" }]
[transform.train]
steps = [{ type = "resize", size = "${size}" }, { p = 0.5 }]
when = 2026-11-23T10:00:00Z
text = """
multi \u00e9 \
   line ${root}"""
[[on]]
event = 'a:b'
run = ["c", "d"]
[[on]]
name = "first"
once = [1, 2]
[[profile.demo.on]]
name = "own"
[profile.demo]
unset = ["transform.train.when"]
vars.name = "y"
transform.train.when = 1
"#;

const BASE: &str = r#"[pipeline]
seed = 1
[transform.train]
type = "compose"
old = 1
[[on]]
name = "first"
every = 3
[[on]]
name = "late"
[profile.demo]
on.first.event = "a:c"
"#;

fn survive(world: &World) -> Result<(), TestCaseError> {
    let (document, found, sources) = world.load();
    let text = found.render_text(&sources, false);
    prop_assert_eq!(text.is_empty(), found.is_empty());
    prop_assert!(found.render_json(&sources).is_array());
    let Some(document) = document else {
        return Ok(());
    };
    let shown = document.show(&sources);
    prop_assert!(shown.starts_with('#'));
    let _ = document.locate(&parse_pointer("/transform/train/steps/0/size/2/a"), KeyOrValue::Value);
    if !found.has_errors() {
        let written = document.to_toml();
        let (again, problems, sources) = World::new(&written).load();
        prop_assert!(!problems.has_errors(), "{}\n{}", written, problems.render_text(&sources, false));
        prop_assert_eq!(again.map(|again| again.root().to_json()), Some(document.root().to_json()));
    }
    Ok(())
}

fn world(text: &str) -> World {
    World::new(text).file("base.toml", BASE).profile("demo").set("on.first.run=[\"x\"]").set("pipeline.seed=null")
}

/// Pieces that mean something to the grammar, put together without sense.
fn soup() -> impl Strategy<Value = String> {
    const TOKENS: &[&str] = &[
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        " ",
        "#",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "\\",
        "\\u12",
        "${",
        "}",
        "${a}",
        "${env:X:-",
        "$${",
        "a",
        "b.c",
        "vars",
        "profile.demo",
        "extends",
        "type",
        "1",
        "0x",
        "-",
        "1e9",
        "inf",
        "2026-11-23",
        "true",
        "é",
        "\u{feff}",
        "\0",
        "on",
        "a = ",
        "[vars]\n",
        "\n[a.b]\n",
        "=\"${b}\"\n",
    ];
    prop::collection::vec(prop::sample::select(TOKENS), 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        survive(&world(&text))?;
    }

    #[test]
    fn any_bytes_read_as_text(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&world(&String::from_utf8_lossy(&bytes)))?;
    }

    #[test]
    fn pieces_of_the_grammar(text in soup()) {
        survive(&world(&text))?;
    }

    #[test]
    fn a_pipeline_with_something_replaced(at in 0..PIPELINE.len(), length in 0usize..30, piece in soup()) {
        let boundary = |at: usize| (0..=at.min(PIPELINE.len())).rev().find(|at| PIPELINE.is_char_boundary(*at)).unwrap_or(0);
        let (start, end) = (boundary(at), boundary(at + length));
        survive(&world(&format!("{}{piece}{}", &PIPELINE[..start], &PIPELINE[end..])))?;
        survive(&world(&format!("{}{}", &PIPELINE[..start], &PIPELINE[end..])))?;
        survive(&world(&PIPELINE[..start]))?;
    }

    #[test]
    fn any_set(text in any::<String>(), pieces in soup()) {
        survive(&World::new("[a]\nb = [1]\n").set(&text))?;
        survive(&World::new("[a]\nb = [1]\n").set(&pieces))?;
        survive(&World::new("[a]\nb = [1]\n").set(&format!("a.c={pieces}")))?;
    }

    #[test]
    fn any_variables(values in prop::collection::vec(soup(), 1..6)) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let lines = names.iter().zip(&values).map(|(name, value)| {
            let value = value.replace(['\'', '\n', '\r', '\0'], "");
            format!("{name} = '{value}'\n")
        });
        survive(&World::new(&format!("[vars]\n{}[x.y]\nz = '${{a}}'\n", lines.collect::<String>())))?;
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = 20_000;
    let chain: String = (0..deep).map(|n| format!("v{n} = \"${{v{}}}\"\n", n + 1)).collect();
    let nested: String = (0..500).map(|n| format!("v{n} = [\"${{v{}}}\"]\n", n + 1)).collect();
    let doubling: String = (1..60).map(|n| format!("v{n} = \"${{v{}}}${{v{}}}\"\n", n - 1, n - 1)).collect();
    for text in [
        "[".repeat(deep),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        "[a]\n".repeat(deep),
        "a = oops\n".repeat(deep),
        "[[on]]\n".repeat(deep),
        format!("x = \"{}\"", "${env:A:-".repeat(deep)),
        format!("x = {}1", "-".repeat(deep)),
        format!("[vars]\n{chain}v{deep} = 1\n[a.b]\nc = \"${{v0}}\"\n"),
        format!("[vars]\n{nested}v500 = 1\n[a.b]\nc = \"${{v0}}\"\n"),
        format!("[vars]\nv0 = \"lol\"\n{doubling}[a.b]\nc = \"${{v59}}\"\n"),
    ] {
        let checked = survive(&World::new(&text));
        assert!(checked.is_ok(), "{checked:?}");
    }
}

/// Cut and soiled texts say little of a pipeline that is wrong to begin with.
#[test]
fn the_text_that_is_cut_is_right_itself() {
    let (_, found, sources) = world(PIPELINE).load();
    assert!(!found.has_errors(), "{}", found.render_text(&sources, false));
}
