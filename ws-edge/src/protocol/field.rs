//! Fields of a payload, each named in the error when it is missing or of another type.

use std::str::FromStr;

use contract::wire::id::InvalidId;
use serde_json::{Map, Value};

use super::problem::{Code, Problem};

#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn text(self, name: &str) -> Result<&'a str, Problem> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            other => Err(unfit(name, "a string", other)),
        }
    }

    pub(super) fn object(self, name: &str) -> Result<Value, Problem> {
        match self.0.get(name) {
            Some(value @ Value::Object(_)) => Ok(value.clone()),
            other => Err(unfit(name, "an object", other)),
        }
    }

    pub(super) fn id<I: FromStr<Err = InvalidId>>(self, name: &str) -> Result<I, Problem> {
        self.text(name)?
            .parse()
            .map_err(|error| Problem::new(Code::InvalidId, format!("payload.{name}: {error}")))
    }

    pub(super) fn optional_id<I: FromStr<Err = InvalidId>>(self, name: &str) -> Result<Option<I>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.id(name).map(Some),
        }
    }
}

fn unfit(name: &str, expected: &str, found: Option<&Value>) -> Problem {
    let found = match found {
        None => {
            return Problem::new(
                Code::BadMessage,
                format!("payload.{name}: is missing, expected {expected}"),
            );
        }
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    };
    Problem::new(
        Code::BadMessage,
        format!("payload.{name}: expected {expected}, found {found}"),
    )
}
