//! From JSON to conditions, with the place of what is wrong.

use std::collections::HashSet;

use super::{
    Condition, FilterPath, FilterProblem, FilterValue, InvalidFilter, MAX_CONDITIONS, MAX_NESTING,
    Test, condition::Comparison, json::Json,
};

type Parsed<T> = Result<T, InvalidFilter>;

/// Reads a filter from a text that is known to be JSON.
pub(super) fn filter(text: &str) -> Parsed<Condition> {
    let start = Place {
        pointer: String::new(),
        nesting: 0,
    };
    let Some(json) = Json::read(text) else {
        return start.refuse(FilterProblem::NotJson);
    };
    let mut count = 0;
    let condition = conditions(&json, &start, &mut count)?;
    if count > MAX_CONDITIONS {
        return start.refuse(FilterProblem::TooManyConditions);
    }
    // With the numbers judged, this is all that other parsers stumble over.
    if serde_json::from_str::<serde_json::Value>(text).is_err() {
        return start.refuse(FilterProblem::HalfACharacter);
    }
    Ok(condition)
}

/// Where in a filter something stands.
struct Place {
    /// As a JSON pointer.
    pointer: String,
    /// In how many `any`, `all` and `not`.
    nesting: usize,
}

impl Place {
    fn below(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Self {
            pointer: format!("{}/{name}", self.pointer),
            nesting: self.nesting,
        }
    }

    fn nested(self) -> Parsed<Self> {
        if self.nesting >= MAX_NESTING {
            return self.refuse(FilterProblem::TooDeep);
        }
        Ok(Self {
            nesting: self.nesting + 1,
            ..self
        })
    }

    fn refuse<T>(&self, problem: FilterProblem) -> Parsed<T> {
        Err(InvalidFilter {
            pointer: self.pointer.clone(),
            problem,
        })
    }
}

/// An object of conditions. `count` counts conditions, to be judged at the end.
fn conditions(json: &Json<'_>, place: &Place, count: &mut usize) -> Parsed<Condition> {
    let parse = |name: &str, value: &Json<'_>, place: Place| match name {
        "any" | "all" => {
            let parts = list(value, place.nested()?, |part, place| {
                conditions(part, place, count)
            })?;
            Ok(match name {
                "any" => Condition::Any(parts.into()),
                _ => Condition::All(parts.into()),
            })
        }
        "not" => {
            let inner = conditions(value, &place.nested()?, count)?;
            Ok(Condition::Not(Box::new(inner)))
        }
        _ => match FilterPath::read(name) {
            Some(path) => tests(&path, value, &place, count),
            None => place.refuse(FilterProblem::BadPath),
        },
    };
    members(json, place, FilterProblem::NotConditions, parse).map(Condition::all)
}

/// What has to hold at a path: a value, or operators.
fn tests(
    path: &FilterPath,
    json: &Json<'_>,
    place: &Place,
    count: &mut usize,
) -> Parsed<Condition> {
    let at = |test| Condition::At(path.clone(), test);
    if !matches!(json, Json::Object(_) | Json::List(_) | Json::Deep) {
        *count += 1;
        return Ok(at(Test::In([scalar(json, place)?].into())));
    }
    let parse = |operator: &str, value: &Json<'_>, place: Place| {
        let test = test(operator, value, place)?;
        *count += match &test {
            Test::In(values) | Test::NotIn(values) => values.len(),
            Test::Than(..) | Test::Prefix(_) | Test::Exists(_) => 1,
        };
        Ok(at(test))
    };
    members(json, place, FilterProblem::NotComparable, parse).map(Condition::all)
}

fn test(operator: &str, json: &Json<'_>, place: Place) -> Parsed<Test> {
    let comparison = match operator {
        "eq" => return Ok(Test::In([scalar(json, &place)?].into())),
        "ne" => return Ok(Test::NotIn([scalar(json, &place)?].into())),
        "in" => return Ok(Test::In(list(json, place, scalar)?.into())),
        "nin" => return Ok(Test::NotIn(list(json, place, scalar)?.into())),
        "prefix" => {
            return match scalar(json, &place)?.as_text() {
                Some(prefix) => Ok(Test::Prefix(prefix.into())),
                None => place.refuse(FilterProblem::NotText),
            };
        }
        "exists" => {
            return match json {
                Json::Bool(wanted) => Ok(Test::Exists(*wanted)),
                _ => place.refuse(FilterProblem::NotBool),
            };
        }
        "gt" => Comparison::Greater,
        "gte" => Comparison::GreaterOrEqual,
        "lt" => Comparison::Less,
        "lte" => Comparison::LessOrEqual,
        _ => return place.refuse(FilterProblem::UnknownOperator),
    };
    let bound = scalar(json, &place)?;
    if !bound.has_order() {
        return place.refuse(FilterProblem::NotOrdered);
    }
    Ok(Test::Than(comparison, bound))
}

fn scalar(json: &Json<'_>, place: &Place) -> Parsed<FilterValue<'static>> {
    // Filters are shown to programs, many of which take no number that a float cannot hold.
    if let Json::Number(text) = json
        && text.parse::<f64>().is_ok_and(f64::is_infinite)
    {
        return place.refuse(FilterProblem::NumberOutOfRange);
    }
    let Some(value) = FilterValue::read(json) else {
        return place.refuse(match json {
            Json::Number(_) => FilterProblem::NumberOutOfRange,
            _ => FilterProblem::NotScalar,
        });
    };
    if value.as_text().is_some_and(|text| text.contains('\0')) {
        return place.refuse(FilterProblem::Nul);
    }
    Ok(value.into_owned())
}

/// The members of an object that is not empty.
///
/// - `otherwise`: what is wrong if it is no object.
fn members<T>(
    json: &Json<'_>,
    place: &Place,
    otherwise: FilterProblem,
    mut parse: impl FnMut(&str, &Json<'_>, Place) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let Json::Object(members) = json else {
        return place.refuse(otherwise);
    };
    if members.is_empty() {
        return place.refuse(FilterProblem::Empty);
    }
    let mut seen = HashSet::new();
    let parse = |(name, value): &(std::borrow::Cow<'_, str>, Json<'_>)| {
        let place = place.below(name);
        if name.contains('\0') {
            return place.refuse(FilterProblem::Nul);
        }
        if !seen.insert(name.to_string()) {
            return place.refuse(FilterProblem::Twice);
        }
        parse(name, value, place)
    };
    members.iter().map(parse).collect()
}

/// The elements of a list that is not empty.
fn list<T>(
    json: &Json<'_>,
    place: Place,
    mut parse: impl FnMut(&Json<'_>, &Place) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let Json::List(elements) = json else {
        return place.refuse(FilterProblem::NotList);
    };
    if elements.is_empty() {
        return place.refuse(FilterProblem::Empty);
    }
    let parse = |(index, element)| parse(element, &place.below(&usize::to_string(&index)));
    elements.iter().enumerate().map(parse).collect()
}
