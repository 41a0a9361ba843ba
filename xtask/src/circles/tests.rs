use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder with planted files, removed at the end of the test.
pub(crate) struct Planted {
    pub(crate) root: PathBuf,
}

impl Planted {
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("pipe-xtask-circles-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { root }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Circles of files and of top-level modules in a crate with these files.
fn circles_of(name: &str, files: &[(&str, &str)]) -> String {
    let planted = Planted::new(name, files);
    let package = crates::Package::with_root(planted.root.join("lib.rs"));
    let code = Code::read(&planted.root, &package).unwrap();
    let mut said = String::new();
    report(&mut said, "files", &code.files);
    report(&mut said, "modules", &code.modules);
    said
}

fn assert_none(name: &str, files: &[(&str, &str)]) {
    assert_eq!(circles_of(name, files), "");
}

#[test]
fn two_files_that_use_each_other() {
    let said = circles_of(
        "two",
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b::B;\n\npub struct A;\n"),
            ("b.rs", "pub struct B;\n\npub fn f() -> crate::a::A {\n    todo!()\n}\n"),
        ],
    );
    let expected = "\
circle of 2 files:
    a.rs
    b.rs
  one way round:
    a.rs → b.rs, a.rs:1: crate::b::B
    b.rs → a.rs, b.rs:3: crate::a::A
circle of 2 modules:
    a
    b
  one way round:
    a → b, a.rs:1: crate::b::B
    b → a, b.rs:3: crate::a::A
";
    assert_eq!(said, expected);
}

#[test]
fn a_re_export_leads_to_the_file_that_defines() {
    let b = ("b.rs", "use super::a::A;\npub struct B(A);\n");
    for (name, lib, a) in [
        ("name", "mod a;\nmod b;\npub use b::B;\n", "pub struct A;\nfn f(_: crate::B) {}\n"),
        ("glob", "mod a;\nmod b;\npub use b::*;\n", "use super::*;\npub struct A;\nfn f(_: B) {}\n"),
        (
            "other",
            "mod a;\nmod b;\nmod c { pub use super::b::B as D; }\npub use c::D;\n",
            "pub struct A;\nfn f(_: crate::D) {}\n",
        ),
    ] {
        let said = circles_of(name, &[("lib.rs", lib), ("a.rs", a), b]);
        assert!(said.starts_with("circle of 2 files:\n    a.rs\n    b.rs\n"), "{name}: {said}");
    }
}

#[test]
fn declarations_and_re_exports_of_a_parent_are_no_edges() {
    let child = ("a.rs", "use super::Top;\npub struct A(Top);\n");
    let lib = "mod a;\npub use a::A;\npub(crate) use self::a::A as Again;\npub struct Top;\n";
    assert_none("parent", &[("lib.rs", lib), child]);
    // But whoever uses the name depends on it, by whichever name.
    for (name, more) in
        [("by-use", "fn f(_: A) {}\n"), ("by-path", "fn f(_: a::A) {}\n"), ("private", "use a::A as _;\n")]
    {
        let said = circles_of(name, &[("lib.rs", &format!("{lib}{more}")), child]);
        assert!(said.starts_with("circle of 2 files:\n    a.rs\n    lib.rs\n"), "{name}: {said}");
    }
}

#[test]
fn what_only_tests_have_makes_no_circle() {
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n#[cfg(test)]\nuse crate::b::B;\n#[cfg(all(test, unix))]\nmod more;\n";
    let lib = "mod a;\nmod b;\n#[cfg(test)]\npub(crate) mod testing;\n";
    let a = format!("pub struct A;\n{tests}impl A {{\n    #[cfg(test)]\n    fn f(_: crate::b::B) {{}}\n}}\n");
    assert_none("tests", &[("lib.rs", lib), ("a.rs", &a), ("b.rs", "pub struct B(crate::a::A);\n")]);
}

#[test]
fn words_of_macros_are_read() {
    for (name, a) in [
        ("path", "pub struct A;\nfn f() { println!(\"{:?}\", [1, crate::b::g()]); }\n"),
        ("name", "use super::*;\npub struct A;\nfn f() { vec![B]; }\n"),
        ("rule", "pub struct A;\nmacro_rules! m {\n    () => { $crate::b::B };\n}\n"),
    ] {
        let files =
            [("lib.rs", "mod a;\nmod b;\npub use b::B;\n"), ("a.rs", a), ("b.rs", "pub struct B;\nuse super::a::A;\n")];
        let said = circles_of(name, &files);
        assert!(said.contains("    a.rs → b.rs, a.rs:"), "{name}: {said}");
    }
    // Fields, variables and words of rules are no paths.
    let a = "pub use crate::b::*;\nmacro_rules! m { () => { b::B } }\nfn f(x: &X, g: u8) { println!(\"{} {}\", x.g, g); }\nstruct X { g: u8 }\n";
    let said = circles_of(
        "fields",
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", a),
            ("b.rs", "pub use crate::c::g;"),
            ("c.rs", "pub fn g() {}\nuse crate::a::f;\n"),
        ],
    );
    assert_eq!(said, "");
}

