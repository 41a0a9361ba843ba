//! The nearest known name to a misspelt one.

/// Candidates beyond this many are not looked at: files that people write have not as many, and each finding would cost as much.
const MAX_CANDIDATES: usize = 512;

/// The candidate that `name` was most likely meant to be, or `None` where none is near.
///
/// Upper and lower case, `-` and `_` count as equal. A candidate is near when
/// - it is at most two edits away (insertion, deletion, substitution, swap of neighbors; one edit for names of up to
///   four characters) and shares something with the name: for more than one edit a Jaro-Winkler similarity above 0.8; or
/// - one is the other with whole words added, such as `workers` for `num_workers`; or
/// - it begins with the name, such as `accuracy` for `acc`.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normalize(name);
    // Scoring is quadratic in length: names of hostile length are not worth it.
    if wanted.is_empty() || wanted.len() > 200 {
        return None;
    }
    let scored = candidates.into_iter().take(MAX_CANDIDATES).filter_map(|candidate| {
        let cost = cost(&wanted, &normalize(candidate))?;
        Some((cost, candidate))
    });
    scored.min_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, candidate)| candidate)
}

/// Edits, with ties broken by Jaro-Winkler; `None` where the two are not near.
fn cost(name: &str, candidate: &str) -> Option<f64> {
    let length = name.chars().count();
    let other = candidate.chars().count();
    if other == 0 || other > 200 {
        return None;
    }
    let edits = strsim::damerau_levenshtein(name, candidate);
    let similarity = strsim::jaro_winkler(name, candidate);
    let near = match edits {
        0 => true,
        1 => length.min(other) > 1,
        2 => length.max(other) > 4 && similarity > 0.8,
        _ => false,
    };
    if near {
        return Some(edits as f64 - similarity);
    }
    let within = |long: &str, short: &str| {
        short.len() >= 4 && (long.ends_with(&format!("_{short}")) || long.starts_with(&format!("{short}_")))
    };
    if within(name, candidate) || within(candidate, name) {
        return Some(10.0 - similarity);
    }
    (length >= 3 && candidate.starts_with(name)).then_some(20.0 - similarity)
}

fn normalize(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(suggest(name, candidates.iter().copied()), expected, "for `{name}`");
    }

    #[test]
    fn near_names_are_found() {
        check("batchsize", &["batch_size", "shuffle"], Some("batch_size"));
        check("max_epoch", &["max_epochs", "max_iterations"], Some("max_epochs"));
        check("trianer", &["trainer", "evaluator"], Some("trainer"));
        check("Mask-RCNN", &["mask_rcnn", "faster_rcnn"], Some("mask_rcnn"));
        check("momentun", &["momentum"], Some("momentum"));
        check("num_workers", &["workers", "batch_size"], Some("workers"));
        check("epochs", &["max_epochs", "every"], Some("max_epochs"));
        check("acc", &["confusion", "accuracy"], Some("accuracy"));
        check("weight_deacy", &["weight_decay", "weights"], Some("weight_decay"));
    }

    #[test]
    fn short_names_need_more_than_one_common_letter() {
        check("l", &["lr", "p"], None);
        check("rl", &["lr", "p"], Some("lr"));
        check("x", &["p"], None);
        check("", &["p"], None);
        check("sdg", &["sgd", "adam"], Some("sgd"));
        check("adm", &["sgd", "adam"], Some("adam"));
        check("best", &["last", "mode"], None);
        check("size", &["step"], None);
    }

    #[test]
    fn far_names_are_not_guessed() {
        check("learning_rate", &["lr", "momentum"], None);
        check("shuffle", &["workers", "dataset"], None);
        check("dataset", &["database_url"], None);
        check(&"x".repeat(10_000), &["x"], None);
    }

    #[test]
    fn the_nearest_wins() {
        check("tran", &["trains", "train"], Some("train"));
    }
}
