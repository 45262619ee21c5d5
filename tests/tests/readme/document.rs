//! A README, cut into what can be compared: blocks with their code spans and link targets.

use std::fmt;
use std::mem;

use crate::{ENGLISH, JAPANESE};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Heading {
        level: usize,
    },
    Paragraph,
    /// With the size of its list, as a row has its table's: one that is missing is told once, not by all that follow it.
    Item {
        items: usize,
    },
    Row {
        cells: usize,
        rows: usize,
    },
    Fence {
        language: String,
    },
    Code {
        text: String,
        comment: bool,
    },
    FenceEnd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading { level } => write!(f, "a heading of level {level}"),
            Self::Paragraph => write!(f, "a paragraph"),
            Self::Item { items } => write!(f, "a list of {items} items"),
            Self::Row { cells, rows } => write!(f, "a table of {rows} rows with {cells} cells"),
            Self::Fence { language } => write!(f, "a code block of '{language}'"),
            Self::Code { text, comment } => write!(f, "'{text}', {} comment", if *comment { "with a" } else { "no" }),
            Self::FenceEnd => write!(f, "the end of a code block"),
        }
    }
}

pub(crate) struct Block {
    line: usize,
    pub(crate) kind: Kind,
    /// As written; empty for code.
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn spans(&self) -> Vec<String> {
        let text = self.text.replace('\n', " ");
        let mut spans: Vec<_> = text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        spans.sort();
        spans
    }

    /// Whether the next block is of the same list or table.
    fn goes_on(&self, next: &Self) -> bool {
        match (&self.kind, &next.kind) {
            (Kind::Item { .. }, Kind::Item { .. }) => true,
            (Kind::Row { .. }, Kind::Row { .. }) => self.line + 1 == next.line,
            _ => false,
        }
    }

    /// The text without its code spans.
    pub(crate) fn prose(&self) -> String {
        self.text.split('`').step_by(2).collect()
    }

    /// What links and images lead to. A translation turns sentences around, so their order says nothing.
    fn targets(&self) -> Vec<String> {
        let prose = self.prose();
        let markdown = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let html = ["src=\"", "href=\"", "srcset=\""].into_iter().flat_map(|attribute| {
            let after = prose.split(attribute).skip(1);
            after.filter_map(|rest| rest.split('"').next())
        });
        markdown.chain(html).map(str::to_owned).collect()
    }
}

pub(crate) struct Document {
    name: &'static str,
    pub(crate) blocks: Vec<Block>,
}

impl Document {
    pub(crate) fn parse(name: &'static str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut language: Option<String> = None;
        // Whether the next line may belong to the last block: a paragraph or an item that no blank line has ended.
        let mut open = false;
        for (line, written) in (1..).zip(text.lines()) {
            let continues = mem::take(&mut open);
            let kind = match (&language, written.strip_prefix("```")) {
                (Some(_), Some(_)) => {
                    language = None;
                    Kind::FenceEnd
                }
                (Some(language), None) => code(language, written),
                (None, Some(opened)) => {
                    language = Some(opened.to_owned());
                    Kind::Fence {
                        language: opened.to_owned(),
                    }
                }
                (None, None) if written.trim().is_empty() => continue,
                (None, None) => prose(written),
            };
            let is_code = matches!(kind, Kind::Code { .. } | Kind::Fence { .. } | Kind::FenceEnd);
            open = matches!(kind, Kind::Paragraph | Kind::Item { .. });
            match blocks.last_mut() {
                Some(last) if continues && kind == Kind::Paragraph => last.text = format!("{}\n{written}", last.text),
                _ => blocks.push(Block {
                    line,
                    kind,
                    text: if is_code { String::new() } else { written.to_owned() },
                }),
            }
        }
        for run in blocks.chunk_by_mut(Block::goes_on) {
            let length = run.len();
            for block in run {
                if let Kind::Item { items: whole } | Kind::Row { rows: whole, .. } = &mut block.kind {
                    *whole = length;
                }
            }
        }
        Self { name, blocks }
    }

    pub(crate) fn at(&self, block: &Block) -> String {
        format!("{}:{}", self.name, block.line)
    }

    /// The anchors that GitHub gives the headings, in order.
    fn anchors(&self) -> Vec<String> {
        let headings = self
            .blocks
            .iter()
            .filter(|block| matches!(block.kind, Kind::Heading { .. }));
        headings.map(|heading| anchor(&heading.text)).collect()
    }

    /// A block's link targets, comparable with those of the other language.
    pub(crate) fn targets(&self, block: &Block) -> Vec<String> {
        let anchors = self.anchors();
        let comparable = |target: String| match target.strip_prefix('#') {
            Some(wanted) => match anchors.iter().position(|anchor| anchor == wanted) {
                Some(heading) => format!("heading {}", heading + 1),
                None => format!("{target}, which is no heading"),
            },
            None if target == ENGLISH || target == JAPANESE => "the other language".to_owned(),
            None => target,
        };
        let mut targets: Vec<_> = block.targets().into_iter().map(comparable).collect();
        targets.sort();
        targets
    }
}

/// Comments are for people, and translated; that there is one is compared.
fn code(language: &str, line: &str) -> Kind {
    let comment = if language != "sh" {
        None
    } else if line.starts_with('#') {
        Some(0)
    } else {
        line.find(" #")
    };
    let text = comment.and_then(|at| line.get(..at)).unwrap_or(line);
    Kind::Code {
        text: text.trim_end().to_owned(),
        comment: comment.is_some(),
    }
}

fn prose(line: &str) -> Kind {
    if line.starts_with('#') {
        Kind::Heading {
            level: line.chars().take_while(|character| *character == '#').count(),
        }
    } else if line.starts_with('|') {
        Kind::Row {
            cells: line.matches('|').count() - 1,
            rows: 1,
        }
    } else if line.starts_with("- ") {
        Kind::Item { items: 1 }
    } else {
        Kind::Paragraph
    }
}

fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
