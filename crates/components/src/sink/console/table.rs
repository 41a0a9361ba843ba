//! Tables for a terminal: Markdown's, with their columns under each other.

use console::measure_text_width;

/// A text in which the tables of Markdown are laid out; other lines are as they were.
pub fn laid_out(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut table: Vec<Vec<String>> = Vec::new();
    for line in text.trim_end().lines() {
        if line.trim_start().starts_with('|') {
            table.push(cells(line));
            continue;
        }
        lines.extend(aligned(&std::mem::take(&mut table)));
        lines.push(line.to_owned());
    }
    lines.extend(aligned(&table));
    lines.join("\n")
}

/// Rows, the columns under each other: the first to the left, the others to the right. A row of Markdown's rule gives the sides
/// itself, and is drawn.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let is_rule =
        |row: &&Vec<String>| row.iter().all(|cell| cell.contains('-') && cell.trim_matches(['-', ':']).is_empty());
    let sides = rows.iter().find(is_rule);
    let right = |column: usize| match sides.and_then(|row| row.get(column)) {
        Some(rule) => rule.ends_with(':'),
        None => column > 0,
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let shown = || rows.iter().filter(|row| !is_rule(row));
    let width = |column: usize| shown().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        if is_rule(&row) {
            return widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("  ");
        }
        let cell = |(column, cell): (usize, &String)| {
            let space = " ".repeat(widths[column] - measure_text_width(cell));
            if right(column) { space + cell } else { cell.clone() + &space }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The cells of a row; `\|` is a bar.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().replace(r"\|", "\0");
    let inner = line.strip_prefix('|').unwrap_or(&line);
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    inner.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_laid_out_and_the_rest_is_left() {
        let text = "before\n\n| label \\ prediction | cat | a\\|b | recall |\n|---|--:|--:|--:|\n| cat | 12 | 1 | 66.7 % |\n| a\\|b | 0 | 1 | – |\nafter";
        insta::assert_snapshot!(laid_out(text));
        assert_eq!(laid_out("plain | text\n"), "plain | text");
    }
}
