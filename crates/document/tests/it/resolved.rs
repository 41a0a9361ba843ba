//! What documents resolve to: parents, profiles, overrides, variables, secrets, paths and places.

use insta::assert_snapshot;
use pipe_document::diagnostic::Sources;
use pipe_document::{KeyOrValue, PathSegment, Value};
use serde_json::json;

use super::{World, parse_pointer};

fn example() -> World {
    World::new(
        r#"extends = "base/base.toml"
[pipeline]
name = "child"
[vars]
size = 256
[optimizer.sgd]
lr = 0.1
[model.net]
type = "small"
[dataset.extra]
type = "coco"
root = "own/data"
best = { monitor = "a:b", mode = "max" }
[profile.demo]
vars.coco = "builtin:shapes"
engine.trainer.max_epochs = 2
"#,
    )
    .file(
        "base/base.toml",
        r#"[pipeline]
name = "base"
seed = 42
[vars]
coco = "${env:COCO_ROOT:-data/coco}"
size = 512
steps = [{ type = "resize", size = "${size}" }]
[dataset.train]
type = "coco"
root = "${coco}/train"
[transform.train]
steps = "${steps}"
[optimizer.sgd]
type = "sgd"
lr = 0.005
momentum = 0.9
[model.net]
type = "large"
hidden = 256
[engine.trainer]
type = "train"
max_epochs = 10
[[on]]
event = "engine.trainer:completed"
run = ["handler.a", "handler.b"]
[profile.demo]
engine.trainer.max_epochs = 1
optimizer.sgd.momentum = 0.0
"#,
    )
}

fn show(world: &World) -> String {
    let (document, sources) = world.document();
    document.show(&sources)
}

