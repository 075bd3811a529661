//! A validator for the part of JSON Schema that the contract uses. A keyword that it does not know is a panic, so that
//! none is overlooked.

use regex::Regex;
use serde_json::Value;

/// Everything in `value` that its schema does not allow.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    visit(document, schema, value, "$", &mut faults);
    faults
}

fn visit(document: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{at}: {what}"));
    if let Some(reference) = schema.get("$ref") {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        let target = document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return visit(document, target, value, at, faults);
    }
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "description" | "default" => {}
            "type" => {
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                if !kinds.iter().any(|kind| is_a(kind.as_str().unwrap(), value)) {
                    fault(format!("{value} is not of type {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    fault(format!("{value} is not one of {rule}"));
                }
            }
            "minimum" => {
                if value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()) {
                    fault(format!("{value} is below {rule}"));
                }
            }
            "maximum" => {
                if value.as_f64().is_some_and(|number| number > rule.as_f64().unwrap()) {
                    fault(format!("{value} is above {rule}"));
                }
            }
            "maxLength" => {
                if value.as_str().is_some_and(|text| text.chars().count() as u64 > rule.as_u64().unwrap()) {
                    fault(format!("{value} is too long"));
                }
            }
            "pattern" => {
                if value.as_str().is_some_and(|text| !Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)) {
                    fault(format!("{value} does not match {rule}"));
                }
            }
            "minItems" | "maxItems" => {
                let (len, limit) = (value.as_array().map_or(0, Vec::len) as u64, rule.as_u64().unwrap());
                if if keyword == "minItems" { len < limit } else { len > limit } {
                    fault(format!("{len} items, {keyword} is {limit}"));
                }
            }
            "anyOf" => {
                if !rule.as_array().unwrap().iter().any(|schema| check(document, schema, value).is_empty()) {
                    fault(format!("{value} is none of {rule}"));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap().iter().filter(|_| value.is_object()) {
                    if value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            "additionalProperties" => {
                for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
                    if rule == false && schema["properties"].get(name).is_none() {
                        fault(format!("{name} is not in the contract"));
                    }
                }
            }
            "properties" | "items" => {}
            other => panic!("the validator does not know {other}"),
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            visit(document, items, value, &format!("{at}[{index}]"), faults);
        }
    }
    if let (Some(properties), Some(values)) = (schema.get("properties"), value.as_object()) {
        for (name, value) in values {
            if let Some(schema) = properties.get(name) {
                visit(document, schema, value, &format!("{at}.{name}"), faults);
            }
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the validator does not know the type {other}"),
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a", "b"], "additionalProperties": false,
        "properties": {"a": {"type": ["integer", "null"], "minimum": 0}, "b": {"type": "array", "items": {"type": "string"}}}
    });
    let good = serde_json::json!({"a": null, "b": ["x"]});
    assert!(check(&schema, &schema, &good).is_empty());
    let bad = serde_json::json!({"a": -1, "b": ["x", 2], "c": 1});
    let faults = check(&schema, &schema, &bad);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(check(&schema, &schema, &serde_json::json!({})).len(), 2);
}
