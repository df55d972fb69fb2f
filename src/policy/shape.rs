//! Holds the text's tables and keys against the published schema: unknown keys (with the nearest known one), keys of
//! another kind of table, missing keys, values of the wrong type. Knows no key by itself. Serves policies and
//! scenarios.

use super::error::Problem;
use super::values::{self, BadValue};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Collects what is wrong with one text.
pub(crate) struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<(usize, Problem)>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// Takes one problem at this place of the text.
    pub(crate) fn add(&mut self, span: &Range<usize>, place: &str, what: String, remedy: Option<String>) {
        let start = span.start.min(self.text.len());
        let before = self.text.as_bytes().get(..start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
        let file = self.file.to_owned();
        self.problems.push((start, Problem { file, line, column, place: place.to_owned(), what, remedy }));
    }

    /// Takes what a parser says of a text that is no TOML; `page` is the document that shows every key.
    pub(crate) fn not_toml(&mut self, error: &toml::de::Error, page: &str) {
        let what = format!("this is not TOML: {}", error.message().trim().replace('\n', "; "));
        let remedy = format!("mend this line; {page} shows every key");
        self.add(&error.span().unwrap_or(0..0), "", what, Some(remedy));
    }

    /// Takes every line that a secret key stands in. To be asked before anything else looks at the text, so that no
    /// message can quote it.
    pub(crate) fn secret_keys(&mut self, what: &str, remedy: &str) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            if values::is_secret(line) {
                self.add(&(start..start), "", what.to_owned(), Some(remedy.to_owned()));
            }
            start += line.len();
        }
    }

    /// Checks one value, and takes what is wrong with it.
    pub(crate) fn value<T>(
        &mut self,
        place: &str,
        text: &Spanned<String>,
        check: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        match check(text.get_ref()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(&text.span(), place, error.what, Some(error.remedy));
                None
            }
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All of them, in the order of the text.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(start, _)| *start);
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Checks the whole document.
pub(crate) fn check(findings: &mut Findings<'_>, document: &Spanned<DeTable<'_>>, schema: &Value) {
    check_table(findings, &Place::Top, &(0..0), document.get_ref(), schema);
}

/// Where a table stands, for messages.
enum Place {
    Top,
    Table(String),
    Entry(String),
}

impl Place {
    fn table(&self) -> String {
        match self {
            Self::Top => "the top of the file".to_owned(),
            Self::Table(path) => format!("[{path}]"),
            Self::Entry(path) => format!("[[{path}]]"),
        }
    }

    fn key(&self, key: &str) -> String {
        match self {
            Self::Top => key.to_owned(),
            _ => format!("{} {key}", self.table()),
        }
    }

    fn below(&self, key: &str) -> String {
        match self {
            Self::Top => key.to_owned(),
            Self::Table(path) | Self::Entry(path) => format!("{path}.{key}"),
        }
    }
}

fn check_table(findings: &mut Findings<'_>, place: &Place, span: &Range<usize>, table: &DeTable<'_>, schema: &Value) {
    let Some(schema) = choose(findings, place, span, table, schema) else { return };
    let Some(properties) = schema.properties.as_object() else { return };
    for (key, value) in table {
        match properties.get(key.get_ref().as_ref()) {
            Some(expected) => check_value(findings, place, key.get_ref(), value, expected),
            None => {
                let (what, remedy) = unknown(place, key.get_ref(), &schema);
                findings.add(&key.span(), &place.key(&shown(key.get_ref())), what, Some(remedy));
            }
        }
    }
    for name in schema.required.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !table.contains_key(name) {
            let what = format!("the key `{name}` is missing");
            findings.add(span, &place.table(), what, Some(missing_remedy(place, name, properties.get(name))));
        }
    }
}

/// The keys a table may have; for a source, those of its kind, for a step, those of its verb.
struct Chosen<'a> {
    properties: &'a Value,
    required: &'a Value,
    kind: Option<&'a str>,
    /// All kinds there are, with their keys.
    kinds: &'a [Value],
}

/// The key whose value says which keys a table may have.
fn tag_of(kinds: &[Value]) -> Option<&str> {
    let properties = kinds.first()?["properties"].as_object()?;
    properties.iter().find(|(_, value)| value.get("const").is_some()).map(|(key, _)| key.as_str())
}

/// What the values of such a key are called.
fn noun_of(tag: &str) -> &'static str {
    if tag == "do" { "verb" } else { "kind of source" }
}

fn choose<'a>(
    findings: &mut Findings<'_>,
    place: &Place,
    span: &Range<usize>,
    table: &DeTable<'_>,
    schema: &'a Value,
) -> Option<Chosen<'a>> {
    let Some(kinds) = schema["oneOf"].as_array() else {
        return Some(Chosen {
            properties: &schema["properties"],
            required: &schema["required"],
            kind: None,
            kinds: &[],
        });
    };
    let tag = tag_of(kinds)?;
    let names: Vec<&str> = kinds.iter().filter_map(kind_of).collect();
    let Some(value) = table.get(tag) else {
        let remedy = format!("add {tag} = \"…\": {}", names.join(", "));
        findings.add(span, &place.table(), format!("the key `{tag}` is missing"), Some(remedy));
        return None;
    };
    let text = value.get_ref().as_str();
    if let Some(found) = kinds.iter().find(|kind| kind_of(kind) == text && text.is_some()) {
        let (properties, required) = (&found["properties"], &found["required"]);
        return Some(Chosen { properties, required, kind: kind_of(found), kinds });
    }
    let what = match text {
        Some(text) => format!("there is no {} {:?}", noun_of(tag), shown(text)),
        None => format!("is {}; expected a text", type_name(value.get_ref())),
    };
    let nearest = text.and_then(|text| nearest(text, names.iter().copied()));
    let remedy = match nearest {
        Some(name) => format!("did you mean {name:?}? There are: {}", names.join(", ")),
        None => format!("use one of: {}", names.join(", ")),
    };
    findings.add(&value.span(), &place.key(tag), what, Some(remedy));
    None
}