#[test]
fn macros_lead_to_where_they_are_written() {
    let lib = "#[macro_use]\nmod macros;\nmod a;\n";
    let macros = "use crate::a::A;\nmacro_rules! near { () => {} }\n#[macro_export]\nmacro_rules! far { () => {} }\npub(crate) use near;\n";
    for (name, call) in [("near", "near!();"), ("far", "crate::far!();"), ("path", "crate::macros::near!();")] {
        let said =
            circles_of(name, &[("lib.rs", lib), ("macros.rs", macros), ("a.rs", &format!("pub struct A;\n{call}\n"))]);
        assert!(said.contains("    a.rs → macros.rs, a.rs:2: "), "{name}: {said}");
    }
}

#[test]
fn folders_are_in_a_circle_where_no_files_are() {
    let said = circles_of(
        "folders",
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub mod x;\npub mod y;\n"),
            ("a/x.rs", "pub struct X(crate::b::x::X);\n"),
            ("a/y.rs", "pub struct Y;\n"),
            ("b/mod.rs", "pub mod x;\npub mod y;\n"),
            ("b/x.rs", "pub struct X;\n"),
            ("b/y.rs", "mod inner {\n    use super::super::super::a::y;\n    fn f(_: y::Y) {}\n}\n"),
        ],
    );
    let expected = "\
circle of 2 modules:
    a
    b
  one way round:
    a → b, a/x.rs:1: crate::b::x::X
    b → a, b/y.rs:3: y::Y
";
    assert_eq!(said, expected);
}

#[test]
fn a_module_and_a_function_may_share_a_name() {
    let files = [
        ("lib.rs", "mod area;\nmod side;\npub use area::area;\n"),
        ("area.rs", "pub fn area() { crate::side::side() }\npub struct Unit;\n"),
        ("side.rs", "pub fn side() {}\n"),
    ];
    assert_none("shared", &files);
    let side = "pub fn side() { let area = crate::area; }\n";
    let said = circles_of("shared-used", &[files[0], files[1], ("side.rs", side)]);
    assert!(said.starts_with("circle of 2 files:\n    area.rs\n    side.rs\n"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let planted = Planted::new("missing", &[("lib.rs", "\nmod nowhere;\n")]);
    let package = crates::Package::with_root(planted.root.join("lib.rs"));
    let error = Code::read(&planted.root, &package).err().unwrap().to_string();
    assert!(error.ends_with("lib.rs:2: there is no file for `mod nowhere`"), "{error}");
}

/// A crate named `name` with that table of dependencies.
fn manifest(name: &str, dependencies: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n")
}

pub(crate) fn plant_crates(name: &str, lowest: &str) -> Planted {
    let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n\n[workspace.dependencies]\nlow = { path = \"crates/low\" }\n";
    let low = manifest("low", lowest);
    let mid = manifest("mid", "low.workspace = true");
    let top = manifest("top", "mid = { path = \"../mid\" }\nlow.workspace = true");
    Planted::new(
        name,
        &[
            ("Cargo.toml", workspace),
            ("crates/low/Cargo.toml", &low),
            ("crates/low/src/lib.rs", "pub mod a;\npub mod b;\n"),
            ("crates/low/src/a.rs", "use crate::b::B;\n"),
            ("crates/low/src/b.rs", "pub struct B;\n"),
            ("crates/mid/Cargo.toml", &mid),
            ("crates/mid/src/lib.rs", ""),
            ("crates/top/Cargo.toml", &top),
            ("crates/top/src/lib.rs", ""),
        ],
    )
}

#[test]
fn crates_that_are_built_on_each_other() {
    let planted = plant_crates("crates", "top = { path = \"../top\" }");
    let packages = crates::packages(&planted.root).unwrap();
    let mut said = String::new();
    report(&mut said, "crates", &crates::graph(&planted.root, &packages).unwrap());
    let expected = "\
circle of 3 crates:
    low
    mid
    top
  one way round:
    low → top, crates/low/Cargo.toml:7: top
    top → low, crates/top/Cargo.toml:8: low
";
    assert_eq!(said, expected);
    assert!(check(&planted.root).unwrap_err().to_string().starts_with("1 circle to break up"));
    // Crates that only tests use make none.
    let planted = plant_crates("crates-tests", "[dev-dependencies]\ntop = { path = \"../top\" }");
    check(&planted.root).unwrap();
}
