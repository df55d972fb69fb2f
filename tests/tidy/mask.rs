//! Blanks comments and literals out of Rust source, so that a rule about code does not stumble over words in a
//! sentence. Lengths and line breaks stay as they are; it never judges anything.

/// The source with every comment, string and character literal replaced by spaces of the same length.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut masked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => {
                at += 1;
                continue;
            }
        };
        let blank = if end == at + 1 { at..at } else { at..end };
        for byte in &mut masked[blank] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(masked).expect("whole literals were replaced by spaces")
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut next = at;
    while next + 1 < bytes.len() {
        match &bytes[next..next + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                next += 1;
                continue;
            }
        }
        next += 2;
        if depth == 0 {
            return next;
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"` that begins here, or `None` when none does.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    if matches!(bytes[next], b'b' | b'c') {
        next += 1;
    }
    if bytes.get(next) != Some(&b'r') {
        return None;
    }
    next += 1;
    let hashes = bytes[next..].iter().take_while(|&&byte| byte == b'#').count();
    next += hashes;
    if bytes.get(next) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &bytes[next + 1..];
    let length = body.windows(closing.len()).position(|window| window == closing).unwrap_or(body.len() - closing.len());
    Some(next + 1 + length + closing.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() {
        match bytes[next] {
            b'\\' => next += 2,
            b'"' => return next + 1,
            _ => next += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal; of a lifetime, only the quote.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let body = at + 3;
        return bytes[body.min(bytes.len())..]
            .iter()
            .position(|&byte| byte == b'\'')
            .map_or(bytes.len(), |length| body + length + 1);
    }
    // One character, which may be several bytes long, and a quote.
    (at + 2..=at + 5)
        .find(|&end| bytes.get(end) == Some(&b'\''))
        .filter(|&end| is_one_char(&bytes[at + 1..end]))
        .map_or(at + 1, |end| end + 1)
}

fn is_one_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_blank() {
        let source = concat!(
            "let a = \"x \\\" opendal\"; // opendal\n",
            "let b = 'o'; /* opendal /* y */ opendal */ let c: &'a str = r#\"op\"endal\"#;\n",
            "let d = '\\''; opendal();"
        );
        let code = code_only(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), source.lines().count());
        assert_eq!(code.matches("opendal").count(), 1, "{code}");
        assert!(code.contains("let c: &'a str ="), "{code}");
        assert!(!code.contains("endal\""), "{code}");
        assert_eq!(code_only("let quote = 'ä'; let b = b\"x\"; f::<'_>(br\"y\")").matches(['x', 'y', 'ä']).count(), 0);
    }
}
