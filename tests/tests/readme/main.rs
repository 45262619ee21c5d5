//! `README.ja.md` is `README.md` in Japanese: what can be compared without knowing either language is the same in both.
//!
//! Both are cut into blocks: headings, paragraphs, list items, table rows, lines of code. Each block must have its counterpart
//! with the same commands, code spans and link targets, and nothing may be left in English. Comments in `sh` blocks are prose.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

mod document;

use document::Document;

const ENGLISH: &str = "README.md";
const JAPANESE: &str = "README.ja.md";

/// From so many words on, prose that is the same in both languages was forgotten.
const WORDS_OF_A_SENTENCE: usize = 3;

/// What differs, and where; the first difference in shape is the last told, since all that follows is shifted by it.
fn differences(english: &str, japanese: &str) -> Vec<String> {
    let english = Document::parse(ENGLISH, english);
    let japanese = Document::parse(JAPANESE, japanese);
    let mut found = Vec::new();
    for (one, other) in english.blocks.iter().zip(&japanese.blocks) {
        let places = format!("{} and {}", english.at(one), japanese.at(other));
        if one.kind != other.kind {
            found.push(format!("{places}: {} against {}", one.kind, other.kind));
            return found;
        }
        unequal("code", &one.spans(), &other.spans(), &places, &mut found);
        unequal(
            "links",
            &english.targets(one),
            &japanese.targets(other),
            &places,
            &mut found,
        );
        if one.text == other.text && words(&one.prose()) >= WORDS_OF_A_SENTENCE {
            found.push(format!("{}: not translated: {}", japanese.at(other), other.text));
        }
    }
    let shared = english.blocks.len().min(japanese.blocks.len());
    for document in [&english, &japanese] {
        if let Some(block) = document.blocks.get(shared) {
            let more = document.blocks.len() - shared;
            found.push(format!(
                "{}: {more} more than in the other, beginning with {}",
                document.at(block),
                block.kind
            ));
        }
        for block in &document.blocks {
            let dead = document
                .targets(block)
                .into_iter()
                .filter(|target| target.ends_with("which is no heading"));
            found.extend(dead.map(|target| format!("{}: leads to {target}", document.at(block))));
        }
    }
    found
}

fn unequal(what: &str, english: &[String], japanese: &[String], places: &str, found: &mut Vec<String>) {
    if english == japanese {
        return;
    }
    let all: BTreeSet<_> = english.iter().chain(japanese).collect();
    for each in all {
        let count = |side: &[String]| side.iter().filter(|other| *other == each).count();
        let (here, there) = (count(english), count(japanese));
        if here != there {
            found.push(format!("{places}: {what}: '{each}' is there {here} and {there} times"));
        }
    }
}

fn words(prose: &str) -> usize {
    prose
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .count()
}

#[test]
fn the_readme_in_japanese_is_in_step() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let found = differences(&read(ENGLISH), &read(JAPANESE));
    assert!(found.is_empty(), "the READMEs differ:\n{}", found.join("\n"));
}

const SMALL: &str = "# Calls\n\n[日本語](README.ja.md)\n\nThey begin with `rtp_detected`, see\n[below](#two-words) and [nats](nats/conf).\n
```sh\nmake up   # calls\n# again\nmake demo\n```\n\n## Two words\n\n- One `tick`.\n- Another.\n
| fact | means |\n| --- | --- |\n| `ended` | over |\n";

const KLEIN: &str =
    "# 通話\n\n[English](README.md)\n\n[nats](nats/conf) と[下](#二つの-語)のとおり、`rtp_detected` で始まります。\n
```sh\nmake up   # 通話\n# もう一度\nmake demo\n```\n\n## 二つの 語\n\n- `tick` が一つ。\n- もう一つ。\n
| ファクト | 意味 |\n| --- | --- |\n| `ended` | 終了 |\n";

/// What is found after a change of the Japanese text, which without it is in step.
fn after(from: &str, to: &str) -> Vec<String> {
    assert_eq!(differences(SMALL, KLEIN), Vec::<String>::new());
    assert_eq!(KLEIN.matches(from).count(), 1, "{from}");
    differences(SMALL, &KLEIN.replace(from, to))
}

#[test]
fn a_missing_or_altered_command_is_found() {
    let end = "the end of a code block";
    assert_eq!(
        after("make demo\n", ""),
        [format!(
            "README.md:11 and README.ja.md:10: 'make demo', no comment against {end}"
        )]
    );
    assert_eq!(
        after("make up   # 通話", "make down   # 通話"),
        ["README.md:9 and README.ja.md:8: 'make up', with a comment against 'make down', with a comment"]
    );
    assert_eq!(after("# もう一度\n", "\n").len(), 1);
}

#[test]
fn a_heading_of_another_level_is_found() {
    assert_eq!(
        after("## 二つの 語", "### 二つの 語"),
        ["README.md:14 and README.ja.md:13: a heading of level 2 against a heading of level 3"]
    );
}

#[test]
fn a_missing_row_item_or_paragraph_is_found() {
    assert_eq!(
        after("| `ended` | 終了 |\n", ""),
        ["README.md:19 and README.ja.md:18: a table of 3 rows with 2 cells against a table of 2 rows with 2 cells"]
    );
    assert_eq!(
        after("- `tick` が一つ。\n", ""),
        ["README.md:16 and README.ja.md:15: a list of 2 items against a list of 1 items"]
    );
    assert_eq!(after("- もう一つ。\n", "- もう一つ。\n\n余り。\n").len(), 1);
    assert_eq!(
        after("| `ended` | 終了 |\n", "| `ended` | 終了 |\n\n余り。\n"),
        ["README.ja.md:22: 1 more than in the other, beginning with a paragraph"]
    );
}

#[test]
fn another_code_span_or_link_is_found() {
    let found = after("`tick` が一つ", "`tock` が一つ");
    let places = "README.md:16 and README.ja.md:15";
    assert_eq!(
        found,
        [
            format!("{places}: code: 'tick' is there 1 and 0 times"),
            format!("{places}: code: 'tock' is there 0 and 1 times")
        ]
    );
    assert_eq!(after("(nats/conf)", "(nats/cnf)").len(), 2);
    assert!(
        after("(#二つの-語)", "(#三つの-語)")
            .contains(&"README.ja.md:5: leads to #三つの-語, which is no heading".to_owned())
    );
    assert_eq!(after("(#二つの-語)", "(#通話)").len(), 2, "a link to another heading");
}

#[test]
fn a_sentence_left_in_english_is_found() {
    let text = "# A\n\nNobody translated this sentence.\n";
    assert_eq!(
        differences(text, text),
        ["README.ja.md:3: not translated: Nobody translated this sentence."]
    );
}