fn kind_of(schema: &Value) -> Option<&str> {
    schema["properties"].as_object()?.values().find_map(|value| value["const"].as_str())
}

fn unknown(place: &Place, key: &str, schema: &Chosen<'_>) -> (String, String) {
    let key = &shown(key);
    let owners: Vec<&str> =
        schema.kinds.iter().filter(|kind| kind["properties"].get(key).is_some()).filter_map(kind_of).collect();
    let known = || schema.properties.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str));
    let all = known().collect::<Vec<_>>().join(", ");
    if let (Some(kind), [_, ..]) = (schema.kind, owners.as_slice()) {
        let owners = owners.join(" or ");
        if tag_of(schema.kinds) == Some("do") {
            return (
                format!("belongs to the verb {owners}, not to {kind}"),
                format!("remove it, or change the verb; {kind} knows: {all}"),
            );
        }
        let what = format!("belongs to a source of kind {owners}, not to one of kind {kind}");
        return (what, format!("remove it, or change the kind; {kind} knows: {all}"));
    }
    let what = "is not a key that is known here".to_owned();
    match nearest(key, known()) {
        Some(name) => (what, format!("did you mean `{name}`?")),
        None => (what, format!("remove it; {} knows: {all}", place.table())),
    }
}

fn missing_remedy(place: &Place, name: &str, schema: Option<&Value>) -> String {
    let meaning = schema.and_then(|schema| schema["description"].as_str()).unwrap_or_default();
    let meaning = meaning.replace('\n', " ");
    match schema.map(|schema| (&schema["type"], schema["items"].get("type").or(schema["items"].get("oneOf")))) {
        Some((kind, Some(items))) if kind == "array" && (items == "object" || items.is_array()) => {
            format!("add at least one [[{}]]. {meaning}", place.below(name))
        }
        Some((kind, _)) if kind == "object" => format!("add the table [{}]. {meaning}", place.below(name)),
        _ => format!("add `{name}`. {meaning}"),
    }
}

fn check_value(findings: &mut Findings<'_>, place: &Place, key: &str, value: &Spanned<DeValue<'_>>, schema: &Value) {
    let accepts = |name: &str| match &schema["type"] {
        Value::String(only) => only == name,
        Value::Array(several) => several.iter().any(|kind| kind == name),
        _ => false,
    };
    match value.get_ref() {
        DeValue::Table(table) if accepts("object") => {
            check_table(findings, &Place::Table(place.below(key)), &value.span(), table, schema);
        }
        DeValue::Array(items) if accepts("array") => {
            check_items(findings, place, key, items.iter(), &schema["items"]);
        }
        DeValue::String(_) if accepts("string") => {}
        DeValue::Boolean(_) if accepts("boolean") => {}
        DeValue::Integer(number) if accepts("integer") => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
            if parsed.is_none_or(|number| number < 0 || number > i64::from(u32::MAX)) {
                let what = format!("{} is out of range", number.as_str());
                findings.add(&value.span(), &place.key(key), what, Some(format!("use 0 to {}", u32::MAX)));
            }
        }
        other => {
            let (what, remedy) = wrong_type(place, key, other, &accepts);
            findings.add(&value.span(), &place.key(key), what, remedy);
        }
    }
}

fn check_items<'a, 'i: 'a>(
    findings: &mut Findings<'_>,
    place: &Place,
    key: &str,
    items: impl Iterator<Item = &'a Spanned<DeValue<'i>>>,
    schema: &Value,
) {
    for item in items {
        match item.get_ref() {
            DeValue::Table(table) if schema["type"] == "object" || schema["oneOf"].is_array() => {
                check_table(findings, &Place::Entry(place.below(key)), &item.span(), table, schema);
            }
            DeValue::String(_) if schema["type"] == "string" => {}
            other => {
                let expected = if schema["type"] == "string" { "texts" } else { "tables" };
                let what = format!("holds {}; expected {expected} only", type_name(other));
                let remedy = (expected == "texts").then(|| format!("write {key} = [\"…\", \"…\"]"));
                findings.add(&item.span(), &place.key(key), what, remedy);
            }
        }
    }
}

fn wrong_type(
    place: &Place,
    key: &str,
    value: &DeValue<'_>,
    accepts: &dyn Fn(&str) -> bool,
) -> (String, Option<String>) {
    let is = type_name(value);
    if accepts("string") {
        (
            format!("is {is}; expected a text"),
            Some(format!("put it in quotes, with its unit if it has one: {key} = \"…\"")),
        )
    } else if accepts("array") {
        (format!("is {is}; expected a list"), Some(format!("put it in brackets: {key} = [\"…\"]")))
    } else if accepts("integer") {
        (format!("is {is}; expected a whole number"), Some(format!("write {key} = 1, without quotes")))
    } else if accepts("boolean") {
        (format!("is {is}; expected true or false"), Some(format!("write {key} = true, without quotes")))
    } else {
        (format!("is {is}; expected a table"), Some(format!("write it as a table of its own: [{}]", place.below(key))))
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that is most like this one, when it is like enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

/// A text from the file, short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}
