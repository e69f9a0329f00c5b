//! The environment that templates run in: what transformers gives them, with every cost bounded.

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::clock::strftime;
use super::json::tojson;
use super::source::OWN;

/// Instructions of a render; one of them pays for 64 bytes of what they make, so that memory is bounded too.
const FUEL: u64 = 500_000;
/// Nested blocks, macros and calls; a macro counts as several.
const DEPTH: usize = 200;
/// The longest string that a method takes or makes, in bytes.
const MAX_STRING: usize = 4 << 20;

/// An environment like that of transformers' `apply_chat_template`.
pub fn environment(now: SystemTime) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_syntax(syntax());
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(DEPTH);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(print);
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", tojson);
    env.add_filter(OWN, own);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    env.add_function("strftime_now", move |format: &str| strftime(now, format));
    env
}

/// In front of what a template says with `raise_exception`.
pub const RAISED: &str = "the template says: ";

fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().unwrap_or_default()
}

/// A list or what makes one, as a plain list; anything else as it is.
fn own(state: &State, value: Value) -> Result<Value, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) || value.is_tuple() {
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        state.consume_fuel(1)?;
        items.push(item?);
    }
    Ok(Value::from(items))
}

/// Prints as Python does where the two differ.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let python = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    Ok(out.write_str(python)?)
}

/// Python's methods of strings, lists and dictionaries. What they make is charged only when it is there, so that its
/// size is estimated first.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let input = arguments.iter().map(length).fold(length(value), usize::saturating_add);
    state.consume_fuel(1 + input as u64 / 64)?;
    let text = |i: usize| arguments.get(i).and_then(Value::as_str);
    let size = match (value.as_str(), name) {
        (Some(whole), "replace") => match (text(0), text(1)) {
            (Some(old), Some(new)) => whole.matches(old).count().saturating_mul(new.len()).saturating_add(whole.len()),
            _ => 0,
        },
        (Some(between), "join") => return join(state, between, arguments),
        (Some(whole), "format") => {
            // widths are in the format, and each place may show any argument
            let digits = whole.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            let wide = if digits > 4 { usize::MAX } else { 10_000 };
            whole.matches('{').count().saturating_mul(wide.saturating_add(input))
        }
        (Some(whole), "removeprefix" | "removesuffix") => {
            let [part] = arguments else { return Err(Error::from(ErrorKind::MissingArgument)) };
            let part = part.as_str().ok_or_else(|| too_much("expected a string"))?;
            let cut = if name == "removeprefix" { whole.strip_prefix(part) } else { whole.strip_suffix(part) };
            return Ok(Value::from(cut.unwrap_or(whole)));
        }
        (None, "count") | (Some(_), "startswith" | "endswith") => {
            let lists = [Some(value), arguments.first()];
            let items = lists.into_iter().flatten().filter_map(Value::len).max().unwrap_or(0);
            state.consume_fuel(items as u64)?;
            0
        }
        _ => 0,
    };
    if input.max(size) > MAX_STRING {
        return Err(too_much(&format!("{name}: more than {MAX_STRING} bytes")));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

fn join(state: &State, between: &str, arguments: &[Value]) -> Result<Value, Error> {
    let [items] = arguments else { return Err(Error::from(ErrorKind::MissingArgument)) };
    let mut out = String::new();
    for (i, item) in items.try_iter()?.checked().enumerate() {
        let item = item?;
        let item = item.as_str().ok_or_else(|| too_much("join: expected strings"))?;
        if i > 0 {
            out.push_str(between);
        }
        out.push_str(item);
        state.consume_fuel(1 + (between.len() + item.len()) as u64 / 64)?;
    }
    Ok(Value::from(out))
}

fn too_much(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_string())
}
