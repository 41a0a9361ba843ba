//! `docs/checks.md`: the table of rules as the program lists it, each with the pipelines of its test as examples.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const HEAD: &str = "# Rules of `pipe check`

<!-- Written by `cargo xtask generated` from `pipe check --rules` and tests/checks. -->

A pipeline may be well-formed and still not what anyone would want. Each rule finds one such thing, under a name that is also the `code` of
its findings in `--format json`. Rules that need the *graph* run whenever a pipeline is read. Rules that need the *data* run when the datasets are open: in
`pipe check --data`, which opens their indexes and decodes no image, in `pipe check --rehearse`, and before the first step of `pipe run`. Some know
more with the data, such as the length of an epoch.

A warning stops nothing. An error does; it is for what makes numbers wrong for certain. Both can be let pass:

```toml
[checks]
allow = [\"unshuffled-training\"]
```

The list is merged as any other key: `extends` and profiles replace it, and so does `--set 'checks.allow=[\"unshuffled-training\"]'`. A name in the pipeline's own
file whose rule is not broken is told, so that the list does not outlive its reasons. Beside an error of another kind, rules say nothing.

Of components from plugins nothing is known but their form; rules that would have to know more let them be. What components say of themselves, and how a
rule is added, is in [ARCHITECTURE.md](ARCHITECTURE.md).

The examples are additions to small pipelines in [tests/checks/base](../tests/checks/base): a classifier of digits or of folders of images, a detector.
";

/// The page.
pub(crate) fn page(root: &Path, pipe: &Path) -> Result<String> {
    let output = Command::new(pipe).args(["check", "--rules", "--format", "json"]).output();
    let output = output.with_context(|| format!("run {}", pipe.display()))?;
    let rules: Vec<Value> = serde_json::from_slice(&output.stdout).context("the list of rules")?;
    if rules.is_empty() {
        bail!("`pipe check --rules` lists nothing");
    }
    let mut page = HEAD.to_owned();
    page += "\n| rule | | needs | finds |\n|---|---|---|---|\n";
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    for rule in &rules {
        let [name, severity, needs, about] = ["name", "severity", "needs", "about"].map(|key| text(rule, key));
        writeln!(page, "| [`{name}`](#{name}) | {severity} | {needs} | {about} |")?;
    }
    for rule in &rules {
        let [name, about, why] = ["name", "about", "why"].map(|key| text(rule, key));
        writeln!(page, "\n## {name}\n\nFinds {about}. {why}\n")?;
        for (word, kind) in [("Not so", "bad"), ("But so", "good")] {
            let path = root.join("tests/checks").join(format!("{name}.{kind}.toml"));
            let example = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            writeln!(page, "{word}:\n\n```toml\n{}\n```", without_parent(&example))?;
        }
    }
    Ok(page)
}

/// What a pipeline adds to its parent.
fn without_parent(text: &str) -> &str {
    let rest = text.strip_prefix("extends = ").and_then(|rest| rest.split_once('\n'));
    rest.map_or(text, |(_, rest)| rest).trim()
}
