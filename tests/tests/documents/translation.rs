//! `README.ja.md` follows `README.md`: the same headings, commands, code and links.

use crate::links::targets;
use crate::read;

/// What a translation keeps.
#[derive(Debug, PartialEq, Eq)]
struct Skeleton {
    heading_levels: Vec<usize>,
    code_blocks: Vec<String>,
    code_spans: Vec<String>,
    links: Vec<String>,
}

fn skeleton(name: &str) -> Skeleton {
    let text = read(name);
    let (prose, code): (Vec<_>, Vec<_>) = text.split("```").enumerate().partition(|(index, _)| index % 2 == 0);
    let prose: String = prose.into_iter().map(|(_, text)| text).collect();
    let mut code_spans: Vec<_> = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let mut links: Vec<_> = targets(&prose)
        .into_iter()
        .map(|target| target.replace(".ja", ""))
        .collect();
    // A translation changes the order within a sentence.
    code_spans.sort();
    links.sort();
    Skeleton {
        heading_levels: prose
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| line.chars().take_while(|it| *it == '#').count())
            .collect(),
        // Comments are translated.
        code_blocks: code
            .iter()
            .flat_map(|(_, text)| text.lines())
            .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned())
            .collect(),
        code_spans,
        links,
    }
}

#[test]
fn the_japanese_readme_follows_the_english_one() {
    assert_eq!(skeleton("README.ja.md"), skeleton("README.md"));
}
