//! What is changed in a template's source before minijinja parses it.
//!
//! - `{% generation %}` only marks what the model has said, for training: it becomes a condition that always holds.
//! - Lists are added lazily in minijinja, so that `x + x`, again and again, is small until something counts it and
//!   takes exponential time and memory, which no fuel sees. So the right operand of `+` and `*` goes through a filter
//!   that makes a plain list of it, which the fuel pays for: `a + b.c|f` becomes `a + b.c|f|__own`.

/// The filter's name.
pub const OWN: &str = "__own";

/// The source with both changes.
pub fn prepared(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + source.len() / 16);
    let mut rest = source;
    while let Some(at) = rest.find(['{']) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let (close, statement) = match tag.as_bytes().get(1) {
            Some(b'%') => ("%}", true),
            Some(b'{') => ("}}", false),
            Some(b'#') => {
                let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
                out.push_str(&tag[..end]);
                rest = &tag[end..];
                continue;
            }
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let end = end_of(tag, 2, close);
        let inside = &tag[2..end];
        out.push_str(&tag[..2]);
        rest = &tag[end..];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" if statement => out.push_str(&inside.replacen(word, " if true ", 1)),
            "endgeneration" if statement => out.push_str(&inside.replacen(word, " endif ", 1)),
            "raw" if statement => {
                let end = rest.find("endraw").unwrap_or(rest.len());
                out.push_str(inside);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => out.push_str(&owned(inside)),
        }
    }
    out.push_str(rest);
    out
}

/// Where a tag's closing delimiter stands, outside of strings and brackets.
fn end_of(tag: &str, start: usize, close: &str) -> usize {
    let bytes = tag.as_bytes();
    let (mut i, mut braces) = (start, 0usize);
    while i < bytes.len() {
        match bytes[i] {
            b'\'' | b'"' => i = after_string(bytes, i) - 1,
            b'{' => braces += 1,
            // the braces of a dictionary come before those of the tag
            b'}' if braces > 0 => braces -= 1,
            _ if bytes[i..].starts_with(close.as_bytes()) => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

/// What follows a string that begins at `i`.
fn after_string(bytes: &[u8], i: usize) -> usize {
    let mut end = i + 1;
    while end < bytes.len() && bytes[end] != bytes[i] {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn owned(inside: &str) -> String {
    let bytes = inside.as_bytes();
    // where the filter goes, in ascending order
    let mut places = Vec::new();
    let mut i = 0;
    let mut last = b'('; // the last byte that is no space
    while i < bytes.len() {
        let byte = bytes[i];
        if matches!(byte, b'\'' | b'"') {
            i = after_string(bytes, i);
            last = byte;
            continue;
        }
        let operator = matches!(byte, b'+' | b'*') && !b"(,[{:=+*-/|~<>%".contains(&last);
        if operator && bytes.get(i + 1) != Some(&b'*') {
            places.extend(after_operand(bytes, i + 1));
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
        i += 1;
    }
    places.sort_unstable();
    let mut out = String::with_capacity(inside.len() + 8 * places.len());
    let mut start = 0;
    for place in places {
        out.push_str(&inside[start..place]);
        out.push('|');
        out.push_str(OWN);
        start = place;
    }
    out.push_str(&inside[start..]);
    out
}

/// What follows the operand after an operator: an atom with its attributes, items, calls and filters.
fn after_operand(bytes: &[u8], start: usize) -> Option<usize> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let space = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_whitespace) {
            i += 1;
        }
        i
    };
    let mut i = space(start);
    while matches!(bytes.get(i), Some(b'-' | b'+')) {
        i = space(i + 1);
    }
    let atom = i;
    let name = |mut i: usize| {
        while bytes.get(i).is_some_and(|&byte| word(byte)) {
            i += 1;
        }
        i
    };
    i = match bytes.get(i)? {
        b'\'' | b'"' => after_string(bytes, i),
        b'(' | b'[' | b'{' => after_bracket(bytes, i),
        _ => name(i),
    };
    if i == atom {
        return None;
    }
    loop {
        let next = space(i);
        i = match bytes.get(next) {
            Some(b'.') => name(space(next + 1)),
            Some(b'|') => name(space(next + 1)),
            Some(b'(' | b'[') => after_bracket(bytes, next),
            _ => return Some(i),
        };
    }
}

/// What follows the bracket that is closed again, strings aside.
fn after_bracket(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut i) = (0usize, start);
    while i < bytes.len() {
        match bytes[i] {
            b'\'' | b'"' => i = after_string(bytes, i) - 1,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::prepared;

    #[test]
    fn only_what_is_meant_changes() {
        for (source, expected) in [
            ("{{ a + b }} + c", "{{ a + b|__own }} + c"),
            ("{{- a+b.c[0](d, e)|f(1)|g -}}", "{{- a+b.c[0](d, e)|f(1)|g|__own -}}"),
            ("{%+ set x = 'a + b' + \"c\" -%}", "{%+ set x = 'a + b' + \"c\"|__own -%}"),
            (
                "{{ a + (b + c) * d ** 2 + {'}}': 1}['x'] }}",
                "{{ a + (b + c|__own)|__own * d|__own ** 2 + {'}}': 1}['x']|__own }}",
            ),
            ("{{ f(*x, **y) + -1 +}}", "{{ f(*x, **y) + -1|__own +}}"),
            ("{% raw %}{{ a + b }}{% endraw %}{# a + b #}{{ a", "{% raw %}{{ a + b }}{% endraw %}{# a + b #}{{ a"),
            ("{%- generation -%}x{% endgeneration %}", "{%-  if true  -%}x{%  endif  %}"),
            ("{ 'ä' } {{ ä + 'ö\\'' }} {", "{ 'ä' } {{ ä + 'ö\\''|__own }} {"),
            ("{{ 'a }} + b", "{{ 'a }} + b"),
        ] {
            assert_eq!(prepared(source), expected);
        }
    }
}
