//! Texts in CSV that spreadsheets leave alone.
//!
//! A spreadsheet evaluates `-2-3`, reads `1e5` as a number, `0012` as 12 and `MAR1` as a date. Such a text is preceded by an
//! apostrophe. To reverse it, remove one leading apostrophe: a text that begins with an apostrophe gets another one.

use std::borrow::Cow;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// The text as a CSV cell.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    if is_text_to_spreadsheets(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{text}"))
    }
}

fn is_text_to_spreadsheets(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    let truth_value = ["true", "false"].iter().any(|value| text.eq_ignore_ascii_case(value));
    let date = text.ends_with(|last: char| last.is_ascii_digit())
        && text
            .get(..3)
            .is_some_and(|start| MONTHS.iter().any(|month| start.eq_ignore_ascii_case(month)));
    (first == '_' || first.is_ascii_alphabetic()) && !truth_value && !date && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_numbers_dates_and_truth_values_stay_texts() {
        for text in [
            "-2-3", "1e5", "0012", "=cmd()", "+1", "@x", "\tx", "\r=1", "'x", "MAR1", "sept-2", "True", "日", "７",
            " 1", "a\tb",
        ] {
            let cell = cell(text);
            assert_eq!(cell.strip_prefix('\''), Some(text), "{text:?}");
        }
    }

    #[test]
    fn usual_texts_are_unchanged() {
        for text in ["", "call_019a", "user_001", "_x", "hangup", "e5", "march", "u-1"] {
            assert_eq!(cell(text), text);
        }
    }
}
