//! "Did you mean": the nearest of a few known words.

/// The known word that a person most likely meant, if any is near enough.
pub(super) fn similar<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters wrong is still recognisably the word; beyond that it is a guess.
    let near = (word.chars().count() / 3).max(1);
    let scored = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    scored.filter(|(distance, _)| *distance <= near).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, delete or replace, or neighbours to swap (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = rows[i][j] + usize::from(a != b);
            best = best.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let known = ["node", "key", "state", "listen", "socket", "shares"];
        for (word, meant) in [
            ("lisen", Some("listen")),
            ("sate", Some("state")),
            ("nodde", Some("node")),
            ("skoets", None),
            ("sokcet", Some("socket")),
            ("bananas", None),
        ] {
            assert_eq!(similar(word, known), meant, "{word}");
        }
    }
}
