//! What `--json` prints: exactly one document, of the shape that the program publishes.

use super::env::Ended;
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static SCHEMAS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let schemas = relay_backup::ui::schemas();
    let each = schemas.as_object().unwrap().iter();
    each.map(|(verb, schema)| (verb.clone(), jsonschema::validator_for(schema).unwrap())).collect()
});

/// The document on standard output. Fails unless there is exactly one, it and its report follow the published schemas,
/// and its exit code is the program's.
#[track_caller]
pub(crate) fn document(ended: &Ended) -> Value {
    let document: Value = match serde_json::from_str(&ended.stdout) {
        Ok(document) => document,
        Err(error) => panic!("standard output is not one JSON document: {error}\n{ended}"),
    };
    check("document", &document, ended);
    let verb = document["verb"].as_str().unwrap();
    assert_eq!(document["exit_code"].as_i64(), ended.code.map(i64::from), "{ended}");
    match document.get("report") {
        Some(report) => check(verb, report, ended),
        None => assert!(document["error"]["message"].is_string(), "neither report nor error\n{ended}"),
    }
    document
}

#[track_caller]
fn check(schema: &str, value: &Value, ended: &Ended) {
    let validator = SCHEMAS.get(schema).unwrap_or_else(|| panic!("no schema is published for {schema:?}\n{ended}"));
    let problems: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "not as published for {schema:?}: {problems:?}\n{ended}");
}
