//! Texts without the secrets in them.

use std::borrow::Cow;

use pipe_vocab::secret::sounds_secret;

/// Shorter texts are too frequent to be taken for a secret wherever they stand.
const LEAST: usize = 6;

/// With the values of environment variables whose names sound like secrets.
pub(super) fn with_those_of_the_environment(mut secrets: Vec<String>) -> Vec<String> {
    let of_environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    secrets.extend(of_environment.filter(|(name, _)| sounds_secret(name)).map(|(_, value)| value));
    secrets.retain(|secret| secret.len() >= LEAST);
    // The longer of two goes first where one holds the other.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// The text with `<secret>` in place of the given secrets, and of quoted or bare values that are assigned to a name which sounds like one.
pub(super) fn masked(text: &str, secrets: &[String]) -> String {
    let mut text = Cow::Borrowed(text);
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), "<secret>"));
        }
    }
    text.split_inclusive('\n').map(|line| without_assigned(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// A line such as `api_key = "…"`, `"token": "…"` or `API_KEY=…` without its value; `None` where it is none.
fn without_assigned(line: &str) -> Option<String> {
    let at = line.find(['=', ':'])?;
    let name = line[..at].trim_end().trim_end_matches(['"', '\'']);
    let begins =
        name.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '.')).map_or(0, |at| at + 1);
    // The sign of a line in a patch is none of the name's.
    let name = name[begins..].trim_start_matches(['-', '+']);
    if !sounds_secret(name) {
        return None;
    }
    let (before, value) = line.split_at(at + 1);
    let blank = value.len() - value.trim_start().len();
    let (space, value) = value.split_at(blank);
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c));
    let (opens, length) = match quote {
        Some(quote) => (1, value[1..].find(quote)?),
        // Bare values are those of shells and `.env` files, without blanks around the sign.
        None if blank == 0 => (0, value.find(char::is_whitespace).unwrap_or(value.len())),
        None => return None,
    };
    let assigned = &value[opens..opens + length];
    let is_text = assigned.len() >= LEAST && !assigned.contains('$') && !assigned.contains(['(', ':']);
    is_text.then(|| format!("{before}{space}{}<secret>{}", &value[..opens], &value[opens + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_telling_names_and_known_secrets_are_masked() {
        let secrets = ["hunter22".to_owned(), "hunter22-and-more".to_owned()];
        let mut sorted = with_those_of_the_environment(secrets.to_vec());
        sorted.retain(|secret| secrets.contains(secret));
        assert_eq!(sorted, ["hunter22-and-more", "hunter22"]);
        for (text, shown) in [
            ("+api_key = \"abcdef123\"  # mine\n", "+api_key = \"<secret>\"  # mine\n"),
            ("-  \"token\": 'abcdef123',\n", "-  \"token\": '<secret>',\n"),
            ("WANDB_API_KEY=abcdef123\n", "WANDB_API_KEY=<secret>\n"),
            ("url = \"https://hunter22-and-more@host\"\n", "url = \"https://<secret>@host\"\n"),
            ("token = \"${env:TOKEN}\"\n", "token = \"${env:TOKEN}\"\n"),
            ("let key = map.get(name);\n", "let key = map.get(name);\n"),
            ("    for key in keys:\n", "    for key in keys:\n"),
            ("keyword = \"abcdefgh\"\n", "keyword = \"abcdefgh\"\n"),
            ("lr = 0.1", "lr = 0.1"),
        ] {
            assert_eq!(masked(text, &sorted), shown);
        }
    }
}
