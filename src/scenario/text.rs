//! Texts that are filled in when they are shown: plain text with placeholders from a closed set, `{snapshot}`. A brace
//! that is meant is written twice. Checked once, when a scenario is read: on the day an unknown one helps nobody.

use super::words::Placeholder;
use crate::base::{limits, visible};
use crate::policy::values::{BadValue, bad};

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(Placeholder),
}

impl Template {
    /// Reads a text of one or more lines.
    pub(super) fn parse(text: &str) -> Result<Self, BadValue> {
        let text = text.trim();
        if text.is_empty() {
            return bad("is empty", "write what the operator should read");
        }
        if text.len() > limits::SCENARIO_TEXT_BYTES_MAX {
            let remedy = "split it: nobody reads more than two screens at once";
            return bad(format!("is longer than {} bytes", limits::SCENARIO_TEXT_BYTES_MAX), remedy);
        }
        check_characters(text)?;
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let (name, after) = name_in_braces(brace)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Placeholder(placeholder(name)?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// Reads a text of one line.
    pub(super) fn parse_line(text: &str) -> Result<Self, BadValue> {
        if text.trim().contains('\n') {
            return bad("has several lines", "write one line a text");
        }
        Self::parse(text)
    }

    /// The text with every placeholder filled in by `value`.
    pub fn fill(&self, mut value: impl FnMut(Placeholder) -> String) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Placeholder(placeholder) => out.push_str(&value(*placeholder)),
            }
        }
        out
    }

    /// The placeholders in it, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder> + '_ {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(placeholder) => Some(*placeholder),
            Piece::Text(_) => None,
        })
    }

    /// The text as it stands in a scenario file: `parse` gives the same again.
    pub fn source(&self) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Piece::Placeholder(placeholder) => {
                    out.push('{');
                    out.push_str(placeholder.as_str());
                    out.push('}');
                }
            }
        }
        out
    }

    /// The text as Markdown for a page that knows no snapshot: `<snapshot>` stands for what is not known yet.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                // Outside of code, a Markdown reader would take the angle brackets for HTML and show nothing.
                Piece::Placeholder(placeholder) if is_inside_code(&out) => {
                    out.push_str(&format!("<{placeholder}>"));
                }
                Piece::Placeholder(placeholder) => out.push_str(&format!("`<{placeholder}>`")),
            }
        }
        out
    }

    /// The text as a line of commands, `<snapshot>` for what is not known yet.
    pub(super) fn command(&self) -> String {
        self.fill(|placeholder| format!("<{placeholder}>"))
    }
}

fn is_inside_code(text: &str) -> bool {
    text.matches('`').count() % 2 == 1
}

/// What stands between this brace and the next, and what follows.
fn name_in_braces(text: &str) -> Result<(&str, &str), BadValue> {
    const REMEDY: &str = "write {snapshot} for a placeholder, and {{ or }} for a brace that is meant";
    let Some(inside) = text.strip_prefix('{') else { return bad("holds a } without a {", REMEDY) };
    match inside.split_once('}') {
        Some((name, rest)) => Ok((name, rest)),
        None => bad("holds a { without a }", REMEDY),
    }
}

fn placeholder(name: &str) -> Result<Placeholder, BadValue> {
    Placeholder::read(name).map_err(|error| {
        let remedy = format!("{}; for a brace that is meant write {{{{ or }}}}", error.remedy);
        BadValue { remedy, ..error }
    })
}

/// Reads a title: one line of plain text.
pub(super) fn title(text: &str) -> Result<String, BadValue> {
    let text = text.trim();
    if text.is_empty() {
        return bad("is empty", "write it in a few words");
    }
    if text.len() > limits::SCENARIO_TITLE_BYTES_MAX {
        return bad(format!("is longer than {} bytes", limits::SCENARIO_TITLE_BYTES_MAX), "say it in fewer words");
    }
    if text.contains('\n') {
        return bad("has several lines", "write one line");
    }
    check_characters(text)?;
    Ok(text.to_owned())
}

/// Refuses what could move the cursor or hide words on the operator's terminal.
pub(super) fn check_characters(text: &str) -> Result<(), BadValue> {
    match text.chars().find(|letter| visible::hides(*letter)) {
        Some(letter) => {
            let what = format!("holds the character U+{:04X}, which could hide words on a terminal", u32::from(letter));
            bad(what, "write plain text; indent with spaces")
        }
        None => Ok(()),
    }
}
