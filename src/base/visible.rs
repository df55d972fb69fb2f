//! Text of others, made fit for a terminal and for a list of one line an entry: an order number, a file's name or a
//! host's own word must not move the cursor, hide words, or look like a line of this program's.

use std::borrow::Cow;

/// Whether a letter could move the cursor or hide words on a terminal. A line's end is none.
pub fn hides(letter: char) -> bool {
    (letter.is_control() && letter != '\n')
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with every such letter written out, as `\u{1b}`; tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    spelled(text, |letter| letter != '\t' && hides(letter))
}

/// The same in one line: line ends and tabs are written out too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    spelled(text, |letter| letter == '\n' || hides(letter))
}

fn spelled(text: &str, is_spelled: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_spelled) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_spelled(letter) {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        assert_eq!(visible("a\u{1b}[2Jb\u{9b}c\td\r\u{202e}e\nf é"), "a\\u{1b}[2Jb\\u{9b}c\td\\r\\u{202e}e\nf é");
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
        assert!(matches!(visible("plain\ntext"), Cow::Borrowed(_)));
    }
}