#[test]
fn file_over_parent() {
    assert_snapshot!(show(&example()), @r#"
    # p.toml

    [vars]
    coco = "data/coco"                         # base/base.toml:5, default of COCO_ROOT
    size = 256                                 # p.toml:5
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:7, ${size} from p.toml:5

    [pipeline]
    name = "child"  # p.toml:3
    seed = 42       # base/base.toml:3

    [dataset.train]
    type = "coco"             # base/base.toml:9
    root = "data/coco/train"  # base/base.toml:10, ${coco} from base/base.toml:5, default of COCO_ROOT

    [dataset.extra]
    type = "coco"         # p.toml:11
    root = "own/data"     # p.toml:12
    best.monitor = "a:b"  # p.toml:13
    best.mode = "max"     # p.toml:13

    [transform.train]
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:12, ${steps} from base/base.toml:7, ${size} from p.toml:5

    [optimizer.sgd]
    type = "sgd"    # base/base.toml:14
    lr = 0.1        # p.toml:7
    momentum = 0.9  # base/base.toml:16

    [model.net]
    type = "small"  # p.toml:9
    hidden = 256    # base/base.toml:19

    [engine.trainer]
    type = "train"   # base/base.toml:21
    max_epochs = 10  # base/base.toml:22

    [[on]]
    event = "engine.trainer:completed"  # base/base.toml:24
    run = ["handler.a", "handler.b"]    # base/base.toml:25
    "#);
}

#[test]
fn profile_then_set_over_both() {
    let world = example().profile("demo").set("optimizer.sgd.lr=1").set("model.net.type=tiny").set("model.net.n=2");
    assert_snapshot!(show(&world), @r#"
    # p.toml, profile demo

    [vars]
    coco = "builtin:shapes"                    # p.toml:15 profile demo
    size = 256                                 # p.toml:5
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:7, ${size} from p.toml:5

    [pipeline]
    name = "child"  # p.toml:3
    seed = 42       # base/base.toml:3

    [dataset.train]
    type = "coco"                  # base/base.toml:9
    root = "builtin:shapes/train"  # base/base.toml:10, ${coco} from p.toml:15 profile demo

    [dataset.extra]
    type = "coco"         # p.toml:11
    root = "own/data"     # p.toml:12
    best.monitor = "a:b"  # p.toml:13
    best.mode = "max"     # p.toml:13

    [transform.train]
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:12, ${steps} from base/base.toml:7, ${size} from p.toml:5

    [optimizer.sgd]
    type = "sgd"    # base/base.toml:14
    lr = 1          # --set
    momentum = 0.0  # base/base.toml:28 profile demo

    [model.net]
    type = "tiny"  # --set
    hidden = 256   # base/base.toml:19
    n = 2          # --set

    [engine.trainer]
    type = "train"  # base/base.toml:21
    max_epochs = 2  # p.toml:16 profile demo

    [[on]]
    event = "engine.trainer:completed"  # base/base.toml:24
    run = ["handler.a", "handler.b"]    # base/base.toml:25
    "#);
}

#[test]
fn setting_the_type_and_more_replaces_a_node_and_nothing_else_does() {
    let (document, _) = example().set("model.net={ type = \"small\", n = 1 }").document();
    assert_eq!(document.root().get("model").unwrap().to_json(), json!({"net": {"type": "small", "n": 1}}));
    let dropped: Vec<&str> = document.retyped("model", "net").unwrap().dropped.iter().map(|(key, _)| &**key).collect();
    assert_eq!(dropped, ["hidden"]);
    // Alone, it leaves the other keys to those who know the components.
    let (document, _) = example().document();
    assert_eq!(document.root().get("model").unwrap().to_json(), json!({"net": {"type": "small", "hidden": 256}}));
    let retyped = document.retyped("model", "net").unwrap();
    assert_eq!((&*retyped.from, &retyped.inherited[..]), ("large", &["hidden".to_owned()][..]));
    let (document, _) = example().set("model.net.hidden=1").document();
    assert!(document.retyped("model", "net").unwrap().inherited.is_empty(), "it was set again");
    let sgd = document.get_at(&parse_pointer("/optimizer/sgd")).unwrap().to_json();
    assert_eq!(sgd, json!({"type": "sgd", "lr": 0.1, "momentum": 0.9}));
    // `type` deeper than a node is a value like any other.
    let world = World::new("[handler.a]\ntype = \"x\"\nbest = { type = \"y\", n = 1 }\n").set("handler.a.best.type=z");
    let best = world.document().0.get_at(&parse_pointer("/handler/a/best")).unwrap().to_json();
    assert_eq!(best, json!({"type": "z", "n": 1}));
}

#[test]
fn arrays_are_replaced_whole() {
    let world = example().set("transform.train.steps=[1, 2]");
    let json = world.document().0.root().to_json();
    assert_eq!(json["transform"]["train"]["steps"], json!([1, 2]));
}

#[test]
fn values_of_set() {
    for (text, expected) in [
        ("a.b=3", json!(3)),
        ("a.b=3.0", json!(3.0)),
        ("a.b = true", json!(true)),
        ("a.b=[1, \"x\"]", json!([1, "x"])),
        ("a.b={ c = 1 }", json!({"c": 1})),
        ("a.b='quoted'", json!("quoted")),
        ("a.b=cuda:1", json!("cuda:1")),
        ("a.b=512MB", json!("512MB")),
        ("a.b=data/my set", json!("data/my set")),
        ("a.b=x=y", json!("x=y")),
        ("a.b=", json!(null)),
    ] {
        let (document, _, _) = World::new("").set(text).load();
        let value = document.unwrap().get_at(&parse_pointer("/a/b")).map_or(json!(null), |node| node.to_json());
        assert_eq!(value, expected, "{text}");
    }
    let (document, _) = World::new("").set("a.\"b.c\".d=1").document();
    assert_eq!(document.root().to_json(), json!({"a": {"b.c": {"d": 1}}}));
}

#[test]
fn variables_keep_their_type_alone_and_become_text_in_company() {
    let world = World::new(
        r#"[vars]
n = 3
f = 0.5
b = true
d = 2026-11-23
list = ["${n}", "x${n}"]
[a.b]
values = ["${n}", "${f}", "${b}", "${list}"]
text = "${n} ${f} ${b} ${d} $${n} $"
"#,
    );
    let json = world.document().0.root().to_json();
    assert_eq!(
        json,
        json!({"a": {"b": {"values": [3, 0.5, true, [3, "x3"]], "text": "3 0.5 true 2026-11-23 ${n} $"}}})
    );
}

#[test]
fn the_environment_wins_over_the_default() {
    let world = example().env("COCO_ROOT", "/data/coco");
    let root = |world: &World| {
        let (document, _) = world.document();
        document.get_at(&parse_pointer("/dataset/train/root")).unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(root(&world), "/data/coco/train");
    assert_eq!(root(&example()), "data/coco/train");
}

#[test]
fn secrets_are_masked() {
    let world = World::new(
        r#"[vars]
hidden = "${env:WANDB_API_KEY}"
plain = "${env:WHO}"
[sink.a]
token = "${plain}"
url = "https://${hidden}@host"
who = "${plain}"
key = "in the file"
options = { deep = ["${hidden}"], open = 1 }
"#,
    )
    .env("WANDB_API_KEY", "s3cr3t")
    .env("WHO", "me");
    let (mut document, sources) = world.document();
    assert_snapshot!(document.show(&sources), @r#"
    # p.toml

    [vars]
    hidden = "<secret>"  # p.toml:2, WANDB_API_KEY from the environment
    plain = "me"         # p.toml:3, WHO from the environment

    [sink.a]
    token = "<secret>"           # p.toml:5, ${plain} from p.toml:3, WHO from the environment
    url = "<secret>"             # p.toml:6, ${hidden} from p.toml:2, WANDB_API_KEY from the environment
    who = "me"                   # p.toml:7, ${plain} from p.toml:3, WHO from the environment
    key = "in the file"          # p.toml:8
    options.deep = ["<secret>"]  # p.toml:9, ${hidden} from p.toml:2, WANDB_API_KEY from the environment
    options.open = 1             # p.toml:9
    "#);
    document.redact(&parse_pointer("/sink/a/options"));
    document.redact(&parse_pointer("/sink/a/key"));
    assert_snapshot!(document.to_toml(), @r#"
    [sink.a]
    token = "<secret>"
    url = "<secret>"
    who = "me"
    key = "<secret>"
    options = "<secret>"
    "#);
    assert!(!document.to_toml().contains("s3cr3t"));
}

#[test]
fn paths_start_from_the_file_that_wrote_them() {
    let root = |world: &World, pointer: &str| {
        let (document, sources) = world.document();
        document.resolve_path(&parse_pointer(&format!("{pointer}/root")), &sources).unwrap()
    };
    assert_eq!(root(&example(), "/dataset/train"), "base/data/coco/train");
    assert_eq!(root(&example(), "/dataset/extra"), "own/data");
    let shell = example().env("COCO_ROOT", "here");
    assert_eq!(root(&shell, "/dataset/train"), "here/train");
    let set = example().set("vars.coco=there").env("HOME", "/home/me");
    assert_eq!(root(&set, "/dataset/train"), "there/train");
    assert_eq!(root(&set.set("dataset.extra.root=~/x"), "/dataset/extra"), "/home/me/x");
    assert_eq!(root(&example().set("dataset.extra.root=builtin:shapes"), "/dataset/extra"), "builtin:shapes");
}

#[test]
fn places_of_keys_and_values() {
    let (document, sources) = example().document();
    let at = |pointer: &[PathSegment], what| {
        let place = document.locate(pointer, what);
        let position = sources.position(&place);
        format!("{}:{}:{} {}", sources.name(place.source), position.line, position.column, sources.slice(&place))
    };
    let lr = parse_pointer("/optimizer/sgd/lr");
    assert_eq!(at(&lr, KeyOrValue::Key), "p.toml:7:1 lr");
    assert_eq!(at(&lr, KeyOrValue::Value), "p.toml:7:6 0.1");
    let mode = ["dataset".into(), "extra".into(), "best".into(), "mode".into()];
    assert_eq!(at(&mode, KeyOrValue::Value), "p.toml:13:34 \"max\"");
    let run = ["on".into(), 0.into(), "run".into(), 1.into()];
    assert_eq!(at(&run, KeyOrValue::Value), "base/base.toml:25:21 \"handler.b\"");
    assert_eq!(at(&parse_pointer("/on/0/run/1"), KeyOrValue::Key), "base/base.toml:25:21 \"handler.b\"");
    // What is not there is at the nearest thing that is.
    assert_eq!(at(&parse_pointer("/optimizer/sgd/nesterov"), KeyOrValue::Key), "base/base.toml:13:1 [optimizer.sgd]");
    assert_eq!(at(&parse_pointer("/nothing"), KeyOrValue::Key), "p.toml:1:1 ");
    // Elements of a variable stand where the variable is defined.
    let inner = parse_pointer("/transform/train/steps/0/type");
    assert_eq!(at(&inner, KeyOrValue::Value), "base/base.toml:7:19 \"resize\"");
}

#[test]
fn the_resolved_text_parses_to_the_same_values() {
    let odd = r#"
"strange key" = 1
empty = {}
[a]
x = -0.0
[a.b]
"ключ.x" = "quote \" back \\ tab \t nul \u0000 del \u007f line\nend $${x} $$${y} é 😀"
numbers = [inf, -inf, 1e300, 1e-7, 9007199254740993, 0xff, 1.0]
dates = [1979-05-27T07:32:00Z, 1979-05-27, 07:32:00]
nested.deep.er = { a = [{ b = {} }, []] }
[empty_table]
[c.empty_node]
[[on]]
event = "a"
filter = { every = 2 }
[[on]]
"#;
    for world in [World::new(odd), example(), example().profile("demo")] {
        let (document, _) = world.document();
        let again = World::new(&document.to_toml()).document().0;
        assert_eq!(document.root().to_json(), again.root().to_json());
        assert_eq!(document.to_toml(), again.to_toml());
        let (_, sources) = world.document();
        let shown = World::new(&document.show(&sources)).load().0.unwrap();
        assert_eq!(document.root().to_json(), shown.root().to_json());
    }
}

#[test]
fn as_much_as_can_be_read_comes_back_with_errors() {
    let (document, found, _) =
        World::new("[a.b]\nx = oops\ny = 2\nz = [1, ]\n[c.d\nq = 1\n[e.f]\nn = \"${no}\"\n").load();
    assert!(found.has_errors());
    let json = document.unwrap().root().to_json();
    assert_eq!(json["a"]["b"]["y"], json!(2));
    assert_eq!(json["a"]["b"]["z"], json!([1]));
    assert_eq!(json["c"]["d"]["q"], json!(1));
    assert_eq!(json["e"]["f"]["n"], json!("${no}"));
}

#[test]
fn the_tree_agrees_with_the_toml_crate() {
    let text = "a.b.c = 1\n[x.y]\nz = [{ k = 1.5 }, { k = \"s\" }]\nx.y.z = true\n[[t]]\n[t.u]\nv = 1\n[[t]]\n[t.u]\nv = 2\n[x]\nw = '''\nraw'''\n";
    let expected: serde_json::Value = toml::from_str(text).unwrap();
    assert_eq!(World::new(text).document().0.root().to_json(), expected);
    // A byte order mark and Windows line ends are nothing to complain about.
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert!(World::new(&windows).load().1.is_empty());
}

#[test]
fn origins_name_the_layer() {
    let (document, _) = example().profile("demo").set("pipeline.seed=7").document();
    let layer = |pointer: &str| format!("{:?}", document.get_at(&parse_pointer(pointer)).unwrap().origin.layer);
    assert_eq!(layer("/pipeline/seed"), "Set");
    assert_eq!(layer("/pipeline/name"), "File");
    assert_eq!(layer("/optimizer/sgd/type"), "Parent");
    assert_eq!(layer("/engine/trainer/max_epochs"), "Profile(\"demo\")");
    let value = &document.get_at(&parse_pointer("/engine/trainer/max_epochs")).unwrap().value;
    assert_eq!(value, &Value::Integer(2));
    assert!(Sources::default().files().next().is_none());
}

fn edges() -> World {
    World::new(
        r#"extends = "base.toml"
[[on]]
name = "images"
every = 100
[[on]]
event = "engine.a:completed"
run = ["handler.own"]
[[on]]
name = "late"
event = "engine.a:completed"
run = ["handler.late"]
[[profile.demo.on]]
event = "engine.a:started"
run = ["handler.demo"]
[profile.small]
unset = ["on.late", "on.images.every"]
on.images.first = true
"#,
    )
    .file(
        "base.toml",
        r#"[[on]]
name = "images"
event = "engine.a:iteration_completed"
every = 10
run = ["handler.images"]
[[on]]
event = "engine.a:epoch_completed"
run = ["engine.b"]
[[profile.demo.on]]
name = "images"
every = 1
"#,
    )
}

#[test]
fn named_edges_are_merged_and_others_added() {
    assert_snapshot!(show(&edges()), @r#"
    # p.toml

    [[on]]
    name = "images"                         # p.toml:3
    event = "engine.a:iteration_completed"  # base.toml:3
    every = 100                             # p.toml:4
    run = ["handler.images"]                # base.toml:5

    [[on]]
    event = "engine.a:epoch_completed"  # base.toml:7
    run = ["engine.b"]                  # base.toml:8

    [[on]]
    event = "engine.a:completed"  # p.toml:6
    run = ["handler.own"]         # p.toml:7

    [[on]]
    name = "late"                 # p.toml:9
    event = "engine.a:completed"  # p.toml:10
    run = ["handler.late"]        # p.toml:11
    "#);
}

#[test]
fn edges_of_profiles_and_of_the_command_line() {
    assert_snapshot!(show(&edges().profile("demo").set("on.late.run=[\"handler.x\"]")), @r#"
    # p.toml, profile demo

    [[on]]
    name = "images"                         # base.toml:10 profile demo
    event = "engine.a:iteration_completed"  # base.toml:3
    every = 1                               # base.toml:11 profile demo
    run = ["handler.images"]                # base.toml:5

    [[on]]
    event = "engine.a:epoch_completed"  # base.toml:7
    run = ["engine.b"]                  # base.toml:8

    [[on]]
    event = "engine.a:completed"  # p.toml:6
    run = ["handler.own"]         # p.toml:7

    [[on]]
    name = "late"                 # p.toml:9
    event = "engine.a:completed"  # p.toml:10
    run = ["handler.x"]           # --set

    [[on]]
    event = "engine.a:started"  # p.toml:13 profile demo
    run = ["handler.demo"]      # p.toml:14 profile demo
    "#);
    assert_snapshot!(show(&edges().profile("small").set("on=[{ event = \"engine.a:started\", run = [\"sink.a\"] }]")), @r#"
    # p.toml, profile small
    # unset: on.late, p.toml:16 profile small
    # unset: on.images.every, p.toml:16 profile small

    [[on]]
    name = "images"                         # p.toml:3
    event = "engine.a:iteration_completed"  # base.toml:3
    run = ["handler.images"]                # base.toml:5
    first = true                            # p.toml:17 profile small

    [[on]]
    event = "engine.a:epoch_completed"  # base.toml:7
    run = ["engine.b"]                  # base.toml:8

    [[on]]
    event = "engine.a:completed"  # p.toml:6
    run = ["handler.own"]         # p.toml:7

    [[on]]
    event = "engine.a:started"  # --set
    run = ["sink.a"]            # --set
    "#);
}

#[test]
fn what_is_unset_is_gone_and_shown() {
    let world = example()
        .set("model.net.hidden=null")
        .set("optimizer=null")
        .set("pipeline.name='null'")
        .set("dataset.extra.best.mode=null");
    assert_snapshot!(show(&world), @r#"
    # p.toml
    # unset: model.net.hidden, --set
    # unset: optimizer, --set
    # unset: dataset.extra.best.mode, --set

    [vars]
    coco = "data/coco"                         # base/base.toml:5, default of COCO_ROOT
    size = 256                                 # p.toml:5
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:7, ${size} from p.toml:5

    [pipeline]
    name = "null"  # --set
    seed = 42      # base/base.toml:3

    [dataset.train]
    type = "coco"             # base/base.toml:9
    root = "data/coco/train"  # base/base.toml:10, ${coco} from base/base.toml:5, default of COCO_ROOT

    [dataset.extra]
    type = "coco"         # p.toml:11
    root = "own/data"     # p.toml:12
    best.monitor = "a:b"  # p.toml:13

    [transform.train]
    steps = [{ type = "resize", size = 256 }]  # base/base.toml:12, ${steps} from base/base.toml:7, ${size} from p.toml:5

    [model.net]
    type = "small"  # p.toml:9

    [engine.trainer]
    type = "train"   # base/base.toml:21
    max_epochs = 10  # base/base.toml:22

    [[on]]
    event = "engine.trainer:completed"  # base/base.toml:24
    run = ["handler.a", "handler.b"]    # base/base.toml:25
    "#);
    // Set again afterwards, it is not unset.
    let again = World::new("unset = [\"model.a\"]\nextends = \"b.toml\"\n[model.a]\ntype = \"x\"\n")
        .file("b.toml", "[model.a]\ntype = \"y\"\nn = 1\n");
    assert_snapshot!(show(&again), @r#"
    # p.toml

    [model.a]
    type = "x"  # p.toml:4
    "#);
    let (document, _) = again.document();
    assert!(document.retyped("model", "a").is_none());
}

#[test]
fn keys_as_the_command_line_names_them() {
    let (document, _) = edges().document();
    let value = |key: &str| document.get_key(key).map(pipe_document::Node::to_json);
    assert_eq!(value("on.images.every"), Some(json!(100)));
    assert_eq!(value("on.nothing.every"), None);
    let (document, _) = example().document();
    let value = |key: &str| document.get_key(key).map(pipe_document::Node::to_json);
    assert_eq!(value("vars.size"), Some(json!(256)));
    assert_eq!(value("optimizer.'sgd'.lr"), Some(json!(0.1)));
    assert_eq!(value("no key"), None);
}
