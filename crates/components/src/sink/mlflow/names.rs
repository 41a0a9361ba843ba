//! What MLflow takes as a name.

/// The longest name.
const LONGEST: usize = 250;

/// A tag or an option as MLflow takes it: letters, digits, `_-.: /`, and a path that needs no tidying. A name that had to be changed ends
/// with a checksum of itself, so that two never become one.
pub(super) fn name(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "_-.: /".contains(c) { c } else { '_' };
    let replaced: String = text.chars().map(plain).collect();
    let parts = replaced.split('/').filter(|part| !["", ".", ".."].contains(part));
    let tidy = parts.collect::<Vec<_>>().join("/");
    if tidy == text && tidy.chars().count() <= LONGEST && !tidy.is_empty() {
        return tidy;
    }
    let short: String = tidy.chars().take(LONGEST - 9).collect();
    format!("{}-{:08x}", short.trim_end_matches('/'), crc32fast::hash(text.as_bytes()))
}

/// The name of an option: `on[0].event` becomes `on.0.event`.
pub(super) fn option(key: &str) -> String {
    name(&key.replace('[', ".").replace(']', ""))
}

/// The file of an image, where MLflow's page looks for images by step.
pub(super) fn image(tag: &str, step: u64, milliseconds: i64) -> String {
    let unique = crc32fast::hash(format!("{tag} {step} {milliseconds}").as_bytes());
    format!("images/{}+step+{step}+timestamp+{milliseconds}+{unique:08x}", name(tag).replace('/', "~"))
}

/// The file of a text.
pub(super) fn text(tag: &str, step: u64) -> String {
    format!("texts/{}/step_{step:08}.md", name(tag).replace(':', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_changed_only_where_mlflow_does_not_take_them_and_stay_apart() {
        for kept in ["train/loss", "val/coco:AP", "lr group 1", "größe.x"] {
            assert_eq!(name(kept), kept);
        }
        let changed = ["a//b", "/a/b", "a/../b", "a[0]", "a(0)", "", "..", "a/", &"x".repeat(300)];
        let mut names: Vec<String> = changed.iter().map(|text| name(text)).collect();
        assert!(names.iter().all(|name| name.len() <= 250 && name == &super::name(name)), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), changed.len());
        assert_eq!(option("on[0].run"), "on.0.run");
    }
}
