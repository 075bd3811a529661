//! Conditions on features, as people type them: `density<0.01 max>5 label~"Paris"`. All of them have to hold.

use crate::ask::quoted;
use crate::problem::Problem;

/// Most conditions in a filter.
const MAX_CONDITIONS: usize = 20;

/// What a condition can be about; numbers, and the text of a label.
pub trait Subject {
    /// A number by its name; none for a name that is not a number's.
    fn number(&self, field: Field) -> f64;
    /// The label, empty if there is none.
    fn label(&self) -> &str;
}

/// The numbers of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Score,
    Density,
    Count,
    Sentences,
    Max,
    Mean,
    Min,
    Id,
    Slot,
}

/// Their names.
pub const FIELDS: [(&str, Field); 9] = [
    ("score", Field::Score),
    ("density", Field::Density),
    ("count", Field::Count),
    ("sentences", Field::Sentences),
    ("max", Field::Max),
    ("mean", Field::Mean),
    ("min", Field::Min),
    ("id", Field::Id),
    ("slot", Field::Slot),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    Unequal,
}

/// The longer ones first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("!=", Comparison::Unequal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Number(Field, Comparison, f64),
    Label { holds: bool, text: String },
}

/// A list of conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Vec<Condition>);

impl Filter {
    /// Reads a filter; an empty text holds of everything.
    ///
    /// # Errors
    /// Says what cannot be understood and what would be.
    pub fn parse(text: &str) -> Result<Filter, Problem> {
        let mut conditions = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if conditions.len() == MAX_CONDITIONS {
                return Err(Problem::bad(format!("a filter has at most {MAX_CONDITIONS} conditions")));
            }
            let (condition, after) = condition(rest)?;
            conditions.push(condition);
            rest = after.trim_start();
        }
        Ok(Filter(conditions))
    }

    /// Whether all conditions hold.
    pub fn holds(&self, subject: &impl Subject) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Number(field, comparison, value) => {
                let number = subject.number(*field);
                match comparison {
                    Comparison::Less => number < *value,
                    Comparison::LessOrEqual => number <= *value,
                    Comparison::Greater => number > *value,
                    Comparison::GreaterOrEqual => number >= *value,
                    Comparison::Equal => number == *value,
                    Comparison::Unequal => number != *value,
                }
            }
            Condition::Label { holds, text } => subject.label().to_lowercase().contains(text) == *holds,
        })
    }
}

/// The condition at the start of a text, and what follows it.
fn condition(text: &str) -> Result<(Condition, &str), Problem> {
    let wrong = |what: String| {
        let names = FIELDS.map(|(name, _)| name).join(", ");
        Problem::bad(format!(
            "filter: {what}; write conditions such as `density<0.01 max>5 label~\"Paris\"` over {names} and label"
        ))
    };
    let name_len = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_len);
    let rest = rest.trim_start();
    if name == "label" {
        let (holds, rest) = match (rest.strip_prefix('~'), rest.strip_prefix("!~")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("label takes ~ (contains) or !~ (does not)".into())),
        };
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => rest.split_once('"').ok_or_else(|| wrong("a quote is not closed".into()))?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        return Ok((Condition::Label { holds, text: value.to_lowercase() }, rest));
    }
    let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
    let field =
        field.ok_or_else(|| wrong(format!("{} is not known", quoted(if name.is_empty() { text } else { name }))))?;
    let found = COMPARISONS.iter().find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)));
    let (comparison, rest) = found.ok_or_else(|| wrong(format!("{name} takes < <= > >= = or !=")))?;
    let rest = rest.trim_start();
    let (value, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let number = value.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.ok_or_else(|| wrong(format!("{} is not a number", quoted(value))))?;
    Ok((Condition::Number(field, comparison, number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Feature(f64, &'static str);

    impl Subject for Feature {
        fn number(&self, field: Field) -> f64 {
            if field == Field::Max { self.0 } else { 0.5 }
        }

        fn label(&self) -> &str {
            self.1
        }
    }

    fn holds(filter: &str) -> bool {
        Filter::parse(filter).unwrap().holds(&Feature(5.0, "Cities, such as Paris"))
    }

    #[test]
    fn all_conditions_have_to_hold() {
        for filter in ["", " ", "max>4.9 max<=5", "max >= 5 density=0.5", "label~paris", "label ~ \"such as P\" max!=4"]
        {
            assert!(holds(filter), "{filter}");
        }
        for filter in ["max>5", "max<5 density=0.5", "max>4 density>1", "label!~paris", "label~berlin", "max=4"] {
            assert!(!holds(filter), "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told_what_could() {
        for (filter, why) in [
            ("weight>1", "`weight` is not known"),
            ("5>max", "`5>max` is not known"),
            ("max", "max takes"),
            ("max~5", "max takes"),
            ("max>five", "`five` is not a number"),
            ("max>", "`` is not a number"),
            ("max>inf", "`inf` is not a number"),
            ("label=paris", "label takes"),
            ("label~\"paris", "not closed"),
        ] {
            let detail = Filter::parse(filter).unwrap_err().detail;
            assert!(detail.contains(why) && detail.contains("density<0.01"), "{detail}");
        }
        assert!(Filter::parse(&"max>1 ".repeat(21)).unwrap_err().detail.contains("at most 20"));
    }
}
